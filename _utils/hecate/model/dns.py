"""Records and zones."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hecate.model.fields import Host, SecretRef, Section, Ttl, Url, awaited, one_or_many


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as err:
        raise ValueError("not an IPv4 address, like 203.0.113.10") from err


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError as err:
        raise ValueError("not an IPv6 address, like 2001:db8::10") from err


def _text(text: str) -> str:
    if '"' in text or any(ord(c) < 32 for c in text):
        raise ValueError("write the text itself, without quotes and line breaks; quoting is Hecate's part")
    return text


Many = BeforeValidator(one_or_many)
Ipv4s = Annotated[tuple[Annotated[str, AfterValidator(awaited(_ipv4))], ...], Many, Field(min_length=1)]
Ipv6s = Annotated[tuple[Annotated[str, AfterValidator(awaited(_ipv6))], ...], Many, Field(min_length=1)]
Texts = Annotated[tuple[Annotated[str, AfterValidator(awaited(_text))], ...], Many, Field(min_length=1)]


class Records(Section):
    """The records of one name, by type. A name with a CNAME has no other records."""

    A: Ipv4s | None = Field(None, description="IPv4 addresses.")
    AAAA: Ipv6s | None = Field(None, description="IPv6 addresses.")
    CNAME: Host | None = Field(None, description="The name that it stands for.")
    TXT: Texts | None = Field(None, description="Texts.")
    ttl: Ttl | None = Field(None, description="Seconds; the zone's own default when absent.")

    @model_validator(mode="after")
    def _alone(self) -> Records:
        if self.CNAME and (self.A or self.AAAA or self.TXT):
            raise ValueError("a name with a CNAME cannot have other records (RFC 1034, 3.6.2)")
        if not (self.A or self.AAAA or self.CNAME or self.TXT):
            raise ValueError("no record here; give A, AAAA, CNAME or TXT")
        return self

    def by_type(self) -> dict[str, list[str]]:
        """Values by record type, each sorted: the order of records in a set means nothing."""
        values: dict[str, Any] = {"A": self.A, "AAAA": self.AAAA, "TXT": self.TXT}
        found = {kind: sorted(set(value)) for kind, value in values.items() if value}
        return found | ({"CNAME": [self.CNAME]} if self.CNAME else {})


class Zone(Section):
    """A zone that exists at the provider. Only rrsets with Hecate's label are ever changed."""

    ttl: Ttl | None = Field(None, description="For records without a TTL of their own, seconds.")
    records: dict[str, Records] = Field({}, description="By name relative to the zone; @ is the zone itself.")

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

    provider: Literal["hetzner"] = Field("hetzner", description="Who serves the zones.")
    default_ttl: Ttl | None = Field(None, description="Of zones without a ttl of their own, seconds.")
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
