"""Systems for the engines to be killed at: a real Caddy, and the emulators, each with a stranger in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket as sockets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import requests
from hecate.backends.nomad import spec_of

from chaos import sight
from chaos.sight import Objects
from lab.client import admin
from lab.emulators.authentik import Authentik
from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns
from lab.emulators.nomad import Nomad
from lab.services import program

Pillar = dict[str, Any]
ZONE = "estate.test"
HOSTS = [f"{name}.{ZONE}" for name in "abcde"]
ALLOW = ["deletes", f"deletes:{ZONE}", "updates", *(f"route:{host}" for host in HOSTS)]
STRANGER, DIAL = "stranger", "127.0.0.1:3"
MANY = 1_000_000  # calls an hour: the limit is another test's


@dataclass
class World:
    """base: what never changes of its pillar. wish: another at random. look: everything that the system holds.

    strangers: what is not Hecate's, to the letter. url: of the emulator's switches; "" for a real server.
    """

    system: str
    folder: Path
    base: Pillar
    wish: Callable[[Random], Pillar]
    look: Callable[[], Objects]
    strangers: Callable[[], Any]
    url: str = ""


@contextlib.contextmanager
def caddy(folder: Path) -> Iterator[World]:
    socket = folder / "admin.sock"
    reply = {"handler": "static_response", "body": STRANGER}
    server = {"listen": [f"unix/{folder}/stranger.sock"], "routes": [{"handle": [reply]}]}
    config = {
        "admin": {"listen": f"unix/{socket}|0600"},
        "storage": {"module": "file_system", "root": str(folder / "storage")},
        "apps": {
            "http": {"http_port": 1, "https_port": 2, "servers": {STRANGER: server}},
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }
    (folder / "base.json").write_text(json.dumps(config))
    env = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    with open(folder / "caddy.log", "wb") as log:
        words = [program("caddy"), "run", "--config", str(folder / "base.json")]
        process = subprocess.Popen(words, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((folder / "caddy.log").read_text()[-2000:])
            time.sleep(0.02)
        path = str(socket)

        def wish(random: Random) -> Pillar:
            """Without TLS: certificates are not what is looked at here, and cost time."""
            hosts = random.sample(HOSTS, random.randint(1, len(HOSTS)))
            return {"routes": {host: {"upstreams": [f"127.0.0.1:{random.randint(3, 5)}"]} for host in sorted(hosts)}}

        edges = {"edge": {"https": _free_port(), "http": _free_port(), "bind": "127.0.0.1"}}
        yield World(
            "caddy",
            folder,
            {"caddy": {"admin": f"unix/{socket}", "issuer": "internal"}, "edges": edges},
            wish,
            lambda: sight.edge_objects("caddy", admin(path, "GET", "/config/")),
            lambda: admin(path, "GET", f"/config/apps/http/servers/{STRANGER}"),
        )
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def authentik(folder: Path) -> Iterator[World]:
    token = _token("AUTHENTIK")
    with running(Authentik(token=token, seed={"groups": ["staff", STRANGER]})) as url:

        def state() -> Any:
            return requests.get(f"{url}/_lab/state", timeout=10).json()

        def wish(random: Random) -> Pillar:
            hosts = random.sample(HOSTS[:3], random.randint(1, 3))
            groups = random.choice([["staff"], ["staff", "ops"], ["ops"]])
            return {
                "auth_policies": {
                    "p": {"groups": groups, "session_duration": random.choice(["2h", "4h"])},
                    "q": {"groups": ["staff"], "require_mfa": random.random() < 0.5},
                },
                "routes": {h: {"upstreams": [DIAL], "auth_policy": random.choice("pq")} for h in sorted(hosts)},
            }

        yield World(
            "authentik",
            folder,
            {"authentik": {"url": url, "token": "env:CHAOS_AUTHENTIK"}},
            wish,
            lambda: sight.authentik_objects(state()),
            lambda: [row for row in state()["groups"] if row["name"] in (STRANGER, "staff")],
            url,
        )


@contextlib.contextmanager
def hetzner(folder: Path) -> Iterator[World]:
    token = _token("HETZNER")
    with running(HetznerDns(token, (ZONE,), rate_limit=MANY)) as url:
        bearer = {"Authorization": f"Bearer {token}"}
        record = {"name": STRANGER, "type": "A", "records": [{"value": "192.0.2.25"}]}
        requests.post(f"{url}/v1/zones/{ZONE}/rrsets", json=record, headers=bearer, timeout=10).raise_for_status()

        def wish(random: Random) -> Pillar:
            hosts = random.sample(HOSTS, random.randint(1, len(HOSTS)))
            shapes: list[Pillar] = [{"A": "192.0.2.1"}, {"A": ["192.0.2.1", "192.0.2.2"]}, {"CNAME": f"www.{ZONE}"}]
            routes = {h: {"upstreams": [DIAL], "dns": random.choice(shapes)} for h in sorted(hosts)}
            zone = {"ttl": 300, "policy": "sync", "records": {"@": {"TXT": random.choice(["one", "two"])}}}
            return {"routes": routes, "dns": {"zones": {ZONE: zone}}}

        yield World(
            "hetzner_dns",
            folder,
            {"hetzner_dns": {"endpoint": f"{url}/v1", "token": "env:CHAOS_HETZNER"}},
            wish,
            lambda: sight.records(sight.rrsets(f"{url}/v1", token)),
            lambda: [row for row in sight.rrsets(f"{url}/v1", token) if row["name"] == STRANGER],
            url,
        )


@contextlib.contextmanager
def nomad(folder: Path) -> Iterator[World]:
    token = _token("NOMAD")
    with running(Nomad(folder=folder / "nomad", token=token)) as url:
        reached = {"url": url, "token": token}
        task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["900"]}}
        job = {"ID": STRANGER, "Datacenters": ["dc1"], "TaskGroups": [{"Name": "g", "Tasks": [task]}]}
        headers = {"X-Nomad-Token": token}
        requests.put(f"{url}/v1/jobs", json={"Job": job}, headers=headers, timeout=10).raise_for_status()

        def wish(random: Random) -> Pillar:
            names = random.sample(["one", "two", "three"], random.randint(1, 3))
            tasks = {name: {"command": "/bin/sleep", "args": [random.choice(["901", "902"])]} for name in sorted(names)}
            return {"workloads": {name: {"driver": "raw_exec", "config": task} for name, task in tasks.items()}}

        def jobs() -> Objects:
            return {name: json.dumps(spec_of(one), sort_keys=True) for name, one in sight.jobs(reached).items()}

        def strange() -> Any:
            found = sight.jobs(reached)[STRANGER]
            return {key: found[key] for key in ("JobModifyIndex", "Version", "TaskGroups")}

        base = {"nomad": {"url": url, "token": "env:CHAOS_NOMAD", "deadline": 20, "min_healthy": 0.02}}
        yield World("nomad", folder, base, wish, jobs, strange, url)


MAKERS: dict[str, Callable[[Path], contextlib.AbstractContextManager[World]]] = {
    "caddy": caddy,
    "authentik": authentik,
    "hetzner_dns": hetzner,
    "nomad": nomad,
}


def _token(system: str) -> str:
    """In the environment, where the pillar's reference finds it."""
    os.environ[f"CHAOS_{system}"] = secrets.token_hex(20)
    return os.environ[f"CHAOS_{system}"]


def _free_port() -> int:
    """Below the range from which the kernel takes ports."""
    while True:
        port = secrets.randbelow(12000) + 20000
        with sockets.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
