"""Access and audit logs -> loggers of Caddy (https://caddyserver.com/docs/json/logging/logs/).

A route names its loggers itself while it runs: a list of hosts at the server would be looked up
letter by letter, and a client that writes A.TEST would not be logged. Until a route says otherwise a
request is not logged, and its errors go to QUIET: to where Caddy's default log goes, without secrets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hecate.compile.caddy_matching import covered
from hecate.model.caddy import Caddy
from hecate.model.fields import bytes_of
from hecate.model.middleware import AuditLog
from hecate.model.routes import AccessLog, Route

Spec = dict[str, Any]
QUIET = "hecate-quiet"
LOGS = "hecate_logs"
# Whoever has the value can sign in. Caddy itself hides Cookie, Set-Cookie and (Proxy-)Authorization.
SECRET_HEADERS = (
    "X-Authentik-Jwt", "X-Api-Key", "X-Auth-Token", "X-Vault-Token", "X-Nomad-Token", "X-Consul-Token",
    "X-Forwarded-Access-Token", "X-Auth-Request-Access-Token", "X-Csrf-Token", "Private-Token",
)  # fmt: skip
SECRET_QUERY = (
    r"(?i)([?&;](?:[^=&;#]*(?:token|secret|passw|signature|api_?key|session|credential)[^=&;#]*"
    r"|code|state|key|sig|jwt|auth|assertion|samlresponse)=)[^&;#]*"
)
WITH_ADDRESSES = ("request>uri", "request>headers>Referer", "request>headers>X-Forwarded-Uri", "resp_headers>Location")


@dataclass(frozen=True)
class Log:
    """A logger, and the paths whose requests it doesn't get. name: a digest of what it does, so equal ones are one."""

    logger: Spec
    spared: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"hecate-{hashlib.sha256(json.dumps(self.logger, sort_keys=True).encode()).hexdigest()[:12]}"


def logs_of(caddy: Caddy, route: Route, audits: Iterable[AuditLog]) -> list[Log]:
    """The logs that get a request: the route's own, and those of the middleware on its way."""
    own = caddy.access_log if route.access_log is None else route.access_log
    access = AccessLog() if own is True else own
    found = [Log(_access(access), access.exclude_paths)] if access else []
    found += [Log(_audit(audit), audit.exclude_paths) for audit in audits if audit.log_requests]
    return list({log.name: log for log in found}.values())


def loggers_of(logs: Iterable[Log]) -> dict[str, Spec]:
    return {log.name: log.logger for log in logs}


def quiet() -> Spec:
    """The logger of errors, wherever they happen."""
    return {"encoder": _encoder(responses=True)}


def unlogged() -> Spec:
    """The step before any route."""
    return {"handle": [{"handler": "vars", "log_skip": True, "access_logger_names": [QUIET]}]}


def log_steps(logs: list[Log], elsewhere: Iterable[tuple[Spec, list[Log]]] = ()) -> list[Spec]:
    """Which loggers get a request. elsewhere: a path's matcher and its logs, the most specific first."""
    special = list(elsewhere)
    if all(loggers_of(own) == loggers_of(logs) for _, own in special):
        return _chosen(logs)
    steps = [{"group": LOGS, "match": [matcher], "handle": [_subroute(own)]} for matcher, own in special]
    return [*steps, {"group": LOGS, "handle": [_subroute(logs)]}]


def _subroute(logs: list[Log]) -> Spec:
    return {"handler": "subroute", "routes": _chosen(logs) or [unlogged()]}


def _chosen(logs: list[Log]) -> list[Spec]:
    """All of them; then, where paths are spared, those that are left: the last step that fits counts."""
    if not logs:
        return []
    steps: list[Spec] = [{"handle": [_naming(logs)]}]
    sparing = [log for log in logs if log.spared]
    for count in range(1, len(sparing) + 1):
        for some in combinations(sparing, count):
            left = [log for log in logs if log not in some]
            paths = [{"path": [p for given in log.spared for p in covered(given)]} for log in some]
            match = paths[0] if count == 1 else {**paths[0], "not": [{"not": [path]} for path in paths[1:]]}
            steps.append({"match": [match], "handle": [_naming(left) if left else unlogged()["handle"][0]]})
    return steps


def _naming(logs: list[Log]) -> Spec:
    return {"handler": "vars", "log_skip": False, "access_logger_names": [log.name for log in logs]}


def _access(log: AccessLog) -> Spec:
    logger: Spec = {"encoder": _encoder(responses=True), "level": log.level}
    return {**logger, **_file(log.file, max(1, bytes_of(log.roll_size) // 10**6), log.keep)}


def _audit(log: AuditLog) -> Spec:
    rolled = AccessLog()
    logger: Spec = {"encoder": _encoder(responses=log.log_responses), "level": "INFO"}
    return {**logger, **_file(log.file, bytes_of(rolled.roll_size) // 10**6, rolled.keep)}


def _file(path: str | None, size: int, keep: int) -> Spec:
    return {"writer": {"output": "file", "filename": path, "roll_size_mb": size, "roll_keep": keep}} if path else {}


def _encoder(*, responses: bool) -> Spec:
    """JSON without what would let a reader of the log sign in as somebody else."""
    fields: Spec = {
        f"{side}>{name}": {"filter": "delete"}
        for side in ("request>headers", "resp_headers")
        for name in SECRET_HEADERS
    }
    fields |= {field: {"filter": "regexp", "regexp": SECRET_QUERY, "value": "${1}REDACTED"} for field in WITH_ADDRESSES}
    if not responses:
        fields = {k: v for k, v in fields.items() if not k.startswith("resp_headers")}
        fields["resp_headers"] = {"filter": "delete"}
    return {"format": "filter", "wrap": {"format": "json"}, "fields": fields}
