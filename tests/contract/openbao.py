"""A real OpenBao on loopback, in memory: where certificates and keys come from that no pillar may hold."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import hvac
import pytest
import requests
from conftest import free_port, tool


@dataclass
class OpenBao:
    """url and root token; the KV engine is mounted at `secret`."""

    url: str
    token: str

    def put(self, path: str, **values: str) -> None:
        hvac.Client(url=self.url, token=self.token, timeout=10).secrets.kv.v2.create_or_update_secret(
            path=path, secret=values, mount_point="secret"
        )


@pytest.fixture(scope="session")
def openbao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    port, token, folder = free_port(), secrets.token_hex(16), tmp_path_factory.mktemp("openbao")
    command = [tool("bao"), "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{port}"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "BAO_DEV_ROOT_TOKEN_ID": token}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        _await(f"http://127.0.0.1:{port}/v1/sys/health", process)
        yield OpenBao(f"http://127.0.0.1:{port}", token)
    finally:
        process.terminate()
        process.wait(10)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            if requests.get(url, timeout=2).status_code == 200:
                return
        except requests.RequestException:
            pass
        assert process.poll() is None and time.monotonic() < until, "OpenBao did not start"
        time.sleep(0.05)
