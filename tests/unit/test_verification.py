"""What is probed after which deploy, by whom, and how it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hecate import model
from hecate.errors import HecateError
from hecate.order import packed
from hecate.targets import Crew, Step
from hecate.verification import Probe, Report, Task, Verification, questions, table
from hecate.verification.scope import chosen, of_deploy, sample, touched

EDGES = ("edge-1", "edge-2")
STEPS = [*(Step(edge, edge, "caddy") for edge in EDGES), Step("authentik", "ak", "authentik")]


def estate(count: int = 3, **sections: Any) -> model.Estate:
    body = {
        "authentik": {"url": "https://a.test", "token": "env:T"},
        "auth_policies": {"staff": {"groups": ["crew"]}},
        "edges": {edge: {"address": f"192.0.2.{n}"} for n, edge in enumerate(EDGES, 1)},
        "routes": {
            f"r{n}.test": {"upstreams": ["192.0.2.9:80"], **({"auth_policy": "staff"} if n == 0 else {})}
            for n in range(count)
        },
    }
    return model.parse({"hecate": {**body, **sections}})


def rows_of(task: Task, result: str = "ok") -> list[Probe]:
    return [Probe("tcp", visit.name, visit.edge, result, "") for visit in task.visits]


Called = Callable[..., Any]


def verification(answer: Called, found: model.Estate | None = None, here: bool = False) -> Verification:
    return Verification(found or estate(), Crew(answer), STEPS, rows_of, lambda _: here)


def good(minion: str, function: str, *args: Any) -> Any:
    """Minions that do as they are asked, and changed nothing."""
    if function == "hecate.verify":
        return {"rows": packed({"rows": [row.to_json() for row in rows_of(Task.unpack(args[0]))]})}
    return []


def probers(report: Report) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in report.probes:
        if row.what == "tcp":
            found.setdefault(row.at, set()).add(row.by)
    return found


def test_a_task_comes_through_packing_as_it_was() -> None:
    found = estate(verify={"accounts": {"t": "env:P"}}, dns={"zones": {"r0.test": {"policy": "sync", "records": {
        "@": {"A": "192.0.2.1", "MX": "10 mail.r0.test."}}}}}, hetzner_dns={"token": "env:H"})  # fmt: skip
    task = questions(found, {"edge-1": "PEM"})
    assert task.records and task.doors and len(task.visits) == 6 and Task.unpack(task.pack()) == task


def test_each_edge_is_probed_from_another() -> None:
    assert probers(verification(good).verify()) == {"edge-1": {"edge-2"}, "edge-2": {"edge-1"}}


def test_who_is_named_probes_but_never_itself() -> None:
    found = estate(verify={"from": ["edge-1", "probe"]})
    assert probers(verification(good, found).verify()) == {"edge-1": {"probe"}, "edge-2": {"edge-1"}}


HALF = {"rows": packed({"rows": []})}


@pytest.mark.parametrize("answer", ["edge-1 does not answer", None, {}, {"rows": "junk"}, HALF])
def test_a_prober_that_fails_is_told_and_replaced(answer: Any) -> None:
    def call(minion: str, function: str, *args: Any) -> Any:
        return answer if minion == "edge-1" else good(minion, function, *args)

    report = verification(call).verify()
    assert probers(report) == {"edge-1": {"edge-2"}, "edge-2": {"the master"}} and report.good
    assert [(row.result, row.host) for row in report.probes if row.what == "prober"] == [("warn", "edge-1")]


def test_an_edge_that_nobody_else_can_probe_says_so() -> None:
    lonely = estate(edges={"edge-1": {}})
    steps = [Step("edge-1", "edge-1", "caddy")]
    report = Verification(lonely, Crew(good), steps, rows_of, lambda _: True).verify()
    assert "from its own machine" in next(row.told for row in report.probes if row.what == "prober")


def test_an_edge_that_nobody_could_probe_at_all_fails() -> None:
    def nothing(minion: str, function: str, *args: Any) -> Any:
        return "silent"

    class Deaf(Verification):
        def _ask(self, prober: str, task: Task) -> tuple[list[Probe] | None, str]:
            return None, "silent"

    report = Deaf(estate(), Crew(nothing), STEPS, rows_of, lambda _: False).verify()
    assert not report.good and "nobody could probe it" in report.text()


# What a deploy is checked for


@pytest.mark.parametrize(
    ("one", "hosts"),
    [
        ("caddy.route r1.test", {"r1.test"}),
        ("caddy.route gone.test", set()),
        ("dns.rrset test/r2/A", {"r2.test"}),
        ("authentik.application r0-test", {"r0.test"}),
        ("authentik.binding r0-test/group/crew", {"r0.test"}),
        ("authentik.attachment outpost/hecate/production/r0.test", {"r0.test"}),
        ("authentik.policy hecate/production/policy/staff", {"r0.test"}),
        ("authentik.group crew", {"r0.test"}),
    ],
)
def test_a_change_leads_to_its_routes(one: str, hosts: set[str]) -> None:
    assert touched(estate(), [one]) == (hosts, [])


def test_what_all_share_is_named() -> None:
    assert touched(estate(), ["caddy.server hecate", "terraform.stack main"])[1] == [
        "caddy.server hecate",
        "terraform.stack main",
    ]


def test_a_sample_is_the_same_for_a_deploy_and_in_time_has_seen_all() -> None:
    keys = [f"r{n}" for n in range(1003)]
    assert sample(keys, "t1", 50) == sample(keys, "t1", 50) and len(sample(keys, "t1", 50)) <= 50
    assert {key for n in range(300) for key in sample(keys, f"t{n}", 50)} == set(keys)
    assert sample(keys, "t", 0) == [] and sample(keys, "t", 2000) == keys


def test_a_deploy_is_checked_for_what_it_changed_and_a_sample() -> None:
    found = of_deploy(estate(1000), "t1", ["caddy.route r7.test", "caddy.server hecate"])
    assert found.routes and "r7.test" in found.routes and 1 < len(found.routes) <= 51
    assert "1 changed routes" in found.told and "caddy.server hecate" in found.told
    assert of_deploy(estate(1000, verify={"sample": "all"}), "t1", []).routes is None


def test_where_a_target_cannot_tell_what_was_changed_everything_is_probed() -> None:
    def call(minion: str, function: str, *args: Any) -> Any:
        if function == "hecate.changed":
            return "ak does not answer" if minion == "ak" else []
        return good(minion, function, *args)

    report = verification(call, estate(200)).verify("t1")
    assert len({row.host for row in report.probes}) == 200 and "authentik cannot tell" in report.scope
    assert len({row.host for row in verification(good, estate(200)).verify("t1").probes}) <= 50


def test_routes_by_any_host_and_no_misspelt_ones() -> None:
    assert chosen(estate(), ["r1.test"]).routes == ("r1.test",)
    with pytest.raises(HecateError, match="no route r9.test"):
        chosen(estate(), ["r9.test"])


@pytest.mark.parametrize(("passes", "kind", "result"), [(True, "allowed", "ok"), (True, "refused", "fail"),
    (False, "allowed", "fail"), (False, "refused", "ok"), (None, "allowed", "fail")])  # fmt: skip
def test_of_whom_has_no_password_authentik_is_asked(passes: bool | None, kind: str, result: str) -> None:
    routes = {"r0.test": {"upstreams": ["192.0.2.9:80"], "auth_policy": "staff", "verify": {kind: "alice"}}}
    words = {
        True: {"may": {"r0.test": "yes"}, "may not": "nothing"},
        False: {"may": "nothing", "may not": {"r0.test": []}},
    }

    def call(minion: str, function: str, *args: Any) -> Any:
        if function == "hecate_authentik.access":
            return "down" if passes is None else words[passes]
        return good(minion, function, *args)

    report = verification(call, estate(routes=routes, verify={"accounts": {"alice": {}}})).verify()
    assert [row.result for row in report.probes if row.at == "authentik"] == [result]


# Told


def test_the_table_has_what_failed_first_and_counts_what_is_too_much() -> None:
    few = [
        Probe("https", "a.test", "edge", "ok", "200", "here"),
        Probe("plain", "a.test", "edge", "ok", "308 to HTTPS", "here"),
        Probe("https", "bb.test", "edge", "fail", "is the upstream up?", "here"),
        Probe("tls", "a.test", "edge", "warn", "10 days", "here"),
        Probe("spoofed", "a.test", "edge", "skip", "no echo", "here"),
    ]
    assert table(few, "all routes").splitlines() == [
        "3 of 4 probes passed, 1 with a warning (all routes)",
        "FAIL  https  bb.test  at edge  is the upstream up?",
        "warn  tls  a.test  at edge  10 days",
        "ok    a.test  at edge  https 200; plain 308 to HTTPS",
        "skip  1 x spoofed: no echo",
        "probed: edge from here",
    ]
    many = table([*few, *(Probe("https", f"r{n}.test", "edge", "ok", "200") for n in range(5000))])
    assert "ok    5001 x https" in many and len(many.splitlines()) < 10 and "bb.test" in many
    report = Report(tuple(few))
    assert not report.good and report.data()["counts"] == {"ok": 2, "warn": 1, "fail": 1, "skip": 1}
    assert Report(tuple(few[:2] + few[3:])).good


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ({"verify": {"allowed": "x"}, "auth_policy": "staff"}, "no such account"),
        ({"verify": {"allowed": "t"}}, "only a route behind authentik"),
        ({"verify": {"allowed": "t", "refused": "t"}, "auth_policy": "staff"}, "has to get in"),
        ({"verify": {"status": 200}, "auth_policy": "staff"}, "behind a login"),
        ({"verify": {"path": "no-slash"}}, "does not match"),
    ],
)
def test_what_nobody_could_check_is_refused(route: dict[str, Any], why: str) -> None:
    routes = {"r0.test": {"upstreams": ["192.0.2.9:80"], **route}}
    with pytest.raises(HecateError, match=why):
        estate(routes=routes, verify={"accounts": {"t": "env:P"}})
