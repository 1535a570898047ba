"""The search for secrets, in whatever spelling and wrapping: it shares nothing with the code that hides them.

`Search.within` looks at octets and into what they wrap (gzip, zip, zlib in base64, as the store in Consul has it);
SQLite and msgpack keep texts as they are. `Arguments` notes every process's argument list while something runs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import html
import io
import json
import re
import shlex
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

PIECE = 12  # characters of a secret's beginning or end that tell it: half a secret is a leak as well
DEEP = 4  # wrappings within wrappings
ZIPPED = re.compile(rb"(?:eJ|eN|eA|H4sI)[A-Za-z0-9+/]{40,}={0,2}")


class Search:
    """secrets: name -> value."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._forms: dict[str, list[bytes]] = {name: sorted(_telling(value)) for name, value in secrets.items()}

    def within(self, data: bytes, deep: int = DEEP) -> set[str]:
        """Names of the secrets that are in there."""
        found = {name for name, forms in self._forms.items() if any(form in data for form in forms)}
        return found.union(*(self.within(inner, deep - 1) for inner in _unwrapped(data))) if deep else found

    def in_files(self, paths: Iterable[Path], kept: Mapping[Path, Iterable[str]]) -> list[str]:
        """`secret in file`, for each that has no business there. kept: files and folders -> what they may have."""
        leaks = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # a lock or a draft that is gone by now
                allowed = {name for place, names in kept.items() if path.is_relative_to(place) for name in names}
                told = self.within(path.read_bytes()) | self.within(str(path).encode())
                leaks += [f"{name} in {path}" for name in sorted(told - allowed)]
        return leaks


def files_below(*folders: Path) -> list[Path]:
    """Every file, but no socket, pipe or link."""
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def open_to_others(paths: Iterable[Path]) -> list[str]:
    """Those that not only their owner may read or write."""
    return [str(path) for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]


def spellings(value: str) -> set[bytes]:
    """A value as languages, formats and encodings write it."""
    texts = {value, html.escape(value), shlex.quote(value)[1:-1], value.replace("'", "''"), repr(value)[1:-1]}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        texts |= {text[1:-1], json.dumps(text)[1:-1]}  # JSON in JSON too
    for text in (quote(value), quote(value, safe=""), quote_plus(value), quote(quote(value, safe=""), safe="")):
        texts |= {text, re.sub("%[0-9A-F]{2}", lambda octet: octet[0].lower(), text)}
    raw = value.encode()
    texts |= {repr(raw)[2:-1], raw.hex(), raw.hex().upper(), *_base64(raw)}
    found = {text.encode() for text in texts if text}
    for encoding in ("utf-16-le", "utf-16-be", "latin-1"):
        with contextlib.suppress(UnicodeEncodeError):
            found.add(value.encode(encoding))
    return found


def _base64(raw: bytes) -> Iterator[str]:
    """For the three places in a group of three octets where a value may begin; without what it shares with others."""
    for before, shared in ((0, 0), (1, 2), (2, 3)):
        core = base64.b64encode(b"\0" * before + raw).decode()[shared : (before + len(raw)) * 8 // 6]
        yield from (core, core.translate(str.maketrans("+/", "-_")), quote(core, safe=""))


def _telling(value: str) -> set[bytes]:
    """The spellings of a value, and of its beginning and its end.

    What holds another of them is left out: that one is found wherever it would be.
    """
    parts = _of_key(value) if value.startswith("-----BEGIN") else {value[:PIECE], value[-PIECE:], value}
    forms = {form for part in parts for form in spellings(part)}
    return {form for form in forms if not any(other != form and other in form for other in forms)}


def _of_key(pem: str) -> set[str]:
    """Of an elliptic key in PEM: it begins as all of them do, and ends with its public half, which anybody may see."""
    first, second = [line for line in pem.splitlines() if not line.startswith("-----")][:2]
    return {first, first[-PIECE:], second[:PIECE], second}


def _unwrapped(data: bytes) -> Iterator[bytes]:
    if data[:2] == b"\x1f\x8b":
        with contextlib.suppress(OSError, EOFError, zlib.error):
            yield gzip.decompress(data)
    if b"PK\x03\x04" in data:
        with (
            contextlib.suppress(zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error),
            zipfile.ZipFile(io.BytesIO(data)) as archive,
        ):
            yield from (archive.read(name) for name in archive.namelist())
    for run in ZIPPED.findall(data):
        with contextlib.suppress(binascii.Error, zlib.error):
            text = run.rstrip(b"=")
            yield zlib.decompressobj(47).decompress(base64.b64decode(text[: len(text) // 4 * 4]))


class Arguments:
    """The argument lists of every process on the machine, looked at all the time until the end of the block."""

    def __init__(self, pause: float = 0.05) -> None:
        self.seen: set[bytes] = set()
        self._pause, self._over = pause, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.seen |= set(command_lines())
            if self._over.wait(self._pause):
                return


def command_lines() -> Iterator[bytes]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # over meanwhile
            if line := file.read_bytes():
                yield line
