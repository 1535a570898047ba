"""Selectors -> which systems and which routes a plan or a deploy is about. Pure.

Routes that share a host name, now or when they were last deployed, go together: one of them alone would leave the
name to nobody, or to both. A definition that has changed and that routes on both sides use cannot be split.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from hecate.errors import HecateError
from hecate.narrowing import NOT

SYSTEMS = ("terraform", "nomad", "authentik", "hetzner_dns", "rfc2136", "caddy")
GROUPS = {"dns": ("hetzner_dns", "rfc2136")}
PARTS = ("nomad", "authentik", "hetzner_dns", "rfc2136", "caddy")  # that can do some routes without the others
KINDS = ("systems", "routes", "tags", "tenants")
SHARED = ("auth_policies", "middleware", "upstreams", "health_checks")
REFERS = {"auth_policy": "auth_policies", "middleware": "middleware", "upstreams": "upstreams"}
REFERS["health_check"] = "health_checks"
OWN = {  # what a deploy of these systems alone makes true
    "terraform": ("terraform",),
    "nomad": ("nomad", "workloads"),
    "authentik": ("authentik", "applications"),
    "hetzner_dns": ("hetzner_dns", "dns"),
    "rfc2136": ("rfc2136", "dns"),
    "caddy": ("caddy", "edges", "certificates", "monitoring", "forward_auth"),
}
Raw = Mapping[str, Any]
LISTED = 20  # names that an error tells


@dataclass(frozen=True)
class Thing:
    """What can be chosen: a route, or `applications:NAME`, or `workloads:NAME`, by its name."""

    name: str
    hosts: frozenset[str]
    tags: frozenset[str] = frozenset()
    tenant: str = ""


@dataclass(frozen=True)
class Selection:
    """systems: those that take part. hosts: as an Order has them; None for everything there. chosen: names of things.

    words: as they were given, by selector, without empty ones.
    """

    systems: tuple[str, ...]
    hosts: tuple[str, ...] | None = None
    chosen: frozenset[str] = frozenset()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything was said at all."""
        return bool(self.words)

    def takes(self, system: str) -> bool:
        return system in self.systems


def resolve(words: Mapping[str, Sequence[str]], new: Raw, old: Raw, managed: Collection[str]) -> Selection:
    """new, old: what stands under `hecate` now, and did at the last good deploy (empty if there was none).

    managed: systems that have a target. Raises HecateError for what nothing answers to, naming what there is.
    """
    given = {kind: tuple(words.get(kind) or ()) for kind in (*KINDS, "exclude") if words.get(kind)}
    if not given:
        return Selection(tuple(managed))
    things = _things(new, old)
    found = _Finder(things, managed)
    systems = {s for word in given.get("systems", ()) for s in found.systems(word)} or set(managed)
    listed = [found.names(kind, word) for kind in KINDS[1:] for word in given.get(kind, ())]
    out = [found.excluded(word) for word in given.get("exclude", ())]
    systems -= {system for names, of in out for system in of}
    aside = _together(things, {name for names, _ in out for name in names})
    positive = bool(listed)
    chosen = _together(things, {name for names in listed for name in names})
    if positive:
        chosen -= aside
        systems &= set(PARTS)
        if not any(name.startswith("workloads:") for name in chosen):
            systems -= {"nomad"}
    ordered = tuple(system for system in managed if system in systems)
    if not ordered or (positive and not chosen):
        raise HecateError("these selectors leave nothing to do: everything that they choose is excluded, or unmanaged")
    if not positive and not aside:
        return Selection(ordered, None, frozenset(), given)
    inside = chosen if positive else {thing.name for thing in things} - aside
    _refuse_entangled(new, old, inside)
    hosts = {host for thing in things if thing.name in (chosen if positive else aside) for host in thing.hosts}
    return Selection(ordered, tuple(sorted(h if positive else NOT + h for h in hosts)), frozenset(inside), given)


class _Finder:
    """What a word means."""

    def __init__(self, things: Sequence[Thing], managed: Collection[str]) -> None:
        self._things, self._managed = things, managed

    def systems(self, word: str) -> set[str]:
        found = {s for s in GROUPS.get(word, (word,)) if s in self._managed}
        if not found:
            known = [*self._managed, *(name for name, of in GROUPS.items() if {*of} & {*self._managed})]
            raise _unknown("system", word, known)
        return found

    def names(self, kind: str, word: str) -> set[str]:
        found = self._matching(kind, word)
        if not found:
            raise _unknown(kind.removesuffix("s"), word, self._known(kind))
        return found

    def excluded(self, word: str) -> tuple[set[str], set[str]]:
        """(names of things, systems); `kind:word`, or a bare word, tried kind by kind."""
        kind, colon, rest = word.partition(":")
        if colon and f"{kind}s" in KINDS:
            return (set(), self.systems(rest)) if kind == "system" else (self.names(f"{kind}s", rest), set())
        if systems := {s for s in GROUPS.get(word, (word,)) if s in self._managed}:
            return set(), systems
        for tried in KINDS[1:]:
            if found := self._matching(tried, word):
                return found, set()
        there = [*self._managed, *(name for tried in KINDS[1:] for name in self._known(tried))]
        raise _unknown("system, route, tag or tenant", word, there)

    def _matching(self, kind: str, word: str) -> set[str]:
        return {thing.name for thing in self._things if any(fnmatchcase(v, word) for v in self._values(kind, thing))}

    def _known(self, kind: str) -> list[str]:
        return sorted({value for thing in self._things for value in self._values(kind, thing)})

    @staticmethod
    def _values(kind: str, thing: Thing) -> Collection[str]:
        if kind == "routes":
            return () if ":" in thing.name else thing.hosts
        return thing.tags if kind == "tags" else [thing.tenant] if thing.tenant else ()


def _unknown(what: str, word: str, there: Sequence[str]) -> HecateError:
    more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
    return HecateError(f"no {what} {word!r}; there are: {', '.join(there[:LISTED]) or 'none'}{more}")


def _things(new: Raw, old: Raw) -> list[Thing]:
    """Of both pillars; one that is in both is chosen by either's words."""
    found: dict[str, Thing] = {}
    for raw in (new, old):
        for section in ("routes", "applications", "workloads"):
            for key, row in named(raw, section).items():
                name = key if section == "routes" else f"{section}:{key}"
                more = _listed(row.get("hosts")) if section == "routes" else []
                known = found.get(name, Thing(name, frozenset()))
                hosts = known.hosts | {name, *(host.lower() for host in more)}
                tags = known.tags | {*_listed(row.get("tags"))}
                found[name] = Thing(name, hosts, tags, known.tenant or str(row.get("tenant") or ""))
    return list(found.values())


def named(raw: Raw, section: str) -> dict[str, dict[str, Any]]:
    """A section by name, whichever of its forms pillar has it in."""
    rows = raw.get(section) or {}
    if isinstance(rows, Mapping):
        return {str(key).lower(): dict(row) if isinstance(row, Mapping) else {} for key, row in rows.items()}
    key = {"routes": "domain"}.get(section, "name")
    return {
        str(row[key]).lower(): {k: v for k, v in row.items() if k != key}
        for row in rows
        if isinstance(row, Mapping) and key in row
    }


def _listed(value: Any) -> list[str]:
    return [str(one) for one in ([value] if isinstance(value, str) else value or ())]


def _together(things: Sequence[Thing], names: set[str]) -> set[str]:
    """With every route that has a host name in common with one of these, and so on."""
    found = set(names)
    hosts = {host for thing in things if thing.name in found for host in thing.hosts}
    more = {thing.name for thing in things if thing.hosts & hosts}
    return found if more <= found else _together(things, found | more)


def _refuse_entangled(new: Raw, old: Raw, inside: Collection[str]) -> None:
    if not old:
        return
    changed = {
        (section, name)
        for section in SHARED
        for name in named(new, section).keys() | named(old, section).keys()
        if named(new, section).get(name) != named(old, section).get(name)
    }
    users: dict[tuple[str, str], set[str]] = {}
    for route, row in named(new, "routes").items():
        for use in _uses(row):
            users.setdefault(use, set()).add(route)
    for section, name in sorted(changed):
        routes = users.get((section, name), set())
        outside = sorted(route for route in routes if route not in inside)
        if outside and len(outside) < len(routes):
            what = f"hecate:{section}:{name} has changed, and is also used by {', '.join(outside[:LISTED])}"
            raise HecateError(f"{what}; choose these as well, or give this selection a definition of its own")


def _uses(row: Any) -> Iterable[tuple[str, str]]:
    """(section, name) of the definitions that a route names, in its paths too."""
    if isinstance(row, Mapping):
        for key, value in row.items():
            if key in REFERS and (isinstance(value, str) or key == "middleware"):
                yield from ((REFERS[key], name.lower()) for name in _listed(value))
            else:
                yield from _uses(value)
    elif isinstance(row, list | tuple):
        for one in row:
            yield from _uses(one)


def merged(selection: Selection, new: Raw, old: Raw) -> dict[str, Any]:
    """What is true once this selection is deployed: the last good pillar, with only the chosen replaced.

    Sections of the whole estate count as deployed where a system was deployed wholly. Routes do where all the systems
    took part that do routes; else they stay as they were: a record claims too little rather than too much.
    """
    if not selection:
        return dict(new)
    base = dict(old) if old else {k: v for k, v in new.items() if k not in ("routes", "applications", "workloads")}
    if selection.hosts is None or any(host.startswith(NOT) for host in selection.hosts):
        for system in selection.systems:
            base |= {section: new[section] for section in OWN[system] if section in new}
    whole = {"authentik", "caddy"} & {s for s in PARTS if new.get(s) or s == "caddy"} <= {*selection.systems}
    dns = all(s in selection.systems for s in ("hetzner_dns", "rfc2136") if new.get(s))
    needed = {"routes": whole and dns, "applications": "authentik" in selection.systems}
    for section, counts in {**needed, "workloads": "nomad" in selection.systems}.items():
        if counts:
            base[section] = _replaced(section, selection, named(new, section), named(base, section))
    if whole and dns:
        used = {use for row in base.get("routes", {}).values() for use in _uses(row)}
        for section in SHARED:
            fresh, kept = named(new, section), named(base, section)
            taken = {name for name in fresh if (section, name) in used}
            taken -= {name for name in kept if not _is_chosen(section, name, selection, new)}
            base[section] = {**kept, **{name: fresh[name] for name in sorted(taken)}}
    return {key: value for key, value in base.items() if value != {}}


def _replaced(section: str, selection: Selection, new: Raw, old: Raw) -> dict[str, Any]:
    def chosen(name: str) -> bool:
        return selection.hosts is None or (name if section == "routes" else f"{section}:{name}") in selection.chosen

    kept = {name: row for name, row in old.items() if not chosen(name)}
    return {**kept, **{name: row for name, row in new.items() if chosen(name)}}


def _is_chosen(section: str, name: str, selection: Selection, new: Raw) -> bool:
    """Whether a route that was deployed uses this definition."""
    rows = named(new, "routes")
    return any(
        (section, name) in _uses(row) for key, row in rows.items() if selection.hosts is None or key in selection.chosen
    )
