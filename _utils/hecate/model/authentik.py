"""What the pillar says of authentik itself, and of the applications that log in there by themselves."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hecate.events import ACTIONS
from hecate.model.fields import (
    Address,
    AttributeName,
    Host,
    Line,
    Listed,
    Name,
    SecretRef,
    Section,
    Slug,
    Url,
)


class Outpost(Section):
    """An outpost beside the usual one."""

    address: Address = Field(description="host:port that the edges ask.")
    name: Name = Field("", description="What authentik calls it; absent: the name here. Made if it isn't there.")


class Brand(Section):
    """How authentik shows itself under one of its domains, and how people log in there."""

    title: Line = Field("authentik", min_length=1, description="Of its pages.")
    flow: Slug | None = Field(None, description="Authentication flow; absent: authentik's default.")
    invalidation_flow: Slug | None = Field(None, description="Absent: authentik's default.")


class Group(Section):
    """A group whose members the pillar says."""

    members: tuple[Name, ...] | None = Field(
        None, description="Usernames, exactly these; absent: members are nobody's business here."
    )
    attributes: dict[AttributeName, Line | bool | int] | None = Field(
        None, description="Exactly these, beside Hecate's own mark; absent: left as they are."
    )


class ServiceAccount(Section):
    """A user for machines. It belongs to the groups that name it as a member."""

    name: Line = Field("", description="Shown in authentik; absent: the username.")
    tokens: dict[Slug, SecretRef] = Field(
        {},
        description="API tokens by name, each the reference to its key. A key that shall have successors stands "
        "under `hecate:rotation` instead (kind `authentik_token`), not here.",
    )


class Events(Section):
    """authentik tells of these, signed, and the engine hecate_events fires them as Salt events."""

    url: Url = Field(description="Where authentik posts to: a route whose upstream is the engine.")
    secret: SecretRef = Field(description="Signs every delivery; the engine has the same reference.")
    actions: Annotated[tuple[Literal[tuple(ACTIONS)], ...], Listed] = Field(  # type: ignore[valid-type]
        ("user-created", "group-changed", "login-failed"), description="What is told."
    )
    group: Name = Field("authentik Admins", description="Somebody has to be in it, or authentik tells nobody.")


class Authentik(Section):
    """Access to authentik's API, and where Caddy reaches its outpost."""

    url: Url = Field(description="Base of the API, https://auth.example.com.")
    token: SecretRef = Field(description="Of an account with the role that `salt-run hecate.rights` prints.")
    outpost: Address = Field("127.0.0.1:9000", description="host:port that the edges ask for forward auth.")
    outpost_name: Name = Field("", description="An outpost of one's own; empty: the embedded one.")
    outposts: dict[Slug, Outpost] = Field({}, description="Further ones, by the name that policies use.")
    authorization_flow: Slug = Field(
        "default-provider-authorization-implicit-consent",
        description="Slug of the flow that every provider gets, unless its policy wants a second factor.",
    )
    invalidation_flow: Slug = Field(
        "default-provider-invalidation-flow", description="Slug of the flow that signs out."
    )
    timeout: int = Field(60, ge=1, le=600, description="Seconds a call; saving large outposts takes long.")
    groups: dict[Name, Group] = Field({}, description="Groups whose members stand here, by name.")
    service_accounts: dict[Slug, ServiceAccount] = Field({}, description="By username.")
    brands: dict[Host, Brand] = Field({}, description="By authentik's own domain.")
    events: Events | None = None


class RedirectUri(Section):
    """Where an application may be sent back to after the login."""

    url: Line = Field(min_length=1, description="A URL, or with matching regex an expression for one.")
    matching: Literal["strict", "regex"] = Field("strict", description="strict: this URL and no other.")

    @model_validator(mode="after")
    def _narrow(self) -> RedirectUri:
        if self.matching == "strict" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://?[^\s*#]+", self.url):
            raise ValueError("not a URL; one with a star is an expression: {url: ..., matching: regex}")
        if self.matching == "regex":
            if re.match(r"\^?(https?\??://)?\.[*+]", self.url):
                raise ValueError("matches any host: whoever has one gets the codes; write the host out")
            try:
                re.compile(self.url)
            except re.error as err:
                raise ValueError(f"not a regular expression: {err}") from err
        return self


class OAuth2(Section):
    """OAuth2 and OpenID Connect."""

    client_id: Slug | None = Field(None, description="Absent: the application's name here.")
    client_secret: SecretRef | None = Field(None, description="Absent: a public client, which has none (PKCE).")
    redirect_uris: Annotated[tuple[Line | RedirectUri, ...], Listed] = Field(
        min_length=1, description="URLs, each exactly; or {url, matching: regex}."
    )
    scopes: Annotated[tuple[Name, ...], Listed] = Field(
        ("openid", "email", "profile"), description="Scope mappings that it may ask for."
    )
    signing_key: Line = Field(
        "authentik Self-signed Certificate",
        description="Certificate whose key signs the tokens; empty: the client's secret does.",
    )

    @model_validator(mode="after")
    def _whole(self) -> OAuth2:
        for uri in self.uris:
            RedirectUri.model_validate(uri.model_dump())
        if not self.client_secret and not self.signing_key:
            raise ValueError("a public client has no secret to sign its tokens with; give it a signing_key")
        return self

    @property
    def uris(self) -> tuple[RedirectUri, ...]:
        return tuple(RedirectUri(url=u, matching="strict") if isinstance(u, str) else u for u in self.redirect_uris)


class Saml(Section):
    """SAML 2.0, with authentik as the identity provider."""

    acs_url: Url = Field(description="The service's assertion consumer service.")
    audience: Line = Field("", description="The service's entity id; empty: no restriction to one.")
    issuer: Line = Field("", description="authentik's entity id; empty: as the server makes it.")
    binding: Literal["redirect", "post"] = Field("post", description="How the answer gets to the service.")
    signing_key: Line = Field(
        "authentik Self-signed Certificate", min_length=1, description="Certificate whose key signs the assertions."
    )


class Application(Section):
    """An application that logs its users in at authentik by itself: no route, no outpost."""

    auth_policy: Slug = Field(description="Who may log in; of provider authentik.")
    name: Line = Field("", description="Shown to its users; absent: the name here.")
    launch_url: Url | None = Field(None, description="Where its tile leads to.")
    description: Line = Field("", description="Shown beneath its name.")
    group: Line = Field("", description="Heading among the tiles.")
    oauth2: OAuth2 | None = None
    saml: Saml | None = None
    tags: Annotated[tuple[Name, ...], Listed] = Field((), description="Words to choose it by, as a route's.")
    tenant: Name | None = Field(None, description="Whose it is, to choose it by.")

    @model_validator(mode="after")
    def _one_protocol(self) -> Application:
        if (self.oauth2 is None) == (self.saml is None):
            raise ValueError("give it oauth2 or saml, one of the two; what has neither is a route with an auth_policy")
        return self
