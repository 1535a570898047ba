"""Start services side by side, each as soon as what it needs serves; stop waiting when one of them fails."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping

import requests

from lab import processes
from lab.layout import Lab, LabError
from lab.ports import Reservations
from lab.services import Service

PATIENCE = 60.0
"""Seconds for one service to serve."""
ATTEMPTS = 3
LOST_PORT = re.compile(r"address (is )?already in use|failed to bind|EADDRINUSE", re.IGNORECASE)
NOT_YET = (OSError, requests.RequestException)


class ServiceFailed(LabError):
    """A service didn't come up; the message ends with what it said last."""


def environment(lab: Lab, name: str) -> dict[str, str]:
    """What every service gets, and nothing of the user's own: its HOME and caches are in the lab's folder."""
    home = lab.home(name)
    return {
        "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "TMPDIR": str(lab.folder / "tmp"),
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "CHECKPOINT_DISABLE": "1",
        # Salt renames its processes, which would write over the environment that we know them by.
        "SPT_NOENV": "1",
        processes.MARK: f"{lab.record['id']}:{name}",
        # Where the emulators find the descriptions that they hold their callers to.
        **({"HECATE_SPECS": os.environ["HECATE_SPECS"]} if "HECATE_SPECS" in os.environ else {}),
    }


class Starter:
    """One round of starting; the reservations hold each port until its service is about to bind it."""

    def __init__(self, lab: Lab, reservations: Reservations, say: Callable[[str], None]) -> None:
        self.lab = lab
        self.reservations = reservations
        self.say = say
        self.failed = threading.Event()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start_all(self, services: Mapping[str, Service]) -> None:
        """Start them; raises the first failure once the others have stopped waiting."""
        serving = {name: threading.Event() for name in services}

        def one(service: Service) -> None:
            try:
                for need in service.needs:
                    self._await_event(serving[need])
                self.start(service)
                serving[service.name].set()
            except BaseException:
                self.failed.set()
                raise

        with concurrent.futures.ThreadPoolExecutor(len(services)) as pool:
            futures = [pool.submit(one, service) for service in services.values()]
            problems = [problem for future in futures if (problem := future.exception())]
        for problem in problems:
            if not isinstance(problem, _Abandoned):
                raise problem

    def start(self, service: Service) -> None:
        """Start one service and wait until it serves; with other ports when it lost one to somebody else."""
        began = time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            self._launch(service)
            try:
                self._await_ready(service)
            except ServiceFailed:
                if attempt == ATTEMPTS or not LOST_PORT.search(tail(self.lab.log(service.name))):
                    raise
                for port in service.ports:
                    self.lab.put("ports", port, self.reservations.hold(port))
                continue
            break
        if service.seed:
            service.seed(self.lab)
        self.say(f"{service.name:26} {service.where(self.lab):40} {time.monotonic() - began:5.1f} s")

    def _launch(self, service: Service) -> None:
        log = self.lab.log(service.name)
        log.unlink(missing_ok=True)
        command = service.command(self.lab)
        for port in service.ports:
            self.reservations.release(port)
        surroundings = {**environment(self.lab, service.name), **command.environment}
        child = processes.spawn(command.argv, surroundings, self.lab.folder, log, command.chatty)
        self._children[service.name] = child
        known = processes.identify(child.pid)
        if known:
            self.lab.put("processes", service.name, {"pid": known.pid, "created": known.created})

    def _await_ready(self, service: Service) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            self.check(service.name)
            try:
                if service.ready(self.lab):
                    return
                reason = "not ready"
            except NOT_YET as err:
                reason = str(err)
            if time.monotonic() > end:
                raise ServiceFailed(self._account(service.name, f"did not serve within {PATIENCE:.0f} s: {reason}"))
            self._pause()

    def check(self, name: str) -> None:
        """Raise when the service's process has ended."""
        code = self._children[name].poll()
        if code is not None:
            raise ServiceFailed(self._account(name, f"ended with exit code {code}"))

    def check_all(self, names: Collection[str]) -> None:
        """Raise when the process of any of them has ended."""
        for name in names:
            self.check(name)

    def _await_event(self, event: threading.Event) -> None:
        while not event.wait(0.05):
            if self.failed.is_set():
                raise _Abandoned

    def _pause(self) -> None:
        if self.failed.wait(0.05):
            raise _Abandoned

    def _account(self, name: str, what: str) -> str:
        log = self.lab.log(name)
        return f"{name} {what}. The end of its log:\n{tail(log)}"


class _Abandoned(Exception):
    """Another service failed first."""


def tail(log: pathlib.Path, lines: int = 25) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(it said nothing)"
    except OSError:
        return "(it has no log)"
