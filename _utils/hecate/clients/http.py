"""The HTTP helper that the JSON clients share.

Retry rule: a GET that could not be answered (no connection, 429, 502, 503, 504) is sent up to
three times, with a growing pause. Nothing else is ever sent twice: a write whose answer was lost
may have taken effect, and only looking again tells.

An error of requests holds the request, and so the token; an answer may quote it. What is raised here has no cause, and
of an answer only what was masked first.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound, RateLimited, Refused, Stale, Unreachable

ATTEMPTS = 3
PAUSES = (0.2, 1.0)
PASSING = (429, 502, 503, 504)


class Answer:
    """A successful answer: parsed JSON (None when empty) and the headers that matter."""

    def __init__(self, data: Any, headers: Mapping[str, str]) -> None:
        self.data, self.headers = data, headers

    @property
    def etag(self) -> str:
        return self.headers.get("Etag", "")


class JsonApi:
    """JSON over HTTP(S) or a unix socket, with typed errors.

    base: http(s)://host[:port], or http+unix://%2Fpath%2Fto.sock.
    timeout: seconds for each call, connecting and waiting for the answer counted separately.
    """

    def __init__(
        self,
        system: str,
        base: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        mask: Callable[[str], str] = str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.system, self.base, self.timeout = system, base.rstrip("/"), timeout
        self._mask, self._sleep = mask, sleep
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy from the environment must not see admin calls
        self._session.headers.update({"Accept": "application/json", **(headers or {})})
        self._session.mount("http+unix://", _UnixAdapter())

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Answer:
        for attempt in range(ATTEMPTS):
            try:
                return self.send("GET", path, params=params)
            except ApiFailure as err:
                passing = isinstance(err, Unreachable) or err.code in PASSING
                if not passing or attempt == ATTEMPTS - 1:
                    raise
                self._sleep(PAUSES[attempt])
        raise AssertionError("unreachable")

    def text(self, path: str) -> str:
        """The body of a GET that isn't JSON, as metrics are not."""
        return self._exchanged("GET", path).text

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call, sent once; body: anything JSON, or bytes that are JSON. Raises the ApiFailure that fits."""
        ready = body is None or isinstance(body, bytes)
        data = body if ready else json.dumps(body, separators=(",", ":")).encode()
        extra = ({"Content-Type": "application/json"} if data is not None else {}) | dict(headers or {})
        response = self._exchanged(method, path, data=data, params=params, headers=extra)
        return Answer(self._parsed(response, f"{method} {path}"), response.headers)

    def _exchanged(self, method: str, path: str, **said: Any) -> requests.Response:
        where, timeout = f"{method} {path}", (min(self.timeout, 10.0), self.timeout)
        try:
            response = self._session.request(method, self.base + path, timeout=timeout, allow_redirects=False, **said)
        except requests.RequestException as err:
            failed = type(err).__name__
        else:
            if response.status_code >= 300:
                raise self.failure(response, where)
            return response
        message = self._mask(f"{where}: no answer ({failed})")
        raise Unreachable(self.system, f"{message}; is {unquote(self.base)} up?")

    def failure(self, response: requests.Response, where: str) -> ApiFailure:
        """The typed error for an answer that is not a success."""
        status = response.status_code
        kind: type[ApiFailure] = Refused
        if status in (401, 403):
            kind = NotAuthorised
        elif status == 404:
            kind = NotFound
        elif status == 412:
            kind = Stale
        elif status == 429:
            kind = RateLimited
        elif status >= 500 or status < 400:
            kind = Faulty
        request_id = response.headers.get("X-authentik-Id") or response.headers.get("X-Request-Id") or ""
        # Masked first: half a secret would not be recognised.
        said = self._mask(response.text)
        text = f"{self._mask(where)}: {said[:500].strip() or self._mask(response.reason or '')}"
        try:
            body = json.loads(said)
        except ValueError:
            body = None
        return kind(self.system, text, code=status, request_id=self._mask(request_id), body=body)

    def _parsed(self, response: requests.Response, where: str) -> Any:
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:  # it holds the whole answer
            pass
        raise Faulty(self.system, f"{self._mask(where)}: the answer is not JSON", code=response.status_code)


class _UnixConnection(HTTPConnection):
    def __init__(self, socket_path: str, **options: Any) -> None:
        super().__init__("localhost", **options)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout if isinstance(self.timeout, int | float) else None)
        self.sock.connect(self._socket_path)


class _UnixPool(HTTPConnectionPool):
    def __init__(self, socket_path: str) -> None:
        super().__init__("localhost")
        self._socket_path = socket_path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._socket_path, timeout=self.timeout.connect_timeout)


class _UnixAdapter(HTTPAdapter):
    """requests over a unix socket: the admin API need not listen on any network."""

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        host = request.url.partition("://")[2].partition("/")[0]
        return _UnixPool(unquote(host))

    def get_connection(self, url: Any, proxies: Any = None) -> Any:
        return _UnixPool(unquote(str(url).partition("://")[2].partition("/")[0]))

    def request_url(self, request: Any, proxies: Any) -> str:
        return str(request.path_url)
