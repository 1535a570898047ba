"""The whole platform, set up once a session by the README's own command, and looked at from outside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import psutil
import pytest
import requests
import yaml
from conftest import ROOT
from hecate.clients.caddy import CaddyClient

from lab.client import Visitor
from lab.environ import environment

EMULATORS = ("hetzner", "authentik", "nomad")


@dataclass
class Estate:
    """A running lab on a pillar of its own that tests may edit."""

    folder: Path
    pillar: Path
    demo: str
    known: dict[str, Any]
    transcript: list[str] = field(default_factory=list)

    # Commands, as an operator types them

    def run(self, *words: str, timeout: int = 240) -> tuple[int, str]:
        """A Salt command: exit code and everything it printed."""
        binary = Path(self.known["salt"]["bin"]) / words[0]
        done = subprocess.run(
            [str(binary), *words[1:]], env=self.shell, capture_output=True, text=True, timeout=timeout, cwd=ROOT
        )
        self.transcript.append(done.stdout + done.stderr)
        return done.returncode, done.stdout + done.stderr

    @property
    def events(self) -> Path:
        """Everything that went over Salt's event bus since the estate is up."""
        return self.folder.parent / "events"

    @property
    def shell(self) -> dict[str, str]:
        return {**os.environ, "SALT_CONFIG_DIR": self.known["salt"]["config"], "PYTHONWARNINGS": "ignore"}

    def deploy(self, **pillar: Any) -> tuple[int, str]:
        extra = [f"pillar={json.dumps(pillar)}"] if pillar else []
        return self.run("salt-run", "state.orch", "hecate.deploy", *extra)

    def plan(self) -> tuple[int, str]:
        return self.run("salt-run", "hecate.plan")

    def call(self, minion: str, function: str, *words: str) -> Any:
        """One function on one minion, its return as data."""
        code, text = self.run("salt", minion, function, *words, "--out=json", "--static")
        return json.loads(text[text.index("{") :])[minion]

    # The machines, as they come and go

    def stop(self, service: str) -> None:
        """kill -9 of one of the lab's services, and of everything that it started."""
        for pid in self._processes(service):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def start(self, service: str) -> None:
        words = [sys.executable, "-m", "lab", "restart", service, "--dir", str(self.folder)]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
        until = time.monotonic() + 60
        while service.startswith("minion-") and time.monotonic() < until:
            if self.run("salt", service.removeprefix("minion-"), "test.ping", "--timeout=5")[0] == 0:
                return

    def _processes(self, service: str) -> list[int]:
        record = json.loads((self.folder / "lab.json").read_text())["processes"][service]
        process = psutil.Process(record["pid"])
        return [child.pid for child in process.children(recursive=True)] + [process.pid]

    # Pillar, edited as an operator does

    def edit(self, file: str, change: Any) -> None:
        """change: called with the file's data; alters it in place."""
        path = self.pillar / "hecate" / file
        text = path.read_text()
        data = yaml.safe_load(re.sub(r"\{\{.*?\}\}", lambda m: f"JINJA{m[0].encode().hex()}", text))
        change(data["hecate"])
        dumped = yaml.safe_dump(data, sort_keys=False)
        path.write_text(re.sub(r"JINJA([0-9a-f]+)", lambda m: bytes.fromhex(m[1]).decode(), dumped))

    def restore_pillar(self) -> None:
        shutil.rmtree(self.pillar)
        shutil.copytree(ROOT / "pillar", self.pillar)

    # The systems, looked at directly

    def caddy(self, edge: str) -> CaddyClient:
        return CaddyClient(self.known["edges"][edge]["admin"])

    def everything(self) -> dict[str, Any]:
        """Every object on every system, without what moves by itself."""
        found: dict[str, Any] = {edge: self.caddy(edge).config()[0] for edge in self.known["edges"]}
        state = self.emulator("authentik", "state")
        state["bindings"] = [{k: v for k, v in b.items() if k != "pk"} for b in state["bindings"]]
        objects = ("groups", "providers", "applications", "bindings", "outposts", "policies", "stages", "flows")
        found["authentik"] = {k: sorted(json.dumps(row, sort_keys=True) for row in state[k]) for k in objects}
        zone = f"{self.known['hetzner']['endpoint']}/zones/estate.test/rrsets?per_page=100"
        rrsets = requests.get(
            zone, headers={"Authorization": f"Bearer {self.known['hetzner']['token']}"}, timeout=5
        ).json()
        keep = ("name", "type", "ttl", "labels", "records")
        found["dns"] = sorted(
            json.dumps({k: r[k] for k in keep}, sort_keys=True) for r in rrsets["rrsets"] if r["type"] != "SOA"
        )
        found["nomad"] = self.jobs()
        terraform = Path(self.known["lab"]) / "terraform" / "terraform.tfstate"
        held = json.loads(terraform.read_text())["resources"] if terraform.exists() else []
        found["terraform"] = [i["attributes"].get("input") for r in held for i in r["instances"]]
        return found

    def jobs(self) -> list[Any]:
        from hecate.backends.nomad import spec_of

        api, headers = f"{self.known['nomad']['url']}/v1", {"X-Nomad-Token": self.known["nomad"]["token"]}
        listed = requests.get(f"{api}/jobs", headers=headers, timeout=5).json()
        full = [requests.get(f"{api}/job/{row['ID']}", headers=headers, timeout=5).json() for row in listed]
        return sorted(([job["ID"], spec_of(job)] for job in full if not job.get("Stop")), key=str)

    def emulator(self, system: str, what: str) -> Any:
        return requests.get(f"{self.known[system]['url']}/_lab/{what}", timeout=10).json()

    def faults(self, system: str, *faults: dict[str, Any]) -> None:
        requests.put(f"{self.known[system]['url']}/_lab/faults", json=list(faults), timeout=10).raise_for_status()

    def writes(self) -> dict[str, int]:
        """How many writes each system has seen so far."""
        counted = {system: self.emulator(system, "counts")["writes"] for system in EMULATORS}
        for edge in self.known["edges"]:
            log = (Path(self.known["logs"]) / f"{edge}.log").read_text()
            lines = [json.loads(line) for line in log.splitlines() if '"received request"' in line]
            counted[edge] = sum(line["method"] != "GET" for line in lines)
        return counted

    def answers(self, name: str, kind: str = "A") -> list[str]:
        """What the lab's name server says."""
        query = dns.message.make_query(name, kind)
        reply = dns.query.udp(query, "127.0.0.1", port=self.known["dns"]["port"], timeout=5)
        return sorted(str(record) for rrset in reply.answer for record in rrset)

    def visitor(self, edge: str = "hecate-edge-1") -> Visitor:
        return Visitor(self.known, edge)

    def password(self, user: str) -> str:
        return str(self.known["authentik"]["users"][user]["password"])

    def may_open(self, application: str, user: str) -> bool:
        """By authentik's own word."""
        api = f"{self.known['authentik']['url']}/api/v3/core"
        bearer = {"Authorization": f"Bearer {self.known['authentik']['token']}"}
        found = requests.get(f"{api}/users/?username={user}", headers=bearer, timeout=10).json()["results"]
        check = f"{api}/applications/{application}/check_access/?for_user={found[0]['pk']}"
        return bool(requests.get(check, headers=bearer, timeout=10).json()["passing"])

    def client_secret(self, application: str) -> str:
        """Where its reference leads."""
        vault = f"{self.known['openbao']['url']}/v1/secret/data/hecate/{application}"
        answer = requests.get(vault, headers={"X-Vault-Token": self.known["openbao"]["token"]}, timeout=10)
        return str(answer.json()["data"]["data"]["client_secret"])

    def secrets(self) -> dict[str, str]:
        """The lab's own, by name."""
        plain = {
            s: str(self.known[s]["token"])
            for s in ("openbao", "consul", "hetzner", "authentik", "nomad")
            if self.known.get(s)
        }
        plain["nextcloud"] = self.client_secret("nextcloud")
        plain |= {f"password of {user}": self.password(user) for user in self.known["authentik"]["users"]}
        return plain | {f"openbao of {minion}": token for minion, token in self.known["openbao"]["targets"].items()}


@pytest.fixture(scope="session")
def estate() -> Iterator[Estate]:
    """`make demo`, with a copy of the example pillar; `make demo-down` at the end, however it ended."""
    base = Path(tempfile.mkdtemp(prefix="hecate-e2e-"))
    folder, pillar = base / "lab", base / "pillar"
    shutil.copytree(ROOT / "pillar", pillar)
    venv = Path(sys.executable).parent.parent
    words = [f"LAB={folder}", f"PILLAR={pillar}", f"VENV={venv}"]
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    env["LAB_SALT_LOG"] = "trace"  # whatever Salt can tell; test_unseen.py reads it all

    def make(target: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", target, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)

    try:
        done = make("demo")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        made = Estate(folder, pillar, done.stdout, environment(folder))
        with _listening(made):
            yield made
    finally:
        down = make("demo-down")
    assert down.returncode == 0 and not folder.exists(), down.stdout + down.stderr
    shutil.rmtree(base)


@contextlib.contextmanager
def _listening(estate: Estate) -> Iterator[None]:
    """Write down what goes over Salt's event bus."""
    with open(estate.events, "wb") as events:
        listener = subprocess.Popen(
            [f"{estate.known['salt']['bin']}/salt-run", "state.event"], env=estate.shell, stdout=events
        )
    try:
        yield
    finally:
        listener.terminate()
        listener.wait(20)


@pytest.fixture(autouse=True)
def tidy(estate: Estate) -> Iterator[None]:
    """Every test begins and ends with the example deployed and no fault switched on."""
    yield
    for system in EMULATORS:
        estate.faults(system)
    estate.restore_pillar()
