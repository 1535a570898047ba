"""Reading secrets from Vault or OpenBao, KV version 2, through hvac.

API: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#read-secret-version.
Retry rule: none; one read that fails is told.
"""

from __future__ import annotations

import hvac
import requests

from hecate.errors import SecretUnavailable


class VaultClient:
    """url and token of the server; mount: where the KV engine lives."""

    def __init__(self, url: str, token: str, mount: str, timeout: int = 10) -> None:
        self._client = hvac.Client(url=url, token=token, timeout=timeout)
        self._url, self._mount = url, mount

    def read(self, path: str, key: str) -> str:
        """One key of one secret. Raises SecretUnavailable, naming what is missing, never a value."""
        where = f"vault:{path}#{key}"
        try:
            answer = self._client.secrets.kv.v2.read_secret_version(
                path=path, mount_point=self._mount, raise_on_deleted_version=True
            )
        except hvac.exceptions.Forbidden as err:
            need = f'path "{self._mount}/data/{path}" {{ capabilities = ["read"] }}'
            raise SecretUnavailable(f"{where}: the token may not read it; it needs {need}") from err
        except hvac.exceptions.InvalidPath as err:
            raise SecretUnavailable(f"{where}: nothing is stored there (mount {self._mount})") from err
        except (hvac.exceptions.VaultError, requests.RequestException) as err:
            raise SecretUnavailable(f"{where}: {self._url} gave no answer ({type(err).__name__})") from err
        data = answer["data"]["data"]
        if key not in data:
            raise SecretUnavailable(f"{where}: no such key there; it has {', '.join(sorted(data)) or 'none'}")
        return str(data[key])
