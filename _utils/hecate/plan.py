"""Desired and observed in, an ordered Plan out. Pure: the same for every system."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from hecate.errors import Conflict, UnsafePlan
from hecate.resource import Change, Resource, Snapshot, by_id

PRECIOUS = {  # kinds of which even one deletion wants consent: the word, and what would be lost
    "caddy.route": ("route", "the last route of {} would go"),
    "terraform.configuration": ("destroy", "everything that the Terraform configuration {} made would be destroyed"),
}
Normalise = Callable[[Resource, "Resource | None"], Resource]


@dataclass(frozen=True)
class Limits:
    """How much one plan may take away before it needs a word of consent.

    deletes: at most this many deletions. percent: and at most this share of what Hecate owns
    there, counted once there are more than `deletes` objects. updates: at most this many updates.
    allow: the overrides given.
    """

    updates: int = 100
    deletes: int = 5
    percent: int = 30
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """An ordered list of changes to one target, fit to be shown, saved and applied as reviewed."""

    changes: tuple[Change, ...]
    unsafe: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changes)

    @cached_property
    def digest(self) -> str:
        """A short fingerprint of exactly these changes in exactly this order."""
        text = json.dumps([c.to_json() for c in self.changes], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def refuse_if_unsafe(self) -> None:
        """Raise UnsafePlan, naming every override that would let the plan pass."""
        if self.unsafe:
            raise UnsafePlan(self.unsafe)


def make_plan(
    desired: Iterable[Resource],
    snapshot: Snapshot,
    normalise: Normalise,
    *,
    adopt: Collection[str] = (),
    limits: Limits | None = None,
) -> Plan:
    """Compare, refuse what is somebody else's, order by `needs`, and weigh the risk.

    adopt: ids that may be taken over although they lack Hecate's mark.
    limits: None weighs nothing, as is right for an undo.
    Raises Conflict for wanted objects that exist, differ, and are not Hecate's.
    """
    wanted = by_id(desired)
    changes, strangers = [], []
    for resource in wanted.values():
        have = snapshot.get(resource.id)
        goal = normalise(resource, have)
        if have is not None and have.spec == goal.spec:
            continue
        if resource.id in snapshot.foreign and resource.id not in adopt:
            strangers.append(resource.id)
        changes.append(Change(have, goal))
    if strangers:
        raise Conflict(sorted(strangers))
    changes += [Change(have, None) for name, have in snapshot.owned.items() if name not in wanted]
    ordered = tuple(order(changes))
    unsafe = tuple(risks(ordered, len(snapshot.owned), limits)) if limits else ()
    return Plan(ordered, unsafe)


def order(changes: Iterable[Change]) -> list[Change]:
    """Creations and updates with what they need first; deletions after them, in the opposite order.

    Within a level the order is alphabetical, so the same wish always gives the same plan.
    """
    pending = list(changes)
    kept = {c.id: c.subject.needs for c in pending if c.after}
    gone = {c.id: c.subject.needs for c in pending if not c.after}
    kept_levels, gone_levels = levels(kept), levels(gone)
    return sorted(
        pending,
        key=lambda c: (0, kept_levels[c.id], c.id) if c.after else (1, -gone_levels[c.id], c.id),
    )


def levels(needs: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Depth of each id: 0 needs nothing here, 1 needs only depth 0, and so on."""
    depth: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> int:
        if name in trail:
            raise ValueError(f"these need each other: {' -> '.join([*trail, name])}")
        if name not in depth:
            depth[name] = 1 + max((visit(n, (*trail, name)) for n in needs[name] if n in needs), default=-1)
        return depth[name]

    for name in needs:
        visit(name, ())
    return depth


def risks(changes: Iterable[Change], owned: int, limits: Limits) -> list[str]:
    """The reasons why these changes want consent, each ending with the override that gives it."""
    found = []
    listed = list(changes)
    deletions = [c for c in listed if c.verb == "delete"]
    updates = sum(c.verb == "update" for c in listed)
    if updates > limits.updates:
        found.append(("updates", f"{updates} of {owned} objects would be changed"))
    share = 100 * len(deletions) / owned if owned else 0
    too_many = len(deletions) > limits.deletes
    if too_many or (owned > limits.deletes and share > limits.percent):
        found.append(("deletes", f"{len(deletions)} of {owned} objects would be deleted"))
    for change in listed:
        if change.verb != "create" and change.kind == "dns.rrset" and "/@/" in change.subject.key:
            found.append((f"apex:{change.subject.key}", f"{change.verb} of the apex record {change.subject.key}"))
    for change in deletions:
        if change.kind in PRECIOUS:
            word, loss = PRECIOUS[change.kind]
            found.append((f"{word}:{change.subject.key}", loss.format(change.subject.key)))
    return [f"{what}; to allow it: allow={word}" for word, what in found if word not in limits.allow]
