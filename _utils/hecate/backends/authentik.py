"""authentik as a backend: everything that decides who may reach what, and in which order it may be written.

Reads are one paged listing per kind, several at a time. A restricted application is never there without what restricts
it: it is made together with its bindings, goes before them, and the outposts hear of it last and of its end first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from hecate.backends.authentik_kinds import (
    BINDINGS,
    EMBEDDED,
    FLOW_BINDINGS,
    KINDS,
    OUTPOSTS,
    PROVIDERS,
    Held,
    Words,
    keyed,
)
from hecate.backends.authentik_sealed import Sealed
from hecate.backends.authentik_seen import Owner, Seen
from hecate.backends.authentik_versions import dialect, warnings
from hecate.backends.authentik_writing import Writer
from hecate.clients.authentik import AuthentikClient
from hecate.errors import Faulty, NotFound, Refused
from hecate.resource import Change, Resource, Snapshot

CERTIFICATES = "/crypto/certificatekeypairs/"
SIGNING = ("oauth2", "saml")  # providers that need a certificate's key
FLOW = "authorization_flow"
ENTRANCE = ("provider", "policy_engine_mode")
READERS = 4  # calls at a time
Row = dict[str, Any]


class AuthentikBackend:
    """owner: what marks Hecate's objects. outposts: names of pillar's; "" is the embedded one."""

    system = "authentik"
    atomic = False
    brief = False

    def __init__(
        self,
        client: AuthentikClient,
        owner: Owner,
        outposts: Collection[str],
        sealed: Sealed,
    ) -> None:
        self.client, self._owner, self._outposts, self._sealed = client, owner, outposts, sealed

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        wanted = {r.id: r for r in scope}
        held = self._held(wanted)
        words = Words(held.dialect, self._sealed)
        found = Seen(held, words, self._owner, wanted, self.client.owner_of).resources()
        owned = {r.id: r for r, is_ours in found if is_ours}
        return Snapshot(owned, {r.id: r for r, _ in found if r.id not in owned and r.id in wanted}, held)

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """A group that others made serves as well as one of ours, unless pillar says who is in it."""
        takes_it = want.kind == "authentik.group" and not {"members", "attributes"} & want.spec.keys()
        return want.with_spec(have.spec) if have and takes_it else want

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        """An application comes with its provider and its bindings, and goes with its bindings: one batch each.

        Outposts are told once: after everything that comes and whatever else lets people in, before anything goes.
        """
        turning, dying = _turning(changes), _dying(changes)
        attachments = [change for change in changes if change.kind == "authentik.attachment"]
        for change in changes:
            if change.after is None or change.kind == "authentik.attachment":
                continue
            if change.id not in turning:
                yield [change]
            elif change is [c for c in turning[change.id] if c.after][-1]:
                yield turning[change.id]
        going = [c for c in changes if c.after is None and c.id not in turning and c.kind != "authentik.attachment"]
        unbound = [c for c in going if c.kind == "authentik.binding" and c.id not in dying]
        yield from ([change] for change in unbound)
        if attachments:
            yield attachments
        for change in going:
            if change.id in dying:
                if change is dying[change.id][0]:
                    yield dying[change.id]
            elif change not in unbound:
                yield [change]

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        held: Held = snapshot.raw
        Writer(self.client, held, Words(held.dialect, self._sealed)).write(changes)

    def version(self) -> str:
        return self.client.version()

    def warnings(self) -> list[str]:
        """What a person should know of the server's version before trusting it."""
        return warnings(self.version())

    # Reading

    def _held(self, wanted: Mapping[str, Resource]) -> Held:
        held = Held(dialect(self.client.version()), self._owner.mark)
        kinds = {**PROVIDERS, **KINDS}
        del kinds["application"]
        further = {"bindings": BINDINGS, "flow_bindings": FLOW_BINDINGS, "outposts": OUTPOSTS}
        with ThreadPoolExecutor(READERS) as pool:  # the longest lists first
            shown = pool.submit(self._shown_applications)
            lists = self._lists(
                pool,
                {name: (path, {}) for name, path in further.items()}
                | {name: (kind.path, kind.filters) for name, kind in kinds.items()},
            )
            there = any(row["name"].startswith(self._owner.prefix) for name in SIGNING for row in lists[name])
            if there or any(r.spec.get("type") in SIGNING for r in wanted.values()):
                theirs = held.dialect.scope_mappings, held.dialect.saml_mappings
                signing = dict(zip(("certificate", "scope", "saml_mapping"), (CERTIFICATES, *theirs), strict=True))
                lists |= self._lists(pool, {name: (path, {}) for name, path in signing.items()})
        lists["application"] = self._applications(*shown.result(), lists, wanted)
        for name in (*KINDS, *PROVIDERS):
            kind = KINDS.get(name) or PROVIDERS[name]
            held.rows[name] = keyed(name, lists[name], kind.key)
        held.rows["provider"] = {}
        for kind_of in PROVIDERS:
            held.rows["provider"].update({k: {**row, "type": kind_of} for k, row in held.rows.pop(kind_of).items()})
        held.rows["certificate"] = keyed("certificate", lists.get("certificate", []), "name")
        held.lists = {name: lists.get(name, []) for name in ("bindings", "flow_bindings", "scope", "saml_mapping")}
        asked = {r.key.partition("/")[0] for r in wanted.values() if r.kind == "authentik.attachment"}
        held.outposts = self._found_outposts(lists["outposts"], {*self._outposts, *asked})
        return held

    def _lists(self, pool: Executor, asked: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, list[Row]]:
        return dict(zip(asked, pool.map(lambda one: self._list(*one), asked.values()), strict=True))

    def _list(self, path: str, filters: Mapping[str, str]) -> list[Row]:
        """What a filter let through although it should not is left out: unknown ones are ignored by the server."""
        order = "username" if path == KINDS["user"].path else "pk"
        rows = self.client.all(path, **filters, ordering=order)
        return [row for row in rows if all(str(row.get(name)) == value for name, value in filters.items())]

    def _shown_applications(self) -> tuple[list[Row], bool]:
        """Those that the listing shows, and whether these are all."""
        path = KINDS["application"].path
        return self.client.seen(path, hidden=True, superuser_full_list="true", ordering="slug")

    def _applications(
        self, rows: list[Row], whole: bool, lists: Mapping[str, list[Row]], wanted: Mapping[str, Resource]
    ) -> list[Row]:
        """All of them. What the listing hides is asked for by name: a slug that matters is never absent unasked."""
        if whole:
            return rows
        path, found = KINDS["application"].path, {row["slug"]: row for row in rows}
        assigned = [row["assigned_application_slug"] for kind in PROVIDERS for row in lists[kind]]
        named = [r.key for r in wanted.values() if r.kind == "authentik.application"]
        for slug in {*filter(None, assigned), *named} - found.keys():
            try:
                found[slug] = self.client.get(f"{path}{slug}/")
            except NotFound:
                continue
        return list(found.values())

    def _found_outposts(self, rows: Sequence[Row], wanted: Collection[str]) -> dict[str, Row]:
        """By name, "" for the embedded one where pillar means it so: those wanted, and those that have ours.

        One that isn't there is made with the first provider that it gets, but the usual one.
        """
        found: dict[str, Row] = {}
        for row in rows:
            is_usual = row.get("managed") == EMBEDDED and row["name"] not in wanted
            name = "" if is_usual else row["name"]
            if name in wanted or any(p["name"].startswith(self._owner.prefix) for p in row["providers_obj"]):
                if name in found:
                    raise Faulty("authentik", f"two outposts are called {name}; rename one")
                found[name] = row
        if "" in wanted and "" not in found:
            why = "there is no embedded outpost; bring it back, or set hecate:authentik:outpost_name"
            raise Refused("authentik", why)
        return found


def _turning(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """By id of each of its changes: an application that is made, or that is entered in another way from now on, with
    its provider, and whatever is bound to it or was.
    """
    providers: dict[str, set[str]] = {}
    turned = {c.id for c in changes if c.kind == "authentik.provider" and c.verb == "update" and _differ(c, FLOW)}
    slugs = set()
    for change in changes:
        if change.kind in ("authentik.application", "authentik.binding"):
            slug = change.subject.key.partition("/")[0]
            its = {name for name in change.subject.needs if name.startswith("authentik.provider ")}
            providers.setdefault(slug, set()).update(its)
            if turned & its or (change.kind == "authentik.application" and _differ(change, *ENTRANCE)):
                slugs.add(slug)
    groups: dict[str, list[Change]] = {}
    for change in changes:
        of = [slug for slug in slugs if change.id in providers[slug]] if change.after else []
        if change.kind in ("authentik.application", "authentik.binding"):
            of = [slug for slug in slugs if slug == change.subject.key.partition("/")[0]]
        for slug in of:
            groups.setdefault(slug, []).append(change)
    return _by_id(group for group in groups.values() if any(change.after for change in group))


def _differ(change: Change, *fields: str) -> bool:
    """Whether it sets one of these fields to something new."""
    before, after = (side.spec if side else {} for side in (change.before, change.after))
    return bool(after) and any(before.get(name) != after.get(name) for name in fields)


def _dying(changes: Sequence[Change]) -> dict[str, list[Change]]:
    """By id of each of its changes: an application that goes, and its bindings, which the server takes along."""
    slugs = {c.subject.key for c in changes if c.kind == "authentik.application" and c.after is None}
    groups: dict[str, list[Change]] = {}
    for change in changes:
        if change.after is None and change.kind in ("authentik.application", "authentik.binding"):
            slug = change.subject.key.partition("/")[0]
            if slug in slugs:
                groups.setdefault(slug, []).append(change)
    return _by_id(groups.values())


def _by_id(groups: Iterable[list[Change]]) -> dict[str, list[Change]]:
    return {change.id: group for group in groups for change in group}
