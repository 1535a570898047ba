"""Middleware as clients and upstreams meet it: over HTTP, through the real Caddy."""

from __future__ import annotations

import base64
import gzip
import http.client
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from contract.edge import EdgeUnderTest, Reply, Seen

BCRYPT = "$2a$10$XIbuaNJu0EU2pnPtDXNk1.PTdRn2E7cfBt0EoxkbCAaQywDjWdWVK"  # pw-alice
ARGON2ID = "$argon2id$v=19$m=47104,t=1,p=1$zqZPp3UM28Cr39irc31VXA$ukLey9D7vGdv9c34zott8aZLcO7K89KuwC43c3vtxzk"
PAGE = '<style>p{color:red}@media x{a{b:c}}</style><script>x={"a":{"b":1}}; y=`${z}`; "\\{"</script>'


def login(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def uses(**kinds: Any) -> dict[str, Any]:
    """Middleware by name: the key is both name and type; a pair is (type, config)."""
    found = {}
    for name, value in kinds.items():
        kind, config = value if isinstance(value, tuple) else (name, value)
        found[name.replace("_", "-")] = {"type": kind, "config": config}
    return found


# Headers


def test_the_preset_replaces_what_the_upstream_says_and_keeps_what_tells_on_it(edge: EdgeUnderTest) -> None:
    own = {"x-frame-options": "SAMEORIGIN", "Referrer-Policy": "", "Content-Security-Policy": "default-src 'self'"}
    app = edge.upstream(
        answer=lambda _: (200, {"X-Frame-Options": "ALLOWALL", "X-Powered-By": "PHP/5", "Server": "old"}, b"x")
    )
    plain = {"upstreams": [app.dial], "middleware": ["security-headers"]}
    edge.apply(
        middleware=uses(strict=("security_headers", {"headers": own})),
        routes={"app.test": plain, "other.test": {**plain, "middleware": ["strict"]}},
    )
    usual, replaced = edge.ask("app.test"), edge.ask("other.test")
    assert usual.headers["x-frame-options"] == ["DENY"]
    assert usual.headers["x-content-type-options"] == ["nosniff"]
    assert "max-age=31536000" in str(usual.header("Strict-Transport-Security"))
    assert usual.header("Referrer-Policy") and replaced.header("Referrer-Policy") is None
    assert replaced.headers["x-frame-options"] == ["SAMEORIGIN"]
    assert replaced.headers["content-security-policy"] == ["default-src 'self'"]
    for reply in (usual, replaced):
        assert reply.header("Server") is None and reply.header("X-Powered-By") is None


def test_refusals_redirects_and_errors_have_the_security_headers_too(edge: EdgeUnderTest) -> None:
    bad = "127.0.0.1:1"
    edge.apply(
        caddy={"middleware": ["security-headers"]},
        middleware=uses(nobody=("ip_filter", {"allow": ["192.0.2.1"]}), basic_auth={"accounts": {"a": BCRYPT}}),
        routes={
            "dead.test": {"upstreams": [bad]},
            "pages.test": {"upstreams": [bad], "error_pages": {"pages": {"502": "<p>gone</p>"}}},
            "inner.test": {"upstreams": [bad], "paths": {"/x/*": {"error_pages": {"pages": {"5xx": "in"}}}}},
            "nobody.test": {"upstreams": [bad], "middleware": ["nobody"]},
            "short.test": {"upstreams": [bad], "denied_ips": ["127.0.0.0/8"]},
            "away.test": {"redirect": "https://new.test/"},
            "down.test": {"upstreams": [bad], "maintenance": True},
            "login.test": {"upstreams": [bad], "middleware": ["basic-auth"]},
            "scan.test": {"upstreams": [bad], "middleware": ["block-scanners"]},
        },
    )
    for host, path, status in (
        ("dead", "/", 502),
        ("pages", "/", 502),
        ("inner", "/x/y", 502),
        ("nobody", "/", 403),
        ("short", "/", 403),
        ("away", "/", 308),
        ("down", "/", 503),
        ("login", "/", 401),
        ("scan", "/.env", 404),
    ):
        reply = edge.ask(f"{host}.test", path)
        assert (reply.status, reply.headers.get("x-frame-options")) == (status, ["DENY"]), host
        assert reply.header("Server") is None, host


def test_headers_are_set_added_and_removed_on_both_ways(edge: EdgeUnderTest) -> None:
    app = edge.upstream(answer=lambda _: (200, {"X-Keep": "1", "X-Gone": "1", "X-Many": "theirs", "X-Old-A": "1"}, b""))
    report = '{"group":"csp","max_age":10}'
    edge.apply(
        middleware=uses(
            both=(
                "headers",
                {
                    "request": {"set": {"X-Via": "edge"}, "add": {"X-Many": "ours"}, "remove": ["X-Secret-*"]},
                    "response": {
                        "set": {"Report-To": report},
                        "add": {"X-Many": "ours"},
                        "remove": ["X-Gone", "x-old-*"],
                    },
                },
            ),
            kept=("headers", {"set": {"A": "b", "X-Old-A": "ours"}}),
        ),
        routes={
            "app.test": {"upstreams": [app.dial], "middleware": ["both", "kept"]},
            "other.test": {
                "upstreams": [app.dial],
                "headers": {"X-Real-IP": "{http.request.remote.host}", "X-Frame-Options": "SAMEORIGIN", "X-J": "{a}"},
                "middleware": ["security-headers"],
            },
        },
    )
    reply = edge.ask(X_Via="client", X_Many="client", X_Secret_Key="s")
    sent = app.seen[-1].headers
    assert sent["x-via"] == ["edge"] and sent["x-many"] == ["client", "ours"] and "x-secret-key" not in sent
    assert reply.headers["x-many"] == ["theirs", "ours"] and reply.headers["report-to"] == [report]
    assert reply.header("X-Gone") is None and reply.header("X-Keep") == "1"
    assert reply.headers["a"] == ["b"]
    assert reply.headers["x-old-a"] == ["ours"], "what is removed is theirs; a later one may set it"
    short = edge.ask("other.test", X_Real_IP="8.8.8.8")
    assert app.seen[-1].headers["x-real-ip"] == ["127.0.0.1"] and short.header("X-Real-IP") is None
    assert short.headers["x-frame-options"] == ["SAMEORIGIN"], "a route's own header wins over the preset's"
    assert short.header("X-J") == "{a}", "braces that are no placeholder come out as they are"


def test_a_path_has_its_own_say_about_headers(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    edge.apply(
        caddy={"middleware": ["security-headers"]},
        routes={
            "app.test": {
                "upstreams": [app.dial],
                "headers": {"response": {"set": {"X-Where": "route", "X-Only": "route"}, "add": {"X-Add": "1"}}},
                "paths": {
                    "/embed/*": {"headers": {"X-Frame-Options": "SAMEORIGIN", "X-Where": "path"}},
                    "/embed/off/*": {"headers": {"response": {"remove": ["X-Frame-Options", "X-Only"]}}},
                    "/plain/*": {"strip": True},
                },
            }
        },
    )
    found = {
        path: [edge.ask(path=path).headers.get(name) for name in ("x-frame-options", "x-where", "x-only")]
        for path in ("/", "/embed/x", "/embed/off/x", "/plain/x")
    }
    assert edge.ask(path="/embed/x").headers["x-add"] == ["1"], "from one set of steps, not from two"
    usual = [["DENY"], ["route"], ["route"]]
    assert found == {
        "/": usual,
        "/embed/x": [["SAMEORIGIN"], ["path"], ["route"]],
        "/embed/off/x": [None, ["route"], None],
        "/plain/x": usual,
    }


def test_a_request_has_one_id_everywhere_and_not_the_clients(edge: EdgeUnderTest) -> None:
    app = edge.upstream(answer=lambda seen: (200, {"X-Request-Id": seen.headers["x-request-id"][0] + "!"}, b""))
    edge.route(upstreams=[app.dial], middleware=["request-id"])
    first, second = edge.ask(X_Request_Id="mine"), edge.ask()
    ids = [seen.headers["x-request-id"] for seen in app.seen]
    assert [first.headers["x-request-id"], second.headers["x-request-id"]] == ids
    assert all(len(one) == 1 and re.fullmatch(r"[0-9a-f-]{36}", one[0]) for one in ids) and ids[0] != ids[1]


# CORS and compression


def asked(edge: EdgeUnderTest, host: str, origin: str, path: str = "/") -> Reply:
    """What a browser asks before it lets a page of that origin call."""
    return edge.ask(host, path, "OPTIONS", Origin=origin, Access_Control_Request_Method="PUT")


def test_cors_permits_the_listed_origins_alone_and_before_any_login(edge: EdgeUnderTest) -> None:
    theirs = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Vary": "Accept"}
    app = edge.upstream(answer=lambda _: (200, theirs, b"{}"))
    page, stranger = "https://page.test", "https://evil.test"
    config = {
        "origins": ["https://Page.test:443/", "http://dev.test:3000"],
        "methods": ["GET", "PUT"],
        "headers": ["X-Token"],
        "expose": ["X-Total"],
        "credentials": True,
        "max_age": 60,
    }
    edge.apply(
        middleware=uses(
            cors=config,
            all=("cors", {"origins": "*"}),
            basic_auth={"accounts": {"alice": BCRYPT}},
            narrow=("cors", {"origins": [stranger]}),
        ),
        routes={
            "app.test": {
                "upstreams": [app.dial],
                "middleware": ["basic-auth", "cors"],
                "paths": {"/in/*": {"middleware": ["narrow"]}},
            },
            "open.test": {"upstreams": [app.dial], "middleware": ["all"]},
            "dead.test": {"upstreams": ["127.0.0.1:1"], "middleware": ["cors"]},
        },
    )
    yes, no = asked(edge, "app.test", page), asked(edge, "app.test", stranger)
    assert yes.status == 204 and not app.seen, "a preflight needs no login and doesn't reach the upstream"
    assert yes.headers["access-control-allow-origin"] == [page]
    assert yes.headers["access-control-allow-credentials"] == ["true"]
    assert yes.headers["access-control-allow-methods"] == ["GET, PUT"]
    assert yes.headers["access-control-allow-headers"] == ["X-Token"] and yes.headers["access-control-max-age"] == [
        "60"
    ]
    assert "Origin" in str(yes.header("Vary")) and "Origin" in str(no.header("Vary"))
    assert not [name for name in no.headers if name.startswith("access-control-")]

    mine = edge.ask("app.test", Origin=page, Authorization=login("alice", "pw-alice"))
    assert mine.status == 200 and mine.headers["access-control-allow-origin"] == [page]
    assert mine.headers["access-control-expose-headers"] == ["X-Total"]
    assert {"Origin", "Accept"} <= {v.strip() for v in str(mine.header("Vary")).split(",")}
    foreign = edge.ask("app.test", Origin=stranger, Authorization=login("alice", "pw-alice"))
    assert foreign.status == 200 and not [n for n in foreign.headers if n.startswith("access-control-")], (
        "what the upstream permits by itself doesn't count"
    )
    assert edge.ask("app.test", Origin=page).headers["access-control-allow-origin"] == [page], "a page may read the 401"
    assert edge.ask("dead.test", Origin=page).headers["access-control-allow-origin"] == [page], "and the 502"

    assert asked(edge, "app.test", stranger, "/in/x").headers["access-control-allow-origin"] == [stranger]
    inner = edge.ask("app.test", "/in/x", Origin=page, Authorization=login("alice", "pw-alice"))
    assert inner.status == 200 and inner.header("Access-Control-Allow-Origin") is None

    everybody = edge.ask("open.test", Origin=stranger)
    assert everybody.headers["access-control-allow-origin"] == ["*"]
    assert everybody.header("Access-Control-Allow-Credentials") is None


def test_answers_are_compressed_as_the_client_can_read_them(edge: EdgeUnderTest) -> None:
    text = b"hello " * 400
    kinds = {"/big": (text, "text/plain"), "/small": (b"hi", "text/plain"), "/image": (text, "image/png")}
    app = edge.upstream(answer=lambda seen: (200, {"Content-Type": kinds[seen.path][1]}, kinds[seen.path][0]))
    edge.apply(
        middleware=uses(encode={"encodings": "gzip", "minimum_length": 1}),
        routes={
            "app.test": {"upstreams": [app.dial], "middleware": ["compression"]},
            "other.test": {"upstreams": [app.dial], "middleware": ["encode"]},
        },
    )
    both = edge.ask(path="/big", Accept_Encoding="gzip, zstd")
    assert both.header("Content-Encoding") == "zstd" and len(both.body) < len(text)
    assert "Accept-Encoding" in str(both.header("Vary"))
    zipped = edge.ask(path="/big", Accept_Encoding="gzip")
    assert zipped.header("Content-Encoding") == "gzip" and gzip.decompress(zipped.body) == text
    for path in ("/small", "/image"):
        assert edge.ask(path=path, Accept_Encoding="gzip").header("Content-Encoding") is None, path
    assert edge.ask(path="/big", Accept_Encoding="identity").body == text
    assert edge.ask("other.test", "/small", Accept_Encoding="zstd, gzip").header("Content-Encoding") == "gzip"


# Who may come in


def test_passwords_are_asked_for_and_kept_from_the_upstream(edge: EdgeUnderTest, tmp_path: Path) -> None:
    app = edge.upstream()
    (tmp_path / "hash").write_text(BCRYPT + "\n")
    edge.apply(
        middleware=uses(
            bcrypt=("basic_auth", {"accounts": {"alice": BCRYPT, "bob": BCRYPT}, "realm": "the lab"}),
            argon=("basic_auth", {"accounts": {"alice": ARGON2ID}}),
            file=("basic_auth", {"accounts": {"alice": f"file:{tmp_path}/hash"}}),
            shown=("basic_auth", {"accounts": {"alice": BCRYPT}, "hide": False}),
        ),
        routes={
            f"{name}.test": {"upstreams": [app.dial], "middleware": [name]}
            for name in ("bcrypt", "argon", "file", "shown")
        },
    )
    for name in ("bcrypt", "argon", "file", "shown"):
        host = f"{name}.test"
        refused = edge.ask(host)
        assert refused.status == 401 and str(refused.header("WWW-Authenticate")).startswith("Basic realm="), name
        for wrong in (login("alice", "pw-mallory"), login("alice", BCRYPT), "Bearer pw-alice"):
            assert edge.ask(host, Authorization=wrong).status == 401, name
        assert edge.ask(host, Authorization=login("alice", "pw-alice")).status == 200, name
        assert ("authorization" in app.seen[-1].headers) == (name == "shown")
    assert edge.ask("bcrypt.test").header("WWW-Authenticate") == 'Basic realm="the lab"'
    assert edge.ask("bcrypt.test", Authorization=login("bob", "pw-alice")).status == 200
    assert edge.ask("argon.test", Authorization=login("carol", "pw-alice")).status == 401


def test_a_hash_that_was_compared_once_is_not_computed_again(edge: EdgeUnderTest) -> None:
    """bcrypt costs by design; asked for with each request of a page, it would be all that the edge does."""
    app = edge.upstream()
    edge.apply(
        middleware=uses(basic_auth={"accounts": {"alice": BCRYPT}}),
        routes={"app.test": {"upstreams": [app.dial], "middleware": ["basic-auth"]}},
    )
    assert edge.caddy.process
    alice = login("alice", "pw-alice")
    edge.ask(Authorization=alice)
    cached = _cpu(edge.caddy.process.pid)
    for _ in range(10):
        assert edge.ask(Authorization=alice).status == 200
    cached = _cpu(edge.caddy.process.pid) - cached
    computed = _cpu(edge.caddy.process.pid)
    for number in range(10):
        assert edge.ask(Authorization=login("alice", f"wrong-{number}")).status == 401
    computed = _cpu(edge.caddy.process.pid) - computed
    assert cached * 2 < computed


def _cpu(pid: int) -> int:
    """Ticks of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_addresses_are_the_clients_own_however_it_lies(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    office = uses(
        office=("ip_filter", {"allow": ["10.0.0.0/8"], "deny": "10.9.9.9"}),
        teapot=("ip_filter", {"deny": ["127.0.0.1", "10.1.1.1"], "status": 451}),
    )
    routes = {
        "app.test": {"upstreams": [app.dial], "middleware": ["office"]},
        "deny.test": {"upstreams": [app.dial], "middleware": ["teapot"]},
        "path.test": {"upstreams": [app.dial], "paths": {"/admin/*": {"middleware": ["office"]}}},
        "short.test": {"upstreams": [app.dial], "allowed_ips": ["10.0.0.0/8"], "denied_ips": ["10.9.9.9"]},
    }
    edge.apply(caddy={"trusted_proxies": ["127.0.0.0/8"]}, middleware=office, routes=routes)
    told = {
        "10.1.1.1": 200,
        "10.9.9.9": 403,
        "8.8.8.8": 403,
        "10.1.1.1, 8.8.8.8": 403,  # the front is what the client made up; the proxy appends whom it saw
        "8.8.8.8, 10.1.1.1": 200,
        "nonsense": 403,
        "": 403,
    }
    for host, path in (("app.test", "/"), ("short.test", "/"), ("path.test", "/admin/x")):
        assert {who: edge.ask(host, path, X_Forwarded_For=who).status for who in told} == told, host
    assert edge.ask("path.test", "/", X_Forwarded_For="8.8.8.8").status == 200
    assert [edge.ask("deny.test", X_Forwarded_For=who).status for who in ("10.1.1.1", "10.1.1.2")] == [451, 200]

    edge.apply(middleware=office, routes=routes)
    assert edge.ask(X_Forwarded_For="10.1.1.1").status == 403, "without trusted proxies nobody's word counts"
    assert edge.ask("deny.test", X_Forwarded_For="10.1.1.2").status == 451


BLOCKED = (
    "/.env", "/.env.production", "/.ENV", "/%2eenv", "/x/../.env", "//.env", "/.git", "/.git/config", "/.GIT/HEAD",
    "/./.git/config", "//wp-admin/x", "/wp-admin", "/wp-login.php", "/xmlrpc.php", "/phpmyadmin/index.php",
    "/phpinfo.php", "/dump.sql", "/site/db.BAK", "/index.php.old", "/.svn/entries", "/.DS_Store",
    "/?rest_route=/wp/v2/users", "/x/%2e%2e/.env",
)  # fmt: skip
OPEN = (
    "/", "/admin/", "/admin/users", "/manager/html", "/tmp/x", "/backup/list", "/old/page", "/temp/a",
    "/.well-known/security.txt", "/test", "/.well-known/acme-challenge/x", "/git/config", "/environment",
    "/vendor/jquery.js", "/config.json", "/x.sql/y", "/horizon/auth/login", "/team/repo.git/info/refs",
    "/search?q=.env",
)  # fmt: skip
CLIENTS = {
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": 200,
    "Mozilla/5.0 (compatible; bingbot/2.0)": 200,
    "Go-http-client/1.1": 200,
    "Go-http-client/2.0": 200,
    "curl/8.5.0": 200,
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/120.0 Scandinavia": 200,
    "sqlmap/1.7.2#stable (https://sqlmap.org)": 404,
    "Mozilla/5.00 (Nikto/2.1.6)": 404,
    "Nuclei - Open-source project (github.com/projectdiscovery/nuclei)": 404,
    "WPScan v3.8.22": 404,
}


def test_scanners_are_refused_and_nobody_else(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    own = {"preset": False, "paths": ["/trap/*"], "agents": "evil.?bot", "headers": ["Cf-Worker"]}
    spared = {"except_paths": ["/.git/*"], "except_from": "10.0.0.0/8", "answer": "close"}
    edge.apply(
        caddy={"trusted_proxies": "127.0.0.1"},
        middleware=uses(own=("block_scanners", own), spared=("block_scanners", spared)),
        routes={
            f"{name}.test": {"upstreams": [app.dial], "middleware": [use]}
            for name, use in (("app", "block-scanners"), ("own", "own"), ("spared", "spared"))
        },
    )
    assert {path: edge.ask(path=path).status for path in BLOCKED} == dict.fromkeys(BLOCKED, 404)
    assert not app.seen
    assert {path: edge.ask(path=path).status for path in OPEN} == dict.fromkeys(OPEN, 200)
    assert {agent: edge.ask(User_Agent=agent).status for agent in CLIENTS} == CLIENTS

    assert [edge.ask("own.test", path).status for path in ("/.env", "/TRAP", "/trap/x")] == [200, 404, 404]
    assert [edge.ask("own.test", User_Agent=agent).status for agent in ("EvilBot", "Googlebot")] == [404, 200]
    assert edge.ask("own.test", Cf_Worker="x.test").status == 404

    assert edge.ask("spared.test", "/.git").status == 200 and edge.ask("spared.test", "/.git/config").status == 200
    assert edge.ask("spared.test", "/.env", X_Forwarded_For="10.1.1.1").status == 200
    for answer in (("spared.test", "/.env"), ("spared.test", "/wp-login.php")):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            edge.ask(*answer)


# Elsewhere


def test_redirects_keep_what_they_should_and_lead_where_the_pillar_says(edge: EdgeUnderTest) -> None:
    edge.apply(
        middleware=uses(moved=("redirect", {"to": "https://new.test/at{http.request.uri}", "status": 301})),
        routes={
            "app.test": {"redirect": "https://new.test{http.request.uri}"},
            "same.test": {"redirect": {"to": "https://{http.request.host}/x", "status": 302}},
            "moved.test": {"upstreams": ["127.0.0.1:1"], "middleware": ["moved"]},
            "path.test": {"upstreams": ["127.0.0.1:1"], "paths": {"/old": {"redirect": {"to": "/new", "status": 303}}}},
        },
    )

    def away(host: str, path: str = "/", **more: Any) -> tuple[int, str | None]:
        reply = edge.ask(host, path, **more)
        return reply.status, reply.header("Location")

    assert away("app.test", "/a%2Fb?x=1&y=%26") == (308, "https://new.test/a%2Fb?x=1&y=%26")
    assert away("app.test", "/form", method="POST", body=b"x") == (308, "https://new.test/form")
    assert away("app.test", "//evil.test/x") == (308, "https://new.test//evil.test/x")
    assert away("same.test") == (302, "https://same.test/x")
    assert away("same.test", X_Forwarded_Host="evil.test") == (302, "https://same.test/x")
    assert away("moved.test", "/y") == (301, "https://new.test/at/y")
    assert away("path.test", "/old") == (303, "/new")


@pytest.mark.parametrize(
    ("config", "asked_for", "reached"),
    [
        ({"strip_prefix": "/api/*"}, "/api/a%2Fb?x=1", "/a%2Fb?x=1"),
        ({"strip_prefix": "/api"}, "/API/x", "/x"),
        ({"strip_prefix": "/api"}, "/api", "/"),
        ({"strip_prefix": "/api"}, "/other?x", "/other?x"),
        ({"add_prefix": "/v1/*"}, "/a%2Fb%3Fc?x=%26", "/v1/a%2Fb%3Fc?x=%26"),
        ({"add_prefix": "/$1"}, "/", "/$1/"),
        ({"uri": "/index.php?q={http.request.uri.path}&{http.request.uri.query}"}, "/a?b=c", "/index.php?q=%2Fa&b=c"),
        ({"uri": "/fixed"}, "/a?b=c", "/fixed?b=c"),
        ({"regexp": "^/u/([0-9]{1,3})", "replace": "/user/$1"}, "/u/42/x?q=1", "/user/42/x?q=1"),
        ({"regexp": "^/u/(\\w+)/(\\d+)$", "replace": "/u?name=$1&n=${2}"}, "/u/bob/7", "/u?name=bob&n=7"),
        ({"regexp": "^/u/([^/]+)$", "replace": "/u?name=$1"}, "/u/a%26b%3Dc", "/u?name=a%26b%3Dc"),
        ({"regexp": "/+", "replace": "/"}, "/a//b", "/a/b"),
        ({"regexp": "x", "replace": "{y}"}, "/x", "/%7By%7D"),
    ],
)
def test_rewrites_change_what_the_upstream_sees(
    edge: EdgeUnderTest, config: dict[str, str], asked_for: str, reached: str
) -> None:
    app = edge.upstream()
    edge.route(upstreams=[app.dial], rewrite=config)
    assert edge.ask(path=asked_for).status == 200
    assert app.seen[-1].path == reached


# Pages


def test_errors_have_pages_of_their_own_with_the_right_status(edge: EdgeUnderTest) -> None:
    def answer(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        return int(seen.path[1:]), {"Content-Type": "text/plain", "WWW-Authenticate": "Bearer"}, b"upstream " * 50

    app = edge.upstream(answer=answer)
    pages = {"pages": {"5xx": "some {http.error.status_code}", 502: PAGE, "404": "<p>nothing {here}"}}
    edge.apply(
        middleware=uses(
            own=("error_pages", {**pages, "upstream": True}), late=("error_pages", {"pages": {"5xx": "late"}})
        ),
        caddy={"middleware": ["late"]},
        routes={
            "dead.test": {"upstreams": ["127.0.0.1:1"], "error_pages": pages},
            "kept.test": {"upstreams": [app.dial], "error_pages": pages},
            "app.test": {"upstreams": [app.dial], "middleware": ["own"], "max_body": 10},
            "default.test": {"upstreams": ["127.0.0.1:1"]},
            "inner.test": {
                "upstreams": ["127.0.0.1:1"],
                "error_pages": {"pages": {"502": "outer"}},
                "paths": {
                    "/a/*": {"error_pages": {"pages": {"502": "inner"}}},
                    "/b/*": {"error_pages": {"pages": {"404": "x"}}},
                },
            },
        },
    )
    dead = edge.ask("dead.test")
    assert (dead.status, dead.text, dead.header("Content-Type")) == (502, PAGE, "text/html; charset=utf-8")
    kept = edge.ask("kept.test", "/404")
    assert kept.status == 404 and kept.text.startswith("upstream"), "the upstream's own page, unless asked for"
    for status, text in ((404, "<p>nothing {here}"), (500, "some 500"), (502, PAGE)):
        reply = edge.ask(path=f"/{status}")
        assert (reply.status, reply.text) == (status, text)
        assert reply.headers["content-length"] == [str(len(text))] and reply.header("X-Upstream") is None
        assert reply.header("WWW-Authenticate") == "Bearer"
    head = edge.ask(path="/404", method="HEAD")
    assert (head.status, head.body) == (404, b"")
    other = edge.ask(path="/418")
    assert other.status == 418 and other.text.startswith("upstream")
    assert edge.ask("default.test").text == "late"
    assert [edge.ask("inner.test", path).text for path in ("/", "/a/x", "/b/x")] == ["outer", "inner", "outer"]


def test_a_route_in_maintenance_says_so_and_lets_its_keepers_in(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    own = {"retry_after": 60, "page": PAGE, "except_from": "10.0.0.0/8"}
    edge.apply(
        caddy={"trusted_proxies": "127.0.0.1"},
        middleware=uses(maintenance={}),
        routes={
            "app.test": {"upstreams": [app.dial], "maintenance": own},
            "plain.test": {"upstreams": [app.dial], "maintenance": True},
            "named.test": {"upstreams": [app.dial], "middleware": ["maintenance"]},
            "path.test": {"upstreams": [app.dial], "paths": {"/shop/*": {"maintenance": True}}},
            "alone.test": {"maintenance": True},
        },
    )
    down = edge.ask()
    assert (down.status, down.text, down.header("Retry-After")) == (503, PAGE, "60")
    assert down.header("Content-Type") == "text/html; charset=utf-8" and down.header("Cache-Control") == "no-store"
    assert edge.ask(X_Forwarded_For="10.1.1.1").status == 200
    for host in ("plain.test", "named.test", "alone.test"):
        reply = edge.ask(host)
        assert (reply.status, reply.header("Retry-After")) == (503, "300"), host
        assert "<" not in reply.text
    assert [edge.ask("path.test", path).status for path in ("/", "/shop", "/shop/x")] == [200, 503, 503]


def test_a_request_that_is_too_long_gets_413_with_and_without_its_length(edge: EdgeUnderTest) -> None:
    app, reader = edge.upstream(), Reader()
    edge.apply(
        middleware=uses(request_body={"max_size": "1KB"}),
        routes={
            "app.test": {
                "upstreams": [app.dial],
                "middleware": ["request-body"],
                "paths": {"/big/*": {"max_body": 10}},
            },
            "chunks.test": {"upstreams": [reader.dial], "max_body": 1000},
            "short.test": {"upstreams": [app.dial], "max_body": 1000, "error_pages": {"pages": {"413": "too long"}}},
        },
    )
    assert edge.ask(method="POST", body=b"x" * 1000).status == 200 and len(app.seen[-1].body) == 1000
    assert edge.ask(method="POST", body=b"x" * 1001).status == 413
    assert edge.ask(path="/big/x", method="POST", body=b"x" * 11).status == 413
    long = edge.ask("short.test", method="POST", body=b"x" * 1001)
    assert (long.status, long.text) == (413, "too long")
    for parts, status in ((1, 200), (3, 413)):
        connection = http.client.HTTPConnection("127.0.0.1", edge.caddy.https, timeout=10)
        chunks = iter([b"x" * 700] * parts)
        connection.request("POST", "/", body=chunks, headers={"Host": "chunks.test"}, encode_chunked=True)
        assert connection.getresponse().status == status
        connection.close()
    reader.close()


class Reader:
    """An upstream that answers when it has read a chunked body to its end, and not before."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.dial = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            with visitor:
                got, more = b"", visitor.recv(65536)
                while more and not (got + more).endswith(b"0\r\n\r\n"):
                    got, more = got + more, visitor.recv(65536)
                if more:
                    visitor.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


# Together


def test_the_order_is_the_same_whatever_the_pillars(edge: EdgeUnderTest) -> None:
    """A refused address sees no login, no maintenance; a preflight sees no login."""
    app = edge.upstream()
    all_of = uses(
        nobody=("ip_filter", {"allow": "192.0.2.1"}),
        login=("basic_auth", {"accounts": {"alice": BCRYPT}}),
        away=("redirect", {"to": "/elsewhere"}),
        cors={"origins": ["https://page.test"]},
        down=("maintenance", {}),
    )
    names = ["away", "login", "cors", "block-scanners", "security-headers"]
    routes = {
        "a.test": {"upstreams": [app.dial], "middleware": names},
        "b.test": {"upstreams": [app.dial], "middleware": names[::-1]},
        "c.test": {"upstreams": [app.dial], "middleware": [*names, "down"]},
        "d.test": {"upstreams": [app.dial], "middleware": ["down", *names, "nobody"]},
    }
    edge.apply(middleware=all_of, routes=routes)
    for host in ("a.test", "b.test"):
        assert edge.ask(host).status == 401, host
        assert edge.ask(host, "/.env").status == 404, host
        assert asked(edge, host, "https://page.test").status == 204, host
        assert edge.ask(host, Authorization=login("alice", "pw-alice")).status == 308, host
    assert edge.ask("c.test").status == 503 and edge.ask("d.test").status == 403
    assert not app.seen


def test_defaults_are_every_routes_but_those_that_do_without(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    edge.apply(
        caddy={"middleware": ["security-headers", "mark"]},
        middleware=uses(mark=("headers", {"set": {"X-Mark": "default"}}), own=("headers", {"set": {"X-Mark": "own"}})),
        routes={
            "app.test": {"upstreams": [app.dial]},
            "less.test": {"upstreams": [app.dial], "without": ["security-headers"]},
            "more.test": {"upstreams": [app.dial], "middleware": ["own"]},
            "none.test": {"upstreams": [app.dial], "without": ["security-headers", "mark"]},
        },
    )
    found = {
        host: [edge.ask(f"{host}.test").header(name) for name in ("X-Frame-Options", "X-Mark")]
        for host in ("app", "less", "more", "none")
    }
    assert found == {
        "app": ["DENY", "default"],
        "less": [None, "default"],
        "more": ["DENY", "own"],
        "none": [None, None],
    }


def test_nothing_of_caddys_environment_or_files_comes_out_of_a_pillars_text(
    edge: EdgeUnderTest, tmp_path: Path
) -> None:
    """The model refuses such placeholders; what it takes for text is no placeholder for Caddy either."""
    app = edge.upstream()
    sly = "{ {x}} {HOME} \\{x\\} {}"
    edge.apply(
        routes={
            "app.test": {
                "upstreams": [app.dial],
                "headers": {"request": {"X-Sly": sly}, "response": {"X-Sly": sly}},
                "paths": {"/down": {"maintenance": {"page": sly}}, "/p/*": {"headers": {"request": {"X-Sly": sly}}}},
            }
        }
    )
    assert edge.ask().header("X-Sly") == sly and app.seen[-1].headers["x-sly"] == [sly]
    assert edge.ask(path="/down").text == sly
    assert edge.ask(path="/p/x").status == 200 and app.seen[-1].headers["x-sly"] == [sly]
