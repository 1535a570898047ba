"""Workloads -> Nomad jobs (https://developer.hashicorp.com/nomad/api-docs/json-jobs)."""

from __future__ import annotations

from hecate.model.estate import Estate
from hecate.resource import Resource


def compile_nomad(estate: Estate) -> list[Resource]:
    """One resource a job, in the few fields that Hecate sets; Nomad's defaults fill the rest."""
    return [
        Resource(
            "nomad.job",
            name,
            {
                "environment": estate.environment,
                "datacenters": list(work.datacenters),
                "count": work.count,
                "driver": work.driver,
                "config": work.config,
                "env": dict(work.env),
                "cpu": work.cpu,
                "memory": work.memory,
            },
            origin=f"hecate:workloads:{name}",
        )
        for name, work in sorted(estate.workloads.items())
    ]
