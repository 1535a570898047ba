"""What a run may ask of a rate-limited API, and whether it fits. Pure."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from hecate.errors import OverBudget

HOUR = 3600


@dataclass(frozen=True)
class Allowance:
    """What an API told last: calls an hour, calls left, and when (seconds since 1970) all are back.

    It is refilled evenly, so `limit` / 3600 calls come back a second.
    """

    limit: int
    remaining: int
    reset: float

    def wait_for(self, calls: int) -> float:
        """Seconds that `calls` more calls have to wait for, in all."""
        missing = max(0, calls - self.remaining)
        return missing * HOUR / max(self.limit, 1)


@dataclass(frozen=True)
class Budget:
    """The calls of one run. spent: made so far. to_come: the apply will make about so many more.

    allowance: None where the API has told none: then everything fits.
    patience: seconds that the client waits for calls to come back before it gives up.
    """

    system: str
    spent: int
    to_come: int
    allowance: Allowance | None
    patience: float

    @property
    def wait(self) -> float:
        return self.allowance.wait_for(self.to_come) if self.allowance else 0.0

    @property
    def fits(self) -> bool:
        return self.wait <= self.patience

    def refuse_if_over(self) -> None:
        """Raise OverBudget, before anything is written, for a run that would be stopped half-way."""
        if self.fits or self.allowance is None:
            return
        most, left = self.allowance.limit, self.allowance.remaining
        if self.to_come > most:
            advice = f"more than an hour's {most}: apply it in parts (less in pillar at first, the rest an hour later)"
        else:
            advice = f"try again at {clock_text(time.time() + self.wait)}, or apply less at once"
        raise OverBudget(self.system, self.to_come, left, self.wait, advice)

    def text(self) -> str:
        """One line for a plan."""
        told = f"{self.spent} API calls made, about {self.to_come} more to apply"
        if self.allowance is None:
            return told
        left = f"{self.allowance.remaining} of {self.allowance.limit} an hour are left"
        if not self.wait:
            return f"{told}; {left}: no wait"
        return f"{told}; {left}: {_span(self.wait)} of waiting" + (
            "" if self.fits else ", too long: it would be refused"
        )

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"spent": self.spent, "to_come": self.to_come, "fits": self.fits}
        if self.allowance:
            found.update(
                limit=self.allowance.limit,
                remaining=self.allowance.remaining,
                reset=self.allowance.reset,
                wait=math.ceil(self.wait),
            )
        return found


def clock_text(moment: float) -> str:
    """A time of day for people, in UTC, as logs have it."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(math.ceil(moment)))


def _span(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} min" if seconds >= 120 else f"{math.ceil(seconds)} s"
