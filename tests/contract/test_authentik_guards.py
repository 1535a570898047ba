"""No sequence of changes, no crash between any two calls and no deletion leaves an application without its guard.

Every ordered pair of the estates below, and every damage done by hand, is walked through on the oldest way of creating
and on the newest. After each single write everybody knocks at every door: who may not get in before and may not get in
after must not get in meanwhile.
"""

from __future__ import annotations

import copy
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hecate.errors import ApplyFailed

from contract.authentik_lab import (
    AUTHORIZATION,
    SEED,
    AuthentikLab,
    Killed,
    Line,
    Pillar,
    Row,
    authentik_lab,
    enters,
    oauth2,
    route,
)
from lab.emulators.base import Fault

A, B, GRAF, WIKI = "a.estate.test", "b.estate.test", "graf", "wiki"
DOORS = (A, B, GRAF, WIKI)
USERS = tuple(user["username"] for user in SEED["users"])
SAML = {"acs_url": "https://wiki.estate.test/acs"}
VERSIONS = ("2024.2.4", "2025.10.4")  # bindings one by one, and together with their application
EVERY_CUT = bool(os.environ.get("HECATE_EVERY_CUT"))
DOMAIN = {"name": "estate.test", "host": A}


def estate(policy: Row, *doors: str, called: str = "p", **authentik: Any) -> Pillar:
    """Some doors behind one policy."""
    routes = {door: route(called) for door in doors if "." in door}
    applications: Row = {GRAF: oauth2(called)} if GRAF in doors else {}
    applications |= {WIKI: {"auth_policy": called, "saml": SAML}} if WIKI in doors else {}
    return {"auth_policies": {called: policy}, "routes": routes, "applications": applications, "authentik": authentik}


ESTATES: dict[str, Pillar] = {
    "nothing": estate({"groups": ["staff"]}),
    "groups": estate({"groups": ["staff", "crew"]}, A, B, GRAF),
    "others": estate({"groups": ["ops"]}, A, GRAF, WIKI),
    "own group": estate({"groups": ["team"]}, A, WIKI, called="q", groups={"team": {"members": ["bob"]}}),
    "attributes": estate({"groups": ["staff"], "attributes": {"dept": "x"}}, A, B, GRAF),
    "other attributes": estate({"attributes": {"dept": ["x", "y"]}}, A, GRAF, WIKI),
    "domain": estate({"groups": ["staff"], "domain": DOMAIN}, A, B),
    "second factor": estate({"groups": ["staff"], "require_mfa": True}, A, B, called="m"),
    "other factor": estate(
        {"groups": ["staff", "ops"], "require_mfa": True, "allowed_methods": ["password", "webauthn"]},
        *(A, B),
        called="n",
    ),
    "outpost": estate({"groups": ["staff"], "outpost": "eu"}, A, outposts={"eu": {"address": "127.0.0.1:9001"}}),
    "everybody": estate({}, A, GRAF),
}


def may(pillar: Pillar, door: str, username: str) -> bool:
    """What the pillar says, worked out without any of Hecate's code."""
    what = pillar["routes"].get(door) or pillar["applications"].get(door)
    if what is None:
        return False
    policy = pillar["auth_policies"][what["auth_policy"]]
    user = next(user for user in SEED["users"] if user["username"] == username)
    said = {name: group["members"] for name, group in pillar["authentik"].get("groups", {}).items()}
    groups = {*user.get("groups", ()), *(name for name, members in said.items() if username in members)}
    attributes = user.get("attributes", {})
    if policy.get("groups") and not groups & set(policy["groups"]):
        return False
    for name, wanted in policy.get("attributes", {}).items():
        if attributes.get(name) not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    devices = attributes.get("lab/mfa", [])
    classes = set(policy.get("allowed_methods", ["static", "totp", "webauthn"]))
    return not policy.get("require_mfa") or devices is True or bool(classes & set(devices))


@dataclass
class Watch:
    """Who must not get in, and who did: seen after every write."""

    lab: AuthentikLab
    shut: set[tuple[str, str]]
    seen: list[str] = field(default_factory=list)
    writes: int = 0

    @classmethod
    def over(cls, lab: AuthentikLab, *pillars: Pillar) -> Watch:
        """Whoever gets in neither now nor by any of these pillars, nor by one's policies and another's members."""
        state, shut = lab.emulator.state, set(itertools.product(DOORS, USERS))
        mixed = [{**one, "authentik": other["authentik"]} for one, other in itertools.product(pillars, pillars)]
        shut = {(d, u) for d, u in shut if not enters(state, d, u) and not any(may(pillar, d, u) for pillar in mixed)}
        return cls(lab, shut)

    def __call__(self, call: str) -> None:
        self.writes += 1
        state = self.lab.emulator.state
        self.seen += [f"{user} at {door} after {call}" for door, user in sorted(self.shut) if enters(state, door, user)]


def run(lab: AuthentikLab, pillar: Pillar, watch: Watch, name: str, kill: int | None = None) -> None:
    allow = tuple(f"secret:{door}" for door in DOORS)
    target = Line(lab.emulator, watch, kill).onto(lab.target(pillar, allow))
    target.engine.apply(target.wish, name)


def settled(lab: AuthentikLab, pillar: Pillar) -> None:
    """Everybody gets in where the pillar says so, and nowhere else; nothing is left to do."""
    found = {(d, u) for d, u in itertools.product(DOORS, USERS) if lab.enters(d, u)}
    assert found == {(d, u) for d, u in itertools.product(DOORS, USERS) if may(pillar, d, u)}


class Point:
    """A moment to come back to: the server's state and Hecate's files."""

    def __init__(self, lab: AuthentikLab, store: Path) -> None:
        self._lab, self._store = lab, store
        self._state = copy.deepcopy(lab.emulator.state)
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(lab.folder, store)

    def back(self) -> None:
        self._lab.emulator.state = copy.deepcopy(self._state)
        shutil.rmtree(self._lab.folder)
        shutil.copytree(self._store, self._lab.folder)


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthentikLab]:
    version = getattr(request, "param", VERSIONS[-1])
    (tmp_path / "hecate").mkdir()
    with authentik_lab(tmp_path / "hecate", monkeypatch, version=version) as made:
        yield made


def start(lab: AuthentikLab, pillar: Pillar) -> None:
    run(lab, pillar, Watch.over(lab, pillar), "t0")
    settled(lab, pillar)


# From one estate to another, and for half of them back. Half of the ways are walked with one version, half with the
# other. With HECATE_EVERY_CUT=1 (minutes) all go back, and are cut before each of the calls.

ways = pytest.mark.parametrize(
    ("lab", "old", "ends"),
    [
        pytest.param(version, old, [new for m, new in enumerate(ESTATES) if new != old and (n + m) % 2 == odd])
        for n, old in enumerate(ESTATES)
        for odd, version in enumerate(VERSIONS)
    ],
    indirect=["lab"],
)


@ways
def test_no_step_between_two_estates_opens_a_door(lab: AuthentikLab, tmp_path: Path, old: str, ends: list[str]) -> None:
    start(lab, ESTATES[old])
    point = Point(lab, tmp_path / "store")
    for number, new in enumerate(ends):
        point.back()
        there = Watch.over(lab, ESTATES[old], ESTATES[new])
        run(lab, ESTATES[new], there, "t1")
        assert there.seen == [], new
        settled(lab, ESTATES[new])
        if number % 2 and not EVERY_CUT:
            continue
        back = Watch.over(lab, ESTATES[new], ESTATES[old])
        Line(lab.emulator, back).onto(lab.target(ESTATES[old])).engine.undo("t1")
        assert back.seen == [], f"undo of {new}"
        settled(lab, ESTATES[old])


@ways
def test_no_crash_between_two_calls_opens_a_door(lab: AuthentikLab, tmp_path: Path, old: str, ends: list[str]) -> None:
    """Killed before one of the calls, another one for each pair of estates; the next run undoes, and goes on."""
    start(lab, ESTATES[old])
    point = Point(lab, tmp_path / "store")
    for number, new in enumerate(ends if EVERY_CUT else ends[::2]):
        for kill in cuts(number + list(ESTATES).index(old)):
            point.back()
            watch = Watch.over(lab, ESTATES[old], ESTATES[new])
            try:
                run(lab, ESTATES[new], watch, "t1", kill)
                break
            except Killed:
                run(lab, ESTATES[new], watch, "t2")
            assert watch.seen == [], f"{new}, killed after {kill} calls"
            settled(lab, ESTATES[new])


def cuts(number: int) -> Iterable[int]:
    """After how many calls to kill: one number, or each until it is more than there are."""
    return itertools.count() if EVERY_CUT else [2 + number % 7]


@pytest.mark.parametrize(("first", "kind"), [(0, "cut"), (1, "lost-answer"), (2, "server-error")])
@pytest.mark.parametrize("lab", VERSIONS, indirect=True)
def test_no_failed_call_and_nothing_that_is_put_back_for_it_opens_a_door(
    lab: AuthentikLab, tmp_path: Path, first: int, kind: str
) -> None:
    """Each third call, from another one on for each kind of failure."""
    old, new = ESTATES["groups"], ESTATES["other attributes"]
    start(lab, old)
    point = Point(lab, tmp_path / "store")
    for skip in itertools.count(first, 3):
        point.back()
        watch = Watch.over(lab, old, new)
        lab.faults(Fault(method="WRITE", kind=kind, skip=skip, times=2))
        try:
            run(lab, new, watch, "t1")
        except ApplyFailed as err:
            lab.faults()
            if not err.undone:
                Line(lab.emulator, watch).onto(lab.target(old)).engine.undo("t1")
            settled(lab, old)
        assert watch.seen == [], skip
        if watch.writes <= skip:
            break
    assert skip > 5


# Things done by hand


def policy_everyone(lab: AuthentikLab, slug: str) -> None:
    lab.bind(slug, policy=lab.policy("by hand", "return True"))


def delete(table: str, path: str, name: str) -> Callable[[AuthentikLab], None]:
    return lambda lab: lab.api("DELETE", f"{path}{lab.row(table, name)['pk']}/")


def delete_bindings(lab: AuthentikLab) -> None:
    for row in lab.rows("bindings"):
        if row["target"] == lab.row("applications", "a-estate-test")["pk"]:
            lab.api("DELETE", f"/policies/bindings/{row['pk']}/")


def patch(lab: AuthentikLab, slug: str, **body: Any) -> None:
    lab.api("PATCH", f"/core/applications/{slug}/", body)


def stricter_with_a_hole(lab: AuthentikLab) -> None:
    """Nobody gets in, since all bindings have to agree; by engine mode any everybody would."""
    patch(lab, "a-estate-test", policy_engine_mode="all")
    policy_everyone(lab, "a-estate-test")


def detached_with_a_hole(lab: AuthentikLab) -> None:
    lab.api("PATCH", f"/outposts/instances/{lab.embedded['pk']}/", {"type": "proxy", "providers": []})
    policy_everyone(lab, "a-estate-test")


def without_provider_with_a_hole(lab: AuthentikLab) -> None:
    delete("providers", "/providers/oauth2/", "hecate/production/graf")(lab)
    policy_everyone(lab, GRAF)


def without_anything(lab: AuthentikLab) -> None:
    delete("providers", "/providers/proxy/", "hecate/production/a.estate.test")(lab)
    delete_bindings(lab)


DAMAGE: dict[str, Callable[[AuthentikLab], None]] = {
    "provider deleted": delete("providers", "/providers/proxy/", "hecate/production/a.estate.test"),
    "application deleted": lambda lab: lab.api("DELETE", "/core/applications/a-estate-test/"),
    "bindings deleted": delete_bindings,
    "provider and bindings deleted": without_anything,
    "group deleted": delete("groups", "/core/groups/", "crew"),
    "another's group deleted": delete("groups", "/core/groups/", "staff"),
    "closed policy deleted": delete("policies", "/policies/expression/", "hecate/production/closed"),
    "flow deleted": lambda lab: lab.api("DELETE", f"/flows/instances/{AUTHORIZATION}/"),
    "mode all, and a policy for everyone": stricter_with_a_hole,
    "detached, and a policy for everyone": detached_with_a_hole,
    "without provider, and a policy for everyone": without_provider_with_a_hole,
}
AGAIN = {"groups": None, "others": 3, "nothing": None, "second factor": 4}  # and after how many calls to kill


@pytest.mark.parametrize("lab", VERSIONS, indirect=True)
@pytest.mark.parametrize("damage", DAMAGE)
def test_no_repair_of_what_was_done_by_hand_opens_a_door(lab: AuthentikLab, tmp_path: Path, damage: str) -> None:
    start(lab, ESTATES["groups"])
    DAMAGE[damage](lab)
    point = Point(lab, tmp_path / "store")
    flow = {"authorization_flow": "default-provider-authorization-explicit-consent"} if "flow" in damage else {}
    for new, kill in AGAIN.items():
        then = {**ESTATES[new], "authentik": {**ESTATES[new]["authentik"], **flow}}
        point.back()
        watch = Watch.over(lab, then)
        try:
            run(lab, then, watch, "t1", kill)
        except Killed:
            run(lab, then, watch, "t2")
        assert watch.seen == [], new
        if damage != "another's group deleted":
            settled(lab, then)


# Others' applications


def by_groups(lab: AuthentikLab) -> None:
    lab.stranger("a-estate-test", host=A)
    lab.bind("a-estate-test", group=lab.row("groups", "ops")["pk"])


def by_all_of_several(lab: AuthentikLab) -> None:
    lab.stranger("a-estate-test", host=A, mode="all")
    lab.bind("a-estate-test", group=lab.row("groups", "ops")["pk"])
    policy_everyone(lab, "a-estate-test")
    lab.bind("a-estate-test", group=lab.row("groups", "staff")["pk"], negate=True)


def by_nothing_but_out_of_reach(lab: AuthentikLab) -> None:
    made = lab.stranger("a-estate-test", host=A)
    lab.api("DELETE", f"/providers/proxy/{made['provider']}/")


def by_a_policy_for_everyone_out_of_reach(lab: AuthentikLab) -> None:
    by_nothing_but_out_of_reach(lab)
    policy_everyone(lab, "a-estate-test")


STRANGERS = [by_groups, by_all_of_several, by_nothing_but_out_of_reach, by_a_policy_for_everyone_out_of_reach]


@pytest.mark.parametrize("lab", VERSIONS, indirect=True)
@pytest.mark.parametrize("guarded", STRANGERS)
def test_no_adoption_of_an_application_opens_a_door(
    lab: AuthentikLab, tmp_path: Path, guarded: Callable[[AuthentikLab], None]
) -> None:
    guarded(lab)
    before = {user for user in USERS if lab.enters(A, user)}
    point = Point(lab, tmp_path / "store")
    taken = {"adopt": ["authentik.application a-estate-test"]}
    for kill in (None, 1, 3, 5) if lab.emulator.state.release < (2025, 1) else (None, 2, 4):
        point.back()
        then = {**ESTATES["groups"], **taken}
        watch = Watch.over(lab, then)
        try:
            run(lab, then, watch, "t1", kill)
        except Killed:
            run(lab, then, watch, "t2")
            assert watch.seen == [], kill
            settled(lab, then)
            continue
        assert watch.seen == []
        settled(lab, then)
        target = Line(lab.emulator, watch).onto(lab.target(then))
        target.engine.undo("t1")
        assert watch.seen == [], "undone"
        assert {user for user in USERS if lab.enters(A, user)} == before
