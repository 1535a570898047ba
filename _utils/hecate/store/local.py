"""The embedded store: JSON files under the master's cache directory, one process at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from hecate.errors import Faulty
from hecate.files import write_whole
from hecate.store import ABSENT, Stored


class LocalStore:
    """folder: created with mode 0700; survives kill -9, since files are replaced, never edited."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Stored | None:
        try:
            text = self._path(key).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return Stored(json.loads(text), hashlib.sha256(text.encode()).hexdigest())
        except ValueError as err:
            raise Faulty("store", f"{self._path(key)} is damaged; move it away to go on without it") from err

    def put(self, key: str, value: Any, version: str | None) -> bool:
        with self._exclusive():
            if not self._matches(key, version):
                return False
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, json.dumps(value, sort_keys=True).encode())
            return True

    def delete(self, key: str, version: str | None = None) -> bool:
        with self._exclusive():
            if not self._matches(key, version):
                return False
            self._path(key).unlink(missing_ok=True)
            return True

    def keys(self, prefix: str) -> list[str]:
        if not self._folder.is_dir():
            return []
        found = (p.relative_to(self._folder).with_suffix("").as_posix() for p in self._folder.rglob("*.json"))
        return sorted(key for key in found if key.startswith(prefix))

    def _matches(self, key: str, version: str | None) -> bool:
        if version is None:
            return True
        have = self.get(key)
        return (have.version if have else ABSENT) == version

    def _path(self, key: str) -> Path:
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"not a store key: {key!r}")
        return self._folder / f"{key}.json"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._folder / ".lock", "w", encoding="utf-8") as handle:
            flock(handle, LOCK_EX)
            yield
