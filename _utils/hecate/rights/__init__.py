"""The least that each target needs, worked out from a pillar and from the tables that the code itself goes by.

Of Vault: which path each reference leads to, and who resolves it. Of authentik: the model behind each call that the
backend makes for what the pillar wants. Nothing is asked of any system.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hecate.clients.nomad import CAPABILITIES as JOBS
from hecate.errors import HecateError
from hecate.model import Estate
from hecate.rights.authentik import permissions, superuser
from hecate.rights.vault import ENGINE, MASTER, edges_of, resolved_by, uses

__all__ = ["ENGINE", "MASTER", "Rights", "Rule", "needed", "of", "resolved_by"]


@dataclass(frozen=True)
class Rule:
    """A line of a Vault policy. why: the pillar paths that want it."""

    path: str
    capabilities: tuple[str, ...]
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rights:
    """Of one holder; what is empty isn't needed.

    permissions: of authentik, global ones, such as authentik_core.view_group. superuser: why a role can't do.
    hetzner: what the API token of the project may. consul: prefix to write below. nomad: capabilities in its namespace.
    """

    holder: str
    vault: tuple[Rule, ...] = ()
    permissions: tuple[str, ...] = ()
    superuser: str = ""
    hetzner: str = ""
    consul: str = ""
    nomad: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        return self == Rights(self.holder)


def needed(estate: Estate) -> tuple[Rights, ...]:
    """Of everybody who has a part in this estate, in the order of a deploy; those who need nothing too."""
    rules = _rules(estate)
    targets, systems = estate.targets, _systems(estate)
    edges = edges_of(estate)
    names = [MASTER, targets.controller, targets.authentik, targets.dns, *edges]
    names += [*estate.verify.probers, *([ENGINE] if ENGINE in rules else [])]
    there = [name for name in dict.fromkeys(names) if name in rules or name in systems or name in (*edges, MASTER)]
    return tuple(replace(systems.get(name, Rights(name)), vault=tuple(rules.get(name, ()))) for name in there)


def of(estate: Estate, holder: str) -> Rights:
    """Raises HecateError for somebody who has no part in it."""
    found = {rights.holder: rights for rights in needed(estate)}
    if holder not in found:
        raise HecateError(f"{holder} has no part in this pillar; there are: {', '.join(found)}")
    return found[holder]


def _systems(estate: Estate) -> dict[str, Rights]:
    """By holder, what isn't Vault's; one minion may have several parts."""
    targets, found = estate.targets, dict[str, Rights]()

    def give(holder: str, **rights: Any) -> None:
        found[holder] = replace(found.get(holder, Rights(holder)), **rights)

    if estate.authentik:
        reason = superuser(estate)
        give(targets.authentik, superuser=reason, permissions=() if reason else permissions(estate))
    if estate.hetzner_dns:
        writes = any(estate.dns.policy_of(zone) for zone in estate.dns.zones)
        give(targets.dns, hetzner="Read & Write" if writes else "Read")
    if any(estate.dns.provider_of(zone) in estate.rfc2136 for zone in estate.dns.zones):
        give(targets.dns)
    if estate.nomad:
        give(targets.controller, nomad=JOBS)
    if consul := estate.store.consul:
        give(MASTER, consul=f"{consul.prefix}/{estate.environment}/")
    return found


def _rules(estate: Estate) -> dict[str, list[Rule]]:
    """By holder; several references into one secret are one rule."""
    wanted: dict[tuple[str, str], dict[str, list[str]]] = {}
    for holder, path, capability, why in uses(estate):
        wanted.setdefault((holder, path), {}).setdefault(capability, []).append(why)
    found: dict[str, list[Rule]] = {}
    for (holder, path), by_capability in sorted(wanted.items()):
        reasons = dict.fromkeys(why for whys in by_capability.values() for why in whys)
        found.setdefault(holder, []).append(Rule(path, tuple(by_capability), tuple(reasons)))
    return found
