"""The pillar of a random estate: the example, edited at random, always valid."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml

FILES = ("routes.sls", "policies.sls", "dns.sls", "workloads.sls", "systems.sls")
ZONE = "estate.test"
FIXED = ("hera.estate.test", "jenkins.estate.test")  # the sign-in page, and one that always has a second factor
LONE = ["deletes", f"deletes:{ZONE}", "updates"]


@dataclass
class Wish:
    """The editable files as data, by name; values in Jinja are kept as they are written."""

    files: dict[str, dict[str, Any]]
    edits: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Wish:
        hidden = {name: re.sub(r"\{\{.*?\}\}", _hide, (folder / name).read_text()) for name in FILES}
        return cls({name: yaml.safe_load(text)["hecate"] for name, text in hidden.items()})

    def write(self, folder: Path) -> None:
        for name, data in self.files.items():
            text = yaml.safe_dump({"hecate": data}, sort_keys=False)
            (folder / name).write_text(re.sub(r"JINJA([0-9a-f]+)", lambda m: bytes.fromhex(m[1]).decode(), text))

    @property
    def routes(self) -> dict[str, Any]:
        return self.files["routes.sls"]["routes"]  # type: ignore[no-any-return]

    @property
    def policies(self) -> dict[str, Any]:
        return self.files["policies.sls"]["auth_policies"]  # type: ignore[no-any-return]

    @property
    def records(self) -> dict[str, Any]:
        return self.files["dns.sls"]["dns"]["zones"][ZONE]["records"]  # type: ignore[no-any-return]

    @property
    def workloads(self) -> dict[str, Any]:
        return self.files["workloads.sls"]["workloads"]  # type: ignore[no-any-return]

    def edited(self, random: Random) -> Wish:
        """One to five edits; never none that changes anything."""
        while True:
            fresh = Wish(copy.deepcopy(self.files))
            for edit in random.sample(EDITS, random.randint(1, 5)):
                fresh.edits.append(edit(fresh, random))
            if fresh.files != self.files:
                return fresh

    def consent(self, new: Wish) -> list[str]:
        """The override that an operator gives for going from this wish to that, or back."""
        gone = self.routes.keys() ^ new.routes.keys()
        return [*LONE, *(f"route:{host}" for host in sorted(gone))]

    def untouched(self, other: Wish) -> set[str]:
        """Hosts that both have alike, with the policy that they name."""

        def served(wish: Wish, host: str) -> Any:
            route = {key: value for key, value in wish.routes.get(host, {}).items() if key != "dns"}
            return route, wish.policies.get(str(route.get("auth_policy")))

        common = self.routes.keys() & other.routes.keys()
        return {host for host in common if served(self, host) == served(other, host)}


def _route(wish: Wish, random: Random) -> str:
    """Add, change or remove one of six."""
    host = f"r{random.randint(1, 6)}.{ZONE}"
    if host in wish.routes and random.random() < 0.6:
        del wish.routes[host]
        return f"remove {host}"
    wish.routes[host] = route = {"upstreams": [f"192.0.2.40:{random.randint(7000, 7003)}"]}
    policy = random.choice([None, "observers", "builders"])
    if policy:
        route["auth_policy"] = policy  # type: ignore[assignment]
    address = random.choice([None, "terraform:edge_address", "203.0.113.77"])
    if address:
        route["dns"] = {"A": address}  # type: ignore[assignment]
    return f"{host} with {policy} and {address}"


def _upstream(wish: Wish, random: Random) -> str:
    host = random.choice([host for host in sorted(wish.routes) if host not in FIXED and host != ZONE])
    tls = "https://" if wish.routes[host].get("tls_skip_verify") else ""
    wish.routes[host]["upstreams"] = [f"{tls}192.0.2.{random.randint(50, 53)}:8000"]
    return f"{host} leads elsewhere"


def _policy(wish: Wish, random: Random) -> str:
    policy = wish.policies["observers"]
    policy["groups"] = random.choice([["platform-team"], ["platform-team", "observers"], ["observers", "auditors"]])
    policy["session_duration"] = random.choice(["8h", "4h"])
    return f"observers are {policy['groups']}"


def _record(wish: Wish, random: Random) -> str:
    name = f"t{random.randint(1, 4)}"
    if name in wish.records and random.random() < 0.5:
        del wish.records[name]
        return f"remove the record {name}"
    shapes: list[dict[str, Any]] = [{"TXT": f"v{random.randint(1, 9)}"}, {"A": "192.0.2.9"}, {"CNAME": ZONE}]
    wish.records[name] = random.choice(shapes)
    return f"record {name} {wish.records[name]}"


def _workload(wish: Wish, random: Random) -> str:
    name = random.choice(["heartbeat", "w1", "w2"])
    if name != "heartbeat" and name in wish.workloads and random.random() < 0.5:
        del wish.workloads[name]
        return f"remove the job {name}"
    config = {"command": "/bin/sleep", "args": [str(random.randint(5000, 5009))]}
    wish.workloads[name] = {"driver": "raw_exec", "config": config, "cpu": 20, "memory": 16}
    return f"job {name} {config['args']}"


def _address(wish: Wish, random: Random) -> str:
    """Terraform's variable, which every record of a route follows."""
    address = f"203.0.113.{random.randint(10, 14)}"
    wish.files["systems.sls"]["terraform"]["variables"]["edge_address"] = address
    return f"the edges are at {address}"


EDITS: list[Callable[[Wish, Random], str]] = [_route, _route, _upstream, _policy, _record, _workload, _address]


def _hide(found: re.Match[str]) -> str:
    return f"JINJA{found[0].encode().hex()}"
