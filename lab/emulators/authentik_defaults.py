"""What a fresh authentik comes with: flows, a stage, mappings, a certificate, a brand, the admin, an outpost."""

from __future__ import annotations

import uuid

from lab.emulators.authentik_state import EMBEDDED, Object, State, new_flow, new_group, new_user

EMBEDDED_NAME = "authentik Embedded Outpost"
ADMINS = "authentik Admins"
FIRST_USERS = 6
"""The number of the first user that is made: the server's own accounts took the ones before."""

# slug, name, title, designation, authentication
DEFAULT_FLOWS = (
    ("default-authentication-flow", "Welcome to authentik!", "Welcome to authentik!", "authentication", "none"),
    ("default-invalidation-flow", "Logout", "Default Invalidation Flow", "invalidation", "none"),
    ("default-provider-authorization-explicit-consent", "Authorize Application", "Redirecting to %(app)s",
     "authorization", "require_authenticated"),
    ("default-provider-authorization-implicit-consent", "Authorize Application", "Redirecting to %(app)s",
     "authorization", "require_authenticated"),
    ("default-provider-invalidation-flow", "Logged out of application", "You've logged out of %(app)s.",
     "invalidation", "none"),
)  # fmt: skip
MFA_STAGE = "default-authentication-mfa-validation"

PROXY_SCOPE = "goauthentik.io/providers/proxy/scope-proxy"
OAUTH2_SCOPES = "goauthentik.io/providers/oauth2/scope-"
REWORK = (2024, 12)
"""The release that brought invalidation flows of providers, and entitlements."""
PROVIDER_INVALIDATION = "default-provider-invalidation-flow"

# managed, name, scope
SCOPES = (
    (f"{OAUTH2_SCOPES}openid", "authentik default OAuth Mapping: OpenID 'openid'", "openid"),
    (f"{OAUTH2_SCOPES}email", "authentik default OAuth Mapping: OpenID 'email'", "email"),
    (f"{OAUTH2_SCOPES}profile", "authentik default OAuth Mapping: OpenID 'profile'", "profile"),
    (f"{OAUTH2_SCOPES}offline_access", "authentik default OAuth Mapping: OpenID 'offline_access'", "offline_access"),
    (f"{OAUTH2_SCOPES}authentik_api", "authentik default OAuth Mapping: authentik API access", "goauthentik.io/api"),
    (f"{OAUTH2_SCOPES}entitlements", "authentik default OAuth Mapping: Application Entitlements", "entitlements"),
    (PROXY_SCOPE, "authentik default OAuth Mapping: Proxy outpost", "ak_proxy"),
)
PROXY_SCOPES = frozenset({PROXY_SCOPE, *(OAUTH2_SCOPES + n for n in ("openid", "email", "profile", "entitlements"))})
"""The mappings that every write of a proxy provider adds again."""

# managed mark's end, name's end, SAML name
SAML_MAPPINGS = (
    ("upn", "UPN", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"),
    ("name", "Name", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"),
    ("email", "Email", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress"),
    ("username", "Username", "http://schemas.goauthentik.io/2021/02/saml/username"),
    ("uid", "User ID", "http://schemas.goauthentik.io/2021/02/saml/uid"),
    ("groups", "Groups", "http://schemas.xmlsoap.org/claims/Group"),
    ("ms-windowsaccountname", "WindowsAccountname (Username)",
     "http://schemas.microsoft.com/ws/2008/06/identity/claims/windowsaccountname"),
)  # fmt: skip

OUTPOST_CONFIG: Object = {
    "log_level": "info", "docker_labels": None, "authentik_host": "", "docker_network": None, "container_image": None,
    "docker_map_ports": True, "refresh_interval": "minutes=5", "kubernetes_replicas": 1,
    "kubernetes_namespace": "default", "authentik_host_browser": "", "object_naming_template": "ak-outpost-%(name)s",
    "authentik_host_insecure": False, "kubernetes_json_patches": None, "kubernetes_service_type": "ClusterIP",
    "kubernetes_ingress_path_type": None, "kubernetes_image_pull_secrets": [], "kubernetes_ingress_class_name": None,
    "kubernetes_disabled_components": [], "kubernetes_ingress_annotations": {},
    "kubernetes_ingress_secret_name": "authentik-outpost-tls", "kubernetes_httproute_annotations": {},
    "kubernetes_httproute_parent_refs": [],
}  # fmt: skip


def fresh(version: str) -> State:
    """A new installation."""
    state = State(version, next_number={"users": 3})
    for flow in DEFAULT_FLOWS:
        if flow[0] == PROVIDER_INVALIDATION and state.release < REWORK:
            continue
        state.add("flows", new_flow(*flow))
    _mappings(state)
    admin = state.add("users", new_user("akadmin", "authentik Default Admin", "admin@example.test"))
    state.next_number["users"] = FIRST_USERS
    state.add("groups", {**new_group(ADMINS, superuser=True), "users": [admin["pk"]]})
    state.add("groups", new_group("authentik Read-only"))
    state.add("outposts", {"name": EMBEDDED_NAME, "type": "proxy", "providers": [], "service_connection": None,
                           "config": dict(OUTPOST_CONFIG), "managed": EMBEDDED})  # fmt: skip
    state.add("certificates", {"name": "authentik Self-signed Certificate", "managed": None})
    return state


def _mappings(state: State) -> None:
    for managed, name, scope in SCOPES:
        if scope == "entitlements" and state.release < REWORK:
            continue
        state.add("mappings", {"kind": "scope", "managed": managed, "name": name, "scope_name": scope,
                               "description": "", "expression": "return {}"})  # fmt: skip
    for end, name, saml in SAML_MAPPINGS:
        state.add("mappings", {
            "kind": "saml_mapping", "managed": f"goauthentik.io/providers/saml/{end}",
            "name": f"authentik default SAML Mapping: {name}", "saml_name": saml, "friendly_name": None,
            "expression": "return request.user.username",
        })  # fmt: skip


def furnish(state: State, brand: Object, stage: Object) -> None:
    """Add what has a kind's own default fields: the brand of every domain, and the second factor of the login."""
    flows = {flow["slug"]: flow["pk"] for flow in state.flows.values()}
    state.add("brands", {**brand, "domain": "authentik-default", "default": True,
                         "flow_authentication": flows["default-authentication-flow"],
                         "flow_invalidation": flows["default-invalidation-flow"]})  # fmt: skip
    made = state.add("stages", {**stage, "name": MFA_STAGE, "not_configured_action": "skip"})
    state.add("flow_bindings", {
        "policybindingmodel_ptr_id": str(uuid.uuid4()), "target": flows["default-authentication-flow"],
        "stage": made["pk"], "order": 30, "evaluate_on_plan": False, "re_evaluate_policies": True,
        "policy_engine_mode": "any", "invalid_response_action": "retry",
    })  # fmt: skip
