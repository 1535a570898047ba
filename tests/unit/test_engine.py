"""The conductor, with a backend in memory that can be told to fail at any write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hecate.backends import alike, at_once
from hecate.engine import Engine, Wish
from hecate.errors import ApplyFailed, Faulty, NotConverged, Stale, TransactionOpen, UnsafePlan
from hecate.journal import Journal
from hecate.plan import Limits
from hecate.resource import Change, Resource, Snapshot, by_id
from hypothesis import given
from hypothesis import strategies as st


class Memory:
    """A system in memory. fail_at: number of the write that fails. lost: it happens all the same."""

    system, brief = "memory", False

    def __init__(self, *keys: str, atomic: bool = False) -> None:
        self.held = by_id(Resource("k", key, {"v": 0}) for key in keys)
        self.atomic, self.writes, self.fail_at, self.lost, self.deaf = atomic, 0, 0, False, False
        self.error: Exception = Faulty("memory", "broken")

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        return Snapshot(dict(self.held))

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        return want

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        return at_once(changes) if self.atomic else alike(changes)

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        self.writes += 1
        fails = self.writes == self.fail_at
        if fails and not self.lost:
            raise self.error
        for change in changes if not self.deaf else ():
            self.held.pop(change.id, None)
            if change.after:
                self.held[change.id] = change.after
        if fails:
            raise self.error


def wish(**values: int) -> Wish:
    return Wish(tuple(Resource("k", key, {"v": v}) for key, v in values.items()))


def engine(memory: Memory, folder: Path, **limits: int) -> Engine:
    return Engine(memory, Journal(folder), limits=Limits(**limits))  # type: ignore[arg-type]


@given(fail_at=st.integers(1, 5), lost=st.booleans(), atomic=st.booleans())
def test_wherever_it_breaks_everything_is_put_back(
    tmp_path_factory: pytest.TempPathFactory, fail_at: int, lost: bool, atomic: bool
) -> None:
    memory = Memory("a", "b", atomic=atomic)
    memory.fail_at, memory.lost = fail_at, lost
    before = dict(memory.held)
    conductor = engine(memory, tmp_path_factory.mktemp("journal"))
    try:
        conductor.apply(wish(a=1, c=1, d=1), "t1")
    except ApplyFailed as err:
        assert err.undone
        assert memory.held == before
    else:
        assert fail_at > memory.writes
    assert conductor.journal.open_entries() == []


def test_an_undo_that_fails_keeps_the_journal_and_says_so(tmp_path: Path) -> None:
    memory = Memory("a")
    memory.fail_at, memory.lost = 2, True
    conductor = engine(memory, tmp_path)
    memory.error = Faulty("memory", "down for good")
    real = memory.apply

    def down_from_second(changes: Sequence[Change], snapshot: Snapshot) -> None:
        if memory.writes >= 2:
            raise memory.error
        real(changes, snapshot)

    memory.apply = down_from_second  # type: ignore[method-assign]
    with pytest.raises(ApplyFailed, match="NOT everything"):
        conductor.apply(wish(a=1, b=1, c=1), "t1")
    memory.apply = real  # type: ignore[method-assign]
    memory.fail_at = 0
    assert conductor.undo("t1")
    assert {r.key for r in memory.held.values()} == {"a"} and memory.held["k a"].spec == {"v": 0}


def test_a_server_that_only_says_yes_is_found_out(tmp_path: Path) -> None:
    memory = Memory("a")
    memory.deaf = True
    with pytest.raises(ApplyFailed) as caught:
        engine(memory, tmp_path).apply(wish(a=1), "t1")
    assert isinstance(caught.value.cause, NotConverged)


def test_a_lost_race_is_planned_anew_and_the_winner_survives(tmp_path: Path) -> None:
    memory = Memory("a", "b", atomic=True)
    real = memory.apply

    def somebody_was_faster(changes: Sequence[Change], snapshot: Snapshot) -> None:
        memory.apply = real  # type: ignore[method-assign]
        memory.held["k b"] = Resource("k", "b", {"v": 7})
        raise Stale("memory", "moved", code=412)

    memory.apply = somebody_was_faster  # type: ignore[method-assign]
    partial = Wish((Resource("k", "a", {"v": 1}),), partial=True)
    engine(memory, tmp_path).apply(partial, "t1")
    assert {r.key: r.spec["v"] for r in memory.held.values()} == {"a": 1, "b": 7}


def test_an_undo_after_a_lost_race_goes_back_to_the_winner_s_state(tmp_path: Path) -> None:
    memory = Memory("a", atomic=True)
    conductor, real = engine(memory, tmp_path), memory.apply

    def somebody_was_faster(changes: Sequence[Change], snapshot: Snapshot) -> None:
        memory.apply = real  # type: ignore[method-assign]
        memory.held["k a"] = Resource("k", "a", {"v": 7})
        raise Stale("memory", "moved", code=412)

    memory.apply = somebody_was_faster  # type: ignore[method-assign]
    conductor.apply(wish(a=1), "t1", shared=True)
    conductor.undo("t1")
    assert memory.held["k a"].spec == {"v": 7}


def test_nothing_to_do_leaves_no_journal(tmp_path: Path) -> None:
    memory = Memory("a")
    engine(memory, tmp_path).apply(wish(a=0), "t1", shared=True)
    assert memory.writes == 0 and Journal(tmp_path).open_entries() == []


def test_an_unsafe_plan_writes_nothing(tmp_path: Path) -> None:
    memory = Memory(*"abcdef")
    with pytest.raises(UnsafePlan):
        engine(memory, tmp_path, deletes=2).apply(Wish(), "t1")
    assert memory.writes == 0


def test_the_open_deploy_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    memory = Memory("a")
    conductor = engine(memory, tmp_path)
    conductor.apply(wish(a=1), "deploy-1", shared=True)
    with pytest.raises(TransactionOpen, match="hecate.rollback deploy-1"):
        conductor.apply(wish(a=2), "t2")
    assert memory.held["k a"].spec == {"v": 1}


def test_a_committed_deploy_can_still_be_undone(tmp_path: Path) -> None:
    memory = Memory("a")
    conductor = engine(memory, tmp_path)
    conductor.apply(wish(a=1, b=1), "deploy-1", shared=True)
    conductor.journal.keep("deploy-1")
    assert conductor.journal.open_entries() == []
    conductor.undo("deploy-1")
    assert {r.key: r.spec["v"] for r in memory.held.values()} == {"a": 0}


def test_two_at_once_are_kept_apart(tmp_path: Path) -> None:
    conductor = engine(Memory("a"), tmp_path)
    with Journal(tmp_path).exclusive(), pytest.raises(TransactionOpen, match="another process"):
        conductor.apply(wish(a=1), "t1")


def test_a_partial_wish_leaves_the_rest_alone(tmp_path: Path) -> None:
    memory = Memory("a", "b", "c")
    partial = Wish((Resource("k", "a", {"v": 1}),), absent=("k b",), partial=True)
    plan = engine(memory, tmp_path).apply(partial, "t1").plan
    assert [c.id for c in plan.changes] == ["k a", "k b"]
    assert set(memory.held) == {"k a", "k c"}
