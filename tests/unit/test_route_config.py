"""The route-config that a user wrote before there was Hecate is a pillar as it stands, and none of it is lost."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hecate import model
from hecate.compile.authentik import compile_authentik
from hecate.compile.caddy import compile_caddy
from hecate.compile.dns import compile_dns
from hecate.errors import InvalidPillar
from hecate.model import Estate
from hecate.model.caddy import Edge
from hecate_estate import Master

SOURCE = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "000_d584cb8cba3773b9.txt"
BASE = {
    "authentik": {"url": "https://auth.example.com", "token": "env:AUTHENTIK_TOKEN"},
    "hetzner_dns": {"token": "env:HCLOUD_TOKEN"},
}
HOSTS = ("api.example.com", "app.example.com", "admin.example.com")
Config = dict[str, Any]
Leaf = tuple[str | int, ...]


def written() -> Config:
    """Section 18 of the user's own description."""
    if not SOURCE.exists():
        pytest.skip(f"the user's description is not here: {SOURCE}")
    section = SOURCE.read_text(encoding="utf-8").partition("### 18. configs/examples/route-config.yaml")[2]
    found: Config = yaml.safe_load(section.partition("```yaml\n")[2].partition("\n```")[0])
    return found


@pytest.fixture(scope="module")
def config() -> Config:
    return written()


def parsed(config: Config) -> Estate:
    return model.parse({"hecate": {**BASE, **config}})


def in_use(config: Config) -> Config:
    """The same with everything in use: what it only defines is referred to, what Hecate keeps closed is opened."""
    whole = copy.deepcopy(config)
    for route, check in zip(whole["routes"], whole["health_checks"], strict=False):
        route["health_check"] = check
        route["dns"] = {"A": "192.0.2.1"}
    whole["routes"][1]["tls"] = {"issuer": list(whole["certificates"]["providers"])[-1]}
    whole["dns"]["policy"] = "upsert-only"  # said by whoever wants records written
    whole["routes"].append({"domain": "*.example.org", "upstreams": ["10.0.0.1:80"], "dns": {"A": "192.0.2.1"}})
    return whole


def outcome(config: Config) -> str:
    """All that comes of a configuration, as it stands and with everything in use, and what is said about it."""
    estates = [parsed(config), parsed(in_use(config))]
    made = [
        (resource.id, resource.spec)
        for estate in estates
        for resource in (*compile_caddy(estate, Edge(), HOSTS), *compile_authentik(estate), *compile_dns(estate))
    ]
    return json.dumps([made, estates[0].notices()])


def test_it_is_accepted_unchanged(config: Config) -> None:
    assert model.problems_in({"hecate": {**BASE, **config}}) == []
    estate = parsed(config)
    assert tuple(estate.routes) == HOSTS
    assert [guard.name for guard in estate.guards.all] == ["admin.example.com", "api.example.com"]


def leaves(value: Any, place: Leaf = ()) -> Iterator[tuple[Leaf, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*place, key))
    else:
        yield place, value


# Accepted without effect: the beginning of the path, and what the user is told instead.
NOTED = {
    ("notifications",): "hecate:notifications",
    ("monitoring", "alerting"): "hecate:monitoring:alerting",
    ("dns", "templates"): "hecate:dns:templates",
}
# Asked for by the route and by its policy, so that one of them less changes nothing.
TWICE = (("routes", 2, "require_mfa"), ("auth_policies", 1, "require_mfa"))
# Of these only the value that is there is right; any other is refused, or leads nowhere.
NAMES = ("name", "auth_policy", "middleware", "provider", "type", "allowed_methods", "encodings", "by", "zones")


def other(value: Any) -> Any:
    """A value of the same kind that is not this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if value[:1].isdigit() and value[-1] in "smh":
        return f"1{value}"
    if "/" in value and value[0].isdigit():
        return value.replace("/", "/2") if "/8" in value else value.replace("/16", "/17")
    return f"x{value}" if value[0] not in "/{h" else f"{value}x"


def test_every_leaf_of_it_has_an_effect_or_is_told_to_have_none(config: Config) -> None:
    """Change each value by itself: something else has to come out, or the new value is refused."""
    before, notices = outcome(config), "\n".join(parsed(config).notices())
    lost, refused = [], set()
    for place, value in leaves(config):
        if place in TWICE:
            continue
        told = next((text for start, text in NOTED.items() if place[: len(start)] == start), None)
        if told is not None:
            assert told in notices, place
            continue
        try:
            changed = outcome(_with(config, place, other(value)))
        except InvalidPillar:
            refused.add(next(str(part) for part in reversed(place) if isinstance(part, str)))
            continue
        if changed == before:
            lost.append((place, value))
    assert lost == []
    assert refused <= set(NAMES), refused


def _with(config: Config, place: Leaf, value: Any) -> Config:
    whole = copy.deepcopy(config)
    inner: Any = whole
    for part in place[:-1]:
        inner = inner[part]
    inner[place[-1]] = value
    return whole


def test_validate_tells_beside_the_verdict_what_has_no_effect(config: Config) -> None:
    told = _master({"hecate": {**BASE, **config}}).validated()
    assert told.startswith("the pillar is good")
    assert all(notice in told for notice in parsed(config).notices())
    assert _master({"hecate": {}}).validated() == "the pillar is good"


def _master(pillar: Config) -> Master:
    """The runner's own, with a pillar that is rendered already."""
    master = Master({"id": "master"}, {})
    master._rendered = pillar
    return master


def test_what_it_only_defines_is_told(config: Config) -> None:
    notices = "\n".join(parsed(config).notices())
    for unused in (
        "health_checks:default",
        "health_checks:comprehensive",
        "certificates:providers:letsencrypt-staging",
    ):
        assert f"hecate:{unused}: nothing uses it" in notices


def test_the_webhook_that_lets_anybody_post_is_never_shown(config: Config) -> None:
    secret = config["notifications"]["slack"]["webhook_url"]
    estate = parsed(config)
    wrong = _with(config, ("notifications", "slack", "webhook_url"), f"{secret}\r\nX: y")
    problems = model.problems_in({"hecate": {**BASE, **wrong}})
    assert [p.path for p in problems] == ["hecate:notifications:slack:webhook_url"]
    for text in (str(InvalidPillar(problems)), repr(problems), repr(estate), str(estate.notices()), outcome(config)):
        assert "hooks.slack.com" not in text
