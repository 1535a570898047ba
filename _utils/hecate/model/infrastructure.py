"""What the platform stands on: Terraform, Nomad, Vault, Consul, and which minion does what."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, field_validator

from hecate.model.fields import AdminUrl, HeaderValue, Name, Port, SecretRef, Section, Slug, Url

SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|private_?key|api_?key)$")
Value = TypeVar("Value")
JobValue = str | int | float | bool | list[Any] | dict[str, Any]


def _absolute(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/"):
        raise ValueError("not an absolute path (and no .. in it)")
    return text


def _bare_address(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]_-]+", text):
        raise ValueError("not an address or host name")
    return text


def _not_named_like_secrets(values: dict[str, Value], advice: str) -> dict[str, Value]:
    """Pillar, journal and history keep these values as they are, so a secret must not be among them."""
    for name in values:
        if SECRET_NAME.search(name):
            raise ValueError(f"{name} looks like a secret, and none belongs in pillar; {advice}")
    return values


Path = Annotated[str, AfterValidator(_absolute)]


class Caddy(Section):
    """The Caddy on each edge. Hecate owns one server in it, and nothing else."""

    admin: AdminUrl = "http://127.0.0.1:2019"
    server: Slug = Field("hecate", description="Name of the server that Hecate owns.")
    issuer: str = Field("acme", pattern="^(acme|internal)$", description="acme: a public CA; internal: Caddy's own CA.")


class Edge(Section):
    """One edge as seen from outside; the key is its minion id."""

    address: Annotated[str, AfterValidator(_bare_address)] = "127.0.0.1"
    bind: Annotated[str, AfterValidator(_bare_address)] | None = Field(
        None, description="The address that Caddy listens on; absent: all of the machine's."
    )
    http: Port = 80
    https: Port = 443


class Terraform(Section):
    """One Terraform configuration, applied by the controller."""

    source: Path = Field(description="Folder with the *.tf files, on the controller.")
    workdir: Path = Field("/var/lib/hecate/terraform", description="Where state and applied sources are kept.")
    variables: dict[str, JobValue] = {}
    outputs: dict[str, Any] = Field({}, description="Filled in by Hecate's ext_pillar; not written by hand.")

    @field_validator("variables")
    @classmethod
    def _no_secrets(cls, variables: dict[str, JobValue]) -> dict[str, JobValue]:
        return _not_named_like_secrets(variables, "let Terraform's vault provider read it")


class Nomad(Section):
    """Access to Nomad's HTTP API (https://developer.hashicorp.com/nomad/api-docs)."""

    url: Url = "http://127.0.0.1:4646"
    token: SecretRef | None = None
    deadline: int = Field(300, ge=1, le=3600, description="Seconds until a deployment must be healthy.")
    min_healthy: float = Field(10, gt=0, le=600, description="Seconds a task must live to count as healthy.")


class Workload(Section):
    """A Nomad service job with one group and one task."""

    driver: Slug = "docker"
    config: dict[str, JobValue] = Field(
        description="The driver's own configuration, such as image or command and args."
    )
    count: int = Field(1, ge=0, le=1000)
    env: dict[str, HeaderValue] = {}
    cpu: int = Field(100, ge=1, description="MHz.")
    memory: int = Field(128, ge=10, description="MB.")
    datacenters: tuple[Name, ...] = ("dc1",)

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, env: dict[str, str]) -> dict[str, str]:
        return _not_named_like_secrets(env, "let Nomad's template stanza read it from Vault")


class Vault(Section):
    """Where vault: references are read (Vault or OpenBao, KV version 2)."""

    url: Url
    token: SecretRef
    mount: Slug = "secret"


class Consul(Section):
    """Consul as the store that several masters share."""

    url: Url
    token: SecretRef | None = None
    prefix: Slug = "hecate"


class Store(Section):
    """Where lock, deployments and history live; without consul, on the master itself."""

    consul: Consul | None = None


class Targets(Section):
    """Minion ids: which one reaches which system. The edges are done in this order."""

    controller: Name = "hecate-controller"
    authentik: Name = "hecate-authentik"
    dns: Name = "hecate-dns"
    caddy: tuple[Name, ...] = ()


class Verify(Section):
    """How the result is checked from outside."""

    nameserver: str = Field("", description="host:port to ask; empty: the machine's own resolver.")
    timeout: int = Field(10, ge=1, le=120, description="Seconds a probe.")
    attempts: int = Field(5, ge=1, le=100, description="A probe that fails is tried again, a second apart.")


class Safety(Section):
    """How much one plan may take away without a word of consent."""

    updates: int = Field(100, ge=0)
    deletes: int = Field(5, ge=0)
    percent: int = Field(30, ge=0, le=100)
