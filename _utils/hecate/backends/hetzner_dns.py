"""Hetzner DNS as a backend: rrsets of the pillar's zones, ours by their label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.errors import NotFound
from hecate.resource import Change, Resource, Snapshot


@dataclass(frozen=True)
class Seen:
    """hcloud's own objects, by zone name and by resource id."""

    zones: Mapping[str, Any]
    rrsets: Mapping[str, Any]


class HetznerDnsBackend:
    """zones: names of the zones that are read. labels: the mark that makes an rrset ours."""

    system = "hetzner_dns"
    atomic = False
    together = frozenset({"dns.rrset"})
    brief = False

    def __init__(self, client: HetznerDnsClient, zones: Collection[str], labels: Mapping[str, str]) -> None:
        self._client, self._zones, self._labels = client, zones, dict(labels)

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        wanted = {r.id for r in scope}
        needed = set(self._zones) | {r.key.split("/")[0] for r in scope}
        if not needed:
            return Snapshot({})
        known = {str(zone.name): zone for zone in self._client.zones()}
        missing = sorted(needed - known.keys())
        if missing:
            raise NotFound(
                "hetzner_dns",
                f"no zone {', '.join(missing)} in this project; create it, or use the token of the project that has it",
                code=404,
            )
        owned, foreign, rrsets = {}, {}, {}
        for name in sorted(needed):
            for rrset in self._client.rrsets(known[name]):
                resource = _resource(name, rrset)
                rrsets[resource.id] = rrset
                if self._labels.items() <= resource.spec["labels"].items():
                    owned[resource.id] = resource
                elif resource.id in wanted:
                    foreign[resource.id] = resource
        return Snapshot(owned, foreign, Seen(known, rrsets))

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """Labels that others put on an rrset stay on it."""
        if have is None:
            return want
        return want.with_spec({**want.spec, "labels": {**have.spec["labels"], **want.spec["labels"]}})

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        seen: Seen = snapshot.raw
        actions: list[Any] = []
        for change in changes:
            actions += self._write(change, seen)
        self._client.wait(actions)

    def _write(self, change: Change, seen: Seen) -> list[Any]:
        before, after = change.before, change.after
        zone, name, kind = change.subject.key.split("/")
        if before is None:
            assert after is not None
            return self._client.create(seen.zones[zone], name, kind, dict(after.spec))
        rrset = seen.rrsets[change.id]
        if after is None:
            try:
                return self._client.delete(rrset)
            except NotFound:
                return []
        actions = []
        if before.spec["records"] != after.spec["records"]:
            actions += self._client.set_records(rrset, after.spec["records"])
        if before.spec["ttl"] != after.spec["ttl"]:
            actions += self._client.set_ttl(rrset, after.spec["ttl"])
        if before.spec["labels"] != after.spec["labels"]:
            self._client.set_labels(rrset, dict(after.spec["labels"]))
        return actions


def _resource(zone: str, rrset: Any) -> Resource:
    spec = {
        "records": sorted(record.value for record in rrset.records or ()),
        "ttl": rrset.ttl,
        "labels": dict(rrset.labels or {}),
    }
    return Resource("dns.rrset", f"{zone}/{rrset.name}/{rrset.type}", spec)
