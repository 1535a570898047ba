"""How many calls a run takes, whether they are there; and what a provider does wrong half-way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hecate import model, wiring
from hecate.budget import Allowance, Budget
from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.errors import ApplyFailed, Faulty, NotFound, OverBudget, RateLimited, Refused
from hecate.report import outline, plan_text

from lab.emulators.base import Fault

from .conftest import World
from .dns_lab import ZONE, DnsLab, addresses, dns_lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DnsLab]:
    with dns_lab(tmp_path, monkeypatch) as made:
        yield made


# The budget


def test_a_plan_says_what_it_takes_and_the_apply_takes_no_more(lab: DnsLab) -> None:
    target = lab.target(addresses(12))
    plan = target.engine.plan(target.wish)
    assert plan.budget is not None and plan.budget.spent == 2 == len(lab.calls()), "zones, and one page of rrsets"
    assert f"2 API calls made, about {plan.budget.to_come} more to apply; 3598 of 3600 an hour are left" in plan_text(
        plan
    )
    assert outline(plan)["budget"]["to_come"] == plan.budget.to_come and outline(plan)["budget"]["fits"] is True
    lab.emulator.calls.clear()
    target.engine.apply(target.wish, "t1")
    reads = [call for call in lab.calls() if call.startswith("GET /actions")]
    assert len(lab.calls()) - len(reads) == len(plan.changes) + 1 + 2 * 2, (
        "writes, the zonefile, and each page before and after"
    )
    assert all(call["status"] < 300 for call in lab.emulator.calls)
    assert plan.budget.to_come >= 12 + 1 + 2


def test_a_run_without_changes_takes_the_pages_alone(lab: DnsLab) -> None:
    target = lab.target(addresses(130))
    target.engine.apply(target.wish, "t1")
    lab.emulator.calls.clear()
    assert not target.engine.apply(target.wish, "t2").plan
    number = lab.emulator.state.find_zone(ZONE)["id"]  # type: ignore[index]
    assert lab.calls() == ["GET /zones", *[f"GET /zones/{number}/rrsets"] * 2]


def test_actions_are_asked_about_together(lab: DnsLab) -> None:
    target = lab.target(addresses(60))
    lab.emulator.action_seconds = 0
    target.engine.apply(target.wish, "t1")
    assert len([call for call in lab.calls() if call.startswith("GET /actions")]) <= 3, (
        "one for the zone's TTL, 60 for the sets, 50 in a call"
    )


def test_a_run_that_does_not_fit_says_so_before_the_first_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dns_lab(tmp_path, monkeypatch, rate_limit=40) as lab:
        before = lab.held()
        much = lab.target(addresses(50))
        with pytest.raises(OverBudget, match="more than an hour's 40: apply it in parts") as caught:
            much.engine.apply(much.wish, "t1")
        assert caught.value.needed > 50 and caught.value.remaining == 38
        assert lab.held() == before and not any(call["write"] for call in lab.emulator.calls)
        lab.emulator.rate_remaining = 10.0
        some = lab.target(addresses(15))
        plan = some.engine.plan(some.wish)
        assert "too long: it would be refused" in plan_text(plan) and outline(plan)["budget"]["fits"] is False
        with pytest.raises(OverBudget, match="try again at 20.* UTC"):
            some.engine.apply(some.wish, "t2")
        assert lab.held() == before
        lab.emulator.rate_remaining = 40.0
        some.engine.apply(some.wish, "t3")
        assert len(lab.held()) == len(before) + 15


def test_a_wait_within_patience_is_no_reason_to_refuse() -> None:
    near = Budget("x", 2, 40, Allowance(3600, 10, 0), 60)
    assert near.fits and near.wait == 30 and "30 s of waiting" in near.text()
    near.refuse_if_over()
    assert Budget("x", 2, 10**6, None, 60).fits, "who tells no limit has none"


def test_a_rate_limit_is_waited_for_and_the_call_sent_again_a_write_too(lab: DnsLab) -> None:
    target = lab.target(addresses(3))
    lab.faults(Fault(kind="rate-limit", method="POST", times=2), Fault(kind="rate-limit", method="GET", times=1))
    target.engine.apply(target.wish, "t1")
    assert {"h0/A", "h1/A", "h2/A"} <= lab.held().keys()
    assert len([call for call in lab.emulator.calls if call["status"] == 429]) == 3


def test_a_rate_limit_beyond_patience_says_until_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with dns_lab(tmp_path, monkeypatch, rate_limit=1) as lab:
        naps: list[float] = []
        client = HetznerDnsClient(lab.token, f"{lab.url}/v1", sleep=naps.append)
        client.zones()
        with pytest.raises(RateLimited, match="try again after 20.* UTC"):
            client.zones()
        assert naps == [] and client.meter.spent == 2, "nobody waits an hour, and nobody hammers"


# Faults


def test_an_action_that_fails_after_acceptance_is_told_and_all_is_undone(lab: DnsLab) -> None:
    before = lab.held()
    target = lab.target(addresses(3))
    lab.faults(Fault(kind="action-error", skip=1))
    with pytest.raises(
        ApplyFailed, match="an accepted change was not carried out: create_rrset: Action failed"
    ) as caught:
        target.engine.apply(target.wish, "t1")
    assert caught.value.undone and lab.held() == before


def test_an_action_that_never_ends_is_given_up_and_all_is_undone(lab: DnsLab) -> None:
    before = lab.held()
    target = lab.target(addresses(3))
    lab.faults(Fault(kind="action-hang", skip=1))
    with pytest.raises(
        ApplyFailed, match=r"1 accepted changes \(create_rrset\) were not carried out in 120 s"
    ) as caught:
        target.engine.apply(target.wish, "t1")
    assert caught.value.undone and lab.held() == before and sum(lab.naps) >= 120


@pytest.mark.parametrize(("status", "code"), [(409, "conflict"), (423, "locked"), (423, "protected")])
def test_a_locked_zone_refuses_and_all_is_undone(lab: DnsLab, status: int, code: str) -> None:
    before = lab.held()
    target = lab.target(addresses(3))
    body = {"error": {"code": code, "message": "the zone is busy", "details": None}}
    lab.faults(Fault(method="WRITE", status=status, body=body, skip=1))
    with pytest.raises(ApplyFailed, match="the zone is busy") as caught:
        target.engine.apply(target.wish, "t1")
    assert isinstance(caught.value.cause, Refused) and caught.value.undone and lab.held() == before
    writes = [call for call in lab.emulator.calls if call["write"] and call["status"] == status]
    assert len(writes) == 1, "a refused write is not sent again"


def test_a_zone_that_is_missing_is_named_and_nothing_is_written_elsewhere(lab: DnsLab) -> None:
    before = lab.held()
    pillar = lab.pillar(addresses(2))
    pillar["dns"]["zones"]["gone.test"] = {"policy": "sync", "records": {"a": {"A": "192.0.2.1"}}}
    target = wiring.target("hetzner_dns", model.parse({"hecate": pillar}), lab.place)
    with pytest.raises(NotFound, match=r"gone\.test"):
        target.engine.apply(target.wish, "t1")
    assert lab.held() == before


def test_a_token_of_another_project_sees_nothing_and_deletes_nothing(lab: DnsLab) -> None:
    """There every zone is invisible: an empty answer, and a good one."""
    target = lab.target(addresses(3))
    target.engine.apply(target.wish, "t1")
    before, state = lab.held(), lab.emulator.state
    lab.emulator.state = type(state)()
    lab.emulator.calls.clear()
    with pytest.raises(NotFound, match=r"estate\.test.*project"):
        target.engine.apply(target.wish, "t2")
    assert not any(call["write"] for call in lab.emulator.calls)
    lab.emulator.state = state
    assert lab.held() == before


def test_a_list_that_changes_between_two_pages_is_read_again_and_never_taken_for_whole(lab: DnsLab) -> None:
    """The second page's answer comes from a zone that has lost a set meanwhile: what moved up would be missed."""
    target = lab.target(addresses(130))
    target.engine.apply(target.wish, "t1")
    client = HetznerDnsClient(lab.token, f"{lab.url}/v1", sleep=lab.nap)
    zone = client.zones()[0]
    sets = lab.emulator.state.rrsets[zone.id]
    whole = len(sets)
    taken = sets.pop(("h5", "A"))
    lab.faults(Fault(kind="stale", path="rrsets", times=1))  # page 1 without h5 ...
    sets["h5", "A"] = taken  # ... and page 2 with it
    lab.emulator.calls.clear()
    assert len(client.rrsets(zone)) == whole
    assert len(lab.emulator.calls) == 4, "two pages, and the same two again"
    sets.pop(("h5", "A"))
    lab.faults(*[Fault(kind="stale", path="rrsets", skip=0, times=1)])
    sets["h5", "A"] = taken
    assert not target.engine.plan(target.wish).changes, "and nothing is planned because of it"


def test_a_list_that_never_holds_still_raises(lab: DnsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    target = lab.target(addresses(130))
    target.engine.apply(target.wish, "t1")
    page, seen = type(lab.emulator).page, [0]

    def moving(self: object, request: object, key: str, found: list[dict[str, object]]) -> dict[str, object]:
        seen[0] += key == "rrsets"
        return page(lab.emulator, request, key, found[seen[0] % 2 :])  # type: ignore[arg-type]

    monkeypatch.setattr(type(lab.emulator), "page", moving)
    before = lab.held()
    with pytest.raises(Faulty, match="changed while it was read"):
        target.engine.apply(target.wish, "t2")
    assert lab.held() == before


@pytest.mark.parametrize("kind", ["status", "cut", "half-body", "rate-limit"])
def test_a_read_that_fails_half_way_never_becomes_deletions(lab: DnsLab, kind: str) -> None:
    target = lab.target(addresses(130))
    target.engine.apply(target.wish, "t1")
    before = lab.held()
    fewer = lab.target(addresses(129))
    lab.emulator.calls.clear()
    lab.faults(
        Fault(kind=kind, path="rrsets", method="GET", skip=1, times=None)
    )  # the first page comes, the second not
    with pytest.raises(Exception) as caught:
        fewer.engine.apply(fewer.wish, "t2")
    assert isinstance(caught.value, Faulty | RateLimited) or "no answer" in str(caught.value)
    assert lab.held() == before and not any(call["write"] for call in lab.emulator.calls)
    lab.faults()
    assert [change.id for change in fewer.engine.apply(fewer.wish, "t3").plan.changes] == [f"dns.rrset {ZONE}/h129/A"]


def test_the_token_is_in_no_kept_zonefile(lab: DnsLab) -> None:
    target = lab.target(addresses(2))
    target.engine.apply(target.wish, "t1")
    files = [path for path in lab.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".zone" for path in files)
    assert not any(lab.token in path.read_text() for path in files)


def test_after_a_change_only_its_own_zone_is_read_again(dns_world: World) -> None:
    token = {"Authorization": f"Bearer {dns_world.secret}"}
    more = {f"z{n}.test": {"policy": "sync"} for n in range(5)}
    for zone in more:
        body = {"name": zone, "mode": "primary"}
        requests.post(f"{dns_world.url}/v1/zones", json=body, headers=token, timeout=5).raise_for_status()
    zones = {**more, "z0.test": {"policy": "sync", "records": {"a": {"A": "203.0.113.1"}}}}
    target = dns_world.target({"dns": {"zones": zones}})
    before = len(requests.get(f"{dns_world.url}/_lab/calls", timeout=5).json())
    assert target.engine.apply(target.wish, "t1").plan.changes
    calls = requests.get(f"{dns_world.url}/_lab/calls", timeout=5).json()[before:]
    reads = [call["path"] for call in calls if call["method"] == "GET" and call["path"].endswith("/rrsets")]
    assert len(reads) == len(more) + 1 and reads.count(reads[-1]) == 2


def test_a_state_for_one_rrset_reads_its_own_zone_alone(dns_world: World) -> None:
    import hecate_salt
    import hecate_states

    token = {"Authorization": f"Bearer {dns_world.secret}"}
    zones = {"estate.test": {"policy": "sync"}, **{f"z{n}.test": {"policy": "sync"} for n in range(5)}}
    for zone in list(zones)[1:]:
        body = {"name": zone, "mode": "primary"}
        requests.post(f"{dns_world.url}/v1/zones", json=body, headers=token, timeout=5).raise_for_status()
    pillar = {"hecate": {**dns_world.base, "dns": {"zones": zones}}}
    site = hecate_salt.Site({"id": "dns", "cachedir": str(dns_world.folder)}, {}, pillar)
    before = len(requests.get(f"{dns_world.url}/_lab/calls", timeout=5).json())
    overlay = {"dns": {"zones": {"z3.test": {"records": {"a": {"A": "203.0.113.1"}}}}}}
    made = hecate_states.present(site, "hetzner_dns", "a", overlay, test=False)
    assert made["result"] is True and "dns.rrset z3.test/a/A" in made["changes"], made["comment"]
    calls = requests.get(f"{dns_world.url}/_lab/calls", timeout=5).json()[before:]
    read = {call["path"] for call in calls if call["method"] == "GET" and call["path"].endswith("/rrsets")}
    assert len(read) == 1 and sum(call["write"] for call in calls) <= 2
