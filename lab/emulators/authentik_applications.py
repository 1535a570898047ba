"""Applications: the list that can't be trusted, the dry run of an access, the transaction that creates all."""

from __future__ import annotations

import copy
from typing import Any

from werkzeug.wrappers import Request

from lab.emulators import authentik_render as render
from lab.emulators.authentik_access import may_open
from lab.emulators.authentik_directory import BINDING
from lab.emulators.authentik_fields import Field, boolean, choice, key_of, list_of, text, url
from lab.emulators.authentik_lists import page_of, selected
from lab.emulators.authentik_providers import BAD_SLUG, SLUG, Providers
from lab.emulators.authentik_server import API, Kind
from lab.emulators.authentik_state import Object
from lab.emulators.base import Answer, ApiError, json_body, route

UNIQUE = (("slug", "Application with this slug already exists."),
          ("provider", "Application with this provider already exists."))  # fmt: skip
FIELDS = {
    "name": Field(text(blank=False)), "slug": Field(text(False, 50, SLUG, BAD_SLUG)),
    "provider": Field(key_of("providers"), None, nullable=True),
    "backchannel_providers": Field(list_of(key_of("providers")), []), "open_in_new_tab": Field(boolean, False),
    "meta_launch_url": Field(url(), ""), "meta_description": Field(text(), ""), "meta_publisher": Field(text(), ""),
    "policy_engine_mode": Field(choice("any", "all"), "any"), "group": Field(text(), ""),
}  # fmt: skip
UNLIMITED_SLUG_FROM = (2025, 12)


class Applications(Providers):
    """``/core/applications/`` and ``/core/transactional/applications/``."""

    @property
    def applications(self) -> Kind:
        """Applications; a slug has at most 50 characters up to 2025.10."""
        fields = dict(FIELDS)
        if self.state.release >= UNLIMITED_SLUG_FROM:
            fields["slug"] = Field(text(False, None, SLUG, BAD_SLUG))
        return Kind("applications", "Application", fields, render.application, UNIQUE)

    @route("GET", f"{API}/core/applications/")
    def list_applications(self, request: Request) -> Answer:
        """What the caller may open, kept per caller and page whatever the filters were: ``?slug=`` may show anything.

        ``superuser_full_list=true`` gives all, filtered, to superusers only. The numbers in ``pagination`` follow the
        filter, also where ``results`` come from an earlier call.
        """
        rows = selected(self.state, "applications", self.state.applications.values(), request.args)
        full = request.args.get("superuser_full_list", "false").lower() == "true"
        shown, pagination, number = page_of(rows, request.args)
        if not (full and self.superuser):
            shown = self._allowed(shown, number, cached=not request.args.get("search"))
        return self.page("applications", (render.application(self.state, row) for row in shown), pagination)

    def _allowed(self, rows: list[Object], number: int, cached: bool) -> list[Object]:
        place = (self.caller, number)
        kept = self.state.app_access.get(place, []) if cached else []
        allowed = [self.state.applications[pk] for pk in kept if pk in self.state.applications]
        if not allowed:
            allowed = [row for row in rows if may_open(self.state, row, self.caller)]
            if cached:
                self.state.app_access[place] = [row["pk"] for row in allowed]
        return allowed

    @route("POST", f"{API}/core/applications/")
    def create_application(self, request: Request) -> Answer:
        """Open to everyone until something is bound to it."""
        values = self.read_body(request, self.applications)
        self.state.forget_access()
        return self.create(self.applications, values)

    @route("GET", f"{API}/core/applications/<slug>/")
    def get_application(self, request: Request, slug: str) -> Answer:
        """One application, by its slug."""
        return 200, render.application(self.state, self.find(self.applications, slug, "slug"))

    @route("PUT", f"{API}/core/applications/<slug>/")
    @route("PATCH", f"{API}/core/applications/<slug>/")
    def update_application(self, request: Request, slug: str) -> Answer:
        """Some fields of one application; a provider belongs to one application only."""
        row = self.find(self.applications, slug, "slug")
        return self.update(self.applications, row, self.read_body(request, self.applications, row))

    @route("DELETE", f"{API}/core/applications/<slug>/")
    def delete_application(self, request: Request, slug: str) -> Answer:
        """Its bindings go with it; its provider stays."""
        row = self.find(self.applications, slug, "slug")
        self.drop_bindings("target", row["pk"])
        return self.remove(self.applications, row)

    @route("GET", f"{API}/core/applications/<slug>/check_access/")
    def check_application_access(self, request: Request, slug: str) -> Answer:
        """Whether the caller, or ``for_user`` where the caller is a superuser, may open it."""
        row = self.find(self.applications, slug, "slug")
        user = self.caller
        asked = request.args.get("for_user")
        if self.superuser and asked is not None:
            if not asked.isdigit():
                raise ApiError(400, {"for_user": "for_user must be numerical"})
            user = int(asked)
            if user not in self.state.users:
                raise ApiError(400, {"for_user": "User not found"})
        return 200, {"passing": may_open(self.state, row, user), "messages": [], "log_messages": []}

    @route("PUT", f"{API}/core/transactional/applications/")
    def create_together(self, request: Request) -> Answer:
        """Provider, application and bindings, all or none; creates only, and says no keys."""
        body = json_body(request) or {}
        missing = [name for name in ("app", "provider_model", "provider") if name not in body]
        if missing:
            raise ApiError(400, {name: ["This field is required."] for name in missing})
        if body["provider_model"] != "authentik_providers_proxy.proxyprovider":
            raise ApiError(400, {"provider_model": [f'"{body["provider_model"]}" is not a valid choice.']})
        before = copy.deepcopy(self.state)
        try:
            self._create_together(body)
        except ApiError:
            self.state = before
            raise
        self.state.forget_access()
        return 200, {"applied": True, "logs": []}

    def _create_together(self, body: Object) -> None:
        app = self._nested("app", self.applications, body["app"])
        self.state.next_number["providers"] = self.state.next_number.get("providers", 1) + 1  # the server's dry run
        try:
            values = self.proxy_values(body["provider"], None, partial=False)
        except ApiError as error:
            raise ApiError(400, {"provider": error.body}) from error
        provider = self.state.add("providers", values)
        made = self.state.add("applications", {**app, "provider": provider["pk"]})
        for entry in body.get("policy_bindings", []):
            entry = {"target": made["pk"], **entry} if isinstance(entry, dict) else entry
            self.state.add("bindings", self._nested("policy_bindings", BINDING, entry))

    def _nested(self, name: str, kind: Kind, body: Any) -> Object:
        try:
            return self.read_values(kind, body, None, partial=False)
        except ApiError as error:
            raise ApiError(400, {name: error.body}) from error
