"""What stands on an authentik server, as resources: each with whether it is Hecate's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hecate.backends.authentik_kinds import (
    KINDS,
    MARK_KEY,
    PROVIDERS,
    SHIPPED_GROUPS,
    SHIPPED_USERS,
    Held,
    Names,
    Words,
    mark_of,
)
from hecate.resource import Resource

Row = dict[str, Any]
Found = tuple[Resource, bool]


@dataclass(frozen=True)
class Owner:
    """mark: what Hecate's objects of this environment carry. prefix: how the names of those begin that can't."""

    mark: str
    prefix: str


class Seen:
    """wanted: what was asked for, by id. owner_of: username of whose API token has a key."""

    def __init__(
        self,
        held: Held,
        words: Words,
        owner: Owner,
        wanted: Mapping[str, Resource],
        owner_of: Callable[[str], str],
    ) -> None:
        self._held, self._words, self._owner, self._wanted = held, words, owner, wanted
        self._owner_of = owner_of
        self._names: Names = cache(held.names)  # nothing is made while it is looked

    def resources(self) -> list[Found]:
        found = [one for kind in KINDS for one in self._of_kind(kind) if kind not in ("application",)]
        found += self._providers()
        found += self._of_kind("application")
        found += self._bindings()
        found += self._flow_bindings()
        found += self._triggers()
        return found + self._attachments()

    def _of_kind(self, name: str) -> Iterator[Found]:
        kind = KINDS[name]
        for key, row in self._held.rows[name].items():
            want = self._wanted.get(f"authentik.{name} {key}")
            spec = self._words.spec(name, kind, row, self._names, f"authentik.{name} {key}", want)
            if name == "group":
                spec |= _membership(row, want)
            elif name == "token":
                spec["key"] = self._key(key, spec, want)
            resource = Resource(f"authentik.{name}", key, spec, tuple(self._needs(name, spec)))
            yield resource, self._is_ours(name, key, row, want is not None)

    def _is_ours(self, name: str, key: str, row: Row, is_wanted: bool) -> bool:
        """What authentik brings along is nobody's, whatever mark was put on it: it can't be deleted."""
        if row.get("managed") or (name == "group" and key in SHIPPED_GROUPS) or key in SHIPPED_USERS:
            return False
        if name == "group":
            is_free = is_wanted or not (row.get("users") or self._is_busy(row))
            return mark_of(row) == self._owner.mark and is_free
        if KINDS[name].marked:
            return mark_of(row) == self._owner.mark
        if name == "application":
            return bool(row["meta_publisher"] == self._owner.mark)
        if name == "token":
            return bool(row.get("description") == self._owner.mark)
        return str(row["name"]).startswith(self._owner.prefix)

    def _is_busy(self, row: Row) -> bool:
        """A group that guards something else, or has members, is not ours to remove any more."""
        ours = {a["pk"] for a in self._held.rows["application"].values() if a["meta_publisher"] == self._owner.mark}
        return any(b["group"] == row["pk"] and b["target"] not in ours for b in self._held.lists["bindings"])

    def _key(self, key: str, spec: Mapping[str, Any], want: Resource | None) -> str:
        """By use: a look at the key itself would be an event in the server's audit log each time."""
        wanted = want.spec["key"] if want else None
        return self._words.sealed.of(
            f"authentik.token {key}", wanted, lambda text: self._owner_of(text) == spec["user"]
        )

    def _needs(self, name: str, spec: Mapping[str, Any]) -> Iterator[str]:
        for own, other in KINDS[name].links.items():
            if spec.get(own):
                yield f"authentik.{other} {spec[own]}"
        for own, other in KINDS[name].many.items() if name != "user" else ():  # groups need their members, not both
            yield from (f"authentik.{other} {one}" for one in spec[own])
        for member in spec.get("members", ()):
            yield f"authentik.user {member}"

    def _providers(self) -> Iterator[Found]:
        stages = {key.partition("/")[0]: key for key in self._flow_binding_keys().values()}
        for key, row in self._held.rows["provider"].items():
            want = self._wanted.get(f"authentik.provider {key}")
            kind = PROVIDERS[row["type"]]
            spec = self._words.spec(row["type"], kind, row, self._names, f"authentik.provider {key}", want)
            spec["type"] = row["type"]
            if row["type"] == "oauth2":
                spec["scopes"] = self._words.scopes(row, self._held)
            flow = spec["authorization_flow"]
            needs = [f"authentik.flow {flow}"]
            needs += [f"authentik.flow_binding {stages[flow]}"] if flow in stages else []
            yield Resource("authentik.provider", key, spec, tuple(needs)), key.startswith(self._owner.prefix)

    def _bindings(self) -> Iterator[Found]:
        """Of applications. On one that is ours, or wanted, each binding is ours, whoever made it: it lets people in."""
        slugs = {row["pk"]: slug for slug, row in self._held.rows["application"].items()}
        ours = {
            row["pk"]
            for slug, row in self._held.rows["application"].items()
            if row["meta_publisher"] == self._owner.mark or f"authentik.application {slug}" in self._wanted
        }
        names = self._names("provider")
        behind = {
            slug: [f"authentik.provider {names[row['provider']]}"] if row["provider"] in names else []
            for slug, row in self._held.rows["application"].items()
        }
        for row in self._held.lists["bindings"]:
            what = _bound(row)
            if row["target"] not in slugs or what is None:
                continue
            slug = slugs[row["target"]]
            key = f"{slug}/{what[0]}/{what[1]}"
            known = self._held.bindings.setdefault(key, [])
            known.append(row["pk"])
            if len(known) > 1:
                continue  # the same binding twice guards once
            spec = {name: row[name] for name in ("order", "enabled", "negate")}
            needs = (*behind[slug], f"authentik.application {slug}", f"authentik.{what[0]} {what[1]}")
            yield Resource("authentik.binding", key, spec, needs), row["target"] in ours

    def _flow_binding_keys(self) -> dict[str, str]:
        """By the server's key: flow and stage."""
        flows, stages = self._names("flow"), self._names("stage")
        return {
            row["pk"]: f"{flows[row['target']]}/{stages[row['stage']]}"
            for row in self._held.lists["flow_bindings"]
            if row["target"] in flows and row["stage"] in stages
        }

    def _flow_bindings(self) -> Iterator[Found]:
        keys = self._flow_binding_keys()
        for row in self._held.lists["flow_bindings"]:
            if row["pk"] not in keys:
                continue
            key = keys[row["pk"]]
            flow, _, stage = key.partition("/")
            self._held.flow_bindings[key] = row["pk"]
            needs = (f"authentik.flow {flow}", f"authentik.stage {stage}")
            ours = self._held.rows["flow"][flow]["name"].startswith(self._owner.prefix)
            yield Resource("authentik.flow_binding", key, {"order": row["order"]}, needs), ours

    def _triggers(self) -> Iterator[Found]:
        """Event matchers of a rule; a matcher's name tells of itself."""
        rules, matchers = self._names("rule"), self._names("matcher")
        for row in self._held.lists["bindings"]:
            if row["target"] not in rules or row["policy"] not in matchers:
                continue
            rule, matcher = rules[row["target"]], matchers[row["policy"]]
            self._held.triggers[matcher] = row["pk"]
            spec = {"rule": rule, **{name: row[name] for name in ("order", "enabled", "negate")}}
            needs = (f"authentik.rule {rule}", f"authentik.matcher {matcher}")
            yield Resource("authentik.trigger", matcher, spec, needs), rule.startswith(self._owner.prefix)

    def _attachments(self) -> list[Found]:
        names = {pk: name for pk, name in self._names("provider").items() if name.startswith(self._owner.prefix)}
        bound: dict[str, list[str]] = {}
        for key in self._held.bindings:
            bound.setdefault(key.partition("/")[0], []).append(f"authentik.binding {key}")
        guards = {
            names[row["provider"]]: [f"authentik.application {slug}", *bound.get(slug, ())]
            for slug, row in self._held.rows["application"].items()
            if row["provider"] in names
        }
        found: list[Found] = []
        for key, outpost in self._held.outposts.items():
            ours = sorted(names[pk] for pk in outpost["providers"] if pk in names)
            if key and len(ours) == len(outpost["providers"]) and self._all_move(key, ours):
                continue
            for name in ours:
                needs = (f"authentik.provider {name}", *guards.get(name, ()))
                found.append((Resource("authentik.attachment", f"{key}/{name}", {}, needs), True))
        return found

    def _all_move(self, outpost: str, providers: Collection[str]) -> bool:
        """Whether all that an outpost has are wanted on others, and nothing else is wanted on this one.

        It refuses to have none, but for the embedded one: the last to leave stays, guarded, until another comes.
        """
        wanted = [r.key.partition("/")[::2] for r in self._wanted.values() if r.kind == "authentik.attachment"]
        moving = {provider for place, provider in wanted if place != outpost}
        coming = {provider for place, provider in wanted if place == outpost} - set(providers)
        return moving.issuperset(providers) and not coming


def _membership(row: Row, want: Resource | None) -> dict[str, Any]:
    """Members and attributes of a group, where pillar says any."""
    found: dict[str, Any] = {}
    if want and "members" in want.spec:
        found["members"] = sorted(user["username"] for user in row["users_obj"] or ())
    if want and "attributes" in want.spec:
        found["attributes"] = {name: value for name, value in row["attributes"].items() if name != MARK_KEY}
    return found


def _bound(row: Row) -> tuple[str, str] | None:
    """Kind and name of what a binding binds; policies of all kinds count, users too."""
    for kind, name in (("group", "name"), ("policy", "name"), ("user", "username")):
        shown = row.get(f"{kind}_obj")
        if row[kind] and shown:
            return kind, shown[name]
    return None
