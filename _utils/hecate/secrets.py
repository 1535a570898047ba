"""Secret references, and keeping the values behind them out of sight.

Pillar holds references only; they are resolved on the target at the moment of use, by `Resolver`, and
kept in its memory for the run. Whatever was resolved is remembered for `mask`, so that an error text
that happens to quote a request cannot carry a value along.

    vault:path#key[@version]    Vault or OpenBao, KV version 1 or 2 (hecate:vault)
    sdb:profile/key             any of Salt's sdb drivers, as sdb://profile/key
    env:NAME                    the environment of the minion
    file:/path                  a file that nobody else may read
    literal:VALUE               in labs alone, where pillar says hecate:literal_secrets
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

from hecate.errors import SecretUnavailable

VAULT = re.compile(r"vault:(?P<path>[\w./-]+)#(?P<key>[\w.-]+)(@(?P<version>[1-9]\d*))?")
SCHEMES = {
    "vault": VAULT,
    "sdb": re.compile(r"sdb:(?://)?[\w.-]+/\S+"),
    "env": re.compile(r"env:[A-Za-z_]\w*"),
    "file": re.compile(r"file:/\S+"),
    "literal": re.compile(r"literal:(?s:.)+"),
}
FORMS = "vault:path#key, sdb:profile/key, env:NAME or file:/path"
MASK = "(secret)"
SHORT = 4  # characters up to which a value is too common to be told from other text

VaultRead = Callable[[str, str, "int | None"], str]
SdbRead = Callable[[str], object]


class Reference(str):
    """A text in pillar that stands for a secret."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        return self.partition(":")[0]


@dataclass(frozen=True)
class Stored:
    """The parts of a vault: reference; version None is the newest."""

    path: str
    key: str
    version: int | None = None

    @classmethod
    def of(cls, reference: str) -> Stored:
        found = VAULT.fullmatch(reference)
        if not found:
            raise SecretUnavailable(f"{reference} is not a reference into Vault; write vault:path#key")
        return cls(found["path"], found["key"], int(found["version"]) if found["version"] else None)


def is_reference(text: str) -> bool:
    pattern = SCHEMES.get(text.partition(":")[0])
    return pattern is not None and pattern.fullmatch(text) is not None


class Resolver:
    """Turns references into values for one run.

    read_vault: (path, key, version) -> value; None where no Vault is configured. read_sdb: sdb://... -> value; None
    outside of Salt. environ: where ``env:`` looks.
    """

    def __init__(
        self,
        read_vault: VaultRead | None = None,
        environ: Mapping[str, str] | None = None,
        read_sdb: SdbRead | None = None,
    ) -> None:
        self._read_vault, self._read_sdb = read_vault, read_sdb
        self._environ = os.environ if environ is None else environ
        self._seen: dict[str, str] = {}

    def value(self, reference: str) -> str:
        """The value behind `reference`. Raises SecretUnavailable, which names the reference only."""
        if reference not in self._seen:
            value = self._fetch(reference)
            if not value:
                raise SecretUnavailable(f"{shown(reference)} is empty")
            self._seen[reference] = value
        return self._seen[reference]

    def mask(self, text: str) -> str:
        """`text` without any value that this resolver has handed out, in the spellings that a request gives it."""
        spellings = {spelling for value in self._seen.values() for spelling in spellings_of(value)}
        for spelling in sorted(spellings, key=len, reverse=True):
            text = text.replace(spelling, MASK)
        return text

    def _fetch(self, reference: str) -> str:
        scheme, _, rest = reference.partition(":")
        if not is_reference(reference):
            raise SecretUnavailable(f"not a secret reference; write {FORMS}")
        if scheme == "env":
            if rest not in self._environ:
                raise SecretUnavailable(f"{reference}: no such environment variable on this target")
            return self._environ[rest]
        if scheme == "file":
            return _read_file(reference, Path(rest))
        if scheme == "sdb":
            return self._from_sdb(reference, rest)
        if scheme == "literal":
            return rest
        if self._read_vault is None:
            raise SecretUnavailable(f"{reference}: no Vault is configured; set hecate:vault")
        stored = Stored.of(reference)
        return self._read_vault(stored.path, stored.key, stored.version)

    def _from_sdb(self, reference: str, rest: str) -> str:
        uri = f"sdb://{rest.removeprefix('//')}"
        if self._read_sdb is None:
            raise SecretUnavailable(f"{reference}: there is no Salt here to ask")
        try:
            found = self._read_sdb(uri)
        except Exception as err:  # a driver may raise anything, and its text may quote what it read
            raise SecretUnavailable(f"{reference}: the sdb driver failed ({type(err).__name__})") from None
        if found is None or found == uri:  # Salt gives the address back where no profile has that name
            raise SecretUnavailable(f"{reference}: nothing there; is the sdb profile configured on this target?")
        if not isinstance(found, str):
            raise SecretUnavailable(f"{reference}: not a text but a {type(found).__name__}; name one value of it")
        return found


def shown(reference: str) -> str:
    """A reference as it may be told: a literal is a secret itself."""
    return "literal:..." if reference.startswith("literal:") else reference


def spellings_of(value: str) -> set[str]:
    """How a value may stand in a text: as it is, in JSON, in a URL, in base64."""
    if len(value) <= SHORT:
        return {value} if value else set()
    raw = value.encode()
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        quote(value, safe=""),
        quote_plus(value),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
    }


def _read_file(reference: str, path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
            raise SecretUnavailable(f"{reference}: others may read or write it; chmod 0600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as err:
        raise SecretUnavailable(f"{reference}: {err.strerror}") from err
