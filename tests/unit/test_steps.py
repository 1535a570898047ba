"""Which targets a deploy has steps for, by what was planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hecate.estate_plan import EstatePlan, Line, TargetPlan
from hecate.targets import Crew
from hecate_deploy import ACTING, Conductor

SYSTEMS = {"terraform": "terraform", "nomad": "nomad", "authentik": "authentik", "dns": "hetzner_dns", "e1": "caddy"}


def plan(**verbs: str) -> EstatePlan:
    """By target what it does: "create", "delete", or "waits" for Terraform."""
    targets = []
    for name, system in SYSTEMS.items():
        verb = verbs.get(name, "")
        lines = (Line(f"{system}.thing x", verb, "f"),) if verb not in ("", "waits") else ()
        pending = ("terraform:edge",) if verb == "waits" else ()
        targets.append(TargetPlan(name, system, name, lines=lines, pending=pending))
    return EstatePlan("production", tuple(targets))


def acting(made: EstatePlan) -> set[str]:
    return {name for name in SYSTEMS if made.concerns(name, False)}


def test_nothing_to_do_is_no_step() -> None:
    assert acting(plan()) == set()


@pytest.mark.parametrize("name", ["nomad", "authentik", "dns"])
def test_what_has_something_to_do_has_one(name: str) -> None:
    assert acting(plan(**{name: "create"})) == {name}


def test_authentik_tells_edges_what_it_guards_whenever_they_act() -> None:
    assert acting(plan(e1="create")) == {"e1", "authentik"}


@pytest.mark.parametrize("verbs", [{"terraform": "create"}, {"dns": "waits"}])
def test_what_terraform_may_still_change_concerns_all(verbs: dict[str, str]) -> None:
    assert acting(plan(**verbs)) == set(SYSTEMS)
    assert plan(**verbs).concerns("dns", True)


def test_the_late_part_is_for_deletions() -> None:
    assert plan(dns="delete").concerns("dns", True) and not plan(dns="create").concerns("dns", True)


def test_a_target_that_no_plan_speaks_of_has_its_step() -> None:
    assert plan().concerns("e9", False)


@pytest.mark.parametrize(
    ("after", "acting", "asked"),
    [
        (0, set[str](), []),
        (0, {"d"}, ["hecate.join", "hecate.commit"]),
        (None, set[str](), ["hecate.join", "hecate.commit"]),
        (0, None, ["hecate.join", "hecate.commit"]),
    ],
)
def test_no_target_is_asked_when_none_will_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int | None, acting: set[str] | None, asked: list[str]
) -> None:
    """Only where the plan is known to hold; else nobody knows, and all are joined."""
    calls: list[str] = []

    def call(_minion: str, function: str, *_: Any) -> Any:
        calls.append(function)
        return [] if function == "hecate.join" else {"count": 0, "ids": []}

    monkeypatch.setattr(Conductor, "_crew", Crew(call))
    for transaction in [] if acting is None else ["t1"]:
        monkeypatch.setitem(ACTING, transaction, acting)
    master = Conductor({"id": "master", "cachedir": str(tmp_path), "user": "root"}, {})
    master._rendered = {"hecate": {"hetzner_dns": {"token": "env:T"}, "targets": {"dns": "d"}}}
    master.begin("t1", after)
    assert "t1 is done" in master.record("t1")
    assert calls == asked and master._deployments.get("t1").status == "done"
    assert master._deployments.settled() == 1
