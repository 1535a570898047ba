"""The worlds that the contract suite runs in: one real or emulated system each."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import RealCaddy, tool
from hecate import model, wiring

from contract.bind import Bind, Wire
from contract.edge import EdgeUnderTest
from lab.emulators.authentik import Authentik
from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns
from lab.emulators.nomad import Nomad

Pillar = dict[str, Any]
FLOW = "default-authentication-flow"


@dataclass
class World:
    """A system, the pillars that the suite moves it through, and how to look at it from outside.

    first, second: two different wishes. everything: what the system holds, strangers included, in
    a form that two looks can be compared by. url: the emulator's, "" for a real server.
    """

    system: str
    base: Pillar
    first: Pillar
    second: Pillar
    everything: Callable[[], Any]
    strangers: Callable[[], Any]
    folder: Path
    url: str = ""
    secret: str = ""

    def target(self, wish: Pillar, **place: Any) -> wiring.Target:
        estate = model.parse({"hecate": {**self.base, **wish}})
        return wiring.target(self.system, estate, wiring.Place("edge", self.folder, sleep=_briefly, **place))


def _briefly(seconds: float) -> None:
    """The clients' pauses, shortened: the servers here need no rest."""
    time.sleep(min(seconds, 0.02))


def _route(dial: str, **more: Any) -> Pillar:
    return {"upstreams": [dial], **more}


@pytest.fixture
def caddy_world(caddy: RealCaddy, tmp_path: Path) -> World:
    from hecate.clients.caddy import CaddyClient

    client = CaddyClient(caddy.admin)
    base = {
        "caddy": {"admin": caddy.admin, "issuer": "internal"},
        "edges": {"edge": {"https": caddy.https, "bind": "127.0.0.1"}},
    }
    a, b, c = "a.estate.test", "b.estate.test", "c.estate.test"
    return World(
        "caddy",
        base,
        {"routes": {a: _route("127.0.0.1:1"), b: _route("127.0.0.1:2")}},
        {"routes": {a: _route("127.0.0.1:3"), b: _route("127.0.0.1:2"), c: _route("https://127.0.0.1:4")}},
        lambda: client.config()[0],
        lambda: client.config()[0]["apps"]["http"]["servers"]["lab-stranger"],
        tmp_path,
    )


@pytest.fixture
def authentik_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    token = secrets.token_hex(20)
    monkeypatch.setenv("AUTHENTIK_TOKEN", token)
    seed = {
        "groups": ["staff"],
        "users": [{"username": "alice", "name": "Alice", "password": "pw", "groups": ["staff"]}],
    }
    emulator = Authentik(token=token, seed=seed)
    policies = {"p": {"groups": ["staff", "ops"]}, "q": {"groups": ["ops"], "session_duration": "2h", "flow": FLOW}}
    a, b, c = (f"{name}.estate.test" for name in "abc")
    dial = "127.0.0.1:1"
    with running(emulator) as url:
        yield World(
            "authentik",
            {"authentik": {"url": url, "token": "env:AUTHENTIK_TOKEN"}, "auth_policies": policies},
            {"routes": {a: _route(dial, auth_policy="p"), b: _route(dial, auth_policy="q")}},
            {
                "routes": {
                    a: _route(dial, auth_policy="q"),
                    b: _route(dial, auth_policy="q"),
                    c: _route(dial, auth_policy="p"),
                }
            },
            lambda: _state(url),
            lambda: [g for g in _state(url)["groups"] if "hecate" not in str(g)],
            tmp_path,
            url,
            token,
        )


@pytest.fixture
def dns_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    token = secrets.token_hex(20)
    monkeypatch.setenv("HETZNER_TOKEN", token)
    emulator = HetznerDns(token, ("estate.test",))
    zones = {"estate.test": {"ttl": 300, "policy": "sync", "records": {"@": {"TXT": "v=spf1 -all"}}}}
    a, b, c = (f"{name}.estate.test" for name in "abc")
    dial = "127.0.0.1:1"

    def record(address: str) -> Pillar:
        return _route(dial, dns={"A": address})

    with running(emulator) as url:
        headers = {"Authorization": f"Bearer {token}"}
        strange = {"name": "mail", "type": "A", "records": [{"value": "192.0.2.25"}]}
        requests.post(f"{url}/v1/zones/estate.test/rrsets", json=strange, headers=headers, timeout=5).raise_for_status()

        def rrsets() -> list[Pillar]:
            answer = requests.get(f"{url}/v1/zones/estate.test/rrsets?per_page=100", headers=headers, timeout=5)
            keep = ("name", "type", "ttl", "labels", "records")
            return sorted(({k: r[k] for k in keep} for r in answer.json()["rrsets"]), key=str)

        yield World(
            "hetzner_dns",
            {"hetzner_dns": {"endpoint": f"{url}/v1", "token": "env:HETZNER_TOKEN"}, "dns": {"zones": zones}},
            {"routes": {a: record("192.0.2.1"), b: record("192.0.2.2")}},
            {"routes": {a: record("192.0.2.3"), b: record("192.0.2.2"), c: _route(dial, dns={"CNAME": a})}},
            lambda: [r for r in rrsets() if r["type"] != "SOA"],
            lambda: [r for r in rrsets() if not r["labels"] and r["type"] != "SOA"],
            tmp_path,
            url,
            token,
        )


@pytest.fixture(scope="session")
def bind_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    server = Bind(tmp_path_factory.mktemp("bind"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bind(bind_process: Bind) -> Bind:
    bind_process.reset()
    return bind_process


@pytest.fixture
def wire(bind: Bind) -> Iterator[Wire]:
    relay = Wire(bind.port)
    yield relay
    relay.stop()


@pytest.fixture
def rfc2136_world(bind: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("TSIG_KEY", bind.secret)
    server = {"server": f"127.0.0.1:{bind.port}", "key": "hecate", "secret": "env:TSIG_KEY"}
    zones = {"estate.test": {"ttl": 300, "policy": "sync", "records": {"@": {"TXT": "v=spf1 -all"}}}}
    a, b, c = (f"{name}.estate.test" for name in "abc")
    dial = "127.0.0.1:1"

    def record(address: str) -> Pillar:
        return _route(dial, dns={"A": address})

    return World(
        "rfc2136",
        {"rfc2136": {"inside": server}, "dns": {"provider": "inside", "zones": zones}},
        {"routes": {a: record("192.0.2.1"), b: record("192.0.2.2")}},
        {"routes": {a: record("192.0.2.3"), b: record("192.0.2.2"), c: _route(dial, dns={"CNAME": a})}},
        bind.rrsets,
        lambda: [row for row in bind.rrsets() if row.split(" ")[0].split(".")[0] in ("mail", "ns1", "_acme-challenge")],
        tmp_path,
        secret=bind.secret,
    )


@pytest.fixture
def nomad_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    token = secrets.token_hex(20)
    monkeypatch.setenv("NOMAD_TOKEN", token)
    emulator = Nomad(folder=tmp_path / "nomad", token=token)
    jobs = {
        name: {"driver": "raw_exec", "config": {"command": "/bin/sleep", "args": [str(n)]}}
        for name, n in (("one", 600), ("two", 601), ("three", 602))
    }
    changed = {**jobs["one"], "config": {"command": "/bin/sleep", "args": ["700"]}}
    headers = {"X-Nomad-Token": token}

    def specs(url: str) -> list[Any]:
        from hecate.backends.nomad import spec_of

        listed = requests.get(f"{url}/v1/jobs", headers=headers, timeout=5).json()
        full = [requests.get(f"{url}/v1/job/{row['ID']}", headers=headers, timeout=5).json() for row in listed]
        return sorted(((job["ID"], spec_of(job)) for job in full), key=str)

    try:
        with running(emulator) as url:
            task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["603"]}}
            job = {"ID": "strange", "Datacenters": ["dc1"], "TaskGroups": [{"Name": "g", "Tasks": [task]}]}
            requests.put(f"{url}/v1/jobs", json={"Job": job}, headers=headers, timeout=5).raise_for_status()
            yield World(
                "nomad",
                {"nomad": {"url": url, "token": "env:NOMAD_TOKEN", "deadline": 20, "min_healthy": 0.1}},
                {"workloads": {"one": jobs["one"], "two": jobs["two"]}},
                {"workloads": {"one": changed, "two": jobs["two"], "three": jobs["three"]}},
                lambda: specs(url),
                lambda: [s for s in specs(url) if s[0] == "strange"],
                tmp_path,
                url,
                token,
            )
    finally:
        emulator.close()


@pytest.fixture
def terraform_world(tmp_path: Path) -> World:
    tool("python")
    source, workdir = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    (source / "main.tf").write_text(
        'variable "address" { type = string }\n'
        'resource "terraform_data" "edge" { input = var.address }\n'
        'output "address" { value = terraform_data.edge.output }\n'
    )

    def section(address: str) -> Pillar:
        return {"terraform": {"source": str(source), "workdir": str(workdir), "variables": {"address": address}}}

    def state() -> Any:
        import json

        path = workdir / "terraform.tfstate"
        held = json.loads(path.read_text())["resources"] if path.exists() else []
        return [i["attributes"]["input"]["value"] for r in held for i in r["instances"]]

    return World("terraform", {}, section("192.0.2.1"), section("192.0.2.2"), state, lambda: None, tmp_path)


@pytest.fixture
def edge(caddy: RealCaddy, tmp_path: Path) -> Iterator[EdgeUnderTest]:
    under_test = EdgeUnderTest(caddy, tmp_path)
    yield under_test
    under_test.stop()


WORLDS = ["caddy_world", "authentik_world", "dns_world", "rfc2136_world", "nomad_world", "terraform_world"]


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def _state(url: str) -> Any:
    """The emulator's own view. A binding that was removed and made again has a new key, which nobody uses."""
    state = requests.get(f"{url}/_lab/state", timeout=5).json()
    state["bindings"] = [{k: v for k, v in b.items() if k != "pk"} for b in state["bindings"]]
    return {
        k: sorted(v, key=lambda row: json.dumps(row, sort_keys=True)) if isinstance(v, list) else v
        for k, v in state.items()
    }
