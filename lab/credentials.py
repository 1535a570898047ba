"""The lab's own secrets: random, in files that only their owner reads, never in an argument or in lab.json."""

from __future__ import annotations

import os
import pathlib
import secrets

from lab.salt_config import FLEET

PEOPLE = ("alice", "bob", "mallory")  # emulated.PEOPLE says who they are
PASSWORDS = tuple(f"password-{name}" for name in PEOPLE)
TOKENS = ("openbao-root", "authentik", "hetzner", "nomad", "consul", "environment", *PASSWORDS)
TARGETS = tuple(f"openbao-{minion}" for minion in FLEET)
"""For OpenBao, one a target: it has the policy of the minion's name."""

AWKWARD = "\"\\/+=%&<'"
"""Part of each value that may have it: whoever hides or quotes a secret has to do it right."""


def create(folder: pathlib.Path) -> None:
    """Write a fresh value for each name. Consul wants UUIDs as tokens, OpenBao plain ones; the others take anything."""
    for name in (*TOKENS, *TARGETS):
        value = secrets.token_hex(16)
        if name == "consul":
            value = "-".join((value[:8], value[8:12], value[12:16], value[16:20], value[20:]))
        elif not name.startswith("openbao"):
            value = value[:16] + AWKWARD + value[16:]
        with open(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value)


def read(folder: pathlib.Path, name: str) -> str:
    """The secret of this name."""
    return (folder / name).read_text().strip()
