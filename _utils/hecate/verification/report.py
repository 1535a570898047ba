"""What was seen from outside, as a table for people and as data for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hecate.verification.probe import FAIL, OK, SKIP, WARN, Probe

SHOWN = 200  # lines of one kind; the rest is counted
QUIET = ("tcp",)  # good ones need no words


@dataclass(frozen=True)
class Report:
    """probes: all of them, in the pillar's order. scope: which routes, and why these."""

    probes: tuple[Probe, ...]
    scope: str = ""

    @property
    def good(self) -> bool:
        """Warnings do not fail."""
        return all(probe.good for probe in self.probes)

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(probe.result for probe in self.probes)
        return {result: found[result] for result in (OK, WARN, FAIL, SKIP)}

    def text(self) -> str:
        return table(self.probes, self.scope)

    def data(self) -> dict[str, Any]:
        rows = [probe.to_json() for probe in self.probes]
        return {"good": self.good, "scope": self.scope, "counts": self.counts, "rows": rows}


def table(probes: Sequence[Probe], scope: str = "") -> str:
    """What failed first, then what to look at, then a line for each host and edge; very many are counted instead."""
    bad = [probe for probe in probes if probe.result == FAIL]
    doubtful = [probe for probe in probes if probe.result == WARN]
    made = [probe for probe in probes if probe.result != SKIP]
    head = f"{len(made) - len(bad)} of {len(made)} probes passed"
    head += f", {len(doubtful)} with a warning" if doubtful else ""
    lines = [head + (f" ({scope})" if scope else "")]
    lines += _each("FAIL", bad) + _each("warn", doubtful)
    lines += _good([probe for probe in probes if probe.result == OK])
    lines += [f"skip  {count} x {what}: {why}" for (what, why), count in _reasons(probes).most_common(20)]
    return "\n".join([*lines, *_origins(made)])


def _each(sign: str, probes: Sequence[Probe]) -> list[str]:
    listed = [(p.what, p.host, f"at {p.at}" if p.at else "", p.told) for p in probes[:SHOWN]]
    lines = [f"{sign}  {line}" for line in _aligned(listed)]
    return lines + ([f"{sign}  ... and {len(probes) - SHOWN} more"] if len(probes) > SHOWN else [])


def _good(probes: Sequence[Probe]) -> list[str]:
    """A line for each host at each place: what was seen there."""
    places: dict[tuple[str, str], list[str]] = {}
    for probe in probes:
        if probe.what not in QUIET:
            said = probe.told if probe.what in ("dns", "prober") else f"{probe.what} {probe.told}"
            places.setdefault((probe.host, probe.at), []).append(said)
    if len(places) > SHOWN:
        kinds = Counter(probe.what for probe in probes)
        return [f"ok    {count} x {what}" for what, count in sorted(kinds.items())]
    rows = [(host, f"at {at}", "; ".join(said)) for (host, at), said in sorted(places.items())]
    return [f"ok    {line}" for line in _aligned(rows)]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    for *front, last in rows:
        yield "  ".join([*(part.ljust(width) for part, width in zip(front, widths, strict=True)), last])


def _reasons(probes: Sequence[Probe]) -> Counter[tuple[str, str]]:
    return Counter((probe.what, probe.told) for probe in probes if probe.result == SKIP)


def _origins(probes: Sequence[Probe]) -> list[str]:
    """Who probed what."""
    found: dict[str, dict[str, None]] = {}
    for probe in probes:
        if probe.by:
            found.setdefault(probe.by, {})["dns" if probe.what == "dns" else probe.at] = None
    told = [f"{', '.join(sorted(places))} from {prober}" for prober, places in sorted(found.items())]
    return ["probed: " + "; ".join(told)] if told else []
