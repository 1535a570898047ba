"""Drift as one target sees it: base, pillar and live compared; put back; or said in pillar's words.

Beside `wiring` and `rotating`, a composition root: it compiles two pillars and looks once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hecate import model, watching, wiring
from hecate.backends.authentik import AuthentikBackend
from hecate.backends.caddy import CaddyBackend
from hecate.drift import BY_HAND, FOLLOWS, HEALABLE, ONLY_LIVE, Drift, Wanted, compare, merged, scope
from hecate.engine import Wish
from hecate.errors import HecateError
from hecate.model import Estate
from hecate.model.parse import CONTENT
from hecate.plan import Plan
from hecate.resource import Resource, Snapshot
from hecate.secrets import GONE
from hecate.targets import RECORDS, steps_of
from hecate.wiring import Place, Target

# Where systems are and how they are reached: never as it was then, always as pillar says now.
ACCESS: Mapping[str, tuple[str, ...]] = {
    "caddy": ("admin", "config_file", "server", "write_interval"),
    "authentik": ("url", "token", "timeout"),
    "nomad": ("url", "token"),
    "certificates": ("folder", "owner"),
}
WHOLE = (
    "environment",
    "vault",
    "store",
    "targets",
    "hetzner_dns",
    "rfc2136",
    "literal_secrets",
    "drift",
    "safety",
    "verify",
    "adopt",
    "monitoring",
)
SIGNED = frozenset({"caddy", "authentik", *RECORDS})


@dataclass(frozen=True)
class Comparison:
    """target: as pillar has it now. base: the pillar of the last deployment, reached as today; None: pillar itself."""

    target: Target
    base: Estate | None
    rows: tuple[Drift, ...]
    snapshot: Snapshot


def rebased(base: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What the last deployment wanted, of the systems as they are reached now. Both: what stands under `hecate`."""
    found = {name: value for name, value in _kept(base, now).items() if name not in WHOLE}
    found |= {name: now[name] for name in WHOLE if name in now}
    for section, names in ACCESS.items():
        then, own = found.get(section), now.get(section)
        if isinstance(own, Mapping) and (isinstance(then, Mapping) or section == "caddy"):
            rest = {k: v for k, v in (then or {}).items() if k not in names}
            found[section] = {**rest, **{name: own[name] for name in names if name in own}}
    return found


def look(system: str, now: Mapping[str, Any], base: Mapping[str, Any] | None, place: Place) -> Comparison:
    """now, base: what stands under `hecate`; base None where nothing was deployed yet: then it is what pillar wants.

    Raises what the system raises when it can't be read: that is never "no drift".
    """
    estate = model.parse({"hecate": now})
    former = model.parse({"hecate": rebased(base, now)}) if base is not None else None
    pillar = _wanted(system, estate, place)
    before = pillar if former is None else _wanted(system, former, place)
    made = wiring.access(system, estate, place)
    snapshot = made.backend.observe(scope(before, pillar))
    return Comparison(made, former, compare(before, pillar, snapshot, made.backend.normalise), snapshot)


def _wanted(system: str, estate: Estate, place: Place) -> Wanted:
    """An edge closes routes whose guard authentik hasn't confirmed: open or closed, that is no drift of Caddy's."""
    if not wiring.is_managed(system, estate):
        return Wanted.of(())
    hosts = [host for guard in estate.guards.all for host in guard.hosts] if system == "caddy" else []
    ways = [wiring.target(system, estate, replace(place, guards=lambda: hosts)).desired]
    if hosts:
        ways.append(wiring.target(system, estate, replace(place, guards=tuple)).desired)
    return Wanted.of(*ways)


def healing(found: Comparison, ids: Collection[str], place: Place) -> tuple[Target, Wish]:
    """What puts these objects back to what the last deployment wanted, and the target that may do it.

    Of what moved on both sides, or only in pillar, nothing is touched. A route goes up open only if its guard is
    confirmed now. Who has a stray route removed has consented to the end of its host; all other limits hold.
    """
    rows = {row.id: row for row in found.rows if row.id in ids and row.who in HEALABLE}
    stray = [name for name, row in rows.items() if row.who == ONLY_LIVE]
    words = [f"route:{name.partition(' ')[2]}" for name in stray if name.startswith("caddy.route ")]
    consented = replace(place, allow=frozenset([*place.allow, *words]))
    made = wiring.target(found.target.system, found.base or found.target.estate, consented)
    back = tuple(r for r in made.desired if r.id in rows and rows[r.id].who == BY_HAND)
    return made, Wish(back, tuple(stray), partial=True)


def proved(
    found: Comparison, now: Mapping[str, Any], overlay: Mapping[str, Any], ids: Collection[str], place: Place
) -> str:
    """ "" if pillar with `overlay` wants of these objects exactly what is live, and of all others what it wanted.

    Else why not.
    """
    try:
        estate = model.parse({"hecate": merged(now, overlay)})
        system, backend = found.target.system, found.target.backend
        was, will = _wanted(system, found.target.estate, place), _wanted(system, estate, place)
    except HecateError as err:
        return f"pillar would not take it: {err}".replace("\n", " ")
    for name in sorted(was.scope.keys() | will.scope.keys() | set(ids)):
        live = found.snapshot.get(name)
        if name in ids:
            if _spec(will.get(name, live, backend.normalise)) != _spec(live):
                return f"pillar can't say exactly what is live of {name}"
        elif any(
            _spec(one.get(name)) != _spec(other.get(name)) for one, other in zip(was.ways, will.ways, strict=True)
        ):
            return f"it would change {name} too"
    return ""


def watch(
    system: str, now: Mapping[str, Any], place: Place, fresh: Callable[[], Mapping[str, Any]]
) -> watching.Movement | None:
    """What moved at a system since it was last asked here, if anything did. See watching.

    now: what stands under `hecate`, perhaps a while old. fresh: asks for it as it is now, once something has moved.
    """

    def differing() -> str:
        made = wiring.target(system, model.parse({"hecate": fresh()}), place)
        changes = made.engine.plan(made.wish).changes
        own = tuple(change for change in changes if change.kind not in FOLLOWS)
        return Plan(own).digest if own else ""

    memory = place.cache / "hecate" / "drift" / f"{place.minion}-{system}.json"
    open_here = wiring.journal(system, place).open_entries
    return watching.look(system, memory, lambda: sign(system, now, place), differing, lambda: bool(open_here()))


def watchable(now: Mapping[str, Any], minion: str) -> list[str]:
    """Systems of this minion that have a sign by which they can be watched."""
    return sorted({step.system for step in steps_of(now) if step.minion == minion} & SIGNED)


def sign(system: str, now: Mapping[str, Any], place: Place) -> str:
    """What changes when something changes there, for the price of one small question."""
    rest, dns = {k: v for k, v in now.items() if k not in CONTENT}, now.get("dns")
    bare = model.bare_zones(now) if isinstance(dns, Mapping) else {}
    estate = model.parse({"hecate": {**rest, **({"dns": {**dns, "zones": bare}} if dns and bare else {})}})
    if system in RECORDS:
        provider = {"hetzner"} if system == "hetzner_dns" else {*estate.rfc2136}
        own = [name for name in estate.dns.zones if estate.dns.provider_of(name) in provider]
        serials = wiring.name_servers(estate, place).serials(own)
        if silent := [zone for zone, serial in serials.items() if serial is None]:
            raise HecateError(f"no name server answers for {', '.join(sorted(silent))}")
        return str(sorted(serials.items()))
    backend = wiring.access(system, estate, place).backend
    if isinstance(backend, CaddyBackend):
        return backend.client.config()[1]
    assert isinstance(backend, AuthentikBackend)
    return backend.client.newest_change()


def _spec(resource: Resource | None) -> Any:
    return dict(resource.spec) if resource else None


def _kept(base: Any, now: Any) -> Any:
    """What history left out (literals, in labs) is as it stands in pillar now."""
    if isinstance(base, Mapping):
        known = now if isinstance(now, Mapping) else {}
        return {key: _kept(value, known.get(key)) for key, value in base.items()}
    if isinstance(base, list):
        beside = now if isinstance(now, list) and len(now) == len(base) else [None] * len(base)
        return [_kept(value, other) for value, other in zip(base, beside, strict=True)]
    return now if base == GONE and now is not None else base
