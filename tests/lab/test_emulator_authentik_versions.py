"""Every kind of object, at every version that has a description of its own: requests and answers match it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from authentik_calls import Client, Json, client, described

VERSIONS = ["2024.2.4", "2025.6.4", "2026.5.6"]


@pytest.fixture(params=VERSIONS)
def ak(request: pytest.FixtureRequest) -> Iterator[Client]:
    yield from client(version=request.param, description=described(request.param))


def old(ak: Client) -> bool:
    return bool(ak.app.state.release < (2024, 12))


def flows(ak: Client) -> Json:
    found = {"authorization_flow": ak.flow("default-provider-authorization-implicit-consent")}
    return found if old(ak) else {**found, "invalidation_flow": ak.flow("default-provider-invalidation-flow")}


def uris(ak: Client, *urls: str) -> Any:
    return "\n".join(urls) if old(ak) else [{"matching_mode": "strict", "url": url} for url in urls]


def bodies(ak: Client) -> dict[str, Json]:
    """A least body for each kind that can be made, by its path."""
    scope, saml = ("scope", "saml") if ak.app.state.release < (2024, 8) else ("provider/scope", "provider/saml")
    expression = {"name": "m", "expression": "return {}"}
    flow = {"name": "f", "slug": "f", "title": "f", "designation": "authorization"}
    return {
        "/providers/proxy/": {"name": "px", "external_host": "https://a.test", "mode": "forward_single", **flows(ak)},
        "/providers/oauth2/": {"name": "oa", "redirect_uris": uris(ak, "https://a.test/cb"), **flows(ak)},
        "/providers/saml/": {"name": "sa", "acs_url": "https://a.test/acs", **flows(ak)},
        "/core/applications/": {"name": "a", "slug": "a"}, "/core/groups/": {"name": "g"},
        "/core/users/": {"name": "u", "username": "u"}, "/core/brands/": {"domain": "b.test"},
        "/core/tokens/": {"identifier": "t", "intent": "api", "user": ak.user("alice")},
        "/policies/expression/": {"name": "e", "expression": "return True"},
        "/policies/event_matcher/": {"name": "em", "action": "login_failed", "model": "authentik_core.user"},
        "/flows/instances/": flow, "/stages/authenticator/validate/": {"name": "s"},
        f"/propertymappings/{scope}/": {**expression, "scope_name": "x"},
        f"/propertymappings/{saml}/": {**expression, "name": "sm", "saml_name": "x"},
        "/propertymappings/notification/": {**expression, "name": "n"},
        "/events/transports/": {"name": "t", "mode": "webhook", "webhook_url": "http://127.0.0.1:1/"},
        "/events/rules/": {"name": "r", "severity": "alert"},
    }  # fmt: skip


KEYS = {"/core/applications/": "slug", "/flows/instances/": "slug", "/core/brands/": "brand_uuid",
        "/core/tokens/": "identifier"}  # fmt: skip


def test_every_kind_is_made_read_changed_and_deleted_as_described(ak: Client) -> None:
    for path, body in bodies(ak).items():
        made = ak("POST", path, body, 201)
        one = f"{path}{made[KEYS.get(path, 'pk')]}/"
        assert ak("GET", one) == made, path
        listed = ak("GET", path, page_size=100)["results"]
        assert made in listed or path == "/core/groups/", path
        again = ak("PATCH", one, body)
        assert {**again, "expires": 0, "last_updated": 0} == {**made, "expires": 0, "last_updated": 0}, path
        assert ak("GET", f"{one}used_by/") == [], path
        ak("POST", path, body, 400)
        ak("DELETE", one, status=204)
        ak("GET", one, status=404)
    assert ak.app.violations == []


def test_what_comes_with_the_server_is_as_described(ak: Client) -> None:
    for path in ("/providers/all/", "/policies/all/", "/propertymappings/all/", "/events/events/", "/core/users/",
                 "/crypto/certificatekeypairs/", "/core/brands/", "/flows/bindings/", "/flows/instances/",
                 "/outposts/instances/", "/stages/authenticator/validate/", "/admin/version/"):  # fmt: skip
        ak("GET", path)
    assert [row["name"] for row in ak("GET", "/crypto/certificatekeypairs/")["results"]] == [
        "authentik Self-signed Certificate"
    ]
    assert ak("GET", "/core/brands/", domain="authentik-default")["results"][0]["default"]
    assert ak.app.violations == []


def test_objects_that_hang_together_are_as_described(ak: Client) -> None:
    made = {path: ak("POST", path, body, 201) for path, body in bodies(ak).items()}
    app, proxy = made["/core/applications/"]["pk"], made["/providers/proxy/"]["pk"]
    ak("PATCH", "/core/applications/a/", {"provider": made["/providers/saml/"]["pk"]})
    ak.attach(proxy)
    group = made["/core/groups/"]["pk"]
    flow, stage = made["/flows/instances/"]["pk"], made["/stages/authenticator/validate/"]["pk"]
    ak("POST", "/flows/bindings/", {"target": flow, "stage": stage, "order": 1}, 201)
    for what in ({"group": group}, {"user": 3}, {"policy": made["/policies/expression/"]["pk"]}):
        ak.bind(app, **what)
    rule = made["/events/rules/"]["pk"]
    ak.bind(rule, policy=made["/policies/event_matcher/"]["pk"])
    name = "group" if ak.app.state.release < (2025, 8) else "destination_group"
    transports = [made["/events/transports/"]["pk"]]
    assert ak("PATCH", f"/events/rules/{rule}/", {name: group, "transports": transports})[f"{name}_obj"]["pk"] == group
    for path, row in made.items():
        ak("GET", f"{path}{row[KEYS.get(path, 'pk')]}/used_by/")
    for path in ("/providers/all/", "/policies/all/", "/policies/bindings/", "/core/applications/", "/core/groups/",
                 "/outposts/instances/", "/flows/instances/f/", "/flows/bindings/", "/events/rules/"):  # fmt: skip
        ak("GET", path)
    for policy in ak("GET", "/policies/all/")["results"]:
        ak("POST", f"/policies/all/{policy['pk']}/test/", {"user": 3})
    assert ak.app.violations == []


def test_providers_of_all_kinds_are_listed_with_their_application_and_component(ak: Client) -> None:
    for path in ("/providers/proxy/", "/providers/oauth2/", "/providers/saml/"):
        made = ak("POST", path, bodies(ak)[path], 201)
        ak("POST", "/core/applications/", {"name": made["name"], "slug": made["name"], "provider": made["pk"]}, 201)
    rows = ak("GET", "/providers/all/", ordering="pk")["results"]
    assert [(row["assigned_application_slug"], row["component"]) for row in rows] == [
        ("px", "ak-provider-proxy-form"), ("oa", "ak-provider-oauth2-form"), ("sa", "ak-provider-saml-form"),
    ]  # fmt: skip
    saml = ak("GET", f"/providers/saml/{rows[2]['pk']}/")
    assert saml["url_sso_init"] == "/application/saml/sa/sso/binding/init/"


@pytest.mark.parametrize("kind", ["proxy", "oauth2", "saml"])
def test_a_transaction_makes_every_kind_of_provider(ak: Client, kind: str) -> None:
    body = {
        "app": {"name": "t", "slug": "t"}, "provider_model": f"authentik_providers_{kind}.{kind}provider",
        "provider": {**bodies(ak)[f"/providers/{kind}/"], "name": "t"},
        "policy_bindings": [{"group": ak.group()["pk"], "order": 0}],
    }  # fmt: skip
    assert ak("PUT", "/core/transactional/applications/", body)["applied"]
    target = ak("GET", "/core/applications/t/")["pk"]
    bound = ak("GET", "/policies/bindings/", target=target)["results"]
    assert len(bound) == (0 if old(ak) else 1), "servers before 2024.12 ignore policy_bindings"
    assert ak.passes("bob", "t") is old(ak)


def test_a_server_of_2024_has_other_fields_and_paths() -> None:
    for ak in client(version="2024.2.4"):
        body = {**bodies(ak)["/providers/oauth2/"], "invalidation_flow": "nonsense", "jwks_sources": []}
        made = ak("POST", "/providers/oauth2/", body, 201)
        assert "invalidation_flow" not in made and "jwt_federation_sources" not in made
        assert made["redirect_uris"] == "https://a.test/cb"
        proxy = ak("POST", "/providers/proxy/", bodies(ak)["/providers/proxy/"], 201)
        assert proxy["redirect_uris"].split("\n")[0].startswith("https://a.test/outpost.goauthentik.io/callback?")
        assert ak.raw("GET", "/propertymappings/provider/scope/").status_code == 404
        scopes = ak("GET", "/propertymappings/scope/", scope_name="openid")["results"]
        assert [row["managed"] for row in scopes] == ["goauthentik.io/providers/oauth2/scope-openid"]
        mapping = ak("POST", "/propertymappings/notification/", {"name": "w", "expression": "return {}"}, 201)["pk"]
        way = {"name": "w", "webhook_mapping": mapping, "webhook_mapping_body": mapping}
        made = ak("POST", "/events/transports/", way, 201)
        assert made["webhook_mapping"] == mapping and "webhook_mapping_body" not in made


@pytest.mark.parametrize("version", ["2025.10.4", "2026.2.2", "2026.5.6", "2027.4.1"])
def test_newer_servers_have_the_newer_fields_and_unknown_ones_those_of_the_newest(version: str) -> None:
    for ak in client(version=version):
        body = {**bodies(ak)["/providers/oauth2/"], "logout_uri": "https://a.test/out"}
        made = ak("POST", "/providers/oauth2/", body, 201)
        assert made["logout_uri"] == "https://a.test/out"
        assert ("redirect_uri_type" in made["redirect_uris"][0]) is (ak.app.state.release >= (2026, 5))
        assert ak.raw("GET", "/propertymappings/scope/").status_code == 404
        rule = ak("POST", "/events/rules/", {"name": "r", "group": ak.group()["pk"]}, 201)
        assert "group" not in rule and rule["destination_group"] is None


def test_only_what_a_release_has_is_required_of_a_provider(ak: Client) -> None:
    missing = set(ak("POST", "/providers/oauth2/", {}, 400))
    assert missing == {"name", "authorization_flow"} | (set() if old(ak) else {"invalidation_flow", "redirect_uris"})
