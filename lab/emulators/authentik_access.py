"""Who may open what: the bindings of an application, a flow or a rule, worked out as authentik's policy engine does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lab.emulators.authentik_expressions import ExpressionFailed, groups_of, policy_names, run
from lab.emulators.authentik_state import Object, State

__all__ = ["Verdict", "decide", "groups_of", "may_open", "missing_factor", "test_policy"]

MFA_ATTRIBUTE = "lab/mfa"
"""A user's devices: true is one of every class, a list such as ["totp"] names the classes."""

# What the server calls a user that nobody logged in as.
ANONYMOUS: Object = {
    "pk": 1, "username": "AnonymousUser", "name": "AnonymousUser", "email": "", "is_active": True, "attributes": {},
    "uid": "", "uuid": "", "path": "users", "type": "internal",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The policy engine's answer, with what the policies said."""

    passing: bool
    messages: tuple[str, ...] = ()


def may_open(state: State, target: Object, user: int) -> bool:
    """Whether the enabled bindings of ``target`` let a user in. None at all, or none enabled: everybody may.

    The engine has no exception for superusers: an admin outside the group is refused too.
    """
    return decide(state, target, state.users[user]).passing


def decide(
    state: State, target: Object, user: Object, context: Mapping[str, Any] | None = None, empty: bool = True
) -> Verdict:
    """As ``may_open``, with the messages; ``empty`` is the verdict where nothing is bound."""
    keys = {target["pk"], target.get("policybindingmodel_ptr_id")}
    bindings = [b for b in state.bindings.values() if b["target"] in keys and b["enabled"]]
    if not bindings:
        return Verdict(empty)
    messages: list[str] = []
    results = [_passes(state, b, user, context or {}, messages) != b["negate"] for b in bindings]
    return Verdict(all(results) if target.get("policy_engine_mode") == "all" else any(results), tuple(messages))


def _passes(state: State, binding: Object, user: Object, context: Mapping[str, Any], messages: list[str]) -> bool:
    """One binding, before ``negate``; an expression that raises gives the binding's ``failure_result``."""
    if binding["group"]:
        return any(group["pk"] == binding["group"] for group in groups_of(state, user["pk"]))
    if binding["user"]:
        return bool(binding["user"] == user["pk"])
    try:
        return _policy_passes(state, state.policies[binding["policy"]], user, context, messages)
    except ExpressionFailed as error:
        messages.append(str(error))
        return bool(binding["failure_result"])


def _policy_passes(state: State, policy: Object, user: Object, context: Mapping[str, Any], messages: list[str]) -> bool:
    if policy["kind"] == "event_matcher":
        return "event" in context and matches(policy, context["event"])
    return bool(run(policy["expression"], policy_names(state, user, context, messages)))


def test_policy(state: State, policy: Object, user: Object, context: Mapping[str, Any]) -> Verdict:
    """One policy by itself; what raises doesn't pass, and says why."""
    messages: list[str] = []
    try:
        return Verdict(_policy_passes(state, policy, user, context, messages), tuple(messages))
    except ExpressionFailed as error:
        return Verdict(False, (*messages, str(error)))


def matches(policy: Object, event: Any) -> bool:
    """Whether an event matcher matches: every criterion that is set.

    An event's ``app`` is the module that made it, never one of the apps that a matcher may name: with ``app`` set,
    nothing matches.
    """
    model = event.context.get("model") or {}
    found = {"action": event.action, "client_ip": event.client_ip, "app": event.app,
             "model": f"{model.get('app')}.{model.get('model_name')}"}  # fmt: skip
    return all(policy.get(name) is None or policy[name] == value for name, value in found.items())


def missing_factor(state: State, flow: Any, user: Object) -> bool:
    """Whether a flow holds a validation stage that refuses this user for want of a device of its classes.

    ``skip`` and ``configure`` let the user go on.
    """
    bound = [state.stages[b["stage"]] for b in state.flow_bindings.values() if b["target"] == flow]
    denying = [stage for stage in bound if stage["not_configured_action"] == "deny"]
    return any(not has_device(user, stage["device_classes"]) for stage in denying)


def has_device(user: Object, classes: list[str]) -> bool:
    """Whether the user has a device of one of the classes."""
    own = user["attributes"].get(MFA_ATTRIBUTE)
    return bool(set(own) & set(classes)) if isinstance(own, list) else bool(own)
