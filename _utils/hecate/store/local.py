"""The embedded store: JSON files under the master's cache directory, one process at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from hecate.errors import Faulty
from hecate.files import write_whole
from hecate.store import ABSENT, Stored
from hecate.store.leases import Leases, since_boot


class LocalStore:
    """folder: created with mode 0700; survives kill -9, since files are replaced, never edited."""

    def __init__(self, folder: Path, clock: Callable[[], float] = since_boot) -> None:
        self._folder, self._leases = folder, Leases(folder / ".leases", clock)

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
            self._write(key, value)
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

    def lease(self, seconds: float) -> str:
        with self._exclusive():
            return self._leases.make(seconds)

    def renew(self, lease: str) -> bool:
        with self._exclusive():
            return self._leases.renew(lease)

    def is_running(self, lease: str) -> bool:
        return self._leases.is_running(lease)

    def give_up(self, lease: str) -> None:
        with self._exclusive():
            self._leases.end(lease)

    def hold(self, key: str, value: Any, lease: str) -> bool:
        with self._exclusive():
            there = self.get(key)
            other = str((there.value.get("lease") if there else "") or lease)
            if not self._leases.is_running(lease) or (other != lease and self._leases.is_running(other)):
                return False
            self._write(key, value)
            return True

    def _matches(self, key: str, version: str | None) -> bool:
        if version is None:
            return True
        have = self.get(key)
        return (have.version if have else ABSENT) == version

    def _write(self, key: str, value: Any) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, json.dumps(value, sort_keys=True).encode())

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
