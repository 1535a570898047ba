"""What was deployed in an environment, in the order in which it was begun; and its lock, as deploys use it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from hecate.errors import HecateError
from hecate.store import Store
from hecate.store.lock import Heartbeat, Holder, Lock

KEEP, DAYS = 200, 365
SPARED = 20  # that no clock makes too old
RUNNING, COMMITTING, DONE = "running", "committing", "done"
UNDOING, UNDONE, FAILED = "rolling back", "rolled back", "failed"  # failed: not everything could be put back
OPEN = (RUNNING, COMMITTING, UNDOING, FAILED)


@dataclass(frozen=True)
class Deployment:
    """One deploy as history keeps it. Times are Unix seconds.

    pillar: what was wanted, with secret references unresolved. targets: in their order, each with name,
    minion and system. steps: by target, what was put back. changed: by target, count and first ids of what it
    changed. fence: the number of the lock it was begun with; later ones are higher. host, jid: where and as which
    job it was asked for. plan: digest of the saved plan, if it was one. request: what else was asked.
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
    fence: int = 0
    host: str = ""
    jid: str = ""
    plan: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Everything but the pillar."""
        return {k: v for k, v in asdict(self).items() if k != "pillar"}

    @property
    def digest(self) -> str:
        """Of the record, to the last letter."""
        stored = json.loads(json.dumps(asdict(self)))  # where all keys are texts
        return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


class Deployments:
    """Lock and history of one environment."""

    def __init__(self, store: Store, environment: str, lock: Lock | None = None) -> None:
        self._store, self.environment = store, environment
        self.lock = lock or Lock(store, environment)

    def holder(self) -> Holder | None:
        """Who deploys now."""
        return self.lock.holder()

    def acquire(
        self, transaction: str, user: str, wait: float = 0, on_lost: Callable[[], object] = lambda: None
    ) -> Holder:
        """Take the lock and keep it as long as this process lives. wait: seconds. Raises LockHeld."""
        holder = self.lock.take(transaction, user, wait)
        Heartbeat(self.lock, holder, on_lost).start()
        return holder

    def release(self, transaction: str) -> None:
        """Give the lock back if `transaction` still has it."""
        beating = Heartbeat.of(transaction)
        if beating:
            beating.stop()
        self.lock.release(transaction)

    def save(self, deployment: Deployment) -> None:
        self._store.put(self._key(deployment), asdict(deployment), None)

    def get(self, transaction: str) -> Deployment:
        found = self.find(transaction)
        if found is None:
            raise HecateError(f"no deployment {transaction} in {self.environment}; salt-run hecate.history lists them")
        return found

    def find(self, transaction: str) -> Deployment | None:
        key = next((key for key in self._keys() if _id(key) == transaction), None)
        stored = self._store.get(key) if key else None
        return _deployment(stored.value) if stored else None

    def history(self, count: int) -> list[Deployment]:
        """The newest `count`, newest first, by the order in which they took the lock."""
        return list(islice(self.newest(), count))

    def newest(self) -> Iterator[Deployment]:
        """All, newest first; each is read when it is asked for."""
        for key in self._keys()[::-1]:
            stored = self._store.get(key)
            if stored:
                yield _deployment(stored.value)

    def unfinished(self) -> Deployment | None:
        """The newest deployment that was neither recorded nor rolled back."""
        return next((d for d in islice(self.newest(), 10) if d.status in OPEN), None)

    def settled(self) -> int | None:
        """The fence that the next owner of the lock follows, if nobody has it and nothing was left half done.

        What is planned after this is still true once the lock is taken with the very next fence.
        """
        fence = self.lock.fence()
        return None if self.holder() or self.unfinished() else fence

    def spare(self, keep: int, days: int) -> tuple[list[str], int]:
        """Keys of what is older than `days` or beyond the newest `keep`, and the fence of the oldest that stays.

        What is open stays, and the newest are never too old: a clock that is wrong costs no history.
        """
        keys = self._keys()
        before = time.strftime("%Y%m%d-%H%M%S", time.localtime(time.time() - days * 86400))
        late = len(keys) - max(keep, 1)
        old = len(keys) - max(SPARED, 1)
        doomed = []
        for index, key in enumerate(keys):
            if not (index < late or (index < old and _id(key) < before)):
                break
            stored = self._store.get(key)
            if stored and stored.value["status"] in OPEN:
                break
            doomed.append(key)
        rest = keys[len(doomed) :]
        return doomed, _fence(rest[0]) if rest else 0

    def forget(self, keys: list[str]) -> None:
        for key in keys:
            self._store.delete(key)

    def outputs(self) -> dict[str, Any]:
        """Terraform's outputs, as the last apply left them."""
        stored = self._store.get(f"{self.environment}/outputs")
        return dict(stored.value) if stored else {}

    def save_outputs(self, outputs: Mapping[str, Any]) -> None:
        self._store.put(f"{self.environment}/outputs", dict(outputs), None)

    def _keys(self) -> list[str]:
        """Oldest first. The fence leads: it counts on whatever a clock does."""
        return self._store.keys(f"{self.environment}/deployments/")

    def _key(self, deployment: Deployment) -> str:
        return f"{self.environment}/deployments/{deployment.fence:08d}-{deployment.id}"


def _deployment(value: Mapping[str, Any]) -> Deployment:
    return Deployment(**{**value, "targets": tuple(value["targets"])})


def _id(key: str) -> str:
    return key.rpartition("/")[2].partition("-")[2]


def _fence(key: str) -> int:
    return int(key.rpartition("/")[2].partition("-")[0])
