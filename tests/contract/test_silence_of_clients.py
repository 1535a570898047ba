"""A system that answers with the whole request, its token too: no client's error has a secret in it, in any part."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from e2e.silence import Search
from hecate.backends.authentik_writing import _explained
from hecate.clients.authentik import AuthentikClient
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.clients.http import JsonApi
from hecate.clients.nomad import NomadClient
from hecate.clients.vault import Place, VaultClient, by_approle, by_token
from hecate.errors import ApiFailure, HecateError, Refused
from hecate.secrets import masked
from hecate.store.consul import ConsulStore

from lab.emulators.base import Emulator, Fault, running

TOKEN = "T0k3nOfEight" + "\"\\/+=%&<'" + "eNdOfToken12"
SENT = "S3ntInABody0" + "\"\\/+=%&<' ü" + "eNdOfBody345"
SECRETS = {"the token": TOKEN, "what was sent": SENT}
STATUSES = (200, 302, 400, 401, 403, 404, 405, 409, 412, 422, 429, 500, 503)


def hide(text: str) -> str:
    return masked(text, SECRETS.values())


def quick(_: float) -> None:
    pass


def vault(url: str) -> VaultClient:
    return VaultClient(url, by_token(lambda: TOKEN), Place())


def logged_in(url: str) -> VaultClient:
    return VaultClient(url, by_approle(lambda: "role", lambda: SENT), Place())


CALLS: dict[str, Callable[[str], Any]] = {
    "authentik reads": lambda url: AuthentikClient(url, TOKEN, 5, hide, quick).all("/core/groups/"),
    "authentik writes": lambda url: AuthentikClient(url, TOKEN, 5, hide, quick).create("/core/groups/", {"name": SENT}),
    "authentik tries": lambda url: AuthentikClient(url, TOKEN, 5, hide, quick).takes_secret("client", SENT),
    "nomad reads": lambda url: NomadClient(url, TOKEN, mask=hide, sleep=quick).jobs(),
    "nomad writes": lambda url: NomadClient(url, TOKEN, mask=hide, sleep=quick).register({"ID": "a", "Env": SENT}, 0),
    "hetzner reads": lambda url: HetznerDnsClient(TOKEN, f"{url}/v1", mask=hide, sleep=quick, patience=0).zones(),
    "consul reads": lambda url: ConsulStore(url, TOKEN, "hecate").get("production/lock"),
    "consul writes": lambda url: ConsulStore(url, TOKEN, "hecate").put("production/lock", {"a": 1}, None),
    "vault reads": lambda url: vault(url).read("hecate/x", "token"),
    "vault writes": lambda url: vault(url).write("hecate/x", {"token": SENT}, 0),
    "vault acts": lambda url: vault(url).act("pki/sign/web", {"token": SENT}),
    "vault looks": lambda url: vault(url).look("database/static-creds/app"),
    "vault logs in": lambda url: logged_in(url).read("hecate/x", "token"),
}


@pytest.fixture(scope="module")
def careless() -> Iterator[tuple[Emulator, str]]:
    emulator = Emulator("careless")
    with running(emulator) as url:
        yield emulator, url


def everything_of(err: BaseException) -> str:
    """What a handler that dumps an error could get at: texts, attributes, causes, and the requests of those."""
    told, waiting, seen = ["".join(traceback.format_exception(err))], [err], set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        told += [str(one), repr(one), repr(one.args), repr(vars(one)), json.dumps(vars(one), default=str)]
        for holder in (one, getattr(one, "response", None)):
            request = getattr(holder, "request", None)
            told += [repr(getattr(request, "headers", "")), repr(getattr(request, "body", ""))]
            told += [str(getattr(holder, "text", ""))]
        waiting += [one.__cause__, one.__context__]
    return "\n".join(told)


@pytest.mark.parametrize("call", CALLS)
def test_no_error_of_a_client_has_a_secret_in_it(careless: tuple[Emulator, str], call: str, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    emulator, url = careless
    failed = 0
    for status in STATUSES:
        emulator.set_faults([Fault(kind="echo", status=status, times=None)])
        try:
            CALLS[call](url)
        except HecateError as err:
            failed += 1
            assert not Search(SECRETS).within(everything_of(err).encode()), f"{status}: {type(err).__name__}"
        except Exception as err:  # an answer of the wrong shape: where it is caught is not the client's business
            told = "".join(traceback.format_exception(err))
            assert not Search(SECRETS).within(told.encode()), f"{status}: {type(err).__name__}"
    assert failed >= 10
    assert not Search(SECRETS).within(caplog.text.encode())


@pytest.mark.parametrize("call", CALLS)
def test_nor_has_one_without_an_answer(careless: tuple[Emulator, str], call: str) -> None:
    emulator, url = careless
    emulator.set_faults([Fault(kind="cut", times=None)])
    with pytest.raises(HecateError) as caught:
        CALLS[call](url)
    assert not Search(SECRETS).within(everything_of(caught.value).encode())


def test_the_check_would_see_it(careless: tuple[Emulator, str]) -> None:
    """The same call with nothing hidden."""
    emulator, url = careless
    emulator.set_faults([Fault(kind="echo", status=500, times=None)])
    with pytest.raises(HecateError) as caught:
        NomadClient(url, TOKEN, sleep=quick).register({"ID": "a", "Env": SENT}, 0)
    assert Search(SECRETS).within(everything_of(caught.value).encode()) == set(SECRETS)


def test_a_long_answer_is_cut_off_behind_the_secrets_and_not_within_one(careless: tuple[Emulator, str]) -> None:
    emulator, url = careless
    for before in range(440, 500, 4):
        emulator.set_faults([Fault(kind="status", status=500, body="x" * before + TOKEN + "y" * 300, times=None)])
        with pytest.raises(ApiFailure) as caught:
            JsonApi("any", url, mask=hide, sleep=quick).send("POST", "/")
        assert not Search(SECRETS).within(str(caught.value).encode()), before


def test_what_authentik_finds_wrong_is_told_without_it(careless: tuple[Emulator, str]) -> None:
    emulator, url = careless
    emulator.set_faults([Fault(kind="echo", status=400, times=None)])
    with pytest.raises(Refused) as caught:
        CALLS["authentik writes"](url)
    told = _explained(caught.value, [mock.Mock(subject=mock.Mock(origin="hecate:authentik:groups:a"))])
    assert "detail" in str(told) and "(secret)" in str(told)
    assert not Search(SECRETS).within(everything_of(told).encode())
