"""A plan for the estate as a person reads it: a tree in a terminal, Markdown under a pull request. Pure."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hecate.errors import HecateError
from hecate.estate_plan import EstatePlan, Line, TargetPlan, counted

SIGNS = {"create": "+", "update": "~", "delete": "-"}
COLOURS = {"create": "32", "update": "33", "delete": "31", "!": "1;31", "head": "1"}
SHOWN = 200  # objects that are listed of one target
IN_A_COMMENT = 50  # the same in Markdown: a comment has an end
BRIEF = 120  # characters of what is told of an object that comes or goes
WORDS = ("systems", "routes", "tags", "tenants", "exclude")


def text(plan: EstatePlan, *, colour: bool = False) -> str:
    """system -> target -> kind -> object, with the fields that differ; whatever is cut is counted."""
    paint = _painted if colour else _plain
    lines = [paint("head", headline(plan)), *_chosen(plan)]
    lines += [paint("!", f"! {name}: {reason}") for name, reason in plan.unsafe]
    for system, targets in plan.systems().items():
        lines.append(paint("head", system))
        for target in targets:
            lines.append(f"  {target.name}: {summary(target)}")
            lines += [f"    {line}" for line in _objects(target, paint)]
            lines += [f"    waits for {value}; hecate.deploy runs Terraform first" for value in target.pending]
            lines += [f"    {note}" for note in target.notes]
    lines += [f"cannot be undone: {loss}" for loss in plan.lasting]
    return "\n".join([*lines, *_prices(plan)])


def formed(plan: EstatePlan, form: str) -> Any:
    """form: text, markdown or data. Raises HecateError for any other."""
    forms: dict[str, Callable[[EstatePlan], Any]] = {
        "text": text,
        "markdown": markdown,
        "data": EstatePlan.to_json,
    }
    if form not in forms:
        raise HecateError(f"form is one of {', '.join(forms)}, not {form!r}")
    return forms[form](plan)


def _painted(what: str, line: str) -> str:
    return f"\033[{COLOURS[what]}m{line}\033[0m" if what in COLOURS else line


def _plain(_: str, line: str) -> str:
    return line


def headline(plan: EstatePlan) -> str:
    if not plan:
        return f"{plan.environment}: as it should be"
    counts = ", ".join(f"{count} to {verb}" for verb, count in plan.counts().items() if count) or "no changes yet"
    return f"{plan.environment}: {counts} (plan {plan.digest})"


def summary(target: TargetPlan) -> str:
    """ "2 to create, 1 to delete", or "nothing to do"."""
    told = ", ".join(f"{count} to {verb}" for verb, count in counted(target.lines).items() if count)
    return told or ("cannot be told yet" if target.pending else "nothing to do")


def _chosen(plan: EstatePlan) -> list[str]:
    told = [f"{name} {', '.join(plan.selection[name])}" for name in WORDS if plan.selection.get(name)]
    return [f"only: {'; '.join(told)}"] if told else []


def _objects(target: TargetPlan, paint: Callable[[str, str], str]) -> list[str]:
    found: list[str] = []
    kinds = list(dict.fromkeys(line.kind for line in target.lines))
    room = SHOWN // len(kinds) if kinds else SHOWN
    for kind in kinds:
        own = [line for line in target.lines if line.kind == kind]
        if len(kinds) > 1:
            found.append(f"{kind} ({len(own)})")
        before = "  " if len(kinds) > 1 else ""
        for line in own[:room]:
            found.append(before + paint(line.verb, f"{SIGNS[line.verb]} {line.id}{brief(line)}"))
            found += [f"{before}    {field}" for field in _fields(line)]
        found += [f"{before}... and {count} more to {verb}" for verb, count in _rest(own, room)]
    return found


def brief(line: Line) -> str:
    """What comes or goes, in a few words; of an update nothing, since its fields follow."""
    if line.verb == "update" or not line.fields:
        return ""
    sides = [(path, new if line.verb == "create" else old) for path, old, new in line.fields]
    told = "; ".join(f"{path} {value}" for path, value in sides if value and not value.startswith(("{", "[{")))
    short = told if len(told) <= BRIEF else told[: BRIEF - 1] + "…"
    return f"  ({short})" if short else ""


def _fields(line: Line) -> list[str]:
    if line.verb != "update":
        return []
    if line.fields is None:
        return ["its fields are not told: there are too many changes"]
    return [f"{path}: {old} -> {new}" if old or new else path for path, old, new in line.fields]


def _rest(lines: Sequence[Line], shown: int) -> list[tuple[str, int]]:
    return [(verb, count) for verb, count in counted(lines[shown:]).items() if count]


def _prices(plan: EstatePlan) -> list[str]:
    """What it takes, and how to have exactly this done."""
    if not plan:
        return []
    late = [t.name for t in plan.targets if not t.fits]
    found = [f"Caddy reloads: {plan.reloads}; API calls to apply: about {plan.calls}"]
    found += [f"! {name}: more API calls than its rate limit has left; it would be refused" for name in late]
    found.append("order: " + ", then ".join(t.name for t in plan.targets if t.lines or t.pending))
    if plan.pending:
        return [*found, "not to be had exactly like this yet: deploy systems=terraform first, then plan the rest"]
    changed = [t.system for t in plan.targets if t.lines]
    if "terraform" in changed and len(changed) > 1:
        found.append("what depends on Terraform's outputs may yet change with them; then exactly this is refused")
    return [*found, f"""exactly this: salt-run state.orch hecate.deploy pillar='{{"plan": "{plan.digest}"}}'"""]


# Markdown


def markdown(plan: EstatePlan) -> str:
    """For a comment under a pull request: dangers, a table, and the details of each target folded away."""
    lines = [f"### {_md(headline(plan))}", ""]
    lines += [f"> {_md(line)}" for line in _chosen(plan)]
    if plan.unsafe:
        lines += ["**Wants consent:**", "", *(f"- ⚠️ {_md(name)}: {_md(reason)}" for name, reason in plan.unsafe), ""]
    if plan.lasting:
        lines += ["**Cannot be undone:**", "", *(f"- {_md(loss)}" for loss in plan.lasting), ""]
    lines += ["| system | target | create | update | delete | API calls |", "|---|---|---:|---:|---:|---:|"]
    lines += [_table_row(target) for target in plan.targets]
    lines += ["", *(line for target in plan.targets if target.lines for line in _details(target))]
    return "\n".join([*lines, *(_md(line) + "  " for line in _prices(plan))]) + "\n"


def _table_row(target: TargetPlan) -> str:
    counts = " | ".join(map(str, counted(target.lines).values()))
    waits = f" (waits for {', '.join(target.pending)})" if target.pending else ""
    return f"| {_md(target.system)} | {_md(target.name + waits)} | {counts} | {target.calls} |"


def _details(target: TargetPlan) -> Iterable[str]:
    yield f"<details><summary>{_md(target.name)}: {_md(summary(target))}</summary>"
    yield ""
    for line in target.lines[:IN_A_COMMENT]:
        yield f"- `{SIGNS[line.verb]}` {_md(line.id)}{_md(brief(line))}"
        for field in _fields(line):
            yield f"  - {_md(field)}"
    yield from (f"- … and {count} more to {verb}" for verb, count in _rest(target.lines, IN_A_COMMENT))
    yield from (f"- {_md(note)}" for note in target.notes)
    yield ""
    yield "</details>"
    yield ""


def _md(value: str) -> str:
    """Text that stays text: no markup, no cell of a table, no mention of anybody."""
    escaped = html.escape(" ".join(value.splitlines()), quote=False)
    for sign in "\\`*_[]~|@":
        escaped = escaped.replace(sign, f"&#{ord(sign)};")
    return escaped
