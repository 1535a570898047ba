"""Servers -> pillar's routes: for each host what happens to each region of its requests.

The general region becomes the route itself, what differs from it becomes its paths. Middleware that
all of them share stands at the route.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hecate.importing.chains import Walk, terms_of
from hecate.importing.guards import Use
from hecate.importing.ledger import Node
from hecate.importing.matching import Judge, Region
from hecate.importing.parts import Fields, Part, headers_of, part_of
from hecate.model.fields import HostPattern

HOST_NAME: TypeAdapter[str] = TypeAdapter(HostPattern)


@dataclass
class Made:
    """A route. uses: middleware by the pillar key it is of ("" is the route itself); entry: where it came from."""

    host: str
    fields: Fields
    uses: dict[str, list[Use]] = field(default_factory=dict)
    auth: Fields | None = None
    entry: tuple[int, ...] = ()

    def same(self) -> str:
        """Equal for routes that differ in their host alone."""
        uses = {key: [(use.type, use.config) for use in listed] for key, listed in self.uses.items()}
        return json.dumps([self.fields, uses, self.auth, self.entry], sort_keys=True)


def hosts_in(routes: Node) -> dict[str, list[Node]]:
    """Every host that a matcher names, with the matchers."""
    found: dict[str, list[Node]] = {}
    for entry in routes.items():
        for node in entry.at("match").items():
            for pattern in node.peek("host", []):
                found.setdefault(str(pattern).lower(), []).append(node.at("host"))
        for handler in entry.at("handle").items():
            for host, nodes in hosts_in(handler.at("routes")).items():
                found.setdefault(host, []).extend(nodes)
    return found


def hosts_that_fit(routes: Node) -> list[str]:
    fit = []
    for host, nodes in hosts_in(routes).items():
        try:
            HOST_NAME.validate_python(host)
            fit.append(host)
        except ValidationError as err:
            why = err.errors()[0]["msg"].removeprefix("Value error, ")
            nodes[0].tell(
                "left", f"{host} is no host of a route: {why}", "give it a name, or keep a server for it", host
            )
    return fit


class Index:
    """The top-level entries that may concern a host, so that thousands of hosts don't each walk all entries."""

    def __init__(self, routes: Node) -> None:
        self.exact: dict[str, list[int]] = {}
        self.other: list[int] = []
        self.entries = routes.items()
        self.routes = routes
        for number, entry in enumerate(self.entries):
            objects = entry.at("match").items()
            names = [str(name).lower() for node in objects for name in node.peek("host", [])]
            if all("host" in node for node in objects) and objects and not any("*" in name for name in names):
                for name in set(names):
                    self.exact.setdefault(name, []).append(number)
            else:
                self.other.append(number)

    def of(self, host: str) -> tuple[tuple[int, ...], Node]:
        numbers = tuple(sorted({*self.exact.get(host, ()), *self.other}))
        return numbers, _Some([self.entries[n] for n in numbers], self.routes)


class _Some(Node):
    """Some entries of a list, each still at its own place."""

    def __init__(self, entries: list[Node], of: Node) -> None:
        super().__init__([e.value for e in entries], of.path, of.ledger)
        object.__setattr__(self, "_entries", entries)

    def items(self) -> list[Node]:
        return list(self._entries)  # type: ignore[attr-defined]


def routes_of(routes: Node, *, https: bool, known: Iterable[str]) -> list[Made]:
    """A route for each host that the server names. known: hosts that another server has already."""
    index, taken, made = Index(routes), set(known), []
    for host in hosts_that_fit(routes):
        numbers, mine = index.of(host)
        if host in taken:
            _twice(mine, host)
            continue
        made.append(_route(mine, host, https, numbers))
    for number in index.other:
        entry = index.entries[number]
        if not entry.peek("match") or any("host" not in node for node in entry.at("match").items()):
            what = "answers for every host; Hecate's routes name theirs, and any other host gets 404"
            entry.tell("differs", what, "add routes for the hosts that are meant")
    return made


def _twice(routes: Node, host: str) -> None:
    for entry in routes.items():
        away = json.dumps(entry.value)
        if '"static_response"' in away and "https://" in away and "Location" in away and "reverse_proxy" not in away:
            entry.take()
            entry.tell("told", "http goes to https by itself where a host has a certificate", "nothing", host)
        else:
            what = f"{host} is served by another server too (another port or plain HTTP); only one of them is imported"
            entry.refuse("left", what, "one route a host: merge them, or keep this server beside Hecate's", host)


def _route(routes: Node, host: str, https: bool, numbers: tuple[int, ...]) -> Made:
    terms = terms_of(routes, host)
    judge = Judge(terms)
    parts: dict[Region, Part] = {}
    for region in terms.regions(host, https):
        walk = Walk(judge, region)
        walk.run(routes)
        part = part_of(walk.links, host)
        covering = [parts[other] for other in sorted(parts, key=Region.rank) if region.within(other)]
        if not covering or covering[0].essence() != part.essence():
            parts[region] = part
    _tell_of_wide(routes, terms.paths, host)
    return _assembled(host, parts, numbers, routes)


def _tell_of_wide(node: Node, paths: set[str], host: str) -> None:
    """`/api*` matches /apix too; Hecate's prefixes end at a slash."""
    for entry in node.items():
        for matcher in entry.at("match").items():
            for pattern in matcher.peek("path", []):
                text = str(pattern)
                wide = text.endswith("*") and not text.endswith("/*") and len(text) > 1
                if wide and f"{text[:-1].lower()}/*" in paths and text[:-1]:
                    what = f"{text} matches {text[:-1]}x as well; Hecate's prefix is {text[:-1]} and all below"
                    matcher.at("path").tell("differs", what, "add the other paths by name", host)
        for handler in entry.at("handle").items():
            _tell_of_wide(handler.at("routes"), paths, host)


def _assembled(host: str, parts: dict[Region, Part], numbers: tuple[int, ...], routes: Node) -> Made:
    base_region = next(iter(parts))
    base = parts.pop(base_region)
    parts = {region: part for region, part in parts.items() if not _only_a_bare_prefix(region, part, parts, routes)}
    auth = next((part.auth for part in (base, *parts.values()) if part.auth), None)
    for part in (base, *parts.values()):
        _one_login(part, auth, routes)
    answering = [part for part in (base, *parts.values()) if part.answer and not part.closed]
    shared = [use for use in base.uses if all(_has(part, use) for part in parts.values())]
    apart = [use for use in base.uses if not _in(use, shared)]
    if base.empty:
        what = "nothing answers here but Caddy's empty 200; Hecate's answer is " + ("404" if answering else "503")
        routes.items()[0].tell("differs", what, "give the route upstreams, a redirect, or take it out", host)
    beside = bool(apart) or len(base.rewrites) > 1 or (bool(auth) and base.auth is None)
    # What stands at the route reaches its paths too: so nothing may that a path didn't have.
    beside = beside or bool(base.request) or any(part.max_body != base.max_body for part in parts.values())
    beside = bool(parts) and (beside or base.closed)
    fields: Fields = {}
    uses: dict[str, list[Use]] = {"": shared}
    rules = dict(parts)
    if beside and not base.empty:
        rules = {base_region: base, **rules}
    else:
        uses[""] = [*shared, *apart, *_extra_rewrites(base, 1)]
        fields |= _service(base)
    paths: dict[str, Any] = {}
    for region, part in rules.items():
        left_over = None if beside else base
        rule, more = _rule(region, part, left_over, shared, auth)
        listed = paths.setdefault(region.key, [])
        listed.append(rule)
        uses[f"{region.key} {len(listed) - 1}"] = more
    if paths:
        fields["paths"] = {key: rules[0] if len(rules) == 1 else rules for key, rules in sorted(paths.items())}
    if not answering:
        fields["maintenance"] = True
    return Made(host, fields, uses, auth, numbers)


def _only_a_bare_prefix(region: Region, part: Part, parts: dict[Region, Part], routes: Node) -> bool:
    """/api where only /api/* is served: nobody misses the empty 200 there."""
    below = any(other.path == f"{region.path}/*" for other in parts)
    if part.empty and below:
        what = f"{region.path} itself got Caddy's empty 200; now it is served like what is below it"
        routes.items()[0].tell("differs", what, "nothing", part.host)
    return part.empty and below


def _one_login(part: Part, auth: Fields | None, routes: Node) -> None:
    if part.auth is not None and part.auth != auth:
        part.closed = True
        what = "a route has one auth_policy; paths behind another login get 503 (maintenance)"
        routes.items()[0].tell("closed", what, "make it a host of its own", part.host)


def _has(part: Part, use: Use) -> bool:
    return _in(use, part.uses)


def _in(use: Use, uses: list[Use]) -> bool:
    return any((use.type, use.config) == (other.type, other.config) for other in uses)


def _service(part: Part) -> Fields:
    """What is written of a route or path, but for its middleware."""
    fields = {**part.answer, **({"maintenance": True} if part.closed else {})}
    if part.request and "redirect" not in fields:
        fields["headers"] = {"request": headers_of(part)}
    if part.rewrites and "redirect" not in fields:
        fields["rewrite"] = part.rewrites[-1]
    if part.max_body:
        fields["max_body"] = part.max_body
    return fields


def _extra_rewrites(part: Part, kept: int) -> list[Use]:
    """All rewrites but the last: as middleware, which comes first."""
    return [Use("rewrite", config) for config in part.rewrites[:-kept]]


def _rule(
    region: Region, part: Part, base: Part | None, shared: list[Use], auth: Fields | None
) -> tuple[Fields, list[Use]]:
    rewrites = list(part.rewrites)
    strip = bool(rewrites) and rewrites[0] == {"strip_prefix": region.path.removesuffix("/*")}
    if strip and len(rewrites) <= 2:
        part.rewrites = rewrites[1:]
    more = [*(use for use in part.uses if not _in(use, shared)), *_extra_rewrites(part, 1)]
    fields = _service(part)
    if strip and len(rewrites) <= 2:
        fields["strip"] = True
    falls_back = base is not None and not (base.rewrites or base.request or base.closed or base.max_body)
    if falls_back and base and part.answer == base.answer and not part.closed and "redirect" not in part.answer:
        fields = {key: value for key, value in fields.items() if key not in part.answer}
    if part.empty:
        fields = {"maintenance": True}
    if region.when:
        fields["when"] = dict(sorted(region.when))
    if auth and part.auth is None and not part.closed:
        fields["public"] = True
    return fields, more
