"""What a deploy does, while it does it: moments, as they go over Salt's event bus, and as a person reads them.

A deploy's moments are kept in a file too, so that somebody who comes late sees what was before.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TAG = "hecate/deploy/"
BEGUN, DONE, FAILED, OVER = "begun", "done", "failed", "over"
WORDS = {DONE: "ok  ", FAILED: "FAIL", BEGUN: "... "}
KEPT = 20  # deploys of which the moments are kept
PAUSE = 0.2  # seconds between two looks at a file that grows
WIDTH = 24
LONGEST = 500  # characters of a text


@dataclass(frozen=True)
class Moment:
    """step: as deploy.sls calls it; empty for the deploy as a whole. status: begun, done, failed; over ends a deploy.

    at: Unix seconds. text: a line; never a secret's value.
    """

    transaction: str
    step: str
    status: str
    at: float
    text: str = ""

    @property
    def tag(self) -> str:
        return f"{TAG}{self.transaction}/{self.step or 'deploy'}/{self.status}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Moment:
        """As it comes over the bus. Any minion can send one: nothing in it may steer a terminal.

        Raises KeyError, TypeError or ValueError for what is none.
        """
        told = data.get("data", data)  # Salt puts a minion's event into one of its own
        transaction, step, status, text = (_plain(told[name]) for name in ("transaction", "step", "status", "text"))
        return cls(transaction, step, status, float(told["at"]), text)


def _plain(text: object) -> str:
    return "".join(c if c.isprintable() else " " for c in str(text))[:LONGEST]


def moment(transaction: str, step: str, status: str, text: object = "") -> Moment:
    """Now; of a longer text the first line that says something."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return Moment(transaction, step, status, time.time(), _plain(lines[0]) if lines else "")


class Lines:
    """Moments in, lines out: each with the seconds since the one before it ended."""

    def __init__(self) -> None:
        self._began = self._last = 0.0

    def line(self, found: Moment) -> str | None:
        """None for what is better not told by a line of its own."""
        if not self._began:
            self._began = self._last = found.at
        if not found.step:
            return self._whole(found)
        if found.status == BEGUN:
            return None
        seconds, self._last = max(0.0, found.at - self._last), found.at
        return f"  {WORDS[found.status]}  {found.step:<{WIDTH}} {seconds:6.1f} s  {found.text}".rstrip()

    def under_way(self, found: Moment) -> str | None:
        """What stands on a terminal until the step's own line replaces it."""
        return f"  {WORDS[BEGUN]}  {found.step}" if found.step and found.status == BEGUN else None

    def _whole(self, found: Moment) -> str:
        if found.status == BEGUN:
            return f"deploy {found.transaction}: {found.text}".rstrip(": ")
        return f"{found.text} ({max(0.0, found.at - self._began):.1f} s)"


class Log:
    """The moments of one deploy, in a file that only the master's user reads."""

    def __init__(self, folder: Path, transaction: str) -> None:
        self.path = folder / f"{transaction}.jsonl"

    def add(self, found: Moment) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.path.exists():
            for old in sorted(self.path.parent.glob("*.jsonl"))[: -KEPT + 1]:
                old.unlink(missing_ok=True)
        with open(self.path, "a", encoding="utf-8", opener=lambda p, flags: os.open(p, flags, 0o600)) as handle:
            handle.write(json.dumps(found.to_json(), sort_keys=True) + "\n")

    def follow(self, alive: Callable[[], bool], sleep: Callable[[float], None] = time.sleep) -> Iterator[Moment]:
        """From the first one on, until the deploy is over, or until nobody is `alive` who could add another."""
        seen = 0
        while True:
            is_alive = alive()  # asked before the look: what was written last is seen
            rows = self._rows()
            for row in rows[seen:]:
                yield row
                if row.status == OVER:
                    return
            seen = len(rows)
            if not is_alive:
                return
            sleep(PAUSE)

    def _rows(self) -> list[Moment]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        complete = text.rpartition("\n")[0]
        return [Moment.from_json(json.loads(line)) for line in complete.splitlines()]
