"""The systems, looked at past Hecate: every object under a name, as text that two looks can be compared by."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
from hecate.backends.nomad import spec_of

from lab.client import admin

Objects = dict[str, str]
TABLES = ("groups", "policies", "stages", "flows", "flow_bindings", "providers", "applications", "bindings", "outposts")
OF_ITSELF = ("pk", "num_pk", "policybindingmodel_ptr_id", "client_id", "client_secret")
"""What authentik makes up: an object that went and came back has others."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIMEOUT = 15


def everything(known: Mapping[str, Any]) -> Objects:
    """Of a lab (`lab.environ.environment`), without what moves by itself."""
    found = Objects()
    for edge, reached in known["edges"].items():
        found |= edge_objects(edge, admin(reached["socket"], "GET", "/config/"))
    found |= authentik_objects(requests.get(f"{known['authentik']['url']}/_lab/state", timeout=TIMEOUT).json())
    found |= records(rrsets(known["hetzner"]["endpoint"], known["hetzner"]["token"]))
    found |= {f"nomad {name}": _text(spec_of(job)) for name, job in jobs(known["nomad"]).items()}
    return found | terraform(Path(known["lab"]) / "terraform" / "terraform.tfstate")


def edge_objects(edge: str, config: Mapping[str, Any]) -> Objects:
    """One Caddy's configuration, route by route."""
    found = Objects()
    servers = ((config.get("apps") or {}).get("http") or {}).get("servers") or {}
    for name, server in servers.items():
        routes = server.get("routes") or []
        for number, route in enumerate(routes):
            found[f"{edge} {name} {route.get('@id', number)}"] = _text(route)
        found[f"{edge} {name} order"] = _text([route.get("@id", number) for number, route in enumerate(routes)])
        found[f"{edge} {name}"] = _text({key: value for key, value in server.items() if key != "routes"})
    apps = {**(config.get("apps") or {})}
    http = {key: value for key, value in (apps.pop("http", None) or {}).items() if key != "servers"}
    rest = {"http": http, **apps, **{key: value for key, value in config.items() if key != "apps"}}
    return found | {f"{edge} {name}": _text(value) for name, value in rest.items() if value}


def authentik_objects(state: Mapping[str, Any]) -> Objects:
    """Each row under its name, with names in place of keys; an outpost's attachments one by one."""
    names = {str(row["pk"]): row.get("slug") or row.get("name") for table in TABLES for row in state[table]}
    names |= {str(row["pk"]): row["name"] for row in state["mappings"]}
    found, seen = Objects(), Counter[str]()
    providers = {row["pk"]: row["name"] for row in state["providers"]}
    for table in TABLES:
        for row in state[table]:
            shown = {key: _named(value, names) for key, value in row.items() if key not in OF_ITSELF}
            for key in ("provider", "providers"):
                if key in shown:
                    shown[key] = _provider(row[key], providers)
            if table == "outposts":
                found |= {f"authentik attachment {name}": "attached" for name in shown.pop("providers")}
            leads = "target" in row
            ends = [shown.get(key) for key in ("target", "policy", "group", "stage")] if leads else []
            name = f"authentik {table} " + (" ".join(map(str, ends)) if leads else str(names[str(row["pk"])]))
            seen[name] += 1
            found[name if seen[name] == 1 else f"{name} again {seen[name]}"] = _text(shown)
    return found


def _provider(value: Any, providers: Mapping[Any, str]) -> Any:
    if isinstance(value, list):
        return sorted(str(providers.get(one, one)) for one in value)
    return providers.get(value, value)


def _named(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return sorted((_named(one, names) for one in value), key=str)
    if isinstance(value, str) and UUID.fullmatch(value):
        return names.get(value, "a key of nothing")
    return value


def rrsets(endpoint: str, token: str) -> list[dict[str, Any]]:
    where, bearer = f"{endpoint}/zones/estate.test/rrsets?per_page=100", {"Authorization": f"Bearer {token}"}
    answer = requests.get(where, headers=bearer, timeout=TIMEOUT)
    answer.raise_for_status()
    rows: list[dict[str, Any]] = answer.json()["rrsets"]
    return [row for row in rows if row["type"] != "SOA"]


def records(rows: Iterable[Mapping[str, Any]]) -> Objects:
    keep = ("ttl", "labels", "records")
    return {f"dns {row['name']} {row['type']}": _text({key: row[key] for key in keep}) for row in rows}


def jobs(nomad: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not stopped, whole."""
    api, headers = f"{nomad['url']}/v1", {"X-Nomad-Token": nomad["token"]}
    listed = requests.get(f"{api}/jobs", headers=headers, timeout=TIMEOUT).json()
    full = [requests.get(f"{api}/job/{row['ID']}", headers=headers, timeout=TIMEOUT).json() for row in listed]
    return {job["ID"]: job for job in full if not job.get("Stop")}


def terraform(state: Path) -> Objects:
    held = json.loads(state.read_text())["resources"] if state.exists() else []
    instances = [(row["name"], one["attributes"].get("input")) for row in held for one in row["instances"]]
    return {f"terraform {name}": _text(given) for name, given in instances}


def differences(one: Objects, other: Objects) -> list[str]:
    """Names of what is not alike."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def neither(seen: Objects, old: Objects, new: Objects) -> list[str]:
    """Names of what is as it never was meant to be; absent counts where it is absent before or after."""
    names = seen.keys() | old.keys() | new.keys()
    return sorted(name for name in names if seen.get(name) not in (old.get(name), new.get(name)))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
