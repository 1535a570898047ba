"""Deployments as people and machines read them: a line each, rows, and JSON lines; newest first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hecate.errors import HecateError
from hecate.files import write_whole
from hecate.store.audit import Entry
from hecate.store.deployments import Deployment

SHOWN = 3  # ids of what a target changed, in a line


def line(deployment: Deployment) -> str:
    why = "; ".join(part for part in (deployment.message, deployment.error) if part)
    who = f"{deployment.user}@{deployment.host}" if deployment.host else deployment.user
    took = f", {deployment.ended - deployment.started:.0f} s" if deployment.ended else ""
    parts = [deployment.id, moment(deployment.started), who, deployment.status + took]
    return "  ".join(parts) + (f"  ({why})" if why else "") + _changed(deployment)


def row(deployment: Deployment) -> dict[str, Any]:
    """All but the pillar; duration in seconds. Times as in ISO 8601, UTC."""
    said: dict[str, Any] = {k: v for k, v in deployment.summary().items() if v not in (None, "", {}, ())}
    took = {"duration": round(deployment.ended - deployment.started, 1)} if deployment.ended else {}
    said |= {k: iso(said[k]) for k in ("started", "ended") if k in said}
    return {**said, **took, "record": deployment.digest}


def jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """A JSON object a line."""
    return "".join(json.dumps(one, sort_keys=True) + "\n" for one in rows)


def parsed(text: str) -> list[dict[str, Any]]:
    """Back from `jsonl`. Raises ValueError."""
    return [dict(json.loads(one)) for one in text.splitlines()]


def exported(rows: Sequence[Mapping[str, Any]], form: str, file: str | None) -> Any:
    """rows as asked: data, JSON lines, or the same into a file of mode 0600. Raises HecateError."""
    if form not in ("text", "data", "jsonl"):
        raise HecateError(f"form is one of text, data, jsonl, not {form!r}")
    if form == "data" and not file:
        return [dict(row) for row in rows]
    text = jsonl(rows)
    if not file:
        return text
    try:
        write_whole(Path(file), text.encode())
    except OSError as err:
        raise HecateError(f"cannot write {file}: {err.strerror}") from err
    return f"{len(rows)} lines in {file}"


def read(file: str) -> list[dict[str, Any]]:
    """Of a file that `exported` wrote. Raises HecateError."""
    try:
        return parsed(Path(file).read_text(encoding="utf-8"))
    except OSError as err:
        raise HecateError(f"cannot read {file}: {err.strerror}") from err
    except ValueError as err:
        raise HecateError(f"{file} does not hold JSON lines: {err}") from err


def entries(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """The audit chain as it is kept, oldest first: an export can be compared with it to the letter."""
    return [asdict(entry) for entry in found]


def entry_line(entry: Entry) -> str:
    about = f"  {entry.deployment}" if entry.deployment else ""
    note = f"  ({entry.note.splitlines()[0]})" if entry.note else ""
    return f"{entry.number}  {moment(entry.at)}  {entry.user}@{entry.host}  {entry.what}{about}{note}"


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _changed(deployment: Deployment) -> str:
    """By target; a target that nothing changed on is left out."""
    told = []
    for name, found in deployment.changed.items():
        if found["count"]:
            more = f" and {found['count'] - SHOWN} more" if found["count"] > SHOWN else ""
            told.append(f"\n    {name}: {', '.join(found['ids'][:SHOWN])}{more}")
    return "".join(told)
