"""A real BIND on loopback: one key, zones with dynamic update, one of them signed; and a wire that can be cut."""

from __future__ import annotations

import base64
import os
import secrets
import select
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rdatatype
import dns.tsig
import dns.update
import dns.xfr
import dns.zone
import pytest
from conftest import ROOT, free_port

BARE = """$TTL 600
@ SOA ns1.{zone}. admin.{zone}. 1 3600 900 604800 300
@ NS ns1.{zone}.
@ NS ns2.{zone}.
ns1 A 192.0.2.53
ns2 A 192.0.2.54
mail A 192.0.2.25
@ MX 10 mail.{zone}.
_acme-challenge TXT "somebody's proof"
"""
CONFIG = """
options {{
    directory "{folder}"; pid-file "{folder}/named.pid"; session-keyfile "{folder}/session.key";
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion no; dnssec-validation no; notify no; empty-zones-enable no; querylog no; max-journal-size unlimited;
}};
controls {{ }};
key "hecate" {{ algorithm hmac-sha256; secret "{secret}"; }};
key "looker" {{ algorithm hmac-sha256; secret "{other}"; }};
key "nobody" {{ algorithm hmac-sha256; secret "{other}"; }};
dnssec-policy "quick" {{ keys {{ csk lifetime unlimited algorithm ecdsap256sha256; }}; }};
"""
ZONE = """
zone "{zone}" {{
    type primary; file "{zone}.db"; {more}
    allow-transfer {{ key "hecate"; key "looker"; }}; update-policy {{ grant hecate zonesub ANY; }};
}};
"""
ZONES = {"estate.test": "", "other.test": "", "signed.test": 'dnssec-policy "quick"; inline-signing no;'}


@dataclass
class Bind:
    """port: of its listener. secret: of the key `hecate`, which may do all; `looker` may read, `nobody` nothing."""

    folder: Path
    port: int = field(default_factory=free_port)
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    other: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    def start(self) -> None:
        config = CONFIG.format(folder=self.folder, port=self.port, secret=self.secret, other=self.other)
        for zone, more in ZONES.items():
            (self.folder / f"{zone}.db").write_text(BARE.format(zone=zone))
            config += ZONE.format(zone=zone, more=more)
        (self.folder / "named.conf").write_text(config)
        command = [_binary(), "-g", "-4", "-n", "1", "-U", "1", "-c", str(self.folder / "named.conf")]
        with open(self.folder / "log", "wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
        until = time.monotonic() + 20
        while True:
            try:
                if all(self.rrsets(zone) for zone in ZONES):
                    return
            except (OSError, EOFError, dns.exception.DNSException):
                pass
            assert self._process.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def key(self) -> dns.tsig.Key:
        return dns.tsig.Key("hecate", self.secret, "hmac-sha256")

    def zone(self, name: str = "estate.test") -> dns.zone.Zone:
        found = dns.zone.Zone(dns.name.from_text(name), relativize=False)
        query, _ = dns.xfr.make_query(found, keyring=self.key)
        dns.query.inbound_xfr("127.0.0.1", found, query, port=self.port, timeout=5, lifetime=10)
        return found

    def rrsets(self, zone: str = "estate.test") -> list[str]:
        """All records but the SOA, whose serial counts every write, and signatures, which have a time in them."""
        aside = (dns.rdatatype.SOA, dns.rdatatype.RRSIG)
        return sorted(
            f"{name.to_text()} {rdataset.ttl} {dns.rdatatype.to_text(rdataset.rdtype)} {rdata.to_text()}"
            for name, rdataset in self.zone(zone).iterate_rdatasets()
            for rdata in rdataset
            if rdataset.rdtype not in aside
        )

    def update(self, *texts: str, zone: str = "estate.test") -> None:
        """Somebody else's write: `add NAME TTL TYPE VALUE` or `delete NAME [TYPE [VALUE]]`."""
        message = dns.update.UpdateMessage(zone, keyring=self.key)
        for text in texts:
            verb, name, *rest = text.split(" ", 4 if text.startswith("add") else 3)
            getattr(message, verb)(
                name, *(int(part) if n == 0 and verb == "add" else part for n, part in enumerate(rest))
            )
        answer = dns.query.tcp(message, "127.0.0.1", 5, self.port)
        assert answer.rcode() == 0, answer

    def reset(self) -> None:
        """Each zone as it was at the start, but for what the server keeps there itself."""
        for zone in ZONES:
            found = self.zone(zone)
            start = dns.zone.from_text(BARE.format(zone=zone), zone, relativize=False)
            if zone == "signed.test" and len(found.nodes) == len(start.nodes):
                continue
            message = dns.update.UpdateMessage(zone, keyring=self.key)
            for name in {*found.nodes, *start.nodes}:
                if name != found.origin:
                    message.delete(name)
            message.delete("@", "MX")
            for kind in ("A", "AAAA", "TXT", "CAA", "HTTPS", "SVCB", "HINFO", "RP", "SRV", "TLSA", "PTR"):
                message.delete("@", kind)
            for name, rdataset in start.iterate_rdatasets():
                if rdataset.rdtype != dns.rdatatype.SOA:
                    message.add(name, rdataset)
            answer = dns.query.tcp(message, "127.0.0.1", 5, self.port)
            assert answer.rcode() == 0, answer


class Wire:
    """A relay to the server that can be cut: only `cut` octets of a transfer go through, all if None.

    loses: answers of updates are swallowed, the updates themselves arrive. drops: neither arrives.
    """

    def __init__(self, port: int) -> None:
        self.cut: int | None = None
        self.loses = self.drops = 0
        self.updates = self.transfers = 0
        self._to = port
        wire = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire._relay(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler, bind_and_activate=True)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _relay(self, client: socket.socket) -> None:
        request = _whole(client)
        if request is None:
            return
        is_update = request[4] >> 3 & 15 == dns.opcode.UPDATE
        self.updates += is_update
        self.transfers += not is_update
        if is_update and self.drops:
            self.drops -= 1
            return
        with socket.create_connection(("127.0.0.1", self._to), timeout=5) as server:
            server.sendall(request)
            if is_update and self.loses:
                self.loses -= 1
                _whole(server)
                return
            left = None if is_update else self.cut
            while left is None or left > 0:
                ready, _, _ = select.select([client, server], [], [], 5)
                part = server.recv(65536 if left is None else left) if ready == [server] else b""
                if not part:  # somebody hung up
                    return
                client.sendall(part)
                left = None if left is None else left - len(part)


def _whole(peer: socket.socket) -> bytes | None:
    """One message with its length before it."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        part = peer.recv(65536)
        if not part:
            return None
        data += part
    return data


def _binary() -> str:
    found = shutil.which("named")
    if found:
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hecate"
    binary = cache / "usr" / "sbin" / "named"
    if not binary.exists():
        done = subprocess.run([str(ROOT / "tools" / "fetch-bind"), str(cache)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"for want of a tool: {done.stderr.strip()[-200:]}")
    return str(binary)
