"""What the pillar may say, and what is told when it says something else."""

from __future__ import annotations

from typing import Any

import pytest
from hecate.compile.dns import compile_dns
from hecate.errors import InvalidPillar, OutputsPending
from hecate.model import parse, problems_in

GOOD: dict[str, Any] = {
    "authentik": {"url": "https://hera.estate.test", "token": "vault:hecate/authentik#token"},
    "hetzner_dns": {"token": "env:HETZNER_TOKEN"},
    "auth_policies": {"staff": {"groups": ["staff"]}},
    "dns": {"zones": {"estate.test": {"ttl": 300, "policy": "sync"}}},
    "routes": {"app.estate.test": {"upstreams": ["10.0.0.5:80"], "auth_policy": "staff", "dns": {"A": "203.0.113.1"}}},
}


def pillar(**more: Any) -> dict[str, Any]:
    return {"hecate": {**GOOD, **more}}


def told(**more: Any) -> dict[str, str]:
    return {p.path: p.why for p in problems_in(pillar(**more))}


def route(**fields: Any) -> dict[str, Any]:
    return {"routes": {"app.estate.test": {"upstreams": ["10.0.0.5:80"], **fields}}}


def test_a_good_pillar_parses() -> None:
    estate = parse(pillar())
    assert [guard.name for guard in estate.guards.all] == ["app.estate.test"]


def test_every_problem_is_in_one_answer_by_pillar_path() -> None:
    wrong = {
        "bad host": {"upstreams": ["10.0.0.1:80"]},
        "a.estate.test": {"upstreams": ["10.0.0.1:80"], "auth_policy": "nobody", "colour": "red"},
        "b.estate.test": {"upstreams": ["10.0.0.1:99999"], "hosts": ["a.estate.test"]},
        "A.estate.test": {"upstreams": []},
    }
    with pytest.raises(InvalidPillar) as caught:
        parse(pillar(routes=wrong))
    paths = {p.path for p in caught.value.problems}
    assert {
        "hecate:routes:bad host",
        "hecate:routes:a.estate.test:auth_policy",
        "hecate:routes:a.estate.test:colour",
        "hecate:routes:b.estate.test:upstreams:0:dial",
        "hecate:routes:b.estate.test",
        "hecate:routes:A.estate.test",
    } <= paths
    assert all(path in str(caught.value) for path in paths)


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("app.estate.test:443", "without scheme, port or path"),
        ("https://app.estate.test", "without scheme, port or path"),
        ("app..test", "not a domain name"),
        ("-app.estate.test", "not a domain name"),
        ("10.0.0.1", "not an address"),
        ("localhost", "not a domain name"),
        ("app.estate.test.", "not a domain name"),
        ("a" * 64 + ".test", "not a domain name"),
        ("app.estate.test\r\nX-Evil: 1", "not a domain name"),
    ],
)
def test_a_host_is_a_name_and_nothing_else(host: str, part: str) -> None:
    problems = problems_in(pillar(routes={host: {"upstreams": ["10.0.0.1:80"]}}))
    assert problems and all(part in p.why or "domain name" in p.why for p in problems)


def test_hosts_are_lower_case_and_ascii() -> None:
    estate = parse(pillar(routes={"Büro.Estate.TEST": {"upstreams": ["10.0.0.1:80"]}}))
    assert list(estate.routes) == ["xn--bro-hoa.estate.test"]


@pytest.mark.parametrize(
    "dial", ["10.0.0.5", "10.0.0.5:0", "10.0.0.999:80", "ftp://a:1", "http://a:1/path", "a b:1", ":80"]
)
def test_a_dial_that_caddy_would_swallow_is_refused(dial: str) -> None:
    assert "hecate:routes:app.estate.test:upstreams:0:dial" in told(
        **{"routes": {"app.estate.test": {"upstreams": [dial]}}}
    )


@pytest.mark.parametrize(
    ("dial", "address"),
    [
        ("10.0.0.5:80", "10.0.0.5:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("https://wazuh.internal", "wazuh.internal:443"),
        ("https://[2001:db8::1]", "[2001:db8::1]:443"),
        ("https://10.0.0.5:8443", "10.0.0.5:8443"),
    ],
)
def test_a_dial_becomes_what_caddy_dials(dial: str, address: str) -> None:
    estate = parse(pillar(routes={"app.estate.test": {"upstreams": [dial]}}))
    assert estate.routes["app.estate.test"].upstreams[0].address == address


def test_a_literal_secret_is_refused_and_not_repeated() -> None:
    problems = problems_in(pillar(authentik={"url": "https://a.test", "token": "hunter2hunter2"}))
    assert [p.path for p in problems] == ["hecate:authentik:token"]
    assert "hunter2" not in str(InvalidPillar(problems))


def test_a_secret_under_an_unknown_key_is_not_repeated_either() -> None:
    problems = problems_in(pillar(authentik={**GOOD["authentik"], "password": "hunter2hunter2"}))
    assert [p.path for p in problems] == ["hecate:authentik:password"]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize("admin", ["http://0.0.0.0:2019", "http://10.0.0.1:2019", "https://caddy.example.com", "unix/"])
def test_the_admin_api_is_never_on_a_network(admin: str) -> None:
    assert "hecate:caddy:admin" in told(caddy={"admin": admin})


def test_an_identity_header_is_not_set_by_hand() -> None:
    wrong = route(headers={"request": {"x-authentik-username": "root"}})
    assert "identity" in told(**wrong)["hecate:routes:app.estate.test:headers"]


def test_a_header_carries_no_line_break() -> None:
    wrong = route(headers={"response": {"X-A": "a\r\nSet-Cookie: b"}})
    assert "line breaks" in told(**wrong)["hecate:routes:app.estate.test:headers:response:X-A"]


def test_skip_verify_needs_something_to_skip() -> None:
    assert "https://" in told(**route(tls_skip_verify=True))["hecate:routes:app.estate.test"]


def test_a_record_lies_in_a_zone_and_is_written_once() -> None:
    outside = {"app.other.test": {"upstreams": ["10.0.0.1:80"], "dns": {"A": "203.0.113.1"}}}
    assert "in no zone" in told(routes=outside)["hecate:routes:app.other.test:dns"]
    twice = {"zones": {"estate.test": {"policy": "sync", "records": {"app": {"A": "203.0.113.2"}}}}}
    assert "keep one of the two" in told(dns=twice)["hecate:routes:app.estate.test:dns"]


@pytest.mark.parametrize(
    ("records", "part"),
    [
        ({"A": "2001:db8::1"}, "IPv4"),
        ({"AAAA": "203.0.113.1"}, "IPv6"),
        ({"CNAME": "a.estate.test", "A": "203.0.113.1"}, "RFC 1034"),
        ({"A": "203.0.113.1", "ttl": 5}, "60"),
        ({}, "no record"),
        ({"TXT": 'say "hi"'}, "without quotes"),
    ],
)
def test_a_record_that_the_api_would_refuse(records: dict[str, Any], part: str) -> None:
    assert any(part in why for why in told(**route(dns=records)).values())


def test_lists_of_named_things_are_taken_too() -> None:
    listed = [{"domain": "app.estate.test", "upstreams": [{"dial": "10.0.0.1:80"}], "auth_policy": "staff"}]
    estate = parse(pillar(routes=listed, auth_policies=[{"name": "staff", "provider": "none"}]))
    assert list(estate.routes) == ["app.estate.test"] and list(estate.auth_policies) == ["staff"]


def test_the_same_name_twice_in_a_list_is_told() -> None:
    listed = [{"domain": "app.estate.test", "upstreams": ["10.0.0.1:80"]}] * 2
    assert "there already" in told(routes=listed)["hecate:routes:1:domain"]


def test_an_output_is_filled_in_once_terraform_has_it() -> None:
    waiting = pillar(**route(dns={"A": "terraform:edge"}))
    assert problems_in(waiting) == []
    with pytest.raises(OutputsPending, match="terraform:edge"):
        compile_dns(parse(waiting))
    known = pillar(
        **route(dns={"A": "terraform:edge"}), terraform={"source": "/srv/tf", "outputs": {"edge": "203.0.113.7"}}
    )
    assert parse(known).routes["app.estate.test"].dns.by_type() == {"A": ["203.0.113.7"]}  # type: ignore[union-attr]


def test_no_pillar_at_all_says_where_to_look() -> None:
    assert "top.sls" in problems_in({})[0].why


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"terraform": {"source": "/tf", "variables": {"db_password": "hunter2"}}}, "hecate:terraform:variables"),
        (
            {"nomad": {}, "workloads": {"web": {"config": {}, "env": {"API_TOKEN": "hunter2"}}}},
            "hecate:workloads:web:env",
        ),
    ],
)
def test_a_value_named_like_a_secret_is_refused_and_not_repeated(section: dict[str, Any], path: str) -> None:
    problems = problems_in(pillar(**section))
    assert [p.path for p in problems] == [path]
    assert "hunter2" not in str(InvalidPillar(problems))
