"""Records: the types that a name may have, each with its own check, in a zonefile's words (RFC 1035 and followers)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hecate import rdata
from hecate.model.fields import LABEL, OUTPUT, Line, Section, Ttl, awaited, host_name, one_or_many

EXAMPLES = {
    "A": "203.0.113.10",
    "AAAA": "2001:db8::10",
    "CAA": '0 issue "letsencrypt.org"',
    "CNAME": "app.example.com",
    "DS": "12345 13 2 <64 hex digits>",
    "HINFO": '"AMD64" "Linux"',
    "HTTPS": "1 . alpn=h2,h3",
    "MX": "10 mail.example.com",
    "NS": "ns1.example.com",
    "PTR": "app.example.com",
    "RP": "admin.example.com .",
    "SRV": "0 5 5060 sip.example.com",
    "SVCB": "1 svc.example.com port=8443",
    "TLSA": "3 1 1 <64 hex digits>",
    "TXT": "v=spf1 -all",
}
# Unknown tags are legal and mean nothing to an authority: a misspelt one would protect from nobody.
CAA_TAGS = ("issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone")
DIGESTS = {1: 40, 2: 64, 4: 96}  # DS: hex digits by digest type
MATCHED = {1: 64, 2: 128}  # TLSA: hex digits by matching type


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("not an IPv4 address") from None


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("not an IPv6 address") from None
    if "%" in text:
        raise ValueError("an address in DNS has no zone behind %; not an IPv6 address")
    return rdata.checked("AAAA", text)


def _target(text: str) -> str:
    """A name that a record leads to, with its dot: relative names are a zonefile's, and a trap."""
    name = text.removesuffix(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        raise ValueError(f"a name belongs here, and {name} is an address; give it an A or AAAA record and name that")
    if "." not in name:
        raise ValueError(f"a host is written in full, like {name or 'mail'}.example.com; {name!r} is only a part")
    try:
        return host_name(name) + "."
    except ValueError:
        raise ValueError(f"{name!r} is no domain name") from None


def _target_or_none(text: str) -> str:
    return text if text == "." else _target(text)


def _mailbox(text: str) -> str:
    """A mail address as a name: dots before the @ are escaped."""
    if "@" in text:
        raise ValueError("a mail address is written as a name here: admin.example.com for admin@example.com")
    local, dot, rest = re.fullmatch(r"((?:\\.|[^.\\])*)(\.?)(.*)", text).groups()  # type: ignore[union-attr]
    return f"{local}.{_target(rest)}" if "\\" in local and dot else _target_or_none(text)


def _number(text: str, name: str, most: int = 65535) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > most:
        raise ValueError(f"{name} is a number from 0 to {most}, and not {text!r}")
    return int(text)


def _fields(text: str, *names: str) -> list[str]:
    """As many words as there are names; the last one may hold spaces."""
    found = text.split(None, len(names) - 1)
    if len(found) != len(names):
        raise ValueError(f"has {len(names)} parts: {', '.join(names)}")
    return found


def _mx(text: str) -> str:
    preference, host = _fields(text, "preference", "mail server")
    return f"{_number(preference, 'preference')} {_target_or_none(host)}"


def _srv(text: str) -> str:
    *numbers, host = _fields(text, "priority", "weight", "port", "host")
    for number, name in zip(numbers, ("priority", "weight", "port"), strict=True):
        _number(number, name)
    return " ".join([*numbers, _target_or_none(host)])


def _caa(text: str) -> str:
    flags, tag, value = _fields(text, "flags", "tag", "value")
    if flags not in ("0", "128"):
        raise ValueError(f"flags are 0, or 128 for a tag that an authority has to know, and not {flags!r}")
    if tag.lower() not in CAA_TAGS:
        raise ValueError(f"tag is one of {', '.join(CAA_TAGS)}, and not {tag!r}")
    bare = value.strip()[1:-1] if value.strip().startswith('"') else value.strip()
    if tag.lower() == "iodef" and not re.match(r"(mailto:|https?://)\S", bare):
        raise ValueError("iodef is a mailto: or https:// address")
    if tag.lower().startswith("issue") and (re.match(r"\w+:", bare) or not re.fullmatch(r"[\w.-]*\s*(;.*)?", bare)):
        raise ValueError(f'an authority is named by its domain, or ";" forbids all of them; not {bare!r}')
    return f'{flags} {tag} "{bare}"'


def _hex(text: str, what: str, length: int | None) -> str:
    digits = re.sub(r"\s", "", text)
    if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", digits):
        raise ValueError(f"{what} is written in pairs of hex digits")
    if length and len(digits) != length:
        raise ValueError(f"{what} of that type has {length} hex digits, and not {len(digits)}")
    return digits


def _ds(text: str) -> str:
    tag, algorithm, digest_type, digest = _fields(text, "key tag", "algorithm", "digest type", "digest")
    _number(tag, "key tag")
    _number(algorithm, "algorithm", 255)
    kind = _number(digest_type, "digest type", 255)
    if kind not in DIGESTS:
        raise ValueError("digest type is 1 (SHA-1), 2 (SHA-256) or 4 (SHA-384)")
    return f"{tag} {algorithm} {kind} {_hex(digest, 'the digest', DIGESTS[kind])}"


def _tlsa(text: str) -> str:
    usage, selector, matching, data = _fields(text, "usage", "selector", "matching type", "data")
    _number(usage, "usage", 3)
    _number(selector, "selector", 1)
    kind = _number(matching, "matching type", 2)
    return f"{usage} {selector} {kind} {_hex(data, 'the data', MATCHED.get(kind))}"


def _rp(text: str) -> str:
    mailbox, name = _fields(text, "mailbox", "name of a TXT rrset, or .")
    return f"{_mailbox(mailbox)} {_target_or_none(name)}"


def _hinfo(text: str) -> str:
    if not re.fullmatch(r'("(?:[^"\\]|\\.)*"|[^\s"]+)\s+("(?:[^"\\]|\\.)*"|[^\s"]+)', text.strip()):
        raise ValueError("has 2 parts: CPU and operating system, in quotes where they have spaces")
    return text


def _service(text: str) -> str:
    """HTTPS and SVCB (RFC 9460): priority 0 is an alias and has no parameters."""
    priority, target, *rest = text.split(None, 2)
    number = _number(priority, "priority")
    if number == 0 and rest:
        raise ValueError("priority 0 makes an alias, and that has no parameters; use 1 or more")
    return " ".join([str(number), _target_or_none(target), *rest])


def _http_service(text: str) -> str:
    if len(text.split()) < 2:
        raise ValueError("has 2 parts and more: priority, target (. for the name itself), parameters")
    return _service(text)


READ: dict[str, Callable[[str], str]] = {
    "A": _ipv4,
    "AAAA": _ipv6,
    "CAA": _caa,
    "CNAME": _target,
    "DS": _ds,
    "HINFO": _hinfo,
    "HTTPS": _http_service,
    "MX": _mx,
    "NS": _target,
    "PTR": _target,
    "RP": _rp,
    "SRV": _srv,
    "SVCB": _http_service,
    "TLSA": _tlsa,
}


def _value_of(kind: str) -> Callable[[str], str]:
    """A check for one type: the value in its one spelling, or why it is none and what would be."""

    def check(text: str) -> str:
        try:
            if not text.isprintable():
                raise ValueError("no control characters and line breaks")
            return rdata.checked(kind, READ[kind](text))
        except ValueError as err:
            raise ValueError(f"no {kind} record: {err}; right is for example {EXAMPLES[kind]}") from None

    return awaited(check)


def _name(text: str) -> str:
    """CNAME as the pillar has it: a name, without the dot that a zonefile puts behind it."""
    return _value_of("CNAME")(text).removesuffix(".")


def _text(text: str) -> str:
    if text.startswith('"') or text.endswith('"'):
        raise ValueError("no TXT record: write the text itself, without quotes around it; quoting is Hecate's part")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("no TXT record: write the text on one line; splitting a long one is Hecate's part")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise ValueError("no TXT record: half a character in it that no UTF-8 can hold")
    if len(text.encode()) > 16_000:
        raise ValueError("no TXT record: longer than what a name server's answer holds")
    return text


def record_name(text: str) -> str:
    """A name relative to its zone in the spelling that providers want: lower case, ASCII."""
    if text == "@":
        return text
    wrong = f"{text!r} is not a record name; lower case, relative to the zone, like www, *.dev or @ for the zone itself"
    if text != text.lower() or text.endswith("."):
        raise ValueError(wrong)
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if name == "*":
        return name
    try:
        spelt = name if name.isascii() else host_name(f"{name}.test").removesuffix(".test")
    except ValueError:
        raise ValueError(wrong) from None
    if not all(LABEL.fullmatch(label) for label in spelt.split(".")):
        raise ValueError(wrong)
    return star + spelt


Many = BeforeValidator(one_or_many)
Some = Field(min_length=1)
Ipv4s = Annotated[tuple[Annotated[str, AfterValidator(_value_of("A"))], ...], Many, Some]
Ipv6s = Annotated[tuple[Annotated[str, AfterValidator(_value_of("AAAA"))], ...], Many, Some]
CaaRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("CAA"))], ...], Many, Some]
DsRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("DS"))], ...], Many, Some]
HinfoRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("HINFO"))], ...], Many, Some]
HttpsRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("HTTPS"))], ...], Many, Some]
MxRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("MX"))], ...], Many, Some]
NsRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("NS"))], ...], Many, Some]
PtrRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("PTR"))], ...], Many, Some]
RpRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("RP"))], ...], Many, Some]
SrvRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("SRV"))], ...], Many, Some]
SvcbRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("SVCB"))], ...], Many, Some]
TlsaRecords = Annotated[tuple[Annotated[str, AfterValidator(_value_of("TLSA"))], ...], Many, Some]
Texts = Annotated[tuple[Annotated[str, AfterValidator(awaited(_text))], ...], Many, Some]
Name = Annotated[str, AfterValidator(_name)]
# Nobody outside gets to these; documentation's own (192.0.2.0/24 ...) are let through, for examples and labs.
PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3", "::/128", "::1/128", "::ffff:0:0/96", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
]


def unpublishable(address: str) -> str:
    """Why an edge's address can't stand in DNS for everybody; "" where it can, or isn't known yet."""
    if OUTPUT.fullmatch(address):
        return ""
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return "a name, and records take addresses; write the edge's public one"
    is_private = any(found in network for network in PRIVATE if network.version == found.version)
    return "nobody outside reaches this address; write the edge's public one" if is_private else ""


RecordName = Annotated[str, AfterValidator(record_name)]
KINDS = ("A", "AAAA", "CNAME", "MX", "TXT", "SRV", "CAA", "NS", "TLSA", "DS", "PTR", "HINFO", "RP", "HTTPS", "SVCB")
MOST = 50  # https://docs.hetzner.cloud/reference/cloud#zone-rrset-actions-set-records-of-an-rrset


class Records(Section):
    """The records of one name, by type. A name with a CNAME has no other records.

    Hosts are written in full, `mail.example.com`, without a dot at their end.
    """

    A: Ipv4s | None = Field(None, description="IPv4 addresses.")
    AAAA: Ipv6s | None = Field(None, description="IPv6 addresses.")
    CNAME: Name | None = Field(None, description="The name that it stands for.")
    MX: MxRecords | None = Field(None, description="Preference and mail server: `10 mail.example.com`.")
    TXT: Texts | None = Field(None, description="Texts as they are, of any length, without quotes around them.")
    SRV: SrvRecords | None = Field(None, description="Priority, weight, port and host: `0 5 5060 sip.example.com`.")
    CAA: CaaRecords | None = Field(None, description='Flags, tag and value: `0 issue "letsencrypt.org"`.')
    NS: NsRecords | None = Field(None, description="Name servers of a zone below.")
    TLSA: TlsaRecords | None = Field(None, description="Usage, selector, matching type and data in hex.")
    DS: DsRecords | None = Field(None, description="Key tag, algorithm, digest type and digest in hex.")
    PTR: PtrRecords | None = Field(None, description="The name of an address.")
    HINFO: HinfoRecords | None = Field(None, description="CPU and operating system.")
    RP: RpRecords | None = Field(None, description="Mailbox (as a name) and name of a TXT rrset, or `.`.")
    HTTPS: HttpsRecords | None = Field(None, description="Priority, target and parameters: `1 . alpn=h2`.")
    SVCB: SvcbRecords | None = Field(None, description="Like HTTPS, for other services.")
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
        for kind in held:
            if isinstance(found := getattr(self, kind), tuple) and len(found) > MOST:
                raise ValueError(f"{len(found)} {kind} records at one name; there is room for {MOST}")
        if self.shared and (self.comment or self.protected):
            raise ValueError("a set that others write too (shared) is not protected and has no comments of ours")
        if not held:
            raise ValueError(f"no record here; give one of {', '.join(KINDS)}")
        return self

    def by_type(self) -> dict[str, list[str]]:
        """Values by record type, sorted: their order in a set means nothing.

        In one spelling, as in a zonefile; but texts without quotes, and the CNAME without its dot.
        """
        found: dict[str, Any] = {kind: getattr(self, kind) for kind in KINDS}
        return {
            kind: [value] if isinstance(value, str) else sorted(set(value)) for kind, value in found.items() if value
        }
