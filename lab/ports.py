"""Free ports on loopback, held until just before the service that will listen on them starts."""

from __future__ import annotations

import pathlib
import random
import socket
import threading

HOST = "127.0.0.1"
LOWEST = 10240


def bound() -> list[socket.socket]:
    """A TCP and a UDP socket bound to one free port of loopback.

    The port lies below the range that the kernel takes for outgoing connections: a port given up for a service can
    then be lost to another listener only, not to any client that happens to connect somewhere.
    """
    ceiling = _first_ephemeral()
    for _ in range(200):
        port = random.randrange(LOWEST, ceiling) if ceiling > LOWEST + 1000 else 0
        found = _try(port)
        if found:
            return found
    raise OSError(f"no free port on {HOST} in 200 tries")


def _try(port: int) -> list[socket.socket]:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        # No SO_REUSEADDR: a port that still has connections in TIME_WAIT would be refused to some services.
        tcp.bind((HOST, port))
        udp.bind((HOST, tcp.getsockname()[1]))
    except OSError:
        tcp.close()
        udp.close()
        return []
    return [tcp, udp]


def _first_ephemeral() -> int:
    try:
        return int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


class Reservations:
    """Ports by name; each stays taken, by open sockets of ours, until it is released to its service."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}
        self._lock = threading.Lock()

    def hold(self, name: str) -> int:
        """Take a free port under ``name``, in place of the one it had."""
        sockets = bound()
        with self._lock:
            self._close(name)
            self._held[name] = sockets
        return int(sockets[0].getsockname()[1])

    def release(self, name: str) -> None:
        """Let go of the port of ``name``: its service is about to bind it."""
        with self._lock:
            self._close(name)

    def release_all(self) -> None:
        """Let go of every port that is still held."""
        with self._lock:
            for name in list(self._held):
                self._close(name)

    def _close(self, name: str) -> None:
        for held in self._held.pop(name, []):
            held.close()
