"""One host at one edge: TCP, TLS, HTTP, spoofed headers, plain HTTP, and who gets in."""

from __future__ import annotations

import http.client
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from hecate.errors import HecateError
from hecate.verification.login import Person, Reach
from hecate.verification.probe import FAIL, OK, SKIP, WARN, Doubtful, NotProbed, Probe, ProbeFailed
from hecate.verification.questions import DAY, Door, Manner, Visit
from hecate.verification.wire import Answer, Connection, older, reason, trusting

REDIRECT = (301, 302, 303, 307, 308)
LOGIN = (301, 302, 303, 307)
OUTPOST = "/outpost.goauthentik.io/"
NO_CERTIFICATE = ("certificate required", "bad certificate", "handshake failure")  # alerts, of TLS 1.3 and 1.2
CONTROL = "X-Hecate-Probe"
SHORT_LIVED = 14 * DAY
EXPECTED = (ProbeFailed, HecateError, OSError, http.client.HTTPException, ValueError)


def told(what: str, host: str, at: str, ask: Callable[[], str]) -> Probe:
    """One question as its answer. What is not expected of a server is a failed probe, and no crash."""
    try:
        return Probe(what, host, at, OK, ask())
    except NotProbed as why:
        return Probe(what, host, at, SKIP, str(why))
    except Doubtful as why:
        return Probe(what, host, at, WARN, str(why))
    except EXPECTED as err:
        return Probe(what, host, at, FAIL, reason(err))


@dataclass
class Visitor:
    """Asks for one prober's task. secret: a reference -> its value; only called for accounts that log in.

    clock: seconds since the epoch, which certificates are held against.
    """

    manner: Manner
    secret: Callable[[str], str]
    clock: Callable[[], float] = time.time
    _trusted: dict[str, ssl.SSLContext] = field(default_factory=dict)
    _silent: set[tuple[str, int]] = field(default_factory=set)  # ports of which nobody has to wait for silence again

    def __post_init__(self) -> None:
        self._older = {least: older(least) for least in ("1.2", "1.3")}
        self._trusted[""] = trusting("")
        # Loading the public roots takes longer than a handshake: once an edge, and before there are threads.
        for edge, pem in self.manner.roots.items():
            self._trusted[edge] = trusting(pem)

    def visit(self, visit: Visit) -> list[Probe]:
        return list(self._visited(visit))

    def _visited(self, visit: Visit) -> Iterator[Probe]:
        def row(what: str, ask: Callable[[], str]) -> Probe:
            return told(what, visit.name, visit.edge, ask)

        met = _Met()
        yield row("tcp", lambda: self._reach(visit, met))
        if not met.connection:
            return
        with met.connection:
            if visit.secure:
                yield row("tls", lambda: self._tls(visit, met))
            if met.is_open:
                yield row(visit.scheme, lambda: self._http(visit, met))
        if visit.secure:
            yield row("old tls", lambda: self._old(visit))
        if visit.found:
            yield row("plain", lambda: self._plain(visit))
        if met.is_open and visit.meets in ("login", "gate", "anything"):
            yield row("spoofed", lambda: self._spoofed(visit))
        if visit.meets == "login":
            if visit.allowed:
                yield row("allowed", lambda: self._allowed(visit))
            if visit.refused:
                yield row("refused", lambda: self._refused(visit))

    def knock(self, door: Door) -> Probe:
        return told("admin", door.address, door.edge, lambda: self._knock(door))

    # What is asked

    def _reach(self, visit: Visit, met: _Met) -> str:
        met.connection = Connection(visit.address, visit.port, self._until())
        met.is_open = not visit.secure
        return f"{visit.address} port {visit.port}"

    def _tls(self, visit: Visit, met: _Met) -> str:
        assert met.connection
        channel = met.connection.secure(self._context(visit.edge), visit.host)
        met.is_open = True
        shown = channel.getpeercert() or {}
        begins, ends = (ssl.cert_time_to_seconds(str(shown[key])) for key in ("notBefore", "notAfter"))
        lifetime, left = ends - begins, ends - self.clock()
        short = lifetime < SHORT_LIVED
        text = f"{channel.version()}, certificate good for {_span(left)}"
        if left < (lifetime / 10 if short else self.manner.expiry):
            raise ProbeFailed(f"{text}: expires too soon; why is it not renewed?")
        if left < (lifetime / 4 if short else self.manner.warning):
            raise Doubtful(text)
        return text

    def _http(self, visit: Visit, met: _Met) -> str:
        assert met.connection
        try:
            answer = met.connection.ask(visit.host, visit.path)
        except ssl.SSLError as err:
            said = str(err).lower().replace("_", " ")
            if visit.meets == "certificate" and any(alert in said for alert in NO_CERTIFICATE):
                return "asks for a client certificate"
            raise
        status = answer.status
        if visit.meets == "certificate":
            raise ProbeFailed(f"answers {status} to a client without a certificate")
        if visit.meets == "unavailable":
            if status == 503:
                return "503, as it should be"
            raise ProbeFailed(f"answers {status}; it has to be closed (503)")
        if visit.meets in ("login", "gate"):
            return refusal(answer, visit)
        return promised(answer, visit)

    def _old(self, visit: Visit) -> str:
        context = self._older[visit.least]
        older_than = f"TLS older than {visit.least}"
        if context is None:
            raise NotProbed(f"{older_than}: this machine's OpenSSL cannot speak it")
        with Connection(visit.address, visit.port, self._until()) as connection:
            try:
                version = connection.secure(context, visit.host).version()
            except ssl.SSLError as err:
                if "NO_PROTOCOLS" in str(err) or "NO_CIPHERS" in str(err):
                    raise NotProbed(f"{older_than}: this machine's OpenSSL cannot speak it") from err
                if isinstance(err, ssl.SSLEOFError) or "ALERT" in str(err).upper() or "UNSUPPORTED" in str(err):
                    return f"{older_than} is refused"
                raise
            except ConnectionResetError:
                return f"{older_than} is refused"
        raise ProbeFailed(f"speaks {version}, which pillar does not allow; at least {visit.least}")

    def _plain(self, visit: Visit) -> str:
        port = (visit.address, visit.plain)
        try:
            if port in self._silent:
                raise TimeoutError("timed out")
            with Connection(*port, self._until()) as connection:
                if visit.found == "closed":
                    raise ProbeFailed(f"port {visit.plain} is open, and pillar says closed (hecate:verify:plain)")
                answer = connection.ask(visit.host, visit.path)
        except (ConnectionRefusedError, TimeoutError) as err:
            if isinstance(err, TimeoutError):
                self._silent.add(port)
            if visit.found in ("closed", "either"):
                return f"port {visit.plain} is closed"
            raise ProbeFailed(f"port {visit.plain}: {reason(err)}; is it to be closed? hecate:verify:plain") from err
        if answer.status in REDIRECT and answer.location.startswith(f"https://{visit.host}"):
            return f"{answer.status} to HTTPS"
        raise ProbeFailed(f"port {visit.plain} answers {answer.status} without TLS; it has to redirect to HTTPS")

    def _spoofed(self, visit: Visit) -> str:
        if visit.meets in ("login", "gate"):
            forged, _ = _forged(visit)
            answer = self._asked(visit, visit.path, forged)
            return f"{refusal(answer, visit)} whoever it says it is"
        if not visit.echo:
            raise NotProbed("no path that answers with what reached it (verify: echo)")
        forged, marks = _forged(visit)
        return echoed(self._asked(visit, visit.echo, forged), marks)

    def _allowed(self, visit: Visit) -> str:
        person = self._person(visit, visit.allowed)
        url, answer = person.log_in(f"{visit.scheme}://{visit.host}{visit.path}")
        if not person.is_at(url, visit.host) or answer.status in (401, 403):
            raise ProbeFailed(f"{visit.allowed} does not get in: ends at {_without_query(url)} with {answer.status}")
        seen = promised(answer, visit)
        if visit.echo:
            forged, marks = _forged(visit)
            _, answer = person.walk(f"{visit.scheme}://{visit.host}{visit.echo}", forged)
            seen = f"{seen}; {echoed(answer, marks)}"
        return f"{visit.allowed} gets in: {seen}"

    def _refused(self, visit: Visit) -> str:
        person = self._person(visit, visit.refused)
        asked = f"{visit.scheme}://{visit.host}{visit.path}"
        url, answer = person.log_in(asked)
        if person.is_at(url, visit.host) and answer.status not in (401, 403):
            raise ProbeFailed(f"{visit.refused} GETS IN: {answer.status}")
        again = person.get(asked)
        if again.status not in (*LOGIN, 401, 403) or (again.status in LOGIN and OUTPOST not in again.location):
            raise ProbeFailed(f"{visit.refused} GETS IN at the second attempt: {again.status}")
        return f"{visit.refused} is logged in and kept out ({answer.status})"

    def _knock(self, door: Door) -> str:
        where = f"port {door.port}"
        try:
            with Connection(door.address, door.port, min(self._until(), time.monotonic() + 3)):
                pass
        except (ConnectionRefusedError, TimeoutError):
            return f"{where} is closed"
        if door.inside:
            raise NotProbed(f"{where} is open on loopback, where the edge itself is; ask from another machine")
        raise ProbeFailed(f"{where} IS OPEN; Caddy's admin API may run code, and must be on loopback or a unix socket")

    # Below

    def _until(self) -> float:
        return time.monotonic() + self.manner.timeout

    def _context(self, edge: str) -> ssl.SSLContext:
        return self._trusted.get(edge) or self._trusted[""]

    def _asked(self, visit: Visit, path: str, headers: Mapping[str, str]) -> Answer:
        with Connection(visit.address, visit.port, self._until()) as connection:
            if visit.secure:
                connection.secure(self._context(visit.edge), visit.host)
            return connection.ask(visit.host, path, headers=headers)

    def _person(self, visit: Visit, name: str) -> Person:
        if name not in self.manner.accounts:
            raise NotProbed(f"no password for {name} (hecate:verify:accounts)")
        username, reference = self.manner.accounts[name]
        reach = Reach(visit, self.manner.served, self._context(visit.edge), self._trusted[""], self.manner.timeout)
        return Person(reach, username, self.secret(reference))


@dataclass
class _Met:
    """How far a visit has come. is_open: a request may be sent."""

    connection: Connection | None = None
    is_open: bool = False


def refusal(answer: Answer, visit: Visit) -> str:
    """A protected route turns a stranger away; how depends on who asks for the login."""
    status, is_gate = answer.status, visit.meets == "gate"
    if status in LOGIN and (is_gate or OUTPOST in answer.location):
        return f"{status}, sends to login"
    if status in (401, 403) and (is_gate or visit.by_address):
        return f"{status}, lets no stranger in"
    raise ProbeFailed(f"answers {status} to a stranger; a protected route has to send to login")


def promised(answer: Answer, visit: Visit) -> str:
    """Status, headers and body as the route's `verify` wants them. Raises ProbeFailed."""
    if visit.status and answer.status not in visit.status:
        raise ProbeFailed(f"{visit.path} answers {answer.status}; wanted {' or '.join(map(str, visit.status))}")
    if not visit.status and answer.status >= 500:
        raise ProbeFailed(f"answers {answer.status}; is the upstream up?")
    for name, wanted in visit.header.items():
        there = answer.headers.get(name.lower())
        if there is None or not _fits(wanted, there):
            raise ProbeFailed(f"{visit.path}: header {name} is {there or 'not there'}; wanted {wanted}")
    if visit.body and visit.body not in answer.text:
        raise ProbeFailed(f"{visit.path}: the body has no {visit.body!r} in it")
    return str(answer.status)


def echoed(answer: Answer, marks: tuple[str, str]) -> str:
    """What an echoing upstream got of a request with forged headers. marks: of the control, and of the forged ones."""
    control, forged = marks
    if control not in answer.text:
        raise ProbeFailed(f"the echo path answers {answer.status} without the headers that it got; nothing is proven")
    if forged in answer.text:
        raise ProbeFailed("A SPOOFED IDENTITY HEADER REACHES THE UPSTREAM")
    return "spoofed headers do not reach the upstream"


def _forged(visit: Visit) -> tuple[dict[str, str], tuple[str, str]]:
    marks = f"hecate-echo-{secrets.token_hex(6)}", f"hecate-forged-{secrets.token_hex(6)}"
    return {CONTROL: marks[0], **dict.fromkeys(visit.identity, marks[1])}, marks


def _fits(wanted: str, there: str) -> bool:
    """A star at either end stands for anything."""
    bare = wanted.strip("*")
    if wanted.startswith("*") and wanted.endswith("*"):
        return bare in there
    if wanted.startswith("*"):
        return there.endswith(bare)
    return there.startswith(bare) if wanted.endswith("*") else there == wanted


def _span(left: float) -> str:
    return f"{left / DAY:.0f} days" if left >= 2 * DAY else f"{left / 3600:.0f} h"


def _without_query(url: str) -> str:
    return url.partition("?")[0]
