"""Routes: which host (and path) goes to which upstreams, behind which policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hecate.errors import Problem
from hecate.model.certificates import Certificates, Pki
from hecate.model.fields import (
    File,
    HeaderName,
    HostPattern,
    Line,
    Listed,
    Name,
    Network,
    PathPattern,
    SecretRef,
    Section,
    Size,
    Slug,
)
from hecate.model.middleware import ErrorPages, Headers, Maintenance, Redirect, Rewrite
from hecate.model.records import Records
from hecate.model.upstreams import Pool
from hecate.model.verification import RouteVerify

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Service(Pool):
    """What is done with the requests of a route, or of one of its paths."""

    middleware: Annotated[tuple[Slug, ...], Listed] = Field(
        (), description="Names under hecate:middleware, or built-in ones."
    )
    headers: Headers = Field(
        Headers(), description="Under request and response; or short, name: value, each going where it belongs."
    )
    redirect: Redirect | None = Field(None, description="Instead of upstreams. A bare text is its `to`.")
    rewrite: Rewrite | None = Field(None, description="Of the path, before the upstream sees it.")
    error_pages: ErrorPages | None = Field(
        None, description="In place of Caddy's own, and of the upstream's if so told."
    )
    maintenance: Maintenance | bool = Field(False, description="true, or a mapping: 503 in place of the service.")
    max_body: Size | None = Field(None, description="Longer requests get 413.")

    @model_validator(mode="before")
    @classmethod
    def _short_service(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if isinstance(data.get("redirect"), str):
            data["redirect"] = {"to": data["redirect"]}
        return data

    @model_validator(mode="after")
    def _one_answer(self) -> Service:
        if self.redirect and (self.upstreams or self.discover):
            raise ValueError("either redirect or upstreams answer, and not both")
        return self

    @property
    def answers(self) -> bool:
        return bool(self.upstreams or self.discover or self.redirect)


class PathRule(Service):
    """Requests of a route that go another way. The key is `/exact` or `/prefix/*`, with `GET ` before it if need be."""

    when: dict[HeaderName, Line] = Field(
        {}, description="Headers that a request must have, too; a * at either end of a value stands for anything."
    )
    strip: bool = Field(False, description="Leave the prefix out before the upstream sees the path.")
    public: bool = Field(False, description="No login here, whatever the route's policy.")


class ClientAuth(Section):
    """Certificates that clients must show."""

    ca: File = Field(description="PEM file on the edge with the authorities that are accepted.")
    mode: Literal["require_and_verify", "verify_if_given"] = Field(
        "require_and_verify", description="verify_if_given lets clients without any certificate pass, too."
    )


class Tls(Section):
    """The certificate of a route, and what its TLS connections must fulfil."""

    issuer: Slug | None = Field(
        None, description="acme, internal, or a name under hecate:certificates:providers; absent: hecate:caddy:issuer."
    )
    certificate: File | None = Field(None, description="PEM file on the edge, with the chain; goes with `key`.")
    key: File | None = Field(None, description="PEM file on the edge with the certificate's private key.")
    vault: SecretRef | None = Field(
        None, description="vault:path#field of the certificate; goes with `vault_key`. Written to the edge by Hecate."
    )
    vault_key: SecretRef | None = Field(None, description="vault:path#field of the private key.")
    pki: Pki | None = Field(None, description="In place of both: signed by Vault's PKI engine.")
    on_demand: bool = Field(False, description="Issue at the first handshake; needs hecate:certificates:on_demand.")
    min_version: Literal["1.2", "1.3"] | None = Field(
        None, description="Least version of TLS; absent: hecate:caddy:min_tls."
    )
    client_auth: ClientAuth | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Tls:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together")
        if bool(self.vault) != bool(self.vault_key):
            raise ValueError("vault and vault_key go together")
        for reference in (self.vault, self.vault_key):
            if reference and not reference.startswith("vault:"):
                raise ValueError("vault and vault_key are vault:path#field; files go into certificate and key")
        sources = [bool(self.certificate), bool(self.vault), bool(self.pki), bool(self.issuer or self.on_demand)]
        if sum(sources) > 1:
            raise ValueError("a certificate comes from a file, from vault, from pki, or from an issuer; give one")
        return self

    def problems(
        self, path: str, hosts: Sequence[str], usual: str, certificates: Certificates, vault: bool, signer: bool
    ) -> Iterator[Problem]:
        """What only the rest of the pillar shows. hosts: the route's; usual: hecate:caddy:issuer; vault: configured.

        signer: configured so that it can be written to.
        """
        if usual == "none":
            if self.model_fields_set:
                why = "hecate:caddy:issuer is none, so that there is plain HTTP alone and none of this would hold"
                yield Problem(path, "", why)
            return
        known = ("acme", "internal", *certificates.providers)
        if self.issuer == "none":
            why = "plain HTTP is for all routes or for none of them: hecate:caddy:issuer"
            yield Problem(f"{path}:issuer", self.issuer, why)
        elif self.issuer and self.issuer not in known:
            yield Problem(f"{path}:issuer", self.issuer, f"no such issuer; there are: {', '.join(known)}")
        if self.on_demand and not certificates.on_demand:
            why = "needs hecate:certificates:on_demand:ask; without it strangers could have any name issued"
            yield Problem(f"{path}:on_demand", "true", why)
        if self.vault and not vault:
            yield Problem(f"{path}:vault", self.vault, "needs the section hecate:vault with url and token")
        if self.pki and not signer:
            why = "needs the section hecate:vault with a url, and a token or approle; Salt's vault module reads alone"
            yield Problem(f"{path}:pki", self.pki.role, why)
        asks_acme = not (self.certificate or self.vault or self.on_demand or (self.issuer or usual) == "internal")
        if asks_acme and not certificates.dns_challenge:
            for name in (host for host in hosts if host.startswith("*.")):
                why = (
                    "no public authority issues for a wildcard without the challenge dns; give "
                    "hecate:certificates:dns_challenge, or tls: certificate and key, vault, on_demand, issuer: internal"
                )
                yield Problem(path, name, why)


class AccessLog(Section):
    """Where the requests of a route are logged, as JSON. Cookies and Authorization are never in it."""

    file: File | None = Field(None, description="Absent: Caddy's default log.")
    level: Literal["DEBUG", "INFO", "WARN", "ERROR"] = Field("INFO", description="Least level that is written.")
    exclude_paths: Annotated[tuple[PathPattern, ...], Listed] = Field(
        (), description="Paths whose requests are not logged."
    )
    roll_size: Size = Field("100MB", description="A file is rolled when it is this big.")
    keep: int = Field(10, ge=1, le=1000, description="Rolled files that are kept.")


class Route(Service):
    """What answers for one host."""

    hosts: Annotated[tuple[HostPattern, ...], Listed] = Field((), description="Further hosts that are served alike.")
    paths: dict[str, PathRule | tuple[PathRule, ...]] = Field(
        {}, description="`/exact`, `/prefix/*` or `POST /path`: the most specific wins, whatever the order."
    )
    auth_policy: str | None = Field(None, description="Name under hecate:auth_policies; absent: public.")
    require_mfa: bool = Field(False, description="On top of the policy's own require_mfa.")
    public_paths: Annotated[tuple[PathPattern, ...], Listed] = Field(
        (), description="Paths of a protected route that need no login."
    )
    without: Annotated[tuple[Slug, ...], Listed] = Field(
        (), description="Default middleware that this route does without."
    )
    allowed_ips: Annotated[tuple[Network, ...], Listed] = Field((), description="Only these clients get an answer.")
    denied_ips: Annotated[tuple[Network, ...], Listed] = Field((), description="Never these.")
    tls: Tls = Tls()
    access_log: AccessLog | bool | None = Field(
        None, description="true, false, or a mapping; absent: hecate:caddy:access_log."
    )
    dns: Records | Literal["edges"] | bool | None = Field(
        None,
        description="Records for each host of the route; `edges`: the addresses of hecate:edges; false: none; absent: "
        "hecate:dns:routes.",
    )
    verify: RouteVerify = RouteVerify()
    tags: Annotated[tuple[Name, ...], Listed] = Field((), description="Words to choose it by: hecate.plan tags=...")
    tenant: Name | None = Field(None, description="Whose it is, to choose it by: hecate.plan tenants=...")

    @model_validator(mode="after")
    def _answers_somehow(self) -> Route:
        if not self.answers and not self.maintenance and not any(rule.answers for rule in self.rules()):
            raise ValueError("leads nowhere; give upstreams, discover, redirect, paths, or maintenance")
        return self

    def rules(self) -> list[PathRule]:
        return [rule for value in self.paths.values() for rule in (value if isinstance(value, tuple) else (value,))]


def split_pattern(key: str) -> tuple[str, str]:
    """ "POST /v2/*" -> ("POST", "/v2/*"); without a method ("", "/v2/*")."""
    method, found, path = key.rpartition(" ")
    return (method, path) if found else ("", key)
