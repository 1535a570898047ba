"""Consul, when it can be had: one server that is its own quorum, closed to callers without a token."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping

import requests

from lab import credentials
from lab.layout import REPO, Lab

PATIENCE = 90
"""Seconds for a package mirror to answer; only the first lab on a machine asks one."""


def find(environment: Mapping[str, str] = os.environ) -> tuple[str | None, str]:
    """The program's path, or None and why; fetched once into the user's cache when the machine has none."""
    if environment.get("LAB_NO_CONSUL") == "1":
        return None, "Consul: left out (LAB_NO_CONSUL=1); the embedded store serves"
    installed = shutil.which("consul", path=environment.get("PATH"))
    if installed:
        return installed, ""
    cache = pathlib.Path(environment.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "hecate"
    fetched = cache / "usr/bin/consul"
    if fetched.exists():
        return str(fetched), ""
    try:
        done = subprocess.run(
            [str(REPO / "tools/fetch-consul"), str(cache)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        why = done.stderr.strip().splitlines()[-1:] or ["tools/fetch-consul said nothing"]
    except (OSError, subprocess.TimeoutExpired) as err:
        return None, f"Consul: none here ({err}); the embedded store serves"
    if done.returncode == 0 and fetched.exists():
        return str(fetched), ""
    return None, f"Consul: none here ({why[0]}); the embedded store serves"


def arguments(lab: Lab) -> tuple[str, ...]:
    """Writes the configuration, token included, to a file that only its owner reads."""
    file = lab.config("consul") / "consul.json"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(configuration(lab), out, indent=1)
    return ("agent", f"-config-file={file}")


def configuration(lab: Lab) -> dict[str, object]:
    """One server on loopback; short raft timers, or its election alone would take seconds."""
    return {
        "server": True,
        "bootstrap": True,
        "node_name": "lab",
        "datacenter": "lab",
        "data_dir": str(lab.data("consul")),
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "log_level": "WARN",
        "disable_update_check": True,
        "leave_on_terminate": False,
        "performance": {"raft_multiplier": 1},
        "connect": {"enabled": False},
        "ui": False,
        "ports": {
            "http": lab.port("consul"),
            "server": lab.port("consul-server"),
            "serf_lan": lab.port("consul-serf"),
            "serf_wan": -1,
            "https": -1,
            "grpc": -1,
            "dns": -1,
        },
        "acl": {
            "enabled": True,
            "default_policy": "deny",
            "tokens": {"master": credentials.read(lab.folder / "secrets", "consul")},
        },
    }


def ready(lab: Lab) -> bool:
    """A write succeeds: the election is over and the token is known."""
    token = credentials.read(lab.folder / "secrets", "consul")
    url = f"{lab.url('consul')}/v1/kv/lab/ready"
    return requests.put(url, data=b"1", headers={"X-Consul-Token": token}, timeout=2).text.strip() == "true"
