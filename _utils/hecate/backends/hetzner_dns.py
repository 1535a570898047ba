"""Hetzner's Cloud API as a provider of DNS; ours by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hecate.backends.dns import RRSET, Rrset, Values, ZoneSeen, values_of
from hecate.budget import Budget
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.errors import NotFound
from hecate.resource import Change, Resource

MANAGED, ENVIRONMENT = "managed-by", "hecate-environment"


class HetznerDns:
    """A provider for backends.dns."""

    system = "hetzner_dns"

    def __init__(self, client: HetznerDnsClient) -> None:
        self._client = client
        self._began = 0

    def zonefile(self, zone: ZoneSeen) -> str:
        return self._client.zonefile(zone.raw)

    def budget(self, changes: Sequence[Change]) -> Budget:
        """After the writes zones are read again, which takes no more than it took now."""
        meter = self._client.meter
        writes = sum(_writes(change) for change in changes)
        zonefiles = len({change.subject.key.split("/")[0] for change in changes})
        to_come = writes + self._client.polls(writes) + zonefiles + meter.spent - self._began if changes else 0
        return Budget(self.system, meter.spent, to_come, meter.allowance, meter.patience)

    def zones(self, names: Sequence[str]) -> Mapping[str, ZoneSeen]:
        self._began = self._client.meter.spent
        found = {str(zone.name): zone for zone in self._client.zones()}
        return {name: _zone(found[name]) for name in names if name in found}

    def rrsets(self, zone: ZoneSeen) -> Sequence[Rrset]:
        """Of a secondary zone none: the API shows them to nobody."""
        return [_rrset(row) for row in self._client.rrsets(zone.raw)] if zone.writable else []

    def create_zone(self, name: str, owner: str) -> ZoneSeen:
        zone, actions = self._client.create_zone(name, _labels(owner))
        self._client.wait(actions)
        return _zone(zone)

    def drop_zone(self, zone: ZoneSeen) -> None:
        """Somebody's records, or their protection of the zone, are worth more than an undo to the letter."""
        added = [row for row in self.rrsets(zone) if (row.name, row.type) not in (("@", "SOA"), ("@", "NS"))]
        if added or (zone.raw.protection or {}).get("delete"):
            self._client.set_zone_labels(zone.raw, _others(zone.raw))
        else:
            self._client.wait(self._client.delete_zone(zone.raw))

    def set_zone_ttl(self, zone: ZoneSeen, ttl: int) -> None:
        self._client.wait(self._client.set_zone_ttl(zone.raw, ttl))

    def write(self, zone: ZoneSeen, changes: Sequence[Change], seen: Mapping[str, Rrset]) -> None:
        """Actions are awaited together: each takes a while, all together take about as long.

        What is protected is opened first and closed last, and each of that is awaited by itself. Where a step
        between fails the engine puts everything back, protection included: it is part of what was there.
        """
        pairs = [(change, seen.get(change.id)) for change in changes]
        opened = [(change, there) for change, there in pairs if there and there.protected and _opens(change)]
        self._client.wait([action for _, there in opened for action in self._protect(zone, there, False)])
        self._client.wait([action for change, there in pairs for action in self._write(zone, change, there)])
        open_now = {change.id for change, _ in opened}
        closing = [
            change.after
            for change, there in pairs
            if _protected(change.after) and not (there and there.protected and change.id not in open_now)
        ]
        self._client.wait([action for after in closing if after for action in self._close(zone, after)])

    def _protect(self, zone: ZoneSeen, there: Rrset, wanted: bool) -> list[Any]:
        try:
            return self._client.set_protection(zone.raw, there.name, there.type, wanted)
        except NotFound:  # somebody deleted it meanwhile
            return []

    def _close(self, zone: ZoneSeen, after: Resource) -> list[Any]:
        _, name, kind = after.key.split("/")
        return self._client.set_protection(zone.raw, name, kind, True)

    def _write(self, zone: ZoneSeen, change: Change, there: Rrset | None) -> list[Any]:
        before, after = change.before, change.after
        values = values_of(change, there)
        if values is not None:
            return self._write_values(zone, change, there, values)
        _, name, kind = change.subject.key.split("/")
        if before is None or there is None:
            if after is None:
                return []
            spec = {**after.spec, "labels": {**after.spec.get("labels", {}), **_labels(after.spec["owner"])}}
            return self._client.create(zone.raw, name, kind, spec)
        if after is None:
            try:
                return self._client.delete(there.raw)
            except NotFound:
                return []
        actions: list[Any] = []
        comments = _comments(before, after)
        if before.spec["records"] != after.spec["records"]:
            actions += self._client.set_records(there.raw, after.spec["records"], comments)
        elif changed := {v: c for v, c in comments.items() if c != before.spec.get("comments", {}).get(v, "")}:
            actions += self._client.set_comments(zone.raw, name, kind, changed)
        if before.spec["ttl"] != after.spec["ttl"]:
            actions += self._client.set_ttl(there.raw, after.spec["ttl"])
        if before.spec["owner"] != after.spec["owner"]:
            self._client.set_labels(there.raw, {**_others(there.raw), **_labels(after.spec["owner"])})
        return actions

    def _write_values(self, zone: ZoneSeen, change: Change, there: Rrset | None, values: Values) -> list[Any]:
        """Of a set with others in it: each value by itself, added before others are removed.

        Hetzner makes the set with its first record and deletes it with its last one.
        """
        _, name, kind = change.subject.key.split("/")
        actions: list[Any] = []
        if values.add:
            ttl = None if there else values.ttl  # of a set that is there it has to be the same, or not be said
            actions += self._client.add_records(zone.raw, name, kind, dict.fromkeys(values.add, values.mark), ttl)
        if values.remove:
            actions += self._client.remove_records(zone.raw, name, kind, values.remove)
        if values.marked:
            actions += self._client.set_comments(zone.raw, name, kind, dict.fromkeys(values.marked, values.mark))
        if there and change.before and change.after:
            if change.before.spec["ttl"] != values.ttl:
                actions += self._client.set_ttl(there.raw, values.ttl)
            if not change.before.spec.get("shared"):  # marked as a whole so far
                self._client.set_labels(there.raw, _others(there.raw))
        return actions


def _writes(change: Change) -> int:
    """Calls for one set: one to make or to remove it; records with their comments, TTL, labels each have their own.

    Protection is taken off and put on by one each.
    """
    if change.kind != RRSET:
        return 1
    guards = int(bool(_protected(change.before) and _opens(change))) + int(_protected(change.after))
    if change.before is None or change.after is None:
        return 1 + guards
    before, after = change.before.spec, change.after.spec
    kinds = [("records", "comments"), ("ttl",), ("owner",)]
    writes = sum(any(before.get(key) != after.get(key) for key in keys) for keys in kinds)
    return max(1, writes + guards)


def _opens(change: Change) -> bool:
    """Whether protection has to go for that: labels may change under it."""
    before, after = change.before, change.after
    if before is None or after is None or not _protected(after):
        return True
    return any(before.spec.get(key) != after.spec.get(key) for key in ("records", "ttl", "comments"))


def _protected(side: Resource | None) -> bool:
    return bool(side and side.spec.get("protected"))


def _comments(before: Resource, after: Resource) -> dict[str, str]:
    """By value; "" where one has to go, and nothing where none was."""
    had, wanted = before.spec.get("comments", {}), after.spec.get("comments", {})
    return {value: wanted.get(value, "") for value in after.spec["records"] if value in wanted or value in had}


def _zone(row: Any) -> ZoneSeen:
    return ZoneSeen(row.name, row.ttl, getattr(row, "mode", "primary") != "secondary", row, _owner(row))


def _rrset(row: Any) -> Rrset:
    records = {record.value: record.comment or "" for record in row.records or ()}
    protected = bool((row.protection or {}).get("change"))
    return Rrset(row.name, row.type, records, row.ttl, _owner(row), protected, row, _others(row))


def _owner(row: Any) -> str:
    labels = row.labels or {}
    return str(labels.get(ENVIRONMENT, "")) if labels.get(MANAGED) == "hecate" else ""


def _others(row: Any) -> dict[str, str]:
    return {k: v for k, v in (row.labels or {}).items() if k not in (MANAGED, ENVIRONMENT)}


def _labels(owner: str) -> dict[str, str]:
    """The mark of what Hecate made; others' labels stay beside it."""
    return {MANAGED: "hecate", ENVIRONMENT: owner} if owner else {}
