"""Certificates: who issues them, how possession is proven, where Caddy keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from hecate.errors import Problem
from hecate.model.fields import Duration, File, Line, SecretRef, Section, Slug, Timeout, Url

ISSUERS = ("acme", "internal", "none")


class Provider(Section):
    """An ACME directory (RFC 8555)."""

    directory: Url = Field("https://acme-v02.api.letsencrypt.org/directory", description="URL of the directory.")
    email: Line | None = Field(None, pattern=r"^[^@\s]+@[^@\s]+$", description="Where the authority writes to.")
    ca: File | None = Field(None, description="PEM file on the edge with the root of the directory's own certificate.")
    challenges: tuple[Literal["http", "tls-alpn", "dns"], ...] = Field(
        ("http", "tls-alpn"), min_length=1, description="Ways to prove possession of a name that may be used."
    )


class DnsChallenge(Section):
    """Proof by a TXT record; needs a Caddy with the module dns.providers.<provider>."""

    provider: Slug = Field(description="Name of Caddy's module, such as hetzner.")
    token: SecretRef | None = Field(
        None, description="env:NAME or file:/path, read by Caddy itself: it never passes through Hecate."
    )
    token_field: Slug = Field("api_token", description="What the module calls its token (auth_token, api_key ...).")
    propagation_timeout: Timeout | None = Field(None, description="How long to wait until the record is seen.")

    @model_validator(mode="after")
    def _caddy_reads_it(self) -> DnsChallenge:
        if self.token and not self.token.startswith(("env:", "file:")):
            raise ValueError("Caddy reads this token itself: env:NAME (of Caddy's process) or file:/path")
        return self


class OnDemand(Section):
    """Certificates at the first handshake, for names that `ask` answers 200 for (?domain=name is appended)."""

    ask: Url = Field(description="URL that is asked with each new name.")


class Storage(Section):
    """Where Caddy keeps certificates; anything but file_system needs a module caddy.storage.<type>."""

    type: Slug = Field("file_system", description="Name of Caddy's module.")
    path: Line | None = Field(None, description="Folder, or the path within the store.")


class Pki(Section):
    """A certificate that Vault's PKI engine signs; its key is made on the edge and never leaves it."""

    mount: Line = Field("pki", pattern=r"^[\w-]+(/[\w-]+)*$", description="Where the PKI engine is mounted.")
    role: Line = Field(
        pattern=r"^[\w.-]+$", description="Its role; the token needs `update` on <mount>/sign/<role>, and nothing else."
    )
    ttl: Duration | None = Field(None, description="Asked for; absent: the role's own. Renewed after two thirds of it.")
    key: Literal["ec256", "ec384", "rsa2048", "rsa4096"] = Field(
        "ec256", description="Kind of key; the role must allow it (Vault's roles take rsa alone unless told otherwise)."
    )


class Certificates(Section):
    """Issuers beside Caddy's own, and what they need."""

    providers: dict[Slug, Provider] = Field({}, description="ACME directories by the name that `issuer` uses.")
    default: Slug | None = Field(
        None, description="Provider of routes that name none, where hecate:caddy:issuer is acme; absent: the first."
    )
    dns_challenge: DnsChallenge | None = Field(
        None, description="Used by providers that list the challenge dns, and for wildcards."
    )
    on_demand: OnDemand | None = None
    storage: Storage | None = None
    folder: File | None = Field(
        None,
        description="Where certificates from Vault and their keys are written (0700, files 0600), on the edge; absent: "
        "<minion's cache>/hecate/certificates.",
    )
    owner: Slug | None = Field(
        None, description="User whom these files belong to, so that Caddy may read them; absent: the minion's own."
    )
    warn_days: int = Field(21, ge=1, description="`hecate_caddy.certificates` marks what expires sooner.")

    @model_validator(mode="after")
    def _names_are_free(self) -> Certificates:
        if taken := [name for name in ISSUERS if name in self.providers]:
            raise ValueError(f"{', '.join(taken)} can't name a provider: as an issuer it means something else")
        return self

    @model_validator(mode="after")
    def _default_exists(self) -> Certificates:
        if self.default and self.default not in self.providers:
            raise ValueError(
                f"default {self.default} is not among the providers ({', '.join(self.providers) or 'none'})"
            )
        return self

    def provider_of(self, issuer: str) -> Provider | None:
        """The ACME provider of that name; for "acme" the default one, if any is named."""
        if issuer == "acme":
            name = self.default or next(iter(self.providers), None)
            return self.providers[name] if name else None
        return self.providers.get(issuer)

    def problems(self) -> Iterator[Problem]:
        """Providers that could prove nothing."""
        for name, provider in self.providers.items():
            if "dns" in provider.challenges and not self.dns_challenge:
                why = "the challenge dns needs hecate:certificates:dns_challenge with a provider and its token"
                yield Problem(f"hecate:certificates:providers:{name}:challenges", "dns", why)
