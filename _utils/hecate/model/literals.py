"""Secrets that stand in a pillar as they are: taken out when it is parsed, so that nothing later can show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hecate.model.fields import Section
from hecate.model.references import places
from hecate.secrets import GONE, Reference

Literals = dict[str, str]


def storable(pillar: Mapping[str, Any]) -> dict[str, Any]:
    """What history may keep of what stands under `hecate`: GONE where a literal stood, and no notifications.

    Whoever has the address of a chat's webhook can post there.
    """
    return {key: _stored(value) for key, value in (pillar.get("hecate") or {}).items() if key != "notifications"}


def _stored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _stored(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_stored(inner) for inner in value]
    return GONE if isinstance(value, str) and value.startswith("literal:") else value


def without_literals(value: Any, path: str, literals: Literals) -> Any:
    """`value` with literal:<pillar path> for each literal in it; their values go into `literals`."""
    if isinstance(value, Reference):
        if value.scheme != "literal":
            return value
        place = Reference(f"literal:{path}")
        literals[place] = value.partition(":")[2]
        return place
    if isinstance(value, Section):
        found = {name: getattr(value, name) for name in places(type(value))}
        fresh = {name: without_literals(inner, f"{path}:{name}", literals) for name, inner in found.items()}
        changed = {name: inner for name, inner in fresh.items() if inner is not found[name]}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, Mapping):
        held = {name: without_literals(inner, f"{path}:{name}", literals) for name, inner in value.items()}
        return held if any(held[name] is not value[name] for name in held) else value
    if isinstance(value, tuple):
        items = tuple(without_literals(inner, f"{path}:{index}", literals) for index, inner in enumerate(value))
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
