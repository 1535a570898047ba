"""Records as a pillar may write them: one spelling a value, and a refusal that says what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from hecate import rdata
from hecate.compile.dns import compile_dns
from hecate.model import parse, problems_in

ZONE = "estate.test"
Pillar = dict[str, Any]


def pillar(records: Pillar | None = None, **more: Any) -> Pillar:
    zone = {"policy": "sync", "records": {"x": records} if records else {}}
    body = {"hetzner_dns": {"token": "env:T"}, "dns": {"zones": {ZONE: zone}}, **more}
    return {"hecate": body}


def route(host: str, **more: Any) -> Pillar:
    return {host: {"upstreams": ["127.0.0.1:1"], **more}}


def compiled(given: Pillar) -> dict[str, list[str]]:
    return {r.key: r.spec["records"] for r in compile_dns(parse(given)) if r.kind == "dns.rrset"}


DKIM = "v=DKIM1; k=rsa; p=" + "A" * 392
H64 = "ab" * 32

# type, what stands in the pillar, what Hecate writes, how else the API may give it back
SPELLINGS: list[tuple[str, str, str, list[str]]] = [
    ("A", "192.0.2.1", "192.0.2.1", []),
    ("AAAA", "2001:DB8:0:0::0010", "2001:db8::10", ["2001:0db8::10", "2001:DB8::10"]),
    ("CAA", "0 issue letsencrypt.org", '0 issue "letsencrypt.org"', ["0 ISSUE letsencrypt.org"]),
    ("CAA", '0 issue ";"', '0 issue ";"', []),
    ("CAA", "128 iodef mailto:a@estate.test", '128 iodef "mailto:a@estate.test"', []),
    ("CNAME", "App.Example.TEST", "app.example.test.", ["APP.example.test."]),
    ("CNAME", "app.estate.test.", "app.estate.test.", ["app"]),
    ("CNAME", "k1._domainkey.mail.test", "k1._domainkey.mail.test.", []),
    ("DS", f"12345 13 2 {H64.upper()}", f"12345 13 2 {H64}", [f"12345 13 2 {H64[:30]} {H64[30:]}"]),
    ("HINFO", "AMD64 Linux", '"AMD64" "Linux"', ['AMD64 "Linux"']),
    ("HINFO", '"two words" Linux', '"two words" "Linux"', []),
    ("HTTPS", "1 . alpn=h2,h3 port=443", '1 . alpn="h2,h3" port="443"', ['1 . port=443 alpn="h2,h3"']),
    ("HTTPS", "0 Other.Estate.test", "0 other.estate.test.", ["0 other"]),
    ("MX", "10  mail.estate.test", "10 mail.estate.test.", ["10 mail", "10 Mail.Estate.Test."]),
    ("MX", "0 .", "0 .", []),
    ("NS", "ns1.other.test", "ns1.other.test.", ["NS1.other.test."]),
    ("PTR", "bücher.test", "xn--bcher-kva.test.", ["XN--BCHER-KVA.test."]),
    ("RP", "admin.estate.test .", "admin.estate.test. .", ["admin ."]),
    ("RP", r"john\.doe.estate.test who.estate.test", r"john\.doe.estate.test. who.estate.test.", [r"john\.doe who"]),
    ("SRV", "0 5 5060 sip.estate.test", "0 5 5060 sip.estate.test.", ["00 5 5060 SIP"]),
    ("SVCB", "1 svc.estate.test port=8443", '1 svc.estate.test. port="8443"', ["1 svc port=8443"]),
    ("TLSA", f"3 1 1 {H64.upper()}", f"3 1 1 {H64}", [f"3 1 1 {H64[:8]} {H64[8:]}"]),
    ("TLSA", f"3 0 0 {'AB' * 300}", f"3 0 0 {'ab' * 300}", []),
    ("TXT", "v=spf1 -all", '"v=spf1 -all"', ['"v=spf1" " -all"']),
    ("TXT", DKIM, f'"{DKIM[:255]}" "{DKIM[255:]}"', [f'"{DKIM[:100]}" "{DKIM[100:300]}" "{DKIM[300:]}"']),
    ("TXT", r"back\slash", r'"back\\slash"', [r'"back\092slash"']),
    ("TXT", 'say "hi" to', r'"say \"hi\" to"', [r'"say \034hi\034 to"']),
    ("TXT", "grüße", '"grüße"', [r'"gr\195\188\195\159e"']),
    ("TXT", "; # not a comment", '"; # not a comment"', []),
    ("TXT", "", '""', []),
]


@pytest.mark.parametrize(("kind", "written", "canonical", "others"), SPELLINGS)
def test_a_value_has_one_spelling(kind: str, written: str, canonical: str, others: list[str]) -> None:
    assert compiled(pillar({kind: written})) == {f"{ZONE}/x/{kind}": [canonical]}
    assert rdata.canonical(kind, canonical, ZONE) == canonical, "what is written is canonical itself"
    for other in others:
        assert rdata.canonical(kind, other, ZONE) == canonical
        assert rdata.respelled(kind, [canonical], [other], ZONE) == {canonical: other}


def test_every_type_of_the_api_is_in_the_table() -> None:
    from hecate.model.records import KINDS

    assert {kind for kind, *_ in SPELLINGS} == set(KINDS) == {kind for kind, *_ in REFUSED}


def test_a_split_is_never_inside_a_character() -> None:
    text = "a" * 254 + "ü" * 300
    chunks = rdata.quoted(text.encode()).strip('"').split('" "')
    assert "".join(chunks) == text and all(len(chunk.encode()) <= 255 for chunk in chunks)


def test_octets_that_are_no_text_survive() -> None:
    assert rdata.canonical("TXT", r'"\255\000ok"') == r'"\255\000ok"'


REFUSED: list[tuple[str, Any, str]] = [
    ("A", "2001:db8::1", "not an IPv4 address; right is for example 203.0.113.10"),
    ("A", "192.0.2.256", "not an IPv4 address"),
    ("A", "192.0.2.01", "not an IPv4 address"),
    ("AAAA", "192.0.2.1", "not an IPv6 address; right is for example 2001:db8::10"),
    ("AAAA", "fe80::1%eth0", "no zone behind %"),
    ("CAA", "0 isue letsencrypt.org", "tag is one of issue, issuewild"),
    ("CAA", "1 issue letsencrypt.org", "flags are 0, or 128"),
    ("CAA", "letsencrypt.org", "has 3 parts: flags, tag, value"),
    ("CAA", "0 iodef admin@estate.test", "mailto: or https:"),
    ("CAA", "0 issue https://letsencrypt.org", "named by its domain"),
    ("CNAME", "app", "written in full, like app.example.com"),
    ("CNAME", "192.0.2.1", "a name belongs here, and 192.0.2.1 is an address"),
    ("CNAME", "a..test", "is no domain name"),
    ("DS", "1 13 2 abcd", "of that type has 64 hex digits, and not 4"),
    ("DS", f"1 13 9 {H64}", "digest type is 1 (SHA-1), 2"),
    ("DS", f"99999 13 2 {H64}", "key tag is a number from 0 to 65535"),
    ("HINFO", "AMD64", "CPU and operating system"),
    ("HTTPS", "1", "has 2 parts and more"),
    ("HTTPS", "0 a.estate.test alpn=h2", "an alias, and that has no parameters"),
    ("HTTPS", "1 . alpnn=h2", "no HTTPS record"),
    ("HTTPS", "1 . ipv4hint=nobody", "no HTTPS record"),
    ("MX", "mail.estate.test", "has 2 parts: preference, mail server"),
    ("MX", "10 mail", "written in full, like mail.example.com"),
    ("MX", "10 192.0.2.1", "give it an A or AAAA record and name that"),
    ("MX", "99999 mail.estate.test", "preference is a number from 0 to 65535"),
    ("MX", "ten mail.estate.test", "right is for example 10 mail.example.com"),
    ("NS", "ns1", "written in full"),
    ("NS", "2001:db8::1", "is an address"),
    ("PTR", "app", "written in full"),
    ("RP", "admin@estate.test .", "admin.example.com for admin@example.com"),
    ("RP", "admin.estate.test", "has 2 parts"),
    ("SRV", "5 5060 sip.estate.test", "has 4 parts: priority, weight, port, host"),
    ("SRV", "0 5 70000 sip.estate.test", "port is a number"),
    ("SRV", "0 5 5060 sip", "written in full"),
    ("SVCB", "1 svc", "written in full"),
    ("SVCB", "x svc.estate.test", "priority is a number"),
    ("TLSA", "3 1 1 xyz", "pairs of hex digits"),
    ("TLSA", f"3 1 2 {H64}", "has 128 hex digits, and not 64"),
    ("TLSA", f"4 1 1 {H64}", "usage is a number from 0 to 3"),
    ("TXT", '"v=spf1 -all"', "without quotes around it"),
    ("TXT", "two\nlines", "on one line"),
    ("TXT", "x" * 20_000, "longer than"),
]


@pytest.mark.parametrize(("kind", "value", "why"), REFUSED)
def test_a_wrong_value_is_refused_with_what_is_right(kind: str, value: str, why: str) -> None:
    for given in (value, [EXAMPLE.get(kind, "203.0.113.10"), value]) if kind != "CNAME" else (value,):
        (problem,) = problems_in(pillar({kind: given}))
        assert problem.path.startswith(f"hecate:dns:zones:{ZONE}:records:x:{kind}")
        assert f"no {kind} record" in problem.why and why in problem.why
        assert problem.value == value[:80]


EXAMPLE = {
    kind: written for kind, written, *_ in reversed(SPELLINGS) if kind not in ("A",) and written
}  # a right value beside the wrong one


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ({"A": "192.0.2.1", "shared": True, "protected": True}, "shared"),
        ({"A": [f"192.0.2.{n}" for n in range(51)]}, "51 A records at one name; there is room for 50"),
        ({"A": "192.0.2.1", "CNAME": "a.b.test"}, "RFC 1034"),
        ({"A": "192.0.2.1", "comment": "two\nlines"}, "line breaks"),
    ],
)
def test_what_does_not_go_together_is_refused(records: Pillar, why: str) -> None:
    assert any(why in problem.why for problem in problems_in(pillar(records)))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["Www"], "not a record name"),
        (["www."], "not a record name"),
        (["a..b"], "not a record name"),
        (["a b"], "not a record name"),
        (["bücher", "xn--bcher-kva"], "the same name"),
    ],
)
def test_a_name_that_no_zone_can_hold_is_refused(names: list[str], why: str) -> None:
    given = pillar()
    given["hecate"]["dns"]["zones"][ZONE]["records"] = {name: {"A": "192.0.2.1"} for name in names}
    assert any(why in problem.why for problem in problems_in(given))


def test_names_are_written_in_ascii_and_wildcards_stay() -> None:
    given = pillar()
    names = ("bücher", "*.dev", "*", "_sip._tcp", "@")
    given["hecate"]["dns"]["zones"][ZONE]["records"] = {name: {"A": "192.0.2.1"} for name in names}
    assert set(compiled(given)) == {f"{ZONE}/{name}/A" for name in ("xn--bcher-kva", "*.dev", "*", "_sip._tcp", "@")}


def test_the_zone_itself_is_no_alias_and_signs_no_delegation() -> None:
    for records in ({"CNAME": "a.b.test"}, {"DS": f"1 13 2 {H64}"}):
        given = pillar()
        given["hecate"]["dns"]["zones"][ZONE]["records"] = {"@": records}
        assert "the zone itself (@) has no" in problems_in(given)[0].why


EDGES = {"e1": {"address": "203.0.113.10"}, "e2": {"address": "2001:db8::10"}, "e3": {"address": "203.0.113.11"}}
BOTH = {"A": ["203.0.113.10", "203.0.113.11"], "AAAA": ["2001:db8::10"]}


def test_a_route_gets_the_addresses_of_the_edges() -> None:
    routes = route("app.estate.test", dns="edges", hosts=["*.estate.test"], tls={"issuer": "internal"}) | route(
        "other.estate.test"
    )
    expected = {f"{ZONE}/{name}/{kind}": values for name in ("app", "*") for kind, values in BOTH.items()}
    assert compiled(pillar(edges=EDGES, routes=routes)) == expected


def with_default(records: Pillar, routes: Pillar, **more: Any) -> Pillar:
    zones = {ZONE: {"policy": "sync", "records": records}, "looked.test": {}}
    return pillar(edges=EDGES, routes=routes, dns={"routes": "edges", "zones": zones}, **more)


def test_the_default_is_for_routes_in_zones_with_a_policy_and_yields_to_what_is_written() -> None:
    routes = {
        **route("app.estate.test"),
        **route("out.estate.test", dns=False),
        **route("own.estate.test", dns={"A": "192.0.2.1"}),
        **route("alias.estate.test"),
        **route("text.estate.test"),
        **route("far.elsewhere.test"),
        **route("www.looked.test"),
    }
    found = compiled(with_default({"alias": {"CNAME": "app.estate.test"}, "text": {"TXT": "hi"}}, routes))
    both = {f"{ZONE}/{name}/{kind}": values for name in ("app", "text") for kind, values in BOTH.items()}
    own = {f"{ZONE}/own/A": ["192.0.2.1"], f"{ZONE}/alias/CNAME": ["app.estate.test."], f"{ZONE}/text/TXT": ['"hi"']}
    assert found == {**both, **own}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("edge.estate.test", "a name, and records take addresses"),
        ("127.0.0.1", "nobody outside reaches"),
        ("10.1.2.3", "nobody outside reaches"),
        ("fd00::1", "nobody outside reaches"),
        ("169.254.1.1", "nobody outside reaches"),
    ],
)
def test_only_public_addresses_are_published(address: str, why: str) -> None:
    given = pillar(edges={"e": {"address": address}}, routes=route("app.estate.test", dns="edges"))
    told = {problem.path: problem.why for problem in problems_in(given)}
    assert why in told["hecate:edges:e:address"]
    assert problems_in(pillar(edges={"e": {"address": address}}, routes=route("app.estate.test"))) == []


@pytest.mark.parametrize(
    ("said", "why"), [(True, "says not which"), ("edge", "edges"), ("edges", "none under hecate:edges")]
)
def test_a_word_that_means_nothing_is_refused(said: Any, why: str) -> None:
    told = {p.path: p.why for p in problems_in(pillar(routes=route("app.estate.test", dns=said)))}
    assert why in told["hecate:routes:app.estate.test:dns"]


def test_edges_in_no_zone_are_told() -> None:
    told = {p.path: p.why for p in problems_in(pillar(edges=EDGES, routes=route("app.far.test", dns="edges")))}
    assert "in no zone" in told["hecate:routes:app.far.test:dns"]


def test_a_zone_and_its_ttl_are_wished_for_where_the_pillar_says_so() -> None:
    zones = {
        "made.test": {"create": True, "ttl": 300, "policy": "sync", "records": {"x": {"A": "192.0.2.1"}}},
        "kept.test": {"ttl": 300, "policy": "create-only"},
        "plain.test": {"policy": "sync"},
    }
    found = {r.id: r for r in compile_dns(parse(pillar(dns={"zones": zones, "default_ttl": 600})))}
    assert set(found) == {"dns.zone made.test", "dns.ttl made.test", "dns.rrset made.test/x/A"}
    assert found["dns.rrset made.test/x/A"].needs == ("dns.zone made.test",)


def test_what_is_spelt_alike_is_not_even_read() -> None:
    before = rdata._canonical.cache_info()
    values = [f"10 m{number}.estate.test." for number in range(1000)]
    assert rdata.respelled("MX", values, {*values, "5 other.estate.test."}, ZONE) == {value: value for value in values}
    assert rdata._canonical.cache_info() == before


def test_a_zone_that_dynamic_updates_cannot_make_is_refused() -> None:
    server = {"server": "127.0.0.1:53", "key": "k", "secret": "env:TSIG"}
    dns = {"provider": "inside", "zones": {"a.test": {"policy": "sync", "create": True}}}
    found = problems_in({"hecate": {"rfc2136": {"inside": server}, "dns": dns}})
    assert [(p.path, "at its server" in p.why) for p in found] == [("hecate:dns:zones:a.test:create", True)]
