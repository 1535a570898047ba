"""Which modules a configuration asks for beyond those that every Caddy has."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from conftest import tool
from hecate import model
from hecate.compile.caddy import compile_caddy
from hecate.compile.caddy_modules import STOCK, modules_of
from hecate.model.caddy import Edge

HASH = "$2a$10$XIbuaNJu0EU2pnPtDXNk1.PTdRn2E7cfBt0EoxkbCAaQywDjWdWVK"
RICH: dict[str, Any] = {
    "caddy": {"middleware": ["security-headers", "compression", "block-scanners"], "trusted_proxies": "10.0.0.1"},
    "monitoring": {"tracing": {}, "metrics": {"port": 9}},
    "middleware": {
        "cors": {"type": "cors", "config": {"origins": "*"}},
        "login": {"type": "basic_auth", "config": {"accounts": {"a": HASH}}},
        "pages": {"type": "error_pages", "config": {"pages": {"404": "x"}, "upstream": True}},
        "audit": {"type": "audit_log", "config": {"file": "/var/log/x"}},
    },
    "routes": {
        "app.test": {
            "upstreams": ["https://10.0.0.1", "https://10.0.0.2"],
            "upstream_tls": {"ca": "/ca.pem"},
            "balance": {"policy": "cookie"},
            "middleware": ["cors", "login", "pages", "audit"],
            "paths": {"/x/*": {"discover": {"srv": "web.test"}, "rewrite": {"regexp": "a", "replace": "b"}}},
            "tls": {"issuer": "internal", "client_auth": {"ca": "/ca.pem"}},
        }
    },
}


def needed(**more: Any) -> set[str]:
    estate = model.parse({"hecate": {"routes": {"app.test": {"upstreams": ["10.0.0.1:80"]}}, **more}})
    return {name for resource in compile_caddy(estate, Edge(), ()) for name in modules_of(resource.spec)}


def test_a_rich_estate_needs_no_more_than_every_caddy_has() -> None:
    assert needed(**RICH) == set()


@pytest.mark.parametrize(
    ("sections", "module"),
    [
        (
            {"middleware": {"x": {"type": "rate_limit", "config": {"requests_per_minute": 9}}}},
            "http.handlers.rate_limit",
        ),
        ({"middleware": {"x": {"type": "encode", "config": {"encodings": ["br", "gzip"]}}}}, "http.encoders.br"),
        ({"certificates": {"storage": {"type": "redis"}}}, "caddy.storage.redis"),
    ],
)
def test_what_is_not_in_every_caddy_is_named(sections: dict[str, Any], module: str) -> None:
    used = {"caddy": {"middleware": ["x"]}} if "middleware" in sections else {}
    assert needed(**sections, **used) == {module}


def test_modules_are_found_wherever_they_lie() -> None:
    solver = {"provider": {"name": "hetzner", "api_token": "{env.T}"}}
    policy = {"issuers": [{"module": "acme", "ca": "https://ca.test", "challenges": {"dns": solver}}]}
    inner = {"handle": [{"handler": "subroute", "routes": [{"match": [{"not": [{"geo": {}}]}], "handle": []}]}]}
    assert modules_of(
        {"tls": {"automation": policy}, "steps": [inner], "errors": [{"handle": [{"handler": "own"}]}]}
    ) == {
        "dns.providers.hetzner",
        "http.matchers.geo",
        "http.handlers.own",
    }
    assert modules_of([{"match": {"status_code": [2]}}, {"match": {"sni": ["a.test"]}}]) == set()


def test_the_list_of_stock_modules_is_that_of_the_binary() -> None:
    listed = subprocess.run([tool("caddy"), "list-modules"], capture_output=True, text=True, check=True, timeout=20)
    there = {line.strip() for line in listed.stdout.splitlines()}
    for namespace, names in STOCK.items():
        own = {name.removeprefix(f"{namespace}.") for name in there if name.rpartition(".")[0] == namespace}
        assert own == names, namespace


def test_a_rate_limit_counts_by_what_caddy_knows_and_by_limits_of_its_own() -> None:
    """No stock Caddy has the module, so this is read, not tried: https://github.com/mholt/caddy-ratelimit."""
    kinds = {"client": {}, "more": {"burst": 5}, "user": {"by": "user"}, "host": {"by": "host"}}
    limits = {
        name: {"type": "rate_limit", "config": {"requests_per_minute": 60, **more}} for name, more in kinds.items()
    }
    route = {"upstreams": ["10.0.0.1:80"], "middleware": [*limits]}
    estate = model.parse({"hecate": {"middleware": limits, "routes": {"app.test": route}}})
    spec = compile_caddy(estate, Edge(), ())[1].spec
    handlers = [handler for step in spec["steps"] for handler in step["handle"]]
    zones = {name: zone for h in handlers for name, zone in h.get("rate_limits", {}).items()}
    assert {name: zone["max_events"] for name, zone in zones.items()} == {
        "hecate-client_ip-60": 60,
        "hecate-client_ip-65": 65,
        "hecate-user-60": 60,
        "hecate-host-60": 60,
    }
    assert zones["hecate-client_ip-60"]["key"] == "{http.request.host} {http.vars.client_ip}"
    assert all(zone["window"] == "1m" for zone in zones.values())
