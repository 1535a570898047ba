"""The kinds of values that a pillar holds, each with its own check and its own advice."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import Self

from hecate.secrets import FORMS, GONE, Reference, is_reference

LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,48}[a-z0-9])?")
NAME = re.compile(r"[A-Za-z0-9][\w .@-]{0,79}")
DURATION = re.compile(r"[1-9]\d{0,5}[smhd]")
TIMEOUT = re.compile(r"[1-9]\d{0,5}(ms|s|m|h)")
SIZE = re.compile(r"(?i)([1-9]\d{0,8})\s*(B|KB|MB|GB|KiB|MiB|GiB)?")
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
KNOWN_PLACEHOLDERS = ("http.request.", "http.error.", "http.response.", "http.reverse_proxy.", "time.now")
CADDYS = ("http.", "env.", "file.", "system.", "time.", "tls.", "caddy.", "hecate.")  # braces around else are text
REQUESTED = re.compile(
    r"http\.request\.((orig_)?uri(\.path(\.\d+|\.file|\.dir)?|\.query)?(_escaped)?|host(port|\.labels\.\d+)?|scheme|method|uuid)"
)
OUTPUT = re.compile(r"terraform:[A-Za-z_][\w-]*")
SCHEMES = {"http": 80, "https": 443, "h2c": 80}
HEADER = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z-]+")
COOKIE = re.compile(r"[!#$%&'*+.^`|~0-9A-Za-z_-]+")
ATTRIBUTE = re.compile(r"[A-Za-z_][\w./-]{0,79}")


class Section(BaseModel):
    """A mapping in the pillar: unknown keys are errors, values do not change after parsing."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: it does not change. Pydantic copies defaults, of each of ten thousand routes."""
        return self


def _host(text: str) -> str:
    """One spelling a host: lower case, ASCII, no port, no trailing dot."""
    if ":" in text or "/" in text:
        raise ValueError("not a domain name; write the name alone, without scheme, port or path")
    if re.search("[\u00df\u1e9e\u03c2\u200c\u200d]", text):
        raise ValueError("old and new IDNA disagree about a letter of this name; write it in ASCII, xn--...")
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


def _pattern(text: str) -> str:
    """A host, or `*.` and a domain: the star stands for exactly one label, at the front, alone."""
    if text.startswith("*."):
        return "*." + _host(text[2:])
    if "*" in text:
        raise ValueError("a wildcard is one whole label at the front, like *.example.com; Caddy matches nothing else")
    return _host(text)


def folded(text: str) -> str:
    """A host in the spelling in which it is compared; anything else as it is, in lower case."""
    try:
        return _pattern(text)
    except ValueError:
        return text.lower()


def _split_port(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+):(\d{1,5})", text)
    if not match:
        raise ValueError("not host:port, like 10.0.0.5:8080 (an IPv6 address in brackets)")
    return match[1], int(match[2])


def _dial(text: str) -> str:
    """host:port, scheme://host[:port] or unix//path; Caddy itself does not check what it is told to dial."""
    if text.startswith("unix/"):
        path = text.removeprefix("unix/")
        if not re.fullmatch(r"/[\w./+@-]+", path) or ".." in path.split("/"):
            raise ValueError("not a unix socket; write unix//absolute/path.sock")
        return text
    if "://" in text:
        parts = urlsplit(text)
        if parts.scheme not in SCHEMES or parts.path not in ("", "/") or parts.query or parts.username:
            raise ValueError(
                "not an upstream; write host:port, https://host[:port] for TLS, h2c://host:port, or unix//path"
            )
        default = SCHEMES[parts.scheme]
        _address(parts.netloc if re.search(r":\d+$", parts.netloc) else f"{parts.netloc}:{default}")
        return text.rstrip("/")
    return _address(text)


def _url(text: str) -> str:
    parts = urlsplit(text)
    if re.search(r"[\s{}\x00-\x1f\x7f]", text):  # urlsplit overlooks line breaks
        raise ValueError("not a URL; it has no spaces, line breaks or placeholders in it")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("not a URL like https://auth.example.com; no credentials or query in it")
    return text.rstrip("/")


def _admin(text: str) -> str:
    """Caddy's admin API may run code: it is reached over a unix socket or loopback, or not at all."""
    if re.fullmatch(r"unix//[\w./+@-]+", text):
        return text
    parts = urlsplit(text if not re.search(r"[\s{}]", text) else "")
    local = parts.hostname == "localhost"
    try:
        local = local or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        pass
    if parts.scheme != "http" or not local:
        raise ValueError('the admin API is only used locally: "unix//run/caddy/admin.sock" or http://127.0.0.1:2019')
    return text.rstrip("/")


def _secret(text: str) -> Reference:
    if text == GONE:
        raise ValueError(f"a secret is a reference; this was a literal, and none is kept with a deployment: {FORMS}")
    if not is_reference(text):
        raise ValueError(f"a secret is a reference, never a literal: {FORMS}")
    return Reference(text)


def _line(text: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("control characters (line breaks too) do not belong in a header")
    return text


def _templated(text: str) -> str:
    """Text in which Caddy fills placeholders: those of the request, never of files or the environment."""
    for name in PLACEHOLDER.findall(text):
        if name.startswith(CADDYS) and not name.startswith(KNOWN_PLACEHOLDERS):
            raise ValueError(f"placeholder {{{name}}} is not one of the request's ({', '.join(KNOWN_PLACEHOLDERS)}...)")
    return text


def _requested(text: str) -> str:
    """Text in which only what the request is for is filled in: not its headers, cookies or single parameters."""
    for name in PLACEHOLDER.findall(_line(text)):
        if name.startswith(CADDYS) and not REQUESTED.fullmatch(name):
            raise ValueError(f"placeholder {{{name}}} is not the request's host, path, query, scheme or method")
    return text


def _header_value(text: str) -> str:
    return _templated(_line(text))


def _plain(text: str) -> str:
    if PLACEHOLDER.search(text):
        raise ValueError("no placeholders here: what a client sends must not choose it")
    return _line(text)


def _file(text: str) -> str:
    if not re.fullmatch(r"/[\w ./+@:=,-]+", text) or ".." in text.split("/"):
        raise ValueError("not an absolute path (and no .. in it)")
    return text


def _size(value: str | int) -> str | int:
    if not SIZE.fullmatch(str(value)):
        raise ValueError("not a size; a whole number and a unit, like 10MB or 512KiB")
    return value


def bytes_of(size: str | int) -> int:
    """10MB -> 10000000."""
    match = SIZE.fullmatch(str(size))
    assert match, "checked by the model"
    return int(match[1]) * UNITS[(match[2] or "").lower()]


def seconds(text: str) -> float:
    """A Timeout or Duration in seconds: 250ms -> 0.25."""
    unit = text.lstrip("0123456789")
    return int(text.removesuffix(unit)) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def _network(text: str) -> str:
    """An address or network, written the one way that compares equal."""
    try:
        return str(ipaddress.ip_network(text, strict=False)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError as err:
        raise ValueError("not an IP address or network, like 10.0.0.0/8") from err


def path_pattern(text: str) -> str:
    """/exact or /prefix/*: the star stands for everything below, at the end, alone."""
    if not text.startswith("/") or re.search(r"[\s\x00-\x1f\x7f{}?#\\]", text) or "*" in text.removesuffix("*"):
        raise ValueError("not a path; /exact, or /prefix/* for everything below")
    if text.endswith("*") and not text.endswith("/*"):
        raise ValueError("not a path; a prefix ends in /*, like /api/*")
    if "//" in text or "%" in text or any(part in (".", "..") for part in text.split("/")):
        raise ValueError("not a path as Caddy compares it; it is decoded and has no //, . or ..")
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
    return [value] if isinstance(value, str | int) else value


split_port = _split_port
host_name = _host  # for values that have a host among other things
Host = Annotated[str, AfterValidator(_host)]
HostPattern = Annotated[str, AfterValidator(_pattern)]
Address = Annotated[str, AfterValidator(_address)]
Dial = Annotated[str, AfterValidator(awaited(_dial))]
Url = Annotated[str, AfterValidator(_url)]
AdminUrl = Annotated[str, AfterValidator(_admin)]
SecretRef = Annotated[str, AfterValidator(_secret)]
Slug = Annotated[str, _matching(SLUG, "not a slug; lower-case letters, digits, - and _, at most 50 characters")]
Name = Annotated[str, _matching(NAME, "not a name; letters, digits, space, and ._@-, at most 80 characters")]
Duration = Annotated[str, _matching(DURATION, "not a duration; a whole number and one of s, m, h, d, like 8h")]
AttributeName = Annotated[str, _matching(ATTRIBUTE, "not an attribute's name; letters, digits and _./-")]
Timeout = Annotated[str, _matching(TIMEOUT, "not a duration; a whole number and one of ms, s, m, h, like 30s")]
Patience = Annotated[str, _matching(re.compile(f"0s|{TIMEOUT.pattern}"), "not a duration; like 60s, or 0s for none")]
HeaderName = Annotated[str, _matching(HEADER, "not a header name; letters, digits and hyphens")]
CookieName = Annotated[str, _matching(COOKIE, "not a cookie's name; letters, digits, _ and -")]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Line = Annotated[str, AfterValidator(_plain)]
Text = Annotated[str, AfterValidator(_templated)]
Requested = Annotated[str, AfterValidator(_requested)]
File = Annotated[str, AfterValidator(_file)]
Size = Annotated[str | int, AfterValidator(_size)]
Network = Annotated[str, AfterValidator(_network)]
PathPattern = Annotated[str, AfterValidator(path_pattern)]
Status = Annotated[int, Field(ge=100, le=599)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ttl = Annotated[int, Field(ge=60, le=2147483647)]
Listed = BeforeValidator(one_or_many)
