"""What becomes of differences that somebody made by hand."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hecate.model.fields import Duration, File, Section

Action = Literal["report", "heal", "adopt"]
Watched = Literal["caddy", "authentik", "hetzner_dns", "rfc2136", "nomad"]


class Breaker(Section):
    """Against healing what somebody else changes again and again."""

    heals: int = Field(3, ge=1, le=1000, description="As many heals of one system, failed ones too, ...")
    within: Duration = Field("1h", description="... in this time; then it is reported until the time is over.")


class Drift(Section):
    """What `hecate.drift act=True` does about each system. Terraform is always reported, and never more."""

    default: Action = Field(
        "report",
        description="report: tell; heal: put back what the last deployment wanted; adopt: take it into pillar.",
    )
    systems: dict[Watched, Action] = Field({}, description="By system, where it is another than the default.")
    breaker: Breaker = Breaker()
    adopt_file: File | None = Field(
        None,
        description="File on the master, below a pillar root, where adopted pillar is kept; absent: it is shown.",
    )

    def action(self, system: str) -> Action:
        """Of Terraform nobody can tell which side moved."""
        found: Action = {**self.systems}.get(system, self.default)  # type: ignore[call-overload]
        return "report" if system == "terraform" else found
