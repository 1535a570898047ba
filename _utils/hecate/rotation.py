"""A secret gets a successor, and nobody who uses it is refused meanwhile. Pure: what the systems do is a Rotor's.

All that is known of a rotation stands beside the secret itself, in the store that it is read from, so that a run that
was cut off anywhere is continued by the next, from whatever machine:

    token            what consumers read: one that works
    token.next       a successor that is not in use yet
    token.previous   what was there before; still good until the grace is over, where the system can have two
    token.retiring   what the system is about to refuse: the one before, or a successor that didn't work
    token.rotated    when the successor took over, Unix time

    fresh ─► .next ─► introduced ─► tried ─► token ─► grace ─► .retiring ─► retired ─► seen refused ─► forgotten
               │                      │
               │                      └─ doesn't work ─► .retiring ─► retired ─► NotVerified
               └─ cut off anywhere: the next run does the step again that was not written down

Each move is one write on top of what was seen, before its effect on the system or after it; each effect may be
repeated. Of two runs at once one is told so at its next write. What keeps them apart from the start is the caller's
lock: a system doesn't know which of two runs is the younger.

Where a system takes one secret alone, `token` or `token.next` is the one that works, and there is no grace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol

from hecate.errors import HecateError

NEXT, PREVIOUS, RETIRING, ROTATED = ".next", ".previous", ".retiring", ".rotated"
KEPT = (NEXT, PREVIOUS, RETIRING, ROTATED)


class NotVerified(HecateError):
    """A secret was tried and doesn't work; the one that did was left as it is."""


class NotRetired(HecateError):
    """The system still accepts a secret that it was told to refuse."""


class Shelf(Protocol):
    """Where a secret and what is known of its rotation is kept. Keys as above, without the name in front: "" is the
    secret itself.
    """

    def read(self) -> Mapping[str, str]:
        """Everything there; raises SecretUnavailable."""
        ...

    def write(self, values: Mapping[str, str]) -> None:
        """Everything in place of what was read last; raises SecretUnavailable when somebody else wrote in between."""
        ...


class Rotor(Protocol):
    """How one kind of secret gets a successor in the system that knows it.

    both: whether the old one is good beside the new one until it is retired. by_hand: what a person has to do so that
    an old one is refused, where no call can do it; "" where `retire` does. by_telling: whether the system accepts what
    it was told stands on the shelf (secret, .next, .previous), so that it has to be told before each step counts.
    """

    both: bool
    by_hand: str
    by_telling: bool

    def fresh(self) -> str:
        """A successor: made up, or what the operator supplied."""
        ...

    def introduce(self, new: str, old: str) -> None:
        """Let the system accept `new`; may be repeated. old: what is in use, "" where there is none yet."""
        ...

    def works(self, value: str) -> bool:
        """By real use. False is the system's own word that it refuses it; raises HecateError when it said neither."""
        ...

    def retire(self, old: str, new: str) -> None:
        """Let the system refuse `old`; may be repeated. new: what is in use."""
        ...


@dataclass(frozen=True)
class Status:
    """Of one secret. age, due, left in seconds; age is None where it was never rotated here.

    phase: "settled", "begun" (a successor waits), "grace" (the old one is still good), "retiring" (one is about to be
    refused) or "missing". due: until the next rotation, negative when it is overdue; None: when somebody asks for it.
    left: of the grace.
    """

    phase: str
    age: float | None = None
    due: float | None = None
    left: float | None = None

    @property
    def wants_a_run(self) -> bool:
        """Whether there is something to begin or to go on with."""
        waiting = self.phase == "grace" and bool(self.left)
        return not waiting and (self.phase != "settled" or (self.due is not None and self.due <= 0))


@dataclass(frozen=True)
class Step:
    """What a run did, in words.

    again: in how many seconds there is more to do; None: nothing. begun: whether it made a successor. promoted: whether
    consumers read another secret than before. tell: it waits until consumers were told. by_hand: what a person has to
    do.
    """

    done: tuple[str, ...] = ()
    again: float | None = None
    begun: bool = False
    promoted: bool = False
    tell: bool = False
    by_hand: str = ""

    def then(self, later: Step) -> Step:
        return replace(
            later,
            done=self.done + later.done,
            begun=self.begun or later.begun,
            promoted=self.promoted or later.promoted,
        )


def status(values: Mapping[str, str], now: float, every: float | None, grace: float) -> Status:
    rotated = _rotated(values, now)
    age = now - rotated if rotated is not None else None
    due = None if every is None else (every - age if age is not None else 0.0)
    if "" not in values:
        return Status("missing", age, 0.0 if every is not None else None)
    if RETIRING in values:
        return Status("retiring", age, due)
    if PREVIOUS in values:
        return Status("grace", age, due, max(0.0, grace - (age or 0.0)))
    return Status("begun" if NEXT in values else "settled", age, due)


def rotate(
    shelf: Shelf,
    rotor: Rotor,
    now: float,
    grace: float,
    *,
    begin: bool = True,
    immediate: bool = False,
    tells: bool = False,
    told: bool = False,
) -> Step:
    """Carry a rotation as far as it can go now; one that is under way is finished, and not followed by another.

    grace: seconds that the old secret stays good; 0 retires it at once. begin: start one where none is under way.
    immediate: for a secret that others know: no grace, nor what is left of an earlier one; and what was under way is
    finished and followed by a rotation of its own, since it may be known too.
    tells: whether there are consumers who have to be told; it then returns wherever they have to be, with `tell`, and
    goes on when it is called again with told. Raises NotVerified with the successor withdrawn, NotRetired.
    """
    run = _Run(shelf, rotor, now, waits=tells, told=told)
    if not immediate:
        return run.carry(grace, begin, careful=True)
    under_way = run.carry(0, False, careful=False) if run.is_under_way else Step()
    if not begin:
        return under_way
    if under_way.by_hand:
        raise NotRetired(f"an earlier one is still accepted, and is to go first: {under_way.by_hand}")
    return under_way.then(run.carry(0, True, careful=False))


class _Run:
    """One run over one secret: what the shelf held when it was read last, and what came of it.

    waits: whether consumers have to be told. told: whether they know what stood on the shelf when it was read.
    """

    def __init__(self, shelf: Shelf, rotor: Rotor, now: float, *, waits: bool, told: bool) -> None:
        self._shelf, self._rotor, self._now = shelf, rotor, now
        self._waits, self._told = waits, told
        self._values = dict(shelf.read())
        self._so_far = Step()

    @property
    def is_under_way(self) -> bool:
        return any(key in self._values for key in (NEXT, PREVIOUS, RETIRING))

    def carry(self, grace: float, begin: bool, *, careful: bool) -> Step:
        """careful: whether the old one is kept while the one in use doesn't work."""
        self._so_far, has_next = Step(), NEXT in self._values
        if RETIRING in self._values or PREVIOUS in self._values:
            step = self._finish(grace, careful)
            if not has_next or RETIRING in self._values or PREVIOUS in self._values:
                return step
        if not has_next:
            if not begin:
                return self._so_far
            self._store_successor()
        if self._rotor.by_telling and self._must_tell():
            return replace(self._so_far, tell=True)
        self._introduce()
        self._promote()
        if PREVIOUS not in self._values:
            return self._so_far
        if grace > 0:
            return replace(self._so_far, again=grace)
        return self._finish(0, careful=False)

    def _did(self, what: str, *, begun: bool = False, promoted: bool = False) -> None:
        self._so_far = self._so_far.then(Step((what,), begun=begun, promoted=promoted))

    def _must_tell(self) -> bool:
        """Whether consumers don't know yet what stands on the shelf. What they were told counts for one wait."""
        told, self._told = self._told, False
        return self._waits and not told

    # What was there before

    def _finish(self, grace: float, careful: bool) -> Step:
        if RETIRING not in self._values:
            left = self._left(grace)
            if left > 0:
                self._did("the old one is still good")
                return replace(self._so_far, again=left)
            if careful and not self._rotor.works(self._values.get("", "")):
                raise NotVerified("the secret in use is refused, so the one before was left as it is; mend that first")
            if self._must_tell():
                return replace(self._so_far, tell=True)
            self._move(PREVIOUS, RETIRING)
        if self._rotor.by_telling and self._must_tell():
            return replace(self._so_far, tell=True)
        by_hand = self._refuse()
        return replace(self._so_far, by_hand=by_hand)

    def _left(self, grace: float) -> float:
        """Of the grace, in seconds. Where its beginning isn't known or is still to come, it begins now."""
        if grace <= 0:
            return 0.0
        since = _rotated(self._values, self._now)
        if since is None or since != _number(self._values[ROTATED]):
            self._write({**self._values, ROTATED: str(int(self._now))})
            return grace
        return since + grace - self._now

    def _refuse(self) -> str:
        """See that what is in .retiring is refused, and forget it; else what a person has to do about it."""
        doomed, used = self._values[RETIRING], self._values.get("", "")
        if not self._rotor.both:
            self._rotor.introduce(used, doomed)  # the one place in the system is the one in use's again
            self._did("the one in use was put back")
        elif doomed != used:
            self._rotor.retire(doomed, used)
            if self._rotor.works(doomed):
                if self._rotor.by_hand:
                    self._did("the old one is out of use and still accepted")
                    return self._rotor.by_hand
                raise NotRetired("the old one was to be refused and is still accepted; run it again")
            self._did("the old one is refused from now on")
        self._drop(RETIRING)
        return ""

    # The successor

    def _store_successor(self) -> None:
        if "" not in self._values and not self._rotor.both:
            raise HecateError("there is no secret to begin from; store the one that is in use")
        new = self._rotor.fresh()
        if not new or new == self._values.get(""):
            raise HecateError("the successor is the one in use already; supply another" if new else "no successor")
        self._write({**self._values, NEXT: new})
        self._did("a successor is stored", begun=True)

    def _introduce(self) -> None:
        new = self._values[NEXT]
        self._rotor.introduce(new, self._values.get("", ""))
        if self._rotor.works(new):
            self._did("the successor is accepted, and was tried")
            return
        self._move(NEXT, RETIRING)  # nobody else can promote it from here on
        self._refuse()
        raise NotVerified(
            "the successor doesn't work and was withdrawn; the secret in use is as it was"
            if self._rotor.both
            else "the successor doesn't work; the one before was put back"
        )

    def _promote(self) -> None:
        used, values = self._values.get(""), dict(self._values)
        values[""], values[ROTATED] = values.pop(NEXT), str(int(self._now))
        if used is not None and self._rotor.both:
            values[PREVIOUS] = used
        self._write(values)
        self._did("consumers read the successor from now on", promoted=True)

    # The shelf

    def _move(self, here: str, there: str) -> None:
        values = dict(self._values)
        values[there] = values.pop(here)
        self._write(values)

    def _drop(self, key: str) -> None:
        self._write({name: value for name, value in self._values.items() if name != key})

    def _write(self, values: Mapping[str, str]) -> None:
        self._shelf.write(values)
        self._values = dict(values)


def _rotated(values: Mapping[str, str], now: float) -> float | None:
    """When a successor took over; a clock that was put back since must not make that the future."""
    found = _number(values.get(ROTATED, ""))
    return None if found is None else min(found, now)


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if isfinite(found) else None
