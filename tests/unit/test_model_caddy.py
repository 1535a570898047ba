"""What a pillar may not say of routes and what belongs to them, and what is told then.

One table: sections of the pillar, the path of the one problem in them, part of its message. A
mistake is told once, at its own place, in words of the pillar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hecate.errors import InvalidPillar, Problem
from hecate.model import Estate, problems_in
from hecate.model.fields import Section
from pydantic import TypeAdapter, ValidationError

Sections = dict[str, Any]
Case = tuple[Sections, str, str]
R = "hecate:routes:app.test"
BASE: Sections = {
    "authentik": {"url": "https://auth.test", "token": "env:AUTHENTIK_TOKEN"},
    "auth_policies": {"staff": {"groups": ["staff"]}, "open": {"provider": "none"}},
}


def route(host: str = "app.test", **fields: Any) -> Sections:
    """One route with these fields; upstreams=None leaves them out."""
    whole = {"upstreams": ["10.0.0.5:80"], **fields}
    return {"routes": {host: {key: value for key, value in whole.items() if value is not None}}}


def use(kind: str, **config: Any) -> Sections:
    """One definition of middleware, called `it`."""
    return {"middleware": {"it": {"type": kind, "config": config}}}


def to(place: str) -> Sections:
    """A rule that redirects there."""
    return {"redirect": place}


def both(routes: Mapping[str, Sections]) -> Sections:
    """Several routes, each with an upstream."""
    return {"routes": {host: {"upstreams": ["10.0.0.5:80"], **fields} for host, fields in routes.items()}}


def provider(**fields: Any) -> Sections:
    """A provider of forward auth called `it`, and other sections beside it."""
    aside = {key: fields.pop(key) for key in ("routes",) if key in fields}
    return {"forward_auth": {"it": {"address": "10.0.0.9:80", "uri": "/check", **fields}}, **aside}


F = "hecate:forward_auth:it"
INTERNAL: Sections = {"tls": {"issuer": "internal"}}

# Upstreams, groups, discovery, balancing, health checks: append below.
U = f"{R}:upstreams"
TWO = ["10.0.0.5:80", "10.0.0.6:80"]
TLS_DIAL = ["https://10.0.0.5"]
UPSTREAMS: list[Case] = [
    # Where to go
    (route(upstreams=None), R, "leads nowhere"),
    (route(upstreams=[]), R, "leads nowhere"),
    (route(upstreams="missing"), U, "no such group under hecate:upstreams (none)"),
    (route(upstreams="10.0.0.5:80"), U, "not a slug"),
    ({"upstreams": {"web": {"upstreams": []}}}, "hecate:upstreams:web", "leads nowhere"),
    ({"upstreams": {"web": {"upstreams": "other"}}}, "hecate:upstreams:web", "does not name another group"),
    ({"upstreams": {"web": {"upstreams": TWO, "balance": "best"}}}, "hecate:upstreams:web:balance:policy", "'cookie'"),
    ({**route(upstreams="web", balance="first"), "upstreams": {"web": {"upstreams": TWO}}}, R, "belong to the group"),
    (route(paths={"/api/*": {"upstreams": "missing"}}), f"{R}:paths:/api/*:upstreams", "no such group"),
    (route(paths={"/api/*": {"balance": "first"}}), f"{R}:paths:/api/*", "there are none here"),
    (route(upstreams=None, redirect="/x", timeouts={"dial": "1s"}), R, "there are none here"),
    (route(upstreams=["10.0.0.5:80", "http://10.0.0.5:80"]), R, "10.0.0.5:80 is there twice"),
    (route(upstreams=["https://app.test", "https://app.test:443"]), R, "app.test:443 is there twice"),
    (route(upstreams=["https://10.0.0.5", "10.0.0.6:80"]), R, "all TLS"),
    (route(upstreams=["h2c://10.0.0.5", "10.0.0.6:80"]), R, "all h2c://"),
    (route(upstreams=["10.0.0.5:8000-8010"]), f"{U}:0:dial", "not host:port"),
    (route(upstreams=["{http.request.host}:80"]), f"{U}:0:dial", "neither a host name nor an IP address"),
    (route(upstreams=["2001:db8::1:80"]), f"{U}:0:dial", "in brackets"),
    (route(upstreams=["unix/run/app.sock"]), f"{U}:0:dial", "unix//absolute/path.sock"),
    (route(upstreams=["unix//run/../etc/app.sock"]), f"{U}:0:dial", "not a unix socket"),
    (route(upstreams=["ftp://10.0.0.5"]), f"{U}:0:dial", "https://host[:port]"),
    (route(upstreams=[{"dial": TWO[0], "max_requests": 0}]), f"{U}:0:max_requests", "1"),
    (route(upstreams=[{"dial": TWO[0], "weight": -1}]), f"{U}:0:weight", "0"),
    (route(upstreams=[{"dial": d, "weight": 0} for d in TWO]), R, "all weights are 0"),
    # Discovery
    (route(discover={"srv": "web.service.test"}), R, "and not both"),
    (route(upstreams=None, discover={}), f"{R}:discover", "either srv or a"),
    (route(upstreams=None, discover={"srv": "web.test", "a": "web.test", "port": 1}), f"{R}:discover", "not both"),
    (route(upstreams=None, discover={"a": "web.test"}), f"{R}:discover", "port goes with a"),
    (route(upstreams=None, discover={"srv": "web.test", "port": 80}), f"{R}:discover", "brings its own"),
    (route(upstreams=None, discover={"a": "web.test:80", "port": 80}), f"{R}:discover:a", "without port"),
    (route(upstreams=None, discover={"srv": "{http.request.host}"}), f"{R}:discover:srv", "not a name to look up"),
    (route(upstreams=None, discover={"srv": "web.test", "resolver": "dns"}), f"{R}:discover:resolver", "host:port"),
    (route(upstreams=None, discover={"srv": "web.test", "refresh": "5"}), f"{R}:discover:refresh", "not a duration"),
    (
        route(upstreams=None, discover={"srv": "web.test"}, health_check={"path": "/up"}),
        f"{R}:health_check",
        "no active checks (path) where upstreams are discovered",
    ),
    (
        {**route(upstreams=None, discover={"srv": "a.test"}, health_check="x"), "health_checks": {"x": {"path": "/"}}},
        f"{R}:health_check",
        "no active checks (path) where upstreams are discovered",
    ),
    (route(upstreams=None, discover={"srv": "web.test"}, balance="weighted"), R, "needs upstreams with weights"),
    (
        route(upstreams=None, discover={"srv": "web.test", "scheme": "h2c"}, tls_skip_verify=True),
        R,
        "tls_skip_verify is for scheme https; this one is h2c",
    ),
    # TLS towards them
    (route(tls_skip_verify=True), R, "https:// upstreams"),
    (route(upstream_tls={"ca": "/ca.pem"}), R, "https:// upstreams"),
    (route(upstreams=TLS_DIAL, tls_skip_verify=True, upstream_tls={"ca": "/ca.pem"}), R, "keep one of the two"),
    (route(upstreams=TLS_DIAL, upstream_tls={"ca": "/ca.pem", "skip_verify": True}), f"{R}:upstream_tls", "contradict"),
    (route(upstreams=TLS_DIAL, upstream_tls={"certificate": "/c.pem"}), f"{R}:upstream_tls", "go together"),
    (route(upstreams=TLS_DIAL, upstream_tls={"ca": "../ca.pem"}), f"{R}:upstream_tls:ca", "not an absolute path"),
    (route(upstreams=TLS_DIAL, upstream_tls={"ca": "/etc/../ca.pem"}), f"{R}:upstream_tls:ca", "no .. in it"),
    (
        route(upstreams=TLS_DIAL, upstream_tls={"server_name": "{http.request.host}"}),
        f"{R}:upstream_tls:server_name",
        "no placeholders",
    ),
    # Balance
    (route(upstreams=TWO, balance="header"), f"{R}:balance", "that policy needs it"),
    (route(upstreams=TWO, balance={"header": "X-A"}), f"{R}:balance", "header goes with policy header"),
    (route(upstreams=TWO, balance={"policy": "first", "cookie": "a"}), f"{R}:balance", "go with policy cookie"),
    (route(upstreams=TWO, balance={"try_interval": "1s"}), f"{R}:balance", "goes with try_duration"),
    (route(upstreams=TWO, balance={"retries": 100}), f"{R}:balance:retries", "20"),
    (route(upstreams=TWO, balance={"policy": "cookie", "cookie": "a b"}), f"{R}:balance:cookie", "not a cookie's name"),
    (
        route(upstreams=[TWO[0], {"dial": TWO[1], "weight": 9}], balance="ip_hash"),
        R,
        "policy ip_hash knows no weights",
    ),
    # Health
    (route(health_check="missing"), f"{R}:health_check", "no such check under hecate:health_checks"),
    (route(health_check={}), f"{R}:health_check", "checks nothing"),
    (route(health_check={"path": "healthz"}), f"{R}:health_check:path", "not a path to ask"),
    (route(health_check={"path": "/../x"}), f"{R}:health_check:path", "not a path to ask"),
    (route(health_check={"path": "/health/*"}), f"{R}:health_check:path", "not a path to ask"),
    (route(health_check={"path": "/a", "expect_status": 20}), f"{R}:health_check:expect_status", "neither a status"),
    (route(health_check={"path": "/a", "expect_body": "("}), f"{R}:health_check:expect_body", "not a regular"),
    (route(health_check={"path": "/a", "expect_body": "(?!a)"}), f"{R}:health_check:expect_body", "RE2"),
    (route(health_check={"path": "/a", "interval": "often"}), f"{R}:health_check:interval", "not a duration"),
    (
        route(health_check={"path": "/a", "headers": {"X-A": "{http.request.host}"}}),
        f"{R}:health_check:headers:X-A",
        "no placeholders",
    ),
    (route(health_check={"path": "/a", "headers": {"X-A": "\r\n"}}), f"{R}:health_check:headers:X-A", "line breaks"),
    (route(health_check={"fail_duration": "1s", "expect_status": 200}), f"{R}:health_check", "none without path"),
    (route(health_check={"path": "/a", "max_fails": 3}), f"{R}:health_check", "max_fails goes with"),
    (
        route(health_check={"unhealthy_status": [500, 7]}),
        f"{R}:health_check:unhealthy_status:1",
        "neither a status",
    ),
    (
        route(upstreams=["unix//run/app.sock"], health_check={"path": "/a", "port": 80}),
        f"{R}:health_check",
        "a unix socket has no other port",
    ),
    (route(timeouts={"dial": "3"}), f"{R}:timeouts:dial", "not a duration"),
    (route(timeouts={"connect": "3s"}), f"{R}:timeouts:connect", "no such key"),
]

# Middleware, by type: append below.
M = "hecate:middleware:it"
BCRYPT = "$2a$10$XIbuaNJu0EU2pnPtDXNk1.PTdRn2E7cfBt0EoxkbCAaQywDjWdWVK"
ARGON2ID = "$argon2id$v=19$m=47104,t=1,p=1$zqZPp3UM28Cr39irc31VXA$ukLey9D7vGdv9c34zott8aZLcO7K89KuwC43c3vtxzk"
MIDDLEWARE: list[Case] = [
    # Headers
    (use("headers", set={"X-A": "a\r\nSet-Cookie: b"}), f"{M}:config:set:X-A", "control characters"),
    (use("headers", set={"X-A": "{env.HOME}"}), f"{M}:config:set:X-A", "not one of the request's"),
    (use("headers", set={"X-A": "x{{file./etc/passwd}}"}), f"{M}:config:set:X-A", "not one of the request's"),
    (use("headers", response={"set": {"X A": "b"}}), f"{M}:config:response:set:X A", "not a header name"),
    (use("headers", response={"set": {"X-A": "b", "x-a": "c"}}), f"{M}:config:response", "x-a is there twice"),
    (use("headers", response={"set": {"X-A": "b"}, "remove": "x-a"}), f"{M}:config:response", "x-a is there twice"),
    (use("headers", response={"remove": ["X-*-A"]}), f"{M}:config:response", "for all that begin or end so"),
    (use("headers", response={"remove": "*"}), f"{M}:config:response", "for all that begin or end so"),
    (use("headers", request={"X-Authentik-Username": "root"}), f"{M}:config", "set by the auth policy alone"),
    (use("security_headers", preset="mozilla"), f"{M}:config:preset", "'owasp'"),
    (use("security_headers", headers={"X-A": "b\n"}), f"{M}:config:headers:X-A", "control characters"),
    (use("security_headers", headers={"X-A": "b", "x-a": ""}), f"{M}:config", "x-a is there twice"),
    # CORS, compression, request id
    (use("cors", origins=["*"], credentials=True), f"{M}:config", "list the origins"),
    (use("cors", origins=["https://app.test/path"]), f"{M}:config:origins:0", "browsers send no path"),
    (use("cors", origins=["https://*.app.test"]), f"{M}:config:origins:0", "not an origin"),
    (use("cors", origins=["app.test"]), f"{M}:config:origins:0", "not an origin"),
    (use("cors", origins=["null"]), f"{M}:config:origins:0", "not an origin"),
    (use("cors", origins="*", methods=["get"]), f"{M}:config:methods:0", "in capitals"),
    (use("cors", origins="*", headers=["X-A, X-B"]), f"{M}:config:headers:0", "not a header name"),
    (use("encode", encodings=["deflate"]), f"{M}:config:encodings:0", "'zstd', 'gzip' or 'br'"),
    (use("request_id", header="X Id"), f"{M}:config:header", "not a header name"),
    # Passwords, addresses, scanners
    (use("basic_auth", accounts={"a": "password"}), f"{M}:config:accounts:a", "not a hash"),
    (use("basic_auth", accounts={"a": "$2a$31$" + BCRYPT[7:]}), f"{M}:config:accounts:a", "not a hash"),
    (use("basic_auth", accounts={"a": "file:/etc/../x"}), f"{M}:config:accounts:a", "not a hash"),
    (use("basic_auth", accounts={"a": BCRYPT, "b": ARGON2ID}), f"{M}:config", "use one kind"),
    (use("basic_auth", accounts={"a": BCRYPT}, hash="argon2id"), f"{M}:config", "use one kind"),
    (use("basic_auth", accounts={"a:b": BCRYPT}), f"{M}:config", "no colon"),
    (use("basic_auth", accounts={"{env.USER}": BCRYPT}), f"{M}:config:accounts:{{env.USER}}", "no placeholders"),
    (use("basic_auth", accounts={"a": BCRYPT}, realm='a", b="'), f"{M}:config", "no quotes"),
    (use("ip_filter"), f"{M}:config", "lists nobody"),
    (use("ip_filter", allow=["private_ranges"]), f"{M}:config:allow:0", "not an IP address or network"),
    (use("ip_filter", deny="10.0.0.1", status=200), f"{M}:config:status", "greater than or equal to 400"),
    (use("block_scanners", preset=False), f"{M}:config", "blocks nothing"),
    (use("block_scanners", paths=["trap"]), f"{M}:config:paths:0", "not a path"),
    (use("block_scanners", agents=["(?=bot)"]), f"{M}:config:agents:0", "lookaround"),
    (use("block_scanners", agents=["(bot"]), f"{M}:config:agents:0", "not a regular expression"),
    (use("block_scanners", answer="444"), f"{M}:config:answer", "'404' or 'close'"),
    # Elsewhere
    (use("redirect", to="{http.request.uri}"), f"{M}:config:to", "not a target"),
    (use("redirect", to="/{http.request.uri.query.next}"), f"{M}:config:to", "is not the request's"),
    (use("redirect", to="//evil.test"), f"{M}:config:to", "not a target"),
    (use("redirect", to="https://{http.request.header.X-Host}/"), f"{M}:config:to", "is not the request's"),
    (use("redirect", to="/{http.request.uri.path}"), f"{M}:config:to", "not a target"),
    (use("redirect", to="/x\r\nSet-Cookie: a"), f"{M}:config:to", "control characters"),
    (use("redirect", to="/x/{env.HOME}"), f"{M}:config:to", "is not the request's"),
    (use("redirect", to="/x", status=304), f"{M}:config:status", "301"),
    (use("rewrite"), f"{M}:config", "exactly one of"),
    (use("rewrite", strip_prefix="/a", uri="/b"), f"{M}:config", "exactly one of"),
    (use("rewrite", strip_prefix="/"), f"{M}:config", "the root"),
    (use("rewrite", regexp="^/a", replace="/b?c=d"), f"{M}:config", "from ^ to $"),
    (use("rewrite", uri="/{file./etc/passwd}"), f"{M}:config:uri", "is not the request's"),
    # Pages and limits
    (use("error_pages", pages={"200": "x"}), f"{M}:config", "neither a status of errors"),
    (use("error_pages", pages={"404": "no {http.request.uri}"}), f"{M}:config:pages:404", "somebody's script"),
    (use("error_pages", pages={"404": "{env.SECRET}"}), f"{M}:config:pages:404", "somebody's script"),
    (use("maintenance", page="{http.request.header.Cookie}"), f"{M}:config:page", "somebody's script"),
    (use("maintenance", retry_after=0), f"{M}:config:retry_after", "greater than or equal to 1"),
    (use("request_body", max_size="ten"), f"{M}:config:max_size", "not a size"),
    (use("rate_limit", requests_per_minute=0), f"{M}:config:requests_per_minute", "greater than or equal to 1"),
    (use("rate_limit", requests_per_minute=9, by="cookie"), f"{M}:config:by", "'client_ip', 'host' or 'user'"),
    (use("audit_log", file="audit.log"), f"{M}:config:file", "not an absolute path"),
    (use("audit_log", file="/var/log/../../etc/x"), f"{M}:config:file", "not an absolute path"),
    (route(middleware=["missing"]), f"{R}:middleware:0", "no such middleware"),
    (route(paths={"/x": {"middleware": ["missing"]}}), f"{R}:paths:/x:middleware:0", "no such middleware"),
    ({"caddy": {"middleware": ["missing"]}}, "hecate:caddy:middleware:0", "no such middleware"),
]

# Certificates, TLS, DNS-01, on demand, storage: append below.
WILD = "hecate:routes:*.app.test:tls"
VAULT = {"vault": "vault:tls/app#certificate", "vault_key": "vault:tls/app#key"}
TLS: list[Case] = [
    (route("*.app.test"), WILD, "no public authority issues for a wildcard without the challenge dns"),
    (route(hosts=["*.app.test"]), f"{R}:tls", "without the challenge dns"),
    (
        {"certificates": {"providers": {"mine": {}}}, **route("*.app.test", tls={"issuer": "mine"})},
        WILD,
        "without the challenge dns",
    ),
    (
        {"certificates": {"providers": {"mine": {"challenges": ["http", "dns"]}}}},
        "hecate:certificates:providers:mine:challenges",
        "needs hecate:certificates:dns_challenge",
    ),
    (
        {"certificates": {"providers": {"mine": {"challenges": []}}}},
        "hecate:certificates:providers:mine:challenges",
        "give at least one",
    ),
    (
        {"certificates": {"providers": {"mine": {"directory": "ldap://ca.test"}}}},
        "hecate:certificates:providers:mine:directory",
        "not a URL",
    ),
    ({"certificates": {"providers": {"internal": {}}}}, "hecate:certificates", "can't name a provider"),
    ({"certificates": {"default": "mine"}}, "hecate:certificates", "not among the providers"),
    (
        {"certificates": {"dns_challenge": {"provider": "hetzner", "token": "vault:dns#token"}}},
        "hecate:certificates:dns_challenge",
        "Caddy reads this token itself",
    ),
    (
        {"certificates": {"dns_challenge": {"provider": "hetzner", "propagation_timeout": "soon"}}},
        "hecate:certificates:dns_challenge:propagation_timeout",
        "not a duration",
    ),
    ({"certificates": {"folder": "/srv/../etc"}}, "hecate:certificates:folder", "not an absolute path"),
    ({"certificates": {"on_demand": {"ask": "/may"}}}, "hecate:certificates:on_demand:ask", "not a URL"),
    (route(tls={"on_demand": True}), f"{R}:tls:on_demand", "needs hecate:certificates:on_demand:ask"),
    (route(tls={"issuer": "mine"}), f"{R}:tls:issuer", "no such issuer; there are: acme, internal"),
    (route(tls={"issuer": "none"}), f"{R}:tls:issuer", "for all routes or for none of them"),
    ({"caddy": {"issuer": "mine"}}, "hecate:caddy:issuer", "no such issuer; there are: acme, internal, none"),
    (
        {"caddy": {"issuer": "none"}, **route(tls={"client_auth": {"ca": "/etc/ca.pem"}})},
        f"{R}:tls",
        "there is plain HTTP alone",
    ),
    (route(tls={"min_version": "1.1"}), f"{R}:tls:min_version", "'1.2' or '1.3'"),
    (route(tls={"min_version": "tls1.3"}), f"{R}:tls:min_version", "'1.2' or '1.3'"),
    ({"caddy": {"min_tls": "1.4"}}, "hecate:caddy:min_tls", "'1.2' or '1.3'"),
    (route(tls={"client_auth": {"ca": "clients.pem"}}), f"{R}:tls:client_auth:ca", "not an absolute path"),
    (
        route(tls={"client_auth": {"ca": "/etc/ca.pem", "mode": "require"}}),
        f"{R}:tls:client_auth:mode",
        "'require_and_verify' or 'verify_if_given'",
    ),
    (route(tls={"certificate": "/etc/app.crt"}), f"{R}:tls", "certificate and key go together"),
    (route(tls={"certificate": "/etc/app.crt", "key": "../app.key"}), f"{R}:tls:key", "not an absolute path"),
    (
        route(tls={"certificate": "/etc/app.crt", "key": "/etc/app.key", "issuer": "internal"}),
        f"{R}:tls",
        "from a file, from vault, from pki, or from an issuer; give one",
    ),
    (route(tls={"vault": VAULT["vault"]}), f"{R}:tls", "vault and vault_key go together"),
    (route(tls={**VAULT, "vault_key": "env:KEY"}), f"{R}:tls", "files go into certificate and key"),
    (route(tls=VAULT), f"{R}:tls:vault", "needs the section hecate:vault"),
    (route(tls={"vault": "-----BEGIN", "vault_key": VAULT["vault_key"]}), f"{R}:tls:vault", "never a literal"),
]

# hecate:caddy, edges, logs, metrics, tracing: append below.
EDGE: list[Case] = [
    ({"monitoring": {"metrics": {"path": "metrics"}}}, "hecate:monitoring:metrics:path", "not a path"),
    ({"monitoring": {"metrics": {"port": 0}}}, "hecate:monitoring:metrics:port", "greater than or equal to 1"),
    ({"monitoring": {"health_endpoint": {"path": "/"}}}, "hecate:monitoring:health_endpoint:path", "before any route"),
    ({"monitoring": {"health_endpoint": {"path": "/x/*"}}}, "hecate:monitoring:health_endpoint:path", "not one path"),
    ({"monitoring": {"tracing": {"span": "{env.HOME}"}}}, "hecate:monitoring:tracing:span", "no placeholders"),
    (route(access_log={"file": "app.log"}), f"{R}:access_log:file", "not an absolute path"),
    ({"caddy": {"trusted_proxies": ["private_ranges"]}}, "hecate:caddy:trusted_proxies:0", "not an IP address"),
]

# Hosts, paths, policies, names between sections: append below.
ROUTES: list[Case] = [
    # Hosts
    (route("app.test:8443"), "hecate:routes:app.test:8443", "without scheme, port or path"),
    (route("https://app.test"), "hecate:routes:https://app.test", "without scheme, port or path"),
    (route("app.test/x"), "hecate:routes:app.test/x", "without scheme, port or path"),
    (route("app.test\r\nX-Evil: 1"), "hecate:routes:app.test\r\nX-Evil: 1", "without scheme, port or path"),
    (route("{http.request.header.X}.test"), "hecate:routes:{http.request.header.X}.test", "not a domain name"),
    (route("{env.HOST}.test"), "hecate:routes:{env.HOST}.test", "not a domain name"),
    (route("app_.test."), "hecate:routes:app_.test.", "not a domain name"),
    (route("10.0.0.1"), "hecate:routes:10.0.0.1", "a name, not an address"),
    (route("straße.test"), "hecate:routes:straße.test", "write it in ASCII"),
    (route("a" * 64 + "ü.test"), "hecate:routes:" + "a" * 64 + "ü.test", "cannot be written in ASCII"),
    (route("*"), "hecate:routes:*", "one whole label at the front"),
    (route("a.*.test"), "hecate:routes:a.*.test", "one whole label at the front"),
    (route("pre-*.app.test"), "hecate:routes:pre-*.app.test", "one whole label at the front"),
    (route("*.*.app.test"), "hecate:routes:*.*.app.test", "not a domain name"),
    (route("*.test"), "hecate:routes:*.test", "not a domain name"),
    (route(hosts=["b.test", "b.test:80"]), f"{R}:hosts:1", "without scheme, port or path"),
    (route(hosts="b.test:80"), f"{R}:hosts", "without scheme, port or path"),
    (route(hosts={"b.test": 1}), f"{R}:hosts", "not a list"),
    (route(hosts=["b.test", "B.Test"]), R, "already served by route app.test"),
    (route(hosts=["app.test"]), R, "already served by route app.test"),
    (both({"App.Test": {}, "app.test": {}}), R, "already served by route App.Test"),
    (
        both({"app.test": {}, "b.test": {"hosts": "APP.test"}}),
        "hecate:routes:b.test",
        "already served by route app.test",
    ),
    (both({"büro.test": {}, "xn--bro-hoa.test": {}}), "hecate:routes:xn--bro-hoa.test", "served by route büro.test"),
    (
        both({"*.app.test": INTERNAL, "b.test": {"hosts": ["*.APP.test"], **INTERNAL}}),
        "hecate:routes:b.test",
        "already served by route *.app.test",
    ),
    (
        both({"b.w.test": {"hosts": ["*.c.test"], **INTERNAL}, "x.c.test": {"hosts": ["*.w.test"], **INTERNAL}}),
        "hecate:routes:b.w.test:hosts",
        "give it a route of its own",
    ),
    # Paths
    (route(paths={"api": {}}), f"{R}:paths:api", "not a path"),
    (route(paths={"/api*": {}}), f"{R}:paths:/api*", "like /api/*"),
    (route(paths={"/a/*/b": {}}), f"{R}:paths:/a/*/b", "not a path"),
    (route(paths={"/a//b": {}}), f"{R}:paths:/a//b", "no //"),
    (route(paths={"/a/../b": {}}), f"{R}:paths:/a/../b", "no //"),
    (route(paths={"/a%20b": {}}), f"{R}:paths:/a%20b", "decoded"),
    (route(paths={"/{http.request.header.X}": {}}), f"{R}:paths:/{{http.request.header.X}}", "not a path"),
    (route(paths={"/a?b=c": {}}), f"{R}:paths:/a?b=c", "not a path"),
    (route(paths={"/a\r\n": {}}), f"{R}:paths:/a\r\n", "not a path"),
    (route(paths={"FETCH /a": {}}), f"{R}:paths:FETCH /a", "not a method"),
    (route(paths={"get /a": {}}), f"{R}:paths:get /a", "not a method"),
    (route(paths={"/a": {}, "/A": {}}), f"{R}:paths:/A", "same to Caddy as /a"),
    (route(paths={"GET /a/*": {}, "GET /A/*": {}}), f"{R}:paths:GET /A/*", "same to Caddy as GET /a/*"),
    (route(paths={"/a": {"strip": True}}), f"{R}:paths:/a:strip", "only a prefix"),
    (route(paths={"/a": "10.0.0.1:80"}), f"{R}:paths:/a", "wrong shape"),
    (route(paths={"/a": [{}, {"colour": "red"}]}), f"{R}:paths:/a:1:colour", "no such key"),
    (route(paths={"/a": [{"upstreams": ["x"]}]}), f"{R}:paths:/a:0:upstreams:0:dial", "not host:port"),
    (route(paths=["/a"]), f"{R}:paths", "not a mapping"),
    (route(paths={"/a": {"when": {"X-A": "b\nc"}}}), f"{R}:paths:/a:when:X-A", "control characters"),
    (route(paths={"/a": {"when": {"X-A": "{env.HOME}"}}}), f"{R}:paths:/a:when:X-A", "no placeholders"),
    (route(paths={"/a": {"when": {"X A": "b"}}}), f"{R}:paths:/a:when:X A", "not a header name"),
    (route(upstreams=None, paths={"/a": {}, "/b": to("/x")}), f"{R}:paths:/a", "leads nowhere"),
    (route(paths={"/a": {"redirect": "/x", "upstreams": ["10.0.0.1:80"]}}), f"{R}:paths:/a", "not both"),
    (route(public_paths=["/a"]), f"{R}:public_paths", "give it an auth_policy"),
    (route(paths={"/a": {"public": True}}), f"{R}:paths", "give it an auth_policy"),
    (route(auth_policy="staff", public_paths=["/a", "b"]), f"{R}:public_paths:1", "not a path"),
    # Where a client must have no say
    (route(redirect="{http.request.header.X}", upstreams=None), f"{R}:redirect:to", "not the request's host"),
    (route(redirect="//evil.test", upstreams=None), f"{R}:redirect:to", "not a target"),
    (route(redirect="https://{http.request.uri}", upstreams=None), f"{R}:redirect:to", "not a target"),
    (route(redirect="https://a.test\r\nX: y", upstreams=None), f"{R}:redirect:to", "control characters"),
    (route(rewrite={"uri": "/{http.request.cookie.page}"}), f"{R}:rewrite:uri", "not the request's host"),
    (route(rewrite={"uri": "/{file./etc/passwd}"}), f"{R}:rewrite:uri", "not the request's host"),
    (route(headers={"response": {"X-A": "{env.PATH}"}}), f"{R}:headers:response:X-A", "not one of the request's"),
    (route(headers={"X-A": "{file./etc/passwd}"}), f"{R}:headers:X-A", "not one of the request's"),
    (route(headers={"X-A": "a\r\nSet-Cookie: b"}), f"{R}:headers:X-A", "control characters"),
    (route(headers={"X A": "b"}), f"{R}:headers:X A", "not a header name"),
    (route(headers={"request": {"X-Authentik-Username": "root"}}), f"{R}:headers", "set by the auth policy alone"),
    (route(tags=["a\nb"]), f"{R}:tags:0", "not a name"),
    (provider(**route(headers={"request": {"remote-user": "x"}})), f"{R}:headers:request:remote-user", "auth policy"),
    # Addresses
    (route(allowed_ips=["10.0.0.0/33"]), f"{R}:allowed_ips:0", "not an IP address or network"),
    (route(allowed_ips="office"), f"{R}:allowed_ips", "not an IP address or network"),
    (route(denied_ips=["10.0.0.1", "::1/200"]), f"{R}:denied_ips:1", "not an IP address or network"),
    (route(max_body="ten"), f"{R}:max_body", "not a size"),
    (route(max_body="1.5MB"), f"{R}:max_body", "not a size"),
    (route(max_body=-1), f"{R}:max_body", "not a size"),
    # Names
    (route(middleware=["compression", "nothing"]), f"{R}:middleware:1", "no such middleware"),
    (route(middleware="nothing"), f"{R}:middleware:0", "no such middleware"),
    (route(without=["No"]), f"{R}:without:0", "not a slug"),
    (
        route(auth_policy="nobody"),
        f"{R}:auth_policy",
        "no such policy under hecate:auth_policies; there are: open, staff",
    ),
    (route("*.app.test", auth_policy="staff", **INTERNAL), "hecate:routes:*.app.test:auth_policy", "host by host"),
    ({"auth_policies": {"x": {"provider": "okta"}}}, "hecate:auth_policies:x:provider", "there are: authentik, none"),
    ({"auth_policies": {"x": {"provider": "none", "groups": ["a"]}}}, "hecate:auth_policies:x", "lets everyone pass"),
    ({"auth_policies": {"x": {"groups": ["a\nb"]}}}, "hecate:auth_policies:x:groups:0", "not a name"),
    ({"auth_policies": {"x": {"groups": "a"}}}, "hecate:auth_policies:x:groups", "not a list"),
    ({"auth_policies": {"x": {"session_duration": "8"}}}, "hecate:auth_policies:x:session_duration", "like 8h"),
    ({"auth_policies": {"x": {"session_duration": 8}}}, "hecate:auth_policies:x:session_duration", "in quotes"),
    ({"auth_policies": {"x": {"allowed_methods": ["sms"]}}}, "hecate:auth_policies:x:allowed_methods:0", "not one of"),
    ({"auth_policies": {"x": {"flow": "A B"}}}, "hecate:auth_policies:x:flow", "not a slug"),
    ({"auth_policies": {"x": {"require_mfa": "perhaps"}}}, "hecate:auth_policies:x:require_mfa", "not true or false"),
    ({"auth_policies": {"X": {}}}, "hecate:auth_policies:X", "not a slug"),
    ({"middleware": {"it": {"type": "teapot"}}}, "hecate:middleware:it:type", "there are: headers"),
    ({"middleware": {"it": {"config": {}}}}, "hecate:middleware:it:type", "is required"),
    ({"middleware": {"it": {"type": "cors"}}}, "hecate:middleware:it:config", "is required"),
    ({"middleware": {"it": "compression"}}, "hecate:middleware:it", "not a mapping"),
    ({"authentik": None, **route(auth_policy="staff")}, "hecate:auth_policies", "needs the section hecate:authentik"),
    # Forward auth
    (provider(address="10.0.0.1"), f"{F}:address", "not host:port"),
    (provider(address="{http.request.host}:80"), f"{F}:address", "neither a host name"),
    (provider(uri="check"), f"{F}:uri", "does not match"),
    (provider(uri="/{http.request.header.X}"), f"{F}:uri", "no placeholders"),
    (provider(passage="/oauth2*"), f"{F}:passage", "like /api/*"),
    (provider(user_header="Remote User"), f"{F}:user_header", "not a header name"),
    (provider(headers=["Remote_User"]), f"{F}:headers:0", "not a header name"),
    (provider(cookies=["a=b"]), f"{F}:cookies:0", "not a cookie's name"),
    (provider(sign_in="{http.request.header.Referer}"), f"{F}:sign_in", "not the request's host"),
    (provider(sign_in="https://auth.test/\r\nSet-Cookie: a"), f"{F}:sign_in", "control characters"),
    (provider(timeout="0s"), f"{F}:timeout", "not a duration"),
    # Sections of the wrong kind
    ({"routes": "app.test"}, "hecate:routes", "not a mapping"),
    ({"routes": {"app.test": None}}, R, "not a mapping"),
    ({"routes": {"app.test": ["10.0.0.1:80"]}}, R, "not a mapping"),
    ({"routes": [{"upstreams": ["10.0.0.1:80"]}]}, "hecate:routes:0", "needs a `domain`"),
    ({"routes": ["app.test"]}, "hecate:routes:0", "needs a `domain`"),
    (route(upstream=["10.0.0.1:80"]), f"{R}:upstream", "no such key"),
    (route(tls_skip_verify=[]), f"{R}:tls_skip_verify", "not true or false"),
    (route(maintenance="yes please"), f"{R}:maintenance", "wrong shape"),
    (route(maintenance={"retry_after": 0}), f"{R}:maintenance:retry_after", "must be greater than or equal to 1"),
    (route(health_check=["default"]), f"{R}:health_check", "wrong shape"),
]

CASES = [*UPSTREAMS, *MIDDLEWARE, *TLS, *EDGE, *ROUTES]
PYDANTIC = re.compile(
    r"tuple\[|list\[|dict\[|function-|constrained|union|pydantic|instance of|\bNoneType\b|tagged", re.I
)


def problems(sections: Sections) -> list[Problem]:
    return problems_in({"hecate": {**BASE, **sections}})


@pytest.mark.parametrize(("sections", "path", "part"), CASES)
def test_a_mistake_is_told_once_and_at_its_place(sections: Sections, path: str, part: str) -> None:
    told = problems(sections)
    assert [p.path for p in told] == [path], told
    assert part in told[0].why, told
    assert not PYDANTIC.search(str(told[0])), told


def test_the_mistakes_of_all_cases_together_come_in_one_answer() -> None:
    """Every case of one route gets a host of its own, and all of them are one pillar."""
    routes, wanted = {}, []
    for number, (sections, path, part) in enumerate(CASES):
        host = f"h{number}.test"
        found = sections.get("routes")
        alone = isinstance(found, dict) and list(found) == ["app.test"] and len(sections) == 1
        if alone and path != "hecate:routes" and "app.test" not in str(found["app.test"]) + part:
            routes[host] = found["app.test"]
            wanted.append((path.replace("app.test", host), part))
    told = [(problem.path, problem.why) for problem in problems({"routes": routes})]
    assert len(wanted) > 80
    missing = [(path, part) for path, part in wanted if not any(path == p and part in why for p, why in told)]
    assert missing == []


@pytest.mark.parametrize(
    ("sections", "paths"),
    [
        (
            {
                **route(upstreams=["x"], middleware=["nothing"], colour="red", auth_policy="nobody"),
                "caddy": {"issuer": "nobody"},
                "health_checks": {"h": {"interval": "often", "path": "/x"}},
            },
            {
                f"{R}:upstreams:0:dial",
                f"{R}:middleware:0",
                f"{R}:colour",
                f"{R}:auth_policy",
                "hecate:caddy:issuer",
                "hecate:health_checks:h:interval",
            },
        ),
        # What only follows from another mistake is not told.
        (
            {
                **route(health_check="h", middleware=["m"]),
                "health_checks": {"h": {}},
                "middleware": {"m": {"type": "x"}},
            },
            {"hecate:health_checks:h", "hecate:middleware:m:type"},
        ),
        (
            {**route(auth_policy="staff"), "authentik": {"url": "https://auth.test"}},
            {"hecate:authentik:token"},
        ),
        (
            {**route(dns={"A": "192.0.2.1"}), "dns": {"zones": {"test zone": {}}}, "hetzner_dns": {"token": "env:T"}},
            {"hecate:dns:zones:test zone"},
        ),
    ],
)
def test_all_of_them_at_once_and_no_more(sections: Sections, paths: set[str]) -> None:
    assert {problem.path for problem in problems(sections)} == paths


def sections_of(parent: type[Section] = Section) -> Iterator[type[Section]]:
    for child in parent.__subclasses__():
        yield child
        yield from sections_of(child)


def takes(section: type[Section], name: str, text: str) -> bool:
    """Whether a field accepts a text, as it is or anywhere in a list or mapping."""
    adapter: TypeAdapter[Any] = TypeAdapter(section.model_fields[name].rebuild_annotation())
    for form in (text, [text], {"X-A": text}, {"it": text}):
        try:
            adapter.validate_python(form)
        except ValidationError:
            continue
        return True
    return False


FIELDS = sorted({(s, name) for s in sections_of() for name in s.model_fields}, key=lambda f: (f[0].__name__, f[1]))
ELSEWHERE = {
    "Terraform.outputs",
    "Terraform.variables",
    "Workload.config",
    "Workload.env",
}  # never reach Caddy, a header or a log line
PAGES = {"ErrorPages.pages", "Maintenance.page"}
CHECKED_BY_NAME = {"Route.auth_policy"}  # any text that is no policy's name is refused
REGULAR = {"BlockScanners.agents", "HealthCheck.expect_body", "Rewrite.regexp"}  # Caddy fills in nothing there
TEXTS = {"Records.TXT"}
OF_THE_REQUEST = {
    "HeaderChanges.add", "HeaderChanges.set", "Headers.request", "Headers.response", "HeadersUse.config",
    "Service.headers", "Route.headers", "PathRule.headers", "SecurityHeaders.headers",
}  # fmt: skip


@pytest.mark.parametrize("start", ["x", "/x", "https://x.test/"])
@pytest.mark.parametrize(
    ("ending", "allowed"),
    [
        ("\r\nX-Evil: 1", PAGES),
        ("\x00", PAGES),
        ("{env.SECRET}", REGULAR | TEXTS),
        ("{file./etc/passwd}", REGULAR | TEXTS),
        ("{system.wd}", REGULAR | TEXTS),
        ("{http.request.header.X}", REGULAR | TEXTS | OF_THE_REQUEST),
        ("{http.request.cookie.x}", REGULAR | TEXTS | OF_THE_REQUEST),
    ],
)
def test_no_field_takes_what_would_reach_into_a_header_or_out_of_the_pillar(
    start: str, ending: str, allowed: set[str]
) -> None:
    found = {f"{section.__name__}.{name}" for section, name in FIELDS if takes(section, name, start + ending)}
    assert found - ELSEWHERE - CHECKED_BY_NAME <= allowed


@pytest.mark.parametrize(
    "path", ["/etc/../passwd", "../key.pem", "/etc/ssl/..", "relative.pem", "/a\nb", "/{env.HOME}/x"]
)
def test_no_file_is_outside_of_where_it_says(path: str) -> None:
    files = [(section, name) for section, name in FIELDS if is_file(section, name)]
    assert len(files) > 8
    assert [f"{section.__name__}.{name}" for section, name in files if takes(section, name, path)] == []


def is_file(section: type[Section], name: str) -> bool:
    return "_file" in str(TypeAdapter(section.model_fields[name].rebuild_annotation()).core_schema)


@pytest.mark.parametrize(
    ("sections", "secret"),
    [
        ({"authentik": {"url": "https://auth.test", "token": "hunter2"}}, "hunter2"),
        ({"authentik": {"url": "https://admin:hunter2@auth.test", "token": "env:T"}}, "hunter2"),
        ({"authentik": {"url": "https://auth.test/?key=hunter2", "token": "env:T"}}, "hunter2"),
        (use("basic_auth", accounts={"bob": "hunter2"}), "hunter2"),
        (route(tls={"vault": "hunter2", "vault_key": "vault:x#y"}), "hunter2"),
        (route(password="hunter2"), "hunter2"),
        (route(headers={"Authorization": "Basic hunter2\n"}), "hunter2"),
        ({"notifications": {"slack": {"webhook_url": "hunter2\n", "channel": "#x"}}}, "hunter2"),
        ({"notifications": {"webhooks": [{"url": "https://x:hunter2@x.test"}]}}, "hunter2"),
    ],
)
def test_what_may_be_a_secret_is_not_repeated(sections: Sections, secret: str) -> None:
    told = problems(sections)
    assert told and secret not in str(InvalidPillar(told)) + repr(told)


RICH: Sections = {
    **provider(),
    "caddy": {"middleware": ["compression"], "access_log": {"file": "/var/log/x"}, "trusted_proxies": "10.0.0.1"},
    "routes": {
        "app.estate.test": {
            "upstreams": ["10.0.0.5:80", {"dial": "10.0.0.6:80", "weight": 2}],
            "balance": {"policy": "weighted"},
            "health_check": {"path": "/health", "unhealthy_status": [500]},
            "auth_policy": "staff",
            "headers": {"request": {"set": {"X-A": "b"}}, "response": {"X-B": "c"}},
            "paths": {"/a": {"redirect": "/b"}, "GET /c/*": [{"when": {"X-A": "b"}}, {"maintenance": {"page": "x"}}]},
            "public_paths": ["/public/*"],
            "access_log": False,
            "tls": {"issuer": "internal", "client_auth": {"ca": "/ca.pem"}},
            "dns": {"A": ["192.0.2.1"]},
            "hosts": ["b.estate.test"],
        },
        "c.test": {"upstreams": "web", "middleware": ["it"], "error_pages": {"pages": {404: "x"}}},
    },
    "upstreams": {"web": {"discover": {"a": "web.test", "port": 80}, "timeouts": {"dial": "1s"}}},
    "health_checks": {"default": {"path": "/health"}},
    "middleware": {"it": {"type": "cors", "config": {"origins": ["https://x.test"]}}, "gz": {"type": "encode"}},
    "certificates": {"providers": {"le": {"email": "a@b.test"}}},
    "monitoring": {"metrics": {"enabled": True}},
    "dns": {"zones": {"estate.test": {"policy": "sync", "records": {"x": {"A": "192.0.2.1"}}}}},
    "hetzner_dns": {"token": "env:T"},
    "auth_policies": {"staff": {"groups": ["staff"]}},
}
GARBAGE: list[Any] = [None, 5, -1.5, True, "x", "", [], {}, [None], [[]], {"x": None}, {None: {}}, {5: []}, [{}], "\n"]


def nodes(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from nodes(inner, (*place, key))


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    if isinstance(value, list):
        return [replaced(v, place[1:], new) if i == place[0] else v for i, v in enumerate(value)]
    return {k: replaced(v, place[1:], new) if k == place[0] else v for k, v in value.items()}


def test_the_rich_pillar_is_good() -> None:
    assert problems(RICH) == []


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_whatever_stands_somewhere_is_answered_in_words_of_the_pillar(garbage: Any) -> None:
    """Garbage in place of each part of a good pillar: no crash, and each problem is at that place or refers to it."""
    for place in nodes(RICH):
        if garbage == [] and place in (("routes",), ("auth_policies",)):
            continue  # these may be lists
        told = problems_in({"hecate": replaced({**BASE, **RICH}, place, garbage)})
        assert not [p for p in told if not p.path.startswith("hecate") or PYDANTIC.search(f"{p.path} {p.why}")], place
        try:
            Estate.model_validate(replaced({**BASE, **RICH}, place, garbage))
        except ValidationError:
            assert told, place
