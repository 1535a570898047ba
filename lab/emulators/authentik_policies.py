"""Policies of both kinds, what they are bound to, and the dry run of one."""

from __future__ import annotations

from typing import Any, ClassVar

from werkzeug.wrappers import Request

from lab.emulators import authentik_render as render
from lab.emulators.authentik_access import test_policy
from lab.emulators.authentik_fields import (
    Field,
    Invalid,
    any_uuid,
    boolean,
    choice,
    cleaned,
    expression,
    integer,
    key_of,
    mapping,
    text,
)
from lab.emulators.authentik_kinds import Kind, Write
from lab.emulators.authentik_lists import selected
from lab.emulators.authentik_models import MODELS, used_by
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import API, server_error
from lab.emulators.authentik_state import Object, State
from lab.emulators.base import Answer, ApiError, json_body, route

UNIQUE = (("name", "policy with this name already exists."),)
ACTIONS = (
    "login", "login_failed", "logout", "user_write", "suspicious_request", "password_set", "secret_view",
    "secret_rotate", "invitation_used", "authorize_application", "source_linked", "impersonation_started",
    "impersonation_ended", "flow_execution", "policy_execution", "policy_exception", "property_mapping_exception",
    "system_task_execution", "system_task_exception", "system_exception", "configuration_error", "model_created",
    "model_updated", "model_deleted", "email_sent", "update_available", "custom_",
)  # fmt: skip

EXPRESSION = Kind("policies", "ExpressionPolicy", {
    "name": Field(text(blank=False)), "execution_logging": Field(boolean, False), "expression": Field(expression),
}, render.policy, UNIQUE, "expression", "/policies/expression/")  # fmt: skip


def app(value: Any, state: State) -> Any:
    """The dotted name of one of authentik's parts; no event ever carries one (see ``authentik_access.matches``)."""
    return text(False, pattern=r"authentik\.[a-z0-9_.]+", why=f'"{value}" is not a valid choice.')(value, state)


EVENT_MATCHER = Kind("policies", "EventMatcherPolicy", {
    "name": Field(text(blank=False)), "execution_logging": Field(boolean, False),
    "action": Field(choice(*ACTIONS), None, nullable=True), "client_ip": Field(text(blank=False), None, nullable=True),
    "app": Field(app, None, nullable=True),
    "model": Field(choice(*MODELS.values()), None, nullable=True),
    "query": Field(text(blank=False), None, nullable=True, since=(2026, 5)),
}, render.policy, UNIQUE, "event_matcher", "/policies/event_matcher/")  # fmt: skip


def bindable(value: Any, state: State) -> Any:
    """A binding's target: the pk of an application or a rule, or a flow's (or flow binding's) own second key."""
    known = {*state.applications, *state.rules}
    known |= {row["policybindingmodel_ptr_id"] for row in (*state.flows.values(), *state.flow_bindings.values())}
    found = any_uuid(value, state)
    if found not in known:
        raise Invalid(f'Invalid pk "{value}" - object does not exist.')
    return found


def prepare_binding(server: Objects, write: Write, values: Object) -> Object:
    """A PATCH must repeat the target (a crash without it) and what it binds (400 without)."""
    if "target" not in values:
        raise server_error(write.request)
    given = [name for name in ("policy", "group", "user") if values.get(name)]
    if len(given) != 1:
        why = "Only one of 'group', 'policy', 'user' can be set." if given else \
            "One of 'group', 'policy', 'user' must be set."  # fmt: skip
        raise ApiError(400, {"non_field_errors": [why]})
    return values


BINDING = Kind("bindings", "PolicyBinding", {
    "policy": Field(key_of("policies"), None, nullable=True), "group": Field(key_of("groups"), None, nullable=True),
    "user": Field(key_of("users"), None, nullable=True), "target": Field(bindable), "negate": Field(boolean, False),
    "enabled": Field(boolean, True), "order": Field(integer), "timeout": Field(integer, 30),
    "failure_result": Field(boolean, False),
}, render.binding, path="/policies/bindings/", prepare=prepare_binding)  # fmt: skip

# Any policy, whatever its kind.
ANY = Kind("policies", "Policy", {}, render.policy_base)
TEST = {"user": Field(key_of("users")), "context": Field(mapping, {})}


class Policies(Objects):
    """``/policies/all/``, ``/policies/expression/``, ``/policies/event_matcher/``, ``/policies/bindings/``.

    Policies' names are unique over all kinds. Bindings aren't: the same group can be bound twice; their filter
    ``group`` is ignored. With the last binding gone, its target is open to everyone.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (EXPRESSION, EVENT_MATCHER, BINDING)

    @route("GET", f"{API}/policies/all/")
    def list_policies(self, request: Request) -> Answer:
        """All kinds, in brief; ``name`` is ignored."""
        rows = selected(self.state, "policies", self.state.policies.values(), request.args)
        return self.paged(request, "policies", rows, render.policy_base)

    @route("GET", f"{API}/policies/all/<key>/")
    def get_policy(self, request: Request, key: str) -> Answer:
        """One policy of any kind, in brief."""
        return 200, render.policy_base(self.state, self.find(ANY, key))

    @route("DELETE", f"{API}/policies/all/<key>/")
    def delete_policy(self, request: Request, key: str) -> Answer:
        """Its bindings go with it."""
        return self.remove("policies", self.find(ANY, key))

    @route("GET", f"{API}/policies/all/<key>/used_by/")
    def policy_used_by(self, request: Request, key: str) -> Answer:
        """The bindings that would go with it."""
        return 200, used_by(self.state, "policies", self.find(ANY, key))

    @route("POST", f"{API}/policies/all/<key>/test/")
    def test_policy(self, request: Request, key: str) -> Answer:
        """What the policy says of a user; what raises doesn't pass, whatever a binding would make of it."""
        policy = self.find(ANY, key)
        values = cleaned(TEST, json_body(request) or {}, self.state, partial=False)
        verdict = test_policy(self.state, policy, self.state.users[values["user"]], values.get("context", {}))
        return 200, {"passing": verdict.passing, "messages": list(verdict.messages), "log_messages": []}
