"""Who may open what: the bindings of an application or a flow, worked out as authentik's policy engine does."""

from __future__ import annotations

import re
from typing import Any

from lab.emulators.authentik_state import Object, State

CONSTANT = re.compile(r"return (True|False)")
ATTRIBUTE = re.compile(
    r"""return request\.user\.attributes\.get\((["'])(?P<name>[^"']+)\1\) == (["'])(?P<value>[^"']*)\3"""
)


def groups_of(state: State, user: int) -> list[Object]:
    """The groups that a user is in, and the groups above them: a member of a child is a member of the parent."""
    found: dict[str, Object] = {}
    waiting = [g for g in state.groups.values() if user in g["users"]]
    while waiting:
        group = waiting.pop()
        if group["pk"] not in found:
            found[group["pk"]] = group
            waiting += [state.groups[pk] for pk in (group["parent"], *group["parents"]) if pk in state.groups]
    return list(found.values())


def may_open(state: State, target: Object, user: int) -> bool:
    """Whether the enabled bindings of ``target`` let a user in. None at all, or none enabled: everybody may.

    The engine has no exception for superusers: an admin outside the group is refused too.
    """
    keys = {target["pk"], target.get("policybindingmodel_ptr_id")}
    bindings = [b for b in state.bindings.values() if b["target"] in keys and b["enabled"]]
    if not bindings:
        return True
    results = [_passes(state, binding, user) != binding["negate"] for binding in bindings]
    return all(results) if target["policy_engine_mode"] == "all" else any(results)


def _passes(state: State, binding: Object, user: int) -> bool:
    if binding["group"]:
        return any(group["pk"] == binding["group"] for group in groups_of(state, user))
    if binding["user"]:
        return bool(binding["user"] == user)
    return _evaluate(state.policies[binding["policy"]]["expression"], state.users[user], binding["failure_result"])


def _evaluate(expression: str, user: Object, failure_result: Any) -> bool:
    """A constant, or one attribute compared; anything else counts as an expression that raised."""
    constant = CONSTANT.fullmatch(expression)
    if constant:
        return constant[1] == "True"
    attribute = ATTRIBUTE.fullmatch(expression)
    if attribute:
        return bool(user["attributes"].get(attribute["name"]) == attribute["value"])
    return bool(failure_result)


def needs_mfa(state: State, flow: Any) -> bool:
    """Whether a flow holds a validation stage that refuses users without a second factor."""
    bound = [b["stage"] for b in state.flow_bindings.values() if b["target"] == flow]
    return any(state.stages[stage]["not_configured_action"] == "deny" for stage in bound)
