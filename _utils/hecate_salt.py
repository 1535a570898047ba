"""The one file that knows both worlds: Salt's dunders in, Hecate's engines out, and back.

A plan becomes a state return, an error becomes a Salt error, and nothing else happens here. The
adapters pass their `__opts__`, `__pillar__` and `__salt__` along; nothing is kept in module
globals, since several sub-proxies may share them.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import salt.pillar
import salt.utils.event
import salt.utils.sdb
import yaml
from hecate import events, importing, model, report, rotating, webhook, wiring
from hecate.engine import Wish
from hecate.errors import ApplyFailed, HecateError, OutputsPending
from hecate.plan import Plan
from hecate.resource import Change, Resource
from salt.exceptions import CommandExecutionError
from salt.state import STATE_INTERNAL_KEYWORDS, STATE_REQUISITE_KEYWORDS
from salt.utils.state import gen_tag

log = logging.getLogger(__name__)

GUARDS = "hecate_authentik.guards"
RUN = "hecate_run"  # pillar key by which a deploy tells its targets what they are part of
Overlay = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """What an adapter knows of where it runs: Salt's dunders, and the pillar to go by."""

    opts: Mapping[str, Any]
    salt: Mapping[str, Callable[..., Any]]
    pillar: Mapping[str, Any]

    @property
    def run(self) -> Mapping[str, Any]:
        return self.pillar.get(RUN) or {}

    def place(self, *consent: str) -> wiring.Place:
        """consent: overrides that the call itself gives, such as the name of a route to remove."""
        allow = frozenset([*(self.run.get("allow") or ()), *consent])
        kept = keeper(self.opts, self.salt)
        return wiring.Place(self.opts["id"], Path(self.opts["cachedir"]), self.guards, allow, keeper=kept)

    def guards(self) -> list[str]:
        """Hosts that authentik's proxy minion has confirmed, as Salt's mine has them."""
        minion = model.parse_access(self.pillar).targets.authentik
        answer = self.salt["mine.get"](minion, GUARDS)
        if not isinstance(answer, Mapping):
            raise HecateError(f"the mine did not answer; is the master up? ({GUARDS} of {minion})")
        return list(answer.get(minion) or ())

    def target(self, system: str, *consent: str) -> wiring.Target:
        return wiring.target(system, model.parse(self.pillar), self.place(*consent))

    def access(self, system: str) -> wiring.Target:
        """For undo and commit: they must work whatever became of routes and records since."""
        return wiring.access(system, model.parse_access(self.pillar), self.place())

    def overlaid(self, overlay: Overlay) -> Site:
        """The same place, wanting of routes, policies and records only what `overlay` says."""
        aside = ("routes", "workloads", "applications", "rotation")
        base = {k: v for k, v in (self.pillar.get("hecate") or {}).items() if k not in aside}
        if isinstance(base.get("authentik"), Mapping):
            wished = ("groups", "service_accounts", "brands", "events")
            settings = {k: v for k, v in base["authentik"].items() if k not in wished}
            overlay = {**overlay, "authentik": {**settings, **overlay.get("authentik", {})}}
        dns = base.get("dns") or {}
        zones = dns.get("zones") or {}
        by_name = zones if isinstance(zones, Mapping) else {name: {} for name in zones}
        bare = {name: {k: v for k, v in (zone or {}).items() if k != "records"} for name, zone in by_name.items()}
        wanted = (overlay.get("dns") or {}).get("zones") or {}
        own = {name: {**bare.get(name, {}), **zone} for name, zone in wanted.items()}
        # Whoever names zones is about these alone, and the others need not be read.
        hecate = {**base, **overlay, "dns": {**dns, "zones": own or bare}}
        return Site(self.opts, self.salt, {**self.pillar, "hecate": hecate})


def keeper(opts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> wiring.Keeper:
    """What Salt keeps of secrets, as a minion or the master reaches it. functions: empty on the master."""
    read_vault = functions.get("vault.read_secret")
    return wiring.Keeper(lambda uri: salt.utils.sdb.sdb_get(uri, dict(opts)), read_vault)


def live(opts: Mapping[str, Any], salt_functions: Any, grains: Mapping[str, Any]) -> Site:
    """For execution functions: pillar as the master renders it now, not as the minion remembers it."""
    opts_now = dict(opts)
    compiler = salt.pillar.get_pillar(
        opts_now, dict(grains), opts["id"], opts.get("saltenv"), pillarenv=opts.get("pillarenv")
    )
    return Site(opts_now, salt_functions, compiler.compile_pillar())


def in_state(opts: Mapping[str, Any], salt_functions: Any, pillar: Any) -> Site:
    """For state functions: the pillar that this state run was compiled with."""
    return Site(opts, salt_functions, pillar)


def new_transaction() -> str:
    """Sorts by time; unique between masters."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


def told(call: Callable[[], Any]) -> Any:
    """Run `call`; Hecate's errors become Salt's, with their text."""
    try:
        return call()
    except HecateError as err:
        raise CommandExecutionError(str(err)) from err


# Execution functions


def listed(site: Site, system: str, kind: str) -> list[str]:
    """Keys of what Hecate owns there, of one kind."""
    snapshot = site.target(system).backend.observe(())
    return sorted(r.key for r in snapshot.owned.values() if r.kind == kind)


def shown(site: Site, system: str, resource_id: str) -> dict[str, Any]:
    """One resource: as pillar wants it, and as the system has it."""
    target = site.target(system)
    wanted = {r.id: r for r in target.desired}
    want = wanted.get(resource_id)
    have = target.backend.observe([want] if want else []).get(resource_id)
    if want is None and have is None:
        raise HecateError(f"{resource_id} is neither wanted by pillar nor held by {system}")
    return {
        "wanted": dict(want.spec) if want else None,
        "held": dict(have.spec) if have else None,
        "pillar": want.origin if want else "",
    }


def planned(site: Site, system: str) -> dict[str, Any]:
    """The plan as text and as data. Writes nothing."""
    estate = model.parse(site.pillar)
    nothing = {"changes": [], "unsafe": [], "digest": ""}
    if not wiring.is_managed(system, estate):
        return {"text": f"{system}: not in pillar, not managed", "plan": nothing}
    try:
        target = wiring.target(system, estate, site.place())
        plan = target.engine.plan(target.wish)
    except OutputsPending as err:
        return {"text": f"{system}: {err}", "plan": {**nothing, "pending": list(err.values)}}
    return {"text": report.plan_text(plan, system), "plan": report.outline(plan)}


def applied(site: Site, system: str, *, test: bool = False, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Bring the system to what pillar says; {id: {old, new}} of what was changed."""
    target = site.target(system, *allow)
    if test:
        return report.salt_changes(target.engine.plan(target.wish))
    return report.salt_changes(_apply(site, target, target.wish).plan)


def removed(site: Site, system: str, resource_ids: Sequence[str], *consent: str) -> dict[str, Any]:
    """Delete just these, if they are Hecate's. Pillar that still wants them brings them back."""
    target = site.target(system, *consent)
    outcome = _apply(site, target, Wish(absent=tuple(resource_ids), partial=True))
    return report.salt_changes(outcome.plan)


def rolled_back(site: Site, system: str, transaction: str) -> list[str]:
    """Undo what `transaction` changed here; the ids that were put back."""
    if wiring.journal(system, site.place()).entry(transaction) is None:
        return []  # found without its token: a target that was not reached may be the one that cannot be
    undone = [change.id for change in site.access(system).engine.undo(transaction)]
    _publish_guards(site, system)
    return undone


def committed(site: Site, system: str, transaction: str) -> bool:
    wiring.journal(system, site.place()).keep(transaction)
    return True


def open_transactions(site: Site, system: str) -> list[str]:
    return [entry.transaction for entry in wiring.journal(system, site.place()).open_entries()]


def confirmed_guards(site: Site) -> list[str]:
    """Hosts whose application, bindings and outpost attachment authentik holds as wanted."""
    target = site.target("authentik")
    return wiring.confirmed(target.estate, target.backend.observe(target.desired))


def terraform_outputs(site: Site) -> dict[str, Any]:
    return wiring.outputs(site.access("terraform"))


def edge_differences(site: Site) -> dict[str, Any]:
    """Where pillar, the running Caddy and the file for a starting one part ways."""
    target = site.target("caddy")
    plan = target.engine.plan(target.wish)
    changes = report.salt_changes(plan)
    return {"pillar": report.plan_text(plan, "caddy"), "changes": changes, "disk": wiring.disk(target)}


def edge_certificates(site: Site) -> dict[str, Any]:
    """What this edge shows for each host, and until when."""
    estate = model.parse(site.pillar)
    shown = wiring.certificates(estate, site.opts["id"])
    return {host: found.to_json() for host, found in shown.items()}


def certificates_renewed(site: Site, anew: Sequence[str], *, test: bool) -> dict[str, Any]:
    """{plan, changes}; changes are empty in a test. Calling it is the consent to as many as are due."""
    target = wiring.access("caddy", model.parse_access(site.pillar), site.place("updates"))
    wish = wiring.renewal(target, [anew] if isinstance(anew, str) else anew)
    if test or not wish.resources:
        return {"plan": report.plan_text(target.engine.plan(wish), "caddy"), "changes": {}}
    plan = target.engine.apply(wish, new_transaction()).plan
    return {"plan": report.plan_text(plan, "caddy"), "changes": report.salt_changes(plan)}


# Secrets that get successors


def rotated(site: Site, name: str, *, begin: bool, immediate: bool, told: bool) -> dict[str, Any]:
    """What was done of a rotation, see rotation.Step. No value of a secret."""
    course = rotating.course(model.parse(site.pillar), site.place(), str(name))
    return asdict(course.run(begin=begin, immediate=immediate, told=told))


def rotation_status(site: Site, name: str) -> dict[str, Any]:
    """Where a rotation stands, see rotation.Status."""
    return asdict(rotating.course(model.parse(site.pillar), site.place(), str(name)).status())


# State functions


def passwords_taken(site: Site, name: str, *, test: bool) -> dict[str, Any]:
    """Hash files of this edge as Vault has the passwords, as a state return; no value and no hash in it."""
    try:
        found = rotating.passwords_taken(model.parse(site.pillar), site.place(), test=test)
    except HecateError as err:
        return _ret(name, False, str(err))
    changes = {one: {"old": "another password", "new": "the one in Vault"} for one in found}
    comment = f"{'would take' if test else 'took'}: {', '.join(found)}" if found else "nothing to do"
    return _ret(name, None if test and found else True, comment, changes)


def managed(site: Site, system: str, name: str, *, test: bool) -> dict[str, Any]:
    """Pillar's whole wish for one system, as a state return."""

    def wish() -> tuple[wiring.Target, Wish] | None:
        estate = model.parse(site.pillar)
        if not wiring.is_managed(system, estate):
            return None
        target = wiring.target(system, estate, site.place())
        return target, replace(target.wish, hold=site.run.get("hold") == "deletions")

    return _state(site, system, name, wish, test)


def present(site: Site, system: str, name: str, overlay: Overlay, *, test: bool) -> dict[str, Any]:
    """What `overlay` says, added to whatever Hecate owns there already."""

    def wish() -> tuple[wiring.Target, Wish]:
        target = site.overlaid(overlay).target(system)
        return target, Wish(target.desired, partial=True)

    return _state(site, system, name, wish, test)


@dataclass(frozen=True)
class Run:
    """What Salt tells a state function of the run that it is part of.

    low: its own chunk. chunks: all of the run. done: tags of those that were run. memory: a mapping
    that lasts as long as the run's loader. run: what tells this run from the next one.
    """

    low: Mapping[str, Any]
    chunks: Sequence[Mapping[str, Any]]
    done: Mapping[str, Any]
    memory: dict[str, Any]
    run: str

    def alike(self) -> dict[str, Mapping[str, Any]]:
        """Chunks of the same function that are still to come and wait for nothing, by name; the own one first."""
        found = {self.low["name"]: self.low}
        for chunk in self.chunks:
            same = chunk["state"] == self.low["state"] and chunk["fun"] == self.low["fun"]
            if (
                same
                and gen_tag(chunk) not in self.done
                and not WAITS & chunk.keys()
                and chunk.get("aggregate") is not False
            ):
                found.setdefault(chunk["name"], chunk)
        return found


WAITS = STATE_REQUISITE_KEYWORDS | {"onlyif", "unless", "creates", "check_cmd", "parallel", "retry"}


def thaw(value: Any) -> Any:
    """Salt freezes what it tells of a run; the model wants plain mappings and lists."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    is_list = isinstance(value, Sequence | Set) and not isinstance(value, str | bytes)
    return [thaw(item) for item in value] if is_list else value


def fields_of(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """A chunk without what belongs to Salt: the fields of the thing itself."""
    aside = STATE_INTERNAL_KEYWORDS | {"name", "aggregate", "__agg__"}
    return {key: thaw(value) for key, value in chunk.items() if key not in aside and not key.startswith("__")}


def routes_present(site: Site, run: Run, *, test: bool) -> dict[str, Any]:
    """One route, and at the first of many in a run all of them: one write, and each tells its own changes.

    Where they can't be had together each is applied alone, so that each tells its own failure.
    """
    name = run.low["name"]
    told: dict[str, Any] = run.memory.setdefault("hecate_caddy.routes", {})
    if told.get("run") != run.run:
        told.clear()
        told.update(run=run.run, answers={})
    if name in told["answers"]:
        return dict(told["answers"].pop(name))
    members = {host: fields_of(chunk) for host, chunk in run.alike().items()}
    if len(members) > 1:
        told["answers"] = _together(site, members, test)
        if name in told["answers"]:
            return dict(told["answers"].pop(name))
    return present(site, "caddy", name, {"routes": {name: members[name]}}, test=test)


def _together(site: Site, members: Mapping[str, Mapping[str, Any]], test: bool) -> dict[str, Any]:
    """A state return for each of the routes; none where they can't all be had."""
    try:
        target = site.overlaid({"routes": dict(members)}).target("caddy")
        wish = Wish(target.desired, partial=True)
        outcome = None if test else _apply(site, target, wish)
        plan = target.engine.plan(wish) if outcome is None else outcome.plan
    except HecateError:
        return {}
    shares: dict[str, list[Change]] = {host: [] for host in members}
    keys = {f"caddy.route {key}": host for host, key in zip(members, target.estate.routes, strict=True)}
    for change in plan.changes:
        # What all of them need (the server itself) is told by the first.
        shares[keys.get(change.id, next(iter(members)))].append(change)
    return {
        host: _told("caddy", host, replace(plan, changes=tuple(share)), test, outcome.recovered if outcome else ())
        for host, share in shares.items()
    }


def rrset_present(
    site: Site, system: str, name: str, zone: str, kind: str, records: Any, ttl: int | None, *, test: bool
) -> dict[str, Any]:
    """One rrset at a provider of DNS, beside whatever Hecate owns there."""
    values = records[0] if kind == "CNAME" and isinstance(records, list) else records
    overlay = {"dns": {"zones": {zone: {"records": {name: {kind: values, "ttl": ttl}}}}}}
    return present(site, system, name, overlay, test=test)


def rrset_absent(site: Site, system: str, name: str, zone: str, kind: str, *, test: bool) -> dict[str, Any]:
    key = f"{zone}/{name}/{kind}"
    return absent(site, system, name, lambda held: held.key == key, f"apex:{key}", test=test)


def absent(
    site: Site, system: str, name: str, doomed: Callable[[Resource], bool], *consent: str, test: bool
) -> dict[str, Any]:
    """None of what Hecate owns there and `doomed` picks; naming it in SLS is the consent."""

    def wish() -> tuple[wiring.Target, Wish]:
        target = site.overlaid({}).target(system, *consent)
        owned = target.backend.observe(()).owned.values()
        return target, Wish(absent=tuple(r.id for r in owned if doomed(r)), partial=True)

    return _state(site, system, name, wish, test)


def _state(
    site: Site, system: str, name: str, wish: Callable[[], tuple[wiring.Target, Wish] | None], test: bool
) -> dict[str, Any]:
    try:
        made = wish()
        if made is None:
            return _ret(name, True, f"{system} is not in pillar, so it is not managed")
        target, wanted = made
        if test:
            return _told(system, name, target.engine.plan(wanted), test)
        outcome = _apply(site, target, wanted)
    except ApplyFailed as err:
        return _ret(name, False, str(err))
    except HecateError as err:
        return _ret(name, False, f"{err}\nnothing was written")
    return _told(system, name, outcome.plan, test, outcome.recovered)


def _told(system: str, name: str, plan: Plan, test: bool, recovered: Sequence[str] = ()) -> dict[str, Any]:
    """What was done, or in a test run would be."""
    before = "".join(f"undone first, left by a run that was cut off: {t}\n" for t in recovered)
    if not plan:
        return _ret(name, True, f"{before}{system}: nothing to do")
    comment = before + report.plan_text(plan, system)
    return _ret(name, None if test else True, comment, report.salt_changes(plan))


def _ret(name: str, result: bool | None, comment: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The only place where a state return is made."""
    return {"name": name, "result": result, "comment": comment, "changes": dict(changes or {})}


def _apply(site: Site, target: wiring.Target, wish: Wish) -> Any:
    """One apply, as part of the deploy that the run says, or on its own."""
    transaction = site.run.get("transaction")
    try:
        return target.engine.apply(wish, transaction or new_transaction(), shared=bool(transaction))
    finally:
        _publish_guards(site, target.system)


def _publish_guards(site: Site, system: str) -> None:
    """Tell the edges which hosts are guarded now, after every write to authentik, good or failed."""
    if system == "authentik":
        site.salt["mine.send"](GUARDS)


# What hand-written SLS and the CLI mean by a route, or by everything that guards a host


def route_of(host: str) -> Callable[[Resource], bool]:
    return lambda held: held.kind == "caddy.route" and held.key == host


def guard_of(host: str) -> Callable[[Resource], bool]:
    """Groups are left: they may be in use elsewhere, and their members are not ours to lose."""
    return lambda held: wiring.guards_host(held, host)


def terraform_initialised(site: Site) -> bool:
    return wiring.terraform_initialised(site.target("terraform"))


def terraform_pillar(opts: Mapping[str, Any], pillar: Mapping[str, Any]) -> dict[str, Any]:
    """The store is found by pillar alone, which may be wrong elsewhere without harm here."""
    hecate = pillar.get("hecate")
    if not isinstance(hecate, Mapping) or not hecate.get("terraform"):
        return {}
    outputs = wiring.stored_outputs(hecate, Path(opts["cachedir"]), keeper(opts, {}))
    return {"hecate": {"terraform": {"outputs": outputs}}} if outputs else {}


def resolved_pillar(opts: Mapping[str, Any], minion: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the master's configuration wants in this minion's pillar; all of them, or an error."""
    told = model.resolved(settings)
    wanted = told.of(minion)
    if not wanted:
        return {}
    secrets = wiring.resolver(model.Estate(vault=told.vault), keeper(opts, {}))
    return model.nested({key: secrets.value(reference) for key, reference in wanted.items()})


def imported(site: Site, caddyfile: str | None = None, *, allow_imports: bool = False) -> dict[str, Any]:
    """Pillar for a Caddyfile, or without one for what runs there beside Hecate's own server. Writes nothing.

    {pillar: data, yaml: the same to paste, report: text, entries: the report as data}
    """
    # Who brings a Caddyfile along has often no pillar yet.
    estate = model.parse_access(site.pillar) if site.pillar.get("hecate") else model.parse({"hecate": {}})
    config, warnings = (
        (wiring.running(estate), list[str]())
        if caddyfile is None
        else wiring.adapted(estate, caddyfile, allow_imports=allow_imports)
    )
    made = importing.import_config(config, caddyfile, warnings=warnings, own=estate.caddy.server)
    return {
        "pillar": made.pillar,
        "yaml": made.yaml,
        "report": made.report,
        "entries": [entry.to_data() for entry in made.entries],
    }


def read_text(path: str) -> str:
    """A file on this minion; HecateError when it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise HecateError(f"cannot read {path}: {err}") from err


def one_of(**given: Any) -> str:
    """The name of the one argument that was given."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise HecateError(f"give one of {', '.join(given)}, not {len(named)} of them")
    return named[0]


def part_of(made: dict[str, Any], show: str | None) -> Any:
    if show is not None and show not in made:
        raise HecateError(f"show is one of {', '.join(made)}")
    return made if show is None else made[show]


# Zones: what was kept, what is there, whether it has arrived


def zone_files(site: Site, zone: str) -> list[str]:
    """Names of the zonefiles that are kept of a zone here, oldest first. Asks nobody."""
    return wiring.zonefiles(site.place()).names(zone)


def zone_exported(site: Site, system: str, zone: str) -> str:
    return wiring.exported(wiring.zoned(site.overlaid({}).target(system), zone))


def zone_restored(
    site: Site, system: str, zone: str, file: str, *, test: bool, strangers: bool, allow: Sequence[str]
) -> dict[str, Any]:
    """{diff, plan, changes}; changes are empty in a test. file: a kept one's name, or the path of any other."""
    made = wiring.zoned(site.overlaid({}).target(system), zone)
    allowed = [allow] if isinstance(allow, str) else list(allow)
    text = read_text(file) if file.startswith("/") else wiring.zonefiles(site.place()).read(zone, file)
    engine, wish = wiring.restoring(made, site.place(), text, strangers)
    engine.limits = replace(engine.limits, allow=engine.limits.allow | frozenset(allowed))
    diff = wiring.zone_differences(made, text)
    if test:
        return {"diff": diff, "plan": report.plan_text(engine.plan(wish), zone), "changes": {}}
    plan = engine.apply(wish, new_transaction()).plan
    return {"diff": diff, "plan": report.plan_text(plan, zone), "changes": report.salt_changes(plan)}


def zone_imported(site: Site, system: str, zone: str) -> dict[str, Any]:
    """{pillar, yaml, adopt, left}"""
    pillar, adopt, left = wiring.importable(wiring.zoned(site.overlaid({}).target(system), zone))
    return {"pillar": pillar, "yaml": yaml.safe_dump(pillar, sort_keys=False), "adopt": adopt, "left": left}


def zone_serials(site: Site) -> dict[str, int | None]:
    estate = model.parse(site.pillar)
    return wiring.name_servers(estate, site.place()).serials(estate.dns.zones)


def zone_drift(site: Site) -> dict[str, Any]:
    return wiring.zones_moved(site.place(), zone_serials(site))


# authentik's events


def serve_events(
    opts: Mapping[str, Any],
    functions: Mapping[str, Callable[..., Any]],
    *,
    secret: str | Sequence[str],
    address: str,
    port: int,
    window: int,
    vault: Mapping[str, Any] | None = None,
) -> None:
    """Fire what authentik delivers, until the process ends. Raises HecateError when that can't begin.

    On a master on its own bus; on a minion through `event.send`. vault: as pillar's hecate:vault, which is the default.
    """
    references = [secret] if isinstance(secret, str) else list(secret)
    own = vault or ((opts.get("pillar") or {}).get("hecate") or {}).get("vault")
    estate = model.parse_access({"hecate": {"vault": dict(own)} if own else {}})
    # A fresh resolver each time: one remembers what it has read.
    kept = keeper(opts, functions)
    secrets = events.Secrets(lambda: [wiring.resolver(estate, kept).value(one) for one in references], time.time())
    memory = events.Memory(Path(opts["cachedir"]) / "hecate" / "events" / f"{port}.seen")
    fire = _on_own_bus(opts) if opts.get("__role") == "master" else functions["event.send"]
    with webhook.Listener(address, port, events.Verifier(secrets, memory, window), fire) as listener:
        log.info("taking authentik's events on %s port %d", *listener.server_address[:2])
        listener.serve_forever()


def _on_own_bus(opts: Mapping[str, Any]) -> webhook.Fire:
    def fire(tag: str, data: dict[str, Any]) -> bool:
        with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
            return bool(bus.fire_event(data, tag))

    return fire


# Identity: looking, and states of single things


def identity(site: Site) -> Any:
    """See wiring.identity_of."""
    return wiring.identity_of(site.target("authentik"))


def policies(site: Site) -> dict[str, Any]:
    return wiring.policies(model.parse(site.pillar))


def version_warnings(site: Site) -> list[str]:
    return wiring.version_warnings(site.access("authentik"))


APPLICATION = ("oauth2", "saml", "title", "launch_url", "description", "group")  # fields that are no policy's


def guard_overlay(name: str, fields: Overlay) -> Overlay:
    """A pillar with just one protected host, or one application with oauth2 or saml.

    fields: of a policy, or `auth_policy`, the name of one of pillar's; for an application its own beside them.
    """
    own = {key: value for key, value in fields.items() if key in APPLICATION}
    policy = {key: value for key, value in fields.items() if key not in (*APPLICATION, "auth_policy")}
    named = fields.get("auth_policy")
    if named and policy:
        raise HecateError(f"either auth_policy or {', '.join(sorted(policy))}: a policy of pillar's says all of it")
    if "domain" in policy:
        raise HecateError("domain: a whole domain is guarded by pillar's routes, and not by a single state")
    used = named or wiring.own_policy(name)
    overlay: dict[str, Any] = {} if named else {"auth_policies": {used: policy}}
    if {"oauth2", "saml"} & own.keys():
        if "title" in own:
            own["name"] = own.pop("title")
        return {**overlay, "applications": {name: {"auth_policy": used, **own}}}
    # Where its route leads does not matter to authentik.
    return {**overlay, "routes": {name: {"upstreams": ["127.0.0.1:80"], "auth_policy": used, **own}}}


def guard_present(site: Site, name: str, fields: Overlay, *, test: bool) -> dict[str, Any]:
    """One application with all that guards it, and nothing else that was bound to it before."""

    def wish() -> tuple[wiring.Target, Wish]:
        target = site.overlaid(guard_overlay(name, fields)).target("authentik", "deletes")
        wanted, doomed = {resource.id for resource in target.desired}, guard_of(name)
        owned = target.backend.observe(target.desired).owned.values()
        late = tuple(r.id for r in owned if doomed(r) and r.id not in wanted)
        return target, Wish(target.desired, late, partial=True)

    return _state(site, "authentik", name, wish, test)


def guard_absent(site: Site, name: str, *, test: bool) -> dict[str, Any]:
    return absent(site, "authentik", name, guard_of(name), "deletes", f"secret:{name}", test=test)


def guard_removed(site: Site, name: str) -> dict[str, Any]:
    doomed = guard_of(name)
    owned = site.target("authentik").backend.observe(()).owned.values()
    return removed(site, "authentik", [r.id for r in owned if doomed(r)], "deletes", f"secret:{name}")


def in_directory(site: Site, kind: str, name: str, fields: Overlay, *, test: bool) -> dict[str, Any]:
    """kind: groups or service_accounts; fields: as they stand under hecate:authentik."""
    return present(site, "authentik", name, {"authentik": {kind: {name: dict(fields)}}}, test=test)


def group_absent(site: Site, name: str, *, test: bool) -> dict[str, Any]:
    """Fails for a group of Hecate's that still has members, or guards something else."""

    def wish() -> tuple[wiring.Target, Wish]:
        target = site.overlaid({}).target("authentik", "deletes")
        if why := wiring.identity_of(target).why_kept(name):
            raise HecateError(why)
        owned = target.backend.observe(()).owned
        return target, Wish(absent=tuple({f"authentik.group {name}"} & owned.keys()), partial=True)

    return _state(site, "authentik", name, wish, test)


def account_absent(site: Site, name: str, *, test: bool) -> dict[str, Any]:
    """A service account and its tokens; naming it is the consent to losing their keys."""

    def wish() -> tuple[wiring.Target, Wish]:
        bare = site.overlaid({})
        owned = bare.target("authentik").backend.observe(()).owned.values()
        doomed = [r for r in owned if r.id == f"authentik.user {name}" or r.spec.get("user") == name]
        words = [f"secret:{r.key}" for r in doomed]
        return bare.target("authentik", "deletes", *words), Wish(absent=tuple(r.id for r in doomed), partial=True)

    return _state(site, "authentik", name, wish, test)
