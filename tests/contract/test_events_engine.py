"""The engine hecate_events: in a real salt-master with its bus and its reactor, and its HTTP side for itself."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from conftest import ROOT, free_port, tool
from hecate.errors import SecretUnavailable
from hecate.events import LIMIT, Memory, Secrets, Verifier
from hecate.model import problems_in
from hecate.webhook import Listener

SECRET = "canary-5f1e9c-" + "0123456789abcdef" * 2
NEXT = "another-" + "fedcba9876543210" * 2
STRANGE = "strangers-" + "0f1e2d3c4b5a6978" * 2
URLLIB = "urllib3.connectionpool"  # the client's side of these tests
HOSTILE = "mallory\"'}]\n  - url: http://evil.test/\n{{ 7 * 7 }} {% raw %}"


def payload(**more: Any) -> dict[str, Any]:
    made = {
        "id": str(uuid.uuid4()),
        "sent": int(time.time()),
        "action": "login_failed",
        "app": "authentik.events.signals",
        "user": {"pk": 1, "username": "AnonymousUser"},
        "client_ip": "192.0.2.66",
        "created": "2027-01-15T08:00:00+00:00",
        "context": {"username": "alice", "password": "typed-instead"},
    }
    return {**made, **more}


def signed(made: dict[str, Any] | None = None, secret: str = SECRET) -> bytes:
    text = json.dumps(payload() if made is None else made)
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"payload": text, "signature": signature}).encode()


def post(port: int, body: bytes, path: str = "/") -> int:
    return requests.post(f"http://127.0.0.1:{port}{path}", data=body, timeout=20).status_code


def page(first_line: str) -> str:
    """A block of docs/events.md by its first line."""
    blocks = (ROOT / "docs" / "events.md").read_text().split("```yaml\n")[1:]
    (found,) = (block.partition("```")[0] for block in blocks if block.startswith(f"# {first_line}\n"))
    return found


# In a salt-master


class Chat(http.server.BaseHTTPRequestHandler):
    heard: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@dataclass
class Master:
    """A salt-master with the engine and docs/events.md's reactor, and a listener on its bus."""

    folder: Path
    sockets: Path
    port: int
    key: Path
    secret: str = SECRET
    chat: list[dict[str, Any]] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    def start(self, url: str) -> None:
        reactor = self.folder / "login-failed.sls"
        example = page("/srv/reactor/login-failed.sls")
        assert "https://chat.example.com/hooks/security" in example
        reactor.write_text(example.replace("https://chat.example.com/hooks/security", url))
        mapped = yaml.safe_load(page("/etc/salt/master.d/reactor.conf"))["reactor"][0]
        engine = yaml.safe_load(page("/etc/salt/master.d/hecate-events.conf"))["engines"][0]["hecate_events"]
        engine.update(secret=f"file:{self.key}", port=self.port)
        settings = {
            "interface": "127.0.0.1",
            "publish_port": free_port(),
            "ret_port": free_port(),
            "worker_threads": 1,
            "user": "root" if os.getuid() == 0 else os.environ.get("USER", ""),
            "root_dir": "/",
            **{name: str(self.folder / name) for name in ("pki_dir", "cachedir", "extension_modules", "token_dir")},
            "pidfile": str(self.folder / "pid"),
            "sqlite_queue_dir": str(self.folder / "queue"),
            "sock_dir": str(self.sockets),
            "log_file": str(self.folder / "log"),
            "key_logfile": str(self.folder / "key.log"),
            "log_level": "info",
            "log_level_logfile": "quiet",
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
            "engines_dirs": [str(ROOT / "_engines")],
            "engines": [{"hecate_events": engine}],
            "reactor": [{next(iter(mapped)): [str(reactor)]}],
        }
        (self.folder / "master").write_text(json.dumps(settings))
        words = [tool("salt-master"), "-c", str(self.folder), "-l", "info"]
        env = {**os.environ, "PYTHONWARNINGS": "ignore"}
        with open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen(words, env=env, stdout=out, stderr=out, start_new_session=True)
        self.until(lambda: "taking authentik's events on 127.0.0.1" in self.log())

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(5)

    def log(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    def until(self, done: Callable[[], Any], patience: float = 60, pause: float = 0.05) -> None:
        end = time.monotonic() + patience
        while not done():
            assert self.process and self.process.poll() is None and time.monotonic() < end, self.log()[-3000:]
            time.sleep(pause)

    def bus(self) -> Any:
        import salt.config
        import salt.utils.event

        opts = salt.config.master_config(str(self.folder / "master"))
        return salt.utils.event.get_event("master", sock_dir=str(self.sockets), opts=opts, listen=True)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    folder = tmp_path_factory.mktemp("events-master")
    key = folder / "key"
    key.write_text(Master.secret)
    key.chmod(0o600)
    sockets = Path(tempfile.mkdtemp(prefix="hcte-"))  # short enough for a socket's path
    made = Master(folder, sockets, free_port(), key)
    handler = type("Handler", (Chat,), {"heard": made.chat})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as chat:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        try:
            made.start(f"http://127.0.0.1:{chat.server_address[1]}/")
            yield made
        finally:
            made.stop()
            chat.shutdown()
            shutil.rmtree(sockets)


def arrived(bus: Any, id: str) -> dict[str, Any] | None:
    """The event about authentik's event `id`; whatever else is on the bus is passed over."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = bus.get_event(wait=1, tag="hecate/", full=True)
        if found and found["data"].get("id") == id:
            return dict(found)
    return None


def test_a_signed_delivery_is_a_salt_event(master: Master) -> None:
    made = payload()
    with master.bus() as bus:
        assert post(master.port, signed(made, master.secret)) == 204
        event = arrived(bus, made["id"])
    assert event
    assert event["tag"] == "hecate/authentik/login-failed"
    data = event["data"]
    assert data["name"] == "login-failed"
    assert data["context"] == {"username": "alice"}
    assert {key: data[key] for key in ("user", "client_ip", "created", "app", "action", "sent")} == {
        key: made[key] for key in ("user", "client_ip", "created", "app", "action", "sent")
    }


def test_what_is_refused_never_reaches_the_bus_and_says_nothing_in_the_log(master: Master) -> None:
    once, forged, late = payload(), payload(), payload(sent=1_700_000_000)
    last = payload()
    with master.bus() as bus:
        bodies = [signed(made, master.secret) for made in (once, once, late)] + [signed(forged, STRANGE)]
        assert [post(master.port, body) for body in bodies] == [204, 409, 409, 401]
        assert post(master.port, b"{}") == 400
        assert post(master.port, signed(last, master.secret)) == 204
        seen = []
        while not seen or seen[-1] != last["id"]:
            found = bus.get_event(wait=20, tag="hecate/")
            assert found, "the last delivery did not arrive"
            seen.append(found["id"])
    assert seen == [once["id"], last["id"]]
    master.until(lambda: "(401): not signed with a secret known here" in master.log())
    told = master.log()
    assert not [text for text in (SECRET, NEXT, STRANGE, once["id"], forged["id"], "typed-instead") if text in told]


def test_the_reactor_of_the_page_runs_and_takes_names_for_names(master: Master) -> None:
    wanted = {"text": f"login failed: {HOSTILE} from 192.0.2.66"}

    def told() -> bool:
        """Anew each time: a young master's reactor does not listen yet."""
        assert post(master.port, signed(payload(context={"username": HOSTILE}), master.secret)) == 204
        return wanted in master.chat

    master.until(told, pause=0.5)


def test_a_rotated_secret_counts_without_a_restart(master: Master) -> None:
    master.key.write_text(NEXT)
    master.secret = NEXT
    master.until(lambda: post(master.port, signed(secret=NEXT)) == 204)
    assert post(master.port, signed(secret=SECRET)) == 401


# The glue, without a daemon


def test_a_literal_secret_is_refused_before_anything_listens(tmp_path: Path) -> None:
    import hecate_salt

    for secret in (SECRET, ["env:PATH", SECRET]):
        with pytest.raises(SecretUnavailable) as caught:
            hecate_salt.serve_events(
                {"cachedir": str(tmp_path)}, {}, secret=secret, address="127.0.0.1", port=0, window=300
            )
        assert SECRET not in str(caught.value)
    assert not list(tmp_path.iterdir())


# The page


def test_the_route_of_the_page_is_good_pillar() -> None:
    pillar = yaml.safe_load(page("the route of the webhook"))
    assert problems_in(pillar) == []


@pytest.mark.parametrize("username", ["alice", "hecate"])
def test_the_other_reactor_of_the_page_renders(username: str, tmp_path: Path) -> None:
    import jinja2

    text = jinja2.Template(page("/srv/reactor/group-changed.sls")).render(data={"user": {"username": username}})
    done = yaml.safe_load(text)
    assert done == (
        None
        if username == "hecate"
        else {"differences": {"local.hecate_authentik.plan": [{"tgt": "hecate-authentik"}]}}
    )


# The HTTP side


@dataclass
class Bus:
    fired: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: Any = True

    def __call__(self, tag: str, data: dict[str, Any]) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        self.fired.append((tag, data))
        return bool(self.answer)


@dataclass
class Side:
    listener: Listener
    bus: Bus

    @property
    def port(self) -> int:
        return int(self.listener.server_address[1])

    def raw(self, *parts: bytes, close: bool = False) -> bytes:
        """The whole answer to bytes sent as they are, the last of which may be a closed half."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            for part in parts:
                connection.sendall(part)
            if close:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while more := connection.recv(65536):
                answer += more
            return answer


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    bus = Bus()
    verifier = Verifier(Secrets(lambda: [SECRET], time.time()), Memory(tmp_path / "seen"))
    with Listener("127.0.0.1", 0, verifier, bus) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield Side(listener, bus)
        listener.shutdown()
        thread.join(10)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_only_post_to_the_root_is_answered(side: Side) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
        answer = requests.request(method, f"http://127.0.0.1:{side.port}/", data=signed(), timeout=20)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert post(side.port, signed(), "/run") == 404
    assert post(side.port, signed(), "/?x=1") == 404
    assert not side.bus.fired
    assert post(side.port, signed()) == 204
    assert len(side.bus.fired) == 1


def test_a_server_says_nothing_of_itself(side: Side) -> None:
    answer = requests.post(f"http://127.0.0.1:{side.port}/", data=b"{}", timeout=20)
    assert "python" not in f"{answer.headers} {answer.text}".lower()


BODY = b"x" * 10
ODD: dict[str, tuple[bytes, int]] = {
    "no length": (b"POST / HTTP/1.1\r\n\r\n" + BODY, 411),
    "two lengths": (b"POST / HTTP/1.1\r\nContent-Length: 10\r\nContent-Length: 5\r\n\r\n" + BODY, 411),
    "a length with a sign": (b"POST / HTTP/1.1\r\nContent-Length: +10\r\n\r\n" + BODY, 411),
    "a negative length": (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n" + BODY, 411),
    "chunks": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 10\r\n\r\n" + BODY, 411),
    "cut short": (b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n" + BODY, 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "a long line": (b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    "many headers": (b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
    "an unknown method": (b"BREW / HTTP/1.1\r\n\r\n", 501),
}


@pytest.mark.parametrize(("sent", "answer"), ODD.values(), ids=ODD.keys())
def test_odd_requests_are_refused(side: Side, sent: bytes, answer: int) -> None:
    assert status(side.raw(sent, close=True)) == answer
    assert not side.bus.fired
    assert post(side.port, signed()) == 204


@pytest.mark.parametrize("size", [LIMIT + 1, 10**10])
def test_too_large_is_refused_before_any_of_it_is_read(side: Side, size: int) -> None:
    assert status(side.raw(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)) == 413


def test_what_is_not_all_there_in_time_is_refused(side: Side) -> None:
    side.listener.patience = 0.2
    headers = b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
    for begun in (b"POST", headers[:30], headers, headers + BODY):
        assert status(side.raw(begun)) == 408
    assert not side.bus.fired


def test_a_trickle_does_not_buy_time(side: Side) -> None:
    """A byte now and then keeps any timeout between bytes from passing."""
    side.listener.patience = 0.3
    with socket.create_connection(("127.0.0.1", side.port), timeout=20) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        for _ in range(400):
            try:
                answer += connection.recv(100)
                break
            except TimeoutError:
                connection.sendall(b"x")
        assert status(answer) == 408


def delivered(side: Side) -> int:
    """A connection that finds no place may be cut before its answer is read."""
    try:
        return post(side.port, signed())
    except requests.ConnectionError:
        return 503


@pytest.mark.parametrize("patience", [0.5, 600])
def test_there_are_so_many_places_and_slow_clients_leave_them(side: Side, patience: float) -> None:
    """By their own will, or when the listener's patience ends."""
    side.listener.patience = patience
    end = time.monotonic() + 20
    with contextlib.ExitStack() as idle:
        for _ in range(Listener.AT_ONCE):
            idle.enter_context(socket.create_connection(("127.0.0.1", side.port), timeout=20))
        if patience > 20:
            assert delivered(side) == 503
            idle.close()
        while delivered(side) != 204:
            assert time.monotonic() < end


@pytest.mark.parametrize("failure", [False, OSError("no bus"), RuntimeError(SECRET)], ids=repr)
def test_what_the_bus_does_not_take_may_be_delivered_again(
    side: Side, failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body, side.bus.answer = signed(), failure
    assert post(side.port, body) == 503
    side.bus.answer = True
    assert [post(side.port, body) for _ in range(2)] == [204, 409]
    assert SECRET not in caplog.text


def test_of_many_copies_at_once_one_is_taken(side: Side) -> None:
    body = signed()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(post(side.port, body))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [204] + [409] * 11
    assert len(side.bus.fired) == 1


def test_refusals_are_logged_without_what_was_sent(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hecate")
    post(side.port, b'{"canary-body": 1}')
    post(side.port, signed(), "/canary-path")
    side.raw(b"CANARY-METHOD / HTTP/1.1\r\nX: canary-header\r\n\r\n")
    assert len([record for record in caplog.records if record.name.startswith("hecate")]) == 3
    assert "from 127.0.0.1 was refused (400)" in caplog.text
    assert not [
        record for record in caplog.records if "canary" in record.getMessage().lower() and record.name != URLLIB
    ]
