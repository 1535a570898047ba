"""Protected routes -> what authentik must hold so that its outpost guards them.

Order, drawn:

    group ──► binding ──► attachment to the outpost
                ▲             ▲
    provider ─► application ──┘

A provider and an application are harmless until the outpost serves them, so the attachment comes
last and goes first: an application is never reachable without the bindings that guard it.
"""

from __future__ import annotations

import hashlib

from hecate.model.estate import Estate
from hecate.model.identity import AuthPolicy
from hecate.resource import Resource, Snapshot


def mark(environment: str) -> str:
    """What Hecate writes into an application's publisher and a group's attributes."""
    return f"hecate/{environment}"


def provider_prefix(environment: str) -> str:
    """Providers have no field for a mark: theirs is the beginning of the name."""
    return f"hecate/{environment}/"


def slug_of(host: str) -> str:
    """The application's slug; authentik takes 50 characters at most up to 2025.10."""
    slug = host.replace(".", "-")
    return slug if len(slug) <= 50 else f"{slug[:41]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"


def compile_authentik(estate: Estate) -> list[Resource]:
    """Groups, providers, applications, bindings and outpost attachments of all protected hosts."""
    if estate.authentik is None:
        return []
    resources: dict[str, Resource] = {}
    for host, route, policy in estate.guarded():
        for name in (host, *route.hosts):
            for resource in _guard(estate, name, policy, f"hecate:routes:{host}"):
                resources.setdefault(resource.id, resource)
    return list(resources.values())


def _guard(estate: Estate, host: str, policy: AuthPolicy, origin: str) -> list[Resource]:
    assert estate.authentik is not None
    settings, slug = estate.authentik, slug_of(host)
    provider_name = provider_prefix(estate.environment) + host
    made = [Resource("authentik.group", g, {"mark": mark(estate.environment)}, origin=origin) for g in policy.groups]
    provider = Resource(
        "authentik.provider",
        provider_name,
        {
            "mode": "forward_single",
            "external_host": f"https://{host}",
            "authorization_flow": settings.authorization_flow,
            "invalidation_flow": settings.invalidation_flow,
            "authentication_flow": policy.flow or "",
            "access_token_validity": duration(policy.session_duration),
        },
        origin=origin,
    )
    application = Resource(
        "authentik.application",
        slug,
        {
            "name": host,
            "provider": provider_name,
            "policy_engine_mode": "any",
            "meta_launch_url": f"https://{host}",
            "meta_publisher": mark(estate.environment),
        },
        needs=(provider.id,),
        origin=origin,
    )
    bindings = [
        Resource(
            "authentik.binding",
            f"{slug}/{group.key}",
            {"order": order, "enabled": True, "negate": False},
            needs=(application.id, group.id),
            origin=origin,
        )
        for order, group in enumerate(made)
    ]
    attachment = Resource(
        "authentik.attachment",
        f"{settings.outpost_name}/{provider_name}",
        {},
        needs=(provider.id, application.id, *(b.id for b in bindings)),
        origin=origin,
    )
    return [*made, provider, application, *bindings, attachment]


def duration(text: str) -> str:
    """ "8h" as authentik writes durations: "hours=8"; it answers 400 to the short form."""
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[text[-1]]
    return f"{unit}={text[:-1]}"


def confirmed(estate: Estate, snapshot: Snapshot) -> list[str]:
    """Hosts whose whole guard stands as wanted: only these may be published."""
    if estate.authentik is None:
        return []
    good = []
    for host, route, policy in estate.guarded():
        for name in (host, *route.hosts):
            wanted = _guard(estate, name, policy, "")
            if all(_stands(resource, snapshot) for resource in wanted):
                good.append(name)
    return sorted(good)


def _stands(want: Resource, snapshot: Snapshot) -> bool:
    have = snapshot.get(want.id)
    return have is not None and (want.kind == "authentik.group" or have.spec == want.spec)
