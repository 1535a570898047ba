"""What the backend asks of authentik for what a pillar wants, as global permissions of a role.

https://docs.goauthentik.io/users-sources/access-control/permissions/; which model is behind a path stands in the
client's own table, and which path is behind a kind in the backend's.
"""

from __future__ import annotations

from collections.abc import Iterator

from hecate.backends.authentik import CERTIFICATES, SIGNING
from hecate.backends.authentik_kinds import BINDINGS, FLOW_BINDINGS, KINDS, OUTPOSTS, PROVIDERS
from hecate.backends.authentik_versions import NEWEST, dialect
from hecate.backends.authentik_writing import SIGHT
from hecate.clients.authentik import ACTS, MEMBERSHIP, MODELS
from hecate.compile.authentik import compile_authentik
from hecate.model import Estate
from hecate.model.rotation import AuthentikToken
from hecate.resource import Resource

WRITES = ("add", "change", "delete")
READ = (BINDINGS, FLOW_BINDINGS, OUTPOSTS, *(kind.path for kind in (*KINDS.values(), *PROVIDERS.values())))
BETWEEN = {"binding": BINDINGS, "trigger": BINDINGS, "flow_binding": FLOW_BINDINGS}


def superuser(estate: Estate) -> str:
    """Why no role is enough; empty where one is."""
    assert estate.authentik, "checked by the caller"
    others = {name for name, account in estate.authentik.service_accounts.items() if account.tokens}
    others |= {one.account for one in _rotated(estate) if one.secret != estate.authentik.token}
    if not others:
        return ""
    return f"authentik lets nobody else make tokens for another user ({', '.join(sorted(others))})"


def _rotated(estate: Estate) -> list[AuthentikToken]:
    return [one for one in estate.rotation.values() if isinstance(one, AuthentikToken)]


def permissions(estate: Estate) -> tuple[str, ...]:
    """To look at all kinds, since what is no longer wanted has to be found; to write those alone that are wanted."""
    wanted = compile_authentik(estate)
    found = {permission("view", path) for path in (*READ, *_signing(wanted), *_sights(wanted))}
    for resource in wanted:
        found |= set(_writing(resource))
    if _rotated(estate):
        tokens = KINDS["token"].path
        found |= {permission("add", tokens), permission("delete", tokens)}
        found |= {f"authentik_core.{ACTS[act]}" for act in ("set_key", "view_key")}
    return tuple(sorted(found))


def permission(verb: str, path: str) -> str:
    """ "add", "/core/groups/" -> "authentik_core.add_group" """
    app, _, model = MODELS[path].partition(".")
    return f"{app}.{verb}_{model}"


def _writing(resource: Resource) -> Iterator[str]:
    kind = resource.kind.removeprefix("authentik.")
    if kind == "attachment":
        outpost, _, _ = resource.key.partition("/")
        yield permission("change", OUTPOSTS)
        yield from [permission("add", OUTPOSTS)] if outpost else []  # one of one's own is made where it isn't there
        return
    path = BETWEEN.get(kind) or (PROVIDERS[resource.spec["type"]] if kind == "provider" else KINDS[kind]).path
    yield from (permission(verb, path) for verb in WRITES)
    if "members" in resource.spec:
        yield from (f"authentik_core.{name}" for name in MEMBERSHIP.values())


def _signing(wanted: list[Resource]) -> tuple[str, ...]:
    """Certificates and scopes are looked up where a provider needs them."""
    if not any(resource.spec.get("type") in SIGNING for resource in wanted):
        return ()
    words = dialect(".".join(map(str, NEWEST)))
    return CERTIFICATES, words.scope_mappings, words.saml_mappings


def _sights(wanted: list[Resource]) -> tuple[str, ...]:
    """What has to be seen before an object of these kinds may go."""
    return tuple({SIGHT[kind] for r in wanted if (kind := r.kind.removeprefix("authentik.")) in SIGHT})
