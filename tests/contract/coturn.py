"""A real coturn on loopback that takes credentials made with any of its static secrets."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT, free_port
from hecate.clients import turn
from hecate.errors import Unreachable


class Coturn:
    """folder: of its configuration and log. It reads its secrets when it starts, and only then."""

    realm = "turn.test"

    def __init__(self, folder: Path) -> None:
        self._folder, self.port, self._binary = folder, free_port(), _binary()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def configuration(self) -> Path:
        return self._folder / "turnserver.conf"

    def serve(self, secrets: Sequence[str]) -> None:
        """Take these secrets from now on."""
        lines = [
            f"listening-port={self.port}",
            "listening-ip=127.0.0.1",
            "relay-ip=127.0.0.1",
            f"realm={self.realm}",
            "use-auth-secret",
            "no-tcp",
            "no-tls",
            "no-dtls",
            "no-cli",
            "no-stdout-log",
            f"log-file={self._folder}/turn.log",
            f"pidfile={self._folder}/turn.pid",
            f"userdb={self._folder}/turn.db",
            *(f"static-auth-secret={secret}" for secret in secrets),
        ]
        self.configuration.write_text("\n".join(lines) + "\n")
        self.stop()
        command = [self._binary, "-c", str(self.configuration)]
        with open(self._folder / "out", "ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=self._folder)
        until = time.monotonic() + 20
        while True:
            assert self._process.poll() is None and time.monotonic() < until, (self._folder / "out").read_text()
            try:
                turn.accepts(*self.address, "nobody's")
                return
            except Unreachable:
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(5)
            self._process = None


def _binary() -> str:
    found = shutil.which("turnserver")
    if found:
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hecate"
    binary = cache / "usr" / "bin" / "turnserver"
    if not binary.exists():
        done = subprocess.run([str(ROOT / "tools" / "fetch-coturn"), str(cache)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"for want of a tool: {done.stderr.strip()[-200:]}")
    return str(binary)
