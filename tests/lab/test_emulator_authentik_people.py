"""Users, service accounts, tokens and rights: who may call the emulated authentik, and for what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from authentik_calls import Client, Json, client, described

FORBIDDEN = {"detail": "You do not have permission to perform this action."}


@pytest.fixture(params=["2025.6.4", "2026.5.6"])
def ak(request: pytest.FixtureRequest) -> Iterator[Client]:
    for found in client(version=request.param, description=described(request.param)):
        yield found
        assert found.app.violations == []


def account(ak: Client, name: str = "robot") -> int:
    body = {"name": name, "create_group": False, "expiring": False}
    return int(ak("POST", "/core/users/service_account/", body, 200)["user_pk"])


def token(ak: Client, user: int, identifier: str = "one", **further: object) -> str:
    body = {"identifier": identifier, "intent": "api", "user": user, "expiring": False, **further}
    ak("POST", "/core/tokens/", body, 201)
    return str(ak("GET", f"/core/tokens/{identifier}/view_key/")["key"])


def make_superuser(ak: Client, user: int) -> None:
    admins = ak.group("authentik Admins")
    ak("POST", f"/core/groups/{admins['pk']}/add_user/", {"pk": user}, 204)


def test_a_service_account_has_a_password_that_is_no_token(ak: Client) -> None:
    made = ak("POST", "/core/users/service_account/", {"name": "robot", "create_group": True}, 200)
    assert made["group_pk"] == ak.group("robot")["pk"]
    assert ak("GET", f"/core/users/{made['user_pk']}/")["type"] == "service_account"
    ak.as_(made["token"])("GET", "/admin/version/", status=403)
    ak("POST", "/core/users/service_account/", {"name": "robot"}, 400)


def test_a_token_calls_as_its_user(ak: Client) -> None:
    user = account(ak)
    robot = ak.as_(token(ak, user))
    assert robot("GET", "/admin/version/")
    assert robot("GET", "/core/groups/", status=403) == FORBIDDEN
    make_superuser(ak, user)
    assert robot("POST", "/core/groups/", {"name": "made"}, 201)
    made = ak("GET", "/events/events/", action="model_created", context_model_name="group")["results"][0]
    assert made["user"]["username"] == "robot"


def test_two_tokens_of_one_user_are_valid_together_until_one_is_deleted(ak: Client) -> None:
    user = account(ak)
    first, second = ak.as_(token(ak, user, "one")), ak.as_(token(ak, user, "two"))
    assert first("GET", "/admin/version/") and second("GET", "/admin/version/")
    ak("DELETE", "/core/tokens/one/", status=204)
    first("GET", "/admin/version/", status=403)
    assert second("GET", "/admin/version/")


def test_a_new_key_kills_the_old_one_at_once(ak: Client) -> None:
    before = ak.as_(token(ak, account(ak)))
    ak("POST", "/core/tokens/one/set_key/", {"key": "another-key"}, 204)
    before("GET", "/admin/version/", status=403)
    assert ak.as_("another-key")("GET", "/admin/version/")


def test_a_patch_without_user_makes_the_caller_the_owner(ak: Client) -> None:
    user = account(ak)
    token(ak, user)
    assert ak("PATCH", "/core/tokens/one/", {"description": "d", "user": user})["user"] == user
    assert ak("PATCH", "/core/tokens/one/", {"description": "e"})["user"] == ak.user("akadmin")


def test_an_expiring_api_token_gets_the_default_time_and_then_ends(ak: Client) -> None:
    robot = ak.as_(token(ak, account(ak), expiring=True, expires="2099-01-01T00:00:00Z"))
    assert not ak("GET", "/core/tokens/one/")["expires"].startswith("2099")
    assert robot("GET", "/admin/version/")
    next(iter(row for row in ak.app.state.tokens.values() if row["identifier"] == "one"))["expires"] = "2020-01-01"
    robot("GET", "/admin/version/", status=403)


def test_an_inactive_user_s_token_is_refused_and_a_deleted_user_s_is_gone(ak: Client) -> None:
    user = account(ak)
    robot = ak.as_(token(ak, user))
    ak("PATCH", f"/core/users/{user}/", {"is_active": False})
    robot("GET", "/admin/version/", status=403)
    ak("DELETE", f"/core/users/{user}/", status=204)
    ak("GET", "/core/tokens/one/", status=404)


def test_others_tokens_are_seen_by_superusers_only(ak: Client) -> None:
    user = account(ak)
    key = token(ak, user)
    ak.app.state.rights[user] = frozenset({"view_token", "add_token"})
    ak("POST", "/core/tokens/", {"identifier": "mine", "intent": "api"}, 201)
    robot = ak.as_(key)
    assert {row["user"] for row in robot("GET", "/core/tokens/")["results"]} == {user}
    stolen = {"identifier": "two", "intent": "api", "user": ak.user("akadmin")}
    assert robot("POST", "/core/tokens/", stolen, 201)["user"] == user
    robot("GET", "/core/tokens/one/view_key/", status=403)


def test_tokens_keys_are_in_no_answer_but_their_own(ak: Client) -> None:
    key = token(ak, account(ak))
    for path in ("/core/tokens/", "/core/tokens/one/"):
        assert key not in ak.raw("GET", path).text
    assert key not in requests.get(f"{ak.url}/_lab/state", timeout=10).text
    assert key not in ak.raw("GET", "/events/events/").text


def test_users_are_made_changed_and_found(ak: Client) -> None:
    staff = ak.group()["pk"]
    made = ak("POST", "/core/users/", {"username": "carol", "name": "Carol", "groups": [staff]}, 201)
    assert ak("POST", "/core/users/", {"username": "carol", "name": "Carol"}, 400)["username"]
    assert ak("PATCH", f"/core/users/{made['pk']}/", {"attributes": {"a": 1}})["groups"] == [staff]
    assert ak("PUT", f"/core/users/{made['pk']}/", {"username": "carol", "name": "C"})["attributes"] == {"a": 1}
    assert ak("GET", "/core/users/", attributes='{"a": 1}')["results"][0]["pk"] == made["pk"]
    ak("POST", f"/core/users/{made['pk']}/set_password/", {"password": "pw-c"}, 204)
    assert ak.app.state.passwords[made["pk"]] == "pw-c"


ALLOWED: list[tuple[str, str, Json | None, str]] = [
    ("GET", "/core/groups/", None, "view_group"),
    ("POST", "/core/groups/", {"name": "n"}, "add_group"),
    ("GET", "/providers/all/", None, "view_provider"),
    ("GET", "/policies/bindings/", None, "view_policybinding"),
    ("GET", "/events/events/", None, "view_event"),
    ("POST", "/policies/expression/", {"name": "n", "expression": "return True"}, "add_expressionpolicy"),
]


@pytest.mark.parametrize(("method", "path", "body", "right"), ALLOWED, ids=lambda v: str(v)[:40])
def test_a_call_without_its_right_is_forbidden(method: str, path: str, body: Json | None, right: str) -> None:
    for ak in client(superuser=False, rights=[]):
        assert ak(method, path, body, 403) == FORBIDDEN
        assert ak("GET", "/admin/version/"), "any valid token will do"
    for ak in client(superuser=False, rights=[right]):
        assert ak.raw(method, path, body).status_code in (200, 201)


def test_the_role_of_the_facts_publishes_an_application_but_touches_no_user() -> None:
    for ak in client(superuser=False):
        provider = ak.provider()["pk"]
        app = ak.application("app", provider)["pk"]
        ak.bind(app, group=ak.group()["pk"])
        ak.bind(app, policy=ak.policy("return True"))
        ak.attach(provider)
        assert ak("GET", "/core/users/", status=403) == FORBIDDEN
        assert ak("POST", "/stages/authenticator/validate/", {"name": "s"}, 403) == FORBIDDEN


def test_a_seeded_user_has_the_rights_of_the_seed() -> None:
    for ak in client():
        bob = ak.user("bob")
        ak.app.state.rights[bob] = frozenset({"view_group"})
        assert ak.as_(token(ak, bob))("GET", "/core/groups/")["results"]


def test_joining_and_leaving_a_group_are_rights_of_their_own() -> None:
    for ak in client(
        superuser=False, rights=["view_group", "view_user", "add_group", "change_group", "add_user_to_group"]
    ):
        path, bob = f"/core/groups/{ak.group()['pk']}", {"pk": ak.user("bob")}
        ak("POST", f"{path}/add_user/", bob, 204)
        assert ak("POST", f"{path}/remove_user/", bob, 403) == FORBIDDEN


def test_what_may_not_be_viewed_is_left_out_of_what_uses_an_object() -> None:
    for ak in client():
        slug = "default-provider-authorization-implicit-consent"
        ak.provider()
        flow = f"/flows/instances/{slug}/used_by/"
        assert [row["model_name"] for row in ak("GET", flow)] == ["proxyprovider"]
        for rights, seen in ((["view_flow"], 0), (["view_flow", "view_provider"], 1)):
            requests.put(f"{ak.url}/_lab/rights", json=rights, timeout=5).raise_for_status()
            assert len(ak("GET", flow)) == seen
        requests.delete(f"{ak.url}/_lab/rights", timeout=5).raise_for_status()
        assert ak("GET", "/core/users/")["results"], "a superuser again"


def test_a_token_that_an_account_makes_for_itself_ends_unless_the_account_s_do_not() -> None:
    wanted = {"intent": "api", "expiring": False}
    for ak in client(superuser=False, rights=["view_token", "add_token"]):
        assert ak("POST", "/core/tokens/", {"identifier": "one", **wanted}, 201)["expiring"]
        attributes = ak.app.state.users[ak.app.owner]["attributes"]
        attributes["goauthentik.io/user/token-expires"] = False
        assert not ak("POST", "/core/tokens/", {"identifier": "two", **wanted}, 201)["expiring"]
