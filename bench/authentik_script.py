"""The script that one would write by hand: each object is looked for by name, and made if it isn't there."""

from __future__ import annotations

import time
from typing import Any

from bench.authentik_api import Api, Body

EMBEDDED = "goauthentik.io/outposts/embedded"
FLOWS = {
    "authorization_flow": "default-provider-authorization-implicit-consent",
    "invalidation_flow": "default-provider-invalidation-flow",
}


def run(server: Api, wanted: dict[str, Body], policies: dict[str, Body]) -> float:
    """What pillar asks for, without the policy that says no; attributes are bound without their groups.

    Returns the seconds that went into the outpost.
    """
    spent = 0.0
    flows = {name: _one(server, "/flows/instances/", slug=slug)["pk"] for name, slug in FLOWS.items()}
    bound = {name: list(_bound(server, name, policy)) for name, policy in policies.items()}
    factors = {name: _factor(server, name, policy) for name, policy in policies.items() if policy.get("require_mfa")}
    for host, route in wanted.items():
        name = route["auth_policy"]
        own = {"authorization_flow": factors[name]} if name in factors else {}
        said = {"mode": "forward_single", "external_host": f"https://{host}", **flows, **own}
        provider = _ensured(server, "/providers/proxy/", "name", {"name": host, **said}, "name__iexact")
        _guard(server, _application(server, host, provider), bound[name])
        start = time.perf_counter()
        outpost = _one(server, "/outposts/instances/", managed__iexact=EMBEDDED)
        body = {"type": "proxy", "providers": [*outpost["providers"], provider]}
        server.send("PATCH", f"/outposts/instances/{outpost['pk']}/", body)
        spent += time.perf_counter() - start
    return spent


def _bound(server: Api, name: str, policy: Body) -> Any:
    if attributes := policy.get("attributes"):
        text = f"return all(request.user.attributes.get(name) for name in {sorted(attributes)!r})"
        said = {"name": f"needs-{name}", "expression": text}
        yield {"policy": _ensured(server, "/policies/expression/", "name", said)}
        return
    for group in policy.get("groups", ()):
        yield {"group": _ensured(server, "/core/groups/", "name", {"name": group})}


def _factor(server: Api, name: str, policy: Body) -> Any:
    """An authorization flow with a second factor in it."""
    classes = [method for method in policy["allowed_methods"] if method != "password"]
    said = {"name": f"mfa-{name}", "device_classes": classes, "not_configured_action": "deny"}
    stage = _ensured(server, "/stages/authenticator/validate/", "name", said)
    about = {"name": f"mfa-{name}", "title": "Redirecting to %(app)s", "designation": "authorization"}
    flow = _ensured(server, "/flows/instances/", "slug", {"slug": f"mfa-{name}", **about})
    server.send("POST", "/flows/bindings/", {"target": flow, "stage": stage, "order": 10})
    return flow


def _application(server: Api, host: str, provider: Any) -> Any:
    slug = host.replace(".", "-")
    known = server.send("GET", f"/core/applications/{slug}/")
    made = {"name": host, "slug": slug, "provider": provider}
    return (known or server.send("POST", "/core/applications/", made))["pk"]


def _guard(server: Api, application: Any, guards: list[Body]) -> None:
    for order, guard in enumerate(guards):
        there = server.send("GET", "/policies/bindings/", target=application)["results"]
        if not any(row[kind] == key for row in there for kind, key in guard.items()):
            server.send("POST", "/policies/bindings/", {"target": application, "order": order, **guard})


def _one(server: Api, path: str, **query: Any) -> Any:
    return server.send("GET", path, **query)["results"][0]


def _ensured(server: Api, path: str, key: str, body: Body, by: str = "") -> Any:
    """The server's key of the object with that name, made if need be."""
    found = server.send("GET", path, **{by or key: body[key]})["results"]
    known = next((row for row in found if row[key] == body[key]), None)
    return (known or server.send("POST", path, body))["pk"]
