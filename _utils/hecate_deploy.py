"""A deploy as the master conducts it: its steps in their order, what it tells of itself, and the ways back.

Targets do the work and keep their own undo journals. The master keeps the lock, the order, and
the history; it can be killed at any point, and the next deploy or rollback carries on from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import hecate_progress
import hecate_salt
import salt.runner
import salt.utils.user
from hecate import estate_text, history, model, orchestrated
from hecate.errors import HecateError
from hecate.order import Order, packed
from hecate.progress import BEGUN, DONE, FAILED, OVER, moment
from hecate.request import Request
from hecate.store.deployments import Deployment
from hecate.targets import Part, Step, silence
from hecate.verification import Report
from hecate_estate import RENDERED, Master

ACTING: dict[str, set[str]] = {}
"""By transaction: the targets that had something to do when it was planned; only they can have changed something."""
NOT_ASKED = "its version could not be asked: "
NOTHING = "nothing to do"


class Conductor(Master):
    """Whoever changes the estate. Each step of orch/hecate/deploy.sls is one call."""

    def of(self, transaction: str) -> Conductor:
        """The same, as part of a deploy: all of its steps go by one rendering of the pillar."""
        self._deploy = transaction
        return self

    def steps(self) -> dict[str, Any]:
        """Rendered before preflight, so a wrong pillar must not break it: preflight then tells."""
        transaction = hecate_salt.new_transaction()
        try:
            planning, request = self.of(transaction)._planning, self._request
            record = packed(self._returning) if self._returning else ""
            # While somebody deploys, or what he left is still to be undone, nobody knows who will have nothing to do.
            after = None if self._patience else self._deployments.settled()
            ahead = planning.ahead(request, record) if after is not None or request.plan else None
            told = planning.parts(request, transaction, ahead)
            parts = [_part(part, replace(order, pillar=record)) for part, order in told]
        except HecateError as err:
            return {"transaction": transaction, "targets": [], "problem": str(err), "plan": "", "after": None}
        ACTING[transaction] = {part.step.name for part, _ in told}
        # A saved one is weighed, and compared, once the lock is held.
        made, after = (None, None) if request.plan else (ahead, after if ahead is not None else None)
        problem = "\n".join(f"{name}: {why}" for name, why in made.unsafe) if made is not None else ""
        plan = estate_text.headline(made) if made is not None else ""
        return {"transaction": transaction, "targets": parts, "problem": problem, "plan": plan, "after": after}

    def preflight(self, transaction: str = "", problem: str = "", plan: str = "") -> str:
        self.of(transaction)
        if transaction:
            hecate_progress.follow(self._opts, transaction)
            self._tell(transaction, "", BEGUN, self._request.message)
        return self._step(transaction, "preflight", lambda: self._preflight(problem, plan))

    def _preflight(self, problem: str, plan: str) -> str:
        """problem: what kept the steps of the deploy from being told. plan: what it is about to do."""
        self.validated()
        if problem:
            raise HecateError(problem)
        minions = sorted({s.minion for s in self._steps()})
        # Who told its plan a moment ago is there.
        asked: dict[str, Any] = {} if plan else {m: (Step(m, m, ""), "test.ping", ()) for m in minions}
        guarding = [step for step in self._steps() if step.system == "authentik"]
        asked |= {step.minion: (step, f"{step.module}.warnings", ()) for step in guarding}
        told = self._crew.ask_each(asked)
        silent = [minion for minion in asked if told[minion] == silence(minion)]
        if silent:
            raise HecateError(f"these targets do not answer: {', '.join(silent)}; are their minions running?")
        # What is known against the versions that are out there is told, and no reason to stop.
        known = {step.name: told[step.minion] for step in guarding}
        warned = {name: found if isinstance(found, list) else [NOT_ASKED + found] for name, found in known.items()}
        first = "; ".join(filter(None, [f"pillar is good; {len(minions)} minions answer", plan]))
        return "\n".join([first, *(f"  warning: {name}: {text}" for name, texts in warned.items() for text in texts)])

    def begin(self, transaction: str, after: int | None = None) -> str:
        self.of(transaction)

        def begin() -> str:
            asked, found = self._request, self._transactions
            if after is not None and ACTING.get(transaction) == set():
                # Nobody is going to write, and nobody else can be under way: the lock and the history are enough.
                found = found.of([])
            return found.begin(transaction, self.pillar, asked.message, asked.to_json(), after)

        return self._step(transaction, "begin", begin)

    def check_plan(self, transaction: str) -> str:
        """Raises PlanMoved unless what a deploy would do now is what was planned."""
        return self.of(transaction)._step(transaction, "as planned", lambda: self._planning.check(self._request))

    def outputs(self, transaction: str) -> str:
        told = self.of(transaction)._step(transaction, "outputs", lambda: self._transactions.outputs(transaction))
        RENDERED.pop(transaction, None)  # they are part of it
        return told

    def verify(self, transaction: str = "", routes: Sequence[str] = (), form: str = "text") -> tuple[Any, int]:
        """The table or its data, and 1 where a probe failed. Raises HecateError where nothing could be asked."""
        found: list[Report] = []
        self.of(transaction)

        def told() -> str:
            found.append(self._verified(transaction, routes, ACTING.get(transaction)))
            if not found[0].good:
                raise HecateError(found[0].text())
            return found[0].text()

        try:
            text, code = self._step(transaction, "verify", told), 0
        except HecateError as err:
            if not found:
                raise
            text, code = str(err), 1
        return found[0].data() if form == "data" else text, code

    def record(self, transaction: str) -> str:
        def record() -> str:
            planning = self._planning
            note = planning.note(self._request)
            return self._transactions.record(transaction, planning.recorded(self._request), note)

        told = self.of(transaction)._step(transaction, "record", record)
        self._over(transaction, told)
        return told

    def rollback(self, transaction: str | None, reason: str) -> str:
        followed = transaction or ""
        try:
            told = self._step(followed, "rollback", lambda: self._transactions.rollback(transaction, reason))
        except HecateError as err:
            self._over(followed, f"NOT everything could be put back: {str(err).splitlines()[-1]}")
            raise
        self._over(followed, told.splitlines()[-1])
        return told

    def deploy(self) -> str:
        """The whole orchestration; what became of each target. Raises HecateError with what failed."""
        asked = {"mods": "hecate.deploy", "pillar": self._request.to_json()}
        call = {"arg": [], "kwarg": asked, "__user__": salt.utils.user.get_specific_user()}
        with salt.runner.RunnerClient(self._opts) as client:
            answer = client.low("state.orchestrate", call, print_event=False)
        done, failed = orchestrated.told(answer)
        if failed:
            raise HecateError("\n".join(failed))
        return "\n".join(text for text in done if not text.endswith(NOTHING)) or NOTHING

    def resume(self, how: str | None) -> str:
        """What a deploy left that was cut off is finished or undone, as pillar or `how` says. Raises HecateError."""
        chosen = how or model.parse_access(self._today).transactions.interrupted
        if chosen not in ("undo", "finish"):
            raise HecateError(f"an interrupted deploy is either undone or finished, not {chosen!r}")

        def finish(left: Deployment) -> str:
            asked = {k: v for k, v in left.request.items() if k != "to"}
            request = Request.of({**asked, "to": left.id, "message": f"finishing {left.id}"})
            return Conductor(self._opts, request.to_json(), self._actor.user, self._actor.jid).deploy()

        return self._transactions.resume(chosen, finish)

    def unlock(self, reason: str) -> str:
        return self._transactions.unlock(reason)

    def rotate(self, which: str | Sequence[str] | None, *, immediate: bool, only_due: bool) -> str:
        """Under the deploy's own lock: a deploy that reads a secret while it changes would put the old one back.

        For the same reason not over a deploy that was cut off, and will be undone; unless it has to be now.
        """
        found, deployments = self._rotations, self._deployments
        listed = found.names(which)
        transaction = f"{hecate_salt.new_transaction()}-rotation"
        deployments.acquire(transaction, self._actor.user)
        try:
            left = deployments.unfinished()
            if left and not immediate:
                why = f"deploy {left.id} was cut off, and undoing it could bring a former secret back"
                raise HecateError(f"{why}; first: salt-run hecate.resume; or rotate with immediate=True")
            self._audit.tell_of("rotation begun", transaction, note=", ".join(listed))
            try:
                told = found.run(listed, immediate=immediate, only_due=only_due)
            except HecateError as err:
                self._audit.tell_of("rotation failed", transaction, note=str(err).split("\n")[0])
                raise
            self._audit.tell_of("rotation done", transaction)
            return told
        finally:
            deployments.release(transaction)

    # What a deploy tells of itself

    def _step(self, transaction: str, name: str, call: Callable[[], str]) -> str:
        """A step that the master does itself. transaction: empty where nobody follows."""
        self._tell(transaction, name, BEGUN)
        try:
            told = call()
        except HecateError as err:
            self._tell(transaction, name, FAILED, err)
            raise
        self._tell(transaction, name, DONE, told)
        return told

    def _tell(self, transaction: str, step: str, status: str, text: object = "") -> None:
        if transaction:
            hecate_progress.fire(self._opts, moment(transaction, step, status, text))

    def _over(self, transaction: str, text: str) -> None:
        self._tell(transaction, "", OVER, text)
        hecate_progress.finish(transaction)
        RENDERED.pop(transaction, None)
        ACTING.pop(transaction, None)

    def watch(self, transaction: str | None) -> str:
        """Show a deploy of this master, from its first step on: the one that is under way, else the last."""
        known = [transaction] if transaction else [d.id for d in self._deployments.history(1)]
        holder = self._deployments.holder()
        wanted = holder.transaction if holder and not transaction else next(iter(known), "")
        if not wanted:
            return "nothing has been deployed yet"

        def is_alive() -> bool:
            now = self._deployments.holder()
            return now is not None and now.transaction == wanted

        hecate_progress.watch(self._opts, wanted, is_alive, sys.stderr)
        return history.line(self._deployments.get(wanted))


def _part(part: Part, order: Order) -> dict[str, Any]:
    """A part as deploy.sls wants it; run: what its target finds under hecate_run."""
    return {"name": part.name, "minion": part.step.minion, "system": part.step.system, "run": order.to_json()}
