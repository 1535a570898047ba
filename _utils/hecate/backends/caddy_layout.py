"""How Hecate's routes lie in Caddy's configuration, and back.

Caddy's cost of a configuration follows the number of proxies in it, and that of a request the
number of matchers before its own. So:

    hecate-first          one spelling for each host; health endpoint
    hecate-table-DIGEST   hosts whose steps are equal: one list of hosts, one map host -> upstream, the steps once
    hecate-route-HOST     a route whose steps are its own
    hecate-bucket-N       where there are many of these: about sqrt(n) of them behind one list of their hosts
    ... wildcards, more labels first; what strangers put into the server
    hecate-last           what an unknown host gets

`read` and `render` are inverses: what `render` would not make from what `read` found was edited by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from hecate.backends.caddy_apps import (
    last_route,
    read_loggers,
    read_server,
    with_app_settings,
    with_server,
)
from hecate.backends.caddy_marks import (
    BUCKET,
    FIRST,
    LAST,
    ROUTE,
    SERVER,
    TABLE,
    UPSTREAM,
    Config,
    Held,
    Spec,
    fingerprint,
    owned_before,
    servers_of,
)
from hecate.backends.caddy_tables import distinct, laid, read_item, shape_of
from hecate.backends.caddy_tls import (
    automation_policies,
    connection_policies,
    files_of,
    is_alone,
    managed,
    read_tls,
    without_issuing,
)


def read(config: Config, name: str, known: Iterable[Spec] = ()) -> Held:
    """known: specs whose shapes are used where they are equal, so that comparing them is quick."""
    server = servers_of(config).get(name)
    if server is None or server.get("@id") != SERVER:
        return Held()
    shapes = {fingerprint(shape_of(spec)): shape_of(spec) for spec in distinct(known)}
    held = Held(read_server(config, name, server))
    for route in server.get("routes") or []:
        mark = str(route.get("@id", ""))
        if mark.startswith(BUCKET):
            for item in route["handle"][0]["routes"]:
                read_item(item, shapes, held)
        elif mark.startswith((ROUTE, TABLE)):
            read_item(route, shapes, held)
        elif mark not in (FIRST, LAST):
            held.strangers.append(route)
    read_tls(config, server, held)
    read_loggers(config, held)
    held.rendered = render(config, name, held.server, held.routes) == config
    return held


def render(config: Config, name: str, server: Spec | None, routes: Mapping[str, Spec]) -> Config:
    """A new configuration in which Hecate's part is just this; without server, there is none."""
    there, had = servers_of(config).get(name) or {}, owned_before(config)
    strangers = [r for r in there.get("routes") or [] if not str(r.get("@id", "")).startswith("hecate-")]
    if server is None:
        return with_app_settings(with_server(config, name, None, None), had, {}, {})
    made: Config = {"@id": SERVER, **server["server"]}
    made["routes"] = [
        {"@id": FIRST, "handle": [{"handler": "subroute", "routes": server["first"]}]},
        *laid(routes),
        *strangers,
        last_route(server, managed(routes)),
    ]
    if own_files := without_issuing(routes):
        made["automatic_https"] = {**made.get("automatic_https", {}), "skip_certificates": own_files}
    if policies := connection_policies(routes, server.get("connection", {})):
        made["tls_connection_policies"] = policies
        if any("client_authentication" in policy for policy in policies):
            made["strict_sni_host"] = True  # else another name's handshake would open this host
    loggers = dict(server.get("loggers", {}))
    loggers |= {n: logger for spec in routes.values() if "loggers" in spec for n, logger in spec["loggers"].items()}
    if loggers:
        made["logs"] = {}
    automation = automation_policies(routes, partial(is_alone, config, name, strangers))
    config = with_server(config, name, made, server.get("metrics_server"))
    return with_app_settings(config, had, server, loggers, automation, files_of(routes), managed(routes))


def addresses(config: Config, name: str) -> list[tuple[str, int]]:
    """Where the server's listeners can be reached from this machine."""
    found = []
    for listen in servers_of(config).get(name, {}).get("listen") or []:
        host, _, port = str(listen).rpartition(":")
        if port.isdigit():
            found.append((host.strip("[]") or "127.0.0.1", int(port)))
    return found


def dials(spec: Spec) -> list[str]:
    """Addresses that a route leads to, gates of forward auth among them; names of what DNS is asked for."""
    found: dict[str, None] = {}

    def walk(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            if "dial" in value:
                found[spec.get("upstream", value["dial"]) if value["dial"] == UPSTREAM else value["dial"]] = None
            if value.get("source") in ("srv", "a") and "name" in value:
                found[f"{value['source']}:{value['name']}"] = None
            for item in value.values():
                walk(item)

    walk(spec.get("steps"))
    return list(found)


def summary(spec: Spec) -> str:
    """What a route answers with, in a word or two: what its handlers are, in order, each once."""
    names: dict[str, None] = {}
    for step in spec.get("steps") or []:
        for handler in step.get("handle") or []:
            if handler.get("handler") not in ("vars", "headers"):
                names[str(handler.get("handler"))] = None
    return ", ".join(names)
