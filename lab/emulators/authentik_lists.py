"""Lists as authentik gives them: filters that it knows, silence about those that it doesn't, numbered pages."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.datastructures import MultiDict

from lab.emulators.authentik_state import Object, State
from lab.emulators.base import ApiError

Filter = Callable[[State, Object, list[str]], bool]
NO_CHOICE = "Select a valid choice. That choice is not one of the available choices."

_STRING = {"type": "str", "nullable": False, "options": None}
_TYPES = ["internal", "external", "service_account", "internal_service_account"]


def _completion(model: str, **fields: Object) -> Object:
    relation = {"type": "relation", "nullable": False, "options": None, "relation": f"{model}_attributes"}
    return {"current_model": model, "models": {model: {**fields, "attributes": relation}}}


def _boolean() -> Object:
    return {"type": "bool", "nullable": True, "options": None}


AUTOCOMPLETE: dict[str, Object] = {
    "groups": _completion("authentik_core.group", name=_STRING, is_superuser=_boolean()),
    "users": _completion(
        "authentik_core.user", username=_STRING, name=_STRING, email=_STRING, path=_STRING, is_active=_boolean(),
        type={**_STRING, "options": _TYPES},
    ),
}  # fmt: skip


def exact(field: str) -> Filter:
    """``?field=value``."""
    return lambda state, row, values: str(row[field]) == values[-1]


def iexact(field: str) -> Filter:
    """``?field__iexact=value``: upper and lower case are the same."""
    return lambda state, row, values: str(row[field] or "").lower() == values[-1].lower()


def icontains(field: str) -> Filter:
    """``?field__icontains=value``."""
    return lambda state, row, values: values[-1].lower() in str(row[field] or "").lower()


def boolean(field: str) -> Filter:
    """``?field=true``."""
    return lambda state, row, values: bool(row[field]) == (values[-1].lower() == "true")


def isnull(test: Callable[[State, Object], bool]) -> Filter:
    """``?field__isnull=true`` for a test that says whether it is."""
    return lambda state, row, values: test(state, row) == (values[-1].lower() == "true")


def existing(tables: str, field: str) -> Filter:
    """The key of something that exists in one of ``tables``: 400 for any other, not an empty list."""

    def matches(state: State, row: Object, values: list[str]) -> bool:
        return str(row[field]) in values

    matches.tables = tables  # type: ignore[attr-defined]
    return matches


def attributes(state: State, row: Object, values: list[str]) -> bool:
    """``?attributes={"managed-by":"x"}``: the object's attributes hold at least these."""
    wanted = _attributes(values)
    return all(row["attributes"].get(name) == value for name, value in wanted.items())


def _attributes(values: list[str]) -> Object:
    try:
        wanted = json.loads(values[-1])
    except ValueError as error:
        raise ApiError(400, {"detail": "filter: failed to parse JSON"}) from error
    if not isinstance(wanted, dict):
        raise ApiError(400, {"detail": "filter: value must be key:value mapping"})
    return wanted


def _group_name(field: str) -> Filter:
    return lambda s, row, values: s.groups.get(row.get(field), {}).get("name") == values[-1]


def _context(field: str) -> Filter:
    return lambda s, row, values: str((row["context"].get("model") or {}).get(field)) == values[-1]


MAPPING: dict[str, Filter] = {
    "name": exact("name"), "managed": lambda s, row, values: row["managed"] in values,
    "managed__isnull": isnull(lambda s, row: row["managed"] is None),
}  # fmt: skip
FILTERS: dict[str, dict[str, Filter]] = {
    "groups": {
        "name": exact("name"), "is_superuser": boolean("is_superuser"), "attributes": attributes,
        "members_by_pk": lambda s, row, values: any(str(pk) in values for pk in row["users"]),
        "members_by_username": lambda s, row, values: any(s.users[pk]["username"] in values for pk in row["users"]),
    },
    "users": {
        "username": exact("username"), "name": exact("name"), "email": exact("email"), "uuid": exact("uuid"),
        "path": exact("path"), "is_active": boolean("is_active"), "attributes": attributes,
        "type": lambda s, row, values: row["type"] in values,
        "path_startswith": lambda s, row, values: row["path"].startswith(values[-1]),
        "groups_by_name": lambda s, row, values: any(
            row["pk"] in g["users"] for g in s.groups.values() if g["name"] in values),
        "groups_by_pk": lambda s, row, values: any(
            row["pk"] in g["users"] for g in s.groups.values() if g["pk"] in values),
    },
    "proxy": {
        "name__iexact": iexact("name"), "external_host__iexact": iexact("external_host"),
        "cookie_domain__iexact": iexact("cookie_domain"), "mode__iexact": iexact("mode"),
        "application__isnull": isnull(lambda s, row: s.application_of(row["pk"]) is None),
    },
    "saml": {"name": exact("name"), "acs_url": exact("acs_url"), "audience": exact("audience"),
             "authorization_flow": existing("flows", "authorization_flow")},
    "oauth2": {"name": exact("name"), "client_id": exact("client_id"),
               "application": lambda s, row, values: (s.application_of(row["pk"]) or {}).get("pk") == values[-1]},
    "providers": {"application__isnull": isnull(lambda s, row: s.application_of(row["pk"]) is None)},
    "applications": {
        "name": exact("name"), "slug": exact("slug"), "group": exact("group"),
        "meta_publisher": exact("meta_publisher"), "meta_launch_url": exact("meta_launch_url"),
        "meta_description": exact("meta_description"),
    },
    "bindings": {
        "target": existing("applications rules", "target"), "target_in": existing("applications rules", "target"),
        "policy": existing("policies", "policy"), "policy__isnull": isnull(lambda s, row: row["policy"] is None),
        "enabled": boolean("enabled"), "order": exact("order"), "timeout": exact("timeout"),
    },
    "outposts": {
        "name__iexact": iexact("name"), "name__icontains": icontains("name"), "managed__iexact": iexact("managed"),
        "managed__icontains": icontains("managed"),
        "providers_by_pk": lambda s, row, values: any(str(pk) in values for pk in row["providers"]),
        "providers__isnull": isnull(lambda s, row: not row["providers"]),
    },
    "flows": {"slug": exact("slug"), "name": exact("name"), "designation": exact("designation"),
              "denied_action": exact("denied_action"), "flow_uuid": exact("pk")},
    "expression": {"name": exact("name"), "expression": exact("expression"), "policy_uuid": exact("pk")},
    "event_matcher": {"name": exact("name"), "action": exact("action"), "client_ip": exact("client_ip"),
                      "app": exact("app"), "model": exact("model"), "policy_uuid": exact("pk")},
    "policies": {"bindings__isnull": isnull(
        lambda s, row: not any(binding["policy"] == row["pk"] for binding in s.bindings.values()))},
    "stages": {"name": exact("name"), "not_configured_action": exact("not_configured_action")},
    "flow_bindings": {"target": existing("flows", "target"), "stage": existing("stages", "stage"),
                      "order": exact("order"), "fsb_uuid": exact("pk")},
    "scope": {**MAPPING, "scope_name": exact("scope_name")},
    "saml_mapping": {**MAPPING, "saml_name": exact("saml_name"), "friendly_name": exact("friendly_name")},
    "notification": {"name": exact("name")},
    "mappings": {**MAPPING},
    "certificates": {"name": exact("name"), "managed": exact("managed")},
    "brands": {
        "domain": exact("domain"), "default": boolean("default"), "brand_uuid": exact("pk"),
        "flow_authentication": existing("flows", "flow_authentication"),
    },
    "tokens": {
        "identifier": exact("identifier"), "intent": exact("intent"), "expiring": boolean("expiring"),
        "managed": exact("managed"), "description": exact("description"),
        "user__username": lambda s, row, values: s.users[row["user"]]["username"] == values[-1],
    },
    "transports": {"name": exact("name"), "mode": exact("mode"), "webhook_url": exact("webhook_url"),
                   "send_once": boolean("send_once")},
    "rules": {"name": exact("name"), "severity": exact("severity"), "group__name": _group_name("group"),
              "destination_group__name": _group_name("destination_group")},
    "events": {
        "action": icontains("action"), "client_ip": exact("client_ip"),
        "username": lambda s, row, values: row["user"]["username"] == values[-1],
        "context_model_app": _context("app"), "context_model_name": _context("model_name"),
        "context_model_pk": lambda s, row, values: _context("pk")(s, row, [values[-1].replace("-", "")]),
    },
}  # fmt: skip

SEARCHED = ("name", "slug", "username", "email")

# How a list is ordered where the caller doesn't say. Providers of all kinds come as the database likes.
ORDERING = {
    "groups": "name", "users": "username", "proxy": "name", "oauth2": "name", "saml": "name", "applications": "name",
    "bindings": "order", "outposts": "name", "flows": "slug", "policies": "name", "expression": "name",
    "event_matcher": "name", "stages": "name", "flow_bindings": "order", "scope": "scope_name", "saml_mapping": "name",
    "notification": "name", "mappings": "name", "certificates": "name", "brands": "domain", "tokens": "identifier",
    "transports": "name", "rules": "name", "events": "-created",
}  # fmt: skip


def selected(state: State, what: str, rows: Iterable[Object], query: MultiDict[str, str]) -> list[Object]:
    """The rows that the known filters leave, ordered. An empty filter counts as none; an unknown one does nothing."""
    found = list(rows)
    for name, test in FILTERS[what].items():
        values = [value for value in query.getlist(name) if value]
        if values:
            _must_exist(state, name, test, values)
            found = [row for row in found if test(state, row, values)]
    term = query.get("search", "").lower()
    if term:
        found = [row for row in found if any(term in str(row.get(field, "")).lower() for field in SEARCHED)]
    return _ordered(found, query.get("ordering") or ORDERING.get(what, ""))


def _must_exist(state: State, name: str, test: Filter, values: list[str]) -> None:
    tables = getattr(test, "tables", "").split()
    if not tables:
        return
    for value in values:
        if not any(value in state.table(table) for table in tables) and not _bindable(state, value):
            try:
                uuid.UUID(value)
            except ValueError as error:
                raise ApiError(400, {name: [f"“{value}” is not a valid UUID."]}) from error
            raise ApiError(400, {name: [NO_CHOICE]})


def _bindable(state: State, value: str) -> bool:
    return any(flow["policybindingmodel_ptr_id"] == value for flow in state.flows.values())


def _ordered(rows: list[Object], ordering: str) -> list[Object]:
    field = ordering.removeprefix("-")
    if not field or not all(field in row for row in rows):
        return rows
    numeric = all(isinstance(row[field], int) for row in rows)
    rows = sorted(rows, key=lambda row: str(row["pk"]) if not isinstance(row["pk"], int) else f"{row['pk']:012}")
    return sorted(rows, key=lambda row: row[field] if numeric else str(row[field]), reverse=ordering.startswith("-"))


def page_of(rows: list[Any], query: MultiDict[str, str]) -> tuple[list[Any], Object, int]:
    """One page's rows, its ``pagination`` and its number; 20 rows unless told, 100 at most, ``next`` 0 at the end.

    A page beyond the end is 404, not an empty list.
    """
    size = _number(query.get("page_size"), 20)
    size = min(size, 100) if size > 0 else 20
    pages = max(1, -(-len(rows) // size))
    number = _number(query.get("page"), 1 if not query.get("page") else 0)
    if not 1 <= number <= pages:
        raise ApiError(404, {"detail": "Invalid page."})
    start = (number - 1) * size
    shown = rows[start : start + size]
    pagination = {
        "next": number + 1 if number < pages else 0, "previous": number - 1, "count": len(rows), "current": number,
        "total_pages": pages, "start_index": start + 1 if rows else 0, "end_index": start + len(shown),
    }  # fmt: skip
    return shown, pagination, number


def _number(value: str | None, otherwise: int) -> int:
    try:
        return int(value or otherwise)
    except ValueError:
        return otherwise
