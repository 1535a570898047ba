"""From the raw pillar to an Estate, or to every problem in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hecate.errors import InvalidPillar, Problem
from hecate.model.estate import Estate
from hecate.model.fields import OUTPUT, folded

Place = tuple[Any, ...]
CONTENT = ("routes", "auth_policies", "applications", "dns", "workloads", "rotation")
BY_NAME = {"routes": "domain", "auth_policies": "name"}
# Sections whose entries stand on their own: one of them can be wrong without the others.
NAMED = (
    "routes",
    "auth_policies",
    "applications",
    "upstreams",
    "health_checks",
    "middleware",
    "forward_auth",
    "workloads",
    "edges",
    "rotation",
)
# What cannot be said while a section is wrong: problems at these paths would only follow from that.
FOLLOWS = {
    "authentik": ("hecate:auth_policies", "hecate:applications", "hecate:rotation"),
    "hetzner_dns": ("hecate:dns", "hecate:rotation"),
    "vault": ("hecate:rotation",),
    "nomad": ("hecate:workloads",),
    "dns": ("hecate:dns", "hecate:routes"),
    "caddy": ("hecate:caddy",),
    "certificates": ("hecate:caddy", "hecate:routes"),
}
SECRET = re.compile(r"(?i)(token|password|secret|key|accounts|webhook|vault|authorization|cookie)")
HIDDEN = ("missing", "extra_forbidden")  # under an unknown key there may be a secret
ADVICE = {
    "missing": "is required",
    "extra_forbidden": "no such key; check the spelling against the pillar reference",
    "tuple_type": "not a list",
    "list_type": "not a list",
    "dict_type": "not a mapping",
    "model_type": "not a mapping",
    "model_attributes_type": "not a mapping",
    "string_type": "not a text; put it in quotes",
    "bool_type": "not true or false",
    "bool_parsing": "not true or false",
    "int_type": "not a whole number",
    "int_parsing": "not a whole number",
    "int_from_float": "not a whole number",
    "float_type": "not a number",
    "float_parsing": "not a number",
    "union_tag_not_found": "is required",
    "too_short": "is empty; give at least one",
}


def parse(pillar: Mapping[str, Any]) -> Estate:
    """The Estate under pillar's key `hecate`. Raises InvalidPillar with every problem."""
    estate, problems = _check(pillar)
    if problems or estate is None:
        raise InvalidPillar(problems)
    return estate


def parse_access(pillar: Mapping[str, Any]) -> Estate:
    """Only where the systems are and how they are reached.

    Enough to undo and to commit, which must work whatever became of routes and records since.
    """
    raw = pillar.get("hecate")
    known = raw if isinstance(raw, Mapping) else {}
    return parse({"hecate": {k: v for k, v in known.items() if k not in CONTENT}})


def bare_zones(hecate: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every zone of what stands under `hecate` (unchecked), with how it is served and without its records."""
    zones = (hecate.get("dns") or {}).get("zones") or {}
    by_name = zones if isinstance(zones, Mapping) else {name: {} for name in zones}
    return {name: {k: v for k, v in (zone or {}).items() if k != "records"} for name, zone in by_name.items()}


def problems_in(pillar: Mapping[str, Any]) -> list[Problem]:
    """Every problem of the pillar; empty when it can be deployed."""
    return _check(pillar)[1]


def _check(pillar: Mapping[str, Any]) -> tuple[Estate | None, list[Problem]]:
    raw = pillar.get("hecate")
    if not isinstance(raw, Mapping):
        return None, [Problem("hecate", "", "the pillar has no mapping of this name; does pillar/top.sls assign it?")]
    body, problems = _keyed(raw)
    problems += _crossed(body)
    outputs = (raw.get("terraform") or {}).get("outputs") or {}
    body = {k: _filled(v, outputs) if k in ("routes", "dns", "edges") else v for k, v in body.items()}
    try:
        estate = Estate.model_validate(body).without_literals()
    except ValidationError as err:
        found = _telling(err.errors(include_url=False), body)
        return None, [*problems, *(_problem(*one) for one in found), *_beside(body, [place for place, _ in found])]
    return estate, problems + list(estate.cross_problems())


def _beside(body: dict[str, Any], wrong: list[Place]) -> list[Problem]:
    """What is wrong between the parts that are right one by one, so that all is told in one answer."""
    left = body
    gone: set[str] = set()
    for _ in range(len(NAMED)):
        left, gone = _without(left, wrong), gone | {str(place[1]) for place in wrong if len(place) > 1}
        try:
            estate = Estate.model_validate(left)
        except ValidationError as err:
            wrong = [place[:2] for place, _ in _telling(err.errors(include_url=False), left)]
            continue
        hidden = tuple(path for place in wrong for path in FOLLOWS.get(str(place[0]), ()))
        return [p for p in estate.cross_problems() if p.value not in gone and not p.path.startswith(hidden or "\0")]
    return []


def _without(body: dict[str, Any], wrong: list[Place]) -> dict[str, Any]:
    """The body without what is wrong in it: a field of a route or other named thing, or a whole section."""
    left = dict(body)
    for place in wrong:
        section = left.get(place[0]) if place else None
        if len(place) < 2 or place[0] not in NAMED or not isinstance(section, Mapping):
            left.pop(place[0] if place else "", None)
            continue
        rest = {k: v for k, v in section.items() if k != place[1]}
        thing = section.get(place[1])
        if len(place) > 2 and isinstance(thing, Mapping):
            # Without upstreams it would be wrong for that alone, and nothing else of it could be told.
            dummy = {"upstreams": ["unknown.invalid:1"]} if place[2] == "upstreams" else {}
            rest[place[1]] = {**{k: v for k, v in thing.items() if k != place[2]}, **dummy}
        left[place[0]] = rest
    return left


def _keyed(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Lists of named things become mappings, and two of one name are a problem, not a loss."""
    body, problems = dict(raw), []
    for section, label in BY_NAME.items():
        listed = raw.get(section)
        if not isinstance(listed, list):
            continue
        named: dict[str, Any] = {}
        for index, item in enumerate(listed):
            path = f"hecate:{section}:{index}"
            name = item.get(label) if isinstance(item, Mapping) else None
            if not isinstance(name, str):
                problems.append(Problem(path, "", f"needs a `{label}`"))
            elif name in named:
                problems.append(Problem(f"{path}:{label}", name, "is there already, further up in the list"))
            else:
                named[name] = {k: v for k, v in item.items() if k != label}
        body[section] = named
    return body, problems


def _crossed(body: Mapping[str, Any]) -> list[Problem]:
    """What routes say to each other and to the policies.

    Checked on the raw pillar, so that it is told even while single values are wrong.
    """
    routes, policies = body.get("routes"), body.get("auth_policies") or {}
    if not isinstance(routes, Mapping) or not isinstance(policies, Mapping):
        return []
    known = ", ".join(sorted(map(str, policies))) or "none"
    owner: dict[str, str] = {}
    problems = []
    for host, route in routes.items():
        path, body_of = f"hecate:routes:{host}", route if isinstance(route, Mapping) else {}
        policy, more = body_of.get("auth_policy"), body_of.get("hosts")
        if isinstance(policy, str) and policy and policy not in policies:
            why = f"no such policy under hecate:auth_policies; there are: {known}"
            problems.append(Problem(f"{path}:auth_policy", str(policy), why))
        for name in (host, *(more if isinstance(more, list) else [more] if isinstance(more, str) else ())):
            spelt = folded(str(name))
            if spelt in owner:
                why = f"already served by route {owner[spelt]}; a host belongs to one route"
                problems.append(Problem(path, str(name), why))
            owner.setdefault(spelt, str(host))
    return problems


def _filled(value: Any, outputs: Mapping[str, Any]) -> Any:
    """Replace ``terraform:name`` by the output of that name, where it is known."""
    if isinstance(value, Mapping):
        return {key: _filled(item, outputs) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, outputs) for item in value]
    if isinstance(value, str) and OUTPUT.fullmatch(value):
        return outputs.get(value.partition(":")[2], value)
    return value


def _telling(details: list[Any], body: Mapping[str, Any]) -> list[tuple[Place, Any]]:
    """Place in the pillar and detail of each mistake, once.

    Where a value may have several shapes, pydantic complains for each of them: told is what is wrong
    with the shape that it has, or, where it has none of them, just that. A list found too short
    only because its items are wrong is not a mistake of its own.
    """
    walked = [(_walk(detail, body), detail) for detail in details]
    met = {place for found, _ in walked for place, _, fits in found.unions if fits}
    told: dict[tuple[Place, str], tuple[Place, Any]] = {}
    for found, detail in walked:
        strange = next(((place, value) for place, value, fits in found.unions if not fits), None)
        if strange is None:
            told.setdefault((found.place, str(detail["msg"])), (found.place, detail))
        elif strange[0] not in met:
            wrong = {"type": "shape", "msg": "has the wrong shape; see the pillar reference", "input": strange[1]}
            told.setdefault((strange[0], "shape"), (strange[0], wrong))
    places = [place for place, _ in told.values()]
    return [
        (place, detail)
        for place, detail in told.values()
        if detail["type"] != "too_short" or not any(p[: len(place)] == place and p != place for p in places)
    ]


@dataclass
class Walked:
    """Where a complaint of pydantic's leads. unions: place, value, and whether it is about the value's own shape."""

    place: Place
    unions: list[tuple[Place, Any, bool]]


def _walk(detail: Any, body: Any) -> Walked:
    """pydantic's `loc` follows short forms and names alternatives; what is no key of the pillar is left out."""
    place: list[Any] = []
    unions: list[tuple[Place, Any, bool]] = []
    value, loc = body, detail["loc"]
    for index, part in enumerate(loc):
        last = index == len(loc) - 1
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            place.append(part)
            value = value[part]
        elif part == "[key]" or (isinstance(value, Mapping) and value.get("type") == part):
            continue  # a kind of middleware is no part of the path
        elif shape := _shape(str(part)):
            unions.append((tuple(place), value, isinstance(value, shape)))
        elif last and isinstance(part, str) and (detail["type"] == "missing" or not isinstance(value, Mapping)):
            place.append(part)
    if detail["type"].startswith("union_tag"):
        place.append(detail["ctx"]["discriminator"].strip("'"))
    return Walked(tuple(place), unions)


def _shape(label: str) -> tuple[type, ...]:
    """What a value is that pydantic's name of one alternative fits; empty: `label` is no such name."""
    if re.search(r"\b(tuple|list|set)\[", label):
        return (list, tuple)
    if label.startswith("function-"):
        label = label.rpartition(", ")[2].rstrip("]")
    if label.startswith("dict["):
        return (Mapping,)
    if (
        label in ("str", "constrained-str")
        or label.startswith("literal[")
        or re.search(r"\W(constrained-)?str\]$", label)
    ):
        return (str,)
    if label in ("bool", "int", "float", "constrained-int", "constrained-float"):
        return (int, float)
    # The name of a class; keys of the pillar are never written so.
    return (Mapping,) if re.fullmatch(r"[A-Z][a-z]+([A-Z][a-z]+)*", label) else ()


def problems_of(err: ValidationError, body: Mapping[str, Any], root: str) -> list[Problem]:
    """The same for a body that stands elsewhere, such as in the master's configuration."""
    return [_problem(place, detail, root) for place, detail in _telling(err.errors(include_url=False), body)]


def _problem(place: Place, detail: Any, root: str = "hecate") -> Problem:
    path, kind, value = ":".join([root, *map(str, place)]), detail["type"], detail.get("input")
    nested = isinstance(value, dict | list | tuple | set)
    secret = any(SECRET.search(str(part)) for part in place[-2:]) or "secret" in detail["msg"]
    secret = secret or str(value).startswith("literal:")
    shown = "" if kind in HIDDEN or nested or secret else _without_credentials(str(value))[:80]
    if kind == "union_tag_invalid":
        shown = str(detail["ctx"]["tag"])[:80]
    return Problem(path, shown, _why(detail))


def _why(detail: Any) -> str:
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "union_tag_invalid":
        return f"no such type; there are: {context['expected_tags']}".replace("'", "")
    if kind in ("literal_error", "enum"):
        why = f"not one of these: {context['expected']}"
        return why if isinstance(detail["input"], str) else f"{why}; put it in quotes"
    if kind == "string_pattern_mismatch":
        return f"does not match {context['pattern']}"
    found: str = ADVICE.get(kind) or detail["msg"].removeprefix("Value error, ")
    return found.replace("Input should be", "must be")


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//...@", text.partition("?")[0] if "://" in text else text)
