"""One exchange over one connection, with an end: whatever a server does, it takes no longer than it may in all."""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hecate.verification.probe import ProbeFailed

READ = 65536  # octets of a body that are looked at
CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError)
LATE = "no whole answer in time"
OLDER = {"1.2": ssl.TLSVersion.TLSv1_1, "1.3": ssl.TLSVersion.TLSv1_2}
"""The newest version of TLS below a least one."""


@dataclass(frozen=True)
class Answer:
    """headers: lower-case name -> value, several joined by commas. cookies: each Set-Cookie as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()

    @property
    def location(self) -> str:
        return self.headers.get("location", "")

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class Connection:
    """To one address; use it as a context manager. until: of time.monotonic, when all of it has to be over."""

    def __init__(self, address: str, port: int, until: float) -> None:
        self._until = until
        self._sock: socket.socket = socket.create_connection((address.strip("[]"), port), timeout=_left(until))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def secure(self, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
        """Raises ssl.SSLError for a certificate that is not good for `host`, and for a version that is not spoken."""
        self._sock.setblocking(False)
        channel = context.wrap_socket(
            self._sock, server_hostname=host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self._sock = channel
        while True:
            try:
                channel.do_handshake()
                return channel
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            ready = select.poll()  # select.select knows no descriptor above 1023, and a minion may have more
            ready.register(channel, wanted)
            ready.poll(1000 * _left(self._until))

    def ask(
        self, host: str, path: str, method: str = "GET", body: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Raises OSError, HTTPException, or ProbeFailed for an answer that breaks off."""
        connection = http.client.HTTPConnection(host)
        connection.auto_open = 0  # a connection that is over must not be replaced by one to who knows whom
        connection.sock = _Stream(self._sock, self._until)
        known = {"Host": host, "User-Agent": "hecate-verify", **(headers or {})}
        connection.request(method, path, body.encode() or None, known)
        response = connection.getresponse()
        read = b""
        while len(read) < READ and (part := response.read(READ - len(read))):
            read += part
        if len(read) < READ and response.length:
            raise ProbeFailed(f"the answer broke off after {len(read)} of {len(read) + response.length} octets")
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, found, read, tuple(response.headers.get_all("Set-Cookie") or ()))


class _Stream:
    """What http.client wants of a socket, and each read and write within the time that is left."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._sock, self._until))

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left(self._until))
        self._sock.sendall(data)

    def close(self) -> None:
        """Whoever opened the connection closes it."""


class _Reader(io.RawIOBase):
    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock, self._until = sock, until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(_left(self._until))
        return self._sock.recv_into(buffer)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError(LATE)
    return left


def trusting(pem: str) -> ssl.SSLContext:
    """The public roots, and these."""
    context = ssl.create_default_context()
    if pem:
        context.load_verify_locations(cadata=pem)
    return context


def older(least: str) -> ssl.SSLContext | None:
    """Speaks only what is older than `least`, with anybody; None where this machine's OpenSSL no longer can."""
    version = OLDER[least]
    if version is ssl.TLSVersion.TLSv1_1 and not ssl.HAS_TLSv1_1:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def reason(err: Exception) -> str:
    """Why an exchange failed, in words for whoever has to mend it."""
    if isinstance(err, ssl.SSLCertVerificationError):
        said = err.verify_message.rstrip(".") or "is not good"
        return f"certificate: {said[0].lower()}{said[1:]}"
    if isinstance(err, CUT):
        return "the connection was cut"
    if isinstance(err, ssl.SSLError) and err.reason:
        said = err.reason.lower().replace("_", " ")
        return f"TLS: {said}" + ("; has the edge a certificate for this name?" if "internal error" in said else "")
    if isinstance(err, http.client.IncompleteRead):
        return f"the answer broke off after {len(err.partial)} octets"
    if isinstance(err, TimeoutError):
        return str(err) if str(err) and "timed out" not in str(err) else LATE
    if isinstance(err, ConnectionRefusedError):
        return "refuses connections"
    return str(err) or type(err).__name__
