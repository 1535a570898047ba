"""What state functions do: a wish becomes a plan, and a plan becomes Salt's account of a state.

Adapters in `_states` pass their dunders along; what is no state is in `hecate_salt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import hecate_progress
import hecate_salt
from hecate import model, report, rotating, wiring
from hecate.engine import Wish
from hecate.errors import ApplyFailed, HecateError
from hecate.order import Order
from hecate.plan import Plan
from hecate.progress import BEGUN, DONE, FAILED, moment
from hecate.resource import Change, Resource
from hecate_salt import Overlay, Site
from salt.state import STATE_INTERNAL_KEYWORDS, STATE_REQUISITE_KEYWORDS
from salt.utils.state import gen_tag


def in_state(opts: Mapping[str, Any], salt_functions: Any, pillar: Any) -> Site:
    """For state functions: the pillar that this state run was compiled with, or the one that its deploy wants."""
    return Site(opts, salt_functions, Order.of(pillar).wanted(pillar))


def managed(site: Site, system: str, name: str, *, test: bool) -> dict[str, Any]:
    """Pillar's whole wish for one system, as a state return."""

    def wish() -> tuple[wiring.Target, Wish] | None:
        estate = model.parse(site.pillar)
        if not wiring.is_managed(system, estate):
            return None
        target = wiring.target(system, estate, site.place())
        return target, hecate_salt.wish_of(target, site.order)

    order = site.order
    if not order.transaction:
        return _state(site, system, name, wish, test)
    hecate_progress.send(site.salt, moment(order.transaction, order.step, BEGUN))
    answer = _state(site, system, name, wish, test)
    status = FAILED if answer["result"] is False else DONE
    hecate_progress.send(site.salt, moment(order.transaction, order.step, status, answer["comment"]))
    return answer


def passwords_taken(site: Site, name: str, *, test: bool) -> dict[str, Any]:
    """Hash files of this edge as Vault has the passwords, as a state return; no value and no hash in it."""
    try:
        found = rotating.passwords_taken(model.parse(site.pillar), site.place(), test=test)
    except HecateError as err:
        return _ret(name, False, str(err))
    changes = {one: {"old": "another password", "new": "the one in Vault"} for one in found}
    comment = f"{'would take' if test else 'took'}: {', '.join(found)}" if found else "nothing to do"
    return _ret(name, None if test and found else True, comment, changes)


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
        outcome = None if test else hecate_salt.apply_wish(site, target, wish)
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


def route_of(host: str) -> Callable[[Resource], bool]:
    return lambda held: held.kind == "caddy.route" and held.key == host


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
        wanted, doomed = {resource.id for resource in target.desired}, hecate_salt.guard_of(name)
        owned = target.backend.observe(target.desired).owned.values()
        late = tuple(r.id for r in owned if doomed(r) and r.id not in wanted)
        return target, Wish(target.desired, late, partial=True)

    return _state(site, "authentik", name, wish, test)


def guard_absent(site: Site, name: str, *, test: bool) -> dict[str, Any]:
    return absent(site, "authentik", name, hecate_salt.guard_of(name), "deletes", f"secret:{name}", test=test)


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
        outcome = hecate_salt.apply_wish(site, target, wanted)
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
