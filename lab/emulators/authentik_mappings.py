"""Property mappings, certificates and brands: what other objects refer to."""

from __future__ import annotations

from typing import ClassVar

from werkzeug.wrappers import Request

from lab.emulators import authentik_render as render
from lab.emulators.authentik_defaults import furnish
from lab.emulators.authentik_fields import (
    Field,
    boolean,
    defaults,
    expression,
    fields_of,
    key_of,
    list_of,
    mapping,
    text,
)
from lab.emulators.authentik_flows import STAGE
from lab.emulators.authentik_kinds import READ, Kind, Write
from lab.emulators.authentik_lists import selected
from lab.emulators.authentik_models import BRAND_FLOWS, META, meta
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import API
from lab.emulators.authentik_state import Object, State
from lab.emulators.base import Answer, ApiError, route

UNIQUE = (("name", "This field must be unique."), ("managed", "This field must be unique."))
NAMED = {"name": Field(text(blank=False)), "expression": Field(expression)}
MANAGED = {"managed": Field(text(), None, nullable=True), **NAMED}


def mapping_base(state: State, row: Object) -> Object:
    """What all mappings have in common."""
    shown = {name: row.get(name) for name in ("pk", "managed", "name", "expression")}
    return {**shown, **meta(*META[row["kind"]])}


def whole(state: State, row: Object) -> Object:
    """A scope or SAML mapping."""
    return {**render.plain(row), **meta(*META[row["kind"]])}


def webhook_mapping(state: State, row: Object) -> Object:
    """A webhook mapping: it says nothing of its kind."""
    return {name: row[name] for name in ("pk", "name", "expression")}


def prepare_webhook_mapping(server: Objects, write: Write, values: Object) -> Object:
    """Webhook mappings can't be managed."""
    return values if write.row else {"managed": None, **values}


SCOPE = Kind("mappings", "ScopeMapping", {
    **MANAGED, "scope_name": Field(text(blank=False)), "description": Field(text(), ""),
}, whole, UNIQUE, "scope", "/propertymappings/provider/scope/")  # fmt: skip
SAML_MAPPING = Kind("mappings", "SAMLPropertyMapping", {
    **MANAGED, "saml_name": Field(text(blank=False)), "friendly_name": Field(text(), None, nullable=True),
}, whole, UNIQUE, "saml_mapping", "/propertymappings/provider/saml/")  # fmt: skip
NOTIFICATION = Kind(
    "mappings", "NotificationWebhookMapping", NAMED, webhook_mapping, UNIQUE[:1], "notification",
    "/propertymappings/notification/", prepare=prepare_webhook_mapping,
)  # fmt: skip
KEY_TYPE_FROM = (2025, 12)


def certificate(state: State, row: Object) -> Object:
    """A certificate, without its details, which are asked for rarely."""
    kind = "key_type" if state.release >= KEY_TYPE_FROM else "private_key_type"
    url = f"/api/v3/crypto/certificatekeypairs/{row['pk']}/view_"
    return {
        **row, "fingerprint_sha256": None, "fingerprint_sha1": None, "cert_expiry": None, "cert_subject": None,
        "private_key_available": True, kind: "rsa", "certificate_download_url": f"{url}certificate/?download",
        "private_key_download_url": f"{url}private_key/?download",
    }  # fmt: skip


CERTIFICATE = Kind("certificates", "CertificateKeyPair", {}, certificate, path="/crypto/certificatekeypairs/",
                   verbs=READ)  # fmt: skip


def brand(state: State, row: Object) -> Object:
    """A brand; its key has a name of its own."""
    return {"brand_uuid" if name == "pk" else name: value for name, value in row.items()}


def prepare_brand(server: Objects, write: Write, values: Object) -> Object:
    """One brand at most is everybody's."""
    others = [row for row in server.state.brands.values() if row["default"] and row is not write.row]
    if values.get("default") and others:
        raise ApiError(400, {"default": ["Only a single brand can be set as default."]})
    return values


_FLOW = Field(key_of("flows"), None, nullable=True)
BRAND = Kind("brands", "Brand", {
    "domain": Field(text(blank=False)), "default": Field(boolean, False),
    "branding_title": Field(text(), "authentik"),
    "branding_logo": Field(text(), "/static/dist/assets/icons/icon_left_brand.svg"),
    "branding_favicon": Field(text(), "/static/dist/assets/icons/icon.png"),
    "branding_custom_css": Field(text(), "", since=(2025, 2)),
    "branding_default_flow_background": Field(text(), render.BACKGROUND, since=(2025, 2)),
    **{f"flow_{name}": _FLOW for name in BRAND_FLOWS if name != "lockdown"},
    "flow_lockdown": Field(key_of("flows"), None, nullable=True, since=(2026, 5)),
    "default_application": Field(key_of("applications"), None, nullable=True, since=(2024, 12)),
    "web_certificate": Field(key_of("certificates"), None, nullable=True),
    "client_certificates": Field(list_of(key_of("certificates")), [], since=(2025, 6)),
    "attributes": Field(mapping, {}),
}, brand, (("domain", "brand with this domain already exists."),), path="/core/brands/",
    prepare=prepare_brand)  # fmt: skip


class Mappings(Objects):
    """``/propertymappings/``, ``/crypto/certificatekeypairs/`` and ``/core/brands/`` (key ``brand_uuid``).

    Mappings' names are unique over all kinds.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (SCOPE, SAML_MAPPING, NOTIFICATION, CERTIFICATE, BRAND)

    def furnish(self) -> None:
        """Add the brand and the stage that every installation has."""
        release, state = self.state.release, self.state
        brand, stage = (defaults(fields_of(kind.fields, release), state) for kind in (BRAND, STAGE))
        furnish(state, brand, stage)

    @route("GET", f"{API}/propertymappings/all/")
    def list_mappings(self, request: Request) -> Answer:
        """All kinds, in brief."""
        rows = selected(self.state, "mappings", self.state.mappings.values(), request.args)
        return self.paged(request, "mappings", rows, mapping_base)
