"""The nouns that every system speaks: Resource, Change, Snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Spec = Mapping[str, Any]
UNKNOWN = "(another value)"  # in a spec, in place of a secret for which no reference is known


@dataclass(frozen=True)
class Resource:
    """One thing that a system should hold, or holds.

    kind: "caddy.route", "dns.rrset", "authentik.application" ...
    key: its name within the kind, stable over time.
    spec: JSON-compatible description, in the system's own terms; secrets only as references.
    needs: ids of resources that must exist before this one and outlive it.
    origin: the pillar path that asked for it; empty for what was observed.
    """

    kind: str
    key: str
    spec: Spec
    needs: tuple[str, ...] = ()
    origin: str = field(default="", compare=False)
    id: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.__dict__["id"] = f"{self.kind} {self.key}"  # asked for many times, of ten thousand resources

    def with_spec(self, spec: Spec) -> Resource:
        return replace(self, spec=spec)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "key": self.key, "spec": dict(self.spec), "needs": list(self.needs)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Resource:
        return cls(data["kind"], data["key"], data["spec"], tuple(data.get("needs", ())))


@dataclass(frozen=True)
class Change:
    """What is there before and after; either side may be absent, never both."""

    before: Resource | None
    after: Resource | None
    subject: Resource = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found = self.after or self.before
        assert found is not None, "a change has at least one side"
        self.__dict__["subject"] = found

    @property
    def id(self) -> str:
        return self.subject.id

    @property
    def kind(self) -> str:
        return self.subject.kind

    @property
    def verb(self) -> str:
        """What it does: "create", "update" or "delete"."""
        if self.before is None:
            return "create"
        return "delete" if self.after is None else "update"

    def inverse(self) -> Change:
        return Change(self.after, self.before)

    def to_json(self) -> dict[str, Any]:
        return {
            "before": self.before.to_json() if self.before else None,
            "after": self.after.to_json() if self.after else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        sides = (Resource.from_json(data[side]) if data[side] else None for side in ("before", "after"))
        return cls(*sides)


@dataclass(frozen=True)
class Snapshot:
    """What a system held at one moment.

    owned: resources marked as Hecate's. foreign: those of the asked-for keys that exist without
    the mark. raw: whatever the backend needs to write on top of exactly this state (an Etag, keys).
    """

    owned: Mapping[str, Resource]
    foreign: Mapping[str, Resource] = field(default_factory=dict)
    raw: Any = None

    def get(self, resource_id: str) -> Resource | None:
        return self.owned.get(resource_id) or self.foreign.get(resource_id)


def by_id(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Index resources; two that claim one id are a defect of a compiler, not of a pillar."""
    index: dict[str, Resource] = {}
    for resource in resources:
        if resource.id in index:
            raise ValueError(f"two resources claim {resource.id}")
        index[resource.id] = resource
    return index
