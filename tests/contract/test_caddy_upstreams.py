"""Upstreams through the real Caddy: how they are reached, chosen among, watched and left alone."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

import pytest
from conftest import free_port
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dnslib import AAAA, QTYPE, RR, SRV, A, DNSRecord
from dnslib.server import BaseResolver, DNSServer
from hecate.clients.caddy import CaddyClient

from contract.edge import EdgeUnderTest, Reply, Seen, Upstream

Answered = tuple[int, dict[str, str], bytes]


def until(condition: Callable[[], Any], what: str = "") -> None:
    """Poll: what is waited for comes from Caddy's own timers."""
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, f"never came true: {what}"
        time.sleep(0.02)


def who(edge: EdgeUnderTest, host: str, times: int, path: str = "/", **headers: str) -> list[str | None]:
    """Which upstreams answered, in order; None where Caddy itself did."""
    return [edge.ask(host, path, **headers).header("x-upstream") for _ in range(times)]


def running(edge: EdgeUnderTest) -> tuple[dict[str, Any], str]:
    return CaddyClient(edge.caddy.admin).config()


def dead() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@contextmanager
def also_at(upstream: Upstream, address: Any, family: socket.AddressFamily = socket.AF_INET) -> Iterator[Any]:
    """The same upstream on a further address: another loopback address, IPv6, or a unix socket."""
    assert upstream.server

    class Server(ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

        def server_bind(self) -> None:
            TCPServer.server_bind(self)  # without looking the name up
            self.server_name, self.server_port = "upstream.test", 0

    handler = upstream.server.RequestHandlerClass
    if isinstance(address, str):
        handler = type("OnSocket", (handler,), {"disable_nagle_algorithm": False})
    server = Server(address, handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()


# Groups and addresses


def test_a_group_answers_for_every_route_and_path_that_names_it(edge: EdgeUnderTest) -> None:
    blue, green = edge.upstream("blue"), edge.upstream("green")
    edge.apply(
        upstreams={"blue": {"upstreams": [blue.dial]}, "both": {"upstreams": [blue.dial, green.dial]}},
        routes={
            "app.test": {"upstreams": "blue", "paths": {"/both/*": {"upstreams": "both"}}},
            "other.test": {"upstreams": "both"},
            "paths.test": {"paths": {"/b/*": {"upstreams": "blue"}}},
        },
    )
    assert who(edge, "app.test", 3) == ["blue"] * 3
    assert set(who(edge, "app.test", 4, "/both/x")) == {"blue", "green"} == set(who(edge, "other.test", 4))
    assert edge.ask("paths.test", "/b/x").header("x-upstream") == "blue" and edge.ask("paths.test").status == 404


def test_a_changed_group_changes_all_its_routes(edge: EdgeUnderTest) -> None:
    old, new = edge.upstream("old"), edge.upstream("new")
    routes = {f"{name}.test": {"upstreams": "shared"} for name in "abc"}
    for server in (old, new):
        edge.apply(upstreams={"shared": {"upstreams": [server.dial]}}, routes=routes)
        assert {edge.ask(host).header("x-upstream") for host in routes} == {server.name}


def test_sockets_ipv6_and_names_are_dialled(edge: EdgeUnderTest, tmp_path: Path) -> None:
    app, ways = edge.upstream("app"), {}
    path = str(tmp_path / "app.sock")
    with ExitStack() as stack:
        stack.enter_context(also_at(app, path, socket.AF_UNIX))
        six = stack.enter_context(also_at(app, ("::1", 0), socket.AF_INET6))[1]
        ways = {
            "socket.test": {"upstreams": [f"unix/{path}"]},
            "six.test": {"upstreams": [f"[::1]:{six}"]},
            "name.test": {"upstreams": [app.dial.replace("127.0.0.1", "localhost")]},
            "scheme.test": {"upstreams": [f"HTTP://{app.dial}"]},
            "mixed.test": {"upstreams": [f"unix/{path}", f"[::1]:{six}"], "balance": "round_robin"},
        }
        edge.apply(routes=ways)
        assert {host: edge.ask(host).status for host in ways} == dict.fromkeys(ways, 200)
        assert len(who(edge, "mixed.test", 4)) == 4


def test_two_routes_with_the_same_settings_keep_their_own_servers(edge: EdgeUnderTest) -> None:
    """Routes that are compiled alike share their steps, but never a server that stands in those."""
    a, b = edge.upstream("a"), edge.upstream("b")
    check = {"quick": {"fail_duration": "1s"}}
    settings: dict[str, dict[str, Any]] = {
        "plain": {},
        "checked": {"health_check": "quick"},
        "balanced": {"balance": "first"},
        "timed": {"timeouts": {"response": "5s"}},
        "weighed": {"upstreams": [{"weight": 5}]},
        "limited": {"upstreams": [{"max_requests": 5}]},
    }
    routes = {}
    for name, fields in settings.items():
        for server in (a, b):
            own = [{"dial": server.dial, **more} for more in fields.get("upstreams", [{}])]
            routes[f"{name}-{server.name}.test"] = {**fields, "upstreams": own}
    edge.apply(health_checks=check, routes=routes)
    assert {host: edge.ask(host).header("x-upstream") for host in routes} == {h: h[-6] for h in routes}


# What is shared in Caddy, and what never is


def proxies(config: Any) -> list[dict[str, Any]]:
    """Every reverse_proxy in a configuration."""
    if isinstance(config, dict):
        own = [config] if config.get("handler") == "reverse_proxy" else []
        return own + [found for value in config.values() for found in proxies(value)]
    return [found for value in config for found in proxies(value)] if isinstance(config, list) else []


@pytest.mark.parametrize(
    "common", [{}, {"timeouts": {"response": "9s"}}, {"headers": {"request": {"X-Tenant": "blue"}}}]
)
def test_plain_routes_share_one_proxy(edge: EdgeUnderTest, common: dict[str, Any]) -> None:
    servers = [edge.upstream(name) for name in "abc"]
    routes = {f"{s.name}{i}.test": {"upstreams": [s.dial], **common} for s in servers for i in range(4)}
    edge.apply(routes=routes)
    assert [edge.ask(host).header("x-upstream") for host in routes] == [host[0] for host in routes]
    assert len(proxies(running(edge)[0])) == 1
    if "headers" in common:
        assert {tuple(seen.headers["x-tenant"]) for s in servers for seen in s.seen} == {("blue",)}


def test_a_dead_server_with_checks_takes_no_other_route_down(edge: EdgeUnderTest) -> None:
    """Caddy would count the failures of all servers behind a placeholder as one server's."""
    app = edge.upstream()
    check = {"fail_duration": "10m", "max_fails": 1}
    dials = {"dead.test": dead(), "app.test": app.dial, "plain.test": app.dial}
    routes = {host: {"upstreams": [dial], "health_check": check} for host, dial in dials.items()}
    del routes["plain.test"]["health_check"]
    edge.apply(routes=routes)
    assert [edge.ask("dead.test").status for _ in range(3)] == [502, 503, 503]
    assert edge.ask("app.test").status == edge.ask("plain.test").status == 200
    shared = [p for p in proxies(running(edge)[0]) if any("{" in u["dial"] for u in p["upstreams"])]
    assert len(shared) == 1 and not shared[0].get("health_checks") and not shared[0].get("load_balancing")


# TLS towards upstreams


def _certificate(name: str, folder: Path, issuer: tuple[Any, Any] | None = None) -> tuple[Path, Path, tuple[Any, Any]]:
    """Certificate, key and (certificate, key) as objects; without issuer an authority. name: host or address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    named = x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return *files, (built, key)


class Authority:
    """A certificate authority of the test's own, and servers and clients with certificates of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, _, self.issuer = _certificate("authority.test", folder)
        self.names: list[str | None] = []

    def secure(self, upstream: Upstream, name: str, *, clients: bool = False) -> Upstream:
        """Let it speak TLS with a certificate for `name`; clients: only to those who have one as well."""
        certificate, key, _ = _certificate(name, self.folder, self.issuer)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.sni_callback = lambda _socket, asked, _context: self.names.append(asked)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        assert upstream.server
        upstream.server.socket = context.wrap_socket(upstream.server.socket, server_side=True)
        return upstream


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_an_upstreams_certificate_is_checked_as_the_route_says(edge: EdgeUnderTest, authority: Authority) -> None:
    numbered = authority.secure(edge.upstream("numbered"), "127.0.0.1").dial
    named = authority.secure(edge.upstream("named"), "backend.test").dial
    ca = str(authority.ca)
    routes: dict[str, Any] = {
        "unknown.test": {"upstreams": [f"https://{numbered}"]},
        "known.test": {"upstreams": [f"https://{numbered}"], "upstream_tls": {"ca": ca}},
        "misnamed.test": {"upstreams": [f"https://{named}"], "upstream_tls": {"ca": ca}},
        "named.test": {
            "upstreams": [f"https://{named}"],
            "upstream_tls": {"ca": ca, "server_name": "backend.test"},
        },
        "skipped.test": {"upstreams": [f"HTTPS://{named}"], "tls_skip_verify": True},
        "spelled.test": {"upstreams": [f"https://{named}"], "upstream_tls": {"skip_verify": True}},
        "group.test": {"upstreams": "careless"},
        "path.test": {"paths": {"/api/*": {"upstreams": [f"https://{numbered}"], "upstream_tls": {"ca": ca}}}},
        "checked.test": {
            "upstreams": [f"https://{numbered}"],
            "upstream_tls": {"ca": ca},
            "health_check": {"path": "/healthz", "interval": "100ms"},
        },
    }
    groups = {"careless": {"upstreams": [f"https://{numbered}", f"https://{named}"], "tls_skip_verify": True}}
    edge.apply(upstreams=groups, routes=routes)
    got = {host: edge.ask(host, "/api/x").status for host in routes}
    assert got == {**dict.fromkeys(routes, 200), "unknown.test": 502, "misnamed.test": 502}
    assert "backend.test" in authority.names
    assert set(who(edge, "group.test", 4)) == {"numbered", "named"}


def test_an_https_upstream_gets_the_host_that_the_client_asked_for(edge: EdgeUnderTest, authority: Authority) -> None:
    app = authority.secure(edge.upstream(), "127.0.0.1")
    tls = {"upstreams": [f"https://{app.dial}"], "tls_skip_verify": True}
    own = {**tls, "headers": {"request": {"host": "inside.test"}}}
    edge.apply(routes={"app.test": tls, "own.test": own})
    for asked, host, reaches in [
        ("app.test", "app.test", "app.test"),
        ("app.test", "app.test:8443", "app.test:8443"),
        ("own.test", "own.test", "inside.test"),
    ]:
        assert edge.ask(host).json["headers"]["host"] == [reaches], asked


def test_an_upstream_that_demands_a_client_certificate_gets_it(edge: EdgeUnderTest, authority: Authority) -> None:
    app = authority.secure(edge.upstream(), "127.0.0.1", clients=True)
    certificate, key, _ = _certificate("edge.test", authority.folder, authority.issuer)
    bare = {"upstreams": [f"https://{app.dial}"], "upstream_tls": {"ca": str(authority.ca)}}
    shown = {"ca": str(authority.ca), "certificate": str(certificate), "key": str(key)}
    edge.apply(routes={"bare.test": bare, "app.test": {**bare, "upstream_tls": shown}})
    assert edge.ask("app.test").status == 200
    assert edge.ask("bare.test").status == 502


# HTTP/2 in the clear

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def _frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _field(name: bytes, value: bytes) -> bytes:
    """One header, literally (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _speak_h2(connection: socket.socket, seen: list[bytes]) -> None:
    """Just enough of RFC 9113 to answer as a gRPC server does: headers, a message, trailers."""
    stream = connection.makefile("rwb")
    seen.append(stream.read(len(PREFACE)))
    if seen[-1] != PREFACE:
        return connection.close()
    stream.write(_frame(4, 0, 0))
    stream.flush()
    while len(head := stream.read(9)) == 9:
        kind, flags, number = struct.unpack(">BBI", head[3:])
        stream.read(int.from_bytes(head[:3], "big"))
        if kind == 4 and not flags & 1:
            stream.write(_frame(4, 1, 0))
        elif kind in (0, 1) and flags & 1:
            stream.write(_frame(1, 4, number, b"\x88" + _field(b"content-type", b"application/grpc")))
            stream.write(_frame(0, 0, number, b"over h2c"))
            stream.write(_frame(1, 5, number, _field(b"grpc-status", b"0")))
        stream.flush()


@contextmanager
def listening(serve: Callable[[socket.socket], object], address: str = "127.0.0.1") -> Iterator[int]:
    """A raw TCP server that serves each connection in a thread of its own; yields its port."""
    with socket.create_server((address, 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_grpc_servers_are_spoken_to_in_http2(edge: EdgeUnderTest) -> None:
    seen: list[bytes] = []
    with listening(lambda connection: _speak_h2(connection, seen)) as port, name_server() as dns:
        dns.hosts["grpc.discovered.test"] = ["127.0.0.1"]
        found = {"a": "grpc.discovered.test", "port": port, "resolver": dns.address, "scheme": "h2c"}
        edge.apply(
            routes={
                "grpc.test": {"upstreams": [f"h2c://127.0.0.1:{port}"]},
                "found.test": {"discover": found},
                "plain.test": {"upstreams": [f"127.0.0.1:{port}"]},
            }
        )
        for host in ("grpc.test", "found.test"):
            reply = edge.ask(host, "/pkg.Service/Method", "POST", b"\0\0\0\0\0", TE="trailers")
            assert (reply.status, reply.text, reply.header("content-type")) == (200, "over h2c", "application/grpc")
        assert set(seen) == {PREFACE}
        assert edge.ask("plain.test").status == 502


# Upstreams that DNS finds


class Names(BaseResolver):  # type: ignore[misc]
    """What a name server says. hosts: name -> addresses; services: name -> (priority, weight, port, target)."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[str]] = {}
        self.services: dict[str, list[tuple[int, int, int, str]]] = {}
        self.address = ""
        self.asked: Counter[str] = Counter()

    def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
        reply, name, kind = request.reply(), str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        self.asked[f"{kind} {name}"] += 1
        for address in self.hosts.get(name, []):
            found = AAAA(address) if ":" in address else A(address)
            if kind == QTYPE[QTYPE.AAAA if ":" in address else QTYPE.A]:
                reply.add_answer(RR(name, request.q.qtype, rdata=found, ttl=0))
        if kind == "SRV":
            for priority, weight, port, target in self.services.get(name, []):
                reply.add_answer(RR(name, QTYPE.SRV, rdata=SRV(priority, weight, port, target), ttl=0))
        if name not in self.hosts and name not in self.services:
            reply.header.rcode = 3
        return reply


@contextmanager
def name_server() -> Iterator[Names]:
    names = Names()
    server = DNSServer(names, address="127.0.0.1", port=0, logger=_Silent())
    threading.Thread(target=server.server.serve_forever, args=(0.02,), daemon=True).start()
    names.address = f"127.0.0.1:{server.server.server_address[1]}"
    try:
        yield names
    finally:
        server.server.shutdown()
        server.server.server_close()


class _Silent:
    """A log that nobody reads."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def port_of(upstream: Upstream) -> int:
    return int(upstream.dial.rpartition(":")[2])


def test_upstreams_that_move_are_followed_without_a_write_or_a_reload(edge: EdgeUnderTest) -> None:
    old, new = edge.upstream("old"), edge.upstream("new")
    service, host = "web.service.test", "web.discovered.test"
    with name_server() as dns, also_at(new, ("127.0.0.2", port_of(old))):
        dns.hosts = {host: ["127.0.0.1"], "one.node.test": ["127.0.0.1"]}
        dns.services[service] = [(1, 1, port_of(old), "one.node.test")]
        common = {"resolver": dns.address, "refresh": "50ms"}
        edge.apply(
            routes={
                "srv.test": {"discover": {"srv": service, **common}},
                "a.test": {"discover": {"a": host, "port": port_of(old), **common}},
            }
        )
        before = running(edge)[1]
        assert who(edge, "srv.test", 2) == who(edge, "a.test", 2) == ["old"] * 2
        dns.hosts[host] = ["127.0.0.2"]
        dns.services[service] = [(1, 1, port_of(new), "one.node.test")]
        until(lambda: {edge.ask(h).header("x-upstream") for h in ("srv.test", "a.test")} == {"new"}, "moved")
        assert running(edge)[1] == before
    assert who(edge, "srv.test", 3) == ["new"] * 3, "SRV answers outlive an outage of DNS"


def test_discovered_upstreams_are_balanced_and_spoken_to_in_tls(edge: EdgeUnderTest, authority: Authority) -> None:
    a, b = edge.upstream("a"), edge.upstream("b")
    safe = authority.secure(edge.upstream("safe"), "one.nodes.test")
    with name_server() as dns:
        dns.hosts = {"one.nodes.test": ["127.0.0.1"], "safe.nodes.test": ["127.0.0.1"]}
        dns.services["both.service.test"] = [(1, 1, port_of(a), "one.nodes.test"), (2, 1, port_of(b), "one.nodes.test")]
        dns.services["safe.service.test"] = [(1, 1, port_of(safe), "one.nodes.test")]
        both = {"srv": "both.service.test", "resolver": dns.address}
        in_tls = {"srv": "safe.service.test", "resolver": dns.address}
        numbered = {"a": "safe.nodes.test", "port": port_of(safe), "resolver": dns.address}
        ca = str(authority.ca)
        edge.apply(
            upstreams={"found": {"discover": both, "balance": {"policy": "cookie"}}},
            routes={
                "both.test": {"discover": both},
                "first.test": {"discover": both, "balance": "first"},
                "sticky.test": {"upstreams": "found"},
                "tls.test": {"discover": in_tls, "upstream_tls": {"ca": ca}},
                "system.test": {"discover": {**in_tls, "scheme": "https"}},
                "skip.test": {"discover": numbered, "tls_skip_verify": True},
                "numbered.test": {
                    "discover": numbered,
                    "upstream_tls": {"ca": ca, "server_name": "one.nodes.test"},
                },
            },
        )
        assert sorted(map(str, who(edge, "both.test", 4))) == ["a", "a", "b", "b"]
        assert who(edge, "first.test", 4) == ["a"] * 4, "the record of the first priority"
        reply = edge.ask("sticky.test")
        cookie = str(reply.header("set-cookie")).partition(";")[0]
        assert set(who(edge, "sticky.test", 4, Cookie=cookie)) == {reply.header("x-upstream")}
        assert {host: edge.ask(host).status for host in ("tls.test", "skip.test", "numbered.test", "system.test")} == {
            "tls.test": 200,
            "skip.test": 200,
            "numbered.test": 200,
            "system.test": 502,
        }


def test_a_discovered_server_that_fails_is_passed_over(edge: EdgeUnderTest) -> None:
    app, sick = edge.upstream("app"), edge.upstream("sick", lambda _: (500, {}, b""))
    with name_server() as dns:
        dns.hosts["one.watch.test"] = ["127.0.0.1"]
        dns.services["watch.service.test"] = [
            (1, 1, port_of(app), "one.watch.test"),
            (2, 1, port_of(sick), "one.watch.test"),
        ]
        found = {"srv": "watch.service.test", "resolver": dns.address}
        check = {"unhealthy_status": [500], "fail_duration": "10m"}
        edge.apply(routes={"app.test": {"discover": found, "health_check": check}})
        assert Counter(who(edge, "app.test", 8)) == {"sick": 1, "app": 7}


# Choosing among several


def test_shares_are_exact_and_in_smallest_terms(edge: EdgeUnderTest) -> None:
    a, b, c = (edge.upstream(name) for name in "abc")
    heavy = [{"dial": a.dial, "weight": 90}, {"dial": b.dial, "weight": 10}]
    three = [{"dial": s.dial, "weight": w} for s, w in ((a, 3), (b, 2), (c, 1))]
    edge.apply(
        routes={
            "even.test": {"upstreams": [a.dial, b.dial, c.dial]},
            "spelled.test": {"upstreams": [a.dial, b.dial], "balance": "round_robin"},
            "heavy.test": {"upstreams": heavy},
            "retried.test": {"upstreams": heavy, "balance": {"retries": 1}},
            "three.test": {"upstreams": three, "balance": "weighted"},
            "drained.test": {"upstreams": [a.dial, {"dial": b.dial, "weight": 0}]},
            "alone.test": {"upstreams": [{"dial": a.dial, "weight": 7}], "balance": "weighted"},
        }
    )
    assert Counter(who(edge, "even.test", 9)) == {"a": 3, "b": 3, "c": 3}
    assert Counter(who(edge, "spelled.test", 6)) == {"a": 3, "b": 3}
    assert Counter(who(edge, "three.test", 12)) == {"a": 6, "b": 4, "c": 2}
    assert Counter(who(edge, "drained.test", 5)) == {"a": 5} == Counter(who(edge, "alone.test", 5))
    for host in ("heavy.test", "retried.test"):
        order = who(edge, host, 20)
        assert Counter(order) == {"a": 18, "b": 2}
        assert order.index("b") + 10 == 19 - order[::-1].index("b"), "one in ten, not ten in a hundred"


@pytest.mark.parametrize("policy", ["random", "least_conn", "first"])
def test_policies_without_settings_answer(edge: EdgeUnderTest, policy: str) -> None:
    a, b = edge.upstream("a"), edge.upstream("b")
    edge.route(upstreams=[a.dial, b.dial], balance=policy)
    got = set(who(edge, "app.test", 24))
    assert got == ({"a"} if policy == "first" else {"a", "b"})


def test_the_least_busy_upstream_is_chosen(edge: EdgeUnderTest) -> None:
    release = threading.Event()
    busy = edge.upstream("busy", lambda _: (release.wait(10), (200, {}, b""))[1])
    idle = edge.upstream("idle")
    edge.apply(
        routes={
            "occupy.test": {"upstreams": [busy.dial], "balance": "least_conn"},
            "app.test": {"upstreams": [busy.dial, idle.dial], "balance": "least_conn"},
        }
    )
    with asking(edge, "occupy.test"):
        until(lambda: busy.seen)
        assert who(edge, "app.test", 8) == ["idle"] * 8
        release.set()


@contextmanager
def asking(edge: EdgeUnderTest, host: str, **fields: Any) -> Iterator[list[Reply]]:
    """A request under way; its reply is in the list after the block."""
    replies: list[Reply] = []
    thread = threading.Thread(target=lambda: replies.append(edge.ask(host, **fields)), daemon=True)
    thread.start()
    yield replies
    thread.join(15)


def test_equal_requests_stay_together(edge: EdgeUnderTest) -> None:
    """By the client's address, behind a trusted proxy or not, by URI, or by a header."""
    servers = [edge.upstream(name).dial for name in "abcd"]
    policies: dict[str, Any] = {
        name: {"upstreams": servers, "balance": name} for name in ("ip_hash", "client_ip_hash", "uri_hash")
    }
    policies["header"] = {"upstreams": servers, "balance": {"policy": "header", "header": "X-Tenant"}}
    edge.apply(
        caddy={"trusted_proxies": ["127.0.0.1"]},
        routes={f"{name.replace('_', '-')}.test": fields for name, fields in policies.items()},
    )
    clients = [f"203.0.113.{n}" for n in range(1, 25)]
    assert len({s for ip in clients[:6] for s in who(edge, "ip-hash.test", 1, X_Forwarded_For=ip)}) == 1
    spread = [who(edge, "client-ip-hash.test", 2, X_Forwarded_For=ip) for ip in clients]
    assert all(first == second for first, second in spread) and len({first for first, _ in spread}) > 1
    spread = [who(edge, "uri-hash.test", 2, f"/{ip}") for ip in clients]
    assert all(first == second for first, second in spread) and len({first for first, _ in spread}) > 1
    spread = [who(edge, "header.test", 2, X_Tenant=ip) for ip in clients]
    assert all(first == second for first, second in spread) and len({first for first, _ in spread}) > 1
    assert set(Counter(who(edge, "header.test", 8)).values()) == {2}, "without the header they take turns"


def test_a_cookie_keeps_its_upstream_through_new_weights(edge: EdgeUnderTest) -> None:
    old, new = edge.upstream("old"), edge.upstream("new")

    def shares(first: int, second: int) -> dict[str, Any]:
        servers = [{"dial": old.dial, "weight": first}, {"dial": new.dial, "weight": second}]
        return {"upstreams": servers, "balance": {"policy": "cookie", "cookie": "stick", "max_age": "1h"}}

    edge.route(**shares(9, 1))
    fresh = [edge.ask() for _ in range(20)]
    assert Counter(reply.header("x-upstream") for reply in fresh) == {"old": 18, "new": 2}
    held = {reply.header("x-upstream"): str(reply.header("set-cookie")) for reply in fresh}
    assert all(cookie.startswith("stick=") and "Max-Age=3600" in cookie for cookie in held.values())
    for weights in ((1, 9), (0, 1)):
        edge.route(**shares(*weights))
        for name, cookie in held.items():
            assert set(who(edge, "app.test", 5, Cookie=cookie.partition(";")[0])) == {name}
    assert set(who(edge, "app.test", 5)) == {"new"}, "the old one is drained: nobody new comes to it"
    edge.route(upstreams=[new.dial], balance="cookie")
    assert set(who(edge, "app.test", 2, Cookie=held["old"].partition(";")[0])) == {"new"}


# Health


def ill(answer: Callable[[Seen], Answered]) -> Callable[[Seen], Answered]:
    """Serves everybody, but a check at /healthz gets this answer."""
    return lambda seen: answer(seen) if seen.path.startswith("/healthz") else (200, {}, b"")


def test_active_checks_find_every_kind_of_illness(edge: EdgeUnderTest) -> None:
    def right(seen: Seen) -> Answered:
        known = seen.headers.get("x-check") == ["edge"] and seen.path == "/healthz?full=1" and seen.method == "GET"
        return (203, {}, b"all is ready") if known else (403, {}, b"")

    hanging = threading.Event()
    kinds: dict[str, Callable[[Seen], Answered]] = {
        "status": lambda _: (200, {}, b"all is ready"),
        "body": lambda _: (203, {}, b"not yet"),
        "redirect": lambda _: (302, {"Location": "/ok"}, b""),
        "hangs": lambda _: (hanging.wait(20), (203, {}, b"all is ready"))[1],
        "well": right,
    }
    check = {"path": "/healthz?full=1", "interval": "100ms", "timeout": "500ms", "headers": {"X-Check": "edge"}}
    check |= {"expect_status": 203, "expect_body": "is read(y|ied){1,2}$"}
    routes = {}
    for kind, answer in kinds.items():
        servers = [edge.upstream("well", ill(right)).dial, edge.upstream(kind, ill(answer)).dial]
        routes[f"{kind}.test"] = {"upstreams": servers, "health_check": check}
    routes["gone.test"] = {"upstreams": [edge.upstream("well", ill(right)).dial, dead()], "health_check": check}
    edge.apply(routes=routes)
    for host in routes:
        until(lambda host=host: who(edge, host, 4) == ["well"] * 4, host)  # type: ignore[misc]
    hanging.set()


def test_an_upstream_comes_back_when_its_checks_pass(edge: EdgeUnderTest, tmp_path: Path) -> None:
    up = {"first": True, "patient": False, "class": True}
    servers = {
        name: edge.upstream(name, ill(lambda _, name=name: (204 if up[name] else 503, {}, b"")))
        for name in up  # type: ignore[misc]
    }
    check = {"path": "/healthz", "interval": "100ms"}
    aside = edge.upstream("aside", ill(lambda _: (200, {}, b"")))
    refusing = edge.upstream("refusing", lambda seen: (500, {}, b""))
    edge.apply(
        health_checks={"often": check},
        routes={
            "app.test": {"upstreams": [servers["first"].dial], "health_check": "often"},
            "patient.test": {"upstreams": [servers["patient"].dial], "health_check": {**check, "fails": 100}},
            "class.test": {"upstreams": [servers["class"].dial], "health_check": {**check, "expect_status": 2}},
            "port.test": {"upstreams": [refusing.dial], "health_check": {**check, "port": port_of(aside)}},
            "head.test": {"upstreams": [aside.dial], "health_check": {**check, "method": "HEAD"}},
        },
    )
    up["first"] = False
    until(lambda: edge.ask("app.test").status == 503, "down")
    assert edge.ask("patient.test").status == edge.ask("class.test").status == edge.ask("head.test").status == 200
    assert edge.ask("port.test").status == 500, "its check asks another port, and that one is well"
    up["first"] = True
    until(lambda: edge.ask("app.test").status == 200, "up again")
    assert servers["patient"].seen and {seen.method for seen in aside.seen} >= {"HEAD", "GET"}


def test_requests_themselves_show_who_is_ill(edge: EdgeUnderTest) -> None:
    def slow(_: Seen) -> Answered:
        time.sleep(0.2)  # the illness itself
        return 200, {}, b""

    kinds: dict[str, tuple[Callable[[Seen], Answered], dict[str, Any]]] = {
        "status": (lambda _: (503, {}, b""), {"unhealthy_status": [500, 503], "interval": "10m"}),
        "class": (lambda _: (418, {}, b""), {"unhealthy_status": 4, "fail_duration": "10m"}),
        "slow": (slow, {"unhealthy_latency": "100ms", "fail_duration": "10m"}),
        "thrice": (lambda _: (500, {}, b""), {"unhealthy_status": 5, "fail_duration": "10m", "max_fails": 3}),
    }
    routes = {}
    for kind, (answer, check) in kinds.items():
        servers = [edge.upstream("well").dial, edge.upstream(kind, answer).dial]
        routes[f"{kind}.test"] = {"upstreams": servers, "health_check": check}
    routes["gone.test"] = {"upstreams": [edge.upstream("well").dial, dead()], "health_check": {"fail_duration": "10m"}}
    edge.apply(routes=routes)
    times = {kind: Counter(who(edge, f"{kind}.test", 10))[kind] for kind in kinds}
    assert times == {"status": 1, "class": 1, "slow": 1, "thrice": 3}
    assert Counter(reply.status for reply in (edge.ask("gone.test") for _ in range(6))) == {502: 1, 200: 5}


def test_a_full_upstream_gets_no_more(edge: EdgeUnderTest) -> None:
    """`max_requests` of an upstream, and `unhealthy_request_count` of a check, for which nobody has failed."""
    release = threading.Event()

    def wait(seen: Seen) -> Answered:
        if seen.path == "/wait":
            release.wait(10)
        return 200, {}, b""

    one, two = edge.upstream("one", wait), edge.upstream("two", wait)
    gone = dead()
    edge.apply(
        routes={
            "alone.test": {"upstreams": [{"dial": one.dial, "max_requests": 1}]},
            "both.test": {"upstreams": [{"dial": s.dial, "max_requests": 1} for s in (one, two)], "balance": "first"},
            "counted.test": {"upstreams": [one.dial], "health_check": {"unhealthy_request_count": 1}},
            "many.test": {"upstreams": [{"dial": one.dial, "max_requests": 100}]},
            "gone.test": {"upstreams": [gone], "health_check": {"unhealthy_request_count": 1}},
        }
    )
    with asking(edge, "alone.test", path="/wait") as replies:
        until(lambda: one.seen)
        assert edge.ask("alone.test").status == edge.ask("counted.test").status == 503
        assert edge.ask("both.test").header("x-upstream") == "two"
        assert edge.ask("many.test").status == 200
        release.set()
    assert replies[0].status == 200
    until(lambda: edge.ask("alone.test").status == 200, "free again")
    assert [edge.ask("gone.test").status for _ in range(2)] == [502, 502], "refused, not remembered"


# Another try, and giving up


@pytest.mark.parametrize("policy", ["round_robin", "first", "weighted", "least_conn", "uri_hash", "cookie"])
def test_a_failed_try_is_repeated_elsewhere(edge: EdgeUnderTest, policy: str) -> None:
    """Also where the policy alone would choose the dead server again and again."""
    app = edge.upstream()
    servers = [{"dial": dead(), "weight": 9 if policy == "weighted" else 1}, {"dial": app.dial}]
    edge.apply(
        routes={
            "app.test": {"upstreams": servers, "balance": {"policy": policy, "retries": 3}},
            "once.test": {"upstreams": servers, "balance": policy},
        }
    )
    assert [edge.ask(method=m, body=b"x").status for m in ("GET", "POST", "GET", "PUT")] == [200] * 4
    if policy in ("first", "weighted", "round_robin"):
        assert 502 in [edge.ask("once.test").status for _ in range(4)]


def test_requests_wait_for_an_upstream_that_is_starting(edge: EdgeUnderTest) -> None:
    tries: Counter[str] = Counter()

    def starting(connection: socket.socket) -> None:
        """Answers every fourth connection, and drops the others."""
        with connection:
            head = connection.recv(65536).decode()
            host = head.partition("Host: ")[2].partition("\r\n")[0]
            tries[host] += 1
            if tries[host] % 4 == 0:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with listening(starting) as port:
        dial = [f"127.0.0.1:{port}"]
        edge.apply(
            routes={
                "app.test": {"upstreams": dial, "balance": {"try_duration": "20s", "try_interval": "10ms"}},
                "other.test": {"upstreams": dial},
            }
        )
        assert edge.ask("other.test").status == 502
        assert edge.ask("app.test").status == 200 and tries["app.test"] == 4


def test_an_upstream_that_does_not_answer_is_given_up(edge: EdgeUnderTest) -> None:
    release = threading.Event()
    hanging = edge.upstream("hanging", lambda _: (release.wait(10), (200, {}, b""))[1])

    def half(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        release.wait(60)  # longer than the client of this test has patience
        connection.close()

    with listening(half) as port, full_backlog() as full:
        edge.apply(
            routes={
                "headers.test": {"upstreams": [hanging.dial], "timeouts": {"response": "100ms"}},
                "body.test": {"upstreams": [f"127.0.0.1:{port}"], "timeouts": {"read": "100ms", "write": "1s"}},
                "connect.test": {"upstreams": [full], "timeouts": {"dial": "100ms", "idle": "1m"}},
            }
        )
        assert edge.ask("headers.test").status == 504
        assert edge.ask("connect.test").status in (502, 504)
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            edge.ask("body.test")
        release.set()


@contextmanager
def full_backlog() -> Iterator[str]:
    """An address that answers no new connection: its queue is full and nobody accepts."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"


# Towards the upstream


def test_request_headers_are_set_added_and_removed(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    changes = {
        "set": {"X-Tenant": "blue", "X-Client": "{http.request.remote.host}"},
        "add": {"X-Via": "edge"},
        "remove": ["X-Debug-*", "Referer"],
    }
    short = {"X-Real-IP": "{http.request.remote.host}", "X-Forwarded-Proto": "{http.request.scheme}"}
    edge.apply(
        routes={
            "app.test": {"upstreams": [app.dial], "headers": {"request": changes}},
            "short.test": {"upstreams": [app.dial], "headers": short},
            "path.test": {
                "upstreams": [app.dial],
                "headers": {"request": {"X-Of": "route"}},
                "paths": {"/api/*": {"upstreams": [app.dial], "headers": {"request": {"X-Of": "path"}}}},
            },
        }
    )
    sent = {"X_Tenant": "mine", "X_Via": "client", "X_Debug_Sql": "1", "Referer": "x", "X_Of": "client"}
    got = edge.ask("app.test", **sent).json["headers"]
    assert got["x-tenant"] == ["blue"] and got["x-client"] == ["127.0.0.1"] and got["x-via"] == ["client", "edge"]
    assert "x-debug-sql" not in got and "referer" not in got
    assert edge.ask("short.test", X_Real_IP="10.9.9.9").json["headers"]["x-real-ip"] == ["127.0.0.1"]
    assert edge.ask("path.test", **sent).json["headers"]["x-of"] == ["route"]
    assert edge.ask("path.test", "/api/x", **sent).json["headers"]["x-of"] == ["path"]


# Websockets


def _echo_upgraded(connection: socket.socket) -> None:
    stream = connection.makefile("rwb")
    while (line := stream.readline()).strip():
        assert line
    stream.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    stream.flush()
    while line := stream.readline():
        stream.write(b"echo " + line)
        stream.flush()


class Stream:
    """An open websocket, as raw lines."""

    def __init__(self, edge: EdgeUnderTest, host: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", edge.caddy.https), timeout=10)
        self.file = self.socket.makefile("rwb")
        self.file.write(
            f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
        )
        self.file.flush()
        self.status = int(self.file.readline().split()[1])
        while self.file.readline().strip():
            pass

    @property
    def is_alive(self) -> bool:
        try:
            self.file.write(b"hello\n")
            self.file.flush()
            return self.file.readline() == b"echo hello\n"
        except OSError:
            return False

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def test_websockets_outlive_changes_of_other_routes(edge: EdgeUnderTest) -> None:
    """On routes that share a table and on those with a proxy of their own, through several changes."""
    app = edge.upstream()
    with listening(_echo_upgraded) as port, ExitStack() as stack:
        dial = f"127.0.0.1:{port}"
        routes: dict[str, Any] = {f"shared{n}.test": {"upstreams": [dial]} for n in range(12)}
        routes["app.test"] = {"upstreams": [dial]}
        routes["own.test"] = {"upstreams": [dial], "health_check": {"fail_duration": "1m"}}
        routes["balanced.test"] = {"upstreams": [dial, app.dial], "balance": "first"}
        edge.apply(routes={**routes, "other.test": {"upstreams": [app.dial]}})
        streams = {host: Stream(edge, host) for host in routes}
        for stream in streams.values():
            stack.callback(stream.close)
        assert {host: stream.status for host, stream in streams.items()} == dict.fromkeys(streams, 101)
        for change in ({"max_body": "1MB"}, {"upstreams": [dead()]}, {"headers": {"X-A": "1"}}):
            edge.apply(routes={**routes, "other.test": {"upstreams": [app.dial], **change}})
            assert {host: s.is_alive for host, s in streams.items()} == dict.fromkeys(streams, True)
        del routes["app.test"]
        edge.apply(routes={**routes, "other.test": {"upstreams": [app.dial]}})
        assert streams["app.test"].is_alive, "even when its own route is gone"


def test_the_grace_of_websockets_is_the_pillars(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    with listening(_echo_upgraded) as port:
        routes = {"app.test": {"upstreams": [f"127.0.0.1:{port}"]}, "other.test": {"upstreams": [app.dial]}}
        edge.apply(caddy={"websocket_grace": "50ms"}, routes=routes)
        stream = Stream(edge, "app.test")
        assert stream.is_alive
        edge.apply(caddy={"websocket_grace": "50ms"}, routes={**routes, "new.test": {"upstreams": [app.dial]}})
        until(lambda: not stream.is_alive, "closed")
        stream.close()


# The user's own example


def test_the_example_of_a_limited_upstream_is_served(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    listed = [{"domain": "app.test", "upstreams": [{"dial": app.dial, "max_requests": 100}]}]
    checks = {
        "default": {
            "path": "/health",
            "interval": "30s",
            "timeout": "5s",
            "unhealthy_status": [500, 503],
            "unhealthy_request_count": 3,
        },
        "comprehensive": {
            "path": "/health/detailed",
            "interval": "60s",
            "timeout": "10s",
            "headers": {"X-Health-Check": "true"},
            "expect_status": 200,
            "expect_body": "path",
        },
    }
    for name in checks:
        edge.apply(health_checks=checks, routes=[{**listed[0], "health_check": name}])
        assert edge.ask().status == 200
        until(lambda: any(seen.path.startswith("/health") for seen in app.seen))
    asked = [seen for seen in app.seen if seen.path == "/health/detailed"]
    assert json.dumps(asked[0].headers["x-health-check"]) == '["true"]'


def test_a_routes_request_headers_reach_the_upstreams_of_its_paths_too(edge: EdgeUnderTest) -> None:
    main, other = edge.upstream("main"), edge.upstream("other")
    rules = {
        "/own/*": {"upstreams": [other.dial], "headers": {"request": {"X-Rule": "own", "X-Both": "rule"}}},
        "/inherited/*": {"headers": {"request": {"X-Rule": "inherited"}}},
    }
    headers = {"request": {"X-Route": "yes", "X-Both": "route"}}
    edge.route(upstreams=[main.dial], headers=headers, paths=rules)
    own, inherited = edge.ask(path="/own/a").json["headers"], edge.ask(path="/inherited/a").json["headers"]
    assert (own["x-route"], own["x-rule"], own["x-both"]) == (["yes"], ["own"], ["rule"])
    assert (inherited["x-route"], inherited["x-rule"], inherited["x-both"]) == (["yes"], ["inherited"], ["route"])
