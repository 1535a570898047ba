"""Targets in the order of a deploy: which minion manages which system, as pillar says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hecate import model

AT_ONCE = 8  # targets that are asked at the same time
RECORDS = ("hetzner_dns", "rfc2136")  # systems whose deletions wait until the routes are gone


@dataclass(frozen=True)
class Step:
    """One target of a deploy: what it is called, which minion does it, and for which system."""

    name: str
    minion: str
    system: str

    @property
    def module(self) -> str:
        """Of the execution functions of this system."""
        return f"hecate_{self.system}"


@dataclass(frozen=True)
class Part:
    """What one target does at one point of a deploy. hold: "deletions" leaves what is to go for a later part."""

    name: str
    step: Step
    hold: str = ""


def steps_of(raw: Mapping[str, Any]) -> list[Step]:
    """raw: what stands under `hecate`, unchecked but for the targets. Only systems that it mentions."""
    targets = model.parse({"hecate": {"targets": raw.get("targets") or {}}}).targets
    edges = targets.caddy or tuple(raw.get("edges") or ())
    single = {
        "terraform": targets.controller,
        "nomad": targets.controller,
        "authentik": targets.authentik,
        "hetzner_dns": targets.dns,
        "rfc2136": targets.dns if _dynamic(raw) else "",
    }
    listed = [Step(system, minion, system) for system, minion in single.items() if minion and raw.get(system)]
    return listed + [Step(edge, edge, "caddy") for edge in edges]


def parts_of(steps: Sequence[Step]) -> list[Part]:
    """Steps in the order of a deploy. A record is there before its route, and goes after it.

    Both parts of a DNS target are one transaction in one journal. A rollback puts it back where its first
    part stands: after the edges, so new records outlive their routes there too.
    """
    edges = any(step.system == "caddy" for step in steps)
    late = [step for step in steps if edges and step.system in RECORDS]
    first = [Part(step.name, step, "deletions" if step in late else "") for step in steps]
    return first + [Part(f"{step.name} deletions", step) for step in late]


def _dynamic(raw: Mapping[str, Any]) -> bool:
    """Whether a zone of this (unchecked) pillar is served by one of hecate:rfc2136."""
    found = raw.get("dns")
    dns = found if isinstance(found, Mapping) else {}
    zones = dns.get("zones") or {}
    rows = [(zones[name] if isinstance(zones, Mapping) else None) for name in zones]
    used = [(row.get("provider") if isinstance(row, Mapping) else None) or dns.get("provider") for row in rows]
    return any(name in used for name in raw.get("rfc2136") or ())


def silence(minion: str) -> str:
    """In place of an answer."""
    return f"{minion} does not answer; is its minion running?"


class Crew:
    """The targets' minions, as whoever conducts them reaches them.

    call: (minion, function, *arguments) -> its return, or a text that says why there is none.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def ask(self, step: Step, function: str, *args: Any) -> Any:
        return self.call(step.minion, function, *args)

    def ask_each(self, questions: Mapping[str, tuple[Step, str, Sequence[Any]]]) -> dict[str, Any]:
        """name -> (target, function, arguments), all at once; the answers by the same names."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = pool.map(lambda q: self.ask(q[0], q[1], *q[2]), questions.values())
            return dict(zip(questions, answers, strict=True))
