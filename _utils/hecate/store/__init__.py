"""What the whole estate shares: one lock an environment, deployments and their history, outputs.

Everything is kept behind a very small `Store`: values under keys, each with a version, written
only on top of the version that was read. Two implementations: `local` (embedded, the default)
and `consul` (shared by several masters). No other code knows which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Stored:
    """A JSON value and the version that a conditional write has to name."""

    value: Any
    version: str


ABSENT = ""  # the version of a key that must not exist yet


class Store(Protocol):
    """Keys are slash-separated names. Values are JSON. Every method may raise ApiFailure."""

    def get(self, key: str) -> Stored | None: ...

    def put(self, key: str, value: Any, version: str | None) -> bool:
        """Write if the key still has `version` (ABSENT: if there is none; None: in any case)."""
        ...

    def delete(self, key: str, version: str | None = None) -> bool: ...

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        ...
