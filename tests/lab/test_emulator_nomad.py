"""The Nomad emulator: real processes, real HTTP."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import requests

from lab.emulators.base import Fault, running, specs
from lab.emulators.nomad import Nomad

ROOT = pathlib.Path(__file__).parents[2]
MS = 1_000_000
LIVES = "exec sleep 60"
Got = TypeVar("Got")


def eventually(look: Callable[[], Got], seconds: float = 5.0) -> Got:
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, "didn't happen in time"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def a_job(script: str = LIVES, count: int = 1, env: dict[str, str] | None = None, **update: Any) -> dict[str, Any]:
    task = {"Name": "web", "Driver": "raw_exec", "Config": {"command": "/bin/sh", "args": ["-c", script]},
            "Env": env or {}, "Resources": {"CPU": 50}}  # fmt: skip
    return {
        "ID": "demo", "Name": "demo", "Datacenters": ["dc1"], "Meta": {"owner": "hecate"},
        "Update": {"MinHealthyTime": 100 * MS, "MaxParallel": 1, **update},
        "TaskGroups": [{"Name": "edge", "Count": count, "Tasks": [task]}],
    }  # fmt: skip


class World:
    """One emulator and a caller."""

    def __init__(self, app: Nomad, url: str) -> None:
        self.app, self.url = app, url

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        return requests.request(method, self.url + "/v1" + path, json=body, timeout=5, **options)

    def get(self, path: str) -> Any:
        return self.call("GET", path).json()

    def register(self, job: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.call("PUT", "/jobs", {"Job": job, **more})
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def deployed(self, status: str = "successful", version: int | None = None) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.get("/job/demo/deployment")
            right = found and found["Status"] == status and version in (None, found["JobVersion"])
            return found if right else None

        return eventually(look)

    def pids(self) -> list[int]:
        with self.app.lock:
            return sorted(pid for a in self.app.state.allocations for pid in self.app.processes.pids(a))


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[World]:
    app = Nomad(tmp_path / "nomad")
    with running(app) as url:
        made = World(app, url)
        yield made
        started = made.pids()
    assert not any(alive(pid) for pid in started)
    assert app.violations == []


def test_a_job_runs_and_is_described_as_nomad_does(world: World, tmp_path: pathlib.Path) -> None:
    script = f'echo "$GREETING $NOMAD_META_owner $NOMAD_ALLOC_INDEX"; {LIVES}'
    made = world.register(a_job(script, 2, {"GREETING": "hi"}))
    deployment = world.deployed()
    assert deployment["TaskGroups"]["edge"]["HealthyAllocs"] == 2
    job = world.get("/job/demo")
    assert (job["Status"], job["Version"], job["Stable"], job["Priority"]) == ("running", 0, True, 50)
    assert job["JobModifyIndex"] == made["JobModifyIndex"]
    assert job["TaskGroups"][0]["Update"]["MinHealthyTime"] == 100 * MS
    assert job["TaskGroups"][0]["Tasks"][0]["KillTimeout"] == 5000 * MS
    assert job["Update"]["MinHealthyTime"] == 0
    allocations = world.get("/job/demo/allocations")
    assert [(a["ClientStatus"], a["DeploymentStatus"]["Healthy"]) for a in allocations] == [("running", True)] * 2
    logs = tmp_path / "nomad" / "alloc" / allocations[0]["ID"] / "alloc" / "logs" / "web.stdout.0"
    assert logs.read_text() == "hi hecate 1\n"
    assert world.get(f"/evaluation/{made['EvalID']}")["Status"] == "complete"
    stubs = world.get("/jobs?meta=true&prefix=de")
    assert [(s["ID"], s["Meta"], s["JobSummary"]["Summary"]["edge"]["Running"]) for s in stubs] == [
        ("demo", {"owner": "hecate"}, 2)
    ]
    assert world.get("/jobs?prefix=other") == []


def test_the_same_specification_again_makes_no_version(world: World) -> None:
    first = world.register(a_job())
    world.deployed()
    pids = world.pids()
    assert world.register(a_job())["JobModifyIndex"] == first["JobModifyIndex"]
    assert world.register(world.get("/job/demo"))["JobModifyIndex"] == first["JobModifyIndex"]
    assert world.get("/job/demo")["Version"] == 0
    assert world.pids() == pids


def test_an_update_replaces_the_processes(world: World) -> None:
    world.register(a_job(count=2))
    world.deployed()
    before = world.pids()
    world.register(a_job("exec sleep 61", count=2))
    world.deployed(version=1)
    assert not set(before) & set(world.pids()) and len(world.pids()) == 2
    assert not any(alive(pid) for pid in before)
    assert [v["Version"] for v in world.get("/job/demo/versions")["Versions"]] == [1, 0]


def test_a_new_count_leaves_the_others_running(world: World) -> None:
    world.register(a_job(count=1))
    world.deployed()
    (before,) = world.pids()
    world.register(a_job(count=3))
    world.deployed(version=1)
    assert before in world.pids() and len(world.pids()) == 3
    world.register(a_job(count=1))
    eventually(lambda: world.pids() == [before])


def test_a_process_that_dies_early_fails_the_deployment(world: World) -> None:
    world.register(a_job("exit 3"))
    deployment = world.deployed("failed")
    assert deployment["StatusDescription"] == "Failed due to unhealthy allocations"
    (allocation,) = world.get("/job/demo/allocations")
    assert allocation["ClientStatus"] == "failed"
    assert allocation["TaskStates"]["web"]["Events"][-1]["ExitCode"] == 3
    assert eventually(lambda: world.get("/job/demo")["Status"] == "dead")


def test_a_command_that_is_not_there_fails_the_deployment(world: World) -> None:
    job = a_job()
    job["TaskGroups"][0]["Tasks"][0]["Config"] = {"command": "/no/such/thing"}
    world.register(job)
    world.deployed("failed")
    (allocation,) = world.get("/job/demo/allocations")
    assert "/no/such/thing" in allocation["TaskStates"]["web"]["Events"][0]["DisplayMessage"]


def test_auto_revert_goes_back_to_the_last_stable_version(world: World) -> None:
    world.register(a_job(AutoRevert=True))
    world.deployed()
    world.register(a_job("exit 1", AutoRevert=True))
    world.deployed(version=2)
    first, second, third = reversed(world.get("/job/demo/deployments"))
    assert [d["Status"] for d in (first, second, third)] == ["successful", "failed", "successful"]
    assert second["StatusDescription"].endswith("rolling back to job version 0")
    assert world.get("/job/demo")["TaskGroups"][0]["Tasks"][0]["Config"]["args"] == ["-c", LIVES]
    assert len(world.pids()) == 1


def test_without_auto_revert_the_other_slots_keep_the_old(world: World) -> None:
    world.register(a_job(count=2))
    world.deployed()
    before = world.pids()
    world.register(a_job("exit 1", count=2))
    world.deployed("failed", version=1)
    assert len(set(world.pids()) & set(before)) == 1


def test_canaries_stand_beside_until_promoted(world: World) -> None:
    world.register(a_job(Canary=1))
    world.deployed()
    (before,) = world.pids()
    world.register(a_job("exec sleep 61", Canary=1))

    def look() -> Any:
        found = world.get("/job/demo/deployments")
        return next((d for d in found if "promotion" in d["StatusDescription"]), None)

    waiting = eventually(look)
    assert before in world.pids() and len(world.pids()) == 2
    assert world.call("PUT", f"/deployment/promote/{waiting['ID']}", {"DeploymentID": waiting["ID"], "All": True}).ok
    world.deployed(version=1)
    eventually(lambda: len(world.pids()) == 1 and before not in world.pids())


def test_a_failed_canary_is_ended_and_the_old_stays(world: World) -> None:
    world.register(a_job(Canary=2, count=2, AutoRevert=True))
    world.deployed()
    before = world.pids()
    world.register(a_job('[ "$NOMAD_ALLOC_INDEX" = 0 ] && exit 1; exec sleep 61', 2, Canary=2, AutoRevert=True))
    world.deployed(version=2)
    eventually(lambda: world.pids() == before)


def test_a_killed_process_comes_back(world: World) -> None:
    job = a_job()
    job["TaskGroups"][0]["RestartPolicy"] = {"Attempts": 1, "Delay": 10 * MS}
    world.register(job)
    world.deployed()
    (before,) = world.pids()
    os.kill(before, signal.SIGKILL)
    (after,) = eventually(lambda: [pid for pid in world.pids() if pid != before])
    os.kill(after, signal.SIGKILL)
    eventually(lambda: world.get("/job/demo/allocations")[0]["ClientStatus"] == "failed")


def test_revert_and_its_refusals(world: World) -> None:
    world.register(a_job())
    world.register(a_job("exec sleep 61"))
    body = {"JobID": "demo", "JobVersion": 0, "EnforcePriorVersion": 1}
    assert world.call("POST", "/job/demo/revert", {**body, "EnforcePriorVersion": 0}).status_code == 500
    assert world.call("POST", "/job/demo/revert", {**body, "JobVersion": 9}).status_code == 404
    assert world.call("POST", "/job/demo/revert", body).ok
    world.deployed(version=2)
    assert world.get("/job/demo")["TaskGroups"][0]["Tasks"][0]["Config"]["args"] == ["-c", LIVES]


def test_stop_then_purge(world: World) -> None:
    assert world.call("DELETE", "/job/demo").json()["EvalID"] == ""
    world.register(a_job())
    world.deployed()
    world.call("DELETE", "/job/demo")
    eventually(lambda: world.pids() == [])
    assert (world.get("/job/demo")["Stop"], world.get("/job/demo")["Status"]) == (True, "dead")
    world.register(a_job())
    world.deployed(version=2)
    world.call("DELETE", "/job/demo?purge=true")
    assert world.pids() == []
    gone = world.call("GET", "/job/demo")
    assert (gone.status_code, gone.text) == (404, "job not found")
    world.register(a_job())
    world.deployed(version=0)


@pytest.mark.parametrize("index", [0, 1])
def test_enforced_index(world: World, index: int) -> None:
    made = world.register(a_job(), EnforceIndex=True, JobModifyIndex=0)
    refused = world.call("PUT", "/jobs", {"Job": a_job(count=2), "EnforceIndex": True, "JobModifyIndex": index})
    assert refused.status_code == 500
    assert refused.text.startswith(f"Enforcing job modify index {index}: job ")
    world.register(a_job(count=2), EnforceIndex=True, JobModifyIndex=made["JobModifyIndex"])


def test_what_the_server_refuses(world: World) -> None:
    for body, status in (({"Job": {"Name": "x"}}, 400), ({}, 400), ({"Job": {"ID": "x"}}, 500)):
        assert world.call("PUT", "/jobs", body).status_code == status
    job = a_job()
    job["TaskGroups"][0]["Tasks"][0]["Driver"] = "docker"
    refused = world.call("PUT", "/jobs", {"Job": job})
    assert refused.headers["Content-Type"].startswith("text/plain") and "docker" in refused.text
    assert world.get("/jobs") == []
    for path in ("/job/none", "/deployment/none", "/evaluation/none", "/allocation/none", "/job/none/versions"):
        assert world.call("GET", path).status_code == 404
    assert world.get("/job/none/deployment") is None


def test_the_cluster(world: World) -> None:
    assert world.get("/status/leader") == "127.0.0.1:4647"
    assert world.get("/agent/self")["config"]["Version"]["Version"].startswith("1.")
    assert int(world.call("GET", "/jobs").headers["X-Nomad-Index"]) > 0


def test_a_blocking_query_waits_for_a_change(world: World) -> None:
    index = world.call("GET", "/jobs").headers["X-Nomad-Index"]
    begun = time.monotonic()
    assert world.get(f"/jobs?index={index}&wait=200ms") == []
    assert time.monotonic() - begun >= 0.2


def test_faults_reach_it(world: World) -> None:
    world.app.set_faults([Fault(method="WRITE", kind="lost-answer")])
    with pytest.raises(requests.ConnectionError):
        world.register(a_job())
    world.deployed()
    world.app.set_faults([Fault(kind="rate-limit")])
    assert world.call("GET", "/jobs").status_code == 429
    world.app.set_faults([Fault(kind="stale")])
    world.call("DELETE", "/job/demo?purge=true")
    assert [job["ID"] for job in world.get("/jobs")] == ["demo"]
    assert world.get("/jobs") == []


@pytest.mark.skipif(specs("nomad-v1.yaml") is None, reason="the API descriptions (../shared/specs) are absent")
def test_a_wrong_request_is_caught_by_the_description(tmp_path: pathlib.Path) -> None:
    app = Nomad(tmp_path)
    with running(app) as url:
        wrong = World(app, url).call("PUT", "/jobs", {"Job": {**a_job(), "Piority": 3}})
    assert (wrong.status_code, wrong.json()["problems"]) == (422, ["unknown field Job.Piority"])


def test_a_token_is_asked_for_and_never_shown(tmp_path: pathlib.Path) -> None:
    app = Nomad(tmp_path, "canary-nomad-token")
    with running(app) as url:
        world = World(app, url)
        refused = world.call("GET", "/jobs")
        assert (refused.status_code, refused.text) == (403, "Permission denied")
        assert world.call("GET", "/jobs", headers={"X-Nomad-Token": "canary-nomad-token"}).ok
        shown = "".join(requests.get(f"{url}/_lab/{what}", timeout=3).text for what in ("calls", "state"))
        assert "canary" not in shown


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_end_is_the_end_of_its_processes(tmp_path: pathlib.Path, number: int) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "lab.emulators.nomad", "--port", str(port), "--dir", str(tmp_path / "nomad")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and "nomad emulator on" in process.stdout.readline()
    pid_file = tmp_path / "pid"
    job = a_job(f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; {LIVES}")
    requests.put(f"http://127.0.0.1:{port}/v1/jobs", json={"Job": job}, timeout=3).raise_for_status()
    eventually(pid_file.exists)
    pid = int(pid_file.read_text())
    assert alive(pid)
    process.send_signal(number)
    assert process.wait(5) == (0 if number == signal.SIGTERM else -number)
    eventually(lambda: not alive(pid))
