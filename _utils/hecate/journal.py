"""The write-ahead undo journal of one target: what was about to be done, before it is done.

One file a transaction, one JSON line a write, synced to disk before the effect that it announces. It says of
every change what was there before and what was wanted instead (of ten thousand routes only their
names), so a run that was killed anywhere can be undone by the next one.
Nothing secret is in it: specs carry secret references only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from hecate.errors import JournalDamaged, TransactionOpen
from hecate.files import write_whole
from hecate.resource import Change

DONE, KEPT = ".done", 20


@dataclass(frozen=True)
class Entry:
    """One transaction as the journal has it.

    shared: it belongs to a deploy over several targets, which alone decides when it is over.
    """

    transaction: str
    shared: bool
    changes: tuple[Change, ...]


class Journal:
    """The journal of one target, kept under `folder` (created with mode 0700)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def exclusive(self, wait: float = 0) -> Iterator[None]:
        """Hold the target for one process: two applies at once would undo each other's work.

        wait: seconds to wait for another process before TransactionOpen is raised.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        until = time.monotonic() + wait
        with open(self.folder / "lock", "w", encoding="utf-8") as handle:
            while True:
                try:
                    flock(handle, LOCK_EX | LOCK_NB)
                    break
                except OSError as err:
                    if time.monotonic() >= until:
                        raise TransactionOpen(
                            "another process is applying to this target right now; try again"
                        ) from err
                time.sleep(0.02)
            yield

    def announce(self, transaction: str, changes: Sequence[Change], *, shared: bool, brief: bool = False) -> None:
        """Say what is about to be written. Returns only once that is on disk.

        brief: of what is wanted say only the name, of what is there all.
        """
        rows = [_brief(change) if brief else change.to_json() for change in changes]
        line = {"transaction": transaction, "shared": shared, "changes": rows}
        path = self._path(transaction)
        is_new = not path.exists()
        with open(path, "a", encoding="utf-8", opener=_private) as handle:
            handle.write(json.dumps(line, sort_keys=True) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        if is_new:
            _sync_folder(self.folder)

    def withdraw(self, transaction: str) -> None:
        """Take back the last announcement: its write was refused as a whole."""
        path = self._path(transaction)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]
        if not lines:
            self.close(transaction)
            return
        write_whole(path, "".join(lines).encode())
        _sync_folder(self.folder)

    def open_entries(self) -> list[Entry]:
        """Transactions that were begun and neither closed nor undone, oldest first."""
        if not self.folder.is_dir():
            return []
        paths = sorted(self.folder.glob("*.jsonl"), key=lambda p: (p.stat().st_mtime, p.name))
        return [self._read(path) for path in paths]

    def entry(self, transaction: str) -> Entry | None:
        """What `transaction` announced, whether it is open or over."""
        for path in (self._path(transaction), self._path(transaction).with_suffix(DONE)):
            if path.exists():
                return self._read(path)
        return None

    def keep(self, transaction: str) -> None:
        """The transaction is over and good; it stays readable for a while, to be undone on request."""
        path = self._path(transaction)
        if path.exists():
            path.replace(path.with_suffix(DONE))
            for old in sorted(self.folder.glob(f"*{DONE}"), key=lambda p: p.stat().st_mtime)[:-KEPT]:
                old.unlink()
            _sync_folder(self.folder)

    def close(self, transaction: str) -> None:
        """Forget the transaction: it was undone."""
        self._path(transaction).with_suffix(DONE).unlink(missing_ok=True)
        self._path(transaction).unlink(missing_ok=True)
        if self.folder.is_dir():
            _sync_folder(self.folder)

    def _path(self, transaction: str) -> Path:
        if not transaction or not all(c.isalnum() or c in "-_" for c in transaction):
            raise ValueError(f"not a transaction id: {transaction!r}")
        return self.folder / f"{transaction}.jsonl"

    def _read(self, path: Path) -> Entry:
        """A line cut short at the very end was never announced to completion, so nothing followed it."""
        rows: list[dict[str, Any]] = []
        text = path.read_text(encoding="utf-8")
        complete, _, _cut_short = text.rpartition("\n")
        for line in complete.split("\n") if complete else []:
            try:
                rows.append(json.loads(line))
            except ValueError as err:
                raise JournalDamaged(
                    f"{path} is damaged; compare the system with the pillar by hand, then remove the file"
                ) from err
        shared = bool(rows and rows[0]["shared"])
        changes = tuple(Change.from_json(change) for row in rows for change in row["changes"])
        return Entry(path.stem, shared, changes)


def _brief(change: Change) -> dict[str, Any]:
    before, after = change.before, change.after
    named = {"kind": after.kind, "key": after.key, "spec": {}, "needs": list(after.needs)} if after else None
    return {"before": before.to_json() if before else None, "after": named}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
