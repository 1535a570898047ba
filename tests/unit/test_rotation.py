"""The course of a rotation: cut off before and after every effect, run again, and never without a working secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hecate import model
from hecate.errors import HecateError, SecretUnavailable
from hecate.rotation import NEXT, PREVIOUS, RETIRING, ROTATED, NotRetired, NotVerified, Status, Step, rotate, status

HOUR = 3600.0
NOW = 1_000_000.0


class Cut(BaseException):
    """kill -9"""


class Fuse:
    """Lets so many effects pass, and cuts before or after the next."""

    def __init__(self, at: int = -1, after: bool = False) -> None:
        self.at, self.after, self.count = at, after, 0

    def effect(self, act: Callable[[], None]) -> None:
        mine, self.count = self.count, self.count + 1
        if mine == self.at and not self.after:
            raise Cut
        act()
        if mine == self.at:
            raise Cut


@dataclass
class World:
    """A system, a shelf in a store, and one who watches both after each effect. both: as a Rotor has it."""

    both: bool = True
    by_hand: str = ""
    by_telling: bool = False
    accepted: set[str] = field(default_factory=lambda: {"s0"})
    stored: dict[str, str] = field(default_factory=lambda: {"": "s0", "-other": "mine"})
    version: int = 1
    fuse: Fuse = field(default_factory=Fuse)
    made: int = 0
    broken: bool = False  # what is introduced isn't accepted
    stubborn: bool = False  # what is retired goes on being accepted
    seen: int = 0
    watched: list[str] = field(default_factory=list)

    # As a shelf

    def read(self) -> Mapping[str, str]:
        self.seen = self.version
        return dict(self.stored)

    def write(self, values: Mapping[str, str]) -> None:
        def act() -> None:
            if self.seen != self.version:
                raise SecretUnavailable("somebody else wrote it in between")
            self.stored, self.version = dict(values), self.version + 1
            self.seen = self.version

        self._watch(act)

    # As a rotor

    def fresh(self) -> str:
        self.made += 1
        return f"s{self.made}"

    def introduce(self, new: str, old: str) -> None:
        def act() -> None:
            if not self.both:
                self.accepted.clear()
            if not (self.broken and new != "s0"):
                self.accepted.add(new)

        self._watch(act)

    def works(self, value: str) -> bool:
        return value in self.accepted

    def retire(self, old: str, new: str) -> None:
        self._watch(lambda: None if self.stubborn else self.accepted.discard(old))

    def _watch(self, act: Callable[[], None]) -> None:
        self.fuse.effect(act)
        self.look()

    def look(self) -> None:
        known = {self.stored[key] for key in ("", NEXT) if key in self.stored}
        if self.both:
            assert self.stored.get("") in self.accepted, f"who reads the secret is refused: {self}"
            if PREVIOUS in self.stored:
                assert self.stored[PREVIOUS] in self.accepted, f"who holds the one before is refused: {self}"
        elif not self.broken:
            assert known & self.accepted, f"neither the secret nor its successor works: {self}"

    def run(self, now: float = NOW, grace: float = HOUR, **how: Any) -> Step:
        return rotate(self, self, now, grace, **how)

    @property
    def keys(self) -> set[str]:
        return set(self.stored) - {"-other", ROTATED}


def cuts() -> list[tuple[int, bool]]:
    return [(at, after) for at in range(8) for after in (False, True)]


@pytest.mark.parametrize(("at", "after"), cuts())
@pytest.mark.parametrize("grace", [0.0, HOUR])
@pytest.mark.parametrize("both", [True, False], ids=["two at once", "one at a time"])
def test_whatever_effect_a_run_is_cut_off_at_the_next_ones_finish_it(
    both: bool, grace: float, at: int, after: bool
) -> None:
    world = World(both=both, fuse=Fuse(at, after))
    try:
        world.run(grace=grace)
        was_cut = False
    except Cut:
        was_cut = True
        world.look()
    world.fuse = Fuse()
    was_cut = was_cut and world.stored.get("") == "s0"  # else it stood already
    world.run(grace=grace, begin=was_cut)
    world.run(now=NOW + HOUR, grace=grace, begin=False)
    assert world.keys == {""} and world.stored["-other"] == "mine"
    assert world.accepted == {world.stored[""]} and world.stored[""] != "s0"


@pytest.mark.parametrize(("at", "after"), cuts())
@pytest.mark.parametrize("state", ["settled", "grace", "begun"])
@pytest.mark.parametrize("both", [True, False], ids=["two at once", "one at a time"])
def test_an_emergency_that_is_cut_off_is_finished_by_the_next(both: bool, state: str, at: int, after: bool) -> None:
    world = World(both=both)
    if state == "grace":
        world.run()
    elif state == "begun":
        world.stored |= {NEXT: "known"}
    leaked = {"s0", "known", world.stored[""]}
    world.fuse = Fuse(at, after)
    try:
        world.run(immediate=True)
    except Cut:
        world.fuse = Fuse()
        world.run(immediate=True)
    assert world.keys == {""} and world.accepted == {world.stored[""]}
    assert world.stored[""] not in leaked


def test_two_are_good_until_the_grace_is_over() -> None:
    world = World()
    assert world.run().again == HOUR
    assert world.accepted == {"s0", "s1"} and world.stored[""] == "s1"
    assert world.run(now=NOW + HOUR - 1).again == 1 and world.accepted == {"s0", "s1"}
    step = world.run(now=NOW + HOUR)
    assert step.done == ("the old one is refused from now on",) and world.accepted == {"s1"} and not step.promoted


def test_where_one_is_had_at_a_time_there_is_no_grace() -> None:
    world = World(both=False)
    step = world.run()
    assert step.promoted and step.again is None and world.keys == {""} and world.accepted == {"s1"}


def test_a_run_during_the_grace_begins_no_further_rotation() -> None:
    world = World()
    world.run()
    world.run(now=NOW + 1)
    assert world.made == 1


def test_without_begin_nothing_begins() -> None:
    world = World()
    assert world.run(begin=False) == Step() and world.stored == {"": "s0", "-other": "mine"}


def test_without_begin_what_was_begun_goes_on() -> None:
    world = World()
    world.stored[NEXT] = "s9"
    assert world.run(begin=False).promoted and world.stored[""] == "s9"


def test_an_emergency_ends_the_grace_of_an_earlier_one_and_replaces_the_one_in_use_too() -> None:
    world = World()
    world.run()
    step = world.run(now=NOW + 1, immediate=True)
    assert world.accepted == {"s2"} and world.keys == {""} and step.begun and step.promoted


def test_an_emergency_without_begin_ends_the_grace_alone() -> None:
    world = World()
    world.run()
    world.run(now=NOW + 1, immediate=True, begin=False)
    assert world.accepted == {"s1"} and world.made == 1


@pytest.mark.parametrize("both", [True, False])
def test_a_successor_that_does_not_work_is_withdrawn(both: bool) -> None:
    world = World(both=both, broken=True)
    with pytest.raises(NotVerified):
        world.run()
    assert world.keys == {""} and world.stored[""] == "s0" and world.accepted == {"s0"}


@pytest.mark.parametrize(("at", "after"), [(at, after) for at in range(5) for after in (False, True)])
@pytest.mark.parametrize("both", [True, False])
def test_a_withdrawal_that_is_cut_off_is_finished(both: bool, at: int, after: bool) -> None:
    world = World(both=both, broken=True, fuse=Fuse(at, after))
    with pytest.raises((Cut, NotVerified)):
        world.run()
    world.fuse = Fuse()
    try:
        world.run(begin=False)
    except NotVerified:
        pass
    assert world.keys == {""} and world.accepted == {"s0"}


def test_the_one_before_stays_while_the_one_in_use_is_refused() -> None:
    world = World()
    world.run()
    world.accepted.discard("s1")  # by somebody's hand
    with pytest.raises(NotVerified, match="mend that first"):
        world.run(now=NOW + HOUR)
    assert "s0" in world.accepted and world.stored[PREVIOUS] == "s0"


def test_what_is_still_accepted_after_it_was_retired_is_not_forgotten() -> None:
    world = World(stubborn=True)
    with pytest.raises(NotRetired):
        world.run(grace=0)
    assert world.stored[RETIRING] == "s0" and status(world.stored, NOW, None, 0).phase == "retiring"
    world.stubborn = False
    world.run(begin=False)
    assert world.keys == {""} and world.accepted == {"s1"}


def test_where_a_person_has_to_retire_it_each_run_says_so_until_it_is_done() -> None:
    world = World(stubborn=True, by_hand="delete it in the console")
    assert world.run(grace=0).by_hand == "delete it in the console"
    assert world.run().by_hand and world.made == 1
    with pytest.raises(NotRetired, match="delete it in the console"):
        world.run(immediate=True)
    world.accepted.discard("s0")
    assert not world.run(begin=False).by_hand and world.keys == {""}


def test_a_second_run_at_once_is_refused_at_its_next_write_and_withdraws_nothing() -> None:
    world = World()
    second = World(accepted=world.accepted)

    class Slow:
        """The second run's view of the same store."""

        def read(self) -> Mapping[str, str]:
            self.seen = world.version
            return dict(world.stored)

        def write(self, values: Mapping[str, str]) -> None:
            if self.seen != world.version:
                raise SecretUnavailable("somebody else wrote it in between")
            raise AssertionError("nothing was in between")

    slow = Slow()
    held = slow.read()
    world.run()
    slow.read = lambda: held  # type: ignore[method-assign]
    with pytest.raises(SecretUnavailable):
        rotate(slow, second, NOW, HOUR)
    assert world.stored[""] == "s1" and world.accepted == {"s0", "s1"}


def test_a_late_run_that_finds_the_successor_refused_cannot_retire_what_another_promoted() -> None:
    world, retired = World(), []
    world.stored[NEXT] = "s9"

    class Late(World):
        """Reads before the other run promotes, tries when the system says no, writes too late."""

        def introduce(self, new: str, old: str) -> None:
            world.run()

        def works(self, value: str) -> bool:
            return False

        def retire(self, old: str, new: str) -> None:
            retired.append(old)

        def read(self) -> Mapping[str, str]:
            self.seen = world.version
            return dict(world.stored)

        def write(self, values: Mapping[str, str]) -> None:
            if self.seen != world.version:
                raise SecretUnavailable("somebody else wrote it in between")
            raise AssertionError("the other run had written")

    late = Late()
    with pytest.raises(SecretUnavailable):
        rotate(late, late, NOW, HOUR)
    assert not retired and world.stored[""] == "s9" and world.accepted == {"s0", "s9"}


def test_a_clock_that_was_put_back_makes_the_grace_begin_again_once() -> None:
    world = World()
    world.run()
    early = NOW - 500 * HOUR
    assert world.run(now=early).again == HOUR and world.stored[ROTATED] == str(int(early))
    assert world.run(now=early + 1).again == HOUR - 1
    world.run(now=early + HOUR)
    assert world.accepted == {"s1"}


@pytest.mark.parametrize("lost", ["", "yesterday", "nan", "-inf"])
def test_where_the_beginning_of_the_grace_is_lost_it_begins_now(lost: str) -> None:
    world = World()
    world.run()
    world.stored[ROTATED] = lost
    assert world.run(now=NOW + 9 * HOUR).again == HOUR and "s0" in world.accepted


def test_a_successor_that_is_the_one_in_use_is_refused() -> None:
    world = World()
    world.fresh = lambda: "s0"  # type: ignore[method-assign]
    with pytest.raises(HecateError, match="in use already"):
        world.run()
    assert world.keys == {""}


def test_the_first_one_is_made_where_two_can_be_had() -> None:
    world = World(stored={}, accepted=set())
    world.look = lambda: None  # type: ignore[method-assign]
    assert world.run(grace=0).promoted and world.stored[""] == "s1" and world.accepted == {"s1"}


def test_the_first_one_is_not_made_in_the_place_of_one_that_is_not_known() -> None:
    world = World(both=False, stored={})
    with pytest.raises(HecateError, match="no secret to begin from"):
        world.run()
    assert world.accepted == {"s0"} and world.stored == {}


def test_consumers_with_a_copy_are_told_before_the_one_before_goes() -> None:
    world = World()
    step = world.run(grace=0, tells=True)
    assert step.tell and step.promoted and step.begun and world.accepted == {"s0", "s1"}
    step = world.run(grace=0, begin=False, tells=True, told=True)
    assert not step.tell and world.accepted == {"s1"} and world.keys == {""}


def test_a_system_that_accepts_what_it_is_told_is_told_before_each_step_counts() -> None:
    class Told(World):
        """As coturn: accepts what stands on the shelf when it is told."""

        def introduce(self, new: str, old: str) -> None: ...

        def retire(self, old: str, new: str) -> None: ...

        def tell(self) -> None:
            self.accepted = {self.stored[key] for key in ("", NEXT, PREVIOUS) if key in self.stored}

    world, told, step = Told(by_telling=True), 0, Step(tell=True)
    step = world.run(grace=0, tells=True)
    while step.tell:
        world.tell()
        told += 1
        step = world.run(grace=0, tells=True, told=True, begin=not step.begun)
    assert told == 3 and world.accepted == {"s1"} and world.keys == {""}


def test_an_emergency_with_consumers_to_tell_ends_with_one_successor_of_its_own() -> None:
    world = World()
    world.run()
    begin, step = True, world.run(immediate=True, tells=True)
    for _ in range(9):
        if not step.tell:
            break
        begin = begin and not step.begun
        step = world.run(immediate=True, tells=True, told=True, begin=begin)
    assert not step.tell and world.accepted == {"s2"} and world.keys == {""}


def test_a_status_tells_what_is_due() -> None:
    rotated = {ROTATED: str(int(NOW - 40 * HOUR)), "": "s"}
    assert status(rotated, NOW, 30 * HOUR, HOUR) == Status("settled", 40 * HOUR, -10 * HOUR)
    assert status(rotated, NOW, 30 * HOUR, HOUR).wants_a_run and not status(rotated, NOW, None, HOUR).wants_a_run
    assert status({"": "s"}, NOW, HOUR, HOUR).due == 0.0 and status({"": "s"}, NOW, None, HOUR).due is None
    graced = {**rotated, PREVIOUS: "t", ROTATED: str(int(NOW - 60))}
    assert status(graced, NOW, 30.0, HOUR).left == HOUR - 60 and not status(graced, NOW, 30.0, HOUR).wants_a_run
    assert status({**rotated, NEXT: "n"}, NOW, None, HOUR).phase == "begun"
    assert status({}, NOW, None, HOUR).phase == "missing"


def test_an_age_is_never_less_than_nothing() -> None:
    assert status({"": "s", ROTATED: str(int(NOW + HOUR))}, NOW, None, 0).age == 0


# In pillar

GOOD: dict[str, Any] = {
    "vault": {"url": "https://vault.example.com", "token": "env:VAULT"},
    "authentik": {"url": "https://auth.example.com", "token": "vault:hecate/authentik#token"},
    "hetzner_dns": {"token": "vault:hecate/hetzner#token"},
    "auth_policies": {"all": {"provider": "authentik"}},
    "applications": {
        "wiki": {
            "auth_policy": "all",
            "oauth2": {"client_secret": "vault:apps/wiki#secret", "redirect_uris": "https://wiki.example.com/cb"},
        }
    },
    "rotation": {
        "own": {
            "kind": "authentik_token",
            "secret": "vault:hecate/authentik#token",
            "account": "hecate",
            "every": "30d",
            "grace": "0s",
        },
        "wiki": {"kind": "oauth2_client", "secret": "vault:apps/wiki#secret", "application": "wiki"},
        "dns": {"kind": "hetzner_token", "secret": "vault:hecate/hetzner#token", "next": "env:NEXT"},
    },
}


def with_(path: str, value: Any) -> dict[str, Any]:
    import copy

    found = copy.deepcopy(GOOD)
    *folders, last = path.split(":")
    at = found
    for name in folders:
        at = at.setdefault(name, {})
    if value is None:
        at.pop(last)
    else:
        at[last] = value
    return found


def test_a_good_pillar_is_taken_whole_and_for_access_alone() -> None:
    assert model.problems_in({"hecate": GOOD}) == []
    assert model.parse_access({"hecate": GOOD}).rotation == {}


OTHER = {"kind": "authentik_token", "account": "hecate"}
WRONG = [
    ("rotation:own:kind", "guess", "hecate:rotation:own", "no such type"),
    ("rotation:own:secret", "env:TOKEN", "hecate:rotation:own:secret", "reference into Vault without a version"),
    ("rotation:own:secret", "vault:hecate/authentik#token@3", "hecate:rotation:own:secret", "without a version"),
    ("rotation:own:grace", "soon", "hecate:rotation:own:grace", "not a duration"),
    ("rotation:own:accuont", "x", "hecate:rotation:own:accuont", "no such key"),
    ("rotation:twice", {**OTHER, "secret": "vault:hecate/authentik#token"}, "hecate:rotation:twice:secret", "already"),
    ("rotation:x", {**OTHER, "secret": "vault:hecate/authentik#token.next"}, "hecate:rotation:x:secret", "rename it"),
    ("vault", None, "hecate:rotation", "needs the section hecate:vault"),
    ("vault", {"salt": True}, "hecate:vault:salt", "give it token or approle"),
    ("vault:kv", 1, "hecate:vault:kv", "needs version 2"),
    ("rotation:wiki:application", "blog", "hecate:rotation:wiki:application", "there are: wiki"),
    (
        "rotation:wiki:secret",
        "vault:apps/blog#secret",
        "hecate:rotation:wiki:secret",
        "the next deploy would set again",
    ),
    (
        "rotation:dns:secret",
        "vault:hecate/other#token",
        "hecate:rotation:dns:secret",
        "is not hecate:hetzner_dns:token",
    ),
    ("rotation:dns:next", "vault:hecate/hetzner#token", "hecate:rotation:dns:next", "is the secret itself"),
    ("rotation:dns:next", "vault:hecate/hetzner#token.next", "hecate:rotation:dns:next", "keeps what it knows"),
    ("hetzner_dns", None, "hecate:rotation:dns", "needs the section hecate:hetzner_dns"),
    (
        "authentik:service_accounts",
        {"robot": {"tokens": {"a": "vault:hecate/authentik#token"}}},
        "hecate:rotation:own:secret",
        "keep the account there without this token",
    ),
    ("nomad", {"token": "vault:apps/wiki#secret@2"}, "hecate:nomad:token", "leave @... out"),
]


@pytest.mark.parametrize(("path", "value", "where", "why"), WRONG, ids=[f"{row[0]} {row[3]}" for row in WRONG])
def test_a_pillar_that_could_not_be_kept_is_refused(path: str, value: Any, where: str, why: str) -> None:
    found = model.problems_in({"hecate": with_(path, value)})
    assert any(problem.path.startswith(where) and why in problem.why for problem in found), found
