"""Observe, plan, apply, compensate: the only conductor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from hecate.backends import Backend
from hecate.collector import paused
from hecate.errors import ApplyFailed, HecateError, NotConverged, PlanMoved, Stale, TransactionOpen
from hecate.journal import JOIN_WAIT, Entry, Journal
from hecate.plan import Limits, Plan, make_plan
from hecate.queue import Queue, Ticket
from hecate.resource import Change, Resource, Snapshot, by_id


class Attendant(Protocol):
    """What a system wants done around its applies, beside the writes themselves."""

    def forecast(self, plan: Plan, snapshot: Snapshot) -> Plan:
        """The plan with what else is known of it: its notes, its budget."""
        ...

    def before(self, plan: Plan, snapshot: Snapshot, transaction: str) -> None:
        """Called before the first write; raising stops the apply with nothing written."""
        ...

    def after(self, plan: Plan, snapshot: Snapshot) -> Plan:
        """Called when all is written and confirmed; raising has everything put back."""
        ...


SHOWN = 20  # changes that a refusal names
LOST_RACES = 3
PATIENCE = 60.0  # seconds that a partial wish waits for its turn


@dataclass(frozen=True)
class Outcome:
    """What an apply did. `recovered` tells which interrupted transactions were undone first."""

    plan: Plan
    transaction: str
    recovered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What a target should hold.

    resources: the whole desired set, or some of it when `partial`: then everything else that
    Hecate owns there is left as it is, but for the ids in `absent`.
    hold: what is to go stays for now; the same wish without `hold` removes it later. keep_guards: what guards a
    host stays. digest: of the only plan that may be applied; "" for any. held: of what Hecate owns there, the ids that
    a partial wish is about beside those that it names.
    """

    resources: tuple[Resource, ...] = ()
    absent: tuple[str, ...] = ()
    partial: bool = False
    hold: bool = False
    keep_guards: bool = False
    digest: str = ""
    held: Callable[[Mapping[str, Resource]], Collection[str]] | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {"resources": [r.to_json() for r in self.resources], "absent": list(self.absent)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wish:
        """A partial wish, as another process laid it down."""
        return cls(tuple(Resource.from_json(r) for r in data["resources"]), tuple(data["absent"]), True)

    def joined(self, others: Iterable[Wish]) -> Wish:
        """Several partial wishes as one; of two for the same object the later counts."""
        resources: dict[str, Resource] = {}
        absent: dict[str, None] = {}
        for wish in (self, *others):
            for resource in wish.resources:
                resources[resource.id] = resource
                absent.pop(resource.id, None)
            for name in wish.absent:
                absent[name] = None
                resources.pop(name, None)
        return Wish(tuple(resources.values()), tuple(absent), True)

    def about(self) -> set[str]:
        """Ids of everything that this wish names."""
        return by_id(self.resources).keys() | set(self.absent)

    def part_of(self, plan: Plan) -> tuple[Change, ...]:
        """Those changes of a plan that this wish is about."""
        about = self.about()
        return tuple(change for change in plan.changes if change.id in about)

    def view(self, snapshot: Snapshot) -> Snapshot:
        """The part of the snapshot that this wish is about."""
        if not self.partial:
            return snapshot
        about = self.about() | set(self.held(snapshot.owned) if self.held else ())
        return replace(snapshot, owned={n: r for n, r in snapshot.owned.items() if n in about})


class Engine:
    """Brings one target to what a Wish says, journalled, and back."""

    def __init__(
        self,
        backend: Backend,
        journal: Journal,
        *,
        adopt: Collection[str] = (),
        limits: Limits | None = None,
        interval: float = 0,
        attendant: Attendant | None = None,
    ):
        """interval: least seconds between two writes, in which partial wishes gather."""
        self.backend, self.journal, self.interval = backend, journal, interval
        self.adopt, self.limits = frozenset(adopt), limits or Limits()
        self.queue = Queue(journal.folder / "queue")
        self.attendant = attendant

    def plan(self, wish: Wish) -> Plan:
        """What an apply would do now. Writes nothing."""
        with paused():
            return self._look(wish)[1]

    def foreseen(self, wish: Wish) -> tuple[Plan, Snapshot]:
        """The plan, and what Hecate owns there once it is applied. Writes nothing."""
        with paused():
            snapshot, plan = self._look(wish)
        owned, foreign = dict(snapshot.owned), dict(snapshot.foreign)
        for change in plan.changes:
            owned.pop(change.id, None)
            if change.after:
                owned[change.id] = change.after
                foreign.pop(change.id, None)
        return plan, replace(snapshot, owned=owned, foreign=foreign)

    def apply(self, wish: Wish, transaction: str, *, shared: bool = False) -> Outcome:
        """Plan, write, plan again; on any failure put everything back and raise ApplyFailed.

        shared: leave the transaction open for the deploy that it is part of.
        A partial wish may be written together with others that wait for the same target.
        Raises UnsafePlan, PlanMoved, Conflict, TransactionOpen before anything is written.
        """
        if wish.partial and self.backend.atomic and not (shared or wish.held or wish.digest):
            return self._in_company(wish, transaction)
        with self.journal.exclusive(wait=2 * self.interval), paused():
            return self._apply(wish, transaction, shared)

    def _apply(self, wish: Wish, transaction: str, shared: bool) -> Outcome:
        if shared:
            self.journal.refuse_strangers(transaction)
        recovered = self._recover(transaction)
        snapshot, plan = self._look(wish)
        self._refuse_if_moved(wish, plan, transaction)
        plan.refuse_if_unsafe()
        if not plan:
            return Outcome(plan, transaction, recovered)
        if self.attendant:
            self.attendant.before(plan, snapshot, transaction)
        try:
            plan = self._write(wish, snapshot, plan, transaction, shared)
            self._confirm(wish)
            if self.attendant:
                plan = self.attendant.after(plan, snapshot)
        except Exception as err:  # whatever broke it, the target is put back before it is told
            self._compensate(transaction, err)
        if not shared:
            self.journal.keep(transaction)
        return Outcome(plan, transaction, recovered)

    @property
    def terms(self) -> str:
        """What this engine is allowed; wishes on other terms are not its business."""
        limits = replace(self.limits, allow=frozenset())
        return repr((sorted(self.adopt), limits, sorted(self.limits.allow)))

    def _in_company(self, wish: Wish, transaction: str) -> Outcome:
        """Write everything that waits on the same terms, or hear that somebody else did."""
        ticket = self.queue.put(wish.to_json(), self.terms)
        try:
            with self.journal.exclusive(wait=PATIENCE), paused():
                answer = self.queue.answer(ticket)
                if answer is None:
                    self.queue.settle(self.interval)
                    others = [t for t in self.queue.waiting(self.terms) if t.path != ticket.path]
                    return self._for_all(wish, others, transaction)
            changes = tuple(Change.from_json(row) for row in answer["changes"])
            return Outcome(Plan(changes), answer["transaction"])
        finally:
            self.queue.leave(ticket)

    def _for_all(self, wish: Wish, others: Sequence[Ticket], transaction: str) -> Outcome:
        """One write for all. If that fails, one for this wish alone: the others may be what is wrong."""
        theirs = [Wish.from_json(ticket.wish) for ticket in others]
        try:
            outcome = self._apply(wish.joined(theirs), transaction, False)
        except HecateError:
            if not others:
                raise
            return self._apply(wish, transaction, False)
        finally:
            self.queue.written()
        for ticket, other in zip(others, theirs, strict=True):
            rows = [change.to_json() for change in other.part_of(outcome.plan)]
            self.queue.reply(ticket, {"transaction": transaction, "changes": rows})
        return replace(outcome, plan=Plan(wish.part_of(outcome.plan))) if others else outcome

    def undo(self, transaction: str) -> tuple[Change, ...]:
        """Put back what `transaction` changed here; nothing when it left no trace. Repeatable."""
        with self.journal.exclusive(JOIN_WAIT):
            entry = self.journal.entry(transaction)
            return self._undo(entry) if entry else ()

    def _look(self, wish: Wish) -> tuple[Snapshot, Plan]:
        snapshot = self.backend.observe(wish.resources)
        view = wish.view(snapshot)
        plan = make_plan(wish.resources, view, self.backend.normalise, adopt=self.adopt, limits=self.limits)
        plan = plan.keeping_guards() if wish.keep_guards else plan
        plan = plan.holding_deletions() if wish.hold else plan
        return snapshot, self.attendant.forecast(plan, snapshot) if self.attendant else plan

    def _write(self, wish: Wish, snapshot: Snapshot, plan: Plan, transaction: str, shared: bool) -> Plan:
        """Write the plan; one that lost the race to somebody else's write is made anew, never forced."""
        for races_left in range(LOST_RACES - 1, -1, -1):
            try:
                for batch in self.backend.batches(plan.changes):
                    self.journal.announce(transaction, batch, shared=shared, brief=self.backend.brief)
                    self.backend.apply(batch, snapshot)
                break
            except Stale:
                if not races_left or not self.backend.atomic:
                    raise
                self.journal.withdraw(transaction)
                snapshot, plan = self._look(wish)
                self._refuse_if_moved(wish, plan, transaction)
                plan.refuse_if_unsafe()
        return plan

    def _refuse_if_moved(self, wish: Wish, plan: Plan, transaction: str) -> None:
        """A wish for one plan alone takes no other; but one that this very transaction has carried out is no move."""
        if wish.digest in ("", plan.digest) or (not plan and self.journal.entry(transaction)):
            return
        lines = [f"{change.verb} {change.id}" for change in plan.changes[:SHOWN]] or ["nothing is left to do"]
        more = [f"and {len(plan.changes) - SHOWN} more"] if len(plan.changes) > SHOWN else []
        raise PlanMoved([*lines, *more], f"{self.backend.system} is not as it was when this was planned; now it would")

    def _confirm(self, wish: Wish) -> None:
        rest = self._look(wish)[1]
        if rest:
            ids = ", ".join(change.id for change in rest.changes)
            raise NotConverged(f"{self.backend.system} accepted the changes but still differs: {ids}")

    def _compensate(self, transaction: str, err: Exception) -> None:
        entry = self.journal.entry(transaction)
        try:
            if entry:
                self._undo(entry)
        except Exception as second:  # two failures in a row: both are told, the journal stays
            raise ApplyFailed(err, transaction, False, f"{second}; the journal is kept, try a rollback later") from err
        raise ApplyFailed(err, transaction, True) from err

    def _undo(self, entry: Entry) -> tuple[Change, ...]:
        """Bring every key of the entry back to its first `before`, from whatever it is now.

        It looks instead of trusting the journal: a write may have happened although its answer
        was lost, and one that was announced may never have been sent.
        """
        first: dict[str, Change] = {}
        for change in entry.changes:
            first.setdefault(change.id, change)
        back = Wish(
            resources=tuple(c.before for c in first.values() if c.before),
            absent=tuple(c.id for c in first.values() if not c.before),
            partial=True,
        )
        scope = [change.before or change.subject for change in first.values()]
        snapshot, plan = self._way_back(back, scope)
        for batch in self.backend.batches(plan.changes):
            self.backend.apply(batch, snapshot)
        if plan and (rest := self._way_back(back, scope)[1]):
            raise NotConverged(f"after the undo these still differ: {', '.join(c.id for c in rest.changes)}")
        self.journal.close(entry.transaction)
        return plan.changes

    def _way_back(self, wish: Wish, scope: Sequence[Resource]) -> tuple[Snapshot, Plan]:
        """Like _look, but to the letter: marks and strangers' fields are put back as they were too.

        scope names what is to go as well: the pillar may not lead there any more.
        """
        snapshot = self.backend.observe(scope)
        ids = [*by_id(wish.resources), *wish.absent]
        return snapshot, make_plan(wish.resources, wish.view(snapshot), lambda want, _have: want, adopt=ids)

    def _recover(self, transaction: str) -> tuple[str, ...]:
        """Undo what a killed run left half done; leave the transactions of a deploy to that deploy."""
        done = []
        for entry in self.journal.open_entries():
            if entry.transaction == transaction:
                continue
            if entry.shared:
                raise TransactionOpen(
                    f"deploy {entry.transaction} is still open on this target; wait for it, or if it is dead: "
                    f"salt-run hecate.rollback {entry.transaction}"
                )
            self._undo(entry)
            done.append(entry.transaction)
        return tuple(done)
