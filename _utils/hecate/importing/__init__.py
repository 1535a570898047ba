"""A configuration of Caddy's -> pillar, and a report of what pillar can't say.

    config ──► server_settings, whole      fields of hecate:caddy, monitoring
           ──► routes_of, host by host     what happens to each region of its requests (chains, parts)
           ──► Issuing, Logs               certificates and logs of each host
           ──► Names                       what routes share, by name
           ──► entries                     every leaf that none of these used

Nothing is guessed where it would open a door: what protects and can't be said becomes maintenance.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import yaml

from hecate import model
from hecate.importing.guards import Use
from hecate.importing.ledger import Ledger, Node
from hecate.importing.naming import Names
from hecate.importing.parts import Fields
from hecate.importing.report import Entry, entries, host_of, text
from hecate.importing.routes import Made, routes_of
from hecate.importing.settings import Issuing, Logs, certificates, is_https, ours, server_settings, whole
from hecate.importing.source import Source

__all__ = ["Entry", "Imported", "import_config"]


ORDER = ("hosts", "upstreams", "discover", "redirect", "middleware", "auth_policy")


@dataclass(frozen=True)
class Imported:
    """pillar: as data, {"hecate": ...}; yaml: the same to paste. report: text; entries: the same as data."""

    pillar: dict[str, Any]
    yaml: str
    report: str
    entries: list[Entry]


def import_config(
    config: dict[str, Any],
    caddyfile: str | None = None,
    *,
    warnings: Collection[str] = (),
    own: str = "hecate",
) -> Imported:
    """Turn Caddy's JSON into a pillar that `model.parse` accepts, and say what became of the rest.

    caddyfile: the text that the JSON was adapted from, for line numbers.
    own: name of the server that is Hecate's already; it is passed over.
    """
    ledger = Ledger(config)
    source = Source(caddyfile) if caddyfile is not None else None
    pillar, servers = _pillar(ledger, source, own)
    pillar = _parsing(pillar, servers, ledger)
    found = entries(ledger, source)
    count = len(pillar.get("routes", {}))
    body = {"hecate": pillar}
    written = yaml.safe_dump(body, sort_keys=False, default_flow_style=False, allow_unicode=True, width=110)
    return Imported(body, written, text(found, count, list(warnings)), found)


def _pillar(ledger: Ledger, source: Source | None, own: str) -> tuple[Fields, list[Node]]:
    root = ledger.root
    http = root.at("apps", "http")
    servers = _servers(http, own)
    plain = [name for name, server in servers if not is_https(server, http.peek("http_port", 80))]
    all_plain = len(plain) == len(servers) > 0
    servers.sort(key=lambda item: (item[0] in plain, item[1].peek("listen") != [":443"]))
    issuing, logs = Issuing(root.at("apps", "tls"), [s for _, s in servers]), Logs(root)
    caddy: Fields = {"issuer": "none"} if all_plain else {}
    made: list[Made] = []
    for name, server in servers:
        https = name not in plain
        caddy |= server_settings(server, name, https, all_plain)
        for one in routes_of(server.at("routes"), https=https or all_plain, known=[m.host for m in made]):
            _finish(one, server, issuing, logs, plain=all_plain)
            made.append(one)
        _errors(server)
    names = Names(made, lambda use: _snippet(ledger, source, use))
    routes = {host: names.route(one) for host, one in _grouped(made).items()}
    sections = {
        "caddy": caddy,
        "certificates": certificates(root, issuing),
        "forward_auth": names.providers,
        "auth_policies": {name: {"provider": name} for name in names.providers},
        "upstreams": names.groups,
        "middleware": names.middleware,
        "routes": {host: _in_order(route) for host, route in sorted(routes.items())},
        **whole(root),
    }
    return {key: value for key, value in sections.items() if value}, [server for _, server in servers]


def _servers(http: Node, own: str) -> list[tuple[str, Node]]:
    """Servers by name, without Hecate's own."""
    found = []
    for name, server in http.at("servers").fields():
        if name == own or ours(server) or name == "hecate-metrics":
            server.take()
        else:
            found.append((name, server))
    return found


def _finish(made: Made, server: Node, issuing: Issuing, logs: Logs, *, plain: bool) -> None:
    """What a host has beside its handlers."""
    tls = {} if plain else issuing.of(made.host)
    if tls.pop("closed", False):
        made.fields["maintenance"] = True
    if tls:
        made.fields["tls"] = tls
    log = logs.of(server, made.host)
    if log is not None:
        made.fields["access_log"] = log


def _in_order(fields: Fields) -> Fields:
    """As a person would write it: where it leads first, paths last."""
    rank = {name: number for number, name in enumerate(ORDER)}
    return {key: fields[key] for key in sorted(fields, key=lambda key: (rank.get(key, len(ORDER)), key == "paths"))}


def _grouped(made: list[Made]) -> dict[str, Made]:
    """Hosts that were served by the same entries in the same way are one route."""
    alike: dict[str, list[Made]] = {}
    for one in made:
        alike.setdefault(one.same(), []).append(one)
    found = {}
    for first, *others in alike.values():
        if others:
            first.fields = {"hosts": [other.host for other in others], **first.fields}
        found[first.host] = first
    return found


def _errors(server: Node) -> None:
    if server.peek("errors"):
        what = "handle_errors: pages of one's own for errors are error_pages in Hecate, by status"
        server.at("errors").refuse("left", what, "write the pages under error_pages of the route, or as middleware")


def _snippet(ledger: Ledger, source: Source | None, use: Use) -> str:
    if source is None or not use.nodes:
        return ""
    node = use.nodes[0]
    line = source.find(node.path, node.value, host_of(ledger, node.path))
    return source.snippet_at(line.number) if line else ""


def _parsing(pillar: Fields, servers: list[Node], ledger: Ledger) -> Fields:
    """The last word is the model's: a route that it refuses is taken out, and told of."""
    while problems := model.problems_in({"hecate": pillar}):
        gone = [_without(pillar, problem.path, problem.why, servers, ledger) for problem in problems]
        if not any(gone):
            for server in servers:
                server.refuse("left", f"the model refuses all of it: {problems[0]}", "write it by hand")
            return {}
    return pillar


def _without(pillar: Fields, path: str, why: str, servers: list[Node], ledger: Ledger) -> bool:
    """Take out the smallest named thing that a problem is in."""
    section, _, rest = path.removeprefix("hecate:").partition(":")
    held, place = pillar.get(section), ledger.root.at("apps")
    names = [n for n in held if rest == n or rest.startswith(f"{n}:")] if isinstance(held, dict) else []
    if names and isinstance(held, dict):
        del held[max(names, key=len)]
        entries = [e for server in servers for e in server.at("routes").items() if _names(e, max(names, key=len))]
        place = entries[0] if section == "routes" and entries else place
    elif section in pillar:
        del pillar[section]
    else:
        return False
    what = f"the model refuses what was made of it: {path}: {why}"
    tell = place.refuse if place.path[-1] != "apps" else place.tell
    tell("left", what, "write it by hand", names[0] if section == "routes" and names else "")
    return True


def _names(entry: Node, host: str) -> bool:
    return any(host in node.peek("host", []) for node in entry.at("match").items())
