"""How the emulators are started: the zones of the user's own pillar, people, and a group that was there before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from lab import credentials, pillar_view
from lab.emulators.authentik_access import MFA_ATTRIBUTE
from lab.layout import Lab

DEFAULT_ZONE = "estate.test"
DEFAULT_PUBLIC_URL = "https://hera.estate.test"
STRANGERS_GROUP = "platform-team"
# Everybody's groups and attributes. alice has a second factor, bob has none, mallory is nobody.
PEOPLE: dict[str, tuple[list[str], dict[str, Any]]] = {
    "alice": ([STRANGERS_GROUP], {"employment": "staff", MFA_ATTRIBUTE: ["totp"]}),
    "bob": ([STRANGERS_GROUP], {"employment": "contractor"}),
    "mallory": ([], {}),
}


def hetzner(lab: Lab) -> tuple[str, ...]:
    """A zone for each that the pillar manages: Hecate fills zones, it doesn't create them.

    A lab is deployed more often in an hour than anything else, up to `make chaos` for a whole one.
    """
    zones = [item for zone in _zones(_hecate(lab)) for item in ("--zone", zone)]
    token = ("--token-file", _token_file(lab, "hetzner"))
    return ("--dns-port", str(lab.port("dns")), *token, "--rate-limit", "360000", *zones)


def authentik(lab: Lab) -> tuple[str, ...]:
    """The group exists without Hecate's mark, as on a server that people already use."""
    secrets = lab.folder / "secrets"
    seed = {
        "groups": [STRANGERS_GROUP],
        "users": [_user(name, credentials.read(secrets, f"password-{name}")) for name in PEOPLE],
    }
    file = lab.folder / "secrets" / "authentik-seed.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(seed))
    url = public_url(_hecate(lab))
    lab.update(public_url=url)
    return ("--token-file", _token_file(lab, "authentik"), "--public-url", url, "--seed", str(file))


def nomad(lab: Lab) -> tuple[str, ...]:
    """Jobs run in the lab's folder and end with the emulator."""
    return ("--dir", str(lab.data("nomad")), "--token-file", _token_file(lab, "nomad"))


def _user(username: str, password: str) -> dict[str, Any]:
    groups, attributes = PEOPLE[username]
    return {
        "username": username,
        "name": f"{username.title()} Example",
        "email": f"{username}@{DEFAULT_ZONE}",
        "password": password,
        "groups": groups,
        "attributes": attributes,
    }


def _token_file(lab: Lab, name: str) -> str:
    return str(lab.folder / "secrets" / name)


def _hecate(lab: Lab) -> Mapping[str, Any]:
    found = pillar_view.of(lab).get("hecate")
    return found if isinstance(found, Mapping) else {}


def _zones(hecate: Mapping[str, Any]) -> list[str]:
    dns = hecate.get("dns")
    zones = dns.get("zones") if isinstance(dns, Mapping) else None
    named = [zone for zone in zones if isinstance(zone, str)] if isinstance(zones, (Mapping, list)) else []
    return named or [DEFAULT_ZONE]


def public_url(hecate: Mapping[str, Any]) -> str:
    """Where browsers reach authentik: the route that leads to its outpost, else its API's own address."""
    section = hecate.get("authentik")
    if not isinstance(section, Mapping):
        return DEFAULT_PUBLIC_URL
    url = str(section.get("url") or "")
    routes = hecate.get("routes")
    if isinstance(routes, Mapping) and urlsplit(url).hostname not in routes:
        outpost = repr(section.get("outpost"))
        host = next((host for host, route in routes.items() if outpost in repr(route)), None)
        return f"https://{host}" if host else url or DEFAULT_PUBLIC_URL
    return url or DEFAULT_PUBLIC_URL
