"""Groups, and what the server says of itself."""

from __future__ import annotations

from typing import ClassVar

from werkzeug.wrappers import Request, Response

from lab.emulators import authentik_render as render
from lab.emulators.authentik_fields import Field, any_uuid, boolean, key_of, list_of, mapping, text
from lab.emulators.authentik_kinds import ALL, Kind, Write
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import API
from lab.emulators.authentik_state import Object, State, new_group
from lab.emulators.base import Answer, ApiError, json_body, route


def taken(state: State) -> str:
    """What a second group of a name is told."""
    old = state.release < render.PARENTS_FROM
    return "This field must be unique." if old else "Group with this name already exists."


def prepare_group(server: Objects, write: Write, values: Object) -> Object:
    """``attributes``, which may carry an ownership mark, and ``users`` are replaced whole."""
    return values if write.row else {**new_group(values["name"]), **values}


GROUP = Kind("groups", "Group", {
    "name": Field(text(blank=False)), "is_superuser": Field(boolean, False),
    "users": Field(list_of(key_of("users")), []), "attributes": Field(mapping, {}),
    "roles": Field(list_of(any_uuid), []),
    "parent": Field(key_of("groups"), None, nullable=True, until=render.PARENTS_FROM),
    "parents": Field(list_of(key_of("groups")), [], since=render.PARENTS_FROM),
}, render.group, (("name", taken),), path="/core/groups/", verbs=ALL - {"list"}, prepare=prepare_group)  # fmt: skip

INCLUDE_USERS_FROM = (2024, 4)


class Directory(Objects):
    """``/core/groups/``, ``/admin/version/``, ``/root/config/``, ``/-/health/``.

    A group has ``parent`` up to 2025.10, ``parents`` from 2025.12; the other one is ignored in silence. A deleted
    group takes its bindings along.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (GROUP,)

    @route("GET", "/-/health/ready/")
    @route("GET", "/-/health/live/")
    def health(self, request: Request) -> Answer:
        """200 once the server is up; needs no token."""
        return Response(status=200, mimetype="text/html")

    @route("GET", f"{API}/admin/version/")
    def version(self, request: Request) -> Answer:
        """Any valid token may ask."""
        said = {"version_current": self.state.version, "version_latest": self.state.version, "build_hash": "",
                "outdated": False}  # fmt: skip
        if self.state.release >= INCLUDE_USERS_FROM:
            said |= {"version_latest_valid": True, "outpost_outdated": False}
        return 200, said

    @route("GET", f"{API}/root/config/")
    def config(self, request: Request) -> Answer:
        """Public; but a bad token is refused here too."""
        reporting = {"enabled": False, "sentry_dsn": "", "environment": "customer", "send_pii": False,
                     "traces_sample_rate": 0.1}  # fmt: skip
        return 200, {"error_reporting": reporting, "capabilities": ["can_impersonate", "is_enterprise"],
                     "cache_timeout": 300, "cache_timeout_flows": 300, "cache_timeout_policies": 300}  # fmt: skip

    @route("GET", f"{API}/core/groups/")
    def list_groups(self, request: Request) -> Answer:
        """Filters ``name`` (exact) and ``attributes`` (JSON, contained); ``include_users=false`` leaves members out."""
        asked = request.args.get("include_users", "true").lower() == "true"
        users = asked or self.state.release < INCLUDE_USERS_FROM
        return self.listed(request, GROUP, lambda state, row: render.group(state, row, users))

    @route("POST", f"{API}/core/groups/<pk>/add_user/")
    def add_user(self, request: Request, pk: str) -> Answer:
        """204, whether or not the user was in it."""
        group, user = self._membership(request, pk)
        if user not in group["users"]:
            group["users"].append(user)
            self.changed("model_updated", "groups", group)
        return 204, None

    @route("POST", f"{API}/core/groups/<pk>/remove_user/")
    def remove_user(self, request: Request, pk: str) -> Answer:
        """204, whether or not the user was in it."""
        group, user = self._membership(request, pk)
        if user in group["users"]:
            group["users"] = [member for member in group["users"] if member != user]
            self.changed("model_updated", "groups", group)
        return 204, None

    def _membership(self, request: Request, pk: str) -> tuple[Object, int]:
        group = self.find(GROUP, pk)
        user = (json_body(request) or {}).get("pk")
        if not isinstance(user, int) or user not in self.state.users:
            raise ApiError(404, {"detail": "Not found."})
        return group, user
