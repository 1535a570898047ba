"""Upstream web servers that answer what they received: one process, a listener for each address it stands in for.

    python -m lab.echo --port P --dir D

A control API on P opens listeners on demand; a listener's port stays with its address for as long as D lives:

    GET    /port?dial=10.0.0.5:3000   {"port": n}; an address that begins with https:// gets a TLS listener
    POST   /ports                     {"dials": [...]} -> {"ports": {dial: n}}
    GET    /dials                     {dial: n} of all that is open
    GET    /seen?dial=10.0.0.5:3000   the last 200 requests that arrived for it
    DELETE /seen                      forget them
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import datetime
import html
import json
import pathlib
import resource
import signal
import socket
import ssl
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from lab.ports import HOST, bound

REMEMBERED = 200
BODY_SHOWN = 65536
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{dial}</title>
<style>
 body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #223 }}
 h1 {{ font-weight: 600 }} table {{ border-collapse: collapse; width: 100%; font-size: .85rem }}
 td {{ border-top: 1px solid #dde; padding: .3rem .6rem .3rem 0; vertical-align: top; overflow-wrap: anywhere }}
 td:first-child {{ color: #667; white-space: nowrap }} pre {{ background: #f4f5f9; padding: .7rem; overflow: auto }}
</style>
<h1>{greeting}</h1>
<p>This page stands in for the upstream <strong>{dial}</strong>. It received:</p>
<pre>{method} {path}</pre><table>{rows}</table>{body}
</html>
"""


class Upstream:
    """One listener: it answers for one address, and remembers what arrived."""

    def __init__(self, dial: str) -> None:
        self.dial = dial
        self.seen: collections.deque[dict[str, Any]] = collections.deque(maxlen=REMEMBERED)

    def __call__(self, request: HTTPServerRequest) -> None:
        headers = {name: ", ".join(request.headers.get_list(name)) for name in request.headers}
        got = {"method": request.method or "", "path": request.uri or "", "headers": headers}
        self.seen.append(got)
        body = request.body[:BODY_SHOWN].decode("utf-8", "replace")
        if "text/html" in request.headers.get("Accept", ""):
            kind, text = "text/html; charset=utf-8", page(self.dial, got, body)
        else:
            kind, text = "application/json", json.dumps({"upstream": self.dial, **got, "body": body}, indent=1) + "\n"
        payload = text.encode()
        answer = HTTPHeaders({"Content-Type": kind, "Content-Length": str(len(payload)), "Server": "echo"})
        connection = request.connection
        if connection is None:
            return
        connection.write_headers(ResponseStartLine("HTTP/1.1", 200, "OK"), answer)
        if request.method != "HEAD":
            connection.write(payload)
        connection.finish()


def page(dial: str, got: dict[str, Any], body: str) -> str:
    """What a browser is shown; everything in it came from a client, so everything is escaped."""
    user = next((value for name, value in got["headers"].items() if name.lower() == "x-authentik-username"), "")
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in sorted(got["headers"].items())
    )
    return PAGE.format(
        dial=html.escape(dial),
        greeting=f"Hello, {html.escape(user)}" if user else "Hello",
        method=html.escape(got["method"]),
        path=html.escape(got["path"]),
        rows=rows,
        body=f"<pre>{html.escape(body)}</pre>" if body else "",
    )


class Echo:
    """All the listeners, and the file that keeps their ports over a restart."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.file = folder / "ports.json"
        self.upstreams: dict[str, Upstream] = {}
        self.ports: dict[str, int] = {}
        self._tls: ssl.SSLContext | None = None

    def restore(self) -> None:
        """Listen again where an earlier process listened."""
        if self.file.exists():
            for dial, port in json.loads(self.file.read_text()).items():
                with contextlib.suppress(OSError):
                    self._open(dial, _listening(int(port)))

    def port(self, dial: str) -> int:
        """The port of the listener for ``dial``, which is opened now if need be."""
        own = next((port for port in self.ports.values() if dial.endswith(f"{HOST}:{port}")), None)
        if own:  # One of ours already: a recorded pillar that comes back.
            return own
        if dial not in self.ports:
            self._open(dial, _listening(0))
        return self.ports[dial]

    def save(self) -> None:
        """Write down which port stands for what."""
        draft = self.file.with_suffix(".new")
        draft.write_text(json.dumps(self.ports))
        draft.replace(self.file)

    def _open(self, dial: str, listening: socket.socket) -> None:
        upstream = Upstream(dial)
        server = HTTPServer(upstream, ssl_options=self.tls() if dial.startswith("https://") else None)
        server.add_sockets([listening])
        self.upstreams[dial] = upstream
        self.ports[dial] = listening.getsockname()[1]

    def tls(self) -> ssl.SSLContext:
        """A self-signed certificate, as an appliance would have; made when first needed."""
        if self._tls is None:
            certificate = self.folder / "upstream.pem"
            certificate.write_bytes(self_signed("upstream.invalid"))
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        return self._tls


def _listening(port: int) -> socket.socket:
    """A listening socket on this port, or on a free one for 0."""
    if port:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
    else:
        listening, datagrams = bound()
        datagrams.close()
    listening.setblocking(False)
    listening.listen(512)
    return listening


def self_signed(name: str) -> bytes:
    """A key and a certificate for ``name`` that nobody vouches for, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


class _Control(web.RequestHandler):
    echo: Echo

    def initialize(self, echo: Echo) -> None:
        self.echo = echo

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"error": self._reason})


class _Port(_Control):
    def get(self) -> None:
        dial = self.get_query_argument("dial")
        known = dial in self.echo.ports
        port = self.echo.port(dial)
        if not known:
            self.echo.save()
        self.finish({"port": port})


class _Ports(_Control):
    def post(self) -> None:
        try:
            dials = json.loads(self.request.body)["dials"]
        except (ValueError, KeyError, TypeError):
            raise web.HTTPError(400, reason='send {"dials": [...]}') from None
        before = len(self.echo.ports)
        ports = {dial: self.echo.port(dial) for dial in dials if isinstance(dial, str)}
        if len(self.echo.ports) != before:
            self.echo.save()
        self.finish({"ports": ports})


class _Dials(_Control):
    def get(self) -> None:
        self.finish(dict(self.echo.ports))


class _Seen(_Control):
    def get(self) -> None:
        upstream = self.echo.upstreams.get(self.get_query_argument("dial"))
        if upstream is None:
            raise web.HTTPError(404, reason="no listener stands for this dial")
        self.finish(json.dumps(list(upstream.seen)))

    def delete(self) -> None:
        for upstream in self.echo.upstreams.values():
            upstream.seen.clear()
        self.set_status(204)


def keep(port: int) -> socket.socket:
    """Bind a port without listening: only a server of this user that shares ports, as Caddy does, can take it."""
    kept = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    kept.bind((HOST, port))
    return kept


async def serve(port: int, folder: pathlib.Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    echo = Echo(folder)
    echo.restore()
    handlers = [("/port", _Port), ("/ports", _Ports), ("/dials", _Dials), ("/seen", _Seen)]
    control = web.Application(
        [(path, handler, {"echo": echo}) for path, handler in handlers], log_function=lambda handler: None
    )
    control.listen(port, HOST)
    print(f"echo on http://{HOST}:{port}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.echo", description="Upstreams that answer what they received.")
    parser.add_argument("--port", type=int, required=True, help="of the control API")
    parser.add_argument("--dir", type=pathlib.Path, required=True, help="where the listeners' ports are kept")
    parser.add_argument("--keep", type=int, nargs="*", default=[], help="ports to hold for servers that come later")
    arguments = parser.parse_args()
    kept = [keep(port) for port in arguments.keep]
    # A listener per upstream and a connection per request: an estate of thousands needs more than the usual 1,024.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve(arguments.port, arguments.dir))
    for held in kept:
        held.close()


if __name__ == "__main__":
    main()
