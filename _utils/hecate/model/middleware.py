"""Middleware: named things that happen to a request on its way in, and to the answer on its way out.

Each has a `type` and, under `config`, the fields of that type. Routes name them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from hecate.model.fields import (
    CADDYS,
    PLACEHOLDER,
    File,
    HeaderName,
    HeaderValue,
    Line,
    Listed,
    Network,
    PathPattern,
    Requested,
    Section,
    Size,
)

CHANGES = {"set", "add", "remove"}
BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")
ARGON2ID = re.compile(r"\$argon2id\$v=19\$m=\d+,t=\d+,p=\d+\$[\w+/]{11,}\$[\w+/]{22,}")
ELSEWHERE = re.compile(r"env:[A-Za-z_]\w*|file:/[\w./-]+")
TOKEN = re.compile(r"[A-Z]{2,20}")
IN_PAGES = ("http.error.status_code", "http.request.uuid")
GO_REGEXP_LACKS = re.compile(r"\(\?(=|!|<=|<!|>|\()|\\[1-9]")


def _hash(text: str) -> str:
    if not any(kind.fullmatch(text) for kind in (BCRYPT, ARGON2ID, ELSEWHERE)) or ".." in text.split("/"):
        raise ValueError("not a hash; write what `caddy hash-password` prints, or env:NAME or file:/path that holds it")
    return text


def _regexp(text: str) -> str:
    """RE2, as Caddy's Go has it: no lookaround, no backreference."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("control characters (line breaks too) are written as escapes, like \\n")
    if GO_REGEXP_LACKS.search(text):
        raise ValueError("lookaround and backreferences are not in Caddy's regular expressions (RE2)")
    try:
        re.compile(text)
    except re.error as err:
        raise ValueError(f"not a regular expression: {err}") from err
    return text


def _target(text: str) -> str:
    """Where a redirect leads: the host is the pillar's, only the rest may come from the request."""
    uri = r"\{http\.request\.(orig_)?uri(\.path)?\}"
    host = r"([^/\s{}@]+|\{http\.request\.host\})"
    if not re.fullmatch(rf"https?://{host}((/|{uri})\S*)?|/(?![/\\{{])\S*|/", text):
        raise ValueError("not a target; a path, or https://host/... whose host is written out")
    return text


def _page(text: str) -> str:
    """HTML in which only status and request id are filled in: what a client sent does not belong in a page."""
    for name in PLACEHOLDER.findall(text):
        if name.startswith(CADDYS) and name not in IN_PAGES:
            known = ", ".join(f"{{{known}}}" for known in IN_PAGES)
            raise ValueError(f"placeholder {{{name}}} in a page could carry somebody's script; there are: {known}")
    return text


def _origin(text: str) -> str:
    """scheme://host[:port], written as browsers do: lower case, no default port."""
    parts = urlsplit(text.lower())
    name = re.fullmatch(r"[a-z0-9._-]+(:\d{1,5})?|\[[0-9a-f:]+\](:\d{1,5})?", parts.netloc)
    if text != "*" and (parts.scheme not in ("http", "https") or not name or parts.path not in ("", "/")):
        raise ValueError('not an origin; https://host or https://host:port, or "*" alone; browsers send no path')
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, " ")
    return text if text == "*" else f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


def _method(text: str) -> str:
    if not TOKEN.fullmatch(text):
        raise ValueError("not a method; GET, PUT, ... in capitals")
    return text


def _twice(names: Iterable[str]) -> list[str]:
    """Names that stand there more than once, in whatever case."""
    return [name for name, count in Counter(name.lower() for name in names).items() if count > 1]


Hash = Annotated[str, AfterValidator(_hash)]
Regexp = Annotated[str, AfterValidator(_regexp)]
Target = Annotated[Requested, AfterValidator(_target)]
Page = Annotated[str, AfterValidator(_page)]
Origin = Annotated[str, AfterValidator(_origin)]
Method = Annotated[str, AfterValidator(_method)]
Refusal = Annotated[int, Field(ge=400, le=599)]


class HeaderChanges(Section):
    """What to do to the headers of one direction."""

    set: dict[HeaderName, HeaderValue] = Field({}, description="Replaces what is there.")
    add: dict[HeaderName, HeaderValue] = Field({}, description="Comes beside what is there.")
    remove: Annotated[tuple[HeaderName, ...], Listed] = Field((), description="Names; a * at the end is a prefix.")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: Any) -> Any:
        """{name: value} alone is what to set."""
        return {"set": data} if isinstance(data, dict) and data and not CHANGES & data.keys() else data

    @model_validator(mode="after")
    def _each_name_once(self) -> HeaderChanges:
        """Caddy knows no case in names: of two spellings one would win, and nobody could tell which."""
        for twice in (*_twice(self.set), *_twice(self.add), *_twice([*self.set, *self.remove])):
            raise ValueError(f"{twice} is there twice; in header names upper and lower case are the same")
        for name in self.remove:
            if "*" in name.strip("*") or name == "*":
                raise ValueError(f"{name}: a * stands at the end or the start of a name, for all that begin or end so")
        return self

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


# In the short form of headers (name: value) these go to the upstream, all others into the answer.
UPSTREAMWARD = ("x-forwarded-", "x-real-ip", "forwarded", "host", "authorization", "accept", "x-original-")


class Headers(Section):
    """Headers on the way to the upstream (`request`) and back (`response`).

    Short forms: `{set: ...}` is of the answer; `{name: value}` goes where the name belongs; below
    request and response `{name: value}` is set.
    """

    request: HeaderChanges = Field(HeaderChanges(), description="Towards the upstream. X-Authentik-* is refused here.")
    response: HeaderChanges = Field(HeaderChanges(), description="Towards the client; replaces what the upstream sent.")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not data or "response" in data or "request" in data:
            return data
        if CHANGES & data.keys():
            return {"response": data}
        up = {k: v for k, v in data.items() if str(k).lower().startswith(UPSTREAMWARD)}
        return {"request": up, "response": {k: v for k, v in data.items() if k not in up}}

    @model_validator(mode="after")
    def _identity_is_not_set_by_hand(self) -> Headers:
        for name in (*self.request.set, *self.request.add):
            if name.lower().startswith("x-authentik-"):
                raise ValueError(f"{name} carries an identity and is set by the auth policy alone")
        return self


class SecurityHeaders(Section):
    """What OWASP's Secure Headers Project recommends; each value can be replaced, or left out with an empty text."""

    preset: Literal["owasp"] = Field("owasp", description="The set to start from.")
    headers: dict[HeaderName, HeaderValue] = Field({}, description='Replacements; "" leaves one out.')

    @model_validator(mode="after")
    def _each_name_once(self) -> SecurityHeaders:
        for twice in _twice(self.headers):
            raise ValueError(f"{twice} is there twice; in header names upper and lower case are the same")
        return self


class Cors(Section):
    """Which other sites' pages may call this one (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    origins: Annotated[tuple[Origin, ...], Listed] = Field(
        min_length=1, description='Sites, each as scheme://host[:port]; or "*" for every page there is.'
    )
    methods: Annotated[tuple[Method, ...], Listed] = Field(
        ("GET", "HEAD", "POST"), description="Methods that a page may use."
    )
    headers: Annotated[tuple[HeaderName, ...], Listed] = Field((), description="Request headers that a page may send.")
    expose: Annotated[tuple[HeaderName, ...], Listed] = Field((), description="Headers of the answer that it may read.")
    credentials: bool = Field(False, description="Whether cookies go along.")
    max_age: int = Field(600, ge=0, le=86400, description="Seconds that a browser keeps the permission.")

    @model_validator(mode="after")
    def _no_credentials_for_everybody(self) -> Cors:
        if self.credentials and "*" in self.origins:
            raise ValueError(
                "credentials for every origin would hand each user's session to any page; list the origins"
            )
        return self


class Encode(Section):
    """Compression of answers."""

    encodings: Annotated[tuple[Literal["zstd", "gzip", "br"], ...], Listed] = Field(
        ("zstd", "gzip"), min_length=1, description="In order of preference; br needs a Caddy with http.encoders.br."
    )
    minimum_length: int = Field(512, ge=0, description="Bytes; shorter answers stay as they are.")


class RequestId(Section):
    """An id for each request, on the way to the upstream and in the answer; a client's own is replaced."""

    header: HeaderName = Field("X-Request-Id", description="Its name, both ways.")


class BasicAuth(Section):
    """User names and password hashes, all of one kind: bcrypt or argon2id."""

    accounts: dict[Line, Hash] = Field(
        min_length=1,
        description="User name to hash, as `caddy hash-password` prints it; or env:NAME or file:/path, read by Caddy.",
    )
    hash: Literal["bcrypt", "argon2id"] | None = Field(
        None, description="Kind of all the hashes; absent: that of those written out, else bcrypt."
    )
    realm: Line = Field("restricted", description="What the browser shows when it asks.")
    hide: bool = Field(True, description="Keep the Authorization header from the upstream.")

    @property
    def algorithm(self) -> str:
        """ "bcrypt" or "argon2id"."""
        return self.hash or next(iter(self._kinds()), "bcrypt")

    def _kinds(self) -> set[str]:
        return {
            kind
            for kind, pattern in (("bcrypt", BCRYPT), ("argon2id", ARGON2ID))
            if any(pattern.fullmatch(text) for text in self.accounts.values())
        }

    @model_validator(mode="after")
    def _one_kind(self) -> BasicAuth:
        """Caddy compares all passwords of a route with one algorithm; the others could never log in."""
        if len({*self._kinds(), *([self.hash] if self.hash else [])}) > 1:
            raise ValueError("bcrypt and argon2id in one list: Caddy would refuse the ones or the others; use one kind")
        for name in self.accounts:
            if ":" in name or not name:
                raise ValueError(f"{name!r} is not a user name; it is not empty, and has no colon in it")
        if '"' in self.realm or "\\\\" in self.realm:
            raise ValueError("no quotes and no backslash in the realm")
        return self


class IpFilter(Section):
    """Client addresses, behind hecate:caddy:trusted_proxies the address that those report."""

    allow: Annotated[tuple[Network, ...], Listed] = Field((), description="Only these; absent: all.")
    deny: Annotated[tuple[Network, ...], Listed] = Field((), description="Never these, allowed or not.")
    status: Refusal = Field(403, description="What the others get.")

    @model_validator(mode="after")
    def _says_something(self) -> IpFilter:
        if not self.allow and not self.deny:
            raise ValueError("lists nobody; give allow or deny")
        return self


class BlockScanners(Section):
    """Refuse what only scanners ask for. Search engines and real clients pass (docs/decisions)."""

    preset: bool = Field(True, description="Hecate's own lists; false: only what is listed here.")
    paths: Annotated[tuple[PathPattern, ...], Listed] = Field((), description="Further paths.")
    agents: Annotated[tuple[Regexp, ...], Listed] = Field((), description="Further user agents, case-insensitive RE2.")
    headers: Annotated[tuple[HeaderName, ...], Listed] = Field(
        (), description="Refuse what carries one of these headers, such as Cf-Worker."
    )
    except_paths: Annotated[tuple[PathPattern, ...], Listed] = Field((), description="Paths that stay open.")
    except_from: Annotated[tuple[Network, ...], Listed] = Field((), description="Addresses that are never refused.")
    answer: Literal["404", "close"] = Field("404", description="close: end the connection without an answer.")

    @model_validator(mode="before")
    @classmethod
    def _number(cls, data: Any) -> Any:
        return {**data, "answer": "404"} if isinstance(data, dict) and data.get("answer") == 404 else data

    @model_validator(mode="after")
    def _blocks_something(self) -> BlockScanners:
        if not (self.preset or self.paths or self.agents or self.headers):
            raise ValueError("blocks nothing; without the preset give paths, agents or headers")
        return self


class Redirect(Section):
    """Send the client elsewhere."""

    to: Target = Field(description="A path or a URL; https://host{http.request.uri} keeps path and query.")
    status: Literal[301, 302, 303, 307, 308] = Field(
        308, description="308 and 307 keep the method; 301 and 302 may turn POST into GET; 303 does."
    )


class Rewrite(Section):
    """Change the path before the upstream sees it; exactly one of the fields."""

    strip_prefix: PathPattern | None = Field(None, description="Leave this out at the front.")
    add_prefix: PathPattern | None = Field(None, description="Put this in front.")
    uri: Requested | None = Field(None, pattern="^[/?]", description="Replace path (and query, after ?).")
    regexp: Regexp | None = Field(None, description="Replace what matches in the path by `replace`.")
    replace: Requested = Field(
        "", description="With regexp; $1 is its first group. With a ? in it, regexp covers the whole path: ^...$"
    )

    @model_validator(mode="after")
    def _one(self) -> Rewrite:
        if sum(x is not None for x in (self.strip_prefix, self.add_prefix, self.uri, self.regexp)) != 1:
            raise ValueError("exactly one of strip_prefix, add_prefix, uri, regexp")
        if self.replace and not self.regexp:
            raise ValueError("replace goes with regexp")
        if "?" in self.replace and not re.fullmatch(r"\^.*\$", self.regexp or ""):
            raise ValueError("a replace with a query needs a regexp of the whole path, from ^ to $")
        if "?" in self.replace and not self.replace.startswith("/"):
            raise ValueError("a replace with a query is a whole path and begins with /")
        for name in ("strip_prefix", "add_prefix"):
            if (getattr(self, name) or "x").rstrip("/*") == "":
                raise ValueError(f"{name} is the root, which changes nothing")
        return self


class ErrorPages(Section):
    """Pages of one's own for errors of Caddy (upstream down, refused) and, with `upstream`, of the upstream."""

    pages: dict[str, Page] = Field(
        min_length=1,
        description="Status (404) or class (5xx) to the page's HTML, taken as it is but for {http.error.status_code} "
        "and {http.request.uuid}.",
    )
    upstream: bool = Field(False, description="Replace the upstream's own error pages too.")

    @model_validator(mode="after")
    def _statuses(self) -> ErrorPages:
        for status in self.pages:
            if not re.fullmatch(r"[45](\d\d|xx)", status):
                raise ValueError(f"{status} is neither a status of errors, like 404, nor a class, like 5xx")
        return self

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("pages"), dict):
            return {**data, "pages": {str(k): v for k, v in data["pages"].items()}}
        return data


class Maintenance(Section):
    """Answer 503 in place of the service."""

    retry_after: int = Field(300, ge=1, description="Seconds until a client should try again.")
    page: Page = Field("", description="HTML, taken as it is; absent: one line of text.")
    except_from: Annotated[tuple[Network, ...], Listed] = Field((), description="Addresses that reach the service.")


class RateLimit(Section):
    """Needs a Caddy with the module http.handlers.rate_limit; refused elsewhere."""

    requests_per_minute: int = Field(ge=1, description="What one client, host or user may ask in any one minute.")
    burst: int = Field(0, ge=0, description="Requests beyond that in any one minute.")
    by: Literal["client_ip", "host", "user"] = Field(
        "client_ip", description="What is counted by, at each host by itself; user: after the login."
    )


class AuditLog(Section):
    """Each request of the route in a log of its own, without the secrets in it."""

    log_requests: bool = Field(True, description="false switches the log off.")
    log_responses: bool = Field(False, description="Headers of the answer too.")
    file: File | None = Field(None, description="On the edge, JSON; absent: where Caddy's default log goes.")
    exclude_paths: Annotated[tuple[PathPattern, ...], Listed] = Field(
        (), description="Paths whose requests are not logged."
    )


class RequestBody(Section):
    """Limits on what clients send."""

    max_size: Size = Field(description="Longer requests get 413.")


class HeadersUse(Section):
    type: Literal["headers"]
    config: Headers


class SecurityHeadersUse(Section):
    type: Literal["security_headers"]
    config: SecurityHeaders = SecurityHeaders()


class CorsUse(Section):
    type: Literal["cors"]
    config: Cors


class EncodeUse(Section):
    type: Literal["encode"]
    config: Encode = Encode()


class RequestIdUse(Section):
    type: Literal["request_id"]
    config: RequestId = RequestId()


class BasicAuthUse(Section):
    type: Literal["basic_auth"]
    config: BasicAuth


class IpFilterUse(Section):
    type: Literal["ip_filter"]
    config: IpFilter


class BlockScannersUse(Section):
    type: Literal["block_scanners"]
    config: BlockScanners = BlockScanners()


class RedirectUse(Section):
    type: Literal["redirect"]
    config: Redirect


class RewriteUse(Section):
    type: Literal["rewrite"]
    config: Rewrite


class ErrorPagesUse(Section):
    type: Literal["error_pages"]
    config: ErrorPages


class MaintenanceUse(Section):
    type: Literal["maintenance"]
    config: Maintenance = Maintenance()


class RateLimitUse(Section):
    type: Literal["rate_limit"]
    config: RateLimit


class AuditLogUse(Section):
    type: Literal["audit_log"]
    config: AuditLog = AuditLog()


class RequestBodyUse(Section):
    type: Literal["request_body"]
    config: RequestBody


Middleware = Annotated[
    HeadersUse
    | SecurityHeadersUse
    | CorsUse
    | EncodeUse
    | RequestIdUse
    | BasicAuthUse
    | IpFilterUse
    | BlockScannersUse
    | RedirectUse
    | RewriteUse
    | ErrorPagesUse
    | MaintenanceUse
    | RateLimitUse
    | AuditLogUse
    | RequestBodyUse,
    Field(discriminator="type"),
]

# Names that every pillar may use without defining them; a definition of the same name replaces it.
BUILT_IN: dict[str, Middleware] = {
    "security-headers": SecurityHeadersUse(type="security_headers"),
    "compression": EncodeUse(type="encode"),
    "request-id": RequestIdUse(type="request_id"),
    "block-scanners": BlockScannersUse(type="block_scanners"),
}
