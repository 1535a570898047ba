"""What of Hecate lies outside its server's routes: the server itself, loggers, settings of whole apps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hecate.backends.caddy_marks import (
    ACCESS,
    ERROR,
    FIRST,
    LAST,
    LOGGER,
    LOGS,
    MANAGED,
    METRICS,
    OURS,
    OWNS,
    PROXY,
    QUIET,
    TLS,
    Config,
    Held,
    Spec,
    filled,
    our_files,
    servers_of,
)
from hecate.errors import Conflict


def last_route(server: Spec, managed: list[str]) -> Config:
    """Also says which settings outside the server are Hecate's: those have no place for a mark."""
    owns = sorted(key for key in ("metrics", "metrics_server", "on_demand", "storage") if key in server)
    names = {MANAGED: managed} if managed else {}
    mark = [{"handler": "vars", OWNS: owns, **names}] if owns or names else []
    return {"@id": LAST, "handle": [*mark, *server["last"]]}


def read_loggers(config: Config, held: Held) -> None:
    logs = (config.get("logging") or {}).get("logs") or {}
    found: dict[int, Config] = {}
    for spec in held.routes.values():
        steps = spec.get("steps") or []
        if id(steps) not in found:
            names = [n for n in _logger_names(steps) if n != QUIET]
            found[id(steps)] = {n: {k: v for k, v in logs.get(n, {}).items() if k != "include"} for n in names}
        if found[id(steps)]:
            spec["loggers"] = found[id(steps)]


def _logger_names(steps: Iterable[Config]) -> Iterator[str]:
    """In the steps themselves, and in those that choose a path's loggers."""
    for step in steps:
        for handler in step.get("handle") or []:
            yield from handler.get("access_logger_names") or []
            if step.get("group") == LOGS:
                yield from _logger_names(handler.get("routes") or [])


def _quiet(config: Config) -> Config:
    """The logger of errors, without what it has from Caddy's default log."""
    logs = (config.get("logging") or {}).get("logs") or {}
    default, found = logs.get("default") or {}, logs.get(QUIET)
    if found is None:
        return {}
    own = {k: v for k, v in found.items() if k != "include" and (k == "encoder" or default.get(k) != v)}
    return {"loggers": {QUIET: own}}


def read_server(config: Config, name: str, server: Config) -> Config:
    aside = ("@id", "routes", "tls_connection_policies", "strict_sni_host", "logs")
    by_mark = {route.get("@id"): route for route in server.get("routes") or []}
    first, last = by_mark.get(FIRST, {}), by_mark.get(LAST, {})
    steps = ((first.get("handle") or [{}])[0]).get("routes") or []
    owned = [h for h in last.get("handle") or [] if OWNS in h]
    issuing = {k: v for k, v in (server.get("automatic_https") or {}).items() if k != "skip_certificates"}
    policies = server.get("tls_connection_policies") or [{}]
    others = {"connection": policies[-1]} if policies[-1] and "match" not in policies[-1] else {}
    found = {
        "server": filled({k: v for k, v in server.items() if k not in aside}, "automatic_https", issuing),
        **others,
        "first": steps,
        "last": [h for h in last.get("handle") or [] if OWNS not in h],
        **_quiet(config),
    }
    apps = config.get("apps") or {}
    there = {
        "metrics": (apps.get("http") or {}).get("metrics"),
        "on_demand": ((apps.get("tls") or {}).get("automation") or {}).get("on_demand"),
        "storage": config.get("storage"),
        "metrics_server": {k: v for k, v in servers_of(config).get(f"{name}-metrics", {}).items() if k != "@id"},
    }
    return {**found, **{key: there[key] for key in (owned[0][OWNS] if owned else ())}}


def with_server(config: Config, name: str, server: Config | None, metrics: Config | None) -> Config:
    servers = {k: v for k, v in servers_of(config).items() if k != name and v.get("@id") != METRICS}
    if server is not None:
        servers[name] = server
    if metrics is not None:
        servers[f"{name}-metrics"] = {"@id": METRICS, **metrics}
    apps = config.get("apps") or {}
    return {**config, "apps": {**apps, "http": {**(apps.get("http") or {}), "servers": servers}}}


def with_app_settings(
    config: Config,
    had: set[str],
    server: Spec,
    loggers: Mapping[str, Config],
    automation: Iterable[Config] = (),
    files: Iterable[Config] = (),
    managed: Iterable[str] = (),
) -> Config:
    """Containers that would be left empty go too, so that undoing leaves no trace."""
    apps = dict(config["apps"])
    apps["http"] = _put(apps["http"], {"metrics": server.get("metrics")}, had)
    tls = dict(apps.get("tls") or {})
    auto, certificates = dict(tls.get("automation") or {}), dict(tls.get("certificates") or {})
    strangers = [p for p in auto.get("policies") or [] if not str(p.get("@id", "")).startswith(TLS)]
    # First: a stranger's policy without subjects would otherwise take all hosts.
    named = [policy for policy in automation if "subjects" in policy]
    rest = [policy for policy in automation if "subjects" not in policy]
    auto = filled(auto, "policies", [*named, *strangers, *rest])
    auto = _put(auto, {"on_demand": server.get("on_demand")}, had)
    theirs = [f for f in certificates.get("load_files") or [] if f not in our_files(tls)]
    certificates = filled(certificates, "load_files", [*theirs, *files])
    others = [name for name in certificates.get("automate") or [] if name not in had]
    certificates = filled(certificates, "automate", [*others, *(name for name in managed if name not in others)])
    tls = filled(filled(tls, "automation", auto), "certificates", certificates)
    config = {**config, "apps": filled(apps, "tls", tls)}
    config = _put(config, {"storage": server.get("storage")}, had)
    return filled(config, "logging", _logging(dict(config.get("logging") or {}), loggers))


def _logging(logging: Config, loggers: Mapping[str, Config]) -> Config:
    """Ours, and what Caddy's default log leaves out: it would write in full what ours leave out.

    Errors of requests, and what proxies tell of theirs, go where the default log goes; but through QUIET.
    """
    had = logging.get("logs") or {}
    logs = {k: v for k, v in had.items() if not k.startswith(LOGGER)}
    default, names = dict(logs.get("default") or {}), sorted(loggers)
    ours = [*(ACCESS + name for name in names), *(ERROR + name for name in names), *([PROXY] if QUIET in names else [])]
    logs |= {name: {**loggers[name], "include": [ACCESS + name]} for name in names}
    if QUIET in names:
        place = {k: default[k] for k in ("writer", "level") if k in default}
        logs[QUIET] = {**place, **loggers[QUIET], "include": [ACCESS + QUIET, *ours[len(names) :]]}
    before = {PROXY} if QUIET in had else set()
    excluded = [n for n in default.get("exclude") or [] if not n.startswith(OURS) and n not in before]
    wanted = default.get("include") or [""]  # Caddy refuses to exclude what isn't included
    default = filled(default, "exclude", [*excluded, *(n for n in ours if n.startswith(tuple(wanted)))])
    return filled(logging, "logs", filled(logs, "default", default))


def _put(container: Config, wanted: Config, had: set[str]) -> Config:
    """Set what is wanted; remove what was Hecate's and is no more; leave a stranger's alone."""
    found = dict(container)
    for key, value in wanted.items():
        if value is not None:
            if key in found and key not in had and found[key] != value:
                raise Conflict([f"caddy: a setting of somebody else's for the whole of this Caddy: {key}"])
            found[key] = value
        elif key in had:
            found.pop(key, None)
    return found
