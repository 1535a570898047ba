"""A real Caddy that holds what a pillar says, upstreams that tell what reached them, and a client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import RealCaddy
from hecate import model, wiring
from hecate.engine import Outcome

MINION = "edge"


@dataclass
class Reply:
    """What a client got. headers: lower-case name -> values, in order."""

    status: int
    body: bytes
    headers: dict[str, list[str]]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        values = self.headers.get(name.lower())
        return ", ".join(values) if values else None


@dataclass
class Seen:
    """One request as it reached an upstream. headers: lower-case name -> values, in order."""

    method: str
    path: str
    headers: dict[str, list[str]]
    body: bytes


Answer = Callable[[Seen], tuple[int, dict[str, str], bytes]]


def echo(seen: Seen) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps({"path": seen.path, "headers": seen.headers}).encode()


@dataclass
class Upstream:
    """An HTTP server on loopback. answer: what it says, may be replaced at any time; seen: all that came."""

    name: str = "app"
    answer: Answer = echo
    seen: list[Seen] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def start(self) -> Upstream:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else the body waits 40 ms for the acknowledgment of the head

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                names = {name.lower() for name in self.headers}
                got = {name: self.headers.get_all(name) or [] for name in names}
                request = Seen(self.command, self.path, got, self.rfile.read(length))
                upstream.seen.append(request)
                status, headers, body = upstream.answer(request)
                self.send_response(status)
                for name, value in {"X-Upstream": upstream.name, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A proxy that gives up on a slow answer is what some tests are about."""

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    @property
    def dial(self) -> str:
        assert self.server, "not started"
        return f"127.0.0.1:{self.server.server_address[1]}"

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()


@dataclass
class EdgeUnderTest:
    """Caddy under a pillar. Plain HTTP unless the pillar says otherwise: what is tested is what happens to requests."""

    caddy: RealCaddy
    folder: Path
    started: list[Upstream] = field(default_factory=list)

    def pillar(self, **sections: Any) -> dict[str, Any]:
        base = {
            "caddy": {"admin": self.caddy.admin, "issuer": "none", **sections.pop("caddy", {})},
            "edges": {MINION: {"http": self.caddy.http, "https": self.caddy.https, "bind": "127.0.0.1"}},
        }
        return {"hecate": {**base, **sections}}

    def target(self, **sections: Any) -> wiring.Target:
        guards = sections.pop("guards", ())
        place = wiring.Place(
            MINION, self.folder, guards=lambda: guards, allow=("deletes", "updates", *_routes(sections))
        )
        return wiring.target("caddy", model.parse(self.pillar(**sections)), place)

    def apply(self, **sections: Any) -> Outcome:
        """Bring Caddy to what these sections of the pillar say. guards: hosts that authentik has confirmed."""
        target = self.target(**sections)
        return target.engine.apply(target.wish, f"t{len(list(self.folder.rglob('*.done')))}")

    def route(self, host: str = "app.test", **fields: Any) -> Outcome:
        """Just one route, with these fields."""
        return self.apply(routes={host: fields})

    def upstream(self, name: str = "app", answer: Answer = echo) -> Upstream:
        self.started.append(Upstream(name, answer).start())
        return self.started[-1]

    def ask(
        self, host: str = "app.test", path: str = "/", method: str = "GET", body: bytes | None = None, **headers: str
    ) -> Reply:
        """One request on a connection of its own. In header names _ stands for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.caddy.https, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers={"Host": host, **named})
            answer = connection.getresponse()
            got: dict[str, list[str]] = {}
            for name, value in answer.getheaders():
                got.setdefault(name.lower(), []).append(value)
            return Reply(answer.status, answer.read(), got)
        finally:
            connection.close()

    def stop(self) -> None:
        for upstream in self.started:
            upstream.stop()


def _routes(sections: dict[str, Any]) -> list[str]:
    """Consent to lose any route: these tests replace one estate by the next."""
    return [f"route:{host}" for host in ("app.test", "other.test", *sections.get("routes", {}))]
