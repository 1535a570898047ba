"""Drift as the master conducts it: nothing is healed that was not looked at, nothing believed that was not said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hecate.drift import BOTH, BY_HAND, Drift
from hecate.drifts import Drifts
from hecate.errors import HecateError, LockHeld
from hecate.order import unpacked
from hecate.store.breaker import Breaker
from hecate.store.deployments import DONE, UNDONE, Deployment
from hecate.store.local import LocalStore
from hecate.targets import Crew, Step

EDGES = (Step("e1", "e1", "caddy"), Step("e2", "e2", "caddy"))
ROW = Drift("caddy.route a", BY_HAND, "changed", "hecate:routes:a")
PILLAR = {"hecate": {"drift": {"default": "heal", "breaker": {"heals": 2, "within": "1h"}}}}


class Deploys:
    """The history, and the one transaction that a heal makes."""

    def __init__(self) -> None:
        self.known = [self.deployment("t1", DONE), self.deployment("t0", DONE)]
        self.log: list[str] = []
        self.refuses: Exception | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def deployment(self, name: str, status: str, *targets: str) -> Deployment:
        rows = tuple({"name": t, "minion": t, "system": "caddy"} for t in targets or ("e1", "e2"))
        return Deployment(name, status, "u", 0.0, targets=rows, pillar={"of": name})

    def history(self, count: int) -> list[Deployment]:
        return self.known[:count]

    def acquire(self, *_: Any) -> None:
        self.log.append("lock")

    def release(self, _: str) -> None:
        self.log.append("free")

    def begin(self, transaction: str, pillar: Mapping[str, Any], message: str) -> str:
        if self.refuses:
            raise self.refuses
        self.meanwhile()
        self.log += [f"begin {json.dumps(pillar)}", message]
        return ""

    def record(self, transaction: str, pillar: Mapping[str, Any]) -> str:
        self.log.append(f"record {json.dumps(pillar)}")
        return ""

    def rollback(self, transaction: str, reason: str) -> str:
        self.log.append(f"rollback {reason}")
        return "everything is as it was before"


class Master:
    def __init__(self, folder: Path, pillar: Mapping[str, Any] = PILLAR) -> None:
        self.deploys, self.events, self.folder, self.pillar = Deploys(), [], folder, pillar
        self.rows: dict[str, Any] = {"e1": [ROW.to_json()], "e2": []}
        self.heals: dict[str, Any] = {"e1": [ROW.id], "e2": []}
        self.parts: dict[str, Any] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.bad_probe = ""

    def call(self, minion: str, function: str, *args: Any) -> Any:
        self.asked.append((minion, function, *args))
        return {"hecate.drift": self.rows, "hecate.heal": self.heals, "hecate.adoptable": self.parts}[function][minion]

    def prove(self, _: Mapping[str, Any]) -> None:
        if self.bad_probe:
            raise HecateError(self.bad_probe)

    @property
    def drifts(self) -> Drifts:
        return Drifts(
            self.pillar,
            EDGES,
            Crew(self.call),
            self.deploys,  # type: ignore[arg-type]
            lambda _: self.deploys,  # type: ignore[arg-type, return-value]
            Breaker(LocalStore(self.folder / "store"), "lab", 2, 3600),
            self.prove,
            lambda about, data: self.events.append(about),
            lambda: "t9",
            [str(self.folder)],
        )

    def act(self) -> list[str]:
        return self.drifts.act(self.drifts.look())


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def test_what_was_deployed_last_is_compared_and_put_back(master: Master) -> None:
    told = master.act()
    assert unpacked(master.asked[0][3]) == {"of": "t1"}
    assert ("e1", "hecate.heal", "caddy", master.asked[0][3], "t9", [ROW.id]) in master.asked
    assert not [ask for ask in master.asked if ask[:2] == ("e2", "hecate.heal")]
    assert master.deploys.log == [
        'begin {"hecate": {"of": "t1"}}',
        "healing drift: caddy.route a",
        'record {"hecate": {"of": "t1"}}',
    ]
    assert told == ["healed, as deploy t9:", "e1: caddy.route a"] and master.events == ["found", "healed"]


def test_a_deploy_that_was_undone_is_nobody_s_base(master: Master) -> None:
    master.deploys.known.insert(0, master.deploys.deployment("t2", UNDONE))
    master.deploys.known.insert(0, master.deploys.deployment("t3", DONE, "another"))
    assert {found.id for found in master.drifts.look().base.values() if found} == {"t1"}
    master.deploys.known = []
    assert master.drifts.look().base == {"e1": None, "e2": None}
    assert master.asked[-1][3] == ""


def test_a_target_that_says_nothing_is_an_error_and_not_free_of_drift(master: Master) -> None:
    master.rows["e1"] = "e1 does not answer; is its minion running?"
    found = master.drifts.look()
    assert found.code == 1 and "e1: CANNOT BE LOOKED AT" in found.text() and master.act() == []
    master.rows = {"e1": [], "e2": []}
    assert master.drifts.look().code == 0


@pytest.mark.parametrize("broken", ["lost answer", "bad probe"])
def test_a_heal_that_fails_is_undone_told_and_counted(master: Master, broken: str) -> None:
    if broken == "lost answer":
        master.heals["e1"] = "e1 does not answer; is its minion running?"
    master.bad_probe = "https a: 502" if broken == "bad probe" else ""
    for _ in range(2):
        with pytest.raises(HecateError, match="the healing failed: .*\neverything is as it was before"):
            master.act()
    assert any(line.startswith("rollback") for line in master.deploys.log)
    assert not any(line.startswith("record") for line in master.deploys.log)
    assert "NOT healed: caddy was healed 2 times" in master.act()[0] and master.events[-1] == "breaker"
    asked = len([ask for ask in master.asked if ask[1] == "hecate.heal"])
    master.act()
    assert len([ask for ask in master.asked if ask[1] == "hecate.heal"]) == asked
    assert master.events.count("breaker") == 1


def test_a_deploy_under_way_is_waited_for_and_does_not_count(master: Master) -> None:
    master.deploys.refuses = LockHeld("lab is being deployed by somebody")
    for _ in range(3):
        with pytest.raises(HecateError, match="being deployed by somebody"):
            master.act()
    master.deploys.refuses = None
    assert master.act()[0] == "healed, as deploy t9:"


def test_a_deploy_that_came_in_between_ends_the_heal(master: Master) -> None:
    master.deploys.meanwhile = lambda: master.deploys.known.insert(0, master.deploys.deployment("t5", DONE))
    with pytest.raises(HecateError, match="somebody deployed meanwhile"):
        master.act()
    assert not [ask for ask in master.asked if ask[1] == "hecate.heal"]


def test_targets_of_different_deployments_are_not_mixed(master: Master) -> None:
    master.rows["e2"], master.heals["e2"] = [ROW.to_json()], [ROW.id]
    master.deploys.known.insert(0, master.deploys.deployment("t4", DONE, "e2"))
    master.act()
    records = [line for line in master.deploys.log if line.startswith("record")]
    assert records == ['record {"hecate": {"of": "t1"}}', 'record {"hecate": {"of": "t4"}}']


def test_what_moved_on_both_sides_is_not_healed(master: Master) -> None:
    master.rows["e1"] = [Drift("caddy.route a", BOTH, "changed").to_json()]
    assert master.act() == ["nothing was changed by hand alone"] and master.deploys.log == []


def test_an_unknown_system_is_refused(master: Master) -> None:
    with pytest.raises(HecateError, match="cady: not in pillar; there are: caddy"):
        master.drifts.look(["cady"])


# Adopting


def adopting(folder: Path, **drift: Any) -> Master:
    route = {"upstreams": ["10.0.0.1:80"]}
    made = Master(folder, {"hecate": {"routes": {"a.example.com": route}, "drift": {"default": "adopt", **drift}}})
    part = {"routes": {"a.example.com": {"upstreams": ["10.0.0.9:80"]}}}
    made.parts = {edge: {"pillar": part, "parts": {ROW.id: part}, "left": {}} for edge in ("e1", "e2")}
    return made


def test_without_a_file_the_pillar_is_shown(tmp_path: Path) -> None:
    told = adopting(tmp_path).act()
    assert told[0] == "adopted: caddy.route a" and "10.0.0.9:80" in told[-1]


def test_the_file_is_written_under_the_lock(tmp_path: Path) -> None:
    master = adopting(tmp_path, adopt_file=str(tmp_path / "adopted.sls"))
    assert "pillar has to include it last" in master.act()[-1]
    assert "10.0.0.9:80" in (tmp_path / "adopted.sls").read_text() and master.deploys.log == ["lock", "free"]


def test_edges_that_differ_are_not_adopted(tmp_path: Path) -> None:
    master = adopting(tmp_path, adopt_file=str(tmp_path / "adopted.sls"))
    master.parts["e2"] = {"pillar": {}, "parts": {}, "left": {}}
    assert master.act() == ["NOT adopted: caddy.route a: e1, e2 do not all have it alike"]
    assert not (tmp_path / "adopted.sls").exists()


def test_pillar_that_would_be_wrong_is_not_written(tmp_path: Path) -> None:
    master = adopting(tmp_path, adopt_file=str(tmp_path / "adopted.sls"))
    for answer in master.parts.values():
        answer["parts"] = {ROW.id: {"routes": {"a.example.com": {"upstreams": ["nonsense"]}}}}
    assert "hecate:routes:a.example.com:upstreams" in "\n".join(master.act())
    assert not (tmp_path / "adopted.sls").exists()
