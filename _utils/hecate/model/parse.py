"""From the raw pillar to an Estate, or to every problem in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hecate.errors import InvalidPillar, Problem
from hecate.model.estate import Estate
from hecate.model.fields import OUTPUT

CONTENT = ("routes", "auth_policies", "dns", "workloads")
BY_NAME = {"routes": "domain", "auth_policies": "name"}
HIDDEN = ("missing", "extra_forbidden")  # under an unknown key there may be a secret
ADVICE = {
    "missing": "is required",
    "extra_forbidden": "no such key; check the spelling against the pillar reference",
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
        estate = Estate.model_validate(body)
    except ValidationError as err:
        return None, problems + [_problem(detail) for detail in _telling(err.errors(include_url=False))]
    return estate, problems + list(estate.cross_problems())


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
        if policy and policy not in policies:
            why = f"no such policy under hecate:auth_policies; there are: {known}"
            problems.append(Problem(f"{path}:auth_policy", str(policy), why))
        for name in (host, *(more if isinstance(more, list) else ())):
            folded = str(name).lower()
            if folded in owner:
                why = f"already served by route {owner[folded]}; a host belongs to one route"
                problems.append(Problem(path, str(name), why))
            owner[folded] = str(host)
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


def _telling(details: list[Any]) -> list[Any]:
    """A list found too short only because its items are wrong is not a problem of its own."""
    places = [detail["loc"] for detail in details]
    return [
        d
        for d in details
        if d["type"] != "too_short" or not any(p[: len(d["loc"])] == d["loc"] and p != d["loc"] for p in places)
    ]


def _problem(detail: Any) -> Problem:
    path = ":".join(["hecate", *(str(part) for part in detail["loc"] if part != "[key]")])
    value = detail.get("input")
    kind = detail["type"]
    why = ADVICE.get(kind) or detail["msg"].removeprefix("Value error, ")
    hidden = kind in HIDDEN or isinstance(value, dict | list | tuple) or detail["loc"][-1:] == ("token",)
    shown = "" if hidden else str(value)[:80]
    return Problem(path, shown, why)
