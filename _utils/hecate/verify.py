"""Probes from outside: does DNS answer, does TLS hold, does the right thing come back?

Every probe has a timeout and is tried a few times, since a name server and a certificate need a
moment after a change. A probe that raises what it does not expect is a failed probe, not a crash.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dns.exception
import dns.resolver

from hecate.model.caddy import Edge
from hecate.model.estate import Estate

WORKERS = 8
LOGIN = (301, 302, 303, 307)


@dataclass(frozen=True)
class Probe:
    """One question and what came back. `told` says what was seen, or what to look at."""

    what: str
    good: bool
    told: str


def verify(estate: Estate, roots: Mapping[str, str], sleep: Callable[[float], None] = time.sleep) -> list[Probe]:
    """All probes of the estate, in the pillar's order.

    roots: PEM of each edge's internal CA, by minion id; edges without one use the public roots.
    """
    protected = {host for host, _, _ in estate.guarded()}
    jobs: list[tuple[str, Callable[[], str]]] = []
    for host, route in estate.routes.items():
        for name in (host, *route.hosts):
            if records := estate.records_of(route, name):
                for kind, values in records.by_type().items():
                    jobs.append((f"dns {name} {kind}", _dns_job(estate, name, kind, values)))
            for edge_id, edge in estate.edges.items():
                job = _http_job(estate, name, edge, roots.get(edge_id), host in protected)
                jobs.append((f"https {name} at {edge_id}", job))
    settings = estate.verify
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda job: _tried(job[0], job[1], settings.attempts, sleep), jobs))


def _tried(what: str, probe: Callable[[], str], attempts: int, sleep: Callable[[float], None]) -> Probe:
    for left in range(attempts - 1, -1, -1):
        try:
            return Probe(what, True, probe())
        except (ProbeFailed, OSError, http.client.HTTPException, dns.exception.DNSException) as err:
            if not left:
                return Probe(what, False, str(err) or type(err).__name__)
            sleep(1)
    raise AssertionError("unreachable")


class ProbeFailed(Exception):
    """The answer is not the one that the pillar promises."""


def _dns_job(estate: Estate, name: str, kind: str, values: list[str]) -> Callable[[], str]:
    def probe() -> str:
        resolver = dns.resolver.Resolver(configure=not estate.verify.nameserver)
        if estate.verify.nameserver:
            address, _, port = estate.verify.nameserver.rpartition(":")
            resolver.nameservers, resolver.port = [address.strip("[]")], int(port)
        resolver.lifetime = estate.verify.timeout
        answer = resolver.resolve(name, kind)
        seen = sorted(_text(kind, record) for record in answer)
        if seen != sorted(values):
            raise ProbeFailed(f"answers {', '.join(seen)}; wanted {', '.join(values)}")
        return ", ".join(seen)

    return probe


def _text(kind: str, record: object) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode()  # type: ignore[attr-defined]
    return str(record).rstrip(".") if kind == "CNAME" else str(record)


def _http_job(estate: Estate, name: str, edge: Edge, root: str | None, protected: bool) -> Callable[[], str]:
    def probe() -> str:
        status, location = _request(name, edge, root, estate.verify.timeout)
        if protected:
            if status in LOGIN and "/outpost.goauthentik.io/" in location:
                return f"{status}, sends to login"
            raise ProbeFailed(f"answers {status} to a stranger; a protected route has to send to login")
        if status >= 500:
            raise ProbeFailed(f"answers {status}; is the upstream up?")
        return str(status)

    return probe


def _request(name: str, edge: Edge, root: str | None, timeout: int) -> tuple[int, str]:
    """GET / as a stranger, over TLS that has to verify for `name`."""
    context = ssl.create_default_context(cadata=root)
    with (
        socket.create_connection((edge.address, edge.https), timeout=timeout) as raw,
        context.wrap_socket(raw, server_hostname=name) as secure,
    ):
        connection = http.client.HTTPSConnection(name, timeout=timeout)
        connection.sock = secure
        connection.request("GET", "/", headers={"Host": name, "User-Agent": "hecate-verify"})
        response = connection.getresponse()
        response.read(65536)
        return response.status, response.headers.get("Location", "")
