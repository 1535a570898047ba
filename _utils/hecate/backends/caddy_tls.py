"""What of TLS comes from several routes at once: automation and connection policies, certificate files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hecate.backends.caddy_marks import (
    FEW,
    LOGGER,
    METRICS,
    REST,
    SAID,
    TLS,
    Config,
    Held,
    Spec,
    fingerprint,
    our_files,
    owned_before,
    parent,
    servers_of,
)


def automation_policies(routes: Mapping[str, Spec], is_alone: Callable[[], bool]) -> list[Config]:
    """Who issues for whom. What most have in common is said without names, if that takes in nobody else's.

    Caddy compares each of its names with each of a policy's: 10,000 of them cost seconds a reload.
    """
    found = _by_name(routes, lambda tls: tls.get("automation"))
    policies = [{"@id": TLS + digest, "subjects": hosts, **policy} for digest, policy, hosts in found]
    most = max((p for p in policies if "issuers" in p and "on_demand" not in p), key=_size, default=None)
    if most is None or _size(most) <= FEW:
        return policies
    others = [policy for policy in policies if policy["@id"] != f"{most['@id']}-wild"]
    covered = {host for policy in others for host in policy["subjects"] if host[0] == "*"}
    listed = {host for policy in policies for host in policy["subjects"]}
    specs = [spec for spec in routes.values() if "files" not in (spec.get("tls") or ())]
    unset = [host for spec in specs for host in spec["hosts"] if host not in listed]
    kept = [host for host in most["subjects"] if host[0] == "*" or parent(host) in covered]
    if _size(most) - len(kept) <= len(unset) or not is_alone():
        return policies
    rest = {key: value for key, value in most.items() if key != "subjects"}
    rest["@id"] += REST
    policies = [{**p, "subjects": kept} if p is most else p for p in policies]
    if unset:
        policies.append({"@id": f"{TLS}unset", "subjects": sorted(unset)})
    return [*(policy for policy in policies if policy["subjects"]), rest]


def _size(policy: Config) -> int:
    return len(policy["subjects"])


def is_alone(config: Config, name: str, strangers: list[Config]) -> bool:
    """Whether nobody else in this Caddy has names that it gets certificates for."""
    tls = (config.get("apps") or {}).get("tls") or {}
    policies = (tls.get("automation") or {}).get("policies") or []
    catching = [p for p in policies if "subjects" not in p and not str(p.get("@id", "")).startswith(TLS)]
    managed = set((tls.get("certificates") or {}).get("automate") or []) - owned_before(config)
    theirs = [s for key, s in servers_of(config).items() if key != name and s.get("@id") != METRICS]
    return not catching and not managed and '"host": [' not in json.dumps([theirs, strangers])


def connection_policies(routes: Mapping[str, Spec], others: Config) -> list[Config]:
    """others: what holds for every name that no route has peculiarities for; without such a policy they are refused."""

    def connection(tls: Spec) -> Config:
        chosen = {"certificate_selection": {"any_tag": [_tag(tls["files"])]}} if "files" in tls else {}
        own = tls.get("connection")
        return {**(others if own is None else own), **chosen} if own is not None or chosen else {}

    found = [{"match": {"sni": hosts}, **(policy or others)} for _, policy, hosts in _by_name(routes, connection)]
    return [*found, others] if found or others else []


def files_of(routes: Mapping[str, Spec]) -> list[Config]:
    """Caddy knows two paths; what else a spec says of a certificate is kept in tags beside the one that finds it."""
    found = []
    for _, files, _ in _grouped(routes, lambda tls: tls.get("files")):
        said = [f"{key}={files[key]}" for key in SAID if key in files]
        found.append({"certificate": files["certificate"], "key": files["key"], "tags": [_tag(files), *said]})
    return found


def _read_files(entry: Config) -> Config:
    said = dict(tag.split("=", 1) for tag in entry["tags"][1:])
    return {"certificate": entry.get("certificate"), "key": entry.get("key"), **said}


def without_issuing(routes: Mapping[str, Spec]) -> list[str]:
    """Hosts with certificates of their own: else Caddy asks an authority where a file doesn't name the host."""
    return sorted(host for spec in routes.values() if "files" in spec.get("tls", ()) for host in spec["hosts"])


def _tag(files: Spec) -> str:
    return LOGGER + fingerprint(files)


def _grouped(routes: Mapping[str, Spec], pick: Callable[[Spec], Any]) -> list[tuple[str, Config, list[str]]]:
    """Digest, setting and hosts of each distinct setting, in order of their first host."""
    found: dict[str, tuple[Config, list[str]]] = {}
    seen: dict[int, tuple[str, Config] | None] = {}
    for spec in routes.values():
        tls = spec.get("tls")
        if not tls:
            continue
        if id(tls) not in seen:
            setting = pick(tls)
            seen[id(tls)] = (fingerprint(setting), setting) if setting else None
        this = seen[id(tls)]
        if this:
            found.setdefault(this[0], (this[1], []))[1].extend(spec["hosts"])
    return sorted(((d, setting, hosts) for d, (setting, hosts) in found.items()), key=lambda row: min(row[2]))


def managed(routes: Mapping[str, Spec]) -> list[str]:
    """Names that Caddy is told to get certificates for: else it serves a wildcard's, wherever that comes from."""
    pairs = [(host, spec.get("tls") or {}) for spec in routes.values() for host in spec["hosts"]]
    source = {host: tls.get("files") or tls.get("automation") for host, tls in pairs if host[0] == "*"}
    return sorted(
        host
        for host, tls in (pairs if source else ())
        if parent(host) in source
        and "files" not in tls
        and not tls.get("automation", {}).get("on_demand")
        and source[parent(host)] != tls.get("automation")
    )


def _by_name(routes: Mapping[str, Spec], pick: Callable[[Spec], Any]) -> list[tuple[str, Config, list[str]]]:
    """Digest, setting and hosts, exact names before wildcards: Caddy takes the first setting that covers a name.

    So a host that has none gets an empty one where a wildcard's would cover it.
    """
    exact, wild = [], []
    for digest, setting, hosts in _grouped(routes, pick):
        exact.append((digest, setting, sorted(host for host in hosts if host[0] != "*")))
        wild.append((f"{digest}-wild", setting, sorted(host for host in hosts if host[0] == "*")))
    covered = {host for *_, hosts in wild for host in hosts}
    if covered:
        taken = {host for *_, hosts in exact for host in hosts}
        every = (host for spec in routes.values() for host in spec["hosts"] if host[0] != "*")
        exact.append(("none", {}, sorted(h for h in every if h not in taken and parent(h) in covered)))
    return [row for row in (*exact, *wild) if row[2]]


def read_tls(config: Config, server: Config, held: Held) -> None:
    tls = (config.get("apps") or {}).get("tls") or {}
    parts: dict[str, dict[str, Any]] = {}

    def note(hosts: Iterable[str], key: str, value: Any) -> None:
        if value:
            for host in hosts:
                parts.setdefault(host, {})[key] = value

    listed: set[str] = set()
    rest: Config = {}
    for policy in (tls.get("automation") or {}).get("policies") or []:
        if str(policy.get("@id", "")).startswith(TLS):
            setting = {k: v for k, v in policy.items() if k not in ("@id", "subjects")}
            if "subjects" not in policy:
                rest = setting
            note(policy.get("subjects") or [], "automation", setting)
            listed.update(policy.get("subjects") or [])
    files = {f["tags"][0]: _read_files(f) for f in our_files(tls)}
    others = (held.server or {}).get("connection", {})
    for policy in server.get("tls_connection_policies") or []:
        chosen = ((policy.get("certificate_selection") or {}).get("any_tag") or [""])[0]
        names = (policy.get("match") or {}).get("sni") or []
        connection = {k: v for k, v in policy.items() if k not in ("match", "certificate_selection")}
        note(names, "connection", connection if connection != others else None)
        note(names, "files", files.get(chosen))
    shared: dict[Any, dict[str, Any]] = {}
    for spec in held.routes.values():
        first = spec["hosts"][0] if spec["hosts"] else ""
        found = parts.get(first, {})
        if rest and first not in listed and "files" not in found:
            found = {**found, "automation": rest}
        if found:
            spec["tls"] = shared.setdefault(tuple((k, id(v)) for k, v in sorted(found.items())), found)
