"""Where a secret can stand is worked out from the types: nothing that has one may be left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hecate import model
from hecate.model.estate import Estate
from hecate.model.fields import Section
from hecate.model.references import places, references
from hecate.secrets import Reference

PILLAR: dict[str, Any] = {
    "vault": {"url": "https://vault.test", "approle": {"role_id": "env:R", "secret_id": "file:/s"}},
    "authentik": {
        "url": "https://a.test",
        "token": "vault:a#t",
        "outpost": "10.0.0.1:9000",
        "service_accounts": {"robot": {"tokens": {"one": "vault:b#t"}}},
        "events": {"url": "https://h.test/e", "secret": "vault:c#t"},
    },
    "hetzner_dns": {"token": "vault:d#t"},
    "store": {"consul": {"url": "http://127.0.0.1:8500", "token": "env:C"}},
    "applications": {
        "x": {
            "auth_policy": "p",
            "oauth2": {"client_secret": "vault:e#t", "redirect_uris": ["https://x.test/c"]},
        }
    },
    "auth_policies": {"p": {"groups": ["g"]}},
    "routes": {"r.test": {"upstreams": ["10.0.0.1:80"], "tls": {"vault": "vault:f#c", "vault_key": "vault:f#k"}}},
    "verify": {"accounts": {"who": "vault:g#p"}},
}


def everything(value: Any) -> Iterator[Reference]:
    """The slow way: through all that there is."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from everything(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from everything(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from everything(inner)


def test_all_references_are_found() -> None:
    estate = model.parse({"hecate": PILLAR})
    found = sorted(str(reference) for _, reference in references(estate))
    assert found == sorted(map(str, everything(estate))) and len(found) == 11


def test_of_a_route_only_what_can_hold_one_is_looked_at() -> None:
    assert {"authentik", "hetzner_dns", "routes", "vault", "store"} <= set(places(Estate))
    assert not {"edges", "dns", "environment", "safety"} & set(places(Estate))
