"""What the platform stands on: Terraform, Nomad, Vault, Consul, and which minion does what."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from hecate.model.fields import File, HeaderValue, Line, Name, SecretRef, Section, Slug, Url

SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|private_?key|api_?key)$")
Value = TypeVar("Value")
JobValue = str | int | float | bool | list[Any] | dict[str, Any]


def _not_named_like_secrets(values: dict[str, Value], advice: str) -> dict[str, Value]:
    """Pillar, journal and history keep these values as they are, so a secret must not be among them."""
    for name in values:
        if SECRET_NAME.search(name):
            raise ValueError(f"{name} looks like a secret, and none belongs in pillar; {advice}")
    return values


class Terraform(Section):
    """One Terraform configuration, applied by the controller."""

    source: File = Field(description="Folder with the *.tf files, on the controller.")
    workdir: File = Field("/var/lib/hecate/terraform", description="Where state and applied sources are kept.")
    variables: dict[str, JobValue] = Field(
        {}, description="Values of the input variables. They are kept in Terraform's state: no secrets."
    )
    outputs: dict[str, Any] = Field({}, description="Filled in by Hecate's ext_pillar; not written by hand.")

    @field_validator("variables")
    @classmethod
    def _no_secrets(cls, variables: dict[str, JobValue]) -> dict[str, JobValue]:
        return _not_named_like_secrets(variables, "let Terraform's vault provider read it")


class Nomad(Section):
    """Access to Nomad's HTTP API (https://developer.hashicorp.com/nomad/api-docs)."""

    url: Url = Field("http://127.0.0.1:4646", description="As the controller reaches it.")
    token: SecretRef | None = Field(None, description="Capabilities list-jobs, read-job, submit-job.")
    deadline: int = Field(300, ge=1, le=3600, description="Seconds until a deployment must be healthy.")
    min_healthy: float = Field(10, gt=0, le=600, description="Seconds a task must live to count as healthy.")


class Workload(Section):
    """A Nomad service job with one group and one task."""

    driver: Slug = Field("docker", description="Nomad's task driver.")
    config: dict[str, JobValue] = Field(
        description="The driver's own configuration, such as image or command and args."
    )
    count: int = Field(1, ge=0, le=1000, description="How many of it.")
    env: dict[str, HeaderValue] = Field(
        {}, description="Environment of the task. Names that look like a secret's are refused."
    )
    cpu: int = Field(100, ge=1, description="MHz.")
    memory: int = Field(128, ge=10, description="MB.")
    datacenters: tuple[Name, ...] = Field(("dc1",), description="Where Nomad may place it.")
    tags: tuple[Name, ...] = Field((), description="Words to choose it by, as a route's.")
    tenant: Name | None = Field(None, description="Whose it is, to choose it by.")

    @field_validator("env")
    @classmethod
    def _no_secrets(cls, env: dict[str, str]) -> dict[str, str]:
        return _not_named_like_secrets(env, "let Nomad's template stanza read it from Vault")


class AppRole(Section):
    """Logging in to Vault as a machine."""

    role_id: SecretRef = Field(description="`env:`, `file:` or `sdb:`.")
    secret_id: SecretRef = Field(description="`env:`, `file:` or `sdb:`.")
    mount: Slug = Field("approle", description="Where the auth method is mounted.")


class Vault(Section):
    """Where vault: references are read: Vault or OpenBao."""

    url: Url | None = Field(None, description="Of Vault or OpenBao, as each target reaches it.")
    token: SecretRef | None = Field(
        None, description="`env:`, `file:` or `sdb:`; it cannot come from the Vault that it opens."
    )
    approle: AppRole | None = Field(None, description="In place of a token.")
    salt: bool = Field(
        False, description="In place of both: credentials that the Salt master issues to its minions (Salt's vault)."
    )
    mount: Slug = Field("secret", description="Where the KV engine is mounted.")
    kv: Literal[1, 2] = Field(2, description="Version of the KV engine.")
    namespace: Line = Field("", description="Of Vault Enterprise or OpenBao.")
    ca: File | None = Field(None, description="PEM file with the roots to trust; absent: the machine's own.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Vault:
        ways = [name for name in ("token", "approle", "salt") if getattr(self, name)]
        if len(ways) != 1:
            given = " and ".join(ways) or "none"
            raise ValueError(f"give one of token, approle and salt: true; there is {given}")
        if not self.salt and not self.url:
            raise ValueError("needs the url, unless Salt issues the credentials")
        inner = [self.token] if self.token else [self.approle.role_id, self.approle.secret_id] if self.approle else []
        if any(reference.startswith("vault:") for reference in inner):
            raise ValueError("a key to Vault cannot come from the Vault that it opens; env:, file: or sdb:")
        return self


class Consul(Section):
    """Consul as the store that several masters share."""

    url: Url = Field(description="Of an agent, as the master reaches it.")
    token: SecretRef | None = Field(None, description="Needs write below prefix and environment.")
    prefix: Slug = Field("hecate", description="Everything is kept below it.")


class Store(Section):
    """Where lock, deployments and history live; without consul, on the master itself."""

    consul: Consul | None = None


class Targets(Section):
    """Minion ids: which one reaches which system. The edges are done in this order."""

    controller: Name = Field(
        "hecate-controller", description="Runs Terraform and talks to Nomad. The runner plans with its pillar."
    )
    authentik: Name = Field("hecate-authentik", description="Proxy minion of authentik.")
    dns: Name = Field("hecate-dns", description="Proxy minion of Hetzner DNS.")
    caddy: tuple[Name, ...] = Field((), description="The edges; empty: all keys of `edges`.")


class Safety(Section):
    """How much one plan may take away without a word of consent."""

    updates: int = Field(100, ge=0, description="More updates than this in one plan want `allow=updates`.")
    deletes: int = Field(5, ge=0, description="More deletions than this in one plan want `allow=deletes`.")
    percent: int = Field(
        30,
        ge=0,
        le=100,
        description="So does a larger share of what Hecate owns there, once it owns more than `deletes` objects; in a "
        "DNS zone from the second deletion on.",
    )
