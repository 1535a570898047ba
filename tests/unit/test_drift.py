"""Who moved: base, pillar and live are in one class at most; healing stops; adopted pillar is kept; looks are cheap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hecate.adopted import AdoptedFile
from hecate.drift import (
    ABSENT,
    BOTH,
    BY_HAND,
    ONLY_LIVE,
    ONLY_PILLAR,
    Drift,
    Wanted,
    classify,
    compare,
    merged,
    scope,
    summary,
    text,
)
from hecate.drifting import rebased
from hecate.errors import HecateError, Unreachable
from hecate.model.drift import Drift as Settings
from hecate.resource import Resource, Snapshot
from hecate.secrets import GONE
from hecate.store.breaker import Breaker
from hecate.store.local import LocalStore
from hecate.watching import look
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.one_of(st.just(ABSENT), st.integers(0, 3))
SPECS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 2), max_size=3)
SIDES = st.dictionaries(st.sampled_from(["x", "y", "z"]), SPECS, max_size=3)


def of(side: dict[str, Any]) -> dict[str, Resource]:
    return {f"k {key}": Resource("k", key, spec) for key, spec in side.items()}


def rows(base: dict[str, Any], pillar: dict[str, Any], live: dict[str, Any]) -> dict[str, Drift]:
    sides = [Wanted.of(of(side).values()) for side in (base, pillar)]
    return {row.id: row for row in compare(*sides, Snapshot(of(live)), lambda want, _: want)}


@given(VALUES, VALUES, VALUES)
def test_three_values_are_in_exactly_the_class_that_says_who_moved(base: Any, pillar: Any, live: Any) -> None:
    by_rule = {
        "": live == pillar,
        ONLY_LIVE: live != pillar and base is ABSENT and pillar is ABSENT,
        BY_HAND: live != pillar and base == pillar and pillar is not ABSENT,
        ONLY_PILLAR: live != pillar and base != pillar and live == base,
        BOTH: len({str(value) for value in (base, pillar, live)}) == 3,
    }
    assert [who for who, holds in by_rule.items() if holds] == [classify(base, pillar, live)]


@given(SIDES, SIDES)
def test_what_is_live_as_pillar_wants_it_is_never_drift(base: dict[str, Any], pillar: dict[str, Any]) -> None:
    assert rows(base, pillar, pillar) == {}


@given(SIDES, SIDES, SIDES)
def test_every_difference_is_told_once_and_nothing_else(
    base: dict[str, Any], pillar: dict[str, Any], live: dict[str, Any]
) -> None:
    found = rows(base, pillar, live)
    assert set(found) == {f"k {key}" for key in {*pillar, *live} if pillar.get(key) != live.get(key)}
    for row in found.values():
        assert (row.what == "") == (row.who == ONLY_PILLAR)
        assert Drift.from_json(json.loads(json.dumps(row.to_json()))) == row


@given(SIDES, SIDES)
def test_without_a_deployment_nothing_is_only_pillar_s(pillar: dict[str, Any], live: dict[str, Any]) -> None:
    assert {row.who for row in rows(pillar, pillar, live).values()} <= {BY_HAND, ONLY_LIVE}


def test_fields_tell_who_moved_each_of_them() -> None:
    (row,) = rows({"x": {"a": 1, "b": 1}}, {"x": {"a": 2, "b": 1}}, {"x": {"a": 1, "b": 3}}).values()
    assert row.who == BOTH and {one.path: one.who for one in row.fields} == {"a": ONLY_PILLAR, "b": BY_HAND}
    assert "b: deployed 1, pillar 1, live 3  [changed by hand]" in text("t", [row])
    assert summary([row]) == "1 both" and summary([]) == "no drift"


def test_a_text_that_looks_like_nothing_is_a_value() -> None:
    (row,) = rows({"x": {"a": "(absent)"}}, {"x": {"a": "(absent)"}}, {"x": {}}).values()
    assert row.who == BY_HAND and row.fields[0].base == '"(absent)"' and row.fields[0].live == "(absent)"


def test_a_password_is_not_shown() -> None:
    (row,) = rows({"x": {}}, {"x": {}}, {"x": {"password": "$2a$secret"}}).values()
    assert "secret" not in text("t", [row]) and row.fields[0].live == "(hidden)"


def test_either_way_of_a_route_that_waits_for_its_guard_is_as_wanted() -> None:
    one, closed = (Resource("caddy.route", "h", {"is": state}) for state in ("open", "closed"))
    wanted = Wanted.of([one], [closed])
    for live in (one, closed):
        assert compare(wanted, wanted, Snapshot({live.id: live}), lambda want, _: want) == ()
    edited = one.with_spec({"is": "edited"})
    (row,) = compare(wanted, wanted, Snapshot({edited.id: edited}), lambda want, _: want)
    assert row.fields[0].base == '"open"'


def test_members_that_pillar_no_longer_speaks_of_are_no_drift() -> None:
    base = Resource("authentik.group", "g", {"mark": "m", "members": ["a"]})
    bare, live = base.with_spec({"mark": "m"}), base.with_spec({"mark": "m", "members": ["b"]})
    sides = Wanted.of([base]), Wanted.of([bare])
    assert scope(*sides)[0].spec["members"] == ["a"], "or the backend would not look at them"
    assert compare(*sides, Snapshot({live.id: live}), lambda want, _: want) == ()


def test_what_follows_and_what_nobody_can_tell() -> None:
    saved, terraform = Resource("caddy.saved", "f", {"a": 1}), Resource("terraform.configuration", "t", {"a": 1})
    wanted = Wanted.of([saved, terraform])
    (row,) = compare(wanted, wanted, Snapshot({}), lambda want, _: want)
    assert (row.id, row.who) == (terraform.id, BOTH)
    assert Settings(default="heal").action("terraform") == "report"
    assert Settings(default="heal", systems={"caddy": "adopt"}).action("caddy") == "adopt"


def test_the_last_deployment_is_reached_as_the_systems_are_reached_now() -> None:
    base = {"authentik": {"url": "old", "token": GONE, "groups": {"g": {}}}, "routes": {"h": {}}, "vault": {"url": "v"}}
    now = {"authentik": {"url": "new", "token": "env:T"}, "caddy": {"admin": "unix//s", "issuer": "acme"}}
    found = rebased(base, now)
    assert found["authentik"] == {"url": "new", "token": "env:T", "groups": {"g": {}}}
    assert found["caddy"] == {"admin": "unix//s"} and found["routes"] == {"h": {}} and "vault" not in found


def test_mappings_are_merged_and_lists_replaced() -> None:
    assert merged({"a": {"b": 1, "l": [1, 2]}}, {"a": {"l": [3]}, "c": 2}) == {"a": {"b": 1, "l": [3]}, "c": 2}


# The breaker


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(folder: Path, clock: Clock) -> Breaker:
    """A fresh one each time, as after a restart."""
    return Breaker(LocalStore(folder), "lab", 2, 60, clock)


def test_the_breaker_opens_after_so_many_heals_and_closes_with_time(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        assert breaker(tmp_path, clock).open("caddy") == ""
        breaker(tmp_path, clock).count("caddy", ["caddy.route a"])
    assert "caddy.route a 2 times" in breaker(tmp_path, clock).open("caddy")
    assert breaker(tmp_path, clock).open("authentik") == ""
    clock.now += 61
    assert breaker(tmp_path, clock).open("caddy") == ""


def test_an_open_breaker_is_told_once_and_can_be_reset(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        breaker(tmp_path, clock).count("caddy", ["x"])
    assert [breaker(tmp_path, clock).announce("caddy") for _ in range(3)] == [True, False, False]
    assert breaker(tmp_path, clock).reset("caddy") and breaker(tmp_path, clock).open("caddy") == ""
    assert not breaker(tmp_path, clock).reset("caddy")


def test_a_clock_that_was_set_back_lets_nobody_heal_more(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        breaker(tmp_path, clock).count("caddy", ["x"])
    clock.now -= 1_000_000
    assert breaker(tmp_path, clock).open("caddy")


# The file


def test_the_file_is_plain_json_and_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "adopted.sls"
    path.write_text("#!json\n{}\n")
    path.chmod(0o644)
    evil = {"dns": {"txt": "{{ salt['cmd.run']('id') }}"}}
    for overlay in (evil, {"routes": {"a": 1}}):
        file = AdoptedFile(str(path), [str(tmp_path)])
        file.write(merged(file.read(), overlay))
    assert AdoptedFile(str(path), [str(tmp_path)]).read() == {**evil, "routes": {"a": 1}}
    assert path.read_text().startswith("#!json\n"), "else Salt would run what a stranger wrote into a record"
    assert path.stat().st_mode & 0o777 == 0o644 and [p.name for p in tmp_path.iterdir()] == ["adopted.sls"]


@pytest.mark.parametrize("written", ["hecate: {}\n", '#!json\n{"hecate": {}}\n', "{}", "#!json\n[1"])
def test_a_file_of_somebody_else_s_is_never_touched(tmp_path: Path, written: str) -> None:
    path = tmp_path / "own.sls"
    path.write_text(written)
    with pytest.raises(HecateError, match="was not written by Hecate"):
        AdoptedFile(str(path), [str(tmp_path)]).read()
    assert path.read_text() == written


def test_the_file_lies_below_a_pillar_root_and_is_no_link(tmp_path: Path) -> None:
    root, outside = tmp_path / "pillar", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    (root / "link.sls").symlink_to(outside / "target.sls")
    (root / "away").symlink_to(outside)
    for wrong in (outside / "a.sls", root / ".." / "a.sls", root / "away" / "a.sls", root / "link.sls", root / "a.txt"):
        with pytest.raises(HecateError, match="adopt_file"):
            AdoptedFile(str(wrong), [str(root)])


# Watching


class World:
    """A system with a sign, as a watcher asks it."""

    def __init__(self, folder: Path) -> None:
        self.memory, self.sign, self.differs, self.open, self.looks = folder / "m" / "caddy.json", "1", "", False, 0
        self.down = False

    def ask(self) -> str:
        if self.down:
            raise Unreachable("caddy", "no answer")
        return self.sign

    def compare(self) -> str:
        self.looks += 1
        return self.differs

    def look(self) -> str:
        found = look("caddy", self.memory, self.ask, self.compare, lambda: self.open)
        return found.what if found else ""


@pytest.fixture
def watched(tmp_path: Path) -> World:
    made = World(tmp_path)
    assert made.look() == "" and made.looks == 0, "the first look only remembers"
    return made


def test_a_movement_is_told_once(watched: World) -> None:
    watched.sign, watched.differs = "2", "route a"
    assert [watched.look() for _ in range(3)] == ["moved", "", ""] and watched.looks == 1
    watched.sign = "3"
    assert watched.look() == "", "something else moved; this is told already"
    watched.sign, watched.differs = "4", ""
    assert watched.look() == ""
    watched.sign, watched.differs = "5", "route a"
    assert watched.look() == "moved", "it was put back, and done again"


def test_a_deploy_of_hecate_s_own_is_not_told(watched: World) -> None:
    watched.open, watched.sign, watched.differs = True, "2", "half"
    assert watched.look() == "" and watched.looks == 0
    watched.open, watched.sign, watched.differs = False, "3", ""
    assert watched.look() == "" and watched.looks == 1


def test_a_deploy_that_begins_during_a_look_is_not_told(watched: World) -> None:
    answers = iter([False, True])
    watched.sign, watched.differs = "2", "half"
    assert look("caddy", watched.memory, watched.ask, watched.compare, lambda: next(answers)) is None
    watched.differs = ""
    assert watched.look() == "", "and is looked at again"


def test_a_system_that_cannot_be_asked_is_told_once_and_forgets_nothing(watched: World) -> None:
    watched.down = True
    assert [watched.look() for _ in range(3)] == ["cannot be asked", "", ""]
    watched.down, watched.sign, watched.differs = False, "2", "route a"
    assert watched.look() == "moved"
    watched.down = True
    assert watched.look() == "cannot be asked"


def test_a_damaged_memory_is_as_good_as_none(watched: World) -> None:
    watched.memory.write_text('{"sign": ')
    assert watched.look() == ""
