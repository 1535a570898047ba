"""authentik's REST API v3 (https://api.goauthentik.io/).

Quirks answered here: the server shows its own crashes as 405 without JSON; filters that it does
not know return everything; a wrong token is 403, never 401.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import requests

from hecate.clients.http import JsonApi
from hecate.errors import ApiFailure, Faulty

PAGE = 100


class _Api(JsonApi):
    def failure(self, response: requests.Response, where: str) -> ApiFailure:
        if response.status_code == 405 and "json" not in response.headers.get("Content-Type", ""):
            return Faulty(self.system, f"{where}: the server failed (it shows crashes as an empty 405)", code=405)
        return super().failure(response, where)


class AuthentikClient:
    """url: base of the server. token: an API token's key; goes into one header and nowhere else.

    Retry rule: reads as in clients.http; writes are sent once.
    """

    def __init__(
        self,
        url: str,
        token: str,
        timeout: float = 60.0,
        mask: Callable[[str], str] = str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._api = _Api("authentik", f"{url}/api/v3", headers=headers, timeout=timeout, mask=mask, sleep=sleep)

    def version(self) -> str:
        return str(self._api.get("/admin/version/").data["version_current"])

    def all(self, path: str, **filters: Any) -> list[dict[str, Any]]:
        """Every object under `path`, page by page. The caller re-checks what filters promised."""
        found: list[dict[str, Any]] = []
        page = 1
        while page:
            answer = self._api.get(
                path, {**filters, "page": page, "page_size": PAGE, "ordering": filters.get("ordering", "pk")}
            )
            try:
                found += answer.data["results"]
                page = int(answer.data["pagination"]["next"])
            except (KeyError, TypeError) as err:
                raise Faulty("authentik", f"GET {path}: a page without results or pagination") from err
        return found

    def get(self, path: str) -> dict[str, Any]:
        return dict(self._api.get(path).data)

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._api.send("POST", path, body).data)

    def patch(self, path: str, key: Any, body: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._api.send("PATCH", f"{path}{quote(str(key))}/", body).data)

    def delete(self, path: str, key: Any) -> None:
        self._api.send("DELETE", f"{path}{quote(str(key))}/")
