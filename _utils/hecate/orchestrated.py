"""What Salt tells of an orchestration, in the words of those who were asked: by state, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hecate.errors import HecateError

SHOWN = 20  # lines of what one target did


def told(answer: Any) -> tuple[list[str], list[str]]:
    """What was done, and what failed, a text each. Raises HecateError where nothing ran."""
    found = rows(answer).items()
    good = [text for name, row in found if row["result"] is not False for text in said(name, row)]
    return good, [text for name, row in found if row["result"] is False for text in said(name, row)]


def rows(answer: Any) -> dict[str, Mapping[str, Any]]:
    """What Salt tells of each state of an orchestration, by its name, in their order. Raises HecateError for none."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    found = next(iter(data.values()), None) if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping):
        raise HecateError(f"the orchestration hecate.deploy did not run: {found or answer}")
    rows = sorted(found.values(), key=lambda row: row["__run_num__"])
    return {row["__id__"]: row for row in rows}


def said(name: str, row: Mapping[str, Any]) -> list[str]:
    """What a state of the orchestration told, of a target's own states each; nothing of one that did not run."""
    changes = row["changes"] if isinstance(row.get("changes"), Mapping) else {}
    targets = changes.get("ret")
    if isinstance(targets, Mapping) and targets and all(isinstance(answer, Mapping) for answer in targets.values()):
        return [_short(f"{name}: {part['comment']}") for answer in targets.values() for part in answer.values()]
    if not row.get("__sls__") or row.get("__state_ran__") is False or "onfail" in row["comment"]:
        return []
    if "return" in changes or row["result"] is True:
        answer = changes.get("return")
        return [f"{name}: {answer['error']}"] if isinstance(answer, Mapping) and "error" in answer else []
    return [] if "requisite" in row["comment"] else [f"{name}: {row['comment']}"]


def _short(text: str) -> str:
    lines = text.splitlines()
    more = [f"  ... and {len(lines) - SHOWN} more lines"] if len(lines) > SHOWN + 1 else lines[SHOWN:]
    return "\n".join([*lines[:SHOWN], *more])
