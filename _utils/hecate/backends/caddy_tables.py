"""Routes as they lie in the server: tables of hosts that are served alike, single routes, buckets of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from math import isqrt
from typing import Any

from hecate.backends.caddy_marks import (
    APART,
    BIG,
    BUCKET,
    FEW,
    KEY,
    ROUTE,
    TABLE,
    UPSTREAM,
    Config,
    Held,
    Spec,
    fingerprint,
)


def laid(routes: Mapping[str, Spec]) -> list[Config]:
    """Tables and single routes, in buckets where they are many; wildcards last."""
    tables: dict[tuple[int, bool, bool], dict[str, Spec]] = {}
    wild: dict[str, Spec] = {}
    for key, spec in routes.items():
        if any(host[0] == "*" for host in spec["hosts"]):
            wild[key] = spec
        else:
            form = (id(spec["steps"]), "upstream" in spec, len(spec["hosts"]) > 1)
            tables.setdefault(form, {})[key] = spec
    tables = _merged(tables)
    items: list[Config] = []
    for members in tables.values():
        if len(members) == 1 and "upstream" not in next(iter(members.values())):
            items += [_single(key, spec) for key, spec in members.items()]
        else:
            items.append(_table(members))
    items.sort(key=lambda item: item["match"][0]["host"][0])
    return [*_bucketed(items), *(_single(key, wild[key]) for key in _in_order(wild))]


def _in_order(wild: Mapping[str, Spec]) -> list[str]:
    """More labels first; and one that names a host before the one whose wildcard covers it.

    The model refuses routes that cover each other's hosts.
    """
    by_rank = sorted(wild, key=lambda key: (-key.count("."), -len(key), key))
    covering = {host: key for key in by_rank for host in wild[key]["hosts"] if host[0] == "*"}
    order: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_rank, ()))
    for key in by_rank:
        for host in wild[key]["hosts"]:
            other = covering.get("*." + host.partition(".")[2], key)
            if host[0] != "*" and other != key:
                order.add(other, key)
    return list(order.static_order())


def _merged(tables: dict[tuple[int, bool, bool], dict[str, Spec]]) -> dict[Any, dict[str, Spec]]:
    """Steps that are equal though not the same object belong together."""
    merged: dict[Any, dict[str, Spec]] = {}
    for (_, dialled, aliased), members in tables.items():
        digest = fingerprint(shape_of(next(iter(members.values()))))
        merged.setdefault((digest, dialled, aliased), {}).update(members)
    return merged


def _table(members: Mapping[str, Spec]) -> Config:
    """One route for all: which hosts, what each is for, then the steps that they share."""
    one = next(iter(members.values()))
    dialled, aliased = "upstream" in one, any(len(spec["hosts"]) > 1 for spec in members.values())
    destinations = [*([UPSTREAM] if dialled else []), *([KEY] if aliased else [])]
    pairs = sorted((host, key) for key, spec in members.items() for host in spec["hosts"])
    if dialled and not aliased:
        mappings = [{"input": host, "outputs": [members[key]["upstream"]]} for host, key in pairs]
    else:
        mappings = [
            {"input": host, "outputs": [*([members[key]["upstream"]] if dialled else []), *([key] if aliased else [])]}
            for host, key in pairs
        ]
    table = {
        "handler": "map",
        "source": "{http.request.host}",
        "destinations": destinations,
        "mappings": mappings,
        "defaults": [""] * len(destinations),
    }
    form = f"{'u' if dialled else ''}{'a' if aliased else ''}"
    return {
        "@id": f"{TABLE}{fingerprint(shape_of(one))}{'-' + form if form else ''}",
        "match": [{"host": [host for host, _ in pairs]}],
        "handle": [*([table] if destinations else []), _subroute(one)],
        "terminal": True,
    }


def _single(key: str, spec: Spec) -> Config:
    dialled = []
    if "upstream" in spec:
        source = {"source": "{http.request.host}", "destinations": [UPSTREAM], "defaults": [spec["upstream"]]}
        dialled = [{"handler": "map", **source}]
    return {
        "@id": ROUTE + key,
        "match": [{"host": list(spec["hosts"])}],
        "handle": [*dialled, _subroute(spec)],
        "terminal": True,
    }


def _subroute(spec: Spec) -> Config:
    errors = {"errors": {"routes": spec["errors"]}} if "errors" in spec else {}
    return {"handler": "subroute", "routes": spec["steps"], **errors}


def _bucketed(items: list[Config]) -> list[Config]:
    big = [item for item in items if len(item["match"][0]["host"]) > BIG]
    small = [item for item in items if len(item["match"][0]["host"]) <= BIG]
    if len(small) <= FEW:
        return items
    size = isqrt(len(small))
    found = []
    for start in range(0, len(small), size):
        inside = small[start : start + size]
        found.append(
            {
                "@id": f"{BUCKET}{start // size:04d}",
                "match": [{"host": [host for item in inside for host in item["match"][0]["host"]]}],
                "handle": [{"handler": "subroute", "routes": inside}],
                "terminal": True,
            }
        )
    return [*big, *found]


def read_item(item: Config, shapes: Mapping[str, Spec], held: Held) -> None:
    """A table's routes, or one. Whatever doesn't look as Hecate lays it makes a spec that nobody wants."""
    mark, handlers = str(item.get("@id", "")), item.get("handle") or [{}]
    hosts = ((item.get("match") or [{}])[0].get("host")) or []
    inner = handlers[-1]
    shape: Config = {"steps": inner.get("routes")}
    if "errors" in inner:
        shape["errors"] = inner["errors"].get("routes")
    shape = dict(shapes.get(fingerprint(shape), shape))
    table = handlers[0] if handlers[0].get("handler") == "map" else {}
    if mark.startswith(ROUTE):
        dialled = {"upstream": table["defaults"][0]} if table else {}
        held.routes[mark.removeprefix(ROUTE)] = {"hosts": list(hosts), **dialled, **shape}
        return
    destinations = table.get("destinations") or []
    if destinations == [UPSTREAM]:
        dials = {row["input"]: row["outputs"][0] for row in table["mappings"]}
        held.routes.update({host: {"hosts": [host], "upstream": dials.get(host), **shape} for host in hosts})
        return
    rows = {row["input"]: row["outputs"] for row in table.get("mappings") or []}
    aliases: dict[str, list[str]] = {}
    for host in hosts:
        key = rows[host][-1] if KEY in destinations and host in rows else host
        aliases.setdefault(key, []).append(host)
    for key, names in aliases.items():
        dialled = {"upstream": rows[key][0] if key in rows else None} if UPSTREAM in destinations else {}
        held.routes[key] = {"hosts": [key, *sorted(n for n in names if n != key)], **dialled, **shape}


def shape_of(spec: Spec) -> Config:
    return {key: value for key, value in spec.items() if key not in APART}


def distinct(specs: Iterable[Spec]) -> list[Spec]:
    """One spec for each steps object: most routes share theirs."""
    return list({id(spec["steps"]): spec for spec in specs if "steps" in spec}.values())
