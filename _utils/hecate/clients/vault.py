"""Vault and OpenBao through hvac: KV versions 1 and 2, and the engines that make secrets.

APIs: https://developer.hashicorp.com/vault/api-docs/secret/kv, .../auth/approle, .../secret/pki, .../secret/databases.
Retry rule: none; a call that fails is told. What a call would have needed is in the error, as a line of a policy.

Errors of hvac and requests hold the request, and so the token and what was sent. They are put in words here and go no
further: what is raised has neither cause nor context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import hvac
import requests

from hecate.errors import SecretUnavailable
from hecate.secrets import masked

Login = Callable[[hvac.Client], None]
Values = dict[str, str]
Answer = TypeVar("Answer")
PRIVATE = re.compile(r"(?i)pass|secret|token|key|pem|url|statement|creation|rotation")  # fields of engines


def by_token(token: Callable[[], str]) -> Login:
    """token: asked when it is needed."""

    def login(client: hvac.Client) -> None:
        client.token = token()

    return login


def by_approle(role_id: Callable[[], str], secret_id: Callable[[], str], mount: str = "approle") -> Login:
    """role_id, secret_id: asked when they are needed."""

    def login(client: hvac.Client) -> None:
        given = {"role_id": role_id(), "secret_id": secret_id()}
        where, rule = f"logging in at auth/{mount}", f'path "auth/{mount}/login" {{ capabilities = ["update"] }}'

        def enter() -> str:
            answer = client.auth.approle.login(**given, use_token=False, mount_point=mount)
            return str(answer["auth"]["client_token"])

        client.token = _asked(enter, lambda err: _words(err, client, where, rule, hidden=given.values()))

    return login


def capabilities_of(path: str, *capabilities: str) -> str:
    """The line of a policy that lets somebody do that."""
    wanted = ", ".join(f'"{name}"' for name in capabilities)
    return f'path "{path}" {{ capabilities = [{wanted}] }}'


@dataclass(frozen=True)
class Place:
    """Where the KV engine is: its mount, and which version of it."""

    mount: str = "secret"
    version: int = 2

    def rule(self, path: str, *capabilities: str) -> str:
        """The line of a policy that lets somebody do that."""
        return capabilities_of(self.at(path), *capabilities)

    def at(self, path: str) -> str:
        """Where a policy finds that secret."""
        return f"{self.mount}/{'data/' if self.version == 2 else ''}{path}"


class VaultClient:
    """url: of the server. login: gives an hvac client its token; called once, before the first call.

    namespace: of Vault Enterprise and OpenBao. ca: file with the roots to trust; None: the system's.
    """

    def __init__(
        self, url: str, login: Login, place: Place, *, namespace: str = "", ca: str | None = None, timeout: int = 10
    ) -> None:
        session = requests.Session()
        session.verify = ca or True
        session.trust_env = False  # no proxy, no password and no roots of whoever runs this
        # An empty token and certificate: hvac would look for one in the environment and in ~/.vault-token.
        self._client = hvac.Client(
            url=url, token="", cert=(), session=session, timeout=timeout, namespace=namespace or None
        )
        self._login, self._place = login, place
        self._ready = False

    # Reading

    def read(self, path: str, key: str, version: int | None = None) -> str:
        """One key of one secret. Raises SecretUnavailable, naming what is missing, never a value."""
        where = f"vault:{path}#{key}" + (f"@{version}" if version else "")
        values, _ = self.values(path, version, where=where)
        if key not in values:
            raise SecretUnavailable(f"{where}: no such key there; it has {', '.join(sorted(values)) or 'none'}")
        if not isinstance(values[key], str):
            raise SecretUnavailable(f"{where}: not a text; write it as one (in JSON, in quotes)")
        return values[key]

    def values(self, path: str, version: int | None = None, where: str = "") -> tuple[Values, int]:
        """All keys of one secret, and its version (0 in KV version 1)."""
        where, place = where or f"vault:{path}", self._place
        if version and place.version == 1:
            raise SecretUnavailable(f"{where}: KV version 1 keeps no versions; leave @{version} out")

        def read() -> tuple[Values, int]:
            if place.version == 1:
                return dict(self._kv.v1.read_secret(path=path, mount_point=place.mount)["data"]), 0
            answer = self._kv.v2.read_secret_version(
                path=path, version=version, mount_point=place.mount, raise_on_deleted_version=True
            )["data"]
            return dict(answer["data"]), int(answer["metadata"]["version"])

        return self._told(where, place.rule(path, "read"), read, kv=True)

    # Writing

    def write(self, path: str, values: Mapping[str, str], seen: int) -> int:
        """All keys of one secret, on top of the version that was seen (0: none was there); the new version.

        Raises SecretUnavailable when somebody else wrote in between. KV version 2 alone.
        """
        where, place = f"vault:{path}", self._place
        if place.version == 1:
            raise SecretUnavailable(f"{where}: KV version 1 can't tell whether somebody else wrote; use version 2")

        def write() -> int:
            answer = self._kv.v2.create_or_update_secret(
                path=path, secret=dict(values), cas=seen, mount_point=place.mount
            )
            return int(answer["data"]["version"])

        return self._told(where, place.rule(path, "create", "update"), write, values.values(), kv=True)

    def act(self, path: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A write to any engine, such as database/rotate-role/app or pki/issue/web; its data."""

        def act() -> dict[str, Any]:
            self._enter()
            answer = self._client.write_data(path, data=dict(values or {}))
            return dict(answer.get("data") or {}) if isinstance(answer, Mapping) else {}

        sent = [value for name, value in (values or {}).items() if PRIVATE.search(name)]
        return self._told(f"vault:{path}", f'path "{path}" {{ capabilities = ["update"] }}', act, sent)

    def look(self, path: str) -> dict[str, Any]:
        """A read of any engine, such as database/static-creds/app; its data."""

        def look() -> dict[str, Any]:
            self._enter()
            answer = self._client.read(path)
            if answer is None:
                raise SecretUnavailable(f"vault:{path}: nothing there")
            return dict(answer["data"])

        return self._told(f"vault:{path}", f'path "{path}" {{ capabilities = ["read"] }}', look)

    # Below the surface

    @property
    def _kv(self) -> Any:
        self._enter()
        return self._client.secrets.kv

    def _enter(self) -> None:
        if not self._ready:
            self._login(self._client)
            self._ready = True

    def _told(
        self, where: str, rule: str, call: Callable[[], Answer], sent: Iterable[Any] = (), *, kv: bool = False
    ) -> Answer:
        """The answer to a call; the rest is for the words of its failure. sent: values that the server might quote."""
        aside = f" (mount {self._place.mount}, KV version {self._place.version})" if kv else ""
        hidden = [value for value in sent if isinstance(value, str) and value]
        return _asked(call, lambda err: _words(err, self._client, where, rule, aside, hidden))


def through_salt(read: Callable[[str, str], object] | None, place: Place) -> Callable[[str, str, int | None], object]:
    """Reads as Salt's own vault module does, with the credentials that the master issues.

    read: (mount/path, key) -> value, raising whatever Salt raises; None where that module isn't.
    """

    def value(path: str, key: str, version: int | None) -> object:
        where = f"vault:{path}#{key}" + (f"@{version}" if version else "")
        if read is None:
            raise SecretUnavailable(f"{where}: Salt's vault module isn't here; use token or approle in hecate:vault")
        if version:
            raise SecretUnavailable(f"{where}: Salt's vault module reads the newest version alone")
        try:
            return read(f"{place.mount}/{path}", key)
        except Exception as err:  # of many kinds, with the real one as its cause; and it may quote what it read
            failed = type(err.__cause__ or err).__name__
        why = f"Salt's vault module failed ({failed}); the minion's credentials need {place.rule(path, 'read')}"
        raise SecretUnavailable(f"{where}: {why}, and Salt needs vault in the master's configuration")

    return value


def _asked(call: Callable[[], Answer], words: Callable[[Exception], str]) -> Answer:
    try:
        return call()
    except (hvac.exceptions.VaultError, OSError, KeyError, TypeError, ValueError) as err:
        told = words(err)
    raise SecretUnavailable(told)  # out here, so that the error above isn't its context


def _words(
    err: Exception, client: hvac.Client, where: str, rule: str, aside: str = "", hidden: Iterable[str] = ()
) -> str:
    """What went wrong, and what to do about it."""
    url, said = client.url, "; ".join(map(str, getattr(err, "errors", None) or ()))
    said = masked(said, [*hidden, client.token or ""])
    if isinstance(err, hvac.exceptions.Forbidden):
        if _is_good(client):
            return f"{where}: the token may not do that; it needs {rule}"
        return f"{where}: the token is wrong, expired or revoked; a good one needs {rule}"
    if isinstance(err, hvac.exceptions.InvalidPath):
        return f"{where}: {_missing(err, said)}{aside}"
    if isinstance(err, hvac.exceptions.InvalidRequest):
        if "check-and-set" in said:
            return f"{where}: somebody else wrote it in between; run it again"
        return f"{where}: {url} refused it ({said or type(err).__name__})"
    if isinstance(err, hvac.exceptions.VaultDown):
        return f"{where}: {url} is sealed or on standby ({said or 'it did not say more'})"
    if isinstance(err, requests.exceptions.SSLError):
        return f"{where}: no TLS connection to {url} that can be trusted; see hecate:vault:ca"
    if isinstance(err, KeyError | TypeError | ValueError) and not isinstance(err, OSError):
        return f"{where}: what {url} answered is no answer of Vault; see hecate:vault:url"
    return f"{where}: {url} gave no answer ({type(err).__name__})"


def _is_good(client: hvac.Client) -> bool:
    """Whether the server knows the token; asked where it refused something, to tell a lost token from a lost right."""
    try:
        return bool(client.token) and bool(client.auth.token.lookup_self())
    except (hvac.exceptions.VaultError, OSError, ValueError):
        return False


def _missing(err: Any, said: str) -> str:
    """Why nothing is there. KV version 2 tells of a version that was there once."""
    body = err.json if isinstance(err.json, Mapping) else {}
    was = (body.get("data") or {}).get("metadata") or {}
    if was.get("destroyed"):
        return f"version {was['version']} was destroyed; refer to another"
    if was.get("deletion_time"):
        return f"version {was['version']} was deleted at {was['deletion_time']}; undelete it, or refer to another"
    return f"nothing is stored there: {said}" if said else "nothing is stored there"
