"""The secrets that a pillar refers to, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hecate.model.fields import Section
from hecate.secrets import Reference


def references(value: Any, path: str = "hecate") -> Iterator[tuple[str, Reference]]:
    """Pillar path and reference of every secret in a section, or in what sections hold."""
    if isinstance(value, Reference):
        yield path, value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from references(getattr(value, name), f"{path}:{name}")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from references(inner, f"{path}:{name}")
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from references(inner, f"{path}:{index}")
