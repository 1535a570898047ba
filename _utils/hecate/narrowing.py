"""A target's whole wish -> what of it belongs to some routes, with what these need. Pure.

Whoever is chosen is said by `hosts` (see Order): names of routes, `applications:NAME`, `workloads:NAME`; each with
"!" before it: everything but these. Objects of others are neither written nor deleted, nor even compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from hecate.engine import Wish
from hecate.model.dns import host_name
from hecate.model.estate import Estate
from hecate.plan import RRSET, closure
from hecate.resource import Resource

Belongs = Callable[[Resource, str], bool]
NOT = "!"


def narrowed(wish: Wish, estate: Estate, hosts: Collection[str], belongs: Belongs) -> Wish:
    """belongs: whether an object that a system holds is that host's (or application's) alone, by its name there."""
    names = {host.removeprefix(NOT) for host in hosts}
    desired = {resource.id: resource for resource in wish.resources}
    asked = {resource.id for resource in wish.resources if _asked_for(resource, estate, names)}
    if any(host.startswith(NOT) for host in hosts):
        return _all_but(wish, desired, asked, names, belongs)
    chosen = closure(asked, desired)

    def gone(owned: Mapping[str, Resource]) -> set[str]:
        return {name for name, held in owned.items() if name not in desired and _is_of(held, names, belongs)}

    return replace(wish, resources=_picked(desired, chosen), partial=True, held=gone)


def _all_but(wish: Wish, desired: Mapping[str, Resource], aside: set[str], names: set[str], belongs: Belongs) -> Wish:
    chosen = closure((name for name in desired if name not in aside and not _only_for(desired, name, aside)), desired)

    def gone(owned: Mapping[str, Resource]) -> set[str]:
        """What those left out have, and need, stays: taking away a policy takes its bindings along."""
        theirs = closure((name for name, held in owned.items() if _is_of(held, names, belongs)), owned)
        return owned.keys() - theirs - desired.keys()

    return replace(wish, resources=_picked(desired, chosen), partial=True, held=gone)


def _only_for(desired: Mapping[str, Resource], name: str, aside: set[str]) -> bool:
    """Whether everything that needs it is left out, and something does."""
    users = [one.id for one in desired.values() if name in one.needs]
    return bool(users) and all(user in aside for user in users)


def _picked(desired: Mapping[str, Resource], chosen: set[str]) -> tuple[Resource, ...]:
    return tuple(resource for name, resource in desired.items() if name in chosen)


def _asked_for(resource: Resource, estate: Estate, names: set[str]) -> bool:
    """By the pillar path that wants it; a guard of several hosts belongs to each of their routes."""
    parts = resource.origin.split(":")
    if len(parts) > 2 and parts[1] == "routes":
        return bool({parts[2], *_shared(estate, parts[2])} & names)
    return len(parts) > 2 and f"{parts[1]}:{parts[2]}" in names


def _shared(estate: Estate, key: str) -> Iterable[str]:
    """Hosts behind one application with this route's."""
    route = estate.routes.get(key)
    policy = estate.guards.policy_of(route) if route else None
    if policy is None or policy.provider != "authentik" or not policy.domain:
        return ()
    assert route is not None
    return [host for guard in estate.guards.all if key in guard.hosts for host in guard.hosts]


def _is_of(held: Resource, names: set[str], belongs: Belongs) -> bool:
    if held.kind == "caddy.route":
        return held.key in names
    if held.kind == "nomad.job":
        return f"workloads:{held.key}" in names
    if held.kind == RRSET:
        zone, name, _ = held.key.rsplit("/", 2)
        return host_name(name, zone) in names
    if held.kind.startswith("authentik."):
        return any(belongs(held, name.removeprefix("applications:")) for name in names)
    return False
