"""The whole pillar under the key `hecate`, and what must hold between its parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from hecate.errors import Problem
from hecate.model.dns import Dns, HetznerDns, clash, relative_name
from hecate.model.fields import Host, Section, Slug
from hecate.model.identity import Authentik, AuthPolicy
from hecate.model.infrastructure import (
    Caddy,
    Edge,
    Nomad,
    Safety,
    Store,
    Targets,
    Terraform,
    Vault,
    Verify,
    Workload,
)
from hecate.model.routes import Route


class Estate(Section):
    """What should be true. Every section is optional; what is absent is not managed."""

    environment: Slug = "production"
    caddy: Caddy = Caddy()
    edges: dict[str, Edge] = {}
    authentik: Authentik | None = None
    hetzner_dns: HetznerDns | None = None
    vault: Vault | None = None
    store: Store = Store()
    terraform: Terraform | None = None
    nomad: Nomad | None = None
    targets: Targets = Targets()
    verify: Verify = Verify()
    safety: Safety = Safety()
    adopt: tuple[str, ...] = Field((), description="Ids of existing objects to take over, as the error names them.")
    routes: dict[Host, Route] = {}
    auth_policies: dict[Slug, AuthPolicy] = {}
    dns: Dns = Dns()
    workloads: dict[Slug, Workload] = {}

    def guarded(self) -> Iterator[tuple[str, Route, AuthPolicy]]:
        """Routes behind authentik with their policy, by host."""
        for host, route in sorted(self.routes.items()):
            policy = self.auth_policies[route.auth_policy] if route.auth_policy else None
            if policy and policy.provider == "authentik":
                yield host, route, policy

    def cross_problems(self) -> Iterator[Problem]:
        """What single values cannot show: references between sections, and collisions."""
        yield from self._records()
        if self.workloads and not self.nomad:
            yield Problem("hecate:workloads", "", "needs the section hecate:nomad with the API's url")
        if any(self._known_guards()) and not self.authentik:
            yield Problem("hecate:auth_policies", "", "needs the section hecate:authentik with url and token")

    def _known_guards(self) -> Iterator[str]:
        for host, route in self.routes.items():
            policy = self.auth_policies.get(route.auth_policy or "")
            if policy and policy.provider == "authentik":
                yield host

    def _records(self) -> Iterator[Problem]:
        written = {
            (zone, name): records for zone, spec in self.dns.zones.items() for name, records in spec.records.items()
        }
        for host, route in self.routes.items():
            if route.dns is None:
                continue
            for name in (host, *route.hosts):
                zone = self.dns.zone_of(name)
                if zone is None:
                    zones = ", ".join(sorted(self.dns.zones)) or "none"
                    yield Problem(f"hecate:routes:{host}:dns", name, f"in no zone of hecate:dns:zones ({zones})")
                    continue
                if name == zone and route.dns.CNAME:
                    yield Problem(
                        f"hecate:routes:{host}:dns:CNAME", name, "the apex of a zone cannot be a CNAME; use A"
                    )
                other = written.get((zone, relative_name(name, zone)))
                if other and clash(route.dns, other):
                    why = f"also written under hecate:dns:zones:{zone}:records; keep one of the two"
                    yield Problem(f"hecate:routes:{host}:dns", name, why)
        if (written or any(r.dns for r in self.routes.values())) and not self.hetzner_dns:
            yield Problem("hecate:dns", "", "needs the section hecate:hetzner_dns with a token reference")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of what stands under `hecate`, for editors."""
    return Estate.model_json_schema()
