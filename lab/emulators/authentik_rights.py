"""Which right a call needs: Django's permissions, one for each verb and model."""

from __future__ import annotations

VERBS = {"GET": "view", "HEAD": "view", "OPTIONS": "view", "POST": "add", "PUT": "change", "PATCH": "change",
         "DELETE": "delete"}  # fmt: skip

# Path of a kind's endpoints: the model that its permissions name.
MODELS = {
    "/core/applications/": "application", "/core/groups/": "group", "/core/users/": "user", "/core/tokens/": "token",
    "/core/brands/": "brand", "/providers/all/": "provider", "/providers/proxy/": "proxyprovider",
    "/providers/oauth2/": "oauth2provider", "/providers/saml/": "samlprovider", "/policies/all/": "policy",
    "/policies/expression/": "expressionpolicy", "/policies/event_matcher/": "eventmatcherpolicy",
    "/policies/bindings/": "policybinding", "/flows/instances/": "flow", "/flows/bindings/": "flowstagebinding",
    "/stages/all/": "stage", "/stages/authenticator/validate/": "authenticatorvalidatestage",
    "/outposts/instances/": "outpost", "/propertymappings/all/": "propertymapping",
    "/propertymappings/provider/scope/": "scopemapping", "/propertymappings/scope/": "scopemapping",
    "/propertymappings/provider/saml/": "samlpropertymapping", "/propertymappings/saml/": "samlpropertymapping",
    "/propertymappings/notification/": "notificationwebhookmapping",
    "/crypto/certificatekeypairs/": "certificatekeypair", "/events/events/": "event",
    "/events/transports/": "notificationtransport", "/events/rules/": "notificationrule",
}  # fmt: skip

# What follows an object's path, where it isn't judged by its method alone.
ACTIONS = {"test": "view", "set_password": "change"}

# Some have a right of their own.
OWN = {"add_user": "add_user_to_group", "remove_user": "remove_user_from_group", "view_key": "view_token_key",
       "set_key": "set_token_key"}  # fmt: skip

_ALL = ("view", "add", "change", "delete")
DEFAULT_RIGHTS = frozenset(
    [f"{verb}_{model}" for verb in _ALL
     for model in ("application", "proxyprovider", "oauth2provider", "group", "policybinding", "expressionpolicy")]
    + ["view_outpost", "change_outpost"]
    + [f"view_{model}" for model in ("flow", "provider", "scopemapping", "propertymapping", "certificatekeypair",
                                     "policy", "event")]
)  # fmt: skip
"""What the role of the facts had, which sufficed for forward auth and OAuth2."""


def needed(method: str, path: str) -> list[str]:
    """The rights that a call needs, such as ["add_group"]; none where any valid token will do."""
    if path == "/core/transactional/applications/":
        return ["add_application"]
    if path == "/core/users/service_account/":
        return ["add_user", "add_token"]
    if path == "/core/users/me/":
        return []
    last = path.rstrip("/").rpartition("/")[2]
    if last in OWN:
        return [OWN[last]]
    for prefix, model in MODELS.items():
        if path.startswith(prefix):
            return [f"{ACTIONS.get(last, VERBS.get(method, 'view'))}_{model}"]
    return []
