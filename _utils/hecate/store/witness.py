"""What a master remembers of an audit chain by itself, beside the store: its key, and how far it has seen it."""

from __future__ import annotations

import json
import os
import secrets
from fcntl import LOCK_EX, flock
from pathlib import Path

from hecate.errors import HecateError
from hecate.files import write_whole

KEY = "history.key"
SHORTEST = 16  # characters of a key


class Witness:
    """The last entry of one environment that this master has written or seen. path: a file of mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.number, self.hash = self._read()

    def see(self, number: int, digest: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._path.with_name(f"{self._path.name}.lock"), "w", encoding="utf-8") as handle:
            flock(handle, LOCK_EX)  # several commands may run on one master
            self.number, self.hash = self._read()
            if number > self.number:
                self.number, self.hash = number, digest
                write_whole(self._path, json.dumps([number, digest]).encode())

    def _read(self) -> tuple[int, str]:
        """Nothing seen yet, where the file is not there or says nothing: it is a second proof, not the first."""
        try:
            number, digest = json.loads(self._path.read_text(encoding="utf-8"))
            return int(number), str(digest)
        except (FileNotFoundError, ValueError, TypeError):
            return 0, ""


def own_key(folder: Path) -> bytes:
    """The key that this master signs with where pillar names none; made once, mode 0600."""
    path = folder / KEY
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = folder / f"{KEY}.{secrets.token_hex(4)}"
        write_whole(fresh, secrets.token_hex(32).encode())
        try:
            os.link(fresh, path)  # of two at once the first one's counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    found = path.read_bytes().strip()
    if len(found) < SHORTEST:
        raise HecateError(f"{path} does not hold a key; without it the audit can't be signed or verified")
    return found
