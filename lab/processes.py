"""Start processes, know them again later, and stop them with everything that they started.

A process is known by its id *and* its moment of creation, so that a recycled id is never signalled. Its descendants are
found in three ways, since any one alone loses some: as children, as members of its session, and by a mark in their
environment (a daemon that left the session still carries it).
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
from collections.abc import Iterable, Mapping, Sequence

import psutil

MARK = "HECATE_LAB_SERVICE"
"""Set to ``<lab id>:<service>`` in every process of a lab, and nowhere else (``lab env`` doesn't export it)."""

GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)


@dataclasses.dataclass(frozen=True)
class Identity:
    """A process: its id, and when it was created (clock ticks since boot, which no change of the clock can move)."""

    pid: int
    created: float


def identify(pid: int) -> Identity | None:
    """The process that has this id now; None when there is none, or only its zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return Identity(pid, _created(process))
    except GONE:
        return None


def _created(process: psutil.Process) -> float:
    try:
        stat = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
    except OSError:
        return process.create_time()
    return float(stat.rpartition(")")[2].split()[19])


def alive(known: Identity) -> bool:
    """Whether this very process still runs."""
    return identify(known.pid) == known


def spawn(
    argv: Sequence[str], environment: Mapping[str, str], folder: pathlib.Path, log: pathlib.Path, chatty: bool = False
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, with this environment and no other.

    It prints to ``log``; a chatty one its errors only.
    """
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as out:
        return subprocess.Popen(
            list(argv),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if chatty else out,
            stderr=out,
            start_new_session=True,
        )


def family(known: Iterable[Identity], mark: str) -> list[psutil.Process]:
    """Every living process that belongs to ``known`` or whose environment carries a mark that begins so."""
    known = list(known)
    found: dict[int, psutil.Process] = {}
    sessions = set()
    for one in known:
        now = identify(one.pid)
        if now == one:
            _add_tree(one.pid, found)
        if now in (one, None):
            # While a session has members the kernel gives its id to no other process, so a newcomer under this id
            # means that the session is over.
            sessions.add(one.pid)
    for process in psutil.process_iter():
        if process.pid != os.getpid() and (_session(process.pid) in sessions or _marked(process, mark)):
            found[process.pid] = process
    return [process for process in found.values() if identify(process.pid)]


def _add_tree(pid: int, found: dict[int, psutil.Process]) -> None:
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            found[process.pid] = process
    except GONE:
        pass


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK, "").startswith(mark)
    except (psutil.Error, OSError):
        return False


def stop(known: Iterable[Identity], mark: str, grace: float = 4.0) -> list[int]:
    """End the family: ask all, wait up to ``grace`` seconds, then kill; returns the ids of what could not be ended."""
    known = list(known)
    members = family(known, mark)
    _signal(members, kill=False)
    psutil.wait_procs(members, timeout=grace)
    for _ in range(5):  # What was being started while we asked is found in the next round.
        members = family(known, mark)
        if not members:
            break
        _signal(members, kill=True)
        psutil.wait_procs(members, timeout=2)
    return sorted(process.pid for process in members)


def _signal(members: Iterable[psutil.Process], kill: bool) -> None:
    for process in members:
        try:
            if kill:
                process.kill()
            else:
                process.terminate()
        except psutil.Error:
            pass
