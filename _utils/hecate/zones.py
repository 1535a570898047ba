"""What is done around every apply to DNS: the budget looked at, the zonefile kept, the name servers asked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dns.rdata
import dns.rdataclass

from hecate.backends.dns import DnsBackend, Rrset, Seen, ZoneSeen, resource_of
from hecate.backends.dns_propagation import Ask, Server, longest_cached, questions, wait
from hecate.budget import clock_text
from hecate.engine import Wish
from hecate.errors import HecateError, Unreachable
from hecate.files import write_whole
from hecate.plan import Plan
from hecate.resource import Resource, Snapshot
from hecate.zonefile import Set, Zonefile, canonical, with_owners

KEPT = 20
FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.zone")


class Zonefiles:
    """Zonefiles of one target as they were before each change; the newest KEPT of each zone, mode 0600."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, zone: str, name: str, text: str) -> Path:
        """On disk before this returns. name: the transaction."""
        path = self._path(zone, f"{name}.zone")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, text.encode())
        for old in self._files(zone)[:-KEPT]:
            old.unlink(missing_ok=True)
        return path

    def names(self, zone: str) -> list[str]:
        """Oldest first."""
        return [path.name for path in self._files(zone)]

    def read(self, zone: str, name: str) -> str:
        """Raises HecateError for a file that isn't kept."""
        path = self._path(zone, name)
        try:
            return path.read_text(encoding="utf-8")
        except OSError as err:
            kept = ", ".join(self.names(zone)) or "none"
            raise HecateError(f"no zonefile {name} of {zone} is kept here; there are: {kept}") from err

    def _files(self, zone: str) -> list[Path]:
        return sorted(self._path(zone, "x.zone").parent.glob("*.zone"), key=lambda p: (p.stat().st_mtime_ns, p.name))

    def _path(self, zone: str, name: str) -> Path:
        if "/" in zone or zone.startswith(".") or not FILE.fullmatch(name):
            raise HecateError(f"{zone}/{name} is not the name of a kept zonefile")
        return self._folder / zone / name


class Serials:
    """SOA serials as they were after the last apply, in one small file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        try:
            return {str(zone): int(serial) for zone, serial in json.loads(self._path.read_text("utf-8")).items()}
        except (OSError, ValueError, AttributeError, TypeError):  # it only saves a look, so a damaged one is none
            return {}

    def remember(self, serials: Mapping[str, int]) -> None:
        if serials:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps({**self.read(), **serials}, sort_keys=True) + "\n", "utf-8")
            fresh.replace(self._path)


@dataclass(frozen=True)
class World:
    """The name servers out there. given: by zone, as the pillar has them. delegated: looked up, see clients.nameserver.

    timeout: seconds until all have to answer as planned; 0 asks nobody.
    """

    given: Mapping[str, Sequence[str]]
    delegated: Callable[[str], Mapping[str, Sequence[str]]]
    ask: Ask
    timeout: float
    sleep: Callable[[float], None] = time.sleep

    def servers(self, zone: str, at_provider: Iterable[str] | None = None) -> list[Server]:
        """Whom to ask about a zone. at_provider: its apex NS; a zone that is delegated elsewhere has nobody to ask."""
        if self.given.get(zone):
            return [Server(address, given=True) for address in self.given[zone]]
        own = None if at_provider is None else {name.lower().rstrip(".") for name in at_provider}
        return [
            Server(address, name)
            for name, addresses in self.delegated(zone).items()
            if own is None or name.lower().rstrip(".") in own
            for address in addresses
        ]

    def serial(self, zone: str, servers: Iterable[Server]) -> int | None:
        """The newest that any of them has; None where nobody answers."""
        found = []
        for server in servers:
            try:
                answer = self.ask(server.address, f"{zone}.", "SOA")
            except Unreachable:
                continue
            found += [int(value.split()[2]) for value in answer.values]
        return max(found, default=None)

    def serials(self, zones: Iterable[str]) -> dict[str, int | None]:
        return {zone: self.serial(zone, self.servers(zone)) for zone in zones}


class ZoneKeeper:
    """The engine's attendant for DNS."""

    def __init__(self, backend: DnsBackend, files: Zonefiles, serials: Serials, world: World) -> None:
        self._backend, self._files, self._serials, self._world = backend, files, serials, world

    def forecast(self, plan: Plan, snapshot: Snapshot) -> Plan:
        plan = replace(plan, budget=self._backend.budget(plan.changes))
        cached = longest_cached(plan.changes, lambda zone: _ttl(snapshot, zone))
        if cached is None:
            return plan
        text = f"caches may answer the old values for up to {cached[0]} s after the apply ({cached[1]})"
        return replace(plan, notes=(*plan.notes, text))

    def before(self, plan: Plan, snapshot: Snapshot, transaction: str) -> None:
        """Raises OverBudget; and whatever reading a zonefile raises, since nothing is changed that isn't kept."""
        if plan.budget:
            plan.budget.refuse_if_over()
        seen: Seen = snapshot.raw
        for zone in _zones(plan):
            if zone in seen.zones:  # one that is made by this very apply has nothing to keep
                why = f"{zone} before {transaction}, kept by Hecate at {clock_text(time.time())}"
                held = _rrsets(seen, zone)
                text = self._backend.zonefile(seen.zones[zone], held)
                self._files.keep(zone, transaction, with_owners(text, why, [_set(rrset) for rrset in held]))

    def after(self, plan: Plan, snapshot: Snapshot) -> Plan:
        """Raises NotPropagated."""
        seen: Seen = snapshot.raw
        notes: list[str] = []
        if self._world.timeout:
            servers = {zone: self._world.servers(zone, _apex(seen, zone)) for zone in _zones(plan)}
            notes += [
                f"nobody out there serves {zone} from here, so nobody was asked"
                for zone in servers
                if not servers[zone]
            ]
            asked = list(questions(plan.changes, [resource_id.partition(" ")[2] for resource_id in seen.rrsets]))
            notes += wait(asked, servers, self._world.ask, self._world.timeout, self._world.sleep)
            known = {zone: self._world.serial(zone, those) for zone, those in servers.items()}
            self._serials.remember({zone: serial for zone, serial in known.items() if serial is not None})
        cached = longest_cached(plan.changes, lambda zone: _ttl(snapshot, zone))
        if cached:
            notes.append(f"caches may answer the old values until {clock_text(time.time() + cached[0])} ({cached[1]})")
        spent = self._backend.budget(())
        if spent:
            notes.append(f"{spent.spent} API calls were made")
        return replace(plan, notes=tuple(notes), budget=None)


def restoring(file: Zonefile, owned: Iterable[Resource], seen: Seen, strangers: bool, owner: str) -> Wish:
    """What brings a zone back to a file: Hecate's sets, and all others only when told so.

    The SOA is the server's, the apex NS the provider's, and challenges of ACME clients are long over.
    Whose a set is that is gone says the file, if Hecate kept it; otherwise it is nobody's.
    """
    ours = {resource.key: resource for resource in owned}
    wanted: list[Resource] = []
    for one in file.sets.values():
        key = f"{file.zone}/{one.key}"
        there = seen.rrsets.get(f"dns.rrset {key}")
        is_ours = key in ours if there else one.owner == owner
        if not (is_ours or strangers) or _somebody_elses(one.name, one.type):
            continue
        if key in ours and ours[key].spec.get("shared"):  # what others have in it isn't ours to bring back
            continue
        wanted.append(_restored(file, one, there, key, seen.zones[file.zone].ttl))
    keep = {f"{file.zone}/{key}" for key in file.sets}
    gone = tuple(f"dns.rrset {key}" for key in sorted(ours) if key not in keep)
    return Wish(tuple(wanted), gone, partial=True)


def _restored(file: Zonefile, one: Set, there: Rrset | None, key: str, zone_ttl: int | None) -> Resource:
    """A set as the file has it, in the spelling that the zone has where both mean the same."""
    spelt = {canonical(file.zone, one.type, value): value for value in there.records} if there else {}
    records = {spelt.get(canonical(file.zone, one.type, v), v): comment for v, comment in one.records.items()}
    wanted = file.effective(one)
    held = (there.ttl if there.ttl is not None else zone_ttl) if there else None
    own = one.ttl if one.ttl is not None or file.ttl == zone_ttl else wanted
    ttl = there.ttl if there and held == wanted and not file.says_owners else own
    comments = {value: (there.records.get(value) if there else "") or text for value, text in records.items()}
    found = Rrset(
        one.name, one.type, comments, ttl, there.owner if there else one.owner, bool(there and there.protected)
    )
    return resource_of(file.zone, found)


def moved(then: Mapping[str, int], now: Mapping[str, int | None]) -> dict[str, dict[str, Any]]:
    """Zones that are not as the last apply left them, as far as their serials tell."""
    found: dict[str, dict[str, Any]] = {}
    for zone, serial in now.items():
        if serial is None:
            found[zone] = {"applied": then.get(zone), "now": None, "told": "no name server answers"}
        elif zone not in then:
            found[zone] = {"applied": None, "now": serial, "told": "no apply has remembered a serial"}
        elif then[zone] != serial:
            found[zone] = {"applied": then[zone], "now": serial, "told": "changed since"}
    return found


def _zones(plan: Plan) -> list[str]:
    return sorted({change.subject.key.split("/")[0] for change in plan.changes})


def _ttl(snapshot: Snapshot, zone: str) -> int | None:
    found = snapshot.raw.zones.get(zone) if snapshot.raw else None
    return found.ttl if found else None


def _apex(seen: Seen, zone: str) -> list[str]:
    rrset = seen.rrsets.get(f"dns.rrset {zone}/@/NS")
    return [*rrset.records] if rrset else []


def _rrsets(seen: Seen, zone: str) -> list[Rrset]:
    return [rrset for resource_id, rrset in seen.rrsets.items() if resource_id.startswith(f"dns.rrset {zone}/")]


def _set(rrset: Rrset) -> Set:
    return Set(rrset.name, rrset.type, rrset.records, rrset.ttl, rrset.owner)


def pillar_of(zone: ZoneSeen, rrsets: Iterable[Rrset]) -> tuple[dict[str, Any], list[str], list[str]]:
    """A zone's records as pillar, the ids to adopt, and what was left out, with why."""
    names: dict[str, dict[str, Any]] = {}
    adopt: list[str] = []
    left: list[str] = []
    for rrset in sorted(rrsets, key=lambda r: (r.name != "@", r.name, r.type)):
        key = f"{zone.name}/{rrset.name}/{rrset.type}"
        why = _not_for_pillar(rrset)
        held = names.setdefault(rrset.name, {})
        if why is None and held and held.get("ttl") != rrset.ttl:
            why = f"its ttl ({rrset.ttl}) is not that of the name's other sets ({held.get('ttl')}), and pillar has one"
        if why:
            left.append(f"{key}: {why}")
            continue
        values = [_pillar_value(rrset.type, value) for value in sorted(rrset.records)]
        held[rrset.type] = values[0] if len(values) == 1 else values
        if rrset.ttl is not None:
            held["ttl"] = rrset.ttl
        if not rrset.owner:
            adopt.append(f"dns.rrset {key}")
    records = {name: held for name, held in names.items() if held}
    made = {"dns": {"zones": {zone.name: {**({"ttl": zone.ttl} if zone.ttl else {}), "records": records}}}}
    return ({"hecate": {**made, "adopt": adopt}} if adopt else {"hecate": made}), adopt, left


def _somebody_elses(name: str, kind: str) -> str | None:
    """Why a set is neither brought back nor adopted, if so."""
    if kind == "SOA" or (name == "@" and kind == "NS"):
        return "is the provider's"
    return "belongs to whoever asks for a certificate" if name.startswith("_acme-challenge") else None


def _not_for_pillar(rrset: Rrset) -> str | None:
    if why := _somebody_elses(rrset.name, rrset.type):
        return why
    if rrset.type == "TXT" and any('"' in _text_of(value) for value in rrset.records):
        return "has quotes in its text, which pillar can't say"
    return None


def _pillar_value(kind: str, value: str) -> str:
    if kind == "CNAME":
        return value.removesuffix(".")
    return _text_of(value) if kind == "TXT" else value


def _text_of(value: str) -> str:
    """The text of quoted character-strings (RFC 1035, 5.1)."""
    parsed = dns.rdata.from_text(dns.rdataclass.IN, "TXT", value)
    return b"".join(parsed.strings).decode("utf-8", "backslashreplace")  # type: ignore[attr-defined]
