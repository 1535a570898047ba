"""authentik's expressions: Python that the server runs as the body of a function, with a few names in scope.

They run here by plain ``exec``, as in the server: whoever may write a policy runs code. The emulator is a lab on
loopback, and trusts its callers as authentik trusts its admins.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

from lab.emulators.authentik_state import Object, State

NAME = "handler"


class ExpressionFailed(Exception):
    """The expression raised; the text is what it raised."""


@functools.lru_cache(maxsize=4096)
def compiled(source: str) -> types.CodeType:
    """The code that defines ``handler()``; SyntaxError for what isn't Python, with the lines of the whole function."""
    body = "\n".join(f"    {line}" for line in source.split("\n"))
    return compile(f"def {NAME}():\n{body}\n", "temp-policy", "exec")


def run(source: str, names: Mapping[str, Any]) -> Any:
    """What the expression returns, None where it returns nothing; ExpressionFailed for what it raises."""
    scope: dict[str, Any] = {**HELPERS, **names}
    try:
        exec(compiled(source), scope)  # what it is for; see the module's docstring
        return scope[NAME]()
    except Exception as error:
        raise ExpressionFailed(str(error)) from error


def policy_names(state: State, user: Object, context: Mapping[str, Any], messages: list[str]) -> dict[str, Any]:
    """What a policy's expression finds: ``request``, ``context``, ``ak_message`` and the helpers."""
    request = types.SimpleNamespace(user=Person(state, user), context=dict(context), http_request=None, obj=None)

    def ak_message(message: str) -> None:
        messages.append(str(message))

    names = {"request": request, "context": request.context, "ak_message": ak_message,
             "ak_is_sso_flow": False, "ak_client_ip": ipaddress.ip_address("255.255.255.255")}  # fmt: skip
    return {**names, **people(state)}


def people(state: State) -> dict[str, Any]:
    """The helpers that look into the database."""

    def ak_user_by(**filters: Any) -> Person | None:
        found = [row for row in state.users.values() if _matches(row, filters)]
        return Person(state, found[0]) if len(found) == 1 else None

    return {"ak_user_by": ak_user_by}


def ak_is_group_member(user: Person, **filters: Any) -> bool:
    """Whether the user is in a group, or below one, that has all these values."""
    return bool(user.all_groups().filter(**filters))


def regex_match(value: Any, regex: str) -> bool:
    """Whether the expression is somewhere in the value."""
    return re.search(regex, value) is not None


def regex_replace(value: Any, regex: str, repl: str) -> str:
    """The value with every match replaced."""
    return re.sub(regex, repl, value)


HELPERS: dict[str, Any] = {
    "ak_is_group_member": ak_is_group_member, "regex_match": regex_match, "regex_replace": regex_replace,
    "ip_address": ipaddress.ip_address, "ip_network": ipaddress.ip_network,
}  # fmt: skip


class Person:
    """A user as expressions see it."""

    def __init__(self, state: State, row: Object) -> None:
        self._state = state
        self.pk, self.username, self.name, self.email = row["pk"], row["username"], row["name"], row["email"]
        self.is_active, self.attributes = row["is_active"], dict(row["attributes"])
        self.uid, self.uuid, self.path, self.type = row["uid"], row["uuid"], row["path"], row["type"]
        self.id = self.pk

    def all_groups(self) -> Groups:
        """The user's groups and those above them."""
        return Groups(groups_of(self._state, self.pk))

    @property
    def groups(self) -> Groups:
        """The groups that the user is in itself."""
        return Groups(group for group in self._state.groups.values() if self.pk in group["users"])

    ak_groups = groups

    @property
    def is_superuser(self) -> bool:
        """Whether one of the groups makes it so."""
        return any(group["is_superuser"] for group in groups_of(self._state, self.pk))

    def group_attributes(self, request: Any = None) -> Object:
        """The attributes of all groups, then the user's own."""
        merged: Object = {}
        for group in groups_of(self._state, self.pk):
            merged |= group["attributes"]
        return merged | self.attributes

    def __str__(self) -> str:
        return str(self.username)


class Groups(list[Any]):
    """A list that answers the few questions of a query set; the groups in it have attributes, not keys."""

    def __init__(self, rows: Any) -> None:
        super().__init__(types.SimpleNamespace(**row) if isinstance(row, dict) else row for row in rows)

    def all(self) -> Groups:
        """All of them."""
        return self

    def exists(self) -> bool:
        """Whether there is any."""
        return bool(self)

    def first(self) -> Any:
        """The first, None where there is none."""
        return self[0] if self else None

    def filter(self, **filters: Any) -> Groups:
        """Those with these values: ``name=``, ``name__in=``, ``attributes__key=`` and the like."""
        return Groups(group for group in self if _matches(vars(group), filters))

    def values_list(self, field: str, flat: bool = True) -> list[Any]:
        """One field of each."""
        return [getattr(group, field) for group in self]


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "in": lambda have, want: have in want, "iexact": lambda have, want: str(have).lower() == str(want).lower(),
    "contains": lambda have, want: want in have, "startswith": lambda have, want: str(have).startswith(want),
    "icontains": lambda have, want: str(want).lower() in str(have).lower(),
}  # fmt: skip


def _matches(row: Mapping[str, Any], filters: Mapping[str, Any]) -> bool:
    return all(_holds(row, name.split("__"), want) for name, want in filters.items())


def _holds(row: Mapping[str, Any], path: list[str], want: Any) -> bool:
    if path[0] not in row:
        raise ValueError(f"Cannot resolve keyword '{path[0]}' into field.")
    have: Any = row[path[0]]
    for step in path[1:]:
        if not isinstance(have, Mapping):
            return _COMPARE[step](have, want)
        if step not in have:
            return False
        have = have[step]
    return bool(have == want)


def groups_of(state: State, user: int) -> list[Object]:
    """The groups that a user is in, and the groups above them: a member of a child is a member of the parent."""
    found: dict[str, Object] = {}
    waiting = [g for g in state.groups.values() if user in g["users"]]
    while waiting:
        group = waiting.pop()
        if group["pk"] not in found:
            found[group["pk"]] = group
            waiting += [state.groups[pk] for pk in (group["parent"], *group["parents"]) if pk in state.groups]
    return list(found.values())
