"""A thousand routes with policies and records, nothing to do: what Hecate adds to the price of Salt itself.

The peer, in the same run and on the same master and minions with the same pillar, is the orchestration of a whole
deploy with an empty state for every target's, and an empty function for every step of the master's. The whole platform
runs for it, as `python -m lab up` starts it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench.table import Row
from lab.environ import environment

AREA = "deploy"
ROUTES = 1000
RATIO, SECONDS = 1.5, 5.0
ROOT = Path(__file__).resolve().parent.parent
HERE = Path(sys.executable).parent
MASTERS = 5  # steps that the master does itself: preflight, begin, outputs, verify, record


def measure(repeat: int) -> list[Row]:
    with platform(ROUTES) as shell:
        first = run(shell, "state.orch", "hecate.deploy", allow("updates"))
        steps = [*[""] * MASTERS, *minions(shell)]
        ours, bare, plans = [], [], []
        for _ in range(max(3, repeat // 2)):
            ours.append(run(shell, "state.orch", "hecate.deploy"))
            bare.append(run(shell, "state.orch", "lab.empty", "pillar=" + json.dumps({"steps": steps})))
            plans.append(run(shell, "hecate.plan"))
    what = f"{ROUTES} routes with policies and records"
    price = median(bare)
    return [
        Row(AREA, f"{what}: first deploy", first, "s"),
        Row(AREA, f"{what}: deploy with nothing to do", median(ours), "s"),
        Row(AREA, f"the same orchestration with empty states ({len(steps)} steps)", price, "s"),
        Row(AREA, "nothing to do, to the empty states", median(ours) / price, "times", RATIO),
        Row(AREA, f"{what}: hecate.plan", median(plans), "s", SECONDS),
    ]


def allow(*words: str) -> str:
    return "pillar=" + json.dumps({"allow": list(words)})


def minions(shell: dict[str, str]) -> list[str]:
    """Which minion does each of a whole deploy's steps: one that would wait for the lock leaves none out."""
    asked = "asked=" + json.dumps({"wait": 1})
    words = [HERE / "salt-run", "hecate.steps", asked, "--out=json"]
    told = subprocess.run(words, env=shell, capture_output=True, text=True)
    return [target["minion"] for target in json.loads(told.stdout)["targets"]]


def run(shell: dict[str, str], *words: str) -> float:
    """Seconds. Raises RuntimeError for a command that fails."""
    start = time.perf_counter()
    done = subprocess.run([HERE / "salt-run", *words], env=shell, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"salt-run {' '.join(words)}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    return time.perf_counter() - start


@contextmanager
def platform(count: int) -> Iterator[dict[str, str]]:
    """The lab, with the example pillar and `count` routes more; the environment of a shell in it."""
    base = Path(tempfile.mkdtemp(prefix="hecate-bench-"))
    shutil.copytree(ROOT / "pillar", base / "pillar")
    many(base / "pillar" / "hecate", count)
    lab = [sys.executable, "-m", "lab"]
    try:
        pillar = ["--pillar", str(base / "pillar"), "--dir", str(base / "lab")]
        # No checks of calls against the APIs' descriptions: they are the tests', and take most of an emulator's time.
        undescribed = {**os.environ, "HECATE_SPECS": str(base)}
        subprocess.run([*lab, "up", *pillar], cwd=ROOT, env=undescribed, check=True, capture_output=True, timeout=300)
        known = environment(base / "lab")
        yield {**os.environ, "SALT_CONFIG_DIR": known["salt"]["config"], "PYTHONWARNINGS": "ignore"}
    finally:
        subprocess.run([*lab, "down", "--dir", str(base / "lab")], cwd=ROOT, capture_output=True, timeout=120)
        shutil.rmtree(base, ignore_errors=True)


def many(pillar: Path, count: int) -> None:
    """Routes as an operator writes them: every second one protected, each with a record of its own."""
    routes: dict[str, Any] = {}
    for number in range(count):
        guard = {"auth_policy": ("observers", "builders")[number // 2 % 2]} if number % 2 else {}
        upstream = f"192.0.2.20:{9000 + number % 3}"
        routes[f"app{number}.estate.test"] = {"upstreams": [upstream], **guard, "dns": {"A": "203.0.113.10"}}
    (pillar / "many.sls").write_text(yaml.safe_dump({"hecate": {"routes": routes}}))
    init = pillar / "init.sls"
    init.write_text(init.read_text() + "  - hecate.many\n")
