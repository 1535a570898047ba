"""The handlers that all requests of a region go through, in order, as Caddy would walk its routes."""

from __future__ import annotations

from hecate.importing.guards import Use, guard, refusal
from hecate.importing.ledger import Node
from hecate.importing.matching import ALL, Judge, Region, Terms, host_matches, pillar_path, simple_headers
from hecate.model.fields import HEADER
from hecate.model.routes import METHODS

ANSWERS = {"reverse_proxy", "static_response", "file_server", "error", "metrics", "acme_server", "invoke"}
CLOSED = "closed"  # stands for what cannot be said and must not be left out
Link = Node | Use


def asks_first(handler: Node) -> bool:
    """A proxy that only asks whether a request may pass: what forward_auth becomes."""
    return handler.peek("handler") == "reverse_proxy" and bool(handler.peek("handle_response")) and "rewrite" in handler


def terms_of(routes: Node, host: str) -> Terms:
    """Every path, method and header that the routes of a host tell apart, and Hecate can name."""
    terms = Terms()
    _collect(routes, host, terms, [""])
    headers = sorted((h for h in terms.headers if h), key=sorted)
    if len(headers) > 1:  # two of them could hold at once, which no entry of a pillar can say
        terms.headers = {frozenset(), headers[0]}
    return terms


def _collect(routes: Node, host: str, terms: Terms, before: list[str]) -> None:
    """before: prefixes that may have been stripped when a request comes here."""
    for entry in routes.items():
        objects = entry.at("match").items()
        if objects and not any(_of_host(node, host) for node in objects):
            continue
        if structural_guard(entry, sure=False):
            continue
        for node in objects:
            _note(node, terms, before, refused=refusal(entry.at("handle")) is not None)
        for handler in entry.at("handle").items():
            if handler.peek("handler") == "subroute":
                _collect(handler.at("routes"), host, terms, before)
            stripped = handler.peek("strip_path_prefix")
            if stripped:
                before += [prefix + stripped.lower() for prefix in list(before) if len(before) < 8]


def _of_host(node: Node, host: str) -> bool:
    return "host" not in node or any(host_matches(str(pattern), host) for pattern in node.value["host"])


def _note(node: Node, terms: Terms, before: list[str], *, refused: bool = False) -> None:
    """refused: headers of a refusal are no way for requests to go, and Hecate refuses by none."""
    for pattern in node.peek("path", []):
        path = pillar_path(str(pattern))
        if path is not None:
            terms.paths |= {path, *(prefix + path for prefix in before)}
    methods = node.peek("method", [])
    if all(method in METHODS for method in methods):
        terms.methods |= set(methods)
    wanted = simple_headers(node.at("header")) if "header" in node else None
    if wanted and not refused and all(HEADER.fullmatch(name) for name, _ in wanted):
        terms.headers.add(wanted)
    for inner in node.at("not").items():
        _note(inner, terms, before)


def structural_guard(entry: Node, *, sure: bool) -> Use | bool | None:
    """An entry that refuses by path, agent or address alone, whatever the region. sure: make it; else only look."""
    no = refusal(entry.at("handle"))
    objects = [dict(node.fields()) for node in entry.at("match").items()]
    if no is None or not objects or any("host" in one for one in objects):
        return None
    if not sure:
        scratch = type(entry.ledger)(entry.ledger.root.value)
        return (
            guard([{k: _on(scratch, v) for k, v in one.items()} for one in objects], no, _on(scratch, entry))
            is not None
        )
    return guard(objects, no, entry)


def _on(ledger: object, node: Node) -> Node:
    return Node(node.value, node.path, ledger)  # type: ignore[arg-type]


class Walk:
    """One region's way through the routes. links: what it meets."""

    def __init__(self, judge: Judge, region: Region) -> None:
        self.judge, self.region, self.links = judge, region, list[Link]()

    def run(self, routes: Node) -> bool:
        """Whether something answered."""
        seen: set[str] = set()
        for entry in routes.items():
            group = entry.get("group")
            if group in seen:
                continue
            made = structural_guard(entry, sure=True)
            if isinstance(made, Use):
                self.links.append(made)
                continue
            verdict = self.judge.entry(entry, self.region)
            if verdict.holds is None:
                self._undecided(entry, verdict.left)
            if not verdict.holds:
                continue
            ends = bool(entry.get("terminal"))
            if group:
                seen.add(group)
            if self._handle(entry) or ends:
                return True
        return False

    def _handle(self, entry: Node) -> bool:
        answered = sure = False
        for handler in entry.at("handle").items():
            kind = handler.peek("handler")
            if answered and kind != "subroute" and sure:
                handler.refuse("told", "no request gets here: an answer was given before", "leave it out")
            elif answered:
                continue
            elif kind == "subroute":
                handler.get("handler")
                answered = self.run(handler.at("routes"))
            else:
                self.links.append(handler)
                if kind == "rewrite":
                    self.region = self.region.moved(_moved(self.region.at, handler))
                answered = sure = kind in ANSWERS and not asks_first(handler)
        return answered

    def _undecided(self, entry: Node, left: list[dict[str, Node]]) -> None:
        no = refusal(entry.at("handle"))
        made = guard(left, no, entry) if no else None
        if made:
            self.links.append(made)
            return
        if any(h.at("transport").peek("protocol") == "fastcgi" for h in entry.at("handle").items()):
            what = "upstreams that speak fastcgi are not something Hecate has; its requests get 503 (maintenance)"
            advice = "put a web server in front of the application, route to it; then take maintenance out"
            entry.refuse("closed", what, advice, self.region.host)
            self.links.append(Use(CLOSED, None, (entry,)))
            return
        keys = ", ".join(sorted({key for one in left for key in one}))
        advice = f"Hecate tells requests apart by host, path, method and header, not by this ({keys}); "
        if no and _picks_out(left):
            what = (
                "requests that were refused are served like all others (an answer of the upstream where this was 4xx)"
            )
            entry.refuse("opens", what, advice + _instead(keys), self.region.host)
        elif no or _protects(entry):
            what = "who is refused or has to log in here can't be told apart, so all get 503 (maintenance)"
            entry.refuse("closed", what, advice + _instead(keys) + "; then take maintenance out", self.region.host)
            self.links.append(Use(CLOSED, None, (entry,)))
        else:
            what = "requests that went another way, or were treated apart, are served like all others"
            entry.refuse("left", what, advice + "split it by path or host, or do it in the service", self.region.host)


def _picks_out(left: list[dict[str, Node]]) -> bool:
    """Whether only requests with something particular are refused; else it is all but some, as a lock does."""
    positive = {"header", "header_regexp", "path", "path_regexp", "query", "method"}
    nothing: tuple[object, ...] = (None, [], {})
    return all(
        key in positive and not (key in ("header", "query") and any(v in nothing for v in node.value.values()))
        for one in left
        for key, node in one.items()
    )


def _instead(keys: str) -> str:
    if "header" in keys:
        return "block_scanners refuses by one header (config: {preset: false, headers: [...]}): name the one that tells"
    return "ip_filter, block_scanners and auth_policy are what refuses; or do it in the service"


def _protects(entry: Node) -> bool:
    """Whether somebody has to log in somewhere in there."""
    return any(
        handler.peek("handler") == "authentication"
        or asks_first(handler)
        or any(_protects(inner) for inner in handler.at("routes").items())
        for handler in entry.at("handle").items()
    )


def _moved(at: str | None, handler: Node) -> str | None:
    """The path after a rewrite; None where it cannot be known."""
    strip, uri = handler.peek("strip_path_prefix"), handler.peek("uri")
    if at is None or set(handler.value) - {"handler", "strip_path_prefix", "uri", "method"}:
        return None
    if strip:
        prefix = strip.lower().rstrip("/")
        if at == ALL or not (at == prefix or at.startswith(f"{prefix}/")):
            return at
        return at.removeprefix(prefix) or "/"
    if uri and "{" not in uri:
        return str(uri).lower().partition("?")[0] or at
    if uri and uri.endswith("{http.request.uri}") and uri.count("{") == 1:
        return str(uri).lower().removesuffix("{http.request.uri}") + at
    return at if not uri else None
