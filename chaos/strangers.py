"""What was there before Hecate and is none of its business: something in every system, looked at to the letter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import requests

from chaos import sight
from lab.client import admin

GROUP, APPLICATION, JOB, RECORD = "strangers-group", "strangers-application", "strangers-job", "strangers-record"
TIMEOUT = 15


def plant(known: Mapping[str, Any]) -> None:
    """A Caddy server, a group and an application, a record without labels, a job without Meta."""
    for edge in known["edges"].values():
        reply = {"handler": "static_response", "body": "not yours"}
        server = {"listen": [f"unix/{edge['socket']}.strange"], "routes": [{"handle": [reply]}]}
        admin(edge["socket"], "PUT", "/config/apps/http/servers/strange", server)
    bearer = {"Authorization": f"Bearer {known['authentik']['token']}"}
    api = f"{known['authentik']['url']}/api/v3/core"
    _post(f"{api}/groups/", {"name": GROUP}, bearer)
    _post(f"{api}/applications/", {"name": APPLICATION, "slug": APPLICATION}, bearer)
    record = {"name": RECORD, "type": "A", "records": [{"value": "192.0.2.25"}]}
    token = {"Authorization": f"Bearer {known['hetzner']['token']}"}
    _post(f"{known['hetzner']['endpoint']}/zones/estate.test/rrsets", record, token)
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "/bin/sleep", "args": ["86400"]}}
    job = {"ID": JOB, "Datacenters": ["dc1"], "TaskGroups": [{"Name": "g", "Tasks": [task]}]}
    _post(f"{known['nomad']['url']}/v1/jobs", {"Job": job}, {"X-Nomad-Token": known["nomad"]["token"]})


def look(known: Mapping[str, Any]) -> dict[str, str]:
    """Each of them, whole: keys and times of change as well."""
    found: dict[str, Any] = {}
    for name, edge in known["edges"].items():
        servers = admin(edge["socket"], "GET", "/config/apps/http/servers")
        found |= {f"{name} {server}": servers.get(server) for server in ("strange", "lab-stranger")}
    state = requests.get(f"{known['authentik']['url']}/_lab/state", timeout=TIMEOUT).json()
    for table, name in (("groups", GROUP), ("applications", APPLICATION), ("groups", "platform-team")):
        found[f"authentik {name}"] = [row for row in state[table] if row["name"] == name]
    rows = sight.rrsets(known["hetzner"]["endpoint"], known["hetzner"]["token"])
    found["dns"] = [row for row in rows if row["name"] == RECORD]
    job = sight.jobs(known["nomad"]).get(JOB) or {}
    found["nomad"] = {key: job.get(key) for key in ("ID", "Version", "JobModifyIndex", "TaskGroups", "Meta")}
    return {name: json.dumps(value, sort_keys=True) for name, value in found.items()}


def _post(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    requests.post(url, json=body, headers=headers, timeout=TIMEOUT).raise_for_status()
