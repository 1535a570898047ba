"""How authentik's API shows its objects: the stored fields and everything that the server computes around them."""

from __future__ import annotations

from typing import Any

from lab.emulators.authentik_access import groups_of
from lab.emulators.authentik_models import META, meta
from lab.emulators.authentik_state import Object, Release, State

BACKGROUND = "/static/dist/assets/images/flow_background.jpg"
AVATAR = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="
PARENTS_FROM = (2025, 12)
"""The release from which a group has ``parents`` instead of ``parent``."""

GENERIC_PROVIDER = ("", "provider", "providers", "authentik_core.provider")
PROVIDER_FIELDS = ("pk", "name", "authentication_flow", "authorization_flow", "invalidation_flow", "property_mappings")
MEMBER_FIELDS = ("pk", "username", "name", "is_active", "last_login", "email", "attributes", "uid")
SINCE: dict[str, Release] = {
    "date_joined": (2025, 2), "password_change_date": (2025, 2), "last_updated": (2025, 8), "children": (2025, 8),
    "children_obj": (2025, 8), "refresh_interval_s": (2025, 2), "webauthn_allowed_device_types_obj": (2024, 6),
}  # fmt: skip
"""Computed fields that older releases don't show."""


def as_of(state: State, shown: Object) -> Object:
    """``shown`` without the fields that the release doesn't have yet."""
    return {name: value for name, value in shown.items() if SINCE.get(name, (0, 0)) <= state.release}


def provider_base(state: State, row: Object, generic: bool = False) -> Object:
    """What all providers have in common; ``generic`` is how an outpost shows them, without their kind."""
    application = state.application_of(row["pk"])
    return {
        **{name: row[name] for name in PROVIDER_FIELDS if name in row},
        **meta(*(GENERIC_PROVIDER if generic else META[row["kind"]])),
        "assigned_application_slug": application and application["slug"],
        "assigned_application_name": application and application["name"],
        "assigned_backchannel_application_slug": None,
        "assigned_backchannel_application_name": None,
    }


def provider(state: State, row: Object) -> Object:
    """A whole provider. An OAuth2 provider's client_secret is in every answer; a proxy provider's in none."""
    hidden = {"kind"} | ({"client_secret"} if row["kind"] == "proxy" else set())
    shown = {**provider_base(state, row), **{key: value for key, value in row.items() if key not in hidden}}
    if row["kind"] == "proxy":
        shown["outpost_set"] = [f"Outpost {o['name']}" for o in state.outposts.values() if row["pk"] in o["providers"]]
    if row["kind"] == "saml":
        shown |= _saml_urls(state, row)
    return shown


SAML_URLS = {"download_metadata": "metadata/?download", "sso_post": "sso/binding/post/",
             "sso_redirect": "sso/binding/redirect/", "sso_init": "sso/binding/init/", "slo_post": "slo/binding/post/",
             "slo_redirect": "slo/binding/redirect/"}  # fmt: skip
SAML_URLS_FROM_2026_5 = {"issuer": "metadata/", "unified": "", "unified_init": "init/"}


def _saml_urls(state: State, row: Object) -> Object:
    """Where the provider's endpoints are; "-" while no application uses it."""
    urls = {**SAML_URLS, **(SAML_URLS_FROM_2026_5 if state.release >= (2026, 5) else {})}
    used = state.application_of(row["pk"])
    return {f"url_{name}": f"/application/saml/{used['slug']}/{end}" if used else "-" for name, end in urls.items()}


def application(state: State, row: Object) -> Object:
    """An application with its provider."""
    its = state.providers.get(row["provider"]) if row["provider"] is not None else None
    launch = row["meta_launch_url"] or (its["external_host"] if its and its["kind"] == "proxy" else None)
    shown = {
        **row,
        "provider_obj": provider_base(state, its) if its else None,
        "backchannel_providers_obj": [provider_base(state, state.providers[p]) for p in row["backchannel_providers"]],
        "launch_url": launch,
        "meta_icon": None,
    }
    if state.release >= PARENTS_FROM:
        shown |= {"meta_icon": "", "meta_icon_url": None, "meta_icon_themed_urls": None}
    return shown


def _member(row: Object) -> Object:
    return {name: row[name] for name in MEMBER_FIELDS}


def _group_core(row: Object) -> Object:
    return {name: row[name] for name in ("pk", "num_pk", "name", "is_superuser", "attributes")}


def group_brief(state: State, row: Object) -> Object:
    """A group inside a binding or a user."""
    if state.release >= PARENTS_FROM:
        return _group_core(row)
    parent = state.groups.get(row["parent"])
    return {**_group_core(row), "parent": row["parent"], "parent_name": parent and parent["name"]}


def group(state: State, row: Object, users: bool = True) -> Object:
    """A whole group; ``parent`` up to 2025.10, ``parents`` from 2025.12."""
    shown = {
        **group_brief(state, row),
        "users": list(row["users"]),
        "users_obj": [_member(state.users[u]) for u in row["users"]] if users else None,
        "roles": list(row["roles"]),
        "roles_obj": [],
        "children": [g["pk"] for g in state.groups.values() if row["pk"] in (g["parent"], *g["parents"])],
        "children_obj": None,
    }
    if state.release >= PARENTS_FROM:
        shown |= {"parents": list(row["parents"]), "parents_obj": None, "inherited_roles_obj": None}
    return as_of(state, shown)


def user(state: State, row: Object) -> Object:
    """A whole user; its password never shows."""
    mine = [g for g in state.groups.values() if row["pk"] in g["users"]]
    shown = {
        **row,
        "is_superuser": any(g["is_superuser"] for g in groups_of(state, row["pk"])),
        "groups": [g["pk"] for g in mine],
        "groups_obj": [group_brief(state, g) for g in mine],
        "avatar": AVATAR,
    }
    if state.release >= PARENTS_FROM:
        shown |= {"roles": [], "roles_obj": []}
    return as_of(state, shown)


def policy_base(state: State, row: Object) -> Object:
    """What all policies have in common."""
    bound = sum(1 for binding in state.bindings.values() if binding["policy"] == row["pk"])
    shown = {name: row[name] for name in ("pk", "name", "execution_logging")}
    return {**shown, **meta(*META[row["kind"]]), "bound_to": bound}


def policy(state: State, row: Object) -> Object:
    """A whole policy."""
    return {**plain(row), **policy_base(state, row)}


def plain(row: Object) -> Object:
    """A row without the mark that tells it from the others of its table."""
    return {name: value for name, value in row.items() if name != "kind"}


def binding(state: State, row: Object) -> Object:
    """A binding with what it binds."""
    bound_policy, bound_group, bound_user = row["policy"], row["group"], row["user"]
    return {
        **row,
        "policy_obj": policy(state, state.policies[bound_policy]) if bound_policy else None,
        "group_obj": group_brief(state, state.groups[bound_group]) if bound_group else None,
        "user_obj": _member(state.users[bound_user]) if bound_user else None,
    }


def outpost(state: State, row: Object) -> Object:
    """An outpost; its providers show without their kind."""
    shown = {
        **row,
        "providers_obj": [provider_base(state, state.providers[p], generic=True) for p in row["providers"]],
        "service_connection_obj": None,
        "refresh_interval_s": 300,
        "token_identifier": f"ak-outpost-{row['pk']}-api",
    }
    return as_of(state, shown)


def flow_brief(state: State, row: Object) -> Object:
    """A flow as a stage shows it: without the lists that hang from it."""
    shown = {**row, "export_url": f"/api/v3/flows/instances/{row['slug']}/export/"}
    del shown["authentication"]
    return {**shown, "background_url" if state.release >= PARENTS_FROM else "background": BACKGROUND}


def flow(state: State, row: Object) -> Object:
    """A whole flow."""
    bound = [b for b in state.flow_bindings.values() if b["target"] == row["pk"]]
    shown = {
        **flow_brief(state, row),
        "authentication": row["authentication"],
        "background": BACKGROUND,
        "stages": [b["stage"] for b in sorted(bound, key=lambda b: int(b["order"]))],
        "policies": [],
        "cache_count": 0,
    }
    if state.release >= PARENTS_FROM:
        shown |= {"background": "", "background_themed_urls": None}
    return shown


def _flows_with(state: State, stage_pk: Any) -> list[Object]:
    with_it = {b["target"] for b in state.flow_bindings.values() if b["stage"] == stage_pk}
    return [flow_brief(state, state.flows[pk]) for pk in with_it]


def stage(state: State, row: Object) -> Object:
    """An authenticator validation stage."""
    flows = _flows_with(state, row["pk"])
    shown = {**row, **meta(*META["stages"]), "flow_set": flows, "webauthn_allowed_device_types_obj": []}
    return as_of(state, shown)


def flow_binding(state: State, row: Object) -> Object:
    """A stage in a flow; the stage shows without its kind."""
    bound = state.stages[row["stage"]]
    brief = {"pk": bound["pk"], "name": bound["name"], **meta("", "stage", "stages", "authentik_flows.stage")}
    return {**row, "stage_obj": {**brief, "flow_set": _flows_with(state, bound["pk"])}}
