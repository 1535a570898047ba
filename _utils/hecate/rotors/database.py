"""Passwords of databases, which Vault's database engine makes, sets and keeps itself.

API: https://developer.hashicorp.com/vault/api-docs/secret/databases: static roles (rotate-role, static-creds), and the
engine's own account (rotate-root), whose password nobody but Vault ever knows.

There is one at a time. So rotating is telling the engine, and then trying what it made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hecate.errors import HecateError, SecretUnavailable
from hecate.rotation import Status, Step

REFUSED = ("28P01", "28000")  # invalid_password, invalid_authorization_specification
Act = Callable[[str], Mapping[str, Any]]
Look = Callable[[str], Mapping[str, Any]]
Login = Callable[[str, str], bool]
"""User name and password -> whether the database lets them in."""


@dataclass(frozen=True)
class Account:
    """A static role of an engine. mount: where the engine is mounted."""

    mount: str
    role: str

    @property
    def asked(self) -> str:
        return f"{self.mount}/static-creds/{self.role}"


@dataclass(frozen=True)
class Engine:
    """What Vault lets us do. act: a write without values. look: a read. Both raise SecretUnavailable."""

    act: Act
    look: Look

    def rotated(self, account: Account, login: Login, root_of: str = "") -> str:
        """Have a new password made for a static role; when, as the engine tells it (RFC 3339).

        root_of: connection whose own password, by which the engine logs in, is changed first. Nobody can read that;
        that the engine can go on is its proof. Raises HecateError unless the engine's own notice has changed and the
        database lets the new password in.
        """
        before = _moment(self.look(account.asked))
        if root_of:
            self.act(f"{account.mount}/rotate-root/{root_of}")
        self.act(f"{account.mount}/rotate-role/{account.role}")
        made = self.look(account.asked)
        moment = _moment(made)
        if moment == before:
            raise HecateError(f"vault:{account.asked}: told to rotate, and still as of {moment}")
        if not login(str(made["username"]), str(made["password"])):
            raise HecateError(f"vault:{account.asked}: the database refuses what the engine made at {moment}")
        return moment

    def made(self, account: Account) -> float:
        """When the password was made, Unix time. Asking for that shows the password to whoever asks, too."""
        moment = _moment(self.look(account.asked))
        whole = re.sub(r"\.\d+", "", moment).replace("Z", "+00:00")  # nanoseconds are more than Python reads
        return datetime.fromisoformat(whole).timestamp()


class EngineCourse:
    """A whole rotation: the engine does everything at once, so nothing can be left half done.

    every: seconds; None: when somebody asks.
    """

    def __init__(
        self,
        engine: Engine,
        account: Account,
        login: Login,
        root_of: str,
        every: float | None,
        now: Callable[[], float],
    ) -> None:
        self._engine, self._account, self._login, self._root_of = engine, account, login, root_of
        self._every, self._now = every, now

    def run(self, *, begin: bool, immediate: bool, told: bool) -> Step:
        if not begin:
            return Step()
        moment = self._engine.rotated(self._account, self._login, self._root_of)
        return Step((f"the database takes the one that the engine made at {moment}",), begun=True, promoted=True)

    def status(self) -> Status:
        age = max(0.0, self._now() - self._engine.made(self._account))
        return Status("settled", age, None if self._every is None else self._every - age)


def _moment(found: Mapping[str, Any]) -> str:
    try:
        return str(found["last_vault_rotation"])
    except KeyError:
        raise SecretUnavailable("the engine does not tell when it rotated; is that a static role?") from None


def postgres_login(host: str, port: int, database: str, timeout: float = 10) -> Login:
    """A real login at PostgreSQL. It raises HecateError where that says neither yes nor no to the password.

    Needs the package pg8000. TLS is used where the server has it; it is not what is tried here.
    """

    def login(user: str, password: str) -> bool:
        try:
            import pg8000.dbapi as postgres  # type: ignore[import-untyped]
        except ImportError:
            raise HecateError("trying a password needs the package pg8000: salt-pip install pg8000") from None
        why = ""
        try:
            postgres.connect(user, host, database, port, password, timeout=timeout).close()
        except postgres.DatabaseError as err:
            code = err.args[0].get("C") if err.args and isinstance(err.args[0], dict) else ""
            if code in REFUSED:
                return False
            why = f"PostgreSQL says {code or type(err).__name__}"
        except (postgres.InterfaceError, OSError) as err:
            why = f"no answer ({type(err).__name__})"
        if why:
            raise HecateError(f"the new password could not be tried at {host}:{port}: {why}")
        return True

    return login
