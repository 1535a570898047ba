"""The states and functions of hecate_rfc2136 in Salt's own state machine, against a real BIND."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.bind import Bind
from contract.minion import Minion

pytest.importorskip("salt.client", reason="for want of a tool: run make setup")


@pytest.fixture
def minion(bind: Bind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Minion:
    monkeypatch.setenv("TSIG_KEY", bind.secret)
    server = {"server": f"127.0.0.1:{bind.port}", "key": "hecate", "secret": "env:TSIG_KEY"}
    zones = {"estate.test": {"policy": "sync", "records": {"web": {"A": "192.0.2.80", "ttl": 300}}}}
    return Minion(tmp_path, {"rfc2136": {"inside": server}, "dns": {"provider": "inside", "zones": zones}})


def test_pillar_reaches_the_server_and_a_second_run_finds_nothing(minion: Minion, bind: Bind) -> None:
    managed = {"dns": {"hecate_rfc2136.managed": []}}
    planned = minion.run(managed, test=True)["dns"]
    assert planned["result"] is None and "+ dns.rrset estate.test/web/A" in planned["comment"]
    before = bind.rrsets()
    made = minion.run(managed)["dns"]
    assert made["result"] is True and "dns.rrset estate.test/web/A" in made["changes"], made["comment"]
    assert bind.rrsets() != before and any("192.0.2.80" in row for row in bind.rrsets())
    again = minion.run(managed)["dns"]
    assert (again["result"], again["changes"]) == (True, {})


def test_single_sets_stand_beside_the_pillar_and_go_again(minion: Minion, bind: Bind) -> None:
    minion.run({"dns": {"hecate_rfc2136.managed": []}})
    before = bind.rrsets()
    where = [{"zone": "estate.test"}, {"type": "MX"}]
    made = minion.run({"hand": {"hecate_rfc2136.rrset_present": [*where, {"records": ["10 mail.estate.test"]}]}})
    assert made["hand"]["result"] is True, made["hand"]["comment"]
    assert any("10 mail.estate.test." in row for row in bind.rrsets() if row.startswith("hand"))
    gone = minion.run({"hand": {"hecate_rfc2136.rrset_absent": where}})
    assert gone["hand"]["result"] is True and bind.rrsets() == before


def test_the_functions_look_and_name_no_secret(minion: Minion, bind: Bind) -> None:
    minion.run({"dns": {"hecate_rfc2136.managed": []}})
    told = [minion.call("hecate_rfc2136.list"), minion.call("hecate_rfc2136.plan")]
    assert "estate.test/web/A" in told[0] and "nothing to do" in told[1]["text"]
    assert bind.secret not in str(told)
