"""Whatever fails, at whatever step: everything is as it was before, and the history tells it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from lab.client import Visitor

from .conftest import Estate

pytestmark = pytest.mark.lab
Break = Callable[[Estate], Any]
FAILING = {"kind": "status", "status": 500, "method": "WRITE", "times": None}
NEW = "new.estate.test"


def change_everything(estate: Estate) -> None:
    """An edit that every system has a part in."""

    def routes(hecate: dict[str, Any]) -> None:
        hecate["routes"][NEW] = {
            "upstreams": ["192.0.2.20:7000"],
            "auth_policy": "builders",
            "dns": {"A": "terraform:edge_address"},
        }
        hecate["routes"]["cloud.estate.test"]["upstreams"] = ["192.0.2.99:11000"]

    def workloads(hecate: dict[str, Any]) -> None:
        hecate["workloads"]["heartbeat"]["config"]["args"] = ["4321"]

    def systems(hecate: dict[str, Any]) -> None:
        hecate["terraform"]["variables"]["edge_address"] = "203.0.113.20"

    estate.edit("routes.sls", routes)
    estate.edit("workloads.sls", workloads)
    estate.edit("systems.sls", systems)


@contextmanager
def broken_terraform(estate: Estate) -> Iterator[None]:
    """A second resource that fails while it is made, after the first was changed."""
    path = estate.pillar / "hecate" / "terraform" / "main.tf"
    path.write_text(
        path.read_text()
        + 'resource "terraform_data" "late" {\n  depends_on = [terraform_data.edge]\n'
        + '  provisioner "local-exec" {\n    command = "exit 7"\n  }\n}\n'
    )
    yield


@contextmanager
def broken_nomad(estate: Estate) -> Iterator[None]:
    """A job whose command ends at once, so that its deployment fails."""

    def spoil(hecate: dict[str, Any]) -> None:
        hecate["workloads"]["heartbeat"]["config"] = {"command": "/bin/false", "args": []}

    estate.edit("workloads.sls", spoil)
    yield


@contextmanager
def broken_authentik(estate: Estate) -> Iterator[None]:
    """The second write, when the application is there and the outpost is to hear of it."""
    estate.faults("authentik", {**FAILING, "skip": 1, "times": 1})
    yield


@contextmanager
def broken_dns(estate: Estate) -> Iterator[None]:
    estate.faults("hetzner", {**FAILING, "skip": 1, "times": 1})
    yield


@contextmanager
def broken_second_edge(estate: Estate) -> Iterator[None]:
    """Somebody else has the new host's certificates issued in that Caddy, which refuses to have two for one host."""
    client = estate.caddy("hecate-edge-2")
    config, etag = client.config()
    before = json.dumps(config["apps"].get("tls"))
    policies = config["apps"].setdefault("tls", {}).setdefault("automation", {}).setdefault("policies", [])
    policies.append({"subjects": [NEW], "issuers": [{"module": "internal"}]})
    client.replace(config, etag)
    yield
    config, etag = client.config()
    config["apps"]["tls"] = json.loads(before)
    client.replace(config, etag)


@contextmanager
def broken_verify(estate: Estate) -> Iterator[None]:
    """All is applied, but one of the routes does not work for visitors."""
    estate.faults("authentik", {"kind": "status", "status": 500, "method": "GET", "path": "^/$", "times": None})
    yield


BREAKS = {
    "terraform": broken_terraform,
    "nomad": broken_nomad,
    "authentik": broken_authentik,
    "hetzner_dns": broken_dns,
    "hecate-edge-2": broken_second_edge,
    "verify": broken_verify,
}


def newest(estate: Estate) -> str:
    _, text = estate.run("salt-run", "hecate.history", "count=1", "--out=json")
    return str(json.loads(text)[0])


@pytest.mark.parametrize("step", BREAKS)
def test_a_failure_at_any_step_puts_everything_back(estate: Estate, step: str) -> None:
    change_everything(estate)
    with BREAKS[step](estate):
        before = estate.everything()
        code, text = estate.deploy(message=f"breaking {step}")
        assert code != 0
        assert estate.everything() == before
    assert "everything is as it was before" in text, text[-3000:]
    line = newest(estate)
    assert "rolled back" in line and f"breaking {step}" in line
    status = estate.run("salt-run", "hecate.status")[1]
    assert "free" in status
    estate.faults("authentik")
    estate.faults("hetzner")
    estate.restore_pillar()
    code, told = estate.plan()
    assert code == 0, told


def test_what_was_broken_works_once_it_is_mended(estate: Estate) -> None:
    change_everything(estate)
    before = estate.everything()
    code, text = estate.deploy()
    assert code == 0, text
    assert estate.answers(NEW) == ["203.0.113.20"]
    visitor = estate.visitor("hecate-edge-2")
    visitor.get(f"https://{NEW}/")
    visitor.login("alice", estate.password("alice"))
    assert visitor.ask(f"https://{NEW}/")["upstream"] == "192.0.2.20:7000"
    code, text = estate.run("salt-run", "hecate.rollback")
    assert code == 0 and "everything is as it was before" in text
    assert estate.everything() == before
    estate.restore_pillar()
    code, told = estate.plan()
    assert code == 0, told


def test_a_deploy_that_was_killed_is_undone_by_the_next(estate: Estate) -> None:
    before = estate.everything()
    change_everything(estate)
    killed = subprocess.Popen(
        [f"{estate.known['salt']['bin']}/salt-run", "state.orch", "hecate.deploy"],
        env=estate.shell,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while estate.answers(NEW) == [] and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert estate.everything() != before
    assert "running" in newest(estate)
    estate.restore_pillar()
    code, text = estate.deploy()
    assert code == 0, text
    assert "its deploy was cut off" in text
    assert estate.everything() == before


def test_of_two_deploys_at_once_one_waits_for_nobody(estate: Estate) -> None:
    change_everything(estate)
    estate.faults("hetzner", {"kind": "delay", "seconds": 3, "method": "WRITE", "times": 3})
    words = [f"{estate.known['salt']['bin']}/salt-run", "state.orch", "hecate.deploy"]
    first = subprocess.Popen(words, env=estate.shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 60
    while "running" not in newest(estate) and time.monotonic() < until and first.poll() is None:
        pass
    assert first.poll() is None, "the first deploy was over too soon to be met by a second"
    code, text = estate.deploy()
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    assert code == 1 and "is being deployed by" in text
    assert estate.run("salt-run", "hecate.rollback")[0] == 0


def test_removing_a_route_names_its_override(estate: Estate) -> None:
    def remove(hecate: dict[str, Any]) -> None:
        del hecate["routes"]["s3.estate.test"]

    before = estate.everything()
    estate.edit("routes.sls", remove)
    code, text = estate.deploy()
    assert code != 0 and "allow=route:s3.estate.test" in text
    assert estate.everything() == before
    code, text = estate.deploy(allow=["route:s3.estate.test"])
    assert code == 0, text
    assert estate.answers("s3.estate.test") == []
    estate.restore_pillar()
    assert estate.deploy()[0] == 0
    assert estate.everything() == before


def test_a_record_outlives_its_route(estate: Estate, tmp_path: Path) -> None:
    """Looked at from outside all along: whoever is still sent here is still answered."""

    def remove(hecate: dict[str, Any]) -> None:
        del hecate["routes"]["s3.estate.test"]

    before = estate.everything()
    visitors = [estate.visitor(edge) for edge in estate.known["edges"]]
    assert served(visitors) == len(visitors)
    estate.edit("routes.sls", remove)
    words = [f"{estate.known['salt']['bin']}/salt-run", "state.orch", "hecate.deploy"]
    allow = json.dumps({"allow": ["route:s3.estate.test"]})
    told = tmp_path / "deploy"
    with told.open("w") as output:
        deploy = subprocess.Popen([*words, f"pillar={allow}"], env=estate.shell, stdout=output)
    outlived = early = False
    while deploy.poll() is None:
        routes_before, record, routes = served(visitors), estate.answers("s3.estate.test"), served(visitors)
        early = early or bool(routes and not record)
        outlived = outlived or bool(record and not routes_before)
    assert not early, "the record went before the route"
    assert deploy.returncode == 0, told.read_text()
    assert outlived and estate.answers("s3.estate.test") == []
    code, text = estate.run("salt-run", "hecate.rollback")
    assert code == 0, text
    estate.restore_pillar()
    assert estate.everything() == before
    assert estate.plan()[0] == 0


def served(visitors: Sequence[Visitor]) -> int:
    """How many edges still have the route."""
    found = 0
    for visitor in visitors:
        with suppress(requests.RequestException):
            found += visitor.get("https://s3.estate.test/").status_code == 200
    return found


def test_a_protected_route_stays_closed_until_its_guard_is_confirmed(estate: Estate) -> None:
    """A highstate of the edges alone, before authentik has heard of the new application."""
    change_everything(estate)
    code, text = estate.run("salt", "hecate-edge-1", "state.highstate")
    assert code == 0, text
    answer = estate.visitor().get(f"https://{NEW}/", allow_redirects=False, headers={"X-Authentik-Username": "admin"})
    assert answer.status_code == 503
    estate.restore_pillar()
    estate.run("salt", "hecate-edge-1", "hecate_caddy.apply", f"allow=['route:{NEW}']")
    assert estate.plan()[0] == 0


def test_a_secret_store_that_is_down_is_named_and_nothing_is_left_open(estate: Estate) -> None:
    """Targets whose token cannot be had were never begun, so their undo needs no token either."""
    before = estate.everything()
    change_everything(estate)
    estate.stop("openbao")
    try:
        code, text = estate.deploy()
    finally:
        estate.start("openbao")
    assert code != 0 and "vault:hecate/nomad#token" in text and "gave no answer" in text
    assert "everything is as it was before" in text
    assert "rolled back" in newest(estate)
    estate.restore_pillar()
    assert estate.everything() == before


def test_a_target_that_is_down_stops_the_deploy_before_it_begins(estate: Estate) -> None:
    before = newest(estate)
    estate.stop("minion-hecate-edge-2")
    try:
        code, text = estate.deploy()
        status = estate.run("salt-run", "hecate.status")[1]
    finally:
        estate.start("minion-hecate-edge-2")
    assert code != 0 and "these targets do not answer: hecate-edge-2" in text
    assert "DOES NOT ANSWER" in status
    assert newest(estate) == before
