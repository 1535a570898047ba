"""Which certificate each host of an edge really shows: a handshake tells, where Caddy has no list to ask for.

Nothing is verified, since what is wrong with a certificate is just what should be seen. Needs
`cryptography`, which Salt brings along.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from hecate.model import Estate
from hecate.model.caddy import Edge

PROBE = "hecate-certificate-check"
"""What stands for the star of a wildcard."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

SHORT_LIVED = timedelta(days=14)


@dataclass(frozen=True)
class Shown:
    """The certificate of one host. not_after: ISO 8601 in UTC; days_left: whole days, negative once it is over.

    warn: expires within hecate:certificates:warn_days (a short-lived one: within the last quarter
    of its time), or doesn't name the host, or none was to be had.
    error: why there is nothing else, or what is wrong; else empty.
    """

    names: tuple[str, ...] = ()
    issuer: str = ""
    not_after: str = ""
    days_left: int | None = None
    warn: bool = True
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in ("", None, ())}


def certificates(
    estate: Estate, edge: Edge, *, now: datetime | None = None, timeout: float = 5.0, at_once: int = 16
) -> dict[str, Shown]:
    """What the edge shows for every host of every route, by host; none where it speaks plain HTTP.

    Runs on the edge. timeout: seconds for each step of a handshake; at_once: handshakes at a time.
    A wildcard is asked as a name below it, unless that would have a certificate issued on demand.
    """
    if estate.caddy.issuer == "none":
        return {}
    now, days = now or datetime.now(timezone.utc), estate.certificates.warn_days
    hosts = sorted(_hosts(estate))
    where = address(edge)

    def look(row: tuple[str, bool]) -> Shown:
        host, on_demand = row
        if on_demand and host.startswith("*."):
            return Shown(warn=False, error="issued on demand, for each name at its first handshake")
        try:
            return _shown(handshake(where, host, timeout), host, now, days)
        except (OSError, ValueError) as err:
            return Shown(error=_reason(err))

    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="certificates") as pool:
        return {host: shown for (host, _), shown in zip(hosts, pool.map(look, hosts), strict=True)}


def handshake(address: tuple[str, int], host: str, timeout: float) -> bytes:
    """The certificate that `address` shows for `host`, as DER. Raises OSError (TLS alerts are among these)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name = PROBE + host[1:] if host.startswith("*.") else host
    with socket.create_connection(address, timeout) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        der = tls.getpeercert(binary_form=True)
    if not der:
        raise OSError("the handshake ended without a certificate")
    return der


def _shown(der: bytes, host: str, now: datetime, warn_days: int) -> Shown:
    from cryptography import x509

    found = x509.load_der_x509_certificate(der)
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = tuple(sorted(map(str, alternatives.get_values_for_type(x509.DNSName))))
    except x509.ExtensionNotFound:
        names = ()
    begins, ends = _moments(found)
    # Those of Caddy's own CA live for hours, and are renewed when a third of that is left.
    short = ends - begins < SHORT_LIVED
    soon = (ends - begins) / 4 if short else timedelta(days=warn_days)
    covers = host in names or f"*.{host.partition('.')[2]}" in names
    error = "" if covers else f"doesn't name {host}"
    warn = ends - now < soon or not covers
    return Shown(names, found.issuer.rfc4514_string(), ends.isoformat(), (ends - now).days, warn, error)


def _moments(found: Any) -> tuple[datetime, datetime]:
    """From when and until when it is good; cryptography before 42 knows the moments without their time zone alone."""
    if hasattr(found, "not_valid_after_utc"):
        return found.not_valid_before_utc, found.not_valid_after_utc
    aware = [moment.replace(tzinfo=timezone.utc) for moment in (found.not_valid_before, found.not_valid_after)]
    return aware[0], aware[1]


def _hosts(estate: Estate) -> Iterator[tuple[str, bool]]:
    for host, route in estate.routes.items():
        for name in (host, *route.hosts):
            yield name, route.tls.on_demand


def address(edge: Edge) -> tuple[str, int]:
    """Where this edge's listener is reached from itself."""
    bound = (edge.bind or "127.0.0.1").strip("[]")
    return EVERYWHERE.get(bound, bound), edge.https


def _reason(err: Exception) -> str:
    if isinstance(err, TimeoutError):
        return "no answer in time"
    if isinstance(err, ssl.SSLError) and err.reason:
        said = err.reason.lower().replace("_", " ")
        return f"the edge has no certificate for it, or refuses: {said}" if "internal error" in said else said
    return str(err)
