"""Nomad as a backend: service jobs, ours by their Meta."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hecate.backends import alike
from hecate.clients.nomad import NomadClient
from hecate.errors import NotFound
from hecate.resource import Change, Resource, Snapshot

MARK, ENVIRONMENT = "managed-by", "hecate-environment"
SECOND = 1_000_000_000  # Nomad's durations are nanoseconds


class NomadBackend:
    """environment: jobs of another environment are strangers. min_healthy: seconds that a task has to
    live before its deployment counts as healthy.
    """

    system = "nomad"
    atomic = False
    brief = False

    def __init__(self, client: NomadClient, environment: str, min_healthy: float) -> None:
        self._client, self._environment, self._min_healthy = client, environment, min_healthy

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        wanted = {r.id for r in scope}
        owned: dict[str, Resource] = {}
        foreign: dict[str, Resource] = {}
        indexes: dict[str, int] = {}
        for row in self._client.jobs():
            meta = row.get("Meta") or {}
            ours = meta.get(MARK) == "hecate" and meta.get(ENVIRONMENT) == self._environment
            if not ours and f"nomad.job {row['ID']}" not in wanted:
                continue
            job = self._client.job(row["ID"])
            if job is None:
                continue
            indexes[row["ID"]] = int(job["JobModifyIndex"])
            if not job.get("Stop"):
                resource = Resource("nomad.job", row["ID"], spec_of(job))
                (owned if ours else foreign)[resource.id] = resource
        return Snapshot(owned, foreign, indexes)

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        return want  # spec_of reads back only what job_of writes

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        return alike(changes)

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        indexes: dict[str, int] = snapshot.raw
        for change in changes:
            name = change.subject.key
            if change.after is None:
                try:
                    self._client.deregister(name)
                except NotFound:
                    pass
                continue
            self._client.register(job_of(name, change.after.spec, self._min_healthy), indexes.get(name, 0))
            indexes[name] = self._settled(name)

    def revert(self, name: str, version: int) -> str:
        """Make an earlier version current and wait for it; what is current then."""
        self._client.revert(name, version)
        self._settled(name)
        return f"{name}: version {version} is current again"

    def _settled(self, name: str) -> int:
        """The index of the job as registered last, once it is healthy. No allocations, no deployment."""
        job = self._client.job(name) or {}
        index = int(job.get("JobModifyIndex", 0))
        if spec_of(job)["count"]:
            self._client.wait_healthy(name, index)
        return index


def job_of(name: str, spec: Mapping[str, Any], min_healthy: float) -> dict[str, Any]:
    """A resource as the job that Nomad is sent."""
    task = {
        "Name": name,
        "Driver": spec["driver"],
        "Config": spec["config"],
        "Env": spec["env"],
        "Resources": {"CPU": spec["cpu"], "MemoryMB": spec["memory"]},
    }
    return {
        "ID": name,
        "Name": name,
        "Type": "service",
        "Datacenters": spec["datacenters"],
        "Meta": {MARK: "hecate", ENVIRONMENT: spec["environment"]} if spec["environment"] else {},
        "Update": {
            "MaxParallel": 1,
            "MinHealthyTime": int(min_healthy * SECOND),
            "AutoRevert": False,  # the transaction decides, and undoes the other systems with it
            "HealthCheck": "task_states",
        },
        "TaskGroups": [{"Name": name, "Count": spec["count"], "Tasks": [task]}],
    }


def spec_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """The few fields of a registered job that Hecate sets."""
    group = (job.get("TaskGroups") or [{}])[0]
    task = (group.get("Tasks") or [{}])[0]
    resources = task.get("Resources") or {}
    return {
        "environment": (job.get("Meta") or {}).get(ENVIRONMENT, ""),
        "datacenters": list(job.get("Datacenters") or ()),
        "count": group.get("Count"),
        "driver": task.get("Driver"),
        "config": task.get("Config") or {},
        "env": task.get("Env") or {},
        "cpu": resources.get("CPU"),
        "memory": resources.get("MemoryMB"),
    }
