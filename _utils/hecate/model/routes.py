"""Routes: which host goes to which upstreams, behind which policy."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from hecate.model.dns import Records
from hecate.model.fields import Dial, HeaderName, HeaderValue, Host, Section


class Upstream(Section):
    """One server behind a route."""

    dial: Dial = Field(description="host:port, or https://host[:port] for an upstream that speaks TLS.")
    weight: int = Field(1, ge=1, le=1000, description="Share of requests relative to the other upstreams.")

    @property
    def tls(self) -> bool:
        return self.dial.startswith("https://")

    @property
    def address(self) -> str:
        """host:port, as Caddy dials it."""
        scheme, found, rest = self.dial.partition("://")
        if not found:
            return self.dial
        has_port = rest.rpartition(":")[2].isdigit() and not rest.endswith("]")
        return rest if has_port else f"{rest}:{443 if scheme == 'https' else 80}"


class Headers(Section):
    """Headers to set on the way to the upstream (request) and back (response)."""

    request: dict[HeaderName, HeaderValue] = {}
    response: dict[HeaderName, HeaderValue] = {}

    @model_validator(mode="after")
    def _identity_is_not_set_by_hand(self) -> Headers:
        for name in self.request:
            if name.lower().startswith("x-authentik-"):
                raise ValueError(f"{name} carries an identity and is set by the auth policy alone")
        return self


class Route(Section):
    """What answers for one host."""

    hosts: tuple[Host, ...] = Field((), description="Further hosts that are served alike.")
    upstreams: tuple[Upstream, ...] = Field(min_length=1)
    auth_policy: str | None = Field(None, description="Name under hecate:auth_policies; absent: public.")
    headers: Headers = Headers()
    tls_skip_verify: bool = Field(False, description="Do not verify the certificate of https:// upstreams.")
    dns: Records | None = Field(None, description="Records for each host of the route.")
    tags: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_upstreams(cls, data: Any) -> Any:
        """A bare string is an upstream's dial."""
        if isinstance(data, dict) and isinstance(data.get("upstreams"), list):
            listed = [{"dial": item} if isinstance(item, str) else item for item in data["upstreams"]]
            return {**data, "upstreams": listed}
        return data

    @model_validator(mode="after")
    def _one_transport(self) -> Route:
        schemes = {upstream.tls for upstream in self.upstreams}
        if len(schemes) > 1:
            raise ValueError("the upstreams of a route speak either all TLS (https://) or none")
        if self.tls_skip_verify and schemes == {False}:
            raise ValueError("tls_skip_verify is for https:// upstreams; this one is plain HTTP")
        return self
