"""A secret gets a successor, and nobody who uses it is refused meanwhile. Pure: what the systems do is a Rotor's.

All that is known of a rotation stands beside the secret itself, in the store that it is read from, so that a run that
was cut off anywhere is continued by the next, from whatever machine:

    token            what consumers read: always one that works
    token.next       a successor that is not in use yet
    token.previous   what was there before; still good until the grace is over, where the system can have two
    token.rotated    when the successor took over, Unix time

    fresh ─► .next stored ─► introduced ─► verified by use ─► token = .next ─► grace ─► old one retired
                 │                │               │                 │                       │
    cut off      └────────────────┴── next run introduces .next again ──┴─ next run retires ────┘

Each arrow is one write on top of what was seen; each step may be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hecate.errors import HecateError

NEXT, PREVIOUS, ROTATED = ".next", ".previous", ".rotated"


class NotVerified(HecateError):
    """The successor was introduced and doesn't work; the secret in use was left as it is."""


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

    both: whether the old one is good beside the new one until it is retired.
    """

    both: bool

    def fresh(self) -> str:
        """A successor: made up, or what the operator supplied."""
        ...

    def introduce(self, new: str, old: str) -> None:
        """Let the system accept `new`; may be repeated. old: what is in use."""
        ...

    def works(self, value: str) -> bool:
        """By real use."""
        ...

    def retire(self, old: str, new: str) -> None:
        """Let the system refuse `old`; may be repeated. new: what is in use."""
        ...


@dataclass(frozen=True)
class Status:
    """Of one secret. ages in seconds; None: never rotated here.

    phase: "settled", "begun" (a successor waits) or "grace" (the old one is still good). due: seconds until the next
    rotation, negative when it is overdue; None: when somebody asks for it.
    """

    phase: str
    age: float | None
    due: float | None


@dataclass(frozen=True)
class Step:
    """What a run did, in words, and in how many seconds there is more to do (None: nothing)."""

    done: tuple[str, ...]
    again: float | None = None


def status(values: Mapping[str, str], now: float, every: float | None) -> Status:
    rotated = float(values[ROTATED]) if values.get(ROTATED) else None
    phase = "begun" if NEXT in values else "grace" if PREVIOUS in values else "settled"
    age = now - rotated if rotated is not None else None
    due = None if every is None else (every - age if age is not None else 0.0)
    return Status(phase, age, due)


def rotate(shelf: Shelf, rotor: Rotor, now: float, grace: float, *, begin: bool = True) -> Step:
    """Carry a rotation as far as it can go now. begin: start one where none is under way.

    grace: seconds that the old secret stays good; 0 retires it at once. Raises NotVerified with the successor withdrawn.
    """
    done: list[str] = []
    values = dict(shelf.read())
    if PREVIOUS in values:
        left = float(values.get(ROTATED, "0")) + grace - now
        if left > 0:
            return Step(("the old one is still good",), left)
        _retire(shelf, rotor, values, done)
        if not begin or NEXT not in values:
            return Step(tuple(done))
    if NEXT not in values:
        if not begin:
            return Step(("nothing to do",))
        values[NEXT] = rotor.fresh()
        shelf.write(values)
        done.append("a successor is stored")
    _introduce(shelf, rotor, values, done)
    values = _promoted(values, now, rotor.both)
    shelf.write(values)
    done.append("consumers read the successor from now on")
    if not rotor.both:
        return Step(tuple(done))
    if grace > 0:
        return Step(tuple(done), grace)
    _retire(shelf, rotor, values, done)
    return Step(tuple(done))


def _introduce(shelf: Shelf, rotor: Rotor, values: dict[str, str], done: list[str]) -> None:
    new, old = values[NEXT], values[""]
    rotor.introduce(new, old)
    if rotor.works(new):
        done.append("the successor is accepted, and was tried")
        return
    if rotor.both:
        rotor.retire(new, old)
        del values[NEXT]
        shelf.write(values)
        raise NotVerified("the successor doesn't work and was withdrawn; the secret in use is as it was")
    rotor.introduce(old, new)
    del values[NEXT]
    shelf.write(values)
    raise NotVerified("the successor doesn't work; the one before was put back")


def _promoted(values: Mapping[str, str], now: float, both: bool) -> dict[str, str]:
    kept = {key: value for key, value in values.items() if key not in (NEXT, PREVIOUS)}
    before = {PREVIOUS: values[""]} if both else {}
    return {**kept, **before, "": values[NEXT], ROTATED: str(int(now))}


def _retire(shelf: Shelf, rotor: Rotor, values: dict[str, str], done: list[str]) -> None:
    rotor.retire(values[PREVIOUS], values[""])
    del values[PREVIOUS]
    shelf.write(values)
    done.append("the old one is refused from now on")
