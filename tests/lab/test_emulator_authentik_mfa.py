"""The second factor of one application, walked through by HTTP: by device class, by what the stage does without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from test_emulator_outpost import Browser, Estate, estates


@pytest.fixture
def estate() -> Iterator[Estate]:
    yield from estates()


def ask_for(estate: Estate, classes: list[str], action: str = "deny") -> None:
    """An authorization flow of one's own with a validation stage in it."""
    stage = {"name": "mfa", "not_configured_action": action, "device_classes": classes}
    made = estate.api("POST", "/stages/authenticator/validate/", stage)["pk"]
    flow = {"name": "f", "slug": "f", "title": "f", "designation": "authorization"}
    target = estate.api("POST", "/flows/instances/", flow)["pk"]
    estate.api("POST", "/flows/bindings/", {"target": target, "stage": made, "order": 10})
    estate.patch(authorization_flow=target)


def give(estate: Estate, devices: Any) -> None:
    alice = estate.api("GET", "/core/users/?username=alice")["results"][0]["pk"]
    estate.api("PATCH", f"/core/users/{alice}/", {"attributes": {"lab/mfa": devices}})


@pytest.mark.parametrize(
    ("devices", "status"), [(False, 403), ([], 403), (["sms"], 403), (["totp"], 302), (["sms", "webauthn"], 302),
                            (True, 302)],
)  # fmt: skip
def test_only_a_device_of_the_asked_classes_opens(estate: Estate, devices: Any, status: int) -> None:
    ask_for(estate, ["totp", "webauthn"])
    give(estate, devices)
    assert Browser(estate).login("alice", "pw-a").status_code == status


@pytest.mark.parametrize("action", ["skip", "configure"])
def test_a_stage_that_does_not_deny_lets_everybody_pass(estate: Estate, action: str) -> None:
    ask_for(estate, ["totp"], action)
    assert Browser(estate).login("alice", "pw-a").status_code == 302


def test_the_authentication_flow_asks_nothing_of_who_is_logged_in(estate: Estate) -> None:
    ask_for(estate, ["totp"])
    flow = estate.api("GET", "/flows/instances/f/")["pk"]
    implicit = estate.api("GET", "/flows/instances/default-provider-authorization-implicit-consent/")["pk"]
    estate.patch(authorization_flow=implicit, authentication_flow=flow)
    assert Browser(estate).login("alice", "pw-a").status_code == 302


def test_a_deleted_stage_asks_no_more(estate: Estate) -> None:
    ask_for(estate, ["totp"])
    assert Browser(estate).login("alice", "pw-a").status_code == 403
    stage = estate.api("GET", "/stages/authenticator/validate/?name=mfa")["results"][0]["pk"]
    estate.api("DELETE", f"/stages/authenticator/validate/{stage}/")
    assert Browser(estate).login("alice", "pw-a").status_code == 302


def test_an_expression_bound_to_the_flow_guards_it_too(estate: Estate) -> None:
    ask_for(estate, ["totp"], "skip")
    target = estate.api("GET", "/flows/instances/f/")["policybindingmodel_ptr_id"]
    expression = "return request.user.attributes.get('department') == 'ops'"
    policy = estate.api("POST", "/policies/expression/", {"name": "p", "expression": expression})["pk"]
    estate.api("POST", "/policies/bindings/", {"target": target, "policy": policy, "order": 0})
    assert Browser(estate).login("alice", "pw-a").status_code == 403
