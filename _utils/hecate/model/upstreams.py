"""Upstreams: which servers answer, how they are reached, chosen among, and found wanting."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from hecate.model.fields import (
    SCHEMES,
    Address,
    CookieName,
    Dial,
    File,
    HeaderName,
    Line,
    Listed,
    Port,
    Section,
    Slug,
    Timeout,
)
from hecate.model.middleware import Regexp


def _check_path(text: str) -> str:
    """Path and query of a check; unlike a route's pattern it has no star."""
    if not re.fullmatch(r"/[\w./~%:@!$&'()+,;=?-]*", text) or ".." in re.split(r"[/?]", text):
        raise ValueError("not a path to ask, like /healthz or /status?full=1")
    return text


def _dns_name(text: str) -> str:
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels):
        raise ValueError("not a name to look up; labels joined by dots, like web.service.consul, without port")
    return text


def _status(value: int) -> int:
    if not (1 <= value <= 5 or 100 <= value <= 599):
        raise ValueError("neither a status, like 503, nor a class of them, 1 to 5")
    return value


CheckPath = Annotated[str, AfterValidator(_check_path)]
DnsName = Annotated[str, AfterValidator(_dns_name)]
Statuses = Annotated[int, AfterValidator(_status)]


class Upstream(Section):
    """One server behind a route."""

    dial: Dial = Field(
        description="host:port; https://host[:port] for TLS, h2c://host:port for gRPC in the clear, unix//path.sock."
    )
    weight: int = Field(
        1,
        ge=0,
        le=1000,
        description="Share of requests relative to the other upstreams; 0 drains: cookies keep theirs.",
    )
    max_requests: int | None = Field(
        None, ge=1, description="Requests at one time; a full upstream is passed over, and where all are full 503."
    )

    @property
    def scheme(self) -> str:
        """ "http", "https" or "h2c"."""
        return self.dial.partition("://")[0].lower() if "://" in self.dial else "http"

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> str:
        """host:port or unix//path, as Caddy dials it."""
        _, found, rest = self.dial.partition("://")
        if not found:
            return self.dial
        has_port = rest.rpartition(":")[2].isdigit() and not rest.endswith("]")
        return rest if has_port else f"{rest}:{SCHEMES[self.scheme]}"

    @property
    def is_socket(self) -> bool:
        return self.dial.startswith("unix/")


class Discovery(Section):
    """Upstreams found by DNS while Caddy runs, so that one which moves needs no reload.

    Caddy keeps answers by name alone: a name means the same at every resolver that is asked for it.
    """

    srv: DnsName | None = Field(
        None, description="Name of an SRV rrset, such as web.service.consul; balance: first heeds priority and weight."
    )
    a: DnsName | None = Field(None, description="Name whose A and AAAA records are the upstreams; needs `port`.")
    port: Port | None = Field(None, description="Port of the upstreams that `a` finds.")
    resolver: Address | None = Field(None, description="host:port of the name server; absent: the machine's own.")
    refresh: Timeout = Field("5s", description="How long an answer is kept; an SRV answer longer while DNS is down.")
    scheme: Literal["http", "https", "h2c"] | None = Field(
        None, description="How the upstreams are spoken to; absent: https with upstream_tls, else http."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Discovery:
        if bool(self.srv) == bool(self.a):
            raise ValueError("either srv or a says what to look up, and not both")
        if bool(self.a) != bool(self.port):
            raise ValueError("port goes with a: an SRV record brings its own")
        return self


class Balance(Section):
    """How one upstream is chosen among several (https://caddyserver.com/docs/json/apps/http/servers/routes/handle/reverse_proxy/load_balancing/)."""

    policy: (
        Literal[
            "round_robin",
            "weighted",
            "random",
            "least_conn",
            "first",
            "ip_hash",
            "client_ip_hash",
            "uri_hash",
            "header",
            "cookie",
        ]
        | None
    ) = Field(
        None,
        description="Absent: weighted where weights differ, else round_robin. client_ip_hash looks behind "
        "hecate:caddy:trusted_proxies, ip_hash doesn't. header and cookie fall back on the default.",
    )
    header: HeaderName | None = Field(None, description="Of policy header: requests with the same value stay together.")
    cookie: CookieName | None = Field(None, description="Of policy cookie: name of the cookie; absent: lb.")
    max_age: Timeout | None = Field(None, description="Of policy cookie: how long it lasts; absent: the session.")
    retries: int = Field(
        0, ge=0, le=20, description="Further tries; an upstream that failed is passed over for a second."
    )
    try_duration: Timeout | None = Field(
        None, description="How long to look for an upstream that is up; a request that was sent is repeated if GET."
    )
    try_interval: Timeout = Field("250ms", description="Between two tries, with try_duration.")

    @model_validator(mode="after")
    def _what_the_policy_needs(self) -> Balance:
        if (self.policy == "header") != (self.header is not None):
            raise ValueError("header goes with policy header, and that policy needs it")
        if self.policy != "cookie" and (self.cookie or self.max_age):
            raise ValueError("cookie and max_age go with policy cookie")
        if "try_interval" in self.model_fields_set and not self.try_duration:
            raise ValueError("try_interval goes with try_duration")
        return self


class HealthCheck(Section):
    """Active checks ask `path` by themselves; passive ones (`unhealthy_*`, `fail_duration`) watch real requests."""

    path: CheckPath | None = Field(None, description="Asked at every interval; absent: no active checks.")
    port: Port | None = Field(None, description="Of the check, where it isn't the upstream's own.")
    method: Literal["GET", "HEAD", "POST"] = Field("GET", description="Of the check.")
    headers: dict[HeaderName, Line] = Field({}, description="Sent with each check.")
    interval: Timeout = Field("30s", description="Between two checks of an upstream.")
    timeout: Timeout = Field("5s", description="Until a check without an answer has failed.")
    passes: int = Field(1, ge=1, le=100, description="Good answers in a row until it counts as up.")
    fails: int = Field(1, ge=1, le=100, description="Bad answers in a row until it counts as down.")
    expect_status: Statuses | None = Field(None, description="A status, or 1 to 5 for its class; absent: 2xx.")
    expect_body: Regexp | None = Field(None, description="Regular expression (RE2) that the body has to match.")
    unhealthy_status: Annotated[tuple[Statuses, ...], Listed] = Field(
        (), description="Answers that count as failures, as refused connections do; 1 to 5 for a class."
    )
    unhealthy_latency: Timeout | None = Field(None, description="Slower answers count as failures.")
    unhealthy_request_count: int | None = Field(
        None, ge=1, description="With so many requests at one time an upstream gets no more; all of them full: 503."
    )
    fail_duration: Timeout | None = Field(
        None, description="How long a failure is remembered; absent, with other passive settings: interval."
    )
    max_fails: int = Field(1, ge=1, le=1000, description="Remembered failures until it counts as down.")

    @model_validator(mode="after")
    def _checks_something(self) -> HealthCheck:
        if not self.path and not self.is_passive:
            raise ValueError("checks nothing; give a path for active checks, or fail_duration for passive ones")
        idle = sorted(self.model_fields_set & OF_ACTIVE) if not self.path else []
        if idle:
            raise ValueError(f"{', '.join(idle)}: of active checks, and there are none without path")
        if "max_fails" in self.model_fields_set and not self.counts_failures:
            raise ValueError("max_fails goes with fail_duration, unhealthy_status or unhealthy_latency")
        return self

    @property
    def counts_failures(self) -> bool:
        """Whether requests that failed are remembered."""
        return bool(self.fail_duration or self.unhealthy_status or self.unhealthy_latency)

    @property
    def is_passive(self) -> bool:
        return self.counts_failures or bool(self.unhealthy_request_count)


OF_ACTIVE = {"port", "method", "headers", "timeout", "passes", "fails", "expect_status", "expect_body"}


class UpstreamTls(Section):
    """How the certificate of https:// upstreams is checked, and which one is shown to them."""

    ca: File | None = Field(None, description="PEM file on the edge; absent: the machine's own authorities.")
    certificate: File | None = Field(None, description="Client certificate, PEM file on the edge.")
    key: File | None = Field(None, description="Its private key, PEM file on the edge.")
    server_name: Line | None = Field(None, description="Name expected in the certificate; absent: the dialled one.")
    skip_verify: bool = Field(False, description="Do not verify at all. Whoever is in between can read and change it.")

    @model_validator(mode="after")
    def _pairs(self) -> UpstreamTls:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together")
        if self.skip_verify and self.ca:
            raise ValueError("ca and skip_verify contradict each other; with a ca nothing needs skipping")
        return self


class Timeouts(Section):
    """How long to wait for an upstream."""

    dial: Timeout = Field("3s", description="For a connection.")
    response: Timeout | None = Field(None, description="From the request to the headers of the answer.")
    read: Timeout | None = Field(None, description="Between two reads; ends a websocket that is silent so long, too.")
    write: Timeout | None = Field(None, description="Between two writes to the upstream.")
    idle: Timeout | None = Field(None, description="How long an unused connection is kept.")


class Pool(Section):
    """Servers that answer for one thing, and how they are used."""

    upstreams: tuple[Upstream, ...] | Slug = Field(
        (), description="Servers, each a dial or a mapping; or the name of a group under hecate:upstreams."
    )
    discover: Discovery | None = Field(None, description="Upstreams found by DNS instead of a list.")
    balance: Balance | None = Field(None, description="A policy's name, or a mapping.")
    health_check: HealthCheck | Slug | None = Field(
        None, description="A mapping, or a name under hecate:health_checks."
    )
    upstream_tls: UpstreamTls | None = Field(None, description="For https:// upstreams, and for discovered ones.")
    tls_skip_verify: bool = Field(False, description="Short for upstream_tls: {skip_verify: true}.")
    timeouts: Timeouts | None = Field(None, description="How long to wait for the upstreams.")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """A bare string in the list is an upstream's dial; a bare string as balance is its policy."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if isinstance(data.get("upstreams"), list):
            data["upstreams"] = [{"dial": item} if isinstance(item, str) else item for item in data["upstreams"]]
        if isinstance(data.get("balance"), str):
            data["balance"] = {"policy": data["balance"]}
        return data

    @model_validator(mode="after")
    def _one_transport(self) -> Pool:
        own = [name for name in POOL_FIELDS if getattr(self, name)]
        if isinstance(self.upstreams, str):
            if own:
                raise ValueError(f"a group is used as it is; {', '.join(own)} belong to the group itself")
            return self
        if self.upstreams and self.discover:
            raise ValueError("either upstreams or discover says where to go, and not both")
        if own and not self.upstreams and not self.discover:
            raise ValueError(f"{', '.join(own)}: of upstreams, and there are none here; give upstreams or discover")
        if len(self.upstreams) > 1:
            self._together(self.upstreams)
        if own:
            self._tls_fits()
            self._balance_fits()
        return self

    def _together(self, servers: tuple[Upstream, ...]) -> None:
        if len({upstream.scheme for upstream in servers}) > 1:
            raise ValueError("the upstreams of one route speak all plain HTTP, all TLS (https://) or all h2c://")
        addresses = [upstream.address for upstream in servers]
        twice = sorted({address for address in addresses if addresses.count(address) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is there twice; a weight gives it a greater share")
        if not any(upstream.weight for upstream in servers):
            raise ValueError("all weights are 0, so nobody would answer; give one upstream a weight")

    def _tls_fits(self) -> None:
        if self.tls_skip_verify and self.upstream_tls:
            raise ValueError("tls_skip_verify is short for upstream_tls: {skip_verify: true}; keep one of the two")
        asked = "tls_skip_verify" if self.tls_skip_verify else "upstream_tls" if self.upstream_tls else ""
        if asked and self.scheme != "https":
            there = "scheme https" if self.discover else "https:// upstreams"
            raise ValueError(f"{asked} is for {there}; this one is {self.scheme}")

    def _balance_fits(self) -> None:
        policy = self.balance.policy if self.balance else None
        if policy == "weighted" and self.discover:
            raise ValueError("policy weighted needs upstreams with weights; what discover finds has none")
        if policy and policy not in ("weighted", "cookie") and self.uneven:
            raise ValueError(f"policy {policy} knows no weights; leave them out, or the policy")

    def misfit(self, check: HealthCheck) -> str:
        """Why this health check would do nothing here, though Caddy takes it; "" when it fits."""
        if check.path and self.discover:
            return "Caddy makes no active checks (path) where upstreams are discovered; let DNS leave out what is down"
        if check.port and any(not isinstance(u, str) and u.is_socket for u in self.upstreams):
            return "a unix socket has no other port to check; leave port out"
        return ""

    @property
    def scheme(self) -> str:
        """ "http", "https" or "h2c"; of a group's name "http"."""
        if self.discover:
            return self.discover.scheme or ("https" if self.upstream_tls or self.tls_skip_verify else "http")
        return self.upstreams[0].scheme if self.upstreams and not isinstance(self.upstreams, str) else "http"

    @property
    def uneven(self) -> bool:
        """Whether the upstreams' weights differ."""
        return len({u.weight for u in self.upstreams if not isinstance(u, str)}) > 1

    @property
    def tls_to_upstream(self) -> UpstreamTls | None:
        """How to speak TLS to the upstreams; None: not at all."""
        if self.scheme != "https":
            return None
        return self.upstream_tls or UpstreamTls(skip_verify=self.tls_skip_verify)


POOL_FIELDS = ("discover", "balance", "health_check", "upstream_tls", "tls_skip_verify", "timeouts")


class UpstreamGroup(Pool):
    """Upstreams with a name, shared by several routes."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> UpstreamGroup:
        if isinstance(self.upstreams, str):
            raise ValueError("a group lists servers; it does not name another group")
        if not self.upstreams and not self.discover:
            raise ValueError("a group without upstreams or discover leads nowhere")
        return self
