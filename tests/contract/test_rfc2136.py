"""Records by dynamic update on a real BIND: races, marks, refusals, and wires that break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hecate import model, wiring
from hecate.engine import Engine
from hecate.errors import (
    ApiFailure,
    ApplyFailed,
    Conflict,
    InvalidPillar,
    NotAuthorised,
    NotFound,
    SecretUnavailable,
    Stale,
    Unreachable,
)
from hecate.plan import Plan

from contract.bind import Bind, Wire

Records = dict[str, Any]
LONG = "l" * 63
DKIM = "v=DKIM1; k=rsa; p=" + "A1b2" * 150
# A name below, its records as of the pillar, and as the server then answers.
KINDS: list[tuple[str, Records, list[str]]] = [
    ("v4", {"A": ["192.0.2.2", "192.0.2.1"]}, ["A 192.0.2.1", "A 192.0.2.2"]),
    ("v6", {"AAAA": "2001:db8::1"}, ["AAAA 2001:db8::1"]),
    ("alias", {"CNAME": "v4.estate.test"}, ["CNAME v4.estate.test."]),
    (
        "post",
        {"MX": ["10 mail.estate.test.", "20 mail.other.test."]},
        ["MX 10 mail.estate.test.", "MX 20 mail.other.test."],
    ),
    ("dkim._domainkey", {"TXT": DKIM}, [f'TXT "{DKIM[:255]}" "{DKIM[255:510]}" "{DKIM[510:]}"']),
    ("umlaut", {"TXT": "Grüße \\ hier"}, ['TXT "Gr\\195\\188\\195\\159e \\\\ hier"']),
    ("_sip._tcp", {"SRV": "0 5 5060 v4.estate.test."}, ["SRV 0 5 5060 v4.estate.test."]),
    ("ca", {"CAA": '0 issue "letsencrypt.org"'}, ['CAA 0 issue "letsencrypt.org"']),
    ("below", {"NS": ["ns1.other.test.", "ns2.other.test."]}, ["NS ns1.other.test.", "NS ns2.other.test."]),
    ("_443._tcp", {"TLSA": "3 1 1 " + "ab" * 32}, ["TLSA 3 1 1 " + "ab" * 32]),
    ("10", {"PTR": "v4.estate.test."}, ["PTR v4.estate.test."]),
    ("machine", {"HINFO": '"AMD64" "Linux"'}, ['HINFO "AMD64" "Linux"']),
    ("who", {"RP": "admin.estate.test. umlaut.estate.test."}, ["RP admin.estate.test. umlaut.estate.test."]),
    ("web", {"HTTPS": "1 . alpn=h2"}, ['HTTPS 1 . alpn="h2"']),
    ("_svc", {"SVCB": "1 v4.estate.test. port=8443"}, ['SVCB 1 v4.estate.test. port="8443"']),
    ("*", {"A": "192.0.2.9"}, ["A 192.0.2.9"]),
    (f"{LONG}.deep", {"A": "192.0.2.10"}, ["A 192.0.2.10"]),
    ("@", {"TXT": "v=spf1 -all"}, ['TXT "v=spf1 -all"']),
]


class Room:
    """A minion that manages zones of one server."""

    def __init__(self, bind: Bind, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.bind, self.folder, self.patch = bind, folder, patch
        self.port, self.key, self.secret, self.timeout = bind.port, "hecate", bind.secret, 5

    def target(
        self, records: Records, *, zone: str = "estate.test", environment: str = "production", **more: Any
    ) -> wiring.Target:
        self.patch.setenv("TSIG_KEY", self.secret)
        server = {
            "server": f"127.0.0.1:{self.port}",
            "key": self.key,
            "secret": "env:TSIG_KEY",
            "timeout": self.timeout,
        }
        zones = {zone: {"policy": "sync", "records": records, **more.pop("zone_settings", {})}}
        dns = {"provider": "inside", "default_ttl": 300, "zones": zones}
        pillar = {"environment": environment, "rfc2136": {"inside": server}, "dns": dns, **more}
        place = wiring.Place(environment, self.folder / environment, allow=("deletes",), sleep=lambda _: None)
        return wiring.target("rfc2136", model.parse({"hecate": pillar}), place)

    def apply(self, records: Records, transaction: str = "t1", **more: Any) -> Plan:
        target = self.target(records, **more)
        return target.engine.apply(target.wish, transaction).plan

    def plan(self, records: Records, **more: Any) -> Plan:
        target = self.target(records, **more)
        return target.engine.plan(target.wish)


@pytest.fixture
def room(bind: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(bind, tmp_path, monkeypatch)


def test_every_type_arrives_as_wished_and_goes_again_without_a_trace(room: Room, bind: Bind) -> None:
    before = bind.rrsets()
    records = {name: values for name, values, _ in KINDS}
    room.apply(records)
    there = bind.rrsets()
    for name, _, expected in KINDS:
        full = "estate.test." if name == "@" else f"{name}.estate.test."
        assert {f"{full} 300 {line}" for line in expected} <= set(there), name
    assert not room.plan(records)
    room.target(records).engine.undo("t1")
    assert bind.rrsets() == before


def test_a_mark_stands_beside_each_set_and_is_no_record_of_its_own(room: Room, bind: Bind) -> None:
    room.apply({"app": {"A": "192.0.2.1"}, "@": {"TXT": "hello"}})
    text = '3600 TXT "heritage=hecate,environment=production"'
    marks = [row for row in bind.rrsets() if "_hecate-" in row]
    assert marks == [f"_hecate-a.app.estate.test. {text}", f"_hecate-txt.estate.test. {text}"]
    held = room.target({}).backend.observe(()).owned
    assert sorted(held) == ["dns.rrset estate.test/@/TXT", "dns.rrset estate.test/app/A"]
    room.apply({"@": {"TXT": "hello"}}, "t2")
    assert [row for row in bind.rrsets() if "_hecate-" in row] == marks[1:]


def test_two_environments_share_a_zone_and_each_keeps_its_own(room: Room, bind: Bind) -> None:
    room.apply({"app": {"A": "192.0.2.1"}})
    room.apply({"beta": {"A": "192.0.2.2"}}, environment="staging")
    assert not room.plan({"app": {"A": "192.0.2.1"}})
    with pytest.raises(Conflict, match="estate.test/app/A"):
        room.apply({"app": {"A": "192.0.2.3"}}, "t2", environment="staging")
    room.apply({}, "t3", environment="staging")
    assert "app.estate.test. 300 A 192.0.2.1" in bind.rrsets()
    assert not [row for row in bind.rrsets() if "beta" in row]


def test_what_was_adopted_is_given_back_to_the_letter(room: Room, bind: Bind) -> None:
    bind.update("add app 77 A 192.0.2.7", "add app 77 A 192.0.2.8")
    before = bind.rrsets()
    with pytest.raises(Conflict):
        room.apply({"app": {"A": "192.0.2.1"}})
    target = room.target({"app": {"A": "192.0.2.1"}}, adopt=["dns.rrset estate.test/app/A"])
    target.engine.apply(target.wish, "t1")
    assert "app.estate.test. 300 A 192.0.2.1" in bind.rrsets()
    assert not [row for row in bind.rrsets() if "192.0.2.7" in row]
    target.engine.undo("t1")
    assert bind.rrsets() == before


@pytest.mark.parametrize(
    "other",
    [
        ("delete app A", "add app 300 A 192.0.2.66"),
        ("add app 300 A 192.0.2.66",),
        ("delete app A",),
        ("delete _hecate-a.app TXT",),
        ("add new 300 A 192.0.2.66",),
        ("add new 300 CNAME elsewhere.test.",),
    ],
    ids=lambda other: other[-1],
)
def test_a_lost_race_is_refused_and_overwrites_nothing(room: Room, bind: Bind, other: tuple[str, ...]) -> None:
    room.apply({"app": {"A": "192.0.2.1"}})
    target = room.target({"app": {"A": "192.0.2.2"}, "new": {"A": "192.0.2.3"}, "third": {"A": "192.0.2.4"}})
    plan = target.engine.plan(target.wish)
    snapshot = target.backend.observe(target.desired)
    bind.update(*other)
    meanwhile = bind.rrsets()
    with pytest.raises(Stale):
        target.backend.apply(plan.changes, snapshot)
    assert bind.rrsets() == meanwhile, "all of a message or nothing"


def test_a_name_changes_between_cname_and_address_and_back(room: Room, bind: Bind) -> None:
    cname, address = {"app": {"CNAME": "mail.estate.test"}}, {"app": {"A": "192.0.2.1", "TXT": "here"}}
    room.apply(cname)
    before = bind.rrsets()
    target = room.target(address)
    target.engine.apply(target.wish, "t2")
    assert not [row for row in bind.rrsets() if "CNAME" in row]
    target.engine.undo("t2")
    assert bind.rrsets() == before


def test_a_cname_of_somebody_else_is_told_and_not_written_beside(room: Room, bind: Bind) -> None:
    bind.update("add app 300 CNAME elsewhere.test.")
    before = bind.rrsets()
    with pytest.raises(ApplyFailed, match="a CNAME has nothing beside it") as caught:
        room.apply({"app": {"A": "192.0.2.1"}})
    assert caught.value.undone
    assert bind.rrsets() == before


def test_a_strangers_text_where_a_mark_has_to_stand_is_told_and_kept(room: Room, bind: Bind) -> None:
    bind.update("add _hecate-a.app 60 TXT mine")
    before = bind.rrsets()
    with pytest.raises(ApplyFailed, match="not Hecate's mark"):
        room.apply({"app": {"A": "192.0.2.1"}})
    assert bind.rrsets() == before


def test_values_of_a_shared_set_come_and_go_alone(room: Room, bind: Bind) -> None:
    bind.update('add @ 120 TXT "somebody"')
    before = bind.rrsets()
    shared = {"@": {"TXT": ["one", "two"], "shared": True}}
    room.apply(shared)
    texts = {row for row in bind.rrsets() if row.startswith("estate.test. ") and " TXT " in row}
    assert texts == {f'estate.test. 120 TXT "{text}"' for text in ("somebody", "one", "two")}
    assert not room.plan(shared)
    bind.update('add @ 120 TXT "another"')
    room.target(shared).engine.undo("t1")
    bind.update('delete @ TXT "another"')
    assert bind.rrsets() == before


def test_what_the_server_itself_keeps_is_left_alone(room: Room, bind: Bind) -> None:
    """A signed zone that is wholly Hecate's: signatures, keys and the zone's own NS stay."""
    own = ("DNSKEY", "NSEC", "CDS", "CDNSKEY", "TYPE65534", "NS")

    def kept() -> list[str]:
        return [
            row for row in bind.rrsets("signed.test") if row.split(" ")[2] in own and row.startswith("signed.test.")
        ]

    before = [row for row in kept() if " NSEC " not in row]
    assert any(" DNSKEY " in row for row in before), "the zone is signed"
    settings = {"take_over": True}
    records = {"app": {"A": "192.0.2.1"}, "@": {"MX": "10 mail.signed.test."}, "mail": {"A": "192.0.2.25"}}
    plan = room.plan(records, zone="signed.test", zone_settings=settings)
    touched = {change.subject.key.rpartition("/")[2] for change in plan.changes}
    assert not touched & {*own, "RRSIG", "SOA"}
    room.apply({"app": {"A": "192.0.2.1"}}, zone="signed.test")
    assert [row for row in kept() if " NSEC " not in row] == before
    room.target({}, zone="signed.test").engine.undo("t1")


def test_a_key_that_the_server_does_not_know_is_told_and_never_shown(room: Room, bind: Bind) -> None:
    before = bind.rrsets()
    room.secret = bind.other
    with pytest.raises(NotAuthorised, match="name, secret and algorithm") as caught:
        room.plan({"app": {"A": "192.0.2.1"}})
    assert bind.other not in str(caught.value)
    room.key = "no-such-key"
    with pytest.raises(NotAuthorised, match="name, secret and algorithm"):
        room.plan({"app": {"A": "192.0.2.1"}})
    assert bind.rrsets() == before


def test_a_secret_that_is_not_base64_is_told_without_it(room: Room) -> None:
    room.secret = "not!base64"
    with pytest.raises(SecretUnavailable, match="not base64") as caught:
        room.plan({})
    assert "not!base64" not in str(caught.value)


def test_a_key_that_may_not_read_sees_an_error_and_no_empty_zone(room: Room, bind: Bind) -> None:
    room.apply({"app": {"A": "192.0.2.1"}})
    room.key, room.secret = "nobody", bind.other
    with pytest.raises(NotAuthorised, match="allow-transfer"):
        room.plan({})


def test_a_key_that_may_only_read_can_plan_and_not_write(room: Room, bind: Bind) -> None:
    before = bind.rrsets()
    room.key, room.secret = "looker", bind.other
    assert room.plan({"app": {"A": "192.0.2.1"}})
    with pytest.raises(ApplyFailed, match="update-policy") as caught:
        room.apply({"app": {"A": "192.0.2.1"}})
    assert isinstance(caught.value.cause, NotAuthorised)
    assert bind.rrsets() == before


def test_a_zone_that_the_server_has_not_is_told(room: Room) -> None:
    with pytest.raises((NotFound, NotAuthorised), match="nowhere.test"):
        room.plan({"app": {"A": "192.0.2.1"}}, zone="nowhere.test")


@pytest.mark.parametrize("octets", [0, 1, 20, 100, 200])
def test_half_a_transfer_is_an_error_and_never_an_empty_zone(room: Room, bind: Bind, wire: Wire, octets: int) -> None:
    room.apply({"app": {"A": "192.0.2.1"}})
    before = bind.rrsets()
    room.port, wire.cut = wire.port, octets
    with pytest.raises(ApiFailure):
        room.apply({}, "t2")
    assert wire.transfers == 3, "a read is tried again, twice"
    assert bind.rrsets() == before


def test_a_server_that_is_not_there_is_told(room: Room, wire: Wire) -> None:
    wire.stop()
    room.port = wire.port
    with pytest.raises(Unreachable):
        room.plan({})


def test_a_write_whose_answer_was_lost_is_looked_for_and_not_sent_again(room: Room, bind: Bind, wire: Wire) -> None:
    room.port, wire.loses = wire.port, 1
    room.apply({"app": {"A": "192.0.2.1"}, "@": {"TXT": ["one"], "shared": True}})
    assert wire.updates == 1
    assert "app.estate.test. 300 A 192.0.2.1" in bind.rrsets()
    assert not room.plan({"app": {"A": "192.0.2.1"}, "@": {"TXT": ["one"], "shared": True}})


def test_a_write_that_never_arrived_fails_and_leaves_everything(room: Room, bind: Bind, wire: Wire) -> None:
    before = bind.rrsets()
    room.port, wire.drops = wire.port, 1
    with pytest.raises(ApplyFailed) as caught:
        room.apply({"app": {"A": "192.0.2.1"}})
    assert caught.value.undone and wire.updates == 1
    assert bind.rrsets() == before


def test_a_thousand_sets_are_a_few_messages_and_all_arrive(room: Room, bind: Bind, wire: Wire) -> None:
    before = bind.rrsets()
    room.port = wire.port
    records = {f"h{n:04d}": {"A": f"10.0.{n >> 8}.{n & 255}"} for n in range(1000)}
    room.apply(records)
    assert len(bind.rrsets()) == len(before) + 2000
    assert wire.updates < 15
    room.target({}).engine.undo("t1")
    assert bind.rrsets() == before


def test_a_zone_of_another_provider_is_not_this_ones_business(room: Room, bind: Bind) -> None:
    zones = {
        "estate.test": {"policy": "sync", "records": {"app": {"A": "192.0.2.1"}}},
        "hetzners.test": {"policy": "sync", "provider": "hetzner", "records": {"app": {"A": "192.0.2.1"}}},
    }
    base = room.target({}).estate
    estate = base.model_copy(
        update={"dns": model.Estate.model_validate({"dns": {"provider": "inside", "zones": zones}}).dns}
    )
    target = wiring.target("rfc2136", estate, wiring.Place("x", room.folder))
    assert [r.key for r in target.desired] == ["estate.test/app/A"]
    assert len(target.engine.plan(target.wish).changes) == 1


def test_what_is_no_record_is_refused_in_the_words_of_the_pillar(room: Room) -> None:
    with pytest.raises(InvalidPillar, match="hecate:dns:zones:estate.test:records:app"):
        room.plan({"app": {"SRV": "not a service"}})


def test_a_name_too_long_to_be_marked_is_told_before_anything_is_sent(room: Room, bind: Bind) -> None:
    before = bind.rrsets()
    name = ".".join([LONG, LONG, LONG, "l" * 49])
    with pytest.raises(ApplyFailed, match="too long a name"):
        room.apply({name: {"A": "192.0.2.1"}})
    assert bind.rrsets() == before


def test_the_secret_is_in_no_plan_and_no_journal(room: Room, bind: Bind) -> None:
    target = room.target({"app": {"A": "192.0.2.1"}})
    text = str(target.engine.plan(target.wish))
    target.engine.apply(target.wish, "t1", shared=True)
    kept = [path.read_text() for path in room.folder.rglob("*") if path.is_file()]
    assert kept
    assert not [t for t in [text, *kept] if bind.secret in t]


def test_the_undo_finds_the_server_of_a_zone_that_pillar_no_longer_tells(room: Room, bind: Bind) -> None:
    before = bind.rrsets()
    target = room.target({"app": {"A": "192.0.2.1"}})
    target.engine.apply(target.wish, "t1", shared=True)
    bare = target.estate.model_copy(update={"dns": model.Estate().dns})
    two = bare.model_copy(
        update={
            "rfc2136": {
                **bare.rfc2136,
                "away": bare.rfc2136["inside"].model_copy(update={"key": "nobody", "secret": "env:OTHER_KEY"}),
            }
        }
    )
    room.patch.setenv("OTHER_KEY", bind.other)
    engine: Engine = wiring.access("rfc2136", two, wiring.Place("production", room.folder / "production")).engine
    engine.undo("t1")
    assert bind.rrsets() == before


def test_a_key_name_that_no_server_can_have_is_refused(room: Room) -> None:
    room.key = "my key; }"
    with pytest.raises(InvalidPillar, match="hecate:rfc2136:inside:key.*not the name of a TSIG key"):
        room.plan({})
