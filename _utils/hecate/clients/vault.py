"""Vault and OpenBao through hvac: KV versions 1 and 2, and the engines that make secrets.

APIs: https://developer.hashicorp.com/vault/api-docs/secret/kv, .../auth/approle, .../secret/pki, .../secret/databases.
Retry rule: none; a call that fails is told. What a call would have needed is in the error, as a line of a policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hvac
import requests

from hecate.errors import SecretUnavailable

Login = Callable[[hvac.Client], None]
Values = dict[str, str]


def by_token(token: Callable[[], str]) -> Login:
    """token: asked when it is needed."""

    def login(client: hvac.Client) -> None:
        client.token = token()

    return login


def by_approle(role_id: Callable[[], str], secret_id: Callable[[], str], mount: str = "approle") -> Login:
    def login(client: hvac.Client) -> None:
        answer = client.auth.approle.login(role_id(), secret_id(), use_token=False, mount_point=mount)
        client.token = answer["auth"]["client_token"]

    return login


@dataclass(frozen=True)
class Place:
    """Where the KV engine is: its mount, and which version of it."""

    mount: str = "secret"
    version: int = 2

    def rule(self, path: str, *capabilities: str) -> str:
        """The line of a policy that lets somebody do that."""
        middle = "data/" if self.version == 2 else ""
        wanted = ", ".join(f'"{name}"' for name in capabilities)
        return f'path "{self.mount}/{middle}{path}" {{ capabilities = [{wanted}] }}'


class VaultClient:
    """url: of the server. login: gives an hvac client its token; called once, before the first call.

    namespace: of Vault Enterprise and OpenBao. ca: file with the roots to trust; None: the system's.
    """

    def __init__(
        self, url: str, login: Login, place: Place, *, namespace: str = "", ca: str | None = None, timeout: int = 10
    ) -> None:
        self._client = hvac.Client(url=url, timeout=timeout, namespace=namespace or None, verify=ca or True)
        self._client.token = None  # not one from the environment or a file of whoever runs this
        self._url, self._login, self._place = url, login, place
        self._ready = False

    # Reading

    def read(self, path: str, key: str, version: int | None = None) -> str:
        """One key of one secret. Raises SecretUnavailable, naming what is missing, never a value."""
        where = f"vault:{path}#{key}" + (f"@{version}" if version else "")
        values, _ = self.values(path, version, where=where)
        if key not in values:
            raise SecretUnavailable(f"{where}: no such key there; it has {', '.join(sorted(values)) or 'none'}")
        return str(values[key])

    def values(self, path: str, version: int | None = None, where: str = "") -> tuple[Values, int]:
        """All keys of one secret, and its version (0 in KV version 1)."""
        where, place = where or f"vault:{path}", self._place
        if version and place.version == 1:
            raise SecretUnavailable(f"{where}: KV version 1 keeps no versions; leave @{version} out")
        with self._told(where, place.rule(path, "read")):
            if place.version == 1:
                return dict(self._kv.v1.read_secret(path=path, mount_point=place.mount)["data"]), 0
            answer = self._kv.v2.read_secret_version(
                path=path, version=version, mount_point=place.mount, raise_on_deleted_version=True
            )["data"]
            return dict(answer["data"]), int(answer["metadata"]["version"])

    # Writing

    def write(self, path: str, values: Mapping[str, str], seen: int) -> int:
        """All keys of one secret, on top of the version that was seen (0: none was there); the new version.

        Raises SecretUnavailable when somebody else wrote in between. KV version 2 alone.
        """
        where, place = f"vault:{path}", self._place
        if place.version == 1:
            raise SecretUnavailable(f"{where}: KV version 1 can't tell whether somebody else wrote; use version 2")
        with self._told(where, place.rule(path, "create", "update")):
            answer = self._kv.v2.create_or_update_secret(
                path=path, secret=dict(values), cas=seen, mount_point=place.mount
            )
            return int(answer["data"]["version"])

    def act(self, path: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A write to any engine, such as database/rotate-role/app or pki/issue/web; its data."""
        with self._told(f"vault:{path}", f'path "{path}" {{ capabilities = ["update"] }}'):
            self._enter()
            answer = self._client.write_data(path, data=dict(values or {}))
            return dict(answer.get("data") or {}) if isinstance(answer, Mapping) else {}

    def look(self, path: str) -> dict[str, Any]:
        """A read of any engine, such as database/static-creds/app; its data."""
        with self._told(f"vault:{path}", f'path "{path}" {{ capabilities = ["read"] }}'):
            self._enter()
            answer = self._client.read(path)
            if answer is None:
                raise SecretUnavailable(f"vault:{path}: nothing there")
            return dict(answer["data"])

    # Below the surface

    @property
    def _kv(self) -> Any:
        self._enter()
        return self._client.secrets.kv

    def _enter(self) -> None:
        if not self._ready:
            self._login(self._client)
            self._ready = True

    @contextmanager
    def _told(self, where: str, rule: str) -> Iterator[None]:
        try:
            yield
        except hvac.exceptions.Forbidden as err:
            raise SecretUnavailable(f"{where}: the token may not do that; it needs {rule}") from err
        except hvac.exceptions.InvalidPath as err:
            raise SecretUnavailable(f"{where}: nothing is stored there (mount {self._place.mount})") from err
        except hvac.exceptions.InvalidRequest as err:
            why = "; ".join(map(str, err.errors or ())) if hasattr(err, "errors") else ""
            if "check-and-set" in why:
                raise SecretUnavailable(f"{where}: somebody else wrote it in between; run it again") from err
            raise SecretUnavailable(f"{where}: {self._url} refused it ({why or type(err).__name__})") from err
        except (hvac.exceptions.VaultError, requests.RequestException) as err:
            raise SecretUnavailable(f"{where}: {self._url} gave no answer ({type(err).__name__})") from err
