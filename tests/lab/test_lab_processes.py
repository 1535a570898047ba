"""Processes are known again by id and moment of creation, and stopped with all that they started."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import psutil
import pytest

from lab import processes

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
# A daemon as Salt makes them: forks, leaves the session, outlives its parent.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""


@pytest.fixture
def mark() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}:"
    yield name
    assert processes.stop([], name, grace=0.1) == []


def run(argv: list[str], tmp_path: pathlib.Path, mark: str) -> tuple[subprocess.Popen[bytes], processes.Identity]:
    surroundings = {"PATH": os.defpath, processes.MARK: f"{mark}service"}
    child = processes.spawn(argv, surroundings, tmp_path, tmp_path / "log")
    known = processes.identify(child.pid)
    assert known
    return child, known


def await_text(file: pathlib.Path) -> str:
    for _ in range(500):
        if file.exists() and file.read_text().strip():
            return file.read_text().strip()
        time.sleep(0.01)
    raise AssertionError(f"{file} stayed empty")


def test_started_in_a_session_of_its_own_with_nothing_of_ours(tmp_path: pathlib.Path, mark: str) -> None:
    child, known = run(SLEEP, tmp_path, mark)
    await_text(tmp_path / "log")
    assert os.getsid(child.pid) == child.pid
    assert set(psutil.Process(child.pid).environ()) - {"LC_CTYPE"} == {"PATH", processes.MARK}
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert processes.alive(known)
    assert processes.stop([known], mark) == []
    assert not processes.alive(known)
    assert child.poll() is not None


def test_a_recycled_id_is_left_alone(tmp_path: pathlib.Path, mark: str) -> None:
    other, _ = run(SLEEP, tmp_path, f"other-{mark}")
    try:
        known = processes.identify(other.pid)
        assert known
        recycled = dataclasses.replace(known, created=known.created - 100)
        assert not processes.alive(recycled)
        assert processes.family([recycled], mark) == []
        assert processes.stop([recycled], mark, grace=0.1) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_daemon_that_left_the_session_is_found(tmp_path: pathlib.Path, mark: str) -> None:
    child, known = run([sys.executable, "-c", DAEMON, str(tmp_path / "pid")], tmp_path, mark)
    daemon = int(await_text(tmp_path / "pid"))
    assert os.getsid(daemon) != child.pid
    child.kill()
    child.wait()
    assert processes.identify(daemon)
    assert processes.stop([known], mark) == []
    assert processes.identify(daemon) is None


def test_orphans_of_a_killed_leader_are_found_by_their_session(tmp_path: pathlib.Path, mark: str) -> None:
    shell = "env -i /bin/sleep 600 & echo $! > pid; exec sleep 600"  # env -i: it carries no mark.
    child, known = run(["/bin/sh", "-c", shell], tmp_path, mark)
    orphan = int(await_text(tmp_path / "pid"))
    child.kill()
    child.wait()
    assert [process.pid for process in processes.family([known], mark)] == [orphan]
    assert processes.stop([known], mark) == []
    assert processes.identify(orphan) is None


def test_who_ignores_the_request_is_killed(tmp_path: pathlib.Path, mark: str) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    _, known = run([sys.executable, "-c", deaf], tmp_path, mark)
    await_text(tmp_path / "log")
    assert processes.stop([known], mark, grace=0.2) == []
    assert not processes.alive(known)


def test_a_zombie_is_not_alive(tmp_path: pathlib.Path, mark: str) -> None:
    child, known = run(SLEEP, tmp_path, mark)
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.alive(known)
    child.wait()


def test_a_chatty_service_logs_its_errors_only(tmp_path: pathlib.Path) -> None:
    argv = ["/bin/sh", "-c", "echo secret; echo trouble >&2"]
    processes.spawn(argv, {"PATH": os.defpath}, tmp_path, tmp_path / "log", chatty=True).wait()
    assert (tmp_path / "log").read_text() == "trouble\n"
