"""The composition root: a parsed pillar and a place in, ready engines out.

The only room that names concrete clients, backends and stores. A new system is a client file, a
backend file, a compile file and one line in SYSTEMS.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hecate import certificates as inventory
from hecate import events, model, zonefile
from hecate.access import Access
from hecate.backends import Backend
from hecate.backends.authentik import AuthentikBackend
from hecate.backends.authentik_access import Directory
from hecate.backends.authentik_sealed import Sealed
from hecate.backends.authentik_seen import Owner
from hecate.backends.caddy import CaddyBackend, saved_resource
from hecate.backends.caddy_certificates import CertificateFiles
from hecate.backends.dns import DnsBackend, Rules, ZoneSeen
from hecate.backends.hetzner_dns import HetznerDns
from hecate.backends.nomad import NomadBackend
from hecate.backends.rfc2136 import Rfc2136, Rfc2136Backend, the_one_with
from hecate.backends.terraform import TerraformBackend, source_digest
from hecate.clients import nameserver
from hecate.clients.authentik import AuthentikClient
from hecate.clients.caddy import CaddyClient
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.clients.nomad import NomadClient
from hecate.clients.rfc2136 import Rfc2136Client
from hecate.clients.terraform import TerraformClient
from hecate.clients.vault import Place as VaultPlace
from hecate.clients.vault import VaultClient, by_approle, by_token, through_salt
from hecate.collector import paused
from hecate.compile import authentik as identity
from hecate.compile import caddy as proxy
from hecate.compile.authentik_words import policies as policies_in_words
from hecate.compile.caddy_modules import modules_of
from hecate.compile.dns import compile_dns
from hecate.compile.nomad import compile_nomad
from hecate.compile.terraform import compile_terraform
from hecate.engine import Engine, Wish
from hecate.errors import HecateError, InvalidPillar, NotFound, Problem, SecretUnavailable
from hecate.journal import Journal
from hecate.model import Estate
from hecate.model.caddy import Edge
from hecate.model.dns import Rfc2136 as Rfc2136Section
from hecate.model.fields import seconds
from hecate.model.guards import slug_of
from hecate.model.infrastructure import Vault
from hecate.narrowing import narrowed
from hecate.plan import Limits, Plan
from hecate.resource import Resource, Snapshot
from hecate.secrets import Resolver, SdbRead
from hecate.store import Store
from hecate.store.audit import Audit
from hecate.store.breaker import Breaker
from hecate.store.consul import ConsulStore
from hecate.store.deployments import Deployments
from hecate.store.local import LocalStore
from hecate.store.plans import Plans
from hecate.store.witness import SHORTEST, Witness, own_key
from hecate.zones import Serials, World, Zonefiles, ZoneKeeper, moved, pillar_of
from hecate.zones import restoring as restored


@dataclass(frozen=True)
class Keeper:
    """What Salt itself keeps of secrets. sdb: sdb://... -> value. salt_vault: (mount/path, key) -> value, with the
    credentials that the master issues.
    """

    sdb: SdbRead | None = None
    salt_vault: Callable[[str, str], object] | None = None


@dataclass(frozen=True)
class Place:
    """Where this runs.

    minion: id of the minion or proxy. cache: its cache directory. guards: asks which hosts'
    protection authentik has confirmed; only called when a route is protected. allow: overrides for
    the plan. sleep: how clients wait between two tries.
    """

    minion: str
    cache: Path
    guards: Callable[[], Collection[str]] = tuple
    allow: Collection[str] = ()
    sleep: Callable[[float], None] = time.sleep
    keeper: Keeper = Keeper()


@dataclass(frozen=True)
class Target:
    """One system as this place can reach it: an engine, and what the pillar wants of it."""

    system: str
    estate: Estate
    backend: Backend
    engine: Engine
    wish: Wish

    @property
    def desired(self) -> tuple[Resource, ...]:
        return self.wish.resources


def target(system: str, estate: Estate, place: Place) -> Target:
    """Everything needed to manage `system` from `place`.

    Talks to nobody but the secret store, and to Caddy where a route needs a module that not every Caddy has.
    """
    found = access(system, estate, place)
    with paused():
        return replace(found, wish=Wish(tuple(SYSTEMS[system].wanted(estate, place, found.backend))))


def access(system: str, estate: Estate, place: Place) -> Target:
    """Like `target`, but wanting nothing: enough to undo, to commit, and to look."""
    secrets = resolver(estate, place.keeper)
    backend = SYSTEMS[system].backend(estate, place, secrets)
    safety = estate.safety
    limits = Limits(safety.updates, safety.deletes, safety.percent, frozenset(place.allow), _zone_limits(estate))
    interval = seconds(estate.caddy.write_interval) if system == "caddy" else 0
    engine = Engine(backend, journal(system, place), adopt=estate.adopt, limits=limits, interval=interval)
    if isinstance(backend, DnsBackend):
        engine.attendant = zone_keeper(backend, estate, place)
    return Target(system, estate, backend, engine, Wish())


def zone_keeper(backend: DnsBackend, estate: Estate, place: Place) -> ZoneKeeper:
    return ZoneKeeper(backend, zonefiles(place), serials(place), name_servers(estate, place))


def zonefiles(place: Place) -> Zonefiles:
    """Zones as they were before each change."""
    return Zonefiles(place.cache / "hecate" / "zonefiles")


def serials(place: Place) -> Serials:
    """Of zones, as the last apply left them."""
    return Serials(place.cache / "hecate" / "serials.json")


def zones_moved(place: Place, now: Mapping[str, int | None]) -> dict[str, dict[str, Any]]:
    """Zones whose serial is not what the last apply left."""
    return moved(serials(place).read(), now)


def name_servers(estate: Estate, place: Place) -> World:
    """Those that are asked whether a change has arrived."""
    usual = (estate.verify.nameserver,) if estate.verify.nameserver else ()
    given = {name: zone.nameservers or usual for name, zone in estate.dns.zones.items()}
    return World(given, nameserver.delegated, nameserver.ask, seconds(estate.dns.propagation.timeout), place.sleep)


def journal(system: str, place: Place) -> Journal:
    """The undo journal of one system on this target; needs neither pillar nor secrets."""
    return Journal(place.cache / "hecate" / "journal" / system)


def resolver(estate: Estate, keeper: Keeper) -> Resolver:
    """References under vault: are read with what itself comes from elsewhere, when the first of them is wanted."""
    if estate.vault is None:
        return Resolver(read_sdb=keeper.sdb, literals=estate.literals)
    if estate.vault.salt:
        by_salt = through_salt(keeper.salt_vault, VaultPlace(estate.vault.mount, estate.vault.kv))
        return Resolver(by_salt, read_sdb=keeper.sdb, literals=estate.literals)
    read_vault = vault_client(estate.vault, keeper, estate.literals).read
    return Resolver(read_vault, read_sdb=keeper.sdb, literals=estate.literals)


def vault_client(settings: Vault, keeper: Keeper, literals: Mapping[str, str] | None = None) -> VaultClient:
    """For settings with a url."""
    keys = Resolver(read_sdb=keeper.sdb, literals=literals)
    role, token = settings.approle, settings.token
    if role:
        login = by_approle(lambda: keys.value(role.role_id), lambda: keys.value(role.secret_id), role.mount)
    else:
        login = by_token(lambda: keys.value(token or ""))
    place = VaultPlace(settings.mount, settings.kv)
    return VaultClient(settings.url or "", login, place, namespace=settings.namespace, ca=settings.ca)


def store(estate: Estate, cache: Path, keeper: Keeper) -> Store:
    consul = estate.store.consul
    if consul is None:
        return LocalStore(cache / "hecate" / "store")
    token = resolver(estate, keeper).value(consul.token) if consul.token else ""
    return ConsulStore(consul.url, token, consul.prefix)


def deployments(estate: Estate, cache: Path, keeper: Keeper) -> Deployments:
    return Deployments(store(estate, cache, keeper), estate.environment)


def audit(estate: Estate, cache: Path, keeper: Keeper, user: str = "", host: str = "") -> Audit:
    """The chain of this environment; its key is read when something is signed or checked."""
    folder, reference = cache / "hecate", estate.history.key

    def key() -> bytes:
        if reference is None:
            return own_key(folder)
        value = resolver(estate, keeper).value(reference).encode()
        if len(value) < SHORTEST:
            raise SecretUnavailable(f"{reference} is too short to sign with; at least {SHORTEST} characters")
        return value

    witness = Witness(folder / f"history.{estate.environment}.seen")
    return Audit(store(estate, cache, keeper), estate.environment, functools.cache(key), witness, user=user, host=host)


def plans(estate: Estate, cache: Path, keeper: Keeper) -> Plans:
    return Plans(store(estate, cache, keeper), estate.environment)


def chosen(made: Target, hosts: Collection[str] | None) -> Wish:
    """The target's wish, or what of it belongs to these hosts (see order.Order); None: all of it."""
    return made.wish if hosts is None else narrowed(made.wish, made.estate, hosts, guards_host)


def calls(made: Target, plan: Plan) -> int:
    """API calls that an apply takes: where they are counted all, elsewhere about as many as it writes."""
    if plan.budget:
        return plan.budget.to_come
    if made.system == "authentik":
        return len(plan.changes)
    return sum(1 for _ in made.backend.batches(plan.changes))


def breaker(estate: Estate, cache: Path, keeper: Keeper) -> Breaker:
    """How often each system was healed lately."""
    limit = estate.drift.breaker
    return Breaker(store(estate, cache, keeper), estate.environment, limit.heals, seconds(limit.within))


def confirmed(estate: Estate, snapshot: Snapshot) -> list[str]:
    """Hosts that may be published, as authentik holds their guards in `snapshot`."""
    return identity.confirmed(estate, snapshot)


def guards_host(held: Resource, host: str) -> bool:
    """Whether an object in authentik belongs to the guard of `host`, or of an application of that name, alone."""
    slug, own = slug_of(host), own_policy(host)
    if held.kind == "authentik.application":
        return held.key == slug
    if held.kind == "authentik.binding":
        return held.key.startswith(f"{slug}/")
    if held.kind == "authentik.policy":
        return held.key.endswith(f"/policy/{own}")
    if held.kind in ("authentik.stage", "authentik.flow_binding"):
        return held.key.endswith(f"/{own}/mfa")
    if held.kind == "authentik.flow":
        return str(held.spec["name"]).endswith(f"/{own}")
    return held.kind in ("authentik.provider", "authentik.attachment") and held.key.endswith(f"/{host}")


def own_policy(name: str) -> str:
    """What the policy of a single application is called that a state, and not pillar, wants."""
    return slug_of(f"for-{name}")


def identity_of(made: Target) -> Access:
    """Who may reach what there now. One look at the server, and questions as they come up."""
    assert isinstance(made.backend, AuthentikBackend)
    snapshot = made.backend.observe(made.desired)
    return Access(made.estate, snapshot, Directory(made.backend.client, snapshot.raw))


def policies(estate: Estate) -> dict[str, Any]:
    """Each policy of the pillar in words."""
    return policies_in_words(estate)


def version_warnings(made: Target) -> list[str]:
    """What a person should know of the authentik server's version before trusting it."""
    assert isinstance(made.backend, AuthentikBackend)
    return made.backend.warnings()


def stored_outputs(raw: Mapping[str, Any], cache: Path, keeper: Keeper) -> dict[str, Any]:
    """Terraform's outputs from the store that this (unchecked) pillar names."""
    needed = {key: raw[key] for key in ("environment", "store", "vault", "literal_secrets") if key in raw}
    return deployments(model.parse({"hecate": needed}), cache, keeper).outputs()


def terraform_initialised(made: Target) -> bool:
    """Whether the wanted configuration initialises; raises Refused with Terraform's own words."""
    assert isinstance(made.backend, TerraformBackend)
    made.backend.check(made.desired[0])
    return True


def outputs(made: Target) -> dict[str, Any]:
    """Terraform's outputs, without the sensitive ones."""
    assert isinstance(made.backend, TerraformBackend)
    return made.backend.outputs()


def disk(made: Target) -> str:
    """How the file for a starting Caddy compares to the one that runs."""
    assert isinstance(made.backend, CaddyBackend)
    return made.backend.disk()


def certificates(estate: Estate, minion: str) -> dict[str, inventory.Shown]:
    """What the edge on `minion` shows for each host; handshakes over its own network alone."""
    return inventory.certificates(estate, estate.edges.get(minion, Edge()))


def _caddy(estate: Estate, place: Place, secrets: Resolver) -> Backend:
    client = CaddyClient(estate.caddy.admin, sleep=place.sleep)
    saved = Path(estate.caddy.config_file or place.cache / "hecate" / "caddy.json")
    folder = Path(estate.certificates.folder or place.cache / "hecate" / "certificates")
    vault = vault_client(estate.vault, place.keeper) if estate.vault and not estate.vault.salt else None
    # From Vault, read when they are planned (without keys) and when they are written; or signed when they are written.
    files = CertificateFiles(folder, secrets.value, estate.certificates.owner, vault.act if vault else None)
    return CaddyBackend(client, estate.caddy.server, saved, files)


def _routes(estate: Estate, place: Place, backend: Backend) -> list[Resource]:
    assert isinstance(backend, CaddyBackend)
    guards = place.guards() if any(guard.hosts for guard in estate.guards.all) else ()
    wanted = proxy.compile_caddy(estate, estate.edges.get(place.minion, Edge()), guards)
    wanted = [backend.certificates.located(resource) for resource in wanted]
    _refuse_missing_modules(wanted, backend.client)
    return [*wanted, saved_resource(backend.saved)] if wanted else []


def renewal(made: Target, anew: Collection[str]) -> Wish:
    """Of the routes that run here those whose certificate has a newer one, and nothing else of them changed.

    anew: routes whose certificates Vault is to sign again, however good they are.
    """
    backend = made.backend
    assert isinstance(backend, CaddyBackend)
    owned = backend.observe(()).owned.values()
    routes = [held for held in owned if held.kind == "caddy.route" and (held.spec.get("tls") or {}).get("files")]
    unknown = sorted(set(anew) - {held.key for held in routes if "pki" in held.spec["tls"]["files"]})
    if unknown:
        raise HecateError(f"{', '.join(unknown)}: no route with a certificate that Vault signs (tls:pki)")
    wanted = (backend.certificates.located(held, anew=held.key in anew) for held in routes)
    fresh = (backend.normalise(want, held) for want, held in zip(wanted, routes, strict=True))
    return Wish(tuple(want for want, held in zip(fresh, routes, strict=True) if want != held), partial=True)


def _refuse_missing_modules(wanted: Sequence[Resource], client: CaddyClient) -> None:
    """Raise InvalidPillar for what the Caddy that runs here was built without. It is asked only where need be."""
    needed: dict[str, list[str]] = {}
    seen: set[int] = set()
    for resource in wanted:
        for key, part in resource.spec.items():
            if key not in ("hosts", "upstream") and id(part) not in seen:
                seen.add(id(part))
                for module in modules_of({key: part}):
                    needed.setdefault(module, []).append(resource.origin)
    why = "the Caddy that runs here was built without this module; build one with it (xcaddy), or do without"
    problems = [Problem(where[0], name, why) for name, where in sorted(needed.items()) if client.lacks(name)]
    if problems:
        raise InvalidPillar(problems)


def _authentik(estate: Estate, place: Place, secrets: Resolver) -> Backend:
    settings = _section(estate, "authentik")
    client = AuthentikClient(settings.url, secrets.value(settings.token), settings.timeout, secrets.mask, place.sleep)
    owner = Owner(identity.mark(estate.environment), identity.prefix(estate.environment))
    outposts = {settings.outpost_name, *(outpost.name or name for name, outpost in settings.outposts.items())}

    def value(reference: str) -> str:
        """A secret's value; or the source of the mapping that signs with it."""
        if reference.startswith(identity.EXPRESSION):
            return events.expression(secrets.value(reference.removeprefix(identity.EXPRESSION))).strip()
        return secrets.value(reference)

    sealed = Sealed(value, place.cache / "hecate" / "authentik-references.json")
    return AuthentikBackend(client, owner, outposts, sealed)


def _dns(estate: Estate, place: Place, secrets: Resolver) -> Backend:
    settings = _section(estate, "hetzner_dns")
    token = secrets.value(settings.token)
    client = HetznerDnsClient(token, settings.endpoint, mask=secrets.mask, sleep=place.sleep)
    return DnsBackend(HetznerDns(client), _rules(estate, "hetzner"), estate.environment)


def _rules(estate: Estate, provider: str) -> dict[str, Rules]:
    """By zone of that provider; a zone without policy is only looked at."""
    return {
        name: Rules(estate.dns.policy_of(name) or "", zone.ignore, zone.take_over)
        for name, zone in estate.dns.zones.items()
        if estate.dns.provider_of(name) == provider
    }


def _zone_limits(estate: Estate) -> dict[str, tuple[int, int]]:
    """(deletes, percent) of the zones that say their own."""
    usual = estate.safety
    return {
        name: (
            usual.deletes if zone.deletes is None else zone.deletes,
            usual.percent if zone.percent is None else zone.percent,
        )
        for name, zone in estate.dns.zones.items()
    }


def _rfc2136(estate: Estate, place: Place, secrets: Resolver) -> Backend:
    servers = {name: _server(settings, place, secrets) for name, settings in estate.rfc2136.items()}
    rules = {zone: rule for name in servers for zone, rule in _rules(estate, name).items()}

    def server_of(zone: str) -> Rfc2136Client:
        """By pillar; an undo may be about a zone that is there no more, or know none."""
        if zone in estate.dns.zones and (named := servers.get(estate.dns.provider_of(zone))):
            return named
        return the_one_with(zone, servers)

    return Rfc2136Backend(Rfc2136(server_of), rules, estate.environment)


def _server(settings: Rfc2136Section, place: Place, secrets: Resolver) -> Rfc2136Client:
    return Rfc2136Client(
        settings.server,
        settings.key,
        secrets.value(settings.secret),
        algorithm=settings.algorithm,
        timeout=settings.timeout,
        mask=secrets.mask,
        sleep=place.sleep,
    )


def _nomad(estate: Estate, place: Place, secrets: Resolver) -> Backend:
    settings = _section(estate, "nomad")
    token = secrets.value(settings.token) if settings.token else ""
    client = NomadClient(settings.url, token, deadline=settings.deadline, mask=secrets.mask, sleep=place.sleep)
    return NomadBackend(client, estate.environment, settings.min_healthy)


def _terraform(estate: Estate, _: Place, __: Resolver) -> Backend:
    settings = _section(estate, "terraform")
    return TerraformBackend(TerraformClient(), Path(settings.source), Path(settings.workdir))


@dataclass(frozen=True)
class System:
    """How to reach a system, and what the pillar wants of it. section: without it, not managed."""

    backend: Callable[[Estate, Place, Resolver], Backend]
    wanted: Callable[[Estate, Place, Backend], list[Resource]]
    section: str = ""


SYSTEMS = {
    "terraform": System(
        _terraform,
        lambda estate, *_: compile_terraform(estate, source_digest(Path(_section(estate, "terraform").source))),
        "terraform",
    ),
    "nomad": System(_nomad, lambda estate, *_: compile_nomad(estate), "nomad"),
    "authentik": System(_authentik, lambda estate, *_: identity.compile_authentik(estate), "authentik"),
    "hetzner_dns": System(_dns, lambda estate, *_: compile_dns(estate), "hetzner_dns"),
    "rfc2136": System(_rfc2136, lambda estate, *_: compile_dns(estate, tuple(estate.rfc2136)), "rfc2136"),
    "caddy": System(_caddy, _routes),
}


def is_managed(system: str, estate: Estate) -> bool:
    """Whether the pillar says anything about that system; what is absent is not managed."""
    section = SYSTEMS[system].section
    return not section or bool(getattr(estate, section))


def _section(estate: Estate, name: str):  # type: ignore[no-untyped-def]
    section = getattr(estate, name)
    if section is None:
        raise InvalidPillar([Problem(f"hecate:{name}", "", "is required on this target")])
    return section


def adapted(estate: Estate, caddyfile: str, *, allow_imports: bool = False) -> tuple[dict[str, Any], list[str]]:
    """A Caddyfile as the edge's Caddy would read it, and its warnings. Changes nothing there."""
    return CaddyClient(estate.caddy.admin).adapt(caddyfile, allow_imports=allow_imports)


def running(estate: Estate) -> dict[str, Any]:
    """The whole configuration that the edge's Caddy holds, Hecate's part and others'."""
    return CaddyClient(estate.caddy.admin).config()[0]


@dataclass(frozen=True)
class Zoned:
    """A zone of the pillar, and who provides it."""

    name: str
    target: Target
    backend: DnsBackend


def zoned(made: Target, zone: str) -> Zoned:
    """Raises HecateError for a zone that isn't in pillar."""
    assert isinstance(made.backend, DnsBackend)
    if zone not in made.estate.dns.zones:
        known = ", ".join(sorted(made.estate.dns.zones)) or "none"
        raise HecateError(f"{zone} is not under hecate:dns:zones; there are: {known}")
    return Zoned(zone, made, made.backend)


def restoring(made: Zoned, place: Place, text: str, strangers: bool) -> tuple[Engine, Wish]:
    """What brings a zone back to a zonefile, and the engine that may do it."""
    estate, backend = made.target.estate, made.backend.for_restore(made.name, strangers)
    snapshot = backend.observe([])
    file = zonefile.parse(text, made.name)
    wish = restored(file, snapshot.owned.values(), snapshot.raw, strangers, estate.environment)
    engine = Engine(
        backend,
        made.target.engine.journal,
        adopt=[resource.id for resource in wish.resources],
        limits=made.target.engine.limits,
        attendant=zone_keeper(backend, estate, place),
    )
    return engine, wish


def exported(made: Zoned) -> str:
    return made.backend.zonefile(_zone_seen(made))


def importable(made: Zoned) -> tuple[dict[str, Any], list[str], list[str]]:
    """See zones.pillar_of."""
    zone = _zone_seen(made)
    return pillar_of(zone, made.backend.provider.rrsets(zone))


def _zone_seen(made: Zoned) -> ZoneSeen:
    found = made.backend.provider.zones([made.name])
    if made.name not in found:
        raise NotFound(made.backend.system, f"no zone {made.name} here, or the token is of another project", code=404)
    return found[made.name]


def zone_differences(made: Zoned, text: str) -> list[str]:
    """From the zone as it is now to a zonefile."""
    return zonefile.differences(zonefile.parse(exported(made), made.name), zonefile.parse(text, made.name))
