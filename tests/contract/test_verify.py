"""Probes from outside: what each kind of route has to answer to a stranger, at a real Caddy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hecate import model
from hecate.certificates import handshake
from hecate.clients.caddy import CaddyClient
from hecate.verify import Probe, table, verify

from contract.authority import Authority
from contract.edge import EdgeUnderTest

DEAD = "127.0.0.1:1"


def probes(
    edge: EdgeUnderTest, attempts: int = 1, roots: dict[str, str] | None = None, **sections: Any
) -> dict[str, Any]:
    """What verify tells, by host, of an estate that is (or isn't) in place."""
    settings = {"attempts": attempts, "timeout": 5, **sections.pop("verify", {})}
    estate = model.parse(edge.pillar(verify=settings, **sections))
    known = {"edge": CaddyClient(edge.caddy.admin).root_certificate()} if roots is None else roots
    slept: list[float] = []

    def briefly(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds / 50)  # certificates come a moment after the routes

    found = {p.what.split()[1]: p for p in verify(estate, known, briefly)}
    edge.slept = slept  # type: ignore[attr-defined]
    return found


def certified(edge: EdgeUnderTest, *hosts: str) -> None:
    """Certificates come a moment after the routes."""
    until = time.monotonic() + 20
    waiting = list(hosts)
    while waiting:
        try:
            handshake(("127.0.0.1", edge.caddy.https), waiting[0], 5)
            waiting.pop(0)
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.02)


def gate(seen: Any) -> tuple[int, dict[str, str], bytes]:
    return 401, {}, b"who are you?"


def test_each_kind_of_route_is_good_when_it_answers_a_stranger_as_it_should(
    edge: EdgeUnderTest, tmp_path: Path
) -> None:
    app, asked = edge.upstream().dial, edge.upstream("gate", gate).dial
    ca = tmp_path / "ca.pem"
    Authority("clients").write(ca)
    sections: dict[str, Any] = {
        "caddy": {"issuer": "internal"},
        "forward_auth": {"proxy": {"address": asked, "uri": "/auth", "sign_in": "https://login.test/start"}},
        "auth_policies": {"known": {"provider": "proxy"}},
        "authentik": {"url": "http://127.0.0.1:1", "token": "env:NOT_NEEDED"},
        "middleware": {"lock": {"type": "basic_auth", "config": {"accounts": {"a": "$2a$14$" + "a" * 53}}}},
        "routes": {
            "open.test": {"upstreams": [app]},
            "*.wild.test": {"upstreams": [app]},
            "away.test": {"redirect": "https://open.test{http.request.uri}"},
            "down.test": {"upstreams": [DEAD], "maintenance": True},
            "gated.test": {"upstreams": [app], "auth_policy": "known"},
            "lobby.test": {"upstreams": [app], "auth_policy": "known", "public_paths": ["/*"]},
            "basic.test": {"upstreams": [app], "middleware": ["lock"]},
            "inside.test": {"upstreams": [app], "allowed_ips": "192.0.2.0/24"},
            "mutual.test": {"upstreams": [app], "tls": {"client_auth": {"ca": str(ca)}}},
            "mutual12.test": {"upstreams": [app], "tls": {"client_auth": {"ca": str(ca)}, "min_version": "1.2"}},
        },
    }
    edge.apply(**sections)
    certified(edge, "open.test", "x.wild.test", "away.test", "down.test", "gated.test", "inside.test")
    found = probes(edge, **sections)
    assert {host: p.told for host, p in found.items() if not p.good} == {}
    assert found["down.test"].told == "503, as it should be"
    assert found["gated.test"].told == "302, sends to login" and found["mutual.test"].told.startswith("asks for")


@pytest.mark.parametrize(
    ("applied", "said", "told"),
    [
        ({"upstreams": [DEAD]}, {}, "is the upstream up?"),
        ({}, {"maintenance": True}, "has to be closed"),
        ({}, {"auth_policy": "known"}, "has to send to login"),
        ({}, {"tls": {"client_auth": {"ca": "/nowhere.pem"}}}, "without a certificate"),
    ],
    ids=["upstream down", "not closed", "not protected", "no client certificate asked for"],
)
def test_what_answers_otherwise_is_told(edge: EdgeUnderTest, applied: Any, said: Any, told: str) -> None:
    app = edge.upstream().dial
    base = {"caddy": {"issuer": "internal"}, "forward_auth": {"proxy": {"address": app, "uri": "/auth"}}}
    base["auth_policies"] = {"known": {"provider": "proxy"}}  # type: ignore[dict-item]
    edge.apply(**base, routes={"app.test": {"upstreams": [app], **applied}})
    certified(edge, "app.test")
    found = probes(edge, 1, **base, routes={"app.test": {"upstreams": [app], **said}})
    assert not found["app.test"].good and told in found["app.test"].told


def test_plain_http_is_asked_where_the_edge_speaks_no_tls(edge: EdgeUnderTest) -> None:
    routes = {"app.test": {"upstreams": [edge.upstream().dial]}}
    edge.apply(routes=routes)
    estate = model.parse(edge.pillar(routes=routes, verify={"attempts": 1}))
    assert [(p.what, p.good, p.told) for p in verify(estate, {})] == [("http app.test at edge", True, "200")]


def test_a_certificate_that_nobody_trusts_is_no_success(edge: EdgeUnderTest) -> None:
    sections = {"caddy": {"issuer": "internal"}, "routes": {"app.test": {"upstreams": [edge.upstream().dial]}}}
    edge.apply(**sections)
    found = probes(edge, roots={}, **sections)
    assert not found["app.test"].good and "CERTIFICATE_VERIFY_FAILED" in found["app.test"].told
    root = edge.folder / "root.pem"
    root.write_text(CaddyClient(edge.caddy.admin).root_certificate())
    assert probes(edge, roots={}, verify={"roots": [str(root)]}, **sections)["app.test"].good


def test_where_everything_fails_nobody_waits_for_each(edge: EdgeUnderTest) -> None:
    routes = {f"r{n}.test": {"upstreams": [DEAD]} for n in range(200)}
    edge.apply(routes=routes)
    found = probes(edge, attempts=5, roots={}, routes=routes)
    assert not any(p.good for p in found.values()) and len(edge.slept) <= 5 * 20  # type: ignore[attr-defined]


def test_the_table_tells_all_of_few_and_of_many_what_failed() -> None:
    few = [Probe("https a.test at edge", True, "200"), Probe("https b.test at edge", False, "is the upstream up?")]
    assert table(few).splitlines() == [
        "1 of 2 probes passed",
        "ok   https a.test at edge: 200",
        "FAIL https b.test at edge: is the upstream up?",
    ]
    many = table([*few, *(Probe(f"https r{n}.test at edge", True, "200") for n in range(5000))])
    assert many.splitlines() == ["5001 of 5002 probes passed", "FAIL https b.test at edge: is the upstream up?"]


def test_a_route_that_comes_up_late_is_waited_for(edge: EdgeUnderTest) -> None:
    routes = {"app.test": {"upstreams": [edge.upstream().dial]}}
    answers = iter([503, 503, 200])
    edge.started[-1].answer = lambda seen: (next(answers), {}, b"")
    edge.apply(routes=routes)
    assert probes(edge, attempts=3, roots={}, routes=routes)["app.test"].good
    assert len(edge.slept) == 2  # type: ignore[attr-defined]
