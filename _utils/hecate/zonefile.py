"""Zonefiles (RFC 1035, 5) to rrsets and back, and what differs between two. Pure.

A set's name is relative to its zone, @ for the zone itself; values are as a zonefile has them, names with
their dot. In front of a zonefile that Hecate keeps stand comments that say whose the sets were: a zonefile
itself has no place for that, and without it a restore could not tell strangers apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone

from hecate.errors import HecateError

OWNER = "; hecate-owner "
ORIGIN = re.compile(r"^\$ORIGIN\s+(\S+)", re.MULTILINE)
DEFAULT = re.compile(r"^\$TTL\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Set:
    """One rrset. records: value -> comment. ttl: None for the zone's default. owner: as in backends.dns."""

    name: str
    type: str
    records: Mapping[str, str]
    ttl: int | None = None
    owner: str = ""

    @property
    def key(self) -> str:
        return f"{self.name}/{self.type}"


@dataclass(frozen=True)
class Zonefile:
    """A zone as a file has it. ttl: its default, None where the file has none. says_owners: kept by Hecate."""

    zone: str
    ttl: int | None
    sets: Mapping[str, Set] = field(default_factory=dict)
    says_owners: bool = False

    def effective(self, one: Set) -> int | None:
        return one.ttl if one.ttl is not None else self.ttl


def parse(text: str, zone: str) -> Zonefile:
    """Raises HecateError with the place in the file for what is no zonefile of `zone`."""
    try:
        parsed = dns.zone.from_text(text, origin=f"{zone}.", relativize=True, check_origin=False)
    except (dns.exception.DNSException, ValueError) as err:
        raise HecateError(f"not a zonefile of {zone}: {str(err) or type(err).__name__}") from err
    origin = dns.name.from_text(zone)
    for other in ORIGIN.findall(text):  # dnspython passes over what lies outside
        if other.endswith(".") and not dns.name.from_text(other).is_subdomain(origin):
            raise HecateError(f"a zonefile of {other.rstrip('.')}, not of {zone}")
    found = DEFAULT.search(text)
    default = int(found.group(1)) if found else None
    notes = _notes(text)
    sets = {}
    for name, rdataset in parsed.iterate_rdatasets():
        kind = dns.rdatatype.to_text(rdataset.rdtype)
        records = {rd.to_text(origin=origin, relativize=False): (rd.rdcomment or "").strip() for rd in rdataset}
        inherited = None if rdataset.ttl == default else rdataset.ttl
        owner, ttl = notes.get(f"{name}/{kind}", ("", inherited))
        one = Set(str(name), kind, records, ttl, owner)
        sets[one.key] = one
    return Zonefile(zone, default, sets, OWNER in text)


def write(zone: str, ttl: int | None, sets: Iterable[Set]) -> str:
    """A zonefile: SOA first, then by name."""
    lines = [f"$ORIGIN {zone}.", *([f"$TTL {ttl}"] if ttl is not None else [])]
    for one in sorted(sets, key=lambda s: (s.type != "SOA", s.name != "@", s.name, s.type)):
        own = f" {one.ttl}" if one.ttl is not None else ""
        for value, comment in sorted(one.records.items()):
            lines.append(f"{one.name}{own} IN {one.type} {value}" + (f" ; {_line(comment)}" if comment else ""))
    return "\n".join(lines) + "\n"


def with_owners(text: str, why: str, sets: Iterable[Set]) -> str:
    """The same zonefile with comments in front: why it was kept, whose the sets are, and which TTLs are their own."""
    marks = sorted(
        f"{OWNER}{one.owner or '-'} {one.name} {one.type} {'-' if one.ttl is None else one.ttl}" for one in sets
    )
    return "\n".join([f"; {_line(why)}", "; of each set its owner, name, type and own TTL:", *marks, text])


def canonical(zone: str, kind: str, value: str) -> str:
    """One spelling a value, so that equal ones compare equal; what can't be read stays as it is."""
    origin = dns.name.from_text(zone)
    try:
        parsed = dns.rdata.from_text(dns.rdataclass.IN, kind, value, origin=origin, relativize=False)
        return parsed.to_text().lower() if kind not in ("TXT", "CAA", "HINFO") else parsed.to_text()
    except (dns.exception.DNSException, ValueError):
        return value


def differences(old: Zonefile, new: Zonefile) -> list[str]:
    """A line a set that differs: + only in the new, - only in the old, ~ in both. The SOA's serial is no difference."""
    lines = []
    for key in sorted({*old.sets, *new.sets}):
        before, after = old.sets.get(key), new.sets.get(key)
        if (before or after or Set("", "", {})).type == "SOA":
            continue
        if before is None or after is None:
            only = before or after
            assert only is not None
            lines.append(f"{'+' if before is None else '-'} {key}: {', '.join(sorted(only.records))}")
        elif not same(old, before, new, after):
            lines.append(f"~ {key}: {_shown(old, before)} -> {_shown(new, after)}")
    return lines


def same(old: Zonefile, before: Set, new: Zonefile, after: Set) -> bool:
    """Whether two sets say the same to the world: values in any spelling, and the TTL that counts."""
    left = {canonical(old.zone, before.type, value) for value in before.records}
    right = {canonical(new.zone, after.type, value) for value in after.records}
    return left == right and old.effective(before) == new.effective(after)


def _shown(file: Zonefile, one: Set) -> str:
    return f"{', '.join(sorted(one.records))} (ttl {file.effective(one)})"


def _notes(text: str) -> dict[str, tuple[str, int | None]]:
    """Owner and own TTL by name/type."""
    found = {}
    for line in text.splitlines():
        words = line.removeprefix(OWNER).split() if line.startswith(OWNER) else []
        if len(words) == 4 and (words[3] == "-" or words[3].isdigit()):
            owner = "" if words[0] == "-" else words[0]
            found[f"{words[1]}/{words[2]}"] = (owner, None if words[3] == "-" else int(words[3]))
    return found


def _line(text: str) -> str:
    return " ".join(text.split())
