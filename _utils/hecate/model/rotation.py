"""Secrets that get successors: which, how often, and how long the one before stays good."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from hecate.errors import Problem
from hecate.model.fields import (
    DURATION,
    Address,
    Duration,
    File,
    Host,
    Line,
    Listed,
    Name,
    SecretRef,
    Section,
    Slug,
    Url,
    seconds,
)
from hecate.model.references import references
from hecate.rotation import KEPT
from hecate.secrets import Stored

if TYPE_CHECKING:
    from hecate.model.estate import Estate


def _kept(reference: str) -> str:
    """A rotation writes: only Vault takes that, and a version can't be written to."""
    if not reference.startswith("vault:") or "@" in reference:
        raise ValueError("a secret that is rotated is a reference into Vault without a version: vault:path#key")
    return reference


Kept = Annotated[SecretRef, AfterValidator(_kept)]


def _grace(text: str) -> str:
    if not re.fullmatch(f"0s|{DURATION.pattern}", text):
        raise ValueError("not a duration; a whole number and one of s, m, h, d, like 1h, or 0s for none")
    return text


Grace = Annotated[str, AfterValidator(_grace)]


class Telling(Section):
    """Who has to be told that a secret has changed: a state that these minions run."""

    minions: Annotated[tuple[Name, ...], Listed] = Field(min_length=1, description="Minion ids.")
    state: Line = Field(min_length=1, description="SLS that they apply, such as coturn.config.")


class Rotation(Section):
    """What every kind of rotation has."""

    every: Duration | None = Field(None, description="When it is due again; absent: when somebody asks for it.")
    apply: Telling | None = Field(
        None, description="For consumers that keep a copy: told before the one before is retired."
    )

    @property
    def period(self) -> float | None:
        """Seconds."""
        return seconds(self.every) if self.every else None


class Stocked(Rotation):
    """A secret that Hecate makes, and keeps in Vault's KV engine."""

    secret: Kept = Field(description="What gets a successor: `vault:path#key`, KV version 2, without a version.")

    @property
    def stored(self) -> Stored:
        return Stored.of(self.secret)


class Overlapping(Stocked):
    """One of which two are good at once."""

    grace: Grace = Field("1h", description="How long the one before stays good; 0s: retired at once.")


class AuthentikToken(Overlapping):
    """An API token of authentik: a second one of the same account, then the first is deleted."""

    kind: Literal["authentik_token"] = Field(description="What the secret is.")
    account: Name = Field(description="Username that the token belongs to.")


class OAuth2Client(Stocked):
    """The client secret of an application in authentik, which takes one at a time."""

    kind: Literal["oauth2_client"] = Field(description="What the secret is.")
    application: Slug = Field(description="One of hecate:applications with oauth2.")


class HetznerToken(Overlapping):
    """The token of Hetzner DNS, which no call can make or delete: a person does."""

    kind: Literal["hetzner_token"] = Field(description="What the secret is.")
    next: SecretRef = Field(description="Where the operator puts the new one.")


class BasicAuthPassword(Stocked):
    """A password that Caddy asks for."""

    kind: Literal["basic_auth"] = Field(description="What the secret is.")
    user: Line = Field(min_length=1, description="Username that the password belongs to.")
    hash_file: File = Field(description="On the edges: where the middleware's account reads its hash from (`file:`).")
    check: Url = Field(description="A URL that wants this password: the edge asks itself for it, with and without.")


class SharedSecret(Overlapping):
    """A secret that others keep and Hecate stores, such as coturn's static-auth-secret."""

    kind: Literal["shared"] = Field(description="What the secret is.")
    turn: Address = Field(description="host:port of a TURN server (UDP) that takes it: tried by use.")
    realm: Host | None = Field(None, description="Of the TURN server; absent: what it says itself.")


class DatabasePassword(Rotation):
    """A password that Vault's database engine makes, sets and keeps itself."""

    kind: Literal["database"] = Field(description="What the secret is.")
    mount: Slug = Field("database", description="Where the database engine is mounted.")
    role: Name = Field(description="Static role whose password is changed.")
    root_of: Name | None = Field(
        None, description="Connection of that role whose own password is changed first; nobody but Vault knows it then."
    )
    server: Address = Field(description="host:port of PostgreSQL, where the new password is tried.")
    database: Name = Field("postgres", description="That it is tried at.")


AnyRotation = Annotated[
    AuthentikToken | OAuth2Client | HetznerToken | BasicAuthPassword | SharedSecret | DatabasePassword,
    Field(discriminator="kind"),
]


def rotation_problems(estate: Estate) -> Iterator[Problem]:
    """What single rotations cannot show."""
    stocked = {name: one for name, one in estate.rotation.items() if isinstance(one, Stocked)}
    yield from _places(stocked)
    yield from _vault(estate)
    used = [(path, ref) for path, ref in references(estate) if ref.startswith("vault:")]
    for name, one in stocked.items():
        path, where = f"hecate:rotation:{name}", one.secret
        for other, reference in used:
            if reference.startswith(f"{where}@"):
                why = f"{path} rotates it: a version of it will be refused; leave @... out"
                yield Problem(other, reference, why)
            elif reference in {f"{where}{key}" for key in KEPT}:
                yield Problem(other, reference, f"is where {path} keeps what it knows; put it elsewhere")
        if isinstance(one, AuthentikToken):
            yield from _token(estate, path, one)
        elif isinstance(one, OAuth2Client):
            yield from _client(estate, path, one)
        elif isinstance(one, HetznerToken):
            yield from _hetzner(estate, path, one)


def _places(stocked: Mapping[str, Stocked]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, one in stocked.items():
        same = seen.setdefault(one.secret, name)
        if same != name:
            yield Problem(f"hecate:rotation:{name}:secret", one.secret, f"{same} rotates it already")
    for name, one in stocked.items():
        for other, owner in seen.items():
            if one.secret in {f"{other}{key}" for key in KEPT}:
                yield Problem(
                    f"hecate:rotation:{name}:secret", one.secret, f"is where {owner} keeps what it knows; rename it"
                )


def _vault(estate: Estate) -> Iterator[Problem]:
    if not estate.rotation:
        return
    if estate.vault is None:
        yield Problem("hecate:rotation", "", "needs the section hecate:vault: successors are stored there")
    elif estate.vault.salt:
        yield Problem("hecate:vault:salt", "true", "reads alone; hecate:rotation writes: give it token or approle")
    elif estate.vault.kv == 1 and any(isinstance(one, Stocked) for one in estate.rotation.values()):
        yield Problem("hecate:vault:kv", "1", "can't tell whether somebody else wrote; hecate:rotation needs version 2")


def _token(estate: Estate, path: str, one: AuthentikToken) -> Iterator[Problem]:
    if estate.authentik is None:
        yield Problem(path, "", "needs the section hecate:authentik")
        return
    for account, said in estate.authentik.service_accounts.items():
        for name, reference in said.tokens.items():
            if reference == one.secret:
                where = f"hecate:authentik:service_accounts:{account}:tokens:{name}"
                why = f"is {where} too, whose key the next deploy would set; keep the account there without this token"
                yield Problem(f"{path}:secret", reference, why)


def _client(estate: Estate, path: str, one: OAuth2Client) -> Iterator[Problem]:
    application = estate.applications.get(one.application)
    if application is None or application.oauth2 is None:
        known = ", ".join(name for name, found in estate.applications.items() if found.oauth2) or "none"
        why = f"no such application with oauth2 under hecate:applications; there are: {known}"
        yield Problem(f"{path}:application", one.application, why)
    elif application.oauth2.client_secret != one.secret:
        there = f"hecate:applications:{one.application}:oauth2:client_secret"
        yield Problem(f"{path}:secret", one.secret, f"is not {there}, which the next deploy would set again")


def _hetzner(estate: Estate, path: str, one: HetznerToken) -> Iterator[Problem]:
    if estate.hetzner_dns is None:
        yield Problem(path, "", "needs the section hecate:hetzner_dns")
    elif estate.hetzner_dns.token != one.secret:
        yield Problem(f"{path}:secret", one.secret, "is not hecate:hetzner_dns:token")
    if one.next == one.secret:
        yield Problem(f"{path}:next", one.next, "is the secret itself; supply the new one somewhere else")
