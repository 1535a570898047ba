"""Drift on real systems: who moved is told, put back without deploying anything, or said in pillar's words."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import requests
from conftest import switch_faults
from hecate import drifting, model
from hecate.adopting import adoptable
from hecate.drift import BOTH, BY_HAND, ONLY_LIVE, ONLY_PILLAR, merged
from hecate.errors import ApiFailure
from hecate.wiring import Place

from .conftest import Pillar, World
from .test_backends import FAULTS

SYSTEMS = ["caddy_world", "authentik_world", "dns_world", "rfc2136_world", "nomad_world"]


@pytest.fixture(params=SYSTEMS)
def deployed(request: pytest.FixtureRequest) -> World:
    """`first` is deployed."""
    world: World = request.getfixturevalue(request.param)
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    return world


def look(world: World, now: Pillar, base: Pillar | None = None) -> drifting.Comparison:
    place = Place("edge", world.folder, sleep=lambda _: None)
    whole = {**world.base, **base} if base is not None else None
    return drifting.look(world.system, {**world.base, **now}, whole, place)


def told(found: drifting.Comparison) -> dict[str, tuple[str, str]]:
    return {row.id: (row.who, row.what) for row in found.rows}


def test_what_was_deployed_is_no_drift(deployed: World) -> None:
    assert told(look(deployed, deployed.first, deployed.first)) == {}
    assert told(look(deployed, deployed.first)) == {}


def test_an_edit_of_pillar_is_only_pillar_s(deployed: World) -> None:
    found = told(look(deployed, deployed.second, deployed.first))
    assert found and {who for who, _ in found.values()} == {ONLY_PILLAR}


def test_what_hecate_did_unlike_both_is_drift_and_healed(deployed: World) -> None:
    """Somebody brings the second wish about; pillar and the last deployment have the first."""
    before = deployed.everything()
    other = deployed.target(deployed.second)
    other.engine.apply(other.wish, "by-hand")
    found = look(deployed, deployed.first, deployed.first)
    assert found.rows and {row.who for row in found.rows} <= {BY_HAND, ONLY_LIVE}
    heal(deployed, found)
    assert told(look(deployed, deployed.first, deployed.first)) == {}
    assert deployed.everything() == before


def heal(world: World, found: drifting.Comparison, transaction: str = "heal") -> list[str]:
    ids = [row.id for row in found.rows]
    allow = frozenset({"deletes", "updates", *(f"secret:{row.id.rpartition('/')[2]}" for row in found.rows)})
    place = Place("edge", world.folder, sleep=lambda _: None, allow=allow)
    target, wish = drifting.healing(found, ids, place)
    return [change.id for change in target.engine.apply(wish, transaction).plan.changes]


def test_undeployed_pillar_and_a_system_that_moved_are_both(deployed: World) -> None:
    """Live is as nobody wants it: the last deployment had the first wish, pillar now has none."""
    other = deployed.target(deployed.second)
    other.engine.apply(other.wish, "by-hand")
    before = deployed.everything()
    third = altered(deployed)
    found = look(deployed, third, deployed.first)
    assert BOTH in {row.who for row in found.rows}
    both = [row.id for row in found.rows if row.who == BOTH]
    _, wish = drifting.healing(found, [row.id for row in found.rows], Place("edge", deployed.folder))
    assert not {r.id for r in wish.resources} & set(both) and not set(wish.absent) & set(both)
    assert deployed.everything() == before


def altered(world: World) -> Pillar:
    """The first wish, with another edit than the second has of what the second changes."""
    text = json.dumps(world.first)
    for old, new in (("127.0.0.1:1", "127.0.0.1:9"), ("192.0.2.1", "192.0.2.9"), ('"600"', '"900"')):
        text = text.replace(
            f'"{old}"' if not old.startswith('"') else old, f'"{new}"' if not new.startswith('"') else new
        )
    made: Pillar = json.loads(text)
    if world.system == "authentik":
        made["auth_policies"] = {
            "p": {"groups": ["others"]},
            "q": {"groups": ["others"], "session_duration": "5h"},
        }
    return made


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: str(f["kind"]))
@pytest.mark.parametrize("name", ["authentik_world", "dns_world", "nomad_world"])
def test_a_read_that_fails_is_never_no_drift(request: pytest.FixtureRequest, name: str, fault: dict[str, Any]) -> None:
    world: World = request.getfixturevalue(name)
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    switch_faults(world.url, fault)
    with pytest.raises(ApiFailure):
        look(world, world.first, world.first)


# One system at a time, as a person edits it


def edit_caddy(world: World, change: Any) -> None:
    from hecate.clients.caddy import CaddyClient

    client = CaddyClient(world.base["caddy"]["admin"])
    config, etag = client.config()
    fresh = copy.deepcopy(config)
    change(fresh)
    client.replace(fresh, etag)


def test_an_edited_upstream_is_healed_and_an_undeployed_edit_is_not_deployed(caddy_world: World) -> None:
    world = caddy_world
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    before = world.everything()

    def redirect(config: Pillar) -> None:
        text = json.dumps(config["apps"]["http"]["servers"]["hecate"]).replace('"127.0.0.1:2"', '"127.0.0.1:66"')
        config["apps"]["http"]["servers"]["hecate"] = json.loads(text)

    edit_caddy(world, redirect)
    edited = copy.deepcopy(world.first)
    edited["routes"]["a.estate.test"]["upstreams"] = ["127.0.0.1:77"]
    found = look(world, edited, world.first)
    assert told(found)["caddy.route a.estate.test"] == (ONLY_PILLAR, "")
    assert told(found)["caddy.route b.estate.test"] == (BY_HAND, "changed")
    heal(world, found)
    assert world.everything() == before


def test_an_edited_upstream_is_adopted_and_proved(caddy_world: World) -> None:
    world = caddy_world
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")

    def redirect(config: Pillar) -> None:
        text = json.dumps(config["apps"]["http"]["servers"]["hecate"]).replace('"127.0.0.1:2"', '"127.0.0.1:66"')
        config["apps"]["http"]["servers"]["hecate"] = json.loads(text)

    edit_caddy(world, redirect)
    found = look(world, world.first, world.first)
    made = adoptable(found, {**world.base, **world.first}, Place("edge", world.folder))
    assert made["pillar"]["routes"] == {"b.estate.test": {"upstreams": ["127.0.0.1:66"]}}
    now = merged(world.first, made["pillar"])
    assert told(look(world, now, world.first)) == {}


def test_handlers_that_pillar_cannot_say_are_refused_with_the_reason(caddy_world: World) -> None:
    world = caddy_world
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")

    def spoil(config: Pillar) -> None:
        for route in config["apps"]["http"]["servers"]["hecate"]["routes"]:
            if "a.estate.test" in json.dumps(route):
                route["handle"].insert(0, {"handler": "tracing", "span": "x"})

    edit_caddy(world, spoil)
    found = look(world, world.first, world.first)
    assert found.rows
    made = adoptable(found, {**world.base, **world.first}, Place("edge", world.folder))
    assert made["pillar"] == {} and set(made["left"]) == {row.id for row in found.rows}


def record(world: World, method: str, path: str, body: Any = None) -> None:
    url = f"{world.url}/v1/zones/estate.test/rrsets{path}"
    headers = {"Authorization": f"Bearer {world.secret}"}
    requests.request(method, url, json=body, headers=headers, timeout=5).raise_for_status()


def test_a_record_that_was_changed_by_hand_is_adopted_where_it_stands_in_pillar(dns_world: World) -> None:
    world = dns_world
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    evil = "{{ salt['cmd.run']('id') }}"
    record(world, "POST", "/a/A/actions/set_records", {"records": [{"value": "198.51.100.7"}]})
    record(world, "POST", "/@/TXT/actions/set_records", {"records": [{"value": f'"{evil}"'}]})
    record(world, "DELETE", "/b/A")
    found = look(world, world.first, world.first)
    assert told(found) == {
        "dns.rrset estate.test/@/TXT": (BY_HAND, "changed"),
        "dns.rrset estate.test/a/A": (BY_HAND, "changed"),
        "dns.rrset estate.test/b/A": (BY_HAND, "removed"),
    }
    now = {**world.base, **world.first}
    made = adoptable(found, now, Place("edge", world.folder))
    assert made["pillar"]["routes"] == {"a.estate.test": {"dns": {"A": "198.51.100.7"}}}
    assert made["pillar"]["dns"]["zones"]["estate.test"]["records"] == {"@": {"TXT": evil}}
    assert (
        "remove it from pillar by hand (hecate:routes:b.estate.test:dns)" in made["left"]["dns.rrset estate.test/b/A"]
    )
    whole = model.parse({"hecate": merged(now, made["pillar"])})
    assert whole.routes["a.estate.test"].dns.A == ("198.51.100.7",)  # type: ignore[union-attr]
    assert set(told(look(world, merged(now, made["pillar"]), world.first))) == {"dns.rrset estate.test/b/A"}


def test_members_of_a_group_are_adopted(authentik_world: World) -> None:
    world = authentik_world
    now = {**world.base, **world.first}
    now["authentik"] = {**now["authentik"], "groups": {"crew": {"members": ["alice"]}}}
    estate_world = World(
        world.system, now, {}, {}, world.everything, world.strangers, world.folder, world.url, world.secret
    )
    target = estate_world.target({})
    target.engine.apply(target.wish, "t1")
    api, bearer = f"{world.url}/api/v3/core", {"Authorization": f"Bearer {world.secret}"}
    group = requests.get(f"{api}/groups/?name=crew", headers=bearer, timeout=5).json()["results"][0]
    requests.patch(f"{api}/groups/{group['pk']}/", json={"users": []}, headers=bearer, timeout=5).raise_for_status()
    found = look(estate_world, {}, {})
    assert told(found) == {"authentik.group crew": (BY_HAND, "changed")}
    made = adoptable(found, now, Place("edge", world.folder))
    assert made["pillar"] == {"authentik": {"groups": {"crew": {"members": []}}}}


def test_a_sign_moves_with_every_write_and_with_nothing_else(authentik_world: World) -> None:
    world = authentik_world
    now, place = {**world.base, **world.first}, Place("edge", world.folder)
    before = drifting.sign("authentik", now, place)
    world.target(world.first).engine.plan(world.target(world.first).wish)
    assert drifting.sign("authentik", now, place) == before
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    after = drifting.sign("authentik", now, place)
    assert after != before
    assert drifting.watch("authentik", now, place, lambda: now) is None
    other = world.target(world.second)
    other.engine.apply(other.wish, "t2")
    found = drifting.watch("authentik", now, place, lambda: now)
    assert found and found.what == "moved"
    switch_faults(world.url, {"kind": "half-body", "method": "GET", "times": None})
    told = drifting.watch("authentik", now, place, lambda: now)
    assert told and told.what == "cannot be asked" and world.secret not in told.told


def test_an_edge_s_sign_moves_with_its_configuration(caddy_world: World) -> None:
    world = caddy_world
    target = world.target(world.first)
    target.engine.apply(target.wish, "t1")
    now, place = {**world.base, **world.first}, Place("edge", world.folder)
    assert drifting.watch("caddy", now, place, lambda: now) is None

    def stranger(config: Pillar) -> None:
        config["apps"]["http"]["servers"]["lab-stranger"]["routes"][0]["handle"][0]["body"] = "other"

    edit_caddy(world, stranger)
    assert drifting.watch("caddy", now, place, lambda: now) is None, "what isn't Hecate's is not drift"
    edit_caddy(world, lambda config: config["apps"]["http"]["servers"].pop("hecate"))
    found = drifting.watch("caddy", now, place, lambda: now)
    assert found and found.what == "moved"
