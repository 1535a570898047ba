"""The whole pillar under the key `hecate`, and what must hold between its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import Field, PrivateAttr

from hecate.errors import Problem
from hecate.model.authentik import Application, Authentik
from hecate.model.caddy import Caddy, Edge, Monitoring
from hecate.model.certificates import ISSUERS, Certificates
from hecate.model.dns import Dns, HetznerDns, Rfc2136, clash, relative_name
from hecate.model.drift import Drift
from hecate.model.fields import OUTPUT, HostPattern, Line, Section, Slug, path_pattern
from hecate.model.guards import Guards
from hecate.model.history import History, Transactions
from hecate.model.identity import AuthPolicy, ForwardAuth
from hecate.model.infrastructure import (
    Nomad,
    Safety,
    Store,
    Targets,
    Terraform,
    Vault,
    Workload,
)
from hecate.model.literals import Literals, without_literals
from hecate.model.middleware import BUILT_IN, Middleware
from hecate.model.notifications import Notifications
from hecate.model.records import Records, unpublishable
from hecate.model.references import references
from hecate.model.rotation import AnyRotation, rotation_problems
from hecate.model.routes import METHODS, PathRule, Route, Service, split_pattern
from hecate.model.upstreams import HealthCheck, Pool, UpstreamGroup
from hecate.model.verification import Verify, verification_problems
from hecate.secrets import FORMS


class Estate(Section):
    """What should be true. Every section is optional; what is absent is not managed."""

    environment: Slug = Field(
        "production",
        description="Part of the ownership marks in authentik, DNS and Nomad; another environment is a stranger.",
    )
    literal_secrets: bool = Field(
        False, description="Whether literal:VALUE may stand where a secret is. For labs: not in environment production."
    )
    caddy: Caddy = Caddy()
    edges: dict[str, Edge] = {}
    authentik: Authentik | None = None
    hetzner_dns: HetznerDns | None = None
    rfc2136: dict[Slug, Rfc2136] = Field({}, description="Name servers that take dynamic updates, by name.")
    vault: Vault | None = None
    store: Store = Store()
    terraform: Terraform | None = None
    nomad: Nomad | None = None
    targets: Targets = Targets()
    verify: Verify = Verify()
    safety: Safety = Safety()
    adopt: tuple[Line, ...] = Field((), description="Ids of existing objects to take over, as the error names them.")
    routes: dict[HostPattern, Route] = {}
    auth_policies: dict[Slug, AuthPolicy] = {}
    applications: dict[Slug, Application] = Field(
        {}, description="What logs in at authentik by itself (OAuth2, OpenID Connect, SAML), by slug."
    )
    forward_auth: dict[Slug, ForwardAuth] = Field(
        {}, description="Providers beside authentik, by the name policies use."
    )
    upstreams: dict[Slug, UpstreamGroup] = Field({}, description="Groups that several routes share, by name.")
    health_checks: dict[Slug, HealthCheck] = Field(
        {}, description="Checks that several routes and groups share, by name."
    )
    middleware: dict[Slug, Middleware] = Field(
        {}, description="Definitions by name; one of a built-in name replaces it."
    )
    certificates: Certificates = Certificates()
    monitoring: Monitoring = Monitoring()
    notifications: Notifications = Notifications()
    drift: Drift = Drift()
    transactions: Transactions = Transactions()
    history: History = History()
    dns: Dns = Dns()
    workloads: dict[Slug, Workload] = {}
    rotation: dict[Slug, AnyRotation] = Field({}, description="Secrets that get successors, by a name of one's own.")

    _literals_found: Literals = PrivateAttr(default_factory=dict)

    @property
    def literals(self) -> Mapping[str, str]:
        """literal:<pillar path> -> value of the secrets that stood in the pillar. Never shown, never stored."""
        return self._literals_found

    def without_literals(self) -> Estate:
        """The same with literal:<pillar path> in place of each; what a parse ends with."""
        found: Literals = {}
        bare: Estate = without_literals(self, "hecate", found)
        bare._literals_found.update(found)
        return bare

    @cached_property
    def guards(self) -> Guards:
        """Who may reach what, as authentik is to hold it."""
        return Guards(self.routes, self.auth_policies, self.applications, self.authentik)

    def notices(self) -> list[str]:
        """What the pillar says and Hecate accepts, but doesn't act on: better told than believed."""
        said, alerting = self.notifications, self.monitoring.alerting
        found = [
            (said.email or said.slack or said.webhooks, "hecate:notifications: Hecate sends none by itself yet"),
            (alerting, "hecate:monitoring:alerting: limits are for your alerting; Hecate alerts nobody"),
            (self.dns.templates, "hecate:dns:templates: nothing refers to them yet"),
            (self._unmanaged(), "hecate:dns: not managed without the section hecate:hetzner_dns"),
        ]
        unused = [f"hecate:{section}:{name}: nothing uses it" for section, name in self._unused()]
        return [text for is_there, text in found if is_there] + unused

    def _unmanaged(self) -> bool:
        return not self.hetzner_dns and any(self.dns.provider_of(zone) == "hetzner" for zone in self.dns.zones)

    def _unused(self) -> Iterator[tuple[str, str]]:
        """Definitions that no route leads to: perhaps a reference was forgotten."""
        services = [s for route in self.routes.values() for s in (route, *route.rules())]
        pools: list[Pool] = [*services, *self.upstreams.values()]
        issuers = {route.tls.issuer or self.caddy.issuer for route in self.routes.values()}
        acme = self.certificates.default or next(iter(self.certificates.providers), "")
        wildcard = any(name.startswith("*.") for host, route in self.routes.items() for name in (host, *route.hosts))
        by_dns = any(
            "dns" in self.certificates.providers[i].challenges for i in issuers & {*self.certificates.providers}
        )
        used: dict[str, tuple[Iterable[str], set[Any]]] = {
            "auth_policies": (
                self.auth_policies,
                {r.auth_policy for r in self.routes.values()} | {a.auth_policy for a in self.applications.values()},
            ),
            "forward_auth": (self.forward_auth, {policy.provider for policy in self.auth_policies.values()}),
            "health_checks": (self.health_checks, {str(pool.health_check) for pool in pools}),
            "upstreams": (self.upstreams, {str(service.upstreams) for service in services}),
            "middleware": (self.middleware, {*self.caddy.middleware, *(n for s in services for n in s.middleware)}),
            "certificates:providers": (self.certificates.providers, {*issuers, acme if "acme" in issuers else ""}),
            "certificates": (
                ["dns_challenge"] if self.certificates.dns_challenge else [],
                {"dns_challenge"} if wildcard or by_dns else set(),
            ),
        }
        for section, (names, there) in used.items():
            yield from ((section, name) for name in names if name not in there)

    def middleware_of(self, name: str) -> Middleware:
        return self.middleware.get(name) or BUILT_IN[name]

    def pool_of(self, service: Pool) -> Pool:
        """The servers behind a route or path: its own, or the group that it names."""
        return self.upstreams[service.upstreams] if isinstance(service.upstreams, str) else service

    def health_check_of(self, pool: Pool) -> HealthCheck | None:
        check = pool.health_check
        return self.health_checks[check] if isinstance(check, str) else check

    def cross_problems(self) -> Iterator[Problem]:
        """What single values cannot show: references between sections, and collisions."""
        yield from self._records()
        yield from self._names()
        yield from self._certificates()
        yield from self._protection()
        yield from self._wildcards()
        yield from self._literals()
        if self.workloads and not self.nomad:
            yield Problem("hecate:workloads", "", "needs the section hecate:nomad with the API's url")
        yield from self.guards.problems()
        yield from rotation_problems(self)
        yield from verification_problems(self)

    def _literals(self) -> Iterator[Problem]:
        """Secrets that stand in the pillar as they are."""
        if self.literal_secrets and self.environment == "production":
            yield Problem("hecate:literal_secrets", "true", "for labs; environment production takes references alone")
        if self.literal_secrets:
            return
        for path, reference in references(self):
            if reference.scheme == "literal":
                yield Problem(path, "", f"a secret is a reference, never a literal: {FORMS}")

    def _names(self) -> Iterator[Problem]:
        """Names that lead nowhere, in each place where a name can stand."""
        for index, name in enumerate(self.caddy.middleware):
            yield from self._known_middleware(f"hecate:caddy:middleware:{index}", name)
        for name, policy in self.auth_policies.items():
            if policy.provider not in ("authentik", "none", *self.forward_auth):
                known = ", ".join(["authentik", "none", *self.forward_auth])
                why = f"no such provider; there are: {known}, and what stands under hecate:forward_auth"
                yield Problem(f"hecate:auth_policies:{name}:provider", policy.provider, why)
        for name, group in self.upstreams.items():
            yield from self._known_check(f"hecate:upstreams:{name}", group)
        for host, route in self.routes.items():
            path = f"hecate:routes:{host}"
            yield from self._service(path, route)
            yield from self._paths(path, route)

    def _paths(self, path: str, route: Route) -> Iterator[Problem]:
        seen: dict[tuple[str, str], str] = {}
        for key, value in route.paths.items():
            place, (method, pattern) = f"{path}:paths:{key}", split_pattern(key)
            yield from _pattern_problems(place, method, pattern)
            same = seen.setdefault((method, pattern.lower()), key)
            if same != key:
                yield Problem(
                    place, "", f"is the same to Caddy as {same}, whose case differs; a list holds several rules"
                )
            for index, rule in enumerate(value if isinstance(value, tuple) else (value,)):
                own = f"{place}:{index}" if isinstance(value, tuple) else place
                yield from self._service(own, rule)
                yield from self._leads_somewhere(own, route, rule)
                if rule.strip and not pattern.endswith("/*"):
                    yield Problem(f"{own}:strip", "", "only a prefix can be left out: /prefix/*")

    def _service(self, path: str, service: Service) -> Iterator[Problem]:
        for index, name in enumerate(service.middleware):
            yield from self._known_middleware(f"{path}:middleware:{index}", name)
        if isinstance(service.upstreams, str) and service.upstreams not in self.upstreams:
            known = ", ".join(sorted(self.upstreams)) or "none"
            why = f"no such group under hecate:upstreams ({known}); a single server is a list of one: [host:port]"
            yield Problem(f"{path}:upstreams", service.upstreams, why)
        else:
            yield from self._known_check(path, service)

    def _known_middleware(self, path: str, name: str) -> Iterator[Problem]:
        if name not in self.middleware and name not in BUILT_IN:
            known = ", ".join(sorted({*self.middleware, *BUILT_IN}))
            yield Problem(path, name, f"no such middleware under hecate:middleware; there are: {known}")

    def _known_check(self, path: str, pool: Pool) -> Iterator[Problem]:
        name = pool.health_check
        if isinstance(name, str) and name not in self.health_checks:
            known = ", ".join(sorted(self.health_checks)) or "none"
            yield Problem(f"{path}:health_check", name, f"no such check under hecate:health_checks; there are: {known}")
        elif (check := self.health_check_of(pool)) and (why := pool.misfit(check)):
            yield Problem(f"{path}:health_check", "", why)

    def _leads_somewhere(self, path: str, route: Route, rule: PathRule) -> Iterator[Problem]:
        if not rule.answers and not rule.maintenance and not route.answers:
            yield Problem(
                path, "", "leads nowhere; give it upstreams or a redirect, or the route upstreams to fall back on"
            )

    def _wildcards(self) -> Iterator[Problem]:
        """No order of two routes is right when each has a wildcard over a host of the other."""
        hosts = {key: (key, *route.hosts) for key, route in self.routes.items()}
        covering = {name: key for key, names in hosts.items() for name in names if name.startswith("*.")}
        mixed = {covering[name] for name in covering if not all(n.startswith("*.") for n in hosts[covering[name]])}
        graph: dict[str, set[str]] = {
            key: {covering.get("*." + name.partition(".")[2], key) for name in hosts[key]} - {key}
            for key in sorted(mixed)
        }
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as err:
            circle = ", ".join(err.args[1][:-1])
            why = f"a wildcard of one of these covers a host of the next: {circle}; give it a route of its own"
            yield Problem(f"hecate:routes:{err.args[1][0]}:hosts", "", why)

    def _protection(self) -> Iterator[Problem]:
        """What would leave a route open that looks protected, or protected for good."""
        identity = {name.lower() for own in self.forward_auth.values() for name in (own.user_header, *own.headers)}
        for host, route in self.routes.items():
            path = f"hecate:routes:{host}"
            if not route.auth_policy and (route.public_paths or any(rule.public for rule in route.rules())):
                why = "exempts paths from a login that this route does not ask for; give it an auth_policy"
                yield Problem(f"{path}:public_paths" if route.public_paths else f"{path}:paths", "", why)
            for service in (route, *route.rules()):
                for name in (*service.headers.request.set, *service.headers.request.add):
                    if name.lower() in identity:
                        why = "carries an identity (hecate:forward_auth) and is set by the auth policy alone"
                        yield Problem(f"{path}:headers:request:{name}", "", why)

    def _certificates(self) -> Iterator[Problem]:
        yield from self.certificates.problems()
        known, usual = (*ISSUERS, *self.certificates.providers), self.caddy.issuer
        if usual not in known:
            yield Problem("hecate:caddy:issuer", usual, f"no such issuer; there are: {', '.join(known)}")
            return
        vault, signer = self.vault is not None, self.vault is not None and not self.vault.salt
        for host, route in self.routes.items():
            hosts, path = (host, *route.hosts), f"hecate:routes:{host}:tls"
            yield from route.tls.problems(path, hosts, usual, self.certificates, vault, signer)

    def _records(self) -> Iterator[Problem]:
        written = {
            (zone, name): records for zone, spec in self.dns.zones.items() for name, records in spec.records.items()
        }
        for place, name in written:
            yield from self._ignored(f"hecate:dns:zones:{place}:records:{name}", place, name)
        yield from self._edges_in_dns()
        for host, route in self.routes.items():
            if route.dns is True:
                why = "says not which; a mapping of records, `edges` for the addresses of hecate:edges, or false"
                yield Problem(f"hecate:routes:{host}:dns", "True", why)
            for name in (host, *route.hosts):
                zone, records = self.dns.zone_of(name), self.records_of(route, name)
                if not records:
                    continue
                if zone is None:
                    zones = ", ".join(sorted(self.dns.zones)) or "none"
                    yield Problem(f"hecate:routes:{host}:dns", name, f"in no zone of hecate:dns:zones ({zones})")
                    continue
                if name == zone and records.CNAME:
                    yield Problem(
                        f"hecate:routes:{host}:dns:CNAME", name, "the apex of a zone cannot be a CNAME; use A"
                    )
                yield from self._ignored(f"hecate:routes:{host}:dns", zone, relative_name(name, zone))
                other = written.get((zone, relative_name(name, zone)))
                if other and clash(records, other):
                    why = f"also written under hecate:dns:zones:{zone}:records; keep one of the two"
                    yield Problem(f"hecate:routes:{host}:dns", name, why)
        made = {zone for zone, spec in self.dns.zones.items() if spec.create}
        yield from self._zones({zone for zone, _ in written} | self._zones_of_routes() | made)

    def _ignored(self, path: str, zone: str, name: str) -> Iterator[Problem]:
        glob = self.dns.zones[zone].ignores(name)
        if glob:
            why = f"the zone ignores {glob!r}, so this would never be written; drop it, or let `ignore` be narrower"
            yield Problem(path, name, why)

    def _zones_of_routes(self) -> set[str]:
        named = ((route, name) for host, route in self.routes.items() for name in (host, *route.hosts))
        return {zone for route, name in named if self.records_of(route, name) and (zone := self.dns.zone_of(name))}

    def _edges_in_dns(self) -> Iterator[Problem]:
        """What stands in the way of publishing the edges' addresses, where that is asked for."""
        asking = [host for host, route in self.routes.items() if route.dns == "edges"]
        places = ["hecate:dns:routes"] if self.dns.routes else [f"hecate:routes:{host}:dns" for host in asking[:1]]
        for place in places:
            if not self.edges:
                yield Problem(place, "edges", "there is none under hecate:edges; give each its public address there")
            for name, edge in self.edges.items():
                if why := unpublishable(edge.address):
                    yield Problem(f"hecate:edges:{name}:address", edge.address, f"{why}; {place} publishes it")

    def records_of(self, route: Route, name: str) -> Records | None:
        """What DNS is to hold for one host of a route. What is written out wins over the edges' addresses."""
        if isinstance(route.dns, Records):
            return route.dns
        zone = self.dns.zone_of(name)
        is_usual = route.dns is None and self.dns.routes and zone and self.dns.policy_of(zone)
        if route.dns != "edges" and not is_usual:
            return None
        if zone and self._edge_records:
            here, relative = self.dns.zones[zone], relative_name(name, zone)
            written = here.records.get(relative)
            if (written and clash(self._edge_records, written)) or (route.dns is None and here.ignores(relative)):
                return None
        return self._edge_records

    @cached_property
    def _edge_records(self) -> Records | None:
        """The edges' addresses as records; those of Terraform that are not known yet wait as A."""
        found: dict[str, list[str]] = {}
        for edge in self.edges.values():
            if not unpublishable(edge.address):
                is_v6 = ":" in edge.address and not OUTPUT.fullmatch(edge.address)
                found.setdefault("AAAA" if is_v6 else "A", []).append(edge.address.strip("[]"))
        return Records.model_validate(found) if found else None

    def _zones(self, written: set[str]) -> Iterator[Problem]:
        """written: zones that something is wanted of."""
        for name, zone in self.dns.zones.items():
            path = f"hecate:dns:zones:{name}"
            provider = self.dns.provider_of(name)
            if provider not in ("hetzner", *self.rfc2136):
                where = f"{path}:provider" if zone.provider else "hecate:dns:provider"
                known = ", ".join(["hetzner", *self.rfc2136])
                yield Problem(where, provider, f"no such provider; there are: {known}")
            if zone.create and provider in self.rfc2136:
                why = "dynamic updates (RFC 2136) make no zones; make it at its server"
                yield Problem(f"{path}:create", "true", why)
            if name in written and self.dns.policy_of(name) is None:
                why = "say what may be done in this zone: sync, upsert-only or create-only (docs/pillar.md)"
                yield Problem(f"{path}:policy", "", why)
            if name in written and provider == "hetzner" and not self.hetzner_dns:
                yield Problem("hecate:dns", "", "needs the section hecate:hetzner_dns with a token reference")


def _pattern_problems(path: str, method: str, pattern: str) -> Iterator[Problem]:
    if method and method not in METHODS:
        yield Problem(path, method, f"not a method; one of {', '.join(METHODS)}, or none, before the path")
    try:
        path_pattern(pattern)
    except ValueError as err:
        yield Problem(path, pattern, str(err))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of what stands under `hecate`, for editors."""
    return Estate.model_json_schema()
