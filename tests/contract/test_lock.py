"""One suite for both stores: the lock, its fence and its heartbeat; and what becomes of it when its owner does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from conftest import ROOT
from hecate.errors import LockHeld, LockLost, Unreachable
from hecate.store import Store
from hecate.store.leases import Leases, Process
from hecate.store.local import LocalStore
from hecate.store.lock import Heartbeat, Holder, Lock, must_hold

from contract.test_stores import TOKEN, consul, store

__all__ = ["consul", "store"]  # fixtures

OWNER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from hecate.store.consul import ConsulStore
from hecate.store.local import LocalStore
from hecate.store.deployments import Deployments
kind, *where = sys.argv[2:]
store = LocalStore(Path(where[0])) if kind == "local" else ConsulStore(*where)
from hecate.store.lock import Lock
print(Deployments(store, "prod", Lock(store, "prod", ttl=10)).acquire("t1", "alice").fence, flush=True)
time.sleep(600)
"""


def owner(words: list[str]) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", OWNER, str(ROOT / "_utils"), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline().strip() == "1"
    return process


@pytest.fixture(params=["local", "consul"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    if request.param == "local":
        return ["local", str(tmp_path / "store")]
    return ["consul", request.getfixturevalue("consul"), TOKEN, f"lock-{tmp_path.name}"]


def opened(place: list[str]) -> Store:
    from hecate.store.consul import ConsulStore

    return LocalStore(Path(place[1])) if place[0] == "local" else ConsulStore(*place[1:])


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.2)


def test_a_killed_owner_is_followed_at_once_and_with_a_higher_fence(place: list[str]) -> None:
    process = owner(place)
    lock = Lock(opened(place), "prod")
    with pytest.raises(LockHeld, match=rf"alice on .*pid {process.pid}, deploy t1, since .*, for \d+ s"):
        lock.take("t2", "bob")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert lock.holder() is None
    assert lock.take("t2", "bob").fence == 2


def test_a_paused_owner_loses_the_lock_and_learns_it(place: list[str]) -> None:
    process = owner(place)
    try:
        lock = Lock(opened(place), "prod")
        process.send_signal(signal.SIGSTOP)
        taken = lock.take("t2", "bob", wait=60)
        process.send_signal(signal.SIGCONT)
        assert taken.fence == 2
        held = lock.holder()
        assert held and held.transaction == "t2", "the one that woke up changes nothing"
        lock.release("t1")
        assert lock.holder()
    finally:
        process.kill()
        process.wait()


def test_each_taking_has_a_fence_of_its_own(store: Store) -> None:
    lock = Lock(store, "prod")
    assert [lock.take("t1", "alice").fence, lock.take("t1", "alice").fence] == [1, 2]
    lock.release("t1")
    assert lock.take("t2", "bob").fence == 3


def test_of_many_one_has_it_and_fences_are_never_shared(store: Store) -> None:
    def attempt(number: int) -> int:
        lock = Lock(store, "prod")
        fence = lock.take(f"t{number}", "alice", wait=60).fence
        lock.release(f"t{number}")
        return fence

    with ThreadPoolExecutor(4) as pool:
        fences = list(pool.map(attempt, range(6)))
    assert len(set(fences)) == 6


def test_whoever_waits_gets_it_when_it_is_released(store: Store) -> None:
    lock = Lock(store, "prod")
    lock.take("t1", "alice")
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            Lock(store, "prod").release("t1")

    assert Lock(store, "prod", sleep=sleep).take("t2", "bob", wait=30).transaction == "t2"
    assert len(waits) == 2


def test_who_must_hold_it_is_told_who_has_it(store: Store) -> None:
    lock = Lock(store, "prod")
    lock.take("t1", "alice")
    assert must_hold(lock, "t1").user == "alice"
    lock.seize()
    with pytest.raises(LockLost, match="nobody has it now"):
        must_hold(lock, "t1")
    lock.take("t2", "bob")
    with pytest.raises(LockLost, match="bob"):
        must_hold(lock, "t1")


def test_a_heartbeat_finds_its_lock_gone_and_says_so_once(store: Store) -> None:
    lock, told = Lock(store, "prod", ttl=10), []
    holder = lock.take("t1", "alice")
    beat = Heartbeat(replace_ttl(lock, 0.3), holder, lambda: told.append("lost"))
    beat.start()
    lock.seize()
    eventually(lambda: beat.lost)
    eventually(lambda: told == ["lost"])
    assert Heartbeat.of("t1") is None


def replace_ttl(lock: Lock, ttl: float) -> Lock:
    lock.ttl = ttl
    return lock


def test_a_heartbeat_keeps_the_lock(place: list[str]) -> None:
    """Longer than the lease would run by itself."""
    process = owner(place)
    try:
        store = opened(place)
        lease = store.get("prod/lock").value["lease"]  # type: ignore[union-attr]
        if place[0] == "local":
            path = Path(place[1]) / ".leases" / f"{lease}.lease"
            before = json.loads(path.read_text())["until"]
            eventually(lambda: json.loads(path.read_text())["until"] > before)
        else:
            time.sleep(21)  # Consul ends a session within twice its TTL, which is 10 here
        assert store.is_running(lease)
    finally:
        process.kill()
        process.wait()


class Away(LocalStore):
    """A store that does not answer."""

    def renew(self, lease: str) -> bool:
        raise Unreachable("consul", "no answer")


def test_a_store_that_is_away_costs_nothing_before_the_ttl_is_over(tmp_path: Path) -> None:
    lock = Lock(Away(tmp_path), "prod", ttl=10)
    beat = Heartbeat(lock, lock.take("t1", "alice"))
    assert beat.beat() and not beat.lost
    beat._good -= 11
    assert not beat.beat() and beat.lost


def test_a_step_of_the_wall_clock_neither_frees_nor_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(LocalStore(tmp_path), "prod")
    lock.take("t1", "alice")
    for moment in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        assert lock.holder() is not None


def test_a_lease_ends_unrenewed_with_the_machine_and_with_its_process(tmp_path: Path) -> None:
    now = [1000.0]
    leases = Leases(tmp_path, lambda: now[0])
    name = leases.make(30)
    now[0] += 29
    assert leases.renew(name)
    now[0] += 29
    assert leases.is_running(name)
    now[0] += 2
    assert not leases.is_running(name) and not leases.renew(name), "what has ended stays so"
    own = Process.own()
    assert own.is_alive and not own.is_dead
    rebooted = replace(own, boot="another")
    assert not rebooted.is_alive and not rebooted.is_dead, "another machine's can't be known to be dead"
    reused = replace(own, start="1")
    assert reused.is_dead, "a number that was given again is another process"
    foreign = replace(own, space="pid:[1]", pid=1, start="x")
    assert foreign.is_alive and not foreign.is_dead


def test_a_dead_child_that_is_not_buried_is_dead() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert replace(Process.own(), pid=child).is_dead
    os.waitpid(child, 0)


def test_a_session_that_consul_has_forgotten_holds_nothing(consul: str, tmp_path: Path) -> None:
    from hecate.store.consul import ConsulStore

    kept = ConsulStore(consul, TOKEN, tmp_path.name)
    lock = Lock(kept, "prod")
    holder: Holder = lock.take("t1", "alice")
    headers = {"X-Consul-Token": TOKEN}
    requests.put(f"{consul}/v1/session/destroy/{holder.lease}", headers=headers, timeout=5).raise_for_status()
    assert lock.holder() is None and not lock.renew(holder)
    assert not kept.hold("prod/lock", {"lease": holder.lease}, holder.lease)
    assert lock.take("t2", "bob").fence == 2
