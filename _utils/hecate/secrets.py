"""Secret references, and keeping the values behind them out of sight.

Pillar holds references only; they are resolved on the target at the moment of use, by `Resolver`, and
kept in its memory for the run. Whatever was resolved is remembered for `mask`, so that an error text
that happens to quote a request cannot carry a value along. Nothing is ever written down.

    vault:path#key[@version]    Vault or OpenBao, KV version 1 or 2 (hecate:vault)
    sdb:profile/key             any of Salt's sdb drivers, as sdb://profile/key
    env:NAME                    the environment of the minion
    file:/path                  a file that nobody else may read
    literal:VALUE               in labs alone, where pillar says hecate:literal_secrets

A literal is taken out of the pillar when it is parsed: from then on literal:<pillar path> stands for it, in plans and
journals too, and the value is in memory alone.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

from hecate.errors import SecretUnavailable

# Neither . nor .. is a part of a path: on the way to the server they would lead to another one.
PART = r"(?!\.\.?(?:/|#))[\w.-]+"
VAULT = re.compile(rf"vault:(?P<path>{PART}(?:/{PART})*)#(?P<key>[\w.-]+)(@(?P<version>[1-9]\d*))?")
SCHEMES = {
    "vault": VAULT,
    "sdb": re.compile(r"sdb:(?://)?[\w.-]+/\S+"),
    "env": re.compile(r"env:[A-Za-z_]\w*"),
    "file": re.compile(r"file:/\S+"),
    "literal": re.compile(r"literal:(?s:.)+"),
}
FORMS = "vault:path#key, sdb:profile/key, env:NAME or file:/path"
MASK = "(secret)"
GONE = "literal:"  # what is kept of a literal where pillar is stored; no reference, so nobody takes it for the value
SHORT = 4  # characters up to which a value is only told from other text where it stands alone
LINE = 16  # characters from which one line of several is a secret by itself
BASE64 = r"[A-Za-z0-9+/=_%-]*"

VaultRead = Callable[[str, str, "int | None"], object]
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
    """Turns references into values for one run: each is read once, and kept in memory.

    read_vault: (path, key, version) -> value; None where no Vault is configured. read_sdb: sdb://... -> value; None
    outside of Salt. environ: where ``env:`` looks. literals: literal:<pillar path> -> value, as the model found them.
    """

    def __init__(
        self,
        read_vault: VaultRead | None = None,
        environ: Mapping[str, str] | None = None,
        read_sdb: SdbRead | None = None,
        literals: Mapping[str, str] | None = None,
    ) -> None:
        self._read_vault, self._read_sdb = read_vault, read_sdb
        self._environ = os.environ if environ is None else environ
        self._literals = literals or {}
        self._seen: dict[str, str] = {}

    def value(self, reference: str) -> str:
        """The value behind `reference`. Raises SecretUnavailable, which names the reference only."""
        if reference not in self._seen:
            value = _text(reference, self._fetch(reference))
            if not value:
                raise SecretUnavailable(f"{reference} is empty")
            self._seen[reference] = value
        return self._seen[reference]

    def mask(self, text: str) -> str:
        """`text` without any value that this resolver has handed out, in the spellings that a request gives it."""
        return masked(text, self._seen.values())

    def _fetch(self, reference: str) -> object:
        scheme, _, rest = reference.partition(":")
        if not is_reference(reference):
            raise SecretUnavailable(f"not a secret reference; write {FORMS}")
        if scheme == "literal":
            if reference not in self._literals:
                raise SecretUnavailable("a literal that is not in this pillar; it can't be had from anywhere else")
            return self._literals[reference]
        if scheme == "env":
            if rest not in self._environ:
                raise SecretUnavailable(f"{reference}: no such environment variable on this target")
            return self._environ[rest]
        if scheme == "file":
            return _read_file(reference, Path(rest))
        if scheme == "sdb":
            return self._from_sdb(reference, rest)
        if self._read_vault is None:
            raise SecretUnavailable(f"{reference}: no Vault is configured; set hecate:vault")
        stored = Stored.of(reference)
        return self._read_vault(stored.path, stored.key, stored.version)

    def _from_sdb(self, reference: str, rest: str) -> object:
        uri = f"sdb://{rest.removeprefix('//')}"
        if self._read_sdb is None:
            raise SecretUnavailable(f"{reference}: there is no Salt here to ask")
        failed = ""
        try:
            found = self._read_sdb(uri)
        except Exception as err:  # a driver may raise anything, and may quote what it read: that stays behind here
            failed = type(err).__name__
        if failed:
            raise SecretUnavailable(f"{reference}: the sdb driver failed ({failed})")
        if found is None or found == uri:  # Salt gives the address back where no profile has that name
            raise SecretUnavailable(f"{reference}: nothing there; is the sdb profile configured on this target?")
        return found


def masked(text: str, values: Iterable[str]) -> str:
    """`text` without these values; where two of them overlap, without both."""
    spans = sorted(
        found.span()
        for pattern in {p for value in values for p in _patterns(value)}
        for found in pattern.finditer(text)
    )
    parts, end = [], 0
    for start, stop in spans:
        if start >= end:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]])


def _patterns(value: str) -> Iterator[re.Pattern[str]]:
    """What finds a value in a text. Of base64 the whole run of it goes, with what was encoded beside the value."""
    if not value:
        return
    if len(value) <= SHORT:
        yield re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")
        return
    for spelling in spellings_of(value):
        yield re.compile(re.escape(spelling))
    for core in base64_cores(value):
        yield re.compile(BASE64 + re.escape(core) + BASE64)


def spellings_of(value: str) -> set[str]:
    """How a value may stand in a text: as it is, line by line, and escaped for JSON, a URL, HTML or Python.

    JSON within JSON, or within Python: a body that is quoted in an answer.
    """
    json_, plain = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    found = {
        value,
        json_,
        plain,
        *(within for text in (json_, plain) for within in (json.dumps(text)[1:-1], repr(text)[1:-1])),
        json_.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),  # as Go writes it
        repr(value)[1:-1],
        html.escape(value),
    }
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        found |= {quoted, re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), quoted)}
    lines = value.splitlines()
    return found | {line for line in lines if len(line) >= LINE and len(lines) > 1 and not line.startswith("-----")}


def base64_cores(value: str) -> set[str]:
    """What base64 makes of a value whatever is encoded before and behind it, such as the user of Basic authentication.

    Three octets are four characters, so there are three ways to begin; characters that hold bits of the
    neighbours are left out.
    """
    raw, found = value.encode(), set()
    for before, shared in ((0, 0), (1, 2), (2, 3)):
        whole = (before + len(raw)) * 8 // 6
        found.add(base64.b64encode(b"\0" * before + raw).decode()[shared:whole])
    urls = {core.translate(str.maketrans("+/", "-_")) for core in found}
    return found | urls | {quote(core, safe="") for core in found}


def _text(reference: str, found: object) -> str:
    if not isinstance(found, str):
        raise SecretUnavailable(f"{reference}: not a text but {_kind(found)}; name one value of it")
    return found


def _kind(value: object) -> str:
    named = {dict: "a mapping", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return named.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")


def _read_file(reference: str, path: Path) -> str:
    try:
        # Not waiting: somebody may have put a pipe there.
        with open(path, encoding="utf-8", opener=lambda name, how: os.open(name, how | os.O_NONBLOCK)) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SecretUnavailable(f"{reference}: not a file")
            if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
                raise SecretUnavailable(f"{reference}: others may read or write it; chmod 0600 {path}")
            return file.read().strip()
    except OSError as err:
        raise SecretUnavailable(f"{reference}: {err.strerror}") from err
    except UnicodeDecodeError:
        pass  # it holds what was read, so it must not travel on with the error
    raise SecretUnavailable(f"{reference}: not a text; its octets are no UTF-8")
