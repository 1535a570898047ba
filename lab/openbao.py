"""OpenBao in dev mode: in memory, unsealed, with the tokens that the pillar's references name.

It prints its root token and its unseal key to standard output, which is why that goes nowhere.
"""

from __future__ import annotations

import hvac

from lab import credentials
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


def seed(lab: Lab) -> None:
    """Put the tokens where ``vault:hecate/<system>#token`` finds them."""
    client = hvac.Client(
        url=lab.url("openbao"), token=credentials.read(lab.folder / "secrets", "openbao-root"), timeout=10
    )
    for name in PATHS:
        token = credentials.read(lab.folder / "secrets", name)
        client.secrets.kv.v2.create_or_update_secret(
            path=f"hecate/{name}", secret={"token": token}, mount_point="secret"
        )
    admit(lab, client)


def admit(lab: Lab, client: hvac.Client) -> None:
    """A token for each target, with a policy of its name."""
    for minion in FLEET:
        client.sys.create_or_update_policy(minion, ROOMY)
        token = credentials.read(lab.folder / "secrets", f"openbao-{minion}")
        client.auth.token.create(id=token, policies=[minion], no_parent=True, ttl="720h")
