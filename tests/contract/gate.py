"""A whole gate: a real Caddy with certificates, an emulated authentik that Hecate has set up, a client without manners.

auth.estate.test     authentik itself         app.estate.test      for staff; /public/* for everybody
open.estate.test     for everybody            other.estate.test    for staff, another application
proxied.estate.test  behind a provider of the generic kind
vault.estate.test    for staff with a second factor, which bob has
wiki.dom.test        for staff, one login for all of dom.test, which comes back to home.dom.test
admin.dom.test       in that domain, with a policy of its own
"""

from __future__ import annotations

import http.client
import secrets
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from conftest import RealCaddy
from hecate import model, wiring

from contract.edge import Reply, Seen, Upstream
from lab.emulators.authentik import Authentik
from lab.emulators.authentik_access import MFA_ATTRIBUTE
from lab.emulators.base import running

AUTH, OPEN, APP, OTHER, PROXIED, STRONG = (
    f"{name}.estate.test" for name in ("auth", "open", "app", "other", "proxied", "vault")
)
WIKI, HOME, ADMIN = "wiki.dom.test", "home.dom.test", "admin.dom.test"
PASSWORDS = {"alice": secrets.token_urlsafe(8), "bob": secrets.token_urlsafe(8), "mallory": secrets.token_urlsafe(8)}
FLUSH = b"GET /flush HTTP/1.1\r\n\r\n"
SIGN_OUT = "/outpost.goauthentik.io/sign_out"


@dataclass
class Gate:
    """A running one. authentik: the emulator, with its switches. app: where the upstream of all routes listens."""

    caddy: RealCaddy
    authentik: Authentik
    app: str

    def apply(self, folder: Path, **sections: Any) -> None:
        """authentik first, then the routes, whose guards are those that authentik confirms."""
        estate = model.parse({"hecate": sections})
        guard = wiring.target("authentik", estate, wiring.Place("ak", folder / "ak"))
        guard.engine.apply(guard.wish, "t1")
        confirmed = wiring.confirmed(estate, guard.backend.observe(guard.desired))
        edge = wiring.target("caddy", estate, wiring.Place("edge", folder / "edge", lambda: confirmed))
        edge.engine.apply(edge.wish, "t1")
        for host in estate.routes:
            self._await_certificate(host)

    def connect(self, sni: str) -> ssl.SSLSocket:
        """A connection as a client has it that asks for this name."""
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return trust.wrap_socket(socket.create_connection(("127.0.0.1", self.caddy.https), 10), server_hostname=sni)

    def ask(self, host: str, path: str = "/", method: str = "GET", body: str = "", **headers: str) -> Reply:
        """One well-mannered request; in header names _ stands for -."""
        connection = http.client.HTTPConnection(host)
        connection.sock = self.connect(host)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            got: dict[str, list[str]] = {}
            for name, value in answer.getheaders():
                got.setdefault(name.lower(), []).append(value)
            return Reply(answer.status, answer.read(), got)
        finally:
            connection.close()

    def say(self, text: str, sni: str = APP) -> list[int]:
        """Octets as they are, on a connection of their own; statuses of the answers until the other side hangs up.

        A side that waits for more is left after two seconds: what it has said by then is what counts.
        """
        said = b""
        with self.connect(sni) as connection:
            connection.sendall(text.encode("latin-1"))
            connection.settimeout(2)
            try:
                while part := connection.recv(65536):
                    said += part
            except (TimeoutError, OSError):
                pass
        lines = [line for line in said.split(b"\n") if line.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))]
        return [int(line.split()[1]) for line in lines]

    def _await_certificate(self, host: str) -> None:
        """The internal CA signs in the background, a moment after the configuration is in."""
        until = time.monotonic() + 20
        while True:
            try:
                return self.connect(host).close()
            except ssl.SSLError:
                assert time.monotonic() < until, f"no certificate for {host}"
                time.sleep(0.02)


@dataclass
class Person:
    """A browser without a screen: cookies by host, redirects followed as told."""

    gate: Gate
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def get(self, url: str, method: str = "GET", body: str = "", **headers: str) -> Reply:
        parts = urlsplit(url)
        own = self.cookies.setdefault(parts.netloc, {})
        shared = [jar for domain, jar in self.cookies.items() if domain[0] == "." and parts.netloc.endswith(domain)]
        jar = {name: value for one in (*shared, own) for name, value in one.items()}
        if jar:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items()), **headers}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        answer = self.gate.ask(parts.netloc, target or "/", method, body, **headers)
        for line in answer.headers.get("set-cookie", []):
            for name, morsel in SimpleCookie(line).items():
                domain = morsel["domain"].lstrip(".")
                self.cookies.setdefault(f".{domain}" if domain else parts.netloc, {})[name] = morsel.value
        return answer

    def walk(self, url: str, **request: str) -> tuple[str, Reply]:
        """Follow redirects; the last URL and its answer."""
        answer = self.get(url, **request)
        for _ in range(12):
            if answer.status not in (302, 303):
                return url, answer
            url = urljoin(url, answer.header("Location") or "")
            answer = self.get(url)
        raise AssertionError(f"round and round: {url}")

    def log_in(self, name: str, url: str = f"https://{APP}/") -> tuple[str, Reply]:
        """From an application to the form, and as far as it goes from there."""
        form, answer = self.walk(url)
        assert urlsplit(form).netloc == AUTH and answer.status == 200, (form, answer.status)
        fields = urlencode({"username": name, "password": PASSWORDS[name]})
        return self.walk(form, method="POST", body=fields, Content_Type="application/x-www-form-urlencoded")

    def cookie(self, host: str = APP) -> tuple[str, str]:
        """Name and value of the one that the gate knows this person by."""
        (found,) = (row for row in self.cookies[host].items() if row[0].startswith("authentik_proxy_"))
        return found


class Recorder:
    """An upstream that keeps the octets of each request that reached it, whole or not, and says 200."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self._open, self._changed = 0, threading.Condition()
        recorder = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(2)
                data = b""
                try:
                    while not _complete(data) and (part := self.request.recv(65536)):
                        data += part
                except OSError:
                    pass
                if data and data != FLUSH:
                    recorder.seen.append(data)
                try:
                    self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nupstream\n")
                except OSError:
                    pass

            def finish(self) -> None:
                recorder._count(-1)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def process_request(self, *arguments: Any) -> None:
                recorder._count(1)
                super().process_request(*arguments)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.dial = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait for what is on its way: connections are taken in turn, so all have been when this one has."""
        with socket.create_connection(("127.0.0.1", self._server.server_address[1]), 10) as last:
            last.sendall(FLUSH)
            while last.recv(65536):
                pass
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, 20), "a connection that doesn't end"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        """What was asked for, as it was spelled."""
        return [data.split(b" ", 2)[1].decode("latin-1") for data in self.seen]


def _complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return body.endswith(b"\r\n\r\n") and (b"\r\n0\r\n" in body or body.startswith(b"0\r\n"))
    return len(body) >= int(fields.get(b"content-length", b"0"))


def _knows_carol(seen: Seen) -> tuple[int, dict[str, str], bytes]:
    if "proxy=good" in "".join(seen.headers.get("cookie", [])):
        return 200, {"X-Auth-Request-User": "carol"}, b""
    return 401, {}, b""


@contextmanager
def opened(caddy: RealCaddy, folder: Path, app: str) -> Iterator[Gate]:
    """The gate with everything behind it. app: the address that all applications share."""
    people = [{"username": name, "name": name.title(), "password": word} for name, word in PASSWORDS.items()]
    groups = {"alice": ["staff"], "bob": ["staff"], "mallory": []}
    factors: dict[str, Any] = {"bob": {MFA_ATTRIBUTE: ["totp"]}}
    users = [
        {**row, "groups": groups[row["username"]], "attributes": factors.get(row["username"], {})} for row in people
    ]
    authentik = Authentik(token=secrets.token_hex(16), public_url=f"https://{AUTH}", seed={"users": users})
    provider = Upstream("provider", _knows_carol).start()
    caddy.reset()
    with pytest.MonkeyPatch.context() as patch, running(authentik) as url:
        patch.setenv("AUTHENTIK_TOKEN", authentik.token)
        server = url.removeprefix("http://")
        gate = Gate(caddy, authentik, app)
        gate.apply(
            folder,
            caddy={"admin": caddy.admin, "issuer": "internal"},
            edges={"edge": {"https": caddy.https, "bind": "127.0.0.1"}},
            authentik={"url": url, "token": "env:AUTHENTIK_TOKEN", "outpost": server},
            forward_auth={
                "proxy": {
                    "address": provider.dial,
                    "uri": "/oauth2/auth",
                    "passage": "/oauth2/*",
                    "user_header": "X-Auth-Request-User",
                    "headers": ["X-Auth-Request-Email"],
                    "cookies": ["proxy"],
                }
            },
            auth_policies={
                "staff": {"groups": ["staff"]},
                "strong": {"groups": ["staff"], "require_mfa": True, "allowed_methods": ["password", "totp"]},
                "domain": {"groups": ["staff"], "domain": {"name": "dom.test", "host": HOME}},
                "admins": {"groups": ["admins"]},
                "proxy": {"provider": "proxy"},
            },
            routes={
                AUTH: {"upstreams": [server]},
                OPEN: {"upstreams": [app]},
                APP: {"upstreams": [app], "auth_policy": "staff", "public_paths": ["/public/*"]},
                OTHER: {"upstreams": [app], "auth_policy": "staff"},
                PROXIED: {"upstreams": [app], "auth_policy": "proxy"},
                STRONG: {"upstreams": [app], "auth_policy": "strong"},
                WIKI: {"upstreams": [app], "auth_policy": "domain"},
                HOME: {"upstreams": [app], "auth_policy": "domain"},
                ADMIN: {"upstreams": [app], "auth_policy": "admins"},
            },
        )
        try:
            yield gate
        finally:
            provider.stop()
