"""What the ext_pillar hecate_vault is told in the master's configuration: who gets which secret, and from where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from hecate.errors import InvalidPillar, Problem
from hecate.model.fields import SecretRef, Section
from hecate.model.infrastructure import Vault
from hecate.model.parse import problems_of
from hecate.model.references import references
from hecate.secrets import FORMS, Reference

PLACE = "ext_pillar:hecate_vault"


def _key(text: str) -> str:
    if not re.fullmatch(r"[\w.@-]+(:[\w.@-]+)*", text):
        raise ValueError("not a pillar key; like app:database:password")
    if text.split(":")[0] == "hecate":
        raise ValueError("Hecate's own pillar takes the reference itself, and resolves it when it is used")
    return text


Key = Annotated[str, AfterValidator(_key)]


class Resolved(Section):
    """Values in pillar, for those who want them there in spite of what it costs."""

    vault: Vault | None = Field(None, description="As hecate:vault, but not with salt: true.")
    minions: dict[str, dict[Key, SecretRef]] = Field(
        description="By glob on the minion's id: pillar key, colons between its parts, to the reference."
    )

    def of(self, minion: str) -> dict[str, Reference]:
        """Pillar key to reference, of all globs that match. Raises InvalidPillar where two keys don't go together."""
        rows = [row for glob, keys in self.minions.items() if fnmatchcase(minion, glob) for row in keys.items()]
        found: dict[str, Reference] = {}
        for key, reference in rows:
            for other in found:
                overlap = f"{key}:".startswith(f"{other}:") or f"{other}:".startswith(f"{key}:")
                if overlap and (key, reference) != (other, found[other]):
                    raise InvalidPillar([_clash(minion, key, other)])
            found[key] = Reference(reference)
        return found


def resolved(given: Mapping[str, Any]) -> Resolved:
    """Raises InvalidPillar with every problem."""
    try:
        found = Resolved.model_validate(given)
    except ValidationError as err:
        problems = problems_of(err, given, PLACE)
    else:
        problems = list(_unusable(found))
        if not problems:
            return found
    raise InvalidPillar(problems)


def nested(values: Mapping[str, str]) -> dict[str, Any]:
    """{"app:password": value} -> {"app": {"password": value}}"""
    whole: dict[str, Any] = {}
    for key, value in values.items():
        *above, last = key.split(":")
        place = whole
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return whole


def _unusable(found: Resolved) -> Iterator[Problem]:
    if found.vault and found.vault.salt:
        why = "nobody issues credentials to the master; give it url, and token or approle"
        yield Problem(f"{PLACE}:vault:salt", "true", why)
    for path, reference in references(found, PLACE):
        if reference.scheme == "literal":
            yield Problem(path, "", f"a secret is a reference, never a literal: {FORMS}")
        if reference.scheme == "vault" and not found.vault:
            yield Problem(path, reference, f"needs {PLACE}:vault")


def _clash(minion: str, key: str, other: str) -> Problem:
    """Whichever glob came last would win, and nobody would see it."""
    why = f"{minion} is given another value by {other} of another glob; one key, one value"
    return Problem(f"{PLACE}:minions", key, why)
