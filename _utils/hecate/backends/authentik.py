"""authentik as a backend: groups, proxy providers, applications, bindings, outpost attachments.

Reads are one paged listing per kind. Names and slugs are resolved to the server's keys from them.
The outpost is written once per apply, after everything that guards what it will serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hecate.clients.authentik import AuthentikClient
from hecate.errors import Faulty, NotFound, Refused
from hecate.resource import Change, Resource, Snapshot

GROUPS, PROVIDERS, APPLICATIONS = "/core/groups/", "/providers/proxy/", "/core/applications/"
BINDINGS, OUTPOSTS, FLOWS = "/policies/bindings/", "/outposts/instances/", "/flows/instances/"
EMBEDDED = "goauthentik.io/outposts/embedded"
MARK_KEY = "managed-by"
PROVIDER_FIELDS = ("mode", "external_host", "access_token_validity")
FLOW_FIELDS = ("authorization_flow", "invalidation_flow", "authentication_flow")
APPLICATION_FIELDS = ("name", "policy_engine_mode", "meta_launch_url", "meta_publisher")
Row = dict[str, Any]


@dataclass
class Keys:
    """The server's keys for names; grows while an apply creates objects."""

    outpost: str
    flows: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    providers: dict[str, int] = field(default_factory=dict)
    applications: dict[str, str] = field(default_factory=dict)
    bindings: dict[str, str] = field(default_factory=dict)


class AuthentikBackend:
    """mark: what Hecate's objects of this environment carry. prefix: how its providers' names begin.

    outpost: name of an outpost of one's own, or "" for the embedded one.
    """

    system = "authentik"
    atomic = False
    together = frozenset({"authentik.attachment"})
    brief = False

    def __init__(self, client: AuthentikClient, mark: str, prefix: str, outpost: str) -> None:
        self._client, self._mark, self._prefix, self._outpost_name = client, mark, prefix, outpost

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        wanted = {r.id for r in scope}
        rows = {path: self._client.all(path) for path in (GROUPS, PROVIDERS, BINDINGS, FLOWS)}
        applications = self._applications([r.key for r in scope if r.kind == "authentik.application"])
        outpost = self._outpost()
        keys = Keys(str(outpost["pk"]), flows={row["slug"]: row["pk"] for row in rows[FLOWS]})
        found = [
            *self._providers(rows[PROVIDERS], keys),
            *self._seen_applications(applications, keys),
            *self._groups(rows[GROUPS], rows[BINDINGS], wanted, keys),
        ]
        bindings = self._bindings(rows[BINDINGS], keys)
        found += bindings + self._attachments(outpost, found, bindings, keys)
        owned = {r.id: r for r in found if self._is_ours(r)}
        return Snapshot(owned, {r.id: r for r in found if r.id not in owned and r.id in wanted}, keys)

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        """A group that others made serves as well as one of ours; it is used, never changed."""
        return want.with_spec(have.spec) if have and want.kind == "authentik.group" else want

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        keys: Keys = snapshot.raw
        if changes[0].kind == "authentik.attachment":
            self._attach(changes, keys)
            return
        for change in changes:
            kind = change.kind.removeprefix("authentik.")
            if change.after is None:
                self._delete(kind, change.subject.key, keys)
            else:
                self._write(kind, change.after, change.before is not None, keys)

    def version(self) -> str:
        return self._client.version()

    def _is_ours(self, resource: Resource) -> bool:
        if resource.kind == "authentik.provider":
            return resource.key.startswith(self._prefix)
        if resource.kind == "authentik.application":
            return bool(resource.spec["meta_publisher"] == self._mark)
        return resource.kind != "authentik.group" or bool(resource.spec["mark"] == self._mark)

    # What stands on the server, as resources

    def _applications(self, wanted: list[str]) -> list[Row]:
        """All of them; a slug that the listing hides is asked for by name before it counts as absent."""
        rows = {row["slug"]: row for row in self._client.all(APPLICATIONS, superuser_full_list="true", ordering="slug")}
        for slug in wanted:
            if slug not in rows:
                try:
                    rows[slug] = self._client.get(f"{APPLICATIONS}{slug}/")
                except NotFound:
                    continue
        return list(rows.values())

    def _outpost(self) -> Row:
        """Unknown filters return everything, so the answer is checked against what was asked."""
        for row in self._client.all(OUTPOSTS, ordering="name"):
            if self._outpost_name in (row["name"],) or (not self._outpost_name and row.get("managed") == EMBEDDED):
                return row
        name = self._outpost_name or "the embedded outpost"
        raise Refused(
            "authentik", f"there is no outpost called {name}; create it, or set hecate:authentik:outpost_name"
        )

    def _providers(self, rows: list[Row], keys: Keys) -> list[Resource]:
        flows = {pk: slug for slug, pk in keys.flows.items()}
        keys.providers = {row["name"]: row["pk"] for row in rows}
        return [
            Resource(
                "authentik.provider",
                row["name"],
                {name: row[name] for name in PROVIDER_FIELDS}
                | {name: flows.get(row[name], "") for name in FLOW_FIELDS},
            )
            for row in rows
        ]

    def _seen_applications(self, rows: list[Row], keys: Keys) -> list[Resource]:
        names = {pk: name for name, pk in keys.providers.items()}
        keys.applications = {row["slug"]: row["pk"] for row in rows}
        return [
            Resource(
                "authentik.application",
                row["slug"],
                {name: row[name] for name in APPLICATION_FIELDS} | {"provider": names.get(row["provider"], "")},
                needs=(f"authentik.provider {names.get(row['provider'], '')}",),
            )
            for row in rows
        ]

    def _groups(self, rows: list[Row], bindings: list[Row], wanted: set[str], keys: Keys) -> list[Resource]:
        """A group of ours that has members or guards something else is not ours to remove any more."""
        ours = set(keys.applications.values())
        busy = {b["group"] for b in bindings if b["group"] and b["target"] not in ours}
        found = []
        for row in rows:
            if row["name"] in keys.groups:
                raise Faulty(
                    "authentik", f"two groups are called {row['name']}; rename one, a policy would be ambiguous"
                )
            keys.groups[row["name"]] = row["pk"]
            resource = Resource("authentik.group", row["name"], {"mark": row["attributes"].get(MARK_KEY, "")})
            if resource.id in wanted or not (row.get("users") or row["pk"] in busy):
                found.append(resource)
        return found

    def _bindings(self, rows: list[Row], keys: Keys) -> list[Resource]:
        """Group bindings of all applications; bindings of users and policies are left to others."""
        slugs = {pk: slug for slug, pk in keys.applications.items()}
        names = {pk: name for name, pk in keys.groups.items()}
        found = []
        for row in rows:
            if row["target"] not in slugs or row["group"] not in names:
                continue
            slug, group = slugs[row["target"]], names[row["group"]]
            key = f"{slug}/{group}"
            if key in keys.bindings:
                continue  # the same binding twice guards once
            keys.bindings[key] = row["pk"]
            spec = {name: row[name] for name in ("order", "enabled", "negate")}
            needs = (f"authentik.application {slug}", f"authentik.group {group}")
            found.append(Resource("authentik.binding", key, spec, needs))
        return found

    def _attachments(self, outpost: Row, found: list[Resource], bindings: list[Resource], keys: Keys) -> list[Resource]:
        attached = set(outpost["providers"])
        made = []
        for name, pk in keys.providers.items():
            if pk not in attached or not name.startswith(self._prefix):
                continue
            apps = [r for r in found if r.kind == "authentik.application" and r.spec["provider"] == name]
            guards = [b.id for b in bindings for a in apps if b.key.startswith(f"{a.key}/")]
            needs = (f"authentik.provider {name}", *(a.id for a in apps), *guards)
            made.append(Resource("authentik.attachment", f"{self._outpost_name}/{name}", {}, needs))
        return made

    # Writing

    def _write(self, kind: str, want: Resource, exists: bool, keys: Keys) -> None:
        body: Row
        if kind == "group":
            path, known, body = GROUPS, keys.groups, {"name": want.key, "attributes": {MARK_KEY: want.spec["mark"]}}
        elif kind == "provider":
            flows = {n: self._flow(want.spec[n], keys) for n in FLOW_FIELDS if n in want.spec}
            path, known, body = PROVIDERS, keys.providers, {"name": want.key, **want.spec, **flows}  # type: ignore[assignment]
        elif kind == "application":
            provider = keys.providers.get(want.spec["provider"])
            path, known, body = APPLICATIONS, keys.applications, {"slug": want.key, **want.spec, "provider": provider}
        else:
            slug, _, group = want.key.partition("/")
            ends = {"target": keys.applications[slug], "group": keys.groups[group]}
            path, known, body = BINDINGS, keys.bindings, {**ends, **want.spec, "timeout": 30}
        if exists:
            self._client.patch(path, want.key if kind == "application" else known[want.key], body)
        else:
            known[want.key] = self._client.create(path, body)["pk"]

    def _flow(self, slug: str, keys: Keys) -> str | None:
        """The key of a flow; of none, None: authentik takes its brand's own."""
        if not slug:
            return None
        if slug not in keys.flows:
            why = f"there is no flow {slug}; see hecate:authentik:authorization_flow and the policies' flow"
            raise Refused("authentik", why)
        return keys.flows[slug]

    def _delete(self, kind: str, key: str, keys: Keys) -> None:
        """What is gone already is as good as deleted."""
        paths: dict[str, tuple[str, dict[str, Any]]] = {
            "group": (GROUPS, keys.groups),
            "provider": (PROVIDERS, keys.providers),
            "application": (APPLICATIONS, {key: key}),
            "binding": (BINDINGS, keys.bindings),
        }
        path, known = paths[kind]
        try:
            self._client.delete(path, known[key])
        except NotFound:
            pass

    def _attach(self, changes: Sequence[Change], keys: Keys) -> None:
        """One write of the whole list, on top of a fresh read, and a look at what became of it."""
        path = f"{OUTPOSTS}{keys.outpost}/"
        current = set(self._client.get(path)["providers"])
        named = [(change.subject.key.partition("/")[2], change.after) for change in changes]
        come = {keys.providers[name] for name, after in named if after}
        go = {keys.providers[name] for name, after in named if not after and name in keys.providers}
        wanted = (current | come) - go
        if wanted != current:
            self._client.patch(OUTPOSTS, keys.outpost, {"type": "proxy", "providers": sorted(wanted)})
        attached = set(self._client.get(path)["providers"])
        if not come <= attached or go & attached:
            raise Faulty("authentik", "the outpost lost the update: somebody else wrote its providers at the same time")
