"""A deploy over three targets, killed at every single step of it; and what the next one makes of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hecate.errors import Fenced, HecateError, LockHeld, LockLost
from hecate.journal import Journal
from hecate.resource import Change, Resource
from hecate.store.audit import Audit
from hecate.store.deployments import DONE, FAILED, RUNNING, UNDONE, Deployments
from hecate.store.local import LocalStore
from hecate.store.lock import Heartbeat
from hecate.store.witness import Witness
from hecate.targets import Crew, Step
from hecate.transactions import Actor, Transactions

STEPS = [Step(name, name, "caddy") for name in ("one", "two", "three")]
PILLAR: dict[str, Any] = {"hecate": {"routes": {"a": {}}}}


class Killed(BaseException):
    """kill -9 at this point: nothing after it is run."""


class Death:
    """Counts whatever leaves the master's process, and kills it before or after the chosen one."""

    def __init__(self) -> None:
        self.count, self.at, self.after = 0, -1, False

    def passing(self, call: Any) -> Any:
        mine, self.count = self.count, self.count + 1
        if mine == self.at and not self.after:
            raise Killed
        answer = call()
        if mine == self.at:
            raise Killed
        return answer


class Machine:
    """A target: a value under each name, and its real journal."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.value = Journal(folder), "old"

    def apply(self, transaction: str, value: str) -> None:
        with self.journal.exclusive():
            self.journal.refuse_strangers(transaction)
            before, after = (Resource("k", "a", {"v": v}) for v in (self.value, value))
            if before != after:
                self.journal.announce(transaction, [Change(before, after)], shared=True)
                self.value = value

    def answer(self, function: str, *args: Any) -> Any:
        try:
            return getattr(self, function.partition(".")[2])(*args)
        except HecateError as err:
            return str(err)

    def join(self, _system: str, transaction: str, fence: int, by: str) -> list[str]:
        return self.journal.join(transaction, fence, by)

    def leave(self, _system: str, transaction: str) -> bool:
        self.journal.leave(transaction)
        return True

    def commit(self, _system: str, transaction: str, fence: int) -> dict[str, Any]:
        self.journal.take_over(transaction, fence)
        entry = self.journal.entry(transaction)
        ids = [change.id for change in entry.changes] if entry else []
        self.journal.keep(transaction)
        return {"count": len(ids), "ids": ids}

    def rollback(self, _system: str, transaction: str, fence: int) -> list[str]:
        self.journal.take_over(transaction, fence)
        entry = self.journal.entry(transaction)
        if entry is None:
            return []
        first = entry.changes[0].before
        self.value = first.spec["v"] if first else ""
        self.journal.close(transaction)
        return [change.id for change in entry.changes]


class Mortal(LocalStore):
    """A store whose user dies while he writes."""

    death: Death | None = None

    def put(self, key: str, value: Any, version: str | None) -> bool:
        write = super().put
        return bool(
            self.death.passing(lambda: write(key, value, version)) if self.death else write(key, value, version)
        )


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.death = folder, Death()
        self.machines = {step.minion: Machine(folder / step.minion) for step in STEPS}
        self.silent: set[str] = set()

    def master(self, *, mortal: bool = False, wait: float = 0) -> Transactions:
        store = Mortal(self.folder / "store")
        store.death = self.death if mortal else None

        def call(minion: str, function: str, *args: Any) -> Any:
            if minion in self.silent:
                return f"{minion} does not answer; is its minion running?"
            ask = self.machines[minion].answer
            return self.death.passing(lambda: ask(function, *args)) if mortal else ask(function, *args)

        audit = Audit(store, "prod", lambda: b"k" * 32, Witness(self.folder / "seen"), user="alice", host="m1")
        return Transactions(
            Deployments(store, "prod"), OneByOne(call), STEPS, Actor("alice", "m1", "123"), audit, wait=wait
        )

    def deploy(self, transaction: str, value: str, *, mortal: bool = False) -> None:
        master = self.master(mortal=mortal)
        master.begin(transaction, PILLAR, f"to {value}", {"to": "x"} if value == "x" else {})
        for machine in self.machines.values():
            self.death.passing(lambda machine=machine: machine.apply(transaction, value)) if mortal else machine.apply(
                transaction, value
            )
        master.record(transaction, PILLAR)

    def bury(self) -> None:
        """What the kernel does for a process that was killed: its lease ends."""
        lock = self.master().deployments.lock
        held = lock.last()
        for beat in list(Heartbeat._beating.values()):
            beat.stop()
        if held:
            LocalStore(self.folder / "store").give_up(held.lease)

    @property
    def values(self) -> set[str]:
        return {machine.value for machine in self.machines.values()}

    def is_clean(self) -> None:
        """Nothing open anywhere, the lock free, and the audit tells no lies."""
        master = self.master()
        assert master.deployments.holder() is None and master.deployments.unfinished() is None
        assert not [e for machine in self.machines.values() for e in machine.journal.open_entries()]
        assert master.audit.problems(list(master.deployments.newest())) == []


class OneByOne(Crew):
    """In one thread, so that a death is at one certain point."""

    def ask_each(self, questions: Any) -> dict[str, Any]:
        return {name: self.ask(q[0], q[1], *q[2]) for name, q in questions.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(autouse=True)
def hearts_end_with_their_test() -> Iterator[None]:
    """They are known by their transactions, which have the same names in every test."""
    yield
    for beat in list(Heartbeat._beating.values()):
        beat.stop()


def said(world: World) -> Sequence[str]:
    return [entry.what for entry in world.master().audit.entries()]


def steps_of_a_deploy(folder: Path) -> int:
    world = World(folder)
    world.deploy("t1", "new", mortal=True)
    return world.death.count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("by", ["the next deploy", "resume", "rollback"])
def test_killed_anywhere_everything_is_old_or_new_and_the_history_tells_it(
    tmp_path: Path, by: str, after: bool
) -> None:
    count = steps_of_a_deploy(tmp_path / "whole")
    assert count > 15
    for at in range(count):
        world = World(tmp_path / f"{at}")
        world.deploy("t0", "old")
        world.death.at, world.death.after = at, after
        with pytest.raises(Killed):
            world.deploy("t1", "new", mortal=True)
        world.bury()
        master = world.master()
        open_before = master.deployments.unfinished()
        if by == "the next deploy":
            master.begin("t2", PILLAR)
            assert world.values in ({"old"}, {"new"}), at
            for machine in world.machines.values():
                machine.apply("t2", "newest")
            master.record("t2", PILLAR)
            assert world.values == {"newest"}
        elif by == "resume":
            master.resume("undo", lambda left: pytest.fail("not asked for"))
            assert world.values in ({"old"}, {"new"}), at
        elif open_before:
            master.rollback(open_before.id, "asked for")
            assert world.values == {"old"}, at
        world.is_clean()
        assert {d.status for d in world.master().deployments.newest()} <= {DONE, UNDONE}


def test_a_decided_deploy_is_completed_and_not_undone(world: World) -> None:
    world.death.at = steps_of_a_deploy(world.folder / "whole") - 6
    with pytest.raises(Killed):
        world.deploy("t1", "new", mortal=True)
    world.bury()
    assert "it was completed" in world.master().resume("undo", lambda left: "")
    assert world.values == {"new"}
    world.is_clean()
    assert world.master().deployments.get("t1").changed["one"] == {"count": 1, "ids": ["k a"]}


def test_an_undo_that_was_killed_is_carried_on(world: World) -> None:
    """Of a deploy that was done, too: half of it undone is no state to be in."""
    world.deploy("t1", "new")
    for at in range(3, 40):
        world.death.count, world.death.at = 0, at
        try:
            world.master(mortal=True).rollback("t1", "asked for")
            break
        except Killed:
            world.bury()
    else:
        pytest.fail("the rollback never came to its end")
    world.death.at = -1
    world.master().resume("finish", lambda left: pytest.fail("an undo is not to be finished otherwise"))
    assert world.values == {"old"}
    world.is_clean()


def test_a_paused_deploy_that_wakes_up_is_refused_everywhere(world: World) -> None:
    paused = world.master()
    paused.begin("t1", PILLAR)
    world.machines["one"].apply("t1", "new")
    world.bury()  # its lease ran out while it slept
    world.deploy("t2", "newest")
    for machine in world.machines.values():
        with pytest.raises(Fenced):
            machine.apply("t1", "new")
    with pytest.raises(LockLost):
        paused.record("t1", PILLAR)
    assert "undone already" in paused.rollback("t1", "a step failed")
    assert world.values == {"newest"}
    world.is_clean()


def test_a_paused_undo_that_wakes_up_undoes_nothing_of_the_next(world: World) -> None:
    world.deploy("t1", "new")
    fence = world.master().deployments.acquire("t1", "alice").fence
    world.bury()
    world.deploy("t2", "newest")
    answers = [machine.answer("hecate.rollback", "caddy", "t1", fence) for machine in world.machines.values()]
    assert all("took over" in str(answer) for answer in answers) and world.values == {"newest"}


def test_a_plan_is_of_no_use_once_somebody_else_had_the_lock(world: World) -> None:
    """It may say that a target has nothing to do, and so leave out what the other has undone since."""
    settled = world.master().deployments.settled
    assert settled() == 0
    world.deploy("t1", "one")
    planned = settled()
    assert planned == 1
    world.deploy("t2", "two")
    held = said(world)
    with pytest.raises(HecateError, match="had the lock between this deploy's plan and its turn.*nothing was written"):
        world.master().begin("t3", PILLAR, after=planned)
    assert said(world) == [*held, "not begun"] and world.master().deployments.holder() is None
    world.master().begin("t4", PILLAR, after=settled())
    assert settled() is None, "somebody deploys"
    world.bury()
    assert world.master().deployments.holder() is None and settled() is None, "what he left is undone first"
    world.master().resume("undo", lambda left: pytest.fail("not asked for"))
    assert settled() is not None


def test_a_transaction_about_some_targets_undoes_what_was_left_on_all(world: World) -> None:
    world.deploy("t0", "old")
    world.master().begin("t1", PILLAR)
    for machine in world.machines.values():
        machine.apply("t1", "new")
    world.bury()
    world.master().of(STEPS[:1]).begin("t2", PILLAR)
    assert world.values == {"old"}
    world.master().of(STEPS[:1]).record("t2", PILLAR)
    world.is_clean()


def test_while_it_still_runs_the_next_is_refused_and_told_who(world: World) -> None:
    world.master().begin("t1", PILLAR)
    with pytest.raises(LockHeld, match="alice"):
        world.master().begin("t2", PILLAR)
    with pytest.raises(LockHeld, match="deploy t1"):
        world.master().resume("undo", lambda left: "")
    assert said(world) == ["begin", "refused"]
    assert world.master().deployments.get("t1").status == RUNNING


def test_a_target_that_is_silent_at_the_beginning_stops_it_with_nothing_written(world: World) -> None:
    world.silent = {"two"}
    with pytest.raises(HecateError, match="nothing was written(.|\n)*two: two does not answer"):
        world.master().begin("t1", PILLAR)
    assert world.master().deployments.holder() is None and world.master().deployments.history(9) == []
    assert "had not begun" in world.master().rollback("t1", "a step failed")
    world.silent = set()
    world.deploy("t2", "new")
    world.is_clean()


def test_a_target_that_is_silent_in_an_undo_is_undone_later(world: World) -> None:
    world.master().begin("t1", PILLAR)
    for machine in world.machines.values():
        machine.apply("t1", "new")
    world.silent = {"two"}
    with pytest.raises(HecateError, match="NOT undone: two"):
        world.master().rollback("t1", "a step failed")
    found = world.master().deployments.get("t1")
    assert found.status == FAILED and world.machines["two"].value == "new"
    world.silent = set()
    world.master().resume("finish", lambda left: pytest.fail("the undo was decided"))
    assert world.values == {"old"}
    world.is_clean()


def test_what_history_does_not_know_and_is_open_stops_a_deploy(world: World) -> None:
    world.machines["one"].apply("stranger", "strange")
    with pytest.raises(HecateError, match="one: stranger"):
        world.master().begin("t1", PILLAR)
    assert world.machines["one"].value == "strange" and world.master().deployments.holder() is None


def test_finish_deploys_anew_what_was_wanted(world: World) -> None:
    world.master().begin("t1", PILLAR)
    world.bury()
    asked = []

    def finish(left: Any) -> str:
        asked.append((left.id, dict(left.pillar)))
        world.deploy("t2", "new")
        return "deployed"

    assert "deployed anew" in world.master().resume("finish", finish)
    assert asked == [("t1", PILLAR["hecate"])] and world.master().deployments.get("t1").status == UNDONE
    world.is_clean()


def test_who_loses_the_lock_takes_its_targets_along(world: World) -> None:
    """Nobody else has come: it writes no more all the same."""
    master = world.master()
    master.begin("t1", PILLAR)
    beat = Heartbeat.of("t1")
    assert beat
    world.bury()
    assert not beat.beat()
    beat._tell()
    with pytest.raises(Fenced, match="it was released"):
        world.machines["one"].apply("t1", "new")


def test_unlock_wants_a_reason_and_keeps_it(world: World) -> None:
    world.master().begin("t1", PILLAR)
    with pytest.raises(HecateError, match="reason"):
        world.master().unlock(" ")
    assert "taken from alice" in world.master().unlock("it hangs")
    last = world.master().audit.entries()[-1]
    assert last.what == "unlock" and "it hangs" in last.note and last.deployment == "t1"
    assert world.master().unlock("again") == "the lock is free"
    world.master().resume("undo", lambda left: "")
    world.is_clean()


def test_an_audit_that_can_not_be_written_stops_a_deploy_before_and_not_after(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise HecateError("Vault is down")

    world.master().begin("t1", PILLAR)
    world.machines["one"].apply("t1", "new")
    monkeypatch.setattr(Audit, "tell", refuse)
    told = world.master().rollback("t1", "a step failed")
    assert "NOT in the audit: Vault is down" in told and world.values == {"old"}
    with pytest.raises(HecateError, match="Vault is down"):
        world.master().begin("t2", PILLAR)
    assert world.master().deployments.holder() is None
