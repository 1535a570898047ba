"""What guards an application: expressions that really run, bindings and flows that go with what they hang from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from authentik_calls import Client, Json, client


@pytest.fixture(params=["2024.2.4", "2025.10.4", "2026.5.6"])
def ak(request: pytest.FixtureRequest) -> Iterator[Client]:
    yield from client(version=request.param)


EXPRESSIONS = [
    ("return request.user.username == 'alice'", True),
    ("return request.user.email.endswith('@elsewhere.test')", False),
    ("return ak_is_group_member(request.user, name='staff')", True),
    ("return ak_is_group_member(request.user, name='owners')", False),
    (
        "import hashlib, hmac, json\nreturn len(hmac.new(b'k', json.dumps({}).encode(), 'sha256').hexdigest()) == 64",
        True,
    ),
    ("if request.user.is_active:\n    return True\nreturn False", True),
    ("return request.user.attributes.get('department') == 'ops'", False),
    ("return request.user.attributes['department'] == 'ops'", False),
    ("return request.user.pk > 0 and regex_match(request.user.name, '^Al')", True),
    ("return ak_user_by(username='bob').email == 'bob@estate.test'", True),
    ("return any(g.name == 'staff' for g in request.user.ak_groups.all())", True),
    ("pass", False),
    ("return nonsense", False),
]


@pytest.mark.parametrize(("expression", "passes"), EXPRESSIONS, ids=[text[:40] for text, _ in EXPRESSIONS])
def test_an_expression_runs_as_the_body_of_a_function(expression: str, passes: bool) -> None:
    for ak in client():
        app = ak.application()["pk"]
        ak.bind(app, policy=ak.policy(expression))
        assert ak.passes("alice") is passes


def test_what_raises_gives_the_bindings_failure_result(ak: Client) -> None:
    app, policy = ak.application()["pk"], ak.policy("return request.user.attributes['none']")
    bound = ak.bind(app, policy=policy)
    assert not ak.passes("alice")
    ak("PATCH", f"/policies/bindings/{bound['pk']}/", {"target": app, "policy": policy, "failure_result": True})
    assert ak.passes("alice")
    tried = ak("POST", f"/policies/all/{policy}/test/", {"user": ak.user("alice")})
    assert (tried["passing"], tried["messages"]) == (False, ["'none'"])


def test_messages_of_a_policy_are_in_the_dry_runs(ak: Client) -> None:
    app, policy = ak.application()["pk"], ak.policy("ak_message('no ' + request.user.username)\nreturn False")
    ak.bind(app, policy=policy)
    bob = ak.user("bob")
    assert ak("POST", f"/policies/all/{policy}/test/", {"user": bob})["messages"] == ["no bob"]
    assert ak("GET", "/core/applications/app/check_access/", for_user=bob)["messages"] == ["no bob"]
    ak("POST", f"/policies/all/{policy}/test/", {"user": 999}, 400)


def test_an_attribute_can_be_required_and_given(ak: Client) -> None:
    ak.bind(ak.application()["pk"], policy=ak.policy("return request.user.attributes.get('team') == 'ops'"))
    assert not ak.passes("bob")
    ak("PATCH", f"/core/users/{ak.user('bob')}/", {"attributes": {"team": "ops"}})
    assert ak.passes("bob")


def test_a_member_of_a_child_group_is_a_member_of_its_parent(ak: Client) -> None:
    parent = ak.group()["pk"]
    field = {"parents": [parent]} if ak.app.state.release >= (2025, 12) else {"parent": parent}
    child = ak("POST", "/core/groups/", {"name": "child", "users": [ak.user("bob")], **field}, 201)
    ak.bind(ak.application()["pk"], policy=ak.policy("return ak_is_group_member(request.user, name='staff')"))
    assert ak.passes("bob")
    ak("DELETE", f"/core/groups/{child['pk']}/", status=204)
    assert not ak.passes("bob")


def used(ak: Client, path: str) -> set[tuple[str, str]]:
    return {(row["model_name"], row["action"]) for row in ak("GET", f"{path}used_by/")}


def test_used_by_says_what_goes_along_and_the_deletion_does_it(ak: Client) -> None:
    provider = ak.provider()["pk"]
    app, policy = ak.application("app", provider), ak.policy("return False")
    ak.bind(app["pk"], policy=policy)
    ak.attach(provider)
    assert used(ak, f"/providers/proxy/{provider}/") == {("application", "set_null"), ("outpost", "cascade_many")}
    assert used(ak, f"/policies/expression/{policy}/") == {("policybinding", "cascade")}
    assert used(ak, "/core/applications/app/") == {("policybinding", "cascade")}
    ak("DELETE", f"/policies/all/{policy}/", status=204)
    assert ak("GET", "/policies/bindings/", target=app["pk"])["results"] == []
    assert ak.passes("bob"), "the last guard is gone"


def test_a_deleted_flow_takes_its_providers_their_attachment_and_its_guards_along(ak: Client) -> None:
    provider = ak.provider()["pk"]
    ak.application("app", provider)
    ak.attach(provider)
    slug = "default-provider-authorization-implicit-consent"
    flow = ak("GET", f"/flows/instances/{slug}/")
    ak.bind(flow["policybindingmodel_ptr_id"], group=ak.group()["pk"])
    assert used(ak, f"/flows/instances/{slug}/") == {("proxyprovider", "cascade"), ("policybinding", "cascade")}
    ak("DELETE", f"/flows/instances/{slug}/", status=204)
    ak("GET", f"/providers/proxy/{provider}/", status=404)
    assert ak("GET", "/core/applications/app/")["provider"] is None
    assert ak.embedded()["providers"] == []
    assert ak("GET", "/policies/bindings/")["results"] == []


def test_a_deleted_stage_leaves_its_flows(ak: Client) -> None:
    stage = ak("POST", "/stages/authenticator/validate/", {"name": "mfa"}, 201)["pk"]
    flow = ak(
        "POST", "/flows/instances/", {"name": "f", "slug": "f", "title": "f", "designation": "authorization"}, 201
    )
    ak("POST", "/flows/bindings/", {"target": flow["pk"], "stage": stage, "order": 1}, 201)
    assert used(ak, f"/stages/authenticator/validate/{stage}/") == {("flowstagebinding", "cascade")}
    assert ak("GET", "/flows/instances/f/")["stages"] == [stage]
    ak("DELETE", f"/stages/authenticator/validate/{stage}/", status=204)
    assert ak("GET", "/flows/bindings/", target=flow["pk"])["results"] == []


def test_a_deleted_mapping_leaves_its_providers(ak: Client) -> None:
    path = "/propertymappings/scope/" if ak.app.state.release < (2024, 8) else "/propertymappings/provider/scope/"
    scope = ak("POST", path, {"name": "own", "scope_name": "own", "expression": "return {}"}, 201)["pk"]
    assert ak("GET", path, managed="goauthentik.io/providers/oauth2/scope-openid")["pagination"]["count"] == 1
    provider = ak("POST", "/providers/proxy/", {**ak.proxy_body("p"), "property_mappings": [scope]}, 201)
    assert scope in provider["property_mappings"] and len(provider["property_mappings"]) > 1
    assert used(ak, f"{path}{scope}/") == {("proxyprovider", "cascade_many")}
    ak("DELETE", f"{path}{scope}/", status=204)
    assert scope not in ak("GET", f"/providers/proxy/{provider['pk']}/")["property_mappings"]


def test_names_are_unique_over_all_kinds_of_policies_providers_and_mappings(ak: Client) -> None:
    ak.policy("return True", "one")
    ak("POST", "/policies/event_matcher/", {"name": "one"}, 400)
    ak.provider("one")
    body = {**ak.proxy_body("one"), "acs_url": "https://a.test/acs"}
    ak("POST", "/providers/saml/", body, 400)
    mapping = {"name": "one", "expression": "return {}"}
    ak("POST", "/propertymappings/notification/", mapping, 201)
    ak("POST", "/propertymappings/notification/", mapping, 400)


def test_a_price_may_be_for_calls_with_a_certain_query_alone() -> None:
    paid: list[float] = []
    for ak in client(prices={"GET /core/groups/*page_size=100*": 500.0}, sleep=paid.append):
        ak("GET", "/core/groups/?name=a")
        assert sum(paid) == 0.0
        ak("GET", "/core/groups/?page=1&page_size=100")
        assert sum(paid) == 0.5


def test_prices_are_paid_by_the_call_and_by_every_provider_in_the_outpost() -> None:
    paid: list[float] = []
    prices = {"POST /providers/proxy/": 282.0, "GET /core/groups/*": 1.0}
    for ak in client(prices=prices, outpost_price=10.0, sleep=paid.append):
        first, second = ak.provider("a")["pk"], ak.provider("b", "https://b.test")["pk"]
        assert max(paid) == 0.282
        ak.attach(second)
        assert paid[-1] == pytest.approx(0.01), "the list that is written counts, not the one that was"
        paid.clear()
        patch: Json = {"mode": "forward_single"}
        ak("PATCH", f"/providers/proxy/{first}/", patch)
        assert sum(paid) == 0.0, "it is in no outpost yet"
        ak.attach(first, second)
        paid.clear()
        ak("PATCH", f"/providers/proxy/{first}/", patch)
        ak("GET", "/providers/proxy/")
        assert sum(paid) == pytest.approx(0.02)
        ak.attach(first, second)
        assert sum(paid) == pytest.approx(0.04)
