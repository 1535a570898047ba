"""The Caddy on each edge, and how the whole of it behaves."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hecate.model.fields import AdminUrl, File, Line, Listed, Network, Port, Section, Slug, Timeout, path_pattern
from hecate.model.routes import AccessLog


def _bare_address(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", text):
        raise ValueError("not an address or host name")
    return text


def _exact(text: str) -> str:
    if path_pattern(text).endswith("*") or text == "/":
        raise ValueError("not one path, like /health; whatever stands here is answered before any route")
    return text


ExactPath = Annotated[str, AfterValidator(_exact)]


class Caddy(Section):
    """The Caddy on each edge. Hecate owns one server in it, and nothing else."""

    admin: AdminUrl = Field("http://127.0.0.1:2019", description="Where the minion on the edge reaches the admin API.")
    server: Slug = Field("hecate", description="Name of the server that Hecate owns.")
    issuer: Slug = Field(
        "acme",
        description="acme: a public CA; internal: Caddy's own; none: plain HTTP; or of hecate:certificates:providers.",
    )
    middleware: tuple[Slug, ...] = Field((), description="Middleware of every route that doesn't do `without`.")
    trusted_proxies: Annotated[tuple[Network, ...], Listed] = Field(
        (), description="Proxies in front whose X-Forwarded-For is believed, the nearest untrusted address counting."
    )
    access_log: AccessLog | bool = Field(False, description="Of routes that say nothing else.")
    min_tls: Literal["1.2", "1.3"] | None = Field(None, description="Of routes that say nothing else; absent: 1.2.")
    websocket_grace: Timeout = Field(
        "8h", description="How long open websockets and other streams outlive a change of the configuration."
    )
    http3: bool = Field(True, description="Answer over QUIC (UDP), too.")
    config_file: File | None = Field(
        None,
        description="Where the applied configuration is kept for `caddy run --config`; absent: "
        "<minion's cache>/hecate/caddy.json.",
    )
    write_interval: Timeout = Field(
        "1s", description="Least time between two writes; single routes that come meanwhile are written together."
    )


class Edge(Section):
    """One edge as seen from outside; the key is its minion id."""

    address: Annotated[str, AfterValidator(_bare_address)] = Field(
        "127.0.0.1", description="Where `hecate.verify` connects."
    )
    bind: Annotated[str, AfterValidator(_bare_address)] | None = Field(
        None, description="The address that Caddy listens on; absent: all of the machine's."
    )
    http: Port = Field(80, description="The port that redirects to HTTPS; Caddy's own setting.")
    https: Port = Field(443, description="The port that Hecate's server listens on.")


class Metrics(Section):
    """Prometheus metrics of requests."""

    enabled: bool = Field(True, description="false switches them off.")
    per_host: bool = Field(False, description="By route host: about 52 series each. Other hosts are counted as one.")
    port: Port | None = Field(None, description="A listener of its own on loopback; absent: the admin API alone.")
    path: ExactPath = Field("/metrics", description="Where they are, on `port`.")


class HealthEndpoint(Section):
    """What a load balancer in front asks; answered for any host name."""

    enabled: bool = Field(True, description="false switches it off.")
    path: ExactPath = Field("/health", description="Answered with 200 before any route.")
    detailed_path: ExactPath | None = Field(None, description="Answers with the name of the edge's machine, too.")


class Alerting(Section):
    """Limits for whoever reads the metrics; Hecate exports them and alerts nobody itself."""

    error_rate_threshold: float | None = Field(None, ge=0, le=1, description="Share of answers 5xx, 0 to 1.")
    latency_p99_threshold: Timeout | None = Field(None, description="Of the slowest hundredth of requests.")
    certificate_expiry_days: int | None = Field(None, ge=1, description="Like hecate:certificates:warn_days.")


class Tracing(Section):
    """OpenTelemetry spans; the exporter is set by OTEL_* in Caddy's environment."""

    span: Line = Field("hecate", description="Name of the span of each request.")


class Monitoring(Section):
    """What the edges show of themselves."""

    metrics: Metrics | None = None
    health_endpoint: HealthEndpoint | None = None
    alerting: Alerting | None = None
    tracing: Tracing | None = None
