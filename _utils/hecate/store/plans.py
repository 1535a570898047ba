"""Plans that were shown, kept under their digests so that exactly they can be applied."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from hecate.errors import HecateError
from hecate.store import Store

KEPT = 50  # plans
DAYS = 7
DIGEST = re.compile(r"p[0-9a-f]{15}")


class Plans:
    """Of one environment. Values are JSON, whatever it means to the caller."""

    def __init__(self, store: Store, environment: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self._base, self._clock = store, f"{environment}/plans/", clock

    def save(self, digest: str, plan: Mapping[str, Any]) -> None:
        """Keep it, in place of an earlier one of that digest; the oldest and the expired go."""
        self._store.put(f"{self._base}{int(self._clock()):010}-{digest}", dict(plan), None)
        seen: set[str] = set()
        for saved, key in self._newest():
            of = key.rpartition("-")[2]
            if of in seen or len(seen) >= KEPT or self._expired(saved):
                self._store.delete(key)
            seen.add(of)

    def get(self, digest: str) -> dict[str, Any]:
        """Raises HecateError for one that is not, or no longer, there."""
        if not DIGEST.fullmatch(digest):
            raise HecateError(f"{digest[:40]!r} is no plan's digest: hecate.plan shows them, such as p3f9c2a7be1d04c5")
        for saved, key in self._newest():
            stored = self._store.get(key) if key.endswith(f"-{digest}") else None
            if stored and self._expired(saved):
                why = f"it is older than {DAYS} days; make it anew: salt-run hecate.plan"
                raise HecateError(f"the plan {digest} has expired: {why}")
            if stored:
                return dict(stored.value)
        raise HecateError(f"no plan {digest} is kept; salt-run hecate.plans lists them, hecate.plan makes one")

    def listed(self) -> list[dict[str, Any]]:
        """Newest first."""
        found = [self._store.get(key) for saved, key in self._newest() if not self._expired(saved)]
        return [dict(stored.value) for stored in found if stored]

    def _newest(self) -> list[tuple[float, str]]:
        """(saved, key), newest first: keys begin with the time."""
        keys = sorted(self._store.keys(self._base), reverse=True)
        return [(float(key.removeprefix(self._base).partition("-")[0]), key) for key in keys]

    def _expired(self, saved: float) -> bool:
        return self._clock() - saved > DAYS * 86400
