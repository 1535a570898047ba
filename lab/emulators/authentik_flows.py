"""Flows, the stage that asks for a second factor, and which stage is in which flow."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from lab.emulators import authentik_render as render
from lab.emulators.authentik_fields import (
    Field,
    any_uuid,
    boolean,
    choice,
    duration,
    integer,
    key_of,
    list_of,
    number,
    slug,
    text,
)
from lab.emulators.authentik_kinds import Kind, Write
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_state import Object, State, new_flow
from lab.emulators.base import ApiError

DESIGNATIONS = ("authentication", "authorization", "invalidation", "enrollment", "unenrollment", "recovery",
                "stage_configuration")  # fmt: skip
AUTHENTICATIONS = ("none", "require_authenticated", "require_unauthenticated", "require_superuser",
                   "require_redirect", "require_outpost", "require_token")  # fmt: skip
CLASSES = ("static", "totp", "webauthn", "duo", "sms", "email")
EMAIL_FROM = (2025, 2)
ENGINE_MODE = Field(choice("any", "all"), "any")


def classes(state: State) -> list[str]:
    """The classes of devices that a release knows."""
    return [name for name in CLASSES if name != "email" or state.release >= EMAIL_FROM]


def device_class(value: Any, state: State) -> Any:
    """One of them."""
    return choice(*classes(state))(value, state)


def prepare_flow(server: Objects, write: Write, values: Object) -> Object:
    """A new flow has no stages, and a second key that policies are bound to."""
    if write.row is not None:
        return values
    first = {name: values[name] for name in ("slug", "name", "title", "designation", "authentication")}
    return {**new_flow(**first), **values}


FLOW = Kind("flows", "Flow", {
    "name": Field(text(blank=False)), "slug": Field(slug), "title": Field(text(blank=False)),
    "designation": Field(choice(*DESIGNATIONS)), "policy_engine_mode": ENGINE_MODE,
    "compatibility_mode": Field(boolean, False),
    "layout": Field(choice("stacked", "content_left", "content_right", "sidebar_left", "sidebar_right"), "stacked"),
    "denied_action": Field(choice("message_continue", "message", "continue"), "message_continue"),
    "authentication": Field(choice(*AUTHENTICATIONS), "none"),
}, render.flow, (("slug", "Flow with this slug already exists."),), path="/flows/instances/", key="slug",
    prepare=prepare_flow)  # fmt: skip

_FACTOR = Field(number, 1.0, since=(2026, 5))
STAGE = Kind("stages", "AuthenticatorValidateStage", {
    "name": Field(text(blank=False)), "not_configured_action": Field(choice("skip", "deny", "configure"), "skip"),
    "device_classes": Field(list_of(device_class, nested=True), classes),
    "configuration_stages": Field(list_of(key_of("stages")), []), "last_auth_threshold": Field(duration, "seconds=0"),
    "webauthn_user_verification": Field(choice("required", "preferred", "discouraged"), "preferred"),
    "webauthn_hints": Field(list_of(choice("security-key", "client-device", "hybrid")), [], since=(2026, 5)),
    "webauthn_allowed_device_types": Field(list_of(any_uuid), [], since=(2024, 6)),
    "email_otp_throttling_factor": _FACTOR, "sms_otp_throttling_factor": _FACTOR,
    "totp_otp_throttling_factor": _FACTOR, "static_otp_throttling_factor": _FACTOR,
}, render.stage, (("name", "stage with this name already exists."),),
    path="/stages/authenticator/validate/")  # fmt: skip


def prepare_flow_binding(server: Objects, write: Write, values: Object) -> Object:
    """(target, stage, order) is unique."""
    wanted = {**(write.row or {}), **values}
    place = (wanted["target"], wanted["stage"], wanted["order"])
    others = [row for row in server.state.flow_bindings.values() if row is not write.row]
    if any((row["target"], row["stage"], row["order"]) == place for row in others):
        raise ApiError(400, {"non_field_errors": ["The fields target, stage, order must make a unique set."]})
    return values if write.row else {"policybindingmodel_ptr_id": str(uuid.uuid4()), **values}


FLOW_BINDING = Kind("flow_bindings", "FlowStageBinding", {
    "target": Field(key_of("flows")), "stage": Field(key_of("stages")), "order": Field(integer),
    "evaluate_on_plan": Field(boolean, False), "re_evaluate_policies": Field(boolean, True),
    "policy_engine_mode": ENGINE_MODE,
    "invalid_response_action": Field(choice("retry", "restart", "restart_with_context"), "retry"),
}, render.flow_binding, path="/flows/bindings/", prepare=prepare_flow_binding)  # fmt: skip


class Flows(Objects):
    """``/flows/instances/``, ``/flows/bindings/``, ``/stages/authenticator/validate/``.

    Deleting a flow deletes every provider that uses it. A deleted stage leaves the flows that it is in: they no longer
    ask for a second factor.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (FLOW, STAGE, FLOW_BINDING)
