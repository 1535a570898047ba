"""Plans as people and Salt get them: whole while they are short, counted where they are long."""

from __future__ import annotations

import json

from hecate.plan import Plan
from hecate.report import SHOWN, outline, plan_text, salt_changes
from hecate.resource import Change, Resource


def plan(count: int) -> Plan:
    made = tuple(Change(None, Resource("caddy.route", f"r{n:05d}.test", {"hosts": ["x"] * 20})) for n in range(count))
    gone = tuple(Change(Resource("caddy.route", f"old{n}.test", {}), None) for n in range(3))
    return Plan((*made, *gone), ("the last route of old0.test would go; to allow it: allow=route:old0.test",))


def test_a_short_plan_is_told_whole() -> None:
    text, changes = plan_text(plan(5), "caddy"), salt_changes(plan(5))
    assert text.startswith("caddy: 5 to create, 3 to delete") and "more" not in text
    assert len(changes) == 8 and "+ caddy.route r00004.test" in text and "- caddy.route old2.test" in text


def test_of_a_long_one_the_rest_is_counted_and_every_danger_named() -> None:
    text, changes = plan_text(plan(10_000)), salt_changes(plan(10_000))
    assert f"... and {10_000 - SHOWN} more: caddy.route to create" in text
    assert "... and 3 more: caddy.route to delete" in text and "allow=route:old0.test" in text
    assert changes["... caddy.route to create"] == {"old": None, "new": f"{10_000 - SHOWN} more"}
    assert len(changes) == SHOWN + 2 and len(json.dumps(changes)) + len(text) < 200_000


def test_the_outline_has_every_change_and_is_small_enough_for_salt() -> None:
    rows = outline(plan(10_000))
    assert len(rows["changes"]) == 10_003
    assert {"id": "caddy.route old2.test", "verb": "delete"}.items() <= rows["changes"][-1].items()
    assert len(json.dumps(rows)) < 1_000_000


def test_of_a_longer_text_the_lines_that_differ_are_told() -> None:
    before, after = ("\n".join([*("same" * 30,) * 3, *lines, "return True"]) for lines in (["a", "b"], ["a", "c"]))
    sides = (Resource("authentik.policy", "p", {"expression": text}) for text in (before, after))
    one = Plan((Change(*sides),))
    assert plan_text(one).splitlines()[2:] == ["      expression, line 5: b -> c"]
    assert salt_changes(one)["authentik.policy p"] == {
        "old": {"expression, line 5": "b"},
        "new": {"expression, line 5": "c"},
    }


def test_a_line_that_is_new_or_gone_is_told_by_where_it_is() -> None:
    sides = [Resource("authentik.policy", "p", {"expression": text}) for text in ("a\nz", "a\nb\nc\nz")]
    assert "expression, line 2: (absent) -> b / c" in plan_text(Plan((Change(*sides),)))
    assert "expression, line 2: b / c -> (absent)" in plan_text(Plan((Change(*reversed(sides)),)))
