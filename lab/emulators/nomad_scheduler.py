"""What Nomad's servers and client do between calls: place, watch, judge health, roll forward, roll back.

An update without canaries is destructive: the old allocation of a slot ends before the new one begins, MaxParallel
slots at a time, so that both may listen on one port. With canaries the new stand beside the old until promoted.
"""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from lab.emulators.nomad_jobs import SECOND, Job, fingerprint, min_healthy, same_spec
from lab.emulators.nomad_processes import Processes
from lab.emulators.nomad_state import Allocation, State, stamp


class Scheduler:
    """One thread that goes over all jobs; the only one that starts processes (see Processes)."""

    def __init__(self, lock: threading.RLock, state: Callable[[], State], processes: Processes) -> None:
        self._lock = lock
        self._state = state
        self._processes = processes
        self._wake = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="nomad-scheduler", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look again now."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread, then every process."""
        self._over = True
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(10)

    def _run(self) -> None:
        while not self._over:
            self._wake.wait(0.03)
            self._wake.clear()
            with self._lock:
                for versions in list(self._state().jobs.values()):
                    self._go_over(versions[0])
                self._complete_evaluations()
        self._processes.end_all()

    def _go_over(self, job: Job) -> None:
        state = self._state()
        for allocation in state.allocations_of(job["ID"]):
            self._watch(self._job_of(allocation), allocation)
        deployment = state.deployment_of(job)
        if deployment and deployment["Status"] == "running":
            self._judge(job, deployment)
            if state.job(job["ID"]) is not job:  # rolled back
                return
        self._place(job, deployment)
        self._follow(job)

    def _job_of(self, allocation: Allocation) -> Job:
        """The version that an allocation runs, not the one that comes after it."""
        versions = self._state().jobs[allocation.job]
        return next((version for version in versions if version["Version"] == allocation.version), versions[0])

    def _complete_evaluations(self) -> None:
        state = self._state()
        for evaluation in state.evaluations.values():
            if evaluation["Status"] == "pending":
                evaluation.update(Status="complete", ModifyIndex=state.next_index(), ModifyTime=time.time_ns())

    # Watching.

    def _watch(self, job: Job, allocation: Allocation) -> None:
        """Follow an allocation's processes: ended, healthy, to be killed, to be restarted."""
        if not allocation.live:
            return
        if allocation.desired == "stop":
            self._watch_end(allocation)
        elif allocation.restart_at is not None:
            if time.monotonic() >= allocation.restart_at:
                allocation.restart_at = None
                self._start(job, allocation)
        elif exits := self._processes.exits(allocation.id):
            self._ended(job, allocation, exits)
        elif allocation.healthy is None and allocation.status == "running":
            group = _group(job, allocation.group)
            if group and time.monotonic() - allocation.since >= min_healthy(group):
                allocation.healthy = True
                self._state().touch(allocation)

    def _watch_end(self, allocation: Allocation) -> None:
        if not self._processes.pids(allocation.id):
            self._processes.forget(allocation.id)
            self._finish(allocation, "complete", {})
        elif time.monotonic() >= allocation.kill_at:
            self._processes.send(allocation.id, signal.SIGKILL)

    def _ended(self, job: Job, allocation: Allocation, exits: dict[str, int]) -> None:
        """A process ended by itself: that fails its allocation, unless it may restart or was to end."""
        self._processes.forget(allocation.id)
        group = _group(job, allocation.group)
        if job["Type"] == "batch" and not any(exits.values()):
            self._finish(allocation, "complete", exits)
        elif group and allocation.healthy and allocation.restarts < group["RestartPolicy"]["Attempts"]:
            allocation.restarts += 1
            allocation.restart_at = time.monotonic() + group["RestartPolicy"]["Delay"] / SECOND
            self._state().touch(allocation)
        else:
            allocation.healthy = False
            self._finish(allocation, "failed", exits)

    def _finish(self, allocation: Allocation, status: str, exits: dict[str, int]) -> None:
        allocation.status = status
        for name, task in allocation.tasks.items():
            event = _event("Terminated" if exits else "Killed", f"Exit Code: {exits.get(name, 0)}")
            task.update(State="dead", Failed=status == "failed", FinishedAt=stamp(time.time_ns()),
                        Events=[*task["Events"], {**event, "ExitCode": exits.get(name, 0)}])  # fmt: skip
        self._state().touch(allocation)

    # Judging.

    def _judge(self, job: Job, deployment: dict[str, Any]) -> None:
        """Count a deployment's allocations, and end it when it is clear how."""
        state = self._state()
        mine = [a for a in state.allocations_of(job["ID"]) if a.deployment == deployment["ID"]]
        for name, group in deployment["TaskGroups"].items():
            of_group = [a for a in mine if a.group == name]
            group["PlacedAllocs"] = len(of_group)
            group["HealthyAllocs"] = sum(1 for a in of_group if a.healthy)
            group["UnhealthyAllocs"] = sum(1 for a in of_group if a.healthy is False)
            group["PlacedCanaries"] = [a.id for a in of_group if a.canary] or None
        groups = deployment["TaskGroups"].values()
        if any(group["UnhealthyAllocs"] for group in groups):
            self._fail(job, deployment)
        elif all(group["HealthyAllocs"] >= group["DesiredTotal"] for group in groups):
            self._succeed(job, deployment)

    def _succeed(self, job: Job, deployment: dict[str, Any]) -> None:
        waiting = False
        for group in deployment["TaskGroups"].values():
            if group["PlacedCanaries"] and not group["Promoted"]:
                group["Promoted"] = group["AutoPromote"]
                waiting = waiting or not group["Promoted"]
        if waiting:
            deployment["StatusDescription"] = "Deployment is running but requires manual promotion"
            return
        job["Stable"] = True
        self._state().conclude(deployment, "successful", "Deployment completed successfully")

    def _fail(self, job: Job, deployment: dict[str, Any]) -> None:
        """Fail a deployment; with AutoRevert the last stable version is registered again."""
        state, why = self._state(), "Failed due to unhealthy allocations"
        target = next((version for version in state.jobs[job["ID"]][1:] if version["Stable"]), None)
        if not any(group["AutoRevert"] for group in deployment["TaskGroups"].values()):
            target = None
        elif target is None:
            why += " - no stable job version to auto revert to"
        elif same_spec(target, job):
            stable = f"stable job version {target['Version']}"
            why += f" - not rolling back to {stable} as current job has same specification"
            target = None
        else:
            why += f" - rolling back to job version {target['Version']}"
        state.conclude(deployment, "failed", why)
        for allocation in state.allocations_of(job["ID"]):
            if allocation.canary and allocation.deployment == deployment["ID"]:
                self._end(allocation)
        if target:
            state.evaluate(state.revert(target), "deployment-watcher")
            self.wake()

    # Placing.

    def _place(self, job: Job, deployment: dict[str, Any] | None) -> None:
        """Bring the slots to what the job's current version wants, as far as its deployment lets them."""
        allocations = self._state().allocations_of(job["ID"])
        groups = {} if job["Stop"] else {group["Name"]: group for group in job["TaskGroups"]}
        for allocation in allocations:
            group = groups.get(allocation.group)
            if group is None or allocation.slot >= group["Count"]:
                self._end(allocation)
        if deployment and deployment["Status"] not in ("running", "successful"):
            return
        for group in groups.values():
            of_group = [a for a in allocations if a.group == group["Name"]]
            self._place_group(job, group, deployment, of_group)

    def _place_group(
        self, job: Job, group: Job, deployment: dict[str, Any] | None, allocations: list[Allocation]
    ) -> None:
        wanted = fingerprint(job, group)
        update = group["Update"] or {"MaxParallel": 0, "Canary": 0}
        state = deployment["TaskGroups"][group["Name"]] if deployment else {}
        beside = update["Canary"] > 0 and any(a.live and a.fingerprint != wanted for a in allocations)
        # A slot is under way from when its old allocation is asked to end until its new one is healthy.
        staying = [a for a in allocations if a.live and a.desired == "run"]
        settled = {a.slot for a in staying if a.healthy or a.fingerprint != wanted}
        budget = (update["MaxParallel"] or group["Count"]) - len(set(range(group["Count"])) - settled)
        for slot in range(group["Count"]):
            here = [a for a in allocations if a.slot == slot and a.live]
            new = [a for a in here if a.fingerprint == wanted and a.desired == "run"]
            old = [a for a in here if a not in new]
            for allocation in new:
                self._update_in_place(job, allocation, deployment)
            if new and (not beside or state.get("Promoted")):
                for allocation in old:
                    self._end(allocation)
            if not new and beside:
                self._begin(job, group, slot, wanted, deployment, canary=True)
            elif not new and not old:
                if not self._done(job, slot, allocations):
                    self._begin(job, group, slot, wanted, deployment)
            elif not new and budget > 0:
                budget -= 1
                for allocation in old:
                    self._end(allocation)

    def _done(self, job: Job, slot: int, allocations: list[Allocation]) -> bool:
        """Whether this version had its turn in the slot: what ended or failed isn't placed again."""
        return any(a.slot == slot and a.version == job["Version"] and a.index > job["JobModifyIndex"]
                   for a in allocations if a.desired == "run")  # fmt: skip

    def _update_in_place(self, job: Job, allocation: Allocation, deployment: dict[str, Any] | None) -> None:
        if allocation.version == job["Version"]:
            return
        allocation.version = job["Version"]
        allocation.deployment = deployment["ID"] if deployment else None
        self._state().touch(allocation)

    def _begin(
        self, job: Job, group: Job, slot: int, wanted: str, deployment: dict[str, Any] | None, canary: bool = False
    ) -> None:
        state = self._state()
        evaluations = [e["ID"] for e in state.evaluations.values() if e["JobID"] == job["ID"]]
        allocation = Allocation(
            str(uuid.uuid4()), job["ID"], group["Name"], slot, job["Version"], wanted,
            deployment["ID"] if deployment else None, evaluations[-1] if evaluations else "", state.next_index(),
            canary=canary,
        )  # fmt: skip
        state.allocations[allocation.id] = allocation
        self._start(job, allocation)

    def _start(self, job: Job, allocation: Allocation) -> None:
        group = _group(job, allocation.group)
        assert group is not None
        allocation.since, allocation.status = time.monotonic(), "running"
        meta = {**(job["Meta"] or {}), **(group["Meta"] or {})}
        variables = {
            "NOMAD_ALLOC_ID": allocation.id, "NOMAD_ALLOC_INDEX": str(allocation.slot), "NOMAD_JOB_ID": job["ID"],
            "NOMAD_JOB_NAME": job["Name"], "NOMAD_GROUP_NAME": allocation.group, "NOMAD_NAMESPACE": "default",
            **{f"NOMAD_META_{name}": str(value) for name, value in meta.items()},
        }  # fmt: skip
        for task in group["Tasks"]:
            problem = self._processes.start(allocation.id, task, variables)
            event = _event("Driver Failure", problem) if problem else _event("Started", "Task started by client")
            allocation.tasks[task["Name"]] = {
                "State": "dead" if problem else "running", "Failed": bool(problem), "Restarts": allocation.restarts,
                "StartedAt": stamp(time.time_ns()), "Events": [event],
            }  # fmt: skip
            if problem:
                self._processes.forget(allocation.id)
                allocation.healthy, allocation.status = False, "failed"
                break
        self._state().touch(allocation)

    def _end(self, allocation: Allocation) -> None:
        """Ask an allocation to end: KillSignal now, SIGKILL after KillTimeout."""
        if allocation.desired == "stop" or not allocation.live:
            return
        group = _group(self._job_of(allocation), allocation.group)
        task: Job = group["Tasks"][0] if group else {"KillSignal": "", "KillTimeout": 5 * SECOND}
        allocation.desired = "stop"
        allocation.kill_at = time.monotonic() + task["KillTimeout"] / SECOND
        self._processes.send(allocation.id, getattr(signal, task["KillSignal"] or "SIGTERM", signal.SIGTERM))
        self._state().touch(allocation)

    def _follow(self, job: Job) -> None:
        """The job's status follows from its allocations."""
        allocations = self._state().allocations_of(job["ID"])
        if any(a.live and a.desired == "run" for a in allocations):
            status = "running"
        else:
            status = "dead" if job["Stop"] or any(a.version == job["Version"] for a in allocations) else "pending"
        if job["Status"] != status:
            job["Status"], job["ModifyIndex"] = status, self._state().next_index()


def _group(job: Job, name: str) -> Job | None:
    return next((group for group in job["TaskGroups"] if group["Name"] == name), None)


def _event(kind: str, message: str) -> dict[str, Any]:
    return {"Type": kind, "Time": time.time_ns(), "DisplayMessage": message, "Message": message, "Details": {}}
