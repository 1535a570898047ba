"""Saved plans and selections, as an operator meets them."""

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
EDGES = ["hecate-edge-1", "hecate-edge-2"]
CLOUD, S3 = "cloud.estate.test", "s3.estate.test"


def move(estate: Estate, *hosts: str, port: int = 7001) -> None:
    def edit(hecate: dict[str, Any]) -> None:
        for host in hosts:
            hecate["routes"][host]["upstreams"] = [f"192.0.2.99:{port}"]

    estate.edit("routes.sls", edit)


def planned(estate: Estate, *words: str) -> tuple[int, str, str]:
    """Exit code, text, digest."""
    code, text = estate.run("salt-run", "hecate.plan", *words)
    found = re.search(r"plan (p[0-9a-f]{15})", text)
    return code, text, found[1] if found else ""


def served(estate: Estate, host: str) -> set[str]:
    return {estate.visitor(edge).ask(f"https://{host}/")["upstream"] for edge in EDGES}


def by_hand(estate: Estate, old: str, new: str) -> None:
    client = estate.caddy(EDGES[0])
    config, etag = client.config()
    client.replace(json.loads(json.dumps(config).replace(old, new)), etag)


def test_a_plan_is_shown_in_every_form_and_in_colour_on_a_terminal_alone(estate: Estate) -> None:
    move(estate, CLOUD)
    code, text, digest = planned(estate)
    assert code == 2 and digest and "Caddy reloads: 2; API calls to apply: about 2" in text and "\033" not in text
    code, raw = estate.run("salt-run", "hecate.plan", "--out=json")
    plan = json.loads(raw[raw.index("{") :])["plan"]
    assert code == 2 and plan["digest"] == digest and plan["reloads"] == 2
    rows = [row for target in plan["targets"] for row in target["changes"]]
    assert [row["id"] for row in rows] == [f"caddy.route {CLOUD}"] * 2
    assert all(len(row["fields"][0]) == 3 for row in rows)
    code, page = estate.run("salt-run", "hecate.show_plan", digest, "form=markdown")
    assert code == 0 and "| caddy | hecate-edge-1 | 0 | 1 | 0 | 1 |" in page and "<details>" in page
    assert digest in estate.run("salt-run", "hecate.plans")[1]
    assert "\033[33m~ caddy.route" in on_a_terminal(estate) and "\033" not in on_a_terminal(estate, NO_COLOR="1")


def on_a_terminal(estate: Estate, **more: str) -> str:
    """What hecate.plan prints there."""
    ours, theirs = pty.openpty()
    words = [f"{estate.known['salt']['bin']}/salt-run", "hecate.plan"]
    with subprocess.Popen(words, env={**estate.shell, **more}, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        found = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            found += part
        process.wait(60)
    os.close(ours)
    return found.decode()


def test_a_plan_is_done_exactly_or_not_at_all(estate: Estate) -> None:
    before = estate.everything()
    move(estate, CLOUD, port=7002)
    digest = planned(estate)[2]
    dial = estate.call(EDGES[0], "hecate_caddy.routes")[S3]["upstreams"][0]
    by_hand(estate, dial, "127.0.0.1:1")
    moved_by_hand = estate.everything()
    code, text = estate.deploy(plan=digest)
    assert code != 0 and f"hecate-edge-1: now also: update caddy.route {S3}" in text, text[-3000:]
    assert estate.everything() == moved_by_hand
    by_hand(estate, '"127.0.0.1:1"', f'"{dial}"')
    writes = estate.writes()
    code, text = estate.deploy(plan=digest)
    assert code == 0, text[-3000:]
    assert estate.writes() == {**writes, **{edge: writes[edge] + 1 for edge in EDGES}}
    assert served(estate, CLOUD) == {"192.0.2.99:7002"}
    code, text = estate.deploy(plan=digest)
    assert code != 0 and f"no longer to update: caddy.route {CLOUD}" in text
    estate.restore_pillar()
    code, text = estate.deploy(plan=digest)
    assert code != 0 and f"hecate:routes:{CLOUD}:upstreams" in text
    assert estate.deploy()[0] == 0 and estate.everything() == before


def test_a_route_alone(estate: Estate) -> None:
    before = estate.everything()
    listed = json.loads(estate.run("salt-run", "hecate.history", "count=1", "--out=json")[1])[0]
    shown = estate.run("salt-run", "hecate.show", listed.split()[0], "--out=json")[1]
    recorded = json.loads(shown)["pillar"]["routes"]
    move(estate, CLOUD, S3, port=7003)
    code, text, digest = planned(estate, f"routes={CLOUD}")
    assert code == 2 and S3 not in text and f"only: routes {CLOUD}" in text
    code, text = estate.deploy(plan=digest, routes=[CLOUD])
    assert code != 0 and "cannot be given beside" in text
    code, text = estate.deploy(plan=digest)
    assert code == 0, text[-3000:]
    assert served(estate, CLOUD) == {"192.0.2.99:7003"} and served(estate, S3) == {"192.0.2.20:8123"}
    code, text, _ = planned(estate)
    assert code == 2 and S3 in text and CLOUD not in text
    listed = json.loads(estate.run("salt-run", "hecate.history", "count=1", "--out=json")[1])[0]
    newest = json.loads(estate.run("salt-run", "hecate.show", listed.split()[0], "--out=json")[1])
    assert newest["pillar"]["routes"][CLOUD] != recorded[CLOUD] and newest["pillar"]["routes"][S3] == recorded[S3]
    assert newest["request"]["routes"] == [CLOUD]
    code, text = estate.run("salt-run", "hecate.plan", "routes=nobody.estate.test")
    assert code == 1 and "there are: " in text and CLOUD in text
    estate.restore_pillar()
    assert estate.deploy()[0] == 0 and estate.everything() == before
