"""One suite for both stores: whatever is removed, edited or moved in the history is noticed; a crash is no alarm."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hecate import history
from hecate.errors import HecateError
from hecate.store import Store
from hecate.store.audit import Audit, Entry
from hecate.store.deployments import DONE, RUNNING, Deployment, Deployments
from hecate.store.local import LocalStore
from hecate.store.witness import Witness, own_key

from contract.test_stores import consul, store

__all__ = ["consul", "store"]  # fixtures
KEY = b"a key of at least sixteen characters"


class Kept:
    """A store with a few deployments in it, told of in the audit."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.deployments = Deployments(store, "prod")

    @property
    def audit(self) -> Audit:
        return self.another("master")

    def another(self, master: str, key: bytes = KEY) -> Audit:
        seen = Witness(self.folder / f"{master}.seen")
        return Audit(self.store, "prod", lambda: key, seen, user="alice", host=master)

    def deploy(self, number: int, oldest: int = 0) -> Deployment:
        made = Deployment(f"20260101-00000{number}-aaaaaaaa", RUNNING, "alice", 1.0, fence=number, pillar={"n": {1: 2}})
        for what, record in (("begin", made), ("done", replace(made, status=DONE, ended=2.0))):
            self.audit.tell(what, record, oldest=oldest)
            self.deployments.save(record)
        return replace(made, status=DONE, ended=2.0)

    def problems(self, exported: Any = (), master: str = "master") -> list[str]:
        return self.another(master).problems(list(self.deployments.newest()), exported)

    def edit(self, key: str, **fields: Any) -> None:
        stored = self.store.get(f"prod/{key}")
        assert stored
        self.store.put(f"prod/{key}", {**stored.value, **fields}, None)

    def entry(self, number: int) -> str:
        return f"prod/audit/{number:010d}"


@pytest.fixture
def kept(store: Store, tmp_path: Path) -> Kept:
    made = Kept(store, tmp_path)
    for number in (1, 2, 3):
        made.deploy(number)
    return made


def test_a_chain_that_nobody_touched_is_whole(kept: Kept) -> None:
    assert kept.problems() == [] and kept.problems(master="another that has seen nothing") == []
    entries = kept.audit.entries()
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.what for entry in entries[:2]] == ["begin", "done"]
    assert Kept(kept.store, kept.folder).another("m").problems([], ()) != [], "records that are gone"


def remove(*numbers: int) -> Callable[[Kept], None]:
    return lambda kept: [kept.store.delete(kept.entry(number)) for number in numbers] and None


def swap(kept: Kept) -> None:
    third, fourth = kept.store.get(kept.entry(3)), kept.store.get(kept.entry(4))
    assert third and fourth
    kept.store.put(kept.entry(3), {**fourth.value, "number": 3}, None)
    kept.store.put(kept.entry(4), {**third.value, "number": 4}, None)


def set_back(kept: Kept) -> None:
    """To an old head that was good once, with everything after it removed."""
    stored = kept.store.get("prod/audit-head")
    assert stored
    kept.deploy(4)
    kept.store.put("prod/audit-head", stored.value, None)
    remove(7, 8)(kept)
    kept.deployments.forget([f"prod/deployments/{4:08d}-20260101-000004-aaaaaaaa"])


def forge(kept: Kept) -> None:
    """An entry after the head, as if its writer had been killed; by somebody without the key."""
    last = kept.audit.entries()[-1]
    forged = replace(last, number=7, what="rolled back", previous=last.hash)
    from dataclasses import asdict

    kept.store.put(kept.entry(7), asdict(forged), None)


DAMAGE: dict[str, tuple[Callable[[Kept], Any], str]] = {
    "an entry in the middle is removed": (remove(3), "entries 3 to 3 are missing"),
    "the first ones are removed": (remove(1, 2), "entries 1 to 2 are missing"),
    "the last one is removed": (remove(6), "entries 6 to 6 are missing"),
    "all are removed": (remove(1, 2, 3, 4, 5, 6), "entries 1 to 6 are missing"),
    "who it was is edited": (lambda kept: kept.edit(f"audit/{2:010d}", user="mallory"), "entry 2 was changed"),
    "a field is added": (lambda kept: kept.edit(f"audit/{2:010d}", more=1), "entry 2 was changed"),
    "two change places": (swap, "entry 3 does not follow"),
    "the head is removed": (lambda kept: kept.store.delete("prod/audit-head"), "the head is missing"),
    "the head is forged": (lambda kept: kept.edit("audit-head", number=5), "the head is not Hecate's"),
    "the anchor is forged": (
        lambda kept: kept.store.put("prod/audit-anchor", {"number": 2, "hash": "", "mac": ""}, None),
        "the anchor is not Hecate's",
    ),
    "an old head comes back": (set_back, "entries 7 to 8 are missing: this master has seen them"),
    "an entry is forged": (forge, "entry 7 was changed, or signed with another key"),
    "a record is edited": (
        lambda kept: kept.edit("deployments/00000002-20260101-000002-aaaaaaaa", user="mallory"),
        "the record of deployment 20260101-000002-aaaaaaaa was changed after entry 4",
    ),
    "a record's pillar is edited": (
        lambda kept: kept.edit("deployments/00000001-20260101-000001-aaaaaaaa", pillar={"routes": {}}),
        "the record of deployment 20260101-000001-aaaaaaaa was changed",
    ),
    "a record is removed": (
        lambda kept: kept.deployments.forget([f"prod/deployments/{2:08d}-20260101-000002-aaaaaaaa"]),
        "the record of deployment 20260101-000002-aaaaaaaa is missing",
    ),
    "a record is slipped in": (
        lambda kept: kept.deployments.save(Deployment("20260101-000009-bbbbbbbb", DONE, "eve", 1.0, fence=9)),
        "20260101-000009-bbbbbbbb has a record, and no entry tells of it",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(kept: Kept, damage: str) -> None:
    do, said = DAMAGE[damage]
    do(kept)
    assert any(said in problem for problem in kept.problems()), kept.problems()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_can_not_be_healed_by_going_on(kept: Kept, damage: str) -> None:
    """Deploys go on, and the chain goes on telling."""
    DAMAGE[damage][0](kept)
    for number in (5, 6, 7):
        kept.audit.settle(kept.deployments.find)
        kept.deploy(number)
    assert kept.problems()


def test_another_key_is_not_believed(kept: Kept) -> None:
    assert any("another key" in one for one in kept.another("m", b"some other key of enough length").problems([], ()))


def test_whoever_is_killed_between_entry_and_head_is_completed(kept: Kept) -> None:
    before = kept.store.get("prod/audit-head")
    kept.audit.tell_of("unlock", "20260101-000003-aaaaaaaa-rotation", note="x")
    (kept.folder / "master.seen").write_text('[6, "' + kept.audit.entries()[5].hash + '"]')
    assert before
    kept.store.put("prod/audit-head", before.value, None)
    assert kept.problems() == []
    kept.deploy(4)
    assert kept.problems() == [] and [entry.number for entry in kept.audit.entries()][-3:] == [7, 8, 9]


@pytest.mark.parametrize("what", ["begin", "done"])
def test_whoever_is_killed_between_entry_and_record_raises_no_alarm(kept: Kept, what: str) -> None:
    made = Deployment("20260101-000004-aaaaaaaa", RUNNING, "alice", 1.0, fence=4)
    kept.audit.tell("begin", made)
    if what == "done":
        kept.deployments.save(made)
        kept.audit.tell("done", replace(made, status=DONE))
    assert kept.problems() == []
    kept.audit.settle(kept.deployments.find)
    assert kept.audit.entries()[-1].what == f"cut off before: {what}"
    kept.deploy(5)
    assert kept.problems() == []


def test_a_record_set_back_after_others_were_told_of_is_noticed(kept: Kept) -> None:
    """It is as an earlier entry tells it; but its writer was not cut off."""
    kept.edit("deployments/00000002-20260101-000002-aaaaaaaa", status=RUNNING, ended=None)
    kept.audit.settle(kept.deployments.find)
    assert any("000002-aaaaaaaa was changed" in problem for problem in kept.problems())


def test_two_masters_at_once_make_one_chain(store: Store, tmp_path: Path) -> None:
    kept = Kept(store, tmp_path)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: kept.another(f"m{n % 2}").tell_of("refused", f"t{n}"), range(18)))
    entries = kept.audit.entries()
    assert {entry.deployment for entry in entries} == {f"t{n}" for n in range(18)}
    assert len(entries) == 18 and kept.problems() == []


def test_what_is_pruned_is_not_missed_and_what_is_left_is_still_bound(kept: Kept) -> None:
    doomed, oldest = kept.deployments.spare(1, 365)
    kept.deploy(4, oldest)
    kept.deployments.forget(doomed)
    kept.audit.prune(oldest)
    assert oldest == 3 and [entry.number for entry in kept.audit.entries()] == [5, 6, 7, 8]
    assert kept.problems() == []
    remove(5)(kept)
    assert any("entries 5 to 5 are missing" in problem for problem in kept.problems())


def test_a_removed_anchor_is_noticed(kept: Kept) -> None:
    kept.deploy(4, 3)
    kept.deployments.forget(kept.deployments.spare(2, 365)[0])
    kept.audit.prune(3)
    assert kept.problems() == []
    kept.store.delete("prod/audit-anchor")
    assert any("entries 1 to 4 are missing" in problem for problem in kept.problems())


def test_an_export_shows_a_store_that_was_set_back(tmp_path: Path) -> None:
    """The one thing that neither chain nor head can show to a master that has seen nothing."""
    kept = Kept(LocalStore(tmp_path / "a"), tmp_path)
    kept.deploy(1)
    short = {name: kept.store.get(name) for name in kept.store.keys("prod/")}
    kept.deploy(2)
    exported = history.parsed(history.jsonl(history.entries(kept.audit.entries())))
    assert kept.problems(exported) == []
    old = Kept(LocalStore(tmp_path / "b"), tmp_path)
    for name, stored in short.items():
        assert stored
        old.store.put(name, stored.value, None)
    assert old.problems(master="new") == []
    assert "entry 3 of the export is missing" in old.problems(exported, master="new")
    assert any("this master has seen" in problem for problem in old.problems())


def test_history_is_kept_by_number_and_days_and_what_is_open_stays(store: Store) -> None:
    deployments = Deployments(store, "prod")
    for number in range(1, 31):
        status = RUNNING if number == 3 else DONE
        deployments.save(Deployment(f"20200101-0000{number:02d}-aaaaaaaa", status, "alice", 1.0, fence=number))
    doomed, oldest = deployments.spare(keep=200, days=365)
    assert len(doomed) == 2 and oldest == 3, "an open one stays, and what came after it"
    deployments.save(replace(deployments.get("20200101-000003-aaaaaaaa"), status=DONE))
    assert len(deployments.spare(keep=200, days=365)[0]) == 10, "no clock makes the newest twenty too old"
    assert len(deployments.spare(keep=5, days=365)[0]) == 25


def test_the_order_is_the_lock_s_whatever_the_clock_says(store: Store) -> None:
    deployments = Deployments(store, "prod")
    deployments.save(Deployment("20270101-000000-aaaaaaaa", DONE, "alice", 1.0, fence=1))
    deployments.save(Deployment("20260101-000000-bbbbbbbb", RUNNING, "alice", 1.0, fence=2))
    assert [d.fence for d in deployments.history(9)] == [2, 1]


def test_a_master_s_own_key_is_made_once_and_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: own_key(tmp_path), range(8)))
    assert len(keys) == 1 and os.stat(tmp_path / "history.key").st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["history.key"]
    (tmp_path / "history.key").write_text("short")
    with pytest.raises(HecateError, match="does not hold a key"):
        own_key(tmp_path)


def test_an_entry_of_another_environment_is_not_one_of_this(kept: Kept) -> None:
    stored = kept.store.get(kept.entry(1))
    assert stored
    other = Audit(kept.store, "staging", lambda: KEY, Witness(kept.folder / "s"))
    kept.store.put("staging/audit/0000000001", stored.value, None)
    assert any("entry 1 was changed" in problem for problem in other.problems([], ()))
    assert isinstance(other.entries()[0], Entry)
