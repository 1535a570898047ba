"""The echoing upstreams: what arrived comes back, a port stays with its address, a restart changes nothing."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import requests

from lab import ports

Start = Callable[[], str]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Start]:
    """Starts an echo on ``tmp_path`` and returns its control URL; called again it ends the one before."""
    held = ports.bound()
    port = held[0].getsockname()[1]
    for one in held:
        one.close()
    running: list[subprocess.Popen[str]] = []

    def begin() -> str:
        if running:
            end(running.pop(), signal.SIGKILL)
        argv = [sys.executable, "-m", "lab.echo", "--port", str(port), "--dir", str(tmp_path)]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parents[2])
        running.append(child)
        assert child.stdout and "echo on" in child.stdout.readline()
        return f"http://127.0.0.1:{port}"

    yield begin
    for child in running:
        assert end(child, signal.SIGTERM) == 0


def end(child: subprocess.Popen[str], number: int) -> int:
    child.send_signal(number)
    code = child.wait(10)
    assert child.stdout
    child.stdout.close()
    return code


def opened(url: str, dial: str) -> int:
    return int(requests.get(f"{url}/port", params={"dial": dial}, timeout=5).json()["port"])


def test_says_what_it_received(start: Start) -> None:
    url = start()
    port = opened(url, "10.0.0.5:3000")
    with requests.Session() as session:
        got = session.request(
            "PROPFIND", f"http://127.0.0.1:{port}/a%20b?c=d", data="body", headers={"X-One": "1"}, timeout=5
        )
        again = session.get(f"http://127.0.0.1:{port}/", timeout=5)
    told = got.json()
    assert (told["upstream"], told["method"], told["path"], told["body"]) == (
        "10.0.0.5:3000",
        "PROPFIND",
        "/a%20b?c=d",
        "body",
    )
    assert told["headers"]["X-One"] == "1"
    assert again.status_code == 200
    seen = requests.get(f"{url}/seen", params={"dial": "10.0.0.5:3000"}, timeout=5).json()
    assert [one["method"] for one in seen] == ["PROPFIND", "GET"]
    assert requests.delete(f"{url}/seen", timeout=5).status_code == 204
    assert requests.get(f"{url}/seen", params={"dial": "10.0.0.5:3000"}, timeout=5).json() == []
    assert requests.head(f"http://127.0.0.1:{port}/", timeout=5).content == b""


def test_repeated_headers_are_all_shown(start: Start) -> None:
    import http.client

    port = opened(start(), "a:1")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.putrequest("GET", "/")
    connection.putheader("X-Authentik-Groups", "users")
    connection.putheader("X-Authentik-Groups", "admins")
    connection.endheaders()
    told = json.loads(connection.getresponse().read())
    connection.close()
    assert told["headers"]["X-Authentik-Groups"] == "users, admins"


def test_a_browser_gets_a_page_that_greets_and_escapes(start: Start) -> None:
    port = opened(start(), "10.0.0.5:3000")
    headers = {"Accept": "text/html", "X-Authentik-Username": "<b>alice", "X-Evil": "<script>"}
    page = requests.get(f"http://127.0.0.1:{port}/?{'<script>'}", headers=headers, timeout=5)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "Hello, &lt;b&gt;alice" in page.text
    assert "<script>" not in page.text


def test_https_upstreams_have_a_certificate_that_nobody_vouches_for(start: Start) -> None:
    port = opened(start(), "https://10.0.0.9")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://127.0.0.1:{port}/", timeout=5)
    with pytest.warns(Warning):
        told = requests.get(f"https://127.0.0.1:{port}/", verify=False, timeout=5).json()
    assert told["upstream"] == "https://10.0.0.9"


def test_ports_stay_over_a_crash(start: Start) -> None:
    url = start()
    dials = [f"10.0.0.{n}:80" for n in range(20)] + ["https://10.0.0.9"]
    before = requests.post(f"{url}/ports", json={"dials": dials}, timeout=10).json()["ports"]
    assert len(set(before.values())) == len(dials)
    url = start()
    assert requests.post(f"{url}/ports", json={"dials": dials}, timeout=10).json()["ports"] == before
    assert requests.get(f"http://127.0.0.1:{before['10.0.0.3:80']}/", timeout=5).json()["upstream"] == "10.0.0.3:80"


def test_its_own_listeners_stand_for_themselves(start: Start) -> None:
    url = start()
    port = opened(url, "10.0.0.5:3000")
    assert opened(url, f"127.0.0.1:{port}") == port
    assert list(requests.get(f"{url}/dials", timeout=5).json()) == ["10.0.0.5:3000"]


def test_wrong_use_is_refused(start: Start) -> None:
    url = start()
    assert requests.get(f"{url}/port", timeout=5).status_code == 400
    assert requests.post(f"{url}/ports", data="no", timeout=5).status_code == 400
    assert requests.get(f"{url}/seen", params={"dial": "unknown:1"}, timeout=5).status_code == 404
