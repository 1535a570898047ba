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
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from hecate.errors import Fenced, HecateError, JournalDamaged, TransactionOpen
from hecate.files import write_whole
from hecate.resource import Change

DONE, KEPT = ".done", 20
ROOM = 256 * 1024  # bytes that must fit on the disk before a deploy begins
JOIN_WAIT = 60.0  # seconds that who takes a target over waits for an apply that is under way


@dataclass(frozen=True)
class Entry:
    """One transaction as the journal has it.

    shared: it belongs to a deploy over several targets, which alone decides when it is over.
    """

    transaction: str
    shared: bool
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Member:
    """The one deploy that may write here.

    fence: the highest that this target has met. transaction: empty when none may. by: who began it.
    """

    fence: int
    transaction: str
    by: str


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

    def join(self, transaction: str, fence: int, by: str) -> list[str]:
        """From now on `transaction` alone may write as part of a deploy; others' shared ones that are still open.

        Returns once that is on disk, and no apply of an earlier deploy is under way any more. Repeatable.
        Raises Fenced when a deploy that began later was here, and HecateError when the journal can't be written.
        """
        try:
            with self.exclusive(JOIN_WAIT):
                self._meet(transaction, fence)
                self._find_room()
                self._admit(Member(fence, transaction, by))
        except OSError as err:
            raise HecateError(
                f"the undo journal in {self.folder} can't be written: {err.strerror}; nothing was begun"
            ) from err
        return [entry.transaction for entry in self.open_entries() if entry.shared and entry.transaction != transaction]

    def take_over(self, transaction: str, fence: int) -> None:
        """Whoever commits or undoes `transaction` under this fence is its newest owner. Raises Fenced.

        It ends what membership there was, but for that of another transaction under the same fence.
        """
        with self.exclusive(JOIN_WAIT):
            self._meet(transaction, fence)
            member = self.member()
            if member is None or fence > member.fence or member.transaction == transaction:
                self._admit(Member(fence, "", member.by if member else ""))

    def leave(self, transaction: str) -> None:
        """That transaction may write no more; the fence stays."""
        with self.exclusive(JOIN_WAIT):
            member = self.member()
            if member and member.transaction == transaction:
                self._admit(Member(member.fence, "", member.by))

    def member(self) -> Member | None:
        """Who may write; None on a target that no deploy has ever joined. Raises JournalDamaged."""
        try:
            return Member(**json.loads(self._fence_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as err:
            raise JournalDamaged(
                f"{self._fence_path} is damaged; no deploy may be under way when you remove it"
            ) from err

    def refuse_strangers(self, transaction: str) -> None:
        """Raises Fenced unless the deploy `transaction` may write here. Called under `exclusive`."""
        member = self.member()
        if member and member.transaction != transaction:
            now = f"deploy {member.transaction} of {member.by} has it" if member.transaction else "it was released"
            raise Fenced(
                f"deploy {transaction} may no longer write here: {now} (fence {member.fence}); nothing was written"
            )

    def _meet(self, transaction: str, fence: int) -> None:
        member = self.member()
        if member and fence < member.fence:
            who = f"deploy {member.transaction} of {member.by}" if member.transaction else f"a later run of {member.by}"
            raise Fenced(f"{who} took over (fence {member.fence}); deploy {transaction} has only fence {fence}")

    def _admit(self, member: Member) -> None:
        write_whole(self._fence_path, json.dumps(asdict(member)).encode())
        _sync_folder(self.folder)

    def _find_room(self) -> None:
        probe = self.folder / "room"
        try:
            write_whole(probe, os.urandom(ROOM))
        finally:
            for path in (probe, probe.with_name("room.new")):
                path.unlink(missing_ok=True)

    @property
    def _fence_path(self) -> Path:
        return self.folder / "fence.json"

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
