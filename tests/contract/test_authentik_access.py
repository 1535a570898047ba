"""Looking at identity, and states of single things: what an operator asks and writes by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hecate_deploy
import pytest
from hecate import wiring
from hecate.access import ASKED, Access
from hecate.errors import HecateError
from hecate.targets import Crew
from salt.exceptions import CommandExecutionError

from contract.authentik_lab import SECRETS, AuthentikLab, authentik_lab, oauth2, route
from contract.minion import Minion
from lab.emulators.authentik import described_by
from lab.emulators.base import Fault

A, B, C, D, OPEN, PUBLIC = (f"{name}.estate.test" for name in ("a", "b", "c", "d", "open", "public"))
POLICIES = {
    "p": {"groups": ["staff", "ops"]},
    "strong": {"groups": ["staff", "ops"], "require_mfa": True, "allowed_methods": ["password", "totp"]},
    "fit": {"groups": ["staff"], "attributes": {"dept": ["x", "y"]}},
    "badge": {"attributes": {"badge": "required"}},
    "open": {},
    "theirs": {"provider": "oauth2-proxy"},
}
PILLAR = {
    "auth_policies": POLICIES,
    "forward_auth": {"oauth2-proxy": {"address": "127.0.0.1:4180", "uri": "/oauth2/auth"}},
    "routes": {
        A: route("p", allowed_ips=["10.0.0.0/8"]),
        B: route("strong"),
        C: route("fit"),
        D: route("badge"),
        OPEN: route("open", maintenance=True),
        PUBLIC: {"upstreams": ["127.0.0.1:1"]},
        "theirs.estate.test": route("theirs"),
    },
    "applications": {"graf": oauth2("p")},
}
VERSIONS = ["2025.10.4", "2026.2.2"]


@pytest.fixture(params=VERSIONS)
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthentikLab]:
    version = request.param
    with authentik_lab(tmp_path, monkeypatch, version=version, description=described_by(version)) as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthentikLab]:
    with authentik_lab(tmp_path, monkeypatch) as made:
        yield made


def looked(lab: AuthentikLab, pillar: dict[str, Any] = PILLAR) -> Access:
    return wiring.identity_of(lab.target(pillar))


# Applications and policies


def test_applications_tell_what_guards_what_and_whether_it_stands(both: AuthentikLab) -> None:
    before = looked(both).applications()
    assert before["a-estate-test"]["state"].startswith("NOT CONFIRMED")
    assert "missing: application a-estate-test" in before["a-estate-test"]["differs"]
    assert before["graf"]["state"] == "NOT AS WANTED"
    both.apply(PILLAR)
    rows = looked(both).applications()
    assert rows["a-estate-test"] == {
        "name": A,
        "kind": "proxy",
        "policy": "p",
        "hosts": [A],
        "outpost": "embedded",
        "state": "confirmed",
    }
    assert rows["graf"] == {"name": "graf", "kind": "oauth2", "policy": "p", "state": "as wanted"}


def test_what_pillar_no_longer_has_is_told_too(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    rest = {name: value for name, value in PILLAR["routes"].items() if name != A}
    assert looked(lab, {**PILLAR, "routes": rest}).applications()["a-estate-test"]["state"].startswith("NOT IN PILLAR")


def test_a_stranger_s_application_is_not_in_the_table(lab: AuthentikLab) -> None:
    lab.stranger("by-hand")
    assert "by-hand" not in looked(lab).applications()


def test_policies_say_what_is_sent_and_where_it_is_used(lab: AuthentikLab) -> None:
    target = lab.apply(PILLAR)
    told = wiring.policies(target.estate)
    sent = lab.row("policies", "hecate/production/policy/fit")["expression"]
    assert any(sent in text for text in told["fit"]["for each application"])
    assert told["fit"]["who"] == "members of staff; attribute dept: x or y"
    assert told["strong"]["who"] == "members of staff or ops; a second factor (totp)"
    flow = lab.row("flows", "hecate-production-strong-mfa")["slug"]
    assert any(flow in text for text in told["strong"]["for each application"])
    assert told["p"]["used by"] == [A, "graf"]
    assert told["theirs"]["who"] == "oauth2-proxy decides (hecate:forward_auth)"


# Who may


def test_members_of_groups_below_may_pass_too(both: AuthentikLab) -> None:
    both.apply(PILLAR)
    staff = both.row("groups", "staff")["pk"]
    above = {"parents": [staff]} if both.emulator.state.release >= (2025, 12) else {"parent": staff}
    below = both.api("POST", "/core/groups/", {"name": "kids", **above})["pk"]
    deeper = {"parents": [below]} if "parents" in above else {"parent": below}
    both.api("POST", "/core/groups/", {"name": "babies", **deeper, "users": [both.row("users", "mallory")["pk"]]})
    told = looked(both)
    assert told.who_may(A)["may pass"] == ["alice", "bob", "carol", "dave", "mallory"]
    assert told.members("staff")["through groups below it"] == ["mallory"]
    assert "staff (through babies)" in told.access("mallory", A)["groups"]
    assert list(told.access("mallory", A)["may"]) == [A]


@pytest.mark.parametrize(
    ("asked", "door", "may"),
    [
        (A, A, ["alice", "bob", "carol", "dave"]),
        ("a-estate-test", A, ["alice", "bob", "carol", "dave"]),
        (f"https://{A.upper()}/", A, ["alice", "bob", "carol", "dave"]),
        ("graf", "graf", ["alice", "bob", "carol", "dave"]),
        (C, C, ["carol"]),
        (D, D, []),
        (OPEN, OPEN, ["alice", "bob", "carol", "dave", "mallory"]),
    ],
)
def test_who_may_is_what_the_server_does(lab: AuthentikLab, asked: str, door: str, may: list[str]) -> None:
    lab.apply(PILLAR)
    people = ["alice", "bob", "carol", "dave", "mallory"]
    assert [name for name in people if lab.enters(door, name)] == may
    told = looked(lab).who_may(asked)["may pass"]
    assert told == ("everybody who can log in" if may == people else may or "nobody")


def test_where_groups_alone_decide_nobody_is_asked_about(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    lab.forget_calls()
    looked(lab).who_may(A)
    assert not [call for call in lab.calls() if "check_access" in call]


def test_who_is_bound_by_hand_may_pass_and_is_told(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    lab.bind("a-estate-test", user=lab.row("users", "mallory")["pk"])
    told = looked(lab).who_may(A)
    assert "mallory" in told["may pass"]
    assert told["differs"] == ["bound by hand: user mallory; the next apply takes it away"]
    inside = looked(lab).access("mallory", A)["may"][A]
    assert "AGAINST PILLAR'S RULE" in inside and "user mallory" in inside


def test_a_policy_that_was_opened_by_hand_is_not_taken_for_groups(lab: AuthentikLab) -> None:
    """Whoever it concerns is then asked about, and the rule no longer explains the answer."""
    lab.apply(PILLAR)
    closed = lab.row("policies", "hecate/production/closed")["pk"]
    lab.api("PATCH", f"/policies/expression/{closed}/", {"expression": "return True"})
    lab.forget_calls()
    assert looked(lab).who_may(A)["state"].startswith("NOT CONFIRMED")
    assert [call for call in lab.calls() if "check_access" in call]
    assert "let in AGAINST PILLAR'S RULE" in str(looked(lab).access("mallory", A)["may not"][A])


def test_an_application_without_bindings_is_told_as_open(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    for binding in lab.rows("bindings"):
        lab.api("DELETE", f"/policies/bindings/{binding['pk']}/")
    told = looked(lab).who_may(A)
    assert told["may pass"] == "everybody who can log in: NOTHING IS BOUND"
    assert told["state"] == "NOT CONFIRMED: the edges answer 503"


def test_answers_are_bounded(lab: AuthentikLab) -> None:
    """At most so many names, and so many questions to the server."""
    lab.apply(PILLAR)
    staff = lab.row("groups", "staff")
    for number in range(ASKED + 30):
        attributes = {"dept": "x"}
        body = {"username": f"u{number:03d}", "name": "U", "attributes": attributes, "groups": [staff["pk"]]}
        lab.api("POST", "/core/users/", body)
    told = looked(lab).who_may(A)
    assert len(told["may pass"]) == 101 and told["may pass"][-1].startswith("and ")
    lab.forget_calls()
    told = looked(lab).who_may(C)
    assert len([call for call in lab.calls() if "check_access" in call]) == ASKED
    assert told["asked"].startswith(f"about {ASKED} of {ASKED + 33} people")


@pytest.mark.parametrize(
    ("asked", "rule"),
    [(PUBLIC, "everybody, without a login: the route has no auth_policy"), ("theirs.estate.test", "oauth2-proxy")],
)
def test_a_route_that_authentik_does_not_guard_says_who_does(lab: AuthentikLab, asked: str, rule: str) -> None:
    assert rule in looked(lab).who_may(asked)["rule"]
    assert rule in looked(lab).access("alice", asked)["rule"]


def test_a_host_of_a_domain_is_found_by_its_wildcard(lab: AuthentikLab) -> None:
    domain = {"name": "dom.test", "host": "login.dom.test"}
    pillar = {
        "caddy": {"issuer": "internal"},
        "auth_policies": {"whole": {"groups": ["staff"], "domain": domain}},
        "routes": {"login.dom.test": route("whole"), "*.dom.test": route("whole"), "own.dom.test": {"redirect": "/"}},
    }
    lab.apply(pillar)
    assert looked(lab, pillar).who_may("x.dom.test")["application"] == "any-dom-test"
    assert "everybody" in looked(lab, pillar).who_may("own.dom.test")["rule"]


# Why not


@pytest.mark.parametrize(
    ("user", "where", "why"),
    [
        ("mallory", A, ["is in none of staff, ops"]),
        ("alice", B, ["a second factor is wanted (totp), and none of these is set up"]),
        ("alice", C, ["attribute dept: not there; wanted is x or y"]),
        ("bob", C, ["is not in staff", "attribute dept: not there; wanted is x or y"]),
        ("carol", D, ["attribute badge: not there; wanted is anything that is not empty"]),
        ("mallory", "graf", ["is in none of staff, ops"]),
    ],
)
def test_access_gives_the_reason(both: AuthentikLab, user: str, where: str, why: list[str]) -> None:
    both.apply(PILLAR)
    told = looked(both).access(user, where)["may not"][where]
    assert [text for text in told if not text.startswith("also: ")] == why
    assert not both.enters(where, user)


def test_access_names_everything_that_somebody_may_reach(both: AuthentikLab) -> None:
    both.apply(PILLAR)
    told = looked(both).access("dave")
    assert list(told["may"]) == [A, B, "graf", OPEN] and list(told["may not"]) == [C, D]
    assert told["second factors"] == ["totp"] and told["groups"] == ["ops", "staff"]
    assert told["may"][B] == "yes"
    assert told["may"][A] == f"yes; {A} answers these addresses alone: 10.0.0.0/8"
    assert told["may"][OPEN] == f"yes; {OPEN} is in maintenance: 503 for all"


def test_an_account_that_is_switched_off_gets_in_nowhere(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    lab.api("PATCH", f"/core/users/{lab.row('users', 'alice')['pk']}/", {"is_active": False})
    told = looked(lab).access("alice")
    assert told["may"] == "nothing" and told["may not"][A][0] == "the account is switched off in authentik"
    assert looked(lab).who_may(A)["switched off"] == ["alice"] and "alice" not in looked(lab).who_may(A)["may pass"]


def test_a_guard_that_is_not_confirmed_keeps_members_out_too(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    outpost = lab.embedded
    lab.api("PATCH", f"/outposts/instances/{outpost['pk']}/", {"type": "proxy", "providers": []})
    [why, *_] = looked(lab).access("alice", A)["may not"][A]
    assert why.startswith("NOT CONFIRMED: the edges answer 503") and "on the outpost (embedded)" in why


def test_before_the_first_apply_access_says_so(lab: AuthentikLab) -> None:
    assert "no such application yet" in looked(lab).access("alice", A)["may not"][A][0]


def test_a_user_is_found_by_address_in_any_case(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    lab.api("PATCH", f"/core/users/{lab.row('users', 'bob')['pk']}/", {"email": "Bob@Estate.test"})
    assert looked(lab).access("bob@estate.TEST", A)["user"] == "bob (Bob)"
    lab.api("PATCH", f"/core/users/{lab.row('users', 'alice')['pk']}/", {"email": "bob@estate.test"})
    with pytest.raises(HecateError, match=r"do you mean alice, bob\?"):
        looked(lab).access("bob@estate.test", A)


def test_nobody_and_nowhere_are_told_with_what_there_is(lab: AuthentikLab) -> None:
    told = looked(lab)
    with pytest.raises(HecateError, match=r"there is no user ali in authentik; do you mean alice\?"):
        told.access("ali")
    with pytest.raises(HecateError, match="there is no route or application aa.estate.test; there are: a.estate.test"):
        told.who_may("aa.estate.test")
    with pytest.raises(HecateError, match="there is no group stuff; there are: staff"):
        told.members("stuff")


def test_a_token_of_no_superuser_is_told_instead_of_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would speak of the token's own user, whoever is asked about."""
    with authentik_lab(tmp_path, monkeypatch) as lab:
        lab.apply(PILLAR)
        admins = lab.row("groups", "authentik Admins")
        told = looked(lab)
        admins["is_superuser"] = False
        lab.emulator.state.rights[lab.emulator.owner] = frozenset({"view_user", "view_application"})
        with pytest.raises(HecateError, match="is a superuser's"):
            told.access("mallory", A)


def test_second_factors_that_the_server_keeps_to_itself_are_no_reason(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    told = looked(lab)
    lab.faults(Fault(path="/authenticators/", status=403, times=None))
    answer = told.access("alice", B)
    assert answer["second factors"] == "authentik does not tell" and list(answer["may"]) == [B]


@pytest.mark.parametrize("version", ["2024.2.4", "2025.6.4", "2026.5.6"])
def test_second_factors_are_read_from_every_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    with authentik_lab(tmp_path, monkeypatch, version=version, description=described_by(version)) as lab:
        told = looked(lab)
        assert told.access("carol")["second factors"] == ["static", "totp", "webauthn"]
        assert told.access("mallory")["second factors"] == "none"


def test_groups_tell_who_uses_and_who_keeps_them(lab: AuthentikLab) -> None:
    pillar = {**PILLAR, "authentik": {"groups": {"night": {"members": ["bob"]}}}}
    pillar["auth_policies"] = {**POLICIES, "new": {"groups": ["fresh"]}}
    pillar["routes"] = {**PILLAR["routes"], "new.estate.test": route("new")}
    lab.apply(pillar)
    told = looked(lab, pillar).groups()
    assert told["staff"] == {"members": 3, "policies": ["p", "strong", "fit"], "looked after by": "others"}
    assert told["night"] == {"members": 1, "policies": [], "looked after by": "pillar"}
    assert told["fresh"] == {"members": 0, "policies": ["new"], "looked after by": "Hecate, for a policy"}


def test_looking_writes_nothing(lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    before = lab.everything()
    told = looked(lab)
    told.applications(), told.groups(), told.who_may(C), told.access("alice")
    assert lab.everything() == before and lab.calls("WRITE")[-1].startswith("PATCH /outposts/")


# As Salt calls it: functions and states of a masterless minion


@pytest.fixture
def minion(lab: AuthentikLab, tmp_path: Path) -> Minion:
    """One whose plans may delete nothing unasked: to name a thing in a state is to ask."""
    folder = tmp_path / "minion"
    folder.mkdir()
    return Minion(folder, {**lab.pillar(**PILLAR), "safety": {"deletes": 0, "percent": 1}})


def state(function: str, name: str, **fields: Any) -> dict[str, Any]:
    return {name: {f"hecate_authentik.{function}": [{key: value} for key, value in fields.items()]}}


def single(minion: Minion, function: str, name: str, test: bool = False, **fields: Any) -> dict[str, Any]:
    return minion.run(state(function, name, **fields), test=test)[name]


def test_every_looking_function_answers_under_salt(minion: Minion, lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    call = minion.call
    assert call("hecate_authentik.applications")["graf"]["kind"] == "oauth2"
    assert call("hecate_authentik.policies")["p"]["used by"] == [A, "graf"]
    assert call("hecate_authentik.who_may", C)["may pass"] == ["carol"]
    assert list(call("hecate_authentik.access", "mallory")["may"]) == [OPEN]
    assert call("hecate_authentik.groups")["ops"]["members"] == 2
    assert call("hecate_authentik.members", "ops") == {"members": ["bob", "dave"]}
    assert call("hecate_authentik.warnings") == []


def test_a_version_with_a_hole_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with authentik_lab(tmp_path, monkeypatch, version="2025.8.1") as lab:
        told = wiring.version_warnings(lab.target(PILLAR))
    assert len(told) == 1 and "CVE-2026-25748" in told[0] and "2025.10.4" in told[0]


def test_an_application_state_makes_all_of_it_beside_what_is_there(minion: Minion, lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    lab.stranger("by-hand")
    before = lab.everything()
    fields = {"groups": ["staff"], "attributes": {"dept": "x"}, "require_mfa": True}
    tried = single(minion, "application_present", "new.estate.test", test=True, **fields)
    assert tried["result"] is None and "+ authentik.application new-estate-test" in tried["comment"]
    assert lab.everything() == before
    made = single(minion, "application_present", "new.estate.test", **fields)
    assert made["result"] is True and "authentik.application new-estate-test" in made["changes"], made["comment"]
    assert lab.enters("new.estate.test", "carol") and not lab.enters("new.estate.test", "alice")
    again = single(minion, "application_present", "new.estate.test", **fields)
    assert (again["result"], again["changes"]) == (True, {})
    gone = single(minion, "application_absent", "new.estate.test")
    assert gone["result"] is True, gone["comment"]
    assert lab.everything() == before


def test_a_narrower_state_takes_away_what_was_bound_before(minion: Minion, lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    host = "new.estate.test"
    single(minion, "application_present", host, groups=["staff", "ops"], require_mfa=True, outpost=None)
    assert lab.enters(host, "dave") and not lab.enters(host, "alice")
    made = single(minion, "application_present", host, groups=["ops"])
    assert made["result"] is True, made["comment"]
    assert lab.bindings("new-estate-test") == {"group ops", "policy hecate/production/closed"}
    assert lab.enters(host, "bob") and not lab.enters(host, "alice")
    assert not [name for name in lab.names("flows") | lab.names("stages") if "for-new" in name]


def test_two_states_with_attributes_have_a_policy_each(minion: Minion, lab: AuthentikLab) -> None:
    wanted = {
        **state("application_present", "one.estate.test", attributes={"dept": "x"}),
        **state("application_present", "two.estate.test", attributes={"dept": "other"}),
    }
    assert all(answer["result"] is True for answer in minion.run(wanted).values())
    assert lab.enters("one.estate.test", "carol") and not lab.enters("two.estate.test", "carol")
    assert all(not answer["changes"] for answer in minion.run(wanted).values())


def test_an_oauth2_state_takes_pillar_s_policy_and_keeps_its_secret(
    minion: Minion, lab: AuthentikLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"client_secret": "env:SECRET_B", "redirect_uris": ["https://wiki.estate.test/cb"]}
    fields = {"auth_policy": "p", "oauth2": said, "title": "The wiki", "launch_url": "https://wiki.estate.test"}
    made = single(minion, "application_present", "wiki", **fields)
    assert made["result"] is True, made["comment"]
    assert lab.row("providers", "hecate/production/wiki")["client_secret"] == SECRETS["SECRET_B"]
    assert lab.row("applications", "wiki")["name"] == "The wiki" and lab.enters("wiki", "bob")
    assert SECRETS["SECRET_B"] not in str(made)
    monkeypatch.setenv("SECRET_B", "changed-since")
    gone = single(minion, "application_absent", "wiki")
    assert gone["result"] is True and "wiki" not in lab.names("applications"), gone["comment"]


def test_a_saml_state_is_one_too(minion: Minion, lab: AuthentikLab) -> None:
    made = single(minion, "application_present", "old", groups=["ops"], saml={"acs_url": "https://old.estate.test/acs"})
    assert made["result"] is True and lab.enters("old", "bob") and not lab.enters("old", "alice"), made["comment"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"atributes": {"dept": "x"}}, "atributes"),
        ({"auth_policy": "p", "groups": ["staff"]}, "either auth_policy or groups"),
        ({"auth_policy": "nobody-knows"}, "no such policy"),
        ({"launch_url": "https://x.test"}, "launch_url"),
        ({"domain": {"name": "estate.test", "host": "new.estate.test"}}, "a whole domain"),
    ],
)
def test_a_slip_in_a_state_opens_nothing(minion: Minion, lab: AuthentikLab, fields: dict[str, Any], why: str) -> None:
    before = lab.everything()
    answer = single(minion, "application_present", "new.estate.test", **fields)
    assert (answer["result"], answer["changes"]) == (False, {}) and why in answer["comment"]
    assert lab.everything() == before


def test_a_group_s_members_by_state(minion: Minion, lab: AuthentikLab) -> None:
    lab.apply(PILLAR)
    before = lab.everything()
    made = single(minion, "group_present", "night", members=["alice", "bob"], attributes={"shift": "late"})
    assert made["result"] is True and lab.members("night") == {"alice", "bob"}, made["comment"]
    assert lab.row("groups", "night")["attributes"]["shift"] == "late"
    single(minion, "group_present", "night", members=["bob"])
    assert lab.members("night") == {"bob"}
    kept = single(minion, "group_absent", "night")
    assert kept["result"] is False and "has 1 members" in kept["comment"] and lab.members("night") == {"bob"}
    single(minion, "group_present", "night", members=[])
    gone = single(minion, "group_absent", "night")
    assert gone["result"] is True and lab.everything() == before


def test_a_stranger_s_group_is_neither_taken_nor_removed(minion: Minion, lab: AuthentikLab) -> None:
    taken = single(minion, "group_present", "staff", members=["mallory"])
    assert taken["result"] is False and "not Hecate's" in taken["comment"]
    left = single(minion, "group_absent", "staff")
    assert (left["result"], left["changes"]) == (True, {})
    assert lab.members("staff") == {"alice", "carol", "dave"}


def test_a_service_account_and_its_tokens_by_state(
    minion: Minion, lab: AuthentikLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.apply(PILLAR)
    before = lab.everything()
    made = single(minion, "service_account_present", "backup", full_name="Backups", tokens={"main": "env:SECRET_C"})
    assert made["result"] is True and SECRETS["SECRET_C"] not in str(made), made["comment"]
    assert lab.row("users", "backup")["name"] == "Backups"
    again = single(minion, "service_account_present", "backup", full_name="Backups", tokens={"main": "env:SECRET_C"})
    assert again["changes"] == {}
    monkeypatch.setenv("SECRET_C", "changed-since")
    gone = single(minion, "service_account_absent", "backup")
    assert gone["result"] is True, gone["comment"]
    assert lab.everything() == before


# Preflight


class Asked(hecate_deploy.Conductor):
    """A master whose only minion is masterless: it is called in this process."""

    def __init__(self, minion: Minion, pillar: dict[str, Any]) -> None:
        super().__init__({}, {})
        self._minion, self._rendered = minion, {"hecate": pillar}

    @property
    def _crew(self) -> Any:
        return Crew(self._ask)

    def _ask(self, _minion: str, function: str, *arguments: Any) -> Any:
        if function == "test.ping":
            return True
        try:
            return self._minion.call(function, *arguments)
        except CommandExecutionError as err:  # as the master gets it: a text
            return f"ERROR: {err}"


def preflight(lab: AuthentikLab, folder: Path) -> list[str]:
    pillar = lab.pillar(**PILLAR)
    folder.mkdir()
    return Asked(Minion(folder, pillar), pillar).preflight().splitlines()


@pytest.mark.parametrize(
    ("version", "word"), [("2025.8.1", "CVE-2026-25748"), ("2027.2.0", "newer than"), ("2023.10.1", "older than")]
)
def test_preflight_tells_of_a_version_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, word: str
) -> None:
    with authentik_lab(tmp_path, monkeypatch, version=version) as lab:
        first, *told = preflight(lab, tmp_path / "minion")
    assert first.startswith("pillar is good")
    assert told and all(line.startswith("  warning: authentik: ") for line in told) and word in "\n".join(told)


def test_preflight_has_nothing_to_say_of_a_sound_version(lab: AuthentikLab, tmp_path: Path) -> None:
    assert len(preflight(lab, tmp_path / "minion")) == 1


def test_preflight_tells_when_the_version_could_not_be_asked(lab: AuthentikLab, tmp_path: Path) -> None:
    lab.faults(Fault(path="/admin/version/", status=500, times=None))
    _, told = preflight(lab, tmp_path / "minion")
    assert "its version could not be asked: ERROR: authentik" in told
