"""Caddy as a backend: one look at the whole configuration, one conditional write."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hecate.backends import at_once
from hecate.backends import caddy_blame as blame
from hecate.backends import caddy_layout as layout
from hecate.backends.caddy_certificates import CertificateFiles
from hecate.backends.caddy_marks import Held
from hecate.clients.caddy import CaddyClient
from hecate.errors import ApiFailure, Conflict, Faulty, Refused, Stale, Unreachable
from hecate.files import write_whole
from hecate.resource import Change, Resource, Snapshot

Config = dict[str, Any]
SHOWN = 5  # routes that an error names
ROUTE, SERVER, SAVED = "caddy.route", "caddy.server", "caddy.saved"


def saved_resource(path: Path) -> Resource:
    return Resource(SAVED, str(path), {"holds": "what runs"}, origin="hecate:caddy:config_file")


@dataclass(frozen=True)
class Seen:
    config: Config
    etag: str
    held: Held


class CaddyBackend:
    """Everything in one marked server and what belongs to it; nothing else is touched.

    saved: file that always holds what runs, for a Caddy that starts without Salt.
    certificates: those that come from Vault, as files.
    """

    system = "caddy"
    atomic = True
    brief = True

    def __init__(self, client: CaddyClient, server: str, saved: Path, certificates: CertificateFiles) -> None:
        self.client, self._name, self.saved, self.certificates = client, server, saved, certificates
        self._written: tuple[Config, Held] | None = None

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        config, etag = self.client.config()
        held = self._held(config, scope)
        owned: dict[str, Resource] = {}
        foreign: dict[str, Resource] = {}
        if held.server is not None:
            edited = {} if held.rendered else {"layout": "edited by hand"}
            server = Resource(SERVER, self._name, {**held.server, **edited})
            owned[server.id], needs = server, (server.id,)
            routes = (Resource(ROUTE, key, spec, needs) for key, spec in held.routes.items())
            owned |= {route.id: self.certificates.checked(route) for route in routes}
        elif (stranger := config.get("apps", {}).get("http", {}).get("servers", {}).get(self._name)) is not None:
            foreign[f"{SERVER} {self._name}"] = Resource(SERVER, self._name, {"server": stranger})
        if self._compared(config) == "same":
            # Neither Hecate's to delete nor to undo: it only follows what runs.
            saved = saved_resource(self.saved)
            foreign[saved.id] = saved
        return Snapshot(owned, foreign, Seen(config, etag, held))

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        return self.certificates.recognised(want, have)  # else Caddy gives back exactly what it was given

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        return at_once(changes)

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        seen: Seen = snapshot.raw
        changes = [self._certified(change) for change in changes]
        held = self._changed(seen, changes)
        config = layout.render(seen.config, self._name, held.server, held.routes)
        data = json.dumps(config, separators=(",", ":")).encode()
        # Before the configuration that names them; they are in nobody's way if Caddy refuses it.
        renewed = self.certificates.write(c.after.spec for c in changes if c.kind == ROUTE and c.after)
        if config != seen.config:
            self._write(config, data, seen, held, changes)
        elif renewed:
            self.client.replace(config, seen.etag, data, force=True)  # the same words, other files
        self.certificates.tidy(seen.held.routes.values(), held.routes.values())
        self._save(data)
        self._written = config, held

    def reload(self) -> None:
        """Load what runs once more, so that Caddy reads anew the files that it names."""
        config, etag = self.client.config()
        self.client.replace(config, etag, force=True)

    def routes(self) -> dict[str, Config]:
        """What each of Hecate's routes does now, by key: its hosts, and the upstreams that it leads to."""
        held = layout.read(self.client.config()[0], self._name)
        return {
            key: {"hosts": spec["hosts"], "upstreams": layout.dials(spec), "answers": layout.summary(spec)}
            for key, spec in sorted(held.routes.items())
        }

    def config(self) -> Config:
        """Hecate's server and what belongs to it, as it runs; password hashes left out."""
        held = layout.read(self.client.config()[0], self._name)
        found: Config = _without_hashes({"server": held.server, "routes": held.routes})
        return found

    def upstreams(self) -> dict[str, Config]:
        """Upstreams in use, by address: requests at this moment, failures remembered, and whether active checks pass.

        Not those that a table of hosts leads to: Caddy counts them all as one.

        Follows https://caddyserver.com/docs/api#get-reverse-proxyupstreams; active checks are told only by the
        metric caddy_reverse_proxy_upstreams_healthy, up to ten seconds late.
        """
        healthy = self.client.gauges("caddy_reverse_proxy_upstreams_healthy", "upstream")
        rows = self.client.upstreams()
        return {
            row["address"]: {
                "requests": row["num_requests"],
                "fails": row["fails"],
                "healthy": bool(healthy.get(row["address"], 1.0)) and not row["fails"],
            }
            for row in sorted(rows, key=lambda row: str(row["address"]))
            if "{" not in row["address"]  # a table's placeholder: Caddy keeps no account of what it stands for
        }

    def disk(self) -> str:
        """How the file for a starting Caddy compares to what runs: "same", "missing", "unreadable" or "differs"."""
        return self._compared(self.client.config()[0])

    def root_certificate(self) -> str:
        """PEM of the root of this Caddy's internal CA."""
        return self.client.root_certificate()

    def _held(self, config: Config, scope: Sequence[Resource]) -> Held:
        """What of `config` is ours; what this backend wrote itself it needs not take apart again."""
        if self._written and self._written[0] == config:
            return self._written[1]
        return layout.read(config, self._name, (r.spec for r in scope if r.kind == ROUTE))

    def _certified(self, change: Change) -> Change:
        if change.kind != ROUTE or change.after is None:
            return change
        return replace(change, after=self.certificates.issued(change.after, change.before))

    def _changed(self, seen: Seen, changes: Sequence[Change]) -> Held:
        """What shall be there; what was read is left as it is."""
        server, routes = seen.held.server, dict(seen.held.routes)
        for change in changes:
            after = change.after
            if change.kind == SERVER:
                server = {k: v for k, v in after.spec.items() if k != "layout"} if after else None
            elif change.kind == ROUTE and after:
                routes[after.key] = dict(after.spec)
            elif change.kind == ROUTE:
                routes.pop(change.subject.key, None)
        strangers = seen.held.strangers
        if server is None and strangers:
            where = f"caddy: a route by somebody else in server {self._name}"
            raise Conflict([f"{where} ({route.get('@id')})" for route in strangers])
        return Held(server, routes if server else {}, strangers)

    def _write(self, config: Config, data: bytes, seen: Seen, held: Held, changes: Sequence[Change]) -> None:
        try:
            self.client.replace(config, seen.etag, data)
        except Stale:
            raise
        except (Refused, Faulty) as err:
            raise self._blamed(err, config, held, changes) from err
        except Unreachable:
            self._force(seen, config)
            raise

    def _force(self, seen: Seen, sent: Config) -> None:
        """After a reset nobody knows what runs: Caddy may hold, and show, what it failed to start.

        So what ran before is loaded once more, whatever Caddy believes, and must be heard listening.
        """
        now, etag = self.client.config()
        if now not in (sent, seen.config) or not seen.config.get("apps"):
            return  # somebody else has written since; or there was nothing, and the undo takes ours away
        self.client.replace(seen.config, etag, force=True)
        deaf = [address for address in layout.addresses(seen.config, self._name) if not _listens(address)]
        if deaf:
            where = ", ".join(f"{host}:{port}" for host, port in deaf)
            raise Faulty("caddy", f"the admin API answers, but nothing listens on {where}; restart Caddy")

    def _blamed(self, err: ApiFailure, config: Config, held: Held, changes: Sequence[Change]) -> Refused:
        """Caddy's refusal in the pillar's terms: which routes, where they stand, and why."""
        message = str(err.body.get("error", "")) if isinstance(err.body, dict) else err.message
        keys = blame.culprits(config, self._name, message, held.routes) if held.server else []
        origins = {c.subject.key: c.subject.origin for c in changes if c.kind == ROUTE}
        changed = [key for key in keys if key in origins] or keys
        where = ", ".join(origins.get(key) or f"hecate:routes:{key}" for key in changed[:SHOWN])
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        fault = f" because of {where}{more}" if where else ""
        return Refused("caddy", f"refuses the configuration{fault}: {blame.reason(message)}", code=err.code)

    def _compared(self, config: Config) -> str:
        try:
            kept = json.loads(self.saved.read_bytes())
        except FileNotFoundError:
            return "missing"
        except (OSError, ValueError):
            return "unreadable"
        return "same" if kept == config else "differs"

    def _save(self, data: bytes) -> None:
        self.saved.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.saved, data)


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError:
        return False
    return True


def _without_hashes(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: "(hidden)" if k == "password" else _without_hashes(v) for k, v in value.items()}
    return [_without_hashes(item) for item in value] if isinstance(value, list) else value
