"""The kinds of values that a pillar holds, each with its own check and its own advice."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hecate.secrets import is_reference

LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,48}[a-z0-9])?")
NAME = re.compile(r"[A-Za-z0-9][\w .@-]{0,79}")
DURATION = re.compile(r"[1-9]\d{0,5}[smhd]")
OUTPUT = re.compile(r"terraform:[A-Za-z_][\w-]*")
HEADER = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")


class Section(BaseModel):
    """A mapping in the pillar: unknown keys are errors, values do not change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _host(text: str) -> str:
    """One spelling a host: lower case, ASCII, no port, no trailing dot."""
    if ":" in text or "/" in text:
        raise ValueError("not a domain name; write the name alone, without scheme, port or path")
    try:
        ascii_name = text.encode("idna").decode() if not text.isascii() else text
    except UnicodeError as err:
        raise ValueError("not a domain name; it cannot be written in ASCII (IDNA)") from err
    name = ascii_name.lower()
    labels = name.split(".")
    if len(name) > 253 or len(labels) < 2 or not all(LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            "not a domain name; labels of letters, digits and hyphens joined by dots, like app.example.com"
        )
    if labels[-1].isdigit():
        raise ValueError("not a domain name; a route matches a name, not an address")
    return name


def _address(text: str) -> str:
    host, port = _split_port(text)
    if not 1 <= port <= 65535:
        raise ValueError("the port is not between 1 and 65535")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", host) or re.fullmatch(r"[\d.]+", host):
            raise ValueError("the part before the port is neither a host name nor an IP address") from None
    return text


def _split_port(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):(\d{1,5})", text)
    if not match:
        raise ValueError("not host:port, like 10.0.0.5:8080 (an IPv6 address in brackets)")
    return match[1], int(match[2])


def _dial(text: str) -> str:
    """host:port, or http(s)://host[:port]; Caddy itself does not check what it is told to dial."""
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.username:
            raise ValueError("not an upstream; write host:port, or https://host[:port] for an upstream that speaks TLS")
        default = 443 if parts.scheme == "https" else 80
        _address(parts.netloc if re.search(r":\d+$", parts.netloc) else f"{parts.netloc}:{default}")
        return text.rstrip("/")
    return _address(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("not a URL like https://auth.example.com; no credentials or query in it")
    return text.rstrip("/")


def _admin(text: str) -> str:
    """Caddy's admin API may run code: it is reached over a unix socket or loopback, or not at all."""
    if text.startswith("unix//"):
        return text
    parts = urlsplit(text)
    local = parts.hostname == "localhost"
    try:
        local = local or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        pass
    if parts.scheme != "http" or not local:
        raise ValueError('the admin API is only used locally: "unix//run/caddy/admin.sock" or http://127.0.0.1:2019')
    return text.rstrip("/")


def _secret(text: str) -> str:
    if not is_reference(text):
        raise ValueError("a secret is a reference, never a literal: vault:path#key, env:NAME or file:/path")
    return text


def _header_value(text: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("control characters (line breaks too) do not belong in a header")
    return text


def _matching(pattern: re.Pattern[str], advice: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(advice)
        return text

    return AfterValidator(check)


def awaited(check: Callable[[str], str]) -> Callable[[str], str]:
    """`check`, or a Terraform output that is not known yet; compiling refuses what still waits."""
    return lambda text: text if OUTPUT.fullmatch(text) else check(text)


def one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Host = Annotated[str, AfterValidator(_host)]
Address = Annotated[str, AfterValidator(_address)]
Dial = Annotated[str, AfterValidator(awaited(_dial))]
Url = Annotated[str, AfterValidator(_url)]
AdminUrl = Annotated[str, AfterValidator(_admin)]
SecretRef = Annotated[str, AfterValidator(_secret)]
Slug = Annotated[str, _matching(SLUG, "not a slug; lower-case letters, digits, - and _, at most 50 characters")]
Name = Annotated[str, _matching(NAME, "not a name; letters, digits, space, and ._@-, at most 80 characters")]
Duration = Annotated[str, _matching(DURATION, "not a duration; a whole number and one of s, m, h, d, like 8h")]
HeaderName = Annotated[str, _matching(HEADER, "not a header name; letters, digits and hyphens")]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ttl = Annotated[int, Field(ge=60, le=2147483647)]
