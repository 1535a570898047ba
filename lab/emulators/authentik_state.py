"""What an authentik server holds: tables of objects, and a test's seed. ``authentik_defaults`` makes a fresh one."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import string
import time
import uuid
from collections.abc import Mapping
from typing import Any

Object = dict[str, Any]
Table = dict[Any, Object]
Release = tuple[int, int]

EMBEDDED = "goauthentik.io/outposts/embedded"
NUMBERED = frozenset({"users", "providers"})
"""Tables whose keys are numbers; UUIDs elsewhere."""

ALPHABET = string.ascii_letters + string.digits


def random_text(length: int) -> str:
    """Letters and digits, as client ids and secrets are."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def now_text(ahead: float = 0.0) -> str:
    """The time as the API writes it, ``ahead`` seconds from now."""
    now = time.time() + ahead
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}Z"


@dataclasses.dataclass
class State:
    """The database: one table an object kind, each keyed as the database keys it.

    A table's order is the order of the last writes, as PostgreSQL tends to give rows back: see ``touch``. Rows of a
    table that several kinds share (providers, policies, mappings) say in ``kind`` what they are.
    """

    version: str
    flows: Table = dataclasses.field(default_factory=dict)
    stages: Table = dataclasses.field(default_factory=dict)
    flow_bindings: Table = dataclasses.field(default_factory=dict)
    mappings: Table = dataclasses.field(default_factory=dict)
    certificates: Table = dataclasses.field(default_factory=dict)
    brands: Table = dataclasses.field(default_factory=dict)
    groups: Table = dataclasses.field(default_factory=dict)
    users: Table = dataclasses.field(default_factory=dict)
    tokens: Table = dataclasses.field(default_factory=dict)
    passwords: dict[int, str] = dataclasses.field(default_factory=dict)
    rights: dict[int, frozenset[str]] = dataclasses.field(default_factory=dict)
    policies: Table = dataclasses.field(default_factory=dict)
    providers: Table = dataclasses.field(default_factory=dict)
    applications: Table = dataclasses.field(default_factory=dict)
    bindings: Table = dataclasses.field(default_factory=dict)
    outposts: Table = dataclasses.field(default_factory=dict)
    transports: Table = dataclasses.field(default_factory=dict)
    rules: Table = dataclasses.field(default_factory=dict)
    events: Table = dataclasses.field(default_factory=dict)
    app_access: dict[tuple[int, int], list[str]] = dataclasses.field(default_factory=dict)
    next_number: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def release(self) -> Release:
        """(2025, 10) of "2025.10.4"."""
        year, month, *_ = self.version.split(".")
        return int(year), int(month)

    def table(self, name: str) -> Table:
        """The table called ``name``."""
        found: Table = getattr(self, name)
        return found

    def add(self, table: str, values: Object) -> Object:
        """Insert an object with a fresh key: numbers for users and providers, UUIDs elsewhere."""
        pk: Any = str(uuid.uuid4())
        if table in NUMBERED:
            pk = self.next_number.get(table, 1)
            self.next_number[table] = pk + 1
        made = {"pk": pk, **values}
        self.table(table)[pk] = made
        return made

    def touch(self, table: str, pk: Any) -> None:
        """Move an object to the end: an updated row is a new row to PostgreSQL."""
        rows = self.table(table)
        rows[pk] = rows.pop(pk)

    def forget_access(self) -> None:
        """Drop the cached application lists, as saving a policy, binding, group, user or new application does."""
        self.app_access.clear()

    def application_of(self, provider: int) -> Object | None:
        """The application whose provider it is."""
        return next((a for a in self.applications.values() if a["provider"] == provider), None)

    def user_named(self, username: str) -> Object | None:
        """The user called so."""
        return next((u for u in self.users.values() if u["username"] == username), None)

    def group_named(self, name: str) -> Object | None:
        """The group called so."""
        return next((g for g in self.groups.values() if g["name"] == name), None)


def new_flow(slug: str, name: str, title: str, designation: str, authentication: str) -> Object:
    """A flow's stored fields."""
    return {
        "policybindingmodel_ptr_id": str(uuid.uuid4()), "name": name, "slug": slug, "title": title,
        "designation": designation, "policy_engine_mode": "any", "compatibility_mode": False, "layout": "stacked",
        "denied_action": "message_continue", "authentication": authentication,
    }  # fmt: skip


def new_group(name: str, superuser: bool = False) -> Object:
    """A group's stored fields; both spellings of the parent are kept, the version decides which one shows."""
    return {
        "num_pk": 10000 + secrets.randbelow(90000), "name": name, "is_superuser": superuser, "parent": None,
        "parents": [], "users": [], "attributes": {}, "roles": [],
    }  # fmt: skip


def new_user(username: str, name: str, email: str, **further: Any) -> Object:
    """A user's stored fields."""
    return {
        "username": username, "name": name, "is_active": True, "last_login": None, "date_joined": now_text(),
        "email": email, "attributes": {}, "uid": hashlib.sha256(secrets.token_bytes(16)).hexdigest(), "path": "users",
        "type": "internal", "uuid": str(uuid.uuid4()), "password_change_date": now_text(), "last_updated": now_text(),
        **further,
    }  # fmt: skip


def plant(state: State, seed: Mapping[str, Any]) -> None:
    """Add a seed's ``users`` (username, name, email, password, groups, attributes, rights) and ``groups`` (names).

    Groups are made as somebody else's would be: without any mark. A user that is there keeps its key. ``rights`` are
    what the user's tokens may do: "view_group", "add_application" and so on.
    """
    for name in seed.get("groups", []):
        _group(state, name)
    for entry in seed.get("users", []):
        username = entry["username"]
        user = state.user_named(username) or state.add("users", new_user(username, username, ""))
        user.update({key: entry[key] for key in ("name", "email", "attributes", "is_active") if key in entry})
        if "password" in entry:
            state.passwords[user["pk"]] = entry["password"]
        if "rights" in entry:
            state.rights[user["pk"]] = frozenset(entry["rights"])
        for name in entry.get("groups", []):
            members = _group(state, name)["users"]
            if user["pk"] not in members:
                members.append(user["pk"])


def _group(state: State, name: str) -> Object:
    return state.group_named(name) or state.add("groups", new_group(name))
