"""Probes from outside: what each kind of route has to answer to a stranger, at a real Caddy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hecate import model
from hecate.certificates import handshake
from hecate.clients.caddy import CaddyClient
from hecate.verification import Probe, questions, run
from hecate.verification.questions import Door, Manner, Task

from contract.authority import Authority
from contract.edge import EdgeUnderTest

DEAD = "127.0.0.1:1"


def nobody(reference: str) -> str:
    raise AssertionError(f"{reference} was asked for, and nobody logs in here")


def asked(
    edge: EdgeUnderTest, attempts: int = 1, roots: dict[str, str] | None = None, **sections: Any
) -> list[Probe]:
    """What is told of an estate that is (or isn't) in place."""
    settings = {"attempts": attempts, "timeout": 5, **sections.pop("verify", {})}
    estate = model.parse(edge.pillar(verify=settings, **sections))
    known = {"edge": CaddyClient(edge.caddy.admin).root_certificate()} if roots is None else roots
    slept: list[float] = []

    def briefly(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(seconds / 50)  # certificates come a moment after the routes

    edge.slept = slept  # type: ignore[attr-defined]
    return run(questions(estate, known), nobody, briefly)


def of(rows: list[Probe], host: str) -> dict[str, Probe]:
    return {row.what: row for row in rows if row.host == host}


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
    app, asking = edge.upstream().dial, edge.upstream("gate", gate).dial
    ca = tmp_path / "ca.pem"
    Authority("clients").write(ca)
    promise = {"path": "/x?y=1", "status": 200, "header": {"X-Upstream": "a*"}, "body": "/x?y=1", "echo": "/echo"}
    sections: dict[str, Any] = {
        "caddy": {"issuer": "internal"},
        "forward_auth": {"proxy": {"address": asking, "uri": "/auth", "sign_in": "https://login.test/start"}},
        "auth_policies": {"known": {"provider": "proxy"}},
        "authentik": {"url": "http://127.0.0.1:1", "token": "env:NOT_NEEDED"},
        "middleware": {"lock": {"type": "basic_auth", "config": {"accounts": {"a": "$2a$14$" + "a" * 53}}}},
        "routes": {
            "open.test": {"upstreams": [app], "verify": promise},
            "*.wild.test": {"upstreams": [app]},
            "away.test": {"redirect": "https://open.test{http.request.uri}"},
            "down.test": {"upstreams": [DEAD], "maintenance": True},
            "gated.test": {"upstreams": [app], "auth_policy": "known"},
            "lobby.test": {"upstreams": [app], "auth_policy": "known", "public_paths": ["/*"]},
            "basic.test": {"upstreams": [app], "middleware": ["lock"]},
            "inside.test": {"upstreams": [app], "allowed_ips": "192.0.2.0/24"},
            "mutual.test": {"upstreams": [app], "tls": {"client_auth": {"ca": str(ca)}}},
            "mutual12.test": {"upstreams": [app], "tls": {"client_auth": {"ca": str(ca)}, "min_version": "1.2"}},
            "new.test": {"upstreams": [app], "tls": {"min_version": "1.3"}},
            "aside.test": {"upstreams": [DEAD], "verify": {"skip": "is being rebuilt"}},
        },
    }
    edge.apply(**sections)
    certified(edge, "open.test", "x.wild.test", "away.test", "down.test", "gated.test", "inside.test", "new.test")
    rows = asked(edge, **sections)
    assert [row for row in rows if row.result in ("fail", "warn")] == []
    assert of(rows, "down.test")["https"].told == "503, as it should be" and not of(rows, "aside.test")
    gated = of(rows, "gated.test")
    assert gated["https"].told == "302, sends to login" and "whoever it says" in gated["spoofed"].told
    assert of(rows, "mutual.test")["https"].told.startswith("asks for")
    there = of(rows, "open.test")
    assert there["spoofed"].told == "spoofed headers do not reach the upstream"
    assert there["plain"].told == "308 to HTTPS" and "h" in there["tls"].told
    assert of(rows, "new.test")["old tls"].told == "TLS older than 1.3 is refused"
    assert there["old tls"].result == "ok" and of(rows, "lobby.test")["spoofed"].result == "skip"


@pytest.mark.parametrize(
    ("applied", "said", "told"),
    [
        ({"upstreams": [DEAD]}, {}, "is the upstream up?"),
        ({}, {"maintenance": True}, "has to be closed"),
        ({}, {"auth_policy": "known"}, "has to send to login"),
        ({}, {"tls": {"client_auth": {"ca": "/nowhere.pem"}}}, "without a certificate"),
        ({}, {"verify": {"status": [204, 304]}}, "wanted 204 or 304"),
        ({}, {"verify": {"header": {"X-Upstream": "b*"}}}, "wanted b*"),
        ({}, {"verify": {"header": {"X-Nobody": "*"}}}, "is not there"),
        ({}, {"verify": {"body": "hello"}}, "no 'hello' in it"),
    ],
    ids=["upstream down", "open", "not protected", "no client certificate", "status", "header", "no header", "body"],
)
def test_what_answers_otherwise_is_told(edge: EdgeUnderTest, applied: Any, said: Any, told: str) -> None:
    app = edge.upstream().dial
    base = {"caddy": {"issuer": "internal"}, "forward_auth": {"proxy": {"address": app, "uri": "/auth"}}}
    base["auth_policies"] = {"known": {"provider": "proxy"}}  # type: ignore[dict-item]
    edge.apply(**base, routes={"app.test": {"upstreams": [app], **applied}})
    certified(edge, "app.test")
    found = of(asked(edge, 1, **base, routes={"app.test": {"upstreams": [app], **said}}), "app.test")["https"]
    assert found.result == "fail" and told in found.told


def test_a_version_of_tls_that_pillar_no_longer_allows_is_told(edge: EdgeUnderTest) -> None:
    sections: dict[str, Any] = {"caddy": {"issuer": "internal"}}
    app = edge.upstream().dial
    edge.apply(**sections, routes={"app.test": {"upstreams": [app]}})
    certified(edge, "app.test")
    said = {"app.test": {"upstreams": [app], "tls": {"min_version": "1.3"}}}
    found = of(asked(edge, **sections, routes=said), "app.test")
    assert found["old tls"].result == "fail" and "TLSv1.2" in found["old tls"].told


def test_plain_http_is_asked_where_the_edge_speaks_no_tls(edge: EdgeUnderTest) -> None:
    routes = {"app.test": {"upstreams": [edge.upstream().dial]}}
    edge.apply(routes=routes)
    found = of(asked(edge, roots={}, routes=routes), "app.test")
    assert {what: row.result for what, row in found.items()} == {"tcp": "ok", "http": "ok", "spoofed": "skip"}


@pytest.mark.parametrize(("plain", "result"), [("redirect", "ok"), ("either", "ok"), ("closed", "fail")])
def test_plain_http_beside_tls_is_as_pillar_says(edge: EdgeUnderTest, plain: str, result: str) -> None:
    sections: dict[str, Any] = {"caddy": {"issuer": "internal"}}
    sections["routes"] = {"app.test": {"upstreams": [edge.upstream().dial]}}
    edge.apply(**sections)
    certified(edge, "app.test")
    assert of(asked(edge, verify={"plain": plain}, **sections), "app.test")["plain"].result == result


def test_a_certificate_that_nobody_trusts_is_no_success(edge: EdgeUnderTest) -> None:
    sections = {"caddy": {"issuer": "internal"}, "routes": {"app.test": {"upstreams": [edge.upstream().dial]}}}
    edge.apply(**sections)
    found = of(asked(edge, roots={}, **sections), "app.test")
    assert found["tls"].result == "fail" and "issuer certificate" in found["tls"].told and "https" not in found


def test_where_everything_fails_nobody_waits_for_each(edge: EdgeUnderTest) -> None:
    routes = {f"r{n}.test": {"upstreams": [DEAD]} for n in range(200)}
    edge.apply(routes=routes)
    rows = asked(edge, attempts=5, roots={}, routes=routes)
    assert sum(row.result == "fail" for row in rows) == 200 and len(edge.slept) <= 5 * 20  # type: ignore[attr-defined]


def test_a_route_that_comes_up_late_is_waited_for(edge: EdgeUnderTest) -> None:
    routes = {"app.test": {"upstreams": [edge.upstream().dial]}}
    answers = iter([503, 503, 200])
    edge.started[-1].answer = lambda seen: (next(answers), {}, b"")
    edge.apply(routes=routes)
    assert all(row.good for row in asked(edge, attempts=3, roots={}, routes=routes))
    assert len(edge.slept) == 2  # type: ignore[attr-defined]




def test_an_echo_that_echoes_nothing_proves_nothing(edge: EdgeUnderTest) -> None:
    routes = {"app.test": {"upstreams": [edge.upstream("mute", gate).dial], "verify": {"echo": "/"}}}
    edge.apply(routes=routes)
    found = of(asked(edge, roots={}, routes=routes), "app.test")["spoofed"]
    assert found.result == "fail" and "nothing is proven" in found.told


def test_a_header_that_gets_through_is_told(edge: EdgeUnderTest) -> None:
    """The edge does not know of this gate's header yet, and pillar does."""
    app = edge.upstream().dial
    edge.apply(routes={"app.test": {"upstreams": [app]}})
    gates = {"proxy": {"address": app, "uri": "/auth", "user_header": "Remote-User"}}
    routes = {"app.test": {"upstreams": [app], "verify": {"echo": "/"}}}
    found = of(asked(edge, roots={}, routes=routes, forward_auth=gates), "app.test")["spoofed"]
    assert found.result == "fail" and "REACHES THE UPSTREAM" in found.told


@pytest.mark.parametrize(("inside", "result"), [(False, "fail"), (True, "skip")])
def test_an_open_door_is_told(edge: EdgeUnderTest, inside: bool, result: str) -> None:
    port = int(edge.upstream().dial.rpartition(":")[2])
    row = run(Task(Manner(attempts=1), doors=(Door("edge", "127.0.0.1", port, inside),)), nobody)[0]
    assert row.result == result
    edge.started[-1].stop()
    assert run(Task(Manner(attempts=1), doors=(Door("edge", "127.0.0.1", port, inside),)), nobody)[0].result == "ok"
