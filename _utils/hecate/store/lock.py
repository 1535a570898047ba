"""The lock of one environment: who deploys it, with a heartbeat, and a number that tells the newest owner from others.

The lock rests on a lease (see `Store`), which ends with its process, or when nobody renews it. Each taking gets
a fence: the next number of a counter. Whoever has lost the lock without noticing is told by its fence; targets
remember the highest that they have met (see `hecate.journal`).
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from hecate.errors import ApiFailure, HecateError, LockHeld, LockLost
from hecate.store import ABSENT, Store
from hecate.store.leases import Process, since_boot

log = logging.getLogger(__name__)

TTL = 30.0  # seconds from the last heartbeat until the lock is free
LOOK = 1.0, 5.0  # seconds between two looks of one who waits: at first, at most


@dataclass(frozen=True)
class Holder:
    """Who holds an environment's lock. since: Unix seconds. fence: 0 until the taking is complete."""

    transaction: str
    user: str
    host: str
    since: float
    lease: str
    process: Process
    fence: int = 0

    @classmethod
    def of(cls, value: dict[str, Any]) -> Holder:
        return cls(**{**value, "process": Process(**value["process"])})

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        long = max(0, round(time.time() - self.since))
        return (
            f"{self.user} on {self.host} (pid {self.process.pid}, deploy {self.transaction}, "
            f"since {since}, for {long} s)"
        )


class Lock:
    """ttl: seconds that the owner may be silent; at least 10."""

    def __init__(
        self,
        store: Store,
        environment: str,
        *,
        ttl: float = TTL,
        clock: Callable[[], float] = since_boot,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self.environment, self.ttl = store, environment, ttl
        self._clock, self._sleep = clock, sleep

    def holder(self) -> Holder | None:
        """Who has it now; nobody when the owner is gone."""
        found = self.last()
        return found if found and not found.process.is_dead and self._store.is_running(found.lease) else None

    def last(self) -> Holder | None:
        """Who has it, or had it when his process went away."""
        stored = self._store.get(self._key)
        return Holder.of(stored.value) if stored and stored.value.get("lease") else None

    def take(self, transaction: str, user: str, wait: float = 0) -> Holder:
        """Take it, for `transaction` once more too; always with a new fence.

        wait: seconds to wait for whoever has it. Raises LockHeld, which names him.
        """
        until, pause = self._clock() + wait, LOOK[0]
        while True:
            try:
                return self._taken(transaction, user)
            except LockHeld:
                left = until - self._clock()
                if left <= 0:
                    raise
                self._sleep(min(left, pause * random.uniform(0.5, 1)))
                pause = min(pause * 1.5, LOOK[1])

    def release(self, transaction: str) -> None:
        """Give it back if `transaction` has it."""
        held = self.last()
        if held and held.transaction == transaction:
            self._drop(held)

    def seize(self) -> Holder | None:
        """Take it away from whoever has it, and keep it from nobody; who that was."""
        held = self.last()
        if held:
            self._drop(held)
        return held

    def renew(self, holder: Holder) -> bool:
        """False: it is lost."""
        return self._store.renew(holder.lease)

    def _taken(self, transaction: str, user: str) -> Holder:
        held = self.last()
        own = held is not None and held.transaction == transaction and held.process == Process.own()
        if held and held.process.is_dead:
            self._store.give_up(held.lease)  # need not be waited for: it is known to be gone
        lease = held.lease if held and own and self._store.is_running(held.lease) else self._store.lease(self.ttl)
        mine = Holder(transaction, user, socket.gethostname(), time.time(), lease, Process.own())
        if not self._store.hold(self._key, asdict(mine), lease):
            self._store.give_up(lease)
            raise LockHeld(self._why())
        # Counted only while it is held, and used only if it still is: a later owner always has a higher one.
        mine = replace(mine, fence=self._next_fence())
        if not self._store.hold(self._key, asdict(mine), lease):
            raise LockHeld(self._why())
        return mine

    def _why(self) -> str:
        now = self.holder()
        if now is None:
            return f"{self.environment}: somebody else took the lock this very moment"
        return f"{self.environment} is being deployed by {now}; wait, or if it is dead: salt-run hecate.unlock REASON"

    def fence(self) -> int:
        """The number of the last taking, whoever that was."""
        stored = self._store.get(self._count)
        return int(stored.value if stored else 0)

    def _next_fence(self) -> int:
        while True:
            stored = self._store.get(self._count)
            number = int(stored.value if stored else 0) + 1
            if self._store.put(self._count, number, stored.version if stored else ABSENT):
                return number

    def _drop(self, held: Holder) -> None:
        """The value goes first: nobody else's may be deleted once the lease has ended."""
        stored = self._store.get(self._key)
        if stored and stored.value.get("lease") == held.lease:
            self._store.delete(self._key, stored.version)
        self._store.give_up(held.lease)

    @property
    def _key(self) -> str:
        return f"{self.environment}/lock"

    @property
    def _count(self) -> str:
        return f"{self.environment}/fence"


class Heartbeat:
    """Renews a lock from a thread of its owner's process, until stopped, or until the lock is lost.

    A store that does not answer costs nothing before the lock's TTL is over. on_lost: called once, from the thread.
    """

    _beating: dict[str, Heartbeat] = {}  # by lease: `begin` starts one, and another call of the same process stops it

    def __init__(self, lock: Lock, holder: Holder, on_lost: Callable[[], object] = lambda: None) -> None:
        self._lock, self._holder, self._on_lost = lock, holder, on_lost
        self._stopped, self._good = threading.Event(), since_boot()
        self.lost = False
        self._thread = threading.Thread(target=self._run, name=f"heartbeat {holder.transaction}", daemon=True)

    def start(self) -> None:
        former = self._beating.get(self._holder.lease)
        if former:
            former.stop()
        self._beating[self._holder.lease] = self
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._beating.get(self._holder.lease) is self:
            del self._beating[self._holder.lease]

    @classmethod
    def of(cls, transaction: str) -> Heartbeat | None:
        """The one that beats in this process for a transaction."""
        return next((b for b in list(cls._beating.values()) if b._holder.transaction == transaction), None)

    def beat(self) -> bool:
        """One renewal; False when the lock is lost."""
        try:
            if self._lock.renew(self._holder):
                self._good = since_boot()
                return True
            why = "somebody took it, or it was not renewed in time"
        except (ApiFailure, OSError) as err:
            if since_boot() - self._good < self._lock.ttl:
                log.warning("hecate: the lock of %s could not be renewed yet: %s", self._lock.environment, err)
                return True
            why = f"the store has not answered for {self._lock.ttl:.0f} s: {err}"
        self.lost = True
        log.error("hecate: deploy %s lost the lock of %s: %s", self._holder.transaction, self._lock.environment, why)
        return False

    def _run(self) -> None:
        while not self._stopped.wait(self._lock.ttl / 3):
            if not self.beat():
                if not self._stopped.is_set():
                    self._tell()
                self.stop()

    def _tell(self) -> None:
        try:
            self._on_lost()
        except (HecateError, OSError) as err:
            log.error("hecate: %s", err)


def must_hold(lock: Lock, transaction: str) -> Holder:
    """Raises LockLost unless the transaction still has the lock. Asks the store."""
    now = lock.holder()
    if now is None or now.transaction != transaction:
        who = f"{now} has it now" if now else "nobody has it now"
        raise LockLost(f"deploy {transaction} lost the lock of {lock.environment} on the way: {who}")
    return now
