"""The secrets that a pillar refers to, and where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args

from hecate.model.fields import SecretRef, Section
from hecate.secrets import Reference

SECRET = get_args(SecretRef)[1]  # what makes a text a reference to a secret


@cache
def places(section: type[Section]) -> tuple[str, ...]:
    """Fields of a section in which a secret can stand, however deep: of a thousand routes nothing else is looked at."""
    fields = section.model_fields.items()
    return tuple(name for name, field in fields if _holds([field.annotation, *field.metadata], []))


def _holds(types: list[Any], trail: list[Any]) -> bool:
    """Whether any of these types leads to a secret; trail: sections on the way here."""
    for one in types:
        if one is SECRET:
            return True
        if isinstance(one, type) and issubclass(one, Section):
            inner = [part for field in one.model_fields.values() for part in (field.annotation, *field.metadata)]
            if one not in trail and _holds(inner, [*trail, one]):
                return True
        elif _holds(list(get_args(one)), trail):
            return True
    return False


def references(value: Any, path: str = "hecate") -> Iterator[tuple[str, Reference]]:
    """Pillar path and reference of every secret in a section, or in what sections hold."""
    if isinstance(value, Reference):
        yield path, value
    elif isinstance(value, Section):
        for name in places(type(value)):
            yield from references(getattr(value, name), f"{path}:{name}")
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from references(inner, f"{path}:{name}")
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from references(inner, f"{path}:{index}")
