"""Flows, stages, proxy and OAuth2 providers, and the outposts that providers are attached to."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Request

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
    mapping,
    redirect_uri,
    text,
    url,
)
from lab.emulators.authentik_lists import selected
from lab.emulators.authentik_server import API, AuthentikServer, Kind, server_error
from lab.emulators.authentik_state import EMBEDDED, OUTPOST_CONFIG, Object, new_flow, random_text
from lab.emulators.base import Answer, ApiError, json_body, route

SLUG = r"[-a-zA-Z0-9_]+"
BAD_SLUG = "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens."
DESIGNATIONS = ("authentication", "authorization", "invalidation", "enrollment", "unenrollment", "recovery",
                "stage_configuration")  # fmt: skip
DEVICE_CLASSES = ("static", "totp", "webauthn", "duo", "sms", "email")
CALLBACK = "X-authentik-auth-callback=true"
PROVIDER_UNIQUE = (("name", "provider with this name already exists."),)

FLOW = Kind("flows", "Flow", {
    "name": Field(text(blank=False)), "slug": Field(text(False, 50, SLUG, BAD_SLUG)), "title": Field(text(blank=False)),
    "designation": Field(choice(*DESIGNATIONS)), "policy_engine_mode": Field(choice("any", "all"), "any"),
    "compatibility_mode": Field(boolean, False), "layout": Field(text(), "stacked"),
    "denied_action": Field(choice("message_continue", "message", "continue"), "message_continue"),
    "authentication": Field(text(), "none"),
}, render.flow, (("slug", "Flow with this slug already exists."),))  # fmt: skip

STAGE = Kind("stages", "AuthenticatorValidateStage", {
    "name": Field(text(blank=False)), "not_configured_action": Field(choice("skip", "deny", "configure"), "skip"),
    "device_classes": Field(list_of(choice(*DEVICE_CLASSES), nested=True), list(DEVICE_CLASSES)),
    "configuration_stages": Field(list_of(any_uuid), []), "last_auth_threshold": Field(duration, "seconds=0"),
    "webauthn_user_verification": Field(choice("required", "preferred", "discouraged"), "preferred"),
    "webauthn_allowed_device_types": Field(list_of(any_uuid), []),
}, render.stage, (("name", "stage with this name already exists."),))  # fmt: skip

FLOW_BINDING = Kind("flow_bindings", "FlowStageBinding", {
    "target": Field(key_of("flows")), "stage": Field(key_of("stages")), "order": Field(integer),
    "evaluate_on_plan": Field(boolean, False), "re_evaluate_policies": Field(boolean, True),
    "policy_engine_mode": Field(choice("any", "all"), "any"),
    "invalid_response_action": Field(text(), "retry"),
}, render.flow_binding)  # fmt: skip

COMMON = {
    "name": Field(text(blank=False)), "authentication_flow": Field(key_of("flows"), None, nullable=True),
    "authorization_flow": Field(key_of("flows")), "invalidation_flow": Field(key_of("flows")),
    "property_mappings": Field(list_of(key_of("mappings")), []),
    "jwt_federation_sources": Field(list_of(any_uuid), []),
    "jwt_federation_providers": Field(list_of(key_of("providers")), []),
    "access_token_validity": Field(duration, "hours=1"), "refresh_token_validity": Field(duration, "days=30"),
}  # fmt: skip

PROXY = Kind("providers", "ProxyProvider", {
    **COMMON, "internal_host": Field(url(), ""), "external_host": Field(url(blank=False)),
    "internal_host_ssl_validation": Field(boolean, True), "certificate": Field(any_uuid, None, nullable=True),
    "skip_path_regex": Field(text(), ""), "basic_auth_enabled": Field(boolean, False),
    "basic_auth_password_attribute": Field(text(), ""), "basic_auth_user_attribute": Field(text(), ""),
    "mode": Field(choice("proxy", "forward_single", "forward_domain"), "proxy"),
    "intercept_header_auth": Field(boolean, True), "cookie_domain": Field(text(), ""),
}, render.provider, PROVIDER_UNIQUE, "proxy")  # fmt: skip

OAUTH2 = Kind("providers", "OAuth2Provider", {
    **COMMON, "client_type": Field(choice("confidential", "public"), "confidential"),
    "client_id": Field(text(blank=False, most=255), ""), "client_secret": Field(text(most=255), ""),
    "access_code_validity": Field(duration, "minutes=1"), "refresh_token_threshold": Field(duration, "seconds=0"),
    "include_claims_in_id_token": Field(boolean, True), "signing_key": Field(any_uuid, None, nullable=True),
    "encryption_key": Field(any_uuid, None, nullable=True),
    "redirect_uris": Field(list_of(redirect_uri, nested=True)), "logout_uri": Field(url(), ""),
    "logout_method": Field(choice("backchannel", "frontchannel"), "backchannel"),
    "sub_mode": Field(text(), "hashed_user_id"), "issuer_mode": Field(text(), "per_provider"),
}, render.provider, (*PROVIDER_UNIQUE, ("client_id", "oauth2 provider with this client_id already exists.")),
    "oauth2")  # fmt: skip


def provider_list(value: Any, state: Any) -> Any:
    """An outpost's providers: a set, kept in the order of their keys."""
    return sorted(set(list_of(key_of("providers"))(value, state)))


OUTPOST = Kind("outposts", "Outpost", {
    "name": Field(text(blank=False)), "type": Field(choice("proxy", "ldap", "radius", "rac")),
    "providers": Field(provider_list), "service_connection": Field(any_uuid, None, nullable=True),
    "config": Field(mapping), "managed": Field(text(), None, nullable=True),
}, render.outpost, (("name", "This field must be unique."), ("managed", "This field must be unique.")))  # fmt: skip


class Providers(AuthentikServer):
    """``/flows/``, ``/stages/authenticator/validate/``, ``/providers/``, ``/outposts/instances/``."""

    # Flows and stages.

    @route("GET", f"{API}/flows/instances/")
    def list_flows(self, request: Request) -> Answer:
        """Filter ``slug`` (exact)."""
        return self.listed(request, FLOW)

    @route("POST", f"{API}/flows/instances/")
    def create_flow(self, request: Request) -> Answer:
        """A flow without stages."""
        values = self.read_body(request, FLOW)
        first = {name: values[name] for name in ("slug", "name", "title", "designation", "authentication")}
        return self.create(FLOW, {**new_flow(**first), **values})

    @route("GET", f"{API}/flows/instances/<slug>/")
    def get_flow(self, request: Request, slug: str) -> Answer:
        """One flow, by its slug."""
        return 200, render.flow(self.state, self.find(FLOW, slug, "slug"))

    @route("PUT", f"{API}/flows/instances/<slug>/")
    @route("PATCH", f"{API}/flows/instances/<slug>/")
    def update_flow(self, request: Request, slug: str) -> Answer:
        """Some fields of one flow."""
        row = self.find(FLOW, slug, "slug")
        return self.update(FLOW, row, self.read_body(request, FLOW, row))

    @route("DELETE", f"{API}/flows/instances/<slug>/")
    def delete_flow(self, request: Request, slug: str) -> Answer:
        """Every provider that authorizes or invalidates by it goes with it."""
        row = self.find(FLOW, slug, "slug")
        for provider in list(self.state.providers.values()):
            if row["pk"] in (provider["authorization_flow"], provider["invalidation_flow"]):
                self._drop_provider(provider)
        for provider in self.state.providers.values():
            if provider["authentication_flow"] == row["pk"]:
                provider["authentication_flow"] = None
        self._drop_flow_bindings("target", row["pk"])
        return self.remove(FLOW, row)

    def _drop_flow_bindings(self, field: str, value: Any) -> None:
        for pk in [pk for pk, row in self.state.flow_bindings.items() if row[field] == value]:
            del self.state.flow_bindings[pk]

    @route("GET", f"{API}/stages/authenticator/validate/")
    def list_stages(self, request: Request) -> Answer:
        """Filter ``name`` (exact)."""
        return self.listed(request, STAGE)

    @route("POST", f"{API}/stages/authenticator/validate/")
    def create_stage(self, request: Request) -> Answer:
        """A stage that asks for a second factor."""
        return self.create(STAGE, self.read_body(request, STAGE))

    @route("GET", f"{API}/stages/authenticator/validate/<pk>/")
    def get_stage(self, request: Request, pk: str) -> Answer:
        """One stage."""
        return 200, render.stage(self.state, self.find(STAGE, pk))

    @route("PUT", f"{API}/stages/authenticator/validate/<pk>/")
    @route("PATCH", f"{API}/stages/authenticator/validate/<pk>/")
    def update_stage(self, request: Request, pk: str) -> Answer:
        """Some fields of one stage."""
        row = self.find(STAGE, pk)
        return self.update(STAGE, row, self.read_body(request, STAGE, row))

    @route("DELETE", f"{API}/stages/authenticator/validate/<pk>/")
    def delete_stage(self, request: Request, pk: str) -> Answer:
        """It leaves the flows that it is in: they no longer ask for a second factor."""
        row = self.find(STAGE, pk)
        self._drop_flow_bindings("stage", row["pk"])
        return self.remove(STAGE, row)

    @route("GET", f"{API}/flows/bindings/")
    def list_flow_bindings(self, request: Request) -> Answer:
        """Filters ``target`` and ``stage``."""
        return self.listed(request, FLOW_BINDING)

    @route("POST", f"{API}/flows/bindings/")
    def create_flow_binding(self, request: Request) -> Answer:
        """Put a stage into a flow; (target, stage, order) is unique."""
        values = self.read_body(request, FLOW_BINDING)
        place = (values["target"], values["stage"], values["order"])
        if any((row["target"], row["stage"], row["order"]) == place for row in self.state.flow_bindings.values()):
            why = "The fields target, stage, order must make a unique set."
            raise ApiError(400, {"non_field_errors": [why]})
        return self.create(FLOW_BINDING, {"policybindingmodel_ptr_id": new_flow("", "", "", "", "")[
            "policybindingmodel_ptr_id"], **values})  # fmt: skip

    @route("GET", f"{API}/flows/bindings/<pk>/")
    def get_flow_binding(self, request: Request, pk: str) -> Answer:
        """One stage in a flow."""
        return 200, render.flow_binding(self.state, self.find(FLOW_BINDING, pk))

    @route("PUT", f"{API}/flows/bindings/<pk>/")
    @route("PATCH", f"{API}/flows/bindings/<pk>/")
    def update_flow_binding(self, request: Request, pk: str) -> Answer:
        """Some fields of one stage in a flow."""
        row = self.find(FLOW_BINDING, pk)
        return self.update(FLOW_BINDING, row, self.read_body(request, FLOW_BINDING, row))

    @route("DELETE", f"{API}/flows/bindings/<pk>/")
    def delete_flow_binding(self, request: Request, pk: str) -> Answer:
        """Take a stage out of a flow."""
        return self.remove(FLOW_BINDING, self.find(FLOW_BINDING, pk))

    # Providers.

    @route("GET", f"{API}/providers/all/")
    def list_providers(self, request: Request) -> Answer:
        """All kinds, in brief; without ``ordering=pk`` in the order of the last writes, which moves between pages."""
        rows = selected(self.state, "providers", self.state.providers.values(), request.args)
        return self.paged(request, "providers", rows, render.provider_base)

    @route("GET", f"{API}/providers/proxy/")
    def list_proxy(self, request: Request) -> Answer:
        """Filters ``name__iexact`` and ``external_host__iexact``; ``name`` is ignored."""
        return self.listed(request, PROXY)

    @route("POST", f"{API}/providers/proxy/")
    def create_proxy(self, request: Request) -> Answer:
        """The mode is ``proxy`` unless told, which demands internal_host."""
        values = self.proxy_values(json_body(request) or {}, None, partial=False)
        return self.create(PROXY, values)

    def proxy_values(self, body: Any, row: Object | None, partial: bool) -> Object:
        """A proxy provider's fields as a write stores them: default mappings added again, redirect_uris worked out."""
        values = self.read_values(PROXY, body, row, partial)
        if isinstance(body, dict) and body.get("mode", "proxy") == "proxy" and not values.get("internal_host"):
            why = "Internal host cannot be empty when forward auth is disabled."
            raise ApiError(400, {"internal_host": [why]})
        if row is None:
            values = {"kind": "proxy", "client_id": random_text(40), "client_secret": random_text(128), **values}
        mappings: list[str] = values.get("property_mappings") or (row["property_mappings"] if row else [])
        host = str(values.get("external_host", row and row["external_host"]))
        return {
            **values,
            "property_mappings": [*mappings, *(pk for pk in self.state.mappings if pk not in mappings)],
            "redirect_uris": [
                {"matching_mode": "strict", "url": f"{host.rstrip('/')}/outpost.goauthentik.io/callback?{CALLBACK}"},
                {"matching_mode": "strict", "url": f"{host}?{CALLBACK}"},
            ],
        }

    @route("GET", f"{API}/providers/proxy/<int:pk>/")
    def get_proxy(self, request: Request, pk: int) -> Answer:
        """One proxy provider."""
        return 200, render.provider(self.state, self.find(PROXY, pk))

    @route("PUT", f"{API}/providers/proxy/<int:pk>/")
    @route("PATCH", f"{API}/providers/proxy/<int:pk>/")
    def update_proxy(self, request: Request, pk: int) -> Answer:
        """A PATCH must repeat ``mode``; outpost_set, client_id and redirect_uris in it are ignored."""
        row = self.find(PROXY, pk)
        values = self.proxy_values(json_body(request) or {}, row, partial=request.method == "PATCH")
        return self.update(PROXY, row, values)

    @route("DELETE", f"{API}/providers/proxy/<int:pk>/")
    def delete_proxy(self, request: Request, pk: int) -> Answer:
        """Its application stays, with ``provider: null``; outposts lose it."""
        return self._drop_provider(self.find(PROXY, pk))

    @route("GET", f"{API}/providers/proxy/<int:pk>/used_by/")
    def proxy_used_by(self, request: Request, pk: int) -> Answer:
        """The application that would lose it."""
        self.find(PROXY, pk)
        row = self.state.application_of(pk)
        used = {"app": "authentik_core", "model_name": "application", "action": "set_null"}
        return 200, [{**used, "pk": row["pk"], "name": row["name"]}] if row else []

    def _drop_provider(self, row: Object) -> Answer:
        for application in self.state.applications.values():
            if application["provider"] == row["pk"]:
                application["provider"] = None
            others = [pk for pk in application["backchannel_providers"] if pk != row["pk"]]
            application["backchannel_providers"] = others
        for outpost in self.state.outposts.values():
            outpost["providers"] = [pk for pk in outpost["providers"] if pk != row["pk"]]
        del self.state.providers[row["pk"]]
        return 204, None

    @route("GET", f"{API}/providers/oauth2/")
    def list_oauth2(self, request: Request) -> Answer:
        """Filters ``name`` and ``client_id``; every client_secret is in the answer."""
        return self.listed(request, OAUTH2)

    @route("POST", f"{API}/providers/oauth2/")
    def create_oauth2(self, request: Request) -> Answer:
        """client_id and client_secret are made up where they are left out."""
        values = self.read_body(request, OAUTH2)
        body = json_body(request) or {}
        made = {"client_id": random_text(40), "client_secret": random_text(128)}
        filled = {name: value for name, value in made.items() if name not in body}
        return self.create(OAUTH2, {"kind": "oauth2", **values, **filled})

    @route("GET", f"{API}/providers/oauth2/<int:pk>/")
    def get_oauth2(self, request: Request, pk: int) -> Answer:
        """One OAuth2 provider, with its client_secret."""
        return 200, render.provider(self.state, self.find(OAUTH2, pk))

    @route("PUT", f"{API}/providers/oauth2/<int:pk>/")
    @route("PATCH", f"{API}/providers/oauth2/<int:pk>/")
    def update_oauth2(self, request: Request, pk: int) -> Answer:
        """A new secret takes the old one's place at once; an empty one is accepted."""
        row = self.find(OAUTH2, pk)
        return self.update(OAUTH2, row, self.read_body(request, OAUTH2, row))

    @route("DELETE", f"{API}/providers/oauth2/<int:pk>/")
    def delete_oauth2(self, request: Request, pk: int) -> Answer:
        """Its application stays, with ``provider: null``."""
        return self._drop_provider(self.find(OAUTH2, pk))

    # Outposts.

    @route("GET", f"{API}/outposts/instances/")
    def list_outposts(self, request: Request) -> Answer:
        """Filters ``managed__iexact`` and ``name__iexact``; ``name`` is ignored."""
        return self.listed(request, OUTPOST)

    @route("POST", f"{API}/outposts/instances/")
    def create_outpost(self, request: Request) -> Answer:
        """Needs at least one provider."""
        values = self.read_body(request, OUTPOST)
        self._check_providers(values, values["type"], values.get("managed"))
        return self.create(OUTPOST, {**values, "config": {**OUTPOST_CONFIG, **values["config"]}})

    @route("GET", f"{API}/outposts/instances/<pk>/")
    def get_outpost(self, request: Request, pk: str) -> Answer:
        """One outpost."""
        return 200, render.outpost(self.state, self.find(OUTPOST, pk))

    @route("PUT", f"{API}/outposts/instances/<pk>/")
    @route("PATCH", f"{API}/outposts/instances/<pk>/")
    def update_outpost(self, request: Request, pk: str) -> Answer:
        """``providers`` is replaced whole, and If-Match is ignored; a PATCH of it without ``type`` crashes."""
        row = self.find(OUTPOST, pk)
        values = self.read_body(request, OUTPOST, row)
        if "providers" in values:
            if "type" not in values:
                raise server_error(request)
            self._check_providers(values, values["type"], row["managed"])
        return self.update(OUTPOST, row, values)

    @route("DELETE", f"{API}/outposts/instances/<pk>/")
    def delete_outpost(self, request: Request, pk: str) -> Answer:
        """The embedded one can be deleted too."""
        return self.remove(OUTPOST, self.find(OUTPOST, pk))

    def _check_providers(self, values: Object, kind: str, managed: Any) -> None:
        """Only the embedded outpost may have none; a proxy outpost takes only proxy providers."""
        if not values["providers"] and managed != EMBEDDED:
            raise ApiError(400, {"providers": ["This list may not be empty."]})
        wrong = [pk for pk in values["providers"] if self.state.providers[pk]["kind"] != kind]
        if wrong:
            names = ", ".join(self.state.providers[pk]["name"] for pk in wrong)
            raise ApiError(400, {"providers": [f"Outpost type {kind} can't be used with provider {names}."]})
