"""A Caddyfile brought along: what the import makes of it behaves as the report says, on two real Caddys."""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, RealCaddy
from hecate import importing, model
from hecate.clients.caddy import CaddyClient
from hecate.errors import Refused

from contract.edge import EdgeUnderTest, Seen, Upstream
from contract.test_caddy_upstreams import Authority

SEED = ROOT.parent / "shared" / "seeds" / "002_b65307b89167291e.txt"
SHOWN = (
    "x-frame-options",
    "x-content-type-options",
    "referrer-policy",
    "strict-transport-security",
    "x-xss-protection",
)
SENT = {"X-Frame-Options": "DENY", "Content-Type": "text/plain"}
BODY = b"Some text that is worth being compressed. " * 40


def users_caddyfile() -> str:
    """The Caddyfile that is in use, under names that lead nowhere."""
    if not SEED.exists():
        pytest.skip("the folder ../shared/seeds with the Caddyfile in use is absent")
    _, _, rest = SEED.read_text().partition("cat Caddyfile\n")
    text, found, _ = rest.partition("[attached as well ]")
    assert found, "the Caddyfile ends where it always did"
    return text.replace("cybermonkey.dev", "cybermonkey.test")


def answer(_: Seen) -> tuple[int, dict[str, str], bytes]:
    return 200, SENT, BODY


@dataclass(frozen=True)
class Got:
    """What a probe shows: the client's side and the upstream's."""

    status: int
    upstream: str | None
    headers: tuple[tuple[str, str], ...]
    location: str | None
    encoding: str | None
    path: str | None
    host: str | None
    identity: str | None
    sent_on: tuple[tuple[str, str], ...]


@dataclass
class Both:
    """The original on one Caddy and the import on another, in front of the same upstreams."""

    original: EdgeUnderTest
    edge: EdgeUnderTest
    imported: importing.Imported
    upstreams: dict[str, Upstream]
    watched: tuple[str, ...] = ()
    table: dict[str, str] = field(default_factory=dict)

    def probe(self, edge: EdgeUnderTest, host: str, path: str, method: str = "GET", **headers: str) -> Got:
        for upstream in self.upstreams.values():
            upstream.seen.clear()
        reply = edge.ask(host, path, method, **headers)
        seen = next((u.seen[-1] for u in self.upstreams.values() if u.seen), None)
        shown = {name: reply.header(name) for name in (*SHOWN, *self.watched)}
        return Got(
            reply.status,
            reply.header("X-Upstream"),
            tuple((name, value) for name, value in shown.items() if value is not None),
            reply.header("Location"),
            reply.header("Content-Encoding"),
            seen.path if seen else None,
            ",".join(seen.headers.get("host", [])) if seen else None,
            ",".join(seen.headers.get("x-authentik-username", [])) or None if seen else None,
            tuple((n, ",".join(seen.headers.get(n, []))) for n in self.watched if n in seen.headers) if seen else (),
        )

    def differences(self, host: str, path: str, method: str = "GET", **headers: str) -> dict[str, tuple[Any, Any]]:
        """Where the two answer differently: what -> (original, import)."""
        one = asdict(self.probe(self.original, host, path, method, **headers))
        other = asdict(self.probe(self.edge, host, path, method, **headers))
        return {name: (one[name], other[name]) for name in one if one[name] != other[name]}


@pytest.fixture(scope="session")
def second_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCaddy]:
    server = RealCaddy(tmp_path_factory.mktemp("original"))
    server.start()
    yield server
    server.stop()


def dials(value: Any) -> Iterator[str]:
    """Every address of an upstream in a configuration."""
    if isinstance(value, dict):
        if isinstance(value.get("dial"), str):
            yield value["dial"]
        for inner in value.values():
            yield from dials(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from dials(inner)


def renamed(value: Any, table: dict[str, str]) -> Any:
    """All texts with the addresses and paths of this machine."""
    if isinstance(value, dict):
        return {key: renamed(inner, table) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, table) for inner in value]
    if isinstance(value, str):
        scheme, found, rest = value.rpartition("://")
        return f"{scheme}{found}{table.get(rest, rest)}"
    return value


def on_loopback(config: dict[str, Any], caddy: RealCaddy, table: dict[str, str]) -> dict[str, Any]:
    """An adapted configuration as one plain server: the same routes, other addresses."""
    config = renamed(copy.deepcopy(config), table)
    servers = config["apps"]["http"]["servers"].values()
    server = {
        "listen": [f"127.0.0.1:{caddy.https}"],
        "automatic_https": {"disable": True},
        "routes": [route for server in servers for route in server["routes"]],
        **{key: server[key] for server in servers for key in ("trusted_proxies", "errors") if key in server},
    }
    base: Any = caddy.base()
    base["apps"]["http"]["servers"] = {"original": server}
    return dict(base)


@pytest.fixture
def bring(edge: EdgeUnderTest, second_process: RealCaddy, tmp_path: Path) -> Iterator[Any]:
    """Serve a Caddyfile on one Caddy and what the import makes of it on the other."""
    second_process.reset()
    original = EdgeUnderTest(second_process, tmp_path / "original")
    client = CaddyClient(second_process.admin)

    def both(caddyfile: str, *, watched: tuple[str, ...] = (), answers: Any = answer) -> Both:
        config, warnings = client.adapt(textwrap.dedent(caddyfile))
        made = importing.import_config(config, textwrap.dedent(caddyfile), warnings=warnings)
        model.parse(made.pillar)
        upstreams = {dial: edge.upstream(dial, answers) for dial in sorted(set(dials(config)))}
        secured = [dial for dial in upstreams if f"https://{dial}" in made.yaml]
        for dial in secured:
            Authority(tmp_path).secure(upstreams[dial], "127.0.0.1")
        table = {dial: upstream.dial for dial, upstream in upstreams.items()}
        client.replace(on_loopback(config, second_process, table), client.config()[1])
        sections = renamed(without_machine(made.pillar["hecate"], tmp_path), table)
        edge.apply(**sections)
        return Both(original, edge, made, upstreams, watched, table)

    yield both
    original.stop()


def without_machine(sections: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Plain HTTP, and logs in a folder of the test's."""
    text = re.sub(r'"/var/log/[^"]*/([^"/]+)"', lambda m: json.dumps(f"{folder}/{m[1]}"), json.dumps(sections))
    found = json.loads(text)
    for route in found["routes"].values():
        route.pop("tls", None)
    caddy = {key: value for key, value in found.pop("caddy", {}).items() if key != "issuer"}
    found.pop("certificates", None)
    return {**found, "caddy": caddy}


def unsaid(config: dict[str, Any]) -> list[str]:
    """Leaves that could be different without any difference in pillar or report."""
    made = importing.import_config(config)
    told = {path for entry in made.entries for path in entry.to_data()["values"]}
    found = []
    for path, value in leaves(config):
        # Names that Caddy's adapter makes up, and kinds of handlers whose own fields say it all.
        if "/".join(path) in told or path[-1] in ("group", "terminal") or "exclude" in path:
            continue
        changed = importing.import_config(with_other(config, path, value))
        if (changed.pillar, changed.report) == (made.pillar, made.report):
            found.append("/".join(path))
    return found


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, str(key)))
    if not isinstance(value, dict | list):
        yield path, value


def with_other(config: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    inner: Any = changed
    for part in path[:-1]:
        inner = inner[int(part) if isinstance(inner, list) else part]
    last: Any = int(path[-1]) if isinstance(inner, list) else path[-1]
    other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"{value}x"
    inner[last] = other
    return changed


# The Caddyfile that is in use

CF = {"Cf_Worker": "w", "Cf_Connecting_Ip": "192.0.2.1", "Cf_Ray": "r"}
SET = {
    "x-frame-options": "SAMEORIGIN",
    "x-content-type-options": "nosniff",
    "referrer-policy": "strict-origin-when-cross-origin",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    "x-xss-protection": "1; mode=block",
}
ONCE = tuple(SET.items())
TWICE = tuple({**SET, "x-frame-options": "SAMEORIGIN, DENY"}.items())
Differs = dict[str, tuple[Any, Any]]


def served(path: str) -> dict[str, Any]:
    """What shows that the upstream answered, apart from its name and host."""
    return {"status": 200, "upstream": "the host's", "path": path, "host": "as sent"}


def both_serve(_: str) -> Differs:
    return {"headers": (TWICE, ONCE)}


def only_original(path: str) -> Differs:
    return {**{k: (v, 404 if k == "status" else None) for k, v in served(path).items()}, "headers": (TWICE, ONCE)}


def only_import(path: str) -> Differs:
    return {k: (404 if k == "status" else None, v) for k, v in served(path).items()}


def both_refuse(_: str) -> Differs:
    return {}


def without_identity(_: str) -> Differs:
    return {"headers": (TWICE, ONCE), "identity": ("mallory", None)}


UNDEFERRED = "it stood twice where the upstream sends it too"
MEANT = "does what was meant: what only scanners ask for is refused"

# probe -> path, headers, what differs, and the words that announce it.
PROBES: dict[str, tuple[str, dict[str, str], Any, str]] = {
    "plain": ("/", {}, both_serve, UNDEFERRED),
    "deep": ("/api/v1/Things%20here?q=1&r=%2F", {}, both_serve, UNDEFERRED),
    "compressed": ("/page", {"Accept_Encoding": "gzip"}, both_serve, UNDEFERRED),
    "admin": ("/admin/users", {}, both_serve, "it spares /admin, /tmp and such"),
    "security.txt": ("/.well-known/security.txt", {}, both_serve, UNDEFERRED),
    "search engine": ("/", {"User_Agent": "Googlebot/2.1"}, both_serve, "real applications have, and search engines"),
    "Go client": ("/", {"User_Agent": "Go-http-client/1.1"}, both_serve, "it can never match as written"),
    "behind Cloudflare": ("/", {"Cf_Ray": "r", "Cf_Connecting_Ip": "192.0.2.1"}, both_serve, UNDEFERRED),
    "worker": ("/", CF, only_import, "requests that were refused are served like all others"),
    "dotenv": ("/.env", {}, only_original, MEANT),
    "git": ("/.git/config", {}, only_original, MEANT),
    "wordpress": ("/wp-admin/x", {}, only_original, MEANT),
    "dump": ("/files/all.sql", {}, only_original, MEANT),
    "scanner": ("/", {"User_Agent": "sqlmap/1.7"}, only_original, MEANT),
    "fits both lists": ("/wp-admin/x.sql", {}, both_refuse, MEANT),
    "fitted both lists": ("/tmp/x.log", {}, only_import, "of what was, only what the preset has"),
    "identity": ("/", {"X_Authentik_Username": "mallory"}, without_identity, "X-Authentik-* headers that clients send"),
}


def test_the_caddyfile_in_use_differs_after_the_import_only_as_announced(bring: Any) -> None:
    both: Both = bring(users_caddyfile())
    hosts = sorted(both.imported.pillar["hecate"]["routes"])
    assert len(hosts) == 10
    for name, (path, headers, differs, announced) in PROBES.items():
        assert announced in both.imported.report, name
        for host in hosts:
            found = both.differences(host, path, **headers)
            assert {k: tuple(map(_plainly, v, (k, k))) for k, v in found.items()} == differs(path), (name, host)


def _plainly(value: Any, what: str) -> Any:
    """Which host's upstream it was is told by another test."""
    return {"upstream": "the host's", "host": "as sent"}.get(what, value) if value else value


def test_each_host_of_the_caddyfile_in_use_reaches_its_own_upstream(bring: Any) -> None:
    both: Both = bring(users_caddyfile())
    for host in both.imported.pillar["hecate"]["routes"]:
        one, other = both.probe(both.original, host, "/x?y"), both.probe(both.edge, host, "/x?y")
        assert one.upstream and (one.upstream, one.path, one.host) == (other.upstream, other.path, other.host)
    shouted = both.differences("CLOUD.cybermonkey.test", "/")
    assert shouted["host"] == ("CLOUD.cybermonkey.test", "cloud.cybermonkey.test")
    assert "upstreams see the host in lower case" in both.imported.report
    stranger = both.differences("nobody.test", "/")
    assert stranger == {"status": (200, 404)}
    assert "a host that no route names gets 404" in both.imported.report
    middleware = both.imported.pillar["hecate"]["middleware"]
    assert set(middleware) == {"cybermonkey-common-headers", "cybermonkey-common-encode"}


def test_the_report_on_the_caddyfile_in_use_names_its_lines(bring: Any) -> None:
    text = users_caddyfile()
    both: Both = bring(text)
    lines = text.split("\n")
    entries = [entry.to_data() for entry in both.imported.entries]
    numbers = {number for entry in entries for number, _ in entry["lines"]}
    for mistake in ("header Cf-Worker *", "path /wp-admin/*", "header_regexp User-Agent", "respond @suspicious_agents"):
        number = next(n for n, line in enumerate(lines, 1) if mistake in line)
        assert number in numbers, mistake
    never = next(e for e in entries if "can never match as written" in e["what"])
    assert "header_regexp User-Agent" in lines[never["lines"][0][0] - 1]
    worst = entries[0]
    assert worst["kind"] == "opens" and len(worst["hosts"]) == 10


# What Caddyfiles usually hold

COMMON = """
{
    servers {
        trusted_proxies static 127.0.0.1/32
    }
}
(common) {
    header >X-Common yes
    encode zstd gzip
}
paths.test {
    import common
    handle_path /api/* {
        rewrite /v2{uri}
        reverse_proxy 10.0.0.1:80
    }
    handle /app/* {
        reverse_proxy 10.0.0.2:80
    }
    handle {
        reverse_proxy 10.0.0.3:80
    }
}
nested.test {
    handle_path /a/* {
        reverse_proxy /b/* 10.0.0.1:80
        reverse_proxy 10.0.0.2:80
    }
    @write method POST PUT
    reverse_proxy @write 10.0.0.4:80
    reverse_proxy /only 10.0.0.5:80
    reverse_proxy 10.0.0.3:80
}
moved.test, www.moved.test {
    import common
    redir /old /new permanent
    redir /gone/* https://other.test{uri} 307
    rewrite /in /inside
    uri strip_prefix /pre
    reverse_proxy 10.0.0.1:80
}
away.test {
    redir https://paths.test{uri} permanent
}
sized.test {
    handle /up/* {
        reverse_proxy 10.0.0.2:80
    }
    handle {
        request_body {
            max_size 10
        }
        reverse_proxy 10.0.0.1:80
    }
}
either.test {
    @canary header X-Canary yes
    reverse_proxy @canary 10.0.0.2:80
    header /static/* >Cache-Control max-age=60
    request_header X-Extra added
    request_header -X-Bad
    request_body {
        max_size 1KB
    }
    reverse_proxy 10.0.0.1:80 {
        header_up X-Up up
        header_up Host changed.test
        lb_policy first
        lb_try_duration 1s
        fail_duration 5s
        transport http {
            dial_timeout 2s
            response_header_timeout 5s
        }
    }
}
safe.test {
    @outside not remote_ip 10.0.0.0/8
    abort /secret/*
    respond @outside 403
    reverse_proxy 10.0.0.1:80
}
open.test {
    @mine remote_ip 10.0.0.0/8
    @probe header X-Probe *
    @bad header_regexp User-Agent (?i)badbot
    respond @mine 403
    respond @probe 404
    respond @bad 404
    respond /hidden /hidden/* 404
    basic_auth /admin/* {
        bob $2a$04$dGVzdHRlc3R0ZXN0dGVzdONvAxwIfBZlTbUvVWBeYxPPxBe6ryO1m
    }
    route {
        reverse_proxy 10.0.0.1:80
    }
}
*.wild.test {
    tls internal
    @one host one.wild.test
    handle @one {
        reverse_proxy 10.0.0.1:80
    }
    handle {
        reverse_proxy 10.0.0.2:80
    }
}
http://plain.test {
    reverse_proxy 10.0.0.1:80 10.0.0.1:80
}
files.test {
    root * /srv
    file_server
}
part.test {
    handle /static/* {
        root * /srv
        file_server
    }
    handle {
        reverse_proxy 10.0.0.1:80
    }
}
php.test {
    root * /srv
    php_fastcgi unix//run/php.sock
}
fixed.test {
    respond "hello" 200
}
"""
SAME: dict[str, Any] = {}
NOT_SERVED = ["status"]  # what a host in maintenance answers is 503, whatever it was

COMMON_PROBES: list[tuple[str, str, str, dict[str, str], Any, str]] = [
    # host, path, method, headers, what differs (fields alone where a list), the words that announce it
    ("paths.test", "/api/x%20y?q", "GET", {}, SAME, ""),
    ("paths.test", "/api", "GET", {}, SAME, ""),
    ("paths.test", "/app/x", "GET", {"Accept_Encoding": "gzip"}, SAME, ""),
    ("paths.test", "/app", "GET", {}, SAME, ""),
    ("paths.test", "/apple", "GET", {}, SAME, ""),
    ("paths.test", "/", "GET", {"Accept_Encoding": "zstd"}, SAME, ""),
    ("nested.test", "/a/b/c", "GET", {}, SAME, ""),
    ("nested.test", "/a/x", "GET", {}, SAME, ""),
    ("nested.test", "/a/x", "POST", {}, SAME, ""),
    ("nested.test", "/x", "POST", {}, SAME, ""),
    ("nested.test", "/only", "PUT", {}, SAME, ""),
    ("nested.test", "/only", "GET", {}, SAME, ""),
    ("nested.test", "/only/more", "GET", {}, SAME, ""),
    ("moved.test", "/old", "GET", {}, SAME, ""),
    ("moved.test", "/gone/x?y=z", "GET", {}, SAME, ""),
    ("moved.test", "/in?q=1", "GET", {}, SAME, ""),
    ("moved.test", "/pre/x", "GET", {}, SAME, ""),
    ("www.moved.test", "/x", "GET", {}, SAME, ""),
    ("away.test", "/x?y", "GET", {}, SAME, ""),
    ("either.test", "/", "GET", {"X_Canary": "yes", "X_Bad": "b"}, SAME, ""),
    ("either.test", "/", "GET", {"X_Bad": "b"}, SAME, ""),
    ("either.test", "/static/x", "GET", {}, SAME, ""),
    ("safe.test", "/", "GET", {}, ["headers"], "ip_filter refuses with 403 and a line of text"),
    ("open.test", "/", "GET", {}, SAME, ""),
    ("open.test", "/", "GET", {"X_Probe": "x"}, SAME, ""),
    ("open.test", "/", "GET", {"User_Agent": "a BadBot"}, SAME, ""),
    ("open.test", "/hidden/x", "GET", {}, SAME, ""),
    ("open.test", "/hidden", "GET", {}, SAME, ""),
    ("open.test", "/hiddenly", "GET", {}, SAME, ""),
    ("open.test", "/admin/x", "GET", {}, SAME, ""),
    ("open.test", "/admin", "GET", {}, SAME, ""),
    ("one.wild.test", "/", "GET", {}, SAME, ""),
    ("two.wild.test", "/", "GET", {}, SAME, ""),
    ("plain.test", "/", "GET", {}, SAME, ""),
    ("files.test", "/x", "GET", {}, {"status": (404, 503)}, "file_server is not something Hecate has"),
    ("part.test", "/static/x", "GET", {}, {"status": (404, 503)}, "file_server is not something Hecate has"),
    ("part.test", "/x", "GET", {}, SAME, ""),
    ("php.test", "/", "GET", {}, NOT_SERVED, "upstreams that speak fastcgi"),
    ("fixed.test", "/", "GET", {}, {"status": (200, 503)}, "Caddy answers 200 by itself here"),
]


def test_common_directives_behave_the_same_or_as_announced(bring: Any) -> None:
    watched = ("x-common", "cache-control", "x-extra", "x-bad", "x-up", "www-authenticate")
    both: Both = bring(COMMON, watched=watched)
    wrong = []
    for host, path, method, headers, differs, announced in COMMON_PROBES:
        found = both.differences(host, path, method, **headers)
        # Pages that say 503 have headers of their own.
        found = {k: v for k, v in found.items() if found.get("status", (0, 0))[1] != 503 or k == "status"}
        if (list(found) if isinstance(differs, list) else found) != differs:
            wrong.append((method, host, path, headers, found))
        assert announced in both.imported.report
    assert not wrong, "\n".join(map(str, wrong))
    for path, status in (("/x", 413), ("/up/x", 200)):
        statuses = {e.ask("sized.test", path, "POST", body=b"x" * 100).status for e in (both.original, both.edge)}
        assert statuses == {status}, path


def test_no_leaf_of_a_configuration_can_change_unsaid(caddy: RealCaddy) -> None:
    client = CaddyClient(caddy.admin)
    config, _ = client.adapt(textwrap.dedent(COMMON))
    left = unsaid(config)
    assert not left, "\n".join(left)


SETTINGS = """
{
    email me@edge.test
    metrics
    servers {
        protocols h1 h2
        timeouts {
            read_body 10s
        }
    }
}
strict.test {
    tls {
        protocols tls1.3
        client_auth {
            mode require_and_verify
            trust_pool file /etc/ca.pem
        }
    }
    reverse_proxy h2c://10.0.0.1:50051
    log {
        output file /var/log/caddy/strict.log {
            roll_size 10MiB
            roll_keep 3
        }
        level ERROR
    }
}
inner.test {
    tls internal
    reverse_proxy unix//run/app.sock {
        health_uri /healthz
        health_interval 10s
        health_status 2xx
        header_down -Server
    }
    log
}
owned.test {
    tls /etc/owned.crt /etc/owned.key
    forward_auth auth.test:9091 {
        uri /api/authz/forward-auth
        copy_headers Remote-User Remote-Groups
    }
    handle /public/* {
        reverse_proxy 10.0.0.2:80
    }
    reverse_proxy 10.0.0.3:80 10.0.0.4:80 {
        lb_policy cookie sticky
        lb_retries 2
        transport http {
            tls_server_name backend.test
            tls_trust_pool file /etc/backend.pem
        }
    }
    handle_errors {
        respond "oops"
    }
}
asked.test {
    basic_auth {
        bob $2a$04$dGVzdHRlc3R0ZXN0dGVzdONvAxwIfBZlTbUvVWBeYxPPxBe6ryO1m
    }
    forward_auth https://auth.test {
        uri /verify
        copy_headers Remote-User
    }
    reverse_proxy 10.0.0.5:80
}
"""


def test_certificates_logins_logs_and_options_become_pillar(caddy: RealCaddy) -> None:
    config, warnings = CaddyClient(caddy.admin).adapt(textwrap.dedent(SETTINGS))
    made = importing.import_config(config, textwrap.dedent(SETTINGS), warnings=warnings)
    estate = model.parse(made.pillar)
    strict, inner, owned, asked = (estate.routes[f"{name}.test"] for name in ("strict", "inner", "owned", "asked"))
    assert not estate.caddy.http3 and estate.monitoring.metrics
    assert strict.tls.min_version == "1.3" and strict.tls.client_auth and strict.tls.client_auth.ca == "/etc/ca.pem"
    assert estate.certificates.providers[strict.tls.issuer or ""].email == "me@edge.test"
    assert not isinstance(strict.upstreams, str) and strict.upstreams[0].scheme == "h2c"
    log: Any = strict.access_log
    assert (log.file, log.level, log.keep, log.roll_size) == ("/var/log/caddy/strict.log", "ERROR", 3, "10MB")
    assert inner.tls.issuer == "internal" and inner.access_log is True
    check: Any = inner.health_check
    assert (check.path, check.interval, check.expect_status) == ("/healthz", "10s", 2)
    assert (owned.tls.certificate, owned.tls.key) == ("/etc/owned.crt", "/etc/owned.key")
    asks = estate.forward_auth[estate.auth_policies[owned.auth_policy or ""].provider]
    assert (asks.address, asks.user_header, asks.headers) == ("auth.test:9091", "Remote-User", ("Remote-Groups",))
    assert not any(rule.public for rule in owned.rules()), "the login stood before all paths"
    assert asked.maintenance, "a login that can't be had must not be left out"
    for told in ("handle_errors", "read_timeout = 10000000000", "any 2xx let a request pass"):
        assert told in made.report
    assert "dGVzdHRlc3R0ZXN0" not in made.report, "no hash in a report"
    left = unsaid(config)
    assert not left, "\n".join(left)


def test_running_servers_are_imported_without_hecates_own(edge: EdgeUnderTest) -> None:
    """What a Caddy held before Hecate came: the fixture's stranger, and a site of somebody's."""
    theirs, ours = edge.upstream("theirs"), edge.upstream("ours")
    client = CaddyClient(edge.caddy.admin)
    config, etag = client.config()
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": theirs.dial}]}
    route = {"match": [{"host": ["theirs.test"]}], "handle": [proxy], "terminal": True}
    config["apps"]["http"]["servers"]["lab-stranger"]["routes"].insert(0, route)
    client.replace(config, etag)
    edge.apply(routes={"ours.test": {"upstreams": [ours.dial], "access_log": True}})
    made = importing.import_config(client.config()[0])
    assert list(model.parse(made.pillar).routes) == ["theirs.test"]
    assert "ours.test" not in made.report and "hecate-" not in made.report
    assert "answers for every host" in made.report, "the stranger's own answer is told of"
    found = without_machine(copy.deepcopy(made.pillar["hecate"]), edge.folder)
    found["routes"]["ours.test"] = {"upstreams": [ours.dial]}
    edge.apply(**found)
    assert edge.ask("theirs.test", "/x").json["path"] == "/x"


@pytest.mark.parametrize(
    "caddyfile",
    [
        "a.test {\n\timport /etc/hostname\n}",
        "import /etc/hostname",
        'a.test {\n\t"import" /etc/hostname\n}',
        "a.test { import /etc/hostname\n}",
        "a.test {\n\timp\rort /etc/hostname\n}",
        "a.test {\n\timport \\\n/etc/hostname\n}",
        "a.test {\n\t{$NO_SUCH:import} /etc/hostname\n}",
        "a.test {\n\timport later\n}\n(later) {\n\tencode\n}",
        "(s) {\n\timport {args[0]}\n}\na.test {\n\timport s /etc/hostname\n}",
        "(s) {\n\t{args[0]}{args[1]} /etc/hostname\n}\na.test {\n\timport s im port\n}",
        "(s) {\n\trespond ok\n}\na.test {\n\timport s import /etc/hostname\n}",
        "a.test {\n\trespond <<X\n(/etc/hostname) {\nX\n}\nimport /etc/hostname",
    ],
)
def test_a_caddyfile_cannot_make_caddy_show_its_files(caddy: RealCaddy, caddyfile: str) -> None:
    with pytest.raises(Refused, match="imports what it does not define"):
        CaddyClient(caddy.admin).adapt(caddyfile)


def test_files_are_imported_where_the_caller_says_so(caddy: RealCaddy, tmp_path: Path) -> None:
    (tmp_path / "site.caddy").write_text("a.test {\n\treverse_proxy 10.0.0.1:80\n}\n")
    text = f"import {tmp_path}/*.caddy"
    client = CaddyClient(caddy.admin)
    with pytest.raises(Refused, match="allow_imports"):
        client.adapt(text)
    config, _ = client.adapt(text, allow_imports=True)
    assert list(importing.import_config(config, text).pillar["hecate"]["routes"]) == ["a.test"]


def test_adapting_leaves_the_running_configuration_alone_and_says_what_is_wrong(caddy: RealCaddy) -> None:
    client = CaddyClient(caddy.admin)
    before = client.config()
    _, warnings = client.adapt("(s) {\n\tencode\n}\na.test {\n  import s # a snippet\n  respond `please`\n}")
    assert any("not formatted" in warning for warning in warnings)
    with pytest.raises(Refused, match="no_such_directive"):
        client.adapt("a.test {\n\tno_such_directive\n}")
    assert client.config() == before


def test_the_execution_functions_return_pillar_text_and_report(
    caddy: RealCaddy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("saltext.hecate.modules.hecate_caddy", reason="for want of a tool: pip install -e .")
    import hecate_salt
    from salt.exceptions import CommandExecutionError

    pillar = {"hecate": {"caddy": {"admin": caddy.admin}}}
    opts = {"id": "edge", "cachedir": str(tmp_path)}
    monkeypatch.setattr(module, "_site", lambda: hecate_salt.Site(opts, {}, pillar))
    (tmp_path / "Caddyfile").write_text("a.test {\n\treverse_proxy 10.0.0.1:80\n\tabort /x*\n}\n")
    made = module.import_caddyfile(str(tmp_path / "Caddyfile"))
    assert set(made) == {"pillar", "yaml", "report", "entries"}
    assert model.parse(yaml.safe_load(made["yaml"])) == model.parse(made["pillar"])
    assert "line 3: abort /x*" in made["report"]
    assert module.import_caddyfile(text=(tmp_path / "Caddyfile").read_text(), show="yaml") == made["yaml"]
    assert "answers for every host" in module.import_live(show="report"), "the fixture's stranger"
    for wrong in ({}, {"path": "/x", "text": "y"}, {"path": "/no/such"}, {"text": "a.test", "show": "nothing"}):
        with pytest.raises(CommandExecutionError):
            module.import_caddyfile(**wrong)
