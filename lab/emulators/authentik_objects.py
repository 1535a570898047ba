"""The endpoints that most kinds have: list, create, get, update (PUT and PATCH), delete, used_by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from werkzeug.routing import Rule
from werkzeug.wrappers import Request

from lab.emulators.authentik_kinds import Kind
from lab.emulators.authentik_models import used_by
from lab.emulators.authentik_server import API, AuthentikServer
from lab.emulators.authentik_state import NUMBERED
from lab.emulators.base import Answer

# verb: HTTP methods, whether the path holds a key, what follows it
SHAPES = {
    "list": (("GET",), False, ""), "create": (("POST",), False, ""), "get": (("GET",), True, ""),
    "update": (("PUT", "PATCH"), True, ""), "delete": (("DELETE",), True, ""), "used_by": (("GET",), True, "used_by/"),
}  # fmt: skip


class Objects(AuthentikServer):
    """Serves the kinds that its subclasses list in ``kinds``; what is special about a kind is in its ``prepare``."""

    kinds: ClassVar[tuple[Kind, ...]] = ()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As ``AuthentikServer``."""
        super().__init__(*arguments, **named)
        self._kinds = {kind.path: kind for kind in self._served()}
        for kind in self._kinds.values():
            for rule in self._rules(kind):
                self._routes.add(rule)

    def _served(self) -> Iterator[Kind]:
        for part in type(self).__mro__:
            yield from part.__dict__.get("kinds", ())

    def _rules(self, kind: Kind) -> Iterator[Rule]:
        key = "<int:key>/" if kind.table in NUMBERED else "<key>/"
        for verb in sorted(kind.verbs):
            methods, with_key, end = SHAPES[verb]
            rule = f"{API}{kind.path_in(self.state.release)}{key if with_key else ''}{end}"
            yield Rule(rule, methods=methods, endpoint=f"{verb}_object", defaults={"path": kind.path})

    def list_object(self, request: Request, path: str) -> Answer:
        """A page; filters that the kind doesn't have are ignored."""
        return self.listed(request, self._kinds[path])

    def create_object(self, request: Request, path: str) -> Answer:
        """201 with the whole object."""
        kind = self._kinds[path]
        return self.create(kind, self.read_body(request, kind))

    def get_object(self, request: Request, path: str, key: Any) -> Answer:
        """One object."""
        kind = self._kinds[path]
        return 200, kind.render(self.state, self.find(kind, key))

    def update_object(self, request: Request, path: str, key: Any) -> Answer:
        """Some fields; a PUT needs the required ones, and drops nothing: what it leaves out stays as it is."""
        kind = self._kinds[path]
        row = self.find(kind, key)
        return self.update(kind, row, self.read_body(request, kind, row))

    def delete_object(self, request: Request, path: str, key: Any) -> Answer:
        """204, with all that hangs from it."""
        kind = self._kinds[path]
        return self.remove(kind.table, self.find(kind, key))

    def used_by_object(self, request: Request, path: str, key: Any) -> Answer:
        """What refers to it; asked before a deletion, since the deletion itself asks nobody.

        What the caller may not view is left out, without a word.
        """
        kind = self._kinds[path]
        found = used_by(self.state, kind.table, self.find(kind, key))
        return 200, [row for row in found if self.may(f"view_{_viewed_as(row['model_name'])}")]


def _viewed_as(model: str) -> str:
    """Providers of all kinds are one to what refers to them."""
    return "provider" if model.endswith("provider") else model
