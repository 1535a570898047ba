"""Watching a system cheaply: its sign first, and only when that has moved a real look.

A sign (an Etag, SOA serials, the newest event) moves with Hecate's own writes and with strangers' too. So what it
says is settled by comparing with pillar before anybody is told. Nothing is told twice, and nothing of a deploy that is
still open here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hecate.errors import HecateError
from hecate.files import write_whole


@dataclass(frozen=True)
class Movement:
    """system: where. what: "moved", or "cannot be asked". told: in a few words."""

    system: str
    what: str
    told: str


@dataclass(frozen=True)
class _Seen:
    """sign: None before the first answer. differing: what was told last. failing: that it can't be asked was told."""

    sign: str | None = None
    differing: str = ""
    failing: bool = False


def look(
    system: str,
    memory: Path,
    sign: Callable[[], str],
    differing: Callable[[], str],
    busy: Callable[[], bool],
) -> Movement | None:
    """One look. memory: file that outlives this process.

    sign: asks the system. differing: a fingerprint of what differs from pillar, "" for nothing. busy: whether a
    transaction is open here. The first look ever only remembers.
    """
    if busy():
        return None
    kept = _read(memory)
    try:
        now = sign()
        moved = kept.sign is not None and now != kept.sign
        found = differing() if moved else kept.differing
    except HecateError as err:
        _write(memory, _Seen(kept.sign, kept.differing, True))
        return None if kept.failing else Movement(system, "cannot be asked", str(err))
    if busy():
        return None  # what was seen may be half of a deploy that has begun meanwhile
    fresh = _Seen(now, found)
    if fresh != kept:
        _write(memory, fresh)
    return (
        Movement(system, "moved", "is not as pillar wants it") if moved and found not in ("", kept.differing) else None
    )


def _read(memory: Path) -> _Seen:
    try:
        return _Seen(**json.loads(memory.read_text("utf-8")))
    except (OSError, ValueError, TypeError):  # it only saves a look; a damaged one is as good as none
        return _Seen()


def _write(memory: Path, seen: _Seen) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(memory, json.dumps(asdict(seen)).encode())
