"""Routes and applications behind authentik: what each is called there, and what can't be had together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hecate.errors import Problem
from hecate.model.authentik import Application, Authentik
from hecate.model.identity import AuthPolicy
from hecate.model.routes import Route

SLUG = 50  # characters of an application's slug, up to authentik 2025.10


def slug_of(name: str) -> str:
    """A slug that fits every version, for a host or any other name."""
    slug = name.replace("*.", "any-").replace(".", "-").replace("/", "-")
    return slug if len(slug) <= SLUG else f"{slug[:41]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Guard:
    """One application in authentik.

    name: of its provider there, and with slug_of of the application: a host, `*.domain` for a whole domain, or the name
    of an application of hecate:applications. hosts: those that it protects. policy_name: as pillar calls it.
    policy: with what the routes want on top. origin: the pillar path that asked for it.
    """

    name: str
    policy_name: str
    policy: AuthPolicy
    hosts: tuple[str, ...] = ()
    application: Application | None = None
    origin: str = ""

    @property
    def slug(self) -> str:
        return slug_of(self.name)


class Guards:
    """All of them, from the parts of the pillar that say so."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        policies: Mapping[str, AuthPolicy],
        applications: Mapping[str, Application],
        authentik: Authentik | None,
    ) -> None:
        self._routes, self._policies, self._applications = routes, policies, applications
        self._authentik = authentik

    @cached_property
    def all(self) -> tuple[Guard, ...]:
        """By name; of one name there is one. Policies that lead nowhere are left out."""
        found: dict[str, Guard] = {}
        for guard in (*self._of_routes(), *self._of_applications()):
            known = found.get(guard.name)
            found[guard.name] = _joined(known, guard) if known else guard
        return tuple(found[name] for name in sorted(found))

    def policy_of(self, route: Route) -> AuthPolicy | None:
        """A route's policy, with a second factor where the route wants one; None for a public route."""
        policy = self._policies.get(route.auth_policy or "")
        if policy and route.require_mfa and not policy.require_mfa:
            return policy.model_copy(update={"require_mfa": True})
        return policy

    def _of_routes(self) -> Iterator[Guard]:
        for host, route in sorted(self._routes.items()):
            policy = self.policy_of(route)
            if policy is None or policy.provider != "authentik":
                continue
            for name in (host, *route.hosts):
                called = f"*.{policy.domain.name}" if policy.domain else name
                yield Guard(called, route.auth_policy or "", policy, (name,), origin=f"hecate:routes:{host}")

    def _of_applications(self) -> Iterator[Guard]:
        for name, application in self._applications.items():
            policy = self._policies.get(application.auth_policy)
            if policy and policy.provider == "authentik":
                yield Guard(
                    name, application.auth_policy, policy, (), application, origin=f"hecate:applications:{name}"
                )

    def problems(self) -> Iterator[Problem]:
        if self.all and not self._authentik:
            yield Problem("hecate:auth_policies", "", "needs the section hecate:authentik with url and token")
        yield from self._wildcards()
        yield from self._second_factors()
        yield from self._domains()
        yield from self._outposts()
        yield from self._named_applications()
        yield from self._slugs()
        yield from self._members()

    def _wildcards(self) -> Iterator[Problem]:
        for host, route in self._routes.items():
            policy = self.policy_of(route)
            wild = [name for name in (host, *route.hosts) if name.startswith("*.")]
            if wild and policy and policy.provider == "authentik" and not policy.domain:
                why = (
                    "authentik guards host by host and cannot guard a wildcard; list the hosts, give the policy a "
                    "domain, or use another provider"
                )
                yield Problem(f"hecate:routes:{host}:auth_policy", wild[0], why)

    def _second_factors(self) -> Iterator[Problem]:
        asked = {name for name, policy in self._policies.items() if policy.require_mfa}
        for host, route in self._routes.items():
            if not route.require_mfa:
                continue
            path, policy = f"hecate:routes:{host}:require_mfa", self._policies.get(route.auth_policy or "")
            if not route.auth_policy:
                yield Problem(path, "true", "without a login there is no second factor; give the route an auth_policy")
            elif policy and policy.provider != "authentik":
                yield Problem(path, "true", f"only authentik can be told so; {policy.provider} decides itself")
            elif policy and not policy.second_factors:
                why = f"hecate:auth_policies:{route.auth_policy}:allowed_methods names no second factor"
                yield Problem(path, "true", f"{why}; add webauthn or totp there")
            elif policy and policy.domain:
                why = "all hosts of its policy's domain share one application; ask for it in the policy"
                yield Problem(path, "true", why)
            else:
                asked.add(route.auth_policy)
        for name, policy in self._policies.items():
            if policy.allowed_methods and policy.second_factors and name not in asked:
                why = "second factors, which nobody asks for; set require_mfa, or leave them out"
                yield Problem(f"hecate:auth_policies:{name}:allowed_methods", ", ".join(policy.second_factors), why)

    def _domains(self) -> Iterator[Problem]:
        domains = {name: policy.domain for name, policy in self._policies.items() if policy.domain}
        for name, domain in domains.items():
            path = f"hecate:auth_policies:{name}:domain"
            for other, theirs in domains.items():
                if other > name and (domain.covers(theirs.name) or theirs.covers(domain.name)):
                    why = f"overlaps {domain.name} of {name}; authentik would take either for a host in both"
                    yield Problem(f"hecate:auth_policies:{other}:domain:name", theirs.name, why)
            hosts = {
                host: key
                for key, route in self._routes.items()
                for host in (key, *route.hosts)
                if route.auth_policy == name
            }
            for host, key in hosts.items():
                if not domain.covers(host):
                    why = f"not in {domain.name}, the domain of its policy {name}; give it a policy of its own"
                    yield Problem(f"hecate:routes:{key}:auth_policy", host, why)
            if hosts and domain.host not in hosts:
                why = f"the login comes back to this host, so it has to be a route with auth_policy {name}"
                yield Problem(f"{path}:host", domain.host, why)

    def _outposts(self) -> Iterator[Problem]:
        known = self._authentik.outposts if self._authentik else {}
        for name, policy in self._policies.items():
            if policy.outpost and policy.outpost not in known:
                there = ", ".join(known) or "none"
                why = f"no such outpost under hecate:authentik:outposts; there are: {there}"
                yield Problem(f"hecate:auth_policies:{name}:outpost", policy.outpost, why)
        usual = self._authentik.outpost_name if self._authentik else ""
        seen: dict[str, str] = {usual: "hecate:authentik:outpost_name"} if usual else {}
        for key, outpost in known.items():
            path = f"hecate:authentik:outposts:{key}"
            first = seen.setdefault(outpost.name or key, path)
            if first != path:
                yield Problem(f"{path}:name", outpost.name or key, f"the same outpost as {first}")

    def _named_applications(self) -> Iterator[Problem]:
        for name, application in self._applications.items():
            path, policy = f"hecate:applications:{name}:auth_policy", self._policies.get(application.auth_policy)
            if policy is None:
                known = ", ".join(self._policies) or "none"
                why = f"no such policy under hecate:auth_policies; there are: {known}"
                yield Problem(path, application.auth_policy, why)
            elif policy.provider != "authentik":
                yield Problem(
                    path, application.auth_policy, "applications log in at authentik; its provider is another"
                )
            elif policy.domain or policy.outpost:
                why = "has a domain or an outpost, which are for routes; give the application a policy without"
                yield Problem(path, application.auth_policy, why)

    def _slugs(self) -> Iterator[Problem]:
        """Two names that make one slug would be one application: whoever may open the one could open the other."""
        seen: dict[str, Guard] = {}
        for guard in self.all:
            other = seen.setdefault(guard.slug, guard)
            if other is not guard:
                why = f"has the slug {guard.slug} in authentik, as has {other.name}; rename one of them"
                yield Problem(guard.origin, guard.name, why)
        clients: dict[str, str] = {}
        for name, application in self._applications.items():
            if application.oauth2:
                client = application.oauth2.client_id or name
                if clients.setdefault(client, name) != name:
                    path = f"hecate:applications:{name}:oauth2:client_id"
                    yield Problem(path, client, f"also that of {clients[client]}; a client id is one application's")

    def _members(self) -> Iterator[Problem]:
        if not self._authentik:
            return
        for name, group in self._authentik.groups.items():
            twice = {m for m in group.members or () if (group.members or ()).count(m) > 1}
            for member in sorted(twice):
                yield Problem(f"hecate:authentik:groups:{name}:members", member, "named twice")


def _joined(known: Guard, more: Guard) -> Guard:
    """One application for several hosts."""
    return Guard(
        known.name, known.policy_name, known.policy, (*known.hosts, *more.hosts), known.application, known.origin
    )
