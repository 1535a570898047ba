"""How routes lie in Caddy's configuration, and that reading it back gives the same routes."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hecate.backends.caddy_layout import read, render
from hecate.backends.caddy_marks import BUCKET, ROUTE, TABLE
from hypothesis import given, settings
from hypothesis import strategies as st

SERVER = {"server": {"listen": [":443"]}, "first": [{"handle": []}], "last": [{"handler": "static_response"}]}
STRANGER = {"@id": "theirs", "handle": [{"handler": "static_response", "body": "hello"}]}
Json = dict[str, Any]


def steps(number: int) -> list[Json]:
    return [{"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": "{hecate.upstream}"}], "n": number}]}]


def alike() -> dict[str, Json]:
    """Nine routes that differ in nothing but where they lead."""
    return {f"h{n}.test": {"hosts": [f"h{n}.test"], "upstream": f"10.0.0.{n}:80", "steps": steps(0)} for n in range(9)}


def foreign() -> Json:
    """What somebody else has in that Caddy."""
    return {
        "admin": {"listen": "localhost:2019"},
        "apps": {
            "http": {"servers": {"other": {"listen": [":81"], "routes": [STRANGER]}}},
            "tls": {
                "automation": {"policies": [{"subjects": ["theirs.test"]}]},
                "certificates": {"load_files": [{"certificate": "/c", "key": "/k", "tags": ["theirs"]}]},
            },
        },
        "logging": {"logs": {"default": {"level": "WARN"}, "theirs": {"level": "DEBUG"}}},
    }


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "automation": st.sampled_from([{"issuers": [{"module": "internal"}]}, {"on_demand": True}]),
        "connection": st.sampled_from([{"protocol_min": "tls1.3"}, {"client_authentication": {"mode": "require"}}]),
        "files": st.sampled_from([{"certificate": "/a", "key": "/b"}, {"certificate": "/c", "key": "/d"}]),
    },
).filter(bool)


@st.composite
def estates(draw: st.DrawFn) -> dict[str, Json]:
    """Routes of every form: with and without upstream, aliases, wildcards, shared and own steps."""
    count = draw(st.integers(0, 120))
    routes: dict[str, Json] = {}
    for index in range(count):
        host = f"{'*.' if draw(st.integers(0, 9)) == 0 else ''}h{index}.test"
        hosts = [host, *(f"alias{n}-{index}.test" for n in range(draw(st.integers(0, 2))))]
        spec: Json = {"hosts": hosts, "steps": steps(draw(st.integers(0, 60)))}
        if draw(st.booleans()):
            spec["upstream"] = f"10.0.0.{draw(st.integers(1, 9))}:80"
        if draw(st.integers(0, 4)) == 0:
            spec["errors"] = [{"handle": []}]
        if draw(st.integers(0, 2)) == 0:
            spec["tls"] = draw(SETTINGS)
        routes[host] = spec
    return routes


@given(estates())
@settings(max_examples=60, deadline=None)
def test_what_is_rendered_reads_back_as_it_was(routes: dict[str, Json]) -> None:
    config = json.loads(json.dumps(render(foreign(), "hecate", SERVER, routes)))
    held = read(config, "hecate")
    assert held.server == SERVER and held.routes == routes and held.rendered


@given(estates(), estates())
@settings(max_examples=30, deadline=None)
def test_the_way_there_does_not_matter(first: dict[str, Json], second: dict[str, Json]) -> None:
    straight = render(foreign(), "hecate", SERVER, second)
    assert render(render(foreign(), "hecate", SERVER, first), "hecate", SERVER, second) == straight


@given(estates())
@settings(max_examples=30, deadline=None)
def test_what_was_there_before_is_as_before_once_all_is_gone(routes: dict[str, Json]) -> None:
    before = foreign()
    assert render(render(before, "hecate", SERVER, routes), "hecate", None, {}) == before


def test_routes_alike_are_one_table_and_others_their_own() -> None:
    routes = {
        f"h{n}.test": {"hosts": [f"h{n}.test"], "upstream": f"10.0.0.{n}:80", "steps": steps(0)} for n in range(9)
    }
    routes["own.test"] = {"hosts": ["own.test"], "steps": steps(1)}
    laid = [r["@id"] for r in servers(render(foreign(), "hecate", SERVER, routes))["hecate"]["routes"]]
    assert [mark.startswith(TABLE) for mark in laid].count(True) == 1 and f"{ROUTE}own.test" in laid


def test_many_routes_of_their_own_lie_in_buckets_of_about_the_root_of_their_number() -> None:
    routes = {f"h{n:03d}.test": {"hosts": [f"h{n:03d}.test"], "steps": steps(n)} for n in range(400)}
    laid = servers(render(foreign(), "hecate", SERVER, routes))["hecate"]["routes"]
    buckets = [r for r in laid if r["@id"].startswith(BUCKET)]
    assert len(buckets) == 20 and all(len(b["handle"][0]["routes"]) == 20 for b in buckets)


def test_wildcards_come_after_all_exact_hosts_and_the_narrower_first() -> None:
    names = ["*.b.test", "*.a.b.test", "z.test", "*.a.test"]
    routes = {name: {"hosts": [name], "steps": steps(n)} for n, name in enumerate(names)}
    laid = [r["@id"] for r in servers(render(foreign(), "hecate", SERVER, routes))["hecate"]["routes"]][1:-1]
    assert laid == [ROUTE + name for name in ("z.test", "*.a.b.test", "*.a.test", "*.b.test")]


def test_a_strangers_route_in_the_server_is_kept_and_comes_before_the_last_word() -> None:
    routes = {"a.test": {"hosts": ["a.test"], "steps": steps(1)}}
    config = render(foreign(), "hecate", SERVER, routes)
    servers(config)["hecate"]["routes"].insert(0, STRANGER)
    held = read(config, "hecate")
    assert held.strangers == [STRANGER] and held.routes == routes
    assert [r["@id"] for r in servers(render(config, "hecate", SERVER, routes))["hecate"]["routes"]][-2:] == [
        "theirs",
        "hecate-last",
    ]


def _swap_rows(server: Json) -> None:
    server["routes"][1]["handle"][0]["mappings"][0]["outputs"] = ["10.6.6.6:80"]


def _drop_row(server: Json) -> None:
    server["routes"][1]["handle"][0]["mappings"].pop()


def _extra_row(server: Json) -> None:
    server["routes"][1]["handle"][0]["mappings"].append({"input": "evil.test", "outputs": ["10.6.6.6:80"]})


def _step_added(server: Json) -> None:
    server["routes"][1]["handle"][1]["routes"].insert(0, {"handle": [{"handler": "static_response"}]})


def _not_terminal(server: Json) -> None:
    server["routes"][1]["terminal"] = False


def _policy(server: Json) -> None:
    server["tls_connection_policies"] = [{"protocol_min": "tls1.2"}]


def _order(server: Json) -> None:
    server["routes"].insert(0, server["routes"].pop())


@pytest.mark.parametrize(
    "edit", [_swap_rows, _drop_row, _extra_row, _step_added, _not_terminal, _policy, _order], ids=lambda f: f.__name__
)
def test_whatever_a_hand_changed_is_noticed(edit: Any) -> None:
    routes = {
        f"h{n}.test": {"hosts": [f"h{n}.test"], "upstream": f"10.0.0.{n}:80", "steps": steps(0)} for n in range(9)
    }
    config = copy.deepcopy(render(foreign(), "hecate", SERVER, routes))
    edit(servers(config)["hecate"])
    held = read(config, "hecate")
    assert not held.rendered or held.routes != routes or held.server != SERVER
    assert render(config, "hecate", SERVER, routes) == render(foreign(), "hecate", SERVER, routes)


def test_settings_of_whole_apps_are_taken_back_only_where_they_were_hecates() -> None:
    theirs = foreign()
    theirs["apps"]["http"]["metrics"] = {"per_host": True}
    plain = render(theirs, "hecate", SERVER, {})
    assert plain["apps"]["http"]["metrics"] == {"per_host": True}
    ours = render(foreign(), "hecate", {**SERVER, "metrics": {}, "storage": {"module": "consul"}}, {})
    assert read(ours, "hecate").server == {**SERVER, "metrics": {}, "storage": {"module": "consul"}}
    assert render(ours, "hecate", None, {}) == foreign()


def servers(config: Json) -> Json:
    return config["apps"]["http"]["servers"]  # type: ignore[no-any-return]
