"""Refusals: `respond @some 404`, `abort @some` -> ip_filter and block_scanners, where Hecate has what is meant.

A guard stands before everything else in Hecate, and looks at nothing but path, user agent or address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hecate.importing.ledger import Node
from hecate.model.fields import path_pattern

AGENT = "User-Agent"
ADDRESSES = ("remote_ip", "client_ip")
PRIVATE = "headers can't be asked for in a refusal; keep the check in the service, or in a server of your own beside it"


@dataclass(frozen=True)
class Use:
    """One use of middleware, with the places that it was made from."""

    type: str
    config: Any
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """status: 0 when the connection is closed without an answer."""

    node: Node
    status: int
    plain: bool


def refusal(handle: Node) -> Refusal | None:
    """The handlers of an entry, when all that they do is to say no."""
    first = next(iter(handle.items()), None)
    if first is None or first.peek("handler") not in ("static_response", "subroute"):
        return None
    if first.peek("handler") == "subroute":
        routes = first.at("routes").items()
        alone = len(routes) == 1 and not routes[0].peek("match") and len(first.value) == 2
        return refusal(routes[0].at("handle")) if alone else None
    said = str(first.peek("status_code", 200))
    status = 0 if first.peek("abort") else int(said) if said.isdigit() else 200
    if not (status == 0 or 400 <= status < 500) or status == 401:
        return None
    return Refusal(first, status, not {"body", "headers"} & set(first.value))


def guard(objects: list[dict[str, Node]], no: Refusal, entry: Node) -> Use | None:
    """What Hecate has for refusing these alternatives; None: nothing."""
    keys = {key for one in objects for key in one}
    if not keys:
        return None
    if keys <= {*ADDRESSES, "not"} and len(objects) == 1 and len(objects[0]) == 1:
        return _by_address(objects[0], no, entry)
    if not all(_scanner(one) for one in objects):
        return None
    both = [one for one in objects if len(one) > 1]
    if both:
        return _contradicting(objects, both[0], no, entry)
    return _listed(objects, no, entry)


def _by_address(one: dict[str, Node], no: Refusal, entry: Node) -> Use | None:
    (key, node), allow = next(iter(one.items())), False
    if key == "not":
        inner = node.items()
        if len(inner) != 1 or len(inner[0].value) != 1 or next(iter(inner[0].value)) not in ADDRESSES:
            return None
        key, allow = next(iter(inner[0].value)), True
        node = inner[0].at(key)
    ranges = node.get("ranges") or []
    if key == "remote_ip":
        what = "goes by the TCP peer; Hecate's ip_filter by the client's address behind hecate:caddy:trusted_proxies"
        node.tell("differs", what, "nothing, unless a proxy stands in front: then list it under trusted_proxies")
    _answered(no, "ip_filter refuses with 403 and a line of text", 403)
    _use(entry, no)
    config: dict[str, Any] = {"allow" if allow else "deny": list(ranges)}
    if no.status not in (0, 403):
        config["status"] = no.status
    return Use("ip_filter", config, (entry,))


def _scanner(one: dict[str, Node]) -> bool:
    """Whether these conditions are of the kinds that block_scanners has."""
    for key, node in one.items():
        if key == "header" and len(one) == 1 and list(node.value.values()) == [["*"]]:
            continue
        if key in ("header", "header_regexp") and set(node.value) != {AGENT}:
            return False
        if key not in ("path", "path_regexp", "header", "header_regexp"):
            return False
    return True


def _listed(objects: list[dict[str, Node]], no: Refusal, entry: Node) -> Use | None:
    """Paths and agents just as they stand."""
    paths: list[str] = []
    agents: list[str] = []
    headers: list[str] = []
    for one in objects:
        (key, node) = next(iter(one.items()))
        if key == "path":
            paths += [str(path) for path in node.value]
        elif key == "header_regexp":
            agents.append(node.at(AGENT).peek("pattern"))
        elif key == "header" and set(node.value) != {AGENT}:
            headers += list(node.value)
        elif key == "header" and node.value[AGENT]:
            agents += [_as_regexp(text) for text in node.value[AGENT]]
        else:
            return None
    if not all(_is_path(path) for path in paths):
        return None
    for one in objects:
        wide = one.get("header_regexp")
        if wide and re.search(r"bot|crawler|spider", str(wide.value)):
            what = "a search engine's crawler fits this pattern too, and is refused as it was"
            wide.tell("told", what, "use the built-in block-scanners alone if search engines should find the site")
    _answered(no, "block_scanners answers 404 without a body, before any header is set", 404)
    _use(entry, no)
    config: dict[str, Any] = {"preset": False}
    if paths:
        config["paths"] = paths
    if agents:
        config["agents"] = agents
    if headers:
        config["headers"] = headers
    if no.status in (0, 444):
        config["answer"] = "close"
    return Use("block_scanners", config, (entry,))


def _contradicting(objects: list[dict[str, Node]], one: dict[str, Node], no: Refusal, entry: Node) -> Use:
    """Conditions that were meant as `or` and are `and`: `path` with `path_regexp`, `header` with `header_regexp`."""
    kinds = " and ".join(sorted(one))
    fits = "can never match as written" if _never(one) else "matches as written only what fits all of them at once"
    what = (
        f"{kinds} in one matcher must all hold, so it {fits}. Hecate's block-scanners, used instead, does what was "
        "meant: what only scanners ask for is refused. That is more than was refused until now, and of what was, only "
        "what the preset has; it spares /admin, /tmp and such, which real applications have, and search engines"
    )
    listed = [str(path) for o in objects for path in (o["path"].value if "path" in o else []) if _is_path(str(path))]
    more = (
        f"to refuse all of the listed paths: {{type: block_scanners, config: {{paths: [{', '.join(listed)}]}}}}"
        if listed
        else "add further agents with {type: block_scanners, config: {agents: [...]}}"
    )
    advice = f"look whether an application has one of the preset's paths (except_paths); {more}"
    _use(entry, no)
    entry.refuse("differs", what, advice)
    if no.status in (0, 444):
        no.node.tell("differs", _said(no) + "; block-scanners answers 404", "answer: close ends the connection instead")
    return Use("block_scanners", None, (entry,))


def _never(one: dict[str, Node]) -> bool:
    """Whether no request at all can fit: every exact value of the one fails the other's pattern."""
    if set(one) == {"path", "path_regexp"}:
        exact, pattern = [str(path) for path in one["path"].value], one["path_regexp"].peek("pattern")
    elif set(one) == {"header", "header_regexp"}:
        exact, pattern = one["header"].value[AGENT] or ["*"], one["header_regexp"].at(AGENT).peek("pattern")
    else:
        return False
    try:
        return not any("*" in text or re.search(pattern, text) for text in exact)
    except re.error:
        return False


def _said(no: Refusal) -> str:
    if no.status == 0:
        return "the connection was closed"
    return f"{no.status} was sent as a status" + (", the connection stayed open" if no.status == 444 else "")


def _answered(no: Refusal, instead: str, same: int) -> None:
    """Tell where Hecate's refusal looks different."""
    if no.status in (0, 444) and same == 404:
        if no.status == 444:
            no.node.tell("differs", f"{_said(no)}; Hecate closes it", "answer: 404 answers instead")
    elif no.status != same or not no.plain or same == 403:
        own = "" if no.plain else " with an answer of its own"
        no.node.tell("differs", f"{_said(no)}{own}; {instead}", "nothing")


def _use(entry: Node, no: Refusal) -> None:
    for key in ("match", "group", "terminal"):
        entry.get(key)
    entry.at("handle").take()


def _is_path(path: str) -> bool:
    try:
        path_pattern(path)
    except ValueError:
        return False
    return True


def _as_regexp(text: str) -> str:
    """Caddy's header value, where a star at either end stands for anything."""
    start, end = ("" if text.startswith("*") else "^"), ("" if text.endswith("*") else "$")
    return start + re.escape(text.strip("*")).replace("\\ ", " ").replace("\\-", "-").replace("/", "/") + end
