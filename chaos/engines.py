"""Hundreds of applies that are killed: engines over a real Caddy and the emulators, in processes that die."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import requests
from hecate.errors import JournalDamaged

from chaos import sight
from chaos.tally import Tally, Violation
from chaos.worker import Job, journal_of
from chaos.worlds import ALLOW, MAKERS, Pillar, World
from lab.layout import REPO

WEIGHTS = {"caddy": 5, "authentik": 2, "hetzner_dns": 4, "nomad": 1}
POINTS = {"caddy": 14, "authentik": 60, "hetzner_dns": 36, "nomad": 24}  # about as many as an apply has
CUTS = ("cut", "lost-answer", "half-body", "status")
DEATHS = 3  # of one recovery, before it is left in peace


class Workers:
    """The process whose forks do the jobs."""

    def __init__(self) -> None:
        words = [sys.executable, "-m", "chaos.worker"]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO)

    def do(self, job: Job) -> Job:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker is gone: {self._process.poll()}")
        # A job that was killed after it had told how it ended says two things; the first is how it ended.
        answer: Job = json.JSONDecoder().raw_decode(line)[0]
        return answer

    def stop(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(20)


class Bench:
    """One system with what stands there, and what is to stand there.

    old: the pillar that stands, and how that looks. goal: the next one, until it was reached once.
    """

    def __init__(self, world: World, workers: Workers, tally: Tally, number: int = 0) -> None:
        self.world, self.workers, self.tally = world, workers, tally
        self.random = Random(f"{tally.seed} {world.system} {number}")
        self.pillar = world.wish(self.random)
        self.goal: Pillar | None = None
        self.seen: list[sight.Objects] = []
        self.number = number
        self.told: list[str] = []
        self.problems: list[str] = []
        first = self._job("apply", self.pillar, f"first{number}", -1)
        if "error" in first:
            raise RuntimeError(f"{world.system}: {first['error']}")
        self.state, self.strange = world.look(), world.strangers()

    def step(self, number: int) -> None:
        """One transaction, killed or cut somewhere, and its recovery, which may be killed as well."""
        self.number, self.told, self.problems = number, [], []
        self.random = Random(f"{self.tally.seed} {self.world.system} {number}")
        goal = self.goal = self.goal or self._another()
        shared, transaction = self.random.random() < 0.5, f"t{number}"
        answer = self._broken(goal, transaction, shared)
        self._look()
        if shared:
            if self._ended(answer) and self.random.random() < 0.5:
                journal_of(self.world.system, self.world.folder).keep(transaction)
                self._reached(goal)
            else:
                self._refused(transaction)
                self._undo(transaction)
        else:
            choices: list[Callable[[], None]] = [
                lambda: self._undo(transaction),
                lambda: self._apply(goal),
                lambda: self._apply(goal),
                lambda: self._apply(self.pillar),
            ]
            self.random.choice(choices)()
        if self.world.strangers() != self.strange:
            self.problems.append("strangers were touched")
        self.tally.runs += 1

    # What happens

    def _another(self) -> Pillar:
        while (found := self.world.wish(self.random)) == self.pillar:
            pass
        return found

    def _broken(self, goal: Pillar, transaction: str, shared: bool) -> Job:
        if self.world.url and self.random.random() < 0.25:
            return self._cut(goal, transaction, shared)
        return self._job("apply", goal, transaction, self._point(), shared)

    def _cut(self, goal: Pillar, transaction: str, shared: bool) -> Job:
        fault = {
            "kind": self.random.choice(CUTS),
            "method": self.random.choice(["WRITE", ""]),
            "skip": self.random.randint(0, 12),
            "times": self.random.randint(1, 4),
        }
        self.told.append(f"cut {fault}")
        url = f"{self.world.url}/_lab/faults"
        requests.put(url, json=[fault], timeout=10).raise_for_status()
        answer = self._job("apply", goal, transaction, -1, shared, may_fail=True)
        if any(row["hit"] for row in requests.get(url, timeout=10).json()):
            self.tally.by_fault["engine: calls cut"] += 1
        requests.delete(url, timeout=10).raise_for_status()
        return answer

    def _undo(self, transaction: str) -> None:
        self._until_done(lambda point, _: self._job("undo", self.pillar, transaction, point))
        odd = sight.differences(self.state, self.world.look())
        if odd:
            self.problems.append(f"after the undo these are not as before: {odd[:6]}")

    def _apply(self, pillar: Pillar) -> None:
        name = f"t{self.number}r"
        self._until_done(lambda point, again: self._job("apply", pillar, f"{name}{again}", point))
        if pillar == self.goal:
            self._reached(pillar)
        elif odd := sight.differences(self.state, self.world.look()):
            self.problems.append(f"the old wish applied again is not as before: {odd[:6]}")

    def _until_done(self, attempt: Callable[[int, int], Job]) -> None:
        """Killed a few times more, perhaps; then it has to succeed."""
        for again in range(DEATHS):
            answer = attempt(self._point() if self.random.random() < 0.4 else -1, again)
            if "killed" not in answer:
                return
            self._look()
        attempt(-1, DEATHS)

    def _reached(self, pillar: Pillar) -> None:
        rest = self._job("plan", pillar, "", -1).get("changes")
        if rest:
            self.problems.append(f"the plan is not empty: {rest[:6]}")
        new = self.world.look()
        for between in self.seen:
            if odd := sight.neither(between, self.state, new):
                self.problems.append(f"on the way neither old nor new: {odd[:6]}")
        if self._open():
            self.problems.append(f"the journal still has {self._open()} open")
        self.pillar, self.state, self.goal, self.seen = pillar, new, None, []

    def _refused(self, transaction: str) -> None:
        """While a deploy is open here nobody else may apply."""
        entry = journal_of(self.world.system, self.world.folder).entry(transaction)
        if not entry or not entry.changes or self.random.random() < 0.7:
            return  # nothing was announced to its end, so nothing was written
        before = self.world.look()
        answer = self._job("apply", self.pillar, f"{transaction}x", -1, may_fail=True)
        if "TransactionOpen" not in answer.get("error", ""):
            self.problems.append(f"an open deploy was not respected: {answer}")
        if before != self.world.look():
            self.problems.append("something was written into an open deploy")

    # How it is asked and looked at

    def _job(
        self, what: str, pillar: Pillar, transaction: str, kill_at: int, shared: bool = False, may_fail: bool = False
    ) -> Job:
        self.tally.steps += 1
        answer = self.workers.do(
            {
                "do": what, "system": self.world.system, "hecate": {**self.world.base, **pillar},
                "folder": str(self.world.folder), "allow": ALLOW, "transaction": transaction, "shared": shared,
                "kill_at": kill_at, "torn": self.random.random(),
            }
        )  # fmt: skip
        self.told.append(f"{what} {transaction} at {kill_at}: {answer.get('killed') or answer.get('error') or 'ended'}")
        if "killed" in answer:
            self.tally.by_fault[f"engine: killed {answer['killed']}"] += 1
        if answer.get("unexpected") or ("error" in answer and not may_fail):
            self.problems.append(f"{what} {transaction}: {answer['error']}")
        return answer

    def _ended(self, answer: Job) -> bool:
        return "killed" not in answer and "error" not in answer

    def _point(self) -> int:
        return self.random.randint(0, POINTS[self.world.system])

    def _open(self) -> list[str]:
        try:
            return [entry.transaction for entry in journal_of(self.world.system, self.world.folder).open_entries()]
        except JournalDamaged as err:
            self.problems.append(str(err))
            return []

    def _look(self) -> None:
        self.seen.append(self.world.look())
        self._open()


def campaign(
    seed: int, steps: int, say: Callable[[str], None] = lambda line: None, systems: Sequence[str] = tuple(WEIGHTS)
) -> Tally:
    """So many transactions over the systems; every one has randomness of its own."""
    tally, order = Tally(seed), Random(f"{seed} order")
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hecate-chaos-")))
        worlds: dict[str, Any] = {}
        for system in systems:
            (base / system).mkdir()
            worlds[system] = stack.enter_context(MAKERS[system](base / system))
        workers = Workers()
        stack.callback(workers.stop)
        benches = {name: Bench(world, workers, tally) for name, world in worlds.items()}
        weights = [WEIGHTS[system] for system in systems]
        for number in range(1, steps + 1):
            system = order.choices(list(systems), weights)[0]
            bench = benches[system]
            bench.step(number)
            repeat = f"python -m chaos --seed {seed} --steps {number}"
            for problem in bench.problems:
                what, moment = f"{system}: {problem}", "; ".join(bench.told)
                tally.violations.append(Violation("engines", seed, number, system, moment, what, repeat))
                say(str(tally.violations[-1]))
            if bench.problems:
                benches[system] = _anew(bench, tally)
    return tally


def _anew(bench: Bench, tally: Tally) -> Bench:
    """After a violation: open transactions undone, and what stands then is the new beginning."""
    for name in bench._open():
        bench._job("undo", bench.pillar, name, -1, may_fail=True)
    return Bench(bench.world, bench.workers, tally, bench.number)
