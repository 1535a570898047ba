"""Records of routes and zones -> zones and rrsets (https://docs.hetzner.cloud/reference/cloud#zone-rrsets)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hecate import rdata
from hecate.compile.outputs import require_known
from hecate.model.dns import relative_name
from hecate.model.estate import Estate
from hecate.model.records import Records
from hecate.resource import Resource

Wanted = tuple[str, str, Records, str]


def compile_dns(estate: Estate, providers: Collection[str] = ("hetzner",)) -> list[Resource]:
    """One resource an rrset, keyed zone/name/type; one a zone that is to be made, and one a default TTL.

    providers: only zones of these.
    """
    zones = {zone for zone in estate.dns.zones if estate.dns.provider_of(zone) in providers}
    wanted = [row for row in (*_written(estate), *_of_routes(estate)) if row[0] in zones]
    require_known([v for *_, records, _ in wanted for values in records.by_type().values() for v in values])
    return [
        *(resource for resource in _zones(estate) if resource.key in zones),
        *(
            Resource("dns.rrset", f"{zone}/{name}/{kind}", _spec(estate, zone, kind, records, values), needs, origin)
            for zone, name, records, origin in wanted
            for needs in [(f"dns.zone {zone}",) if _is_made(estate, zone) else ()]
            for kind, values in records.by_type().items()
        ),
    ]


def _written(estate: Estate) -> Iterator[Wanted]:
    for zone_name, zone in estate.dns.zones.items():
        for name, records in zone.records.items():
            yield zone_name, name, records, f"hecate:dns:zones:{zone_name}:records:{name}"


def _of_routes(estate: Estate) -> Iterator[Wanted]:
    for host, route in estate.routes.items():
        for name in (host, *route.hosts):
            if records := estate.records_of(route, name):
                zone = estate.dns.zone_of(name) or ""
                yield zone, relative_name(name, zone), records, f"hecate:routes:{host}:dns"


def _is_made(estate: Estate, zone: str) -> bool:
    """Name servers that take updates (RFC 2136) don't make zones."""
    return estate.dns.zones[zone].create and estate.dns.provider_of(zone) == "hetzner"


def _zones(estate: Estate) -> Iterator[Resource]:
    """A zone's own TTL is only written where the zone says it: the default of all zones is for records alone."""
    for name, zone in estate.dns.zones.items():
        origin, is_made = f"hecate:dns:zones:{name}", _is_made(estate, name)
        if is_made:
            yield Resource("dns.zone", name, {"owner": estate.environment}, origin=f"{origin}:create")
        may_change = estate.dns.policy_of(name) in ("sync", "upsert-only")
        if zone.ttl and may_change and estate.dns.provider_of(name) == "hetzner":
            needs = (f"dns.zone {name}",) if is_made else ()
            yield Resource("dns.ttl", name, {"ttl": zone.ttl}, needs, f"{origin}:ttl")


def _spec(estate: Estate, zone: str, kind: str, records: Records, values: list[str]) -> dict[str, object]:
    found = sorted(_value(kind, value) for value in values)
    return {
        "records": found,
        "ttl": records.ttl or estate.dns.ttl_of(zone),
        "owner": estate.environment,
        **({"shared": True} if records.shared else {}),
        **({"comments": dict.fromkeys(found, records.comment)} if records.comment else {}),
        **({"protected": True} if records.protected else {}),
    }


def _value(kind: str, value: str) -> str:
    if kind == "CNAME":
        return value + "."
    return rdata.quoted(value.encode()) if kind == "TXT" else value
