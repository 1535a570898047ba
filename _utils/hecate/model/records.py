"""Records: the types that a name may have, each with its own check, in a zonefile's words (RFC 1035 and followers)."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hecate.model.fields import Host, Line, Section, Ttl, awaited, one_or_many


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
Lines = Annotated[tuple[Line, ...], Many, Field(min_length=1)]
KINDS = ("A", "AAAA", "CNAME", "MX", "TXT", "SRV", "CAA", "NS", "TLSA", "DS", "PTR", "HINFO", "RP", "HTTPS", "SVCB")


class Records(Section):
    """The records of one name, by type. A name with a CNAME has no other records."""

    A: Ipv4s | None = Field(None, description="IPv4 addresses.")
    AAAA: Ipv6s | None = Field(None, description="IPv6 addresses.")
    CNAME: Host | None = Field(None, description="The name that it stands for.")
    MX: Lines | None = Field(None, description="Preference and mail server: `10 mail.example.com`.")
    TXT: Texts | None = Field(None, description="Texts, of any length.")
    SRV: Lines | None = Field(None, description="Priority, weight, port and host: `0 5 5060 sip.example.com`.")
    CAA: Lines | None = Field(None, description='Flags, tag and value: `0 issue "letsencrypt.org"`.')
    NS: Lines | None = Field(None, description="Name servers of a zone below.")
    TLSA: Lines | None = Field(None, description="Usage, selector, matching type and data in hex.")
    DS: Lines | None = Field(None, description="Key tag, algorithm, digest type and digest in hex.")
    PTR: Lines | None = Field(None, description="The name of an address.")
    HINFO: Lines | None = Field(None, description="CPU and operating system.")
    RP: Lines | None = Field(None, description="Mailbox (as a name) and name of a TXT rrset.")
    HTTPS: Lines | None = Field(None, description="Priority, target and parameters: `1 . alpn=h2`.")
    SVCB: Lines | None = Field(None, description="Like HTTPS, for other services.")
    ttl: Ttl | None = Field(None, description="Seconds; the zone's own default when absent.")
    comment: Line | None = Field(None, description="Shown beside each record at the provider, where it has such.")
    protected: bool = Field(False, description="Let the provider refuse changes by others, where it can.")
    shared: bool = Field(
        False, description="Others have values in the same set (SPF parts, ACME): add and remove just these."
    )

    @model_validator(mode="after")
    def _alone(self) -> Records:
        held = [kind for kind in KINDS if getattr(self, kind) is not None]
        if self.CNAME and len(held) > 1:
            raise ValueError("a name with a CNAME cannot have other records (RFC 1034, 3.6.2)")
        if not held:
            raise ValueError(f"no record here; give one of {', '.join(KINDS)}")
        return self

    def by_type(self) -> dict[str, list[str]]:
        """Values by record type as the pillar has them, each sorted: the order of records in a set means nothing."""
        found: dict[str, Any] = {kind: getattr(self, kind) for kind in KINDS}
        return {
            kind: [value] if isinstance(value, str) else sorted(set(value)) for kind, value in found.items() if value
        }
