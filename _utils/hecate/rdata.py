"""The values of records in one spelling a value (RFC 1035, 5.1 and followers), so that equal ones compare equal."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
from dns.rdtypes.ANY.TXT import TXT

CHUNK = 255  # RFC 1035, 3.3: a character-string holds at most 255 octets
IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}")
FOLDED = ("AAAA", "CNAME", "DS", "MX", "NS", "PTR", "RP", "SRV", "TLSA")  # where no letter's case means anything
HEX = {"DS": 3, "TLSA": 3}  # fields in front of data that may be written with spaces in it


def canonical(kind: str, value: str, zone: str = "") -> str:
    """A value in the spelling that Hecate writes; what cannot be read stays as it is.

    zone: what names without a dot at their end are relative to; "" for the root.
    """
    if kind == "A" and IPV4.fullmatch(value):
        return value
    try:
        return _canonical(kind, value, zone)
    except ValueError:
        return value


def checked(kind: str, value: str) -> str:
    """Like canonical, of a value whose names are all written in full. Raises ValueError saying what is wrong."""
    return _canonical(kind, value, "")


@lru_cache(maxsize=1 << 15)
def _canonical(kind: str, value: str, zone: str) -> str:
    origin = dns.name.from_text(zone or ".")
    try:
        parsed = dns.rdata.from_text(dns.rdataclass.IN, kind, value, origin=origin, relativize=False)
    except (dns.exception.DNSException, ValueError) as err:
        raise ValueError(str(err) or type(err).__name__) from err
    if isinstance(parsed, TXT):
        return quoted(b"".join(parsed.strings))
    text = parsed.to_text()
    if kind in HEX:
        *front, data = text.split(None, HEX[kind])
        text = " ".join([*front, re.sub(r"\s", "", data)])
    if kind in FOLDED:
        return text.lower()
    if kind in ("HTTPS", "SVCB"):
        priority, target, *more = text.split(" ", 2)
        return " ".join([priority, target.lower(), *more])
    if kind == "CAA":
        flags, tag, rest = text.split(" ", 2)
        return f"{flags} {tag.lower()} {rest}"
    return text


def quoted(text: bytes) -> str:
    """Text as quoted character-strings of at most 255 octets each, never split inside a character."""
    chunks, current, size = [], "", 0
    for char in text.decode(errors="surrogateescape"):
        octets = len(char.encode(errors="surrogateescape"))
        if size + octets > CHUNK:
            chunks.append(current)
            current, size = "", 0
        current, size = current + _escaped(char), size + octets
    return " ".join(f'"{chunk}"' for chunk in [*chunks, current])


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # an octet that is no UTF-8
        return f"\\{code - 0xDC00:03d}"
    return f"\\{code:03d}" if code < 32 or code == 127 else char


def respelled(kind: str, values: Iterable[str], there: Collection[str], zone: str) -> dict[str, str]:
    """Each value -> the spelling that stands there already, where an equal one does; else itself.

    What is equal is left as its author wrote it: no difference, no write, and an undo finds it to the letter.
    """
    wanted = list(values)
    left = [value for value in there if value not in set(wanted)]
    if not left or all(value in there for value in wanted):
        return {value: value for value in wanted}
    spelt: dict[str, str] = {}
    for value in left:
        spelt.setdefault(canonical(kind, value, zone), value)
    return {value: value if value in there else spelt.get(canonical(kind, value, zone), value) for value in wanted}
