"""One deploy over all targets: begun, recorded, or undone; and what an earlier one left behind.

Targets do the work and keep their own undo journals. Here are the order and the decision; whoever runs this can be
killed at any point, and the next deploy, rollback or resume carries on from there. Each record is announced in the
audit chain before it is written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hecate import model
from hecate.errors import HecateError, LockHeld
from hecate.store.audit import BEGIN, Audit
from hecate.store.deployments import (
    COMMITTING,
    DAYS,
    DONE,
    FAILED,
    KEEP,
    RUNNING,
    UNDOING,
    UNDONE,
    Deployment,
    Deployments,
)
from hecate.store.lock import Holder, must_hold
from hecate.targets import Crew, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Actor:
    """Who asks. jid: of Salt's job."""

    user: str
    host: str
    jid: str = ""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


@dataclass(frozen=True)
class Transactions:
    """steps: the targets that this is about. others: those that pillar has besides, which an earlier deploy may have
    left open. wait: seconds for the lock. keep, days: how much history.
    """

    deployments: Deployments
    crew: Crew
    steps: Sequence[Step]
    actor: Actor
    audit: Audit
    wait: float = 0
    keep: int = KEEP
    days: int = DAYS
    others: Sequence[Step] = ()
    _notes: list[str] = field(default_factory=list)

    def begin(
        self,
        transaction: str,
        pillar: Mapping[str, Any],
        message: str = "",
        request: Mapping[str, Any] | None = None,
        after: int | None = None,
    ) -> str:
        """Take the lock and every target, and open the deploy. What an earlier, dead deploy left is undone first.

        request: what else was asked, as history keeps it. after: the fence that the deploy was planned after, where
        its steps go by a plan. Raises LockHeld, and HecateError with nothing written.
        """
        asked = dict(request or {})
        try:
            holder = self.deployments.acquire(transaction, self.actor.user, self.wait, lambda: self._leave(transaction))
        except LockHeld as err:
            why = str(err)
            self._note(lambda: self.audit.tell_of("refused", transaction, note=why))
            raise
        try:
            if after is not None and holder.fence != after + 1:
                came = "somebody had the lock between this deploy's plan and its turn, so the plan may be out of date"
                raise HecateError(f"{came}; nothing was written; run it again")
            opened = self._joined(transaction, holder)
            self.audit.settle(self._find)
            lines = self._settled(transaction, holder, opened)
            self._open(
                Deployment(
                    transaction,
                    RUNNING,
                    self.actor.user,
                    time.time(),
                    message=message,
                    targets=tuple(asdict(step) for step in self.steps),
                    pillar=model.storable(pillar),
                    fence=holder.fence,
                    host=self.actor.host,
                    jid=self.actor.jid,
                    plan=str(asked.get("plan", "")),
                    request={k: v for k, v in asked.items() if k not in ("message", "plan", "wait")},
                )
            )
        except Exception as err:
            why = str(err)
            self._note(lambda: self.audit.tell_of("not begun", transaction, note=why, fence=holder.fence))
            self.deployments.release(transaction)
            raise
        return "\n".join([*lines, *self._notes, f"deploy {transaction} has begun"])

    def outputs(self, transaction: str) -> str:
        """Put Terraform's outputs into the store, from where pillar has them."""
        for step in self.steps:
            if step.system == "terraform":
                found = self.crew.ask(step, f"{step.module}.outputs")
                if not isinstance(found, Mapping):
                    raise HecateError(f"Terraform's outputs: {found}")
                must_hold(self.deployments.lock, transaction)
                known = self.deployments.get(transaction)
                former = {**known.steps, "former outputs": self.deployments.outputs()}
                self._write("outputs", replace(known, steps=former))
                self.deployments.save_outputs(found)
                return "outputs in pillar: " + (", ".join(sorted(found)) or "none")
        return "no Terraform in pillar"

    def record(self, transaction: str, pillar: Mapping[str, Any], note: Mapping[str, Any] | None = None) -> str:
        """First the decision, then its effects: whoever finds COMMITTING carries on committing. Raises LockLost.

        note: what belongs to the request besides, as history keeps it.
        """
        holder = must_hold(self.deployments.lock, transaction)
        known = self.deployments.get(transaction)
        request = {**known.request, **(note or {})}
        decided = replace(known, status=COMMITTING, pillar=model.storable(pillar), request=request)
        self._write(COMMITTING, decided)
        self._commit(transaction, holder)
        return "\n".join([*self._notes, f"deploy {transaction} is done"])

    def rollback(self, transaction: str | None, reason: str) -> str:
        """Undo a deploy on every target: the open one, else the last that is not undone yet. Raises LockHeld."""
        last = next((d.id for d in self.deployments.newest() if d.status != UNDONE), None)
        if transaction is None and last is None:
            return "nothing is deployed that could be undone"
        transaction = transaction or str(last)
        found = self._find(transaction)
        if found is None or found.status == UNDONE:
            self.deployments.release(transaction)
            return f"deploy {transaction} had not begun, or is undone already; nothing to undo"
        if last != transaction:
            raise HecateError(f"{last} was deployed after {transaction}; roll that back first")
        holder = self.deployments.acquire(transaction, self.actor.user, self.wait, lambda: self._leave(transaction))
        try:
            return "\n".join([*self._undo(self.deployments.get(transaction), reason, holder), *self._notes])
        finally:
            self.deployments.release(transaction)

    def resume(self, how: str, finish: Callable[[Deployment], str]) -> str:
        """Carry a deploy whose master is gone to an end. Raises LockHeld while somebody alive deploys.

        how: undo, or finish, which is for one that was cut off before anything was decided. finish: deploys what
        that one wanted, as a new deploy, which undoes the old one first.
        """
        alive = self.deployments.holder()
        if alive:
            raise LockHeld(f"nothing is interrupted: {self.deployments.environment} is being deployed by {alive}")
        left = self.deployments.unfinished()
        if left is None:
            return "nothing is interrupted"
        self._note(lambda: self.audit.tell("resume", left, note=how if left.status == RUNNING else "carried on"))
        if how == "finish" and left.status == RUNNING:
            return "\n".join([f"deploy {left.id} was cut off; what it wanted is deployed anew", finish(left)])
        holder = self.deployments.acquire(left.id, self.actor.user, self.wait, lambda: self._leave(left.id))
        try:
            return "\n".join([self._finish(self.deployments.get(left.id), holder), *self._notes])
        finally:
            self.deployments.release(left.id)

    def unlock(self, reason: str) -> str:
        """Take the lock away from whoever holds it."""
        if not reason.strip():
            raise HecateError("unlock wants a reason; it is kept in the audit")
        holder = self.deployments.lock.seize()
        if holder is None:
            return "the lock is free"
        note = f"taken from {holder}: {reason}"
        known = self._find(holder.transaction)
        if known:
            self._note(lambda: self.audit.tell("unlock", known, note=note))
        else:
            self._note(lambda: self.audit.tell_of("unlock", holder.transaction, note=note))
        return "\n".join([f"taken from {holder}", *self._notes])

    # Beginning

    def _joined(self, transaction: str, holder: Holder) -> dict[str, list[str]]:
        """Every target is told who deploys now; the open transactions of others, by target."""
        by = f"{holder.user} on {holder.host}"
        answers = self._ask_all("hecate.join", transaction, holder.fence, by)
        failed = [f"  {name}: {answer}" for name, answer in answers.items() if not isinstance(answer, list)]
        if failed:
            raise HecateError("\n".join(["nothing was written; these targets can't be had:", *failed]))
        return answers

    def _settled(self, transaction: str, holder: Holder, opened: Mapping[str, Sequence[str]]) -> list[str]:
        """Finish what was left, and make sure that nothing else is open anywhere."""
        left = self.deployments.unfinished()
        lines = [self._finish(left, holder)] if left and left.id != transaction else []
        over = {transaction, left.id if left else ""}
        strange = [f"  {name}: {one}" for name, listed in opened.items() for one in listed if one not in over]
        if strange:
            more = "docs/runbook.md, A target has an open transaction"
            raise HecateError("\n".join(["history knows nothing of these that are still open:", *strange, more]))
        return lines

    def _open(self, deployment: Deployment) -> None:
        """Into the history, and what is too old out of it."""
        doomed, oldest = self.deployments.spare(self.keep - 1, self.days)
        self.audit.tell(BEGIN, deployment, note=deployment.message, oldest=oldest)
        self.deployments.save(deployment)
        self.deployments.forget(doomed)
        self.audit.prune(oldest)

    def _leave(self, transaction: str) -> None:
        """The lock is lost: no target takes anything more from this deploy, whether or not somebody took over."""
        self._ask_all("hecate.leave", transaction)

    # Ending

    def _finish(self, left: Deployment, holder: Holder) -> str:
        """An earlier deploy whose master died: decided ones are carried through, others undone."""
        if left.status == COMMITTING:
            self._commit(left.id, holder)
            return f"deploy {left.id} had succeeded when it was cut off; it was completed"
        return "\n".join(self._undo(left, "its deploy was cut off", holder))

    def _commit(self, transaction: str, holder: Holder) -> None:
        deployment = self.deployments.get(transaction)
        steps = self._still_managed(deployment)
        answers = self._ask_all("hecate.commit", transaction, holder.fence, steps=steps)
        for name, answer in answers.items():
            if not isinstance(answer, Mapping):
                again = "run the deploy again, or: salt-run hecate.resume"
                raise HecateError(f"{name}: its journal could not be closed: {answer}; {again}")
        self._write(DONE, replace(deployment, status=DONE, ended=time.time(), changed=answers))
        self.deployments.release(transaction)

    def _undo(self, deployment: Deployment, reason: str, holder: Holder) -> list[str]:
        """Every target in reverse order; one that fails does not keep the others from being undone."""
        lines = [f"rolling back deploy {deployment.id} ({reason})"]
        begun = replace(deployment, status=UNDOING, error=reason)
        self._write(UNDOING, begun, note=reason)
        answers = {s.name: self._undone(s, deployment.id, holder) for s in reversed(self._still_managed(deployment))}
        failed = [name for name, answer in answers.items() if not isinstance(answer, list)]
        for name, answer in answers.items():
            what = f"FAILED: {answer}" if name in failed else ", ".join(answer) or "nothing to put back"
            lines.append(f"  {name}: {what}")
        lost = [target["name"] for target in deployment.targets if target["name"] not in answers]
        lines += [f"  {name}: no longer in pillar; left as it is" for name in lost]
        if "former outputs" in deployment.steps:
            self.deployments.save_outputs(deployment.steps["former outputs"])
        status, steps = FAILED if failed else UNDONE, {**deployment.steps, **answers}
        self._write(status, replace(begun, status=status, ended=time.time(), steps=steps), note=reason)
        if failed:
            again = f"salt-run hecate.rollback {deployment.id}"
            raise HecateError("\n".join([*lines, f"NOT undone: {', '.join(failed)}; mend and run: {again}"]))
        return [*lines, "everything is as it was before" if not lost else f"all is undone but {', '.join(lost)}"]

    def _undone(self, step: Step, transaction: str, holder: Holder) -> Any:
        """The ids that were put back, or why not."""
        return self.crew.ask(step, "hecate.rollback", step.system, transaction, holder.fence)

    # Below

    def _ask_all(self, function: str, *args: Any, steps: Sequence[Step] | None = None) -> dict[str, Any]:
        asked = self.steps if steps is None else steps
        return self.crew.ask_each({step.name: (step, function, (step.system, *args)) for step in asked})

    def _still_managed(self, deployment: Deployment) -> list[Step]:
        """The deployment's targets that pillar still has: taking one out is how a dead one is given up."""
        managed = (*self.steps, *self.others)
        return [step for step in (Step(**target) for target in deployment.targets) if step in managed]

    def of(self, steps: Sequence[Step]) -> Transactions:
        """The same, about some of the targets alone."""
        return replace(self, steps=steps, others=[step for step in self.steps if step not in steps])

    def _find(self, transaction: str) -> Deployment | None:
        return self.deployments.find(transaction)

    def _write(self, what: str, deployment: Deployment, note: str = "") -> None:
        """A record, announced. Once a deploy has begun, an audit that can't be written stops nobody from ending it."""
        self._note(lambda: self.audit.tell(what, deployment, note=note))
        self.deployments.save(deployment)

    def _note(self, tell: Callable[[], object]) -> None:
        try:
            tell()
        except HecateError as err:
            log.error("hecate: the audit could not be written: %s", err)
            self._notes.append(f"NOT in the audit: {err}")
