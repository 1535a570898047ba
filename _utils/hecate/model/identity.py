"""Who may reach what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from hecate.model.fields import Address, Duration, Name, SecretRef, Section, Slug, Url


class Authentik(Section):
    """Access to authentik's API, and where Caddy reaches its outpost."""

    url: Url = Field(description="Base of the API, https://auth.example.com.")
    token: SecretRef
    outpost: Address = Field("127.0.0.1:9000", description="host:port that the edges ask for forward auth.")
    outpost_name: Name = Field("", description="An outpost of one's own; empty: the embedded one.")
    authorization_flow: Slug = "default-provider-authorization-implicit-consent"
    invalidation_flow: Slug = "default-provider-invalidation-flow"
    timeout: int = Field(60, ge=1, le=600, description="Seconds a call; saving large outposts takes long.")


class AuthPolicy(Section):
    """A named answer to: who may pass?"""

    provider: Literal["authentik", "none"] = "authentik"
    groups: tuple[Name, ...] = Field((), description="Members of any of these may pass; empty: whoever can log in.")
    session_duration: Duration = "8h"
    require_mfa: Literal[False] = False

    @model_validator(mode="after")
    def _public_has_no_groups(self) -> AuthPolicy:
        if self.provider == "none" and self.groups:
            raise ValueError("provider none lets everyone pass; a policy with groups needs provider authentik")
        return self
