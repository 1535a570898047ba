"""The processes of the Nomad emulator: each in its own session, none outliving the emulator."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Processes:
    """Starts, watches and ends tasks under ``folder``.

    ``start`` must always be called from one and the same thread, which lives as long as the processes should: the
    kernel's parent-death signal, which ends them after a ``kill -9`` of the emulator, counts the thread as the parent.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder.resolve()
        self._running: dict[str, dict[str, subprocess.Popen[bytes]]] = {}

    def start(self, allocation: str, task: dict[str, Any], variables: dict[str, str]) -> str | None:
        """Start one task of an allocation; returns why it couldn't."""
        home = self._folder / "alloc" / allocation
        inside, logs = home / task["Name"], home / "alloc" / "logs"
        for place in (inside / "local", logs):
            place.mkdir(parents=True, exist_ok=True)
        environment = {"PATH": os.environ.get("PATH", os.defpath), **variables, "NOMAD_ALLOC_DIR": str(home / "alloc"),
                       "NOMAD_TASK_DIR": str(inside / "local"), "NOMAD_TASK_NAME": task["Name"]}  # fmt: skip
        given = {name: _interpolate(str(value), environment) for name, value in (task.get("Env") or {}).items()}
        environment.update(given)
        config = task["Config"]
        command = [_interpolate(str(part), environment) for part in (config["command"], *(config.get("args") or []))]
        try:
            with (
                open(logs / f"{task['Name']}.stdout.0", "ab") as out,
                open(logs / f"{task['Name']}.stderr.0", "ab") as err,
            ):
                process = subprocess.Popen(
                    command, cwd=inside, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                    start_new_session=True, preexec_fn=_die_with_parent,
                )  # fmt: skip
        except OSError as error:
            return f'failed to launch command with executor: "{command[0]}": {error.strerror}'
        self._running.setdefault(allocation, {})[task["Name"]] = process
        return None

    def exits(self, allocation: str) -> dict[str, int]:
        """The tasks that have ended, with their exit codes."""
        polled = {name: process.poll() for name, process in self._running.get(allocation, {}).items()}
        return {name: code for name, code in polled.items() if code is not None}

    def pids(self, allocation: str) -> list[int]:
        """The processes that live."""
        return [process.pid for process in self._running.get(allocation, {}).values() if process.poll() is None]

    def send(self, allocation: str, number: int) -> None:
        """Send a signal to all that an allocation started."""
        for process in self._running.get(allocation, {}).values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def forget(self, allocation: str) -> None:
        """Clear away what is left of an allocation, grandchildren as well."""
        for process in self._running.pop(allocation, {}).values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def end_all(self, seconds: float = 2.0) -> None:
        """End everything: politely, then not."""
        for allocation in list(self._running):
            self.send(allocation, signal.SIGTERM)
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(self.pids(allocation) for allocation in self._running):
            time.sleep(0.01)
        for allocation in list(self._running):
            self.forget(allocation)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _interpolate(text: str, variables: dict[str, str]) -> str:
    """Fill in ``${NOMAD_TASK_DIR}`` and its like; what isn't known stays as it is."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found.group(1), found.group(0)), text)
