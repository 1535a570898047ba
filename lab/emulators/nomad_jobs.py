"""Nomad jobs as values: what the server refuses, what it fills in, and what makes an update destructive."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

Job = dict[str, Any]

SECOND = 1_000_000_000
DRIVERS = ("raw_exec", "exec")
DEFAULT_MIN_HEALTHY = 10 * SECOND

_UPDATE = {
    "Stagger": 30 * SECOND, "MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": DEFAULT_MIN_HEALTHY,
    "HealthyDeadline": 300 * SECOND, "ProgressDeadline": 600 * SECOND, "AutoRevert": False, "AutoPromote": False,
    "Canary": 0,
}  # fmt: skip
_JOB = {
    "AllAtOnce": False, "Affinities": None, "Constraints": None, "ConsulNamespace": "", "ConsulToken": "",
    "Datacenters": ["*"], "DispatchIdempotencyToken": "", "Dispatched": False, "Meta": None, "Multiregion": None,
    "Namespace": "default", "NomadTokenID": "", "ParameterizedJob": None, "ParentID": "", "Payload": None,
    "Periodic": None, "Priority": 50, "Region": "global", "Spreads": None, "Stop": False, "StatusDescription": "",
    "Type": "service", "VaultNamespace": "", "VaultToken": "",
}  # fmt: skip
_GROUP = {
    "Affinities": None, "Constraints": None, "Consul": None, "Count": 1,
    "EphemeralDisk": {"Migrate": False, "SizeMB": 300, "Sticky": False}, "MaxClientDisconnect": None, "Meta": None,
    "Migrate": {"MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": 10 * SECOND,
                "HealthyDeadline": 300 * SECOND},
    "Networks": None, "ReschedulePolicy": {"Attempts": 0, "Interval": 0, "Delay": 30 * SECOND,
                                           "DelayFunction": "exponential", "MaxDelay": 3600 * SECOND,
                                           "Unlimited": True},
    "RestartPolicy": {"Attempts": 2, "Interval": 1800 * SECOND, "Delay": 15 * SECOND, "Mode": "fail"},
    "Scaling": None, "Services": None, "ShutdownDelay": None, "Spreads": None, "StopAfterClientDisconnect": None,
    "Volumes": None,
}  # fmt: skip
_TASK = {
    "Affinities": None, "Artifacts": None, "CSIPluginConfig": None, "Constraints": None, "DispatchPayload": None,
    "Env": None, "KillSignal": "", "KillTimeout": 5 * SECOND, "Kind": "", "Leader": False, "Lifecycle": None,
    "LogConfig": {"MaxFileSizeMB": 10, "MaxFiles": 10}, "Meta": None, "ScalingPolicies": None, "Services": None,
    "ShutdownDelay": 0, "Templates": None, "User": "", "Vault": None, "VolumeMounts": None,
}  # fmt: skip
_RESOURCES = {"CPU": 100, "Cores": 0, "Devices": None, "DiskMB": 0, "IOPS": 0, "MemoryMB": 300, "MemoryMaxMB": 0,
              "Networks": None}  # fmt: skip
BOOKKEEPING = frozenset(
    {"CreateIndex", "ModifyIndex", "JobModifyIndex", "SubmitTime", "Status", "StatusDescription", "Version", "Stable"}
)


def problems(job: Job) -> list[str]:
    """What the server says is missing, in its words; and what this one can't run."""
    found = [] if job.get("ID") else ["Missing job ID"]
    found += [] if job.get("TaskGroups") else ["Missing job task groups"]
    if job.get("Type") not in (None, "service", "batch"):
        found.append(f"the emulator runs service and batch jobs, not {job['Type']!r}")
    for group in job.get("TaskGroups") or []:
        name = group.get("Name")
        if not name:
            found.append("Task group missing name")
        if not group.get("Tasks"):
            found.append(f"Task group {name} validation failed: Missing tasks for task group")
        for task in group.get("Tasks") or []:
            where = f"Task group {name} validation failed: Task {task.get('Name')} validation failed"
            if task.get("Driver") not in DRIVERS:
                found.append(f"{where}: the emulator has the drivers {', '.join(DRIVERS)}, not {task.get('Driver')!r}")
            elif not (task.get("Config") or {}).get("command"):
                found.append(f"{where}: missing required argument 'command'")
    return found


def filled(job: Job) -> Job:
    """The job with the server's defaults.

    The job's Update block becomes each group's, under the group's own; of the job's only Stagger and MaxParallel
    stay. That is why a job read back differs from the job that was sent.
    """
    made = {"Name": job["ID"], **_over(_JOB, job)}
    service = made["Type"] == "service"
    update = _over(_UPDATE, job.get("Update") or {})
    made["TaskGroups"] = [_group(group, update if service else None) for group in job["TaskGroups"]]
    made["Update"] = {**dict.fromkeys(_UPDATE, 0), "HealthCheck": "", "AutoRevert": False, "AutoPromote": False,
                      "Stagger": update["Stagger"], "MaxParallel": update["MaxParallel"]}  # fmt: skip
    return made


def _group(group: Job, update: Job | None) -> Job:
    made = _over(_GROUP, group)
    made["Update"] = None if update is None else _over(update, group.get("Update") or {})
    for name in ("RestartPolicy", "EphemeralDisk", "ReschedulePolicy"):
        made[name] = _over(_GROUP[name], group.get(name) or {})  # type: ignore[arg-type]
    made["Tasks"] = []
    for task in group["Tasks"]:
        filled_task = _over(_TASK, task)
        filled_task["Resources"] = _over(_RESOURCES, task.get("Resources") or {})
        filled_task["RestartPolicy"] = _over(made["RestartPolicy"], task.get("RestartPolicy") or {})
        made["Tasks"].append(filled_task)
    return made


def _over(defaults: Job, given: Job) -> Job:
    """``given`` over ``defaults``; null counts as not given."""
    return copy.deepcopy({**defaults, **{name: value for name, value in given.items() if value is not None}})


def same_spec(one: Job, other: Job) -> bool:
    """Whether two filled jobs ask for the same; the server makes no new version then."""
    return _spec(one) == _spec(other)


def _spec(job: Job) -> Job:
    return {name: value for name, value in job.items() if name not in BOOKKEEPING}


def fingerprint(job: Job, group: Job) -> str:
    """What a running allocation depends on: while it stays, an update happens in place, without a restart."""
    parts = ("Name", "Driver", "User", "Config", "Env", "Meta", "Resources", "Artifacts", "Templates")
    told = [[task.get(part) for part in parts] for task in group["Tasks"]]
    text = json.dumps([job.get("Meta"), group.get("Meta"), told], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def min_healthy(group: Job) -> float:
    """How long a process must live to be healthy, in seconds; a lab doesn't wait for the default of ten."""
    given = (group.get("Update") or {}).get("MinHealthyTime", DEFAULT_MIN_HEALTHY)
    return 0.3 if given == DEFAULT_MIN_HEALTHY else float(given) / SECOND
