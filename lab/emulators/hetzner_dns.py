"""The authoritative DNS server of the Hetzner emulator: UDP and TCP on loopback, from what was published.

It answers as Hetzner's name servers do: AA is set, nothing outside its zones is answered (REFUSED), an absent name is
NXDOMAIN and an absent type NODATA, both with the SOA, a CNAME is followed as long as it stays inside.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from dnslib import QTYPE, RCODE, RD, RR, DNSLabel, DNSRecord  # type: ignore[import-untyped,unused-ignore]
from dnslib.server import (  # type: ignore[import-untyped,unused-ignore]
    BaseResolver,
    DNSHandler,
    DNSLogger,
    DNSServer,
)

from lab.emulators import hetzner_records as records

HOST = "127.0.0.1"

Sets = dict[str, tuple[int, list[str]]]
"""The rrsets of one name: type -> (ttl in seconds, values)."""

Published = dict[str, dict[str, Sets]]
"""What the name servers hold: zone -> name relative to it ("@" is the apex) -> rrsets."""


class _Handler(DNSHandler):  # type: ignore[misc,unused-ignore]
    udplen = 1232


class Zones(BaseResolver):  # type: ignore[misc,unused-ignore]
    """Answers questions from ``read``, called once a question with the means to look (it holds the lock meanwhile)."""

    def __init__(self, read: Callable[[Callable[[Published], None]], None]) -> None:
        self._read = read

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        """dnslib's entry point."""
        reply = request.reply(aa=1, ra=0)
        name = str(request.q.qname).rstrip(".").lower()
        self._read(lambda published: _answer(published, name, QTYPE[request.q.qtype], reply))
        return reply


def _answer(published: Published, name: str, kind: str, reply: DNSRecord) -> None:
    zone = _zone_of(published, name)
    if zone is None:
        reply.header.aa = 0
        reply.header.rcode = RCODE.REFUSED
        return
    for _ in range(16):  # a loop of CNAMEs ends here
        names = published[zone]
        relative = _relative(name, zone)
        if _refer(names, zone, relative, kind, reply):
            return
        sets = _sets_at(names, relative)
        target = None
        if sets and kind != "CNAME" and "CNAME" in sets and kind != "ANY":
            target = _add(reply.add_answer, zone, name, "CNAME", sets)
        for found in sorted(sets or {}) if kind == "ANY" else [kind] if sets and kind in sets else []:
            _add(reply.add_answer, zone, name, found, sets or {})
        if target is None:
            break
        name, zone = target, _zone_of(published, target)
        if zone is None:  # the asker follows from here
            return
    else:
        return
    if sets is None:
        reply.header.rcode = RCODE.NXDOMAIN
    if sets is None or (kind != "ANY" and kind not in sets):
        _add(reply.add_auth, zone, zone, "SOA", names["@"])


def _refer(names: dict[str, Sets], zone: str, relative: str, kind: str, reply: DNSRecord) -> bool:
    """Point to a child zone's name servers, without AA, when the name is at or below a delegation."""
    parts = [] if relative == "@" else relative.split(".")
    for depth in range(len(parts) - 1, -1, -1):
        cut = ".".join(parts[depth:])
        if "NS" in names.get(cut, {}) and not (depth == 0 and kind == "DS"):
            reply.header.aa = 0
            _add(reply.add_auth, zone, f"{cut}.{zone}", "NS", names[cut])
            return True
    return False


def _zone_of(published: Published, name: str) -> str | None:
    fitting = [zone for zone in published if name == zone or name.endswith("." + zone)]
    return max(fitting, key=len, default=None)


def _relative(name: str, zone: str) -> str:
    return "@" if name == zone else name.removesuffix("." + zone)


def _sets_at(names: dict[str, Sets], relative: str) -> Sets | None:
    """A name's rrsets; {} for a name that only has others below it; its wildcard's; None where there is nothing."""
    if names.get(relative):
        return names[relative]
    if _exists(names, relative):
        return {}
    parts = relative.split(".")
    for depth in range(1, len(parts) + 1):
        encloser = ".".join(parts[depth:])
        wildcard = f"*.{encloser}" if encloser else "*"
        if names.get(wildcard):
            return names[wildcard]
        if encloser and _exists(names, encloser):
            return None  # the closest encloser has no wildcard, and one further up doesn't count
    return None


def _exists(names: dict[str, Sets], relative: str) -> bool:
    return any(sets and (name == relative or name.endswith("." + relative)) for name, sets in names.items())


def _add(put: Callable[[RR], None], zone: str, name: str, kind: str, sets: Sets) -> str | None:
    """Put an rrset into a section; returns the name that its last value ends in, for CNAME."""
    ttl, values = sets[kind]
    target = None
    for value in values:
        rdata = records.rdata(kind, value, zone)
        put(RR(DNSLabel(name), getattr(QTYPE, kind), ttl=ttl, rdata=RD(rdata.to_wire())))
        target = str(getattr(rdata, "target", "")).rstrip(".").lower() or None
    return target


@contextlib.contextmanager
def dns_running(resolver: Zones, port: int = 0) -> Iterator[int]:
    """Serve over UDP and TCP on one port for as long as the block runs; yields the port. 0 takes a free one."""
    quiet = DNSLogger(logf=lambda line: None)
    tcp = DNSServer(resolver, HOST, port, tcp=True, logger=quiet, handler=_Handler)
    port = tcp.server.server_address[1]
    udp = DNSServer(resolver, HOST, port, logger=quiet, handler=_Handler)
    threads = [threading.Thread(target=s.server.serve_forever, args=(0.02,), daemon=True) for s in (tcp, udp)]
    for thread in threads:
        thread.start()
    try:
        yield port
    finally:
        for server, thread in zip((tcp, udp), threads, strict=True):
            server.server.shutdown()
            thread.join()
            server.server.server_close()
