"""Small files that must never be seen half: what a killed run leaves is the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in the place of what `path` holds; mode 0600. Returns once it is on disk."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(path)
