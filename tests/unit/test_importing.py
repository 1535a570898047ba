"""What an import must never do: open a door, lose a word, or make a pillar that the model refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hecate import model
from hecate.importing import Imported, import_config
from hecate.importing.report import folded
from hecate.importing.source import Source

PROXY = {"handler": "reverse_proxy", "upstreams": [{"dial": "10.0.0.1:80"}]}
NO = {"handler": "static_response", "status_code": 403}
BASIC = {
    "handler": "authentication",
    "providers": {"http_basic": {"accounts": [{"username": "bob", "password": "$2a$04$" + "a" * 53}]}},
}


def asking(*routes: dict[str, Any], uri: str = "/verify", dial: str = "auth.test:9000") -> dict[str, Any]:
    """forward_auth, whose answer is handled by `routes`."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": dial}],
        "rewrite": {"method": "GET", "uri": uri},
        "handle_response": [{"match": {"status_code": [2]}, "routes": [{"handle": [{"handler": "vars"}]}, *routes]}],
    }


def copying(name: str, source: str = "") -> dict[str, Any]:
    value = f"{{http.reverse_proxy.header.{source or name}}}"
    return {"handle": [{"handler": "headers", "request": {"set": {name: [value]}}}]}


def config(*entries: dict[str, Any], **server: Any) -> dict[str, Any]:
    route = {"match": [{"host": ["a.test"]}], "handle": [{"handler": "subroute", "routes": list(entries)}]}
    return {"apps": {"http": {"servers": {"srv0": {"listen": [":443"], "routes": [route], **server}}}}}


def made_of(*entries: dict[str, Any], **server: Any) -> Imported:
    made = import_config(config(*entries, **server))
    model.parse(made.pillar)
    return made


def route_of(*entries: dict[str, Any], **server: Any) -> dict[str, Any]:
    found: dict[str, Any] = made_of(*entries, **server).pillar["hecate"]["routes"]["a.test"]
    return found


def when(matcher: dict[str, Any], *handlers: dict[str, Any]) -> dict[str, Any]:
    return {"match": [matcher], "handle": list(handlers)}


LOCKS = {
    "all without a header": when({"header": {"X-Key": None}}, NO),
    "by expression": when({"expression": "!{http.request.header.X-Key}.startsWith('s')"}, NO),
    "all but some addresses and a query": when({"not": [{"client_ip": {"ranges": ["10.0.0.0/8"]}, "query": {}}]}, NO),
    "a login by query": when({"query": {"a": ["1"]}}, BASIC),
    "a login further in": when({"query": {"a": ["1"]}}, {"handler": "subroute", "routes": [{"handle": [BASIC]}]}),
    "a hash that isn't one": {
        "handle": [
            {
                "handler": "authentication",
                "providers": {"http_basic": {"accounts": [{"username": "b", "password": "x"}]}},
            }
        ]
    },
    "a login of another kind": {"handle": [{"handler": "authentication", "providers": {"jwt": {}}}]},
    "two logins at once": {
        "handle": [{**BASIC, "providers": {**BASIC["providers"], "jwt": {}}}]  # type: ignore[dict-item]
    },
    "a provider that names no user": {"handle": [asking()]},
    "a provider whose header is renamed": {"handle": [asking(copying("X-Other-User", "Remote-User"))]},
    "a provider whose answer is used otherwise": {
        "handle": [asking(copying("Remote-User"), {"match": [{"path": ["/x"]}], "handle": [NO]})]
    },
    "a provider over TLS": {
        "handle": [{**asking(copying("Remote-User")), "transport": {"protocol": "http", "tls": {}}}]
    },
    "a second provider behind the first": {
        "handle": [asking(copying("Remote-User")), asking(copying("Remote-User"), dial="other.test:9000")]
    },
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_that_cannot_be_said_closes_the_route(lock: dict[str, Any]) -> None:
    made = made_of(lock, {"handle": [PROXY]})
    assert model.parse(made.pillar).routes["a.test"].maintenance is True
    assert any(entry.kind == "closed" for entry in made.entries)


def test_a_key_in_a_header_still_opens_and_nothing_else_does() -> None:
    lock = when({"not": [{"header": {"X-Key": ["k"]}}]}, NO)
    rules = route_of(lock, {"handle": [PROXY]})["paths"]["/*"]
    assert [rule for rule in rules if not rule.get("maintenance")] == [
        {"upstreams": ["10.0.0.1:80"], "when": {"X-Key": "k"}}
    ]
    assert len(rules) == 2


def test_client_certificates_of_any_authority_are_not_imported_as_none() -> None:
    asked = [{"match": {"sni": ["a.test"]}, "client_authentication": {"mode": "require"}}, {}]
    assert route_of({"handle": [PROXY]}, tls_connection_policies=asked)["maintenance"] is True


def test_a_login_for_one_path_leaves_the_others_public() -> None:
    gate = {"group": "g", **when({"path": ["/admin/*"]}, asking(copying("Remote-User")), PROXY)}
    route = model.parse(made_of(gate, {"group": "g", "handle": [PROXY]}).pillar).routes["a.test"]
    assert route.auth_policy
    public = {key: rule.public for key, rule in route.paths.items()}  # type: ignore[union-attr]
    assert public == {"/*": True, "/admin": True, "/admin/*": False}


def test_a_login_stands_before_every_path_that_comes_after_it() -> None:
    ways = [when({"path": ["/x/*"]}, {**PROXY, "upstreams": [{"dial": "10.0.0.2:80"}]}), {"handle": [PROXY]}]
    route = model.parse(made_of({"handle": [asking(copying("Remote-User"))]}, *ways).pillar).routes["a.test"]
    assert route.auth_policy and not any(rule.public for rule in route.rules())


def test_what_comes_before_a_login_stays_public() -> None:
    open_way = when({"path": ["/hook"]}, PROXY)
    route = model.parse(made_of(open_way, {"handle": [asking(copying("Remote-User")), PROXY]}).pillar).routes["a.test"]
    assert route.auth_policy and route.paths["/hook"].public  # type: ignore[union-attr]


def test_a_refusal_by_several_headers_is_told_first() -> None:
    made = made_of(when({"header": {"A": ["*"], "B": ["*"]}}, NO), {"handle": [PROXY]})
    assert made.entries[0].kind == "opens" and made.report.index("NOT PROTECTED ANY MORE") < 100


def test_conditions_that_contradict_each_other_are_called_so() -> None:
    never = when({"path": ["/.env"], "path_regexp": {"pattern": r"\.sql$"}}, NO)
    seldom = when({"path": ["/b/*"], "path_regexp": {"pattern": r"\.sql$"}}, NO)
    assert "can never match as written" in made_of(never, {"handle": [PROXY]}).report
    report = made_of(seldom, {"handle": [PROXY]}).report
    assert "can never match" not in report and "only what fits all of them at once" in report


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("localhost", "localhost is no host of a route"),
        ("10.0.0.1", "10.0.0.1 is no host of a route"),
        ("pre-*.a.test", "pre-*.a.test is no host of a route"),
        ("{env.SITE}", "{env.site} is no host of a route"),
    ],
)
def test_hosts_that_no_route_can_have_are_told(host: str, words: str) -> None:
    made = import_config(json.loads(json.dumps(config({"handle": [PROXY]})).replace("a.test", host)))
    model.parse(made.pillar)
    assert words in made.report and "dial = 10.0.0.1:80" in made.report


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"apps": {}},
        {"apps": {"http": {}}},
        {"apps": {"layer4": {"servers": {"s": {"listen": [":5432"]}}}}},
        config(),
        config({}),
        config({"handle": []}),
        config({"handle": [{"handler": "made_up", "a": [{}, []]}]}),
        config({"handle": [{"handler": "rewrite"}, PROXY]}),
        config({"handle": [{"handler": "reverse_proxy"}]}),
        config({"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "{http.vars.up}"}]}]}),
        config({"handle": [{**PROXY, "load_balancing": {"selection_policy": {"policy": "header"}}}]}),
        config({"match": [{"path": ["/a*b", "*.php", "x"]}], "handle": [PROXY]}),
        config({"handle": [{"handler": "static_response", "headers": {"Location": ["//x"]}, "status_code": 301}]}),
        config({"handle": [PROXY]}, trusted_proxies={"source": "static", "ranges": ["nonsense"]}),
    ],
)
def test_odd_configurations_make_a_pillar_that_parses_and_a_word_for_each_leaf(odd: dict[str, Any]) -> None:
    made = import_config(odd)
    if made.pillar["hecate"]:
        model.parse(made.pillar)
    for told in ("layer4", "made_up", "nonsense", "{http.vars.up}", "*.php"):
        assert (told in json.dumps(odd)) <= (told in made.report)


def test_what_may_be_secret_is_not_in_the_report() -> None:
    hidden = {"apps": {"tls": {"certificates": {"load_pem": [{"certificate": "c", "key": "-----PRIVATE"}]}}}}
    hidden["apps"]["dynamic"] = {"api_token": "t0ken-value", "provider": {"secret_key": "s3cret-value"}}  # type: ignore[dict-item]
    report = import_config(hidden).report
    assert "(hidden)" in report and "api_token" in report
    assert not any(value in report for value in ("PRIVATE", "t0ken-value", "s3cret-value"))


def test_equal_parts_of_several_hosts_are_one_middleware_and_single_ones_stay_in_place() -> None:
    def site(host: str, *headers: str) -> dict[str, Any]:
        steps = [{"handler": "headers", "response": {"deferred": True, "set": {n: ["v"]}}} for n in headers]
        return {"match": [{"host": [host]}], "handle": [*steps, PROXY], "terminal": True}

    routes = [site("a.test", "X-Shared"), site("b.test", "X-Shared"), site("c.test", "X-Own")]
    whole = {"apps": {"http": {"servers": {"s": {"listen": [":443"], "routes": routes}}}}}
    found = import_config(whole).pillar["hecate"]
    assert found["routes"]["a.test"]["middleware"] == found["routes"]["b.test"]["middleware"] == ["headers"]
    assert found["routes"]["c.test"]["headers"] == {"response": {"set": {"X-Own": "v"}}}
    assert list(found["middleware"]) == ["headers"]


def test_lines_are_looked_for_in_the_sites_own_block_and_its_snippets() -> None:
    text = "\n".join(
        ["(s) {", "  header X-Common yes", "}", "a.test,", "b.test {", "  import s", "  reverse_proxy up:80", "}"]
        + ["c.test {", "  reverse_proxy up:80", "}"]
    )
    source = Source(text)
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": "up:80"}]}
    lines = {host: source.find((), proxy, host) for host in ("a.test", "b.test", "c.test")}
    assert {host: line.number for host, line in lines.items() if line} == {"a.test": 7, "b.test": 7, "c.test": 10}
    common = source.find((), {"handler": "headers", "response": {"set": {"X-Common": ["yes"]}}}, "a.test")
    assert common and (common.number, source.snippet_at(common.number)) == (2, "s")


def test_paths_that_differ_in_one_number_are_one_line() -> None:
    assert folded(["a/0/b = x", "a/1/b = x", "a/1/b = y", "c"]) == ["a/{0,1}/b = x", "a/1/b = y", "c"]


def test_a_thousand_sites_are_imported_in_a_moment_and_each_is_there() -> None:
    routes = [{"match": [{"host": [f"h{n}.test"]}], "handle": [PROXY], "terminal": True} for n in range(1000)]
    whole = {"apps": {"http": {"servers": {"s": {"listen": [":443"], "routes": routes}}}}}
    assert len(import_config(whole).pillar["hecate"]["routes"]) == 1000
