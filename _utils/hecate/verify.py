"""Probes from outside: does DNS answer, does TLS hold, does the right thing come back?

Every probe has a timeout and is tried a few times, since a name server and a certificate need a
moment after a change. A probe that raises what it does not expect is a failed probe, not a crash.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dns.exception
import dns.resolver

from hecate.model.caddy import Edge
from hecate.model.estate import Estate
from hecate.model.routes import Route

WORKERS = 8
SHOWN = 200  # probes that a table lists
PATIENCE = 20  # probes that may fail in every attempt before no other is repeated
LOGIN = (301, 302, 303, 307)
EVERYTHING = ("/", "/*")
NO_CERTIFICATE = ("certificate required", "bad certificate", "handshake failure")  # alerts, of TLS 1.3 and 1.2
BEFORE_LOGIN = {"ip_filter", "basic_auth", "block_scanners"}
PROBE = "hecate-probe"  # stands for the star of a wildcard


@dataclass(frozen=True)
class Probe:
    """One question and what came back. `told` says what was seen, or what to look at."""

    what: str
    good: bool
    told: str


def verify(estate: Estate, roots: Mapping[str, str], sleep: Callable[[float], None] = time.sleep) -> list[Probe]:
    """All probes of the estate, in the pillar's order.

    roots: PEM of each edge's internal CA, by minion id; public roots count beside it, and those of
    hecate:verify:roots.
    """
    known = {edge_id: _trust(roots.get(edge_id), estate.verify.roots) for edge_id in estate.edges}
    jobs: list[tuple[str, Callable[[], str]]] = []
    for host, route in estate.routes.items():
        for name in (host, *route.hosts):
            if records := estate.records_of(route, name):
                for kind, values in records.by_type().items():
                    jobs.append((f"dns {name} {kind}", _dns_job(estate, name, kind, values)))
            for edge_id, edge in estate.edges.items():
                ask = _asked(estate, route, name, edge, known[edge_id])
                jobs.append((f"{ask.scheme} {name} at {edge_id}", _http_job(ask, expected(estate, route))))
    tries = _Tries(estate.verify.attempts, sleep)
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda job: tries.probe(*job), jobs))


def table(probes: Sequence[Probe]) -> str:
    """A line a probe; of very many only those that failed, and how many did not."""
    bad = [probe for probe in probes if not probe.good]
    shown = probes if len(probes) <= SHOWN else bad[:SHOWN]
    lines = [f"{'ok  ' if p.good else 'FAIL'} {p.what}: {p.told}" for p in shown]
    more = [f"... and {len(bad) - SHOWN} more that failed"] if len(bad) > SHOWN else []
    return "\n".join([f"{len(probes) - len(bad)} of {len(probes)} probes passed", *lines, *more])


class _Tries:
    """Repeats what fails, but no more than a few dozen times in all: where everything fails, waiting helps nobody."""

    def __init__(self, attempts: int, sleep: Callable[[float], None]) -> None:
        self._attempts, self._sleep = attempts, sleep
        self._left = attempts * PATIENCE

    def probe(self, what: str, job: Callable[[], str]) -> Probe:
        for left in range(self._attempts - 1, -1, -1):
            try:
                return Probe(what, True, job())
            except (ProbeFailed, OSError, http.client.HTTPException, dns.exception.DNSException) as err:
                self._left -= 1
                if not left or self._left < 0:
                    return Probe(what, False, str(err) or type(err).__name__)
                self._sleep(1)
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
        answer = resolver.resolve(PROBE + name[1:] if name.startswith("*.") else name, kind)
        seen = sorted(_text(kind, record) for record in answer)
        if seen != sorted(values):
            raise ProbeFailed(f"answers {', '.join(seen)}; wanted {', '.join(values)}")
        return ", ".join(seen)

    return probe


def _text(kind: str, record: object) -> str:
    if kind == "TXT":
        return b"".join(record.strings).decode()  # type: ignore[attr-defined]
    return str(record).rstrip(".") if kind == "CNAME" else str(record)


def expected(estate: Estate, route: Route) -> str:
    """What a stranger who asks for / must meet: "anything", "login", "gate", "unavailable", or "certificate"."""
    policy = estate.auth_policies.get(route.auth_policy or "")
    uses = [estate.middleware_of(name).type for name in (*estate.caddy.middleware, *route.middleware)]
    if route.tls.client_auth and route.tls.client_auth.mode == "require_and_verify":
        return "certificate"
    if route.maintenance or "maintenance" in uses:
        return "unavailable" if route.maintenance is True else "anything"
    if policy is None or policy.provider == "none" or _is_public(route):
        return "anything"
    return "login" if policy.provider == "authentik" else "gate"


def _is_public(route: Route) -> bool:
    """Whether / itself needs no login."""
    rules = {key: value for key, value in route.paths.items() if not isinstance(value, tuple) and value.public}
    return any(path in EVERYTHING for path in (*route.public_paths, *rules))


@dataclass(frozen=True)
class _Ask:
    """One request as a stranger. trust: None for plain HTTP."""

    host: str
    edge: Edge
    trust: ssl.SSLContext | None
    timeout: int
    by_address: bool = False

    @property
    def scheme(self) -> str:
        return "https" if self.trust else "http"


def _asked(estate: Estate, route: Route, name: str, edge: Edge, trust: ssl.SSLContext) -> _Ask:
    filtered = any(
        estate.middleware_of(use).type in BEFORE_LOGIN for use in (*estate.caddy.middleware, *route.middleware)
    )
    by_address = bool(route.allowed_ips or route.denied_ips or filtered)
    plain = estate.caddy.issuer == "none"
    host = PROBE + name[1:] if name.startswith("*.") else name
    return _Ask(host, edge, None if plain else trust, estate.verify.timeout, by_address)


def _http_job(ask: _Ask, meets: str) -> Callable[[], str]:
    def probe() -> str:
        try:
            status, location = _request(ask)
        except ssl.SSLError as err:
            if meets == "certificate" and any(alert in str(err).lower().replace("_", " ") for alert in NO_CERTIFICATE):
                return "asks for a client certificate"
            raise
        if meets == "certificate":
            raise ProbeFailed(f"answers {status} to a client without a certificate")
        if meets == "unavailable":
            if status == 503:
                return "503, as it should be"
            raise ProbeFailed(f"answers {status}; it has to be closed (503)")
        if meets in ("login", "gate"):
            return _refusal(status, location, meets, ask.by_address)
        if status >= 500:
            raise ProbeFailed(f"answers {status}; is the upstream up?")
        return str(status)

    return probe


def _refusal(status: int, location: str, meets: str, by_address: bool) -> str:
    """A protected route turns a stranger away; how depends on who asks for the login."""
    if status in LOGIN and (meets == "gate" or "/outpost.goauthentik.io/" in location):
        return f"{status}, sends to login"
    if status in (401, 403) and (meets == "gate" or by_address):
        return f"{status}, lets no stranger in"
    raise ProbeFailed(f"answers {status} to a stranger; a protected route has to send to login")


def _trust(root: str | None, files: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=root)
    if root:
        context.load_default_certs()
    for file in files:
        context.load_verify_locations(cafile=file)
    return context


def _request(ask: _Ask) -> tuple[int, str]:
    """GET / over a connection to that very edge; TLS has to verify for the host."""
    with socket.create_connection((ask.edge.address, ask.edge.https), timeout=ask.timeout) as raw:
        wrapped = ask.trust.wrap_socket(raw, server_hostname=ask.host) if ask.trust else raw
        with wrapped as channel:
            connection = http.client.HTTPConnection(ask.host, timeout=ask.timeout)
            connection.sock = channel
            connection.request("GET", "/", headers={"Host": ask.host, "User-Agent": "hecate-verify"})
            response = connection.getresponse()
            response.read(65536)
            return response.status, response.headers.get("Location", "")
