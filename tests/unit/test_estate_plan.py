"""One plan for the estate: what is told of it, what is kept of it, and what is noticed when things have moved."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hecate.errors import HecateError
from hecate.estate_plan import NOTHING, EstatePlan, TargetPlan, moved
from hecate.estate_text import SHOWN, markdown, text
from hecate.lasting import lasting
from hecate.plan import Plan
from hecate.report import fingerprint, outline
from hecate.resource import UNKNOWN, Change, Resource
from hecate.store.local import LocalStore
from hecate.store.plans import KEPT, Plans
from hypothesis import given
from hypothesis import strategies as st

KINDS = ["caddy.route", "dns.rrset", "authentik.group"]
values = st.text("ab`|<>*_@[]\n\\é", max_size=8)


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    keys = draw(st.lists(st.tuples(st.sampled_from(KINDS), st.text("abc|`", min_size=1)), unique=True, max_size=12))
    found = []
    for kind, key in keys:
        before, after = (Resource(kind, key, {"x": draw(values), "y": side}) for side in "ab")
        found.append(draw(st.sampled_from([Change(None, after), Change(before, after), Change(before, None)])))
    return found


def target(name: str, made: list[Change], **more: Any) -> TargetPlan:
    system = "caddy" if name.startswith("edge") else name
    return TargetPlan.of(name, system, f"m-{name}", {**outline(Plan(tuple(made))), **more})


def estate(*targets: TargetPlan, **more: Any) -> EstatePlan:
    return EstatePlan("lab", targets, **more)


@given(changes(), changes())
def test_neither_text_nor_markdown_loses_a_change(one: list[Change], two: list[Change]) -> None:
    plan = estate(target("edge", one), target("authentik", two))
    shown, folded = text(plan), html.unescape(markdown(plan))
    for sign, change in ((line.verb, line) for each in plan.targets for line in each.lines):
        mark = {"create": "+", "update": "~", "delete": "-"}[sign]
        assert f"{mark} {change.id}" in shown
        assert f"`{mark}` {change.id}" in folded


@given(changes())
def test_nothing_of_an_object_becomes_markup(made: list[Change]) -> None:
    lines = markdown(estate(target("edge", made))).splitlines()
    rows = [line for line in lines if line.startswith("- `")]
    assert len(rows) == len(made)
    assert not [row for row in rows if set(row[5:]) & set("`|<>*_@[]~")]


@given(changes())
def test_colour_is_all_that_colour_changes(made: list[Change]) -> None:
    plan = estate(target("edge", made))
    plain, coloured = text(plan), text(plan, colour=True)
    assert "\033" not in plain
    for code in ("\033[32m", "\033[33m", "\033[31m", "\033[1;31m", "\033[1m", "\033[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


@given(changes())
def test_a_plan_survives_being_kept_and_is_the_same_for_everybody(made: list[Change]) -> None:
    plan = estate(target("edge", made, calls=2), selection={"routes": ("a",)}, pillar="f", made=1.0, user="alice")
    again = EstatePlan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again.to_json() == plan.to_json() and again.digest == plan.digest and moved(plan, again) == []
    assert replace(plan, made=2.0, user="bob").digest == plan.digest
    assert replace(plan, selection={}).digest != plan.digest


@given(changes(), changes())
def test_whatever_differs_is_told(then: list[Change], today: list[Change]) -> None:
    old, new = estate(target("edge", then)), estate(target("edge", today))
    told = "\n".join(moved(old, new))
    assert bool(told) == (Plan(tuple(then)).digest != Plan(tuple(today)).digest)
    prints = [{(change.id, fingerprint(change)) for change in made} for made in (then, today)]
    assert all(name in told for name, _ in prints[0] ^ prints[1])


def test_what_moved_is_told_field_by_field() -> None:
    def update(now: str) -> list[Change]:
        return [Change(*(Resource("caddy.route", "a", {"upstream": side}) for side in (now, "z")))]

    found = moved(estate(target("edge", update("x"))), estate(target("edge", update("y"))))
    assert found == ["edge: differently: caddy.route a upstream: planned x -> z, now y -> z"]
    assert moved(estate(), estate(target("edge", []))) == ["edge: is a target now"]


def test_of_very_many_the_rest_is_counted() -> None:
    made = [Change(None, Resource("caddy.route", f"r{n:04}", {"hosts": [str(n)]})) for n in range(SHOWN + 37)]
    plan = estate(target("edge", made))
    assert "... and 37 more to create" in text(plan)
    assert f"… and {SHOWN + 37 - 50} more to create" in markdown(plan)
    assert f"{SHOWN + 37} to create" in text(plan)


def test_what_it_takes_is_told() -> None:
    route = [Change(None, Resource("caddy.route", "a", {"hosts": ["a"]}))]
    file = [Change(None, Resource("caddy.saved", "/f", {"holds": "what runs"}))]
    plan = estate(
        target("authentik", []), target("edge-1", route, calls=1), target("edge-2", file, calls=1), target("dns", [])
    )
    assert "Caddy reloads: 1; API calls to apply: about 2" in text(plan)
    assert "order: edge-1, then edge-2" in text(plan) and f'"plan": "{plan.digest}"' in text(plan)
    assert text(plan).count("nothing to do") == 2


def test_one_that_waits_for_terraform_is_not_offered_for_a_deploy() -> None:
    waiting = TargetPlan.of("dns", "hetzner_dns", "m", {"changes": [], "digest": "", "pending": ["terraform:ip"]})
    plan = estate(waiting)
    assert plan and plan.pending == ["terraform:ip"] and waiting.digest == NOTHING
    assert "waits for terraform:ip" in text(plan) and '{"plan":' not in text(plan)
    assert "deploy systems=terraform first" in text(plan) and "waits for terraform:ip" in markdown(plan)


def test_dangers_stand_before_everything_else() -> None:
    made = [Change(Resource("caddy.route", "a", {}), None)]
    plan = estate(target("edge", made, unsafe=["the last route of a would go; to allow it: allow=route:a"]))
    assert text(plan).splitlines()[1] == "! edge: the last route of a would go; to allow it: allow=route:a"
    assert markdown(plan).index("allow=route:a") < markdown(plan).index("| system |")


def test_what_cannot_be_undone_is_told_once() -> None:
    gone = Change(Resource("terraform.configuration", "main", {"source": "x"}), None)
    secret = Change(Resource("authentik.token", "t", {"key": UNKNOWN}), Resource("authentik.token", "t", {"key": "r"}))
    fresh = Change(None, Resource("authentik.group", "g", {}))
    assert lasting([fresh]) == ()
    found = lasting([gone, gone, secret, fresh])
    assert len(found) == 2 and "destroys" in found[0] and found[1].startswith("t: its present secret")
    assert "cannot be undone: edge: everything that Terraform destroys" in text(estate(target("edge", [gone])))


def test_both_parts_of_a_target_that_holds_deletions_back_are_the_whole() -> None:
    old, new, cname = (Resource("dns.rrset", f"z/{name}", {}) for name in ("a/A", "b/A", "a/CNAME"))
    late = Resource("dns.rrset", "z/c/A", {})
    plan = Plan((Change(old, None), Change(None, cname), Change(None, new), Change(late, None)))
    first, then = plan.holding_deletions(), plan.without_held()
    assert {c.id for c in first.changes} == {old.id, new.id, cname.id}
    assert [c.id for c in then.changes] == [late.id]
    parts = target("dns", list(plan.changes), held=first.digest, rest=then.digest)
    assert parts.digest_of("deletions", False) == first.digest and parts.digest_of("", True) == then.digest
    assert parts.digest_of("", False) == plan.digest


# Kept


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def digest(number: int) -> str:
    return f"p{number:015x}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plans(tmp_path: Path, clock: Clock) -> Plans:
    return Plans(LocalStore(tmp_path), "lab", clock)


def test_the_newest_fifty_are_kept(plans: Plans) -> None:
    for number in range(KEPT + 5):
        plans.save(digest(number), {"number": number})
    assert [plan["number"] for plan in plans.listed()] == list(range(KEPT + 4, 4, -1))
    with pytest.raises(HecateError, match="hecate.plans lists them"):
        plans.get(digest(0))


def test_one_that_is_made_again_is_new_again(plans: Plans) -> None:
    for number in (1, 2, 1):
        plans.save(digest(number), {"number": number})
    assert [plan["number"] for plan in plans.listed()] == [1, 2]


def test_one_that_is_too_old_says_so(plans: Plans, clock: Clock) -> None:
    plans.save(digest(1), {})
    clock.now += 8 * 86400
    assert plans.listed() == []
    with pytest.raises(HecateError, match="has expired"):
        plans.get(digest(1))


@pytest.mark.parametrize("word", ["", "../lock", "p123", "zzz", "p" + "0" * 16])
def test_nonsense_is_no_digest(plans: Plans, word: str) -> None:
    with pytest.raises(HecateError, match="is no plan's digest"):
        plans.get(word)
