"""Plans and outcomes as text and as JSON-compatible data, for people and for Salt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from hecate.lasting import lasting
from hecate.plan import Plan
from hecate.resource import Change

SIGNS = {"create": "+", "update": "~", "delete": "-"}
ABSENT = "(absent)"
FIELDS = 12  # fields of one change that an outline tells
SHOWN = 200  # changes that are listed; Salt cuts returns of more than about a megabyte without a word


def plan_text(plan: Plan, title: str = "") -> str:
    """A plan as a person reads it: a line a change, and field by field what an update alters."""
    lines = [f"{title}: {summary(plan)}" if title else summary(plan)]
    for change in plan.changes[:SHOWN]:
        lines.append(f"  {SIGNS[change.verb]} {change.id}")
        if change.verb == "update":
            lines += [f"      {path}: {_short(old)} -> {_short(new)}" for path, old, new in differences(change)]
    lines += [f"  ... and {count} more: {what}" for what, count in _rest(plan).items()]
    lines += [f"  ! {reason}" for reason in plan.unsafe]
    lines += [f"  {note}" for note in plan.notes]
    lines += [f"  {plan.budget.text()}"] if plan.budget else []
    return "\n".join(lines)


def summary(plan: Plan) -> str:
    """ "2 to create, 1 to delete", or "nothing to do"."""
    counts = {verb: sum(c.verb == verb for c in plan.changes) for verb in SIGNS}
    return ", ".join(f"{n} to {verb}" for verb, n in counts.items() if n) or "nothing to do"


def salt_changes(plan: Plan) -> dict[str, dict[str, Any]]:
    """A plan as Salt's `changes`: {id: {old, new}}, each side with just the fields that differ.

    Values are shortened to a line, and of very many changes only the first are listed: a deploy of
    thousands of routes has to stay readable. The undo journal has all of it.
    """
    changes: dict[str, dict[str, Any]] = {}
    for change in plan.changes[:SHOWN]:
        rows = list(differences(change))
        changes[change.id] = {
            "old": {path: _short(old) for path, old, _ in rows if old is not ABSENT} if change.before else None,
            "new": {path: _short(new) for path, _, new in rows if new is not ABSENT} if change.after else None,
        }
    return changes | {f"... {what}": {"old": None, "new": f"{count} more"} for what, count in _rest(plan).items()}


def outline(plan: Plan) -> dict[str, Any]:
    """A plan as data: every change with its fingerprint, and of as many as the text lists the fields that differ."""
    rows = [_row(change, number < SHOWN) for number, change in enumerate(plan.changes)]
    lost = lasting(plan.changes)
    told = {"notes": list(plan.notes)} if plan.notes else {}
    budget = {"budget": plan.budget.to_json()} if plan.budget else {}
    lasts = {"lasting": list(lost)} if lost else {}
    return {"digest": plan.digest, "changes": rows, "unsafe": list(plan.unsafe), **lasts, **told, **budget}


def fingerprint(change: Change) -> str:
    """Of both sides, whole: what a saved plan knows a change by again."""
    return hashlib.sha256(json.dumps(change.to_json(), sort_keys=True).encode()).hexdigest()[:12]


def _row(change: Change, whole: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"id": change.id, "verb": change.verb, "print": fingerprint(change)}
    if whole:
        fields = [[path, _short(old), _short(new)] for path, old, new in differences(change)]
        more = [[f"and {len(fields) - FIELDS} more fields", "", ""]] if len(fields) > FIELDS else []
        row["fields"] = fields[:FIELDS] + more
    return row


def _rest(plan: Plan) -> dict[str, int]:
    """What isn't listed, counted: {"caddy.route to create": 2803}."""
    found: dict[str, int] = {}
    for change in plan.changes[SHOWN:]:
        what = f"{change.kind} to {change.verb}"
        found[what] = found.get(what, 0) + 1
    return found


def differences(change: Change) -> Iterator[tuple[str, Any, Any]]:
    """Field path, old and new value of everything that differs between the sides of a change."""
    before = change.before.spec if change.before else {}
    after = change.after.spec if change.after else {}
    yield from _walk("", before, after)


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _walk(f"{path}.{key}" if path else str(key), old.get(key, ABSENT), new.get(key, ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _walk(f"{path}[{index}]", left, right)
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        yield from _lines(path, old.splitlines(), new.splitlines())
    else:
        yield path, old, new


def _lines(path: str, old: list[str], new: list[str]) -> Iterator[tuple[str, Any, Any]]:
    """Of a longer text only what differs, by the number of the line that it has, or had."""
    for verb, start, end, first, last in SequenceMatcher(None, old, new).get_opcodes():
        if verb != "equal":
            gone, come = (" / ".join(line.strip() for line in part) for part in (old[start:end], new[first:last]))
            number = first if last > first else start
            yield f"{path}, line {number + 1}", gone or ABSENT, come or ABSENT


def _short(value: Any, limit: int = 100) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= limit else text[: limit - 1] + "…"
