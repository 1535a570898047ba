"""Forward auth against a provider that answers as told: who gets in, and what the upstream learns of them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import free_port
from hecate import model
from hecate.errors import ApplyFailed

from contract.conftest import World
from contract.edge import EdgeUnderTest, Reply, Seen, Upstream

ITSELF = {"X-Authentik-Meta-Provider": "hecate/production/app.test"}
ALICE = {"X-Authentik-Username": "alice", "X-Authentik-Groups": "staff|ops", **ITSELF}
SPOOFED = {
    "X_Authentik_Username": "root",
    "x-authentik-groups": "admins",
    "X-AUTHENTIK-Anything": "x",
    "Remote-User": "root",
    "REMOTE-GROUPS": "admins",
    "X-Auth-Request-User": "root",
    "X-Auth-Request-Email": "root@test",
}
IDENTITY = ("x-authentik-", "remote-", "x-auth-request-")
OAUTH2_PROXY = {
    "uri": "/oauth2/auth",
    "passage": "/oauth2/*",
    "user_header": "X-Auth-Request-User",
    "headers": ["X-Auth-Request-Email"],
    "cookies": ["_oauth2_proxy"],
    "sign_in": "https://{http.request.host}/oauth2/sign_in?rd={http.request.uri}",
    "timeout": "300ms",
}
AUTHELIA = {
    "uri": "/api/authz/forward-auth",
    "headers": ["Remote-Groups"],
    "cookies": "authelia_session",
    "timeout": "300ms",
}


def members_only(identity: dict[str, str], status: int, **refusal: str) -> Any:
    """A provider that knows whoever comes with the cookie `session=good`; its own pages say so."""

    def answer(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if seen.path.startswith(("/outpost.goauthentik.io/start", "/oauth2/sign_in")):
            return 200, {"Set-Cookie": "session=good"}, b"sign in here"
        if "session=good" in "".join(seen.headers.get("cookie", [])):
            return 200, identity, b""
        return status, refusal, b"who are you?"

    return answer


@pytest.fixture
def outpost(edge: EdgeUnderTest) -> Upstream:
    return edge.upstream("outpost", members_only(ALICE, 302, Location="https://app.test/outpost.goauthentik.io/start"))


@pytest.fixture
def app(edge: EdgeUnderTest) -> Upstream:
    return edge.upstream("app")


def apply(edge: EdgeUnderTest, routes: dict[str, Any], guards: tuple[str, ...] = ("app.test",), **more: Any) -> None:
    """Routes beside a policy of each provider. more: addresses of outpost and providers, and further sections."""
    gone = f"127.0.0.1:{free_port()}"
    edge.apply(
        guards=guards,
        routes=routes,
        authentik={"url": "https://auth.test", "token": "env:NOT_USED", "outpost": more.pop("outpost", gone)},
        forward_auth={
            "proxy": {**OAUTH2_PROXY, "address": more.pop("proxy", gone)},
            "authelia": {**AUTHELIA, "address": more.pop("authelia", gone)},
        },
        auth_policies={
            "staff": {"groups": ["staff"]},
            "open": {"provider": "none"},
            "proxy": {"provider": "proxy"},
            "authelia": {"provider": "authelia"},
        },
        **more,
    )


def identity_in(answer: Reply) -> dict[str, list[str]]:
    """What the upstream was told about who is asking."""
    return {name: value for name, value in answer.json["headers"].items() if name.startswith(IDENTITY)}


GOOD = {"Cookie": "session=good"}


def test_nothing_that_a_client_says_of_itself_reaches_any_upstream(
    edge: EdgeUnderTest, app: Upstream, outpost: Upstream
) -> None:
    behind = {"upstreams": [app.dial]}
    apply(
        edge,
        {
            "bare.test": behind,
            "open.test": {**behind, "auth_policy": "open"},
            "app.test": {
                **behind,
                "auth_policy": "staff",
                "public_paths": ["/public/*"],
                "paths": {"/rule/*": {**behind, "public": True, "strip": True}},
            },
            "paths.test": {"paths": {"/x/*": {**behind, "rewrite": {"uri": "/y"}}}},
            "*.wild.test": behind,
        },
        outpost=outpost.dial,
    )
    places = [
        ("bare.test", "/"),
        ("open.test", "/"),
        ("app.test", "/public/x"),
        ("app.test", "/rule/x"),
        ("paths.test", "/x/y"),
        ("a.wild.test", "/"),
    ]
    for host, path in places:
        answer = edge.ask(host, path, **SPOOFED)
        assert (answer.status, identity_in(answer)) == (200, {}), (host, path)
    known = edge.ask("app.test", "/", **SPOOFED, **GOOD)
    assert identity_in(known) == {name.lower(): [value] for name, value in ALICE.items()}


def test_only_a_name_opens_the_door(edge: EdgeUnderTest, app: Upstream, outpost: Upstream) -> None:
    """Whatever else the provider says is shown as it is, or refused."""
    apply(edge, {"app.test": {"upstreams": [app.dial], "auth_policy": "staff"}}, outpost=outpost.dial)
    said: list[tuple[int, dict[str, str], int]] = [
        (200, {}, 403),
        (200, {"X-Authentik-Username": ""}, 403),
        (202, {"X-Authentik-Groups": "staff"}, 403),
        (200, {"X-Authentik-Username": "alice"}, 403),
        (200, ITSELF, 403),
        (200, {"X-Authentik-Username": "alice", **ITSELF}, 200),
        (302, {"Location": "/login"}, 302),
        (401, {}, 401),
        (403, {"X-Authentik-Username": "alice"}, 403),
        (404, {}, 404),
        (500, {"X-Authentik-Username": "alice"}, 500),
    ]
    for status, headers, wanted in said:
        outpost.answer = lambda _, status=status, headers=headers: (status, headers, b"")
        before = len(app.seen)
        answer = edge.ask(X_Authentik_Username="root")
        assert answer.status == wanted, (status, headers)
        assert len(app.seen) - before == (wanted == 200), (status, headers)


def test_a_provider_that_is_dead_or_silent_lets_nobody_in(edge: EdgeUnderTest, app: Upstream) -> None:
    with silent() as address:
        apply(
            edge,
            {
                "app.test": {"upstreams": [app.dial], "auth_policy": "staff"},
                "hanging.test": {"upstreams": [app.dial], "auth_policy": "proxy"},
                "dead.test": {"upstreams": [app.dial], "auth_policy": "authelia"},
            },
            proxy=address,
        )
        found = [edge.ask(host, **GOOD, **SPOOFED).status for host in ("app.test", "hanging.test", "dead.test")]
    assert (found, app.seen) == ([502, 504, 502], [])


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for connection in held:
            connection.close()
        server.shutdown(socket.SHUT_RDWR)


def test_public_paths_are_public_and_nothing_else_is(edge: EdgeUnderTest, app: Upstream, outpost: Upstream) -> None:
    apply(
        edge,
        {
            "app.test": {
                "upstreams": [app.dial],
                "auth_policy": "staff",
                "public_paths": ["/public/*", "/health"],
                "paths": {
                    "/public/private/*": {},
                    "/assets/*": {"public": True, "strip": True},
                    "/assets/secret": {},
                    "GET /hook": {"public": True},
                },
            }
        },
        outpost=outpost.dial,
    )
    public = ["/public", "/public/x", "/PUBLIC/x?a=/../b", "/health", "/assets/x", "/hook"]
    private = [
        "/", "/publicity", "/health/x", "/public/private", "/public/private/x", "/public/PRIVATE/x",
        "/public//private/x",
        "/assets/secret", "/public/..%2fsecret", "/public/%2e%2e/secret", "/public/../secret", "/public/..;/secret",
        "/public/./../secret", "/public/%2e%2e%2fsecret", "/public/..%5csecret", "/public/%252e%252e/secret",
        "/secret/..%2fpublic/x", "/secret/%2e%2e/public/x", "/secret/../public/x", "//public/x", "/public%2fx",
        "/health/../secret", "/assets/%73ecret",
    ]  # fmt: skip
    assert {path: edge.ask(path=path).status for path in public} == dict.fromkeys(public, 200)
    before = len(app.seen)
    assert {path: edge.ask(path=path).status for path in private} == dict.fromkeys(private, 302)
    assert edge.ask(path="/hook", method="POST").status == 302
    assert len(app.seen) == before
    assert edge.ask(path="/public/private/x", **GOOD).status == 200


def test_the_providers_own_pages_come_before_any_check(edge: EdgeUnderTest, app: Upstream, outpost: Upstream) -> None:
    apply(
        edge,
        {
            "app.test": {"upstreams": [app.dial], "auth_policy": "staff"},
            "bare.test": {"upstreams": [app.dial]},
        },
        outpost=outpost.dial,
    )
    start = edge.ask(path="/outpost.goauthentik.io/start?rd=x", **SPOOFED)
    assert (start.text, start.header("Set-Cookie")) == ("sign in here", "session=good")
    assert not [name for name in outpost.seen[-1].headers if name.startswith(IDENTITY)]
    assert outpost.seen[-1].headers["x-forwarded-host"] == ["app.test"]
    assert edge.ask("bare.test", "/outpost.goauthentik.io/start").header("X-Upstream") == "app"


def test_the_provider_is_asked_with_the_whole_request_but_its_body(
    edge: EdgeUnderTest, app: Upstream, outpost: Upstream
) -> None:
    apply(edge, {"app.test": {"upstreams": [app.dial], "auth_policy": "staff"}}, outpost=outpost.dial)
    answer = edge.ask(path="/a%20b/c?d=e", method="POST", body=b"payload", **GOOD, X_Forwarded_Uri="/public")
    asked, served = outpost.seen[-1], app.seen[-1]
    assert (asked.method, asked.path) == ("GET", "/outpost.goauthentik.io/auth/caddy")
    assert asked.headers["x-forwarded-method"] == ["POST"]
    assert asked.headers["x-forwarded-uri"] == ["/a%20b/c?d=e"]
    assert asked.headers["x-forwarded-host"] == ["app.test"]
    assert (answer.status, served.method, served.path, served.body) == (200, "POST", "/a%20b/c?d=e", b"payload")


def test_a_websocket_is_asked_for_its_cookie_too(edge: EdgeUnderTest, app: Upstream, outpost: Upstream) -> None:
    apply(edge, {"app.test": {"upstreams": [app.dial], "auth_policy": "staff"}}, outpost=outpost.dial)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x" * 22 + "==", **SPOOFED}
    assert edge.ask(path="/ws", **upgrade).status == 302
    assert app.seen == []
    edge.ask(path="/ws", **upgrade, **GOOD)
    assert app.seen[-1].headers["upgrade"] == ["websocket"]
    assert app.seen[-1].headers["x-authentik-username"] == ["alice"]


@pytest.mark.parametrize(
    ("policy", "guards"), [("staff", ()), ("staff", ("other.test",))], ids=["nobody's", "another's"]
)
def test_what_cannot_be_protected_is_closed_on_every_path(
    edge: EdgeUnderTest, app: Upstream, outpost: Upstream, policy: str, guards: tuple[str, ...]
) -> None:
    route = {
        "upstreams": [app.dial],
        "auth_policy": policy,
        "public_paths": ["/public/*"],
        "paths": {"/rule": {"public": True}, "/away": {"redirect": "/x"}},
    }
    apply(edge, {"app.test": route}, guards, outpost=outpost.dial)
    paths = ["/", "/public/x", "/rule", "/away", "/outpost.goauthentik.io/start"]
    assert {path: edge.ask(path=path, **GOOD).status for path in paths} == dict.fromkeys(paths, 503)
    assert (edge.ask().header("Retry-After"), app.seen, outpost.seen) == ("30", [], [])


@pytest.mark.parametrize(
    "provider", ["", "hecate/production/other.test", "hecate/staging/app.test", "hecate/production/*.test"]
)
def test_an_answer_about_another_application_lets_nobody_in(
    edge: EdgeUnderTest, app: Upstream, outpost: Upstream, provider: str
) -> None:
    """As when an application went missing at the outpost and one for the whole domain is asked in its place."""
    apply(edge, {"app.test": {"upstreams": [app.dial], "auth_policy": "staff"}}, outpost=outpost.dial)
    assert edge.ask(**GOOD).status == 200
    outpost.answer = lambda _: (200, {**ALICE, "X-Authentik-Meta-Provider": provider}, b"")
    assert (edge.ask(**GOOD).status, len(app.seen)) == (403, 1)


def test_a_provider_that_says_401_is_left_for_its_sign_in(edge: EdgeUnderTest, app: Upstream) -> None:
    """As oauth2-proxy does."""
    person = {"X-Auth-Request-User": "bob", "X-Auth-Request-Email": "bob@test", "X-Auth-Request-Groups": "not listed"}
    provider = edge.upstream("proxy", members_only(person, 401))
    apply(edge, {"app.test": {"upstreams": [app.dial], "auth_policy": "proxy"}}, proxy=provider.dial)
    away = edge.ask(path="/x?y=1", **SPOOFED)
    assert (away.status, away.header("Location")) == (302, "https://app.test/oauth2/sign_in?rd=/x?y=1")
    assert edge.ask(path="/oauth2/sign_in").text == "sign in here"
    known = edge.ask(**GOOD, **SPOOFED)
    assert identity_in(known) == {"x-auth-request-user": ["bob"], "x-auth-request-email": ["bob@test"]}
    provider.answer = lambda _: (202, {"X-Auth-Request-Email": "bob@test"}, b"")
    assert edge.ask().status == 403


def test_a_provider_that_sends_away_by_itself_is_believed(edge: EdgeUnderTest, app: Upstream) -> None:
    """As Authelia does."""
    person = {"Remote-User": "carol", "Remote-Groups": "dev"}
    provider = edge.upstream("authelia", members_only(person, 302, Location="https://auth.test/?rd=x"))
    apply(edge, {"app.test": {"upstreams": [app.dial], "auth_policy": "authelia"}}, authelia=provider.dial)
    away = edge.ask()
    assert (away.status, away.header("Location"), away.text) == (302, "https://auth.test/?rd=x", "who are you?")
    assert identity_in(edge.ask(**GOOD, **SPOOFED)) == {"remote-user": ["carol"], "remote-groups": ["dev"]}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a=1; authentik_proxy_0123=secret; b=2", "a=1; b=2"),
        ("authentik_proxy_0123=secret; a=1", "a=1"),
        ("a=1; authentik_proxy_0123=secret", "a=1"),
        ("a=1;authentik_proxy_x=s;  authentik_proxy_y=s==; b=x=y", "a=1; b=x=y"),
        ("my_authentik_proxy_0=mine; a=authentik_proxy_0=1", "my_authentik_proxy_0=mine; a=authentik_proxy_0=1"),
        ('a="1,2"; authentik_proxy_0="x y"; b=%20', 'a="1,2"; b=%20'),
        ("authentik_proxy_0123=secret", ""),
    ],
)
def test_the_gates_cookie_stays_at_the_gate(
    edge: EdgeUnderTest, app: Upstream, outpost: Upstream, sent: str, kept: str
) -> None:
    outpost.answer = lambda _: (200, ALICE, b"")
    apply(
        edge,
        {"app.test": {"upstreams": [app.dial], "auth_policy": "staff", "public_paths": "/public"}},
        outpost=outpost.dial,
    )
    for path in ("/", "/public"):
        got = edge.ask(path=path, Cookie=sent).json["headers"].get("cookie", [""])
        assert "; ".join(part.strip() for part in got[0].split(";")) == kept
    assert outpost.seen[0].headers["cookie"] == [sent]


def test_a_wildcard_may_stand_behind_a_provider_that_asks_for_every_host(edge: EdgeUnderTest, app: Upstream) -> None:
    provider = edge.upstream("authelia", members_only({"Remote-User": "carol"}, 302, Location="https://auth.test"))
    apply(edge, {"*.app.test": {"upstreams": [app.dial], "auth_policy": "authelia"}}, (), authelia=provider.dial)
    assert [edge.ask("a.app.test").status, edge.ask("a.app.test", **GOOD).status] == [302, 200]
    wild = {"*.app.test": {"upstreams": [app.dial], "auth_policy": "staff"}}
    whole = {"routes": wild, "auth_policies": {"staff": {}}, "authentik": {"url": "https://a.test", "token": "env:T"}}
    told = model.problems_in(edge.pillar(**whole))
    assert [p.path for p in told] == ["hecate:routes:*.app.test:auth_policy"] and "host by host" in told[0].why


def test_a_policy_may_have_a_sign_in_flow_of_its_own(authentik_world: World) -> None:
    target = authentik_world.target(authentik_world.second)
    target.engine.apply(target.wish, "t1")
    state = authentik_world.everything()
    slugs = {flow["pk"]: flow["slug"] for flow in state["flows"]}
    chosen = {row["name"].rpartition("/")[2]: slugs.get(row["authentication_flow"]) for row in state["providers"]}
    assert chosen["a.estate.test"] == "default-authentication-flow" and chosen["c.estate.test"] is None
    unknown = {**authentik_world.base["auth_policies"], "q": {"flow": "nobody-made-it"}}
    wrong = authentik_world.target({**authentik_world.second, "auth_policies": unknown})
    with pytest.raises(ApplyFailed, match="no flow nobody-made-it"):
        wrong.engine.apply(wrong.wish, "t2")
