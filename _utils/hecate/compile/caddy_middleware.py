"""Middleware -> handlers of Caddy (https://caddyserver.com/docs/json/apps/http/servers/routes/handle/).

Each kind becomes a list of steps: entries of a subroute's route list, tried one after the other.
The order between kinds is that of COMPILE, whatever the pillar's; within a kind it is the pillar's.
What only changes the answer's headers is no step of its own: `answers` makes one of it all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from hecate.compile.caddy_matching import covered
from hecate.compile.caddy_text import STATUS, filled, page, read_by_caddy
from hecate.model.fields import bytes_of
from hecate.model.middleware import (
    BasicAuth,
    BlockScanners,
    Cors,
    Encode,
    ErrorPages,
    HeaderChanges,
    Headers,
    IpFilter,
    Maintenance,
    Middleware,
    RateLimit,
    Redirect,
    RequestBody,
    RequestId,
    Rewrite,
    SecurityHeaders,
)

Step = dict[str, Any]

OWASP = {
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-XSS-Protection": "0",
}
REQUEST_ID, CLIENT_IP = "{http.request.uuid}", "{http.vars.client_ip}"
OF_ERRORS = ("Set-Cookie", "WWW-Authenticate", "Retry-After", "Allow")
QUESTION = {"Origin": ["*"], "Access-Control-Request-Method": ["*"]}  # with OPTIONS: a preflight
TELLTALE = ("Server", "X-Powered-By", "X-AspNet-Version", "X-AspNetMvc-Version")
# Paths that only somebody asks for who tries many hosts (docs/decisions/0014-scanner-lists.md).
SCANNED = (
    "/.env", "/.env.*", "/.git", "/.git/*", "/.svn", "/.svn/*", "/.hg", "/.hg/*", "/.DS_Store", "/wp-admin",
    "/wp-admin/*", "/wp-login.php", "/wordpress", "/wordpress/*", "/xmlrpc.php", "/phpmyadmin", "/phpmyadmin/*",
    "/phpinfo.php", "/info.php", "/test.php", "/shell.php", "/telescope/requests", "/horizon/api/stats",
)  # fmt: skip
SCANNED_ENDINGS = r"(?i)\.(sql|bak|backup|old|orig|save|swp)$"
SCANNED_QUERY = "rest_route"
SCANNERS = r"(?i)\b(nikto|sqlmap|havij|acunetix|masscan|zgrab|nuclei|dirbuster|gobuster|wpscan|nmap scripting engine)\b"


def steps_of(uses: Iterable[Middleware], phases: Iterable[str]) -> list[Step]:
    """The steps of those uses whose phase is among `phases`, in that order."""
    listed = list(uses)
    return [step for phase in phases for use in listed if _phase(use) == phase for step in COMPILE[phase](use.config)]


def _phase(use: Middleware) -> str:
    """The type; but who the user is, is known only after the login."""
    return "rate_limit_by_user" if use.type == "rate_limit" and use.config.by == "user" else str(use.type)


def handled(*handlers: Step) -> Step:
    return {"handle": list(handlers)}


def respond(status: int, body: str = "", **headers: str) -> Step:
    found: Step = {"handler": "static_response", "status_code": status}
    if headers:
        found["headers"] = {name.replace("_", "-"): [value] for name, value in headers.items()}
    return {**found, "body": body} if body else found


def header_changes(changes: HeaderChanges) -> Step:
    """Of a request, where Caddy's own order (add, set, delete) does what is meant."""
    optional = {
        "set": {name: [filled(value)] for name, value in sorted(changes.set.items())},
        "add": {name: [filled(value)] for name, value in sorted(changes.add.items())},
        "delete": list(changes.remove),
    }
    return {k: v for k, v in optional.items() if v}


def request_headers(config: Headers) -> list[Step]:
    return [handled({"handler": "headers", "request": header_changes(config.request)})] if config.request else []


def changes_of(uses: Iterable[Middleware], own: Headers) -> list[HeaderChanges]:
    """What happens to the answer's headers, the more specific later: presets, middleware, the service's own."""
    listed = list(uses)
    presets = [_preset(use.config) for use in listed if use.type == "security_headers"]
    named = [use.config.response for use in listed if use.type == "headers"]
    ids = [HeaderChanges(set={use.config.header: REQUEST_ID}) for use in listed if use.type == "request_id"]
    return [change for change in (*presets, *named, own.response, *ids) if change]


def _preset(config: SecurityHeaders) -> HeaderChanges:
    own = {name.lower() for name in config.headers}
    wanted = {name: value for name, value in OWASP.items() if name.lower() not in own}
    return HeaderChanges(set={**wanted, **{k: v for k, v in config.headers.items() if v}}, remove=TELLTALE)


def cors_of(uses: Iterable[Middleware]) -> Cors | None:
    """The last one: a permission is not put together from several."""
    return next((use.config for use in reversed(list(uses)) if use.type == "cors"), None)


def answers(changes: Iterable[HeaderChanges], cors: Cors | None) -> list[Step]:
    """The answer's headers, each of them once, later changes winning over earlier ones.

    Twice over: at once, so that Caddy's own error answers have them; and again when the upstream has
    answered (deferred), since what it sends itself would otherwise stand beside them.
    """
    put, added, gone = _merged(changes)
    known = {name: values for name, values in put.items() if not any("{http.re" in v for v in _unrequested(values))}
    first, last = _filled_in(set=known, delete=gone), _filled_in(set=put, add=added)
    handlers = [{"handler": "headers", "response": first}] if first else []
    if last:
        handlers.append({"handler": "headers", "response": {"deferred": True, **last}})
    if gone:
        # A handler of its own, and inside the other: it must take the upstream's headers, not ours.
        handlers.append({"handler": "headers", "response": {"deferred": True, "delete": gone}})
    return [*([handled(*handlers)] if handlers else []), *(_cors_answer(cors) if cors else [])]


def _merged(changes: Iterable[HeaderChanges]) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
    """What to set, what to add, what to delete before either; names as they were written last."""
    put: dict[str, tuple[str, list[str]]] = {}
    added: dict[str, tuple[str, list[str]]] = {}
    gone: dict[str, str] = {}
    for change in changes:
        for name in change.remove:
            gone[name.lower()] = name
            for there in [n for found in (put, added) for n in found if _covers(name.lower(), n)]:
                put.pop(there, None)
                added.pop(there, None)
        for name, value in change.set.items():
            added.pop(name.lower(), None)
            put[name.lower()] = (name, [filled(value)])
        for name, value in change.add.items():
            beside = put if name.lower() in put else added
            beside.setdefault(name.lower(), (name, []))[1].append(filled(value))
    return dict(sorted(put.values())), dict(sorted(added.values())), sorted(gone.values())


def _covers(pattern: str, name: str) -> bool:
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern


def _unrequested(values: list[str]) -> list[str]:
    """Values without what they say of the request itself: that is known from the start."""
    return [value.replace("{http.request.", "{") for value in values]


def _filled_in(**parts: Any) -> Step:
    return {key: value for key, value in parts.items() if value}


def ip_filter(config: IpFilter) -> list[Step]:
    """By client_ip, which honours the server's trusted proxies; remote_ip would see the proxy alone."""
    refusals: list[Step] = []
    if config.deny:
        refusals.append({"client_ip": {"ranges": list(config.deny)}})
    if config.allow:
        refusals.append({"not": [{"client_ip": {"ranges": list(config.allow)}}]})
    refusal = respond(config.status, "Not from this address.\n", Cache_Control="no-store")
    return [{"match": refusals, "handle": [refusal], "terminal": True}]


def maintenance(config: Maintenance) -> list[Step]:
    text = "Down for maintenance; please try again later.\n"
    body = page(config.page, "503") if config.page else text
    kind = "text/html; charset=utf-8" if config.page else "text/plain; charset=utf-8"
    answer = respond(503, body, Retry_After=str(config.retry_after), Cache_Control="no-store", Content_Type=kind)
    step: Step = {"handle": [answer], "terminal": True}
    if config.except_from:
        step["match"] = [{"not": [{"client_ip": {"ranges": list(config.except_from)}}]}]
    return [step]


def redirect(config: Redirect) -> list[Step]:
    return [{"handle": [respond(config.status, Location=filled(config.to))], "terminal": True}]


def rewrite(config: Rewrite) -> list[Step]:
    """Prefixes by regexp: in a new uri, {http.request.uri} would come out decoded, and a%2Fb be two segments."""
    if config.strip_prefix:
        return [handled({"handler": "rewrite", "strip_path_prefix": config.strip_prefix.rstrip("/*")})]
    if config.add_prefix:
        prefix = filled(config.add_prefix.rstrip("/*").replace("$", "$$"))
        return [handled({"handler": "rewrite", "path_regexp": [{"find": "^", "replace": prefix}]})]
    if config.uri:
        return [handled({"handler": "rewrite", "uri": filled(config.uri)})]
    if "?" in config.replace:
        return _rewrite_with_query(str(config.regexp), config.replace)
    change = {"find": config.regexp, "replace": filled(config.replace)}
    return [handled({"handler": "rewrite", "path_regexp": [change]})]


def _rewrite_with_query(pattern: str, replace: str) -> list[Step]:
    """Caddy's own replacing keeps to the path, and would send the ? as %3F."""
    groups = re.sub(r"\$\{?(\w+)\}?", r"{http.regexp.hecate.\1}", replace)
    match = {"path_regexp": {"name": "hecate", "pattern": pattern}}
    return [{"match": [match], "handle": [{"handler": "rewrite", "uri": filled(groups)}]}]


def request_body(config: RequestBody) -> list[Step]:
    return [handled({"handler": "request_body", "max_size": bytes_of(config.max_size)})]


def error_routes(config: ErrorPages) -> list[Step]:
    """For a subroute's `errors`: pages by status, exact ones first.

    Caddy itself says nothing more of an error that has a page; so the access log gets the cause.
    """
    cause = {"handler": "log_append", "key": "error", "value": "{http.error.message}"}
    found = []
    for status, text in _by_exactness(config):
        match: Step = {"vars": {STATUS: [status]}}
        if status.endswith("xx"):
            match = {"vars_regexp": {STATUS: {"pattern": f"^{status[0]}"}}}
        found.append({"match": [match], "handle": [cause, _page(STATUS, page(text))], "terminal": True})
    return found


def error_answers(config: ErrorPages) -> list[Step]:
    """For a proxy's `handle_response`: the same pages in place of the upstream's own; what its headers ask, stays."""
    said = "{http.reverse_proxy.status_code}"
    kept = {"handler": "copy_response_headers", "include": list(OF_ERRORS)}
    found = []
    for status, text in _by_exactness(config):
        matched = int(status[0]) if status.endswith("xx") else int(status)
        handlers = [kept, _page(said, page(text, said))]
        found.append({"match": {"status_code": [matched]}, "routes": [{"handle": handlers}]})
    return found


def _by_exactness(config: ErrorPages) -> list[tuple[str, str]]:
    return sorted(config.pages.items(), key=lambda item: (item[0].endswith("xx"), item[0]))


def _page(status: str, body: str) -> Step:
    headers = {"Content-Type": ["text/html; charset=utf-8"], "Cache-Control": ["no-store"]}
    return {"handler": "static_response", "status_code": status, "headers": headers, "body": body}


def preflights(config: Cors, where: Step) -> list[Step]:
    """Answers to "may I?", before any login: browsers send no cookie with the question. where: a matcher.

    Whoever asks from elsewhere gets an answer that permits nothing.
    """
    asked = {
        **_permission(config),
        "Access-Control-Allow-Methods": [", ".join(config.methods)],
        "Access-Control-Max-Age": [str(config.max_age)],
        **({"Access-Control-Allow-Headers": [", ".join(config.headers)]} if config.headers else {}),
    }
    permitted = {**where, "method": ["OPTIONS"], "header": {**QUESTION, **_origins(config)}}
    others = {**where, "method": ["OPTIONS"], "header": QUESTION}
    reply = {"handler": "static_response", "status_code": 204, "headers": {**asked, "Vary": ["Origin"]}}
    refusal = {"handler": "static_response", "status_code": 204, "headers": {"Vary": ["Origin"]}}
    return [
        {"match": [permitted], "handle": [reply], "terminal": True},
        {"match": [others], "handle": [refusal], "terminal": True},
    ]


def _cors_answer(config: Cors) -> list[Step]:
    """What the upstream itself permits doesn't count: one place decides. Caches are told that origins differ."""
    others = {"not": [{"method": ["OPTIONS"], "header": QUESTION}]}
    exposed = {"Access-Control-Expose-Headers": [", ".join(config.expose)]} if config.expose else {}
    wanted = {**_permission(config), **exposed}
    now, then = ({"handler": "headers", "response": {**when, "set": wanted}} for when in ({}, {"deferred": True}))
    vary = {"handler": "headers", "response": {"add": {"Vary": ["Origin"]}}}
    gone = {"handler": "headers", "response": {"deferred": True, "delete": ["Access-Control-*"]}}
    return [
        {"match": [{"header": _origins(config), **others}], "handle": [now, then]},
        {"match": [others], "handle": [vary, gone]},
    ]


def _permission(config: Cors) -> dict[str, list[str]]:
    found = {"Access-Control-Allow-Origin": ["*" if "*" in config.origins else "{http.request.header.Origin}"]}
    return {**found, **({"Access-Control-Allow-Credentials": ["true"]} if config.credentials else {})}


def _origins(config: Cors) -> dict[str, list[str]]:
    return {"Origin": ["*"] if "*" in config.origins else list(config.origins)}


def _preflights_everywhere(config: Cors) -> list[Step]:
    return preflights(config, {})


def _encode(config: Encode) -> list[Step]:
    names = list(config.encodings)
    handler = {
        "handler": "encode",
        "encodings": {name: {} for name in names},
        "prefer": names,
        "minimum_length": config.minimum_length,
    }
    return [handled(handler)]


def _request_id(config: RequestId) -> list[Step]:
    return [handled({"handler": "headers", "request": {"set": {config.header: [REQUEST_ID]}}})]


def _basic_auth(config: BasicAuth) -> list[Step]:
    """The cache of hashes keeps bcrypt from costing a second of CPU with every request."""
    accounts = [
        {"username": name, "password": read_by_caddy(password)} for name, password in sorted(config.accounts.items())
    ]
    basic = {
        "accounts": accounts,
        "hash": {"algorithm": config.algorithm},
        "hash_cache": {},
        "realm": config.realm,
    }
    steps = [handled({"handler": "authentication", "providers": {"http_basic": basic}})]
    if config.hide:
        steps.append(handled({"handler": "headers", "request": {"delete": ["Authorization"]}}))
    return steps


def _block_scanners(config: BlockScanners) -> list[Step]:
    """Alternatives, each a matcher of its own: keys within one matcher must all hold."""
    paths = [*(SCANNED if config.preset else ()), *(p for given in config.paths for p in covered(given))]
    agents = [*([SCANNERS] if config.preset else []), *(f"(?i){agent}" for agent in config.agents)]
    wanted: list[Step] = [{"path": paths}] if paths else []
    if config.preset:
        wanted += [{"path_regexp": {"pattern": SCANNED_ENDINGS}}, {"query": {SCANNED_QUERY: ["*"]}}]
    wanted += [{"header_regexp": {"User-Agent": {"pattern": agent}}} for agent in agents]
    wanted += [{"header": {name: ["*"]}} for name in config.headers]
    spared: list[Step] = []
    if config.except_paths:
        spared.append({"path": [p for given in config.except_paths for p in covered(given)]})
    if config.except_from:
        spared.append({"client_ip": {"ranges": list(config.except_from)}})
    if spared:
        wanted = [{**one, "not": spared} for one in wanted]
    answer = {"handler": "static_response", "abort": True} if config.answer == "close" else respond(404)
    return [{"match": wanted, "handle": [answer], "terminal": True}]


def _rate_limit(config: RateLimit) -> list[Step]:
    """https://github.com/mholt/caddy-ratelimit. Zones of one name share their counters, hence a name by limits."""
    who = {"client_ip": CLIENT_IP, "host": "", "user": "{http.request.header.X-Authentik-Username}{http.auth.user.id}"}
    limit = config.requests_per_minute + config.burst
    zone = {"key": "{http.request.host} " + who[config.by], "window": "1m", "max_events": limit}
    return [handled({"handler": "rate_limit", "rate_limits": {f"hecate-{config.by}-{limit}": zone}})]


def _none(_: Any) -> list[Step]:
    return []


COMPILE: dict[str, Callable[[Any], list[Step]]] = {
    "audit_log": _none,  # a logger of the route: compile/caddy_logs.py
    "error_pages": _none,  # of the subroute around all steps: compile/caddy.py
    "security_headers": _none,  # of the answer alone: `answers`
    "request_id": _request_id,
    "ip_filter": ip_filter,
    "block_scanners": _block_scanners,
    "rate_limit": _rate_limit,
    "maintenance": maintenance,
    "cors": _preflights_everywhere,
    "request_body": request_body,
    "encode": _encode,
    "headers": request_headers,
    "basic_auth": _basic_auth,
    "rate_limit_by_user": _rate_limit,
    "redirect": redirect,
    "rewrite": rewrite,
}
_ALL = tuple(COMPILE)
AT_THE_DOOR = _ALL[: _ALL.index("cors")]
BEFORE_AUTH = _ALL[_ALL.index("cors") : _ALL.index("rate_limit_by_user")]
AFTER_AUTH = _ALL[_ALL.index("rate_limit_by_user") :]
