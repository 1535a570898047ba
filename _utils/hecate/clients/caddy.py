"""Caddy's admin API (https://caddyserver.com/docs/api).

Only the whole configuration is read and written, under its Etag: one look, one conditional
write. `/load` is never used, since it ignores If-Match and takes an empty body for "wipe all".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hecate.clients.http import JsonApi
from hecate.errors import Faulty


class CaddyClient:
    """admin: "unix//path/to.sock" or http://127.0.0.1:2019.

    Retry rule: reads as in clients.http; the write is sent once.
    """

    def __init__(self, admin: str, timeout: float = 60.0, sleep: Callable[[float], None] = time.sleep) -> None:
        is_socket = admin.startswith("unix/")
        base = f"http+unix://{quote(admin.removeprefix('unix/'), safe='')}" if is_socket else admin
        # A socket path has no host of its own, and Caddy refuses names that it does not expect.
        self._api = JsonApi("caddy", base, timeout=timeout, headers={"Host": ""} if is_socket else {}, sleep=sleep)

    def config(self) -> tuple[dict[str, Any], str]:
        """The whole configuration and its Etag."""
        answer = self._api.get("/config/")
        if not answer.etag:
            raise Faulty("caddy", "GET /config/ came without an Etag; Caddy 2.5 or newer is needed")
        return answer.data or {}, answer.etag

    def replace(self, config: dict[str, Any], etag: str) -> None:
        """Put `config` in the place of the one that `etag` names. Raises Stale when it is gone."""
        if not config.get("apps"):
            raise ValueError("refusing to send a configuration without apps: Caddy would take it and serve nothing")
        self._api.send("POST", "/config/", config, headers={"If-Match": etag})

    def root_certificate(self, authority: str = "local") -> str:
        """PEM of the internal CA's root."""
        return str(self._api.get(f"/pki/ca/{authority}").data["root_certificate"])
