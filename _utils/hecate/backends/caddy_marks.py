"""The marks by which Hecate knows its own in a Caddy configuration, and small helpers of all that read and lay it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]
Spec = Mapping[str, Any]
ROUTE, TABLE, BUCKET = "hecate-route-", "hecate-table-", "hecate-bucket-"
SERVER, FIRST, LAST, TLS, METRICS = "hecate-server", "hecate-first", "hecate-last", "hecate-tls-", "hecate-metrics"
LOGGER, QUIET, LOGS = "hecate-", "hecate-quiet", "hecate_logs"
ACCESS, ERROR, PROXY = "http.log.access.", "http.log.error.", "http.handlers.reverse_proxy"
OURS = (ACCESS + LOGGER, ERROR + LOGGER)
UPSTREAM, KEY = "{hecate.upstream}", "{hecate.route}"
OWNS, MANAGED, REST = "hecate_owns", "hecate_managed", "-rest"
SAID = (
    "vault",
    "vault_key",
    "pki",
    "pki_key",
    "pki_ttl",
    "sha256",
)  # what a spec says of a certificate beside its two paths
FEW = 48  # items that are tried one after the other; more of them go into buckets
BIG = 400  # hosts; a table with more is no part of a bucket
APART = {"hosts", "upstream", "tls", "loggers"}  # what a spec has beside its shape


@dataclass
class Held:
    """What of a configuration is Hecate's. rendered: it lies there as `render` would lay it."""

    server: Spec | None = None
    routes: dict[str, Config] = field(default_factory=dict)
    strangers: list[Config] = field(default_factory=list)
    rendered: bool = True


def servers_of(config: Config) -> Config:
    return dict(((config.get("apps") or {}).get("http") or {}).get("servers") or {})


def filled(container: Config, key: str, value: Any) -> Config:
    found = {k: v for k, v in container.items() if k != key}
    return {**found, key: value} if value else found


def fingerprint(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def parent(host: str) -> str:
    """The wildcard that covers a name: a.b.test -> *.b.test"""
    return f"*.{host.partition('.')[2]}"


def owned_before(config: Config) -> set[str]:
    """Settings of whole apps, and names to manage, that Hecate's last route claims."""
    for server in servers_of(config).values():
        if server.get("@id") == SERVER:
            for route in server.get("routes") or []:
                if route.get("@id") == LAST:
                    return {key for h in route["handle"] for key in (*(h.get(OWNS) or []), *(h.get(MANAGED) or []))}
    return set()


def our_files(tls: Config) -> list[Config]:
    files = (tls.get("certificates") or {}).get("load_files") or []
    return [f for f in files if str((f.get("tags") or [""])[0]).startswith(LOGGER)]
