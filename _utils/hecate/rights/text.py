"""Rights as an operator hands them out: policies, calls and words, in one script to read and to paste."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hecate.clients.nomad import NAMESPACE
from hecate.clients.vault import capabilities_of
from hecate.rights import Rights, Rule

Told = dict[str, Any]
SESSIONS = 'session_prefix "" { policy = "write" }'
ASSIGN = (
    'curl -fsS "$AUTHENTIK_URL/api/v3/rbac/permissions/assigned_by_roles/$ROLE/assign/" '
    '-H "Authorization: Bearer $AUTHENTIK_TOKEN" -H "Content-Type: application/json" -d @-'
)


def text(needed: Sequence[Rights]) -> str:
    """A script for a shell: whatever is no command is a comment."""
    return "\n\n".join("\n".join((f"# {rights.holder}", *_lines(rights))) for rights in needed)


def data(needed: Sequence[Rights]) -> dict[str, Told]:
    """By holder: {vault: {policy: name, hcl}, authentik: {role, permissions} or {superuser}, hetzner, consul, nomad}"""
    return {rights.holder: _told(rights) for rights in needed}


def policy(rules: Sequence[Rule]) -> str:
    """A Vault policy in HCL."""
    return "\n".join(f"# {', '.join(rule.why)}\n{capabilities_of(rule.path, *rule.capabilities)}" for rule in rules)


def policy_name(holder: str) -> str:
    return holder if holder.startswith("hecate-") else f"hecate-{holder}"


def consul_rules(prefix: str) -> str:
    """The store's keys, and the lock's session, which belongs to whichever agent is asked for one.

    https://developer.hashicorp.com/consul/docs/security/acl/acl-rules#key-value-rules, #session-rules
    """
    return f'key_prefix "{prefix}" {{ policy = "write" }}\n{SESSIONS}'


def nomad_rules(capabilities: Sequence[str]) -> str:
    """https://developer.hashicorp.com/nomad/docs/other-specifications/acl-policy"""
    listed = ", ".join(f'"{name}"' for name in capabilities)
    return f'namespace "{NAMESPACE}" {{ capabilities = [{listed}] }}'


def _told(rights: Rights) -> Told:
    name, found = policy_name(rights.holder), Told()
    if rights.vault:
        found["vault"] = {"policy": name, "hcl": policy(rights.vault)}
    if rights.superuser:
        found["authentik"] = {"superuser": rights.superuser}
    elif rights.permissions:
        found["authentik"] = {"role": name, "permissions": list(rights.permissions)}
    if rights.hetzner:
        found["hetzner"] = {"token": rights.hetzner}
    if rights.consul:
        found["consul"] = {"policy": name, "hcl": consul_rules(rights.consul)}
    if rights.nomad:
        found["nomad"] = {"policy": name, "hcl": nomad_rules(rights.nomad)}
    return found


def _lines(rights: Rights) -> Iterator[str]:
    name = policy_name(rights.holder)
    if rights.is_nothing:
        yield "# needs no credentials"
    if rights.vault:
        yield from _fed(f"bao policy write {name} -", policy(rights.vault))
    if rights.superuser:
        yield f"# authentik: a superuser's token; {rights.superuser}"
    if rights.permissions:
        yield f"# authentik: ROLE is the key of a role, such as {name}, that the token's user has"
        yield from _fed(ASSIGN, json.dumps({"permissions": list(rights.permissions)}, indent=1))
    if rights.hetzner:
        yield f"# Hetzner: an API token for {rights.hetzner}; there is no finer right, give the zones their own project"
    if rights.consul:
        yield from _fed(f"consul acl policy create -name {name} -rules -", consul_rules(rights.consul))
    if rights.nomad:
        yield from _fed(f"nomad acl policy apply {name} -", nomad_rules(rights.nomad))


def _fed(command: str, document: str) -> Iterator[str]:
    yield f"{command} <<'END'"
    yield from document.splitlines()
    yield "END"
