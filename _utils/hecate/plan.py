"""Desired and observed in, an ordered Plan out. Pure: the same for every system."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from hecate.budget import Budget
from hecate.errors import Conflict, UnsafePlan
from hecate.resource import UNKNOWN, Change, Resource, Snapshot, by_id

PRECIOUS = {  # kinds of which even one deletion wants consent: the word, and what would be lost
    "caddy.route": ("route", "the last route of {} would go"),
    "terraform.configuration": ("destroy", "everything that the Terraform configuration {} made would be destroyed"),
}
# What hangs from something else, and is no loss of its own where that goes too.
HANGING = frozenset({"authentik.application", "authentik.binding", "authentik.attachment", "authentik.flow_binding"})
ATTACHMENT = "authentik.attachment"
RRSET = "dns.rrset"
DELEGATING = ("NS", "MX", "CAA")  # at the apex: who answers for the zone, gets its mail, issues its certificates
Normalise = Callable[[Resource, "Resource | None"], Resource]


@dataclass(frozen=True)
class Limits:
    """How much one plan may take away before it needs a word of consent.

    deletes: at most this many deletions. percent: and at most this share of what Hecate owns
    there, counted once there are more than `deletes` objects. updates: at most this many updates.
    allow: the overrides given. zones: (deletes, percent) of a DNS zone; each zone is weighed by itself,
    and its share counts from the second deletion on, however small the zone.
    """

    updates: int = 100
    deletes: int = 5
    percent: int = 30
    allow: frozenset[str] = frozenset()
    zones: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """An ordered list of changes to one target, fit to be shown, saved and applied as reviewed.

    notes: what else a person should know of it. budget: the API calls that it takes, where they are counted.
    """

    changes: tuple[Change, ...]
    unsafe: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    budget: Budget | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return bool(self.changes)

    @cached_property
    def digest(self) -> str:
        """A short fingerprint of exactly these changes in exactly this order."""
        text = json.dumps([c.to_json() for c in self.changes], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def holding_deletions(self) -> Plan:
        """Without the deletions that can wait: a later step of the same deploy does them. The risks stay told."""
        first = in_the_way(self.changes)
        return replace(self, changes=tuple(c for c in self.changes if c.after or c.id in first))

    def without_held(self) -> Plan:
        """What `holding_deletions` leaves for later, as a plan of its own once the rest is applied."""
        first = {change.id for change in self.holding_deletions().changes}
        return replace(self, changes=tuple(order(c for c in self.changes if c.id not in first)))

    def keeping_guards(self) -> Plan:
        """Without the end of what guards a host: edges that are not told in the same deploy still ask for it."""
        gone = {change.id: change.subject for change in self.changes if change.after is None}
        kept = closure((name for name, held in gone.items() if held.kind == ATTACHMENT), gone)
        if not kept:
            return self
        note = f"{len(kept)} objects stay that guard hosts: the edges are not part of this, and still ask for them"
        return replace(self, changes=tuple(c for c in self.changes if c.id not in kept), notes=(*self.notes, note))

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
    unsafe = tuple(risks(ordered, snapshot.owned.values(), limits)) if limits else ()
    return Plan(ordered, unsafe)


def order(changes: Iterable[Change]) -> list[Change]:
    """Creations and updates with what they need first; deletions after them, in the opposite order.

    What stands in the way of a creation is deleted before everything else.
    Within a level the order is alphabetical, so the same wish always gives the same plan.
    """
    pending = list(changes)
    kept = {c.id: c.subject.needs for c in pending if c.after}
    gone = {c.id: c.subject.needs for c in pending if not c.after}
    kept_levels, gone_levels, first = levels(kept), levels(gone), in_the_way(pending)
    return sorted(
        pending,
        key=lambda c: (
            (1, kept_levels[c.id], c.id) if c.after else (0 if c.id in first else 2, -gone_levels[c.id], c.id)
        ),
    )


def closure(names: Iterable[str], among: Mapping[str, Resource]) -> set[str]:
    """These, and everything of `among` that they need, and so on."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in among and name not in found:
            found.add(name)
            pending += among[name].needs
    return found


def in_the_way(changes: Iterable[Change]) -> set[str]:
    """Deletions that must come before a creation: a CNAME has no other records beside it (RFC 1034, 3.6.2)."""
    gone: dict[str, list[Change]] = {}
    made: dict[str, list[Change]] = {}
    for change in changes:
        if change.kind == RRSET and change.verb != "update":
            name = change.subject.key.rpartition("/")[0]
            (made if change.after else gone).setdefault(name, []).append(change)
    return {
        old.id
        for name, olds in gone.items()
        for old in olds
        if any("CNAME" in (_type(old), _type(new)) for new in made.get(name, ()))
    }


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


def risks(changes: Iterable[Change], owned: Collection[Resource], limits: Limits) -> list[str]:
    """The reasons why these changes want consent, each ending with the override that gives it."""
    found = []
    listed = list(changes)
    deletions = [c for c in listed if c.verb == "delete"]
    updates = sum(c.verb == "update" for c in listed)
    if updates > limits.updates:
        found.append(("updates", f"{updates} of {len(owned)} objects would be changed"))
    there = Counter(_weighed_in(resource) for resource in owned if resource.kind not in HANGING)
    gone = {change.id for change in deletions}
    weighty = [c for c in deletions if c.kind not in HANGING or gone.isdisjoint(c.subject.needs)]
    for place, count in sorted(Counter(_weighed_in(change.subject) for change in weighty).items()):
        if _too_many(place, count, there[place], limits) and "deletes" not in limits.allow:
            word, where = (f"deletes:{place}", f" in {place}") if place else ("deletes", "")
            found.append((word, f"{count} of {there[place]} objects{where} would be deleted"))
    found += [(f"apex:{c.subject.key}", f"{c.verb} of the apex record {c.subject.key}") for c in listed if _bares(c)]
    for change in deletions:
        if change.kind in PRECIOUS:
            word, loss = PRECIOUS[change.kind]
            found.append((f"{word}:{change.subject.key}", loss.format(change.subject.key)))
        elif UNKNOWN in change.subject.spec.values():
            name = change.subject.key.rpartition("/")[2]
            found.append((f"secret:{name}", f"{name} would go, and a rollback could not bring its secret back"))
    return [f"{what}; to allow it: allow={word}" for word, what in found if word not in limits.allow]


def _weighed_in(resource: Resource) -> str:
    """The zone of an rrset: much of a small zone is little beside a large one. Everything else together."""
    return resource.key.partition("/")[0] if resource.kind == RRSET else ""


def _too_many(zone: str, deletions: int, owned: int, limits: Limits) -> bool:
    """Whether that many deletions want a word; zone: "" for what belongs to none."""
    deletes, percent = limits.zones.get(zone, (limits.deletes, limits.percent))
    counts = deletions > 1 if zone else owned > deletes
    return deletions > deletes or (counts and 100 * deletions > percent * owned)


def _bares(change: Change) -> bool:
    """Whether something at the apex of a zone would be lost: any rrset, or who answers there for what."""
    if change.kind != RRSET or "/@/" not in change.subject.key:
        return False
    return change.verb == "delete" or (change.verb == "update" and _type(change) in DELEGATING)


def _type(change: Change) -> str:
    return change.subject.key.rpartition("/")[2]
