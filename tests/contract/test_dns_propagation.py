"""After an apply the name servers answer as planned, or it is said who does not; caches are told of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hecate import wiring
from hecate.backends.dns_propagation import Question, Server, questions, wait
from hecate.clients import nameserver
from hecate.errors import ApplyFailed, NotPropagated, Unreachable
from hecate.report import plan_text
from hecate.resource import Change, Resource
from hecate.zones import World

from .dns_lab import ZONE, DnsLab, dns_lab

FIRST = {
    "www": {"A": ["192.0.2.1", "192.0.2.2"], "ttl": 120},
    "text": {"TXT": "a b; c", "MX": f"10 www.{ZONE}."},
    "alias": {"CNAME": f"www.{ZONE}"},
    "*.wild": {"A": "192.0.2.7"},
    "one.wild": {"A": "192.0.2.8"},
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsLab]:
    with dns_lab(tmp_path, monkeypatch) as made:
        yield made


def apply(lab: DnsLab, transaction: str, records: dict[str, object], **hecate: object) -> str:
    """The text of what was done."""
    target = lab.target(records, **hecate)
    return plan_text(target.engine.apply(target.wish, transaction).plan)


def frozen(lab: DnsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API carries changes out, and they never reach the name server."""
    monkeypatch.setattr(lab.emulator.state, "_publish", lambda entry: None)


def test_the_name_server_answers_everything_as_planned_and_is_asked_no_further(lab: DnsLab) -> None:
    apply(lab, "t1", FIRST)
    apply(lab, "t2", {"www": {"CNAME": f"one.wild.{ZONE}"}, "*.wild": {"A": "192.0.2.7"}})
    seen = {kind: nameserver.ask(lab.nameserver, f"www.{ZONE}.", kind).values for kind in ("A", "CNAME")}
    assert seen == {"A": (), "CNAME": (f"one.wild.{ZONE}.",)}
    assert nameserver.ask(lab.nameserver, f"one.wild.{ZONE}.", "A").values == ("192.0.2.7",), "the wildcard's"


def test_a_server_that_still_answers_the_old_is_named_and_the_apply_undone(
    lab: DnsLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(lab, "t1", FIRST)
    before = lab.held()
    frozen(lab, monkeypatch)
    short = {"dns": {"propagation": {"timeout": "200ms"}}}
    with pytest.raises(ApplyFailed) as caught:
        apply(lab, "t2", {**FIRST, "www": {"A": "192.0.2.9", "ttl": 120}, "new": {"A": "192.0.2.4"}}, **short)
    cause = caught.value.cause
    assert isinstance(cause, NotPropagated) and caught.value.undone and lab.held() == before
    assert set(cause.late) == {
        (lab.nameserver, f"www.{ZONE} A", "192.0.2.1, 192.0.2.2 (ttl 120)"),
        (lab.nameserver, f"new.{ZONE} A", "NXDOMAIN"),
    }
    assert f"{lab.nameserver} answers www.{ZONE} A with 192.0.2.1, 192.0.2.2 (ttl 120)" in str(cause)


def test_a_ttl_or_a_deletion_that_does_not_arrive_is_seen(lab: DnsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    apply(lab, "t1", FIRST)
    frozen(lab, monkeypatch)
    short = {"dns": {"propagation": {"timeout": "100ms"}}}
    changed = {**FIRST, "www": {**FIRST["www"], "ttl": 240}}
    changed.pop("alias")
    with pytest.raises(ApplyFailed) as caught:
        apply(lab, "t2", changed, **short)
    assert isinstance(caught.value.cause, NotPropagated)
    assert {question for _, question, _ in caught.value.cause.late} == {f"www.{ZONE} A", f"alias.{ZONE} CNAME"}


def test_nobody_is_asked_where_pillar_says_so(lab: DnsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen(lab, monkeypatch)
    apply(lab, "t1", FIRST, dns={"propagation": {"timeout": "0s"}})
    assert nameserver.ask(lab.nameserver, f"www.{ZONE}.", "A").rcode == "NXDOMAIN"


def test_a_named_server_that_is_silent_fails_and_a_found_one_is_only_told_of() -> None:
    def silent(server: str, name: str, kind: str) -> nameserver.Answer:
        raise Unreachable("nameserver", "no answer")

    asked = [Question(ZONE, f"www.{ZONE}.", "A", frozenset({"192.0.2.1"}))]
    found = Server("192.0.2.53:53", "ns.example.test.")
    clock = iter(range(100))
    told = wait(asked, {ZONE: [found]}, silent, 60, lambda _: None, lambda: next(clock))
    assert told == [
        "ns.example.test (192.0.2.53:53) did not answer, so it was not seen whether the change has arrived there"
    ]
    assert next(clock) < 10, "it is not waited for until the end"
    with pytest.raises(NotPropagated, match="192.0.2.53:53 answers www.estate.test A with nothing"):
        wait(asked, {ZONE: [Server("192.0.2.53:53", given=True)]}, silent, 5, lambda _: None, lambda: next(clock))


def test_only_servers_that_the_zone_is_delegated_to_are_asked() -> None:
    out_there = {"ns1.here.test.": ("192.0.2.53:53",), "ns.elsewhere.test.": ("192.0.2.54:53",)}
    world = World({}, lambda zone: out_there, nameserver.ask, 60)
    assert [s.address for s in world.servers(ZONE, ["NS1.here.test."])] == ["192.0.2.53:53"]
    assert world.servers(ZONE, ["ns.nobody.test."]) == [], "a zone that is still elsewhere is not waited for"
    given = World({ZONE: ["127.0.0.1:5353"]}, lambda zone: out_there, nameserver.ask, 60)
    assert [(s.address, s.given) for s in given.servers(ZONE, [])] == [("127.0.0.1:5353", True)]


def test_what_cannot_be_seen_from_outside_is_not_asked_for() -> None:
    def rrset(key: str, **more: object) -> Resource:
        return Resource("dns.rrset", f"{ZONE}/{key}", {"records": ["192.0.2.1"], "ttl": None, **more})

    changes = [
        Change(rrset("a.wild/A"), None),
        Change(rrset("part/A", shared=True), None),
        Change(Resource("dns.zone", ZONE, {}), None),
        Change(rrset("gone/A"), None),
    ]
    assert [str(q) for q in questions(changes, [f"{ZONE}/*.wild/A"])] == [f"gone.{ZONE} A"]
    below = nameserver.Answer((), None, "NOERROR", referral=True)
    assert Question(ZONE, f"x.{ZONE}.", "A", frozenset({"192.0.2.1"})).met(below)
    others = nameserver.Answer(("192.0.2.1", "192.0.2.2"), 60, "NOERROR")
    part = Question(ZONE, f"x.{ZONE}.", "A", frozenset({"192.0.2.1"}), None, whole=False)
    assert part.met(others) and not Question(ZONE, f"x.{ZONE}.", "A", frozenset({"192.0.2.1"})).met(others)
    assert not part.met(nameserver.Answer((), None, "REFUSED"))


def test_it_is_told_until_when_caches_may_answer_the_old(lab: DnsLab) -> None:
    assert "caches" not in apply(lab, "t1", FIRST), "nobody can have cached what was not there"
    records = {**FIRST, "www": {"A": "192.0.2.9", "ttl": 120}}
    records.pop("alias")
    target = lab.target(records)
    assert f"for up to 300 s after the apply ({ZONE}/alias/CNAME)" in plan_text(target.engine.plan(target.wish))
    done = apply(lab, "t2", records)
    until = done.partition("old values until ")[2][:19]
    there = time.mktime(time.strptime(until, "%Y-%m-%d %H:%M:%S")) - time.timezone
    assert 200 < there - time.time() <= 301


def test_serials_are_read_without_an_api_call_and_tell_which_zone_moved(lab: DnsLab) -> None:
    target = lab.target(FIRST)
    world = wiring.name_servers(target.estate, lab.place)
    assert wiring.zones_moved(lab.place, world.serials([ZONE]))[ZONE]["told"] == "no apply has remembered a serial"
    target.engine.apply(target.wish, "t1")
    lab.emulator.calls.clear()
    assert wiring.zones_moved(lab.place, world.serials([ZONE])) == {}
    assert lab.emulator.calls == []
    lab.stranger("other", "A", "192.0.2.77")
    until = time.monotonic() + 5
    while not (found := wiring.zones_moved(lab.place, world.serials([ZONE]))):
        assert time.monotonic() < until
        lab.emulator.state.settle(time.time())
    assert found[ZONE]["told"] == "changed since" and found[ZONE]["now"] > found[ZONE]["applied"]
    assert wiring.zones_moved(lab.place, {ZONE: None})[ZONE]["told"] == "no name server answers"


def test_a_server_that_is_not_there_is_unreachable_and_one_without_the_zone_refuses(lab: DnsLab) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        nameserver.ask("127.0.0.1:1", "www.estate.test.", "A", 0.2)
    assert nameserver.ask(lab.nameserver, "www.other.test.", "A").rcode == "REFUSED"
