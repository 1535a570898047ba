"""Paths of a route -> matchers, the most specific first, whatever the pillar's order.

More specific is: the longer path; the exact one before the prefix; with a method before without;
with more headers before fewer. Caddy compares paths decoded, cleaned and case-insensitively.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hecate.model.routes import PathRule, Route, split_pattern

Matcher = dict[str, Any]
PUBLIC = "hecate_public"
# What Caddy and an upstream may read differently: /secret/..%2fpublic is /public to the one, /secret to the other.
# Dots with anything odd after them, and dots and slashes in more octets than UTF-8 gives them, are of that kind too.
UNCLEAR = r"(?i)^[^?]*(%2e|%2f|%5c|%25|%c[01]|%e0%80|%f0%80|\\|//|/\.\.?([/;?#%]|$))"


@dataclass(frozen=True)
class Branch:
    """Requests of a route that go another way, or (without rule) that only need no login."""

    pattern: str
    method: str
    rule: PathRule | None

    @property
    def public(self) -> bool:
        return self.rule is None or self.rule.public

    @property
    def matcher(self) -> Matcher:
        found: Matcher = {"path": covered(self.pattern)}
        if self.method:
            found["method"] = [self.method]
        if self.rule and self.rule.when:
            found["header"] = {name: [value] for name, value in sorted(self.rule.when.items())}
        return found

    def rank(self) -> tuple[Any, ...]:
        prefix = self.pattern.endswith("/*")
        conditions = len(self.rule.when) if self.rule else 0
        length = len(self.pattern.removesuffix("/*"))
        return (-length, prefix, not self.method, -conditions, self.rule is not None, self.pattern, self.method)


def covered(pattern: str) -> list[str]:
    """/a/* is /a and everything below; /* is everything."""
    below = pattern.removesuffix("/*")
    return [below, pattern] if pattern.endswith("/*") and below else [pattern]


def branches(route: Route) -> list[Branch]:
    """Paths and public paths of a route, the most specific first."""
    found = [Branch(path, "", None) for path in route.public_paths]
    for key, value in route.paths.items():
        method, pattern = split_pattern(key)
        found += [Branch(pattern, method, rule) for rule in (value if isinstance(value, tuple) else (value,))]
    return sorted(found, key=Branch.rank)


def classify(found: list[Branch]) -> list[Matcher]:
    """Steps that mark requests which need no login; empty when none is public.

    All are of one group, so only the first that matches counts: a protected path below a public one
    stays so, and so does what an upstream might take for another path than Caddy does.
    """
    if not any(branch.public for branch in found):
        return []
    unclear = {"vars_regexp": {"{http.request.uri}": {"pattern": UNCLEAR}}}
    return [
        {"group": PUBLIC, "match": [unclear], "handle": [{"handler": "vars", PUBLIC: "no"}]},
        *(
            {
                "group": PUBLIC,
                "match": [branch.matcher],
                "handle": [{"handler": "vars", PUBLIC: "yes" if branch.public else "no"}],
            }
            for branch in found
        ),
    ]


def not_public(found: list[Branch]) -> Matcher:
    """A match for what does need a login."""
    if not any(branch.public for branch in found):
        return {}
    return {"match": [{"not": [{"vars": {f"{{http.vars.{PUBLIC}}}": ["yes"]}}]}]}
