"""Wishes for single objects that wait for the same target, so that one write can serve them all.

Whoever holds the target's lock answers for everybody whose wish lies here: fifty routes that come
within a second are a write or two, not fifty. A wish whose process has died is dropped.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Data = dict[str, Any]
CLAIM, ANSWER = ".wish", ".answer"


@dataclass(frozen=True)
class Ticket:
    """One waiting wish. terms: what it is allowed; only wishes on the same terms go together."""

    path: Path
    terms: str
    wish: Data

    @property
    def answer_path(self) -> Path:
        return self.path.with_suffix(ANSWER)


class Queue:
    """Kept under `folder` (mode 0700). sleep, clock: as time's, to be replaced in tests."""

    def __init__(
        self,
        folder: Path,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self._sleep, self._clock = folder, sleep, clock

    def put(self, wish: Mapping[str, Any], terms: str) -> Ticket:
        """Lay down a wish; returns once others can see it whole."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}{CLAIM}"
        _write(path, {"pid": os.getpid(), "started": _started(os.getpid()), "terms": terms, "wish": wish})
        return Ticket(path, terms, dict(wish))

    def waiting(self, terms: str) -> list[Ticket]:
        """Wishes on these terms that nobody has answered, oldest first."""
        found = []
        for path in sorted(self.folder.glob(f"*{CLAIM}")):
            held = _read(path)
            if held is None or path.with_suffix(ANSWER).exists():
                continue
            if held["started"] != _started(held["pid"]):
                path.unlink(missing_ok=True)  # its process is gone, and nobody would hear the answer
            elif held["terms"] == terms:
                found.append(Ticket(path, terms, held["wish"]))
        return found

    def reply(self, ticket: Ticket, answer: Mapping[str, Any]) -> None:
        if ticket.path.exists():
            _write(ticket.answer_path, answer)

    def answer(self, ticket: Ticket) -> Data | None:
        return _read(ticket.answer_path)

    def leave(self, ticket: Ticket) -> None:
        ticket.path.unlink(missing_ok=True)
        ticket.answer_path.unlink(missing_ok=True)

    def settle(self, interval: float) -> None:
        """Wait until `interval` seconds have passed since the last write; at most that long."""
        try:
            since = self._clock() - (self.folder / "written").stat().st_mtime
        except FileNotFoundError:
            return
        if 0 <= since < interval:
            self._sleep(interval - since)

    def written(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "written").touch()


def _write(path: Path, data: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(f".{uuid.uuid4().hex[:8]}")
    with open(fresh, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as handle:
        json.dump(data, handle)
    fresh.replace(path)


def _read(path: Path) -> Data | None:
    try:
        found: Data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _started(pid: int) -> str:
    """When a process was started, in the kernel's ticks; tells a dead one from a newer of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
