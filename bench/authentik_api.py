"""authentik's emulator in a process of its own, at prices in the proportions of a real server's."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from bench.edge import free_port

VERSION = "2026.2.2"
# Milliseconds, as seen on this version with a hundred applications: halfway to two hundred. A page is one of a hundred
# rows; what reading one object by its name costs was not measured, and is left out.
PRICES = {
    "POST /providers/proxy/": 269,
    "POST /core/applications/": 176,
    "POST /policies/bindings/": 196,
    "PUT /core/transactional/applications/": 704,
    "PATCH /outposts/instances/*/": 1036,
    "PATCH /providers/proxy/*/": 6388,
    "GET /core/applications/*page_size=100*": 1162,
    "GET /providers/proxy/*page_size=100*": 1998,
    "GET /policies/bindings/*page_size=100*": 1754,
}
OUTPOST_PRICE = 20  # on top, for every provider that is on the outpost
Body = dict[str, Any]


@dataclass
class Api:
    """An emulator in a process of its own."""

    url: str
    token: str
    folder: Path
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.headers["Authorization"] = f"Bearer {self.token}"

    def calls(self) -> list[Body]:
        """All since the last look."""
        found: list[Body] = requests.get(f"{self.url}/_lab/calls", timeout=10).json()
        requests.delete(f"{self.url}/_lab/calls", timeout=10).raise_for_status()
        return found

    def send(self, method: str, path: str, body: Body | None = None, **query: Any) -> Any:
        answer = self.session.request(method, f"{self.url}/api/v3{path}", json=body, params=query, timeout=60)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json() if answer.content else None


@contextmanager
def api(scale: float = 0) -> Iterator[Api]:
    """scale: of the prices; 0: calls cost nothing but the emulator's own time."""
    with tempfile.TemporaryDirectory(prefix="hecate-bench-") as folder:
        token, port = secrets.token_hex(32), free_port()
        (Path(folder) / "token").write_text(token)
        (Path(folder) / "token").chmod(0o600)
        prices = {call: price * scale for call, price in PRICES.items()}
        command = [sys.executable, "-m", "lab.emulators.authentik", "--port", str(port), "--version", VERSION]
        command += ["--token-file", f"{folder}/token", "--prices", json.dumps(prices)]
        command += ["--outpost-price", str(OUTPOST_PRICE * scale)]
        undescribed = {"HECATE_SPECS": folder}  # no checks of calls against the API's description: they cost time
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **undescribed})
        try:
            found = Api(f"http://127.0.0.1:{port}", token, Path(folder))
            until = time.monotonic() + 20
            while True:
                try:
                    found.calls()
                    break
                except requests.ConnectionError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield found
        finally:
            process.terminate()
            process.wait(20)
