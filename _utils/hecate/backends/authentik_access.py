"""Who is who on an authentik server: users, the groups that they are in, their second factors, the server's own word.

Reads only. https://api.goauthentik.io/; the listing of second factors is taken from the API's description.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hecate.backends.authentik_kinds import KINDS, Held, mark_of
from hecate.clients.authentik import AuthentikClient
from hecate.errors import HecateError, Refused

ASKING = 4  # calls at a time
SHOWN = 5  # users of a name like the one that is asked for
Row = dict[str, Any]


@dataclass(frozen=True)
class Person:
    """A user. pk: the server's number."""

    pk: int
    username: str
    name: str
    active: bool
    attributes: Row

    @classmethod
    def of(cls, row: Row) -> Person:
        attributes = dict(row.get("attributes") or {})
        return cls(row["pk"], row["username"], row.get("name") or "", bool(row.get("is_active")), attributes)


class Directory:
    """held: the groups, as they were when the server was looked at; users are asked for when they are needed."""

    def __init__(self, client: AuthentikClient, held: Held) -> None:
        self._client, self._held = client, held

    @property
    def groups(self) -> dict[str, Row]:
        return self._held.rows["group"]

    def person(self, name: str) -> Person:
        """By username, or by an address that one user alone has. Raises HecateError for nobody."""
        exact = [row for row in self._users(username=name) if row["username"] == name]
        alike = [] if exact else self._users(search=name)
        same = [row for row in alike if name.lower() in (row["username"].lower(), str(row.get("email")).lower())]
        if len(found := exact or same) == 1:
            return Person.of(found[0])
        names = sorted(row["username"] for row in same or alike)[:SHOWN]
        hint = f"; do you mean {', '.join(names)}?" if names else ""
        raise HecateError(f"there is no user {name} in authentik{hint}")

    def everybody(self) -> list[Person]:
        return [Person.of(row) for row in self._users()]

    def _users(self, **filters: str) -> list[Row]:
        return self._client.all(KINDS["user"].path, **filters, ordering="username")

    def within(self, names: Iterable[str]) -> dict[str, Person]:
        """Members of any of the groups, and of the groups below them, by username."""
        found: dict[str, Person] = {}
        for row in self._below(names):
            found.update({user["username"]: Person.of(user) for user in row.get("users_obj") or ()})
        return dict(sorted(found.items()))

    def _below(self, names: Iterable[str]) -> list[Row]:
        """Groups of these names, and whatever has one of them as a parent, near or far."""
        found = {row["pk"]: row for name in names if (row := self.groups.get(name))}
        while more := [r for r in self.groups.values() if r["pk"] not in found and found.keys() & set(_parents(r))]:
            found.update({row["pk"]: row for row in more})
        return list(found.values())

    def groups_of(self, person: Person) -> dict[str, str]:
        """Names of the groups that somebody is in; with each the group below it that they are really in, or ""."""
        by_key = {row["pk"]: row for row in self.groups.values()}
        own = [row for row in self.groups.values() if person.pk in (row.get("users") or ())]
        found = {row["name"]: "" for row in own}
        waiting = [(pk, row["name"]) for row in own for pk in _parents(row)]
        while waiting:
            pk, through = waiting.pop(0)
            if pk in by_key and by_key[pk]["name"] not in found:
                found[by_key[pk]["name"]] = through
                waiting += [(above, through) for above in _parents(by_key[pk])]
        return dict(sorted(found.items()))

    def may_open(self, asked: Sequence[tuple[str, Person]]) -> Iterator[bool]:
        """The server's own word, for each pair of an application's slug and somebody.

        Raises HecateError when the token's user is no superuser: the server then speaks of that user, whoever is asked
        about.
        """
        if asked and not self._client.get("/core/users/me/")["user"].get("is_superuser"):
            raise HecateError(
                "authentik answers for others only where the token (hecate:authentik:token) is a superuser's"
            )
        with ThreadPoolExecutor(ASKING) as pool:
            yield from pool.map(lambda pair: self._client.may_open(pair[0], pair[1].pk), asked)

    def factors(self, person: Person) -> list[str] | None:
        """Device classes of the second factors that somebody has set up; None where the server does not tell."""
        try:
            rows = self._client.devices(person.pk)
        except Refused:
            return None
        # authentik itself makes a device's class of the name of its type: TOTPDevice is totp.
        types = (str(row["type"]).rpartition(".")[2].lower() for row in rows if row.get("confirmed"))
        return sorted({name.removesuffix("device") for name in types})

    def is_marked(self, group: str, mark: str) -> bool:
        return group in self.groups and mark_of(self.groups[group]) == mark


def _parents(row: Row) -> list[str]:
    """Up to 2025.10 a group has one `parent`, from 2025.12 on several."""
    return [pk for pk in (*(row.get("parents") or ()), row.get("parent")) if pk]
