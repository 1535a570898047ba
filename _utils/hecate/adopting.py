"""Live state said in pillar's words, where pillar can say it exactly; each candidate is proved by compiling it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hecate.backends.dns import Rrset, ZoneSeen
from hecate.drift import BY_HAND, MOVED, ONLY_LIVE, Drift, merged
from hecate.drifting import Comparison, proved
from hecate.importing import import_config
from hecate.resource import Resource
from hecate.wiring import Place
from hecate.zones import pillar_of

Overlay = dict[str, Any]
SERVER = "adopted"  # what an edge's routes are called while they are read as somebody else's
APPLICATION = {"name": "name", "meta_launch_url": "launch_url", "meta_description": "description", "group": "group"}


def adoptable(found: Comparison, now: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """{pillar: what stands under `hecate` to be merged in, parts: id -> its share, left: id -> why not}."""
    pillar: Overlay = {}
    parts: dict[str, Overlay] = {}
    left: dict[str, str] = {}
    for row in found.rows:
        if row.who not in MOVED:
            continue
        why = _unfit(row)
        for overlay in () if why else _candidates(found, row):
            together = merged(pillar, overlay)
            why = proved(found, now, together, [*parts, row.id], place)
            if not why:
                pillar, parts[row.id] = together, overlay
                break
        if row.id not in parts:
            left[row.id] = why or "pillar has no words for it; put it back (heal), or write it by hand"
    return {"pillar": pillar, "parts": parts, "left": left}


def _unfit(row: Drift) -> str:
    if row.who not in (BY_HAND, ONLY_LIVE):
        return "pillar was edited too, and says something else; decide which of the two is right"
    if row.what == "removed":
        return f"is gone there, and a file can't take it out of another: remove it from pillar by hand ({row.origin})"
    return ""


def _candidates(found: Comparison, row: Drift) -> Iterator[Overlay]:
    live = found.snapshot.get(row.id)
    make = KINDS.get(row.id.partition(" ")[0])
    if live and make:
        yield from make(found, row, live)


def _rrset(_: Comparison, row: Drift, live: Resource) -> Iterator[Overlay]:
    """A route's record stays with the route."""
    zone, name, kind = live.key.split("/")
    records = {value: (live.spec.get("comments") or {}).get(value, "") for value in live.spec["records"]}
    seen = Rrset(name, kind, records, live.spec["ttl"], live.spec["owner"])
    said = pillar_of(ZoneSeen(zone), [seen])[0]["hecate"]["dns"]["zones"][zone]["records"].get(name)
    if not said:
        return
    if host := _route_of(row):
        yield {"routes": {host: {"dns": {kind: said[kind]}}}}
        yield {"routes": {host: {"dns": said}}}
    else:
        yield {"dns": {"zones": {zone: {"records": {name: {kind: said[kind]}}}}}}
        yield {"dns": {"zones": {zone: {"records": {name: said}}}}}


def _route(found: Comparison, row: Drift, live: Resource) -> Iterator[Overlay]:
    """As an import reads the same steps in a server of somebody else's; first only where it leads."""
    host = _route_of(row) or live.key
    if "upstream" in live.spec:
        yield {"routes": {host: {"upstreams": [live.spec["upstream"]]}}}
    steps: Any = json.loads(json.dumps(live.spec["steps"]).replace("{hecate.upstream}", live.spec.get("upstream", "")))
    match = [{"host": list(live.spec["hosts"])}]
    entry = {"match": match, "handle": [{"handler": "subroute", "routes": steps}], "terminal": True}
    server = {"listen": [":443"], "routes": [entry]}
    made = import_config({"apps": {"http": {"servers": {SERVER: server}}}}, own="").pillar["hecate"]
    fields = made.get("routes", {}).get(live.key)
    if not fields:
        return
    for names in (("upstreams",), ("redirect",), tuple(fields)):
        part = {name: fields[name] for name in names if name in fields}
        if part:
            yield {"routes": {host: part}}


def _group(_: Comparison, __: Drift, live: Resource) -> Iterator[Overlay]:
    said = {name: live.spec[name] for name in ("members", "attributes") if name in live.spec}
    for names in (("members",), ("attributes",), tuple(said)):
        part = {name: said[name] for name in names if name in said}
        if part:
            yield {"authentik": {"groups": {live.key: part}}}


def _application(found: Comparison, row: Drift, live: Resource) -> Iterator[Overlay]:
    """Of those that log in by themselves; what a route is called is made from its host."""
    if live.key in found.target.estate.applications:
        yield {
            "applications": {
                live.key: {APPLICATION[one.path]: live.spec[one.path] for one in row.fields if one.path in APPLICATION}
            }
        }


def _route_of(row: Drift) -> str:
    """The route in pillar that wants this object, "" where none does."""
    parts = row.origin.split(":")
    return parts[2] if parts[:2] == ["hecate", "routes"] and len(parts) > 2 else ""


KINDS: Mapping[str, Callable[[Comparison, Drift, Resource], Iterator[Overlay]]] = {
    "dns.rrset": _rrset,
    "caddy.route": _route,
    "authentik.group": _group,
    "authentik.application": _application,
}
