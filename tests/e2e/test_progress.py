"""A deploy tells what it does while it does it: on its own terminal, and to who follows it from another."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from typing import Any

import pytest

from .conftest import Estate

pytestmark = pytest.mark.lab
# Of the targets only those that have something to do; authentik tells edges what it guards.
STEPS = ["preflight", "begin", "authentik", "hecate-edge-1", "hecate-edge-2", "verify", "record"]
STEP = re.compile(r"^ {2}(ok|FAIL) +(\S+(?: deletions)?) +(\d+\.\d) s", re.M)


def told(text: str) -> list[str]:
    return [found[2] for found in STEP.finditer(text)]


def test_the_terminal_shows_each_step_as_it_ends_and_another_follows(estate: Estate) -> None:
    def routes(hecate: dict[str, Any]) -> None:
        hecate["routes"]["cloud.estate.test"]["upstreams"] = ["192.0.2.88:11000"]

    estate.edit("routes.sls", routes)
    salt_run = f"{estate.known['salt']['bin']}/salt-run"
    deploy = subprocess.Popen(
        [salt_run, "hecate.deploy", "message=followed", "--out=json"],
        env=estate.shell, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert deploy.stderr is not None
    first = deploy.stderr.readline()
    assert re.match(r"deploy \S+: followed$", first), first
    begun = deploy.stderr.readline() + deploy.stderr.readline()
    assert told(begun) == STEPS[:2]
    watching = subprocess.run([salt_run, "hecate.watch"], env=estate.shell, capture_output=True, text=True, timeout=120)
    out, err = deploy.communicate(timeout=120)
    assert deploy.returncode == 0, out + err
    assert told(begun + err) == STEPS
    assert re.search(r"^deploy \S+ is done \(\d+\.\d s\)$", err, re.M), err
    assert told(watching.stderr) == STEPS and "followed" in watching.stdout
    assert "caddy: 1 to update" in json.loads(out)
    events = estate.events.read_text(errors="replace")
    assert f"hecate/deploy/{first.split()[1].rstrip(':')}/hecate-edge-1/done" in events


def test_a_step_that_fails_is_told_and_so_is_the_way_back(estate: Estate) -> None:
    def routes(hecate: dict[str, Any]) -> None:
        hecate["routes"]["fails.estate.test"] = {"upstreams": ["192.0.2.20:7000"], "auth_policy": "builders"}

    estate.edit("routes.sls", routes)
    estate.faults("authentik", {"kind": "status", "status": 500, "method": "WRITE", "times": None})
    code, text = estate.run("salt-run", "hecate.deploy")
    assert code == 1
    assert re.search(r"^  FAIL  authentik +\d+\.\d s  \S.*$", text, re.M), text
    assert told(text)[-2:] == ["authentik", "rollback"]
    assert "everything is as it was before" in text


def test_a_terminal_names_the_step_that_is_under_way(estate: Estate) -> None:
    master, slave = pty.openpty()
    done = subprocess.Popen(
        [f"{estate.known['salt']['bin']}/salt-run", "hecate.deploy"],
        env=estate.shell, stdout=subprocess.PIPE, stderr=slave, close_fds=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:  # the last writer is gone
        pass
    os.close(master)
    assert done.wait(60) == 0
    assert done.stdout is not None
    done.stdout.close()
    text = shown.decode()
    assert "\r\x1b[K  ...   verify" in text and "\r\x1b[K  ok    verify" in text
    assert text.rstrip().splitlines()[-1].endswith("s)")


def test_a_request_that_nobody_knows_is_refused_before_anything(estate: Estate) -> None:
    before = estate.writes()
    code, text = estate.deploy(route="cloud.estate.test")
    assert code != 0 and "a deploy knows no such word; it takes allow, message" in text
    assert estate.writes() == before
