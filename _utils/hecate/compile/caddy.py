"""Routes -> Caddy's JSON (https://caddyserver.com/docs/json/apps/http/).

Every route is one object with an `@id`, matched by host and terminal. What it does, in order:

    delete every identity header that the client sent          on public routes too
    the outpost's own path            ──► outpost, no auth      (protected routes)
    ask the outpost; refused          ──► its answer            (protected routes)
    no user name in its answer        ──► 403, fail closed      (protected routes)
    set identity headers from the answer
    the upstreams

A protected route whose guard authentik has not confirmed answers 503 instead of all that.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hecate.compile.outputs import require_known
from hecate.model.estate import Estate
from hecate.model.infrastructure import Edge
from hecate.model.routes import Route
from hecate.resource import Resource

ROUTE_ID, SERVER_ID, TLS_ID, LAST_ID = "hecate-route-", "hecate-server", "hecate-tls", "hecate-no-such-host"
OUTPOST_PATH = "/outpost.goauthentik.io"
PERSON = ("Username", "Groups", "Entitlements", "Email", "Name", "Uid", "Jwt")
IDENTITY = (*PERSON, "Meta-Jwks", "Meta-Outpost", "Meta-Provider", "Meta-App", "Meta-Version")

Handler = dict[str, Any]


def compile_caddy(estate: Estate, edge: Edge, guards: Collection[str]) -> list[Resource]:
    """The server, one resource a route, and one a host whose certificate is not Caddy's default kind.

    guards: hosts whose application authentik has confirmed to be guarded and attached.
    """
    if not estate.routes:
        return []
    require_known(u.dial for route in estate.routes.values() for u in route.upstreams)
    server = Resource("caddy.server", estate.caddy.server, _server(edge), origin="hecate:caddy")
    certificates = [
        Resource("caddy.certificate", name, {"issuer": "internal"}, (server.id,), f"hecate:routes:{host}")
        for host, route in sorted(estate.routes.items())
        for name in (host, *route.hosts)
        if estate.caddy.issuer == "internal"  # acme is what Caddy does by itself
    ]
    protected = {host for host, _, _ in estate.guarded()}
    routes = [
        Resource(
            "caddy.route",
            host,
            compile_route(estate, host, route, host in protected, guards),
            (server.id,),
            f"hecate:routes:{host}",
        )
        for host, route in sorted(estate.routes.items())
    ]
    return [server, *certificates, *routes]


def compile_route(estate: Estate, host: str, route: Route, protected: bool, guards: Collection[str]) -> dict[str, Any]:
    """One entry of the server's route list."""
    names = [host, *route.hosts]
    if not protected:
        steps = [_strip_identity(), *_response_headers(route), _proxy(route)]
    elif all(name in guards for name in names) and estate.authentik:
        outpost = estate.authentik.outpost
        steps = [
            _outpost_passage(outpost),
            _strip_identity(),
            _forward_auth(outpost),
            *_response_headers(route),
            _proxy(route),
        ]
    else:
        steps = [_closed()]
    return {
        "@id": ROUTE_ID + host,
        "match": [{"host": names}],
        "handle": [{"handler": "subroute", "routes": [s if "handle" in s else {"handle": [s]} for s in steps]}],
        "terminal": True,
    }


def last_route() -> dict[str, Any]:
    """What a host that no route names gets; Caddy's own answer would be an empty 200."""
    refusal = {"handler": "static_response", "status_code": 404, "body": "No such host here.\n"}
    return {"@id": LAST_ID, "handle": [refusal]}


def _server(edge: Edge) -> dict[str, Any]:
    # Two listeners on one port would be an error; redirects from port 80 are Caddy's own automatic server.
    return {"@id": SERVER_ID, "listen": [f"{edge.bind or ''}:{edge.https}"]}


def _strip_identity() -> Handler:
    return {"handler": "headers", "request": {"delete": ["X-Authentik-*"]}}


def _closed() -> Handler:
    body = "This service is protected, and its protection is not confirmed yet.\n"
    headers = {"Retry-After": ["30"], "Cache-Control": ["no-store"]}
    return {"handler": "static_response", "status_code": 503, "headers": headers, "body": body}


def _response_headers(route: Route) -> list[Handler]:
    if not route.headers.response:
        return []
    wanted = {name: [value] for name, value in sorted(route.headers.response.items())}
    # Deferred: set before the upstream answered, a header would be doubled instead of replaced.
    return [{"handler": "headers", "response": {"deferred": True, "set": wanted}}]


def _proxy(route: Route) -> Handler:
    proxy: Handler = {"handler": "reverse_proxy", "upstreams": [{"dial": u.address} for u in route.upstreams]}
    weights = [u.weight for u in route.upstreams]
    if len(set(weights)) > 1:
        proxy["load_balancing"] = {"selection_policy": {"policy": "weighted_round_robin", "weights": weights}}
    to_upstream = {name: [value] for name, value in sorted(route.headers.request.items())}
    if route.upstreams[0].tls:
        proxy["transport"] = {
            "protocol": "http",
            "tls": {"insecure_skip_verify": True} if route.tls_skip_verify else {},
        }
        # Over TLS Caddy would send the upstream's own address as Host.
        to_upstream.setdefault("Host", ["{http.request.host}"])
    if to_upstream:
        proxy["headers"] = {"request": {"set": to_upstream}}
    return proxy


def _outpost_passage(outpost: str) -> Handler:
    """The outpost's own pages (start, callback, sign-out) come before any check."""
    return {
        "match": [{"path": [f"{OUTPOST_PATH}/*"]}],
        "handle": [_strip_identity(), {"handler": "reverse_proxy", "upstreams": [{"dial": outpost}]}],
        "terminal": True,
    }


def _forward_auth(outpost: str) -> Handler:
    """Ask the outpost; only a 2xx that names a user goes on (CVE-2026-25748: 200 without identity)."""
    user = "{http.reverse_proxy.header.X-Authentik-Username}"
    copies = []
    for name in IDENTITY:
        header = f"X-Authentik-{name}"
        value = f"{{http.reverse_proxy.header.{header}}}"
        copy = {"handler": "headers", "request": {"set": {header: [value]}}}
        copies.append({"match": [{"not": [{"vars": {value: [""]}}]}], "handle": [copy]})
    nobody = {"handler": "static_response", "status_code": 403, "body": "The sign-in service named no user.\n"}
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": outpost}],
        "rewrite": {"method": "GET", "uri": f"{OUTPOST_PATH}/auth/caddy"},
        "headers": {
            "request": {
                "set": {"X-Forwarded-Method": ["{http.request.method}"], "X-Forwarded-Uri": ["{http.request.uri}"]}
            }
        },
        "transport": {"protocol": "http", "dial_timeout": "3s", "response_header_timeout": "10s"},
        "handle_response": [
            {
                "match": {"status_code": [2]},
                "routes": [
                    {"match": [{"vars": {user: [""]}}], "handle": [nobody], "terminal": True},
                    *copies,
                ],
            }
        ],
    }
