"""A chain of handlers -> what pillar says of one route or path."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hecate.importing.chains import CLOSED, Link, asks_first
from hecate.importing.guards import Use
from hecate.importing.ledger import Node
from hecate.importing.proxies import HOST, checked, forward_auth, pool, reason
from hecate.model.middleware import BasicAuth, Encode, HeaderChanges, Redirect, Rewrite

Fields = dict[str, Any]
ORIGINAL = re.compile(r"\{http\.request\.uri\}$")


@dataclass
class Part:
    """What happens to the requests of one region. closed: something that must not be left out could not be said."""

    host: str
    uses: list[Use] = field(default_factory=list)
    request: list[Fields] = field(default_factory=list)
    rewrites: list[Fields] = field(default_factory=list)
    answer: Fields = field(default_factory=dict)
    auth: Fields | None = None
    max_body: int | None = None
    closed: bool = False

    @property
    def empty(self) -> bool:
        """Nothing answers: Caddy's own empty 200."""
        return not self.answer and not self.closed

    def essence(self) -> str:
        """Equal for parts that do the same."""
        uses = [(use.type, use.config) for use in self.uses]
        return json.dumps(
            [uses, self.request, self.rewrites, self.answer, self.auth, self.max_body, self.closed], sort_keys=True
        )


def part_of(links: list[Link], host: str) -> Part:
    part = Part(host)
    for link in links:
        if isinstance(link, Use):
            if link.type == CLOSED:
                part.closed = True
            else:
                part.uses.append(link)
        else:
            READ.get(str(link.peek("handler")), _unknown)(link, part)
    return part


def headers_of(part: Part) -> Fields:
    """All changes to request headers as one; where two speak of one name, the later counts."""
    merged: Fields = {}
    for changes in part.request:
        for kind, what in changes.items():
            merged[kind] = (
                {**merged.get(kind, {}), **what} if isinstance(what, dict) else [*merged.get(kind, []), *what]
            )
    return merged


def _unknown(node: Node, part: Part) -> None:
    kind = node.peek("handler")
    if kind in ("file_server", "templates", "php_fastcgi", "metrics", "acme_server", "invoke", "error"):
        _closed(node, part, f"{kind} is not something Hecate has", "serve it from a small server of its own, and route")
    else:
        advice = "do it in the service, or keep a server of your own beside Hecate's for it"
        node.refuse("left", f"the handler {kind} is not something Hecate has", advice, part.host)


def _closed(node: Node, part: Part, what: str, advice: str) -> None:
    part.closed = True
    node.refuse(
        "closed", f"{what}; its requests get 503 (maintenance)", f"{advice} there; then take maintenance out", part.host
    )


def _headers(node: Node, part: Part) -> None:
    node.get("handler")
    request, response = node.at("request"), node.at("response")
    if changes := _changes(request):
        part.request.append(changes)
    deferred = bool(response.get("deferred"))
    if changes := _changes(response):
        if not deferred:
            what = "set before the upstream answers, so that it stood twice where the upstream sends it too; Hecate "
            what += "sets it afterwards, once"
            response.tell("differs", what, "nothing")
        part.uses.append(Use("headers", {"response": changes}, (node,)))


def _changes(node: Node) -> Fields:
    """set, add and remove; `replace` and `require` stay behind and are told of."""
    found: Fields = {}
    for key in ("set", "add"):
        many = {name for name, values in node.peek(key, {}).items() if len(values) != 1}
        one = {name: node.at(key).get(name)[0] for name in node.peek(key, {}) if name not in many}
        if one:
            found[key] = one
        for name in many:
            node.at(key, name).refuse("left", "several values of one header", "set them as one, joined by commas")
    if node.peek("delete"):
        found["remove"] = node.get("delete")
    for key in ("replace", "require"):
        if key in node:
            node.at(key).refuse("left", f"`{key}` of headers is not something Hecate has", "do it in the service")
    return checked(node, HeaderChanges, found)


def _encode(node: Node, part: Part) -> None:
    names = list(node.peek("prefer") or node.peek("encodings") or {})
    found: Fields = {"encodings": [name for name in names if name in node.peek("encodings", {})]}
    if "minimum_length" in node:
        found["minimum_length"] = node.peek("minimum_length")
    if any(node.peek("encodings", {}).values()):
        node.at("encodings").tell("left", "levels of compression are Caddy's own defaults", "nothing", part.host)
    if checked(node, Encode, found):
        for key in ("handler", "encodings", "prefer", "minimum_length"):
            node.get(key)
        config = None if found == {"encodings": ["zstd", "gzip"]} else found
        part.uses.append(Use("encode", config, (node,)))


def _authentication(node: Node, part: Part) -> None:
    basic = node.at("providers", "http_basic")
    found: Fields = {
        "accounts": {a.peek("username"): a.peek("password") for a in basic.at("accounts").items()},
        "hide": False,
    }
    if basic.peek("realm"):
        found["realm"] = basic.peek("realm")
    try:
        BasicAuth.model_validate(found)
    except ValidationError as err:
        _closed(node, part, f"this login can't be had: {reason(err)}", "use basic_auth with hashes or an auth_policy")
        return
    if len(node.peek("providers")) > 1:
        _closed(node, part, "several ways to log in at once", "choose basic_auth or an auth_policy")
        return
    node.get("handler")
    for key in ("accounts", "realm", "hash_cache"):
        basic.get(key)
    if basic.at("hash").peek("algorithm") in ("bcrypt", "argon2id"):
        basic.at("hash").get("algorithm")
    part.uses.append(Use("basic_auth", found, (node,)))


def _request_body(node: Node, part: Part) -> None:
    node.get("handler")
    if node.peek("max_size"):
        part.max_body = int(node.get("max_size"))


def _rewrite(node: Node, part: Part) -> None:
    found: Fields = {}
    if "strip_path_prefix" in node:
        found = {"strip_prefix": "/" + str(node.peek("strip_path_prefix")).lstrip("/")}
    elif "uri" in node:
        uri = str(node.peek("uri"))
        front = ORIGINAL.sub("", uri)
        found = {"add_prefix": front} if front != uri and "{" not in front else {"uri": uri}
    elif len(node.peek("path_regexp") or []) == 1:
        one = node.at("path_regexp").items()[0]
        found = {"regexp": one.peek("find"), "replace": one.peek("replace", "")}
    try:
        Rewrite.model_validate(found)
    except ValidationError as err:
        why = f"this rewrite can't be said ({reason(err)}), and the upstream would see the wrong path"
        _closed(node, part, why, "write it as one of strip_prefix, add_prefix, uri, regexp")
        return
    node.get("handler")
    for key in ("strip_path_prefix", "uri", "path_regexp"):
        node.get(key)
    if set(node.value) - {"handler", "strip_path_prefix", "uri", "path_regexp"}:
        _closed(node, part, "more than one rewrite at once", "keep one of them, do the others in the service")
        return
    part.rewrites.append(found)


def _proxy(node: Node, part: Part) -> None:
    if asks_first(node):
        _ask(node, part)
        return
    if node.at("transport").peek("protocol", "http") != "http":
        kind = node.at("transport").peek("protocol")
        _closed(node, part, f"upstreams that speak {kind}", "put a web server in front of the application, route")
        return
    if "rewrite" in node:
        node.at("rewrite").refuse("left", "a rewrite of the proxy itself", "use rewrite of the route", part.host)
    if "handle_response" in node:
        why = "answers of the upstream are passed on as they are"
        node.at("handle_response").refuse("left", why, "error_pages with upstream: true replaces its errors", part.host)
    found = pool(node)
    if found is None:
        _closed(node, part, "no address here that Hecate can dial", "write the upstreams by hand")
        return
    part.answer = found
    request, response = node.at("headers", "request"), node.at("headers", "response")
    if changes := _changes(request):
        part.request.append(changes)
    if changes := _changes(response):
        part.uses.append(Use("headers", {"response": changes}, (node.at("headers", "response"),)))
        response.tell("differs", "was done to answers of the upstream alone; now to every answer", "nothing", part.host)
    schemes = {str(u if isinstance(u, str) else u["dial"]).partition("://")[0] for u in found.get("upstreams", [])}
    if "https" in schemes or ("discover" in found and "upstream_tls" in found):
        names = {name.lower() for changes in part.request for kind in ("set", "add") for name in changes.get(kind, {})}
        if "host" not in names:
            part.request.append({"set": {"Host": HOST}})
            what = "an https upstream gets its own address as Host, as it did"
            node.tell(
                "told", what, "drop headers:request:Host where the service should see the route's host", part.host
            )


def _ask(node: Node, part: Part) -> None:
    found = forward_auth(node)
    if found is None:
        why = "asks somebody whether a request may pass, in a way that hecate:forward_auth can't say"
        _closed(node, part, why, "write a provider under hecate:forward_auth and an auth_policy")
    elif part.auth is not None:
        _closed(node, part, "a second login behind the first", "keep one auth_policy")
    else:
        part.auth = found


def _static(node: Node, part: Part) -> None:
    headers = node.peek("headers") or {}
    status = str(node.peek("status_code", 200))
    location = headers.get("Location")
    if location and set(headers) == {"Location"} and status.isdigit() and not node.peek("body"):
        found = {"to": _target(location[0]), "status": int(status)}
        if found["to"] != location[0]:
            node.tell("told", f"the target {location[0]} is written as {found['to']}", "nothing", part.host)
        try:
            Redirect.model_validate(found)
        except ValidationError as err:
            _closed(node, part, f"this redirect can't be said: {reason(err)}", "write its target out")
            return
        for key in ("handler", "headers", "status_code"):
            node.get(key)
        part.answer = {"redirect": found}
        return
    does = "closes the connection" if node.peek("abort") else f"answers {status} by itself"
    _closed(node, part, f"Caddy {does} here, which Hecate has no key for", "answer from the service, and route to it")


def _target(text: str) -> str:
    return re.sub(r"^\{http\.request\.scheme\}://", "https://", text)


READ = {
    "headers": _headers,
    "encode": _encode,
    "authentication": _authentication,
    "request_body": _request_body,
    "rewrite": _rewrite,
    "reverse_proxy": _proxy,
    "static_response": _static,
}
