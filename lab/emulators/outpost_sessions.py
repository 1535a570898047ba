"""What the login side remembers: who is logged in at authentik, and at which application's outpost."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any, Generic, TypeVar

Entry = TypeVar("Entry")
MOST = 20_000


class Store(Generic[Entry]):
    """Random keys with an end: what is over isn't found. Bounded, so that a long run doesn't grow without limit."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, Entry]] = {}

    def add(self, entry: Entry, until: float) -> str:
        """Keep an entry; returns its key."""
        if len(self._entries) >= MOST:
            del self._entries[next(iter(self._entries))]
        key = secrets.token_urlsafe(32)
        self._entries[key] = (until, entry)
        return key

    def get(self, key: str, now: float) -> Entry | None:
        """The entry, unless there is none or it is over."""
        found = self._entries.get(key)
        if found is None:
            return None
        if found[0] <= now:
            del self._entries[key]
            return None
        return found[1]

    def take(self, key: str, now: float) -> Entry | None:
        """The entry, once."""
        found = self.get(key, now)
        self._entries.pop(key, None)
        return found

    def drop(self, **fields: Any) -> None:
        """Forget the entries with these field values."""
        for key, (_, entry) in list(self._entries.items()):
            if all(getattr(entry, name) == value for name, value in fields.items()):
                del self._entries[key]


@dataclasses.dataclass(frozen=True)
class Login:
    """One browser logged in at authentik."""

    user: int


@dataclasses.dataclass(frozen=True)
class Start:
    """A login begun at an application: where it goes back to, and the browser that it belongs to."""

    provider: int
    target: str
    browser: str


@dataclasses.dataclass(frozen=True)
class Code:
    """An authorization code: for one provider, one redirect URI, one use."""

    provider: int
    redirect_uri: str
    user: int
    login: str


@dataclasses.dataclass(frozen=True)
class ProxySession:
    """A session at an application: the claims are those of the login, however the groups change meanwhile."""

    provider: int
    user: int
    login: str
    claims: tuple[tuple[str, str], ...]


@dataclasses.dataclass
class Sessions:
    """All of them. They aren't part of the database: a stale read doesn't bring back a session."""

    logins: Store[Login] = dataclasses.field(default_factory=Store)
    starts: Store[Start] = dataclasses.field(default_factory=Store)
    codes: Store[Code] = dataclasses.field(default_factory=Store)
    proxied: Store[ProxySession] = dataclasses.field(default_factory=Store)
    pending: dict[str, str] = dataclasses.field(default_factory=dict)
    """Usernames of logins that wait for a password, by the session's key."""
