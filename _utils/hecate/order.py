"""What a deploy orders of one target: the pillar key `hecate_run`, on its way from the master to a minion."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hecate.returning import returned

KEY = "hecate_run"


@dataclass(frozen=True)
class Order:
    """transaction: the deploy that this is part of; empty for a highstate on its own. step: what that deploy calls it.

    allow: overrides for the plan. hold: "deletions" leaves what is to go for a later part of the same deploy.
    digest: of the one plan that may be applied; empty for any. guards: hosts that count as protected whatever the mine
    says; None asks the mine. hosts: only what belongs to these routes; None for everything. pillar: of an
    earlier deployment's record, packed; what it wanted is wanted in place of what pillar says now.
    """

    transaction: str = ""
    step: str = ""
    allow: tuple[str, ...] = ()
    hold: str = ""
    digest: str = ""
    guards: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    pillar: str = ""

    @classmethod
    def of(cls, pillar: Mapping[str, Any]) -> Order:
        """As a minion's pillar has it; an empty one where there is none."""
        given = dict(pillar.get(KEY) or {})
        for name in ("allow", "guards", "hosts"):
            if given.get(name) is not None:
                given[name] = tuple(given[name])
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Without what is at its default."""
        usual = asdict(Order())
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v != usual[k]}

    def wanted(self, pillar: Mapping[str, Any]) -> dict[str, Any]:
        """A minion's pillar with what this order wants in it, reached as that pillar says. Raises HecateError."""
        if not self.pillar:
            return dict(pillar)
        return {**pillar, "hecate": returned(unpacked(self.pillar), pillar.get("hecate") or {}, "wanted")}


def packed(hecate: Mapping[str, Any]) -> str:
    """What stands under `hecate`, small enough for an event: ten thousand routes are alike."""
    return base64.b64encode(zlib.compress(json.dumps(hecate, sort_keys=True).encode(), 9)).decode()


def unpacked(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(text)))
    return found
