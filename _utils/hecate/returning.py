"""The pillar of an earlier deployment, to be deployed again: what was wanted then, reached as it is reached today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hecate.errors import HecateError
from hecate.secrets import GONE

Hecate = Mapping[str, Any]

# Sections that say what is wanted. All others say where systems are, how they are reached, and how deploys are done.
WANTED = (
    "routes",
    "auth_policies",
    "applications",
    "forward_auth",
    "upstreams",
    "health_checks",
    "middleware",
    "certificates",
    "monitoring",
    "dns",
    "workloads",
)
# Of these sections only the named keys are of today; of a system that is wanted no more nothing is left but those.
OF_TODAY = {
    "caddy": ("admin", "server", "config_file", "write_interval"),
    "authentik": ("url", "token", "outpost", "timeout"),
    "terraform": ("workdir", "outputs"),
}
SYSTEMS = ("hetzner_dns", "rfc2136", "nomad")


def returned(record: Hecate, today: Hecate, name: str) -> dict[str, Any]:
    """What stands under `hecate` for going back to the deployment `name`.

    A system that pillar has only had then is reached as it was then. Raises HecateError for a record that can't be
    deployed, since secrets stood in that pillar as they are, or another environment's.
    """
    if not record:
        raise HecateError(f"deployment {name} has no pillar in its record")
    then, now = record.get("environment", "production"), today.get("environment", "production")
    if then != now:
        raise HecateError(f"deployment {name} was of environment {then}; this is {now}")
    found = {k: v for k, v in today.items() if k not in WANTED and k not in OF_TODAY}
    found |= {k: record[k] for k in WANTED if k in record}
    for section, kept in OF_TODAY.items():
        merged = _merged(section, record.get(section), today.get(section), kept)
        if merged is not None:
            found[section] = merged
    for section in SYSTEMS:
        if section in record and section not in found:
            found[section] = record[section]
    gone = sorted(_gone(found, "hecate"))
    if gone:
        raise HecateError(
            f"deployment {name} can't be returned to: its record has no secrets, and these stood in its pillar as "
            f"they were: {', '.join(gone)}"
        )
    return found


def _merged(section: str, then: Any, now: Any, kept: tuple[str, ...]) -> dict[str, Any] | None:
    """Terraform that was not in pillar then is left alone: nothing says what it should hold."""
    if then is None and (now is None or section == "terraform"):
        return None
    if now is None:
        return dict(then)
    old, new = dict(then or {}), dict(now)
    return {**{k: v for k, v in old.items() if k not in kept}, **{k: new[k] for k in kept if k in new}}


def _gone(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _gone(inner, f"{path}:{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _gone(inner, f"{path}:{index}")
    elif value == GONE:
        yield path
