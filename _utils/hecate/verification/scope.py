"""What a deploy is checked for: what it changed, and a bounded part of the rest that changes from deploy to deploy."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from hecate.errors import HecateError
from hecate.model.dns import host_name
from hecate.model.estate import Estate


@dataclass(frozen=True)
class Scope:
    """routes: keys of those that are probed; None for all of them. told: how they were chosen."""

    routes: tuple[str, ...] | None
    told: str


def named(value: str | Iterable[str]) -> list[str]:
    """A list, or a text with commas, as a command line gives it."""
    parts = value.split(",") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


def everything(why: str = "") -> Scope:
    return Scope(None, f"all routes{f': {why}' if why else ''}")


def chosen(estate: Estate, names: Collection[str]) -> Scope:
    """Routes by key or by any of their hosts. Raises HecateError for a name that no route has."""
    owner, found = _owners(estate), []
    for name in names:
        if name not in owner:
            near = ", ".join(difflib.get_close_matches(name, owner, 3) or sorted(owner)[:10]) or "none"
            raise HecateError(f"there is no route {name}; there are: {near}")
        found.append(owner[name])
    return Scope(tuple(dict.fromkeys(found)), f"{len(set(found))} of {len(estate.routes)} routes, as asked for")


def of_deploy(estate: Estate, transaction: str, ids: Iterable[str]) -> Scope:
    """ids: of all resources that the deploy announced, on any target."""
    if estate.verify.sample == "all":
        return everything()
    changed, shared = touched(estate, ids)
    others = sample(sorted(set(estate.routes) - changed), transaction, estate.verify.sample)
    wanted = {*changed, *others}
    if len(wanted) == len(estate.routes):
        return everything()
    told = f"{len(changed)} changed routes, and {len(others)} of {len(estate.routes) - len(changed)} others"
    more = f"; shared by all, and changed too: {', '.join(shared[:5])}" if shared else ""
    return Scope(tuple(key for key in estate.routes if key in wanted), told + more)


def touched(estate: Estate, ids: Iterable[str]) -> tuple[set[str], list[str]]:
    """Routes that a change of these resources may be seen at, and ids that belong to no route alone.

    Generous: a name that stands anywhere in a key counts.
    """
    owner = _owners(estate)
    behind: dict[str, set[str]] = {}
    for guard in estate.guards.all:
        keys = {owner[host] for host in guard.hosts}
        for name in (guard.slug, guard.name, guard.policy_name, *guard.policy.groups):
            behind.setdefault(name, set()).update(keys)
    found, shared = set[str](), list[str]()
    for one in ids:
        kind, _, key = one.partition(" ")
        hosts = {_host_of(key)} if kind == "dns.rrset" else {key} if kind == "caddy.route" else set()
        hit = {owner[host] for host in hosts if host in owner}
        if kind.startswith("authentik."):
            hit |= {host for part in (key, *key.split("/")) for host in behind.get(part, ())}
        found |= hit
        if not hit and kind not in ("caddy.route", "dns.rrset"):
            shared.append(one)
    return found, sorted(shared)


def _owners(estate: Estate) -> dict[str, str]:
    """Host -> key of the route that has it."""
    return {host: key for key, route in estate.routes.items() for host in (key, *route.hosts)}


def _host_of(key: str) -> str:
    """Of a set of records: zone/name/type."""
    zone, _, rest = key.partition("/")
    name = rest.rpartition("/")[0]
    return host_name(name, zone)


def sample(keys: Sequence[str], transaction: str, size: int) -> list[str]:
    """One part of several as large, by the transaction: the same for the same, and in time every part has its turn."""
    if size >= len(keys):
        return list(keys)
    if not size:
        return []
    parts = -(-len(keys) // size)
    turn = int.from_bytes(hashlib.sha256(transaction.encode()).digest()[:8], "big") % parts
    return list(keys[turn::parts])
