"""OpenBao in dev mode: in memory, unsealed, with what the pillar's references name.

The lab's own systems have their tokens there. For what else the user's pillar refers to (the client secrets of
applications) something that nobody can guess does; it is the same after a restart.

It prints its root token and its unseal key to standard output, which is why that goes nowhere.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from typing import Any

import hvac

from lab import credentials, pillar_view
from lab.layout import Lab
from lab.salt_config import FLEET

PATHS = ("authentik", "hetzner", "nomad")
"""Written as ``hecate/<name>``, key ``token``."""
ROOMY = """
path "*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/*" { capabilities = ["deny"] }
"""
"""What a target may at first, since it is a sandbox; what it needs, ``salt-run hecate.rights`` says."""


def arguments(lab: Lab) -> tuple[str, ...]:
    """No token among them: a command line is everybody's to read."""
    return (
        "server",
        "-dev",
        "-dev-no-store-token",
        "-log-level=warn",
        f"-dev-listen-address=127.0.0.1:{lab.port('openbao')}",
    )


def environment(lab: Lab) -> dict[str, str]:
    """Dev mode takes its root token from the environment."""
    return {"BAO_DEV_ROOT_TOKEN_ID": credentials.read(lab.folder / "secrets", "openbao-root")}


def referred(node: Any) -> Iterator[tuple[str, str]]:
    """Path and key of every ``vault:path#key`` in a pillar."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from referred(value)
    elif isinstance(node, str) and (found := re.fullmatch(r"vault:([\w./-]+)#([\w.-]+)", node)):
        yield found[1], found[2]


def seed(lab: Lab) -> None:
    """Put every secret where its reference finds it."""
    root = credentials.read(lab.folder / "secrets", "openbao-root")
    client = hvac.Client(url=lab.url("openbao"), token=root, timeout=10)
    wanted: dict[str, dict[str, str]] = {}
    for path, key in referred(pillar_view.of(lab).get("hecate")):
        wanted.setdefault(path, {})[key] = hmac.new(root.encode(), f"{path}#{key}".encode(), "sha256").hexdigest()
    for name in PATHS:
        wanted.setdefault(f"hecate/{name}", {})["token"] = credentials.read(lab.folder / "secrets", name)
    for path, secret in wanted.items():
        client.secrets.kv.v2.create_or_update_secret(path=path, secret=secret, mount_point="secret")
    admit(lab, client)


def admit(lab: Lab, client: hvac.Client) -> None:
    """A token for each target, with a policy of its name."""
    for minion in FLEET:
        client.sys.create_or_update_policy(minion, ROOMY)
        token = credentials.read(lab.folder / "secrets", f"openbao-{minion}")
        client.auth.token.create(id=token, policies=[minion], no_parent=True, ttl="720h")
