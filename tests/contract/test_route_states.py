"""Two hundred route_present states in one run of Salt's own state machine, against a real Caddy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RealCaddy

from contract.minion import Minion

salt_client = pytest.importorskip("salt.client", reason="for want of a tool: run make setup")
MANY = 200


@pytest.fixture
def minion(tmp_path: Path, caddy: RealCaddy) -> Iterator[Minion]:
    edges = {"edge": {"https": caddy.https, "bind": "127.0.0.1"}}
    yield Minion(tmp_path, {"caddy": {"admin": caddy.admin, "issuer": "none"}, "edges": edges})


def routes(count: int, port: int = 1, **more: Any) -> dict[str, Any]:
    fields = [{"upstreams": [f"127.0.0.1:{port}"]}, *({k: v} for k, v in more.items())]
    return {f"r{n:03d}.test": {"hecate_caddy.route_present": fields} for n in range(count)}


def writes(caddy: RealCaddy) -> int:
    """Configurations that Caddy has been given so far, as its log tells."""
    return caddy.log().count('"method":"POST"')


def test_two_hundred_routes_are_one_write_and_each_tells_its_own_changes(minion: Minion, caddy: RealCaddy) -> None:
    before = writes(caddy)
    answers = minion.run(routes(MANY))
    assert writes(caddy) == before + 1
    for host, answer in answers.items():
        assert answer["result"] is True, answer["comment"]
        assert [i for i in answer["changes"] if i.startswith("caddy.route ")] == [f"caddy.route {host}"]
    again = minion.run(routes(MANY))
    assert writes(caddy) == before + 1
    assert len(again) == MANY and all(a["result"] is True and not a["changes"] for a in again.values())


def test_of_many_only_the_changed_ones_tell_changes(minion: Minion, caddy: RealCaddy) -> None:
    minion.run(routes(20))
    moved = {**routes(20), **{k: v for k, v in routes(20, port=2).items() if k in ("r003.test", "r007.test")}}
    answers = minion.run(moved)
    assert sorted(host for host, a in answers.items() if a["changes"]) == ["r003.test", "r007.test"]
    assert answers["r003.test"]["changes"]["caddy.route r003.test"]["new"] == {"upstream": "127.0.0.1:2"}


def test_a_test_run_tells_each_its_own_and_writes_nothing(minion: Minion, caddy: RealCaddy) -> None:
    before = writes(caddy)
    answers = minion.run(routes(20), test=True)
    assert writes(caddy) == before
    for host, answer in answers.items():
        assert answer["result"] is None and f"caddy.route {host}" in answer["changes"]
        assert f"+ caddy.route {host}" in answer["comment"] and "r011" not in answer["comment"].replace(host, "")


def test_a_wrong_route_fails_alone(minion: Minion, caddy: RealCaddy) -> None:
    wrong = {"bad.test": {"hecate_caddy.route_present": [{"upstreams": ["nonsense"]}, {"colour": "red"}]}}
    answers = minion.run({**routes(5), **wrong})
    assert [host for host, a in answers.items() if a["result"] is False] == ["bad.test"]
    comment = answers["bad.test"]["comment"]
    assert "hecate:routes:bad.test:upstreams:0:dial" in comment and "hecate:routes:bad.test:colour" in comment


def test_a_route_that_waits_for_another_state_is_not_written_before_it(minion: Minion, caddy: RealCaddy) -> None:
    sls = routes(3)
    sls["broken"] = {"test.fail_without_changes": []}
    sls["later.test"] = {
        "hecate_caddy.route_present": [{"upstreams": ["127.0.0.1:1"]}, {"require": [{"test": "broken"}]}]
    }
    answers = minion.run(sls)
    assert answers["later.test"]["result"] is False and not answers["later.test"]["changes"]
    from hecate.clients.caddy import CaddyClient

    assert "later.test" not in str(CaddyClient(caddy.admin).config()[0])
    assert all(answers[host]["result"] is True for host in routes(3))
