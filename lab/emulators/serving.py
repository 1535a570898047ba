"""Serve an emulator over HTTP on loopback: in a thread for tests, for ever as a process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from lab.emulators.base import Emulator

HOST = "127.0.0.1"


class _Handler(WSGIRequestHandler):
    # Headers and body go out as two writes; without this the second waits 40 ms for the peer's delayed ACK.
    disable_nagle_algorithm = True

    def log(self, type: str, message: str, *args: Any) -> None:
        """Say nothing: paths and headers are for /_lab/calls, which leaves secrets out."""


def _server(app: Emulator, port: int) -> BaseWSGIServer:
    return make_server(HOST, port, app, threaded=True, request_handler=_Handler)


@contextlib.contextmanager
def running(app: Emulator, port: int = 0) -> Iterator[str]:
    """Serve ``app`` in a thread for as long as the block runs; yields its URL. Port 0 takes a free one."""
    server = _server(app, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.close()


def serve_forever(app: Emulator, port: int, pidfile: pathlib.Path | None = None) -> None:
    """Serve ``app`` until SIGTERM or SIGINT; the pidfile, written once it listens, goes with it."""
    server = _server(app, port)

    def stop(number: int, frame: FrameType | None) -> None:
        # shutdown() waits for the loop that this very thread runs: call it from another.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        if pidfile:
            pidfile.write_text(f"{os.getpid()}\n")
        print(f"{app.system} emulator on http://{HOST}:{server.server_port}", flush=True)
        server.serve_forever(0.1)
    finally:
        server.server_close()
        app.close()
        if pidfile:
            pidfile.unlink(missing_ok=True)
