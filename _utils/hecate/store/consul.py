"""Consul's KV as the store (https://developer.hashicorp.com/consul/api-docs/kv), through py-consul.

Values are compressed: Consul takes at most 512 KiB a key, and a deployment holds a whole pillar. A lease is a session
(https://developer.hashicorp.com/consul/api-docs/session) that lives by its TTL alone: an agent that is restarted ends
no deploy. Consul ends one up to a TTL late. No lock-delay: whoever lost the lock is kept off the targets by its fence.
Retry rule: none; every write is conditional, so a caller may look again and decide.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from consul import ACLDisabled, ACLPermissionDenied, Consul, ConsulException
from consul import NotFound as NoSuchKey

from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound, Refused, Unreachable
from hecate.secrets import masked
from hecate.store import ABSENT, Stored

LIMIT = 512 * 1024
SESSIONS = 'session_prefix "" { policy = "write" }'


class ConsulStore:
    """url: of an agent. token: sent in a header only. prefix: everything is below it."""

    def __init__(self, url: str, token: str, prefix: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self._consul = Consul(
            host=parts.hostname, port=port, scheme=parts.scheme, token=token or None, connections_timeout=timeout
        )
        self._prefix, self._token = prefix, token

    def get(self, key: str) -> Stored | None:
        _, row = self._told(key, lambda: self._consul.kv.get(f"{self._prefix}/{key}", consistency="consistent"))
        if row is None:
            return None
        try:
            return Stored(json.loads(zlib.decompress(base64.b64decode(row["Value"]))), str(row["ModifyIndex"]))
        except (ValueError, zlib.error) as err:
            raise Faulty("consul", f"{self._prefix}/{key} does not hold what Hecate wrote there") from err

    def put(self, key: str, value: Any, version: str | None) -> bool:
        packed = _packed(value)
        if len(packed) > LIMIT:
            raise Refused("consul", f"{key} takes {len(packed)} bytes; Consul's limit is {LIMIT}")
        return bool(self._told(key, lambda: self._consul.kv.put(f"{self._prefix}/{key}", packed, cas=_cas(version))))

    def delete(self, key: str, version: str | None = None) -> bool:
        return bool(self._told(key, lambda: self._consul.kv.delete(f"{self._prefix}/{key}", cas=_cas(version))))

    def keys(self, prefix: str) -> list[str]:
        below = f"{self._prefix}/{prefix}"
        _, found = self._told(prefix, lambda: self._consul.kv.get(below, keys=True, consistency="consistent"))
        return sorted(key.removeprefix(f"{self._prefix}/") for key in found or [])

    def lease(self, seconds: float) -> str:
        made = self._consul.session.create
        ttl = max(10, round(seconds))
        return str(self._told("", lambda: made(name="hecate", checks=[], lock_delay=0, behavior="release", ttl=ttl)))

    def renew(self, lease: str) -> bool:
        try:
            return bool(self._told("", lambda: self._consul.session.renew(lease)))
        except NotFound:
            return False

    def is_running(self, lease: str) -> bool:
        return bool(self._told("", lambda: self._consul.session.info(lease, consistency="consistent"))[1])

    def give_up(self, lease: str) -> None:
        self._told("", lambda: self._consul.session.destroy(lease))

    def hold(self, key: str, value: Any, lease: str) -> bool:
        try:
            return bool(
                self._told(key, lambda: self._consul.kv.put(f"{self._prefix}/{key}", _packed(value), acquire=lease))
            )
        except Faulty as err:
            if "invalid session" in str(err):
                return False
            raise

    def _told(self, key: str, call: Callable[[], Any]) -> Any:
        """py-consul's exceptions as Hecate's, without those: they hold the request, and so the token."""
        failed: ApiFailure
        try:
            return call()
        except (ACLDisabled, ACLPermissionDenied):
            environment = key.partition("/")[0]  # comes first in every key
            need = f'key_prefix "{self._prefix}/{environment}/" {{ policy = "write" }}' if key else SESSIONS
            failed = NotAuthorised("consul", f"the token may not use the store; it needs {need}")
        except NoSuchKey:
            failed = NotFound("consul", "no such session")
        except ConsulException as err:
            failed = Faulty("consul", masked(str(err), [self._token]))
        except requests.RequestException as err:
            failed = Unreachable("consul", f"no answer ({type(err).__name__})")
        raise failed


def _packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(json.dumps(value, sort_keys=True).encode())).decode()


def _cas(version: str | None) -> int | None:
    """Consul's check-and-set: index 0 means that the key must not exist."""
    return None if version is None else int(version) if version != ABSENT else 0
