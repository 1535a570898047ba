"""Applications: the list that can't be trusted, the dry run of an access, the transaction that creates all."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar

from werkzeug.wrappers import Request

from lab.emulators import authentik_render as render
from lab.emulators.authentik_access import decide, may_open
from lab.emulators.authentik_fields import Field, boolean, choice, key_of, list_of, slug, text, url
from lab.emulators.authentik_kinds import ALL, Kind, Write
from lab.emulators.authentik_lists import page_of, selected
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_policies import BINDING
from lab.emulators.authentik_providers import BY_MODEL
from lab.emulators.authentik_server import API, FORBIDDEN
from lab.emulators.authentik_state import Object
from lab.emulators.base import Answer, ApiError, json_body, route

APPLICATION = Kind("applications", "Application", {
    "name": Field(text(blank=False)), "slug": Field(slug),
    "provider": Field(key_of("providers"), None, nullable=True),
    "backchannel_providers": Field(list_of(key_of("providers")), []), "open_in_new_tab": Field(boolean, False),
    "meta_launch_url": Field(url(), ""), "meta_description": Field(text(), ""), "meta_publisher": Field(text(), ""),
    "policy_engine_mode": Field(choice("any", "all"), "any"), "group": Field(text(), ""),
    "meta_hide": Field(boolean, False, since=(2026, 5)),
}, render.application, (
    ("slug", "Application with this slug already exists."),
    ("provider", "Application with this provider already exists."),
), path="/core/applications/", key="slug", verbs=ALL - {"list"})  # fmt: skip
BINDINGS_FROM = (2024, 12)
"""The release from which a transaction makes bindings; before, they are ignored in silence."""


class Applications(Objects):
    """``/core/applications/`` and ``/core/transactional/applications/``.

    A new application is open to everyone until something is bound to it. A provider belongs to one application only.
    A deleted application takes its bindings along, and leaves its provider.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (APPLICATION,)

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

    @route("GET", f"{API}/core/applications/<slug>/check_access/")
    def check_application_access(self, request: Request, slug: str) -> Answer:
        """Whether the caller, or ``for_user`` where the caller is a superuser, may open it."""
        row = self.find(APPLICATION, slug)
        user = self.caller
        asked = request.args.get("for_user")
        if self.superuser and asked is not None:
            if not asked.isdigit():
                raise ApiError(400, {"for_user": "for_user must be numerical"})
            user = int(asked)
            if user not in self.state.users:
                raise ApiError(400, {"for_user": "User not found"})
        verdict = decide(self.state, row, self.state.users[user])
        return 200, {"passing": verdict.passing, "messages": list(verdict.messages), "log_messages": []}

    @route("PUT", f"{API}/core/transactional/applications/")
    def create_together(self, request: Request) -> Answer:
        """Provider, application and bindings, all or none; creates only, and says no keys."""
        body = json_body(request) or {}
        missing = [name for name in ("app", "provider_model", "provider") if name not in body]
        if missing:
            raise ApiError(400, {name: ["This field is required."] for name in missing})
        kind = BY_MODEL.get(body["provider_model"])
        if kind is None:
            raise ApiError(400, {"provider_model": [f'"{body["provider_model"]}" is not a valid choice.']})
        bound = ["add_policybinding"] if body.get("policy_bindings") and self.state.release >= BINDINGS_FROM else []
        if not self.may(f"add_{kind.model.lower()}", *bound):
            raise ApiError(403, FORBIDDEN)
        before = copy.deepcopy(self.state)
        try:
            self._create_together(Write(request, body, None, partial=False), kind)
        except ApiError:
            self.state = before
            raise
        return 200, {"applied": True, "logs": []}

    def _create_together(self, write: Write, kind: Kind) -> None:
        body = write.body
        app = self._nested("app", APPLICATION, body["app"], write)
        self.state.next_number["providers"] = self.state.next_number.get("providers", 1) + 1  # the server's dry run
        provider = self.insert("providers", self._nested("provider", kind, body["provider"], write))
        made = self.insert("applications", {**app, "provider": provider["pk"]})
        if self.state.release < BINDINGS_FROM:
            return
        for entry in body.get("policy_bindings", []):
            entry = {"target": made["pk"], **entry} if isinstance(entry, dict) else entry
            self.insert("bindings", self._nested("policy_bindings", BINDING, entry, write))

    def _nested(self, name: str, kind: Kind, body: Any, write: Write) -> Object:
        try:
            return self.read_values(kind, dataclasses.replace(write, body=body))
        except ApiError as error:
            raise ApiError(400, {name: error.body}) from error
