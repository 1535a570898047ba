"""The authentik emulator over real HTTP: every quirk that a client must live with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from authentik_calls import TOKEN, Client, Json, client

from lab.emulators.authentik import SERVER_ERROR, described_by
from lab.emulators.base import Fault


@pytest.fixture(params=["2025.10.4", "2026.2.2"])
def ak(request: pytest.FixtureRequest) -> Iterator[Client]:
    yield from client(version=request.param)


def test_no_token_and_a_bad_token_are_403(ak: Client) -> None:
    path = f"{ak.url}/api/v3/core/groups/"
    assert requests.get(path, timeout=10).status_code == 403
    bad = {"Authorization": "Bearer wrong"}
    assert requests.get(path, headers=bad, timeout=10).status_code == 403
    public = f"{ak.url}/api/v3/root/config/"
    assert requests.get(public, timeout=10).status_code == 200
    assert requests.get(public, headers=bad, timeout=10).status_code == 403


def test_health_and_version(ak: Client) -> None:
    assert requests.get(f"{ak.url}/-/health/ready/", timeout=10).status_code == 200
    assert ak("GET", "/admin/version/")["version_current"] == ak.app.state.version


def test_missing_objects_are_json_and_unknown_urls_html(ak: Client) -> None:
    assert ak("GET", "/core/applications/none/", status=404)["detail"]
    unknown = ak.raw("GET", "/core/nope/")
    assert unknown.status_code == 404
    assert unknown.headers["Content-Type"].startswith("text/html")


def test_a_crash_looks_like_a_405_on_writes(ak: Client) -> None:
    ak.app.set_faults([SERVER_ERROR, Fault(kind="server-error", method="GET")])
    crash = ak.raw("POST", "/core/groups/", {"name": "new"})
    assert (crash.status_code, crash.content, crash.headers["Content-Type"]) == (405, b"", "text/html; charset=utf-8")
    assert ak.raw("GET", "/core/groups/").status_code == 500
    assert ak("GET", "/core/groups/", name="new")["results"] == []


def test_a_missing_slash_is_a_crash_on_writes_only(ak: Client) -> None:
    crash = ak.raw("POST", "/core/groups", {"name": "new"})
    assert (crash.status_code, crash.content) == (405, b"")
    assert ak.raw("GET", "/core/groups").status_code == 301
    real = ak.raw("DELETE", "/core/groups/")
    assert real.status_code == 405 and real.json()["detail"]


def test_unknown_parameters_and_fields_are_ignored(ak: Client) -> None:
    ak.provider()
    assert ak("GET", "/providers/proxy/", name="none")["pagination"]["count"] == 1
    assert ak("GET", "/providers/proxy/", name__iexact="none")["pagination"]["count"] == 0
    assert ak("GET", "/outposts/instances/", name="none")["pagination"]["count"] == 1
    assert "colour" not in ak("POST", "/core/groups/", {"name": "n", "colour": "red"}, 201)


def test_pages(ak: Client) -> None:
    for number in range(205):
        ak.app.state.add("groups", {**ak.app.state.group_named("staff"), "name": f"g{number:03}"})  # type: ignore[dict-item]
    first = ak("GET", "/core/groups/", page_size=500)
    assert len(first["results"]) == 100
    assert first["pagination"]["next"] == 2
    last = ak("GET", "/core/groups/", page_size=500, page=3)["pagination"]
    assert (last["next"], last["previous"], last["total_pages"]) == (0, 2, 3)
    assert len(ak("GET", "/core/groups/")["results"]) == 20
    assert ak("GET", "/core/groups/", page=999, status=404) == {"detail": "Invalid page."}


def test_all_providers_move_between_pages_unless_ordered(ak: Client) -> None:
    first, second = ak.provider("a")["pk"], ak.provider("b", "https://b.estate.test")["pk"]
    ak("PATCH", f"/providers/proxy/{first}/", {"mode": "forward_single"})
    assert [p["pk"] for p in ak("GET", "/providers/all/")["results"]] == [second, first]
    assert [p["pk"] for p in ak("GET", "/providers/all/", ordering="pk")["results"]] == [first, second]


def test_group_attributes_are_replaced_and_found(ak: Client) -> None:
    made = ak("POST", "/core/groups/", {"name": "new", "attributes": {"managed-by": "x", "a": 1}}, 201)
    assert ak("GET", "/core/groups/", attributes='{"managed-by": "x"}')["results"][0]["pk"] == made["pk"]
    assert ak("PATCH", f"/core/groups/{made['pk']}/", {"attributes": {"b": 2}})["attributes"] == {"b": 2}
    assert ak("GET", "/core/groups/", attributes="{", status=400)
    assert ak("POST", "/core/groups/", {"name": "new"}, 400)["name"]


def test_seeded_groups_carry_no_mark_and_members_come_and_go(ak: Client) -> None:
    group, bob = ak.group(), ak("GET", "/core/users/", username="bob")["results"][0]["pk"]
    assert group["attributes"] == {}
    for _ in range(2):
        ak("POST", f"/core/groups/{group['pk']}/add_user/", {"pk": bob}, 204)
    assert bob in ak.group()["users"]
    assert [g["name"] for g in ak("GET", f"/core/users/{bob}/")["groups_obj"]] == ["staff"]
    ak("POST", f"/core/groups/{group['pk']}/remove_user/", {"pk": bob}, 204)
    assert bob not in ak.group()["users"]
    ak("POST", f"/core/groups/{group['pk']}/add_user/", {"pk": 999}, 404)


def test_the_parent_of_a_group_depends_on_the_version(ak: Client) -> None:
    parent = ak.group()["pk"]
    made = ak("POST", "/core/groups/", {"name": "child", "parent": parent, "parents": [parent]}, 201)
    old = ak.app.state.release < (2025, 12)
    assert made.get("parent") == (parent if old else None)
    assert made.get("parents") == (None if old else [parent])


def test_bindings_are_not_unique_and_patches_repeat_everything(ak: Client) -> None:
    app, group = ak.application()["pk"], ak.group()["pk"]
    first, second = ak.bind(app, group=group), ak.bind(app, group=group)
    assert first["pk"] != second["pk"]
    path = f"/policies/bindings/{first['pk']}/"
    crash = ak.raw("PATCH", path, {"order": 5})
    assert (crash.status_code, crash.content) == (405, b"")
    assert ak("PATCH", path, {"target": app, "order": 5}, 400)["non_field_errors"]
    assert ak("PATCH", path, {"target": app, "group": group, "order": 5})["order"] == 5
    found = ak("GET", "/policies/bindings/", target=app, group="ignored")["results"]
    assert [row["pk"] for row in found] == [second["pk"], first["pk"]]
    ak.bind(app, 400)
    ak.bind(app, 400, group=group, user=3)
    assert ak("GET", "/policies/bindings/", target="00000000-0000-0000-0000-000000000000", status=400)["target"]


def test_deleting_a_group_opens_what_it_guarded(ak: Client) -> None:
    app, group = ak.application(), ak.group()
    ak.bind(app["pk"], group=group["pk"])
    bob = ak("GET", "/core/users/", username="bob")["results"][0]["pk"]
    path = "/core/applications/app/check_access/"
    assert not ak("GET", path, for_user=bob)["passing"]
    assert len(ak("GET", f"/core/groups/{group['pk']}/used_by/")) == 1
    ak("DELETE", f"/core/groups/{group['pk']}/", status=204)
    assert ak("GET", "/policies/bindings/", target=app["pk"])["results"] == []
    assert ak("GET", path, for_user=bob)["passing"]


@pytest.mark.parametrize(
    ("mode", "extra", "allowed"),
    [
        ("any", {"expression": "return False"}, True),
        ("all", {"expression": "return False"}, False),
        ("all", {"expression": 'return request.user.attributes.get("team") == "ops"'}, False),
        ("all", {"expression": "return False", "negate": True}, True),
        ("all", {"expression": "return False", "enabled": False}, True),
        ("all", {"expression": "import this"}, False),
    ],
)
def test_engine_modes(ak: Client, mode: str, extra: Json, allowed: bool) -> None:
    app = ak.application()["pk"]
    ak("PATCH", "/core/applications/app/", {"policy_engine_mode": mode})
    policy = ak("POST", "/policies/expression/", {"name": "p", "expression": extra["expression"]}, 201)
    ak.bind(app, group=ak.group()["pk"])
    ak.bind(app, policy=policy["pk"], **{name: value for name, value in extra.items() if name != "expression"})
    alice = ak("GET", "/core/users/", username="alice")["results"][0]["pk"]
    assert ak("GET", "/core/applications/app/check_access/", for_user=alice)["passing"] is allowed


def test_a_provider_patch_repeats_its_mode_and_ignores_computed_fields(ak: Client) -> None:
    made = ak.provider()
    path = f"/providers/proxy/{made['pk']}/"
    assert ak("PATCH", path, {"access_token_validity": "hours=8"}, 400)["internal_host"]
    assert ak("PATCH", path, {"mode": "forward_single", "access_token_validity": "8h"}, 400)
    ignored = {"mode": "forward_single", "client_id": "x", "outpost_set": ["x"], "redirect_uris": [],
               "property_mappings": []}  # fmt: skip
    after = ak("PATCH", path, ignored)
    assert {**after, "property_mappings": 0} == {**made, "property_mappings": 0}
    assert set(after["property_mappings"]) == set(made["property_mappings"])
    moved = ak("PATCH", path, {"mode": "forward_single", "external_host": "https://new.estate.test"})
    assert moved["redirect_uris"][0]["url"].startswith("https://new.estate.test/outpost.goauthentik.io/callback")


def test_provider_names_are_unique_over_all_kinds_and_secrets_are_readable(ak: Client) -> None:
    body = {**ak.proxy_body("one"), "redirect_uris": [{"matching_mode": "strict", "url": "https://o.estate.test/cb"}]}
    made = ak("POST", "/providers/oauth2/", body, 201)
    assert ak("GET", f"/providers/oauth2/{made['pk']}/")["client_secret"] == made["client_secret"] != ""
    assert ak("POST", "/providers/proxy/", ak.proxy_body("one"), 400)["name"]
    assert ak("GET", f"/providers/proxy/{made['pk']}/", status=404)
    assert made["client_secret"] not in requests.get(f"{ak.url}/_lab/state", timeout=10).text


def test_deleting_a_provider_leaves_the_application_and_the_other_way_round(ak: Client) -> None:
    provider = ak.provider()["pk"]
    ak.application("app", provider)
    assert ak("POST", "/core/applications/", {"name": "b", "slug": "b", "provider": provider}, 400)["provider"]
    ak.attach(provider)
    assert ak("GET", f"/providers/proxy/{provider}/")["outpost_set"] == ["Outpost authentik Embedded Outpost"]
    ak("DELETE", f"/providers/proxy/{provider}/", status=204)
    assert ak("GET", "/core/applications/app/")["provider"] is None
    assert ak.embedded()["providers"] == []
    other = ak.provider()["pk"]
    ak("PATCH", "/core/applications/app/", {"provider": other})
    assert ak("GET", f"/providers/proxy/{other}/")["assigned_application_slug"] == "app"
    ak("DELETE", "/core/applications/app/", status=204)
    assert ak("GET", f"/providers/proxy/{other}/")["assigned_application_slug"] is None


def test_deleting_a_flow_takes_its_providers_along(ak: Client) -> None:
    provider = ak.provider()["pk"]
    ak("DELETE", "/flows/instances/default-provider-authorization-implicit-consent/", status=204)
    ak("GET", f"/providers/proxy/{provider}/", status=404)


def test_the_application_list_keeps_its_answer_whatever_the_filter(ak: Client) -> None:
    ak.application("one")
    ak.application("two")
    assert ak("GET", "/core/applications/", slug="none")["results"] == []
    assert [a["slug"] for a in ak("GET", "/core/applications/", slug="one")["results"]] == ["one"]
    stuck = ak("GET", "/core/applications/", slug="two")
    assert [a["slug"] for a in stuck["results"]] == ["one"]
    assert stuck["pagination"]["count"] == 1
    full = ak("GET", "/core/applications/", slug="two", superuser_full_list="true")
    assert [a["slug"] for a in full["results"]] == ["two"]
    ak.application("three")
    assert len(ak("GET", "/core/applications/")["results"]) == 3


def test_only_superusers_see_applications_that_they_may_not_open() -> None:
    for ak in client(superuser=False):
        app = ak.application()["pk"]
        ak.bind(app, group=ak.group()["pk"])
        assert ak("GET", "/core/applications/", superuser_full_list="true")["results"] == []
        assert ak("GET", "/core/applications/app/")["slug"] == "app"


def test_slugs_have_a_length_up_to_2025_10(ak: Client) -> None:
    status = 400 if ak.app.state.release < (2025, 12) else 201
    ak("POST", "/core/applications/", {"name": "long", "slug": "a" * 51}, status)


def test_an_outpost_loses_updates_and_needs_its_type(ak: Client) -> None:
    one, two = ak.provider("one")["pk"], ak.provider("two", "https://two.estate.test")["pk"]
    path = f"/outposts/instances/{ak.embedded()['pk']}/"
    assert ak.attach(one)["providers"] == [one]
    stale = {"Authorization": f"Bearer {TOKEN}", "If-Match": '"old"'}
    body = {"type": "proxy", "providers": [two]}
    assert requests.patch(f"{ak.url}/api/v3{path}", json=body, headers=stale, timeout=10).json()["providers"] == [two]
    assert ak.raw("PATCH", path, {"providers": [one]}).status_code == 405
    assert ak.attach()["providers"] == []
    own = {"name": "own", "type": "proxy", "providers": [], "config": {}}
    assert ak("POST", "/outposts/instances/", own, 400) == {"providers": ["This list may not be empty."]}
    assert ak("POST", "/outposts/instances/", {**own, "providers": [one]}, 201)["config"]["log_level"] == "info"
    assert ak("GET", "/outposts/instances/", name__iexact="OWN")["pagination"]["count"] == 1


def test_a_transaction_is_all_or_nothing(ak: Client) -> None:
    body = {
        "app": {"name": "t", "slug": "t"},
        "provider_model": "authentik_providers_proxy.proxyprovider",
        "provider": ak.proxy_body("t"),
        "policy_bindings": [{"group": "00000000-0000-0000-0000-000000000000", "order": 0}],
    }
    assert ak("PUT", "/core/transactional/applications/", body, 400)["policy_bindings"]
    assert ak("GET", "/providers/proxy/")["results"] == []
    body["policy_bindings"] = [{"group": ak.group()["pk"], "order": 0}]
    assert ak("PUT", "/core/transactional/applications/", body) == {"applied": True, "logs": []}
    assert ak("GET", "/core/applications/t/")["provider_obj"]["name"] == "t"
    assert ak("PUT", "/core/transactional/applications/", body, 400)["app"]["slug"]


def test_no_secret_in_the_control_api(ak: Client) -> None:
    ak.provider()
    for what in ("state", "calls", "violations"):
        text = requests.get(f"{ak.url}/_lab/{what}", timeout=10).text
        for secret in (TOKEN, "pw-a", next(iter(ak.app.state.providers.values()))["client_secret"]):
            assert secret not in text


def test_a_stale_read_shows_what_was(ak: Client) -> None:
    ak.app.set_faults([Fault(kind="stale", path="/core/groups/", times=1)])
    ak("POST", "/core/groups/", {"name": "new"}, 201)
    assert ak("GET", "/core/groups/", name="new")["results"] == []
    assert len(ak("GET", "/core/groups/", name="new")["results"]) == 1


@pytest.mark.parametrize("version", ["2025.10.4", "2026.2.2"])
def test_answers_match_the_api_description(version: str) -> None:
    description = described_by(version)
    if description is None:
        pytest.skip("the folder ../shared/specs with the API descriptions is absent")
    for ak in client(version=version, description=description):
        provider = ak.provider()["pk"]
        ak("PATCH", f"/providers/proxy/{provider}/", {"mode": "forward_single", "access_token_validity": "hours=8"})
        app = ak.application("app", provider)["pk"]
        group = ak("POST", "/core/groups/", {"name": "new", "attributes": {"managed-by": "x"}}, 201)["pk"]
        policy = ak("POST", "/policies/expression/", {"name": "p", "expression": "return True"}, 201)["pk"]
        bound = ak.bind(app, group=group)["pk"]
        ak.bind(app, policy=policy)
        ak.bind(app, user=3)
        ak("PATCH", f"/policies/bindings/{bound}/", {"target": app, "group": group, "order": 3})
        ak("POST", f"/core/groups/{group}/add_user/", {"pk": 3}, 204)
        ak.attach(provider)
        for path in ("/core/groups/", "/core/users/", "/core/applications/", "/policies/bindings/", "/providers/all/",
                     "/providers/proxy/", "/outposts/instances/", "/flows/instances/", f"/core/groups/{group}/",
                     f"/core/groups/{group}/used_by/", "/core/users/3/", f"/providers/proxy/{provider}/",
                     "/core/applications/app/", f"/policies/bindings/{bound}/", "/admin/version/",
                     "/core/applications/app/check_access/", f"/policies/expression/{policy}/"):  # fmt: skip
            ak("GET", path)
        for path in (f"/providers/proxy/{provider}/", "/core/applications/app/", f"/core/groups/{group}/"):
            ak("DELETE", path, status=204)
        ak("GET", "/core/applications/app/", status=404)
        assert ak.app.violations == []


def test_a_request_that_the_description_does_not_allow_is_noted_and_answered() -> None:
    description = described_by("2025.10.4")
    if description is None:
        pytest.skip("the folder ../shared/specs with the API descriptions is absent")
    for ak in client(description=description):
        assert ak("GET", "/providers/proxy/", name="x")["results"] == []
        assert [v["problems"] for v in ak.app.violations] == [["unknown query parameter name"]]
