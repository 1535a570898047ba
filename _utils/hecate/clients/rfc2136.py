"""A name server that takes dynamic updates (RFC 2136) and gives whole zones (AXFR, RFC 5936).

Both are signed with TSIG (RFC 8945). Any server that speaks these will do: BIND, Knot, PowerDNS... What is added
to dnspython here: typed errors, and a rule for what is tried again.
"""

from __future__ import annotations

import binascii
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import dns.update
import dns.xfr
import dns.zone

from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound, Refused, SecretUnavailable, Stale, Unreachable

SYSTEM = "rfc2136"
PAUSES = (1.0, 4.0)
T = TypeVar("T")

LOST_RACE = (dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN)
KEY_REFUSED = "the server doesn't accept the signature; are name, secret and algorithm of the key the server's?"
PEERS: dict[type[dns.exception.DNSException], str] = {
    dns.tsig.PeerBadTime: "the server's clock and this one's differ too much for a signature; set them right",
    dns.tsig.PeerBadKey: KEY_REFUSED,
    dns.tsig.PeerBadSignature: KEY_REFUSED,
    dns.tsig.PeerBadTruncation: KEY_REFUSED,
}


class Rfc2136Client:
    """One server and one key. server: host:port. secret: base64. timeout: seconds a message, whole transfers included.

    Everything goes over TCP: a transfer must, and an update's answer can't get lost alone on the way.
    Retry rule: transfers are repeated twice when there was no answer, half of one, or SERVFAIL. Updates
    are sent once; whether one arrived whose answer did not is for the caller to look at.
    """

    def __init__(
        self,
        server: str,
        key: str,
        secret: str,
        *,
        algorithm: str = "hmac-sha256",
        timeout: float = 10.0,
        mask: Callable[[str], str] = str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        host, _, port = server.rpartition(":")
        self.server, self._host, self._port = server, host.strip("[]"), int(port)
        self._timeout, self._mask, self._sleep = timeout, mask, sleep
        self._name = dns.name.from_text(key)
        try:
            self._key = dns.tsig.Key(self._name, secret, algorithm)
        except (binascii.Error, ValueError):
            raise SecretUnavailable(f"the secret of the TSIG key {key} is not base64") from None

    def transfer(self, zone: str) -> dns.zone.Zone:
        """The whole zone, at one moment. Raises NotFound only when the server says, signed, that it hasn't the zone."""
        for pause in (*PAUSES, None):
            try:
                return self._transfer(zone)
            except ApiFailure as err:
                if not err.retryable or pause is None:
                    raise
                self._sleep(pause)
        raise AssertionError("unreachable")

    def update(self, message: dns.update.UpdateMessage, zone: str) -> None:
        """Send one message, which the server does wholly or not at all (RFC 2136, 3).

        Raises Stale where a prerequisite didn't hold, Unreachable where it isn't known what became of it.
        """
        message.use_tsig(self._key)
        with self._typed(zone):
            answer = dns.query.tcp(message, self._address(), self._timeout, self._port)
            code = answer.rcode()
            if code != dns.rcode.NOERROR:
                raise self._refusal(code, zone, answer.had_tsig)
            if not answer.had_tsig:
                raise Faulty(SYSTEM, f"{self.server} answered without a signature; nothing says that it was the server")

    def _transfer(self, zone: str) -> dns.zone.Zone:
        found = dns.zone.Zone(dns.name.from_text(zone), relativize=False)
        query, _ = dns.xfr.make_query(found, keyring=self._key, use_edns=False)
        with self._typed(zone):
            try:
                dns.query.inbound_xfr(
                    self._address(),
                    found,
                    query,
                    port=self._port,
                    timeout=self._timeout,
                    lifetime=self._timeout * 6,
                )
            except dns.xfr.TransferError as err:
                raise self._refusal(err.rcode, zone, True) from err
        return found

    def _address(self) -> str:
        return str(socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0][4][0])

    def _refusal(self, code: dns.rcode.Rcode, zone: str, signed: bool) -> ApiFailure:
        name = dns.rcode.to_text(code)
        if code in LOST_RACE:
            return Stale(SYSTEM, f"{zone}: somebody else changed it since it was read", code=name)
        if code == dns.rcode.NOTAUTH and signed:
            return NotFound(SYSTEM, f"{self.server} is not the primary of a zone {zone}", code=name)
        if code in (dns.rcode.REFUSED, dns.rcode.NOTAUTH):
            why = (
                f"{zone}: {self.server} refuses; it has no such zone, or doesn't let the key {self._name} do this there"
            )
            return NotAuthorised(SYSTEM, f"{why} (BIND: allow-transfer, update-policy)", code=name)
        if code == dns.rcode.SERVFAIL:
            return Faulty(SYSTEM, f"{zone}: {self.server} failed; its log knows more", code=name)
        if code == dns.rcode.NOTIMP:
            return Refused(SYSTEM, f"{self.server} takes no dynamic updates", code=name)
        return Refused(SYSTEM, f"{zone}: {self.server} refused", code=name)

    @contextmanager
    def _typed(self, zone: str) -> Iterator[None]:
        """dnspython's exceptions, and the system's, as Hecate's. Half an answer is no answer."""
        try:
            yield
        except dns.tsig.PeerError as err:
            raise NotAuthorised(SYSTEM, f"{self.server}: {PEERS.get(type(err), KEY_REFUSED)}") from err
        except (dns.exception.Timeout, EOFError, OSError) as err:
            why = f"{zone}: no answer, or half of one, from {self.server} ({type(err).__name__})"
            raise Unreachable(SYSTEM, self._mask(why)) from err
        except (dns.exception.DNSException, ValueError, KeyError) as err:
            why = f"{zone}: {self.server} gave an answer that makes no sense ({type(err).__name__})"
            raise Faulty(SYSTEM, self._mask(why)) from err
