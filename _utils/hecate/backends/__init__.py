"""What a managed system has to offer. One file a system in this room; the registry is in wiring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hecate.resource import Change, Resource, Snapshot


class Backend(Protocol):
    """How to read, compare and write one system.

    atomic: `apply` takes effect wholly or not at all, so a plan is one batch.
    together: kinds whose neighbouring changes are cheaper (or only possible) as one batch.
    brief: an undo needs to know what was there, and of what was wanted only the names.
    """

    system: str
    atomic: bool
    together: frozenset[str]
    brief: bool

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        """Everything that is Hecate's there, and whatever stands at the keys in `scope`.

        Raises when it is not sure: a failed read is never an empty system.
        """
        ...

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """`want` as the server would answer it, given what it has: its defaults are no difference."""
        ...

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        """Write the changes on top of the state that `snapshot` shows.

        Raises Stale when that state is gone. Returns once the system confirmed the effect.
        """
        ...
