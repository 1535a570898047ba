"""Looking at identity: what guards what, who may pass, and why somebody can't get in.

The rule is pillar's, the answer is the server's: where they differ it is said.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hecate.backends.authentik_access import Directory, Person
from hecate.compile import authentik as identity
from hecate.compile.authentik_words import either, others, outside, rule, shortened, unfit
from hecate.errors import HecateError
from hecate.model import Estate
from hecate.model.guards import Guard
from hecate.model.routes import Route
from hecate.resource import Resource, Snapshot

ASKED = 100  # questions to the server for one answer
Told = dict[str, Any]
NOT_CONFIRMED = "NOT CONFIRMED: the edges answer 503"


class Access:
    """snapshot: what the server held a moment ago, of everything that pillar wants. directory: its users and groups."""

    def __init__(self, estate: Estate, snapshot: Snapshot, directory: Directory) -> None:
        self._estate, self._snapshot, self._directory = estate, snapshot, directory

    # What guards what

    def applications(self) -> Told:
        """By slug; those that are Hecate's and not in pillar any more too."""
        found = {guard.slug: self._application(guard) for guard in self._estate.guards.all}
        for resource in self._snapshot.owned.values():
            if resource.kind == "authentik.application" and resource.key not in found:
                gone = "NOT IN PILLAR: the next apply of the whole pillar removes it"
                found[resource.key] = {"name": resource.spec["name"], "state": gone}
        return dict(sorted(found.items()))

    def _application(self, guard: Guard) -> Told:
        own = guard.application
        kind = ("oauth2" if own.oauth2 else "saml") if own else ("domain" if guard.policy.domain else "proxy")
        told: Told = {"name": (own.name if own else "") or guard.name, "kind": kind, "policy": guard.policy_name}
        if own is None:
            settings = self._estate.authentik
            usual = (settings.outpost_name if settings else "") or "embedded"
            told |= {"hosts": list(guard.hosts), "outpost": guard.policy.outpost or usual}
        told["state"] = self._state(guard)
        if differs := self._differences(guard):
            told["differs"] = shortened(differs)
        return told

    def _state(self, guard: Guard) -> str:
        """In one word or two; a binding too many lets somebody in, and closes nothing."""
        if self._is_confirmed(guard):
            good = "confirmed" if guard.hosts else "as wanted"
            return good if not self._by_hand(guard) else f"{good}, but somebody bound more to it by hand"
        return NOT_CONFIRMED if guard.hosts else "NOT AS WANTED"

    def _is_confirmed(self, guard: Guard) -> bool:
        return all(identity.stands(resource, self._snapshot) for resource in identity.guarding(self._estate, guard))

    def _differences(self, guard: Guard) -> list[str]:
        """What the server has otherwise than pillar wants it."""
        found = []
        for resource in identity.guarding(self._estate, guard):
            if self._snapshot.get(resource.id) is None:
                found.append(f"missing: {_named(resource)}")
            elif not identity.stands(resource, self._snapshot):
                found.append(f"changed by hand, or not applied yet: {_named(resource)}")
        return found + self._by_hand(guard)

    def _bindings(self, guard: Guard) -> list[Resource]:
        found = (*self._snapshot.owned.values(), *self._snapshot.foreign.values())
        return [r for r in found if r.kind == "authentik.binding" and r.key.startswith(f"{guard.slug}/")]

    def _by_hand(self, guard: Guard) -> list[str]:
        wanted = {resource.id for resource in identity.guarding(self._estate, guard)}
        extra = [r for r in self._bindings(guard) if r.id not in wanted]
        return [f"bound by hand: {' '.join(_bound(r))}; the next apply takes it away" for r in extra]

    # Who may

    def who_may(self, name: str) -> Told:
        """name: a host, a slug, or an application of hecate:applications. Raises HecateError for what isn't there."""
        guard = self._guard(name)
        if guard is None:
            return {"rule": self._unguarded(name)}
        told: Told = {"application": guard.slug, "policy": guard.policy_name, "rule": rule(guard.policy)}
        told["state"] = self._state(guard)
        if differs := self._differences(guard):
            told["differs"] = shortened(differs)
        if self._snapshot.get(f"authentik.application {guard.slug}") is not None:
            told |= self._passing(guard)
        if guard.policy.require_mfa:
            told["second factor"] = "whoever has none is refused; hecate_authentik.access tells about one user"
        if hints := self._hints(guard):
            told["also"] = hints
        return told

    def _passing(self, guard: Guard) -> Told:
        bound = [r for r in self._bindings(guard) if r.spec["enabled"]]
        if not bound:
            everybody = "everybody who can log in"
            return {"may pass": f"{everybody}: NOTHING IS BOUND" if guard.policy.is_restricted else everybody}
        people = self._candidates(guard, bound)
        asked = list(people.values())[:ASKED]
        told: Told = {}
        if self._is_plain(guard, bound):
            may = list(people)
        else:
            verdicts = self._directory.may_open([(guard.slug, person) for person in asked])
            may = [person.username for person, passes in zip(asked, verdicts, strict=True) if passes]
            if len(people) > len(asked):
                told["asked"] = f"about {len(asked)} of {len(people)} people; hecate_authentik.access tells of others"
        off = [name for name in may if not people[name].active]
        told["may pass"] = shortened([name for name in may if name not in off]) or "nobody"
        if off:
            told["switched off"] = shortened(off)
        return told

    def _is_plain(self, guard: Guard, bound: Sequence[Resource]) -> bool:
        """Whether groups alone decide, so that the server need not be asked about each of their members."""
        application = self._snapshot.get(f"authentik.application {guard.slug}")
        plain = application is not None and application.spec["policy_engine_mode"] == "any"
        no = f"{guard.slug}/policy/{identity.prefix(self._estate.environment)}{identity.CLOSED}"
        says_no = self._snapshot.get(f"authentik.policy {no.split('/', 2)[2]}")
        return plain and all(
            not r.spec["negate"]
            and (_bound(r)[0] == "group" or (r.key == no and says_no and says_no.spec["expression"] == "return False"))
            for r in bound
        )

    def _candidates(self, guard: Guard, bound: Sequence[Resource]) -> dict[str, Person]:
        """By username: whom the rule or a binding may let in."""
        groups = {*guard.policy.groups, *(name for kind, name in map(_bound, bound) if kind == "group")}
        people = self._directory.within(groups)
        for kind, name in map(_bound, bound):
            if kind == "user" and name not in people:
                people[name] = self._directory.person(name)
        if not guard.policy.groups:
            fit = (p for p in self._directory.everybody() if not list(unfit(p.attributes, guard.policy)))
            people |= {person.username: person for person in fit}
        return people

    # Why not

    def access(self, username: str, name: str | None = None) -> Told:
        """Where somebody may go and where not, and why. name: as for who_may; absent: all of pillar's applications."""
        guards = list(self._estate.guards.all)
        if name is not None:
            guard = self._guard(name)
            if guard is None:
                return {"rule": self._unguarded(name)}
            guards = [guard]
        person = self._directory.person(username)
        groups = self._directory.groups_of(person)
        wanting = any(guard.policy.require_mfa for guard in guards)
        factors = self._directory.factors(person) if wanting else None
        told: Told = {
            "user": f"{person.username} ({person.name})" + ("" if person.active else ": SWITCHED OFF in authentik"),
            "groups": [f"{group} (through {below})" if below else group for group, below in groups.items()] or "none",
        }
        if wanting:
            told["second factors"] = "authentik does not tell" if factors is None else factors or "none"
        there = [g for g in guards if self._snapshot.get(f"authentik.application {g.slug}") is not None]
        asked = there[:ASKED]
        verdicts = self._directory.may_open([(guard.slug, person) for guard in asked])
        passing = {guard.slug: passes for guard, passes in zip(asked, verdicts, strict=True)}
        may: Told = {}
        may_not: Told = {}
        for guard in guards:
            if guard in there and guard.slug not in passing:
                continue
            passes = passing.get(guard.slug)
            why = list(self._reasons(guard, person, groups, factors, passes))
            unexpected = self._unexpected(guard, person, groups) if passes else []
            hints = self._hints(guard)
            if why:
                may_not[guard.name] = [*why, *(f"also: {text}" for text in (*unexpected, *hints))]
            else:
                may[guard.name] = "; ".join([*(unexpected or ["yes"]), *hints])
        told |= {"may": may or "nothing", "may not": may_not or "nothing"}
        if len(there) > len(asked):
            told["asked"] = f"about {len(asked)} of {len(there)} applications; name the others one by one"
        return told

    def _reasons(
        self, guard: Guard, person: Person, groups: dict[str, str], factors: list[str] | None, passes: bool | None
    ) -> Iterator[str]:
        """Why somebody doesn't get in; none if they do. passes: the server's own word, None where it wasn't asked."""
        if passes is None:
            yield "authentik has no such application yet: salt-run state.orch hecate.deploy"
            return
        if not person.active:
            yield "the account is switched off in authentik"
        if not passes:
            rules = [*outside(groups, guard.policy), *unfit(person.attributes, guard.policy)]
            yield from rules or ["authentik refuses, although pillar's rule would not; see what differs"]
        policy = guard.policy
        if policy.require_mfa and factors is not None and not set(factors) & set(policy.second_factors):
            yield f"a second factor is wanted ({either(policy.second_factors)}), and none of these is set up"
        if not self._is_confirmed(guard):
            state = self._state(guard)
            if guard.hosts or not passes:
                yield "; ".join([state, *shortened(self._differences(guard), 5)])

    def _unexpected(self, guard: Guard, person: Person, groups: dict[str, str]) -> list[str]:
        """The server lets somebody in whom pillar's rule would not."""
        if not [*outside(groups, guard.policy), *unfit(person.attributes, guard.policy)]:
            return []
        return ["let in AGAINST PILLAR'S RULE", *shortened(self._differences(guard), 5)]

    # Groups

    def groups(self) -> Told:
        """Every group on the server: how many are in it (those of groups below it too), and which policies use it."""
        return {name: self._group(name) for name in sorted(self._directory.groups)}

    def _group(self, name: str) -> Told:
        using = [key for key, policy in self._estate.auth_policies.items() if name in policy.groups]
        settings = self._estate.authentik
        said = settings.groups.get(name) if settings else None
        ours = self._directory.is_marked(name, identity.mark(self._estate.environment))
        told: Told = {"members": len(self._directory.within([name])), "policies": using}
        told["looked after by"] = "pillar" if said else "Hecate, for a policy" if ours else "others"
        return told

    def members(self, name: str) -> Told:
        """Who is in a group. Raises HecateError for a group that isn't there."""
        if name not in self._directory.groups:
            raise HecateError(_unknown("group", name, self._directory.groups))
        people = self._directory.within([name])
        inside = {user["username"] for user in self._directory.groups[name].get("users_obj") or ()}
        told: Told = {"members": shortened([n for n in people if n in inside])}
        if below := [n for n in people if n not in inside]:
            told["through groups below it"] = shortened(below)
        if off := [n for n, person in people.items() if not person.active]:
            told["switched off"] = shortened(off)
        return told

    def why_kept(self, group: str) -> str:
        """Why a group of Hecate's is not Hecate's to remove; "" for any other."""
        ours = self._directory.is_marked(group, identity.mark(self._estate.environment))
        if not ours or f"authentik.group {group}" in self._snapshot.owned:
            return ""
        if inside := self._directory.groups[group].get("users"):
            return f"group {group} has {len(inside)} members, who would lose it; take them out first (members: [])"
        return f"group {group} guards something that is not Hecate's"

    # What is asked about

    def _guard(self, name: str) -> Guard | None:
        """None for a route that authentik doesn't guard."""
        asked = name.strip().lower().removeprefix("https://").rstrip("/")
        for guard in self._estate.guards.all:
            if asked in (guard.name, guard.slug, *guard.hosts):
                return guard
        for guard in self._estate.guards.all:
            domain = guard.policy.domain
            if domain and self._route(asked) is None and any(_covers(host, asked) for host in guard.hosts):
                return guard
        return None

    def _route(self, host: str) -> Route | None:
        return next((r for key, r in self._estate.routes.items() if host in (key, *r.hosts)), None)

    def _unguarded(self, name: str) -> str:
        """What lets people in where authentik does not. Raises HecateError for what nobody knows."""
        route = self._route(name.strip().lower().removeprefix("https://").rstrip("/"))
        if route is None:
            hosts = (host for key, known in self._estate.routes.items() for host in (key, *known.hosts))
            raise HecateError(_unknown("route or application", name, [*hosts, *self._estate.applications]))
        policy = self._estate.guards.policy_of(route)
        return others(policy.provider) if policy else "everybody, without a login: the route has no auth_policy"

    def _hints(self, guard: Guard) -> list[str]:
        """What else of the routes keeps people out, or lets them in."""
        found = []
        for host in guard.hosts:
            route = self._route(host)
            if route is None:
                continue
            if route.maintenance:
                found.append(f"{host} is in maintenance: 503 for all")
            if route.allowed_ips:
                found.append(f"{host} answers these addresses alone: {', '.join(map(str, route.allowed_ips))}")
            if route.denied_ips:
                found.append(f"{host} refuses these addresses: {', '.join(map(str, route.denied_ips))}")
            if route.public_paths:
                found.append(f"{host} lets everybody in at {', '.join(route.public_paths)}")
        return shortened(found, 10)


def _named(resource: Resource) -> str:
    kind, key = resource.kind.removeprefix("authentik."), resource.key
    if kind == "binding":
        return "binding to " + " ".join(_bound(resource))
    if kind == "attachment":
        outpost, _, provider = key.partition("/")
        return f"{provider} on the outpost {outpost or '(embedded)'}"
    return f"{kind.replace('_', ' ')} {key}"


def _bound(binding: Resource) -> tuple[str, str]:
    """Kind and name of what a binding binds."""
    _, kind, name = binding.key.split("/", 2)
    return kind, name


def _covers(host: str, asked: str) -> bool:
    return host.startswith("*.") and asked.endswith(host[1:])


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    there = sorted(known)
    near = difflib.get_close_matches(name, there, 3) or there[:10]
    return f"there is no {what} {name}; " + (f"there are: {', '.join(near)}" if near else "there are none")
