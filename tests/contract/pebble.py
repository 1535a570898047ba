"""A real ACME server on loopback: pebble, which validates against the Caddy under test as a public CA would."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, RealCaddy, free_port
from dnslib import QTYPE, RR, A, DNSRecord  # type: ignore[import-untyped,unused-ignore]
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer  # type: ignore[import-untyped,unused-ignore]

from contract.authority import Authority


@dataclass
class Pebble:
    """directory: its URL. ca: PEM file with the root of its own HTTPS. log: what it did."""

    directory: str
    ca: Path
    root: str
    log: Path


class Everywhere(BaseResolver):  # type: ignore[misc,unused-ignore]
    """Each name's only address is 127.0.0.1; of other types there is nothing, CAA among them."""

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> Any:
        reply = request.reply()
        if request.q.qtype == QTYPE.A:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("127.0.0.1"), ttl=1))
        return reply


def _binary() -> str:
    found = shutil.which("pebble")
    if found:
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hecate"
    binary = cache / "usr" / "bin" / "pebble"
    if not binary.exists():
        done = subprocess.run([str(ROOT / "tools" / "fetch-pebble"), str(cache)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"for want of a tool: {done.stderr.strip()[-200:]}")
    return str(binary)


@pytest.fixture(scope="session")
def pebble(caddy_process: RealCaddy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    """Pebble that looks for proofs where this session's Caddy listens."""
    binary, folder = _binary(), tmp_path_factory.mktemp("pebble")
    names = DNSServer(Everywhere(), address="127.0.0.1", port=0, logger=DNSLogger(logf=lambda _: None))
    names.start_thread()
    own = Authority("pebble's own https").write(folder / "ca.pem")
    certificate, key = own.issue(folder / "own", "127.0.0.1")
    acme, management = free_port(), free_port()
    config = {
        "listenAddress": f"127.0.0.1:{acme}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(certificate),
        "privateKey": str(key),
        "httpPort": caddy_process.http,
        "tlsPort": caddy_process.https,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    dns = f"127.0.0.1:{names.server.server_address[1]}"
    command = [binary, "-config", str(folder / "pebble.json"), "-dnsserver", dns, "-strict"]
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"], **quick})
    try:
        root = _await(f"https://127.0.0.1:{management}/roots/0", folder / "ca.pem", process, folder / "log")
        yield Pebble(f"https://127.0.0.1:{acme}/dir", folder / "ca.pem", root, folder / "log")
    finally:
        process.terminate()
        process.wait(10)
        names.stop()


def _await(url: str, ca: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """The root that pebble issues under, once it answers."""
    trust, until = ssl.create_default_context(cafile=str(ca)), time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5, context=trust) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.02)
