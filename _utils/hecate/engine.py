"""Observe, plan, apply, compensate: the only conductor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from hecate.backends import Backend
from hecate.errors import ApplyFailed, NotConverged, Stale, TransactionOpen
from hecate.journal import Entry, Journal
from hecate.plan import Limits, Plan, make_plan
from hecate.resource import Change, Resource, Snapshot, by_id

LOST_RACES = 3


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
    """

    resources: tuple[Resource, ...] = ()
    absent: tuple[str, ...] = ()
    partial: bool = False

    def view(self, snapshot: Snapshot) -> Snapshot:
        """The part of the snapshot that this wish is about."""
        if not self.partial:
            return snapshot
        about = by_id(self.resources).keys() | set(self.absent)
        return replace(snapshot, owned={n: r for n, r in snapshot.owned.items() if n in about})


class Engine:
    """Brings one target to what a Wish says, journalled, and back."""

    def __init__(
        self, backend: Backend, journal: Journal, *, adopt: Collection[str] = (), limits: Limits | None = None
    ):
        self.backend, self.journal = backend, journal
        self.adopt, self.limits = frozenset(adopt), limits or Limits()

    def plan(self, wish: Wish) -> Plan:
        """What an apply would do now. Writes nothing."""
        return self._look(wish)[1]

    def apply(self, wish: Wish, transaction: str, *, shared: bool = False) -> Outcome:
        """Plan, write, plan again; on any failure put everything back and raise ApplyFailed.

        shared: leave the transaction open for the deploy that it is part of.
        Raises UnsafePlan, Conflict, TransactionOpen before anything is written.
        """
        with self.journal.exclusive():
            recovered = self._recover(transaction)
            snapshot, plan = self._look(wish)
            plan.refuse_if_unsafe()
            if not plan:
                return Outcome(plan, transaction, recovered)
            try:
                plan = self._write(wish, snapshot, plan, transaction, shared)
                self._confirm(wish)
            except Exception as err:  # whatever broke it, the target is put back before it is told
                self._compensate(transaction, err)
            if not shared:
                self.journal.keep(transaction)
            return Outcome(plan, transaction, recovered)

    def undo(self, transaction: str) -> tuple[Change, ...]:
        """Put back what `transaction` changed here; nothing when it left no trace. Repeatable."""
        with self.journal.exclusive():
            entry = self.journal.entry(transaction)
            return self._undo(entry) if entry else ()

    def _look(self, wish: Wish) -> tuple[Snapshot, Plan]:
        snapshot = self.backend.observe(wish.resources)
        view = wish.view(snapshot)
        plan = make_plan(wish.resources, view, self.backend.normalise, adopt=self.adopt, limits=self.limits)
        return snapshot, plan

    def _write(self, wish: Wish, snapshot: Snapshot, plan: Plan, transaction: str, shared: bool) -> Plan:
        """Write the plan; one that lost the race to somebody else's write is made anew, never forced."""
        for races_left in range(LOST_RACES - 1, -1, -1):
            try:
                for batch in self._batches(plan.changes):
                    self.journal.announce(transaction, batch, shared=shared)
                    self.backend.apply(batch, snapshot)
                break
            except Stale:
                if not races_left or not self.backend.atomic:
                    raise
                self.journal.withdraw(transaction, len(plan.changes))
                snapshot, plan = self._look(wish)
                plan.refuse_if_unsafe()
        return plan

    def _confirm(self, wish: Wish) -> None:
        rest = self._look(wish)[1]
        if rest:
            ids = ", ".join(change.id for change in rest.changes)
            raise NotConverged(f"{self.backend.system} accepted the changes but still differs: {ids}")

    def _batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        if self.backend.atomic:
            if changes:
                yield list(changes)
            return
        batch: list[Change] = []
        for change in changes:
            joins = batch and change.kind == batch[-1].kind and change.kind in self.backend.together
            if batch and not (joins and (change.after is None) == (batch[-1].after is None)):
                yield batch
                batch = []
            batch.append(change)
        if batch:
            yield batch

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
        for batch in self._batches(plan.changes):
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
