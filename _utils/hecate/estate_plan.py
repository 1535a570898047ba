"""One plan for the whole estate, put together from what each target would do. A value: shown, saved, compared. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

NOTHING = hashlib.sha256(b"[]").hexdigest()[:16]  # digest of a plan without changes
FOLLOWING = "caddy.saved"  # the file that holds what runs: writing it is no reload


@dataclass(frozen=True)
class Line:
    """One change. print: fingerprint of both its sides. fields: path, old, new; None where they are not told."""

    id: str
    verb: str
    print: str
    fields: tuple[tuple[str, str, str], ...] | None = None

    @property
    def kind(self) -> str:
        return self.id.partition(" ")[0]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Line:
        fields = tuple((str(p), str(o), str(n)) for p, o, n in row["fields"]) if "fields" in row else None
        return cls(row["id"], row["verb"], row.get("print", ""), fields)

    def to_json(self) -> dict[str, Any]:
        fields = {"fields": [list(one) for one in self.fields]} if self.fields is not None else {}
        return {"id": self.id, "verb": self.verb, "print": self.print, **fields}


def counted(lines: Iterable[Line]) -> dict[str, int]:
    """How many are to be created, updated and deleted, in that order; those that are none too."""
    found = Counter(line.verb for line in lines)
    return {verb: found[verb] for verb in ("create", "update", "delete")}


@dataclass(frozen=True)
class TargetPlan:
    """What one target would do, in the order in which it would.

    digest: of all of it. held: of what it does before its deletions, where these come in a later part; and rest: of
    that part. pending: values that wait for Terraform. lasting: what a rollback could not bring back. calls: to the
    API, to apply it. fits: whether these are within the API's rate limit.
    """

    name: str
    system: str
    minion: str
    digest: str = NOTHING
    held: str = NOTHING
    rest: str = NOTHING
    lines: tuple[Line, ...] = ()
    unsafe: tuple[str, ...] = ()
    lasting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    calls: int = 0
    fits: bool = True

    @classmethod
    def of(cls, name: str, system: str, minion: str, told: Mapping[str, Any]) -> TargetPlan:
        """told: what the target's function `plan` answers under `plan`."""
        texts = {key: tuple(map(str, told.get(key) or ())) for key in ("unsafe", "lasting", "notes", "pending")}
        digests = {key: str(told.get(key) or NOTHING) for key in ("digest", "held", "rest")}
        lines = tuple(Line.of(row) for row in told["changes"])
        fits = bool(told.get("fits", (told.get("budget") or {}).get("fits", True)))
        bare = cls(name, system, minion, lines=lines, calls=int(told.get("calls", 0)), fits=fits)
        return replace(bare, **texts, **digests)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Without what is at its default; the lines as `changes`, as targets call them."""
        usual = TargetPlan("", "", "")
        own = {k: getattr(self, k) for k in self.__dataclass_fields__ if k != "lines"}
        told = {k: list(v) if isinstance(v, tuple) else v for k, v in own.items() if v != getattr(usual, k)}
        return {"digest": self.digest, **told, "changes": [line.to_json() for line in self.lines]}

    @property
    def reloads(self) -> bool:
        """Whether this is an edge whose Caddy would load a new configuration."""
        return self.system == "caddy" and any(line.kind != FOLLOWING for line in self.lines)

    def digest_of(self, hold: str, is_late: bool) -> str:
        """What a part of a deploy may do. hold: as the part has it. is_late: it comes after one that held back."""
        return self.held if hold else self.rest if is_late else self.digest


@dataclass(frozen=True)
class EstatePlan:
    """targets: in the order of a deploy. selection: the words that chose them, without empty ones.

    pillar: fingerprint of what was wanted. made: seconds since 1970. user: who asked for it.
    """

    environment: str
    targets: tuple[TargetPlan, ...]
    selection: Mapping[str, Sequence[str]] = field(default_factory=dict)
    pillar: str = ""
    made: float = 0.0
    user: str = ""

    def __bool__(self) -> bool:
        return any(target.lines or target.pending for target in self.targets)

    @cached_property
    def digest(self) -> str:
        """The same for the same changes, whoever asks. Never a number: a command line would take it for one."""
        parts = [[t.name, t.system, t.minion, t.digest, sorted(t.pending)] for t in self.targets]
        words = {name: sorted(given) for name, given in self.selection.items()}
        text = json.dumps([self.environment, words, parts], sort_keys=True, separators=(",", ":"))
        return "p" + hashlib.sha256(text.encode()).hexdigest()[:15]

    def concerns(self, name: str, is_late: bool) -> bool:
        """Whether a target has something to do, or may have by the time that it is its turn.

        Terraform's outputs are part of what others hold; and edges go by what authentik tells them that it guards.
        is_late: in the part that deletes what was held back.
        """
        systems = {target.system for target in self.targets if target.lines}
        target = self.target(name)
        if target is None or self.pending or "terraform" in systems:
            return True
        if is_late:
            return any(line.verb == "delete" for line in target.lines)
        return bool(target.lines) or (target.system == "authentik" and "caddy" in systems)

    @property
    def reloads(self) -> int:
        return sum(target.reloads for target in self.targets)

    @property
    def calls(self) -> int:
        return sum(target.calls for target in self.targets)

    @property
    def unsafe(self) -> list[tuple[str, str]]:
        """(target, reason)"""
        return [(target.name, reason) for target in self.targets for reason in target.unsafe]

    @property
    def lasting(self) -> list[str]:
        return list(dict.fromkeys(f"{t.name}: {loss}" for t in self.targets for loss in t.lasting))

    @property
    def pending(self) -> list[str]:
        return sorted({value for target in self.targets for value in target.pending})

    def counts(self) -> dict[str, int]:
        return counted(line for target in self.targets for line in target.lines)

    def systems(self) -> dict[str, list[TargetPlan]]:
        """Targets by system, both in the order of a deploy."""
        found: dict[str, list[TargetPlan]] = {}
        for target in self.targets:
            found.setdefault(target.system, []).append(target)
        return found

    def target(self, name: str) -> TargetPlan | None:
        return next((target for target in self.targets if target.name == name), None)

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "environment": self.environment,
            "made": self.made,
            "user": self.user,
            "selection": {name: list(words) for name, words in self.selection.items()},
            "pillar": self.pillar,
            "counts": self.counts(),
            "reloads": self.reloads,
            "calls": self.calls,
            "unsafe": [f"{name}: {reason}" for name, reason in self.unsafe],
            "lasting": self.lasting,
            "pending": self.pending,
            "targets": [target.to_json() for target in self.targets],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EstatePlan:
        targets = tuple(TargetPlan.of(t["name"], t["system"], t["minion"], t) for t in data["targets"])
        own = {key: data[key] for key in ("environment", "selection", "pillar", "made", "user")}
        return cls(targets=targets, **own)


def moved(saved: EstatePlan, now: EstatePlan) -> list[str]:
    """What differs between a saved plan and the same made anew, by target and object; empty if nothing does."""
    found: list[str] = []
    for name in dict.fromkeys(target.name for target in (*saved.targets, *now.targets)):
        then, today = saved.target(name), now.target(name)
        if then is None or today is None:
            found.append(f"{name}: {'is a target now' if then is None else 'is no target any more'}")
        elif (then.digest, then.minion, then.pending) != (today.digest, today.minion, today.pending):
            lines = list(_moved_lines(then, today))
            found += [f"{name}: {line}" for line in lines or ["the same changes in another order, or elsewhere"]]
    return found


def _moved_lines(then: TargetPlan, today: TargetPlan) -> list[str]:
    old, new = ({line.id: line for line in target.lines} for target in (then, today))
    found = [f"now also: {new[name].verb} {name}" for name in new if name not in old]
    found += [f"no longer to {old[name].verb}: {name}" for name in old if name not in new]
    for name in old.keys() & new.keys():
        if (old[name].verb, old[name].print) != (new[name].verb, new[name].print):
            found += [f"differently: {name}{how}" for how in _how(old[name], new[name])]
    return sorted(found)


def _how(old: Line, new: Line) -> list[str]:
    """Field by field where both plans tell the fields."""
    if old.verb != new.verb:
        return [f" was to {old.verb}, is now to {new.verb}"]
    then, today = ({path: (was, wanted) for path, was, wanted in line.fields or ()} for line in (old, new))
    told = [
        f" {path}: planned {_sides(then.get(path))}, now {_sides(today.get(path))}"
        for path in sorted(then.keys() | today.keys())
        if then.get(path) != today.get(path)
    ]
    return told or [""]


def _sides(sides: tuple[str, str] | None) -> str:
    return f"{sides[0]} -> {sides[1]}" if sides else "(no change)"
