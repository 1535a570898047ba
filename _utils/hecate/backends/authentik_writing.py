"""Writing to authentik: a batch of changes, each object by its kind; what the server refuses, in pillar's words.

A crash of the server on a write is answered by looking whether the write took effect, and sending it once more if not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hecate.backends.authentik_kinds import (
    BINDINGS,
    EMBEDDED,
    FLOW_BINDINGS,
    KINDS,
    MODELS,
    OUTPOSTS,
    PROVIDERS,
    Held,
    Kind,
    Words,
    pk_of,
)
from hecate.clients.authentik import AuthentikClient, Crashed
from hecate.errors import Faulty, NotFound, Refused
from hecate.resource import UNKNOWN, Change, Resource

Row = dict[str, Any]
Made = TypeVar("Made")
CLOSED = "/closed"  # what the name of the policy that says no ends in
TIMEOUT = 30  # seconds that the server gives a policy
HANGING = ("policy", "group", "flow", "stage", "matcher", "mapping", "transport")  # what others may hang from
# What the server tells of as hanging from an object is what the token may see, and of the rest it keeps silent: a look
# that is refused where it may not. Providers of kinds that are not Hecate's hang from flows.
SIGHT = {"flow": "/providers/all/"}


@dataclass(frozen=True)
class Writer:
    client: AuthentikClient
    held: Held
    words: Words

    def write(self, changes: Sequence[Change]) -> None:
        try:
            self._write(changes)
        except Refused as err:
            if err.code != 400:
                raise
            raise _explained(err, changes) from err

    def _write(self, changes: Sequence[Change]) -> None:
        kinds = {change.kind for change in changes}
        if kinds == {"authentik.attachment"}:
            self._attach(changes)
        elif len(changes) > 1 and all(change.after is None for change in changes):
            gone = next(change for change in changes if change.kind == "authentik.application")
            self._delete("application", gone.subject.key)
        elif len(changes) > 1 or "authentik.application" in kinds and changes[0].verb == "create":
            self._turn(changes)
        else:
            for change in changes:
                self._one(change)

    def _one(self, change: Change) -> None:
        kind = change.kind.removeprefix("authentik.")
        if change.after is None:
            self._delete(kind, change.subject.key)
        elif kind in ("binding", "flow_binding", "trigger"):
            self._bind(kind, change.after)
        elif change.before is None:
            self._create(kind, change.after)
        else:
            self._update(kind, change.before, change.after)

    # An application and what guards it

    def _turn(self, changes: Sequence[Change]) -> None:
        """One that is made, or entered in another way from now on; whoever may not get in before or after, may not
        meanwhile: what says no comes first and goes last, and who may get in no more is out before the way in changes.
        """
        bindings = [change for change in changes if change.kind == "authentik.binding"]
        closing = [change for change in bindings if change.subject.key.endswith(CLOSED)]
        opening = [change for change in bindings if change not in closing]
        application = next((change for change in changes if change.kind == "authentik.application"), None)
        provider = next((change for change in changes if change.kind == "authentik.provider"), None)
        if application and application.before is None:
            self._bear(application, provider, [change.after for change in bindings if change.after])
            return
        for change in (
            *(change for change in closing if change.after),
            *(change for change in opening if not change.after),
            *filter(None, (provider, application)),
            *(change for change in opening if change.after),
            *(change for change in closing if not change.after),
        ):
            self._one(change)

    def _bear(self, born: Change, provider: Change | None, bindings: Sequence[Resource]) -> None:
        """Together in one call where the server can; else the application without its provider, so that nobody gets in
        before the bindings are there.
        """
        application = born.after
        assert application, "checked by the caller"
        made = provider.after if provider and not provider.before else None
        if made and (self.held.dialect.guarded_creation or not bindings):
            self._together(application, made, bindings)
            return
        if provider:
            self._one(provider)
        closed = application.with_spec({**application.spec, "provider": ""})
        self._create("application", closed)
        for binding in bindings:
            self._bind("binding", binding)
        self._update("application", closed, application)

    def _together(self, application: Resource, provider: Resource, bindings: Sequence[Resource]) -> None:
        kind = str(provider.spec["type"])
        closed = {**application.spec, "provider": ""}
        app = self.words.body("application", KINDS["application"], application.key, closed, self.held)
        del app["provider"]
        body: Row = {
            "app": app,
            "provider_model": MODELS[kind],
            "provider": self._provider_body(provider),
        }
        if bindings:
            body["policy_bindings"] = [{**self._bound(b), **b.spec, "timeout": TIMEOUT} for b in bindings]
        try:
            self.client.create_together(body)
        except Crashed:
            if self._found("application", application.key) is None:
                self.client.create_together(body)

    def _provider_body(self, provider: Resource) -> Row:
        kind = str(provider.spec["type"])
        self._remember(provider, PROVIDERS[kind])
        body = self.words.body(kind, PROVIDERS[kind], provider.key, provider.spec, self.held)
        if kind != "proxy":
            body["property_mappings"] = self.words.mappings(provider.spec, self.held)
        return body

    # Objects with a name

    def _kind(self, name: str, key: str, wanted: Resource | None = None) -> Kind:
        if name != "provider":
            return KINDS[name]
        return PROVIDERS[wanted.spec["type"] if wanted else self.held.rows["provider"][key]["type"]]

    def _body(self, name: str, wanted: Resource) -> Row:
        if name == "provider":
            return self._provider_body(wanted)
        self._remember(wanted, KINDS[name])
        body = self.words.body(name, KINDS[name], wanted.key, wanted.spec, self.held)
        if name == "token":
            body["description"] = self.held.mark
        return body

    def _remember(self, wanted: Resource, kind: Kind) -> None:
        if kind.sealed in wanted.spec:
            self.words.sealed.learn(wanted.id, wanted.spec[kind.sealed])

    def _create(self, name: str, wanted: Resource) -> None:
        kind, body = self._kind(name, wanted.key, wanted), self._body(name, wanted)
        try:
            row = self.client.create(kind.path, body)
        except Crashed:
            found = self._found(name, wanted.key, kind)
            row = found if found is not None else self.client.create(kind.path, body)
        more = {"type": wanted.spec["type"]} if name == "provider" else {}
        self.held.rows.setdefault(name, {})[wanted.key] = {**row, **more}
        if name == "group":
            self._members(wanted, ())
        elif name == "token":
            self._set_key(wanted)

    def _update(self, name: str, before: Resource, wanted: Resource) -> None:
        kind = self._kind(name, wanted.key)
        if name == "provider" and wanted.spec["type"] != self.held.rows["provider"][wanted.key]["type"]:
            why = (
                "an application changes its protocol under the same name; give it another name, and remove the old one"
            )
            raise Refused("authentik", f"{wanted.origin or wanted.key}: {why}")
        body = self._body(name, wanted)
        if name == "token" and {**before.spec, "key": ""} == {**wanted.spec, "key": ""}:
            self._set_key(wanted)
            return
        row = self._again(lambda: self.client.patch(kind.path, self._handle(name, kind, wanted.key), body))
        self.held.rows[name][wanted.key].update(row)
        if name == "group":
            self._members(wanted, before.spec.get("members", ()))
        elif name == "token":
            self._set_key(wanted)

    def _handle(self, name: str, kind: Kind, key: str) -> Any:
        return key if kind.handle in ("slug", "identifier") else self.held.pk(name, key)

    def _found(self, name: str, key: str, kind: Kind | None = None) -> Row | None:
        """The object of that name, as it is now."""
        kind = kind or self._kind(name, key)
        if kind.handle == "slug":
            try:
                return self.client.get(f"{kind.path}{key}/")
            except NotFound:
                return None
        rows = self.client.all(kind.path, **{kind.key: key})
        return next((row for row in rows if row[kind.key] == key), None)

    def _again(self, call: Callable[[], Made]) -> Made:
        """A call that may be repeated: once more after a crash."""
        try:
            return call()
        except Crashed:
            return call()

    def _members(self, group: Resource, before: Sequence[str]) -> None:
        """One by one: the list as a whole would take members away that came in the meantime."""
        if "members" not in group.spec:
            return
        path = f"{KINDS['group'].path}{self.held.pk('group', group.key)}"
        wanted, there = set(group.spec["members"]), set(before)
        keys = {name: self._user(name, group) for name in sorted(wanted ^ there)}
        for name, pk in keys.items():
            act = "add_user" if name in wanted else "remove_user"
            self._again(lambda pk=pk, act=act: self.client.act(f"{path}/{act}/", {"pk": pk}))  # type: ignore[misc]

    def _user(self, username: str, group: Resource) -> Any:
        path = KINDS["user"].path
        for row in self.client.all(path, username=username, ordering="username"):
            if row["username"] == username:
                return row["pk"]
        where = f"{group.origin or group.key}: " if group.origin else ""
        raise Refused("authentik", f"{where}there is no user {username}; users are made in authentik, or by a source")

    def _set_key(self, token: Resource) -> None:
        if token.spec["key"] != UNKNOWN:
            path, sealed = f"{KINDS['token'].path}{token.key}/set_key/", token.spec["key"]
            self.words.sealed.learn(token.id, sealed)
            self._again(lambda: self.client.act(path, {"key": self.words.sealed.opened(sealed)}))

    # What binds two objects

    def _ends(self, kind: str, wanted: Resource) -> Row:
        if kind == "flow_binding":
            flow, _, stage = wanted.key.partition("/")
            return {"target": self.held.pk("flow", flow), "stage": self.held.pk("stage", stage)}
        if kind == "trigger":
            target = self.held.pk("rule", wanted.spec["rule"])
            return {"target": target, "policy": self.held.pk("matcher", wanted.key)}
        slug = wanted.key.partition("/")[0]
        if slug not in self.held.rows["application"]:
            self.held.rows["application"][slug] = self.client.get(f"{KINDS['application'].path}{slug}/")
        return {"target": self.held.pk("application", slug), **self._bound(wanted)}

    def _bound(self, binding: Resource) -> Row:
        """What a binding of an application binds: a group, a policy or a user."""
        _, kind, name = binding.key.split("/", 2)
        return {kind: self.held.pk(kind, name)}

    def _bind(self, kind: str, wanted: Resource) -> None:
        path, known = self._known(kind)
        ends = self._ends(kind, wanted)
        spec = {name: value for name, value in wanted.spec.items() if name != "rule"}
        body = {**ends, **spec, **({} if kind == "flow_binding" else {"timeout": TIMEOUT})}
        if there := known(wanted.key):
            for pk in there:
                self._again(lambda pk=pk: self.client.patch(path, pk, body))  # type: ignore[misc]
            return
        try:
            row = self.client.create(path, body)
        except Crashed:
            rows = self.client.all(path, target=ends["target"])
            found = [row for row in rows if all(row[name] == value for name, value in ends.items())]
            row = found[0] if found else self.client.create(path, body)
        self._learn(kind, wanted.key, row["pk"])

    def _known(self, kind: str) -> tuple[str, Callable[[str], list[str]]]:
        """Where such bindings are, and the server's keys for one of them."""
        if kind == "binding":
            return BINDINGS, lambda key: self.held.bindings.get(key, [])
        path, single = (
            (FLOW_BINDINGS, self.held.flow_bindings) if kind == "flow_binding" else (BINDINGS, self.held.triggers)
        )
        return path, lambda key: [single[key]] if key in single else []

    def _learn(self, kind: str, key: str, pk: str) -> None:
        if kind == "binding":
            self.held.bindings[key] = [pk]
        else:
            (self.held.flow_bindings if kind == "flow_binding" else self.held.triggers)[key] = pk

    # Removing

    def _delete(self, name: str, key: str) -> None:
        if name in ("binding", "flow_binding", "trigger"):
            path, known = self._known(name)
            for pk in known(key):
                self._again(lambda pk=pk: self.client.delete(path, pk))  # type: ignore[misc]
            return
        if key not in self.held.rows[name]:
            return
        kind = self._kind(name, key)
        handle = self._handle(name, kind, key)
        if name in HANGING:
            self._refuse_if_used(name, key, kind.path, handle)
        self._again(lambda: self.client.delete(kind.path, handle))
        self.held.forget(name, key)

    def _refuse_if_used(self, name: str, key: str, path: str, handle: Any) -> None:
        """The server takes along what hangs from an object: the last guard of an application, a flow's providers."""
        if name in SIGHT:
            self.client.get(f"{SIGHT[name]}?page_size=1")
        try:
            used = self.client.used_by(path, handle)
        except NotFound:
            return
        lost = [f"{row['model_name']} {row['name']}" for row in used if row.get("action") == "cascade"]
        if lost:
            why = f"{name} {key} is still in use, and would take along: {', '.join(sorted(lost))}; free it first"
            raise Refused("authentik", why)

    # Outposts

    def _attach(self, changes: Sequence[Change]) -> None:
        """One write an outpost, of its whole list on top of a fresh read, and a look at what became of it."""
        by_outpost: dict[str, list[Change]] = {}
        for change in changes:
            by_outpost.setdefault(change.subject.key.partition("/")[0], []).append(change)
        self._learn_providers(change.after.key.partition("/")[2] for change in changes if change.after)
        for key, its in by_outpost.items():
            self._attach_to(key, its)

    def _learn_providers(self, names: Any) -> None:
        """Keys of what was made together with its application: the answer to that doesn't say any."""
        known = self.held.rows["provider"]
        if any(name not in known for name in names):
            for row in self.client.all(PROVIDERS["proxy"].path):
                known.setdefault(row["name"], {**row, "type": "proxy"})

    def _attach_to(self, key: str, changes: Sequence[Change]) -> None:
        known = self.held.rows["provider"]
        names = [(change.subject.key.partition("/")[2], change.after) for change in changes]
        come = {self.held.pk("provider", name) for name, after in names if after}
        go = {pk_of(known[name]) for name, after in names if not after and name in known}
        if key not in self.held.outposts:
            self._make_outpost(key, come)
            return
        pk, embedded = self.held.outposts[key]["pk"], self.held.outposts[key]["managed"] == EMBEDDED
        path = f"{OUTPOSTS}{pk}/"
        current = set(self.client.get(path)["providers"])
        wanted = (current | come) - go
        if not wanted and not embedded:
            return  # it refuses to have none: what goes leaves it when the provider is deleted
        if wanted != current:
            body = {"type": "proxy", "providers": sorted(wanted)}
            self._again(lambda: self.client.patch(OUTPOSTS, pk, body))
        attached = set(self.client.get(path)["providers"])
        if not come <= attached or go & attached:
            raise Faulty("authentik", "the outpost lost the update: somebody else wrote its providers at the same time")

    def _make_outpost(self, key: str, providers: set[Any]) -> None:
        if not providers:
            return
        if not key:
            raise Refused("authentik", "there is no embedded outpost; bring it back")
        body = {
            "name": key,
            "type": "proxy",
            "providers": sorted(providers),
            "config": {"authentik_host": self.client.url},
        }
        try:
            row = self.client.create(OUTPOSTS, body)
        except Crashed:
            rows = self.client.all(OUTPOSTS, name__iexact=key)
            found = [row for row in rows if row["name"] == key]
            row = found[0] if found else self.client.create(OUTPOSTS, body)
        self.held.outposts[key] = row


def _explained(err: Refused, changes: Sequence[Change]) -> Refused:
    """What the server found wrong, by the pillar path that asked for it."""
    origins = sorted({change.subject.origin or change.id for change in changes})
    text = "; ".join(_said(err.body)) if err.body else err.message
    shown = ", ".join(origins[:3]) + (f" and {len(origins) - 3} more" if len(origins) > 3 else "")
    return Refused("authentik", f"{shown}: {text}", code=400, request_id=err.request_id, body=err.body)


def _said(body: Any, at: str = "") -> list[str]:
    """{"app": {"slug": ["taken"]}} -> ["app.slug: taken"]"""
    if isinstance(body, Mapping):
        return [text for name, value in body.items() for text in _said(value, f"{at}.{name}".lstrip("."))]
    if isinstance(body, list):
        return [text for value in body for text in _said(value, at)]
    return [f"{at}: {body}" if at and at != "non_field_errors" else str(body)]
