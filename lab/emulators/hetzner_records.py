"""What Hetzner DNS accepts as a name and a value, its label selectors, and zone files. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone

Rrset = dict[str, Any]

SINGLE = frozenset({"CNAME", "SOA"})
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"(?:\s+"(?:[^"\\]|\\.)*")*')


def name_problem(name: str, zone: str) -> str | None:
    """Why ``name`` can't be the name of an rrset: it is relative, in lower case, and "@" at the apex."""
    if name == "@":
        return None
    if name != name.lower():
        return "must be in lower case"
    if name.endswith(".") or name == zone or name.endswith("." + zone):
        return "must not end with a dot or the zone name"
    labels = name.split(".")
    if labels[0] == "*":
        labels = labels[1:]
    if not name or not all(_LABEL.fullmatch(label) for label in labels):
        return "is not a valid name"
    return None


def value_problem(kind: str, value: str, zone: str) -> str | None:
    """Why ``value`` can't be a record of type ``kind``; TXT must be quoted, which DNS libraries don't ask for."""
    if kind == "TXT" and not _QUOTED.fullmatch(value):
        return "TXT values must be enclosed in double quotes"
    try:
        rdata(kind, value, zone)
    except (dns.exception.DNSException, ValueError) as error:
        return f"is not a valid {kind} value: {error}"
    return None


def rdata(kind: str, value: str, zone: str) -> dns.rdata.Rdata:
    """Parse one value; a name in it without a dot at its end is relative to the zone."""
    origin = dns.name.from_text(zone)
    return dns.rdata.from_text(dns.rdataclass.IN, kind, value, origin=origin, relativize=False)


def set_problem(kind: str, name: str, beside: Iterable[str], count: int) -> str | None:
    """Why an rrset can't stand where it is: a CNAME stands alone, once, and never at the apex."""
    others = set(beside) - {kind}
    if kind == "CNAME" and name == "@":
        return "CNAME is not allowed at the zone apex"
    if kind == "CNAME" and others:
        return "CNAME cannot coexist with other records"
    if "CNAME" in others:
        return "a CNAME with this name exists"
    if kind in SINGLE and count > 1:
        return f"only one {kind} record is allowed"
    return None


def selected(labels: dict[str, str], selector: str) -> bool:
    """Whether labels meet a label selector: k, !k, k=v, k==v, k!=v, k in (a,b), k notin (a,b), joined by commas."""
    return all(_meets(labels, term.strip()) for term in re.split(r",(?![^(]*\))", selector) if term.strip())


def _meets(labels: dict[str, str], term: str) -> bool:
    several = re.fullmatch(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)", term)
    if several:
        key, word, values = several.groups()
        inside = labels.get(key) in {value.strip() for value in values.split(",")}
        return inside if word == "in" else not inside
    if term.startswith("!") and "=" not in term:
        return term[1:].strip() not in labels
    if "!=" in term:
        key, _, value = term.partition("!=")
        return labels.get(key.strip()) != value.strip()
    if "=" in term:
        key, _, value = term.partition("=")
        return labels.get(key.strip()) == value.lstrip("=").strip()
    return term in labels


def next_serial(soa: str, today: str) -> str:
    """An SOA value with its serial moved on: YYYYMMDDnn, and never backwards."""
    parts = soa.split()
    parts[2] = str(max(int(parts[2]) + 1, int(today + "00")))
    return " ".join(parts)


def export(zone: str, ttl: int, rrsets: Iterable[Rrset]) -> str:
    """The zone in BIND format."""
    lines = [f"$ORIGIN\t{zone}.", f"$TTL\t{ttl}", ""]
    for rrset in sorted(rrsets, key=lambda r: (r["type"] != "SOA", r["name"] != "@", r["name"], r["type"])):
        for record in rrset["records"]:
            own = f"\t{rrset['ttl']}" if rrset["ttl"] is not None else ""
            comment = f" ; {record['comment']}" if record.get("comment") else ""
            lines.append(f"{rrset['name']}{own}\tIN\t{rrset['type']}\t{record['value']}{comment}")
    return "\n".join(lines) + "\n"


def parse_zonefile(text: str, zone: str) -> tuple[int | None, list[Rrset]]:
    """A zone file's default TTL and its rrsets; ValueError says what is wrong. SOA and NS must be there.

    Comments are lost here, where the real service keeps those that stand beside a record.
    """
    default = re.search(r"^\$TTL\s+(\d+)", text, re.MULTILINE)
    ttl = int(default.group(1)) if default else None
    try:
        parsed = dns.zone.from_text(text, origin=zone + ".", relativize=True, check_origin=True)
    except dns.exception.DNSException as error:
        raise ValueError(str(error) or type(error).__name__) from error
    found: list[Rrset] = []
    for name, rdataset in parsed.iterate_rdatasets():
        values = [item.to_text(origin=dns.name.from_text(zone), relativize=False) for item in rdataset]
        found.append({
            "name": str(name), "type": dns.rdatatype.to_text(rdataset.rdtype), "labels": {},
            "ttl": None if rdataset.ttl == ttl else rdataset.ttl,
            "records": [{"value": value} for value in values],
        })  # fmt: skip
    return ttl, found
