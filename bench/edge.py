"""A Caddy of its own for each measurement, and what it uses."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import requests
from hecate import model, wiring
from hecate.clients.caddy import CaddyClient
from hecate.engine import Outcome

CADDY = str(Path(sys.executable).with_name("caddy"))
Config = dict[str, Any]
Routes = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Edge:
    """One Caddy process on loopback. Use as a context manager."""

    def __init__(self, issuer: str = "none") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hecate-bench-"))
        self.port, self.issuer = free_port(), issuer
        self.admin = f"unix/{self.folder}/admin.sock"

    def base(self) -> Config:
        stranger = {"listen": [f"127.0.0.1:{free_port()}"], "routes": [{"handle": [{"handler": "static_response"}]}]}
        http = {"http_port": free_port(), "https_port": self.port, "servers": {"stranger": stranger}}
        return {
            "admin": {"listen": f"{self.admin}|0600", "config": {"persist": False}},
            "storage": {"module": "file_system", "root": str(self.folder / "storage")},
            "apps": {"http": http, "pki": {"certificate_authorities": {"local": {"install_trust": False}}}},
        }

    def __enter__(self) -> Edge:
        self._base = self.base()
        start = self.folder / "base.json"
        start.write_text(json.dumps(self._base))
        self.log = open(self.folder / "caddy.log", "wb")
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen([CADDY, "run", "--config", str(start)], env=environment, stderr=self.log)
        self._watched = psutil.Process(self._process.pid)
        while not (self.folder / "admin.sock").exists():
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "caddy.log").read_text())
            time.sleep(0.02)
        self.client = CaddyClient(self.admin)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pillar(self, routes: Routes, **sections: Any) -> Config:
        caddy = {"admin": self.admin, "issuer": self.issuer, **sections.pop("caddy", {})}
        edges = {"edge": {"https": self.port, "bind": "127.0.0.1"}}
        return {"hecate": {"caddy": caddy, "edges": edges, "routes": routes, **sections}}

    def apply(self, estate: model.Estate) -> Outcome:
        place = wiring.Place("edge", self.folder / "cache", allow=("updates", "deletes"))
        target = wiring.target("caddy", estate, place)
        return target.engine.apply(target.wish, f"t{time.time_ns()}")

    def reset(self) -> None:
        self.client.replace(self._base, self.client.config()[1])
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        self.settle()

    def bare_write(self, config: Config, etag: str | None = None) -> float:
        """Seconds of one POST of these bytes, and nothing else."""
        data = json.dumps(config, separators=(",", ":")).encode()
        etag = etag or self.client.config()[1]
        start = time.perf_counter()
        self.client.replace(config, etag, data)
        return time.perf_counter() - start

    def calls(self) -> dict[str, int]:
        """Requests that the admin API has answered so far, by method."""
        text = (self.folder / "caddy.log").read_text()
        return {method: text.count(f'"method":"{method}"') for method in ("GET", "POST")}

    def cpu(self) -> float:
        used = self._watched.cpu_times()
        return float(used.user + used.system)

    def settle(self) -> None:
        """Wait until Caddy has done what a reload leaves to do."""
        used = self.cpu()
        while True:
            time.sleep(0.25)
            now = self.cpu()
            if now - used < 0.02:
                return
            used = now

    def resident(self) -> float:
        """MB."""
        return float(self._watched.memory_info().rss) / 1e6

    def request_cpu(self, host: str, count: int = 2000) -> float:
        """CPU microseconds of Caddy for a request, on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        start = self.cpu()
        for _ in range(count):
            connection.request("GET", "/", headers={"Host": host})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{host}: {answer.status}")
        connection.close()
        return (self.cpu() - start) / count * 1e6


def adapted(caddyfile: str) -> Config:
    """What Caddy itself makes of a Caddyfile."""
    with tempfile.NamedTemporaryFile("w", suffix=".caddyfile") as file:
        file.write(caddyfile)
        file.flush()
        answer = subprocess.run(
            [CADDY, "adapt", "--config", file.name, "--adapter", "caddyfile"],
            capture_output=True,
            check=True,
            text=True,
        )
    found: Config = json.loads(answer.stdout)
    return found


class Upstream:
    """A server in a process of its own, so that its CPU is nobody else's."""

    def __enter__(self) -> Upstream:
        self.port = free_port()
        self._process = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(self.port)])
        while True:
            try:
                requests.get(f"http://127.0.0.1:{self.port}/", timeout=5)
                return self
            except requests.ConnectionError:
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    @property
    def dial(self) -> str:
        return f"127.0.0.1:{self.port}"
