"""The small HTTP server that takes authentik's deliveries.

It speaks plain HTTP and belongs on loopback or behind a Caddy. One request a connection, POST / alone:

204  passed on                 411  length missing
400  malformed                 413  too large
401  forged                    503  could not be passed on or remembered, or too many at once: send it again
404, 405  not POST /
408  not all there in time
409  replayed, or sent at another time

Nothing of a refused delivery is logged but where it came from and why it was refused.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from hecate.errors import HecateError
from hecate.events import LIMIT, Event, Forged, Malformed, Replayed, TooLarge, Untimely, Verifier

log = logging.getLogger(__name__)

Fire = Callable[[str, dict[str, Any]], bool]

STATUS: dict[type[HecateError], HTTPStatus] = {
    Malformed: HTTPStatus.BAD_REQUEST,
    Forged: HTTPStatus.UNAUTHORIZED,
    Untimely: HTTPStatus.CONFLICT,
    Replayed: HTTPStatus.CONFLICT,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


class Listener(ThreadingHTTPServer):
    """Listens from the moment it is made; `serve_forever` answers.

    port: 0 takes any; `server_address` tells which. fire: passes an event on by tag and data; False or any error
    means that it did not. clock: Unix time. patience: seconds that a request may take to arrive, as a whole.
    """

    daemon_threads = True
    AT_ONCE = 32
    request_queue_size = 128

    def __init__(
        self,
        address: str,
        port: int,
        verifier: Verifier,
        fire: Fire,
        clock: Callable[[], float] = time.time,
        patience: float = 10.0,
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.verifier, self.fire, self.clock, self.patience = verifier, fire, clock, patience
        self._places = threading.BoundedSemaphore(self.AT_ONCE)
        self._firing = threading.Lock()
        super().__init__((address, port), _Delivery)

    def server_bind(self) -> None:
        """Without HTTPServer's, which would ask the name servers for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            request.setblocking(False)
            request.send(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away; the default prints to stderr, with a traceback."""
        log.debug("a delivery from %s broke off", client_address[0], exc_info=True)

    def passed_on(self, event: Event) -> bool:
        try:
            with self._firing:  # Salt's event clients are not made for threads
                if self.fire(event.tag, event.data()):
                    return True
            why = "the event bus does not answer"
        except Exception as err:  # whatever it is, the event has not been passed on
            why = type(err).__name__
        log.error("event %s (%s) could not be fired: %s", event.id, event.name, why)
        self.verifier.take_back(event, self.clock())
        return False


class _No(Exception):
    """A request that holds no delivery."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class _Delivery(BaseHTTPRequestHandler):
    server: Listener
    server_version, sys_version = "hecate", ""
    late = False

    def setup(self) -> None:
        super().setup()
        # A timeout of the socket would begin anew with each byte.
        self.alarm = threading.Timer(self.server.patience, self._hear_no_more)
        self.alarm.daemon = True
        self.alarm.start()

    def finish(self) -> None:
        self.alarm.cancel()
        super().finish()

    def _hear_no_more(self) -> None:
        self.late = True
        try:
            self.connection.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # it has ended meanwhile

    def do_POST(self) -> None:
        try:
            event = self.server.verifier.verify(self._body(), self.server.clock())
            if not self.server.passed_on(event):
                raise _No(HTTPStatus.SERVICE_UNAVAILABLE, "Salt's event bus does not take it")
            self._answer(HTTPStatus.NO_CONTENT)
        except _No as no:
            self._refuse(no.status, no.why)
        except HecateError as err:
            self._refuse(STATUS.get(type(err), HTTPStatus.SERVICE_UNAVAILABLE), str(err))

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length") or []
        if self.path != "/":
            raise _No(HTTPStatus.NOT_FOUND, "POST / is all that there is")
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not _is_number(lengths[0]):
            raise _No(HTTPStatus.LENGTH_REQUIRED, "say its length, once")
        length = int(lengths[0])
        if length > LIMIT:
            raise _No(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {LIMIT} bytes")
        body = self.rfile.read(length)
        if len(body) < length:
            raise _No(HTTPStatus.BAD_REQUEST, "it ends before its length")
        return body

    def _elsewhere(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "POST / is all that there is")

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _elsewhere

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses: a request that is not HTTP."""
        self._refuse(HTTPStatus(code), "not a request that is understood here")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        if self.late:
            status, why = HTTPStatus.REQUEST_TIMEOUT, f"not all there within {self.server.patience:g} s"
        log.warning("a delivery from %s was refused (%d): %s", self.client_address[0], status, why)
        self._answer(status, why)

    def _answer(self, status: HTTPStatus, text: str = "") -> None:
        body = f"{text}\n".encode() if text else b""
        self.request_version = "HTTP/1.0"  # also for what said none, which would get no status line
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "POST")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what the client sent is not for the log."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
