"""Who deploys an environment now, and what was deployed before."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hecate.errors import HecateError, LockHeld
from hecate.store import ABSENT, Store

LOCK_SECONDS = 3600
KEEP = 200
RUNNING, COMMITTING, DONE = "running", "committing", "done"
UNDONE, FAILED = "rolled back", "failed"  # failed: not everything could be put back


@dataclass(frozen=True)
class Holder:
    """Who holds an environment's lock. Times are Unix seconds."""

    transaction: str
    user: str
    host: str
    pid: int
    since: float
    expires: float

    def is_gone(self, now: float) -> bool:
        """It ran out, or its process on this very host is dead."""
        if now > self.expires:
            return True
        return self.host == socket.gethostname() and not _alive(self.pid)

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.user} on {self.host} (pid {self.pid}, deploy {self.transaction}, since {since})"


@dataclass(frozen=True)
class Deployment:
    """One deploy as history keeps it.

    pillar: what was wanted, with secret references unresolved. targets: in their order, each with name,
    minion and system. steps: by target, what was done.
    """

    id: str
    status: str
    user: str
    started: float
    ended: float | None = None
    message: str = ""
    error: str = ""
    targets: tuple[Mapping[str, str], ...] = ()
    steps: Mapping[str, Any] = field(default_factory=dict)
    pillar: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Everything but the pillar."""
        return {k: v for k, v in asdict(self).items() if k != "pillar"}


class Deployments:
    """Lock and history of one environment."""

    def __init__(self, store: Store, environment: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self._base, self._clock = store, environment, clock

    def holder(self) -> Holder | None:
        stored = self._store.get(f"{self._base}/lock")
        return Holder(**stored.value) if stored else None

    def acquire(self, transaction: str, user: str) -> Holder | None:
        """Take the lock; the dead holder that it was taken from, if any. Raises LockHeld."""
        stored = self._store.get(f"{self._base}/lock")
        former = Holder(**stored.value) if stored else None
        now = self._clock()
        if former and former.transaction != transaction and not former.is_gone(now):
            raise LockHeld(f"{self._base} is being deployed by {former}; wait, or: salt-run hecate.unlock REASON")
        mine = Holder(transaction, user, socket.gethostname(), os.getpid(), now, now + LOCK_SECONDS)
        if not self._store.put(f"{self._base}/lock", asdict(mine), stored.version if stored else ABSENT):
            raise LockHeld(f"{self._base}: somebody else took the lock this very moment")
        return former

    def release(self, transaction: str) -> None:
        """Give the lock back if `transaction` still has it."""
        stored = self._store.get(f"{self._base}/lock")
        if stored and stored.value["transaction"] == transaction:
            self._store.delete(f"{self._base}/lock", stored.version)

    def save(self, deployment: Deployment) -> None:
        self._store.put(self._key(deployment.id), asdict(deployment), None)
        for key in self._store.keys(f"{self._base}/deployments/")[:-KEEP]:
            self._store.delete(key)

    def update(self, transaction: str, **fields: Any) -> Deployment:
        fresh = replace(self.get(transaction), **fields)
        self.save(fresh)
        return fresh

    def get(self, transaction: str) -> Deployment:
        stored = self._store.get(self._key(transaction))
        if stored is None:
            raise HecateError(f"no deployment {transaction} in {self._base}; salt-run hecate.history lists them")
        return Deployment(**stored.value)

    def history(self, count: int) -> list[Deployment]:
        """The newest `count`, newest first: ids begin with the time."""
        keys = self._store.keys(f"{self._base}/deployments/")[::-1][:count]
        return [Deployment(**stored.value) for stored in map(self._store.get, keys) if stored]

    def unfinished(self) -> Deployment | None:
        """The newest deployment that was neither recorded nor rolled back."""
        return next((d for d in self.history(10) if d.status in (RUNNING, COMMITTING, FAILED)), None)

    def outputs(self) -> dict[str, Any]:
        """Terraform's outputs, as the last apply left them."""
        stored = self._store.get(f"{self._base}/outputs")
        return dict(stored.value) if stored else {}

    def save_outputs(self, outputs: Mapping[str, Any]) -> None:
        self._store.put(f"{self._base}/outputs", dict(outputs), None)

    def _key(self, transaction: str) -> str:
        return f"{self._base}/deployments/{transaction}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
