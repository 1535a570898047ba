"""What is written down about requests, what is measured, and what never may be: in the real Caddy's own files."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import free_port
from hecate.clients.caddy import CaddyClient

from contract.edge import EdgeUnderTest, Seen

SECRET = "s3kr1t-canary"
QUERY = f"?a=b&access_token={SECRET}&code={SECRET}&My_Token={SECRET}&X-Amz-Signature={SECRET}"
TELLING = {
    "Cookie": f"session={SECRET}",
    "Authorization": f"Bearer {SECRET}",
    "Proxy-Authorization": f"Basic {SECRET}",
    "X-Authentik-Jwt": SECRET,
    "X-Api-Key": SECRET,
    "Referer": f"https://app.test/?token={SECRET}",
}


def telling(seen: Seen) -> tuple[int, dict[str, str], bytes]:
    away = f"https://app.test/back?state={SECRET}"
    return 200, {"Set-Cookie": f"session={SECRET}", "Location": away, "X-Auth-Token": SECRET}, b"x"


def lines(path: Path) -> list[dict[str, Any]]:
    """Requests in a log, as (host and path); Caddy writes them after the answer is gone."""
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def logged(path: Path) -> list[str]:
    return [row["request"]["host"] + row["request"]["uri"] for row in lines(path)]


def wait_for(found: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not found():
        assert time.monotonic() < until, "never came"
        time.sleep(0.01)


def default_log(edge: EdgeUnderTest) -> str:
    return edge.caddy.log()


def test_each_route_is_logged_where_it_says_and_only_there(edge: EdgeUnderTest, tmp_path: Path) -> None:
    app = edge.upstream()
    one, two, audit, inner = (tmp_path / f"{name}.log" for name in ("one", "two", "audit", "inner"))
    plain = {"upstreams": [app.dial]}
    edge.apply(
        middleware={
            "audit": {"type": "audit_log", "config": {"file": str(audit), "exclude_paths": ["/static/*"]}},
            "inner": {"type": "audit_log", "config": {"file": str(inner)}},
            "off": {"type": "audit_log", "config": {"log_requests": False}},
        },
        caddy={"access_log": {"file": str(one)}},
        routes={
            "app.test": plain,
            "two.test": {**plain, "access_log": {"file": str(two), "exclude_paths": ["/ping", "/static/x/*"]}},
            "both.test": {
                **plain,
                "access_log": {"file": str(two), "exclude_paths": ["/ping", "/static/x/*"]},
                "middleware": ["audit", "off"],
                "paths": {"/in/*": {"middleware": ["inner"]}, "/in/out/*": {}},
            },
            "none.test": {**plain, "access_log": False},
        },
    )
    for host, path in (
        ("app.test", "/"),
        ("APP.TEST", "/upper"),
        ("two.test", "/"),
        ("two.test", "/ping"),
        ("both.test", "/"),
        ("both.test", "/ping"),
        ("both.test", "/static/y"),
        ("both.test", "/static/x/y"),
        ("both.test", "/in/x"),
        ("both.test", "/in/out/x"),
        ("none.test", "/none"),
        ("unknown.test", "/nobody"),
        ("app.test", "/last"),
        ("both.test", "/last"),
    ):
        edge.ask(host, path)
    wait_for(lambda: "app.test/last" in logged(one) and "both.test/last" in logged(audit) and len(logged(two)) == 6)
    assert logged(one) == ["app.test/", "APP.TEST/upper", "app.test/last"], "in whatever case the host was written"
    assert logged(two) == [
        "two.test/",
        "both.test/",
        "both.test/static/y",
        "both.test/in/x",
        "both.test/in/out/x",
        "both.test/last",
    ]
    assert logged(audit) == ["both.test/", "both.test/ping", "both.test/in/x", "both.test/in/out/x", "both.test/last"]
    assert logged(inner) == ["both.test/in/x"]
    assert not {"/none", "/nobody", "app.test"} & set(default_log(edge).split('"')), "nor in Caddy's own log"


def test_no_log_holds_what_would_let_its_reader_in(edge: EdgeUnderTest, tmp_path: Path) -> None:
    """Neither access and audit logs, nor what Caddy itself says of errors, of routes with a log and without one."""
    app, broken = edge.upstream(answer=telling), Broken()
    files = [tmp_path / "access.log", tmp_path / "audit.log"]
    audit = {"type": "audit_log", "config": {"file": str(files[1]), "log_responses": True}}
    logging = {"access_log": {"file": str(files[0])}, "middleware": ["audit"]}
    before = len(default_log(edge))
    edge.apply(
        middleware={"audit": audit},
        routes={
            "app.test": {"upstreams": [app.dial], **logging},
            "dead.test": {"upstreams": ["127.0.0.1:1"], **logging},
            "pages.test": {"upstreams": ["127.0.0.1:1"], **logging, "error_pages": {"pages": {"5xx": "x"}}},
            "cut.test": {"upstreams": [broken.dial], **logging},
            "quiet.test": {"upstreams": [app.dial]},
            "quietly-dead.test": {"upstreams": ["127.0.0.1:1"]},
            "quietly-cut.test": {"upstreams": [broken.dial]},
            "stdout.test": {"upstreams": [app.dial], "access_log": True},
        },
    )
    hosts = ["app", "dead", "pages", "cut", "quiet", "quietly-dead", "quietly-cut", "stdout"]
    for host in hosts:
        try:
            edge.ask(f"{host}.test", "/x" + QUERY, **{k.replace("-", "_"): v for k, v in TELLING.items()})
        except http.client.IncompleteRead:
            assert "cut" in host
    edge.ask("stdout.test", "/end")
    wait_for(lambda: "/end" in default_log(edge)[before:] and len(lines(files[1])) >= 4)
    broken.close()
    said = default_log(edge)[before:]
    for text in (said, *(file.read_text() for file in files)):
        assert SECRET not in text
        assert "a=b&access_token=REDACTED" in text, "what is there, without its secrets"
    assert "connection refused" in said and "quietly-dead.test" in said, "errors are told, of routes without a log too"
    assert "aborting with incomplete response" in said
    why = {row["request"]["host"]: row.get("error", "") for row in lines(files[0])}
    assert "connection refused" in why["pages.test"], "a page hides the cause from the visitor, not from the log"


class Broken:
    """An upstream that hangs up in the middle of its answer."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.dial = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            visitor.recv(65536)
            visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx")
            visitor.close()

    def close(self) -> None:
        self._socket.close()


def test_logs_leave_no_trace_when_the_routes_are_gone(edge: EdgeUnderTest, tmp_path: Path) -> None:
    client = CaddyClient(edge.caddy.admin)
    config, etag = client.config()
    theirs = {"logs": {"default": {"exclude": ["tls"], "level": "INFO"}, "own": {"include": ["admin"]}}}
    client.replace({**config, "logging": theirs}, etag)
    app = edge.upstream()
    logging = {"upstreams": [app.dial], "access_log": {"file": str(tmp_path / "a.log")}}
    edge.apply(routes={"app.test": logging})
    target = edge.target(routes={"app.test": logging})
    assert not target.engine.plan(target.wish).changes, "what was written is read as it was meant"
    assert client.config()[0]["logging"] != theirs
    edge.apply(routes={})
    assert client.config()[0]["logging"] == theirs


# Metrics, health, tracing


def series(text: str) -> set[str]:
    """Values of the label host."""
    return {part.split('"')[0] for part in text.split('host="')[1:]}


def test_metrics_are_on_loopback_and_bounded(edge: EdgeUnderTest) -> None:
    app, port = edge.upstream(), free_port()
    routes = {host: {"upstreams": [app.dial]} for host in ("app.test", "*.wild.test")}
    edge.apply(
        monitoring={"metrics": {"per_host": True, "port": port, "path": "/numbers"}},
        routes=routes,
    )
    for host in (
        "app.test",
        "APP.test",
        *(f"{n}.unknown.test" for n in range(5)),
        *(f"{n}.wild.test" for n in range(5)),
    ):
        edge.ask(host)
    here = requests.get(f"http://127.0.0.1:{port}/numbers", timeout=5)
    assert here.status_code == 200 and "caddy_http_requests_total" in here.text
    assert series(here.text) <= {"app.test", "_other", "*.wild.test"} and "app.test" in series(here.text)
    assert "caddy_http_requests_total" in admin(edge, "/metrics")
    assert edge.ask(path="/numbers").json["path"] == "/numbers", "not among what strangers reach"

    edge.apply(monitoring={"metrics": {}}, routes=routes)
    edge.ask()
    assert "caddy_http_requests_total" in admin(edge, "/metrics") and not series(admin(edge, "/metrics"))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/numbers", timeout=5)


def admin(edge: EdgeUnderTest, path: str) -> str:
    """One look at Caddy's admin API, over its socket."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(edge.caddy.socket))
        visitor.sendall(f"GET {path} HTTP/1.0\r\nHost: \r\n\r\n".encode())
        return b"".join(iter(lambda: visitor.recv(65536), b"")).decode()


def test_the_health_endpoint_answers_for_any_host(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    health = {"path": "/healthz", "detailed_path": "/healthz/more"}
    edge.apply(
        monitoring={"health_endpoint": health, "tracing": {"span": "edge"}},
        routes={"app.test": {"upstreams": [app.dial], "maintenance": True}},
    )
    for host in ("app.test", "unknown.test", "127.0.0.1", "A.B"):
        assert (edge.ask(host, "/healthz").status, edge.ask(host, "/healthz").text) == (200, "ok\n"), host
    assert edge.ask("x", "/healthz/more").json == {"status": "ok", "host": socket.gethostname()}
    assert edge.ask("unknown.test", "/healthz/other").status == 404 and not app.seen
    edge.apply(monitoring={"health_endpoint": {"enabled": False}}, routes={"app.test": {"upstreams": [app.dial]}})
    assert edge.ask(path="/health").json["path"] == "/health"


def test_spans_are_made_by_the_stock_binary(edge: EdgeUnderTest) -> None:
    """The upstream is told which trace it is part of; where spans go is up to Caddy's environment."""
    app = edge.upstream()
    edge.apply(monitoring={"tracing": {}}, routes={"app.test": {"upstreams": [app.dial]}})
    assert edge.ask().status == 200
    assert app.seen[-1].headers["traceparent"][0].startswith("00-")
