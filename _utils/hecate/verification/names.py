"""Each record at its name server (RFC 1035), or as the machine's own resolver finds it."""

from __future__ import annotations

import socket

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from hecate import rdata
from hecate.verification.probe import Probe, ProbeFailed
from hecate.verification.questions import Record
from hecate.verification.visiting import told


def look_up(record: Record, timeout: float) -> Probe:
    what = f"{record.kind} "
    return told("dns", record.name, record.server or "the resolver", lambda: what + _looked_up(record, timeout))


def _looked_up(record: Record, timeout: float) -> str:
    try:
        seen = _at(record, timeout) if record.server else _resolved(record, timeout)
    except dns.exception.DNSException as err:
        raise ProbeFailed(f"{record.kind}: {_reason(err)}") from err
    answered = tuple(sorted(rdata.canonical(record.kind, value) for value in seen))
    if answered != record.values:
        raise ProbeFailed(f"answers {', '.join(answered) or 'nothing'}; wanted {', '.join(record.values)}")
    return ", ".join(answered)


def _at(record: Record, timeout: float) -> list[str]:
    """UDP first, TCP for what doesn't fit: an answer that was cut is not compared."""
    host, _, port = record.server.rpartition(":")
    address = str(socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_DGRAM)[0][4][0])
    query = dns.message.make_query(record.host, record.kind)
    reply, _ = dns.query.udp_with_fallback(query, address, timeout=timeout, port=int(port))
    rcode = dns.rcode.to_text(reply.rcode())
    if rcode != "NOERROR":
        raise ProbeFailed(f"{record.kind}: the name server answers {rcode}")
    if reply.flags & dns.flags.TC:
        raise ProbeFailed(f"{record.kind}: the answer is cut off, over TCP too")
    wanted = dns.rdatatype.from_text(record.kind)
    return [item.to_text() for row in reply.answer if row.rdtype == wanted for item in row]


def _resolved(record: Record, timeout: float) -> list[str]:
    resolver = dns.resolver.Resolver()
    resolver.lifetime = timeout
    return [item.to_text() for item in resolver.resolve(record.host, record.kind)]


def _reason(err: dns.exception.DNSException) -> str:
    if isinstance(err, dns.exception.Timeout):
        return "no answer in time"
    if isinstance(err, dns.exception.FormError | dns.exception.UnexpectedEnd):
        return "the answer makes no sense, or broke off"
    return str(err) or type(err).__name__
