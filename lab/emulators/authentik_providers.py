"""Proxy, OAuth2 and SAML providers, and the list of all of them."""

from __future__ import annotations

from typing import Any, ClassVar

from werkzeug.wrappers import Request

from lab.emulators import authentik_render as render
from lab.emulators.authentik_defaults import PROXY_SCOPES
from lab.emulators.authentik_fields import (
    Field,
    any_uuid,
    boolean,
    choice,
    duration,
    key_of,
    list_of,
    redirect_uri,
    text,
    url,
)
from lab.emulators.authentik_kinds import Kind, Write
from lab.emulators.authentik_lists import selected
from lab.emulators.authentik_models import used_by
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import API
from lab.emulators.authentik_state import Object, State, random_text
from lab.emulators.base import Answer, ApiError, route

CALLBACK = "X-authentik-auth-callback=true"
UNIQUE = (("name", "provider with this name already exists."),)
REWORK = (2024, 12)
"""The release that requires an invalidation flow, lists redirect URIs, and renamed jwks_sources."""
TEXT = Field(text(), "")
CERTIFICATE = Field(key_of("certificates"), None, nullable=True)
MAPPING = Field(key_of("mappings"), None, nullable=True)

COMMON = {
    "name": Field(text(blank=False)), "authentication_flow": Field(key_of("flows"), None, nullable=True),
    "authorization_flow": Field(key_of("flows")), "invalidation_flow": Field(key_of("flows"), since=REWORK),
    "property_mappings": Field(list_of(key_of("mappings")), []),
}  # fmt: skip
OAUTH = {
    "jwks_sources": Field(list_of(any_uuid), [], until=REWORK),
    "jwt_federation_sources": Field(list_of(any_uuid), [], since=REWORK),
    "jwt_federation_providers": Field(list_of(key_of("providers")), [], since=REWORK),
    "access_token_validity": Field(duration, "hours=1"), "refresh_token_validity": Field(duration, "days=30"),
}  # fmt: skip


def prepare_proxy(server: Objects, write: Write, values: Object) -> Object:
    """The mode is ``proxy`` unless told, which demands internal_host: a PATCH must repeat ``mode``.

    Default mappings are added again by every write; redirect_uris is worked out; outpost_set, client_id and
    redirect_uris in a body are ignored.
    """
    body, row = write.body, write.row
    if isinstance(body, dict) and body.get("mode", "proxy") == "proxy" and not values.get("internal_host"):
        why = "Internal host cannot be empty when forward auth is disabled."
        raise ApiError(400, {"internal_host": [why]})
    if row is None:
        values = {"client_id": random_text(40), "client_secret": random_text(128), **values}
    kept: list[str] = values.get("property_mappings") or (row["property_mappings"] if row else [])
    own = [pk for pk, mapping in server.state.mappings.items() if mapping["managed"] in PROXY_SCOPES]
    host = str(values.get("external_host", row and row["external_host"]))
    return {
        **values,
        "property_mappings": [*kept, *(pk for pk in own if pk not in kept)],
        "redirect_uris": _redirects(server.state, host),
    }


def _redirects(state: State, host: str) -> Any:
    urls = [f"{host.rstrip('/')}/outpost.goauthentik.io/callback?{CALLBACK}", f"{host}?{CALLBACK}"]
    if state.release < REWORK:
        return "\n".join(urls)
    return [redirect_uri({"matching_mode": "strict", "url": found}, state) for found in urls]


PROXY = Kind("providers", "ProxyProvider", {
    **COMMON, **OAUTH, "internal_host": Field(url(), ""), "external_host": Field(url(blank=False)),
    "internal_host_ssl_validation": Field(boolean, True), "certificate": CERTIFICATE,
    "skip_path_regex": TEXT, "basic_auth_enabled": Field(boolean, False),
    "basic_auth_password_attribute": TEXT, "basic_auth_user_attribute": TEXT,
    "mode": Field(choice("proxy", "forward_single", "forward_domain"), "proxy"),
    "intercept_header_auth": Field(boolean, True), "cookie_domain": TEXT,
}, render.provider, UNIQUE, "proxy", "/providers/proxy/", prepare=prepare_proxy)  # fmt: skip


def prepare_oauth2(server: Objects, write: Write, values: Object) -> Object:
    """client_id and client_secret are made up where a create leaves them out.

    A new secret takes the old one's place at once; an empty one is accepted.
    """
    if write.row is not None:
        return values
    made = {"client_id": random_text(40), "client_secret": random_text(128)}
    return {**values, **{name: value for name, value in made.items() if name not in write.body}}


GRANTS = ("authorization_code", "implicit", "hybrid", "refresh_token", "client_credentials", "password",
          "urn:ietf:params:oauth:grant-type:device_code")  # fmt: skip
OAUTH2 = Kind("providers", "OAuth2Provider", {
    **COMMON, **OAUTH, "client_type": Field(choice("confidential", "public"), "confidential"),
    "grant_types": Field(list_of(choice(*GRANTS)), list(GRANTS), since=(2026, 5)),
    "client_id": Field(text(blank=False, most=255), ""), "client_secret": Field(text(most=255), ""),
    "access_code_validity": Field(duration, "minutes=1"),
    "refresh_token_threshold": Field(duration, "seconds=0", since=(2025, 8)),
    "include_claims_in_id_token": Field(boolean, True), "signing_key": CERTIFICATE,
    "encryption_key": Field(key_of("certificates"), None, nullable=True, since=(2024, 10)),
    "redirect_uris": Field(list_of(redirect_uri, nested=True), since=REWORK, before=TEXT),
    "logout_uri": Field(url(), "", since=(2025, 10)),
    "logout_method": Field(choice("backchannel", "frontchannel"), "backchannel", since=(2025, 10)),
    "sub_mode": Field(choice("hashed_user_id", "user_id", "user_uuid", "user_username", "user_email", "user_upn"),
                      "hashed_user_id"),
    "issuer_mode": Field(choice("global", "per_provider"), "per_provider"),
}, render.provider, (*UNIQUE, ("client_id", "oauth2 provider with this client_id already exists.")),
    "oauth2", "/providers/oauth2/", prepare=prepare_oauth2)  # fmt: skip

FORMATS = "urn:oasis:names:tc:SAML:"
SIGNATURE = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
LOGOUT = (2025, 10)
BINDINGS = choice("redirect", "post")
SAML = Kind("providers", "SAMLProvider", {
    **COMMON, "acs_url": Field(url(blank=False)), "audience": TEXT,
    "issuer": Field(text(), "authentik", until=(2026, 5)), "issuer_override": Field(text(), "", since=(2026, 5)),
    "sls_url": Field(url(), "", since=LOGOUT), "sls_binding": Field(BINDINGS, "redirect", since=LOGOUT),
    "logout_method": Field(choice("frontchannel_iframe", "frontchannel_native", "backchannel"), "frontchannel_iframe",
                           since=LOGOUT),
    "sign_logout_request": Field(boolean, False, since=LOGOUT),
    "sign_logout_response": Field(boolean, False, since=(2026, 2)),
    "assertion_valid_not_before": Field(duration, "minutes=-5"),
    "assertion_valid_not_on_or_after": Field(duration, "minutes=5"),
    "session_valid_not_on_or_after": Field(duration, "minutes=86400"), "name_id_mapping": MAPPING,
    "authn_context_class_ref_mapping": Field(key_of("mappings"), None, nullable=True, since=(2025, 2)),
    "digest_algorithm": Field(text(blank=False), "http://www.w3.org/2001/04/xmlenc#sha256"),
    "signature_algorithm": Field(text(blank=False), SIGNATURE),
    "signing_kp": CERTIFICATE, "verification_kp": CERTIFICATE,
    "encryption_kp": Field(key_of("certificates"), None, nullable=True, since=REWORK),
    "sign_assertion": Field(boolean, True, since=REWORK), "sign_response": Field(boolean, False, since=REWORK),
    "sp_binding": Field(BINDINGS, "redirect"), "default_relay_state": TEXT,
    "default_name_id_policy": Field(text(blank=False), f"{FORMATS}1.1:nameid-format:unspecified", since=LOGOUT),
}, render.provider, UNIQUE, "saml", "/providers/saml/")  # fmt: skip

ANY = Kind("providers", "Provider", {}, render.provider_base)
BY_MODEL = {
    "authentik_providers_proxy.proxyprovider": PROXY, "authentik_providers_oauth2.oauth2provider": OAUTH2,
    "authentik_providers_saml.samlprovider": SAML,
}  # fmt: skip
"""What a transaction may create, by its ``provider_model``."""


class Providers(Objects):
    """``/providers/all/``, ``/providers/proxy/``, ``/providers/oauth2/``, ``/providers/saml/``.

    Names are unique over all kinds. ``name`` filters OAuth2 and SAML providers, and is ignored by the other two lists.
    A deleted provider leaves its application, with ``provider: null``, and leaves the outposts. Every answer about an
    OAuth2 provider has its client_secret.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (PROXY, OAUTH2, SAML)

    @route("GET", f"{API}/providers/all/")
    def list_providers(self, request: Request) -> Answer:
        """All kinds, in brief; without ``ordering=pk`` in the order of the last writes, which moves between pages."""
        rows = selected(self.state, "providers", self.state.providers.values(), request.args)
        return self.paged(request, "providers", rows, render.provider_base)

    @route("GET", f"{API}/providers/all/<int:key>/")
    def get_provider(self, request: Request, key: int) -> Answer:
        """One provider of any kind, in brief."""
        return 200, render.provider_base(self.state, self.find(ANY, key))

    @route("DELETE", f"{API}/providers/all/<int:key>/")
    def delete_provider(self, request: Request, key: int) -> Answer:
        """As by its own kind's path."""
        return self.remove("providers", self.find(ANY, key))

    @route("GET", f"{API}/providers/all/<int:key>/used_by/")
    def provider_used_by(self, request: Request, key: int) -> Answer:
        """The application that would lose it, and the outposts."""
        return 200, used_by(self.state, "providers", self.find(ANY, key))
