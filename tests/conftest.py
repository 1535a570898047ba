"""What every room of the tests shares: real servers, started once a session, on loopback."""

from __future__ import annotations

import logging
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def pytest_unconfigure() -> None:
    logging.raiseExceptions = False  # late daemon threads must not write past pytest's last line


class ByFolder(LoadScopeScheduling):  # type: ignore[misc]
    """One worker a folder where the tests of a folder share daemons; everything else as it comes."""

    def _split_scope(self, nodeid: str) -> str:
        folder = nodeid.partition("::")[0].rpartition("/")[0]
        return folder if folder in ("tests/e2e", "tests/salt") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFolder:
    return ByFolder(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The estate first: it takes longest, and the others fill the second worker meanwhile."""
    order = ["e2e", "chaos", "salt", "lab", "contract", "unit"]
    items.sort(key=lambda item: order.index(Path(item.path).parent.name))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("CI") and "want of a tool" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, but CI has to run it: {report.longrepr}"


def free_port() -> int:
    """Below the range from which the kernel takes ports: one of these may be free again and again for a while."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def tool(name: str) -> str:
    """Path of a tool of this environment, or a skip that CI does not accept."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"for want of a tool: {name} is not installed; run make test")
    return str(path)


class RealCaddy:
    """A Caddy process with its admin API on a unix socket, and one stranger's server in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.http, self.https, self.stranger = folder, free_port(), free_port(), free_port()
        self.socket = folder / "admin.sock"
        self.admin = f"unix/{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        self.logged = 0

    def base(self) -> dict[str, object]:
        reply = {"handler": "static_response", "body": "stranger"}
        servers = {"lab-stranger": {"listen": [f"127.0.0.1:{self.stranger}"], "routes": [{"handle": [reply]}]}}
        local = {"local": {"install_trust": False}}
        return {
            "admin": {"listen": f"unix/{self.socket}|0600"},
            "storage": {"module": "file_system", "root": str(self.folder / "storage")},
            "apps": {
                "http": {"http_port": self.http, "https_port": self.https, "servers": servers},
                "pki": {"certificate_authorities": local},
            },
        }

    def start(self) -> None:
        import json

        config = self.folder / "base.json"
        config.write_text(json.dumps(self.base()))
        env = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        with open(self.folder / "caddy.log", "ab") as log:
            self.process = subprocess.Popen([tool("caddy"), "run", "--config", str(config)], env=env, stderr=log)
        until = time.monotonic() + 20
        while not self.socket.exists():
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "caddy.log").read_text()
            time.sleep(0.02)

    def reset(self) -> None:
        """As it was at the start, but for what it has logged; `log` tells only of what comes after this."""
        from hecate.clients.caddy import CaddyClient

        client = CaddyClient(self.admin)
        client.replace(self.base(), client.config()[1])
        self.logged = (self.folder / "caddy.log").stat().st_size

    def log(self) -> str:
        return (self.folder / "caddy.log").read_bytes()[self.logged :].decode()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)


@pytest.fixture(scope="session")
def caddy_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCaddy]:
    server = RealCaddy(tmp_path_factory.mktemp("caddy"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def caddy(caddy_process: RealCaddy) -> RealCaddy:
    caddy_process.reset()
    return caddy_process


def switch_faults(url: str, *faults: dict[str, object]) -> None:
    """Set an emulator's fault switches; none clears them."""
    requests.put(f"{url}/_lab/faults", json=list(faults), timeout=5).raise_for_status()
