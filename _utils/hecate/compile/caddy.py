"""Routes -> what Caddy should hold (https://caddyserver.com/docs/json/apps/http/).

One resource is the server, one each route. A route's spec is `hosts`, the `steps` that a request
goes through, and where it isn't Caddy's default `tls`, `loggers`, `errors`. A route whose only
peculiarity is the address behind it has that as `upstream`, and a placeholder in its steps: routes
with equal steps share them in Caddy (backends/caddy_layout.py). The steps, in order:

    loggers; delete every identity header that the client sent      on public routes too
    addresses, scanners, maintenance, CORS, headers, compression    middleware, in fixed order
    the provider's own pages      ──► no auth                       protected routes
    ask the provider; refused     ──► its answer                    protected routes, but public paths
    no user name in its answer    ──► 403, fail closed
    set identity headers from the answer
    paths (most specific first), each with its own of the below
    redirects, rewrites, the upstreams

A protected route whose guard authentik has not confirmed answers 503 instead of all that.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hecate.compile import caddy_auth as auth
from hecate.compile import caddy_middleware as middleware
from hecate.compile.caddy_logs import QUIET, Log, log_steps, loggers_of, logs_of, quiet, unlogged
from hecate.compile.caddy_matching import Branch, branches, classify, covered, not_public
from hecate.compile.caddy_proxy import UPSTREAM, plain_upstream, proxy
from hecate.compile.caddy_tls import compile_tls, server_connection
from hecate.compile.outputs import require_known
from hecate.model.caddy import Edge
from hecate.model.estate import Estate
from hecate.model.middleware import IpFilter, Maintenance, Middleware, RequestBody
from hecate.model.routes import Route, Service
from hecate.resource import Resource

Step = dict[str, Any]
Spec = dict[str, Any]
Shapes = dict[Any, Spec]


def compile_caddy(estate: Estate, edge: Edge, guards: Collection[str]) -> list[Resource]:
    """The server, and one resource a route.

    guards: hosts whose application authentik has confirmed to be guarded and attached.
    """
    if not estate.routes:
        return []
    require_known(
        u.dial
        for service in (*estate.routes.values(), *estate.upstreams.values())
        for u in service.upstreams
        if not isinstance(u, str)
    )
    server = Resource("caddy.server", estate.caddy.server, compile_server(estate, edge), origin="hecate:caddy")
    needs, confirmed = (server.id,), frozenset(guards)
    shapes: Shapes = {}
    routes = [
        Resource(
            "caddy.route", host, compile_route(estate, host, route, confirmed, shapes), needs, f"hecate:routes:{host}"
        )
        for host, route in sorted(estate.routes.items())
    ]
    return [server, *routes]


def compile_route(
    estate: Estate, host: str, route: Route, confirmed: Collection[str], shapes: Shapes | None = None
) -> Spec:
    """The spec of one route. shapes: specs made before, by everything but host and address."""
    hosts = [host, *sorted(route.hosts)]
    passable = _passable(estate, route, hosts, confirmed)
    dial = plain_upstream(estate, route)
    key = _shape_key(route, hosts, passable, dial)
    shape = shapes.get(key) if shapes is not None and key else None
    if shape is None:
        shape = _shape(estate, host, route, passable, UPSTREAM if dial else None)
        if shapes is not None and key:
            shapes[key] = shape
    return {"hosts": hosts, **({"upstream": dial} if dial and passable else {}), **shape}


def compile_server(estate: Estate, edge: Edge) -> Spec:
    """What all routes share: `server` as Caddy's own object, without routes and TLS policies, and `apps`."""
    caddy = estate.caddy
    server: Spec = {"listen": [f"{edge.bind or ''}:{edge.https}"]}
    if caddy.trusted_proxies:
        # Not strict, an X-Forwarded-For with the client's own lies at the front would be believed.
        server |= {
            "trusted_proxies": {"source": "static", "ranges": list(caddy.trusted_proxies)},
            "trusted_proxies_strict": 1,
        }
    if not caddy.http3:
        server["protocols"] = ["h1", "h2"]
    if caddy.issuer == "none":
        server["automatic_https"] = {"disable": True}
    # Caddy's own answer for a host that no route names would be an empty 200.
    last = [{"handler": "static_response", "status_code": 404, "body": "No such host here.\n"}]
    found: Spec = {"server": server, "first": _first_steps(estate), "last": last, "loggers": {QUIET: quiet()}}
    if connection := server_connection(caddy):
        found["connection"] = connection
    if estate.monitoring.metrics and estate.monitoring.metrics.enabled:
        found["metrics"] = {"per_host": True} if estate.monitoring.metrics.per_host else {}
        if estate.monitoring.metrics.port:
            found["metrics_server"] = _metrics_server(estate.monitoring.metrics.port, estate.monitoring.metrics.path)
    on_demand = estate.certificates.on_demand
    if on_demand:
        found["on_demand"] = {"permission": {"module": "http", "endpoint": on_demand.ask}}
    storage = estate.certificates.storage
    if storage and (storage.type != "file_system" or storage.path):
        place = "root" if storage.type == "file_system" else "path"
        found["storage"] = {"module": storage.type, **({place: storage.path} if storage.path else {})}
    return found


def _first_steps(estate: Estate) -> list[Step]:
    """Before any route: one spelling for each host, and what a load balancer in front asks."""
    upper = [{"search": letter, "replace": letter.lower()} for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    dot = {"search_regexp": "\\.(:[0-9]*)?$", "replace": "$1"}
    lower = {"handler": "headers", "request": {"replace": {"Host": [*upper, dot]}}}
    odd = "[A-Z]|\\.(:[0-9]*)?$"
    steps: list[Step] = [unlogged(), {"match": [{"header_regexp": {"Host": {"pattern": odd}}}], "handle": [lower]}]
    health, tracing = estate.monitoring.health_endpoint, estate.monitoring.tracing
    if health and health.enabled:
        answer = middleware.respond(200, "ok\n", Cache_Control="no-store")
        steps.append({"match": [{"path": [health.path]}], "handle": [answer], "terminal": True})
        if health.detailed_path:
            name = middleware.respond(
                200, '{"status":"ok","host":"{system.hostname}"}\n', Content_Type="application/json"
            )
            steps.append({"match": [{"path": [health.detailed_path]}], "handle": [name], "terminal": True})
    if tracing:
        steps.append({"handle": [{"handler": "tracing", "span": tracing.span}]})
    return steps


def _metrics_server(port: int, path: str) -> Spec:
    """On loopback alone: what is measured tells strangers what there is."""
    routes = [{"match": [{"path": [path]}], "handle": [{"handler": "metrics"}], "terminal": True}]
    return {"listen": [f"127.0.0.1:{port}"], "routes": routes, "automatic_https": {"disable": True}}


def _passable(estate: Estate, route: Route, hosts: list[str], confirmed: Collection[str]) -> bool:
    """Whether the route may be published: it is public, or what protects it is known to be there."""
    if not route.auth_policy:
        return True
    policy = estate.auth_policies[route.auth_policy]
    return policy.provider != "authentik" or all(name in confirmed for name in hosts)


# Fields that say nothing about the steps, and fields whose values are hashable: a key by them is cheap.
ASIDE = {"upstreams", "hosts", "dns", "tags", "tenant", "verify"}
SIMPLE = (
    "middleware",
    "auth_policy",
    "without",
    "public_paths",
    "allowed_ips",
    "denied_ips",
    "max_body",
    "health_check",
    "timeouts",
    "upstream_tls",
    "balance",
    "discover",
    "tls_skip_verify",
)


def _shape_key(route: Route, hosts: list[str], passable: bool, dial: str | None) -> Any:
    """What two routes must have in common to be compiled alike; None: this one is compiled alone."""
    given = route.__pydantic_fields_set__ - ASIDE
    if (given and not given.issubset(SIMPLE)) or any(name[0] == "*" for name in hosts):
        return None
    behind = UPSTREAM if dial else route.upstreams  # an address that isn't a placeholder is part of the steps
    key = (passable, behind, *((name, getattr(route, name)) for name in SIMPLE if name in given))
    try:
        hash(key)
    except TypeError:  # a mapping somewhere in it
        return None
    return key


def _shape(estate: Estate, host: str, route: Route, passable: bool, dial: str | None) -> Spec:
    """Everything of a spec but hosts and upstream."""
    uses = _uses(estate, route)
    logs, elsewhere = _logs(estate, route, uses)
    loggers = loggers_of(log for some in (logs, *(own for _, own in elsewhere)) for log in some) if passable else {}
    spec: Spec = {"steps": [{"handle": [auth.closed()]}]}
    if passable:
        start = [*log_steps(logs, elsewhere), middleware.handled(auth.strip_identity(estate))]
        spec = {"steps": start + _open(estate, route, uses, dial)}
    optional = {"tls": compile_tls(estate, host, route), "loggers": loggers, "errors": _errors(route, uses)}
    return {**spec, **{k: v for k, v in optional.items() if v}}


def _logs(estate: Estate, route: Route, uses: list[Middleware]) -> tuple[list[Log], list[tuple[Step, list[Log]]]]:
    """The route's logs; and those of each of its paths, by matcher, the most specific first."""

    def of(more: list[Middleware]) -> list[Log]:
        return logs_of(estate.caddy, route, [use.config for use in (*uses, *more) if use.type == "audit_log"])

    return of([]), [(b.matcher, of(_rule_uses(estate, b))) for b in branches(route) if b.rule]


def _uses(estate: Estate, route: Route) -> list[Middleware]:
    defaults = [name for name in estate.caddy.middleware if name not in route.without and name not in route.middleware]
    return [estate.middleware_of(name) for name in (*defaults, *route.middleware)]


def _open(estate: Estate, route: Route, uses: list[Middleware], dial: str | None) -> list[Step]:
    found = branches(route)
    steps = _answers(estate, route, uses, found)
    if route.allowed_ips or route.denied_ips:
        steps += middleware.ip_filter(IpFilter(allow=route.allowed_ips, deny=route.denied_ips))
    steps += middleware.steps_of(uses, middleware.AT_THE_DOOR)
    for branch in found:
        cors = middleware.cors_of(_rule_uses(estate, branch))
        if cors:
            steps += middleware.preflights(cors, {"path": covered(branch.pattern)})
    steps += _before(route, uses)
    policy = estate.auth_policies[route.auth_policy] if route.auth_policy else None
    ask = auth.gate(estate, policy) if policy else None
    if ask:
        steps += auth.passage(ask)
        steps += classify(found)
        steps.append({**not_public(found), "handle": [auth.check(ask)]})
        steps += auth.hide_cookies(ask)
    for branch in found:
        if branch.rule:
            steps.append(_branch(estate, route, branch, branch.rule, dial, uses))
    # Not before the paths: what a rewrite makes of a public path might be a protected one.
    return [
        *steps,
        *middleware.steps_of(uses, middleware.AFTER_AUTH),
        *_answer(estate, route, dial, _pages(route, uses)),
    ]


def _answers(estate: Estate, route: Route, uses: list[Middleware], found: list[Branch]) -> list[Step]:
    """The answer's headers, before everything else: refusals and redirects have them too.

    Where a path has its own say, the steps that fit the most specific path are taken, and no others.
    """
    outer, cors = middleware.changes_of(uses, route.headers), middleware.cors_of(uses)
    usual = middleware.answers(outer, cors)
    steps: list[Step] = []
    for branch in found:
        inner = _rule_uses(estate, branch)
        if branch.rule:
            changes = [*outer, *middleware.changes_of(inner, branch.rule.headers)]
            own = middleware.answers(changes, middleware.cors_of(inner) or cors)
            steps.append({"match": [branch.matcher], "handle": [{"handler": "subroute", "routes": own}]})
    if all(step["handle"][0]["routes"] == usual for step in steps):
        return usual
    steps.append({"handle": [{"handler": "subroute", "routes": usual}]})
    return [{"group": "hecate_answers", **step} for step in steps]


def _rule_uses(estate: Estate, branch: Branch) -> list[Middleware]:
    return [estate.middleware_of(name) for name in branch.rule.middleware] if branch.rule else []


def _before(service: Service, uses: list[Middleware]) -> list[Step]:
    """What comes before any login, of the service itself and of its middleware."""
    steps: list[Step] = []
    if service.maintenance:
        said = service.maintenance if isinstance(service.maintenance, Maintenance) else Maintenance()
        steps += middleware.maintenance(said)
    if service.max_body:
        steps += middleware.request_body(RequestBody(max_size=service.max_body))
    return steps + middleware.steps_of(uses, middleware.BEFORE_AUTH)


def _branch(estate: Estate, route: Route, branch: Branch, rule: Any, dial: str | None, outer: list[Middleware]) -> Step:
    uses = _rule_uses(estate, branch)
    steps = [*middleware.steps_of(uses, middleware.AT_THE_DOOR), *_before(rule, uses)]
    if rule.strip:
        steps.append(middleware.handled({"handler": "rewrite", "strip_path_prefix": branch.pattern.removesuffix("/*")}))
    steps += middleware.steps_of([*outer, *uses], middleware.AFTER_AUTH)
    pages = [*_pages(rule, uses), *_pages(route, outer)]
    if rule.answers:
        steps += [*_towards_upstream(route), *_answer(estate, rule, None, pages)]
    else:
        own = middleware.rewrite(rule.rewrite) if rule.rewrite else []
        steps += [*own, *_towards_upstream(rule), *_answer(estate, route, dial, pages)]
    inner: Step = {"handler": "subroute", "routes": steps}
    if errors := _errors(rule, uses):
        inner["errors"] = {"routes": [*errors, *_errors(route, outer)]}
    return {"match": [branch.matcher], "handle": [inner], "terminal": True}


def _towards_upstream(service: Service) -> list[Step]:
    """Request headers of a service whose proxy, where they would otherwise be set, isn't used."""
    changes = middleware.header_changes(service.headers.request)
    return [middleware.handled({"handler": "headers", "request": changes})] if changes else []


def _answer(estate: Estate, service: Service, dial: str | None, pages: list[Any]) -> list[Step]:
    steps: list[Step] = []
    if service.redirect:
        return middleware.redirect(service.redirect)
    if service.rewrite:
        steps += middleware.rewrite(service.rewrite)
    if service.upstreams or service.discover:
        handler = proxy(estate, service, dial)
        answers = [answer for config in pages if config.upstream for answer in middleware.error_answers(config)]
        if answers:
            handler["handle_response"] = answers
        steps.append(middleware.handled(handler))
    else:
        steps.append(middleware.handled(middleware.respond(404, "Nothing here.\n")))
    return steps


def _pages(service: Service, uses: list[Middleware]) -> list[Any]:
    """The more specific first, of which the first that fits is taken."""
    own = [service.error_pages] if service.error_pages else []
    return own + [use.config for use in reversed(uses) if use.type == "error_pages"]


def _errors(service: Service, uses: list[Middleware]) -> list[Step]:
    return [step for config in _pages(service, uses) for step in middleware.error_routes(config)]
