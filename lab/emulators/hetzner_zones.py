"""The state of the Hetzner emulator: zones, rrsets, asynchronous actions, and what the name servers hold.

A write changes what the API shows at once; the name servers hold it when its action ends. Who asks DNS without waiting
for the action sees the old answer, as with the real one.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from lab.emulators import hetzner_records as records

Zone = dict[str, Any]
Rrset = dict[str, Any]
Key = tuple[str, str]

NAMESERVERS = ("hydrogen.ns.hetzner.com.", "oxygen.ns.hetzner.com.", "helium.ns.hetzner.de.")


@dataclasses.dataclass
class Running:
    """An action that hasn't ended: when it does, how, and what it publishes (None: the whole zone)."""

    action: int
    due: float
    fails: bool
    zone: int
    keys: list[Key] | None


@dataclasses.dataclass
class State:
    """Everything that the service knows; the emulator keeps a deep copy of it for stale reads."""

    zones: dict[int, Zone] = dataclasses.field(default_factory=dict)
    rrsets: dict[int, dict[Key, Rrset]] = dataclasses.field(default_factory=dict)
    actions: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    running: list[Running] = dataclasses.field(default_factory=list)
    published: dict[str, dict[str, dict[str, tuple[int, list[str]]]]] = dataclasses.field(default_factory=dict)
    last_id: int = 1000

    def new_id(self) -> int:
        """A number that nothing else has."""
        self.last_id += 1
        return self.last_id

    def find_zone(self, id_or_name: str) -> Zone | None:
        """A zone by its name or its id."""
        if id_or_name.isdigit():
            return self.zones.get(int(id_or_name))
        return next((zone for zone in self.zones.values() if zone["name"] == id_or_name.lower()), None)

    def add_zone(self, name: str, ttl: int, labels: dict[str, str], now: float) -> Zone:
        """A zone as it is when it has just been made: SOA and NS at its apex."""
        number = self.new_id()
        zone: Zone = {
            "id": number, "name": name, "created": stamp(now), "mode": "primary", "status": "ok",
            "registrar": "unknown", "primary_nameservers": [], "protection": {"delete": False},
            "labels": labels, "ttl": ttl, "record_count": 0,
            "authoritative_nameservers": {"assigned": list(NAMESERVERS), "delegated": [],
                                          "delegation_last_check": None, "delegation_status": "unknown"},
        }  # fmt: skip
        self.zones[number] = zone
        self.rrsets[number] = {}
        soa = f"{NAMESERVERS[0]} dns.hetzner.com. {today(now)}00 86400 10800 3600000 3600"
        self.put(zone, "@", "SOA", [{"value": soa}])
        self.put(zone, "@", "NS", [{"value": server} for server in NAMESERVERS])
        return zone

    def put(
        self, zone: Zone, name: str, kind: str, values: list[dict[str, Any]],
        ttl: int | None = None, labels: dict[str, str] | None = None,
    ) -> Rrset:  # fmt: skip
        """Make an rrset, or one in its place."""
        rrset = {
            "id": f"{name}/{kind}", "name": name, "type": kind, "ttl": ttl, "labels": labels or {},
            "protection": {"change": False}, "records": values, "zone": zone["id"],
        }  # fmt: skip
        self.rrsets[zone["id"]][name, kind] = rrset
        return rrset

    def moved(self, zone: Zone, now: float) -> None:
        """Follow a change of a zone's records: its SOA's serial goes up, its count is taken."""
        sets = self.rrsets[zone["id"]]
        soa = sets["@", "SOA"]["records"][0]
        soa["value"] = records.next_serial(soa["value"], today(now))
        zone["record_count"] = sum(len(rrset["records"]) for rrset in sets.values())

    def begin(
        self, command: str, zone: Zone, keys: list[Key] | None, now: float, seconds: float | None, fails: bool = False
    ) -> dict[str, Any]:
        """Start an action that ends ``seconds`` from now (None: never); its description as it is at the start."""
        action: dict[str, Any] = {
            "id": self.new_id(), "command": command, "status": "running", "progress": 0, "started": stamp(now),
            "finished": None, "resources": [{"id": zone["id"], "type": "zone"}], "error": None,
        }  # fmt: skip
        self.actions[action["id"]] = action
        if seconds is not None:
            self.running.append(Running(action["id"], now + seconds, fails, zone["id"], keys))
        return dict(action)

    def settle(self, now: float) -> None:
        """End the actions whose time has come."""
        due = [entry for entry in self.running if entry.due <= now]
        if due:
            self.running = [entry for entry in self.running if entry.due > now]
        for entry in due:
            action = self.actions[entry.action]
            action.update(status="error" if entry.fails else "success", progress=100, finished=stamp(entry.due))
            if entry.fails:
                action["error"] = {"code": "action_failed", "message": "Action failed"}
            else:
                self._publish(entry)

    def _publish(self, entry: Running) -> None:
        zone = self.zones.get(entry.zone)
        if zone is None:
            self.published = {n: sets for n, sets in self.published.items() if self.find_zone(n)}
            return
        sets = self.rrsets[entry.zone]
        names = self.published.setdefault(zone["name"], {})
        if entry.keys is None:
            names.clear()
        for name, kind in [*(sets if entry.keys is None else entry.keys), ("@", "SOA")]:
            rrset = sets.get((name, kind))
            if rrset is None:
                names.get(name, {}).pop(kind, None)
            else:
                values = [record["value"] for record in rrset["records"]]
                names.setdefault(name, {})[kind] = (rrset["ttl"] or zone["ttl"], values)


def stamp(now: float) -> str:
    """A time as the API writes it."""
    return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def today(now: float) -> str:
    """YYYYMMDD."""
    return datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y%m%d")
