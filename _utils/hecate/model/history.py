"""How deploys exclude each other, and what is kept of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hecate.model.fields import SecretRef, Section


class Transactions(Section):
    """What a deploy does about others: one that is under way, and one that was cut off."""

    wait: int = Field(0, ge=0, le=86400, description="Seconds that a deploy waits for the lock; 0: it fails at once.")
    interrupted: Literal["undo", "finish"] = Field(
        "undo", description="What `hecate.resume` does about a deploy that was cut off before it was decided."
    )


class History(Section):
    """What is kept of deploys, and how it is signed."""

    keep: int = Field(200, ge=1, le=10000, description="Deploys that are kept.")
    days: int = Field(365, ge=1, le=3650, description="Days that they are kept; the newest 20 stay anyway.")
    key: SecretRef | None = Field(
        None,
        description="Signs the audit chain; at least 16 characters. Absent: one of the master's own. "
        "Masters that share a Consul need the same one.",
    )
