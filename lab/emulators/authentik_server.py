"""What all of authentik's endpoints share: tokens, errors, and reading and writing one kind of object."""

from __future__ import annotations

import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from lab.emulators import authentik_state
from lab.emulators.authentik_fields import Field, cleaned, defaults, unique
from lab.emulators.authentik_lists import AUTOCOMPLETE, page_of, selected
from lab.emulators.authentik_state import EMBEDDED, Object, State
from lab.emulators.base import Answer, ApiError, Emulator, Fault, json_body

API = "/api/v3"
PUBLIC = frozenset({f"{API}/root/config/"})
HTML = "text/html; charset=utf-8"
SERVER_ERROR = Fault(kind="server-error")
"""The next call meets a crash: 405 with an empty text/html body on anything but GET, 500 on GET."""


def server_error(request: Request) -> ApiError:
    """A crash as it reaches the client: Django's handler for errors only knows GET, so a write looks like a 405."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return ApiError(500, None, {"Content-Type": HTML})
    return ApiError(405, None, {"Content-Type": HTML, "Allow": "GET, HEAD, OPTIONS"})


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of object: its table and filters, its name in messages, its fields, what is unique, how it shows."""

    table: str
    model: str
    fields: Mapping[str, Field]
    render: Callable[[State, Object], Object]
    unique: tuple[tuple[str, str], ...] = ()
    filters: str = ""


class AuthentikServer(Emulator):
    """The server's state, its callers, and the reading and writing that every kind of object has in common."""

    state: State
    fault_kinds = frozenset({"server-error"})
    relaxations = (
        (r"assigned_(backchannel_)?application_(slug|name): None is not of type", "null where nothing is assigned"),
        (r"(provider|policy|group|user|service_connection)_obj: None is not of type", "null where there is none"),
        (r"/policies/bindings/.*(group|user)_obj: '\w+' is a required property", "2025.10 shows them in brief"),
    )

    def __init__(
        self, token: str = "", version: str = "2025.10.4", public_url: str = "", seed: Mapping[str, Any] | None = None,
        description: pathlib.Path | None = None, superuser: bool = True, outpost: str = EMBEDDED,
        cve_2026_25748: bool = False, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """A fresh server with ``seed`` in it; ``authentik.Authentik`` says what each parameter is."""
        super().__init__("authentik", description, API)
        self.token = token or secrets.token_urlsafe(32)
        self.public_url = public_url.rstrip("/")
        self.served_outpost = outpost
        self.cve_2026_25748 = cve_2026_25748
        self.clock = clock
        self.state = authentik_state.fresh(version)
        caller = "akadmin"
        if not superuser:
            caller = "hecate"
            self.state.add("users", authentik_state.new_user(caller, caller, "", type="service_account"))
        authentik_state.plant(self.state, seed or {})
        self.caller = int((self.state.user_named(caller) or {})["pk"])
        self.superuser = superuser

    # What the base asks for.

    def check_access(self, request: Request) -> None:
        """A valid bearer token on the API, 403 otherwise (never 401; a bad token also where none is needed)."""
        if not request.path.startswith(f"{API}/"):
            return
        given = request.headers.get("Authorization", "")
        if not given and request.path not in PUBLIC:
            raise ApiError(403, {"detail": "Authentication credentials were not provided."})
        if given and not secrets.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise ApiError(403, {"detail": "Token invalid/expired"})
        if self.fault and self.fault.kind == "server-error":
            raise server_error(request)
        if not request.path.endswith("/"):  # Django can't redirect a write to the URL with the slash, and crashes
            moved = ApiError(301, None, {"Location": f"{request.path}/", "Content-Type": HTML})
            raise moved if request.method in ("GET", "HEAD") else server_error(request)

    def not_found(self, request: Request) -> Answer:
        """HTML for a URL that doesn't exist, JSON for an object that doesn't."""
        page = '<!DOCTYPE html>\n<html lang="en"><head><title>authentik</title></head><body>Not Found</body></html>'
        return Response(page, status=404, mimetype="text/html")

    def _request_problems(self, request: Request) -> list[str]:
        """Note what the description doesn't allow, and go on: the real server ignores it or answers 400 itself."""
        problems = super()._request_problems(request)
        if problems:
            self._violation("request", request, problems)
        return []

    def public_state(self) -> Any:
        """Every table, without passwords, client secrets and cached lists."""
        tables = ("flows", "stages", "flow_bindings", "groups", "users", "policies", "providers", "applications",
                  "bindings", "outposts")  # fmt: skip
        shown: Object = {"version": self.state.version}
        for name in tables:
            rows = self.state.table(name).values()
            shown[name] = [{key: value for key, value in row.items() if key != "client_secret"} for row in rows]
        return shown

    # One kind of object.

    def find(self, kind: Kind, key: Any, field: str = "pk") -> Object:
        """The row with that key; 404 as JSON where there is none."""
        for row in self.rows(kind):
            if str(row[field]) == str(key):
                return row
        raise ApiError(404, {"detail": f"No {kind.model} matches the given query."})

    def rows(self, kind: Kind) -> list[Object]:
        """The rows of one kind; providers of all kinds share a table."""
        rows = list(self.state.table(kind.table).values())
        return [row for row in rows if row["kind"] == kind.filters] if kind.table == "providers" else rows

    def listed(self, request: Request, kind: Kind, render: Callable[[State, Object], Object] | None = None) -> Answer:
        """A page of a kind's rows."""
        what = kind.filters or kind.table
        rows = selected(self.state, what, self.rows(kind), request.args)
        return self.paged(request, what, rows, render or kind.render)

    def paged(
        self, request: Request, what: str, rows: list[Object], render: Callable[[State, Object], Object]
    ) -> Answer:
        """A page of ``rows``."""
        shown, pagination, _ = page_of(rows, request.args)
        return self.page(what, (render(self.state, row) for row in shown), pagination)

    def page(self, what: str, results: Iterable[Object], pagination: Object) -> Answer:
        """The envelope of a list."""
        completion = AUTOCOMPLETE.get(what, {})
        return 200, {"pagination": pagination, "results": list(results), "autocomplete": completion}

    def read_body(self, request: Request, kind: Kind, row: Object | None = None) -> Object:
        """The body's fields, checked; with a create's defaults where ``row`` is None."""
        body = json_body(request)
        return self.read_values(kind, {} if body is None else body, row, partial=request.method == "PATCH")

    def read_values(self, kind: Kind, body: Any, row: Object | None, partial: bool) -> Object:
        """As ``read_body``, for values from anywhere."""
        fields = dict(kind.fields)
        values = cleaned(fields, body, self.state, partial)
        unique(self.state, kind.table, values, row and row["pk"], *kind.unique)
        return values if row else {**defaults(fields), **values}

    def create(self, kind: Kind, values: Object) -> Answer:
        """Insert, and answer 201 with the whole object."""
        return 201, kind.render(self.state, self.state.add(kind.table, values))

    def update(self, kind: Kind, row: Object, values: Object) -> Answer:
        """Write some fields, and answer 200 with the whole object."""
        row.update(values)
        self.state.touch(kind.table, row["pk"])
        return 200, kind.render(self.state, row)

    def remove(self, kind: Kind, row: Object) -> Answer:
        """Delete one row; what hangs from it is the caller's to remove first."""
        del self.state.table(kind.table)[row["pk"]]
        return 204, None

    def drop_bindings(self, field: str, value: Any) -> None:
        """Cascade to the bindings: with the last one gone, what they guarded is open to everyone."""
        gone = [pk for pk, row in self.state.bindings.items() if row[field] == value]
        for pk in gone:
            del self.state.bindings[pk]
        self.state.forget_access()
