"""What is to be asked of an estate, as data that a prober can be sent: no pillar is needed to ask it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from hecate import rdata
from hecate.model.caddy import Edge
from hecate.model.dns import host_name
from hecate.model.estate import Estate
from hecate.model.fields import seconds
from hecate.model.records import Records
from hecate.model.routes import Route
from hecate.model.verification import is_public
from hecate.order import packed, unpacked

PROBE = "hecate-probe"  # stands for the star of a wildcard
BEFORE_LOGIN = {"ip_filter", "basic_auth", "block_scanners"}
ADMIN = 2019  # where Caddy's admin API listens unless told otherwise
DAY = 86400.0
Made = TypeVar("Made", "Visit", "Record", "Door", "Manner")


@dataclass(frozen=True)
class Visit:
    """One host at one edge, as a visitor meets it.

    name: as pillar has it. host: what is asked for, with a label in place of a star. port, plain: of the edge; secure:
    whether `port` speaks TLS. least: the version of TLS below which nobody may get. meets: what a stranger has to meet
    at `path`: anything, login, gate, unavailable or certificate; by_address: an address may be refused before that.
    found: what plain HTTP has to meet: redirect, closed, or "" where `port` is plain itself. identity: headers that a
    client may not bring. The rest is of hecate:routes:<host>:verify.
    """

    name: str
    host: str
    edge: str
    address: str
    port: int
    plain: int = 80
    secure: bool = True
    least: str = "1.2"
    meets: str = "anything"
    by_address: bool = False
    found: str = "redirect"
    identity: tuple[str, ...] = ()
    path: str = "/"
    status: tuple[int, ...] = ()
    header: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    allowed: str = ""
    refused: str = ""
    echo: str = ""

    @property
    def scheme(self) -> str:
        return "https" if self.secure else "http"


@dataclass(frozen=True)
class Record:
    """One set of records at one name server. server: host:port; empty: the machine's own resolver."""

    name: str
    host: str
    kind: str
    values: tuple[str, ...]
    server: str = ""


@dataclass(frozen=True)
class Door:
    """A port of an edge that nobody outside may reach. inside: the prober reaches it as the edge itself does."""

    edge: str
    address: str
    port: int
    inside: bool = False


@dataclass(frozen=True)
class Manner:
    """How everything is asked.

    timeout: seconds an exchange. expiry, warning: seconds that certificates have to be good for. roots: PEM to trust
    beside the public ones, by edge. served: hosts that the edges answer for. accounts: (username, reference of the
    password) by name; only those that are asked for.
    """

    timeout: int = 10
    attempts: int = 5
    at_once: int = 8
    expiry: float = 3 * DAY
    warning: float = 21 * DAY
    roots: Mapping[str, str] = field(default_factory=dict)
    served: tuple[str, ...] = ()
    accounts: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What one prober is to ask."""

    manner: Manner
    visits: tuple[Visit, ...] = ()
    records: tuple[Record, ...] = ()
    doors: tuple[Door, ...] = ()

    def pack(self) -> str:
        """Small enough for an event: a thousand visits are alike."""
        listed = {name: [_brief(one) for one in getattr(self, name)] for name in ("visits", "records", "doors")}
        return packed({"manner": _brief(self.manner), **listed})

    @classmethod
    def unpack(cls, text: str) -> Task:
        """Raises ValueError or TypeError for what isn't one."""
        data = unpacked(text)
        return cls(
            _made(Manner, data["manner"]),
            tuple(_made(Visit, row) for row in data["visits"]),
            tuple(_made(Record, row) for row in data["records"]),
            tuple(_made(Door, row) for row in data["doors"]),
        )


def _brief(one: Any) -> dict[str, Any]:
    """Without what is at its default."""
    usual = {f.name: f.default for f in fields(one)}
    return {name: value for name, value in asdict(one).items() if value != usual[name] and value not in ((), {})}


def _made(kind: type[Made], row: Mapping[str, Any]) -> Made:
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return kind(**lists)


def questions(estate: Estate, roots: Mapping[str, str], routes: Collection[str] | None = None) -> Task:
    """Everything that is to be asked of these routes; of all, and of the records that belong to none, for None.

    roots: PEM to trust beside the public ones, by edge. Raises nothing: an estate that parses can be asked about.
    """
    chosen = {host: route for host, route in estate.routes.items() if routes is None or host in routes}
    live = {host: route for host, route in chosen.items() if not route.verify.skip}
    records = tuple(_records(estate, live, routes is None))
    visits = tuple(
        _visit(estate, route, name, edge_id, edge)
        for edge_id, edge in estate.edges.items()
        for host, route in live.items()
        for name in (host, *route.hosts)
    )
    return Task(_manner(estate, roots, visits), visits, records, tuple(doors(estate)))


def _manner(estate: Estate, roots: Mapping[str, str], visits: Sequence[Visit]) -> Manner:
    said = estate.verify
    named = sorted({name for visit in visits for name in (visit.allowed, visit.refused) if name})
    with_password = {
        name: (said.accounts[name].username or name, str(said.accounts[name].password))
        for name in named
        if said.accounts[name].password
    }
    served = (name for host, route in estate.routes.items() for name in (host, *route.hosts)) if with_password else ()
    return Manner(
        said.timeout,
        said.attempts,
        said.concurrency,
        seconds(said.expiry),
        estate.certificates.warn_days * DAY,
        dict(roots),
        tuple(served),
        with_password,
    )


def doors(estate: Estate) -> Iterator[Door]:
    """Caddy's admin API may run code: it is for the edge itself alone."""
    admin = estate.caddy.admin
    port = ADMIN if admin.startswith("unix/") else int(admin.rpartition(":")[2]) if admin.count(":") > 1 else 80
    for edge_id, edge in estate.edges.items():
        yield Door(edge_id, edge.address, port, _is_loopback(edge.address))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address.strip("[]") in ("::1", "localhost")


def _records(estate: Estate, routes: Mapping[str, Route], everything: bool) -> Iterator[Record]:
    for host, route in routes.items():
        for name in (host, *route.hosts):
            if found := estate.records_of(route, name):
                yield from _sets(estate, name, estate.dns.zone_of(name) or "", found)
    if everything:
        for zone, spec in estate.dns.zones.items():
            for relative, found in spec.records.items():
                yield from _sets(estate, host_name(relative, zone), zone, found)


def _sets(estate: Estate, name: str, zone: str, records: Records) -> Iterator[Record]:
    """A set at each name server that the pillar knows of its zone."""
    servers = (estate.dns.zones[zone].nameservers if zone in estate.dns.zones else ()) or (estate.verify.nameserver,)
    host = PROBE + name[1:] if name.startswith("*") else name
    for kind, values in records.by_type().items():
        wanted = tuple(sorted(rdata.canonical(kind, _spelt(kind, value), zone) for value in values))
        for server in servers:
            yield Record(name, host, kind, wanted, server)


def _spelt(kind: str, value: str) -> str:
    if kind == "CNAME":
        return value + "."
    return rdata.quoted(value.encode()) if kind == "TXT" else value


def _visit(estate: Estate, route: Route, name: str, edge_id: str, edge: Edge) -> Visit:
    said, secure = route.verify, estate.caddy.issuer != "none"
    filtered = any(
        estate.middleware_of(use).type in BEFORE_LOGIN for use in (*estate.caddy.middleware, *route.middleware)
    )
    return Visit(
        name,
        PROBE + name[1:] if name.startswith("*.") else name,
        edge_id,
        edge.address,
        edge.https,
        edge.http,
        secure,
        route.tls.min_version or estate.caddy.min_tls or "1.2",
        expected(estate, route, said.path),
        bool(route.allowed_ips or route.denied_ips or filtered),
        estate.verify.plain if secure else "",
        identity(estate),
        said.path,
        said.status,
        dict(said.header),
        said.body,
        said.allowed or "",
        said.refused or "",
        said.echo or "",
    )


def identity(estate: Estate) -> tuple[str, ...]:
    """Headers by which a gate names a user; no client may bring one along."""
    others = (name for own in estate.forward_auth.values() for name in (own.user_header, *own.headers))
    return tuple(dict.fromkeys(["X-Authentik-Username", "X-Authentik-Groups", *others]))


def expected(estate: Estate, route: Route, path: str = "/") -> str:
    """What a stranger who asks for a path must meet: anything, login, gate, unavailable, or certificate."""
    policy = estate.auth_policies.get(route.auth_policy or "")
    uses = [estate.middleware_of(name).type for name in (*estate.caddy.middleware, *route.middleware)]
    if route.tls.client_auth and route.tls.client_auth.mode == "require_and_verify":
        return "certificate"
    if route.maintenance or "maintenance" in uses:
        return "unavailable" if route.maintenance is True else "anything"
    if policy is None or policy.provider == "none" or is_public(route, path):
        return "anything"
    return "login" if policy.provider == "authentik" else "gate"
