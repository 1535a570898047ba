"""Selectors: what they choose, what goes along with it, and what is true once only that is deployed."""

from __future__ import annotations

from typing import Any

import pytest
from hecate import model
from hecate.engine import Wish
from hecate.errors import HecateError
from hecate.narrowing import narrowed
from hecate.resource import Resource, Snapshot
from hecate.selection import Selection, merged, resolve
from hecate.wiring import guards_host

MANAGED = ("terraform", "nomad", "authentik", "hetzner_dns", "caddy")
PILLAR: dict[str, Any] = {
    "authentik": {"url": "https://auth.test", "token": "env:T"},
    "hetzner_dns": {"token": "env:T"},
    "nomad": {"url": "http://127.0.0.1:1"},
    "auth_policies": {"staff": {"groups": ["staff"]}},
    "middleware": {"slow": {"type": "headers", "config": {"set": {"X-A": "b"}}}},
    "routes": {
        "a.test": {"upstreams": ["h:1"], "tags": ["web"], "tenant": "blue", "auth_policy": "staff"},
        "b.test": {"upstreams": ["h:2"], "hosts": ["bb.test"], "tags": "web", "middleware": ["slow"]},
        "c.test": {"upstreams": ["h:3"], "tenant": "red", "middleware": ["slow"]},
    },
    "workloads": {"job": {"config": {"image": "x"}, "tags": ["web"]}},
}


def chosen(old: dict[str, Any] | None = None, new: dict[str, Any] | None = None, **words: list[str]) -> Selection:
    return resolve(words, new or PILLAR, old or {}, MANAGED)


def without(route: str) -> dict[str, Any]:
    return {**PILLAR, "routes": {key: row for key, row in PILLAR["routes"].items() if key != route}}


def test_nothing_said_is_everything() -> None:
    found = chosen()
    assert not found and found.systems == MANAGED and found.hosts is None


def test_systems_by_name_and_by_what_they_do() -> None:
    assert chosen(systems=["dns", "caddy"]).systems == ("hetzner_dns", "caddy")
    assert chosen(exclude=["system:dns", "terraform"]).systems == ("nomad", "authentik", "caddy")


def test_routes_by_glob_tag_and_tenant() -> None:
    assert chosen(routes=["a*"]).hosts == ("a.test",)
    assert chosen(routes=["bb.test"]).chosen == {"b.test"}
    assert chosen(tenants=["red"]).hosts == ("c.test",)
    tagged = chosen(tags=["web"])
    assert tagged.hosts == ("a.test", "b.test", "bb.test", "workloads:job") and "nomad" in tagged.systems
    assert chosen(routes=["c.test"]).systems == ("authentik", "hetzner_dns", "caddy")


def test_what_is_excluded_is_left_out_and_all_else_is_not() -> None:
    found = chosen(exclude=["tag:web"])
    assert found.systems == MANAGED and found.hosts == ("!a.test", "!b.test", "!bb.test", "!workloads:job")
    assert chosen(tags=["web"], exclude=["a.test"]).chosen == {"b.test", "workloads:job"}


@pytest.mark.parametrize(
    ("words", "there"),
    [
        ({"routes": ["nope"]}, "a.test"),
        ({"tags": ["nope"]}, "web"),
        ({"tenants": ["nope"]}, "blue, red"),
        ({"systems": ["rfc2136"]}, "terraform"),
        ({"exclude": ["nope"]}, "terraform"),
        ({"exclude": ["route:nope"]}, "a.test"),
    ],
    ids=str,
)
def test_what_nothing_answers_to_is_an_error_that_names_what_there_is(words: dict[str, list[str]], there: str) -> None:
    with pytest.raises(HecateError, match="there are: ") as told:
        chosen(**words)
    assert there in str(told.value)


@pytest.mark.parametrize("more", [{"exclude": ["a.test"]}, {"systems": ["terraform"]}])
def test_nothing_left_is_an_error(more: dict[str, list[str]]) -> None:
    with pytest.raises(HecateError, match="nothing to do"):
        chosen(routes=["a.test"], **more)


def test_a_route_that_is_gone_from_pillar_is_chosen_by_what_it_was() -> None:
    for words in ({"routes": ["c.test"]}, {"tenants": ["red"]}):
        assert chosen(old=PILLAR, new=without("c.test"), **words).hosts == ("c.test",)


def test_routes_that_share_a_name_go_together() -> None:
    own = {"b.test": {"upstreams": ["h:2"]}, "bb.test": {"upstreams": ["h:9"]}}
    moved = {**PILLAR, "routes": {**PILLAR["routes"], **own}}
    for route in ("b.test", "bb.test"):
        assert chosen(old=PILLAR, new=moved, routes=[route]).chosen == {"b.test", "bb.test"}


def test_a_changed_definition_of_both_sides_cannot_be_split() -> None:
    changed = {**PILLAR, "middleware": {"slow": {"type": "headers", "config": {"set": {"X-A": "c"}}}}}
    with pytest.raises(HecateError, match="hecate:middleware:slow has changed, and is also used by c.test"):
        chosen(old=PILLAR, new=changed, routes=["b.test"])
    assert chosen(old=PILLAR, new=changed, routes=["b.test", "c.test"]).chosen == {"b.test", "c.test"}
    assert chosen(old=PILLAR, new=changed, routes=["a.test"]).chosen == {"a.test"}


# What is recorded


def edited(host: str, dial: str = "new:1") -> dict[str, Any]:
    return {**PILLAR, "routes": {**PILLAR["routes"], host: {**PILLAR["routes"][host], "upstreams": [dial]}}}


def test_only_what_was_chosen_is_recorded_as_deployed() -> None:
    new = {**edited("a.test"), "caddy": {"issuer": "internal"}}
    new["routes"]["c.test"] = {"upstreams": ["other:1"]}
    true = merged(chosen(old=PILLAR, new=new, routes=["a.test"]), new, PILLAR)
    assert true["routes"] == edited("a.test")["routes"] and "caddy" not in true
    left = merged(chosen(old=PILLAR, new=new, exclude=["a.test"]), new, PILLAR)
    assert left["routes"] == {**new["routes"], "a.test": PILLAR["routes"]["a.test"]} and left["caddy"]


def test_a_removal_is_recorded() -> None:
    new = without("c.test")
    assert merged(chosen(old=PILLAR, new=new, routes=["c.test"]), new, PILLAR)["routes"] == new["routes"]


def test_routes_of_which_only_a_part_was_done_stay_as_they_were() -> None:
    new = edited("a.test")
    assert merged(chosen(old=PILLAR, new=new, systems=["caddy"]), new, PILLAR)["routes"] == PILLAR["routes"]
    only = chosen(old=PILLAR, new=new, systems=["dns"], routes=["a.test"])
    assert merged(only, new, PILLAR)["routes"] == PILLAR["routes"]


def test_what_is_recorded_is_a_pillar() -> None:
    for words in ({"routes": ["a.test"]}, {"exclude": ["a.test"]}, {"systems": ["caddy"]}):
        for old in ({}, PILLAR):
            model.parse({"hecate": merged(chosen(old=old, **words), PILLAR, old)})  # type: ignore[arg-type]


# On a target


def resource(kind: str, key: str, origin: str = "", *needs: str) -> Resource:
    return Resource(kind, key, {}, needs, origin)


SERVER = resource("caddy.server", "hecate", "hecate:caddy")
ROUTES = [resource("caddy.route", f"{n}.test", f"hecate:routes:{n}.test", SERVER.id) for n in "abc"]


def view(hosts: list[str], desired: list[Resource], held: list[Resource]) -> tuple[set[str], set[str]]:
    """(ids that are wanted, ids that are to go)"""
    estate = model.parse({"hecate": PILLAR})
    wish = narrowed(Wish(tuple(desired)), estate, hosts, guards_host)
    wanted = {r.id for r in wish.resources}
    return wanted, wish.view(Snapshot({r.id: r for r in held})).owned.keys() - wanted


def test_of_an_edge_one_route_and_what_it_needs() -> None:
    old = resource("caddy.route", "old.test")
    assert view(["a.test"], [SERVER, *ROUTES], [SERVER, *ROUTES, old]) == ({SERVER.id, ROUTES[0].id}, set())
    assert view(["old.test"], [SERVER, *ROUTES], [SERVER, *ROUTES, old]) == (set(), {old.id})


def test_of_an_edge_all_but_one() -> None:
    old = resource("caddy.route", "old.test")
    wanted, gone = view(["!a.test"], [SERVER, *ROUTES], [SERVER, *ROUTES, old])
    assert wanted == {SERVER.id, ROUTES[1].id, ROUTES[2].id} and gone == {old.id}
    assert view(["!old.test"], [SERVER, *ROUTES], [SERVER, *ROUTES, old])[1] == set()


def test_of_a_zone_the_records_of_a_host() -> None:
    want = resource("dns.rrset", "test/a/A", "hecate:routes:a.test:dns")
    own = resource("dns.rrset", "test/@/TXT", "hecate:dns:zones:test:records:@")
    held = [resource("dns.rrset", f"test/{name}") for name in ("a/A", "a/AAAA", "aa/A", "@/TXT", "x.a/A")]
    wanted, gone = view(["a.test"], [want, own], held)
    assert wanted == {want.id} and gone == {"dns.rrset test/a/AAAA"}


def test_what_an_excluded_host_still_needs_is_not_taken_from_under_it() -> None:
    policy = resource("authentik.policy", "hecate/lab/policy/gone")
    stray = resource("authentik.policy", "hecate/lab/policy/stray")
    binding = resource("authentik.binding", "old-test/policy/gone", "", policy.id)
    assert view(["!old.test"], [], [policy, stray, binding])[1] == {stray.id}
