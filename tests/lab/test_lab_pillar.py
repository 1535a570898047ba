"""The lab's ext_pillar: any pillar is led to this machine's systems; what is malformed stays as it was written."""

from __future__ import annotations

import copy
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from salt.utils.dictupdate import merge
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from lab.salt.pillar import hecate_lab

PORTS = {
    "openbao": 1, "consul": 2, "hetzner": 4, "dns": 5, "authentik": 6, "nomad": 7,
    "hecate-edge-1-http": 11, "hecate-edge-1-https": 12, "hecate-edge-2-http": 21, "hecate-edge-2-https": 22,
}  # fmt: skip


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[int, list[str]]]:
    """The control API of an echo: its port, and every dial that it was asked for."""
    asked: list[str] = []

    def answer(request: Request) -> Response:
        dials = json.loads(request.get_data())["dials"]
        asked.extend(dials)
        return Response(json.dumps({"ports": {dial: 9000 + len(dial) for dial in dials}}), mimetype="application/json")

    server = make_server("127.0.0.1", 0, Request.application(answer))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lab(tmp_path: pathlib.Path, echo: tuple[int, list[str]]) -> pathlib.Path:
    echo[1].clear()
    record = {
        "folder": "/l", "sockets": "/l/run", "edges": ["hecate-edge-1", "hecate-edge-2"],
        "consul": "/usr/bin/consul", "ports": {**PORTS, "echo": echo[0]},
    }  # fmt: skip
    file = tmp_path / "lab.json"
    file.write_text(json.dumps(record))
    return file


def seen(hecate: Any, lab: pathlib.Path, minion: str = "hecate-controller") -> Any:
    """The pillar that the minion gets, merged as a Salt master with the lab's settings does."""
    pillar = {"hecate": copy.deepcopy(hecate), "other": 1}
    answer = hecate_lab.ext_pillar(minion, pillar, lab=str(lab))
    merged = merge(pillar, answer, "smart", "yaml", False) if answer else pillar
    assert merged["other"] == 1
    return merged["hecate"]


def test_dials_are_exchanged_in_mappings_lists_and_paths(lab: pathlib.Path) -> None:
    mapping = {"app.test": {"upstreams": [{"dial": "10.0.0.5:30", "weight": 9}, "10.0.0.6:300"], "auth_policy": "x",
                            "paths": {"/v2/*": {"upstreams": [{"dial": "10.0.0.8:8080"}]}}}}  # fmt: skip
    assert seen({"routes": mapping}, lab)["routes"] == {
        "app.test": {
            "upstreams": [{"dial": "127.0.0.1:9011", "weight": 9}, "127.0.0.1:9012"],
            "auth_policy": "x",
            "paths": {"/v2/*": {"upstreams": [{"dial": "127.0.0.1:9013"}]}},
        }
    }
    listed = [{"domain": "a.test", "upstreams": [{"dial": "backend:80"}], "middleware": ["m"]}, "nonsense"]
    assert seen({"routes": listed}, lab)["routes"] == [
        {"domain": "a.test", "upstreams": [{"dial": "127.0.0.1:9010"}], "middleware": ["m"]},
        "nonsense",
    ]


def test_groups_have_stand_ins_too_and_the_echo_speaks_plain_http_on_tcp(lab: pathlib.Path) -> None:
    groups = {"web": {"upstreams": ["10.0.0.5:80", "unix//run/app.sock", "h2c://grpc:50051"]}}
    found = seen({"upstreams": groups, "routes": {"a.test": {"upstreams": "web"}}}, lab)
    assert found["upstreams"]["web"]["upstreams"] == ["127.0.0.1:9011", "127.0.0.1:9018", "127.0.0.1:9016"]
    assert found["routes"]["a.test"] == {"upstreams": "web"}


def test_no_public_authority_is_asked(lab: pathlib.Path) -> None:
    routes = {"a.test": {"upstreams": ["10.0.0.5:80"], "tls": {"issuer": "letsencrypt", "min_version": "1.3"}}}
    found = seen({"routes": routes, "caddy": {"issuer": "acme"}}, lab, "hecate-edge-1")
    assert found["routes"]["a.test"]["tls"] == {"issuer": "internal", "min_version": "1.3"}
    assert found["caddy"]["issuer"] == "internal"
    assert seen({"caddy": {"issuer": "none"}}, lab, "hecate-edge-1")["caddy"]["issuer"] == "none"


def test_the_scheme_is_kept(lab: pathlib.Path) -> None:
    routes = {"a.test": {"upstreams": ["https://10.0.0.9"], "tls_skip_verify": True}}
    assert seen({"routes": routes}, lab)["routes"]["a.test"]["upstreams"] == ["https://127.0.0.1:9016"]


@pytest.mark.parametrize(
    "upstreams",
    ["10.0.0.5:80", ["10.0.0.5"], [{"dial": "a:99999"}], [{"dial": 5}], [None], [["a:1"]], {"dial": "a:1"}, 7],
)
def test_what_is_malformed_stays(lab: pathlib.Path, echo: tuple[int, list[str]], upstreams: Any) -> None:
    routes = {"a.test": {"upstreams": upstreams}}
    assert seen({"routes": routes}, lab)["routes"] == routes
    assert echo[1] == []


@pytest.mark.parametrize("routes", [None, "text", 5, [], {}, {"a.test": None}])
def test_so_do_malformed_routes(lab: pathlib.Path, routes: Any) -> None:
    assert seen({"routes": routes}, lab)["routes"] == routes


@pytest.mark.parametrize("hecate", [None, "text", ["list"]])
def test_a_pillar_without_the_section_is_left_alone(lab: pathlib.Path, hecate: Any) -> None:
    assert seen(hecate, lab) == hecate


def test_authentik_itself_is_the_emulator(lab: pathlib.Path, echo: tuple[int, list[str]]) -> None:
    found = seen(
        {
            "authentik": {"url": "http://10.0.0.3:9443", "outpost": "10.0.0.2:9000", "outpost_name": "mine"},
            "routes": {"hera.test": {"upstreams": ["10.0.0.2:9000", "10.0.0.3:9443", "127.0.0.1:6"]}},
        },
        lab,
    )
    assert found["routes"]["hera.test"]["upstreams"] == ["127.0.0.1:6"] * 3
    assert found["authentik"] == {
        "url": "http://127.0.0.1:6", "token": "vault:hecate/authentik#token",
        "outpost": "127.0.0.1:6", "outpost_name": "mine",
    }  # fmt: skip
    assert echo[1] == []


def test_sections_that_the_pillar_lacks_stay_absent(lab: pathlib.Path) -> None:
    found = seen({}, lab)
    assert set(found) == {"edges", "targets", "vault", "verify", "store"}
    asked = {name: {} for name in ("authentik", "hetzner_dns", "nomad", "terraform")}
    found = seen(asked, lab)
    assert found["hetzner_dns"] == {"endpoint": "http://127.0.0.1:4/v1", "token": "vault:hecate/hetzner#token"}
    assert found["nomad"] == {"url": "http://127.0.0.1:7", "token": "vault:hecate/nomad#token"}
    assert found["terraform"] == {"workdir": "/l/terraform"}


def test_the_labs_proxies_are_proxies_whatever_the_pillar_calls_its_own(lab: pathlib.Path) -> None:
    assert hecate_lab.ext_pillar("hecate-dns", {}, lab=str(lab)) == {"proxy": {"proxytype": "hecate_hetzner_dns"}}
    assert hecate_lab.ext_pillar("hecate-authentik", {}, lab=str(lab)) == {"proxy": {"proxytype": "hecate_authentik"}}
    assert hecate_lab.ext_pillar("hecate-controller", {}, lab=str(lab)) == {}


def test_edges_and_targets_are_the_labs(lab: pathlib.Path) -> None:
    own = {"edges": {"edge-berlin": {"address": "192.0.2.1"}}, "targets": {"caddy": ["edge-berlin"], "dns": "x"}}
    found = seen({**own, "caddy": {"admin": "unix//run/caddy.sock", "issuer": "internal"}}, lab, "hecate-edge-2")
    assert found["edges"] == {
        "hecate-edge-1": {"address": "127.0.0.1", "bind": "127.0.0.1", "http": 11, "https": 12},
        "hecate-edge-2": {"address": "127.0.0.1", "bind": "127.0.0.1", "http": 21, "https": 22},
    }
    assert found["targets"]["caddy"] == ["hecate-edge-1", "hecate-edge-2"]
    assert found["targets"]["dns"] == "hecate-dns"
    assert found["caddy"] == {"admin": "unix//l/run/hecate-edge-2.sock", "issuer": "internal"}
    assert "caddy" not in seen(own, lab)


def test_without_consul_the_embedded_store_serves(lab: pathlib.Path) -> None:
    own = {"store": {"consul": {"url": "http://10.0.0.1:8500"}}}
    assert seen(own, lab)["store"]["consul"] == {"url": "http://127.0.0.1:2", "token": "file:/l/secrets/consul"}
    lab.write_text(json.dumps({**json.loads(lab.read_text()), "consul": None}))
    assert seen(own, lab)["store"] == {}


def test_an_echo_that_is_down_is_an_error_not_an_empty_answer(lab: pathlib.Path) -> None:
    record = json.loads(lab.read_text())
    record["ports"]["echo"] = 1
    lab.write_text(json.dumps(record))
    with pytest.raises(OSError):
        seen({"routes": {"a.test": {"upstreams": ["10.0.0.5:80"]}}}, lab)
