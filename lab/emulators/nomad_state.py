"""The state of the Nomad emulator, and how its parts look from outside."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import time
import uuid
from typing import Any

from lab.emulators.nomad_jobs import Job

KEPT_VERSIONS = 6
NODE = "00000000-0000-4000-8000-000000000001"


@dataclasses.dataclass
class Allocation:
    """One placing of a task group in one slot."""

    id: str
    job: str
    group: str
    slot: int
    version: int
    fingerprint: str
    deployment: str | None
    evaluation: str
    index: int
    desired: str = "run"
    status: str = "pending"
    healthy: bool | None = None
    canary: bool = False
    since: float = 0.0
    kill_at: float = 0.0
    restart_at: float | None = None
    restarts: int = 0
    tasks: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    created: int = dataclasses.field(default_factory=time.time_ns)
    modified: int = dataclasses.field(default_factory=time.time_ns)
    modify_index: int = 0

    @property
    def live(self) -> bool:
        """Whether its processes run, or are about to."""
        return self.status in ("pending", "running")

    def shown(self, kind: str) -> dict[str, Any]:
        """As lists of allocations show it."""
        health = {"Healthy": self.healthy, "Canary": self.canary, "Timestamp": stamp(self.modified),
                  "ModifyIndex": self.modify_index}  # fmt: skip
        return {
            "ID": self.id, "EvalID": self.evaluation, "Name": f"{self.job}.{self.group}[{self.slot}]",
            "Namespace": "default", "NodeID": NODE, "NodeName": "lab", "JobID": self.job, "JobType": kind,
            "JobVersion": self.version, "TaskGroup": self.group, "DesiredStatus": self.desired,
            "DesiredDescription": "", "ClientStatus": self.status, "ClientDescription": "",
            "DeploymentStatus": health if self.deployment and self.healthy is not None else None,
            "TaskStates": self.tasks, "FollowupEvalID": "", "CreateIndex": self.index,
            "ModifyIndex": self.modify_index, "CreateTime": self.created, "ModifyTime": self.modified,
        }  # fmt: skip


@dataclasses.dataclass
class State:
    """Jobs by id, newest version first; deployments, allocations and evaluations by id; the raft index."""

    jobs: dict[str, list[Job]] = dataclasses.field(default_factory=dict)
    deployments: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    allocations: dict[str, Allocation] = dataclasses.field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    index: int = 10

    def next_index(self) -> int:
        """Move the index on, as each write does."""
        self.index += 1
        return self.index

    def job(self, name: str) -> Job | None:
        """A job's current version."""
        versions = self.jobs.get(name)
        return versions[0] if versions else None

    def register(self, job: Job) -> Job:
        """Keep a filled job as the newest version, and begin its deployment in place of an earlier one."""
        index, before = self.next_index(), self.job(job["ID"])
        job.update(
            CreateIndex=before["CreateIndex"] if before else index, ModifyIndex=index, JobModifyIndex=index,
            Version=before["Version"] + 1 if before else 0, SubmitTime=time.time_ns(), Status="pending", Stable=False,
        )  # fmt: skip
        self.jobs[job["ID"]] = [job, *self.jobs.get(job["ID"], [])][:KEPT_VERSIONS]
        self.cancel(job["ID"], "Cancelled due to newer version of job")
        if job["Type"] == "service" and not job["Stop"]:
            self._deploy(job)
        return job

    def _deploy(self, job: Job) -> None:
        index = self.next_index()
        number = str(uuid.uuid4())
        self.deployments[number] = {
            "ID": number, "Namespace": "default", "JobID": job["ID"], "JobVersion": job["Version"],
            "JobModifyIndex": job["JobModifyIndex"], "JobSpecModifyIndex": job["JobModifyIndex"],
            "JobCreateIndex": job["CreateIndex"], "IsMultiregion": False, "Status": "running",
            "StatusDescription": "Deployment is running", "CreateIndex": index, "ModifyIndex": index,
            "TaskGroups": {group["Name"]: self._group_state(group) for group in job["TaskGroups"]},
        }  # fmt: skip

    def _group_state(self, group: Job) -> dict[str, Any]:
        update = group["Update"]
        return {
            "AutoRevert": update["AutoRevert"], "AutoPromote": update["AutoPromote"], "Promoted": False,
            "DesiredCanaries": update["Canary"], "DesiredTotal": group["Count"], "PlacedAllocs": 0,
            "HealthyAllocs": 0, "UnhealthyAllocs": 0, "PlacedCanaries": None,
            "ProgressDeadline": update["ProgressDeadline"],
            "RequireProgressBy": stamp(time.time_ns() + update["ProgressDeadline"]),
        }  # fmt: skip

    def evaluate(self, job: Job, trigger: str) -> dict[str, Any]:
        """A new evaluation; the scheduler completes it."""
        index = self.next_index()
        number = str(uuid.uuid4())
        deployment = self.deployment_of(job)
        now = time.time_ns()
        self.evaluations[number] = {
            "ID": number, "Namespace": "default", "Priority": job["Priority"], "Type": job["Type"],
            "TriggeredBy": trigger, "JobID": job["ID"], "JobModifyIndex": job["JobModifyIndex"], "Status": "pending",
            "DeploymentID": deployment["ID"] if deployment else "", "CreateIndex": index, "ModifyIndex": index,
            "CreateTime": now, "ModifyTime": now,
        }  # fmt: skip
        return self.evaluations[number]

    def deployment_of(self, job: Job) -> dict[str, Any] | None:
        """The deployment of this very version."""
        of_job = self.deployments_of(job["ID"])
        return next((d for d in of_job if d["JobVersion"] == job["Version"]
                     and d["JobCreateIndex"] == job["CreateIndex"]), None)  # fmt: skip

    def deployments_of(self, name: str) -> list[dict[str, Any]]:
        """A job's deployments, newest first; not those from before a purge."""
        since = self._since(name)
        found = [d for d in self.deployments.values() if d["JobID"] == name and d["CreateIndex"] > since]
        return sorted(found, key=lambda d: d["CreateIndex"], reverse=True)

    def allocations_of(self, name: str) -> list[Allocation]:
        """A job's allocations, newest first; not those from before a purge."""
        since = self._since(name)
        found = [a for a in self.allocations.values() if a.job == name and a.index > since]
        return sorted(found, key=lambda a: a.index, reverse=True)

    def _since(self, name: str) -> int:
        job = self.job(name)
        return int(job["CreateIndex"]) if job else 0

    def cancel(self, name: str, why: str) -> None:
        """Cancel the deployments of a job that are under way."""
        for deployment in self.deployments_of(name):
            if deployment["Status"] == "running":
                self.conclude(deployment, "cancelled", why)

    def conclude(self, deployment: dict[str, Any], status: str, why: str) -> None:
        """End a deployment."""
        deployment.update(Status=status, StatusDescription=why, ModifyIndex=self.next_index())

    def touch(self, allocation: Allocation) -> None:
        """Note that an allocation changed."""
        allocation.modify_index, allocation.modified = self.next_index(), time.time_ns()

    def revert(self, target: Job) -> Job:
        """Register an earlier version's specification again, as the newest version."""
        return self.register(copy.deepcopy(target))


def stamp(nanoseconds: int) -> str:
    """A time as the API writes it."""
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.timezone.utc).isoformat().replace("+00:00", "Z")
