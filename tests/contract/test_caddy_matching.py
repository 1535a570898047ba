"""Which route, and which of its paths, a request goes to: asked of the real Caddy."""

from __future__ import annotations

import http.client
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.edge import EdgeUnderTest


def to(name: str) -> dict[str, Any]:
    """Something that answers by itself and says which rule it was."""
    return {"redirect": f"/won/{name}"}


HOSTS = {
    "a.w.test": to("exact"),
    "*.w.test": to("wild"),
    "*.deep.w.test": to("deep"),
    "one.test": {**to("several"), "hosts": ["two.test", "*.three.test"]},
    "apex.test": {**to("apex"), "hosts": ["*.apex.test"]},
    "m.w.test": {**to("mixed"), "hosts": ["*.m.w.test"]},
    "plain.apex.test": to("plain"),
    "Büro.test": to("idn"),
}


@pytest.mark.parametrize("reverse", [False, True])
def test_the_most_specific_host_answers_whatever_the_order(edge: EdgeUnderTest, reverse: bool) -> None:
    edge.apply(routes=dict(sorted(HOSTS.items(), reverse=reverse)))
    wanted = {
        "a.w.test": "exact",
        "A.W.Test": "exact",
        "a.w.test.": "exact",
        "A.w.test.:8443": "exact",
        "a.w.test:8443": "exact",
        "b.w.test": "wild",
        "B.W.TEST": "wild",
        "b.w.test.": "wild",
        "deep.w.test": "wild",
        "x.deep.w.test": "deep",
        "w.test": None,
        "x.y.w.test": None,
        "one.test": "several",
        "two.test": "several",
        "x.three.test": "several",
        "three.test": None,
        "apex.test": "apex",
        "www.apex.test": "apex",
        "plain.apex.test": "plain",
        "m.w.test": "mixed",
        "x.m.w.test": "mixed",
        "xn--bro-hoa.test": "idn",
        "evil-a.w.test.attacker.test": None,
        "a.w.test@b.w.test": None,
        "unknown.test": None,
        "127.0.0.1": None,
    }
    answers = {host: edge.ask(host) for host in wanted}
    assert {host: won(answer) for host, answer in answers.items()} == wanted
    assert {answers[host].status for host, name in wanted.items() if name is None} <= {400, 404}


def won(answer: Any) -> str | None:
    place = answer.header("Location") or ""
    return place.removeprefix("/won/") if place else None


def test_paths_are_exact_or_prefixes_and_may_be_left_out_or_replaced(edge: EdgeUnderTest) -> None:
    app, api = edge.upstream("app"), edge.upstream("api")
    edge.route(
        upstreams=[app.dial],
        headers={"request": {"X-Route": "yes"}},
        paths={
            "/exact": {"upstreams": [api.dial]},
            "/keep/*": {"upstreams": [api.dial]},
            "/strip/*": {"upstreams": [api.dial], "strip": True},
            "/whole/*": {"upstreams": [api.dial], "rewrite": {"uri": "/index.html"}},
            "/under/*": {"upstreams": [api.dial], "rewrite": {"add_prefix": "/v2"}},
            "/mine/*": {"strip": True, "headers": {"request": {"X-Rule": "yes"}}},
            "/gone/*": {"redirect": "https://new.test{http.request.uri}"},
            "/Upper/*": {"upstreams": [api.dial], "strip": True},
        },
    )
    wanted = {
        "/": ("app", "/"),
        "/exact": ("api", "/exact"),
        "/EXACT": ("api", "/EXACT"),
        "/exact/": ("app", "/exact/"),
        "/exactly": ("app", "/exactly"),
        "/keep": ("api", "/keep"),
        "/keep/a?b=c%20d": ("api", "/keep/a?b=c%20d"),
        "/keeper": ("app", "/keeper"),
        "/strip": ("api", "/"),
        "/strip/a/b?c": ("api", "/a/b?c"),
        "/strip/a%2Fb": ("api", "/a%2Fb"),
        "/whole/x?y=1": ("api", "/index.html?y=1"),
        "/under/x": ("api", "/v2/under/x"),
        "/mine/x": ("app", "/x"),
        "/upper/x": ("api", "/x"),
    }
    answers = {path: edge.ask(path=path) for path in wanted}
    assert {path: (a.header("X-Upstream"), a.json["path"]) for path, a in answers.items()} == wanted
    both = answers["/mine/x"].json["headers"]
    assert both["x-route"] == both["x-rule"] == ["yes"]
    assert "x-rule" not in answers["/"].json["headers"]
    assert edge.ask(path="/gone/x?y").header("Location") == "https://new.test/gone/x?y"


def test_a_path_is_compared_as_the_upstream_would_read_it(edge: EdgeUnderTest) -> None:
    """Decoded, without //, . and .., whatever its case; so there is no spelling that gets around a rule."""
    edge.route(**to("rest"), paths={"/admin/*": to("admin")})
    around = [
        "/admin", "/ADMIN/x", "/%61dmin/x", "//admin/x", "/x/../admin/x", "/./admin", "/x/%2e%2e/admin/y",
        "/x/..%2fadmin/y", "/admin//x", "/%2fadmin/x",
    ]  # fmt: skip
    assert {path: won(edge.ask(path=path)) for path in around} == dict.fromkeys(around, "admin")
    assert won(edge.ask(path="/admin/../x")) == "rest"


def test_methods_and_headers_choose_too(edge: EdgeUnderTest) -> None:
    edge.route(
        **to("rest"),
        paths={
            "/x/*": [
                {**to("v2"), "when": {"X-Version": "2"}},
                {**to("v2-beta"), "when": {"X-Version": "2", "X-Beta": "*"}},
                to("x"),
            ],
            "POST /x/*": to("post"),
            "DELETE /x/*": {**to("delete"), "when": {"X-Sure": "yes"}},
        },
    )
    asked: list[tuple[str, dict[str, str], str]] = [
        ("GET", {}, "x"),
        ("GET", {"X_Version": "2"}, "v2"),
        ("GET", {"X_Version": "22"}, "x"),
        ("GET", {"X_Version": "2", "X_Beta": "whatever"}, "v2-beta"),
        ("POST", {}, "post"),
        ("POST", {"X_Version": "2"}, "post"),
        ("DELETE", {}, "x"),
        ("DELETE", {"X_Sure": "yes"}, "delete"),
    ]
    found = [won(edge.ask(path="/x/y", method=method, **headers)) for method, headers, _ in asked]
    assert found == [name for _, _, name in asked]


def test_a_rewrite_of_the_route_does_not_change_which_path_it_is(edge: EdgeUnderTest) -> None:
    """Else the path that counted as public before the login could be another one after it."""
    app, secret = edge.upstream("app"), edge.upstream("secret")
    edge.apply(
        middleware={"cut": {"type": "rewrite", "config": {"strip_prefix": "/public"}}},
        routes={
            "app.test": {
                "upstreams": [app.dial],
                "middleware": ["cut"],
                "paths": {"/secret/*": {"upstreams": [secret.dial]}},
            }
        },
    )
    answer = edge.ask(path="/public/secret/x")
    assert (answer.header("X-Upstream"), answer.json["path"]) == ("app", "/secret/x")
    assert edge.ask(path="/secret/x").header("X-Upstream") == "secret"


PATTERNS = ["/*", "/", "/a", "/a/*", "/a/b", "/a/b/*", "/a/b/c", "/ab/*", "/b/*"]
KEYS = [f"{method}{pattern}" for pattern in PATTERNS for method in ("", "GET ", "POST ")]
WHEN: list[dict[str, str]] = [{}, {"X-K": "1"}, {"X-K": "1", "X-L": "1"}]
PATHS = ["/", "/a", "/A/", "/a/b", "/a//b/c", "/a/%62/c/d", "/ab/c", "/b/../a/b", "/zz"]
Table = dict[str, list[dict[str, str]]]


def reference(table: Table, method: str, path: str, headers: dict[str, str]) -> str | None:
    """Of the rules that fit: the longest; exact before prefix; with a method; with more headers; the first listed."""
    decoded = unquote(path)
    clean = posixpath.normpath("/" + decoded.lstrip("/")) + ("/" if decoded.endswith("/") and decoded != "/" else "")
    fitting = []
    for key, rules in table.items():
        wanted, _, pattern = key.rpartition(" ")
        base = pattern.removesuffix("/*")
        prefix = pattern.endswith("/*")
        on_path = clean.lower() == pattern or (prefix and f"{clean.lower()}/".startswith(f"{base}/"))
        for index, when in enumerate(rules):
            if on_path and wanted in ("", method) and when.items() <= headers.items():
                fitting.append(((-len(base), prefix, not wanted, -len(when), index), f"{KEYS.index(key)}-{index}"))
    return min(fitting)[1] if fitting else None


rules = st.lists(st.sampled_from(WHEN), min_size=1, max_size=3)
tables = st.lists(st.tuples(st.sampled_from(KEYS), rules), min_size=1, max_size=9, unique_by=lambda row: row[0]).map(
    dict
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(tables, min_size=6, max_size=6))
def test_the_order_in_the_pillar_means_nothing(edge: EdgeUnderTest, listed: list[Table]) -> None:
    routes = {
        f"h{number}.test": {
            **to("None"),
            "paths": {
                key: [{**to(f"{KEYS.index(key)}-{i}"), "when": when} for i, when in enumerate(rules)]
                for key, rules in table.items()
            },
        }
        for number, table in enumerate(listed)
    }
    edge.apply(routes=routes)
    with visitor(edge) as ask:
        for number, table in enumerate(listed):
            for path in PATHS:
                for method, headers in (("GET", WHEN[0]), ("POST", WHEN[1]), ("GET", WHEN[2])):
                    found = ask(f"h{number}.test", method, path, headers)
                    assert found == str(reference(table, method, path, headers)), (table, method, path, headers)


@contextmanager
def visitor(edge: EdgeUnderTest) -> Iterator[Any]:
    """Many requests over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.caddy.https, timeout=10)

    def ask(host: str, method: str, path: str, headers: dict[str, str]) -> str | None:
        connection.request(method, path, headers={"Host": host, **headers})
        answer = connection.getresponse()
        answer.read()
        return (answer.getheader("Location") or "").removeprefix("/won/")

    yield ask
    connection.close()
