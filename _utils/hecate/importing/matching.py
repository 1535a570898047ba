"""Matchers of Caddy, asked about a whole region of requests at a time.

A region is what one entry of a pillar can name: a host, a path or prefix, perhaps a method and a header.
A matcher holds for all of it, for none of it, or (None) that cannot be said in these terms.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field, replace
from typing import Any

from hecate.importing.ledger import Node
from hecate.model.fields import path_pattern
from hecate.model.routes import METHODS

Conditions = frozenset[tuple[str, str]]
ALL = "/*"


@dataclass(frozen=True)
class Region:
    """Requests that one entry of a pillar can name.

    path: as it came; at: as it is now, after rewrites; None where that cannot be known.
    """

    host: str
    path: str = ALL
    method: str = ""
    when: Conditions = frozenset()
    at: str | None = ALL
    https: bool = True

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}".strip()

    def rank(self) -> tuple[Any, ...]:
        """As compile.caddy_matching orders branches: the first that covers a request gets it."""
        length = len(self.path.removesuffix("/*"))
        return (-length, self.path.endswith("/*"), not self.method, -len(self.when), self.path, self.method)

    def within(self, other: Region) -> bool:
        """Whether `other` would get the requests of this one if this one weren't there."""
        same_path = covers(other.path, self.path) or other.path == f"{self.path}/*"
        return same_path and other.method in ("", self.method) and other.when <= self.when

    def moved(self, at: str | None) -> Region:
        return replace(self, at=at)


@dataclass
class Terms:
    """What the matchers of a host speak of."""

    paths: set[str] = field(default_factory=lambda: {ALL})
    methods: set[str] = field(default_factory=lambda: {""})
    headers: set[Conditions] = field(default_factory=lambda: {frozenset()})

    def regions(self, host: str, https: bool) -> list[Region]:
        """The most general first."""
        exact = {p.removesuffix("/*") for p in self.paths if p != ALL}
        found = [
            Region(host, path, method, when, path, https)
            for path in self.paths | exact
            for method in self.methods
            for when in self.headers
        ]
        return sorted(found, key=Region.rank, reverse=True)


def pillar_path(pattern: str) -> str | None:
    """What Hecate can say for a path of Caddy's: /exact or /prefix/*; None for anything else."""
    if pattern == "*":
        return ALL
    folded = pattern.lower()
    if folded.endswith("*") and not folded.endswith("/*"):
        folded = folded[:-1] + "/*"
    try:
        return path_pattern(folded)
    except ValueError:
        return None


def covers(pattern: str, path: str) -> bool:
    """Whether a pattern of Caddy's (one star at the end at most) holds for all of a path or prefix."""
    if pattern in ("*", ALL):
        return True
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


def host_matches(pattern: str, host: str) -> bool:
    """`*.a.test` is one label; a host that is a pattern itself is only matched as such."""
    pattern = pattern.lower()
    if pattern == host:
        return True
    label, dot, rest = host.partition(".")
    return pattern.startswith("*.") and bool(dot) and label != "*" and pattern[2:] == rest


def simple_headers(node: Node) -> Conditions | None:
    """name -> one value each; None where there is more to it."""
    fields = node.value if isinstance(node.value, dict) else {}
    if all(isinstance(v, list) and len(v) == 1 and v[0] for v in fields.values()):
        return frozenset((name, values[0]) for name, values in fields.items())
    return None


@dataclass
class Verdict:
    """holds: True, False or None. left: what could not be decided, one mapping for each alternative."""

    holds: bool | None
    left: list[dict[str, Node]] = field(default_factory=list)


class Judge:
    """Decides matchers. terms: what has a region of its own, and so isn't part of a more general one."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def entry(self, entry: Node, region: Region) -> Verdict:
        if not entry.peek("match"):
            return Verdict(True)
        return self._any(entry.at("match").items(), region)

    def _any(self, objects: list[Node], region: Region) -> Verdict:
        verdicts = [self._all(node, region) for node in objects]
        if any(v.holds for v in verdicts):
            return Verdict(True)
        left = [one for v in verdicts for one in v.left]
        return Verdict(None, left) if left else Verdict(False)

    def _all(self, node: Node, region: Region) -> Verdict:
        asked = {key: self._one(key, inner, region) for key, inner in node.fields()}
        if any(holds is False for holds in asked.values()):
            return Verdict(False)
        left = {key: node.at(key) for key, holds in asked.items() if holds is None}
        return Verdict(None, [left]) if left else Verdict(True)

    def _one(self, key: str, node: Node, region: Region) -> bool | None:
        holds = self._decided(key, node, region)
        if holds is not None:
            node.take()
        return holds

    def _decided(self, key: str, node: Node, region: Region) -> bool | None:
        if key == "host":
            return any(host_matches(str(pattern), region.host) for pattern in node.value)
        if key == "path":
            return _either([self._path(str(pattern), region) for pattern in node.value])
        if key == "method":
            return self._method(node.value, region)
        if key == "header":
            wanted = simple_headers(node)
            if wanted is None or wanted not in self.terms.headers:
                return None
            return wanted <= region.when
        if key == "protocol" and node.value in ("http", "https"):
            return bool((node.value == "https") == region.https)
        if key == "not":
            inner = self._any(node.items(), region).holds
            return None if inner is None else not inner
        return None

    def _path(self, pattern: str, region: Region) -> bool | None:
        at, folded = region.at, pattern.lower()
        if at is None:
            return True if folded in ("*", ALL) else None
        if not at.endswith("*"):
            return fnmatch.fnmatchcase(at, folded.replace("[", "[[]"))
        if pillar_path(folded) is None:
            return None if "*" in folded[:-1] or covers(at, folded) else False
        return covers(folded, at) or covers(folded, at.removesuffix("/*") + "/")

    @staticmethod
    def _method(wanted: list[str], region: Region) -> bool | None:
        if any(method not in METHODS for method in wanted):
            return None
        return region.method in wanted


def _either(answers: list[bool | None]) -> bool | None:
    if any(answers):
        return True
    return None if None in answers else False
