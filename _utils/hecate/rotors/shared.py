"""A secret that no API keeps: services read it from their own configuration, such as coturn's static-auth-secret.

Vault holds `secret` and, while a rotation is under way, `secret.next` or `secret.previous`. Consumers write each of
these that is there into their configuration whenever they are told to; what is being retired stands elsewhere by then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

Check = Callable[[str], bool]
"""Whether a service takes this value, by real use; raises HecateError when it said neither."""


class SharedSecret:
    """length: bytes of randomness in a new one; written as hex, which every configuration takes."""

    both, by_hand, by_telling = True, "", True

    def __init__(self, check: Check, length: int = 32) -> None:
        self._check, self._length = check, length

    def fresh(self) -> str:
        return secrets.token_hex(self._length)

    def introduce(self, new: str, old: str) -> None:
        """Consumers were told."""

    def works(self, value: str) -> bool:
        return self._check(value)

    def retire(self, old: str, new: str) -> None:
        """Consumers were told."""
