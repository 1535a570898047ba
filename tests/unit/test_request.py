"""What an operator asks of a deploy: nothing that is misspelt or empty may mean everything."""

from __future__ import annotations

from typing import Any

import pytest
from hecate.errors import HecateError
from hecate.request import Request


def test_lists_come_as_lists_or_with_commas() -> None:
    asked = Request.of({"routes": "a.test, b.test", "systems": ["caddy"], "wait": 30, "message": "why", "tags": None})
    assert asked == Request(routes=("a.test", "b.test"), systems=("caddy",), wait=30, message="why")
    assert Request.of(asked.to_json()) == asked


@pytest.mark.parametrize("name", ["plan", "to", "systems", "routes", "tags", "tenants"])
@pytest.mark.parametrize("empty", ["", " ", ",", [], [""]])
def test_a_choice_that_is_empty_is_refused(name: str, empty: Any) -> None:
    with pytest.raises(HecateError, match=f"{name}: given, but empty"):
        Request.of({name: empty})


@pytest.mark.parametrize("name", ["route", "tag", "Plan", "hosts"])
def test_a_word_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(HecateError, match=f"{name}: a deploy knows no such word; it takes allow, message"):
        Request.of({name: "x"})


def test_what_a_command_line_takes_for_a_number_is_a_word() -> None:
    assert Request.of({"tags": 12, "tenants": [7]}) == Request(tags=("12",), tenants=("7",))
