"""Fields of authentik's objects with a secret in them: which reference stands for what is there.

A spec has the reference in braces, {secret:vault:path#key}, and UNKNOWN where no reference is known for what the server
has. The references that were written last are kept in a file, so that a rollback knows them when pillar doesn't.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hecate.errors import SecretUnavailable
from hecate.files import write_whole
from hecate.resource import UNKNOWN

SECRET = re.compile(r"\{secret:([^{}]+)\}")


class Sealed:
    """secret: the value behind a reference. file: the references of last time, by the object's id; no values."""

    def __init__(self, secret: Callable[[str], str], file: Path) -> None:
        self._secret, self._file = secret, file
        self._known: dict[str, str] | None = None

    def opened(self, text: str) -> str:
        """A sealed text with its secret in place. Raises SecretUnavailable."""
        return SECRET.sub(lambda found: self._secret(found[1]), text)

    def of(self, resource_id: str, wanted: Any, fits: Callable[[str], bool]) -> str:
        """What stands for the field as it is: the wanted reference if its value fits, the remembered one, or UNKNOWN.

        UNKNOWN can't be put back by anybody, so where it is wanted whatever is there will do.
        """
        if wanted == UNKNOWN or (isinstance(wanted, str) and fits(self.opened(wanted))):
            return str(wanted)
        remembered = self._references().get(resource_id)
        try:
            return remembered if remembered and fits(self.opened(remembered)) else UNKNOWN
        except SecretUnavailable:
            return UNKNOWN

    def learn(self, resource_id: str, text: str) -> None:
        """Remember the reference whose value is about to be written."""
        if text != UNKNOWN and self._references().get(resource_id) != text:
            self._known = {**self._references(), resource_id: text}
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, json.dumps(self._known, sort_keys=True).encode())

    def _references(self) -> dict[str, str]:
        if self._known is None:
            try:
                self._known = dict(json.loads(self._file.read_text()))
            except (OSError, ValueError, TypeError):  # lost or torn: only rollbacks are poorer for it
                self._known = {}
        return self._known
