"""The composition root of rotations: a parsed pillar and a place in, courses that can be run out.

Beside `wiring`, the only room that names concrete rotors. A new kind is a model class, a rotor and one line in COURSES.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from hecate import certificates
from hecate.backends.caddy import CaddyBackend
from hecate.backends.caddy_passwords import placed
from hecate.clients import door, turn
from hecate.clients.authentik import AuthentikClient
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.errors import HecateError
from hecate.model import Estate
from hecate.model.caddy import Edge
from hecate.model.fields import seconds, split_port
from hecate.model.guards import slug_of
from hecate.model.rotation import (
    AuthentikToken,
    BasicAuthPassword,
    DatabasePassword,
    HetznerToken,
    OAuth2Client,
    Overlapping,
    Rotation,
    SharedSecret,
    Stocked,
)
from hecate.rotation import Rotor, Shelf, Status, Step, rotate, status
from hecate.rotors import authentik_token, basic_auth, database, hetzner_token, oauth2_client, shared
from hecate.rotors.shelf import VaultShelf, Veil
from hecate.secrets import Resolver
from hecate.wiring import Place, access, resolver, vault_client


class Course(Protocol):
    """One rotation as this place can carry it."""

    def run(self, *, begin: bool, immediate: bool, told: bool) -> Step: ...

    def status(self) -> Status: ...


@dataclass(frozen=True)
class Stocktaking:
    """The course of a secret on a shelf.

    make: called when something is to be done; a status needs no system. grace, every: seconds. tells: whether there is
    somebody to tell.
    """

    shelf: Shelf
    make: Callable[[], Rotor]
    grace: float
    every: float | None
    tells: bool
    clock: Callable[[], float] = time.time

    @cached_property
    def rotor(self) -> Rotor:
        return self.make()

    def run(self, *, begin: bool, immediate: bool, told: bool) -> Step:
        now = self.clock()
        return rotate(
            self.shelf, self.rotor, now, self.grace, begin=begin, immediate=immediate, tells=self.tells, told=told
        )

    def status(self) -> Status:
        return status(self.shelf.read(), self.clock(), self.every, self.grace)


@dataclass(frozen=True)
class Bench:
    """What a rotor may be made of."""

    estate: Estate
    place: Place
    secrets: Resolver
    veil: Veil
    name: str


def course(estate: Estate, place: Place, name: str) -> Course:
    """Raises HecateError for a name that isn't in pillar. Talks to nobody yet but the secret store."""
    found = named(estate, name)
    secrets = resolver(estate, place.keeper)
    bench = Bench(estate, place, secrets, Veil(secrets.mask), name)
    return COURSES[type(found)](bench, found)


def named(estate: Estate, name: str) -> Rotation:
    found = estate.rotation.get(name)
    if found is None:
        known = ", ".join(sorted(estate.rotation)) or "none"
        raise HecateError(f"there is no {name} under hecate:rotation; there are: {known}")
    return found


def minion_of(estate: Estate, name: str) -> str:
    """Id of the minion that reaches the system where this secret is known."""
    found, targets = named(estate, name), estate.targets
    if isinstance(found, AuthentikToken | OAuth2Client):
        return targets.authentik
    if isinstance(found, BasicAuthPassword):
        edges = targets.caddy or tuple(estate.edges)
        if not edges:
            raise HecateError(f"{name}: there is no edge; name one under hecate:edges")
        return edges[0]  # the others are told
    return targets.dns if isinstance(found, HetznerToken) else targets.controller


def stocked(rotor: Callable[[Bench, Any], Rotor]) -> Callable[[Bench, Any], Course]:
    """The course of a secret that is kept in Vault's KV engine."""

    def made(bench: Bench, found: Stocked) -> Course:
        settings = bench.estate.vault
        assert settings is not None, "checked by the model"
        vault = vault_client(settings, bench.place.keeper, bench.estate.literals)
        shelf = VaultShelf(vault, found.stored, bench.veil)
        grace = seconds(found.grace) if isinstance(found, Overlapping) else 0.0
        return Stocktaking(shelf, lambda: rotor(bench, found), grace, found.period, found.apply is not None)

    return made


def _authentik_token(bench: Bench, found: AuthentikToken) -> Rotor:
    settings = bench.estate.authentik
    assert settings is not None, "checked by the model"
    own, with_key = settings.token == found.secret, _authentik(bench)
    client = with_key(bench.secrets.value(settings.token))
    name = f"{bench.estate.environment}-{bench.name}"
    return authentik_token.AuthentikToken(client, with_key, own=own, name=name, account=found.account)


def _oauth2_client(bench: Bench, found: OAuth2Client) -> Rotor:
    settings = bench.estate.authentik
    assert settings is not None, "checked by the model"
    client = _authentik(bench)(bench.secrets.value(settings.token))
    return oauth2_client.OAuth2Client(client, slug_of(found.application))


def _authentik(bench: Bench) -> Callable[[str], AuthentikClient]:
    settings = bench.estate.authentik
    assert settings is not None, "checked by the model"
    url, timeout = settings.url, settings.timeout
    return lambda key: AuthentikClient(url, key, timeout, bench.veil.mask, bench.place.sleep)


def _hetzner_token(bench: Bench, found: HetznerToken) -> Rotor:
    estate, settings = bench.estate, bench.estate.hetzner_dns
    assert settings is not None, "checked by the model"
    zones = [
        name for name, zone in estate.dns.zones.items() if estate.dns.provider_of(name) == "hetzner" and not zone.create
    ]

    def client(token: str) -> HetznerDnsClient:
        return HetznerDnsClient(token, settings.endpoint, mask=bench.veil.mask, sleep=bench.place.sleep)

    return hetzner_token.HetznerToken(lambda: bench.secrets.value(found.next), client, zones)


def _basic_auth(bench: Bench, found: BasicAuthPassword) -> Rotor:
    estate, place = bench.estate, bench.place
    address = certificates.address(estate.edges.get(place.minion, Edge()))

    def check(password: str) -> bool:
        return door.opens(address, found.check, found.user, password, tls=estate.caddy.issuer != "none")

    return basic_auth.BasicAuthPassword(lambda password: _take(estate, place, found, password), check)


def _take(estate: Estate, place: Place, found: BasicAuthPassword, password: str) -> bool:
    """Hash it into the file that Caddy here reads, and let it; whether that was another one."""
    owner = estate.certificates.owner
    if not placed(Path(found.hash_file), lambda was: basic_auth.hashed(password, was), owner):
        return False
    backend = access("caddy", estate, place).backend
    assert isinstance(backend, CaddyBackend)
    backend.reload()
    return True


def passwords_taken(estate: Estate, place: Place, *, test: bool) -> list[str]:
    """Bring the hash files of this edge to what Vault holds; names of the rotations where that was news."""
    settings, changed = estate.vault, []
    for name, found in estate.rotation.items():
        if not isinstance(found, BasicAuthPassword) or settings is None:
            continue
        values, _ = vault_client(settings, place.keeper, estate.literals).values(found.stored.path)
        password = basic_auth.wanted(values, found.stored.key)
        if test:
            if not basic_auth.is_hash_of(password, Path(found.hash_file)):
                changed.append(name)
        elif _take(estate, place, found, password):
            changed.append(name)
    return changed


def _shared(_: Bench, found: SharedSecret) -> Rotor:
    host, port = split_port(found.turn)
    return shared.SharedSecret(lambda value: turn.accepts(host.strip("[]"), port, value, found.realm))


def _database(bench: Bench, found: DatabasePassword) -> Course:
    settings = bench.estate.vault
    assert settings is not None, "checked by the model"
    vault, (host, port) = vault_client(settings, bench.place.keeper, bench.estate.literals), split_port(found.server)
    account = database.Account(found.mount, found.role)
    login = database.postgres_login(host.strip("[]"), port, found.database)
    engine = database.Engine(vault.act, vault.look)
    return database.EngineCourse(engine, account, login, found.root_of or "", found.period, time.time)


COURSES: dict[type[Rotation], Callable[[Bench, Any], Course]] = {
    AuthentikToken: stocked(_authentik_token),
    OAuth2Client: stocked(_oauth2_client),
    HetznerToken: stocked(_hetzner_token),
    BasicAuthPassword: stocked(_basic_auth),
    SharedSecret: stocked(_shared),
    DatabasePassword: _database,
}
