"""`hecate.rotate` as an operator runs it, on a token of authentik's that a client uses without pause."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hvac
import pytest
import requests

from .conftest import Estate

pytestmark = pytest.mark.lab
PATH, KEY, NAME = "hecate/caller", "token", "caller"
WHICH = {"which": [NAME]}


def held(estate: Estate) -> dict[str, str]:
    known = estate.known["openbao"]
    vault = hvac.Client(url=known["url"], token=known["token"], timeout=10).secrets.kv.v2
    found = vault.read_secret_version(path=PATH, mount_point="secret", raise_on_deleted_version=True)
    return dict(found["data"]["data"])


def opens(estate: Estate, key: str) -> bool:
    answer = requests.get(
        f"{estate.known['authentik']['url']}/api/v3/core/users/me/",
        headers={"Authorization": f"Bearer {key}"},
        timeout=10,
    )
    assert answer.status_code in (200, 403), answer.text
    return answer.status_code == 200


def status(estate: Estate) -> dict[str, Any]:
    code, text = estate.run("salt-run", "hecate.rotation_status", "form=data", "--out=json")
    assert code == 0, text
    return dict(json.loads(text[text.index("[") :])[0])


@pytest.fixture
def rotated(estate: Estate) -> Iterator[Estate]:
    """Pillar has a rotation, and its first secret is made; at the end authentik and Vault know nothing of it."""
    rotation = {"kind": "authentik_token", "account": "akadmin", "secret": f"vault:{PATH}#{KEY}", "grace": "1h"}
    known = estate.known["openbao"]
    vault = hvac.Client(url=known["url"], token=known["token"], timeout=10).secrets.kv.v2
    vault.create_or_update_secret(path=PATH, secret={"beside": "it"}, mount_point="secret")
    estate.edit("systems.sls", lambda hecate: hecate.update(rotation={NAME: rotation}))
    try:
        code, text = rotate(estate)
        assert code == 0, text
        yield estate
    finally:
        estate.faults("authentik")
        estate.edit("systems.sls", lambda hecate: hecate["rotation"][NAME].update(grace="0s"))
        code, text = estate.run("salt-run", "hecate.rotate", NAME, "immediate=True")
        assert code == 0, text
        vault.delete_metadata_and_all_versions(path=PATH, mount_point="secret")


def rotate(estate: Estate) -> tuple[int, str]:
    return estate.run("salt-run", "state.orch", "hecate.rotate", f"pillar={json.dumps(WHICH)}")


@contextmanager
def used_without_pause(estate: Estate) -> Iterator[list[str]]:
    """One client reads the reference anew for each call, one goes on with what it read at first. Yields both's uses."""
    over, uses, refused, first = threading.Event(), list[str](), list[str](), held(estate)[KEY]

    def use(who: str) -> None:
        while not over.is_set():
            value = first if who == "kept" else held(estate)[KEY]
            if not opens(estate, value):
                refused.append(who)
            uses.append(who)

    clients = [threading.Thread(target=use, args=(who,)) for who in ("anew", "kept")]
    for client in clients:
        client.start()
    try:
        yield uses
        assert all(client.is_alive() for client in clients), "a client met an error"
    finally:
        over.set()
        for client in clients:
            client.join(30)
    assert refused == [] and min(uses.count("anew"), uses.count("kept")) > 20


def test_nobody_who_uses_the_token_is_refused_while_it_gets_a_successor(rotated: Estate) -> None:
    before = status(rotated)
    assert before["phase"] == "settled" and before["age"] is not None and not before["overdue"]
    first = held(rotated)[KEY]
    with used_without_pause(rotated):
        code, text = rotate(rotated)
    assert code == 0 and "consumers read the successor from now on" in text, text
    after, kept = status(rotated), held(rotated)
    assert after["phase"] == "grace" and after["left"] > 0
    assert kept[KEY] != first and kept[f"{KEY}.previous"] == first and kept["beside"] == "it"
    assert opens(rotated, kept[KEY]) and opens(rotated, first)
    code, text = rotated.plan()
    assert code == 0, text


def test_a_rotation_whose_master_and_proxy_were_killed_is_finished_by_the_next(rotated: Estate) -> None:
    first = held(rotated)[KEY]
    rotated.faults("authentik", {"kind": "delay", "seconds": 3, "method": "WRITE", "path": "set_key", "times": 1})
    with used_without_pause(rotated):
        cut_off(rotated)
        assert held(rotated)[KEY] == first, "the successor is not in use yet"
        rotated.faults("authentik")
        rotated.start("proxy-hecate-authentik")
        until = time.monotonic() + 60
        while rotated.run("salt", "hecate-authentik", "test.ping", "--timeout=2")[0] and time.monotonic() < until:
            pass
        code, text = rotated.run("salt-run", "hecate.rotate", NAME)
    assert code == 0, text
    kept = held(rotated)
    assert kept[KEY] != first and f"{KEY}.next" not in kept and opens(rotated, kept[KEY])
    assert status(rotated)["phase"] == "grace" and rotated.plan()[0] == 0


def cut_off(estate: Estate) -> None:
    """kill -9 of the command, and of who does its work, while the successor is stored and authentik lacks it."""
    words = [f"{estate.known['salt']['bin']}/salt-run", "hecate.rotate", NAME]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = subprocess.Popen(words, env=estate.shell, start_new_session=True, **quiet)
    until = time.monotonic() + 60
    while f"{KEY}.next" not in held(estate):
        assert killed.poll() is None and time.monotonic() < until, "no successor was stored"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    estate.stop("proxy-hecate-authentik")
