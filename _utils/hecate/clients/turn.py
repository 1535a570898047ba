"""A TURN server, asked the one thing that tells whether it takes a secret: an allocation.

RFC 8489 (STUN) and RFC 8656 (TURN) over UDP; credentials as coturn's `use-auth-secret` wants them (TURN REST API):
username `expiry:name`, password base64(HMAC-SHA1(secret, username)). What was allocated is given back at once.
Retry rule: a lost datagram is sent again, after 0.5 s, 1 s, 2 s; the same transaction, so that nothing happens twice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct
import time

from hecate.errors import Faulty, Refused, Unreachable

COOKIE = 0x2112A442
ALLOCATE, REFRESH, SUCCESS, ERROR = 0x0003, 0x0004, 0x0100, 0x0110
USERNAME, INTEGRITY, CODE, LIFETIME, REALM, NONCE, TRANSPORT = 0x06, 0x08, 0x09, 0x0D, 0x14, 0x15, 0x19
UDP = struct.pack("!B3x", 17)
WAITS = (0.5, 1.0, 2.0)
STALE = 438  # the nonce is too old: once more with the new one


def accepts(host: str, port: int, secret: str, realm: str | None = None) -> bool:
    """Whether the server lets a client in whose credentials were made with `secret`.

    realm: the server's; None: what it says itself. Raises Unreachable, Faulty, and Refused for any other reason than
    the credentials.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as wire:
            wire.connect(address)
            return _allocates(wire, secret, realm)
    except OSError as err:
        raise Unreachable("turn", f"no answer from {host}:{port} ({err.strerror or type(err).__name__})") from err


def credentials(secret: str, name: str, seconds: int = 60) -> tuple[str, str]:
    """Username and password, good for so long."""
    username = f"{int(time.time()) + seconds}:{name}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


def _allocates(wire: socket.socket, secret: str, realm: str | None) -> bool:
    asked = [(TRANSPORT, UDP)]
    _, found = _exchange(wire, ALLOCATE, asked)
    if NONCE not in found:
        raise Faulty("turn", "the server asks for no credentials, so nothing tells which secret it takes")
    realm = realm or found[REALM].decode()
    username, password = credentials(secret, "hecate")
    key = hashlib.md5(f"{username}:{realm}:{password}".encode()).digest()
    for _ in range(2):
        nonce = found[NONCE]
        who = [(USERNAME, username.encode()), (REALM, realm.encode()), (NONCE, nonce)]
        kind, found = _exchange(wire, ALLOCATE, [*asked, *who], key)
        code = _code(found)
        # A server that was started anew in between takes its own nonces alone.
        if code not in (STALE, 401) or found.get(NONCE, nonce) == nonce:
            break
    if kind == ALLOCATE | SUCCESS:
        _exchange(wire, REFRESH, [(LIFETIME, struct.pack("!I", 0)), *who], key)
        return True
    if code == 401:
        return False
    raise Refused("turn", "the server allocates nothing, for another reason than the credentials", code=code)


def _exchange(
    wire: socket.socket, method: int, attributes: list[tuple[int, bytes]], key: bytes | None = None
) -> tuple[int, dict[int, bytes]]:
    """Kind and attributes of the answer to one request."""
    transaction = os.urandom(12)
    request = _message(method, transaction, attributes, key)
    for wait in WAITS:
        wire.send(request)
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            wire.settimeout(left)
            try:
                data = wire.recv(2048)
            except TimeoutError:
                break
            if len(data) >= 20 and data[8:20] == transaction:
                return struct.unpack("!H", data[:2])[0], _attributes(data[20:])
    raise Unreachable("turn", "no answer in time")


def _message(method: int, transaction: bytes, attributes: list[tuple[int, bytes]], key: bytes | None) -> bytes:
    body = b"".join(
        struct.pack("!HH", kind, len(value)) + value + b"\0" * (-len(value) % 4) for kind, value in attributes
    )
    if key is None:
        return _head(method, len(body), transaction) + body
    signed = _head(method, len(body) + 24, transaction) + body
    return signed + struct.pack("!HH", INTEGRITY, 20) + hmac.new(key, signed, hashlib.sha1).digest()


def _head(method: int, length: int, transaction: bytes) -> bytes:
    return struct.pack("!HHI", method, length, COOKIE) + transaction


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        kind, length = struct.unpack("!HH", data[:4])
        found.setdefault(kind, data[4 : 4 + length])
        data = data[4 + length + -length % 4 :]
    return found


def _code(found: dict[int, bytes]) -> int:
    value = found.get(CODE, b"")
    return (value[2] & 7) * 100 + value[3] if len(value) >= 4 else 0
