"""Groups, users, expression policies and bindings, and what the server says of itself."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Request, Response

from lab.emulators import authentik_render as render
from lab.emulators.authentik_fields import (
    Field,
    Invalid,
    any_uuid,
    boolean,
    expression,
    integer,
    key_of,
    list_of,
    mapping,
    text,
)
from lab.emulators.authentik_server import API, AuthentikServer, Kind, server_error
from lab.emulators.authentik_state import Object, State, new_group, new_user
from lab.emulators.base import Answer, ApiError, json_body, route

GROUP_FIELDS = {
    "name": Field(text(blank=False)), "is_superuser": Field(boolean, False),
    "users": Field(list_of(key_of("users")), []), "attributes": Field(mapping, {}),
    "roles": Field(list_of(any_uuid), []),
}  # fmt: skip
PARENT = {"parent": Field(key_of("groups"), None, nullable=True)}
PARENTS = {"parents": Field(list_of(key_of("groups")), [])}
OLD_UNIQUE = "This field must be unique."

USER = Kind("users", "User", {
    "username": Field(text(blank=False, most=150)), "name": Field(text()), "is_active": Field(boolean, True),
    "email": Field(text(), ""), "attributes": Field(mapping, {}), "path": Field(text(blank=False), "users"),
    "type": Field(text(blank=False), "internal"), "groups": Field(list_of(key_of("groups")), []),
}, render.user, (("username", OLD_UNIQUE),))  # fmt: skip

POLICY = Kind("policies", "ExpressionPolicy", {
    "name": Field(text(blank=False)), "execution_logging": Field(boolean, False), "expression": Field(expression),
}, render.policy, (("name", "policy with this name already exists."),))  # fmt: skip


def bindable(value: Any, state: State) -> Any:
    """The target of a binding: an application's pk, or the ``policybindingmodel_ptr_id`` of a flow or flow binding."""
    known = set(state.applications)
    known |= {row["policybindingmodel_ptr_id"] for row in (*state.flows.values(), *state.flow_bindings.values())}
    found = any_uuid(value, state)
    if found not in known:
        raise Invalid(f'Invalid pk "{value}" - object does not exist.')
    return found


BINDING = Kind("bindings", "PolicyBinding", {
    "policy": Field(key_of("policies"), None, nullable=True), "group": Field(key_of("groups"), None, nullable=True),
    "user": Field(key_of("users"), None, nullable=True), "target": Field(bindable), "negate": Field(boolean, False),
    "enabled": Field(boolean, True), "order": Field(integer), "timeout": Field(integer, 30),
    "failure_result": Field(boolean, False),
}, render.binding)  # fmt: skip


class Directory(AuthentikServer):
    """``/admin/version/``, ``/core/groups/``, ``/core/users/``, ``/policies/expression/``, ``/policies/bindings/``."""

    @property
    def groups(self) -> Kind:
        """Groups: ``parent`` up to 2025.10, ``parents`` from 2025.12; the other one is ignored in silence."""
        old = self.state.release < render.PARENTS_FROM
        message = OLD_UNIQUE if old else "Group with this name already exists."
        return Kind("groups", "Group", {**GROUP_FIELDS, **(PARENT if old else PARENTS)}, render.group,
                    (("name", message),))  # fmt: skip

    @route("GET", "/-/health/ready/")
    @route("GET", "/-/health/live/")
    def health(self, request: Request) -> Answer:
        """200 once the server is up; needs no token."""
        return Response(status=200, mimetype="text/html")

    @route("GET", f"{API}/admin/version/")
    def version(self, request: Request) -> Answer:
        """Any valid token may ask."""
        return 200, {"version_current": self.state.version, "version_latest": self.state.version,
                     "version_latest_valid": True, "build_hash": "", "outdated": False,
                     "outpost_outdated": False}  # fmt: skip

    @route("GET", f"{API}/root/config/")
    def config(self, request: Request) -> Answer:
        """Public; but a bad token is refused here too."""
        reporting = {"enabled": False, "sentry_dsn": "", "environment": "customer", "send_pii": False,
                     "traces_sample_rate": 0.1}  # fmt: skip
        return 200, {"error_reporting": reporting, "capabilities": ["can_impersonate", "is_enterprise"],
                     "cache_timeout": 300, "cache_timeout_flows": 300, "cache_timeout_policies": 300}  # fmt: skip

    # Groups.

    @route("GET", f"{API}/core/groups/")
    def list_groups(self, request: Request) -> Answer:
        """Filters ``name`` (exact) and ``attributes`` (JSON, contained); ``include_users=false`` leaves members out."""
        users = request.args.get("include_users", "true").lower() == "true"
        return self.listed(request, self.groups, lambda state, row: render.group(state, row, users))

    @route("POST", f"{API}/core/groups/")
    def create_group(self, request: Request) -> Answer:
        """``attributes`` may carry an ownership mark."""
        values = self.read_body(request, self.groups)
        self.state.forget_access()
        return self.create(self.groups, {**new_group(values["name"]), **values})

    @route("GET", f"{API}/core/groups/<pk>/")
    def get_group(self, request: Request, pk: str) -> Answer:
        """One group."""
        return 200, render.group(self.state, self.find(self.groups, pk))

    @route("PUT", f"{API}/core/groups/<pk>/")
    @route("PATCH", f"{API}/core/groups/<pk>/")
    def update_group(self, request: Request, pk: str) -> Answer:
        """``attributes`` and ``users`` are replaced whole."""
        row = self.find(self.groups, pk)
        self.state.forget_access()
        return self.update(self.groups, row, self.read_body(request, self.groups, row))

    @route("DELETE", f"{API}/core/groups/<pk>/")
    def delete_group(self, request: Request, pk: str) -> Answer:
        """Its bindings go with it."""
        row = self.find(self.groups, pk)
        self.drop_bindings("group", row["pk"])
        for other in self.state.groups.values():
            other["parent"] = None if other["parent"] == row["pk"] else other["parent"]
            other["parents"] = [parent for parent in other["parents"] if parent != row["pk"]]
        return self.remove(self.groups, row)

    @route("POST", f"{API}/core/groups/<pk>/add_user/")
    def add_user(self, request: Request, pk: str) -> Answer:
        """204, whether or not the user was in it."""
        group, user = self._membership(request, pk)
        if user not in group["users"]:
            group["users"].append(user)
        return 204, None

    @route("POST", f"{API}/core/groups/<pk>/remove_user/")
    def remove_user(self, request: Request, pk: str) -> Answer:
        """204, whether or not the user was in it."""
        group, user = self._membership(request, pk)
        group["users"] = [member for member in group["users"] if member != user]
        return 204, None

    def _membership(self, request: Request, pk: str) -> tuple[Object, int]:
        group = self.find(self.groups, pk)
        user = (json_body(request) or {}).get("pk")
        if not isinstance(user, int) or user not in self.state.users:
            raise ApiError(404, {"detail": "Not found."})
        self.state.forget_access()
        return group, user

    @route("GET", f"{API}/core/groups/<pk>/used_by/")
    def group_used_by(self, request: Request, pk: str) -> Answer:
        """The bindings that would go with it."""
        group = self.find(self.groups, pk)
        return 200, [self._used_by(row, f"Group {group['name']}")
                     for row in self.state.bindings.values() if row["group"] == group["pk"]]  # fmt: skip

    def _used_by(self, row: Object, what: str) -> Object:
        target = self.state.applications.get(row["target"], {}).get("name", row["target"])
        return {"app": "authentik_policies", "model_name": "policybinding", "pk": row["pk"],
                "name": f"Binding from {target} #{row['order']} to {what}", "action": "cascade"}  # fmt: skip

    # Users.

    @route("GET", f"{API}/core/users/")
    def list_users(self, request: Request) -> Answer:
        """Filter ``username`` (exact), and more."""
        return self.listed(request, USER)

    @route("POST", f"{API}/core/users/")
    def create_user(self, request: Request) -> Answer:
        """Without a password: nobody can log in as them until one is set."""
        values = self.read_body(request, USER)
        groups = values.pop("groups")
        made = self.state.add("users", new_user(**values))
        return self._with_groups(made, groups, 201)

    @route("GET", f"{API}/core/users/<int:pk>/")
    def get_user(self, request: Request, pk: int) -> Answer:
        """One user."""
        return 200, render.user(self.state, self.find(USER, pk))

    @route("PUT", f"{API}/core/users/<int:pk>/")
    @route("PATCH", f"{API}/core/users/<int:pk>/")
    def update_user(self, request: Request, pk: int) -> Answer:
        """``attributes`` and ``groups`` are replaced whole."""
        row = self.find(USER, pk)
        values = self.read_body(request, USER, row)
        groups = values.pop("groups", None)
        self.update(USER, row, values)
        return self._with_groups(row, groups, 200)

    def _with_groups(self, user: Object, groups: list[str] | None, status: int) -> Answer:
        for group in self.state.groups.values() if groups is not None else ():
            others = [member for member in group["users"] if member != user["pk"]]
            group["users"] = others + ([user["pk"]] if group["pk"] in (groups or ()) else [])
        self.state.forget_access()
        return status, render.user(self.state, user)

    @route("DELETE", f"{API}/core/users/<int:pk>/")
    def delete_user(self, request: Request, pk: int) -> Answer:
        """Memberships and bindings go with them."""
        row = self.find(USER, pk)
        self.drop_bindings("user", pk)
        for group in self.state.groups.values():
            group["users"] = [member for member in group["users"] if member != pk]
        self.state.passwords.pop(pk, None)
        return self.remove(USER, row)

    # Expression policies.

    @route("GET", f"{API}/policies/expression/")
    def list_policies(self, request: Request) -> Answer:
        """Filter ``name`` (exact)."""
        return self.listed(request, POLICY)

    @route("POST", f"{API}/policies/expression/")
    def create_policy(self, request: Request) -> Answer:
        """Whitespace around the expression is stripped; what doesn't compile is 400."""
        return self.create(POLICY, self.read_body(request, POLICY))

    @route("GET", f"{API}/policies/expression/<pk>/")
    def get_policy(self, request: Request, pk: str) -> Answer:
        """One policy."""
        return 200, render.policy(self.state, self.find(POLICY, pk))

    @route("PUT", f"{API}/policies/expression/<pk>/")
    @route("PATCH", f"{API}/policies/expression/<pk>/")
    def update_policy(self, request: Request, pk: str) -> Answer:
        """Some fields of one policy."""
        row = self.find(POLICY, pk)
        self.state.forget_access()
        return self.update(POLICY, row, self.read_body(request, POLICY, row))

    @route("DELETE", f"{API}/policies/expression/<pk>/")
    def delete_policy(self, request: Request, pk: str) -> Answer:
        """Its bindings go with it."""
        row = self.find(POLICY, pk)
        self.drop_bindings("policy", row["pk"])
        return self.remove(POLICY, row)

    # Bindings.

    @route("GET", f"{API}/policies/bindings/")
    def list_bindings(self, request: Request) -> Answer:
        """Filters ``target``, ``policy``, ``order``; ``group`` is ignored."""
        return self.listed(request, BINDING)

    @route("POST", f"{API}/policies/bindings/")
    def create_binding(self, request: Request) -> Answer:
        """Not unique: the same group can be bound twice."""
        values = self.read_body(request, BINDING)
        self._exactly_one(values)
        self.state.forget_access()
        return self.create(BINDING, values)

    @route("GET", f"{API}/policies/bindings/<pk>/")
    def get_binding(self, request: Request, pk: str) -> Answer:
        """One binding."""
        return 200, render.binding(self.state, self.find(BINDING, pk))

    @route("PUT", f"{API}/policies/bindings/<pk>/")
    @route("PATCH", f"{API}/policies/bindings/<pk>/")
    def update_binding(self, request: Request, pk: str) -> Answer:
        """A PATCH must repeat the target (a crash without it) and what it binds (400 without)."""
        row = self.find(BINDING, pk)
        values = self.read_body(request, BINDING, row)
        if "target" not in values:
            raise server_error(request)
        self._exactly_one(values)
        self.state.forget_access()
        return self.update(BINDING, row, values)

    @route("DELETE", f"{API}/policies/bindings/<pk>/")
    def delete_binding(self, request: Request, pk: str) -> Answer:
        """With the last one, its target is open to everyone."""
        self.state.forget_access()
        return self.remove(BINDING, self.find(BINDING, pk))

    def _exactly_one(self, values: Object) -> None:
        given = [name for name in ("policy", "group", "user") if values.get(name)]
        if len(given) != 1:
            why = "Only one of 'group', 'policy', 'user' can be set." if given else \
                "One of 'group', 'policy', 'user' must be set."  # fmt: skip
            raise ApiError(400, {"non_field_errors": [why]})
