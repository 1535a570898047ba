"""DNS as a backend, whoever provides it: rrsets of the pillar's zones, by the policy of each zone.

A provider reads and writes; what may be written is decided here, once for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Protocol

from hecate.errors import NotFound
from hecate.resource import Change, Resource, Snapshot

RRSET = "dns.rrset"


@dataclass(frozen=True)
class Rules:
    """What Hecate may do in one zone; fields as of model.dns.Zone."""

    policy: str = "sync"
    ignore: tuple[str, ...] = ()
    take_over: bool = False


@dataclass(frozen=True)
class ZoneSeen:
    """A zone as its provider has it. writable: not a secondary one. raw: the provider's own object."""

    name: str
    ttl: int | None = None
    writable: bool = True
    raw: Any = None


@dataclass(frozen=True)
class Rrset:
    """A set as its provider has it.

    name: relative to the zone, @ for the zone itself. records: value (as in a zonefile) -> comment.
    ttl: None for the zone's own. owner: environment whose Hecate made it, "" for everybody else's.
    """

    name: str
    type: str
    records: Mapping[str, str]
    ttl: int | None
    owner: str = ""
    protected: bool = False
    raw: Any = field(default=None, compare=False)


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


@dataclass(frozen=True)
class Seen:
    zones: Mapping[str, ZoneSeen]
    rrsets: Mapping[str, Rrset]


class DnsBackend:
    """rules: by name of each zone that the pillar has. owner: the environment, which marks what is ours."""

    atomic = False
    together = frozenset({RRSET})
    brief = False

    def __init__(self, provider: Provider, rules: Mapping[str, Rules], owner: str) -> None:
        self.provider, self._rules, self._owner = provider, rules, owner
        self.system = provider.system

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        wanted = {r.id for r in scope}
        needed = sorted(set(self._rules) | {r.key.split("/")[0] for r in scope})
        if not needed:
            return Snapshot({})
        zones = self.provider.zones(needed)
        missing = [name for name in needed if name not in zones]
        if missing:
            raise NotFound(
                self.system,
                f"no zone {', '.join(missing)} here; create it, or use the credentials of the project that has it",
                code=404,
            )
        owned: dict[str, Resource] = {}
        foreign: dict[str, Resource] = {}
        seen: dict[str, Rrset] = {}
        for name in needed:
            rules = self._rules.get(name, Rules())
            for rrset in self.provider.rrsets(zones[name]):
                resource = resource_of(name, rrset)
                seen[resource.id] = rrset
                if any(fnmatchcase(rrset.name, pattern) for pattern in rules.ignore):
                    continue
                is_ours = rrset.owner == self._owner or (rules.take_over and _may_be_taken(rrset))
                if is_ours and (rules.policy == "sync" or resource.id in wanted):
                    owned[resource.id] = resource
                elif not is_ours and resource.id in wanted:
                    foreign[resource.id] = resource
        return Snapshot(owned, foreign, Seen(zones, seen))

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """What is there counts where nothing may be changed."""
        if have is not None and self._rules.get(want.key.split("/")[0], Rules()).policy == "create-only":
            return have
        return want

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        seen: Seen = snapshot.raw
        by_zone: dict[str, list[Change]] = {}
        for change in changes:
            by_zone.setdefault(change.subject.key.split("/")[0], []).append(change)
        for name, share in by_zone.items():
            self.provider.write(seen.zones[name], share, seen.rrsets)


def resource_of(zone: str, rrset: Rrset) -> Resource:
    spec: dict[str, Any] = {"records": sorted(rrset.records), "ttl": rrset.ttl, "owner": rrset.owner}
    comments = {value: comment for value, comment in sorted(rrset.records.items()) if comment}
    if comments:
        spec["comments"] = comments
    if rrset.protected:
        spec["protected"] = True
    return Resource(RRSET, f"{zone}/{rrset.name}/{rrset.type}", spec)


def _may_be_taken(rrset: Rrset) -> bool:
    """Of a zone that is wholly Hecate's: not what makes it a zone, and nobody's proof of possession."""
    is_the_zone = rrset.type == "SOA" or (rrset.name == "@" and rrset.type == "NS")
    return not is_the_zone and not rrset.name.startswith("_acme-challenge")
