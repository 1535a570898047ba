"""Diff, order and risk: pure, so tried with whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
from hecate.errors import Conflict
from hecate.plan import Limits, make_plan, order
from hecate.resource import Change, Resource, Snapshot, by_id
from hypothesis import given
from hypothesis import strategies as st

names = st.sampled_from("abcdefgh")
specs = st.dictionaries(st.sampled_from("xy"), st.integers(0, 2), max_size=2)


@st.composite
def systems(draw: st.DrawFn) -> dict[str, Resource]:
    """Resources that need only alphabetically smaller ones, so no circle is possible."""
    found = draw(st.dictionaries(names, specs))
    return by_id(
        Resource("k", name, spec, tuple(f"k {n}" for n in draw(st.sets(names)) if n < name))
        for name, spec in found.items()
    )


def as_is(want: Resource, have: Resource | None) -> Resource:
    return want


def replay(held: dict[str, Resource], changes: tuple[Change, ...]) -> dict[str, Resource]:
    held = dict(held)
    for change in changes:
        held.pop(change.id, None)
        if change.after:
            held[change.id] = change.after
    return held


def bare(held: dict[str, Resource]) -> dict[str, object]:
    return {name: r.spec for name, r in held.items()}


@given(systems(), systems())
def test_a_plan_leads_from_what_is_to_what_is_wanted(held: dict[str, Resource], wanted: dict[str, Resource]) -> None:
    plan = make_plan(wanted.values(), Snapshot(held), as_is)
    after = replay(held, plan.changes)
    assert bare(after) == bare(wanted)
    assert make_plan(wanted.values(), Snapshot(after), as_is).changes == ()


@given(systems(), systems())
def test_the_inverse_leads_back(held: dict[str, Resource], wanted: dict[str, Resource]) -> None:
    plan = make_plan(wanted.values(), Snapshot(held), as_is)
    there = replay(held, plan.changes)
    back = tuple(change.inverse() for change in reversed(plan.changes))
    assert bare(replay(there, back)) == bare(held)


@given(systems())
def test_what_is_needed_comes_first_and_goes_last(wanted: dict[str, Resource]) -> None:
    made = [c.id for c in order(Change(None, r) for r in wanted.values())]
    gone = [c.id for c in order(Change(r, None) for r in wanted.values())]
    for resource in wanted.values():
        for need in resource.needs:
            if need in wanted:
                assert made.index(need) < made.index(resource.id)
                assert gone.index(need) > gone.index(resource.id)


@given(systems(), systems())
def test_the_digest_names_exactly_these_changes(held: dict[str, Resource], wanted: dict[str, Resource]) -> None:
    one = make_plan(wanted.values(), Snapshot(held), as_is)
    shuffled = dict(reversed(list(wanted.items())))
    assert make_plan(shuffled.values(), Snapshot(held), as_is) == one
    if one:
        assert make_plan([], Snapshot({}), as_is).digest != one.digest


def test_deletions_come_after_creations() -> None:
    old, new = Resource("k", "old", {}), Resource("k", "new", {})
    plan = make_plan([new], Snapshot({old.id: old}), as_is)
    assert [c.verb for c in plan.changes] == ["create", "delete"]


def test_what_needs_itself_is_a_defect() -> None:
    with pytest.raises(ValueError, match="need each other"):
        order([Change(None, Resource("k", "a", {}, ("k b",))), Change(None, Resource("k", "b", {}, ("k a",)))])


def test_a_stranger_is_not_overwritten_unless_adopted() -> None:
    mine, theirs = Resource("k", "a", {"x": 1}), Resource("k", "a", {"x": 2})
    world = Snapshot({}, {theirs.id: theirs})
    with pytest.raises(Conflict, match="k a"):
        make_plan([mine], world, as_is)
    assert make_plan([mine], world, as_is, adopt=["k a"]).changes == (Change(theirs, mine),)


def test_a_stranger_that_is_as_wanted_is_no_conflict() -> None:
    mine = Resource("k", "a", {"x": 1})
    assert not make_plan([mine], Snapshot({}, {mine.id: mine}), as_is)


def hold(kind: str, *keys: str) -> Snapshot:
    return Snapshot(by_id(Resource(kind, key, {}) for key in keys))


@pytest.mark.parametrize(
    ("world", "override"),
    [
        (hold("k", *"abcdef"), "deletes"),
        (hold("caddy.route", "app.test"), "route:app.test"),
        (hold("dns.rrset", "estate.test/@/A"), "apex:estate.test/@/A"),
        (hold("terraform.configuration", "main"), "destroy:main"),
    ],
)
def test_a_risk_names_its_override_and_the_override_works(world: Snapshot, override: str) -> None:
    plan = make_plan([], world, as_is, limits=Limits())
    assert [reason.rpartition("allow=")[2] for reason in plan.unsafe] == [override]
    assert make_plan([], world, as_is, limits=Limits(allow=frozenset([override]))).unsafe == ()


def test_a_large_share_is_a_risk_even_below_the_cap() -> None:
    world = hold("k", *"abcdefgh")
    kept = [r for r in world.owned.values() if r.key in "abcde"]
    assert make_plan(kept, world, as_is, limits=Limits(deletes=5, percent=30)).unsafe
    assert not make_plan(kept, world, as_is, limits=Limits(deletes=5, percent=50)).unsafe


def test_many_updates_are_a_risk() -> None:
    world = hold("k", *"abc")
    wanted = [Resource("k", key, {"x": 1}) for key in "abc"]
    assert "allow=updates" in make_plan(wanted, world, as_is, limits=Limits(updates=2)).unsafe[0]
