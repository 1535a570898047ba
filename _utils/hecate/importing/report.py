"""What an import tells: grouped, the grave first, each with its place in the JSON and in the Caddyfile."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hecate.importing.ledger import Finding, Ledger, Path, pointer, shown
from hecate.importing.source import Line, Source

TITLES = {
    "opens": "NOT PROTECTED ANY MORE: who was kept out gets in",
    "closed": "CLOSED: answers 503 (maintenance) until you decide",
    "left": "NOT IMPORTED",
    "differs": "IMPORTED, BEHAVES DIFFERENTLY",
    "told": "GOOD TO KNOW",
}
ALWAYS = (
    "a host that no route names gets 404 (Caddy's own answer was an empty 200)",
    "X-Authentik-* headers that clients send are deleted on every route",
    "upstreams see the host in lower case",
    "access logs leave out cookies, Authorization and tokens in queries",
)
PLACES = 6


@dataclass(frozen=True)
class Entry:
    """One thing told, however many places it is true of."""

    kind: str
    what: str
    advice: str
    hosts: tuple[str, ...]
    paths: tuple[str, ...]
    leaves: tuple[tuple[str, str], ...]
    lines: tuple[tuple[int, str], ...]

    def to_data(self) -> dict[str, Any]:
        """For Salt: plain values. lines: [number, text] of the Caddyfile."""
        return {
            "kind": self.kind,
            "what": self.what,
            "advice": self.advice,
            "hosts": list(self.hosts),
            "paths": list(self.paths),
            "values": dict(self.leaves),
            "lines": [list(line) for line in self.lines],
        }

    def text(self) -> str:
        """Lines for a person; every leaf that was left out is one of them."""
        where = "; ".join(f"line {number}: {text}" for number, text in self.lines[:PLACES])
        more = len(self.lines) - PLACES
        where += f"; and {more} more lines" if more > 0 else ""
        told = [f"- {where or self.paths[0]}", f"    {self.what}", f"    -> {self.advice}"]
        if self.hosts:
            told.append(f"    hosts: {', '.join(self.hosts)}")
        told += [f"    {path}" for path in folded(self.paths) if not self.leaves]
        told += [f"    {leaf}" for leaf in folded(f"{path} = {value}" for path, value in self.leaves)]
        return "\n".join(told)


def entries(ledger: Ledger, source: Source | None) -> list[Entry]:
    """All findings, and the rest of the leaves that nobody spoke of; alike ones together."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in ledger.findings:
        groups.setdefault((finding.kind, finding.what, finding.advice), []).append(finding)
    found = [_entry(ledger, source, key, members) for key, members in groups.items()]
    found += _rest(ledger, source)
    order = list(TITLES)
    return sorted(found, key=lambda e: (order.index(e.kind), e.lines[:1] or ((10**9, ""),), e.paths))


def _entry(ledger: Ledger, source: Source | None, key: tuple[str, str, str], members: list[Finding]) -> Entry:
    paths = dict.fromkeys(member.path for member in members)
    lines: dict[Line, None] = {}
    for member in members:
        line = _line(ledger, source, member.path, member.host)
        if line:
            lines[line] = None
    leaves = [
        (path, value)
        for place in paths
        if place in ledger.refused
        for path, value in ledger.below(place)
        if place in ledger.entirely or path not in ledger.taken
    ]
    kind, what, advice = key
    return Entry(
        kind,
        what,
        advice,
        tuple(dict.fromkeys(m.host for m in members if m.host)),
        tuple(pointer(path) for path in paths),
        tuple((pointer(path), shown(path, value)) for path, value in leaves),
        tuple(sorted((line.number, line.text) for line in lines)),
    )


def _line(ledger: Ledger, source: Source | None, path: Path, host: str) -> Line | None:
    if source is None:
        return None
    value: Any = ledger.root.value
    for part in path:
        value = {} if isinstance(value, dict) and part not in value else value[part]
    return source.find(path, value, host or host_of(ledger, path))


def host_of(ledger: Ledger, path: Path) -> str:
    """The first host that an entry on the way to a place is for."""
    value: Any = ledger.root.value
    for part in path:
        if isinstance(value, dict) and part not in value:
            return ""
        value = value[part]
        for matcher in (value.get("match") or []) if isinstance(value, dict) else []:
            if isinstance(matcher, dict) and isinstance(matcher.get("host"), list) and matcher["host"]:
                return str(matcher["host"][0])
    return ""


def _owner(ledger: Ledger, path: Path) -> Path:
    """The handler that a leaf is part of; without one, the leaf itself."""
    value: Any = ledger.root.value
    owner = path
    for depth, part in enumerate(path):
        value = value[part]
        if isinstance(value, dict) and "handler" in value and value["handler"] != "subroute":
            owner = path[: depth + 1]
    return owner


def _rest(ledger: Ledger, source: Source | None) -> list[Entry]:
    """Leaves that nobody used: of no key in Hecate, or never reached by a request."""
    what = "no key in Hecate for this, or no request ever gets there"
    advice = "leave it out, do it in the service, or keep a server of your own beside Hecate's for it"
    groups: dict[tuple[int, str], list[tuple[Path, Any]]] = {}
    for path, value in ledger.rest():
        owner = _owner(ledger, path)
        line = _line(ledger, source, owner, "")
        key = (line.number, line.text) if line else (0, pointer(owner))
        groups.setdefault(key, []).append((path, value))
    return [
        Entry(
            "left",
            what,
            advice,
            tuple(dict.fromkeys(h for path, _ in leaves if (h := host_of(ledger, path)))),
            tuple(pointer(path) for path, _ in leaves),
            tuple((pointer(path), shown(path, value)) for path, value in leaves),
            (key,) if key[0] else (),
        )
        for key, leaves in groups.items()
    ]


def folded(texts: Iterable[str]) -> list[str]:
    """Lines that differ in one number of their path alone are one: routes/{0,1,2}/handle."""
    left = list(dict.fromkeys(texts))
    done: list[str] = []
    while left:
        first = left.pop(0)
        path, equals, value = first.partition(" = ")
        parts = path.split("/")
        for spot in (i for i, part in enumerate(parts) if part.isdigit()):
            fits = re.compile(
                re.escape("/".join(parts[:spot]) + "/")
                + r"(\d+)"
                + re.escape("/".join(["", *parts[spot + 1 :]]) + equals + value)
            )
            alike = [match[1] for other in left if (match := fits.fullmatch(other))]
            if alike:
                left = [other for other in left if not fits.fullmatch(other)]
                numbers = ",".join([parts[spot], *alike])
                first = "/".join([*parts[:spot], f"{{{numbers}}}", *parts[spot + 1 :]]) + equals + value
                break
        done.append(first)
    return done


def text(found: list[Entry], routes: int, warnings: list[str]) -> str:
    """The report for a person."""
    counts = {kind: sum(e.kind == kind for e in found) for kind in TITLES}
    told = [f"{routes} routes; " + ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)]
    for kind, title in TITLES.items():
        listed = [entry.text() for entry in found if entry.kind == kind]
        if listed:
            told += ["", title, *listed]
    if warnings:
        told += ["", "CADDY SAYS", *(f"- {warning}" for warning in warnings)]
    told += ["", "ON EVERY ROUTE OF HECATE'S", *(f"- {text}" for text in ALWAYS)]
    return "\n".join(told) + "\n"
