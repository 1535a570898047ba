"""What a managed system has to offer. One file a system in this room; the registry is in wiring."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from hecate.resource import Change, Resource, Snapshot


class Backend(Protocol):
    """How to read, compare and write one system.

    atomic: `apply` takes effect wholly or not at all.
    brief: an undo needs to know what was there, and of what was wanted only the names.
    """

    system: str
    atomic: bool
    brief: bool

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        """Everything that is Hecate's there, and whatever stands at the keys in `scope`.

        Raises when it is not sure: a failed read is never an empty system.
        """
        ...

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """`want` as the server would answer it, given what it has: its defaults are no difference."""
        ...

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        """A plan's changes as they are written, one `apply` each: what is safe in between, the backend knows."""
        ...

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        """Write the changes on top of the state that `snapshot` shows.

        Raises Stale when that state is gone. Returns once the system confirmed the effect.
        """
        ...


def alike(changes: Sequence[Change], together: Collection[str] = ()) -> Iterator[list[Change]]:
    """One by one; neighbours of these kinds that come, or that go, as one batch."""
    batch: list[Change] = []
    for change in changes:
        joins = batch and change.kind == batch[-1].kind and change.kind in together
        if batch and not (joins and (change.after is None) == (batch[-1].after is None)):
            yield batch
            batch = []
        batch.append(change)
    if batch:
        yield batch


def at_once(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """All in one."""
    if changes:
        yield list(changes)
