"""Rows of the benchmark: what was measured, what it should reach, whether it does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """value in `unit`; reach: the limit in the same unit, None where it is told for information alone."""

    area: str
    name: str
    value: float
    unit: str
    reach: float | None = None

    @property
    def holds(self) -> bool | None:
        return None if self.reach is None else self.value <= self.reach

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "value": round(self.value, 4), "holds": self.holds}


def show(rows: list[Row]) -> None:
    table = Table(title="medians of one run; ratios are to the bare thing measured beside it")
    for heading in ("area", "what", "value", "at most", "holds"):
        table.add_column(heading, justify="right" if heading in ("value", "at most") else "left")
    for row in rows:
        reach = "" if row.reach is None else f"{row.reach:g} {row.unit}"
        table.add_row(
            row.area, row.name, f"{row.value:.3g} {row.unit}", reach, {None: "", True: "yes", False: "NO"}[row.holds]
        )
    Console(width=140).print(table)
