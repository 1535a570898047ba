"""Questions to name servers themselves, past every cache (RFC 1035), through dnspython.

One question, one answer, at most `timeout` seconds each; UDP first, TCP for what doesn't fit. Nothing is
tried again here: who waits for a change asks again anyway.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from hecate.errors import Unreachable


@dataclass(frozen=True)
class Answer:
    """What one server says of one set. values: as in a zonefile, empty for none. rcode: "NOERROR" and the like.

    referral: it points to the name servers of a zone below instead.
    """

    values: tuple[str, ...]
    ttl: int | None
    rcode: str
    referral: bool = False


def ask(server: str, name: str, kind: str, timeout: float = 2.0) -> Answer:
    """server: host:port. Raises Unreachable when no answer comes, or one that makes no sense."""
    host, _, port = server.rpartition(":")
    try:
        wanted, rdtype = dns.name.from_text(name), dns.rdatatype.from_text(kind)
        query = dns.message.make_query(wanted, rdtype)
        query.flags &= ~dns.flags.RD
        reply, _ = dns.query.udp_with_fallback(query, _address(host.strip("[]")), timeout=timeout, port=int(port))
    except (dns.exception.DNSException, OSError, EOFError) as err:
        raise Unreachable("nameserver", f"{server} does not answer ({type(err).__name__})") from err
    referral = not reply.answer and any(row.rdtype == dns.rdatatype.NS for row in reply.authority)
    sections = [*reply.answer, *(reply.authority if kind == "NS" else ())]
    found = [row for row in sections if row.name == wanted and row.rdtype == rdtype]
    values = tuple(sorted(item.to_text() for row in found for item in row))
    return Answer(values, found[0].ttl if found else None, dns.rcode.to_text(reply.rcode()), referral and not values)


def delegated(zone: str, timeout: float = 2.0) -> dict[str, tuple[str, ...]]:
    """The name servers that the world asks about a zone: {name: addresses as host:port}; none when nobody knows it."""
    try:
        resolver = dns.resolver.Resolver()
        resolver.lifetime = timeout
        names = sorted(str(row.target) for row in resolver.resolve(f"{zone}.", "NS"))
    except (dns.exception.DNSException, OSError):
        return {}
    return {name: _addresses(name, timeout) for name in names}


def _addresses(name: str, timeout: float) -> tuple[str, ...]:
    """One address a server is enough; IPv6 where there is nothing else."""
    resolver = dns.resolver.Resolver()
    resolver.lifetime = timeout
    for kind, form in (("A", "{}:53"), ("AAAA", "[{}]:53")):
        try:
            return tuple(sorted(form.format(row) for row in resolver.resolve(name, kind)))[:1]
        except (dns.exception.DNSException, OSError):
            continue
    return ()


def _address(host: str) -> str:
    """dnspython asks addresses only."""
    return str(socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)[0][4][0])
