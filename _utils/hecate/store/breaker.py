"""How often each system was healed lately: healing in a loop would be a war with whoever changes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hecate.errors import HecateError
from hecate.store import ABSENT, Store

RACES = 5
KEPT = 1000  # heals that are remembered of one system


@dataclass(frozen=True)
class Breaker:
    """Kept in the store, so it outlives whoever heals.

    heals, within: so many heals of a system in so many seconds are enough. clock: Unix seconds.
    """

    store: Store
    environment: str
    heals: int
    within: float
    clock: Callable[[], float] = time.time

    def open(self, system: str) -> str:
        """Why this system is not healed now; "" where it may be. A clock that was set back lets nobody heal more."""
        recent = self._recent(self._read()[0], system)
        if len(recent) < self.heals:
            return ""
        counted = [name for row in recent for name in row["ids"]]
        often = max(dict.fromkeys(counted), key=counted.count, default="")
        return (
            f"{system} was healed {len(recent)} times within {self.within:.0f} s"
            + (f", {often} {counted.count(often)} times" if often else "")
            + f"; somebody changes it again and again. Find out who, then: salt-run hecate.drift reset={system}"
        )

    def count(self, system: str, ids: Sequence[str]) -> None:
        """Remember a heal that is about to be done, so that one that fails or is killed counts too."""
        row = {"at": self.clock(), "ids": list(ids)[:20]}
        self._change(lambda kept: {**kept, system: [*kept.get(system, []), row][-KEPT:]})

    def reset(self, system: str) -> bool:
        """Forget the heals of a system; whether there were any."""
        known = system in self._read()[0]
        self._change(lambda kept: {name: rows for name, rows in kept.items() if name != system})
        return known

    def announce(self, system: str) -> bool:
        """Whether this opening of the breaker has not been told yet; from now on it has."""
        recent, told = self._recent(self._read()[0], system), False
        if recent and not recent[-1].get("told"):
            told = True
            mark = recent[-1]["at"]
            self._change(
                lambda kept: {
                    **kept,
                    system: [{**row, "told": True} if row["at"] == mark else row for row in kept.get(system, [])],
                }
            )
        return told

    def _recent(self, kept: dict[str, Any], system: str) -> list[dict[str, Any]]:
        since = self.clock() - self.within
        return [row for row in kept.get(system, []) if row["at"] > since]

    def _read(self) -> tuple[dict[str, Any], str]:
        stored = self.store.get(self._key)
        return (dict(stored.value), stored.version) if stored else ({}, ABSENT)

    def _change(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        for _ in range(RACES):
            kept, version = self._read()
            if self.store.put(self._key, change(kept), version):
                return
        raise HecateError("the store is written by others all the time; nothing was healed")

    @property
    def _key(self) -> str:
        return f"{self.environment}/drift/heals"
