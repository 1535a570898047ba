"""What a state function returns, against a real Caddy: the one rule for all of them (docs/architecture.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import RealCaddy, free_port

caddy_states = pytest.importorskip("saltext.hecate.states.hecate_caddy", reason="for want of a tool: pip install -e .")

HOST = "app.estate.test"
NO_SALT: dict[str, Any] = {"mine.get": lambda *_: {}}


@pytest.fixture
def pillar(caddy: RealCaddy) -> dict[str, Any]:
    """The very mapping that the states see, so that a test can change it."""
    edges = {"edge": {"https": caddy.https, "bind": "127.0.0.1"}}
    hecate = {"caddy": {"admin": caddy.admin, "issuer": "internal"}, "edges": edges}
    return {"hecate": {**hecate, "routes": {HOST: {"upstreams": ["127.0.0.1:1"]}}}}


@pytest.fixture
def opts(tmp_path: Path) -> dict[str, Any]:
    return {"id": "edge", "cachedir": str(tmp_path), "test": False}


@pytest.fixture
def configure_loader_modules(pillar: dict[str, Any], opts: dict[str, Any]) -> dict[Any, Any]:
    return {caddy_states: {"__opts__": opts, "__pillar__": pillar, "__salt__": NO_SALT}}


def managed() -> dict[str, Any]:
    return dict(caddy_states.managed("proxy"))


def test_applied_and_clean_is_true_with_what_was_done() -> None:
    answer = managed()
    assert answer["result"] is True and f"caddy.route {HOST}" in answer["changes"]
    assert answer["changes"][f"caddy.route {HOST}"]["old"] is None


def test_nothing_to_do_is_true_without_changes() -> None:
    managed()
    answer = managed()
    assert (answer["result"], answer["changes"]) == (True, {}) and "nothing to do" in answer["comment"]


def test_a_test_run_is_none_with_the_plan_and_writes_nothing(opts: dict[str, Any], caddy: RealCaddy) -> None:
    from hecate.clients.caddy import CaddyClient

    opts["test"] = True
    answer = managed()
    assert answer["result"] is None and f"+ caddy.route {HOST}" in answer["comment"] and answer["changes"]
    assert CaddyClient(caddy.admin).config()[0] == caddy.base()


def test_only_the_fields_that_differ_are_told(pillar: dict[str, Any]) -> None:
    managed()
    pillar["hecate"]["routes"][HOST]["upstreams"] = ["127.0.0.1:2"]
    change = managed()["changes"][f"caddy.route {HOST}"]
    assert list(change["old"].values()) == ["127.0.0.1:1"] and list(change["new"].values()) == ["127.0.0.1:2"]


def test_a_wrong_pillar_is_false_with_every_problem(pillar: dict[str, Any]) -> None:
    pillar["hecate"]["routes"] = {"not a host": {"upstreams": []}}
    answer = managed()
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "hecate:routes:not a host" in answer["comment"] and "nothing was written" in answer["comment"]


def test_failed_and_undone_is_false_without_changes(pillar: dict[str, Any], caddy: RealCaddy) -> None:
    """Caddy refuses a port that the stranger has; the configuration before it stays."""
    from hecate.clients.caddy import CaddyClient

    pillar["hecate"]["edges"]["edge"]["https"] = caddy.stranger
    answer = managed()
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "everything was put back (journal" in answer["comment"]
    assert CaddyClient(caddy.admin).config()[0] == caddy.base()


def test_a_dead_caddy_is_told_as_such(pillar: dict[str, Any]) -> None:
    pillar["hecate"]["caddy"]["admin"] = f"http://127.0.0.1:{free_port()}"
    answer = managed()
    assert answer["result"] is False and "no answer" in answer["comment"] and "is http://" in answer["comment"]


def protect(pillar: dict[str, Any]) -> None:
    hecate = pillar["hecate"]
    hecate["authentik"] = {"url": "http://127.0.0.1:1", "token": "env:NOT_NEEDED_HERE"}
    hecate["auth_policies"] = {"staff": {"groups": ["staff"]}}
    hecate["routes"][HOST]["auth_policy"] = "staff"


def test_a_protected_route_without_a_confirmed_guard_is_closed(pillar: dict[str, Any]) -> None:
    protect(pillar)
    change = managed()["changes"][f"caddy.route {HOST}"]
    assert "its protec" in change["new"]["steps"] and "upstream" not in change["new"]


def test_a_mine_that_does_not_answer_publishes_nothing(pillar: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    protect(pillar)
    monkeypatch.setitem(NO_SALT, "mine.get", lambda *_: None)
    answer = managed()
    assert answer["result"] is False and "the mine did not answer" in answer["comment"]
