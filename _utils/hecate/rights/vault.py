"""Who does what in Vault for a pillar: a row for each use of a path.

KV: https://developer.hashicorp.com/vault/docs/secrets/kv/kv-v2#acl-rules; PKI signs at <mount>/sign/<role>; database:
https://developer.hashicorp.com/vault/api-docs/secret/databases#rotate-static-role-credentials
"""

from __future__ import annotations

from collections.abc import Iterator

from hecate.clients.vault import Place
from hecate.model import Estate
from hecate.model.references import references
from hecate.model.rotation import BasicAuthPassword, DatabasePassword, Stocked
from hecate.rotating import minion_of
from hecate.secrets import Stored

MASTER, ENGINE = "hecate-master", "hecate-events"  # holders that are no minions: the runner, and the events' engine
# Sections whose references no part of Hecate looks up in Vault: Caddy reads them, nobody does yet, or they open it.
ELSEWHERE = ("certificates", "middleware", "notifications", "vault")
Use = tuple[str, str, str, str]
"""Holder, path, capability, and the pillar path that wants it."""


def uses(estate: Estate) -> Iterator[Use]:
    if estate.vault is None:
        return
    yield from _reads(estate, Place(estate.vault.mount, estate.vault.kv))
    yield from _signatures(estate)
    yield from _rotations(estate, Place(estate.vault.mount, estate.vault.kv))


def edges_of(estate: Estate) -> tuple[str, ...]:
    return estate.targets.caddy or tuple(estate.edges)


def resolved_by(where: str, estate: Estate) -> tuple[str, ...]:
    """Who resolves a reference that stands at this pillar path. Raises KeyError for a section that nobody knows."""
    section, targets = where.split(":")[1], estate.targets
    if section in ELSEWHERE:
        return ()
    if section == "rotation":
        name = where.split(":")[2]
        is_everywhere = isinstance(estate.rotation[name], BasicAuthPassword)  # each edge hashes it for its own Caddy
        return edges_of(estate) if is_everywhere else (minion_of(estate, name),)
    if where == "hecate:authentik:events:secret":
        return targets.authentik, ENGINE
    return {
        "authentik": (targets.authentik,),
        "applications": (targets.authentik,),
        "hetzner_dns": (targets.dns,),
        "rfc2136": (targets.dns,),
        "nomad": (targets.controller,),
        "routes": edges_of(estate),
        "store": (MASTER,),
        "history": (MASTER,),
        "verify": (MASTER, *estate.verify.probers, *edges_of(estate)),  # whoever probes may have to log in
    }[section]


def _reads(estate: Estate, place: Place) -> Iterator[Use]:
    for where, reference in references(estate):
        if reference.scheme == "vault":
            for holder in resolved_by(where, estate):
                yield holder, place.at(Stored.of(reference).path), "read", where


def _signatures(estate: Estate) -> Iterator[Use]:
    for host, route in estate.routes.items():
        if pki := route.tls.pki:
            for edge in edges_of(estate):
                yield edge, f"{pki.mount}/sign/{pki.role}", "update", f"hecate:routes:{host}:tls:pki"


def _rotations(estate: Estate, place: Place) -> Iterator[Use]:
    """A successor is written over a secret that is there, so nothing is created."""
    for name, found in estate.rotation.items():
        minion, where = minion_of(estate, name), f"hecate:rotation:{name}"
        if isinstance(found, Stocked):
            yield minion, place.at(found.stored.path), "update", f"{where}:secret"
        elif isinstance(found, DatabasePassword):
            if found.root_of:
                yield minion, f"{found.mount}/rotate-root/{found.root_of}", "update", where
            yield minion, f"{found.mount}/rotate-role/{found.role}", "update", where
            yield minion, f"{found.mount}/static-creds/{found.role}", "read", where
