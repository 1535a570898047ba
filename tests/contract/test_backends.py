"""One suite for every backend: what each of them promises, whatever the system."""

from __future__ import annotations

import pytest
from conftest import switch_faults
from hecate.engine import Wish
from hecate.errors import ApiFailure, ApplyFailed, UnsafePlan

from .conftest import World


def test_what_was_applied_is_not_planned_again(world: World) -> None:
    target = world.target(world.first)
    assert target.engine.apply(target.wish, "t1").plan.changes
    assert target.engine.plan(target.wish).changes == ()
    assert target.engine.apply(target.wish, "t2").plan.changes == ()


def test_a_plan_writes_nothing(world: World) -> None:
    before = world.everything()
    target = world.target(world.first)
    assert target.engine.plan(target.wish).changes
    assert world.everything() == before
    assert not list(world.folder.glob("**/*.jsonl"))


def test_a_change_and_its_undo_leave_everything_as_before(world: World) -> None:
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    before = world.everything()
    second = world.target(world.second)
    second.engine.apply(second.wish, "t2")
    assert world.everything() != before
    second.engine.undo("t2")
    assert world.everything() == before


def test_the_undo_of_everything_leaves_the_system_as_it_was_found(world: World) -> None:
    before = world.everything()
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    target.engine.undo("t1")
    assert world.everything() == before
    assert target.engine.undo("t1") == (), "a second undo finds nothing to do"


def test_strangers_are_untouched(world: World) -> None:
    before = world.strangers()
    for number, wish in enumerate((world.first, world.second)):
        target = world.target(wish)
        target.engine.apply(target.wish, f"t{number}")
    nothing = Wish(absent=tuple(r.id for r in target.desired), partial=True)
    overrides = [reason.rpartition("allow=")[2] for reason in target.engine.plan(nothing).unsafe]
    consented = world.target(world.second, allow=overrides)
    assert consented.engine.apply(nothing, "t9").plan.changes
    assert world.strangers() == before


def test_a_run_that_was_cut_off_is_undone_by_the_next(world: World) -> None:
    """As after kill -9: the effect happened, the journal was never closed."""
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    before = world.everything()
    second = world.target(world.second)
    plan = second.engine.plan(second.wish)
    snapshot = second.backend.observe(second.wish.resources)
    half = plan.changes[: max(1, len(plan.changes) // 2)] if not second.backend.atomic else plan.changes
    with second.engine.journal.exclusive():
        for batch in second.backend.batches(half):
            second.engine.journal.announce("t2", batch, shared=False)
            second.backend.apply(batch, snapshot)
    assert world.everything() != before
    outcome = target.engine.apply(target.wish, "t3")
    assert outcome.recovered == ("t2",)
    assert world.everything() == before


EMULATED = ["authentik_world", "dns_world", "nomad_world"]
FAULTS = [
    {"kind": "status", "status": 500, "method": "GET", "times": None},
    {"kind": "cut", "method": "GET", "times": None},
    {"kind": "half-body", "method": "GET", "times": None},
    {"kind": "rate-limit", "method": "GET", "times": None},
]


@pytest.fixture(params=EMULATED)
def emulated(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_the_canary_secret_is_in_no_plan_and_no_journal(emulated: World) -> None:
    world = emulated
    target = world.target(world.first)
    plan = target.engine.plan(target.wish)
    target.engine.apply(target.wish, "t1", shared=True)
    journals = [p.read_text() for p in world.folder.glob("hecate/journal/**/*") if p.is_file()]
    assert any("t1" in text for text in journals), "the journal of the open transaction is there to be searched"
    for text in [str(plan), *journals]:
        assert world.secret not in text


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: str(f["kind"]))
def test_a_failed_read_raises_and_is_never_an_empty_system(emulated: World, fault: dict[str, object]) -> None:
    target = emulated.target(emulated.first)
    target.engine.apply(target.wish, "t1")
    before = emulated.everything()
    switch_faults(emulated.url, fault)
    with pytest.raises(ApiFailure):
        target.engine.plan(target.wish)
    switch_faults(emulated.url)
    assert emulated.everything() == before


@pytest.mark.parametrize("kind", ["status", "cut", "lost-answer"])
@pytest.mark.parametrize("skip", [0, 1])
def test_a_write_that_fails_is_undone_and_the_next_run_converges(emulated: World, kind: str, skip: int) -> None:
    before = emulated.everything()
    target = emulated.target(emulated.first)
    switch_faults(emulated.url, {"kind": kind, "status": 500, "method": "WRITE", "skip": skip, "times": 1})
    with pytest.raises(ApplyFailed) as caught:
        target.engine.apply(target.wish, "t1")
    assert caught.value.undone, caught.value
    assert emulated.everything() == before
    switch_faults(emulated.url)
    target.engine.apply(target.wish, "t2")
    assert target.engine.plan(target.wish).changes == ()


def test_removing_much_needs_a_word(dns_world: World) -> None:
    many = {f"h{n}.estate.test": {"upstreams": ["127.0.0.1:1"], "dns": {"A": "192.0.2.1"}} for n in range(8)}
    target = dns_world.target({"routes": many})
    target.engine.apply(target.wish, "t1")
    fewer = dns_world.target({"routes": {}})
    with pytest.raises(UnsafePlan, match="allow=deletes"):
        fewer.engine.apply(fewer.wish, "t2")
    consented = dns_world.target({"routes": {}}, allow=("deletes",))
    assert len(consented.engine.apply(consented.wish, "t3").plan.changes) == 8
