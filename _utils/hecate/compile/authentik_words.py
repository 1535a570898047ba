"""A policy in words: who may pass, what it becomes in authentik, and which part of it somebody doesn't meet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from hecate.compile.authentik import CLOSED, REQUIRED, guarding
from hecate.model.estate import Estate
from hecate.model.guards import Guard
from hecate.model.identity import AuthPolicy
from hecate.resource import Resource

LISTED = 100  # names in one answer
Told = dict[str, Any]


def either(names: Iterable[Any]) -> str:
    """a, b or c"""
    *first, last = [str(name) for name in names]
    return f"{', '.join(first)} or {last}" if first else last


def rule(policy: AuthPolicy) -> str:
    """Who may pass, in words."""
    parts = [f"members of {either(policy.groups)}"] if policy.groups else []
    for name, wanted in sorted(policy.attributes.items()):
        parts.append(f"attribute {name}: {_wanted(wanted)}")
    if not parts:
        parts = ["whoever can log in"]
    if policy.require_mfa:
        parts.append(f"a second factor ({either(policy.second_factors)})")
    return "; ".join(parts)


def _wanted(value: Any) -> str:
    if value == REQUIRED:
        return "anything that is not empty"
    return either(value if isinstance(value, tuple) else [value])


def policies(estate: Estate) -> Told:
    """Each policy of the pillar: what it means, what it becomes in authentik, and where it is used. Asks nobody."""
    return {name: _policy(estate, name, policy) for name, policy in sorted(estate.auth_policies.items())}


def _policy(estate: Estate, name: str, policy: AuthPolicy) -> Told:
    used = [host for host, route in estate.routes.items() if route.auth_policy == name]
    used += [slug for slug, application in estate.applications.items() if application.auth_policy == name]
    told: Told = {"used by": shortened(sorted(used)) or ["nothing"]}
    if policy.provider != "authentik":
        return {"who": others(policy.provider), **told}
    told["who"] = rule(policy)
    if estate.authentik is not None:
        guard = Guard(f"*.{policy.domain.name}" if policy.domain else name, name, policy)
        told["for each application"] = list(_compiled(policy, guarding(estate, guard)))
        flow = policy.flow or "authentik's default"
        told["for the login flow"] = f"{flow}: asks for the password, and says how long a login lasts, for all alike"
    return told


def _compiled(policy: AuthPolicy, made: Sequence[Resource]) -> Iterator[str]:
    """What a policy becomes, in words, from what it really is compiled to."""
    bound = [r.key.split("/", 1)[1].replace("/", " ", 1) for r in made if r.kind == "authentik.binding"]
    if bound:
        yield f"bound to: {', '.join(bound[:-1])}; and last to {bound[-1]}, which says no"
    else:
        yield "bound to nothing: whoever can log in may pass"
    for resource in made:
        if resource.kind == "authentik.policy" and not resource.key.endswith(f"/{CLOSED}"):
            yield f"policy {resource.key}:\n{resource.spec['expression']}"
        elif resource.kind == "authentik.stage":
            classes, lasts = either(resource.spec["device_classes"]), policy.session_duration
            yield f"second factor: {classes}, asked for again after {lasts}; whoever has none is refused"
        elif resource.kind == "authentik.flow":
            yield f"authorization flow: {resource.key}, of the policy's own"
    yield f"session: authentik's answer is good for {policy.session_duration}"
    if policy.domain:
        yield f"one application for all hosts of {policy.domain.name}; the login comes back to {policy.domain.host}"
    if policy.outpost:
        yield f"outpost: {policy.outpost}"


def others(provider: str) -> str:
    return "everybody, without a login" if provider == "none" else f"{provider} decides (hecate:forward_auth)"


def outside(groups: Collection[str], policy: AuthPolicy) -> Iterator[str]:
    """Why none of these groups is enough."""
    if policy.groups and not set(groups) & set(policy.groups):
        none = "is not in " if len(policy.groups) == 1 else "is in none of "
        yield none + ", ".join(policy.groups)


def unfit(attributes: Mapping[str, Any], policy: AuthPolicy) -> Iterator[str]:
    """Attributes that are not what a policy wants, compared as its expression does."""
    for name, wanted in sorted(policy.attributes.items()):
        have = attributes.get(name)
        values = list(wanted) if isinstance(wanted, tuple) else [wanted]
        if not have if wanted == REQUIRED else have not in values:
            shown = repr(have)[:60] if name in attributes else "not there"
            yield f"attribute {name}: {shown}; wanted is {_wanted(wanted)}"


def shortened(texts: Sequence[str], most: int = LISTED) -> list[str]:
    return [*texts[:most], *([f"and {len(texts) - most} more"] if len(texts) > most else [])]
