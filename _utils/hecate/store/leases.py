"""Leases of processes on this machine, as files: they end with their process, by a reboot, or unrenewed.

Time is CLOCK_BOOTTIME, which nobody sets: a step of the wall clock neither ends nor prolongs a lease.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hecate.files import write_whole

PROC = Path("/proc")


def since_boot() -> float:
    """Seconds since the machine was started, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Process:
    """One process and no other: a number is given again, to another process or after a reboot.

    boot: id of the machine's start. space: of process numbers; containers have their own.
    start: ticks after the boot at which the process began.
    """

    boot: str
    space: str
    pid: int
    start: str

    @classmethod
    def own(cls) -> Process:
        return cls(_boot(), _space(), os.getpid(), _started(os.getpid()))

    @property
    def is_alive(self) -> bool:
        """As far as it can be told: of a process in another space of numbers, only that its machine runs."""
        if self.boot != _boot():
            return False
        return self.space != _space() or (self.start != "" and _started(self.pid) == self.start)

    @property
    def is_dead(self) -> bool:
        """Known for certain, which only a process on the same start of the same machine can tell."""
        return self.boot == _boot() and self.space == _space() and not self.is_alive


@dataclass(frozen=True)
class Lease:
    """process: whose. seconds: how long from each renewal. until: since boot."""

    process: Process
    seconds: float
    until: float


class Leases:
    """The leases under `folder`, which is made when the first one is written."""

    def __init__(self, folder: Path, clock: Callable[[], float] = since_boot) -> None:
        self._folder, self._clock = folder, clock

    def make(self, seconds: float) -> str:
        """Also clears away what has ended."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._folder.glob("*.lease"):
            if not self.is_running(path.stem):
                path.unlink(missing_ok=True)
        name = uuid.uuid4().hex
        self._write(name, Lease(Process.own(), seconds, self._clock() + seconds))
        return name

    def renew(self, name: str) -> bool:
        found = self._read(name)
        if found is None or not self._runs(found):
            return False
        self._write(name, replace(found, until=self._clock() + found.seconds))
        return True

    def is_running(self, name: str) -> bool:
        found = self._read(name)
        return found is not None and self._runs(found)

    def end(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _runs(self, lease: Lease) -> bool:
        return lease.process.is_alive and self._clock() <= lease.until

    def _read(self, name: str) -> Lease | None:
        """A file that says nothing sensible is no lease: it frees a lock, and the fence keeps its owner out."""
        try:
            data = json.loads(self._path(name).read_text(encoding="utf-8"))
            return Lease(Process(**data.pop("process")), **data)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def _write(self, name: str, lease: Lease) -> None:
        write_whole(self._path(name), json.dumps(asdict(lease)).encode())

    def _path(self, name: str) -> Path:
        if not name.isalnum():
            raise ValueError(f"not a lease: {name!r}")
        return self._folder / f"{name}.lease"


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def _space() -> str:
    return os.readlink(PROC / "self/ns/pid")


def _started(pid: int) -> str:
    """Empty for a process that is not there, or dead and not yet buried."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
