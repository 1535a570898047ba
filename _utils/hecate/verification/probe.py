"""One question's answer, and the two ways in which there is none that is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


@dataclass(frozen=True)
class Probe:
    """One question and what came back.

    what: its kind: dns, tcp, tls, https, http, old tls, plain, spoofed, allowed, refused, admin, prober, route.
    host: as pillar has it; for admin the edge's address. at: the edge, or the name server.
    result: ok, warn, fail or skip. told: what was seen, or what to look at. by: the machine that probed.
    """

    what: str
    host: str
    at: str
    result: str
    told: str
    by: str = ""

    @property
    def good(self) -> bool:
        return self.result != FAIL

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Probe:
        """Raises TypeError for what isn't one."""
        return cls(**{name: str(value) for name, value in data.items()})


class ProbeFailed(Exception):
    """The answer is not the one that the pillar promises."""


class NotProbed(Exception):
    """It cannot be asked from here, or would prove nothing; says why."""


class Doubtful(Exception):
    """Good still, but somebody should look."""
