"""authentik's data model in tables: what each kind is called, and what happens to whom when something is deleted.

``REFERENCES`` drives both ``used_by`` and the deletions themselves, as Django's ``on_delete`` drives the server's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from lab.emulators.authentik_state import Object, State

# kind (or table): component, verbose name, plural, app_label.model_name
META: dict[str, tuple[str, str, str, str]] = {
    "proxy": ("ak-provider-proxy-form", "Proxy Provider", "Proxy Providers", "authentik_providers_proxy.proxyprovider"),
    "oauth2": ("ak-provider-oauth2-form", "OAuth2/OpenID Provider", "OAuth2/OpenID Providers",
               "authentik_providers_oauth2.oauth2provider"),
    "saml": ("ak-provider-saml-form", "SAML Provider", "SAML Providers", "authentik_providers_saml.samlprovider"),
    "expression": ("ak-policy-expression-form", "Expression Policy", "Expression Policies",
                   "authentik_policies_expression.expressionpolicy"),
    "event_matcher": ("ak-policy-event-matcher-form", "Event Matcher Policy", "Event Matcher Policies",
                      "authentik_policies_event_matcher.eventmatcherpolicy"),
    "scope": ("ak-property-mapping-provider-scope-form", "Scope Mapping", "Scope Mappings",
              "authentik_providers_oauth2.scopemapping"),
    "saml_mapping": ("ak-property-mapping-provider-saml-form", "SAML Provider Property Mapping",
                     "SAML Provider Property Mappings", "authentik_providers_saml.samlpropertymapping"),
    "notification": ("ak-property-mapping-notification-form", "Webhook Mapping", "Webhook Mappings",
                     "authentik_events.notificationwebhookmapping"),
    "stages": ("ak-stage-authenticator-validate-form", "Authenticator Validation Stage",
               "Authenticator Validation Stages", "authentik_stages_authenticator_validate.authenticatorvalidatestage"),
}  # fmt: skip

MODELS: dict[str, str] = {
    **{kind: meta[3] for kind, meta in META.items()},
    "groups": "authentik_core.group", "users": "authentik_core.user", "tokens": "authentik_core.token",
    "applications": "authentik_core.application", "bindings": "authentik_policies.policybinding",
    "flows": "authentik_flows.flow", "flow_bindings": "authentik_flows.flowstagebinding",
    "outposts": "authentik_outposts.outpost", "brands": "authentik_brands.brand",
    "certificates": "authentik_crypto.certificatekeypair", "transports": "authentik_events.notificationtransport",
    "rules": "authentik_events.notificationrule",
}  # fmt: skip


def meta(component: str, name: str, plural: str, model: str) -> Object:
    """The four fields by which the API tells one kind of object from its siblings."""
    return {"component": component, "verbose_name": name, "verbose_name_plural": plural, "meta_model_name": model}


def model_of(table: str, row: Object) -> tuple[str, str]:
    """App label and model name: ("authentik_core", "group")."""
    app, _, name = MODELS[row.get("kind", table)].partition(".")
    return app, name


@dataclasses.dataclass(frozen=True)
class Reference:
    """A field that holds another object's key, and what becomes of its owner when that object goes.

    action: "cascade" deletes the owner, "set_null" empties the field, "cascade_many" takes the key out of the list
    key: the field of the object that is referred to
    hidden: not shown by ``used_by``
    """

    table: str
    field: str
    action: str = "cascade"
    key: str = "pk"
    hidden: bool = False


PTR = "policybindingmodel_ptr_id"
BRAND_FLOWS = ("authentication", "invalidation", "recovery", "unenrollment", "user_settings", "device_code", "lockdown")
_NULL, _MANY = "set_null", "cascade_many"

REFERENCES: dict[str, tuple[Reference, ...]] = {
    "applications": (Reference("bindings", "target"), Reference("brands", "default_application", _NULL)),
    "groups": (
        Reference("bindings", "group"), Reference("groups", "parent", _NULL),
        Reference("groups", "parents", _MANY, hidden=True),
        Reference("rules", "group", _NULL), Reference("rules", "destination_group", _NULL),
    ),
    "users": (
        Reference("bindings", "user"), Reference("tokens", "user"), Reference("groups", "users", _MANY, hidden=True),
    ),
    "policies": (Reference("bindings", "policy"),),
    "providers": (
        Reference("applications", "provider", _NULL), Reference("applications", "backchannel_providers", _MANY),
        Reference("outposts", "providers", _MANY), Reference("providers", "jwt_federation_providers", _MANY),
    ),
    "flows": (
        Reference("providers", "authorization_flow"), Reference("providers", "invalidation_flow"),
        Reference("providers", "authentication_flow", _NULL), Reference("flow_bindings", "target"),
        Reference("bindings", "target", key=PTR),
        *(Reference("brands", f"flow_{name}", _NULL) for name in BRAND_FLOWS),
    ),
    "flow_bindings": (Reference("bindings", "target", key=PTR),),
    "stages": (Reference("flow_bindings", "stage"), Reference("stages", "configuration_stages", _MANY)),
    "mappings": (
        Reference("providers", "property_mappings", _MANY), Reference("providers", "name_id_mapping", _NULL),
        Reference("providers", "authn_context_class_ref_mapping", _NULL),
        *(Reference("transports", f"webhook_mapping{end}", _NULL) for end in ("", "_body", "_headers")),
    ),
    "certificates": (
        *(Reference("providers", f, _NULL) for f in ("certificate", "signing_key", "encryption_key", "signing_kp",
                                                     "verification_kp", "encryption_kp")),
        Reference("brands", "web_certificate", _NULL), Reference("brands", "client_certificates", _MANY),
    ),
    "transports": (Reference("rules", "transports", _MANY),),
    "rules": (Reference("bindings", "target"),),
}  # fmt: skip


def _users_of(state: State, table: str, row: Object) -> Iterator[tuple[Reference, Object]]:
    for reference in REFERENCES.get(table, ()):
        key = row[reference.key]
        for owner in list(state.table(reference.table).values()):
            held = owner.get(reference.field)
            if key in held if isinstance(held, list) else held == key:
                yield reference, owner


def used_by(state: State, table: str, row: Object) -> list[Object]:
    """What refers to an object, and what would become of it."""
    found = []
    for reference, owner in _users_of(state, table, row):
        if not reference.hidden:
            app, model = model_of(reference.table, owner)
            found.append({"app": app, "model_name": model, "pk": str(owner["pk"]),
                          "name": name_of(state, reference.table, owner), "action": reference.action})  # fmt: skip
    return found


def drop(state: State, table: str, row: Object, note: Callable[[str, Object], None]) -> None:
    """Delete an object and what cascades, calling ``note`` with (table, row) of each right before it goes."""
    for reference, owner in _users_of(state, table, row):
        if reference.action == "cascade":
            if owner["pk"] in state.table(reference.table):  # not gone already by another reference
                drop(state, reference.table, owner, note)
        elif reference.action == "set_null":
            owner[reference.field] = None
        else:
            owner[reference.field] = [key for key in owner[reference.field] if key != row[reference.key]]
    note(table, row)
    del state.table(table)[row["pk"]]
    if table == "users":
        state.passwords.pop(row["pk"], None)
        state.rights.pop(row["pk"], None)


def name_of(state: State, table: str, row: Object) -> str:
    """An object as authentik's messages call it."""
    if table == "bindings":
        return f"Binding from {_target(state, row['target'])} #{row['order']} to {_bound(state, row)}"
    if table == "flow_bindings":
        return f"Flow-stage binding #{row['order']} to {row['target']}"
    prefix = {"outposts": "Outpost ", "rules": "Notification Rule ", "transports": "Notification Transport "}
    field = {"users": "username", "brands": "domain", "tokens": "identifier"}.get(table, "name")
    return f"{prefix.get(table, '')}{row[field]}"


def _target(state: State, key: Any) -> str:
    for table, field in (("applications", "pk"), ("rules", "pk"), ("flows", PTR), ("flow_bindings", PTR)):
        for row in state.table(table).values():
            if row[field] == key:
                return name_of(state, table, row)
    return str(key)


def _bound(state: State, row: Object) -> str:
    for what, table in (("group", "groups"), ("user", "users"), ("policy", "policies")):
        if row[what] is not None:
            return f"{what.capitalize()} {name_of(state, table, state.table(table)[row[what]])}"
    return ""
