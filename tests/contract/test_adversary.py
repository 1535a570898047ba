"""What somebody tries who wants in: each attempt is made over TLS on a real Caddy, octet by octet where that matters.

Beside test_caddy_auth.py (providers that answer as told), test_caddy_matching.py (hosts) and test_forward_auth.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from conftest import RealCaddy

from contract.gate import ADMIN, APP, AUTH, OPEN, OTHER, PROXIED, SIGN_OUT, WIKI, Gate, Person, Recorder, opened
from lab.emulators.outpost import PREFIX

IDENTITY = re.compile(rb"(?im)^(?:x.authentik.|x.auth.request.)[^:]*: *(.*?)\r?$")
NEXT = f"GET /public/next HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n"
SPELLINGS = [
    "X-Authentik-Username", "x-authentik-username", "X_Authentik_Username", "X-Authentik_Username",
    "x_authentik-groups", "X_AUTHENTIK_JWT", "X-Authentik-Unheard-Of", "X_Auth_Request_User", "X-Auth_Request-User",
    "x-auth-request_email", "X_AUTH-REQUEST-USER",
]  # fmt: skip


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def opened_gate(
    caddy_process: RealCaddy, recorder: Recorder, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    with opened(caddy_process, tmp_path_factory.mktemp("gate"), recorder.dial) as made:
        yield made


@pytest.fixture
def gate(opened_gate: Gate, recorder: Recorder) -> Gate:
    recorder.settle()
    recorder.seen.clear()
    opened_gate.authentik.cve_2026_25748 = False
    return opened_gate


def logged_in(gate: Gate, name: str, host: str = APP) -> Person:
    person = Person(gate)
    url, answer = person.log_in(name, f"https://{host}/")
    assert (url, answer.status) == (f"https://{host}/", 200)
    return person


@pytest.fixture(scope="module")
def session(opened_gate: Gate) -> Person:
    return logged_in(opened_gate, "alice")


@pytest.fixture
def alice(session: Person, gate: Gate) -> Person:
    """A member who is logged in at the application."""
    return session


def request(host: str, path: str = "/", *lines: str, method: str = "GET") -> str:
    """A request that ends its connection."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "Connection: close", "", ""])


def cookie_of(person: Person, host: str = APP) -> str:
    return "Cookie: {}={}".format(*person.cookie(host))


def claims(recorder: Recorder) -> list[list[bytes]]:
    """For each request that arrived: what it says of who is asking, however the header is spelled."""
    return [IDENTITY.findall(data) for data in recorder.seen]


def names(recorder: Recorder) -> set[str]:
    """Of all that arrived: the names of headers that say who is asking."""
    found = [line for data in recorder.seen for line in data.split(b"\r\n") if IDENTITY.match(line)]
    return {line.split(b":")[0].decode().lower() for line in found}


@pytest.mark.parametrize(("host", "path"), [(OPEN, "/"), (APP, "/public/x")])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_identity_header_reaches_a_public_upstream(
    gate: Gate, recorder: Recorder, host: str, path: str, spelling: str
) -> None:
    """Many servers (CGI, WSGI, PHP, Rack) can't tell _ from - in a header's name."""
    twice = (f"{spelling}: admin", f"{spelling}: root", f"{spelling.swapcase()}: admin")
    assert gate.say(request(host, path, *twice)) == [200]
    assert claims(recorder) == [[]]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_of_an_identity_header_lets_in_or_adds_to_who_one_is(
    gate: Gate, alice: Person, recorder: Recorder, spelling: str
) -> None:
    spoofed = (f"{spelling}: admin", f"{spelling}: root")
    assert gate.say(request(APP, "/", *spoofed)) == [302]
    assert gate.say(request(PROXIED, "/", *spoofed), PROXIED) == [401]
    assert recorder.seen == []
    assert gate.say(request(APP, "/", *spoofed, cookie_of(alice))) == [200]
    assert gate.say(request(PROXIED, "/", *spoofed, "Cookie: proxy=good"), PROXIED) == [200]
    mine, carols = claims(recorder)
    assert b"alice" in mine and carols == [b"carol"]
    assert not {b"admin", b"root"} & {*mine, *carols}
    assert not [name for name in names(recorder) if "_" in name]


@pytest.mark.parametrize(
    "listed",
    ["X-Authentik-Username", "x-authentik-groups, close", "close, X-Authentik-Username", "X-AUTHENTIK-USERNAME,,"],
)
def test_nobody_can_have_their_own_name_taken_off_on_the_way(
    gate: Gate, alice: Person, recorder: Recorder, listed: str
) -> None:
    """What `Connection` lists is for one hop alone, and a proxy removes it: the identity must not be among that."""
    text = f"GET / HTTP/1.1\r\nHost: {APP}\r\n{cookie_of(alice)}\r\nConnection: {listed}\r\n\r\n"
    assert gate.say(text + NEXT)[0] == 200
    assert {"x-authentik-username", "x-authentik-groups"} <= names(recorder)
    assert gate.say(f"GET / HTTP/1.1\r\nHost: {PROXIED}\r\nCookie: proxy=good\r\n"
                    f"Connection: close, X-Auth-Request-User\r\n\r\n", PROXIED) == [200]  # fmt: skip
    assert IDENTITY.findall(recorder.seen[-1]) == [b"carol"]


def test_connection_takes_nothing_from_what_the_gate_asks(gate: Gate, alice: Person, recorder: Recorder) -> None:
    """Host, method and path of the question are what is decided about; without its cookie nobody is anybody."""
    for listed in ("X-Forwarded-Host", "X-Forwarded-Uri, X-Forwarded-Method, X-Forwarded-Proto", "Cookie", "Host"):
        text = f"GET /secret HTTP/1.1\r\nHost: {APP}\r\nConnection: close, {listed}\r\n\r\n"
        assert gate.say(text) == [302], listed
    assert recorder.seen == []
    listed = f"GET / HTTP/1.1\r\nHost: {APP}\r\n{cookie_of(alice)}\r\nConnection: close, Cookie\r\n\r\n"
    assert gate.say(listed) == [302] and recorder.seen == []


@pytest.mark.parametrize("trailer", ["X-Authentik-Username", "X_Authentik_Username", "X-Auth-Request-User"])
def test_trailers_name_nobody(gate: Gate, alice: Person, recorder: Recorder, trailer: str) -> None:
    """Headers after the body, which a server may put among those before it."""
    chunked = "Transfer-Encoding: chunked", f"Trailer: {trailer}"
    body = f"5\r\nhello\r\n0\r\n{trailer}: admin\r\n\r\n"
    for host, lines in ((OPEN, chunked), (APP, (*chunked, cookie_of(alice)))):
        assert gate.say(request(host, "/", *lines, method="POST") + body) == [200]
    assert gate.say(request(APP, "/", *chunked, method="POST") + body) == [302]
    first, second = claims(recorder)
    assert first == [] and b"admin" not in second


@pytest.mark.parametrize("value", ["%%%", "", "x", "../../x", "a" * 4000, "\x7f", '"', "\xff\xfe", "{}", "null"])
def test_a_malformed_cookie_lets_nobody_in_even_where_the_outpost_has_the_hole(
    gate: Gate, alice: Person, recorder: Recorder, value: str
) -> None:
    """CVE-2026-25748: 200 without a name."""
    name, _ = alice.cookie()
    for hole in (False, True):
        gate.authentik.cve_2026_25748 = hole
        (status,) = gate.say(request(APP, "/", f"Cookie: {name}={value}", "X-Authentik-Username: admin"))
        assert status in (302, 400, 403), (hole, status)
    assert recorder.seen == []


@pytest.mark.parametrize(
    "host",
    [APP.upper(), f"{APP}.", f"{APP}:443", f"{APP}.:443", f"{APP}:80", "ApP.EsTaTe.TeSt.", f"{APP}:", f"{APP}..",
     f"{APP}:443:443", f"[{APP}]", f"x@{APP}", f"{APP}@{OPEN}", f"{OPEN},{APP}", f"{APP} ", f"{APP}%2e", f"{APP}/x",
     f"{APP}\t{OPEN}", f"{APP}\x00", f"{APP}#{OPEN}", f"{APP}?{OPEN}", ""],
)  # fmt: skip
def test_however_the_host_is_spelled_the_guard_is_there(gate: Gate, recorder: Recorder, host: str) -> None:
    statuses = gate.say(request(host, "/secret"))
    assert statuses and set(statuses) <= {302, 400, 404}, statuses
    assert recorder.seen == []


@pytest.mark.parametrize("host", [APP.upper(), f"{APP}.", f"{APP}:443", f"{APP}.:443"])
def test_a_member_gets_in_by_every_spelling_of_the_host(gate: Gate, alice: Person, host: str) -> None:
    assert gate.say(request(host, "/secret", cookie_of(alice))) == [200]


def test_a_connection_opened_for_one_host_is_no_way_to_another(gate: Gate, alice: Person, recorder: Recorder) -> None:
    assert set(gate.say(request(APP, "/secret"), sni=OPEN)) <= {302, 421}
    assert recorder.seen == []
    both = f"GET /public/x HTTP/1.1\r\nHost: {APP}\r\n{cookie_of(alice)}\r\n\r\n{request(APP, '/secret')}"
    assert gate.say(both) == [200, 302]
    both = f"GET / HTTP/1.1\r\nHost: {APP}\r\n{cookie_of(alice)}\r\n\r\n{request(OTHER, '/secret')}"
    assert gate.say(both)[0] == 200 and set(gate.say(both)[1:]) <= {302, 421}
    assert "/secret" not in recorder.paths()


@pytest.mark.parametrize(
    "path",
    ["/%70ublic/../admin", "/%70ublic/..%2fadmin", "/public/..%2Fadmin", "/public/%2E%2E/admin", "/public/.%2e/admin",
     "/public/..;x=1/admin", "/public;/../admin", "/public/;/../admin", "/public/x/../../admin", "/public/%00/../admin",
     "/public/..%00/admin", "/public%00/x", "/public/..%255cadmin", "/public/%252e%252e%252fadmin",
     "/public/%25252e%25252e/admin", "/public/..\\admin", "/public\\..\\admin", "/public/%5c../admin", "//admin",
     "/public//../admin", "/public/../../admin", "/public/..", "/public/%2e%2e", "/./admin", "/public/.%2e%2fadmin",
     "/public%2f..%2fadmin", "/public%3b/../admin", "/x/../public/../admin", "/public/%c0%ae%c0%ae/admin",
     "/public/%c0%ae%c0%ae%c0%afadmin", "/public/%u002e%u002e/admin", "/public/..?/admin", "/public/..#/admin",
     "/public/..%20/admin", "/public/.%00./admin", "/public/%e0%80%ae%e0%80%ae/admin",
     "/public/%f0%80%80%ae./admin",
     "/admin?/public/x", "/admin#/public/x", "/admin;/public/x", "/admin%3f/public/x", "/admin%23/public/x", "*"],
)  # fmt: skip
def test_no_spelling_of_a_path_makes_a_private_one_public(gate: Gate, recorder: Recorder, path: str) -> None:
    """An upstream may read any of these as /admin: so none may pass without a login."""
    (status,) = gate.say(request(APP, path, "X-Forwarded-Uri: /public/x", "X-Original-URL: /public/x"))
    assert (status in (302, 400), recorder.paths()) == (True, []), status


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "HEAD", "PRI", "get", "PROPFIND"])
def test_no_method_is_a_way_round_the_guard(gate: Gate, recorder: Recorder, method: str) -> None:
    override = "X-HTTP-Method-Override: GET", "X-Forwarded-Method: OPTIONS"
    assert set(gate.say(request(APP, "/secret", *override, method=method))) <= {302, 400, 405, 501}
    assert set(gate.say(f"CONNECT {APP}:443 HTTP/1.1\r\nHost: {APP}:443\r\nConnection: close\r\n\r\n")) <= {
        302,
        400,
        405,
    }
    assert recorder.seen == []


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "Forwarded", "X-Original-Host", "X-Host", "X_Forwarded_Host"])
def test_the_outposts_own_path_answers_for_the_host_that_was_asked(
    gate: Gate, alice: Person, recorder: Recorder, header: str
) -> None:
    """Asked directly, with another host's name in a header: it must not speak for that one."""
    other = f"host={OTHER}" if header == "Forwarded" else OTHER
    path = f"{PREFIX}/auth/caddy"
    assert gate.say(request(APP, path, f"{header}: {other}", "X-Authentik-Username: admin")) == [302]
    assert gate.say(request(APP, path, f"{header}: {other}", cookie_of(alice))) == [200]
    asked = gate.ask(APP, path, Cookie=cookie_of(alice).removeprefix("Cookie: "), **{header: other})
    assert asked.header("X-Authentik-Meta-App") != gate.ask(OTHER, path).header("X-Authentik-Meta-App")
    assert APP.split(".")[0] in (asked.header("X-Authentik-Meta-App") or "")
    assert gate.say(request(OTHER, "/", f"{header}: {APP}", cookie_of(alice)), OTHER) == [302]
    assert recorder.seen == []


@pytest.mark.parametrize(
    "path",
    [f"{PREFIX}/../api/v3/core/users/", f"{PREFIX}/..%2fapi/v3/core/users/", f"{PREFIX}/%2e%2e/api/v3/core/users/",
     f"{PREFIX}//../api/v3/core/users/", f"{PREFIX}/..;/api/v3/core/users/", f"{PREFIX}/..%5c..%5capi/v3/",
     f"/x/..{PREFIX}/../api/v3/core/users/", f"{PREFIX}/%252e%252e/api/v3/core/users/", f"/{PREFIX}/../_lab/state",
     f"{PREFIX}/x/../../_lab/state", f"{PREFIX}%2f..%2f_lab/state", f"{PREFIX}/..%2f_lab/state"],
)  # fmt: skip
def test_the_outposts_path_is_no_way_to_the_rest_of_authentik_or_past_the_guard(
    gate: Gate, recorder: Recorder, path: str
) -> None:
    """One server holds both: what goes through must be below the outpost's own path, however it is read."""
    before = len(gate.authentik.calls)
    (status,) = gate.say(request(APP, path))
    assert status in (302, 400, 404), status
    asked = [call["path"] for call in gate.authentik.calls[before:]]
    assert [path for path in asked if not path.startswith(PREFIX + "/")] == []
    assert recorder.seen == []


def test_a_cookie_is_worth_nothing_once_its_owner_has_logged_out(gate: Gate, recorder: Recorder) -> None:
    bob = logged_in(gate, "bob")
    kept = cookie_of(bob)
    assert gate.say(request(APP, "/", kept)) == [200]
    url, answer = bob.walk(f"https://{APP}{SIGN_OUT}")
    assert (urlsplit(url).netloc, answer.status) == (AUTH, 200)
    recorder.seen.clear()
    for path in ("/", "/secret", f"{PREFIX}/auth/caddy"):
        assert gate.say(request(APP, path, kept, "X-Authentik-Username: bob")) == [302], path
    assert recorder.seen == []
    assert urlsplit(bob.walk(f"https://{APP}/")[0]).path.startswith("/if/flow/")


def test_a_cookie_of_one_host_is_worth_nothing_at_another(gate: Gate, alice: Person, recorder: Recorder) -> None:
    """Neither as it is nor under the name that the other host's cookie has."""
    theirs, _ = logged_in(gate, "bob", OTHER).cookie(OTHER)
    mine, value = alice.cookie()
    assert theirs != mine
    recorder.seen.clear()
    for name in (mine, theirs):
        assert gate.say(request(OTHER, "/", f"Cookie: {name}={value}"), OTHER) == [302]
    assert gate.say(request(OTHER, "/", f"Cookie: {theirs}={value}; {mine}={value}"), OTHER) == [302]
    assert gate.say(request(PROXIED, "/", f"Cookie: {mine}={value}"), PROXIED) == [401]
    assert recorder.seen == []


def test_what_began_in_one_browser_cannot_be_ended_in_another(gate: Gate) -> None:
    """A link with somebody else's code and state in it would log its victim in as somebody else."""
    attacker, victim = logged_in(gate, "bob"), Person(gate)
    start = attacker.get(f"https://{OTHER}/").header("Location") or ""
    to_authentik = attacker.get(start).header("Location") or ""
    back = attacker.get(to_authentik).header("Location") or ""
    assert urlsplit(back).path == f"{PREFIX}/callback"
    assert victim.get(back).status == 400 and victim.cookies[OTHER] == {}


@pytest.mark.parametrize(
    "target",
    ["https://evil.test/", "//evil.test/", "https:evil.test", "/\\evil.test", f"https://{APP}@evil.test/",
     f"https://{APP}.evil.test/", f"https://evil.test/{APP}", "javascript:alert(1)", f"https://{APP}:x@evil.test/",
     f"https://evil.test#{APP}", f"https://evil.test\\.{APP}/", "https:///evil.test", f"https://{OTHER}/", "\thttps://evil.test",
     f"https://{APP}%2eevil.test/"],
)  # fmt: skip
def test_after_a_login_nobody_is_sent_elsewhere(gate: Gate, target: str) -> None:
    person = Person(gate)
    url, answer = person.log_in("alice", f"https://{APP}{PREFIX}/start?rd={quote(target, safe='')}")
    assert (urlsplit(url).netloc, answer.status) == (APP, 200), url


@pytest.mark.parametrize("path", ["//evil.test/x", "/\\evil.test", "/x?rd=https://evil.test/", "/@evil.test"])
def test_the_way_to_the_login_comes_back_to_the_host_that_was_asked(gate: Gate, path: str) -> None:
    forged = {"X_Forwarded_Host": "evil.test", "X_Forwarded_Uri": "//evil.test/", "X_Forwarded_Proto": "javascript"}
    away = gate.ask(APP, path, **forged)
    parts = urlsplit(away.header("Location") or "")
    assert (away.status, parts.scheme, parts.netloc) == (302, "https", APP)
    (back,) = parse_qs(parts.query)["rd"]
    assert back.startswith(f"https://{APP}/"), back


def test_a_target_in_absolute_form_counts_as_the_host_that_is_asked(
    gate: Gate, alice: Person, recorder: Recorder
) -> None:
    """It overrides the Host header (RFC 9112, 3.2.2), for the guard as for the upstream."""
    for target in (f"https://{APP}/secret", f"http://{APP}/secret", f"HTTPS://{APP.upper()}/secret"):
        assert gate.say(request(OPEN, target)) == [302], target
        assert gate.say(request(OTHER, target, cookie_of(alice))) == [200], target
    assert [b"\r\nHost: %s\r\n" % APP.encode() in data for data in recorder.seen] == [True] * 3
    assert gate.say(request(APP, f"https://{OTHER}/secret", cookie_of(alice))) == [302]
    assert len(recorder.seen) == 3


@pytest.mark.parametrize(
    "text",
    [
        "GET /secret HTTP/1.0\r\n\r\n",
        "GET /secret HTTP/1.1\r\n\r\n",
        "GET /secret\r\n\r\n",
        f"GET /secret HTTP/1.0\r\nHost: {APP}\r\n\r\n",
        f"GET /secret HTTP/1.1\r\nHost: {OPEN}\r\nHost: {APP}\r\n\r\n",
        f"GET /secret HTTP/1.1\r\nHost: {APP}\r\nHost: {OPEN}\r\n\r\n",
        f"GET /secret HTTP/1.1\r\nHost: {OPEN}\r\n Host: {APP}\r\n\r\n",
        f"GET /secret HTTP/1.1\r\nHost : {OPEN}\r\nHost: {APP}\r\n\r\n",
        f"GET /secret HTTP/2.0\r\nHost: {APP}\r\n\r\n",
        f"GET /secret HTTP/1.1 \r\nHost: {APP}\r\n\r\n",
        f"GET  /secret HTTP/1.1\r\nHost: {APP}\r\n\r\n",
        f"GET /secret HTTP/1.1\nHost: {APP}\n\n",
        f"GET /secret HTTP/1.1\r\nHost: {APP}\r\nX: a\rX-Authentik-Username: root\r\n\r\n",
        f"GET /secret HTTP/1.1\r\nHost: {APP}\r\nX-Authentik-Username\x00: root\r\n\r\n",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_opens_nothing(gate: Gate, recorder: Recorder, text: str) -> None:
    statuses = gate.say(text + NEXT)
    assert set(statuses[:1]) <= {302, 400, 404, 505} and statuses
    assert "/secret" not in recorder.paths()


SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: {APP}\r\nX-Authentik-Username: root\r\n\r\n"
LENGTH = len(SMUGGLED)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (["Content-Length: 0", f"Content-Length: {LENGTH}"], SMUGGLED),
        ([f"Content-Length: {LENGTH}, 0"], SMUGGLED),
        (["Content-Length: +0"], SMUGGLED),
        (["Content-Length: 0x0"], SMUGGLED),
        (["Content-Length: -1"], SMUGGLED),
        (["Content-Length:"], SMUGGLED),
        ([f"Content-Length: {LENGTH + 5}", "Transfer-Encoding: chunked"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding: chunked", f"Content-Length: {LENGTH + 5}"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding: xchunked"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding: identity", f"Content-Length: {LENGTH}"], SMUGGLED),
        (["Transfer-Encoding: chunked, identity"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: x"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding: gzip, chunked"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding : chunked"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer-Encoding:\x0bchunked"], "0\r\n\r\n" + SMUGGLED),
        (["X: y", " Transfer-Encoding: chunked"], "0\r\n\r\n" + SMUGGLED),
        (["X: y\rTransfer-Encoding: chunked"], "0\r\n\r\n" + SMUGGLED),
        (["Transfer_Encoding: chunked", f"Content-Length: {LENGTH}"], SMUGGLED),
        (["Transfer-Encoding: chunked"], f"{LENGTH:x}\n{SMUGGLED}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], f"0x{LENGTH:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        (["Transfer-Encoding: chunked"], f"10000000000000000\r\n{SMUGGLED}"),
        (["Transfer-Encoding: chunked"], f"5\r\nhelloXX0\r\n\r\n{SMUGGLED}"),
        (["Transfer-Encoding: chunked"], f"0;\nx\r\n\r\n{SMUGGLED}"),
    ],
)
def test_no_request_arrives_inside_another(gate: Gate, recorder: Recorder, lines: list[str], body: str) -> None:
    """Whatever the framing: what the guard has not seen as a request reaches no upstream as one."""
    statuses = gate.say("\r\n".join([f"POST /public/x HTTP/1.1\r\nHost: {APP}", *lines, "", body]) + NEXT)
    assert statuses and 500 not in statuses
    recorder.settle()
    for data in recorder.seen:
        if data.startswith(b"GET /public/next "):  # what stands behind it all, and is a request
            continue
        head, _, rest = data.partition(b"\r\n\r\n")
        fields = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
        assert head.startswith(b"POST /public/x ") and IDENTITY.findall(head) == []
        assert fields.count(b"content-length") + fields.count(b"transfer-encoding") <= 1, head
        assert fields.count(b"transfer-encoding") or len(rest) == _length(head), (
            "the body is longer than it is said to be"
        )


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("line", ["Upgrade: websocket", "Upgrade: h2c", "Upgrade: websocket, h2c", "Upgrade: TLS/1.2"])
def test_an_upgrade_is_asked_for_a_login_as_any_request_is(gate: Gate, recorder: Recorder, line: str) -> None:
    more = [
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    ]
    for host, refusal in ((APP, 302), (PROXIED, 401)):
        head = "\r\n".join(
            [f"GET /ws HTTP/1.1\r\nHost: {host}", line, *more, "Connection: Upgrade, HTTP2-Settings", "", ""]
        )
        assert gate.say(head + request(host, "/smuggled"), host)[0] == refusal
    assert recorder.seen == []


def test_a_session_of_the_domain_opens_nothing_whose_own_guard_went_missing(gate: Gate, recorder: Recorder) -> None:
    """By hand, in authentik: the outpost then takes the application of the whole domain for that host."""
    alice = logged_in(gate, "alice", WIKI)
    assert alice.cookie(".dom.test")
    assert alice.get(f"https://{ADMIN}/").status == 302
    outpost = next(iter(gate.authentik.state.outposts.values()))
    providers = outpost["providers"]
    (own,) = (pk for pk in providers if gate.authentik.state.providers[pk]["external_host"] == f"https://{ADMIN}")
    recorder.seen.clear()
    outpost["providers"] = [pk for pk in providers if pk != own]
    try:
        assert alice.get(f"https://{WIKI}/").status == 200
        assert alice.get(f"https://{ADMIN}/").status == 403
    finally:
        outpost["providers"] = providers
    assert [b"admin" in octets for octets in recorder.seen] == [False]
