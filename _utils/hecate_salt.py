"""What runs on a target knows both worlds here: Salt's dunders in, Hecate's engines out, and back.

An error becomes a Salt error, and nothing else happens here. The adapters pass their `__opts__`,
`__pillar__` and `__salt__` along; nothing is kept in module globals, since several sub-proxies may share them.
"""

from __future__ import annotations

import logging
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import salt.pillar
import salt.utils.event
import salt.utils.sdb
import yaml
from hecate import adopting, drifting, events, importing, model, report, rotating, webhook, wiring
from hecate.engine import Wish
from hecate.errors import HecateError, OutputsPending
from hecate.order import KEY as RUN
from hecate.order import Order, packed, unpacked
from hecate.resource import Resource
from hecate.targets import RECORDS
from hecate.verification import Task, questions, run, scope
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

GUARDS = "hecate_authentik.guards"
NAMED = 20  # ids that a target tells of what a deploy changed
Overlay = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """What an adapter knows of where it runs: Salt's dunders, and the pillar to go by."""

    opts: Mapping[str, Any]
    salt: Mapping[str, Callable[..., Any]]
    pillar: Mapping[str, Any]

    @property
    def order(self) -> Order:
        """What the deploy wants of this target; an empty one where it is none."""
        return Order.of(self.pillar)

    def place(self, *consent: str) -> wiring.Place:
        """consent: overrides that the call itself gives, such as the name of a route to remove."""
        allow = frozenset([*self.order.allow, *consent])
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
        dns, bare = base.get("dns") or {}, model.bare_zones(base)
        wanted = (overlay.get("dns") or {}).get("zones") or {}
        own = {name: {**bare.get(name, {}), **zone} for name, zone in wanted.items()}
        # Whoever names zones is about these alone, and the others need not be read.
        hecate = {**base, **overlay, "dns": {**dns, "zones": own or bare}}
        return Site(self.opts, self.salt, {**self.pillar, "hecate": hecate})


def keeper(opts: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> wiring.Keeper:
    """What Salt keeps of secrets, as a minion or the master reaches it. functions: empty on the master."""
    read_vault = functions.get("vault.read_secret")
    return wiring.Keeper(lambda uri: salt.utils.sdb.sdb_get(uri, dict(opts)), read_vault)


def live(
    opts: Mapping[str, Any], salt_functions: Any, grains: Mapping[str, Any], order: Mapping[str, Any] | None = None
) -> Site:
    """For execution functions: pillar as the master renders it now, not as the minion remembers it.

    order: as a deploy gives it to a target.
    """
    opts_now = dict(opts)
    compiler = salt.pillar.get_pillar(
        opts_now, dict(grains), opts["id"], opts.get("saltenv"), pillarenv=opts.get("pillarenv")
    )
    pillar = compiler.compile_pillar()
    wanted = Order.of({RUN: order}).wanted(pillar) if order else pillar
    return Site(opts_now, salt_functions, {**wanted, RUN: dict(order)} if order else pillar)


def offline(opts: Mapping[str, Any], salt_functions: Any) -> Site:
    """For what needs the minion's own files alone: no pillar is rendered."""
    return Site(opts, salt_functions, {})


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
    """The plan as text and as data; of authentik also the hosts that it guards once that is applied. Writes nothing."""
    estate, order = model.parse(site.pillar), site.order
    nothing = {"changes": [], "unsafe": [], "digest": ""}
    if not wiring.is_managed(system, estate):
        return {"text": f"{system}: not in pillar, not managed", "plan": nothing, "guards": []}
    place, foretold = site.place(), order.guards
    if foretold is not None:  # for a plan alone: what is applied goes by what authentik has confirmed
        place = replace(place, guards=lambda: foretold)
    try:
        target = wiring.target(system, estate, place)
        plan, after = target.engine.foreseen(replace(wish_of(target, order), digest=""))
    except OutputsPending as err:
        return {"text": f"{system}: {err}", "plan": {**nothing, "pending": list(err.values)}, "guards": []}
    told = {**report.outline(plan), "calls": wiring.calls(target, plan)}
    if system in RECORDS:
        told |= {"held": plan.holding_deletions().digest, "rest": plan.without_held().digest}
    guards = {"guards": wiring.confirmed(estate, after)} if system == "authentik" else {}
    return {"text": report.plan_text(plan, system), "plan": told, **guards}


def wish_of(target: wiring.Target, order: Order) -> Wish:
    """What pillar wants of it, as far as the order goes."""
    own = {"hold": order.hold == "deletions", "keep_guards": order.hold == "guards", "digest": order.digest}
    return replace(wiring.chosen(target, order.hosts), **own)  # type: ignore[arg-type]


def applied(site: Site, system: str, *, test: bool = False, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Bring the system to what pillar says; {id: {old, new}} of what was changed."""
    target = site.target(system, *allow)
    if test:
        return report.salt_changes(target.engine.plan(target.wish))
    return report.salt_changes(apply_wish(site, target, target.wish).plan)


def removed(site: Site, system: str, resource_ids: Sequence[str], *consent: str) -> dict[str, Any]:
    """Delete just these, if they are Hecate's. Pillar that still wants them brings them back."""
    target = site.target(system, *consent)
    outcome = apply_wish(site, target, Wish(absent=tuple(resource_ids), partial=True))
    return report.salt_changes(outcome.plan)


def joined(site: Site, system: str, transaction: str, fence: int, by: str) -> list[str]:
    """From now on that deploy alone writes here; the open transactions of other deploys."""
    return wiring.journal(system, site.place()).join(transaction, int(fence), by)


def left(site: Site, system: str, transaction: str) -> bool:
    wiring.journal(system, site.place()).leave(transaction)
    return True


def rolled_back(site: Callable[[], Site], here: Site, system: str, transaction: str, fence: int | None) -> list[str]:
    """Undo what `transaction` changed here; the ids that were put back. fence: of who has it undone; None: a person."""
    journal = wiring.journal(system, here.place())
    if fence is not None:
        journal.take_over(transaction, int(fence))
    if journal.entry(transaction) is None:
        return []  # found without its token: a target that was not reached may be the one that cannot be
    found = site()
    undone = [change.id for change in found.access(system).engine.undo(transaction)]
    _publish_guards(found, system)
    return undone


def committed(site: Site, system: str, transaction: str, fence: int | None) -> dict[str, Any]:
    """{count, ids} of what it changed here, the first ids alone."""
    journal = wiring.journal(system, site.place())
    if fence is not None:
        journal.take_over(transaction, int(fence))
    entry = journal.entry(transaction)
    ids = list(dict.fromkeys(change.id for change in entry.changes)) if entry else []
    journal.keep(transaction)
    return {"count": len(ids), "ids": ids[:NAMED]}


def open_transactions(site: Site, system: str) -> list[str]:
    return [entry.transaction for entry in wiring.journal(system, site.place()).open_entries()]


def changed(site: Site, system: str, transaction: str) -> list[str]:
    """Ids of what `transaction` announced here."""
    entry = wiring.journal(system, site.place()).entry(transaction)
    return sorted({change.id for change in entry.changes}) if entry else []


def task_done(site: Callable[[], Site], packed_task: str) -> dict[str, str]:
    """What this minion saw of a task, packed. site: only needed for the password of somebody who logs in."""

    def secret(reference: str) -> str:
        here = site()
        return wiring.resolver(model.parse_access(here.pillar), here.place().keeper).value(reference)

    try:
        task = Task.unpack(packed_task)
    except (ValueError, TypeError, KeyError, zlib.error) as err:
        raise HecateError(f"not a task of this version of Hecate: {err}") from err
    return {"rows": packed({"rows": [probe.to_json() for probe in run(task, secret)]})}


def verified(site: Site, edges: Sequence[str], routes: Sequence[str]) -> list[dict[str, str]]:
    """By this minion's own pillar."""
    estate = model.parse(site.pillar)
    names, where = scope.named(routes), scope.named(edges)
    chosen = scope.chosen(estate, names).routes if names else None
    pem = "".join(read_text(file) for file in estate.verify.roots)
    task = questions(estate, dict.fromkeys(estate.edges, pem), chosen)
    visits = tuple(visit for visit in task.visits if not where or visit.edge in where)
    doors = tuple(door for door in task.doors if not where or door.edge in where)
    secrets = wiring.resolver(estate, site.place().keeper)
    return [probe.to_json() for probe in run(replace(task, visits=visits, doors=doors), secrets.value)]


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


def apply_wish(site: Site, target: wiring.Target, wish: Wish) -> Any:
    """One apply, as part of the deploy that the run says, or on its own."""
    transaction = site.order.transaction
    try:
        return target.engine.apply(wish, transaction or new_transaction(), shared=bool(transaction))
    finally:
        _publish_guards(site, target.system)


def _publish_guards(site: Site, system: str) -> None:
    """Tell the edges which hosts are guarded now, after every write to authentik, good or failed."""
    if system == "authentik":
        site.salt["mine.send"](GUARDS)


# What hand-written SLS and the CLI mean by a route, or by everything that guards a host


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


# Drift: what is neither as deployed nor as pillar wants it


def drifted(site: Site, system: str, base: str) -> list[dict[str, Any]]:
    """Every object that differs, see drift.Drift. base: what the last deployment wanted, packed; "" for nothing yet."""
    rows = [row.to_json() for row in _compared(site, system, base).rows]
    return [row if number < report.SHOWN else {**row, "fields": []} for number, row in enumerate(rows)]


def drift_healed(site: Site, system: str, base: str, transaction: str, ids: Sequence[str]) -> list[str]:
    """Put back what the last deployment wanted of these, as part of a transaction; the ids that it took."""
    target, wish = drifting.healing(_compared(site, system, base), ids, site.place())
    if not wish.resources and not wish.absent:
        return []
    part = Site(site.opts, site.salt, {**site.pillar, RUN: Order(transaction).to_json()})
    return [change.id for change in apply_wish(part, target, wish).plan.changes]


def drift_adoptable(site: Site, system: str, base: str) -> dict[str, Any]:
    """What is live in pillar's words, see adopting.adoptable. Writes nothing."""
    return adopting.adoptable(_compared(site, system, base), site.pillar.get("hecate") or {}, site.place())


def _compared(site: Site, system: str, base: str) -> drifting.Comparison:
    return drifting.look(system, site.pillar.get("hecate") or {}, unpacked(base) if base else None, site.place())


def drift_watched(
    opts: Mapping[str, Any], functions: Any, grains: Mapping[str, Any], systems: Sequence[str] | None
) -> list[dict[str, Any]]:
    """What a beacon fires: {tag, system, what, told} of each system where something moved. See drifting.watch."""
    remembered = Site(opts, functions, opts.get("pillar") or {})
    now = remembered.pillar.get("hecate")
    if not isinstance(now, Mapping):
        return []
    found = []
    for system in drifting.watchable(now, opts["id"]) if systems is None else systems:
        movement = drifting.watch(
            system, now, remembered.place(), lambda: live(opts, functions, grains).pillar.get("hecate") or {}
        )
        found += [{"tag": system, **asdict(movement)}] if movement else []
    return found


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
    fire = on_own_bus(opts) if opts.get("__role") == "master" else functions["event.send"]
    with webhook.Listener(address, port, events.Verifier(secrets, memory, window), fire) as listener:
        log.info("taking authentik's events on %s port %d", *listener.server_address[:2])
        listener.serve_forever()


def on_own_bus(opts: Mapping[str, Any]) -> webhook.Fire:
    def fire(tag: str, data: dict[str, Any]) -> bool:
        with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
            return bool(bus.fire_event(data, tag))

    return fire


# Identity: looking


def identity(site: Site) -> Any:
    """See wiring.identity_of."""
    return wiring.identity_of(site.target("authentik"))


def policies(site: Site) -> dict[str, Any]:
    return wiring.policies(model.parse(site.pillar))


def version_warnings(site: Site) -> list[str]:
    return wiring.version_warnings(site.access("authentik"))


def guard_removed(site: Site, name: str) -> dict[str, Any]:
    doomed = guard_of(name)
    owned = site.target("authentik").backend.observe(()).owned.values()
    return removed(site, "authentik", [r.id for r in owned if doomed(r)], "deletes", f"secret:{name}")
