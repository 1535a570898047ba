"""Two deploys at once, a deploy that was killed, and the way back to an earlier one; the history tells it all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Estate

pytestmark = pytest.mark.lab
NEW = "turn.estate.test"


def another_route(hecate: dict[str, Any]) -> None:
    hecate["routes"][NEW] = {"upstreams": ["192.0.2.30:7000"], "dns": {"A": ["203.0.113.30"]}}


def started(estate: Estate, output: Path, **pillar: Any) -> subprocess.Popen[bytes]:
    words = [f"{estate.known['salt']['bin']}/salt-run", "state.orch", "hecate.deploy", f"pillar={json.dumps(pillar)}"]
    with output.open("wb") as told:
        return subprocess.Popen(words, env=estate.shell, stdout=told, stderr=told, start_new_session=True)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def rows(estate: Estate, count: int = 1) -> list[dict[str, Any]]:
    code, text = estate.run("salt-run", "hecate.history", f"count={count}", "form=data", "--out=json")
    assert code == 0, text
    return list(json.loads(text[text.index("[") :]))


def is_locked(estate: Estate) -> bool:
    return "lock:\n    free" not in estate.run("salt-run", "hecate.status")[1]


def test_a_second_deploy_fails_at_once_or_waits_as_it_is_asked(estate: Estate, tmp_path: Path) -> None:
    estate.edit("routes.sls", another_route)
    estate.faults("hetzner", {"kind": "delay", "seconds": 4, "method": "WRITE", "times": 2})
    first = started(estate, tmp_path / "first", message="the first")
    until(lambda: is_locked(estate))
    waiting = started(estate, tmp_path / "waiting", message="the third", wait=60)
    code, text = estate.deploy(message="the second")
    assert first.wait(120) == 0, (tmp_path / "first").read_text()
    assert code == 1 and re.search(
        r"is being deployed by \S+ on \S+ \(pid \d+, deploy \S+, since .*, for \d+ s\)", text
    )
    assert waiting.wait(120) == 0, (tmp_path / "waiting").read_text()
    third, one = rows(estate, 2)
    assert (third["message"], third["status"]) == ("the third", "done")
    assert (one["message"], one["status"]) == ("the first", "done")
    assert third["user"] and third["host"] and third["jid"] and third["duration"] > 0
    code, text = estate.run("salt-run", "hecate.audit")
    assert code == 0 and "the history is whole" in text
    estate.restore_pillar()
    assert estate.deploy(allow=[f"route:{NEW}"])[0] == 0


def test_the_way_back_to_an_earlier_deployment(estate: Estate) -> None:
    then, before = rows(estate)[0]["id"], estate.everything()
    estate.edit("routes.sls", another_route)
    code, text = estate.deploy(message="more")
    assert code == 0, text
    changed = rows(estate)[0]["changed"]
    assert any(NEW in name for name in changed["hecate-edge-1"]["ids"]) and changed["hecate-edge-1"]["count"]
    code, text = estate.deploy(to="20260101-000000-00000000")
    assert code == 1 and "hecate.history lists them" in text
    code, text = estate.deploy(to=then, allow=[f"route:{NEW}"])
    assert code == 0, text
    assert estate.everything() == before
    assert rows(estate)[0]["request"]["to"] == then


@pytest.mark.parametrize("how", ["undo", "finish"])
def test_a_killed_deploy_is_undone_or_finished(estate: Estate, tmp_path: Path, how: str) -> None:
    before = estate.everything()
    estate.edit("routes.sls", another_route)
    killed = started(estate, tmp_path / "killed", message="cut off")
    until(lambda: estate.answers(NEW) != [])
    code, text = estate.run("salt-run", "hecate.resume")
    assert code == 1 and "is being deployed by" in text, "nothing is resumed under somebody alive"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert rows(estate)[0]["status"] == "running"
    assert "has no end; the next deploy" in estate.run("salt-run", "hecate.status")[1]
    code, text = estate.run("salt-run", "hecate.resume", how)
    assert code == 0, text
    if how == "finish":
        assert estate.answers(NEW) == ["203.0.113.30"]
        last, cut = rows(estate, 2)
        assert last["request"]["to"] == cut["id"] and (last["status"], cut["status"]) == ("done", "rolled back")
        assert estate.run("salt-run", "hecate.rollback")[0] == 0
    assert estate.everything() == before
    assert "nothing is interrupted" in estate.run("salt-run", "hecate.resume")[1]
    assert "interrupted" not in estate.run("salt-run", "hecate.status")[1]


def test_who_lost_the_lock_writes_no_more(estate: Estate, tmp_path: Path) -> None:
    """Paused in the middle, unlocked by an operator, followed by another deploy, and woken up."""
    before = estate.everything()
    estate.edit("routes.sls", another_route)
    paused = started(estate, tmp_path / "paused", message="paused")
    until(lambda: estate.answers(NEW) != [])
    os.killpg(paused.pid, signal.SIGSTOP)
    try:
        code, text = estate.run("salt-run", "hecate.unlock", "it hangs")
        assert code == 0 and "taken from" in text
        estate.restore_pillar()
        code, text = estate.deploy(message="the next")
        assert code == 0, text
        assert estate.everything() == before
    finally:
        os.killpg(paused.pid, signal.SIGCONT)
    assert paused.wait(120) == 1
    assert estate.everything() == before
    told = (tmp_path / "paused").read_text()
    assert "may no longer write here" in told or "lost the lock" in told, told
    code, text = estate.run("salt-run", "hecate.audit", "form=data", "--out=json")
    assert any(e["what"] == "unlock" and "it hangs" in e["note"] for e in json.loads(text[text.index("[") :]))
    code, text = estate.run("salt-run", "hecate.audit")
    assert code == 0, text
