"""Each kind of object that Hecate keeps in authentik, from pillar to what the server then does with it."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from hecate import events
from hecate.compile.authentik import mark
from hecate.errors import ApplyFailed, Conflict, Refused, UnsafePlan

from contract.authentik_lab import AUTHORIZATION, SECRETS, AuthentikLab, Line, Pillar, authentik_lab, oauth2, route

A, B = "a.estate.test", "b.estate.test"
EU = {"eu": {"address": "127.0.0.1:9001", "name": "Europe"}}
SMALL: Pillar = {"auth_policies": {"p": {"groups": ["staff"]}}, "routes": {A: route("p")}}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthentikLab]:
    with authentik_lab(tmp_path, monkeypatch) as made:
        yield made


def entering(lab: AuthentikLab, door: str = A) -> set[str]:
    return {str(user["username"]) for user in lab.rows("users") if lab.enters(door, user["username"])}


def person(lab: AuthentikLab, username: str, **attributes: Any) -> None:
    lab.api("POST", "/core/users/", {"username": username, "name": username, "attributes": attributes})


# Policies


ATTRIBUTES: list[tuple[Any, list[Any], list[Any]]] = [
    ("x", ["x"], ["y", "X", "", None, ["x"], "x "]),
    (["x", "y"], ["x", "y"], ["z", "", ["x", "y"], "x, y"]),
    ("required", ["anything", 1, True, ["x"]], ["", 0, False, [], None]),
    (True, [True], [False, "True", "", None]),
    (7, [7], [8, "7", None]),
    ('it\'s \\ "quoted"', ['it\'s \\ "quoted"'], ["its", ""]),
    ("') or True or ('", ["') or True or ('"], ["", "x"]),
    ("\\'] or True #", ["\\'] or True #"], ["", "x"]),
]


@pytest.mark.parametrize(("wanted", "enter", "stay"), ATTRIBUTES, ids=[str(row[0]) for row in ATTRIBUTES])
def test_an_attribute_is_asked_for_to_the_letter(
    lab: AuthentikLab, wanted: Any, enter: list[Any], stay: list[Any]
) -> None:
    for number, value in enumerate((*enter, *stay)):
        person(lab, f"user{number}", **({} if value is None else {"dept": value}))
    lab.apply({"auth_policies": {"p": {"attributes": {"dept": wanted}}}, "routes": {A: route("p")}})
    found = {name for name in entering(lab) if name.startswith("user")}
    assert found == {f"user{number}" for number in range(len(enter))}


def test_groups_and_attributes_have_to_be_had_together(lab: AuthentikLab) -> None:
    pillar = {
        "auth_policies": {"p": {"groups": ["staff", "ops"], "attributes": {"dept": "x"}}},
        "routes": SMALL["routes"],
    }
    person(lab, "loner", dept="x")
    lab.apply(pillar)
    assert entering(lab) == {"carol"}
    assert lab.bindings("a-estate-test") == {
        "policy hecate/production/policy/p",
        "policy hecate/production/closed",
    }


def test_without_groups_and_attributes_whoever_can_log_in_may_enter(lab: AuthentikLab) -> None:
    lab.apply({"auth_policies": {"p": {}}, "routes": {A: route("p")}})
    assert {"mallory", "alice"} <= entering(lab)
    assert lab.bindings("a-estate-test") == set()


def test_whoever_has_no_second_factor_is_refused_although_logged_in(lab: AuthentikLab) -> None:
    """By the flow that each entry goes through; the login flow would not ask again."""
    policies = {
        "m": {"groups": ["staff"], "require_mfa": True, "session_duration": "2h"},
        "w": {"groups": ["staff"], "require_mfa": True, "allowed_methods": ["password", "webauthn"]},
    }
    lab.apply({"auth_policies": policies, "routes": {A: route("m"), B: route("w")}})
    assert (entering(lab, A), entering(lab, B)) == ({"carol", "dave"}, {"carol"})
    stage = lab.row("stages", "hecate/production/m/mfa")
    assert (stage["not_configured_action"], stage["last_auth_threshold"]) == ("deny", "hours=2")
    assert lab.row("flows", "hecate-production-m-mfa")["designation"] == "authorization"
    lab.apply({"auth_policies": {"m": {"groups": ["staff"]}}, "routes": {A: route("m")}}, "t2")
    assert entering(lab, A) == {"alice", "carol", "dave"}
    assert not [name for name in lab.names("flows") | lab.names("stages") if name.startswith("hecate")]


def test_one_application_serves_a_whole_domain(lab: AuthentikLab) -> None:
    policy = {"groups": ["ops"], "domain": {"name": "estate.test", "host": A}}
    lab.apply({"auth_policies": {"d": policy}, "routes": {A: route("d"), "*.estate.test": route("d")}})
    assert lab.names("applications") == {"any-estate-test"}
    provider = lab.row("providers", "hecate/production/*.estate.test")
    assert (provider["mode"], provider["cookie_domain"]) == ("forward_domain", "estate.test")
    for door in (A, "whatever.estate.test"):
        assert entering(lab, door) == {"bob", "dave"}
    assert entering(lab, "estate.test.evil.test") == set()


def test_paths_without_a_login_that_were_set_by_hand_are_taken_back(lab: AuthentikLab) -> None:
    lab.apply(SMALL)
    pk = lab.row("providers", "hecate/production/a.estate.test")["pk"]
    body = {"mode": "forward_single", "external_host": f"https://{A}", "skip_path_regex": "^/"}
    lab.api("PATCH", f"/providers/proxy/{pk}/", body)
    lab.apply(SMALL, "t2")
    assert lab.emulator.state.providers[pk]["skip_path_regex"] == ""


@pytest.mark.parametrize("what", ["group", "user", "policy"])
def test_a_binding_that_was_made_by_hand_is_removed(lab: AuthentikLab, what: str) -> None:
    lab.apply(SMALL)
    everyone = lab.policy("by hand", "return True")
    keys = {"group": lab.row("groups", "ops")["pk"], "user": lab.row("users", "mallory")["pk"], "policy": everyone}
    lab.bind("a-estate-test", **{what: keys[what]})
    lab.apply(SMALL, "t2")
    assert lab.bindings("a-estate-test") == {"group staff", "policy hecate/production/closed"}
    assert "by hand" in lab.names("policies"), "the policy itself is somebody else's"


@pytest.mark.parametrize("change", [{"negate": True}, {"enabled": False}, {"order": 5}])
def test_a_binding_that_was_changed_by_hand_is_put_right(lab: AuthentikLab, change: dict[str, Any]) -> None:
    lab.apply(SMALL)
    for row in lab.rows("bindings"):
        ends = {name: row[name] for name in ("target", "group", "policy") if row[name]}
        lab.api("PATCH", f"/policies/bindings/{row['pk']}/", {**ends, **change})
    lab.apply(SMALL, "t2")
    assert entering(lab) == {"alice", "carol", "dave"}


# Outposts


def test_a_named_outpost_is_made_with_its_first_provider(lab: AuthentikLab) -> None:
    policies = {"p": {"groups": ["staff"]}, "e": {"groups": ["staff"], "outpost": "eu"}}
    pillar = {"auth_policies": policies, "routes": {A: route("p")}, "authentik": {"outposts": EU}}
    lab.apply(pillar)
    assert "Europe" not in lab.names("outposts"), "it refuses to have none"
    lab.apply({**pillar, "routes": {A: route("p"), B: route("e")}}, "t2")
    assert (lab.outpost("Europe"), lab.outpost()) == (
        {"hecate/production/b.estate.test"},
        {"hecate/production/a.estate.test"},
    )


@pytest.mark.parametrize("outposts", [EU, {}], ids=["still in pillar", "no longer in pillar"])
def test_the_last_to_leave_an_outpost_leaves_it_when_it_can(lab: AuthentikLab, outposts: dict[str, Any]) -> None:
    """An outpost refuses to have none: who moves on is there until another comes, guarded all the while."""
    elsewhere = {"e": {"groups": ["staff"], "outpost": "eu"}}
    at_home = {"e": {"groups": ["staff"]}}
    settings = {"authentik": {"outposts": EU}}
    lab.apply({"auth_policies": elsewhere, "routes": {A: route("e")}, **settings})
    moved = lab.apply({"auth_policies": at_home, "routes": {A: route("e")}, "authentik": {"outposts": outposts}}, "t2")
    assert lab.outpost() == lab.outpost("Europe") == {"hecate/production/a.estate.test"}
    assert entering(lab) == {"alice", "carol", "dave"}
    moved.engine.undo("t2")
    assert (lab.outpost(), lab.outpost("Europe")) == (set(), {"hecate/production/a.estate.test"})
    both = {**at_home, "f": elsewhere["e"]}
    lab.apply({"auth_policies": at_home, "routes": {A: route("e")}, **settings}, "t3")
    lab.apply({"auth_policies": both, "routes": {A: route("e"), B: route("f")}, **settings}, "t4")
    assert lab.outpost("Europe") == {"hecate/production/b.estate.test"}


def test_a_host_that_goes_with_its_outpost_comes_back_with_it(lab: AuthentikLab) -> None:
    pillar = {"auth_policies": {"e": {"groups": ["staff"], "outpost": "eu"}}, "routes": {A: route("e")}}
    lab.apply({**pillar, "authentik": {"outposts": EU}})
    gone = lab.apply({"auth_policies": SMALL["auth_policies"]}, "t2", ("deletes",))
    assert lab.outpost("Europe") == set()
    gone.engine.undo("t2")
    assert lab.outpost("Europe") == {"hecate/production/a.estate.test"}
    assert entering(lab) == {"alice", "carol", "dave"}


def test_what_others_have_on_an_outpost_stays_there(lab: AuthentikLab) -> None:
    lab.stranger("theirs")
    lab.apply(SMALL)
    assert lab.outpost() == {"by hand theirs", "hecate/production/a.estate.test"}
    lab.apply({**SMALL, "routes": {}}, "t2")
    assert lab.outpost() == {"by hand theirs"}


def test_without_an_embedded_outpost_nothing_is_begun(lab: AuthentikLab) -> None:
    lab.api("DELETE", f"/outposts/instances/{lab.embedded['pk']}/")
    target = lab.target(SMALL)
    with pytest.raises(Refused, match="no embedded outpost.*outpost_name"):
        target.engine.apply(target.wish, "t1")
    assert lab.calls("WRITE")[1:] == []
    lab.apply({**SMALL, "authentik": {"outpost_name": "mine"}}, "t2")
    assert lab.outpost("mine") == {"hecate/production/a.estate.test"}


# OAuth2 and SAML


GRAF: Pillar = {"auth_policies": SMALL["auth_policies"], "applications": {"graf": oauth2("p")}}


def graf(**more: Any) -> Pillar:
    return {**GRAF, "applications": {"graf": oauth2("p", **more)}}


def test_an_oauth2_application_has_what_its_client_needs(lab: AuthentikLab) -> None:
    uris = ["https://graf.estate.test/cb", {"url": r"https://graf-\d+\.estate\.test/cb", "matching": "regex"}]
    lab.apply(graf(redirect_uris=uris, scopes=["openid", "email"], client_id="grafana"))
    row = lab.row("providers", "hecate/production/graf")
    assert (row["client_type"], row["client_id"]) == ("confidential", "grafana")
    assert row["client_secret"] == SECRETS["SECRET_A"]
    modes = [(uri["matching_mode"], uri["url"]) for uri in row["redirect_uris"]]
    assert modes == [("strict", uris[0]), ("regex", r"https://graf-\d+\.estate\.test/cb")]
    mappings = {lab.emulator.state.mappings[pk]["scope_name"] for pk in row["property_mappings"]}
    assert mappings == {"openid", "email"}
    assert lab.emulator.state.certificates[row["signing_key"]]["name"] == "authentik Self-signed Certificate"
    assert entering(lab, "graf") == {"alice", "carol", "dave"}


def test_a_scope_that_nobody_made_is_told_with_those_that_there_are(lab: AuthentikLab) -> None:
    with pytest.raises(ApplyFailed, match="no scope mapping for groups; there are: .*openid") as caught:
        lab.apply(graf(scopes=["openid", "groups"]))
    assert caught.value.undone
    assert lab.names("applications") == set()


def test_a_secret_that_changes_behind_its_reference_is_set_anew(
    lab: AuthentikLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.apply(GRAF)
    monkeypatch.setenv("SECRET_A", "rotated-" + "r" * 40)
    target = lab.target(GRAF)
    assert [change.id for change in target.engine.plan(target.wish).changes] == [
        "authentik.provider hecate/production/graf"
    ]
    lab.apply(GRAF, "t2")
    assert lab.row("providers", "hecate/production/graf")["client_secret"].startswith("rotated-")


def test_another_reference_is_another_secret_and_an_undo_brings_the_old_one_back(lab: AuthentikLab) -> None:
    lab.apply(GRAF)
    later = lab.apply(graf(client_secret="env:SECRET_B"), "t2")
    assert lab.row("providers", "hecate/production/graf")["client_secret"] == SECRETS["SECRET_B"]
    later.engine.undo("t2")
    assert lab.row("providers", "hecate/production/graf")["client_secret"] == SECRETS["SECRET_A"]
    gone = lab.apply({**GRAF, "applications": {}}, "t3")
    gone.engine.undo("t3")
    assert lab.row("providers", "hecate/production/graf")["client_secret"] == SECRETS["SECRET_A"]


def test_a_secret_that_no_rollback_could_bring_back_wants_a_word_before_it_goes(lab: AuthentikLab) -> None:
    lab.apply(GRAF)
    pk = lab.row("providers", "hecate/production/graf")["pk"]
    lab.api("PATCH", f"/providers/oauth2/{pk}/", {"client_secret": "set by hand"})
    gone = lab.target({**GRAF, "applications": {}})
    with pytest.raises(UnsafePlan, match="allow=secret:graf"):
        gone.engine.apply(gone.wish, "t2")
    lab.apply({**GRAF, "applications": {}}, "t3", ("secret:graf",))
    assert lab.names("applications") == set()


def test_a_public_client_has_no_secret_to_compare(lab: AuthentikLab) -> None:
    public = {"graf": {"auth_policy": "p", "oauth2": {"redirect_uris": ["https://graf.estate.test/cb"]}}}
    lab.apply({**GRAF, "applications": public})
    assert lab.row("providers", "hecate/production/graf")["client_type"] == "public"


def test_no_secret_is_kept_or_shown(lab: AuthentikLab, tmp_path: Path) -> None:
    tokens = {"service_accounts": {"ci": {"tokens": {"one": "env:SECRET_B"}}}}
    hook = {"events": {"url": "https://hooks.test/x", "secret": "env:SECRET_C"}}
    lab.apply({**GRAF, "authentik": {**tokens, **hook}})
    target = lab.target({**graf(client_secret="env:SECRET_B"), "authentik": {**tokens, **hook}})
    outcome = target.engine.apply(target.wish, "t2", shared=True)
    rows = [change.to_json() for change in outcome.plan.changes]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("env:SECRET_B" in text for text in kept), "the references are"
    for text in (json.dumps(rows), repr(outcome), *kept):
        assert not [name for name, value in SECRETS.items() if value in text]


def test_a_saml_application_has_what_its_service_needs(lab: AuthentikLab) -> None:
    saml = {"acs_url": "https://w.test/acs", "audience": "urn:w", "binding": "redirect"}
    lab.apply({**GRAF, "applications": {"wiki": {"auth_policy": "p", "name": "The wiki", "saml": saml}}})
    row = lab.row("providers", "hecate/production/wiki")
    assert (row["acs_url"], row["audience"], row["sp_binding"]) == ("https://w.test/acs", "urn:w", "redirect")
    assert row["signing_kp"] and row["property_mappings"]
    assert entering(lab, "wiki") == {"alice", "carol", "dave"}


def test_an_application_cannot_change_its_protocol_under_its_name(lab: AuthentikLab) -> None:
    lab.apply(GRAF)
    before = lab.everything()
    saml = {"graf": {"auth_policy": "p", "saml": {"acs_url": "https://w.test/acs"}}}
    with pytest.raises(ApplyFailed, match="hecate:applications:graf.*give it another name") as caught:
        lab.apply({**GRAF, "applications": saml}, "t2")
    assert caught.value.undone
    assert lab.everything() == before


# Brands, accounts, groups


def test_a_brand_is_made_changed_and_removed(lab: AuthentikLab) -> None:
    shipped = lab.rows("brands")
    brand = {"title": "Estate", "flow": "default-authentication-flow"}
    lab.apply({"authentik": {"brands": {"login.estate.test": brand}}})
    row = next(row for row in lab.rows("brands") if row["domain"] == "login.estate.test")
    assert (row["branding_title"], row["flow_authentication"]) == ("Estate", lab.flow("default-authentication-flow"))
    lab.apply({"authentik": {"brands": {"login.estate.test": {"title": "Other"}}}}, "t2")
    row = next(row for row in lab.rows("brands") if row["domain"] == "login.estate.test")
    assert (row["branding_title"], row["flow_authentication"]) == ("Other", None)
    lab.apply({}, "t3")
    assert lab.rows("brands") == shipped


def accounts(**tokens: str) -> Pillar:
    return {"authentik": {"service_accounts": {"ci": {"tokens": tokens}}}}


def whose(lab: AuthentikLab, key: str) -> str:
    """Username that the API answers to this key; "" for a refusal."""
    head = {"Authorization": f"Bearer {key}"}
    answer = requests.get(f"{lab.url}/api/v3/core/users/me/", headers=head, timeout=5)
    return answer.json()["user"]["username"] if answer.ok else ""


def test_two_tokens_of_an_account_are_good_at_once_so_that_one_can_follow_the_other(lab: AuthentikLab) -> None:
    first, second = SECRETS["SECRET_A"], SECRETS["SECRET_B"]
    lab.apply(accounts(one="env:SECRET_A"))
    assert (whose(lab, first), whose(lab, second)) == ("ci", "")
    lab.apply(accounts(one="env:SECRET_A", two="env:SECRET_B"), "t2")
    assert (whose(lab, first), whose(lab, second)) == ("ci", "ci")
    lab.apply(accounts(two="env:SECRET_B"), "t3")
    assert (whose(lab, first), whose(lab, second)) == ("", "ci")
    assert lab.row("tokens", "hecate-production-ci-two")["expiring"] is False


def test_a_key_that_changes_behind_its_reference_is_set_anew(
    lab: AuthentikLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.apply(accounts(one="env:SECRET_A"))
    monkeypatch.setenv("SECRET_A", "rotated-" + "r" * 40)
    lab.apply(accounts(one="env:SECRET_A"), "t2")
    assert (whose(lab, SECRETS["SECRET_A"]), whose(lab, "rotated-" + "r" * 40)) == ("", "ci")
    assert not [call for call in lab.calls() if "view_key" in call], "a look at a key is an event in the audit log"


def membership(*members: str, **more: Any) -> Pillar:
    return {"authentik": {"groups": {"crew": {"members": list(members)}}, **more}}


def test_members_are_exactly_those_of_the_pillar_one_call_each(lab: AuthentikLab) -> None:
    lab.apply(membership("alice", "bob"))
    lab.forget_calls()
    lab.apply(membership("bob", "carol"), "t2")
    assert lab.members("crew") == {"bob", "carol"}
    acts = [call.split("/")[-2] for call in lab.calls("POST")]
    assert acts == ["add_user", "remove_user"] or acts == ["remove_user", "add_user"]
    lab.api(
        "POST", f"/core/groups/{lab.row('groups', 'crew')['pk']}/add_user/", {"pk": lab.row("users", "mallory")["pk"]}
    )
    lab.apply(membership("bob", "carol"), "t3")
    assert lab.members("crew") == {"bob", "carol"}


def test_who_joined_in_the_meantime_stays_until_the_next_look(lab: AuthentikLab) -> None:
    """The list as a whole would take them away unseen."""
    lab.apply(membership("alice"))
    group, mallory = lab.row("groups", "crew"), lab.row("users", "mallory")
    first = itertools.count()

    def bend(request: requests.PreparedRequest) -> None:
        if "add_user" in str(request.url) and not next(first):
            lab.api("POST", f"/core/groups/{group['pk']}/add_user/", {"pk": mallory["pk"]})

    target = Line(lab.emulator, bend=bend).onto(lab.target(membership("alice", "bob")))
    with pytest.raises(ApplyFailed, match="still differs: authentik.group crew"):
        target.engine.apply(target.wish, "t2")


def test_an_unknown_member_is_told_with_the_pillar_path(lab: AuthentikLab) -> None:
    with pytest.raises(ApplyFailed, match="hecate:authentik:groups:crew: there is no user zoe") as caught:
        lab.apply(membership("alice", "zoe"))
    assert caught.value.undone
    assert "crew" not in lab.names("groups")


def test_a_strangers_group_serves_as_it_is_but_its_members_want_a_word(lab: AuthentikLab) -> None:
    before = lab.row("groups", "staff").copy()
    lab.apply(SMALL)
    said = {"authentik": {"groups": {"staff": {"members": ["bob"]}}}}
    with pytest.raises(Conflict, match="authentik.group staff"):
        lab.apply({**SMALL, **said}, "t2")
    assert lab.row("groups", "staff") == before
    taken = lab.apply({**SMALL, **said, "adopt": ["authentik.group staff"]}, "t3")
    assert lab.members("staff") == {"bob"}
    taken.engine.undo("t3")
    assert lab.members("staff") == {"alice", "carol", "dave"}
    assert lab.row("groups", "staff")["attributes"] == before["attributes"]


def test_what_others_wrote_into_a_groups_attributes_stays(lab: AuthentikLab) -> None:
    lab.apply({"auth_policies": {"p": {"groups": ["crew"]}}, "routes": {A: route("p")}})
    pk = lab.row("groups", "crew")["pk"]
    lab.api("PATCH", f"/core/groups/{pk}/", {"attributes": {"managed-by": mark("production"), "theirs": 1}})
    lab.apply({**membership("alice"), "auth_policies": {"p": {"groups": ["crew"]}}, "routes": {A: route("p")}}, "t2")
    assert lab.emulator.state.groups[pk]["attributes"] == {"managed-by": mark("production"), "theirs": 1}


# Events


@pytest.fixture
def inbox() -> Iterator[tuple[str, queue.Queue[bytes]]]:
    found: queue.Queue[bytes] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", found
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_happens_is_told_signed_and_nothing_else_is(
    lab: AuthentikLab, inbox: tuple[str, queue.Queue[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, found = inbox
    said = {"url": url, "secret": "env:SECRET_C", "actions": ["login-failed", "user-created"]}
    pillar = {"authentik": {"events": said}}
    lab.apply(pillar)

    memory = events.Memory(tmp_path / "seen")

    def verified(secret: str) -> str:
        known = events.Secrets(lambda: [secret], time.time())
        return events.Verifier(known, memory).verify(found.get(timeout=10), time.time()).tag

    lab.api("POST", "/core/groups/", {"name": "nobody tells of groups"})
    person(lab, "newcomer")
    assert verified(SECRETS["SECRET_C"]).endswith("user-created")
    requests.post(f"{lab.url}/_lab/events", json={"action": "login_failed", "user": "bob"}, timeout=5)
    assert verified(SECRETS["SECRET_C"]).endswith("login-failed")
    monkeypatch.setenv("SECRET_C", "rotated-" + "r" * 40)
    lab.apply(pillar, "t2")
    requests.post(f"{lab.url}/_lab/events", json={"action": "login_failed", "user": "bob"}, timeout=5)
    assert verified("rotated-" + "r" * 40).endswith("login-failed")
    lab.apply({}, "t3")
    assert not [name for table in ("rules", "transports", "mappings") for name in lab.names(table) if "hecate" in name]
    assert "authentik Admins" in lab.names("groups")


# What is whose


def test_nothing_that_the_server_brings_along_is_ever_deleted(lab: AuthentikLab) -> None:
    """Not even with Hecate's mark on it."""
    marked = {"managed-by": mark("production")}
    for group in ("authentik Admins", "authentik Read-only"):
        lab.api("PATCH", f"/core/groups/{lab.row('groups', group)['pk']}/", {"attributes": marked})
    akadmin = lab.row("users", "akadmin")["pk"]
    lab.api("PATCH", f"/core/users/{akadmin}/", {"attributes": marked, "type": "service_account"})
    adopted = {"groups": {"authentik Admins": {"members": ["akadmin"]}}}
    before = {table: lab.names(table) for table in ("groups", "users", "flows", "outposts", "stages", "brands")}
    lab.apply({**SMALL, "authentik": adopted, "adopt": ["authentik.group authentik Admins"]})
    lab.apply({}, "t2")
    assert {table: lab.names(table) for table in before} == before
    assert lab.members("authentik Admins") == {"akadmin"}


def test_another_environment_whose_name_begins_alike_is_left_alone(lab: AuthentikLab) -> None:
    def of(environment: str, door: str, application: str, key: str) -> Pillar:
        policies = {"p": {"groups": [f"{application}s"], "attributes": {"dept": "x"}, "require_mfa": True}}
        settings = {
            "service_accounts": {application: {"tokens": {"t": key}}},
            "brands": {f"login.{door}": {}},
            "events": {"url": "https://hooks.test/x", "secret": "env:SECRET_C"},
        }
        where = {"environment": environment, "auth_policies": policies, "routes": {door: route("p")}}
        return {**where, "applications": {application: oauth2("p")}, "authentik": settings}

    longer = lab.apply(of("production-eu", B, "graf", "env:SECRET_A"), "t1")
    before = lab.everything()
    lab.apply(of("production", A, "wiki", "env:SECRET_B"), "t2")
    assert longer.engine.plan(longer.wish).changes == ()
    lab.apply({"environment": "production"}, "t3", ("deletes", "secret:wiki"))
    after = lab.everything()
    for table in ("bindings", "policies", "applications", "providers", "flows", "stages", "tokens", "users", "rules"):
        assert [stable(row) for row in after[table]] == [stable(row) for row in before[table]], table


def stable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("last_updated", "expires", "modified")}


def test_an_application_is_pruned_with_all_that_was_made_for_it_and_nothing_else(lab: AuthentikLab) -> None:
    lab.stranger("theirs")
    before = {
        table: lab.names(table) for table in ("applications", "providers", "policies", "groups", "flows", "stages")
    }
    policies = {"p": {"groups": ["crew"], "attributes": {"dept": "x"}, "require_mfa": True}}
    lab.apply({"auth_policies": policies, "routes": {A: route("p")}, "applications": {"graf": oauth2("p")}})
    lab.apply({}, "t2", ("deletes",))
    assert {table: lab.names(table) for table in before} == before
    assert lab.outpost() == {"by hand theirs"}


def test_an_application_of_somebody_else_wants_a_word_before_it_is_taken_over(lab: AuthentikLab) -> None:
    made = lab.stranger("a-estate-test", host=A)
    lab.bind("a-estate-test", group=lab.row("groups", "ops")["pk"])
    with pytest.raises(Conflict, match="authentik.application a-estate-test"):
        lab.apply(SMALL)
    assert lab.bindings("a-estate-test") == {"group ops"}
    lab.apply({**SMALL, "adopt": ["authentik.application a-estate-test"]}, "t2")
    row = lab.row("applications", "a-estate-test")
    assert (row["pk"], row["meta_publisher"]) == (made["pk"], mark("production"))
    assert entering(lab) == {"alice", "carol", "dave"}, "nobody by the provider of before, which leads nowhere now"


# What it costs to look


def everything_of(count: int) -> Pillar:
    policies: dict[str, Any] = {f"p{n}": {"groups": ["staff", f"g{n}"]} for n in range(count)}
    policies |= {f"m{n}": {"attributes": {"dept": "x"}, "require_mfa": True} for n in range(count)}
    routes = {f"{kind}{n}.estate.test": route(f"{kind}{n}") for n in range(count) for kind in "pm"}
    applications = {f"app{n}": oauth2(f"p{n}") for n in range(count)}
    groups = {f"g{n}": {"members": ["alice"]} for n in range(count)}
    brands = {f"login{n}.estate.test": {} for n in range(count)}
    hook = {"url": "https://hooks.test/x", "secret": "env:SECRET_C"}
    settings = {"groups": groups, "brands": brands, "events": hook}
    return {"auth_policies": policies, "routes": routes, "applications": applications, "authentik": settings}


@pytest.mark.parametrize("count", [1, 12])
def test_a_run_without_a_change_reads_each_kind_once_and_writes_nothing(lab: AuthentikLab, count: int) -> None:
    target = lab.apply(everything_of(count))
    lab.forget_calls()
    assert target.engine.apply(target.wish, "t2").plan.changes == ()
    assert lab.calls("WRITE") == []
    reads = Counter(call.partition("?")[0] for call in lab.calls())
    assert [call for call, times in reads.items() if times > 1] == []
    assert len(reads) <= 22, "however many objects there are"


def test_the_order_of_what_is_the_servers_to_order_is_no_difference(lab: AuthentikLab) -> None:
    """Lists of keys come back in an order of their own."""
    target = lab.apply(everything_of(2))
    for row in (*lab.rows("providers"), *lab.rows("outposts"), *lab.rows("stages")):
        for name in ("property_mappings", "providers", "device_classes"):
            if name in row:
                row[name] = list(reversed(row[name]))
    assert target.engine.plan(target.wish).changes == ()
    assert AUTHORIZATION in lab.names("flows")
