"""What servers do wrong, each at a real server on loopback: the probe fails, in time, and says what it was."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hecate.verification import Probe, Task, run
from hecate.verification.questions import Manner, Record, Visit

from contract.authority import Authority

HOST = "app.test"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextlib.contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server whose every connection goes as `talk` says."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(10)
            talk(connection)

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def tls(certificate: Path, key: Path, answer: bytes = GOOD) -> Callable[[socket.socket], None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as channel:
            channel.recv(65536)
            channel.sendall(answer)
            with contextlib.suppress(OSError):
                channel.unwrap()

    return talk


def visited(port: int, pem: str = "", secure: bool = True, timeout: int = 5) -> dict[str, Probe]:
    manner = Manner(timeout=timeout, attempts=1, roots={"edge": pem})
    visit = Visit(HOST, HOST, "edge", "127.0.0.1", port, secure=secure, found="")
    return {row.what: row for row in run(Task(manner, (visit,)), lambda _: "")}


@pytest.mark.parametrize(
    ("names", "days", "result", "told"),
    [
        ((HOST,), 90, "ok", "90 days"),
        ((HOST,), 10, "warn", "10 days"),
        ((HOST,), 1, "fail", "expires too soon"),
        ((HOST,), -2, "fail", "certificate: certificate has expired"),
        (("other.test",), 90, "fail", "is not valid for 'app.test'"),
    ],
)
def test_certificates(tmp_path: Path, names: tuple[str, ...], days: int, result: str, told: str) -> None:
    authority = Authority("root")
    # One that was issued long ago: how long it has to live yet is what counts.
    paths = authority.issue(tmp_path / "server", *names, days=days)
    if days in (10, 1):
        paths = long_lived(authority, tmp_path, days)
    with serving(tls(*paths)) as port:
        found = visited(port, authority.pem)
    assert found["tls"].result == result and told in found["tls"].told
    assert ("https" in found) == (result != "fail" or days == 1)


def long_lived(authority: Authority, folder: Path, days: int) -> tuple[Path, Path]:
    """Issued a month ago."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority._name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=True)
        .sign(authority._key, hashes.SHA256())
    )
    paths = folder / "long.crt", folder / "long.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*form))
    return paths


def test_a_certificate_that_signs_itself(tmp_path: Path) -> None:
    with serving(tls(*Authority("nobody").issue(tmp_path / "server", HOST))) as port:
        assert "certificate: unable to get local issuer" in visited(port)["tls"].told


def test_a_connection_that_is_cut_in_the_handshake() -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(100)

    with serving(talk) as port:
        found = visited(port)
    assert found["tcp"].good and found["tls"].result == "fail" and "the connection was cut" in found["tls"].told


@pytest.mark.parametrize("secure", [True, False])
def test_half_an_answer(tmp_path: Path, secure: bool) -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"
    authority = Authority("root")
    talk = tls(*authority.issue(tmp_path / "server", HOST), answer=half) if secure else plainly(half)
    with serving(talk) as port:
        found = visited(port, authority.pem, secure)["https" if secure else "http"]
    assert found.result == "fail" and "broke off after 4 of 1000 octets" in found.told


def plainly(answer: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    return talk


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf", "broke off after"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    ],
)
def test_what_is_no_answer(answer: bytes, told: str) -> None:
    with serving(plainly(answer)) as port:
        found = visited(port, secure=False)["http"]
    assert found.result == "fail" and told in found.told


@pytest.mark.parametrize("secure", [True, False])
def test_a_server_that_drips_is_given_up_in_time(secure: bool) -> None:
    """Every read brings something, and the answer never ends: it is the whole that has to be in time."""
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        while not over.wait(0.1):
            connection.sendall(b"\x16" if secure else b"H")

    with serving(talk) as port:
        found = visited(port, secure=secure, timeout=1)["tls" if secure else "http"]
        over.set()
    assert found.result == "fail"


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    over = threading.Event()
    with serving(lambda _: over.wait(20) and None) as port:
        begun = time.monotonic()
        found = visited(port, timeout=1)
        took = time.monotonic() - begun
        over.set()
    assert found["tls"].result == "fail" and "no whole answer in time" in found["tls"].told and took < 15


@contextlib.contextmanager
def naming(reply: Callable[[dns.message.Message, bool], bytes | None]) -> Iterator[str]:
    """A name server, over UDP and TCP. reply: (question, over TCP) -> octets; None says nothing."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            tcp = socket.create_server(udp.getsockname())
            break
        except OSError:  # free for UDP alone
            udp.close()

    def datagrams() -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = udp.recvfrom(4096)
                if data == b"over":
                    return
                answer = reply(dns.message.from_wire(data), False)
                if answer is not None:
                    udp.sendto(answer, client)

    def streams() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = tcp.accept()
                with connection, contextlib.suppress(OSError):
                    answer = reply(dns.message.from_wire(connection.recv(4096)[2:]), True)
                    if answer is not None:
                        connection.sendall(len(answer).to_bytes(2, "big") + answer)

    threads = [threading.Thread(target=each, daemon=True) for each in (datagrams, streams)]
    for thread in threads:
        thread.start()
    try:
        yield f"127.0.0.1:{udp.getsockname()[1]}"
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"over", udp.getsockname())
        tcp.shutdown(socket.SHUT_RDWR)
        tcp.close()
        threads[0].join(10)
        udp.close()


def answering(*values: str, flags: int = 0, rcode: int = 0) -> Callable[[dns.message.Message], dns.message.Message]:
    def make(question: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.set_rcode(dns.rcode.Rcode(rcode))
        answer.flags |= flags
        if values:
            answer.answer.append(dns.rrset.from_text(question.question[0].name, 300, "IN", "A", *values))
        return answer

    return make


def looked_up(server: str, *values: str, timeout: int = 10) -> Probe:
    record = Record(HOST, HOST, "A", values, server)
    return run(Task(Manner(timeout=timeout, attempts=1), (), (record,)), lambda _: "")[0]


@pytest.mark.parametrize(
    ("make", "result", "told"),
    [
        (answering("192.0.2.1", "192.0.2.2"), "ok", "192.0.2.1, 192.0.2.2"),
        (answering("192.0.2.1"), "fail", "answers 192.0.2.1; wanted 192.0.2.1, 192.0.2.2"),
        (answering(), "fail", "answers nothing"),
        (answering(rcode=dns.rcode.SERVFAIL), "fail", "SERVFAIL"),
        (answering(rcode=dns.rcode.NXDOMAIN), "fail", "NXDOMAIN"),
        (answering("192.0.2.1", flags=dns.flags.TC), "fail", "cut off, over TCP too"),
    ],
)
def test_answers_of_name_servers(
    make: Callable[[dns.message.Message], dns.message.Message], result: str, told: str
) -> None:
    with naming(lambda question, _: make(question).to_wire()) as server:
        found = looked_up(server, "192.0.2.1", "192.0.2.2")
    assert found.result == result and told in found.told


def test_what_does_not_fit_is_asked_for_again_over_tcp() -> None:
    def reply(question: dns.message.Message, over_tcp: bool) -> bytes:
        return (answering("192.0.2.1") if over_tcp else answering(flags=dns.flags.TC))(question).to_wire()

    with naming(reply) as server:
        assert looked_up(server, "192.0.2.1").result == "ok"


@pytest.mark.parametrize(("cut", "told"), [(None, "no answer in time"), (20, "")])
def test_a_name_server_that_says_nothing_or_half(cut: int | None, told: str) -> None:
    make = answering("192.0.2.1")
    with naming(lambda question, _: make(question).to_wire()[:cut] if cut else None) as server:
        found = looked_up(server, "192.0.2.1", timeout=1)
    assert found.result == "fail" and told in found.told and found.told
