"""Caddy as a backend: one look at the whole configuration, one conditional write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hecate.clients.caddy import CaddyClient
from hecate.errors import Conflict
from hecate.resource import Change, Resource, Snapshot

Config = dict[str, Any]


@dataclass(frozen=True)
class Marks:
    """The `@id`s by which Hecate knows its own objects, and the route that always comes last."""

    route: str
    server: str
    tls: str
    last: Config


@dataclass(frozen=True)
class Seen:
    config: Config
    etag: str


class CaddyBackend:
    """Everything below one marked server and one marked TLS policy; nothing else is touched."""

    system = "caddy"
    atomic = True
    together: frozenset[str] = frozenset()

    def __init__(self, client: CaddyClient, server: str, marks: Marks) -> None:
        self._client, self._name, self._marks = client, server, marks

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        config, etag = self._client.config()
        owned: list[Resource] = []
        foreign: list[Resource] = []
        server = _servers(config).get(self._name)
        if server is not None:
            found = Resource("caddy.server", self._name, {k: v for k, v in server.items() if k != "routes"})
            marked = server.get("@id") == self._marks.server
            (owned if marked else foreign).append(found)
            needs = (found.id,)
            owned += [
                Resource("caddy.route", str(route["@id"]).removeprefix(self._marks.route), route, needs)
                for route in server.get("routes") or []
                if self._is_route(route)
            ]
        for name in self._certified(config):
            owned.append(Resource("caddy.certificate", name, {"issuer": "internal"}, (f"caddy.server {self._name}",)))
        return Snapshot({r.id: r for r in owned}, {r.id: r for r in foreign}, Seen(config, etag))

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        return want  # Caddy gives back exactly what it was given

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        seen: Seen = snapshot.raw
        config = self._changed(seen.config, changes)
        if config != seen.config:
            self._client.replace(config, seen.etag)

    def root_certificate(self) -> str:
        """PEM of the root of this Caddy's internal CA."""
        return self._client.root_certificate()

    def _is_route(self, route: Config) -> bool:
        return str(route.get("@id", "")).startswith(self._marks.route)

    def _changed(self, config: Config, changes: Sequence[Change]) -> Config:
        """A new configuration; the one that was read is left as it is."""
        after = {change.id: change.after for change in changes}
        server_id = f"caddy.server {self._name}"
        server = _servers(config).get(self._name)
        if server_id in after:
            server = self._server(after[server_id], server)
        if server is not None:
            server = {**server, "routes": self._routes(server.get("routes") or [], after)}
        config = _with_server(config, self._name, server)
        names = set(self._certified(config))
        for change in changes:
            if change.kind == "caddy.certificate":
                (names.add if change.after else names.discard)(change.subject.key)
        policy = {"@id": self._marks.tls, "subjects": sorted(names), "issuers": [{"module": "internal"}]}
        others = [p for p in _policies(config) if p.get("@id") != self._marks.tls]
        # First: a stranger's policy without subjects would otherwise take all hosts.
        return _with_policies(config, [policy, *others] if names else others)

    def _certified(self, config: Config) -> list[str]:
        """Hosts in our own TLS policy: all that want the internal CA share one."""
        ours = [p for p in _policies(config) if p.get("@id") == self._marks.tls]
        return list(ours[0].get("subjects") or []) if ours else []

    def _server(self, wanted: Resource | None, have: Config | None) -> Config | None:
        routes = (have or {}).get("routes") or []
        if wanted:
            return {**wanted.spec, "routes": routes}
        strangers = [r for r in routes if not self._is_route(r) and r.get("@id") != self._marks.last["@id"]]
        if strangers:
            raise Conflict(
                [f"caddy: a route by somebody else in server {self._name} ({r.get('@id')})" for r in strangers]
            )
        return None

    def _routes(self, have: list[Config], after: dict[str, Resource | None]) -> list[Config]:
        """Ours by host, then whatever others put into the server, then the answer for unknown hosts."""
        ours = {f"caddy.route {r['@id'].removeprefix(self._marks.route)}": r for r in have if self._is_route(r)}
        for name, resource in after.items():
            if name.startswith("caddy.route "):
                if resource:
                    ours[name] = dict(resource.spec)
                else:
                    ours.pop(name, None)
        last = self._marks.last
        others = [r for r in have if not self._is_route(r) and r.get("@id") != last["@id"]]
        return [*(ours[name] for name in sorted(ours)), *others, last]


def _servers(config: Config) -> Config:
    return dict(((config.get("apps") or {}).get("http") or {}).get("servers") or {})


def _policies(config: Config) -> list[Config]:
    tls = (config.get("apps") or {}).get("tls") or {}
    return list((tls.get("automation") or {}).get("policies") or [])


def _with_server(config: Config, name: str, server: Config | None) -> Config:
    apps = config.get("apps") or {}
    http = apps.get("http") or {}
    servers = {k: v for k, v in (http.get("servers") or {}).items() if k != name}
    if server is not None:
        servers[name] = server
    return {**config, "apps": {**apps, "http": {**http, "servers": servers}}}


def _with_policies(config: Config, policies: list[Config]) -> Config:
    """Containers that would be left empty go too, so that undoing leaves no trace."""
    apps = dict(config.get("apps") or {})
    tls = dict(apps.get("tls") or {})
    automation = dict(tls.get("automation") or {})
    for container, key, value in (
        (automation, "policies", policies),
        (tls, "automation", automation),
        (apps, "tls", tls),
    ):
        if value:
            container[key] = value
        else:
            container.pop(key, None)
    return {**config, "apps": apps}
