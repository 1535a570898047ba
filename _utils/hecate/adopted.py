"""The one pillar file that Hecate writes: what was adopted from live systems.

It is plain JSON to Salt (`#!json`): a record's text that looks like Jinja must never be run as Jinja on the master.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hecate.errors import HecateError

SHEBANG = "#!json\n"
MARK = {"hecate_adopted": "kept by salt-run hecate.drift; move what you want to keep into files of your own"}


class AdoptedFile:
    """path: as pillar names it. roots: the master's pillar roots, one of which it lies below."""

    def __init__(self, path: str, roots: Sequence[str]) -> None:
        self._path = Path(path)
        below = [Path(root).resolve() for root in roots]
        if not any(self._path.parent.resolve().is_relative_to(root) for root in below):
            raise HecateError(f"hecate:drift:adopt_file: {path} is below none of the pillar roots: {', '.join(roots)}")
        if self._path.is_symlink() or self._path.suffix != ".sls":
            raise HecateError(f"hecate:drift:adopt_file: {path} has to be a file of its own, NAME.sls")

    def read(self) -> dict[str, Any]:
        """What stands under `hecate` in it. Raises HecateError for a file that somebody else wrote."""
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        except OSError as err:
            raise HecateError(f"{self._path}: {err.strerror}") from err
        try:
            found = json.loads(text.removeprefix(SHEBANG))
        except ValueError:
            found = None
        is_ours = isinstance(found, Mapping) and (not found or "hecate_adopted" in found)
        if not text.startswith(SHEBANG) or not is_ours:
            raise HecateError(f"{self._path} was not written by Hecate; name another file, or begin with: #!json, {{}}")
        return dict(found.get("hecate") or {})

    def write(self, hecate: Mapping[str, Any]) -> None:
        """Whole or not at all; owner and mode stay, or are those of the folder. Call `read` first."""
        is_new = not self._path.exists()
        like = (self._path.parent if is_new else self._path).stat()
        fresh = self._path.with_name(f".{self._path.name}.new")
        body = json.dumps({**MARK, "hecate": hecate}, indent=2, sort_keys=True, ensure_ascii=False)
        try:
            with open(fresh, "w", encoding="utf-8", opener=_private) as handle:
                handle.write(f"{SHEBANG}{body}\n")
                handle.flush()
                os.fchown(handle.fileno(), like.st_uid, like.st_gid)
                os.fchmod(handle.fileno(), 0o640 if is_new else like.st_mode & 0o777)
                os.fsync(handle.fileno())
            fresh.replace(self._path)
        except OSError as err:
            raise HecateError(f"{self._path} can't be written: {err.strerror}") from err


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
