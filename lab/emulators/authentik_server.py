"""What all of authentik's endpoints share: tokens, errors, prices, and reading and writing one kind of object."""

from __future__ import annotations

import fnmatch
import json
import pathlib
import re
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from werkzeug.wrappers import Request, Response

from lab.emulators import authentik_defaults, authentik_state
from lab.emulators.authentik_fields import cleaned, defaults, fields_of, unique
from lab.emulators.authentik_kinds import Kind, Write
from lab.emulators.authentik_lists import AUTOCOMPLETE, page_of, selected
from lab.emulators.authentik_models import drop, model_of, name_of
from lab.emulators.authentik_rights import DEFAULT_RIGHTS, needed
from lab.emulators.authentik_state import EMBEDDED, Object, State
from lab.emulators.base import Answer, ApiError, Emulator, Fault, json_body, to_response

API = "/api/v3"
PUBLIC = frozenset({f"{API}/root/config/"})
EXECUTOR = f"{API}/flows/executor/"
"""Whoever logs in has no token yet."""
HTML = "text/html; charset=utf-8"
ACCOUNT = "hecate"
"""The service account whose token it is, where it isn't akadmin's."""
SERVER_ERROR = Fault(kind="server-error")
"""The next call meets a crash: 405 with an empty text/html body on anything but GET, 500 on GET."""
BOOTSTRAP = "authentik-bootstrap-token"  # identifier of the token that the server starts with
FORBIDDEN = {"detail": "You do not have permission to perform this action."}
OPENS = frozenset({"policies", "bindings", "groups", "users"})
"""Tables whose writes empty the cache of who may open what."""


def server_error(request: Request) -> ApiError:
    """A crash as it reaches the client: Django's handler for errors only knows GET, so a write looks like a 405."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return ApiError(500, None, {"Content-Type": HTML})
    return ApiError(405, None, {"Content-Type": HTML, "Allow": "GET, HEAD, OPTIONS"})


class AuthentikServer(Emulator):
    """The server's state, its callers, and the reading and writing that every kind of object has in common."""

    state: State
    fault_kinds = frozenset({"server-error"})
    relaxations = (
        (r"assigned_(backchannel_)?application_(slug|name): None is not of type", "null where nothing is assigned"),
        (r"(provider|policy|group|user|service_connection)_obj: None is not of type", "null where there is none"),
        (r"parent_name: None is not of type", "null for a group without a parent, in descriptions of 2024 too"),
        (r"/policies/bindings/.*(group|user)_obj: '\w+' is a required property", "2025.10 shows them in brief"),
    )

    def __init__(
        self, token: str = "", version: str = "2025.10.4", public_url: str = "", seed: Mapping[str, Any] | None = None,
        description: pathlib.Path | None = None, superuser: bool = True, outpost: str = EMBEDDED,
        cve_2026_25748: bool = False, clock: Callable[[], float] = time.time,
        rights: Iterable[str] = DEFAULT_RIGHTS, prices: Mapping[str, float] | None = None, outpost_price: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """A fresh server with ``seed`` in it; ``authentik.Authentik`` says what each parameter is."""
        super().__init__("authentik", description, API)
        self.token = token or secrets.token_urlsafe(32)
        self.public_url = public_url.rstrip("/")
        self.served_outpost = outpost
        self.cve_2026_25748 = cve_2026_25748
        self.clock = clock
        self.prices = dict(prices or {})
        self.outpost_price = outpost_price
        self.sleep = sleep
        self.state = authentik_defaults.fresh(version)
        caller = "akadmin"
        if not superuser:
            caller = ACCOUNT
            self.state.add("users", authentik_state.new_user(caller, caller, "", type="service_account"))
        authentik_state.plant(self.state, seed or {})
        self.owner = self._first_owner = int((self.state.user_named(caller) or {})["pk"])
        self.state.rights.setdefault(self.owner, frozenset(rights))
        first = {"identifier": BOOTSTRAP, "intent": "api", "user": self.owner, "description": "", "managed": None}
        self.state.add(
            "tokens", {**first, "expires": authentik_state.now_text(), "expiring": False, "key": self.token}
        )
        self.caller, self.superuser = self.owner, superuser
        self.asking: Request | None = None

    # What the base asks for.

    def before(self, request: Request) -> None:
        """Wait as long as the call costs; others go on meanwhile."""
        if self.prices or self.outpost_price:
            self.sleep(self._price(request) / 1000)

    def _price(self, request: Request) -> float:
        """Milliseconds: the price of the call, and that of every provider in the outpost that is written again."""
        path, write = request.path.removeprefix(API), request.method in ("POST", "PUT", "PATCH", "DELETE")
        places = (path, request.full_path.removeprefix(API))
        price = max((ms for call, ms in self.prices.items() if _is(call, request.method, places)), default=0.0)
        if self.outpost_price and write:
            with self.lock:
                price += self.outpost_price * self._weight(request, path)
        return price

    def _weight(self, request: Request, path: str) -> int:
        """How many providers are in the outposts that saving this object writes again."""
        provider = re.match(r"/providers/\w+/(\d+)/", path)
        if provider:
            lists = [outpost["providers"] for outpost in self.state.outposts.values()]
            return sum(len(held) for held in lists if int(provider[1]) in held)
        if not path.startswith("/outposts/instances/"):
            return 0
        body = request.get_json(force=True, silent=True)
        named = body.get("providers") if isinstance(body, dict) else None
        held = self.state.outposts.get(path.split("/")[3], {}).get("providers", [])
        return len(named if isinstance(named, list) else held)

    def check_access(self, request: Request) -> None:
        """A valid bearer token on the API, 403 otherwise (never 401; a bad token also where none is needed)."""
        self.asking = request
        if not request.path.startswith(f"{API}/"):
            return
        given = request.headers.get("Authorization", "")
        if not given and request.path not in PUBLIC and not request.path.startswith(EXECUTOR):
            raise ApiError(403, {"detail": "Authentication credentials were not provided."})
        if given:
            self._identify(given)
        if self.fault and self.fault.kind == "server-error":
            raise server_error(request)
        if not request.path.endswith("/"):  # Django can't redirect a write to the URL with the slash, and crashes
            moved = ApiError(301, None, {"Location": f"{request.path}/", "Content-Type": HTML})
            raise moved if request.method in ("GET", "HEAD") else server_error(request)
        if given and not self.may(*needed(request.method, request.path.removeprefix(API))):
            raise ApiError(403, FORBIDDEN)

    def _identify(self, given: str) -> None:
        """Who calls: the owner of the token, who has to be active; an app password is no token for the API."""
        key = given.removeprefix("Bearer ").encode() if given.startswith("Bearer ") else b""
        self.caller, now = -1, authentik_state.now_text()
        for row in self.state.tokens.values():
            over = row["expiring"] and row["expires"] <= now
            if row["intent"] == "api" and not over and secrets.compare_digest(key, row["key"].encode()):
                self.caller = row["user"]
        user = self.state.users.get(self.caller)
        if user is None or not user["is_active"]:
            raise ApiError(403, {"detail": "Token invalid/expired"})
        self.superuser = self.is_superuser(self.caller)

    def is_superuser(self, user: int) -> bool:
        """Whether one of the user's groups makes it one."""
        return any(group["is_superuser"] for group in self.state.groups.values() if user in group["users"])

    def _control(self, request: Request) -> Response:
        """``PUT /_lab/rights`` [name]: the token becomes an account's that may do just these; DELETE: as at first."""
        if request.path != "/_lab/rights":
            return super()._control(request)
        with self.lock:
            if request.method == "PUT":
                made = self.state.user_named(ACCOUNT) or self.state.add(
                    "users", authentik_state.new_user(ACCOUNT, ACCOUNT, "", type="service_account")
                )
                self.owner = int(made["pk"])
                self.state.rights[self.owner] = frozenset(json.loads(request.get_data()))
            else:
                self.owner = self._first_owner
            for row in self.state.tokens.values():
                if row["identifier"] == BOOTSTRAP:
                    row["user"] = self.owner
        return to_response((204, None))

    def may(self, *permissions: str) -> bool:
        """Whether the caller has all of these rights."""
        return self.superuser or self.state.rights.get(self.caller, frozenset()).issuperset(permissions)

    def finish(self, request: Request, response: Response) -> Response:
        """Every answer of the API carries the id that its events have."""
        if request.path.startswith(API):
            response.headers["X-authentik-Id"] = request.environ.setdefault("lab.request_id", uuid.uuid4().hex)
        return response

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
        """Every table, without passwords, keys, client secrets, the text of webhook mappings and cached lists."""
        tables = ("flows", "stages", "flow_bindings", "mappings", "groups", "users", "tokens", "policies", "providers",
                  "applications", "bindings", "outposts", "brands", "transports", "rules")  # fmt: skip
        shown: Object = {"version": self.state.version}
        for name in tables:
            hidden = {"client_secret", "key", "webhook_url"} | ({"expression"} if name == "mappings" else set())
            rows = self.state.table(name).values()
            shown[name] = [{key: value for key, value in row.items() if key not in hidden} for row in rows]
        return shown

    # One kind of object.

    def find(self, kind: Kind, key: Any, field: str = "") -> Object:
        """The row with that key; 404 as JSON where there is none."""
        for row in self.rows(kind):
            if str(row[field or kind.key]) == str(key):
                return row
        raise ApiError(404, {"detail": f"No {kind.model} matches the given query."})

    def rows(self, kind: Kind) -> list[Object]:
        """The rows of one kind that the caller may see."""
        return kind.rows(self.state)

    def listed(self, request: Request, kind: Kind, render: Callable[[State, Object], Object] | None = None) -> Answer:
        """A page of a kind's rows."""
        rows = selected(self.state, kind.filters, self.rows(kind), request.args)
        return self.paged(request, kind.filters, rows, render or kind.render)

    def paged(
        self, request: Request, what: str, rows: list[Object], render: Callable[[State, Object], Object]
    ) -> Answer:
        """A page of ``rows``."""
        shown, pagination, _ = page_of(rows, request.args)
        return self.page(what, (render(self.state, row) for row in shown), pagination)

    def page(self, what: str, results: Iterable[Object], pagination: Object) -> Answer:
        """The envelope of a list; servers of 2024 have no completions in it."""
        envelope = {"pagination": pagination, "results": list(results)}
        if self.state.release >= AUTOCOMPLETE_FROM:
            envelope["autocomplete"] = AUTOCOMPLETE.get(what, {})
        return 200, envelope

    def read_body(self, request: Request, kind: Kind, row: Object | None = None) -> Object:
        """The body's fields, checked; with a create's defaults where ``row`` is None."""
        body = json_body(request)
        return self.read_values(kind, Write(request, {} if body is None else body, row, request.method == "PATCH"))

    def read_values(self, kind: Kind, write: Write) -> Object:
        """As ``read_body``, for a body from anywhere."""
        fields = fields_of(kind.fields, self.state.release)
        values = cleaned(fields, write.body, self.state, write.partial)
        unique(self.state, kind.table, values, write.row and write.row["pk"], *kind.unique)
        if write.row is None:
            values = {**({"kind": kind.sort} if kind.sort else {}), **defaults(fields, self.state), **values}
        return kind.prepare(self, write, values) if kind.prepare else values

    def create(self, kind: Kind, values: Object) -> Answer:
        """Insert, and answer 201 with the whole object."""
        return 201, kind.render(self.state, self.insert(kind.table, values))

    def insert(self, table: str, values: Object) -> Object:
        """A new row, and its event."""
        row = self.state.add(table, values)
        self.changed("model_created", table, row)
        return row

    def update(self, kind: Kind, row: Object, values: Object) -> Answer:
        """Write some fields, and answer 200 with the whole object."""
        row.update(values)
        self.state.touch(kind.table, row["pk"])
        self.changed("model_updated", kind.table, row)
        return 200, kind.render(self.state, row)

    def remove(self, table: str, row: Object) -> Answer:
        """Delete one row and what cascades from it: with the last binding gone, what it guarded is open to everyone."""
        drop(self.state, table, row, lambda where, gone: self.changed("model_deleted", where, gone))
        return 204, None

    # Events.

    def changed(self, action: str, table: str, row: Object) -> None:
        """Note that a row was made, changed or deleted; a key is hex digits in events, without dashes."""
        if table in OPENS or (table == "applications" and action == "model_created"):
            self.state.forget_access()
        app, model = model_of(table, row)
        key = row["pk"] if isinstance(row["pk"], int) else str(row["pk"]).replace("-", "")
        about = {"pk": key, "app": app, "name": name_of(self.state, table, row), "model_name": model}
        self.record(action, self.caller, {"model": about}, "authentik.events.middleware")

    def record(self, action: str, user: Any, context: Object, app: str = "authentik.events.signals") -> Object:
        """Keep an event; ``user`` is a user's number, or None for nobody."""
        raise NotImplementedError


AUTOCOMPLETE_FROM = (2025, 8)


def _is(call: str, method: str, places: Iterable[str]) -> bool:
    """Whether a pattern means this call; it is compared with the path, and with the path and its query."""
    wanted, _, pattern = call.partition(" ")
    return wanted in (method, "*") and any(fnmatch.fnmatchcase(place, pattern) for place in places)
