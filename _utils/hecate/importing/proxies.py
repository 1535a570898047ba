"""reverse_proxy -> upstreams and what belongs to them; forward_auth -> a provider and a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from hecate.importing.ledger import Node
from hecate.model.identity import ForwardAuth
from hecate.model.upstreams import Balance, Discovery, HealthCheck, Timeouts, Upstream, UpstreamTls

POLICIES = {
    "round_robin": "round_robin",
    "weighted_round_robin": "weighted",
    "random": "random",
    "least_conn": "least_conn",
    "first": "first",
    "ip_hash": "ip_hash",
    "client_ip_hash": "client_ip_hash",
    "uri_hash": "uri_hash",
    "header": "header",
    "cookie": "cookie",
}
UNITS = (("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6))
HOST = "{http.reverse_proxy.upstream.hostport}"


def duration(value: int | str) -> str:
    """Nanoseconds, or Caddy's own text, as pillar writes it."""
    if isinstance(value, str):
        return value
    unit, size = next(((unit, size) for unit, size in UNITS if value % size == 0), ("ms", 10**6))
    return f"{max(1, value // size)}{unit}"


def taken(node: Node, table: dict[str, str], convert: Callable[[Any], Any] = lambda v: v) -> dict[str, Any]:
    """The fields of a node under their names in pillar."""
    return {name: convert(node.get(key)) for key, name in table.items() if key in node}


def checked(node: Node, model: type[BaseModel], found: dict[str, Any]) -> dict[str, Any]:
    """What the model accepts; else nothing, and the place is told with the model's reason."""
    if not found:
        return {}
    try:
        model.model_validate(found)
    except ValidationError as err:
        node.refuse("left", f"Hecate would refuse it: {reason(err)}", "set it by hand, as the pillar reference has it")
        return {}
    return found


def reason(err: ValidationError) -> str:
    first = err.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def pool(handler: Node) -> dict[str, Any] | None:
    """The fields of a pillar's pool; None when no address is left."""
    transport = handler.at("transport")
    if transport.peek("protocol", "http") != "http":
        return None
    handler.get("handler")
    transport.get("protocol")
    scheme = _scheme(transport)
    found: dict[str, Any] = {}
    weights = _weights(handler)
    upstreams = _distinct(
        handler,
        [
            made
            for index, node in enumerate(handler.at("upstreams").items())
            if (made := _upstream(node, scheme, weights[index] if index < len(weights) else 1)) is not None
        ],
    )
    if upstreams:
        found["upstreams"] = upstreams
    elif discovery := _discovery(handler.at("dynamic_upstreams")):
        found["discover"] = discovery
    else:
        return None
    put = {
        "balance": _balance(handler.at("load_balancing"), bool(weights)),
        "health_check": _checks(handler.at("health_checks")),
        "upstream_tls": _tls(transport.at("tls")) if scheme == "https" else {},
        "timeouts": _timeouts(transport),
    }
    found |= {key: value for key, value in put.items() if value}
    if found.get("upstream_tls") == {"skip_verify": True} and upstreams:
        del found["upstream_tls"]
        found["tls_skip_verify"] = True
    for key in ("stream_close_delay", "flush_interval"):
        if key in handler:
            what = "streams outlive reloads for hecate:caddy:websocket_grace, and Caddy flushes event streams by itself"
            handler.at(key).refuse("told", what, "nothing; or set hecate:caddy:websocket_grace")
    return found


def _scheme(transport: Node) -> str:
    if "tls" in transport:
        return "https"
    if transport.peek("versions") in (["h2c", "2"], ["h2c"]):
        transport.get("versions")
        return "h2c"
    return "http"


def _upstream(node: Node, scheme: str, weight: int) -> Any:
    dial = str(node.peek("dial", ""))
    made: dict[str, Any] = {"dial": f"{scheme}://{dial}" if scheme != "http" else dial}
    if "max_requests" in node:
        made["max_requests"] = node.peek("max_requests")
    if weight != 1:
        made["weight"] = weight
    if not checked(node, Upstream, made):
        return None
    node.take()
    return made if len(made) > 1 else made["dial"]


def _distinct(handler: Node, upstreams: list[Any]) -> list[Any]:
    """Each address once: Hecate has weights for what is to get more."""
    found = [made for number, made in enumerate(upstreams) if made not in upstreams[:number]]
    if len(found) < len(upstreams):
        handler.at("upstreams").tell("differs", "one address several times; now each once", "give it a weight")
    return found


def _weights(handler: Node) -> list[int]:
    policy = handler.at("load_balancing", "selection_policy")
    return list(policy.get("weights")) if policy.peek("policy") == "weighted_round_robin" else []


def _discovery(node: Node) -> dict[str, Any]:
    found = taken(node, {"refresh": "refresh"}, duration)
    source = node.peek("source")
    if source == "srv":
        parts = [node.get(key) for key in ("service", "proto") if key in node]
        found["srv"] = ".".join([*(f"_{part}" for part in parts), str(node.get("name", ""))])
    elif source == "a":
        found["a"], found["port"] = node.get("name"), int(node.get("port", 0))
    else:
        return {}
    node.get("source")
    addresses = node.at("resolver").peek("addresses") or []
    if len(addresses) == 1:
        found["resolver"] = node.get("resolver")["addresses"][0]
    return checked(node, Discovery, found)


def _balance(node: Node, weighted: bool) -> dict[str, Any]:
    policy = node.at("selection_policy")
    name = policy.peek("policy")
    found: dict[str, Any] = taken(node, {"retries": "retries"})
    found |= taken(node, {"try_duration": "try_duration", "try_interval": "try_interval"}, duration)
    if name in POLICIES:
        policy.get("policy")
        found["policy"] = POLICIES[name]
    elif name is None and found:
        found["policy"] = "random"  # Caddy's own choice; Hecate's would be round_robin
    if name == "header":
        found["header"] = policy.get("field")
    elif name == "cookie":
        found |= taken(policy, {"name": "cookie"}) | taken(policy, {"max_age": "max_age"}, duration)
    if "fallback" in policy and policy.peek("fallback") == {"policy": "random"}:
        policy.get("fallback")
    return checked(node, Balance, found) if not weighted or len(found) > 1 else {}


def _checks(node: Node) -> dict[str, Any]:
    active, passive = node.at("active"), node.at("passive")
    found = taken(
        active,
        {"port": "port", "method": "method", "passes": "passes", "fails": "fails", "expect_status": "expect_status"},
    )
    if active.peek("uri", "").partition("?")[0] == active.peek("uri", ""):
        found |= taken(active, {"uri": "path"})
    found |= taken(active, {"expect_body": "expect_body"})
    found |= taken(active, {"interval": "interval", "timeout": "timeout"}, duration)
    if "headers" in active and all(len(values) == 1 for values in active.peek("headers").values()):
        found["headers"] = {name: values[0] for name, values in active.get("headers").items()}
    found |= taken(passive, {"max_fails": "max_fails", "unhealthy_request_count": "unhealthy_request_count"})
    found |= taken(passive, {"unhealthy_status": "unhealthy_status"})
    found |= taken(passive, {"fail_duration": "fail_duration", "unhealthy_latency": "unhealthy_latency"}, duration)
    return checked(node, HealthCheck, found)


def _tls(node: Node) -> dict[str, Any]:
    table = {
        "client_certificate_file": "certificate",
        "client_certificate_key_file": "key",
        "server_name": "server_name",
        "insecure_skip_verify": "skip_verify",
    }
    found = taken(node, table)
    ca = node.at("ca")
    if ca.peek("provider") == "file" and len(ca.peek("pem_files") or []) == 1:
        found["ca"] = ca.get("pem_files")[0]
        ca.get("provider")
    elif len(node.peek("root_ca_pem_files") or []) == 1:
        found["ca"] = node.get("root_ca_pem_files")[0]
    if node.value == {}:
        node.take()
    return checked(node, UpstreamTls, found)


def _timeouts(transport: Node) -> dict[str, Any]:
    table = {
        "dial_timeout": "dial",
        "response_header_timeout": "response",
        "read_timeout": "read",
        "write_timeout": "write",
    }
    found = taken(transport, table, duration)
    alive = transport.at("keep_alive")
    if "idle_timeout" in alive:
        found["idle"] = duration(alive.get("idle_timeout"))
    return checked(transport, Timeouts, found)


USERS = ("remote-user", "x-authentik-username", "x-auth-request-user", "x-forwarded-user", "x-webauth-user")


ASKS = {"X-Forwarded-Method": ["{http.request.method}"], "X-Forwarded-Uri": ["{http.request.uri}"]}


def _copied(routes: list[Node]) -> list[str] | None:
    """The headers that the directive copies from the answer; None when anything else happens to it."""
    found: list[str] = []
    for entry in routes:
        changes = entry.at("handle").items()[0].at("request") if entry.peek("handle") else entry
        for name in changes.peek("set") or {}:
            value = f"{{http.reverse_proxy.header.{name}}}"
            copy = {"handle": [{"handler": "headers", "request": {"set": {name: [value]}}}]}
            if entry.value not in (copy, {**copy, "match": [{"not": [{"vars": {value: [""]}}]}]}):
                return None
            found.append(name)
        gone = {"handle": [{"handler": "headers", "request": {"delete": changes.peek("delete")}}]}
        if "set" not in changes and entry.value not in ({"handle": [{"handler": "vars"}]}, gone):
            return None
    return found if {d for e in routes for d in _deleted(e)} <= set(found) else None


def _deleted(entry: Node) -> list[str]:
    return [name for step in entry.at("handle").items() for name in step.at("request").peek("delete") or []]


def forward_auth(handler: Node) -> dict[str, Any] | None:
    """A provider for hecate:forward_auth, when the handler is what the directive of that name becomes."""
    upstreams = handler.at("upstreams").items()
    answers = handler.at("handle_response").items()
    ask = handler.at("rewrite")
    plain = "transport" not in handler and len(upstreams) == 1 and len(answers) == 1
    if not plain or ask.peek("method") != "GET" or answers[0].peek("match") != {"status_code": [2]}:
        return None
    copied = _copied(answers[0].at("routes").items())
    if copied is None:
        return None
    user = next((n for n in copied if n.lower() in USERS), None)
    user = user or next((n for n in copied if "user" in n.lower()), None)
    if user is None:
        return None
    found: dict[str, Any] = {"address": upstreams[0].peek("dial"), "uri": ask.peek("uri"), "user_header": user}
    others = [name for name in copied if name != user]
    if others:
        found["headers"] = others
    if "outpost.goauthentik.io" in str(found["uri"]):
        found |= {"passage": ["/outpost.goauthentik.io/*"], "cookies": ["authentik_proxy_"]}
    if not checked(handler, ForwardAuth, found):
        return None
    for key in ("handler", "upstreams", "rewrite", "handle_response"):
        handler.get(key)
    if handler.peek("headers") == {"request": {"set": ASKS}}:
        handler.get("headers")
    what = (
        f"any 2xx let a request pass; Hecate wants one that names a user in {user} too, and deletes what clients send"
    )
    handler.tell("differs", what, f"set user_header if the provider names users elsewhere than in {user}")
    return found
