"""Zones and rrsets at Hetzner, through its own client: what the API holds and what the name server answers."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import hcloud
import pytest
from conftest import switch_faults
from hcloud.zones import ZonePrimaryNameserver, ZoneRecord
from hecate import model, wiring
from hecate.errors import ApplyFailed, Conflict, NotFound, Refused

from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns, dns_running

ZONE = "estate.test"
Pillar = dict[str, Any]
H64 = "ab" * 32
DKIM = "v=DKIM1; k=rsa; p=" + "A" * 392


class Lab:
    """The emulator with its name server, the official client, and Hecate on it."""

    def __init__(self, app: HetznerDns, token: str, url: str, port: int, folder: Path) -> None:
        self.app, self.url, self.port, self.folder = app, url, port, folder
        self.client = hcloud.Client(token=token, api_endpoint=f"{url}/v1", poll_interval=0.01, poll_max_retries=50)
        self.count = 0

    @property
    def zone(self) -> Any:
        return self.client.zones.get(ZONE)

    def pillar(self, records: Pillar | None = None, zone: Pillar | None = None, **more: Any) -> Pillar:
        usual = {"policy": "sync", "records": records or {}, **(zone or {})}
        access = {"endpoint": f"{self.url}/v1", "token": "env:HETZNER_TOKEN"}
        return {"hetzner_dns": access, "dns": {"zones": {ZONE: usual}}, **more}

    def target(self, pillar: Pillar, allow: tuple[str, ...] = ("updates", "deletes", f"deletes:{ZONE}")) -> Any:
        estate = model.parse({"hecate": pillar})
        return wiring.target("hetzner_dns", estate, wiring.Place("edge", self.folder, allow=allow, sleep=_no_rest))

    def apply(self, pillar: Pillar) -> str:
        """Applies, and nothing is left to do; returns the transaction."""
        self.count += 1
        target = self.target(pillar)
        target.engine.apply(target.wish, f"t{self.count}")
        assert target.engine.plan(target.wish).changes == ()
        return f"t{self.count}"

    def undo(self, pillar: Pillar, transaction: str) -> None:
        self.target(pillar).engine.undo(transaction)

    def make(self, name: str, kind: str, *values: str, **more: Any) -> None:
        """By somebody else."""
        records = [ZoneRecord(value) for value in values]
        self.zone.create_rrset(name=name, type=kind, records=records, **more).action.wait_until_finished()

    def held(self, name: str, kind: str) -> Any:
        return self.app.state.rrsets[self.app.find(ZONE)["id"]][name, kind]

    def everything(self, zone: str = ZONE) -> dict[str, Any]:
        sets = self.app.state.rrsets[self.app.find(zone)["id"]]
        return {
            "/".join(key): {**row, "records": sorted(row["records"], key=str)}
            for key, row in sorted(sets.items())
            if key[1] != "SOA"
        }

    def answers(self, name: str, kind: str) -> tuple[int, set[dns.rdata.Rdata]]:
        """TTL and values as the name server has them."""
        answer = dns.query.tcp(dns.message.make_query(name, kind), "127.0.0.1", port=self.port, timeout=2)
        found = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.from_text(kind)]
        return (found[0].ttl, set(found[0])) if found else (0, set())

    def writes(self) -> int:
        return sum(call["write"] for call in self.app.calls)


def _no_rest(seconds: float) -> None:
    time.sleep(min(seconds, 0.02))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    token = secrets.token_hex(20)
    monkeypatch.setenv("HETZNER_TOKEN", token)
    app = HetznerDns(token, (ZONE,), action_seconds=0.02)
    with running(app) as url, dns_running(app.resolver()) as port:
        yield Lab(app, token, url, port, tmp_path)
        assert app.violations == [], "every call was as the official description wants it"


# every type: name, type, what the pillar says first and then, what the name server answers for each
TYPES: list[tuple[str, str, Any, Any, list[str], list[str]]] = [
    ("a", "A", ["192.0.2.1", "192.0.2.2"], "192.0.2.3", ["192.0.2.1", "192.0.2.2"], ["192.0.2.3"]),
    ("aaaa", "AAAA", "2001:DB8:0::1", "2001:db8::2", ["2001:db8::1"], ["2001:db8::2"]),
    (
        "caa",
        "CAA",
        "0 issue le.test",
        ["0 issue le.test", '0 issuewild ";"'],
        ['0 issue "le.test"'],
        ['0 issue "le.test"', '0 issuewild ";"'],
    ),
    ("cname", "CNAME", "App.Far.test", "bücher.test", ["app.far.test."], ["xn--bcher-kva.test."]),
    ("sub", "DS", f"1 13 2 {H64.upper()}", f"2 13 2 {H64}", [f"1 13 2 {H64}"], [f"2 13 2 {H64}"]),
    ("hinfo", "HINFO", "AMD64 Linux", '"two words" Linux', ['"AMD64" "Linux"'], ['"two words" "Linux"']),
    ("https", "HTTPS", "1 . alpn=h2,h3", "0 other.estate.test", ["1 . alpn=h2,h3"], ["0 other.estate.test."]),
    ("mx", "MX", "10 Mail.estate.test", "0 .", ["10 mail.estate.test."], ["0 ."]),
    (
        "sub",
        "NS",
        "ns1.far.test",
        ["ns1.far.test", "ns2.far.test"],
        ["ns1.far.test."],
        ["ns1.far.test.", "ns2.far.test."],
    ),
    ("ptr", "PTR", "app.far.test", "b.far.test.", ["app.far.test."], ["b.far.test."]),
    (
        "rp",
        "RP",
        "admin.far.test .",
        r"a\.b.far.test who.far.test",
        ["admin.far.test. ."],
        [r"a\.b.far.test. who.far.test."],
    ),
    (
        "_sip._tcp",
        "SRV",
        "0 5 5060 sip.far.test",
        "1 5 5060 sip.far.test",
        ["0 5 5060 sip.far.test."],
        ["1 5 5060 sip.far.test."],
    ),
    ("svcb", "SVCB", "1 svc.far.test port=8443", "2 svc.far.test", ["1 svc.far.test. port=8443"], ["2 svc.far.test."]),
    ("_443._tcp", "TLSA", f"3 1 1 {H64.upper()}", f"3 0 0 {H64 * 9}", [f"3 1 1 {H64}"], [f"3 0 0 {H64 * 9}"]),
    (
        "txt",
        "TXT",
        [DKIM, "grüße; # \\", 'a "b" c'],
        "short",
        [f'"{DKIM[:255]}" "{DKIM[255:]}"', '"grüße; # \\\\"', r'"a \"b\" c"'],
        ["short"],
    ),
    ("*.wild", "A", "192.0.2.4", "192.0.2.5", ["192.0.2.4"], ["192.0.2.5"]),
    ("xn--bcher-kva", "A", "192.0.2.6", "192.0.2.7", ["192.0.2.6"], ["192.0.2.7"]),
]


def records_of(which: int) -> Pillar:
    found: Pillar = {}
    for row in TYPES:
        found.setdefault(row[0], {})[row[1]] = row[which]
    found["bücher"] = found.pop("xn--bcher-kva")
    return found


def parsed(kind: str, values: list[str]) -> set[dns.rdata.Rdata]:
    return {dns.rdata.from_text(dns.rdataclass.IN, kind, value) for value in values}


def assert_answers(lab: Lab, which: int) -> None:
    for row in TYPES:
        name = f"{row[0].replace('*', 'any')}.{ZONE}"
        answer = dns.query.tcp(dns.message.make_query(name, row[1]), "127.0.0.1", port=lab.port, timeout=2)
        found = {item for rrset in (*answer.answer, *answer.authority) for item in rrset}
        assert found >= parsed(row[1], list(row[which])), (name, row[1])


def test_every_type_is_written_answered_changed_and_undone_to_the_letter(lab: Lab) -> None:
    untouched = lab.everything()
    first = lab.apply(lab.pillar(records_of(2)))
    assert_answers(lab, 4)
    before = lab.everything()
    assert len(before) == len(untouched) + len(TYPES)
    second = lab.apply(lab.pillar(records_of(3)))
    assert_answers(lab, 5)
    lab.undo(lab.pillar(records_of(3)), second)
    assert lab.everything() == before
    assert_answers(lab, 4)
    lab.undo(lab.pillar(records_of(2)), first)
    assert lab.everything() == untouched


# what somebody else wrote, in another spelling than Hecate's
FOREIGN = {
    ("v6", "AAAA"): (["2001:0DB8:0:0::1"], "2001:db8::1"),
    ("mx", "MX"): (["10 mail", "20 MX.far.test."], ["20 mx.far.test", "10 mail.estate.test"]),
    ("caa", "CAA"): (["0 ISSUE le.test"], '0 issue "le.test"'),
    ("alias", "CNAME"): (["app"], "app.estate.test"),
    ("tls", "TLSA"): ([f"3 1 1 {H64[:20].upper()} {H64[20:]}"], f"3 1 1 {H64}"),
    ("txt", "TXT"): (['"v=spf1 " "-all"'], "v=spf1 -all"),
    ("utf", "TXT"): ([r'"gr\195\188n"'], "grün"),
    ("web", "HTTPS"): (["1 . port=443 alpn=h2"], '1 . alpn="h2" port=443'),
    ("sip", "SRV"): (["0 5 5060 SIP"], "0 5 5060 sip.estate.test"),
}


def test_an_equal_value_in_another_spelling_is_no_difference(lab: Lab) -> None:
    labels = {"managed-by": "hecate", "hecate-environment": "production"}
    for (name, kind), (values, _) in FOREIGN.items():
        lab.make(name, kind, *values, labels=labels)
    before = lab.everything()
    pillar = lab.pillar({name: {kind: said} for (name, kind), (_, said) in FOREIGN.items()})
    target = lab.target(pillar)
    assert target.engine.plan(target.wish).changes == ()
    changed = lab.pillar({name: {kind: said, "ttl": 600} for (name, kind), (_, said) in FOREIGN.items()})
    lab.apply(changed)
    assert lab.held("mx", "MX")["records"] == [{"value": "10 mail"}, {"value": "20 MX.far.test."}], "as it was written"
    lab.undo(changed, "t1")
    assert lab.everything() == before


def test_another_value_beside_one_in_another_spelling_leaves_that_as_it_is(lab: Lab) -> None:
    lab.make("mx", "MX", "10 mail", labels={"managed-by": "hecate", "hecate-environment": "production"})
    lab.apply(lab.pillar({"mx": {"MX": ["10 mail.estate.test", "20 mx2.estate.test"]}}))
    assert {r["value"] for r in lab.held("mx", "MX")["records"]} == {"10 mail", "20 mx2.estate.test."}


def test_a_strangers_set_is_nobodys_but_its_labels_stay_when_it_is_adopted(lab: Lab) -> None:
    lab.make("app", "A", "192.0.2.1", labels={"team": "web"}, ttl=120)
    before = lab.everything()
    pillar = lab.pillar({"app": {"A": "192.0.2.2"}})
    with pytest.raises(Conflict, match="estate.test/app/A"):
        lab.apply(pillar)
    assert lab.everything() == before
    adopted = {**pillar, "adopt": [f"dns.rrset {ZONE}/app/A"]}
    done = lab.apply(adopted)
    assert lab.held("app", "A")["labels"] == {
        "team": "web", "managed-by": "hecate", "hecate-environment": "production",
    }  # fmt: skip
    gone = lab.apply(lab.pillar())
    lab.undo(pillar, gone)
    assert lab.held("app", "A")["labels"]["team"] == "web", "an undone deletion brings others' labels back"
    lab.undo(pillar, done)
    assert lab.everything() == before


def test_comments_come_change_and_go_with_the_pillar(lab: Lab) -> None:
    lab.apply(lab.pillar({"app": {"A": ["192.0.2.1", "192.0.2.2"], "comment": "web"}}))
    assert {r["comment"] for r in lab.held("app", "A")["records"]} == {"web"}
    before, calls = lab.everything(), lab.writes()
    changed = lab.apply(lab.pillar({"app": {"A": ["192.0.2.1", "192.0.2.2"], "comment": "new"}}))
    assert lab.writes() - calls == 1, "a comment alone is one call"
    assert {r["comment"] for r in lab.held("app", "A")["records"]} == {"new"}
    lab.undo(lab.pillar({"app": {"A": "192.0.2.1"}}), changed)
    assert lab.everything() == before
    lab.apply(lab.pillar({"app": {"A": ["192.0.2.1", "192.0.2.3"]}}))
    assert not any(r.get("comment") for r in lab.held("app", "A")["records"])


def test_a_changed_set_takes_at_most_two_calls_and_a_new_one_one(lab: Lab) -> None:
    for records, ttl, most in (
        ("192.0.2.1", 300, 1),
        ("192.0.2.2", 300, 1),
        ("192.0.2.2", 600, 1),
        ("192.0.2.3", 60, 2),
    ):
        calls = lab.writes()
        lab.apply(lab.pillar({"app": {"A": records, "ttl": ttl, "comment": "c"}}))
        assert lab.writes() - calls == most
        found, values = lab.answers(f"app.{ZONE}", "A")
        assert (found, values) == (ttl, parsed("A", [records]))


def guarded(address: str, ttl: int = 300) -> Pillar:
    return {"app": {"A": address, "ttl": ttl, "protected": True}, "free": {"A": address}}


def test_a_protected_set_is_opened_changed_and_closed_again(lab: Lab) -> None:
    first = lab.apply(lab.pillar(guarded("192.0.2.1")))
    assert lab.held("app", "A")["protection"] == {"change": True}
    before, calls = lab.everything(), lab.writes()
    second = lab.apply(lab.pillar(guarded("192.0.2.2", 600)))
    assert lab.writes() - calls == 5, "open, records, ttl, close; and the records of the free one"
    assert lab.held("app", "A")["protection"] == {"change": True}
    assert lab.answers(f"app.{ZONE}", "A") == (600, parsed("A", ["192.0.2.2"]))
    lab.undo(lab.pillar(), second)
    assert lab.everything() == before
    gone = lab.apply(lab.pillar())
    assert "app/A" not in lab.everything()
    lab.undo(lab.pillar(), gone)
    assert lab.everything() == before, "what was protected is so after the undo of its deletion"
    opened = lab.apply(lab.pillar({"app": {"A": "192.0.2.1", "ttl": 300}, "free": {"A": "192.0.2.1"}}))
    assert lab.held("app", "A")["protection"] == {"change": False}
    lab.undo(lab.pillar(), opened)
    lab.undo(lab.pillar(), first)
    assert set(lab.everything()) == {"@/NS"}


@pytest.mark.parametrize("skip", range(5))
@pytest.mark.parametrize("kind", ["status", "lost-answer", "action-error"])
def test_a_protected_set_is_as_before_whatever_step_fails(lab: Lab, kind: str, skip: int) -> None:
    lab.apply(lab.pillar(guarded("192.0.2.1")))
    before = lab.everything()
    switch_faults(lab.url, {"kind": kind, "status": 500, "method": "WRITE", "skip": skip, "times": 1})
    target = lab.target(lab.pillar(guarded("192.0.2.2", 600)))
    with pytest.raises(ApplyFailed) as caught:
        target.engine.apply(target.wish, "failing")
    assert caught.value.undone, caught.value
    assert lab.everything() == before


def test_a_missing_zone_is_made_filled_and_an_undo_takes_it_away(lab: Lab) -> None:
    new = {"second.test": {"policy": "sync", "create": True, "ttl": 600, "records": {"app": {"A": "192.0.2.1"}}}}
    pillar = {**lab.pillar(), "dns": {"zones": new}}
    done = lab.apply(pillar)
    assert lab.answers("app.second.test", "A") == (600, parsed("A", ["192.0.2.1"]))
    assert lab.app.find("second.test")["ttl"] == 600
    assert lab.app.find("second.test")["labels"]["managed-by"] == "hecate"
    lab.undo(pillar, done)
    assert lab.app.state.find_zone("second.test") is None


def test_a_zone_that_got_somebody_elses_records_outlives_the_undo(lab: Lab) -> None:
    new = {"second.test": {"policy": "sync", "create": True, "ttl": 600, "records": {"app": {"A": "192.0.2.1"}}}}
    pillar = {**lab.pillar(), "dns": {"zones": new}}
    done = lab.apply(pillar)
    zone = lab.client.zones.get("second.test")
    zone.create_rrset(name="theirs", type="A", records=[ZoneRecord("192.0.2.9")]).action.wait_until_finished()
    lab.undo(pillar, done)
    assert set(lab.everything("second.test")) == {"@/NS", "theirs/A"}
    assert (lab.app.find("second.test")["ttl"], lab.app.find("second.test")["labels"]) == (3600, {})
    lab.apply(pillar)
    assert lab.answers("app.second.test", "A")[1], "it is used again afterwards"
    assert {"theirs/A", "app/A"} < set(lab.everything("second.test"))


@pytest.mark.parametrize("forget", ["zone", "create"])
def test_a_zone_is_never_deleted_because_the_pillar_forgets_it(lab: Lab, forget: str) -> None:
    new = {"second.test": {"policy": "sync", "create": True}}
    lab.apply({**lab.pillar(), "dns": {"zones": new}})
    rest = {"second.test": {"policy": "sync"}} if forget == "create" else {}
    lab.apply({**lab.pillar(), "dns": {"zones": rest}})
    assert lab.app.find("second.test")


def test_a_protected_zone_that_is_there_is_used_and_stays_protected(lab: Lab) -> None:
    lab.zone.change_protection(delete=True).wait_until_finished()
    lab.apply(lab.pillar({"app": {"A": "192.0.2.1"}}, {"create": True}))
    assert lab.app.find(ZONE)["protection"] == {"delete": True} and lab.app.find(ZONE)["labels"] == {}


def test_a_missing_zone_that_nobody_wants_made_is_told(lab: Lab) -> None:
    target = lab.target({**lab.pillar(), "dns": {"zones": {"far.test": {"policy": "sync"}}}})
    with pytest.raises(NotFound, match=r"no zone far\.test here"):
        target.engine.plan(target.wish)


@pytest.mark.parametrize(("policy", "ttl"), [("sync", 900), ("upsert-only", 900), ("create-only", 3600)])
def test_the_default_ttl_of_a_zone_follows_where_the_policy_allows(lab: Lab, policy: str, ttl: int) -> None:
    lab.make("mail", "A", "192.0.2.25")
    strangers = lab.everything()
    done = lab.apply(lab.pillar(zone={"policy": policy, "ttl": 900}))
    assert lab.app.find(ZONE)["ttl"] == ttl
    assert lab.everything() == strangers
    lab.undo(lab.pillar(), done)
    assert lab.app.find(ZONE)["ttl"] == 3600


def test_a_secondary_zone_is_looked_at_and_never_written(lab: Lab) -> None:
    servers = [ZonePrimaryNameserver("192.0.2.53")]
    lab.client.zones.create(name="copy.test", mode="secondary", primary_nameservers=servers)
    zones: Pillar = {"copy.test": {"policy": "sync"}, ZONE: {"policy": "sync"}}
    lab.apply({**lab.pillar(), "dns": {"zones": zones}})
    wishes: list[Pillar] = [{"records": {"app": {"A": "192.0.2.1"}}}, {"ttl": 600}]
    for more in wishes:
        zones["copy.test"] = {"policy": "sync", **more}
        calls, target = lab.writes(), lab.target({**lab.pillar(), "dns": {"zones": zones}})
        with pytest.raises(Refused, match=r"copy\.test.*secondary"):
            target.engine.plan(target.wish)
        assert lab.writes() == calls


def test_routes_follow_the_edges(lab: Lab) -> None:
    tls = {"issuer": "internal"}
    routes = {
        "app.estate.test": {"upstreams": ["127.0.0.1:1"]},
        "*.dev.estate.test": {"upstreams": ["127.0.0.1:1"], "tls": tls},
        "quiet.estate.test": {"upstreams": ["127.0.0.1:1"], "dns": False},
    }

    def pillar(*addresses: str) -> Pillar:
        edges = {f"e{number}": {"address": address} for number, address in enumerate(addresses)}
        zones = {ZONE: {"policy": "sync"}}
        return {**lab.pillar(), "dns": {"routes": "edges", "zones": zones}, "edges": edges, "routes": routes}

    lab.apply(pillar("203.0.113.1", "2001:db8::1"))
    for name in ("app", "any.dev"):
        assert lab.answers(f"{name}.{ZONE}", "A")[1] == parsed("A", ["203.0.113.1"])
        assert lab.answers(f"{name}.{ZONE}", "AAAA")[1] == parsed("AAAA", ["2001:db8::1"])
    assert lab.answers(f"quiet.{ZONE}", "A") == (0, set())
    lab.apply(pillar("203.0.113.1", "203.0.113.2"))
    assert lab.answers(f"app.{ZONE}", "A")[1] == parsed("A", ["203.0.113.1", "203.0.113.2"])
    assert lab.answers(f"app.{ZONE}", "AAAA") == (0, set())
    lab.apply({**pillar("203.0.113.1"), "routes": {}})
    assert set(lab.everything()) == {"@/NS"}
