"""A lab of its own to break: its commands, its processes, their limits, and what brings them back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import requests
import salt.payload

from lab import lifecycle, processes, salt_config
from lab.environ import environment
from lab.layout import REPO, Lab, exclusively
from lab.ports import Reservations
from lab.processes import Identity
from lab.services import table
from lab.starting import Starter

EMULATORS = ("hetzner", "authentik", "nomad")
DEPLOY = ("salt-run", "state.orch", "hecate.deploy")


class Machines:
    """known: as `lab.environ.environment` tells it. pillar: a copy that may be edited."""

    def __init__(self, base: Path) -> None:
        self.base, self.folder, self.pillar = base, base / "lab", base / "pillar"
        shutil.copytree(REPO / "pillar", self.pillar)
        lifecycle.up(self.folder, self.pillar, lambda line: None)
        self.known = environment(self.folder)

    @property
    def has_consul(self) -> bool:
        return self.known["consul"] is not None

    def down(self) -> None:
        lifecycle.down(self.folder, lambda line: None)

    # Commands, as an operator types them

    def shell(self, more: Mapping[str, str]) -> dict[str, str]:
        config = {"SALT_CONFIG_DIR": self.known["salt"]["config"], "PYTHONWARNINGS": "ignore"}
        return {**os.environ, **config, **more}

    def begin(self, told: Path, words: Iterable[str], **more: str) -> subprocess.Popen[bytes]:
        """A command in a terminal of its own; what it prints goes to `told`."""
        first, *rest = words
        with told.open("wb") as output:
            return subprocess.Popen(
                [f"{self.known['salt']['bin']}/{first}", *rest],
                env=self.shell(more), stdout=output, stderr=output, start_new_session=True, cwd=REPO,
            )  # fmt: skip

    def run(self, *words: str, timeout: float = 240) -> tuple[int, str]:
        """Exit code and output; one that doesn't end in time is killed and has code -9."""
        told = self.base / f"said-{time.monotonic_ns()}"
        process = self.begin(told, words)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
        return process.returncode, told.read_text(errors="replace")

    # Processes

    def family(self, service: str) -> list[psutil.Process]:
        """Of a service: its main process first, then all that it started."""
        lab = self._lab()
        known = lab.record["processes"][service]
        members = processes.family([Identity(known["pid"], known["created"])], f"{lab.record['id']}:{service}")
        return sorted(members, key=lambda process: (process.pid != known["pid"], process.pid))

    def kill(self, service: str) -> None:
        signal_all(self.family(service), signal.SIGKILL)

    def workers(self) -> list[psutil.Process]:
        """The master's request workers: children of the process that its queue is the first child of."""
        main = self.family("salt-master")[0]
        parents = [(child, child.children()) for child in main.children()]
        _, found = max(parents, key=lambda pair: len(pair[1]))
        return sorted(found, key=lambda process: (process.create_time(), process.pid))[1:]

    def limit_files(self, service: str, size: int | None) -> None:
        """No file of the service may grow beyond `size` bytes (None: any): a write fails as on a full disk."""
        for process in self.family(service):
            with contextlib.suppress(psutil.Error):
                hard = process.rlimit(psutil.RLIMIT_FSIZE)[1]
                process.rlimit(psutil.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def mend(self, services: Iterable[str]) -> None:
        """Start again what was killed, where it was; returns once the whole fleet answers."""
        names = list(services)
        with exclusively(self.folder):
            lab = self._lab()
            starter = Starter(lab, Reservations(), lambda line: None)
            for name in names:
                processes.stop(self._identity(lab, name), f"{lab.record['id']}:{name}", 0.2)
                starter.start(table(lab.record.get("consul"))[name])

    def answering(self) -> None:
        """Wait until every minion and proxy answers; raises LabError."""
        salt_config.await_fleet(self._lab(), lambda missing: None)

    def at_work(self) -> bool:
        """Whether a minion still has a state run or another job of a deploy under way."""
        for minion in self.known["salt"]["fleet"]:
            for path in (self.folder / "data" / f"salt-{minion}" / "cache").rglob("proc/*"):
                with contextlib.suppress(Exception):  # it ended while we looked
                    job = salt.payload.loads(path.read_bytes())
                    if psutil.pid_exists(job["pid"]):
                        return True
        return False

    def faults(self, system: str, *faults: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Set an emulator's switches; returns those that were set, with how often they hit."""
        url = f"{self.known[system]['url']}/_lab/faults"
        before: list[dict[str, Any]] = requests.get(url, timeout=15).json()
        requests.put(url, json=list(faults), timeout=15).raise_for_status()
        return before

    def _lab(self) -> Lab:
        lab = Lab.load(self.folder)
        assert lab, f"no lab in {self.folder}"
        return lab

    def _identity(self, lab: Lab, name: str) -> list[Identity]:
        known = lab.record["processes"].get(name)
        return [Identity(known["pid"], known["created"])] if known else []


def signal_all(members: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def faketime() -> tuple[str, str]:
    """Path of libfaketime's library, or "" and why there is none."""
    home = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(home) if home else Path.home() / ".cache") / "hecate" / "faketime"
    for found in _libraries([Path("/usr/lib"), cache]):
        return str(found), ""
    try:
        words = [str(REPO / "tools/fetch-faketime"), str(cache)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)
        why = (done.stderr.strip().splitlines() or ["tools/fetch-faketime said nothing"])[-1]
    except (OSError, subprocess.TimeoutExpired) as err:
        return "", f"libfaketime: {err}"
    return next((str(found) for found in _libraries([cache])), ""), why


def _libraries(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        for pattern in ("*/faketime/libfaketimeMT.so.1", "usr/lib/*/faketime/libfaketimeMT.so.1"):
            yield from sorted(root.glob(pattern))


