"""Which targets a deploy has steps for, by what was planned."""

from __future__ import annotations

import pytest
from hecate.estate_plan import EstatePlan, Line, TargetPlan

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
