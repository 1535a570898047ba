"""Nomad's HTTP API (https://developer.hashicorp.com/nomad/api-docs)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import requests

from hecate.clients.http import JsonApi
from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound

PAUSE = 0.3
NAMESPACE = "default"
LIST, READ, SUBMIT = CAPABILITIES = ("list-jobs", "read-job", "submit-job")


class _Api(JsonApi):
    def failure(self, response: requests.Response, where: str) -> ApiFailure:
        found = super().failure(response, where)
        if not isinstance(found, NotAuthorised):
            return found
        needs = f"the token is wrong, or lacks the capability {_capability(where)} in the namespace {NAMESPACE}"
        return NotAuthorised(self.system, f"{found.message}\n{needs}", code=found.code, request_id=found.request_id)


def _capability(where: str) -> str:
    """Of an ACL policy, for one call: https://developer.hashicorp.com/nomad/api-docs/jobs"""
    method, _, path = where.partition(" ")
    return SUBMIT if method != "GET" else LIST if path == "/jobs" else READ


class NomadClient:
    """Retry rule: reads as in clients.http; writes are sent once.

    deadline: seconds within which a deployment has to become healthy.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        deadline: float = 300.0,
        mask: Callable[[str], str] = str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        headers = {"X-Nomad-Token": token} if token else {}
        self._api = _Api("nomad", f"{url}/v1", headers=headers, mask=mask, sleep=sleep)
        self._deadline, self._sleep, self._clock = deadline, sleep, clock

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs in short, with their Meta."""
        return list(self._api.get("/jobs", {"meta": "true"}).data or [])

    def job(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._api.get(f"/job/{quote(name, safe='')}").data)
        except NotFound:
            return None

    def register(self, job: dict[str, Any], modify_index: int) -> None:
        """Register only on top of the job at `modify_index` (0: only if there is none)."""
        self._api.send("PUT", "/jobs", {"Job": job, "EnforceIndex": True, "JobModifyIndex": modify_index})

    def deregister(self, name: str) -> None:
        self._api.send("DELETE", f"/job/{quote(name, safe='')}", params={"purge": "true"})

    def revert(self, name: str, version: int) -> None:
        """Make an earlier version of the job the current one."""
        self._api.send("POST", f"/job/{quote(name, safe='')}/revert", {"JobID": name, "JobVersion": version})

    def wait_healthy(self, name: str, job_modify_index: int) -> None:
        """Until the deployment of that job version is over. Raises Faulty unless it succeeded."""
        until = self._clock() + self._deadline
        while True:
            latest = self._latest(name, job_modify_index)
            status = latest.get("Status", "pending")
            if status == "successful":
                return
            told = latest.get("StatusDescription", "no deployment yet")
            if status in ("failed", "cancelled", "blocked"):
                raise Faulty("nomad", f"job {name}: its deployment {status}: {told}")
            if self._clock() > until:
                raise Faulty("nomad", f"job {name}: not healthy after {self._deadline:.0f} s ({status}: {told})")
            self._sleep(PAUSE)

    def _latest(self, name: str, job_modify_index: int) -> dict[str, Any]:
        listed = self._api.get(f"/job/{quote(name, safe='')}/deployments").data or []
        fitting = [d for d in listed if d.get("JobModifyIndex", 0) >= job_modify_index]
        return max(fitting, key=lambda d: d.get("CreateIndex", 0), default={})
