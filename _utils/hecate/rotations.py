"""Rotations as a master runs them: which target does which, who is told meanwhile, and what is told to a person.

The work is done by the execution function `hecate.rotate` on the target that reaches the system. No secret's value
comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hecate import rotating
from hecate.errors import HecateError
from hecate.model import Estate
from hecate.model.rotation import Telling
from hecate.rotation import Status, Step

ROUNDS = 10  # at most so often consumers are told in one rotation; five are needed
Row = dict[str, Any]


@dataclass(frozen=True)
class Rotations:
    """call: (minion id, function, arguments) -> its return, or a text that says why there is none."""

    estate: Estate
    call: Callable[..., Any]

    def names(self, wanted: str | Sequence[str] | None) -> list[str]:
        """Those that were asked for, else all; raises HecateError for one that isn't in pillar."""
        listed = wanted.split(",") if isinstance(wanted, str) else list(wanted or self.estate.rotation)
        for name in listed:
            rotating.named(self.estate, name)
        return listed

    def targets(self, wanted: str | Sequence[str] | None) -> list[dict[str, str]]:
        """What orch/hecate/rotate.sls is rendered from."""
        return [{"name": name, "minion": rotating.minion_of(self.estate, name)} for name in self.names(wanted)]

    # Looking

    def status(self) -> list[Row]:
        """One row a rotation; where a target can't tell, why."""
        return [self._row(name) for name in self.estate.rotation]

    def _row(self, name: str) -> Row:
        row = {"name": name, "kind": getattr(self.estate.rotation[name], "kind", "")}
        try:
            found = self._status(name)
        except HecateError as err:
            unknown = Status("unknown")
            return {**row, **asdict(unknown), "overdue": False, "why": str(err)}
        return {**row, **asdict(found), "overdue": found.due is not None and found.due <= 0}

    def _status(self, name: str) -> Status:
        answer = self.call(rotating.minion_of(self.estate, name), "hecate.rotation", name)
        if not isinstance(answer, Mapping):
            raise HecateError(f"{name}: {answer}")
        return Status(**answer)

    # Doing

    def run(self, names: Sequence[str], *, immediate: bool, only_due: bool) -> str:
        """One after the other; one that fails does not keep the others. Raises HecateError with all of it then."""
        lines, failed = [], []
        for name in names:
            try:
                lines.append(f"{name}: {self._rotated(name, immediate, only_due)}")
            except HecateError as err:
                failed.append(name)
                lines.append(f"{name}: FAILED: {str(err).removeprefix(f'{name}: ')}")
        if failed:
            raise HecateError("\n".join([*lines, f"not done: {', '.join(failed)}; mend and run it again"]))
        return "\n".join(lines) or "nothing under hecate:rotation"

    def _rotated(self, name: str, immediate: bool, only_due: bool) -> str:
        begin = True
        if only_due and not immediate:
            found = self._status(name)
            if not found.wants_a_run:
                return _waits(found)
            begin = found.due is not None and found.due <= 0
        step, problems = self._carried(name, begin, immediate)
        told = "; ".join([*step.done, *problems]) or "nothing to do"
        if step.by_hand and immediate or problems:
            raise HecateError(f"{told}{_by_hand(step)}")
        return told + (f"; the old one is good for {span(step.again)} more" if step.again else "") + _by_hand(step)

    def _carried(self, name: str, begin: bool, immediate: bool) -> tuple[Step, list[str]]:
        """As far as it goes now, and who of the consumers could not be told in an emergency."""
        whole, problems, informed = Step(), list[str](), False
        for _ in range(ROUNDS):
            step = self._step(name, begin, immediate, informed)
            whole, begin, informed = whole.then(step), begin and not step.begun, step.tell
            if step.tell or step.promoted:
                problems += self._tell(name, immediate)
            if not step.tell:
                return whole, problems
        raise HecateError(f"{name}: still not done after {ROUNDS} rounds; {'; '.join(whole.done)}")

    def _step(self, name: str, begin: bool, immediate: bool, told: bool) -> Step:
        minion = rotating.minion_of(self.estate, name)
        answer = self.call(minion, "hecate.rotate", name, immediate, begin, told)
        if not isinstance(answer, Mapping):
            raise HecateError(f"{name}: {answer}")
        return Step(**{**answer, "done": tuple(answer["done"])})

    def _tell(self, name: str, immediate: bool) -> list[str]:
        """Have consumers take what stands there now. In an emergency one that fails does not keep the old one good."""
        telling = self.estate.rotation[name].apply
        if telling is None:
            return []
        failed = [problem for minion in telling.minions for problem in self._applied(minion, telling)]
        if failed and not immediate:
            raise HecateError(f"{name}: {'; '.join(failed)}; the one before was left good")
        return failed

    def _applied(self, minion: str, telling: Telling) -> list[str]:
        answer = self.call(minion, "state.apply", telling.state)
        if not isinstance(answer, Mapping):
            return [f"{minion} could not apply {telling.state}"]  # its words may quote a file
        if not answer:
            return [f"{minion}: nothing is in {telling.state}"]
        bad = [_named(key, row) for key, row in answer.items() if not _is_good(row)]
        return [f"{minion}: {telling.state}: {', '.join(bad)}"] if bad else []


def table(rows: Sequence[Row]) -> str:
    """For a person."""
    head = ("name", "kind", "phase", "age", "due")
    shown = [(row["name"], row["kind"], _phase(row), span(row["age"]), _due(row)) for row in rows]
    widths = [max(len(line[index]) for line in (head, *shown)) for index in range(len(head))]
    listed = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in (head, *shown)]
    return "\n".join(line.rstrip() for line in listed) if rows else "nothing under hecate:rotation"


def span(seconds: float | None) -> str:
    """5400 -> 1h 30m; the two largest units."""
    if seconds is None:
        return "never"
    left, parts = int(abs(seconds)), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def _phase(row: Row) -> str:
    if row.get("why"):
        return str(row["why"])
    return f"{row['phase']}, {span(row['left'])} left" if row["left"] else str(row["phase"])


def _due(row: Row) -> str:
    if row["due"] is None:
        return "" if row.get("why") else "when asked for"
    return f"OVERDUE by {span(row['due'])}" if row["overdue"] and row["due"] else "OVERDUE" if row["overdue"] else (
        f"in {span(row['due'])}"
    )  # fmt: skip


def _waits(found: Status) -> str:
    if found.left:
        return f"nothing to do; the old one is good for {span(found.left)} more"
    return "nothing to do" + (f"; due in {span(found.due)}" if found.due is not None else "; done when asked for")


def _by_hand(step: Step) -> str:
    return f"; TO BE DONE BY HAND: {step.by_hand}" if step.by_hand else ""


def _is_good(row: Any) -> bool:
    """None is a state that was not applied: that minion is in test mode."""
    return isinstance(row, Mapping) and row.get("result") is True


def _named(key: str, row: Any) -> str:
    if not isinstance(row, Mapping):
        return f"{key} failed"
    return f"{row.get('__id__', key)} {'was not applied' if row.get('result', False) is None else 'failed'}"
