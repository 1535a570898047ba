"""Who may reach what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hecate.model.fields import (
    Address,
    AttributeName,
    CookieName,
    Duration,
    HeaderName,
    Host,
    Line,
    Listed,
    Name,
    PathPattern,
    Section,
    Slug,
    Timeout,
)
from hecate.model.middleware import Target


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


class Domain(Section):
    """One login for every host below a domain: authentik's forward auth "domain level"."""

    name: Host = Field(description="Every host of the policy is this or below it; the session's cookie is set here.")
    host: Host = Field(description="Where the login comes back to: a route of this policy, in the domain.")

    @model_validator(mode="after")
    def _inside(self) -> Domain:
        if not self.covers(self.host):
            raise ValueError(f"{self.host} is not in {self.name}; the session's cookie would never reach it")
        return self

    def covers(self, host: str) -> bool:
        """Whether a host, or everything that a wildcard stands for, is in the domain."""
        bare = host.removeprefix("*.")
        return bare == self.name or bare.endswith(f".{self.name}")


Attribute = Line | bool | int | Annotated[tuple[Line, ...], Field(min_length=1)]
PASSWORD = "password"  # what authentik's login flow asks for first; no application can do without
SECOND_FACTORS = ("static", "totp", "webauthn")  # authentik's device classes; static: recovery codes


class AuthPolicy(Section):
    """A named answer to: who may pass?"""

    provider: Slug = Field("authentik", description="authentik, none, or a name under hecate:forward_auth.")
    groups: tuple[Name, ...] = Field((), description="Members of any of these may pass; empty: whoever can log in.")
    attributes: dict[AttributeName, Attribute] = Field(
        {},
        description="What the user's attributes in authentik must be, all of them: a value, a list of values of which "
        "one is had, or `required`: anything that is not empty. On top of the groups.",
    )
    session_duration: Duration = Field("8h", description="How long authentik's answer is good for.")
    flow: Slug | None = Field(None, description="Authentication flow of the sign-in; absent: authentik's default.")
    require_mfa: bool = Field(
        False, description="A second factor within session_duration, from whoever is logged in already too."
    )
    allowed_methods: tuple[Literal["password", "webauthn", "totp"], ...] = Field(
        (),
        description="With require_mfa, which second factors count (absent: webauthn, totp and recovery codes). The "
        "password belongs to the login flow, which all applications share: it is always among them.",
    )
    domain: Domain | None = Field(None, description="One application for all hosts of a domain; absent: one each.")
    outpost: Slug | None = Field(None, description="One of hecate:authentik:outposts; absent: the usual one.")

    @model_validator(mode="after")
    def _for_its_provider(self) -> AuthPolicy:
        theirs = ("groups", "attributes", "require_mfa", "allowed_methods", "domain", "outpost", "flow")
        given = [name for name in theirs if getattr(self, name)]
        if self.provider == "none" and given:
            raise ValueError(
                f"provider none lets everyone pass; a policy with {', '.join(given)} needs provider authentik"
            )
        if self.provider != "authentik" and given:
            raise ValueError(f"{', '.join(given)}: for provider authentik alone; others decide themselves")
        return self

    @model_validator(mode="after")
    def _methods_that_can_be_had(self) -> AuthPolicy:
        if self.allowed_methods and PASSWORD not in self.allowed_methods:
            raise ValueError(
                "allowed_methods without password: authentik asks for it in the login flow, for all applications at "
                "once; name it here too, or let the login flow do without (docs/identity.md)"
            )
        if self.require_mfa and self.allowed_methods and not self.second_factors:
            raise ValueError("require_mfa with allowed_methods that name no second factor; add webauthn or totp")
        return self

    @property
    def second_factors(self) -> tuple[str, ...]:
        """Authentik's device classes that count; without allowed_methods those that its own set-up offers."""
        if not self.allowed_methods:
            return SECOND_FACTORS
        return tuple(sorted({*self.allowed_methods} - {PASSWORD}))

    @property
    def is_restricted(self) -> bool:
        """Whether not everybody who can log in may pass."""
        return bool(self.groups or self.attributes)
