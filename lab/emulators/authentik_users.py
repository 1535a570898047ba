"""Users, service accounts, and the tokens that they call the API with."""

from __future__ import annotations

from typing import ClassVar

from werkzeug.wrappers import Request

from lab.emulators import authentik_render as render
from lab.emulators.authentik_fields import Field, boolean, choice, cleaned, key_of, list_of, mapping, text
from lab.emulators.authentik_kinds import ALL, Kind, Write
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import API, FORBIDDEN
from lab.emulators.authentik_state import Object, State, new_group, new_user, now_text, random_text
from lab.emulators.base import Answer, ApiError, json_body, route

UNIQUE = "This field must be unique."
TYPES = ("internal", "external", "service_account", "internal_service_account")
ACCOUNTS = "goauthentik.io/service-accounts"
EXPIRES = "goauthentik.io/user/token-expires"
TOKEN_LIVES = 1800.0
"""Seconds: the tenant's default, which every expiring API token gets whatever was asked for."""

USER = Kind("users", "User", {
    "username": Field(text(blank=False, most=150)), "name": Field(text()), "is_active": Field(boolean, True),
    "email": Field(text(), ""), "attributes": Field(mapping, {}), "path": Field(text(blank=False), "users"),
    "type": Field(choice(*TYPES), "internal"), "groups": Field(list_of(key_of("groups")), []),
}, render.user, (("username", UNIQUE),), path="/core/users/", verbs=ALL - {"create", "update"})  # fmt: skip
ACCOUNT = {"name": Field(text(blank=False)), "create_group": Field(boolean, False), "expiring": Field(boolean, True),
           "expires": Field(text(), "")}  # fmt: skip


def token(state: State, row: Object) -> Object:
    """A token without its key."""
    shown = {name: value for name, value in row.items() if name != "key"}
    return {**shown, "user_obj": render.user(state, state.users[row["user"]])}


def prepare_token(server: Objects, write: Write, values: Object) -> Object:
    """Without ``user``, the caller becomes the owner: of a new token, and of one that a PATCH changes too.

    Whoever isn't a superuser makes tokens for itself only, and an attribute of its own says whether they end. An API
    token ends after the tenant's default time, if it ends at all.
    """
    if "user" not in values or values["user"] is None or not server.superuser:
        values["user"] = server.caller
    if write.row is None and not server.superuser:
        values["expiring"] = server.state.users[server.caller]["attributes"].get(EXPIRES, True)
    intent = values.get("intent", (write.row or {}).get("intent"))
    if intent not in ("api", "app_password"):
        raise ApiError(400, {"intent": [f"Invalid intent {intent}"]})
    if intent == "api" or not values.get("expires"):
        values["expires"] = now_text(TOKEN_LIVES)
    return values if write.row else {"managed": None, **values, "key": random_text(60)}


TOKEN = Kind("tokens", "Token", {
    "managed": Field(text(), None, nullable=True),
    "identifier": Field(text(False, 255, r"[-a-zA-Z0-9_]+", "Enter a valid slug.")),
    "intent": Field(choice("verification", "api", "recovery", "app_password"), "app_password"),
    "user": Field(key_of("users"), lambda state: None), "description": Field(text(), ""),
    "expires": Field(text(), None, nullable=True), "expiring": Field(boolean, True),
}, token, (("identifier", UNIQUE),), path="/core/tokens/", key="identifier", prepare=prepare_token)  # fmt: skip


class Users(Objects):
    """``/core/users/`` and ``/core/tokens/``.

    Two tokens of one user are valid together; ``set_key`` kills the old key at once. A deleted user takes tokens,
    memberships and bindings along.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (USER, TOKEN)

    def rows(self, kind: Kind) -> list[Object]:
        """Only superusers see other users' tokens."""
        rows = super().rows(kind)
        return [row for row in rows if self.superuser or row["user"] == self.caller] if kind is TOKEN else rows

    @route("POST", f"{API}/core/users/")
    def create_user(self, request: Request) -> Answer:
        """Without a password: nobody can log in as them until one is set."""
        values = self.read_body(request, USER)
        groups = values.pop("groups")
        return 201, self._with_groups(self.insert("users", new_user(**values)), groups)

    @route("GET", f"{API}/core/users/me/")
    def me(self, request: Request) -> Answer:
        """Whose token it is."""
        row = render.user(self.state, self.state.users[self.caller])
        fields = ("pk", "username", "name", "is_active", "is_superuser", "email", "avatar", "uid", "type")
        shown = {name: row[name] for name in fields}
        shown["groups"] = [{"name": group["name"], "pk": group["pk"]} for group in row["groups_obj"]]
        more: Object = {name: [] for name in ("roles",) if name in row}
        return 200, {"user": {**shown, **more, "settings": {}, "system_permissions": []}}

    @route("PUT", f"{API}/core/users/<int:pk>/")
    @route("PATCH", f"{API}/core/users/<int:pk>/")
    def update_user(self, request: Request, pk: int) -> Answer:
        """``attributes`` and ``groups`` are replaced whole."""
        row = self.find(USER, pk)
        values = self.read_body(request, USER, row)
        groups = values.pop("groups", None)
        self.update(USER, row, {**values, "last_updated": now_text()})
        return 200, self._with_groups(row, groups)

    def _with_groups(self, user: Object, groups: list[str] | None) -> Object:
        for group in self.state.groups.values() if groups is not None else ():
            others = [member for member in group["users"] if member != user["pk"]]
            group["users"] = others + ([user["pk"]] if group["pk"] in (groups or ()) else [])
        self.state.forget_access()
        return render.user(self.state, user)

    @route("POST", f"{API}/core/users/<int:pk>/set_password/")
    def set_password(self, request: Request, pk: int) -> Answer:
        """The password that the login form wants."""
        row = self.find(USER, pk)
        values = cleaned({"password": Field(text(blank=False))}, json_body(request) or {}, self.state, partial=False)
        self.state.passwords[pk] = values["password"]
        row["password_change_date"] = now_text()
        self.record("password_set", pk, {})
        return 204, None

    @route("POST", f"{API}/core/users/service_account/")
    def create_service_account(self, request: Request) -> Answer:
        """A user with an app password, which is no token for the API."""
        values = {"expiring": True, **cleaned(ACCOUNT, json_body(request) or {}, self.state, partial=False)}
        name, expiring = values["name"], values["expiring"]
        if self.state.user_named(name) or (values.get("create_group") and self.state.group_named(name)):
            raise ApiError(400, {"non_field_errors": ["A user/group with these details already exists"]})
        account = new_user(name, name, "", type="service_account", path=ACCOUNTS, attributes={EXPIRES: expiring})
        user = self.insert("users", account)
        password = self.insert("tokens", {
            "managed": None, "identifier": f"service-account-{name}-password", "intent": "app_password",
            "user": user["pk"], "description": "", "expires": values.get("expires") or now_text(360 * 86400.0),
            "expiring": expiring, "key": random_text(60),
        })  # fmt: skip
        made = {"username": name, "user_uid": user["uid"], "user_pk": user["pk"], "token": password["key"]}
        if values.get("create_group"):
            made["group_pk"] = self.insert("groups", {**new_group(name), "users": [user["pk"]]})["pk"]
        return 200, made

    @route("GET", f"{API}/core/tokens/<identifier>/view_key/")
    def view_key(self, request: Request, identifier: str) -> Answer:
        """The key itself."""
        row = self.find(TOKEN, identifier)
        self.record("secret_view", self.caller, {"secret": {"name": identifier, "model_name": "token"}})
        return 200, {"key": row["key"]}

    @route("POST", f"{API}/core/tokens/<identifier>/set_key/")
    def set_key(self, request: Request, identifier: str) -> Answer:
        """Another key, at once: there is no time in which both are good."""
        row = self.find(TOKEN, identifier)
        if row["managed"] and not self.superuser:
            raise ApiError(403, FORBIDDEN)
        values = cleaned({"key": Field(text(blank=False))}, json_body(request) or {}, self.state, partial=False)
        row["key"] = values["key"]
        self.record("secret_rotate", self.caller, {"secret": {"name": identifier, "model_name": "token"}})
        return 204, None
