"""Secret references, and keeping the values behind them out of sight.

Pillar holds references only: ``vault:path#key``, ``env:NAME``, ``file:/path``. They are resolved
on the target at the moment of use, by `Resolver`. Whatever was resolved is remembered for
`mask`, so that an error text that happens to quote a request cannot carry a value along.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from hecate.errors import SecretUnavailable

REFERENCE = re.compile(r"(vault:[\w./-]+#[\w.-]+|env:[A-Za-z_]\w*|file:/\S+)")
MASK = "(secret)"

VaultRead = Callable[[str, str], str]


def is_reference(text: str) -> bool:
    return REFERENCE.fullmatch(text) is not None


class Resolver:
    """Turns references into values for one run.

    read_vault: (path, key) -> value; None where no Vault is configured.
    environ: where ``env:`` looks.
    """

    def __init__(self, read_vault: VaultRead | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._read_vault = read_vault
        self._environ = os.environ if environ is None else environ
        self._seen: dict[str, str] = {}

    def value(self, reference: str) -> str:
        """The value behind `reference`. Raises SecretUnavailable, which names the reference only."""
        if reference not in self._seen:
            value = self._fetch(reference)
            if not value:
                raise SecretUnavailable(f"{reference} is empty")
            self._seen[reference] = value
        return self._seen[reference]

    def mask(self, text: str) -> str:
        """`text` without any value that this resolver has handed out."""
        for value in sorted(self._seen.values(), key=len, reverse=True):
            text = text.replace(value, MASK)
        return text

    def _fetch(self, reference: str) -> str:
        scheme, _, rest = reference.partition(":")
        if not is_reference(reference):
            raise SecretUnavailable("not a secret reference; write vault:path#key, env:NAME or file:/path")
        if scheme == "env":
            if rest not in self._environ:
                raise SecretUnavailable(f"{reference}: no such environment variable on this target")
            return self._environ[rest]
        if scheme == "file":
            return _read_file(reference, Path(rest))
        if self._read_vault is None:
            raise SecretUnavailable(f"{reference}: no Vault is configured; set hecate:vault:url and hecate:vault:token")
        path, _, key = rest.partition("#")
        return self._read_vault(path, key)


def _read_file(reference: str, path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
            raise SecretUnavailable(f"{reference}: others may read or write it; chmod 0600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as err:
        raise SecretUnavailable(f"{reference}: {err.strerror}") from err
