"""Records of routes and zones -> rrsets (https://docs.hetzner.cloud/reference/cloud#zone-rrsets)."""

from __future__ import annotations

from hecate.compile.outputs import require_known
from hecate.model.dns import relative_name
from hecate.model.estate import Estate
from hecate.resource import Resource

TXT_CHUNK = 255  # RFC 1035, 3.3: a character-string holds at most 255 octets


def compile_dns(estate: Estate) -> list[Resource]:
    """One resource an rrset, keyed zone/name/type."""
    wanted = []
    for zone_name, zone in estate.dns.zones.items():
        for name, records in zone.records.items():
            origin = f"hecate:dns:zones:{zone_name}:records:{name}"
            wanted.append((zone_name, name, records, origin))
    for host, route in estate.routes.items():
        for name in (host, *route.hosts):
            if route.dns is None:
                continue
            zone_name = estate.dns.zone_of(name) or ""
            wanted.append((zone_name, relative_name(name, zone_name), route.dns, f"hecate:routes:{host}:dns"))
    require_known([v for *_, records, _ in wanted for values in records.by_type().values() for v in values])
    return [
        Resource(
            "dns.rrset",
            f"{zone}/{name}/{kind}",
            {
                "records": sorted(_value(kind, v) for v in values),
                "ttl": records.ttl or estate.dns.ttl_of(zone),
                "owner": estate.environment,
            },
            origin=origin,
        )
        for zone, name, records, origin in wanted
        for kind, values in records.by_type().items()
    ]


def _value(kind: str, value: str) -> str:
    if kind == "CNAME":
        return value + "."
    return quote(value) if kind == "TXT" else value


def quote(text: str) -> str:
    """Text as quoted character-strings of at most 255 octets each, never split inside a character."""
    chunks, current = [], b""
    for char in text:
        octets = char.encode()
        if len(current) + len(octets) > TXT_CHUNK:
            chunks.append(current)
            current = b""
        current += octets
    return " ".join(f'"{_escaped(chunk)}"' for chunk in [*chunks, current])


def _escaped(chunk: bytes) -> str:
    return chunk.decode().replace("\\", "\\\\")
