"""DNS as a backend, whoever provides it: rrsets of the pillar's zones, by the policy of each zone.

A provider reads and writes; what may be written is decided here, once for all of them.

Of a set that is shared with others, only our values are a resource: spec `shared`, records of ours alone. What
others have in it is never part of a plan, so no write and no undo can lose it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol, runtime_checkable

from hecate import rdata
from hecate.backends import alike
from hecate.budget import Budget
from hecate.errors import NotFound, Refused
from hecate.resource import Change, Resource, Snapshot
from hecate.zonefile import Set, write

RRSET, ZONE, TTL = "dns.rrset", "dns.zone", "dns.ttl"
USUAL_TTL = 3600  # of a zone that is made and says none
CHALLENGE = "_acme-challenge"


@dataclass(frozen=True)
class Rules:
    """What Hecate may do in one zone; fields as of model.dns.Zone. Without a policy: look, and nothing else."""

    policy: str = ""
    ignore: tuple[str, ...] = ()
    take_over: bool = False


@dataclass(frozen=True)
class ZoneSeen:
    """A zone as its provider has it.

    writable: not a secondary one. raw: the provider's own object. owner: environment whose Hecate made it.
    """

    name: str
    ttl: int | None = None
    writable: bool = True
    raw: Any = None
    owner: str = ""


@dataclass(frozen=True)
class Rrset:
    """A set as its provider has it.

    name: relative to the zone, @ for the zone itself. records: value (as in a zonefile) -> comment.
    ttl: None for the zone's own. owner: environment whose Hecate made it, "" for everybody else's.
    labels: others' marks on it, which stay whatever becomes of the set.
    """

    name: str
    type: str
    records: Mapping[str, str]
    ttl: int | None
    owner: str = ""
    protected: bool = False
    raw: Any = field(default=None, compare=False)
    labels: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """How to read and write the zones of one DNS provider."""

    system: str

    def zones(self, names: Sequence[str]) -> Mapping[str, ZoneSeen]:
        """Those of the named zones that are there. Raises when it is not sure."""
        ...

    def rrsets(self, zone: ZoneSeen) -> Sequence[Rrset]:
        """All sets of a zone, whole. Raises when it is not sure that these are all."""
        ...

    def write(self, zone: ZoneSeen, changes: Sequence[Change], seen: Mapping[str, Rrset]) -> None:
        """Write changes of rrsets; seen: what was there, by resource id. Returns once they are in effect."""
        ...


@runtime_checkable
class Keeper(Protocol):
    """A provider that makes zones."""

    def create_zone(self, name: str, owner: str) -> ZoneSeen: ...

    def drop_zone(self, zone: ZoneSeen) -> None:
        """Delete a zone that nothing was added to; any other is left, and is nobody's."""
        ...

    def set_zone_ttl(self, zone: ZoneSeen, ttl: int) -> None: ...


@runtime_checkable
class Exporting(Protocol):
    """A provider that writes zonefiles itself."""

    def zonefile(self, zone: ZoneSeen) -> str:
        """The whole zone. Raises when it is not sure."""
        ...


@runtime_checkable
class Metered(Protocol):
    """A provider whose calls are counted and limited."""

    def budget(self, changes: Sequence[Change]) -> Budget:
        """What was asked of it so far, and what writing these and looking at the result will take."""
        ...


@dataclass(frozen=True)
class Seen:
    """rrsets: by resource id. whole: all sets of each zone, as they were read."""

    zones: dict[str, ZoneSeen]
    rrsets: Mapping[str, Rrset]
    whole: dict[str, Sequence[Rrset]] = field(default_factory=dict)


class DnsBackend:
    """rules: by name of each zone that the pillar has. owner: the environment, which marks what is ours."""

    atomic = False
    brief = False

    def __init__(self, provider: Provider, rules: Mapping[str, Rules], owner: str) -> None:
        self.provider, self._rules, self._owner = provider, rules, owner
        self.system = provider.system
        self._unwritten: dict[str, Sequence[Rrset]] = {}

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        """What stands at the keys in `scope` is always shown, whatever the rules: an undo depends on it."""
        asked = {r.id: r for r in scope}
        needed = sorted(set(self._rules) | {_zone(r) for r in scope})
        if not needed:
            return Snapshot({})
        zones = dict(self.provider.zones(needed))
        made = {r.key for r in scope if r.kind == ZONE}
        self._refuse_missing([name for name in needed if name not in made], zones, {_zone(r) for r in scope} - made)
        owned: dict[str, Resource] = {}
        foreign: dict[str, Resource] = {}
        seen: dict[str, Rrset] = {}
        for resource in scope:
            if resource.kind != RRSET and (itself := _zone_itself(resource, zones.get(resource.key))):
                is_ours = resource.kind == TTL or itself.spec["owner"] == self._owner
                (owned if is_ours else foreign)[itself.id] = itself
        # Right after a write only the zones that it went to are read again; others can't have changed by it.
        known, self._unwritten = self._unwritten, {}
        whole_zones = {name: known[name] if name in known else self.provider.rrsets(zones[name]) for name in zones}
        for name in zones:
            for rrset in whole_zones[name]:
                whole = resource_of(name, rrset)
                seen[whole.id] = rrset
                wanted = asked.get(whole.id)
                if rrset.type == "SOA" or (
                    wanted is None and not (zones[name].writable and self._governs(name, rrset))
                ):
                    continue
                found, is_ours = self._share(name, rrset, wanted)
                if found and is_ours:
                    owned[found.id] = found
                elif found and wanted:
                    foreign[found.id] = found
        return Snapshot(owned, foreign, Seen(zones, seen, whole_zones))

    def _refuse_missing(self, needed: Sequence[str], zones: Mapping[str, ZoneSeen], written: Collection[str]) -> None:
        missing = [name for name in needed if name not in zones]
        if missing:
            raise NotFound(
                self.system,
                f"no zone {', '.join(missing)} here; "
                "say `create: true`, or use the credentials of the project that has it",
                code=404,
            )
        if fixed := sorted(name for name in written if not zones[name].writable):
            why = "copied from another server (a secondary zone) and cannot be written here; change it there"
            raise Refused(self.system, f"{', '.join(fixed)}: {why}")

    def _governs(self, zone: str, rrset: Rrset) -> bool:
        """Whether what pillar doesn't want there is to go: only under `sync`, and never what it ignores."""
        rules = self._rules.get(zone, Rules())
        return rules.policy == "sync" and not any(fnmatchcase(rrset.name, pattern) for pattern in rules.ignore)

    def _share(self, zone: str, rrset: Rrset, wanted: Resource | None) -> tuple[Resource | None, bool]:
        """What of a set can be ours, and whether it is."""
        whole, shared = resource_of(zone, rrset), bool(wanted and wanted.spec.get("shared"))
        rules = self._rules.get(zone, Rules())
        taken = rules.take_over and not shared and _may_be_taken(zone, rrset)
        if rrset.owner == self._owner or taken:
            return whole, True
        if wanted and not shared:
            return whole, False
        return _part(whole, rrset, wanted and _spelt_as(wanted, rrset.records), mark_of(self._owner))

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """What is there counts where nothing may be changed, and in the spelling that it has there.

        A zone that is there is used, whoever made it.
        """
        if have is None or have.spec == want.spec:
            return want
        if want.kind == ZONE or self._rules.get(_zone(want), Rules()).policy == "create-only":
            return have
        if want.kind != RRSET:
            return want
        goal = _spelt_as(want, have.spec["records"])
        return goal.with_spec({**goal.spec, "labels": have.spec["labels"]}) if "labels" in have.spec else goal

    def zonefile(self, zone: ZoneSeen, sets: Sequence[Rrset] | None = None) -> str:
        """The zone as it is now; of a provider that exports none, as its sets were read."""
        if isinstance(self.provider, Exporting):
            return self.provider.zonefile(zone)
        found = self.provider.rrsets(zone) if sets is None else sets
        return write(zone.name, zone.ttl, [Set(r.name, r.type, r.records, r.ttl, r.owner) for r in found])

    def budget(self, changes: Sequence[Change]) -> Budget | None:
        return self.provider.budget(changes) if isinstance(self.provider, Metered) else None

    def for_restore(self, zone: str, strangers: bool) -> DnsBackend:
        """The same with one zone alone, where all of ours may change; and strangers' sets too, if told so."""
        other = copy(self)
        ignore = self._rules.get(zone, Rules()).ignore
        other._rules = {zone: Rules("sync", ignore, take_over=strangers)}
        return other

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        return alike(changes, {RRSET})

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        seen: Seen = snapshot.raw
        by_zone: dict[str, list[Change]] = {}
        for change in changes:
            if change.kind != RRSET:
                self._write_zone(change, seen)
                continue
            by_zone.setdefault(_zone(change.subject), []).append(change)
        for name in {_zone(change.subject) for change in changes}:
            seen.whole.pop(name, None)
        for name, share in by_zone.items():
            self.provider.write(seen.zones[name], share, seen.rrsets)
        self._unwritten = seen.whole

    def _write_zone(self, change: Change, seen: Seen) -> None:
        name, after = change.subject.key, change.after
        if not isinstance(self.provider, Keeper):
            raise Refused(self.system, f"{name}: zones are not made here; make it at its server")
        if change.kind == TTL:
            if after:
                self.provider.set_zone_ttl(seen.zones[name], after.spec["ttl"])
        elif after and not change.before:
            seen.zones[name] = self.provider.create_zone(name, after.spec["owner"])
        elif not after and name in seen.zones:
            self.provider.drop_zone(seen.zones[name])


def _zone_itself(asked: Resource, zone: ZoneSeen | None) -> Resource | None:
    """A zone or its default TTL as it is. A zone that isn't there has the TTL that it will be made with."""
    if asked.kind == TTL:
        return Resource(TTL, asked.key, {"ttl": zone.ttl if zone else USUAL_TTL})
    return Resource(ZONE, asked.key, {"owner": zone.owner}) if zone else None


def _spelt_as(want: Resource, there: Collection[str]) -> Resource:
    """A wish whose values stand in the spelling that equal ones have there: no difference, and no write."""
    zone, _, kind = want.key.split("/")
    spelt = rdata.respelled(kind, want.spec["records"], there, zone)
    spec = {**want.spec, "records": sorted(spelt.values())}
    if "comments" in spec:
        comments = {spelt[value]: comment for value, comment in want.spec["comments"].items()}
        spec["comments"] = dict(sorted(comments.items()))
    return want.with_spec(spec)


def resource_of(zone: str, rrset: Rrset) -> Resource:
    spec: dict[str, Any] = {"records": sorted(rrset.records), "ttl": rrset.ttl, "owner": rrset.owner}
    comments = {value: comment for value, comment in sorted(rrset.records.items()) if comment}
    if comments:
        spec["comments"] = comments
    if rrset.protected:
        spec["protected"] = True
    if rrset.labels:
        spec["labels"] = dict(rrset.labels)
    return Resource(RRSET, f"{zone}/{rrset.name}/{rrset.type}", spec)


@dataclass(frozen=True)
class Values:
    """A change of our values in a set that others have values in too: never a replacement.

    mark: what the added ones carry as comment. marked: values of ours that are there and lack it.
    """

    mark: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    marked: tuple[str, ...] = ()
    ttl: int | None = None


def values_of(change: Change, there: Rrset | None) -> Values | None:
    """The change of a shared set, value by value; None for a set that is wholly ours.

    there: the set as it was seen. What others have in it is neither added again nor removed.
    """
    sides = [side for side in (change.before, change.after) if side]
    if not sides[-1].spec.get("shared"):
        return None
    held = there.records if there else {}
    before, after = ([*side.spec["records"]] if side else [] for side in (change.before, change.after))
    mark = mark_of(sides[-1].spec["owner"])
    was_whole = change.before is not None and not change.before.spec.get("shared")
    ours = [value for value in before if value in held and (was_whole or held[value] == mark)]
    return Values(
        mark,
        tuple(value for value in after if value not in held),
        tuple(value for value in ours if value not in after),
        tuple(value for value in ours if value in after and held[value] != mark),
        change.after.spec["ttl"] if change.after else None,
    )


def mark_of(owner: str) -> str:
    """The comment of our values in sets that others have values in too."""
    return f"hecate/{owner}"


def _part(whole: Resource, rrset: Rrset, wanted: Resource | None, mark: str) -> tuple[Resource | None, bool]:
    """Our values of a shared set.

    A wanted value that somebody else has put there counts as there, and stays theirs. So does the TTL
    of a set with others in it: it counts as wished.
    """
    wish = [*wanted.spec["records"]] if wanted else []
    ours = {value for value, comment in rrset.records.items() if comment == mark}
    met = [value for value in wish if value in rrset.records]
    if not ours and (not wish or len(met) < len(wish)):
        return None, False
    ttl = wanted.spec["ttl"] if wanted and rrset.records.keys() - ours else rrset.ttl
    spec = {"records": sorted(ours.union(met)), "ttl": ttl, "owner": mark.partition("/")[2], "shared": True}
    return whole.with_spec(spec), bool(ours)


def _zone(resource: Resource) -> str:
    return resource.key.split("/")[0]


def _may_be_taken(zone: str, rrset: Rrset) -> bool:
    """Of a zone that is wholly Hecate's: not what makes it a zone, and nobody's proof of possession."""
    is_the_zone = rrset.type == "SOA" or (rrset.name == "@" and rrset.type == "NS")
    labels = f"{rrset.name}.{zone}".split(".")
    return not is_the_zone and not any(label.startswith(CHALLENGE) for label in labels)
