"""What an operator asks of a deploy, as the command line gives it: `pillar='{"allow": [...], "message": "why"}'`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hecate.errors import HecateError

CHOICES = ("plan", "to", "systems", "routes", "tags", "tenants")
LISTS = ("allow", "systems", "routes", "tags", "tenants", "exclude")


@dataclass(frozen=True)
class Request:
    """allow: overrides for the plans. message: why, kept in the history.

    plan: digest of the saved plan that alone may be applied. to: a deployment whose pillar is wanted in place of
    today's. systems, routes, tags, tenants: only these; empty: all. exclude: any of those that are left out. wait:
    seconds to wait for the lock.
    """

    allow: tuple[str, ...] = ()
    message: str = ""
    plan: str = ""
    to: str = ""
    systems: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    wait: float = 0

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Request:
        """Raises HecateError for what nobody knows, and for a choice that is empty: either would deploy everything."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(asked) - {*known})
        if unknown:
            raise HecateError(f"{', '.join(unknown)}: a deploy knows no such word; it takes {', '.join(known)}")
        empty = [name for name in CHOICES if asked.get(name) is not None and not listed(asked[name])]
        if empty:
            raise HecateError(f"{', '.join(empty)}: given, but empty; leave it out to deploy everything")
        given: dict[str, Any] = {k: listed(v) if k in LISTS else v for k, v in asked.items() if v is not None}
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Without what was not asked."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v}


def listed(value: Any) -> tuple[str, ...]:
    """A list, or a text with commas, as a command line gives it."""
    if value is None:
        return ()
    parts = value if isinstance(value, list | tuple | set | frozenset) else str(value).split(",")
    return tuple(str(part).strip() for part in parts if str(part).strip())
