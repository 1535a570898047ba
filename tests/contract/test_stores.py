"""One suite for both stores: what lock and history rest on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import ROOT, free_port
from hecate.errors import ApiFailure, Faulty, HecateError, LockHeld, NotAuthorised
from hecate.store import ABSENT, Store
from hecate.store.consul import ConsulStore
from hecate.store.deployments import DONE, RUNNING, UNDONE, Deployment, Deployments
from hecate.store.local import LocalStore

TOKEN = "8f7b1c52-6a3e-4f0c-9b1d-2e5a7c9d0f11"


def _consul_binary() -> str:
    found = shutil.which("consul")
    if found:
        return found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hecate"
    binary = cache / "usr" / "bin" / "consul"
    if not binary.exists():
        done = subprocess.run([str(ROOT / "tools" / "fetch-consul"), str(cache)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"for want of a tool: {done.stderr.strip()[-200:]}")
    return str(binary)


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real agent with ACLs: nothing without the token."""
    binary, folder, http = _consul_binary(), tmp_path_factory.mktemp("consul"), free_port()
    ports = {
        "http": http,
        "dns": -1,
        "grpc": -1,
        "server": free_port(),
        "serf_lan": free_port(),
        "serf_wan": free_port(),
    }
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"master": TOKEN, "agent": TOKEN}}
    local = {"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1", "server": True, "bootstrap_expect": 1}
    config = {**local, "data_dir": str(folder / "data"), "ports": ports, "acl": acl, "disable_update_check": True}
    (folder / "agent.json").write_text(json.dumps(config))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [binary, "agent", "-config-file", str(folder / "agent.json")], stdout=log, stderr=log
        )
    url, until = f"http://127.0.0.1:{http}", time.monotonic() + 40
    while True:
        try:
            ready = requests.put(f"{url}/v1/kv/ready", "1", headers={"X-Consul-Token": TOKEN}, timeout=2)
            if ready.ok:
                break
        except requests.RequestException:
            pass
        assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-2000:]
        time.sleep(0.2)
    yield url
    process.terminate()
    process.wait(10)


@pytest.fixture(params=["local", "consul"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return ConsulStore(request.getfixturevalue("consul"), TOKEN, f"test-{tmp_path.name}")


def deployment(number: int, status: str = RUNNING, **more: Any) -> Deployment:
    return Deployment(f"2026010{number}-000000-aaaaaaaa", status, "alice", 1.0, **more)


def test_a_value_is_written_only_on_top_of_what_was_read(store: Store) -> None:
    assert store.get("a") is None
    assert store.put("a", {"v": 1}, ABSENT)
    assert not store.put("a", {"v": 2}, ABSENT)
    seen = store.get("a")
    assert seen and seen.value == {"v": 1}
    assert store.put("a", {"v": 2}, seen.version)
    assert not store.put("a", {"v": 3}, seen.version)
    assert not store.delete("a", seen.version)
    fresh = store.get("a")
    assert fresh and fresh.value == {"v": 2} and store.delete("a", fresh.version)
    assert store.get("a") is None


def test_keys_are_listed_by_prefix(store: Store) -> None:
    for key in ("x/b", "x/a", "y/c"):
        store.put(key, 1, None)
    assert store.keys("x/") == ["x/a", "x/b"]


def test_of_many_that_want_the_lock_one_gets_it(store: Store) -> None:
    def attempt(number: int) -> bool:
        try:
            Deployments(store, "prod").acquire(f"t{number}", "alice")
            return True
        except LockHeld:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_the_holder_is_named_and_only_it_releases(store: Store) -> None:
    deployments = Deployments(store, "prod")
    deployments.acquire("t1", "alice")
    with pytest.raises(LockHeld, match="alice"):
        deployments.acquire("t2", "bob")
    deployments.release("t2")
    assert deployments.holder() is not None
    deployments.release("t1")
    assert deployments.holder() is None


def test_environments_do_not_share_a_lock(store: Store) -> None:
    Deployments(store, "prod").acquire("t1", "alice")
    assert Deployments(store, "staging").acquire("t2", "bob").fence == 1


def test_history_is_newest_first_and_finds_what_was_left_open(store: Store) -> None:
    deployments = Deployments(store, "prod")
    for number, status in enumerate((DONE, UNDONE, RUNNING, DONE), start=1):
        deployments.save(deployment(number, status, pillar={"n": number}))
    assert [d.id[7] for d in deployments.history(3)] == ["4", "3", "2"]
    unfinished = deployments.unfinished()
    assert unfinished and unfinished.id == deployment(3).id
    deployments.save(replace(deployments.get(unfinished.id), status=UNDONE))
    assert deployments.unfinished() is None
    assert deployments.get(deployment(1).id).pillar == {"n": 1}
    with pytest.raises(HecateError, match="hecate.history"):
        deployments.get("20260101-000000-bbbbbbbb")


def test_a_large_pillar_fits(store: Store) -> None:
    routes = {f"app{n}.example.com": {"upstreams": [f"10.0.{n // 250}.{n % 250}:8080"]} for n in range(10_000)}
    deployments = Deployments(store, "prod")
    deployments.save(deployment(1, pillar={"routes": routes}))
    assert deployments.get(deployment(1).id).pillar["routes"] == routes


def test_consul_says_which_right_is_missing(consul: str) -> None:
    with pytest.raises(NotAuthorised, match="key_prefix"):
        ConsulStore(consul, "00000000-0000-0000-0000-00000000dead", "x").put("a", 1, None)


def test_a_consul_that_is_down_is_not_an_empty_store(tmp_path: Path) -> None:
    with pytest.raises(ApiFailure):
        ConsulStore(f"http://127.0.0.1:{free_port()}", "", "x").get("a")


def test_a_damaged_file_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{half")
    with pytest.raises(Faulty, match="damaged"):
        LocalStore(tmp_path).get("a")
    assert (tmp_path / "a.json").read_text() == "{half"
