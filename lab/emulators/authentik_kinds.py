"""What tells one kind of object from another: its table and path, its fields, what is unique, how it shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from werkzeug.wrappers import Request

from lab.emulators.authentik_fields import Field, Unique
from lab.emulators.authentik_state import Object, Release, State

ALL = frozenset({"list", "create", "get", "update", "delete", "used_by"})
READ = frozenset({"list", "get", "used_by"})
MAPPINGS_MOVED = (2024, 8)
"""The release from which the mappings of providers have ``/provider`` in their path."""


@dataclasses.dataclass(frozen=True)
class Write:
    """One create or update on its way: the body as it came, the row that it is about (None: a create)."""

    request: Request
    body: Any
    row: Object | None
    partial: bool


Prepare = Callable[[Any, Write, Object], Object]
"""(server, write, the body's fields as read) -> what is stored; ApiError for what the server refuses."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of object.

    model: its name in messages; in lower case, in permissions
    sort: which rows of a shared table are of this kind; the name of its filters, where that isn't the table's
    path: its endpoints, below /api/v3; "" where they are written out
    key: the field that the path of one object holds
    verbs: which of the usual endpoints the generic code serves
    prepare: the kind's own rules for a write
    """

    table: str
    model: str
    fields: Mapping[str, Field]
    render: Callable[[State, Object], Object]
    unique: tuple[Unique, ...] = ()
    sort: str = ""
    path: str = ""
    key: str = "pk"
    verbs: frozenset[str] = ALL
    prepare: Prepare | None = None

    @property
    def filters(self) -> str:
        """The name of its filters."""
        return self.sort or self.table

    def path_in(self, release: Release) -> str:
        """Its path in a release."""
        old = release < MAPPINGS_MOVED
        return self.path.replace("/propertymappings/provider/", "/propertymappings/") if old else self.path

    def rows(self, state: State) -> list[Object]:
        """Its rows."""
        rows = list(state.table(self.table).values())
        return [row for row in rows if row["kind"] == self.sort] if self.sort else rows
