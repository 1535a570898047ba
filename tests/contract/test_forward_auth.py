"""What Caddy really does with the routes that Hecate compiles: probed over HTTP, as an attacker would."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import urllib3
import urllib3.exceptions
from conftest import RealCaddy
from hecate import model, wiring

from lab.emulators.authentik import Authentik
from lab.emulators.base import running

PUBLIC, GUARDED, CLOSED = "public.estate.test", "app.estate.test", "closed.estate.test"
pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
SPOOFED = ["X-Authentik-Username", "x-authentik-groups", "X-AUTHENTIK-Foo", "X-Authentik-Jwt"]


class Echo(BaseHTTPRequestHandler):
    """An upstream that answers with the headers that it got."""

    def do_GET(self) -> None:
        body = json.dumps(dict(self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Frame-Options", "from-upstream")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()


class Visitor:
    """Talks to the edge's TLS port for any host name; keeps no cookies but those it is given."""

    def __init__(self, caddy: RealCaddy) -> None:
        self.port = caddy.https

    def await_certificate(self, *hosts: str) -> None:
        """The internal CA signs in the background, a moment after the configuration is in."""
        for host in hosts:
            for _ in range(100):
                try:
                    self.get(host)
                    break
                except urllib3.exceptions.SSLError:
                    time.sleep(0.05)

    def get(self, host: str, path: str = "/", **headers: str) -> urllib3.BaseHTTPResponse:
        pool = urllib3.HTTPSConnectionPool(
            "127.0.0.1", self.port, cert_reqs="CERT_NONE", server_hostname=host, assert_hostname=False, retries=False
        )
        fields = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return pool.request("GET", path, headers=fields, redirect=False, timeout=15)


@pytest.fixture
def identity() -> Iterator[tuple[Authentik, str]]:
    users = [
        {"username": "alice", "name": "Alice", "password": "pw-a", "groups": ["staff"]},
        {"username": "mallory", "name": "Mallory", "password": "pw-m", "groups": []},
    ]
    emulator = Authentik(token=secrets.token_hex(16), seed={"groups": ["staff"], "users": users})
    with running(emulator) as url:
        emulator.public_url = url
        yield emulator, url


@pytest.fixture
def visitor(
    caddy: RealCaddy, echo: str, identity: tuple[Authentik, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Visitor:
    """An edge with a public route, a guarded one, and one whose guard nobody has confirmed."""
    emulator, url = identity
    monkeypatch.setenv("AUTHENTIK_TOKEN", emulator.token)
    pillar = {
        "caddy": {"admin": caddy.admin, "issuer": "internal"},
        "edges": {"edge": {"https": caddy.https, "bind": "127.0.0.1"}},
        "authentik": {"url": url, "token": "env:AUTHENTIK_TOKEN", "outpost": url.removeprefix("http://")},
        "auth_policies": {"staff": {"groups": ["staff"]}},
        "routes": {
            PUBLIC: {
                "upstreams": [echo],
                "headers": {"response": {"X-Frame-Options": "DENY"}, "request": {"X-Set": "yes"}},
            },
            GUARDED: {"upstreams": [echo], "auth_policy": "staff"},
            CLOSED: {"upstreams": [echo], "auth_policy": "staff"},
        },
    }
    estate = model.parse({"hecate": pillar})
    guard = wiring.target("authentik", estate, wiring.Place("ak", tmp_path / "ak"))
    guard.engine.apply(guard.wish, "t1")
    confirmed = [h for h in wiring.confirmed(estate, guard.backend.observe(guard.desired)) if h != CLOSED]
    assert confirmed == [GUARDED]
    edge = wiring.target("caddy", estate, wiring.Place("edge", tmp_path / "edge", lambda: confirmed))
    edge.engine.apply(edge.wish, "t1")
    made = Visitor(caddy)
    made.await_certificate(PUBLIC, GUARDED, CLOSED, GUARDED.upper())
    return made


def log_in(visitor: Visitor, url: str, username: str, password: str) -> tuple[int, str]:
    """The whole dance; status of the last answer and the outpost's cookie, if it came to that."""
    start = visitor.get(GUARDED).headers["Location"]
    step = visitor.get(GUARDED, _path(start))
    outpost_cookie = step.headers["Set-Cookie"].partition(";")[0]
    session = requests.Session()
    page = session.get(step.headers["Location"], timeout=10)
    answer = session.post(
        page.url, data={"username": username, "password": password}, allow_redirects=False, timeout=10
    )
    while answer.is_redirect and urlsplit(answer.headers["Location"]).hostname != GUARDED:
        answer = session.get(
            requests.compat.urljoin(url, answer.headers["Location"]), allow_redirects=False, timeout=10
        )
    if not answer.is_redirect:
        return answer.status_code, ""
    back = visitor.get(GUARDED, _path(answer.headers["Location"]), Cookie=outpost_cookie)
    return back.status, back.headers["Set-Cookie"].partition(";")[0]


def _path(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}"


def test_a_stranger_is_sent_to_login(visitor: Visitor) -> None:
    answer = visitor.get(GUARDED, "/secret?x=1")
    assert answer.status == 302
    target = urlsplit(answer.headers["Location"])
    assert target.path == "/outpost.goauthentik.io/start"
    assert parse_qs(target.query)["rd"] == [f"https://{GUARDED}/secret?x=1"]


def test_a_member_arrives_with_an_identity_that_the_upstream_sees(
    visitor: Visitor, identity: tuple[Authentik, str]
) -> None:
    _, cookie = log_in(visitor, identity[1], "alice", "pw-a")
    spoofed = dict.fromkeys(SPOOFED, "admin")
    answer = visitor.get(GUARDED, Cookie=cookie, **spoofed)
    got = {k.lower(): v for k, v in answer.json().items() if k.lower().startswith("x-authentik-")}
    assert answer.status == 200
    assert got["x-authentik-username"] == "alice" and got["x-authentik-groups"] == "staff"
    assert "x-authentik-foo" not in got and "admin" not in got.values()


def test_a_non_member_is_refused(visitor: Visitor, identity: tuple[Authentik, str]) -> None:
    assert log_in(visitor, identity[1], "mallory", "pw-m") == (403, "")


@pytest.mark.parametrize("header", SPOOFED)
def test_no_identity_from_outside_reaches_a_public_upstream(visitor: Visitor, header: str) -> None:
    answer = visitor.get(PUBLIC, **{header: "admin"})
    assert answer.status == 200
    assert not [name for name in answer.json() if name.lower().startswith("x-authentik-")]


def test_an_answer_without_a_name_lets_nobody_in(visitor: Visitor, identity: tuple[Authentik, str]) -> None:
    """CVE-2026-25748: a malformed cookie gets 200 and no identity headers from some versions."""
    identity[0].cve_2026_25748 = True
    answer = visitor.get(GUARDED, Cookie="authentik_proxy_12345678=%%%", X_Authentik_Username="admin")
    assert answer.status == 403
    assert b"named no user" in answer.data


def test_an_unconfirmed_guard_keeps_the_route_closed(visitor: Visitor) -> None:
    answer = visitor.get(CLOSED, X_Authentik_Username="admin")
    assert answer.status == 503 and answer.headers["Retry-After"]


def test_a_dead_outpost_lets_nobody_in(visitor: Visitor, identity: tuple[Authentik, str]) -> None:
    identity[0].set_faults([_cut()])
    assert visitor.get(GUARDED, X_Authentik_Username="admin").status == 502


def _cut() -> Any:
    from lab.emulators.base import Fault

    return Fault(kind="cut", path="/outpost", times=None)


def test_mixed_case_hosts_are_guarded_too(visitor: Visitor) -> None:
    assert visitor.get("APP.estate.test").status == 302


def test_an_encoded_outpost_path_is_no_way_in(visitor: Visitor) -> None:
    for path in (
        "/outpost.goauthentik.io/../secret",
        "/%6futpost.goauthentik.io/..%2fsecret",
        "//outpost.goauthentik.io/x",
    ):
        answer = visitor.get(GUARDED, path)
        assert answer.status in (302, 400, 404), (path, answer.status)
        assert b"User-Agent" not in answer.data, "the upstream answered"


def test_a_host_that_nobody_asked_for_is_404(visitor: Visitor) -> None:
    """No certificate is made for it, so it is asked for over a connection opened for another host."""
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1", visitor.port, cert_reqs="CERT_NONE", server_hostname=PUBLIC, assert_hostname=False, retries=False
    )
    assert pool.request("GET", "/", headers={"Host": "nobody.estate.test"}, timeout=10).status in (404, 421)


def test_headers_are_set_once_on_both_ways(visitor: Visitor) -> None:
    answer = visitor.get(PUBLIC)
    assert answer.headers.getlist("X-Frame-Options") == ["DENY"]
    assert answer.json()["X-Set"] == "yes"
