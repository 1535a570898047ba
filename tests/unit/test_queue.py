"""Wishes for single objects that come at the same time: one write for all, and each hears its own part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hecate.engine import Engine, Outcome, Wish
from hecate.errors import ApplyFailed, UnsafePlan
from hecate.journal import Journal
from hecate.plan import Limits
from hecate.queue import Queue, Ticket
from hecate.resource import Change, Resource, Snapshot

from unit.test_engine import Memory


def add(key: str, value: int = 1) -> Wish:
    return Wish((Resource("k", key, {"v": value}),), partial=True)


def engine(memory: Memory, folder: Path, **options: object) -> Engine:
    return Engine(memory, Journal(folder), **options)  # type: ignore[arg-type]


def lay(made: Engine, key: str, value: int = 1) -> Ticket:
    """What another process's wish looks like, while that process waits."""
    return made.queue.put(add(key, value).to_json(), made.terms)


def test_whoever_has_the_turn_writes_for_all_and_each_hears_its_part(tmp_path: Path) -> None:
    memory = Memory("old", atomic=True)
    made = engine(memory, tmp_path)
    theirs = lay(made, "b")
    outcome = made.apply(add("a"), "t1")
    assert memory.writes == 1 and memory.held.keys() == {"k old", "k a", "k b"}
    assert [c.id for c in outcome.plan.changes] == ["k a"]
    answer = made.queue.answer(theirs)
    assert answer and answer["transaction"] == "t1"
    assert [Change.from_json(row).id for row in answer["changes"]] == ["k b"]


def test_on_other_terms_a_wish_waits_for_its_own_turn(tmp_path: Path) -> None:
    memory = Memory(atomic=True)
    bold = engine(memory, tmp_path, limits=Limits(allow=frozenset({"deletes"})))
    lay(bold, "b")
    engine(memory, tmp_path).apply(add("a"), "t1")
    assert memory.held.keys() == {"k a"} and len(bold.queue.waiting(bold.terms)) == 1


def test_of_two_wishes_for_one_object_the_later_counts(tmp_path: Path) -> None:
    joined = add("a", 1).joined([add("a", 2), Wish(absent=("k b",), partial=True), add("b", 3)])
    assert {r.key: r.spec["v"] for r in joined.resources} == {"a": 2, "b": 3} and joined.absent == ()


def test_a_joint_write_that_fails_is_followed_by_one_s_own(tmp_path: Path) -> None:
    memory = Memory(atomic=True)
    made = engine(memory, tmp_path)
    theirs = lay(made, "bad")
    real = memory.apply

    def refuse(changes: Sequence[Change], snapshot: Snapshot) -> None:
        if any(c.subject.key == "bad" and c.after for c in changes):
            memory.writes += 1
            raise memory.error
        real(changes, snapshot)

    memory.apply = refuse  # type: ignore[method-assign]
    assert [c.id for c in made.apply(add("a"), "t1").plan.changes] == ["k a"]
    assert memory.held.keys() == {"k a"} and made.queue.answer(theirs) is None
    with pytest.raises(ApplyFailed, match="broken"):
        made.apply(add("bad"), "t2")


def test_a_wish_alone_that_is_unsafe_says_so(tmp_path: Path) -> None:
    memory = Memory(*"abcdefgh", atomic=True)
    gone = Wish(absent=tuple(f"k {key}" for key in "abcdefgh"), partial=True)
    with pytest.raises(UnsafePlan):
        engine(memory, tmp_path).apply(gone, "t1")
    assert len(memory.held) == 8 and not list((tmp_path / "queue").glob("*.wish"))


def test_many_at_once_are_few_writes_and_none_is_lost(tmp_path: Path) -> None:
    memory = Memory(atomic=True)
    outcomes: dict[str, Outcome] = {}

    def one(key: str) -> None:
        outcomes[key] = engine(memory, tmp_path, interval=0.3).apply(add(key), f"t-{key}")

    everybody = [threading.Thread(target=one, args=(f"n{n}",)) for n in range(30)]
    for each in everybody:
        each.start()
    for each in everybody:
        each.join(30)
    assert len(memory.held) == 30 and memory.writes <= 4
    assert all([c.id for c in outcomes[key].plan.changes] == [f"k {key}"] for key in outcomes) and len(outcomes) == 30
    assert not list((tmp_path / "queue").glob("*.wish")) and not list((tmp_path / "queue").glob("*.answer"))


@pytest.mark.parametrize(("ago", "waits"), [(0.4, 0.6), (1.5, 0.0), (None, 0.0)])
def test_between_two_writes_the_interval_passes(tmp_path: Path, ago: float | None, waits: float) -> None:
    slept: list[float] = []
    now: Callable[[], float] = time.time
    queue = Queue(tmp_path, slept.append, lambda: now() + (ago or 0))
    if ago is not None:
        queue.written()
    queue.settle(1.0)
    assert sum(slept) == pytest.approx(waits, abs=0.2)


def test_a_clock_that_was_set_back_makes_nobody_wait(tmp_path: Path) -> None:
    slept: list[float] = []
    queue = Queue(tmp_path, slept.append, lambda: time.time() - 3600)
    queue.written()
    queue.settle(1.0)
    assert slept == []


def test_nobody_else_may_read_a_wish(tmp_path: Path) -> None:
    ticket = Queue(tmp_path / "queue").put({"resources": [], "absent": []}, "terms")
    assert ticket.path.stat().st_mode & 0o777 == 0o600 and ticket.path.parent.stat().st_mode & 0o777 == 0o700
