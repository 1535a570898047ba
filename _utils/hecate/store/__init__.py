"""What the whole estate shares: one lock an environment, deployments and their history, outputs.

Everything is kept behind a very small `Store`: values under keys, each with a version, written
only on top of the version that was read, and leases: proofs that a process still lives, on which a
key can be held. Two implementations: `local` (embedded, the default) and `consul` (shared by
several masters). No other code knows which one it is.
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

    def lease(self, seconds: float) -> str:
        """A new lease of this process: it runs until it is given up, or not renewed for `seconds` (at least 10)."""
        ...

    def renew(self, lease: str) -> bool:
        """Let it run for its `seconds` from now. False: it has ended, and stays so."""
        ...

    def is_running(self, lease: str) -> bool: ...

    def give_up(self, lease: str) -> None:
        """End it, whoever has it. What it held is free at once."""
        ...

    def hold(self, key: str, value: Any, lease: str) -> bool:
        """Write `value` (a mapping with `lease` in it), unless another running lease has the key, or this one ended."""
        ...
