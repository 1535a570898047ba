"""Going back: what was wanted then, reached as it is reached today."""

from __future__ import annotations

from typing import Any

import pytest
from hecate.errors import HecateError
from hecate.order import Order, packed
from hecate.returning import returned
from hecate.secrets import GONE

TODAY: dict[str, Any] = {
    "environment": "staging",
    "store": {"consul": {"url": "http://127.0.0.1:8500"}},
    "targets": {"authentik": "new-proxy"},
    "edges": {"edge-9": {}},
    "caddy": {"admin": "http://127.0.0.1:2020", "issuer": "acme"},
    "authentik": {"url": "https://new.example.com", "token": "vault:new#token", "groups": {"late": {}}},
    "hetzner_dns": {"token": "vault:new/dns#token"},
    "terraform": {"source": "/new", "workdir": "/var/new", "outputs": {"ip": "192.0.2.9"}},
    "routes": {"new.example.com": {}},
    "middleware": {"new": {}},
}
RECORD: dict[str, Any] = {
    "environment": "staging",
    "targets": {"authentik": "old-proxy"},
    "caddy": {"admin": "http://127.0.0.1:2019", "issuer": "internal", "http3": False},
    "authentik": {"url": "https://old.example.com", "token": "vault:old#token", "groups": {"crew": {}}},
    "terraform": {"source": "/old", "workdir": "/var/old", "outputs": {"ip": "192.0.2.1"}, "variables": {"a": 1}},
    "nomad": {"url": "http://127.0.0.1:4646"},
    "routes": {"old.example.com": {}},
    "workloads": {"web": {}},
}


def test_wishes_are_of_then_and_the_ways_there_of_today() -> None:
    found = returned(RECORD, TODAY, "t1")
    assert found["routes"] == {"old.example.com": {}} and found["workloads"] == {"web": {}}
    assert "middleware" not in found, "what was not wanted then goes"
    assert (
        found["store"] == TODAY["store"] and found["targets"] == TODAY["targets"] and found["edges"] == TODAY["edges"]
    )
    assert found["caddy"] == {"admin": "http://127.0.0.1:2020", "issuer": "internal", "http3": False}
    assert found["authentik"] == {"url": "https://new.example.com", "token": "vault:new#token", "groups": {"crew": {}}}
    assert found["terraform"]["source"] == "/old" and found["terraform"]["variables"] == {"a": 1}
    assert found["terraform"]["workdir"] == "/var/new" and found["terraform"]["outputs"] == {"ip": "192.0.2.9"}


def test_a_system_of_then_is_reached_as_then_and_one_of_today_is_emptied() -> None:
    found = returned(RECORD, TODAY, "t1")
    assert found["nomad"] == RECORD["nomad"] and found["hetzner_dns"] == TODAY["hetzner_dns"]
    bare = returned({"environment": "staging", "routes": {}}, TODAY, "t1")
    assert bare["authentik"] == {"url": "https://new.example.com", "token": "vault:new#token"}
    assert "terraform" not in bare, "nothing says what it should hold, so it is left alone"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({}, "no pillar"),
        ({"environment": "production", "routes": {}}, "environment production; this is staging"),
        ({**RECORD, "applications": {"a": {"oauth2": {"client_secret": GONE}}}}, "hecate:applications:a:oauth2:client"),
    ],
)
def test_a_record_that_can_not_be_deployed_is_refused(record: dict[str, Any], why: str) -> None:
    with pytest.raises(HecateError, match=why):
        returned(record, TODAY, "t1")


def test_a_literal_that_was_only_a_way_there_keeps_nobody_from_returning() -> None:
    record = {**RECORD, "authentik": {**RECORD["authentik"], "token": GONE}}
    assert returned(record, TODAY, "t1")["authentik"]["token"] == "vault:new#token"


def test_a_minion_merges_with_its_own_pillar() -> None:
    """The order carries a record alone: nothing of today's pillar goes through the job cache."""
    live = {"hecate": TODAY, "other": 1}
    wanted = Order(pillar=packed(RECORD)).wanted(live)
    assert wanted["other"] == 1 and wanted["hecate"] == returned(RECORD, TODAY, "t1")
    assert Order().wanted(live) == live
