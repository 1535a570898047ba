"""Who may reach what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hecate.model.fields import (
    Address,
    CookieName,
    Duration,
    HeaderName,
    Line,
    Listed,
    Name,
    PathPattern,
    SecretRef,
    Section,
    Slug,
    Timeout,
    Url,
)
from hecate.model.middleware import Target


class Authentik(Section):
    """Access to authentik's API, and where Caddy reaches its outpost."""

    url: Url = Field(description="Base of the API, https://auth.example.com.")
    token: SecretRef = Field(description="Of a superuser: other listings are incomplete.")
    outpost: Address = Field("127.0.0.1:9000", description="host:port that the edges ask for forward auth.")
    outpost_name: Name = Field("", description="An outpost of one's own; empty: the embedded one.")
    authorization_flow: Slug = Field(
        "default-provider-authorization-implicit-consent", description="Slug of the flow that every provider gets."
    )
    invalidation_flow: Slug = Field(
        "default-provider-invalidation-flow", description="Slug of the flow that signs out."
    )
    timeout: int = Field(60, ge=1, le=600, description="Seconds a call; saving large outposts takes long.")


class ForwardAuth(Section):
    """A service that answers for each request whether it may pass: oauth2-proxy, Authelia, and the like.

    Only a 2xx that names a user in `user_header` lets a request pass.
    """

    address: Address = Field(description="host:port that the edges ask.")
    uri: Line = Field(pattern="^/", description="Asked with GET, such as /oauth2/auth or /api/authz/forward-auth.")
    passage: Annotated[tuple[PathPattern, ...], Listed] = Field(
        (), description="Its own pages on every protected host, such as /oauth2/*; they come before any check."
    )
    user_header: HeaderName = Field("Remote-User", description="Of its answer: names the user, or nobody passes.")
    headers: Annotated[tuple[HeaderName, ...], Listed] = Field(
        (), description="Further headers of its answer for the upstream. A client's own are deleted, on every route."
    )
    cookies: Annotated[tuple[CookieName, ...], Listed] = Field(
        (), description="Prefixes of its cookies' names; they are kept from the upstreams."
    )
    sign_in: Target | None = Field(None, description="Where a 401 is redirected to; absent: its own answer is shown.")
    timeout: Timeout = Field("10s", description="For its answer; a later one lets nobody in (504).")


class AuthPolicy(Section):
    """A named answer to: who may pass?"""

    provider: Slug = Field("authentik", description="authentik, none, or a name under hecate:forward_auth.")
    groups: tuple[Name, ...] = Field((), description="Members of any of these may pass; empty: whoever can log in.")
    session_duration: Duration = Field("8h", description="How long authentik's answer is good for.")
    flow: Slug | None = Field(None, description="Authentication flow of the sign-in; absent: authentik's default.")
    require_mfa: bool = Field(False, description="Not enforced yet: such routes answer 503 until it is.")
    allowed_methods: tuple[Literal["password", "webauthn", "totp"], ...] = Field(
        (), description="Not enforced yet: such routes answer 503 until it is."
    )

    @model_validator(mode="after")
    def _public_has_no_groups(self) -> AuthPolicy:
        if self.provider == "none" and self.groups:
            raise ValueError("provider none lets everyone pass; a policy with groups needs provider authentik")
        if self.provider not in ("authentik", "none") and (self.groups or self.require_mfa or self.allowed_methods):
            raise ValueError(
                "groups, require_mfa and allowed_methods are for provider authentik; others decide themselves"
            )
        return self

    @property
    def enforceable(self) -> bool:
        """Whether all of it can be had; what can't be is never published open."""
        return not self.require_mfa and not self.allowed_methods
