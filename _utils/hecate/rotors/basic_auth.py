"""The password of an account of Caddy's basic_auth.

Caddy has one hash for a name (a second account of that name is refused), so the password before stops being good the
moment that the new one is. Vault holds `password` and, until it has taken over, `password.next`; the edge that rotates
hashes the successor into the file that its Caddy reads, and the others take it when they are told.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from hecate.errors import SecretUnavailable
from hecate.rotation import NEXT

COST = 14  # as `caddy hash-password` does


class BasicAuthPassword:
    """take: hashes a password into the file that Caddy reads. check: logs in, see shared.Check."""

    both, by_hand, by_telling = False, "", False

    def __init__(self, take: Callable[[str], object], check: Callable[[str], bool]) -> None:
        self._take, self._check = take, check

    def fresh(self) -> str:
        return secrets.token_urlsafe(24)

    def introduce(self, new: str, old: str) -> None:
        self._take(new)

    def works(self, value: str) -> bool:
        return self._check(value)

    def retire(self, old: str, new: str) -> None:
        """Nothing is left of it: there was room for one."""


def wanted(values: Mapping[str, str], key: str) -> str:
    """The password that an edge takes, of what Vault holds; the successor where there is one."""
    found = values.get(key + NEXT) or values.get(key)
    if not found:
        raise SecretUnavailable(f"no {key} there; store the password that the edges shall take")
    return found


def is_hash_of(password: str, path: Path) -> bool:
    """Whether that file holds a hash of it already."""
    try:
        was = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return False
    return bool(was) and hashed(password, was, cost=4) == was


def hashed(password: str, was: str = "", cost: int = COST) -> str:
    """bcrypt, as Caddy reads it; `was` where that is a hash of this password already."""
    try:
        import bcrypt
    except ImportError:
        raise SecretUnavailable("hashing a password needs the package bcrypt: salt-pip install bcrypt") from None
    try:
        if was and bcrypt.checkpw(password.encode(), was.encode()):
            return was
    except ValueError:
        pass  # no hash: it is replaced
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()
