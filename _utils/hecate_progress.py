"""The way of a deploy's moments over Salt's event bus: from minions and runners, to the terminal that started it."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import salt.utils.event
from hecate.progress import OVER, TAG, Lines, Log, Moment

log = logging.getLogger(__name__)
LATE = 2.0  # seconds that the last moment may take to come back over the bus
FOLLOWED: dict[str, Follower] = {}
"""By transaction: who follows a deploy that this process conducts."""


def folder(opts: Mapping[str, Any]) -> Path:
    """Where a master keeps the moments of its deploys."""
    return Path(opts["cachedir"]) / "hecate" / "progress"


def fire(opts: Mapping[str, Any], found: Moment) -> None:
    """From the master. A bus that is not there must not stop a deploy."""
    with suppress(Exception), salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
        bus.fire_event(found.to_json(), found.tag)


def send(functions: Mapping[str, Callable[..., Any]], found: Moment) -> None:
    """From a minion or a proxy."""
    try:
        functions["event.send"](found.tag, found.to_json())
    except Exception as err:  # whatever is wrong with the way to the master: the work itself goes on
        log.warning("the progress of the deploy could not be told: %s", type(err).__name__)


def follow(opts: Mapping[str, Any], transaction: str) -> None:
    """From here on every moment of this deploy is kept, and shown if a person started it in a terminal of theirs."""
    if transaction not in FOLLOWED:
        FOLLOWED[transaction] = Follower(opts, transaction, sys.stderr if _is_in_front() else None)
        FOLLOWED[transaction].start()


def finish(transaction: str) -> None:
    """Wait until the last moment was shown; a little."""
    if follower := FOLLOWED.pop(transaction, None):
        follower.join(LATE)


class Follower(threading.Thread):
    """out: absent where nobody looks."""

    def __init__(self, opts: Mapping[str, Any], transaction: str, out: TextIO | None) -> None:
        super().__init__(daemon=True, name=f"progress of {transaction}")
        self._opts, self._transaction, self._out = opts, transaction, out
        self._ready = threading.Event()

    def start(self) -> None:
        """Returns when it listens."""
        super().start()
        self._ready.wait(LATE)

    def run(self) -> None:
        kept, shown = Log(folder(self._opts), self._transaction), Screen(self._out)
        try:
            with salt.utils.event.get_master_event(self._opts, self._opts["sock_dir"], listen=True) as bus:
                bus.subscribe(f"{TAG}{self._transaction}/")
                self._ready.set()
                while True:
                    data = bus.get_event(wait=1, tag=f"{TAG}{self._transaction}/", full=False)
                    if data is not None and self._took(data, kept, shown):
                        return
        except Exception as err:  # nobody to tell but the log: a deploy goes on unseen
            log.warning("the progress of deploy %s can't be followed: %s", self._transaction, err)
        finally:
            self._ready.set()

    def _took(self, data: Mapping[str, Any], kept: Log, shown: Screen) -> bool:
        """Whether it was the last. Only the master says that it is over."""
        try:
            found = Moment.from_json(data)
        except (KeyError, TypeError, ValueError):
            return False
        is_last = found.status == OVER
        if found.transaction != self._transaction or (is_last and "id" in data):
            return False
        kept.add(found)
        shown.show(found)
        return is_last


class Screen:
    """A terminal shows the step that is under way; anything else gets a line when it is over."""

    def __init__(self, out: TextIO | None) -> None:
        self._out, self._lines = out, Lines()
        self._is_terminal = out is not None and out.isatty()

    def show(self, found: Moment) -> None:
        if self._out is None:
            return
        line, now = self._lines.line(found), self._lines.under_way(found)
        clear = "\r\x1b[K" if self._is_terminal else ""
        if line is not None:
            print(f"{clear}{line}", file=self._out, flush=True)
        elif now and self._is_terminal:
            print(f"{clear}{now}", end="", file=self._out, flush=True)


def watch(opts: Mapping[str, Any], transaction: str, alive: Callable[[], bool], out: TextIO) -> None:
    """Everything that a deploy did and does, until it is over or dead."""
    shown = Screen(out)
    for found in Log(folder(opts), transaction).follow(alive, time.sleep):
        shown.show(found)


def _is_in_front() -> bool:
    """Whether a person's own salt-run runs this: not the master's reactor or scheduler."""
    return os.path.basename(sys.argv[0]) == "salt-run"
