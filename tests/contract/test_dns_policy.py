"""Policies against Hetzner's API: whose labels, whose values in a shared set, what an undo leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from hecate import wiring
from hecate.errors import ApplyFailed, Conflict, UnsafePlan

from .conftest import Pillar, World

MARK = "hecate/production"
OWN, THEIRS = '"v=spf1 include:ours.test -all"', '"google-site-verification=x"'


class Service:
    """The emulator as another user of the same project sees it."""

    def __init__(self, world: World) -> None:
        self.base, self.headers = (
            f"{world.url}/v1/zones/estate.test/rrsets",
            {"Authorization": f"Bearer {world.secret}"},
        )

    def post(self, path: str, body: Pillar) -> None:
        requests.post(f"{self.base}{path}", json=body, headers=self.headers, timeout=5).raise_for_status()

    def put(self, name: str, kind: str, *values: str, **more: Any) -> None:
        self.post("", {"name": name, "type": kind, "records": [{"value": value} for value in values], **more})

    def add(self, name: str, kind: str, value: str) -> None:
        self.post(f"/{name}/{kind}/actions/add_records", {"records": [{"value": value}]})

    def values(self, name: str, kind: str) -> dict[str, str]:
        """Value -> comment; empty for a set that is not there."""
        answer = requests.get(f"{self.base}/{name}/{kind}", headers=self.headers, timeout=5)
        if answer.status_code == 404:
            return {}
        return {r["value"]: r.get("comment") or "" for r in answer.json()["rrset"]["records"]}

    def ttl(self, name: str, kind: str) -> int | None:
        answer = requests.get(f"{self.base}/{name}/{kind}", headers=self.headers, timeout=5)
        return answer.json()["rrset"]["ttl"]  # type: ignore[no-any-return]


@pytest.fixture
def service(dns_world: World) -> Service:
    return Service(dns_world)


def zone(policy: str | None = "sync", **fields: Any) -> Pillar:
    return {"dns": {"zones": {"estate.test": {**({"policy": policy} if policy else {}), **fields}}}}


def applied(world: World, wish: Pillar, transaction: str, *allow: str) -> wiring.Target:
    target = world.target(wish, allow=allow)
    target.engine.apply(target.wish, transaction)
    assert not target.engine.plan(target.wish), "the second plan is empty"
    return target


def spf(*texts: str, **fields: Any) -> Pillar:
    return {"spf": {"TXT": list(texts), "shared": True, **fields}}


OURS = OWN.strip('"')


def test_our_values_come_beside_others_and_go_without_them(dns_world: World, service: Service) -> None:
    service.put("spf", "TXT", THEIRS, ttl=600)
    before = dns_world.everything()
    applied(dns_world, zone(records=spf(OURS, ttl=300)), "t1")
    assert service.values("spf", "TXT") == {THEIRS: "", OWN: MARK} and service.ttl("spf", "TXT") == 600
    shared = dns_world.everything()
    applied(dns_world, zone(records=spf("other")), "t2")
    assert service.values("spf", "TXT") == {THEIRS: "", '"other"': MARK}
    dns_world.target(zone()).engine.undo("t2")
    assert dns_world.everything() == shared
    gone = applied(dns_world, zone(), "t3")
    assert dns_world.everything() == before
    gone.engine.undo("t3")
    assert dns_world.everything() == shared
    gone.engine.undo("t1")
    assert dns_world.everything() == before


def test_a_set_that_nobody_else_uses_is_made_and_deleted_with_our_values(dns_world: World, service: Service) -> None:
    before = dns_world.everything()
    applied(dns_world, zone(records=spf(OURS, "more", ttl=300)), "t1")
    assert service.values("spf", "TXT") == {OWN: MARK, '"more"': MARK} and service.ttl("spf", "TXT") == 300
    there = dns_world.everything()
    gone = applied(dns_world, zone(), "t2")
    assert dns_world.everything() == before
    gone.engine.undo("t2")
    assert dns_world.everything() == there


@pytest.mark.parametrize("texts", [["b", "c"], ["a", "b"], ["b"]], ids=" ".join)
def test_a_set_that_was_wholly_ours_becomes_shared_without_a_gap(
    dns_world: World, service: Service, texts: list[str]
) -> None:
    applied(dns_world, zone(records={"spf": {"TXT": ["a", "b"], "ttl": 300}}), "t1")
    before = held(dns_world)
    target = applied(dns_world, zone(records=spf(*texts, ttl=600)), "t2")
    assert service.values("spf", "TXT") == {f'"{text}"': MARK for text in texts}
    assert service.ttl("spf", "TXT") == 600
    target.engine.undo("t2")
    assert held(dns_world) == before


def held(world: World) -> Any:
    """Everything; a comment that is empty is none."""
    rows = world.everything()
    return [{**row, "records": [(r["value"], r.get("comment") or "") for r in row["records"]]} for row in rows]


def test_what_somebody_adds_between_our_look_and_our_write_survives(
    dns_world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.put("spf", "TXT", THEIRS)
    applied(dns_world, zone(records=spf(OURS)), "t1")
    target = dns_world.target(zone(records=spf("new")))
    meanwhile(target, monkeypatch, lambda: service.add("spf", "TXT", '"late"'))
    target.engine.apply(target.wish, "t2")
    assert service.values("spf", "TXT") == {THEIRS: "", '"late"': "", '"new"': MARK}
    target.engine.undo("t2")
    assert service.values("spf", "TXT") == {THEIRS: "", '"late"': "", OWN: MARK}


def test_the_same_value_from_somebody_else_in_between_is_left_to_them(
    dns_world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.put("spf", "TXT", THEIRS)
    target = dns_world.target(zone(records=spf(OURS)))
    meanwhile(target, monkeypatch, lambda: service.add("spf", "TXT", OWN))
    with pytest.raises(ApplyFailed) as caught:
        target.engine.apply(target.wish, "t1")
    assert caught.value.undone
    assert service.values("spf", "TXT") == {THEIRS: "", OWN: ""}
    applied(dns_world, zone(records=spf(OURS)), "t2")
    applied(dns_world, zone(), "t3")
    assert service.values("spf", "TXT") == {THEIRS: "", OWN: ""}


def meanwhile(target: wiring.Target, monkeypatch: pytest.MonkeyPatch, event: Callable[[], None]) -> None:
    """Let something happen between the look and the first write."""
    write, events = target.backend.apply, [event]

    def late(*args: Any) -> None:
        while events:
            events.pop()()
        write(*args)

    monkeypatch.setattr(target.backend, "apply", late)


@pytest.mark.parametrize("policy", ["sync", "upsert-only", "create-only"])
def test_each_policy_and_its_undo(dns_world: World, service: Service, policy: str) -> None:
    applied(dns_world, zone(records={"gone": {"A": "192.0.2.1"}, "kept": {"A": "192.0.2.2"}}), "t1")
    before = dns_world.everything()
    target = applied(dns_world, zone(policy, records={"kept": {"A": "192.0.2.3"}, "new": {"A": "192.0.2.4"}}), "t2")
    assert bool(service.values("gone", "A")) is (policy != "sync")
    assert [*service.values("kept", "A")] == ["192.0.2.2" if policy == "create-only" else "192.0.2.3"]
    assert [*service.values("new", "A")] == ["192.0.2.4"]
    target.engine.undo("t2")
    assert dns_world.everything() == before


def test_a_zone_without_policy_is_only_looked_at(dns_world: World) -> None:
    applied(dns_world, zone(records={"gone": {"A": "192.0.2.1"}}), "t1")
    target = dns_world.target(zone(None))
    assert not target.engine.plan(target.wish)
    everything = dns_world.target(zone(None, take_over=True))
    assert not everything.engine.plan(everything.wish)


def test_a_zone_that_is_taken_over_and_given_back(dns_world: World, service: Service) -> None:
    service.put("_acme-challenge", "TXT", '"token"')
    service.put("_acme-challenge.www", "TXT", '"token"')
    service.put("k8s-a", "A", "192.0.2.9")
    service.put("old", "A", "192.0.2.1", labels={"team": "web"})
    before = dns_world.everything()
    wish = zone(take_over=True, ignore="k8s-*", records={"mail": {"A": "192.0.2.26"}})
    target = applied(dns_world, wish, "t1")
    names = {(row["name"], row["type"]) for row in dns_world.everything()}
    kept = {("@", "NS"), ("_acme-challenge", "TXT"), ("_acme-challenge.www", "TXT"), ("k8s-a", "A"), ("mail", "A")}
    assert names == kept
    assert [*service.values("mail", "A")] == ["192.0.2.26"], "no adoption needed"
    target.engine.undo("t1")
    assert dns_world.everything() == before


def test_somebody_s_challenge_is_theirs_whatever_else_is_adopted(dns_world: World, service: Service) -> None:
    service.put("_acme-challenge.a", "TXT", '"theirs"')
    service.put("b", "A", "192.0.2.1")
    wish = {
        **zone(take_over=True, records={"_acme-challenge.a": {"TXT": "ours"}}),
        "adopt": ["dns.rrset estate.test/b/A"],
    }
    target = dns_world.target(wish)
    with pytest.raises(Conflict, match=r"estate\.test/_acme-challenge\.a/TXT"):
        target.engine.apply(target.wish, "t1")
    shared = zone(records={"_acme-challenge.a": {"TXT": "ours", "shared": True}})
    applied(dns_world, shared, "t2")
    assert service.values("_acme-challenge.a", "TXT") == {'"theirs"': "", '"ours"': MARK}


def test_two_of_three_need_a_word_that_names_the_zone(dns_world: World) -> None:
    three = {name: {"A": "192.0.2.1"} for name in "abc"}
    applied(dns_world, zone(records=three), "t1")
    fewer = zone(records={"a": {"A": "192.0.2.1"}})
    target = dns_world.target(fewer)
    with pytest.raises(UnsafePlan, match=r"2 of 3 objects in estate\.test.*allow=deletes:estate\.test"):
        target.engine.apply(target.wish, "t2")
    own = dns_world.target(zone(percent=70, records={"a": {"A": "192.0.2.1"}}))
    assert not own.engine.plan(own.wish).unsafe, "the zone's own limits come first"
    applied(dns_world, fewer, "t3", "deletes:estate.test")
