"""One prober's task: some questions at a time, and each tried a few times where it fails.

A name server and a certificate need a moment after a change. Where everything fails waiting helps nobody: no more than
a few dozen attempts are repeated in all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from hecate.verification.names import look_up
from hecate.verification.probe import Probe
from hecate.verification.questions import Task
from hecate.verification.visiting import Visitor

PATIENCE = 20  # questions that may fail in every attempt before no other is repeated


def run(
    task: Task,
    secret: Callable[[str], str],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> list[Probe]:
    """All answers, in the order of the questions. secret: a reference -> its value."""
    manner, visitor = task.manner, Visitor(task.manner, secret, clock)
    jobs: list[Callable[[], list[Probe]]] = [
        *((lambda r=record: [look_up(r, manner.timeout)]) for record in task.records),
        *((lambda v=visit: visitor.visit(v)) for visit in task.visits),
        *((lambda d=door: [visitor.knock(d)]) for door in task.doors),
    ]
    tries = _Tries(manner.attempts, sleep)
    with ThreadPoolExecutor(manner.at_once, thread_name_prefix="verify") as pool:
        return [probe for rows in pool.map(tries.of, jobs) for probe in rows]


class _Tries:
    def __init__(self, attempts: int, sleep: Callable[[float], None]) -> None:
        self._attempts, self._sleep = attempts, sleep
        self._left, self._lock = attempts * PATIENCE, threading.Lock()

    def of(self, job: Callable[[], Sequence[Probe]]) -> Sequence[Probe]:
        rows: Sequence[Probe] = ()
        for left in range(self._attempts - 1, -1, -1):
            rows = job()
            if all(row.good for row in rows) or not left or not self._may_repeat():
                break
            self._sleep(1)
        return rows

    def _may_repeat(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left > 0
