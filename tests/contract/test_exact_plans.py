"""A plan is applied as it was reviewed or not at all; a selection touches what was chosen. Every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hecate import wiring
from hecate.clients.caddy import CaddyClient
from hecate.errors import PlanMoved
from hecate.journal import Journal

from contract.conftest import Pillar, World

A, B, C = (f"{name}.estate.test" for name in "abc")
MANY = frozenset({"deletes", f"route:{A}", f"route:{B}", f"route:{C}", "deletes:estate.test"})


def apply(world: World, wish: Pillar, transaction: str, **more: Any) -> wiring.Target:
    target = world.target(wish, allow=MANY, **more)
    target.engine.apply(target.wish, transaction)
    return target


def exactly(world: World, wish: Pillar, digest: str, transaction: str = "t2", **more: Any) -> None:
    target = world.target(wish, allow=MANY)
    target.engine.apply(replace(target.wish, digest=digest, **more), transaction, shared=True)


def test_what_was_planned_is_what_is_done(world: World) -> None:
    apply(world, world.first, "t1")
    target = world.target(world.second)
    plan = target.engine.plan(target.wish)
    exactly(world, world.second, plan.digest)
    assert not world.target(world.second).engine.plan(target.wish)


def test_a_plan_for_another_state_is_refused_and_nothing_is_written(world: World) -> None:
    target = world.target(world.second)
    early = target.engine.plan(target.wish).digest
    apply(world, world.first, "t1")
    before = world.everything()
    with pytest.raises(PlanMoved, match="now it would"):
        exactly(world, world.second, early)
    assert world.everything() == before
    assert Journal(target.engine.journal.folder).open_entries() == []


def test_a_plan_for_another_wish_is_refused(world: World) -> None:
    apply(world, world.first, "t1")
    target = world.target(world.first)
    nothing = target.engine.plan(target.wish).digest
    before = world.everything()
    with pytest.raises(PlanMoved):
        exactly(world, world.second, nothing)
    assert world.everything() == before


def test_the_same_transaction_may_ask_again(world: World) -> None:
    """Its answer may have been lost on the way to the master."""
    apply(world, world.first, "t1")
    target = world.target(world.second)
    digest = target.engine.plan(target.wish).digest
    exactly(world, world.second, digest)
    after = world.everything()
    exactly(world, world.second, digest)
    assert world.everything() == after
    with pytest.raises(Exception, match="still open|now it would"):
        exactly(world, world.second, digest, "t3")


def test_what_is_foreseen_is_what_is_there_afterwards(world: World) -> None:
    apply(world, world.first, "t1")
    target = world.target(world.second, allow=MANY)
    plan, foreseen = target.engine.foreseen(target.wish)
    target.engine.apply(target.wish, "t2")
    there = world.target(world.second).backend.observe(target.desired)
    ids = {change.id for change in plan.changes if change.after and change.kind != "caddy.saved"}
    assert ids and {name: foreseen.owned[name].spec for name in ids} == {name: there.owned[name].spec for name in ids}


def test_calls_are_told_where_there_are_changes(world: World) -> None:
    target = world.target(world.first)
    assert wiring.calls(target, target.engine.plan(target.wish)) > 0
    apply(world, world.first, "t1")
    assert wiring.calls(target, target.engine.plan(target.wish)) == 0


def test_a_race_that_changes_the_plan_is_refused(caddy_world: World) -> None:
    """Somebody removes a route between the look and the write: Caddy refuses, and there is no second guess."""
    world = caddy_world
    apply(world, world.first, "t1")
    target = world.target(world.second)
    digest = target.engine.plan(target.wish).digest
    sneaky = CaddyClient(world.base["caddy"]["admin"])
    real = target.backend.apply
    raced: list[bool] = []

    def slow(changes: Any, snapshot: Any) -> None:
        if not raced:
            raced.append(True)
            config, etag = sneaky.config()
            config["apps"]["http"]["servers"]["lab-stranger"]["listen"].append(f"127.0.0.1:{_free()}")
            for route in _routes(config):
                if B in str(route):
                    _routes(config).remove(route)
                    break
            sneaky.replace(config, etag)
        real(changes, snapshot)

    target.backend.apply = slow  # type: ignore[method-assign]
    with pytest.raises(Exception, match="now it would"):
        target.engine.apply(replace(target.wish, digest=digest), "t2", shared=True)
    assert raced and "127.0.0.1:3" not in str(_routes(world.everything()))


def _routes(config: Any) -> Any:
    servers = config["apps"]["http"]["servers"]
    return next(server for name, server in servers.items() if name != "lab-stranger")["routes"]


def _free() -> int:
    from conftest import free_port

    return free_port()


# Selections

SYSTEMS = ["caddy_world", "authentik_world", "dns_world"]


@pytest.fixture(params=SYSTEMS)
def routed(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def select(world: World, wish: Pillar, *hosts: str) -> list[str]:
    """Apply only what belongs to these hosts; the ids of what was changed."""
    target = world.target(wish, allow=MANY)
    plan = target.engine.apply(wiring.chosen(target, hosts), "select", shared=True).plan
    target.engine.journal.keep("select")
    return [change.id for change in plan.changes]


def held(world: World) -> dict[str, Any]:
    target = world.target(world.second)
    return {name: resource.spec for name, resource in target.backend.observe(target.desired).owned.items()}


def about(host: str, names: Any) -> set[str]:
    slug, short = host.replace(".", "-"), f"estate.test/{host.partition('.')[0]}/"
    return {name for name in names if host in name or slug in name or short in name}


def test_one_route_alone(routed: World) -> None:
    apply(routed, routed.first, "t1")
    before = held(routed)
    changed = select(routed, routed.second, C)
    after = held(routed)
    assert about(C, changed) and not about(A, changed) and not about(B, changed)
    assert {n: s for n, s in after.items() if n in before} == before
    assert select(routed, routed.second, C) == []
    apply(routed, routed.second, "t2")


def test_all_but_one_route(routed: World) -> None:
    apply(routed, routed.first, "t1")
    before = held(routed)
    changed = select(routed, routed.second, f"!{A}")
    after = held(routed)
    assert about(C, changed) and not about(A, changed)
    assert {n: after.get(n) for n in about(A, before)} == {n: before[n] for n in about(A, before)}


def test_a_route_that_is_gone_from_pillar_goes_alone(routed: World) -> None:
    apply(routed, routed.first, "t1")
    before = held(routed)
    gone = {"routes": {host: row for host, row in routed.second["routes"].items() if host == C}}
    changed = select(routed, gone, B)
    after = held(routed)
    assert changed and set(changed) == about(B, changed)
    assert not about(B, after) and about(A, after) == about(A, before) and not about(C, after)


def test_a_selection_that_is_not_the_one_that_moved_is_not_concerned(routed: World) -> None:
    """Exactness is about what was chosen: the rest of the estate may move."""
    apply(routed, routed.first, "t1")
    target = routed.target(routed.second, allow=MANY)
    digest = target.engine.plan(wiring.chosen(target, (C,))).digest
    select(routed, routed.second, A)
    target = routed.target(routed.second, allow=MANY)
    target.engine.apply(replace(wiring.chosen(target, (C,)), digest=digest), "t3", shared=True)
    assert about(C, held(routed))


def test_guards_stay_while_the_edges_still_ask_for_them(authentik_world: World) -> None:
    world = authentik_world
    apply(world, world.first, "t1")
    before = held(world)
    target = world.target({"routes": {C: world.second["routes"][C]}}, allow=MANY)
    wish = replace(target.wish, keep_guards=True)
    plan = target.engine.plan(wish)
    assert any("the edges are not part of this" in note for note in plan.notes)
    target.engine.apply(wish, "t2")
    after = held(world)
    assert {n: after.get(n) for n in about(B, before)} == {n: before[n] for n in about(B, before)}
    assert about(C, after)
