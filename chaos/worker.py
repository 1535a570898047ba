"""What gets killed: a process that applies or undoes one wish with the real engine, up to a counted point.

    python -m chaos.worker        one job a line on stdin, one answer a line on stdout

Every job runs in a fork of its own, so that a kill -9 costs a few milliseconds and nothing of one job is left in the
next. Points are counted before and after each HTTP call, each sync to disk and each replacement of a file.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from hecate import model, wiring
from hecate.errors import HecateError
from hecate.journal import Journal

Job = dict[str, Any]


class Fuse:
    """Counts points, and at one of them ends the process as kill -9 does.

    at: number of the point, from 0; -1 for none. torn: of what was written and not yet synced, which part reached the
    disk: 1.0 is all of it.
    """

    def __init__(self, at: int, torn: float, tell: Callable[[Job], None]) -> None:
        self.at, self.torn, self.tell, self.points = at, torn, tell, 0

    def install(self) -> None:
        send, fsync, replace = requests.Session.send, os.fsync, os.replace

        def sent(session: Any, request: Any, **options: Any) -> Any:
            self.point("before a call")
            answer = send(session, request, **options)
            self.point("after a call")
            return answer

        def synced(handle: int) -> None:
            self.point("before a sync", handle)
            fsync(handle)
            self.point("after a sync")

        def replaced(source: Any, target: Any, **options: Any) -> None:
            self.point("before a file is replaced")
            replace(source, target, **options)
            self.point("after a file is replaced")

        requests.Session.send = sent  # type: ignore[method-assign, assignment]
        os.fsync, os.replace = synced, replaced  # type: ignore[assignment]

    def point(self, where: str, handle: int = -1) -> None:
        if self.points == self.at:
            if handle >= 0 and stat.S_ISREG(os.fstat(handle).st_mode):
                _tear(handle, self.torn)
            self.tell({"killed": where})
            os.kill(os.getpid(), signal.SIGKILL)
        self.points += 1


def _tear(handle: int, part: float) -> None:
    """Leave only a part of the last line: what was not synced may be lost."""
    text = Path(f"/proc/self/fd/{handle}").read_bytes()
    begun = text.rfind(b"\n", 0, -1) + 1
    os.truncate(f"/proc/self/fd/{handle}", begun + int((len(text) - begun) * part))


def do(job: Job) -> Job:
    """One job. Raises HecateError."""
    estate = model.parse({"hecate": job["hecate"]})
    place = wiring.Place("edge", Path(job["folder"]), allow=job["allow"], sleep=lambda seconds: None)
    if job["do"] == "undo":
        changes = wiring.access(job["system"], estate, place).engine.undo(job["transaction"])
        return {"changes": [change.id for change in changes]}
    target = wiring.target(job["system"], estate, place)
    if job["do"] == "plan":
        return {"changes": [change.id for change in target.engine.plan(target.wish).changes]}
    outcome = target.engine.apply(target.wish, job["transaction"], shared=job["shared"])
    return {"changes": [change.id for change in outcome.plan.changes], "recovered": list(outcome.recovered)}


def run(job: Job, out: int) -> None:
    """In the fork: never returns."""

    def tell(answer: Job) -> None:
        os.write(out, json.dumps(answer).encode())

    fuse = Fuse(job["kill_at"], job["torn"], tell)
    fuse.install()
    try:
        answer = do(job)
    except HecateError as err:
        answer = {"error": f"{type(err).__name__}: {err}"}
    except BaseException as err:  # told as it is: an error of any other kind is what this suite looks for
        answer = {"error": f"{type(err).__name__}: {err}", "unexpected": True}
    tell({**answer, "points": fuse.points})
    os._exit(0)


def journal_of(system: str, folder: Path) -> Journal:
    return wiring.journal(system, wiring.Place("edge", folder))


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            run(job, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            told = pipe.read()
        os.waitpid(child, 0)
        print(told.decode() or json.dumps({"error": "the worker ended without a word", "unexpected": True}), flush=True)


if __name__ == "__main__":
    main()
