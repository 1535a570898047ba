"""What a deploy tells of itself: moments to lines, kept and followed."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import hecate_progress
import pytest
from hecate.progress import BEGUN, DONE, FAILED, KEPT, OVER, Lines, Log, Moment, moment

ID = "20260101-000000-0a1b2c3d"


def at(seconds: float, step: str, status: str, text: str = "") -> Moment:
    return Moment(ID, step, status, 1000 + seconds, text)


WHOLE = [
    at(0, "", BEGUN, "new wiki"),
    at(0.1, "preflight", BEGUN),
    at(0.5, "preflight", DONE, "pillar is good"),
    at(1.0, "authentik", BEGUN),
    at(3.5, "authentik", FAILED, "500 Server Error"),
    at(4.0, "rollback", DONE, "rolling back"),
    at(4.2, "", OVER, "everything is as it was before"),
]


def test_each_step_is_a_line_with_the_seconds_since_the_one_before() -> None:
    lines = Lines()
    told = [line for found in WHOLE if (line := lines.line(found)) is not None]
    assert told[0] == f"deploy {ID}: new wiki"
    assert [line.split()[0] for line in told[1:4]] == ["ok", "FAIL", "ok"]
    assert [line.split(" s  ")[0].split()[-1] for line in told[1:4]] == ["0.5", "3.0", "0.5"]
    assert told[-1] == "everything is as it was before (4.2 s)"


def test_the_seconds_of_all_steps_are_the_seconds_of_the_whole() -> None:
    lines = Lines()
    told = [line for found in WHOLE[:-1] if (line := lines.line(found)) is not None]
    assert sum(float(line.split(" s  ")[0].split()[-1]) for line in told[1:]) == pytest.approx(4.0)


def test_only_the_first_line_of_a_text_is_told() -> None:
    assert moment(ID, "verify", FAILED, "\n  3 of 4 probes passed\nFAIL app\n").text == "3 of 4 probes passed"


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "two\nlines", "a\rb", "bell\x07", "‮reversed"])
def test_nothing_that_a_minion_sends_steers_a_terminal(text: str) -> None:
    told = Moment.from_json({"data": at(0, "authentik", DONE, text).to_json(), "id": "evil", "cmd": "_minion_event"})
    assert told.text.isprintable()


@pytest.mark.parametrize("data", [{}, {"data": None}, {"transaction": ID}, {"data": {"step": "x"}}, {"data": 3}])
def test_what_is_no_moment_is_an_error_that_the_follower_knows(data: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Moment.from_json(data)


# Kept


def test_who_comes_late_sees_what_was_before(tmp_path: Path) -> None:
    log = Log(tmp_path / "progress", ID)
    for found in WHOLE:
        log.add(found)
    assert list(log.follow(lambda: True, sleep=lambda _: None)) == WHOLE
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_who_follows_sees_what_comes_and_stops_when_it_is_over(tmp_path: Path) -> None:
    log, seen = Log(tmp_path, ID), list[Moment]()
    log.add(WHOLE[0])
    asked = threading.Event()

    def look() -> None:
        seen.extend(log.follow(lambda: asked.set() or True, sleep=lambda _: asked.wait(0.01)))  # type: ignore[func-returns-value]

    follower = threading.Thread(target=look)
    follower.start()
    assert asked.wait(10)
    for found in WHOLE[1:]:
        log.add(found)
    follower.join(10)
    assert seen == WHOLE


def test_a_dead_deploy_is_not_waited_for(tmp_path: Path) -> None:
    log = Log(tmp_path, ID)
    for found in WHOLE[:3]:
        log.add(found)
    assert list(log.follow(lambda: False)) == WHOLE[:3]


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    log = Log(tmp_path, ID)
    log.add(WHOLE[0])
    with open(log.path, "a") as file:
        file.write(json.dumps(WHOLE[1].to_json())[:20])
    assert list(log.follow(lambda: False)) == WHOLE[:1]


def test_only_the_newest_deploys_are_kept(tmp_path: Path) -> None:
    for number in range(KEPT + 5):
        Log(tmp_path, f"20260101-{number:06}-x").add(WHOLE[0])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == KEPT and names[-1].startswith(f"20260101-{KEPT + 4:06}")


# Shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_step_that_is_under_way(tmp_path: Path) -> None:
    out = Terminal()
    screen = hecate_progress.Screen(out)
    screen.show(WHOLE[0])
    screen.show(WHOLE[1])
    assert out.getvalue().endswith("...   preflight")
    screen.show(WHOLE[2])
    assert out.getvalue().split("\x1b[K")[-1] == f"  ok    {'preflight':<24}    0.5 s  pillar is good\n"


def test_a_file_gets_whole_lines_alone() -> None:
    out = io.StringIO()
    for found in WHOLE:
        (screen := hecate_progress.Screen(out)).show(found)
    assert "\x1b" not in out.getvalue() and "\r" not in out.getvalue() and "..." not in out.getvalue()
    assert screen is not None and out.getvalue().count("\n") == 5


@pytest.mark.parametrize(
    ("data", "is_last"),
    [
        (at(0, "", OVER, "done").to_json(), True),
        ({"data": at(0, "", OVER, "done").to_json(), "id": "evil"}, False),
        (Moment("20260101-000000-ffffffff", "", OVER, 0, "").to_json(), False),
        ({"transaction": ID}, False),
        (at(0, "authentik", DONE).to_json(), False),
    ],
)
def test_only_the_master_ends_a_deploy(tmp_path: Path, data: dict[str, Any], is_last: bool) -> None:
    follower = hecate_progress.Follower({}, ID, None)
    assert follower._took(data, Log(tmp_path, ID), hecate_progress.Screen(None)) is is_last


def test_a_bus_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    opts = {"sock_dir": str(tmp_path / "none"), "cachedir": str(tmp_path)}
    hecate_progress.fire(opts, WHOLE[0])

    def gone(*_: object) -> bool:
        raise OSError("no master")

    hecate_progress.send({"event.send": gone}, WHOLE[0])
