"""Files with password hashes that Caddy reads when it loads its configuration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hecate.errors import HecateError
from hecate.files import write_whole


def placed(path: Path, hashed: Callable[[str], str], owner: str | None = None) -> bool:
    """Write what `hashed` makes of the hash that is there ("" for none); whether that is another one. Mode 0600.

    owner: user whom the file shall belong to, where Caddy doesn't run as the minion's.
    """
    try:
        was = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        now = hashed(was)
        if now == was:
            return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_whole(path, now.encode())
        if owner and path.owner() != owner:
            shutil.chown(path, owner)
    except (OSError, LookupError, ValueError) as err:
        why = os.strerror(err.errno) if isinstance(err, OSError) and err.errno else type(err).__name__
        raise HecateError(f"{path} can't be written, or not be given to {owner or 'its user'}: {why}") from err
    return True
