"""What was done, what went wrong on purpose, and what should not have happened."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Violation:
    """round: of the run with this seed. fault: kinds, with their moments. repeat: the command that does it again."""

    layer: str
    seed: int
    round: int
    fault: str
    moment: str
    what: str
    repeat: str

    def __str__(self) -> str:
        return (
            f"VIOLATION in {self.layer}, seed {self.seed}, round {self.round}: {self.what}\n"
            f"  faults: {self.fault}\n  moment: {self.moment}\n  again: {self.repeat}"
        )


@dataclass
class Tally:
    """steps: commands and applies that were begun. runs: rounds that were checked.

    requests: asked of untouched routes; asked_again: after a connection that ended without an answer. ended: how the
    broken deploys stood in history, and what the operator did then. by_fault: how often each kind really happened.
    not_here: kinds that this machine can't do, and why.
    """

    seed: int
    steps: int = 0
    runs: int = 0
    requests: int = 0
    asked_again: int = 0
    by_fault: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    not_here: dict[str, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return sum(self.by_fault.values())

    def add(self, other: Tally) -> None:
        self.steps += other.steps
        self.runs += other.runs
        self.requests += other.requests
        self.asked_again += other.asked_again
        self.by_fault.update(other.by_fault)
        self.ended.update(other.ended)
        self.not_here.update(other.not_here)
        self.violations += other.violations

    def to_json(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "steps": self.steps,
            "runs": self.runs,
            "requests": self.requests,
            "asked_again": self.asked_again,
            "faults": self.faults,
            "violations": len(self.violations),
            "by_fault": dict(sorted(self.by_fault.items())),
            "ended": dict(sorted(self.ended.items())),
            "not_here": self.not_here,
            "details": [asdict(violation) for violation in self.violations],
        }

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        lines = [f"{kind:34} {count:6}" for kind, count in sorted(self.by_fault.items())]
        lines += [f"{kind:34}   none: {why}" for kind, why in sorted(self.not_here.items())]
        lines += [str(violation) for violation in self.violations]
        counts = f"seed {self.seed}: {self.runs} runs, {self.steps} steps, {self.faults} faults, "
        return "\n".join([*lines, counts + f"{self.requests} requests, {len(self.violations)} violations"])
