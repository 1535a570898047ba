"""Zones, and who may change what in them."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from hecate.model.fields import Address, Host, Line, Listed, Patience, SecretRef, Section, Slug, Ttl, Url
from hecate.model.records import RecordName, Records, record_name

APEX = {
    "CNAME": "write A and AAAA records",
    "DS": "it belongs into the zone above, or to the registrar",
}


class Zone(Section):
    """A zone, and what Hecate may do in it. Only rrsets with Hecate's mark are ever changed."""

    policy: Literal["sync", "upsert-only", "create-only"] | None = Field(
        None,
        description="sync: what pillar no longer has is removed; upsert-only: nothing is removed; create-only: nothing "
        "is changed either. Required where anything is to be written.",
    )
    provider: Slug | None = Field(
        None, description="hetzner, or a name under hecate:rfc2136; absent: hecate:dns:provider."
    )
    create: bool = Field(False, description="Make the zone where it isn't there. It is never deleted.")
    ttl: Ttl | None = Field(
        None,
        description="For records without a TTL of their own, seconds; becomes the zone's default under sync and "
        "upsert-only.",
    )
    records: dict[RecordName, Records] = Field({}, description="By name relative to the zone; @ is the zone itself.")
    ignore: Annotated[tuple[Line, ...], Listed] = Field(
        (), description="Names (globs, relative to the zone) that don't exist for Hecate: never changed, never counted."
    )
    take_over: bool = Field(
        False,
        description="All of the zone is Hecate's, but for SOA, NS at the apex, _acme-challenge and `ignore`.",
    )
    deletes: int | None = Field(
        None, ge=0, description="More deletions than this at once want `allow=deletes:ZONE`; absent: hecate:safety."
    )
    percent: int | None = Field(
        None,
        ge=0,
        le=100,
        description="So does a larger share of what Hecate owns in the zone, from the second deletion on; absent: "
        "hecate:safety.",
    )
    nameservers: Annotated[tuple[Address, ...], Listed] = Field(
        (), description="Who is asked whether a change has arrived, host:port; absent: the zone's own name servers."
    )

    @model_validator(mode="after")
    def _names(self) -> Zone:
        for kind in ("CNAME", "DS"):
            if "@" in self.records and getattr(self.records["@"], kind):
                raise ValueError(f"records: the zone itself (@) has no {kind}; {APEX[kind]}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        """Two spellings of one name would lose the records of one of them."""
        seen: dict[str, str] = {}
        records = data.get("records") if isinstance(data, dict) else None
        for name in records if isinstance(records, dict) else ():
            try:
                spelt = record_name(str(name))
            except ValueError:
                continue
            if seen.setdefault(spelt, name) != name:
                raise ValueError(f"records: {seen[spelt]} and {name} are the same name; keep one of the two")
        return data

    def ignores(self, name: str) -> str | None:
        """The glob by which a relative name does not exist for Hecate."""
        return next((glob for glob in self.ignore if fnmatchcase(name, glob)), None)


class RecordTemplate(Section):
    """Accepted, and without effect so far."""

    type: Literal["A", "AAAA", "CNAME", "TXT"] = Field(description="Of the record.")
    ttl: Ttl | None = Field(None, description="Seconds.")


class Propagation(Section):
    """After an apply the name servers are asked until they answer as planned; else it is undone."""

    timeout: Patience = Field(
        "60s",
        description="For how long; 0s asks nobody. Asked are a zone's `nameservers`, else hecate:verify:nameserver, "
        "else the zone's own as the world finds them; those that can't be reached from here are passed over.",
    )


class Dns(Section):
    """All zones that Hecate may write to."""

    provider: Slug = Field("hetzner", description="Who serves the zones.")
    default_ttl: Ttl | None = Field(None, description="Of zones without a ttl of their own, seconds.")
    policy: Literal["sync", "upsert-only", "create-only"] | None = Field(None, description="Of zones that say none.")
    propagation: Propagation = Propagation()
    routes: Literal["edges"] | None = Field(
        None, description="edges: routes that say nothing of `dns` get the edges' addresses, in zones with a policy."
    )
    zones: dict[Host, Zone] = Field({}, description="By name; a list of names is short for zones without records.")
    templates: dict[str, RecordTemplate] = Field(
        {}, description="By name, or a list of mappings with `name`. Nothing refers to them yet."
    )

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data, zones, templates = dict(data), data.get("zones"), data.get("templates")
        # Anything else stays as it is, and is refused for not being a mapping: nothing gets lost on the way.
        if isinstance(zones, list) and all(isinstance(name, str) for name in zones):
            data["zones"] = {name: {} for name in zones}
        if isinstance(templates, list):
            names = [row.get("name") for row in templates if isinstance(row, dict)]
            if len({name for name in names if isinstance(name, str)}) == len(templates):
                data["templates"] = {row["name"]: {k: v for k, v in row.items() if k != "name"} for row in templates}
        return data

    def policy_of(self, zone: str) -> str | None:
        return self.zones[zone].policy or self.policy

    def provider_of(self, zone: str) -> str:
        return self.zones[zone].provider or self.provider

    def ttl_of(self, zone: str) -> int | None:
        return self.zones[zone].ttl or self.default_ttl

    def zone_of(self, host: str) -> str | None:
        """The longest zone that `host` lies in."""
        fitting = [zone for zone in self.zones if host == zone or host.endswith("." + zone)]
        return max(fitting, key=len, default=None)


def host_name(relative: str, zone: str) -> str:
    """Of what a zone calls `relative`; the way back from `relative_name`."""
    return zone if relative == "@" else f"{relative}.{zone}"


def relative_name(host: str, zone: str) -> str:
    """The name of a host's records within its zone."""
    return host.removesuffix(zone).rstrip(".") or "@"


def clash(one: Records, other: Records) -> bool:
    """Whether two sources claim the same rrset of one name, or one of them a CNAME beside others."""
    types, more = one.by_type().keys(), other.by_type().keys()
    return bool(types & more) or "CNAME" in types | more


class HetznerDns(Section):
    """Access to the Hetzner Cloud API (https://docs.hetzner.cloud/reference/cloud#dns)."""

    token: SecretRef = Field(description="Of the project that has the zones; read and write.")
    endpoint: Url = Field("https://api.hetzner.cloud/v1", description="Base of the API, with /v1.")


def _key_name(text: str) -> str:
    """TSIG names its keys as DNS names its hosts."""
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels):
        raise ValueError("not the name of a TSIG key; letters, digits, hyphens and dots, as the server has it")
    return text


class Rfc2136(Section):
    """A name server that takes dynamic updates (RFC 2136), signed with TSIG (RFC 8945)."""

    server: Address = Field(description="host:port of the primary, for updates and zone transfers.")
    key: Annotated[Line, AfterValidator(_key_name)] = Field(description="Name of the TSIG key, as the server has it.")
    secret: SecretRef = Field(description="The key itself, base64, as tsig-keygen prints it.")
    algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = Field("hmac-sha256", description="Of the key.")
    timeout: int = Field(10, ge=1, le=300, description="Seconds a message; a zone transfer has six times as many.")
