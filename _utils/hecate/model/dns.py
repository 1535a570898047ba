"""Zones, and who may change what in them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hecate.model.fields import Address, Host, Line, Listed, SecretRef, Section, Slug, Ttl, Url
from hecate.model.records import Records


class Zone(Section):
    """A zone, and what Hecate may do in it. Only rrsets with Hecate's mark are ever changed."""

    policy: Literal["sync", "upsert-only", "create-only"] | None = Field(
        None,
        description="sync: what pillar no longer has is removed; upsert-only: nothing is removed; create-only: nothing "
        "is changed either. Required where anything is to be written.",
    )
    provider: Slug | None = Field(None, description="hetzner, or a name under hecate:rfc2136; absent: hecate:dns:provider.")
    create: bool = Field(False, description="Make the zone where it isn't there. It is never deleted.")
    ttl: Ttl | None = Field(None, description="For records without a TTL of their own, seconds.")
    records: dict[str, Records] = Field({}, description="By name relative to the zone; @ is the zone itself.")
    ignore: Annotated[tuple[Line, ...], Listed] = Field(
        (), description="Names (globs, relative to the zone) that don't exist for Hecate: never changed, never counted."
    )
    take_over: bool = Field(
        False,
        description="All of the zone is Hecate's, but for SOA, NS at the apex, _acme-challenge and `ignore`.",
    )
    deletes: int | None = Field(
        None, ge=0, description="More deletions at once want a word; absent: hecate:safety."
    )
    percent: int | None = Field(None, ge=0, le=100, description="So does a larger share; absent: hecate:safety.")
    nameservers: Annotated[tuple[Address, ...], Listed] = Field(
        (), description="Who is asked whether a change has arrived, host:port; absent: the zone's own name servers."
    )

    @model_validator(mode="after")
    def _names(self) -> Zone:
        for name in self.records:
            if name != "@" and (name != name.lower() or name.endswith(".") or " " in name or not name):
                raise ValueError(f"{name!r} is not a record name; lower case, relative to the zone, or @")
        return self


class RecordTemplate(Section):
    """Accepted, and without effect so far."""

    type: Literal["A", "AAAA", "CNAME", "TXT"] = Field(description="Of the record.")
    ttl: Ttl | None = Field(None, description="Seconds.")


class Dns(Section):
    """All zones that Hecate may write to."""

    provider: Slug = Field("hetzner", description="Who serves the zones.")
    default_ttl: Ttl | None = Field(None, description="Of zones without a ttl of their own, seconds.")
    policy: Literal["sync", "upsert-only", "create-only"] | None = Field(None, description="Of zones that say none.")
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


class Rfc2136(Section):
    """A name server that takes dynamic updates (RFC 2136), signed with TSIG (RFC 8945)."""

    server: Address = Field(description="host:port of the primary, for updates and zone transfers.")
    key: Line = Field(description="Name of the TSIG key.")
    secret: SecretRef = Field(description="The key itself, base64.")
    algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = Field("hmac-sha256", description="Of the key.")
    timeout: int = Field(10, ge=1, le=300, description="Seconds a message.")
