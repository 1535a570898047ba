"""Base, pillar and live in; what differs, and who moved, out. Pure: the same for every system.

base: what the last good deployment wanted. pillar: what is wanted now. live: what the system holds.
Every object, and every field of it, is in one class at most:

    live = pillar                      no drift, whatever the base was
    base = pillar, live another        changed by hand; "only live" where neither wants it
    base = live, pillar another        only pillar: edited, and not deployed yet
    all three differ                   both: they moved apart
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from json import dumps
from typing import Any

from hecate.plan import Normalise
from hecate.resource import Resource, Snapshot, by_id

ONLY_LIVE, ONLY_PILLAR, BY_HAND, BOTH = "only live", "only pillar", "changed by hand", "both"
HEALABLE = (BY_HAND, ONLY_LIVE)
MOVED = (BY_HAND, ONLY_LIVE, BOTH)  # what somebody did at the system
FOLLOWS = frozenset({"caddy.saved"})  # a copy of what runs, made anew by every apply
UNTOLD = frozenset({"terraform.configuration"})  # its files may have changed since: nobody can tell which side moved
UNSAID = {"authentik.group": ("members", "attributes")}  # fields that are only managed where pillar has them
ABSENT: Any = object()
LIMIT = 100


@dataclass(frozen=True)
class FieldDrift:
    """One field; values as short text, secrets only as references."""

    path: str
    who: str
    base: str
    pillar: str
    live: str


@dataclass(frozen=True)
class Drift:
    """One object. who: its class. what: live beside the base: added, changed, removed, or "" where only pillar moved.

    origin: the pillar path that wants it, if any does.
    """

    id: str
    who: str
    what: str
    origin: str = ""
    fields: tuple[FieldDrift, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Drift:
        fields = tuple(FieldDrift(**one) for one in data["fields"])
        return cls(data["id"], data["who"], data["what"], data["origin"], fields)


def classify(base: Any, pillar: Any, live: Any) -> str:
    """The class of three values, each of which may be ABSENT; "" where there is no drift."""
    if live == pillar:
        return ""
    if base == pillar:
        return ONLY_LIVE if base is ABSENT else BY_HAND
    return ONLY_PILLAR if live == base else BOTH


@dataclass(frozen=True)
class Wanted:
    """What one side wants. Where it depends on what another system has just now there are several ways.

    An object that is live in any of them is as wanted.
    """

    ways: Sequence[Mapping[str, Resource]]

    @classmethod
    def of(cls, *ways: Iterable[Resource]) -> Wanted:
        return cls([by_id(way) for way in ways])

    @property
    def scope(self) -> Mapping[str, Resource]:
        return {name: resource for way in reversed(self.ways) for name, resource in way.items()}

    def get(self, name: str, live: Resource | None, normalise: Normalise) -> Resource | None:
        """As the server would answer it; the way that is live, else the first."""
        found = [_spoken(normalise(way[name], live), live) if name in way else None for way in self.ways]
        return next((one for one in found if _spec(one) == _spec(live)), found[0])


def scope(base: Wanted, pillar: Wanted) -> list[Resource]:
    """What has to be looked at: one of each object, with the fields that either side speaks of."""
    before, now = base.scope, pillar.scope
    merged = (
        resource.with_spec({**before[name].spec, **resource.spec}) if _differs(before.get(name), resource) else resource
        for name, resource in now.items()
    )
    return [*merged, *(resource for name, resource in before.items() if name not in now)]


def compare(base: Wanted, pillar: Wanted, snapshot: Snapshot, normalise: Normalise) -> tuple[Drift, ...]:
    """Every object that is not live as pillar wants it, by id. snapshot: of `scope`."""
    before, now = base.scope, pillar.scope
    found = []
    for name in sorted(before.keys() | now.keys() | snapshot.owned.keys()):
        live = snapshot.get(name)
        if name.partition(" ")[0] in FOLLOWS or (name not in before and name not in now and live is None):
            continue
        sides = [side.get(name, live, normalise) for side in (base, pillar)]
        specs = [_spec(side) for side in (*sides, live)]
        if who := classify(*specs):
            if name.partition(" ")[0] in UNTOLD:
                who = BOTH
            origin = next((side.origin for side in reversed(sides) if side and side.origin), "")
            found.append(Drift(name, who, _what(specs[0], specs[2]), origin, tuple(_fields(*specs))))
    return tuple(found)


def summary(rows: Iterable[Drift]) -> str:
    """ "2 changed by hand, 1 only pillar", or "no drift"."""
    counts = Counter(row.who for row in rows)
    return ", ".join(f"{counts[who]} {who}" for who in (BY_HAND, ONLY_LIVE, BOTH, ONLY_PILLAR) if counts[who]) or (
        "no drift"
    )


def text(title: str, rows: Sequence[Drift], shown: int = 200) -> str:
    """A tree as a person reads it."""
    lines = [f"{title}: {summary(rows)}"]
    for row in rows[:shown]:
        lines.append(f"  {row.who:<15}  {row.id}" + (f" ({row.what})" if row.what else ""))
        for one in row.fields:
            lines.append(f"      {one.path}: deployed {one.base}, pillar {one.pillar}, live {one.live}  [{one.who}]")
    return "\n".join([*lines, *([f"  ... and {len(rows) - shown} more"] if len(rows) > shown else [])])


def merged(one: Any, other: Any) -> Any:
    """Mappings by key, everything else replaced: as Salt merges pillar files with pillar_merge_lists off."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: merged(one.get(key), other[key]) if key in other else one[key] for key in {**one, **other}}
    return other


def _spoken(wanted: Resource, live: Resource | None) -> Resource:
    """Fields that this side doesn't manage are as they are."""
    missing = [name for name in UNSAID.get(wanted.kind, ()) if live and name in live.spec and name not in wanted.spec]
    return wanted.with_spec({**wanted.spec, **{name: live.spec[name] for name in missing if live}})


def _differs(one: Resource | None, other: Resource) -> bool:
    return one is not None and one.spec != other.spec


def _spec(resource: Resource | None) -> Any:
    return dict(resource.spec) if resource else ABSENT


def _what(base: Any, live: Any) -> str:
    if base == live:
        return ""
    return "added" if base is ABSENT else "removed" if live is ABSENT else "changed"


def _fields(base: Any, pillar: Any, live: Any) -> Iterator[FieldDrift]:
    """Of an object that is there, and that somebody wants."""
    if live is not ABSENT and not (base is ABSENT and pillar is ABSENT):
        for path, *values in _walk("", base, pillar, live):
            hidden = path.rpartition(".")[2] in ("password", "hash")
            yield FieldDrift(path, classify(*values), *("(hidden)" if hidden else _short(value) for value in values))


def _walk(path: str, *sides: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    base, pillar, live = sides
    if live == pillar:
        return
    there = [side for side in sides if side is not ABSENT]
    if all(isinstance(side, Mapping) for side in there):
        for key in sorted({key for side in there for key in side}, key=str):
            inner = (side.get(key, ABSENT) if isinstance(side, Mapping) else ABSENT for side in sides)
            yield from _walk(f"{path}.{key}" if path else str(key), *inner)
    elif len(there) == 3 and all(isinstance(side, list) and len(side) == len(live) for side in there):
        for index, items in enumerate(zip(base, pillar, live, strict=True)):
            yield from _walk(f"{path}[{index}]", *items)
    else:
        yield path, base, pillar, live


def _short(value: Any) -> str:
    shown = "(absent)" if value is ABSENT else dumps(value, sort_keys=True, ensure_ascii=False)
    return shown if len(shown) <= LIMIT else shown[: LIMIT - 1] + "…"
