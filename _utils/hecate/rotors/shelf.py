"""A secret in Vault's KV engine, and beside it what is known of its rotation; other keys there are left as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hecate.clients.vault import VaultClient
from hecate.errors import HecateError
from hecate.rotation import KEPT
from hecate.secrets import Stored, masked


class Veil:
    """Values that this run has had in its hands, to be kept out of whatever it says."""

    def __init__(self, further: Callable[[str], str] = str) -> None:
        """further: masks what others know of."""
        self._values: set[str] = set()
        self._further = further

    def over(self, values: Iterable[str]) -> None:
        self._values.update(values)

    def mask(self, text: str) -> str:
        return masked(self._further(text), self._values)


class VaultShelf:
    """Every write is on top of the version that was read, so that a second run at once is refused by Vault."""

    def __init__(self, vault: VaultClient, stored: Stored, veil: Veil) -> None:
        self._vault, self._stored, self._veil = vault, stored, veil
        self._others: dict[str, str] = {}
        self._seen = 0

    def read(self) -> Mapping[str, str]:
        found, self._seen = self._vault.values(self._stored.path)
        key, wrong = self._stored.key, [name for name in self._own(found) if not isinstance(found[name], str)]
        if wrong:
            raise HecateError(
                f"vault:{self._stored.path}#{wrong[0]}: not a text, so it is no secret that can be rotated"
            )
        self._others = {name: value for name, value in found.items() if name not in self._own(found)}
        values = {name[len(key) :]: found[name] for name in self._own(found)}
        self._veil.over(value for name, value in values.items() if name != ".rotated" and value)
        return values

    def write(self, values: Mapping[str, str]) -> None:
        self._veil.over(value for name, value in values.items() if name != ".rotated" and value)
        own = {f"{self._stored.key}{name}": value for name, value in values.items()}
        self._seen = self._vault.write(self._stored.path, {**self._others, **own}, self._seen)

    def _own(self, found: Mapping[str, object]) -> list[str]:
        return [name for name in (self._stored.key, *(f"{self._stored.key}{end}" for end in KEPT)) if name in found]
