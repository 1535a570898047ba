"""Nomad's HTTP API, the part that runs services, with real processes behind it.

    python -m lab.emulators.nomad --port 4646 --dir .lab/nomad --token-file token

Quirks kept: errors are plain text; a refused job is 500, not 400; registering the same specification again makes no new
version; lists and maps that are empty are null; ``X-Nomad-Index`` counts up with every change, and ``?index=&wait=``
waits for it; a stopped job stays readable (``Stop``, status "dead") until it is purged. A process must live for
MinHealthyTime to be healthy; the default of ten seconds counts as 0.3 s here. Services and their checks are not
emulated.
"""

from __future__ import annotations

import argparse
import atexit
import copy
import pathlib
import re
import time
from collections.abc import Collection
from typing import Any

from werkzeug.wrappers import Request, Response

from lab.emulators.base import Answer, ApiError, Emulator, json_body, route, serve_forever, specs
from lab.emulators.nomad_jobs import Job, filled, problems, same_spec
from lab.emulators.nomad_processes import Processes
from lab.emulators.nomad_scheduler import Scheduler
from lab.emulators.nomad_state import Allocation, State

VERSION = "1.9.7"
CAPABILITIES = ("list-jobs", "read-job", "submit-job")
LONGEST_WAIT = 300.0


class Nomad(Emulator):
    """The API. ``folder`` is where allocations live; without a token everyone may do everything.

    capabilities: what the token's ACL policy allows.
    """

    same_method = {"PUT": "POST"}
    relaxations = (
        (r"None is not of type", "Go writes nil lists, maps and pointers as null; the description has no null at all"),
        (r"^GET /v1/agent/self: no such operation", "the description leaves out the agent's endpoints"),
        (r"unknown query parameter index$", "a query parameter of the API, put among the headers by the description"),
        (r"^GET /v1/jobs: unknown query parameter meta$", "came to the API after the description was made"),
    )
    state: State

    def __init__(
        self,
        folder: pathlib.Path,
        token: str = "",
        *,
        description: pathlib.Path | None = None,
        capabilities: Collection[str] = CAPABILITIES,
    ) -> None:
        super().__init__("nomad", description or specs("nomad-v1.yaml"), "/v1")
        self._token, self.capabilities = token, capabilities
        self._closed = False
        self.state = State()
        self.processes = Processes(folder)
        # The scheduler reads the state under the lock, when no stale one stands in its place.
        self._scheduler = Scheduler(self.lock, lambda: self.state, self.processes)
        atexit.register(self.close)

    def close(self) -> None:
        """End every process."""
        self._closed = True
        self._scheduler.stop()
        atexit.unregister(self.close)

    def before(self, request: Request) -> None:
        """A blocking query: answer when the index has moved past the given one, or the wait is over."""
        index = request.args.get("index", 0, int) if request.method == "GET" else 0
        until = time.monotonic() + min(_seconds(request.args.get("wait", "")), LONGEST_WAIT)
        while index and self.state.index <= index and time.monotonic() < until and not self._closed:
            time.sleep(0.02)

    def check_access(self, request: Request) -> None:
        """The token, in either of the two headers that Nomad reads."""
        given = request.headers.get("X-Nomad-Token") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._token and given != self._token and not request.path.startswith("/v1/status/"):
            raise ApiError(403, "Permission denied")
        reading = "list-jobs" if request.path == "/v1/jobs" else "read-job"
        if (reading if request.method == "GET" else "submit-job") not in self.capabilities:
            raise ApiError(403, "Permission denied")

    def finish(self, request: Request, response: Response) -> Response:
        """The headers that Nomad's reads carry."""
        if request.method == "GET":
            response.headers.setdefault("X-Nomad-Index", str(self.state.index))
            response.headers.setdefault("X-Nomad-KnownLeader", "true")
            response.headers.setdefault("X-Nomad-LastContact", "0")
        return response

    def not_found(self, request: Request) -> Answer:
        return 404, "404 page not found\n"

    def not_allowed(self, request: Request) -> Answer:
        return 405, "Invalid method"

    def bad_json(self, message: str) -> Answer:
        return 400, message

    def rate_limited(self) -> Answer:
        """429, as Nomad gives it for too many connections of one client."""
        return 429, "Your IP is issuing too many concurrent connections, please rate limit your calls\n"

    # Jobs.

    @route("GET", "/v1/jobs")
    def jobs(self, request: Request) -> Answer:
        prefix, meta = request.args.get("prefix", ""), request.args.get("meta") == "true"
        found = [versions[0] for name, versions in sorted(self.state.jobs.items()) if name.startswith(prefix)]
        return 200, [self._stub(job, meta) for job in found]

    @route("PUT", "/v1/jobs")
    @route("POST", "/v1/jobs")
    @route("PUT", "/v1/job/<name>")
    @route("POST", "/v1/job/<name>")
    def register(self, request: Request, name: str = "") -> Answer:
        body = json_body(request) or {}
        given = body.get("Job")
        if not given:
            raise ApiError(400, "Job must be specified")
        if not given.get("ID"):
            raise ApiError(400, "Job ID hasn't been provided")
        if name and given["ID"] != name:
            raise ApiError(400, "Job ID does not match name")
        wrong = problems(given)
        if wrong:
            told = "\n".join(f"\t* {problem}" for problem in wrong)
            raise ApiError(500, f"{len(wrong)} error{'s' * (len(wrong) > 1)} occurred:\n{told}\n\n")
        before = self.state.job(given["ID"])
        if body.get("EnforceIndex"):
            _enforce(before, body.get("JobModifyIndex") or 0)
        job = filled(given)
        if before and same_spec(before, job):
            return self._evaluated(before, "job-register")
        return self._evaluated(self.state.register(job), "job-register")

    @route("GET", "/v1/job/<name>")
    def job(self, request: Request, name: str) -> Answer:
        return 200, self._job(name)

    @route("DELETE", "/v1/job/<name>")
    def deregister(self, request: Request, name: str) -> Answer:
        """Stop a job; a job that isn't there is stopped already, and that is no error."""
        job = self.state.job(name)
        if job is None:
            return 200, {"EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": 0}
        stopped = job if job["Stop"] else self.state.register({**copy.deepcopy(job), "Stop": True})
        self.state.cancel(name, "Cancelled because job is stopped")
        answer = self._evaluated(stopped, "job-deregister")
        if request.args.get("purge") == "true":
            self._purge(name)
        return answer

    @route("GET", "/v1/job/<name>/versions")
    def versions(self, request: Request, name: str) -> Answer:
        if name not in self.state.jobs:
            raise ApiError(404, "job versions not found")
        return 200, {"Versions": self.state.jobs[name], "Diffs": None}

    @route("GET", "/v1/job/<name>/summary")
    def summary(self, request: Request, name: str) -> Answer:
        return 200, self._summary(self._job(name))

    @route("PUT", "/v1/job/<name>/revert")
    @route("POST", "/v1/job/<name>/revert")
    def revert(self, request: Request, name: str) -> Answer:
        body, job = json_body(request) or {}, self._job(name)
        wanted, enforced = body.get("JobVersion"), body.get("EnforcePriorVersion")
        if wanted == job["Version"]:
            raise ApiError(500, f"can't revert to current version: {wanted}")
        if enforced is not None and enforced != job["Version"]:
            raise ApiError(500, f"Current job has version {job['Version']}; enforcing version {enforced}")
        target = next((version for version in self.state.jobs[name] if version["Version"] == wanted), None)
        if target is None:
            raise ApiError(404, f'job "{name}" in namespace "default" at version {wanted} not found')
        return self._evaluated(self.state.revert(target), "job-register")

    # Deployments, allocations, evaluations.

    @route("GET", "/v1/job/<name>/deployments")
    def job_deployments(self, request: Request, name: str) -> Answer:
        return 200, self.state.deployments_of(name)

    @route("GET", "/v1/job/<name>/deployment")
    def job_deployment(self, request: Request, name: str) -> Answer:
        """The latest; ``null`` where there was none."""
        found = self.state.deployments_of(name)
        return (200, found[0]) if found else Response("null", mimetype="application/json")

    @route("GET", "/v1/deployment/<number>")
    def deployment(self, request: Request, number: str) -> Answer:
        return 200, self._deployment(number)

    @route("PUT", "/v1/deployment/promote/<number>")
    @route("POST", "/v1/deployment/promote/<number>")
    def promote(self, request: Request, number: str) -> Answer:
        deployment = self._deployment(number)
        if deployment["Status"] != "running":
            raise ApiError(400, "can't promote terminal deployment")
        for group in deployment["TaskGroups"].values():
            group["Promoted"] = True
        job = self._job(deployment["JobID"])
        status, body = self._evaluated(job, "deployment-watcher")
        return status, {**body, "DeploymentModifyIndex": self.state.index}

    @route("GET", "/v1/job/<name>/allocations")
    def job_allocations(self, request: Request, name: str) -> Answer:
        return 200, [self._allocation(a) for a in self.state.allocations_of(name)]

    @route("GET", "/v1/allocations")
    def allocations(self, request: Request) -> Answer:
        prefix = request.args.get("prefix", "")
        return 200, [self._allocation(a) for a in self.state.allocations.values() if a.id.startswith(prefix)]

    @route("GET", "/v1/allocation/<number>")
    def allocation(self, request: Request, number: str) -> Answer:
        found = self.state.allocations.get(number)
        if found is None:
            raise ApiError(404, "alloc not found")
        return 200, {**self._allocation(found), "Job": self.state.job(found.job), "DeploymentID": found.deployment}

    @route("GET", "/v1/job/<name>/evaluations")
    def job_evaluations(self, request: Request, name: str) -> Answer:
        return 200, [e for e in self.state.evaluations.values() if e["JobID"] == name][::-1]

    @route("GET", "/v1/evaluation/<number>")
    def evaluation(self, request: Request, number: str) -> Answer:
        if number not in self.state.evaluations:
            raise ApiError(404, "eval not found")
        return 200, self.state.evaluations[number]

    # The cluster.

    @route("GET", "/v1/status/leader")
    def leader(self, request: Request) -> Answer:
        return Response('"127.0.0.1:4647"', mimetype="application/json")

    @route("GET", "/v1/agent/self")
    def agent(self, request: Request) -> Answer:
        config = {"Version": {"Version": VERSION}, "Region": "global", "Datacenter": "dc1"}
        return 200, {"config": config, "member": {"Name": "lab.global", "Tags": {"build": VERSION}}, "stats": {}}

    # What the routes are written with.

    def _job(self, name: str) -> Job:
        job = self.state.job(name)
        if job is None:
            raise ApiError(404, "job not found")
        return job

    def _deployment(self, number: str) -> dict[str, Any]:
        if number not in self.state.deployments:
            raise ApiError(404, "deployment not found")
        return self.state.deployments[number]

    def _evaluated(self, job: Job, trigger: str) -> tuple[int, dict[str, Any]]:
        evaluation = self.state.evaluate(job, trigger)
        self._scheduler.wake()
        return 200, {
            "EvalID": evaluation["ID"], "EvalCreateIndex": evaluation["CreateIndex"], "Warnings": "",
            "JobModifyIndex": job["JobModifyIndex"], "LastIndex": self.state.index,
        }  # fmt: skip

    def _purge(self, name: str) -> None:
        """Forget a job; the scheduler sees it no more, so its processes are ended here."""
        allocations = self.state.allocations_of(name)
        del self.state.jobs[name]
        for allocation in allocations:
            self.processes.forget(allocation.id)
            if allocation.live:
                allocation.desired, allocation.status = "stop", "complete"
                self.state.touch(allocation)

    def _allocation(self, allocation: Allocation) -> dict[str, Any]:
        job = self.state.job(allocation.job)
        return allocation.shown(job["Type"] if job else "service")

    def _summary(self, job: Job) -> dict[str, Any]:
        groups = {}
        for group in job["TaskGroups"]:
            counts = dict.fromkeys(("Queued", "Complete", "Failed", "Running", "Starting", "Lost", "Unknown"), 0)
            for allocation in self.state.allocations_of(job["ID"]):
                if allocation.group == group["Name"]:
                    counts["Starting" if allocation.status == "pending" else allocation.status.capitalize()] += 1
            groups[group["Name"]] = counts
        return {"JobID": job["ID"], "Namespace": "default", "Summary": groups, "Children": None,
                "CreateIndex": job["CreateIndex"], "ModifyIndex": job["ModifyIndex"]}  # fmt: skip

    def _stub(self, job: Job, meta: bool) -> dict[str, Any]:
        names = ("ID", "ParentID", "Name", "Namespace", "Datacenters", "Type", "Priority", "Status", "Stop",
                 "StatusDescription", "CreateIndex", "ModifyIndex", "JobModifyIndex", "SubmitTime",
                 *(["Meta"] if meta else []))  # fmt: skip
        return {**{name: job[name] for name in names}, "Periodic": False, "ParameterizedJob": False,
                "JobSummary": self._summary(job)}  # fmt: skip


def _enforce(before: Job | None, index: int) -> None:
    """Compare and swap by JobModifyIndex; 0 means that the job must not be there."""
    told = f"Enforcing job modify index {index}: "
    if index == 0 and before:
        raise ApiError(500, told + "job already exists")
    if index and before is None:
        raise ApiError(500, told + "job does not exist")
    if index and before and before["JobModifyIndex"] != index:
        conflict = f"job exists with conflicting job modify index: {before['JobModifyIndex']}"
        raise ApiError(500, told + conflict)


def _seconds(text: str) -> float:
    """A Go duration such as "1m30s" or "500ms" in seconds; five minutes where none is given."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"([\d.]+)(ms|s|m|h)", text)
    return sum(float(number) * units[unit] for number, unit in parts) if parts else LONGEST_WAIT


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.emulators.nomad", description="Nomad, emulated.")
    parser.add_argument("--port", type=int, required=True, help="of the API, on 127.0.0.1")
    parser.add_argument("--dir", type=pathlib.Path, required=True, help="where allocations live")
    parser.add_argument("--token-file", type=pathlib.Path, help="holds the token that the API wants; none: open to all")
    parser.add_argument("--pidfile", type=pathlib.Path)
    given = parser.parse_args(arguments)
    token = given.token_file.read_text().strip() if given.token_file else ""
    serve_forever(Nomad(given.dir, token), given.port, given.pidfile)


if __name__ == "__main__":
    main()
