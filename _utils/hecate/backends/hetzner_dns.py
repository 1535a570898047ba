"""Hetzner's Cloud API as a provider of DNS; ours by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hecate.backends.dns import Rrset, ZoneSeen
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.errors import NotFound
from hecate.resource import Change

MANAGED, ENVIRONMENT = "managed-by", "hecate-environment"


class HetznerDns:
    """A provider for backends.dns."""

    system = "hetzner_dns"

    def __init__(self, client: HetznerDnsClient) -> None:
        self._client = client

    def zones(self, names: Sequence[str]) -> Mapping[str, ZoneSeen]:
        found = {str(zone.name): zone for zone in self._client.zones()}
        return {
            name: ZoneSeen(name, found[name].ttl, getattr(found[name], "mode", "primary") != "secondary", found[name])
            for name in names
            if name in found
        }

    def rrsets(self, zone: ZoneSeen) -> Sequence[Rrset]:
        return [_rrset(row) for row in self._client.rrsets(zone.raw)]

    def write(self, zone: ZoneSeen, changes: Sequence[Change], seen: Mapping[str, Rrset]) -> None:
        """Actions are awaited together: each takes a while, all together take about as long."""
        actions: list[Any] = []
        for change in changes:
            actions += self._write(zone, change, seen.get(change.id))
        self._client.wait(actions)

    def _write(self, zone: ZoneSeen, change: Change, there: Rrset | None) -> list[Any]:
        before, after = change.before, change.after
        _, name, kind = change.subject.key.split("/")
        if before is None or there is None:
            if after is None:
                return []
            spec = {**after.spec, "labels": _labels(after.spec["owner"])}
            return self._client.create(zone.raw, name, kind, spec)
        if after is None:
            try:
                return self._client.delete(there.raw)
            except NotFound:
                return []
        actions: list[Any] = []
        if before.spec["records"] != after.spec["records"]:
            actions += self._client.set_records(there.raw, after.spec["records"])
        if before.spec["ttl"] != after.spec["ttl"]:
            actions += self._client.set_ttl(there.raw, after.spec["ttl"])
        if before.spec["owner"] != after.spec["owner"]:
            others = {k: v for k, v in (there.raw.labels or {}).items() if k not in (MANAGED, ENVIRONMENT)}
            self._client.set_labels(there.raw, {**others, **_labels(after.spec["owner"])})
        return actions


def _rrset(row: Any) -> Rrset:
    labels = dict(row.labels or {})
    owner = labels.get(ENVIRONMENT, "") if labels.get(MANAGED) == "hecate" else ""
    records = {record.value: record.comment or "" for record in row.records or ()}
    protected = bool((row.protection or {}).get("change"))
    return Rrset(row.name, row.type, records, row.ttl, owner, protected, row)


def _labels(owner: str) -> dict[str, str]:
    """The mark of what Hecate made; others' labels stay beside it."""
    return {MANAGED: "hecate", ENVIRONMENT: owner} if owner else {}
