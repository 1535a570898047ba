"""Rounds on a whole lab: an edit, a deploy, faults at random moments, one thing that an operator does, and a look."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from chaos import faults, sight, strangers
from chaos.edits import Wish
from chaos.faults import KINDS, Scene
from chaos.machines import DEPLOY, Machines, kill_group
from chaos.prober import Prober
from chaos.sight import Objects
from chaos.tally import Tally, Violation

LONGEST = 180.0  # seconds that a command may take, faults and all
PATIENCE = 120.0  # seconds in which a dead deploy's lock has to be had
STATUSES = ("rolled back", "committing", "running", "failed", "done")
SHOWN = 6


@dataclass
class Round:
    """What one round was, for whoever has to do it again."""

    number: int
    told: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    action: str = ""
    codes: list[int] = field(default_factory=list)


class Campaign:
    """One lab, and the rounds on it. All that is random comes from `seed`.

    old, new: the wish that stands, and the one that is to be; seen: looks in between, until `new` is known.
    """

    def __init__(self, seed: int, say: Callable[[str], object] = lambda line: None) -> None:
        self.seed, self.tally = seed, Tally(seed)
        self.say = say
        self.base = Path(tempfile.mkdtemp(prefix="hecate-chaos-"))
        self.machines: Machines | None = None
        self.usual = 10.0

    def __enter__(self) -> Campaign:
        self.lab = self.machines = Machines(self.base)
        try:
            return self._prepared()
        except BaseException:
            self.__exit__()
            raise

    def _prepared(self) -> Campaign:
        self.wish = Wish.read(self.folder)
        self.goal: Wish | None = None
        self.seen: list[tuple[int, Objects]] = []
        began = time.monotonic()
        code, text = self.lab.run(*DEPLOY)
        if code:
            raise RuntimeError(f"the example itself can't be deployed:\n{text[-3000:]}")
        self.usual = 0.6 * (time.monotonic() - began)  # the first has more to do than any later one
        strangers.plant(self.lab.known)
        self.strange = strangers.look(self.lab.known)
        self.state = sight.everything(self.lab.known)
        self.tally.not_here = faults.missing(self.lab)
        self.say(f"lab in {self.base}; a deploy takes {self.usual:.1f} s")
        return self

    def __exit__(self, *error: object) -> None:
        if self.machines:
            self.machines.down()
        if not self.tally.violations:
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def folder(self) -> Path:
        return self.lab.pillar / "hecate"

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in KINDS if kind not in self.tally.not_here]

    def dealt(self, rounds: int) -> list[list[str]]:
        """The kinds of every round."""
        return faults.dealt(Random(f"{self.seed} dealt"), self.kinds, rounds)

    def round(self, number: int, kinds: Sequence[str], last: bool = False) -> Round:
        """last: ends with a deploy, so that what was seen on the way can be judged."""
        random, now = Random(f"{self.seed} {number}"), Round(number)
        goal = self.goal or self.wish.edited(random)
        self.goal = goal
        goal.write(self.folder)
        now.told += goal.edits
        request: dict[str, object] = {"allow": self.wish.consent(goal), "message": f"round {number}"}
        prober = Prober(self.lab.known, self.wish.untouched(goal))
        prober.start()
        try:
            scene = self._broken(random, kinds, request, now)
            between = sight.everything(self.lab.known)
            self.seen.append((number, between))
            self._act(random, now, request, last)
        finally:
            prober.stop()
        self._check_requests(prober, scene, now)
        self._check_strangers(now)
        self._finish(now, scene)
        return now

    # What happens

    def _broken(self, random: Random, kinds: Sequence[str], request: dict[str, object], now: Round) -> Scene:
        """A deploy with its faults, until it is over and all is mended."""
        clock, told = self.base / "clock", self.base / f"deploy-{now.number}"
        moments = faults.timed(random, kinds, self.usual)
        words = [*DEPLOY, f"pillar={json.dumps(request)}"]
        needs = faults.preloaded(clock) if "clock step" in kinds else {}
        began = time.monotonic()
        scene = Scene(self.lab, self.lab.begin(told, words, **needs), request, clock, random)
        self.tally.steps += 1
        for moment, kind in moments:
            while time.monotonic() - began < moment and scene.under_way:
                time.sleep(0.02)
            scene.inject(kind, time.monotonic() - began)
        time.sleep(random.uniform(0.5, 3))
        scene.mend()
        self._rest(scene, now)
        scene.mend()
        self.tally.by_fault.update(scene.happened)
        now.told += scene.told
        now.codes = [scene.deploy.returncode, *(other.returncode for other, _ in scene.others)]
        return scene

    def _rest(self, scene: Scene, now: Round) -> None:
        until = time.monotonic() + LONGEST
        for process in [scene.deploy, *(other for other, _ in scene.others)]:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                now.problems.append(f"a deploy still hangs after {LONGEST:.0f} s")
                kill_group(process)
        while self.lab.at_work() and time.monotonic() < until:
            time.sleep(0.1)

    def _act(self, random: Random, now: Round, request: dict[str, object], last: bool) -> None:
        """What an operator does next, and whether it leads where it should."""
        lines = self._history(now)
        known = [line for line in lines if f"round {now.number}" in line]
        can_undo = bool(known) and len(known) == 1
        actions = ["deploy"] + (["rollback", "resume"] if can_undo else [])
        now.action = "deploy" if last else random.choice(actions)
        if now.action == "rollback":
            self._command(now, "salt-run", "hecate.rollback", known[0].split()[0])
            self._check_state(now, self.state, "after the rollback")
            return
        if now.action == "resume":
            self._command(now, "salt-run", "hecate.resume")
            if not self._differing(self.state):
                return
        else:
            again = {**request, "message": f"round {now.number} again"}
            self._command(now, *DEPLOY, f"pillar={json.dumps(again)}")
        self._arrive(now)

    def _command(self, now: Round, *words: str) -> None:
        """Has to succeed; a lock whose holder is dead may take its time to be had."""
        until = time.monotonic() + PATIENCE
        while True:
            self.tally.steps += 1
            began = time.monotonic()
            code, text = self.lab.run(*words, timeout=LONGEST)
            if code == 0 and words[:3] == DEPLOY:
                self.usual = time.monotonic() - began
            if code == 0 or "is being deployed by" not in text or time.monotonic() > until:
                break
            time.sleep(2)
        if code:
            now.problems.append(f"{words[1]} ended with {code}: …{text[-1500:]}")

    def _arrive(self, now: Round) -> None:
        """The new wish stands; now it is known what each look on the way should have been one side of."""
        code, text = self.lab.run("salt-run", "hecate.plan")
        if code:
            now.problems.append(f"the plan is not empty: …{text[-1500:]}")
        new = sight.everything(self.lab.known)
        for number, between in self.seen:
            odd = sight.neither(between, self.state, new)
            if odd:
                now.problems.append(f"in round {number}, before the operator came, neither old nor new: {_few(odd)}")
        self.state, self.seen = new, []
        assert self.goal
        self.wish, self.goal = Wish(self.goal.files), None

    # What is looked at

    def _differing(self, state: Objects) -> list[str]:
        return sight.differences(state, sight.everything(self.lab.known))

    def _check_state(self, now: Round, state: Objects, when: str) -> None:
        odd = self._differing(state)
        if odd:
            now.problems.append(f"{when} these are not as before: {_few(odd)}")

    def _check_requests(self, prober: Prober, scene: Scene, now: Round) -> None:
        self.tally.requests += prober.asked
        self.tally.asked_again += prober.again
        failed = prober.failures(scene.windows)
        if failed:
            shown = [f"{a.host} at {a.edge}: {a.got}, not {prober.usual[a.edge, a.host]}" for a in failed[:SHOWN]]
            now.problems.append(f"{len(failed)} requests to untouched routes failed: {'; '.join(shown)}")

    def _check_strangers(self, now: Round) -> None:
        odd = sight.differences(self.strange, strangers.look(self.lab.known))
        if odd:
            now.problems.append(f"strangers were touched: {_few(odd)}")

    def _history(self, now: Round) -> list[str]:
        code, text = self.lab.run("salt-run", "hecate.history", "count=8", "--out=json")
        try:
            return [str(line) for line in json.loads(text)]
        except ValueError:
            now.problems.append(f"history ended with {code}: {text[-800:]}")
            return []

    def _finish(self, now: Round, scene: Scene) -> None:
        """History and lock, once all is over."""
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(self.lab.run, "salt-run", "hecate.status")
            lines = [line for line in self._history(now) if re.search(rf"round {now.number}\b", line)]
            code, status = asked.result()
        if code or "free" not in status:
            now.problems.append(f"the lock is not free: {status[-500:]}")
        told = [(_status(line), line) for line in lines]
        for word, line in told:
            if word not in ("done", "rolled back"):
                now.problems.append(f"history tells no end: {line}")
        begun = [word for word, line in told if "again" not in line and "second" not in line]
        if now.codes[0] == 0 and now.action == "deploy" and begun != ["done"]:
            now.problems.append(f"a deploy that succeeded is {begun or 'not there'} in history")
        self.tally.runs += 1
        for word in begun or ["not begun"]:
            self.tally.ended[f"{word}, then {now.action}"] += 1
        self._tell(now, scene)

    def _tell(self, now: Round, scene: Scene) -> None:
        faulted = "; ".join(scene.told) or "none"
        self.say(f"round {now.number}: {faulted} -> {now.codes}, then {now.action}: {len(now.problems)} problems")
        repeat = f"python -m chaos --seed {self.seed} --rounds {now.number} (logs: {self.base})"
        for problem in now.problems:
            moment = ", ".join(now.told)
            self.tally.violations.append(
                Violation("lab", self.seed, now.number, faulted, moment, problem, repeat)
            )
            self.say(str(self.tally.violations[-1]))
        if now.problems:
            self._start_over()

    def _start_over(self) -> None:
        """Whatever it is that went wrong, the next round begins with something that stands."""
        goal = self.goal or self.wish
        goal.write(self.folder)
        request = {"allow": [*self.wish.consent(goal)], "message": "the suite starts over"}
        self.lab.run(*DEPLOY, f"pillar={json.dumps(request)}")
        self.wish, self.goal, self.seen = Wish(goal.files), None, []
        self.state = sight.everything(self.lab.known)
        self.strange = strangers.look(self.lab.known)


def _status(line: str) -> str:
    """The word for a deployment's end, beside what people wrote about it in brackets."""
    bare = line.partition("(")[0]
    return next((word for word in STATUSES if word in bare), "?")


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
