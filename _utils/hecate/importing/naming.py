"""Middleware and logins by name: what several routes share is one entry, as a snippet was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from hecate.importing.guards import Use
from hecate.importing.parts import Fields
from hecate.importing.routes import Made
from hecate.model.fields import SLUG
from hecate.model.upstreams import POOL_FIELDS

BUILT_IN = {"encode": "compression", "block_scanners": "block-scanners"}  # with no config of their own
Snippet = Callable[[Use], str]
SLUG_LENGTH = 40


class Names:
    """snippet: the name of the snippet that a use came from, or "" """

    def __init__(self, made: list[Made], snippet: Snippet) -> None:
        self.snippet = snippet
        self.middleware: dict[str, Fields] = {}
        self.providers: dict[str, Fields] = {}
        self._names: dict[str, str] = {}
        listed = [_key(use) for one in made for uses in one.uses.values() for use in uses]
        self.count = Counter(listed)
        self.groups: dict[str, Fields] = {}
        self._pools = Counter(json.dumps(found, sort_keys=True) for one in made for found in map(_pool, _services(one)))

    def route(self, made: Made) -> Fields:
        """The route as it stands in pillar."""
        fields = dict(made.fields)
        _use(fields, *self._split(made.uses[""]))
        self._group(fields, made.host)
        paths = {}
        for pattern, rules in fields.get("paths", {}).items():
            listed = rules if isinstance(rules, list) else [rules]
            filled = [dict(rule) for rule in listed]
            for number, rule in enumerate(filled):
                _use(rule, *self._split(made.uses[f"{pattern} {number}"]))
                self._group(rule, made.host)
            paths[pattern] = filled if isinstance(rules, list) else filled[0]
        if paths:
            fields["paths"] = paths
        if made.auth:
            fields["auth_policy"] = self._provider(made.auth)
        return fields

    def _group(self, fields: Fields, host: str) -> None:
        """A pool with settings of its own that is written more than once gets a name."""
        pool = _pool(fields)
        key = json.dumps(pool, sort_keys=True)
        if len(pool) < 2 or self._pools[key] < 2:
            return
        name = next((n for n, known in self.groups.items() if known == pool), "")
        if not name:
            name = _free(_slug(host.partition(".")[0]) or "upstreams", set(self.groups))
            self.groups[name] = pool
        for field in pool:
            del fields[field]
        fields["upstreams"] = name

    def _split(self, uses: list[Use]) -> tuple[list[str], Fields | None]:
        """Names of middleware, and headers that only this place has."""
        headers = [use for use in uses if use.type == "headers"]
        alone = len(headers) == 1 and self.count[_key(headers[0])] == 1
        names = [self._name(use) for use in uses if not (alone and use.type == "headers")]
        return list(dict.fromkeys(names)), headers[0].config if alone else None

    def _name(self, use: Use) -> str:
        if use.config is None:
            return BUILT_IN[use.type]
        key = _key(use)
        if key not in self._names:
            kind = use.type.replace("_", "-")
            snippet = _slug(self.snippet(use)) if self.count[key] > 1 else ""
            name = _free(f"{snippet}-{kind}" if snippet else kind, {*self.middleware, *BUILT_IN.values()})
            self._names[key] = name
            self.middleware[name] = {"type": use.type, "config": use.config}
        return self._names[key]

    def _provider(self, found: Fields) -> str:
        for name, known in self.providers.items():
            if known == found:
                return name
        name = _free("outpost" if "passage" in found else "sign-in", set(self.providers))
        self.providers[name] = found
        return name


def _services(made: Made) -> list[Fields]:
    rules = [
        r for value in made.fields.get("paths", {}).values() for r in (value if isinstance(value, list) else [value])
    ]
    return [made.fields, *rules]


def _pool(fields: Fields) -> Fields:
    return {key: fields[key] for key in ("upstreams", *POOL_FIELDS) if key in fields}


def _use(fields: dict[str, Any], names: list[str], headers: Fields | None) -> None:
    if names:
        fields["middleware"] = names
    if headers:
        fields["headers"] = {**fields.get("headers", {}), **headers}


def _key(use: Use) -> str:
    return json.dumps([use.type, use.config], sort_keys=True)


def _free(name: str, taken: set[str]) -> str:
    tried, number = name, 1
    while tried in taken:
        number += 1
        tried = f"{name}-{number}"
    return tried


def _slug(text: str) -> str:
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")[:SLUG_LENGTH].strip("-")
    return slug if SLUG.fullmatch(slug) else ""
