"""Engines in processes that are killed at counted points, again and again; and that the suite would notice a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tool
from hecate.journal import Journal

from chaos import engines, sight
from chaos.engines import Bench, Workers
from chaos.sight import Objects
from chaos.tally import Tally
from chaos.worlds import MAKERS

SEED, STEPS = 1, 60
POINTS = ("before a call", "after a call", "before a sync", "after a sync", "before a file is replaced")


def test_killed_anywhere_each_transaction_is_whole_or_undone() -> None:
    tool("caddy")
    tally = engines.campaign(SEED, STEPS)
    assert not tally.violations, "\n".join(map(str, tally.violations))
    assert tally.runs == STEPS
    missing = [point for point in POINTS if not tally.by_fault[f"engine: killed {point}"]]
    assert not missing and tally.by_fault["engine: calls cut"], tally


def test_the_same_seed_does_the_same() -> None:
    """At Caddy, where nothing is waited for: how often a system is asked whether it is ready, no seed can say."""
    tool("caddy")
    tallies = [engines.campaign(7, 12, systems=["caddy"]) for _ in range(2)]
    assert tallies[0].by_fault == tallies[1].by_fault and tallies[0].steps == tallies[1].steps


class Forgetful:
    """What the suite has to see: a journal that somebody loses after each kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_entries(self) -> list[object]:
        for path in self.folder.rglob("*.jsonl"):
            path.unlink()
        return []

    def __getattr__(self, name: str) -> object:
        return getattr(Journal(self.folder), name)


def test_a_lost_journal_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool("caddy")
    real: Callable[[str, Path], Journal] = engines.journal_of
    monkeypatch.setattr(engines, "journal_of", lambda system, folder: Forgetful(real(system, folder).folder))
    with MAKERS["caddy"](tmp_path) as world:
        workers = Workers()
        try:
            bench, problems = Bench(world, workers, Tally(3)), list[str]()
            for number in range(1, 20):
                bench.step(number)
                problems += bench.problems
        finally:
            workers.stop()
    assert any("not as before" in problem or "neither old nor new" in problem for problem in problems)


def test_what_is_neither_old_nor_new_is_named() -> None:
    old: Objects = {"a": "1", "b": "1", "gone": "1"}
    new: Objects = {"a": "2", "b": "1", "fresh": "1"}
    assert sight.neither({"a": "2", "b": "1", "gone": "1"}, old, new) == []
    assert sight.neither({"a": "3", "b": "1", "fresh": "1"}, old, new) == ["a"]
    assert sight.neither({"a": "1", "gone": "1"}, old, new) == ["b"]
