"""Two hundred route_present states in one run of Salt's own state machine, against a real Caddy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, RealCaddy

salt_client = pytest.importorskip("salt.client", reason="for want of a tool: run make setup")
MANY = 200


class Minion:
    """A masterless minion whose states are this checkout's."""

    def __init__(self, folder: Path, caddy: RealCaddy) -> None:
        import salt.config

        self.folder, self.caddy = folder, caddy
        self.states, self.pillar = folder / "states", folder / "pillar"
        for path in (self.states, self.pillar):
            path.mkdir()
        (self.pillar / "top.sls").write_text("base: {'*': [hecate]}")
        self.set_pillar({})
        self.opts = salt.config.minion_config(None)
        self.opts.update(
            id="edge",
            file_client="local",
            root_dir="/",
            cachedir=str(folder / "cache"),
            extension_modules=str(folder / "extmods"),
            states_dirs=[str(ROOT / "_states")],
            module_dirs=[str(ROOT / "_modules")],
            file_roots={"base": [str(self.states)]},
            pillar_roots={"base": [str(self.pillar)]},
            sock_dir=str(folder),
            pki_dir=str(folder / "pki"),
            grains={},
            log_file=str(folder / "log"),
        )

    def set_pillar(self, hecate: dict[str, Any]) -> None:
        base = {
            "caddy": {"admin": self.caddy.admin, "issuer": "none"},
            "edges": {"edge": {"https": self.caddy.https, "bind": "127.0.0.1"}},
        }
        (self.pillar / "hecate.sls").write_text(yaml.safe_dump({"hecate": {**base, **hecate}}))

    def run(self, sls: dict[str, Any], *, test: bool = False) -> dict[str, dict[str, Any]]:
        """state.apply of this SLS; a state's return by its id."""
        import salt.client

        (self.states / "routes.sls").write_text(json.dumps(sls))
        caller = salt.client.Caller(mopts=dict(self.opts))
        answer = caller.cmd("state.sls", "routes", test=test, concurrent=True)
        assert isinstance(answer, dict), answer
        return {row["__id__"]: row for row in answer.values()}


@pytest.fixture
def minion(tmp_path: Path, caddy: RealCaddy) -> Iterator[Minion]:
    yield Minion(tmp_path, caddy)


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
