"""The kinds of objects in authentik: where each is, what it is called by, and which of its fields count.

A spec speaks in names; the server in keys of its own. `Held` has both, from one listing a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hecate.backends.authentik_sealed import Sealed
from hecate.backends.authentik_versions import Dialect
from hecate.errors import Faulty, Refused
from hecate.resource import UNKNOWN, Resource, Spec

Row = dict[str, Any]
Names = Callable[[str], Mapping[Any, str]]  # of the objects of a kind, by the server's key
MARK_KEY = "managed-by"
EMBEDDED = "goauthentik.io/outposts/embedded"
SHIPPED_GROUPS = ("authentik Admins", "authentik Read-only")
SHIPPED_USERS = ("akadmin",)


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    path: of its listing, read with `filters`. key: field that names it. handle: field that its URL ends in.
    fields: as they are in both; optional ones count where they are wanted, sets are lists without an order, and where
    nothing is in a nullable one the server has null. links, many: fields with one other object, or several: its kind.
    sealed: a field with a secret in it. marked: carries Hecate's mark in its attributes.
    """

    path: str
    key: str = "name"
    handle: str = "pk"
    fields: tuple[str, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    many: Mapping[str, str] = field(default_factory=dict)
    sealed: str = ""
    marked: bool = False
    optional: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)


FLOWS = {"authorization_flow": "flow", "invalidation_flow": "flow", "authentication_flow": "flow"}
PROVIDERS = {
    "proxy": Kind(
        "/providers/proxy/",
        fields=("mode", "external_host", "cookie_domain", "access_token_validity", "skip_path_regex"),
        links=FLOWS,
    ),
    "oauth2": Kind(
        "/providers/oauth2/",
        fields=("client_type", "client_id", "redirect_uris", "refresh_token_validity", "client_secret"),
        links={**FLOWS, "signing_key": "certificate"},
        sealed="client_secret",
        optional=("client_secret",),
    ),
    "saml": Kind(
        "/providers/saml/",
        fields=("acs_url", "audience", "issuer", "sp_binding", "session_valid_not_on_or_after"),
        links={**FLOWS, "signing_kp": "certificate"},
        optional=("issuer",),
    ),
}
MODELS = {
    "proxy": "authentik_providers_proxy.proxyprovider",
    "oauth2": "authentik_providers_oauth2.oauth2provider",
    "saml": "authentik_providers_saml.samlprovider",
}
KINDS = {
    "group": Kind("/core/groups/", marked=True),
    "user": Kind(
        "/core/users/",
        "username",
        fields=("name", "type", "is_active"),
        many={"groups": "group"},
        optional=("groups",),
        marked=True,
        filters={"type": "service_account"},
    ),
    "token": Kind(
        "/core/tokens/",
        "identifier",
        handle="identifier",
        fields=("intent", "expiring"),
        links={"user": "user"},
        sealed="key",
        filters={"intent": "api"},
    ),
    "policy": Kind("/policies/expression/", fields=("expression",)),
    "flow": Kind("/flows/instances/", "slug", handle="slug", fields=("name", "title", "designation", "authentication")),
    "stage": Kind(
        "/stages/authenticator/validate/",
        fields=("not_configured_action", "device_classes", "last_auth_threshold"),
        sets=("device_classes",),
    ),
    "application": Kind(
        "/core/applications/",
        "slug",
        handle="slug",
        fields=("name", "policy_engine_mode", "meta_launch_url", "meta_description", "group", "meta_publisher"),
        links={"provider": "provider"},
    ),
    "brand": Kind(
        "/core/brands/",
        "domain",
        handle="brand_uuid",
        fields=("branding_title",),
        links={"flow_authentication": "flow", "flow_invalidation": "flow"},
        marked=True,
    ),
    "mapping": Kind("/propertymappings/notification/", fields=("expression",), sealed="expression"),
    "transport": Kind(
        "/events/transports/",
        fields=("mode", "webhook_url", "send_once"),
        links={"webhook_mapping": "mapping"},
    ),
    "rule": Kind("/events/rules/", fields=("severity",), links={"group": "group"}, many={"transports": "transport"}),
    "matcher": Kind("/policies/event_matcher/", fields=("action", "model"), nullable=("model",)),
}
BINDINGS, FLOW_BINDINGS, OUTPOSTS = "/policies/bindings/", "/flows/bindings/", "/outposts/instances/"


@dataclass
class Held:
    """What the server held when it was looked at; grows while an apply makes objects.

    mark: what Hecate writes where there is room for it.
    rows: by kind and name. lists: what has no name. outposts: by pillar's name. bindings, flow_bindings, triggers: the
    server's keys, by the resource's.
    """

    dialect: Dialect
    mark: str
    rows: dict[str, dict[str, Row]] = field(default_factory=dict)
    lists: dict[str, list[Row]] = field(default_factory=dict)
    outposts: dict[str, Row] = field(default_factory=dict)
    bindings: dict[str, list[str]] = field(default_factory=dict)
    flow_bindings: dict[str, str] = field(default_factory=dict)
    triggers: dict[str, str] = field(default_factory=dict)

    def pk(self, kind: str, name: str) -> Any:
        """The server's key. Raises Refused for what isn't there."""
        row = self.rows.get(kind, {}).get(name)
        if row is None:
            raise Refused("authentik", f"there is no {kind} {name}")
        return pk_of(row)

    def forget(self, kind: str, name: str) -> None:
        self.rows.get(kind, {}).pop(name, None)

    def names(self, kind: str) -> dict[Any, str]:
        return {pk_of(row): name for name, row in self.rows.get(kind, {}).items()}


def pk_of(row: Row) -> Any:
    return row.get("pk", row.get("brand_uuid"))


def mark_of(row: Row) -> str:
    return str((row.get("attributes") or {}).get(MARK_KEY, ""))


def keyed(kind: str, rows: Iterable[Row], key: str) -> dict[str, Row]:
    """By name. Raises Faulty where two have one name: a policy would be ambiguous."""
    found: dict[str, Row] = {}
    for row in rows:
        if row[key] in found and pk_of(found[row[key]]) != pk_of(row):
            raise Faulty("authentik", f"two {kind}s are called {row[key]}; rename one, a policy would be ambiguous")
        found[row[key]] = row
    return found


class Words:
    """Between a spec and a row, in the words of one version."""

    def __init__(self, dialect: Dialect, sealed: Sealed) -> None:
        self._dialect, self.sealed = dialect, sealed

    def field(self, kind: str, name: str) -> str:
        """What this version calls a field."""
        renamed = {
            ("transport", "webhook_mapping"): self._dialect.webhook_mapping,
            ("rule", "group"): self._dialect.rule_group,
            ("saml", "issuer"): self._dialect.saml_issuer,
        }
        return renamed.get((kind, name), name)

    def _lacks(self, name: str) -> bool:
        return name == "invalidation_flow" and not self._dialect.invalidation_flow

    def spec(self, name: str, kind: Kind, row: Row, names: Names, resource_id: str, want: Resource | None) -> Row:
        """What of a row counts, in names. What a version doesn't know can't differ."""
        found: Row = {}
        wanted: Spec = want.spec if want else {}
        for own in kind.fields:
            if own in kind.optional and want and own not in wanted:
                continue
            value = row.get(self.field(name, own))
            if own == kind.sealed:
                value = self.sealed.of(resource_id, wanted.get(own), lambda text, have=value: text == have)  # type: ignore[misc]
            elif own == "redirect_uris":
                value = _uris(value, wanted.get(own, ()))
            elif own in kind.sets:
                value = sorted(value or ())
            found[own] = "" if value is None else value
        for own, other in kind.links.items():
            if self._lacks(own):
                found[own] = wanted.get(own, "")
                continue
            value = row.get(self.field(name, own))
            found[own] = names(other).get(value, "" if value is None else str(value))
        for own, other in kind.many.items():
            if own in kind.optional and want and own not in wanted:
                continue
            found[own] = sorted(names(other).get(value, str(value)) for value in row.get(own) or ())
        if kind.marked:
            found["mark"] = mark_of(row)
        return found

    def body(self, name: str, kind: Kind, key: str, spec: Spec, held: Held) -> Row:
        """What to send so that the object becomes as the spec says."""
        found: Row = {kind.key: key}
        for own in kind.fields:
            if own not in spec or spec[own] == UNKNOWN:
                continue
            value = spec[own]
            if own == kind.sealed:
                value = self.sealed.opened(value)
            elif own == "redirect_uris" and not self._dialect.redirect_uris:
                value = "\n".join(uri["url"] for uri in value)
            found[self.field(name, own)] = None if own in kind.nullable and value == "" else value
        for own, other in kind.links.items():
            if own in spec and not self._lacks(own):
                found[self.field(name, own)] = held.pk(other, spec[own]) if spec[own] else None
        for own, other in kind.many.items():
            if own not in spec:
                continue
            found[own] = [held.pk(other, one) for one in spec[own]]
        if kind.marked:
            found["attributes"] = self._attributes(name, key, spec, held)
        return found

    def scopes(self, row: Row, held: Held) -> list[str]:
        """Scopes of an OAuth2 provider, by the names that clients ask for."""
        names = {mapping["pk"]: mapping["scope_name"] for mapping in held.lists["scope"]}
        return sorted(str(names.get(pk, pk)) for pk in row["property_mappings"])

    def mappings(self, spec: Spec, held: Held) -> list[Any]:
        """Keys of a provider's scope mappings. authentik's own are taken before others of the same scope."""
        if spec["type"] == "saml":
            return sorted(row["pk"] for row in held.lists["saml_mapping"] if row.get("managed"))
        found: dict[str, Any] = {}
        for row in sorted(held.lists["scope"], key=lambda row: not row.get("managed")):
            found.setdefault(row["scope_name"], row["pk"])
        if missing := [name for name in spec["scopes"] if name not in found]:
            there = ", ".join(sorted(found))
            raise Refused("authentik", f"there is no scope mapping for {', '.join(missing)}; there are: {there}")
        return [found[name] for name in spec["scopes"]]

    def _attributes(self, name: str, key: str, spec: Spec, held: Held) -> Row:
        """Attributes are replaced whole: what others put there is sent along, unless pillar says what there is."""
        there = held.rows.get(name, {}).get(key, {}).get("attributes") or {}
        kept = {k: v for k, v in there.items() if k != MARK_KEY}
        marked = {MARK_KEY: spec["mark"]} if spec.get("mark") else {}
        return {**spec.get("attributes", kept), **marked}


def _uris(value: Any, wanted: Any) -> Any:
    """A text of lines, as versions before 2024.12 have it, says nothing of how each is compared."""
    if not isinstance(value, str):
        keep = ("matching_mode", "url")
        return [{name: uri[name] for name in keep} for uri in value or ()]
    modes = {uri["url"]: uri["matching_mode"] for uri in wanted}
    return [{"matching_mode": modes.get(line, "strict"), "url": line} for line in value.splitlines()]
