"""Fault switches: what an emulator does wrong on purpose, to which calls, and how often."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

KINDS = frozenset({"status", "echo", "delay", "cut", "lost-answer", "half-body", "rate-limit", "stale"})


@dataclasses.dataclass(frozen=True)
class Fault:
    """One switch.

    method: an HTTP method; "" is any; "WRITE" is any but GET, HEAD and OPTIONS
    path: a regular expression, searched in the path
    times: how many matching calls it hits; None is for ever
    skip: how many matching calls pass first
    kind: "status" answers ``status`` with ``body`` instead of acting; "echo" answers ``status`` with the whole request,
        its secrets too, as a careless proxy does; "delay" sleeps ``seconds``, then acts; "cut"
        closes the connection before acting; "lost-answer" acts, then closes it without an answer; "half-body" acts,
        then sends the Content-Length of the whole and half of it; "rate-limit" answers the system's own 429; "stale"
        answers reads from the state as it was when the fault was set. A system may have further kinds; those called
        "action-..." hit writes only.
    """

    method: str = ""
    path: str = ".*"
    times: int | None = 1
    skip: int = 0
    kind: str = "status"
    status: int = 500
    body: Any = None
    seconds: float = 0.0

    def matches(self, method: str, path: str) -> bool:
        """Whether a call of ``method`` on ``path`` is one of those that it is about."""
        is_read = method in ("GET", "HEAD", "OPTIONS")
        if (self.kind == "stale" and not is_read) or (self.kind.startswith("action-") and is_read):
            return False
        right = not is_read if self.method == "WRITE" else self.method in ("", method)
        return right and re.search(self.path, path) is not None


@dataclasses.dataclass
class _Armed:
    fault: Fault
    stale: Any
    seen: int = 0
    hit: int = 0


class FaultBox:
    """The switches that are set, in order; the first that still has something to do takes the call."""

    def __init__(self, further_kinds: frozenset[str] = frozenset()) -> None:
        self._kinds = KINDS | further_kinds
        self._armed: list[_Armed] = []

    def replace(self, faults: Iterable[Fault], snapshot: Callable[[], Any]) -> None:
        """Set these switches in place of all others; ValueError for a kind or an expression that can't be."""
        armed = []
        for fault in faults:
            if fault.kind not in self._kinds:
                raise ValueError(f"no such kind of fault: {fault.kind!r}; there are {sorted(self._kinds)}")
            try:
                re.compile(fault.path)
            except re.error as error:
                raise ValueError(f"not a regular expression: {fault.path!r}: {error}") from error
            armed.append(_Armed(fault, snapshot() if fault.kind == "stale" else None))
        self._armed = armed

    def take(self, method: str, path: str) -> tuple[Fault | None, Any]:
        """The fault that this call meets, with the stale state that it keeps; counts it as used."""
        for armed in self._armed:
            fault = armed.fault
            if not fault.matches(method, path) or (fault.times is not None and armed.hit >= fault.times):
                continue
            armed.seen += 1
            if armed.seen > fault.skip:
                armed.hit += 1
                return fault, armed.stale
        return None, None

    def as_list(self) -> list[dict[str, Any]]:
        """The switches as JSON, with how many calls each saw and hit."""
        return [{**dataclasses.asdict(a.fault), "seen": a.seen, "hit": a.hit} for a in self._armed]


def echo_of(request: Request, status: int) -> Response:
    """The request itself as an error: method, URL, headers and body, in the places where systems put their words."""
    headers = dict(request.headers.items())
    body = request.get_data(as_text=True)
    dump = f"{request.method} {request.url}\n" + "\n".join(f"{k}: {v}" for k, v in headers.items()) + f"\n\n{body}"
    told = {
        "detail": dump,
        "non_field_errors": [dump],
        "errors": [dump],
        "error": {"code": "invalid_input", "message": dump, "details": {"headers": headers, "body": body}},
    }
    carried = request.headers.get("Authorization") or request.headers.get("X-Nomad-Token") or "none"
    ids = dict.fromkeys(("X-Request-Id", "X-Correlation-ID", "X-authentik-Id"), carried)
    return Response(json.dumps(told), status=status, mimetype="application/json", headers=ids)


def cut_socket(environ: WSGIEnvironment) -> ConnectionError:
    """Close the caller's connection, and return what to raise so that the server sends nothing and says nothing."""
    connection = environ.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):  # the caller was quicker
            connection.shutdown(socket.SHUT_RDWR)
    return ConnectionAbortedError("cut by a fault switch")


def half_of(response: Response, environ: WSGIEnvironment) -> Response:
    """The same answer with the Content-Length of the whole, and a body that stops in the middle."""
    whole = response.get_data()

    def body() -> Iterator[bytes]:
        yield whole[: max(1, len(whole) // 2)]
        raise cut_socket(environ)

    headers = response.headers.copy()
    headers["Content-Length"] = str(max(len(whole), 2))
    return Response(body(), status=response.status, headers=headers)
