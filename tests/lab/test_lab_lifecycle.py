"""up, down, status and restart, on small services instead of the real ones."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
from collections.abc import Callable

import psutil
import pytest

from lab import __main__, lifecycle, processes
from lab.layout import Lab, LabError
from lab.services import Command, Service

SLEEP = Command((sys.executable, "-c", "import time; time.sleep(600)"))
BROKEN = Command((sys.executable, "-c", "raise SystemExit('out of luck')"))

Choose = Callable[..., None]


def service(name: str, command: Command = SLEEP, needs: tuple[str, ...] = ()) -> Service:
    return Service(name, (name,), lambda lab: command, lambda lab: command is SLEEP, needs=needs)


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Choose:
    """Says which services a lab has."""
    monkeypatch.setenv("LAB_NO_CONSUL", "1")
    monkeypatch.setattr("lab.salt_config.await_fleet", lambda lab, check: None)

    def those(*services: Service) -> None:
        monkeypatch.setattr(lifecycle, "table", lambda consul: {one.name: one for one in services})

    those(service("one"), service("two", needs=("one",)))
    return those


@pytest.fixture
def pillar(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "pillar"
    folder.mkdir()
    (folder / "top.sls").write_text("base: {}\n")
    return folder


def running(folder: pathlib.Path) -> list[int]:
    """Processes of the lab in this folder, by their TMPDIR."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder / "tmp") and processes.identify(process.pid):
                found.append(process.pid)
        except psutil.Error:
            pass
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(10)


def up(folder: pathlib.Path, pillar: pathlib.Path) -> list[str]:
    said: list[str] = []
    lifecycle.up(folder, pillar, said.append)
    return said


def test_up_twice_down_twice(tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose) -> None:
    folder = tmp_path / "lab"
    assert "up in" in up(folder, pillar)[-1]
    before = running(folder)
    assert len(before) == 2
    assert "already up" in up(folder, pillar)[-1]
    assert running(folder) == before
    said: list[str] = []
    lifecycle.down(folder, said.append)
    lifecycle.down(folder, said.append)
    assert "is gone" in said[0] and "no lab" in said[1]
    assert not folder.exists() and not running(folder)


def test_up_after_a_crash_starts_anew(tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose) -> None:
    folder = tmp_path / "lab"
    up(folder, pillar)
    before = running(folder)
    kill(before[0])
    lab = Lab.load(folder)
    assert lab and sorted(state.running for state in lifecycle.states(lab)) == [False, True]
    assert "clearing away" in up(folder, pillar)[0]
    assert len(running(folder)) == 2 and not set(running(folder)) & set(before)
    lifecycle.down(folder, lambda text: None)


def test_up_after_a_killed_up_starts_anew(tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose) -> None:
    folder = tmp_path / "lab"
    up(folder, pillar)
    lab = Lab.load(folder)
    assert lab
    lab.update(state="starting", processes={})  # As it is when the killed one didn't get to write what it started.
    before = running(folder)
    up(folder, pillar)
    assert len(running(folder)) == 2 and not set(running(folder)) & set(before)
    lifecycle.down(folder, lambda text: None)


def test_up_that_fails_half_way_leaves_nothing(tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose) -> None:
    choose(service("one"), service("two", BROKEN, needs=("one",)))
    with pytest.raises(LabError, match="two ended with exit code 1(.|\n)*out of luck"):
        up(tmp_path / "lab", pillar)
    assert not (tmp_path / "lab").exists() and not running(tmp_path / "lab")


def test_a_folder_without_a_top_file_is_no_pillar(tmp_path: pathlib.Path, choose: Choose) -> None:
    with pytest.raises(LabError, match="no top.sls"):
        up(tmp_path / "lab", tmp_path)
    assert not (tmp_path / "lab").exists()


def test_a_strangers_folder_is_not_touched(tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose) -> None:
    with pytest.raises(LabError, match="not empty"):
        up(tmp_path, pillar)
    said: list[str] = []
    lifecycle.down(tmp_path, said.append)
    assert "no lab" in said[0] and (pillar / "top.sls").exists()


def test_restart_keeps_ports(tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose) -> None:
    folder = tmp_path / "lab"
    up(folder, pillar)
    before = Lab.load(folder)
    lifecycle.restart(folder, "one", lambda text: None)
    after = Lab.load(folder)
    assert before and after and before.record["ports"] == after.record["ports"]
    assert before.record["processes"]["one"] != after.record["processes"]["one"]
    assert before.record["processes"]["two"] == after.record["processes"]["two"]
    assert len(running(folder)) == 2
    with pytest.raises(LabError, match="there are: one, two"):
        lifecycle.restart(folder, "three", lambda text: None)
    lifecycle.down(folder, lambda text: None)


def test_the_command_line(
    tmp_path: pathlib.Path, pillar: pathlib.Path, choose: Choose, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--dir", str(tmp_path / "lab")]
    assert __main__.main(["status", *there]) == 1
    assert __main__.main(["env", *there]) == 1
    assert __main__.main(["down", *there]) == 0
    assert __main__.main(["up", "--pillar", str(pillar), *there]) == 0
    assert "LAB_NO_CONSUL" in capsys.readouterr().out
    assert __main__.main(["status", *there]) == 0
    assert "the embedded store serves" in capsys.readouterr().out
    kill(running(tmp_path / "lab")[0])
    assert __main__.main(["status", *there]) == 1
    assert "not running" in capsys.readouterr().out
    assert __main__.main(["down", *there]) == 0
    assert __main__.main(["up", "--pillar", str(tmp_path), *there]) == 1
    assert "no top.sls" in capsys.readouterr().err
