"""Which routes Caddy means when it refuses a configuration.

Its message counts ("server hecate: ... route 17: ... route 2: ...") or quotes ("open /ca.pem").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hecate.backends.caddy_marks import BUCKET, ROUTE, Spec

Config = dict[str, Any]
QUOTED = re.compile(r"(?:/[\w.@+-]+)+|'([^']+)'|\"([^\"]+)\"")


def culprits(config: Config, name: str, message: str, routes: Mapping[str, Spec]) -> list[str]:
    """Keys of the routes at fault, as well as the message tells; empty when it doesn't."""
    server = config["apps"]["http"]["servers"].get(name) or {}
    if f"server {name}: " in message:
        found = _counted(server, message.partition(f"server {name}: ")[2], routes)
        if found:
            return found
    return _quoting(message, routes)


def reason(message: str) -> str:
    """The end of the chain of causes: the rest says only where Caddy was."""
    parts = message.split(": ")
    last = next((i for i in range(len(parts) - 1, -1, -1) if _is_place(parts[i])), -1)
    return ": ".join(parts[last + 1 :]) or message


def _is_place(part: str) -> bool:
    return bool(re.match(r"(loading|provision|setting up|route \d|position \d|server |connection policy)", part))


def _counted(server: Config, told: str, routes: Mapping[str, Spec]) -> list[str]:
    policy = re.search(r"connection policy (\d+)", told)
    if policy:
        held = (server.get("tls_connection_policies") or [])[int(policy[1]) :]
        names = (held[0].get("match") or {}).get("sni") or [] if held else []
        return sorted(key for key, spec in routes.items() if set(spec["hosts"]) & set(names))
    numbers = [int(n) for n in re.findall(r"\broute (\d+)", told)]
    listed: list[Config] = server.get("routes") or []
    if not numbers or numbers[0] >= len(listed):
        return []
    item = listed[numbers[0]]
    if str(item.get("@id", "")).startswith(BUCKET) and len(numbers) > 1:
        item = item["handle"][0]["routes"][numbers[1]]
    mark = str(item.get("@id", ""))
    if mark.startswith(ROUTE):
        return [mark.removeprefix(ROUTE)]
    hosts = set(((item.get("match") or [{}])[0]).get("host") or [])
    return sorted(key for key, spec in routes.items() if spec["hosts"][0] in hosts)


def _quoting(message: str, routes: Mapping[str, Spec]) -> list[str]:
    """Routes in which something occurs that the message quotes: a file, a logger, a module's name."""
    quoted = {m.group(1) or m.group(2) or m.group(0) for m in QUOTED.finditer(message)}
    quoted = {text for text in quoted if len(text) > 3}
    texts: dict[int, str] = {}
    found = []
    for key, spec in routes.items():
        deep = [part for part in spec.values() if isinstance(part, dict | list)]
        parts = [texts.get(id(part)) or texts.setdefault(id(part), json.dumps(part)) for part in deep]
        if any(json.dumps(text)[1:-1] in part for text in quoted for part in parts):
            found.append(key)
    return sorted(found)
