"""A URL behind basic_auth, asked at this machine's own listener: does a password open it?

RFC 7617. Retry rule: once where the connection ends without an answer (RFC 9110, 9.2.2), as Caddy's do now and then in
the moment of a reload. The certificate is not verified: it is this edge's own, over its own network.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import urlsplit

from hecate.errors import HecateError

REFUSED = 401


def opens(address: tuple[str, int], url: str, user: str, password: str, *, tls: bool, timeout: float = 10) -> bool:
    """Whether `address` lets that account in at `url`. Raises HecateError where that can't be told."""
    if _status(address, url, {}, tls, timeout) != REFUSED:
        raise HecateError(f"{url} wants no password, so nothing tells which one is good; name another URL")
    said = base64.b64encode(f"{user}:{password}".encode()).decode()
    status = _status(address, url, {"Authorization": f"Basic {said}"}, tls, timeout)
    if status >= 500:
        raise HecateError(f"{url} answered {status}; whether the password is good is not known")
    return status != REFUSED


def _status(address: tuple[str, int], url: str, headers: dict[str, str], tls: bool, timeout: float) -> int:
    try:
        try:
            return _asked(address, url, headers, tls, timeout)
        except ConnectionResetError:  # http.client.RemoteDisconnected is one of these
            return _asked(address, url, headers, tls, timeout)
    except (OSError, http.client.HTTPException) as err:
        raise HecateError(f"{url}: the edge gave no answer ({type(err).__name__})") from None


def _asked(address: tuple[str, int], url: str, headers: dict[str, str], tls: bool, timeout: float) -> int:
    parts = urlsplit(url)
    connection = _Own(address, parts.hostname or "", tls, timeout)
    try:
        connection.request("GET", parts.path or "/", headers={"Host": parts.netloc, **headers})
        return connection.getresponse().status
    finally:
        connection.close()


class _Own(http.client.HTTPConnection):
    """To an address of ours, by the name that the URL has."""

    def __init__(self, address: tuple[str, int], name: str, tls: bool, timeout: float) -> None:
        super().__init__(*address, timeout=timeout)
        self._name, self._tls = name, tls

    def connect(self) -> None:
        super().connect()
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=self._name)
