"""Forward auth and the login, at the level of HTTP: as a member, as a stranger, and as somebody up to no good."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
import requests

from lab.emulators.authentik import Authentik
from lab.emulators.base import running

AUTH = "https://auth.estate.test"
HOST = "app.estate.test"
PAGE = f"https://{HOST}/reports?year=2026&x=a%20b"
SEED = {
    "users": [
        {"username": "alice", "name": "Alice Ä", "email": "alice@estate.test", "password": "pw-a",
         "groups": ["staff", "readers"]},
        {"username": "bob", "name": "Bob", "email": "bob@estate.test", "password": "pw-b"},
        {"username": "gone", "name": "Gone", "email": "", "password": "pw-g", "is_active": False},
    ]
}  # fmt: skip


@dataclasses.dataclass
class Estate:
    """A server with one application for ``staff``, and the time it is there."""

    app: Authentik
    url: str = ""
    provider: int = 0
    now: float = 1_000_000.0

    def api(self, method: str, path: str, body: Any = None) -> Any:
        head = {"Authorization": f"Bearer {self.app.token}"}
        answer = requests.request(method, f"{self.url}/api/v3{path}", json=body, headers=head, timeout=10)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def patch(self, **fields: Any) -> None:
        self.api("PATCH", f"/providers/proxy/{self.provider}/", {"mode": "forward_single", **fields})

    def publish(self) -> None:
        flows = {flow["slug"]: flow["pk"] for flow in self.api("GET", "/flows/instances/")["results"]}
        self.provider = self.api("POST", "/providers/proxy/", {
            "name": "app", "external_host": f"https://{HOST}", "mode": "forward_single",
            "authorization_flow": flows["default-provider-authorization-implicit-consent"],
            "invalidation_flow": flows["default-provider-invalidation-flow"], "access_token_validity": "hours=8",
        })["pk"]  # fmt: skip
        body = {"name": "The <App>", "slug": "app", "provider": self.provider}
        target = self.api("POST", "/core/applications/", body)["pk"]
        staff = self.api("GET", "/core/groups/?name=staff")["results"][0]["pk"]
        self.api("POST", "/policies/bindings/", {"target": target, "group": staff, "order": 0})
        self.attach([self.provider])

    def attach(self, providers: list[int]) -> None:
        outpost = self.api("GET", "/outposts/instances/")["results"][0]["pk"]
        self.api("PATCH", f"/outposts/instances/{outpost}/", {"type": "proxy", "providers": providers})


@dataclasses.dataclass
class Browser:
    """Follows redirects through the proxy (which adds X-Forwarded-*) or straight to authentik; a jar a host."""

    estate: Estate
    jars: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def send(self, url: str, method: str = "GET", data: Any = None) -> requests.Response:
        parts = urlsplit(url)
        jar = self.jars.setdefault(parts.netloc, {})
        headers = {"X-Forwarded-Host": parts.netloc, "X-Forwarded-Proto": "https"}
        if jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in jar.items())
        answer = requests.request(
            method, f"{self.estate.url}{parts.path}?{parts.query}", data=data, headers=headers, timeout=10,
            allow_redirects=False,
        )  # fmt: skip
        for cookie in answer.cookies:
            if cookie.value:
                jar[cookie.name] = cookie.value
            else:
                jar.pop(cookie.name, None)
        for name in [n for n in jar if f"{n}=;" in answer.headers.get("Set-Cookie", "")]:
            del jar[name]
        return answer

    def check(self, page: str = PAGE, **extra: str) -> requests.Response:
        """What the proxy asks before it lets ``page`` through."""
        parts = urlsplit(page)
        jar = self.jars.get(parts.netloc, {})
        headers = {"X-Forwarded-Host": parts.netloc, "X-Forwarded-Proto": parts.scheme,
                   "X-Forwarded-Uri": f"{parts.path}?{parts.query}", "X-Forwarded-Method": "GET",
                   "Cookie": "; ".join(f"{name}={value}" for name, value in jar.items()), **extra}  # fmt: skip
        path = "/outpost.goauthentik.io/auth/caddy"
        return requests.get(f"{self.estate.url}{path}", headers=headers, timeout=10, allow_redirects=False)

    def until_form(self, page: str = PAGE) -> str:
        """From the page to the login form; returns the form's URL."""
        first = self.check(page)
        assert first.status_code == 302
        start = self.send(first.headers["Location"])
        authorize = self.send(start.headers["Location"])
        return AUTH + authorize.headers["Location"]

    def login(self, username: str, password: str, page: str = PAGE) -> requests.Response:
        """The whole dance; the last answer."""
        form = self.until_form(page)
        assert 'name="password"' in self.send(form).text
        posted = self.send(form, "POST", {"username": username, "password": password})
        if posted.status_code != 302:
            return posted
        answer = self.send(AUTH + posted.headers["Location"])
        return self.send(answer.headers["Location"]) if answer.status_code == 302 else answer


def estates(**options: Any) -> Iterator[Estate]:
    app = Authentik("t", public_url=AUTH, seed=SEED, **options)
    estate = Estate(app)
    app.clock = lambda: estate.now
    with running(app) as url:
        estate.url = url
        estate.publish()
        yield estate


@pytest.fixture
def estate() -> Iterator[Estate]:
    yield from estates()


def test_ping(estate: Estate) -> None:
    assert requests.get(f"{estate.url}/outpost.goauthentik.io/ping", timeout=10).status_code == 204


def test_a_member_logs_in_and_the_proxy_learns_who_it_is(estate: Estate) -> None:
    browser = Browser(estate)
    first = browser.check()
    assert first.headers["Location"] == f"https://{HOST}/outpost.goauthentik.io/start?rd={quote(PAGE, safe='')}"
    last = browser.login("alice", "pw-a")
    assert (last.status_code, last.headers["Location"]) == (302, PAGE)
    cookie = last.headers["Set-Cookie"]
    assert cookie.startswith("authentik_proxy_") and len(cookie.split("=")[0]) == len("authentik_proxy_") + 8
    for word in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/", "Max-Age=28800"):
        assert word in cookie
    assert "Domain" not in cookie
    passed = browser.check()
    assert passed.status_code == 200
    head = passed.headers
    assert (head["X-Authentik-Username"], head["X-Authentik-Email"]) == ("alice", "alice@estate.test")
    assert head["X-Authentik-Name"].encode("latin-1").decode() == "Alice Ä"
    assert head["X-Authentik-Groups"] == "staff|readers"
    assert (head["X-Authentik-Meta-App"], head["X-Authentik-Meta-Provider"]) == ("app", "app")
    assert head["X-Authentik-Meta-Outpost"] == "authentik Embedded Outpost"
    assert {"X-Authentik-Uid", "X-Authentik-Entitlements", "X-Authentik-Meta-Version", "X-Authentik-Meta-Jwks"} <= set(
        head
    )
    payload = head["X-Authentik-Jwt"].split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(payload + "=="))["preferred_username"] == "alice"


def test_the_port_does_not_count(estate: Estate) -> None:
    assert Browser(estate).check(f"https://{HOST.upper()}:8443/").status_code == 302


def test_a_stranger_is_refused_by_name_of_the_application(estate: Estate) -> None:
    browser = Browser(estate)
    last = browser.login("bob", "pw-b")
    assert last.status_code == 403
    assert "Permission denied" in last.text
    assert "The &lt;App&gt;" in last.text and "<App>" not in last.text
    assert browser.check().status_code == 302


@pytest.mark.parametrize(("username", "password"), [("alice", "wrong"), ("nobody", "pw-a"), ("akadmin", ""),
                                                    ("gone", "pw-g")])  # fmt: skip
def test_a_wrong_login_stays_at_the_form(estate: Estate, username: str, password: str) -> None:
    browser = Browser(estate)
    last = browser.login(username, password)
    assert last.status_code == 400
    assert 'role="alert"' in last.text
    assert "Set-Cookie" not in last.headers
    assert browser.check().status_code == 302


@pytest.mark.parametrize("target", ["https://evil.test/", "//evil.test/", "/\\evil.test", "javascript:alert(1)"])
def test_after_the_login_only_local_paths(estate: Estate, target: str) -> None:
    url = f"{AUTH}/if/flow/default-authentication-flow/?next={quote(target, safe='')}"
    posted = Browser(estate).send(url, "POST", {"username": "alice", "password": "pw-a"})
    assert posted.headers["Location"] == "/"


@pytest.mark.parametrize("target", ["https://evil.test/", "//evil.test/", f"https://{HOST}@evil.test/",
                                    f"https://evil.test/{HOST}", f"https://{HOST}.evil.test/"])  # fmt: skip
def test_no_open_redirect_after_the_callback(estate: Estate, target: str) -> None:
    browser = Browser(estate)
    browser.login("alice", "pw-a")
    start = browser.send(f"https://{HOST}/outpost.goauthentik.io/start?rd={quote(target, safe='')}")
    answer = browser.send(browser.send(start.headers["Location"]).headers["Location"])
    assert answer.headers["Location"] == f"https://{HOST}"


def test_no_application_no_attachment_no_host_is_404(estate: Estate) -> None:
    browser = Browser(estate)
    assert browser.check("https://other.estate.test/").status_code == 404
    estate.attach([])
    assert browser.check().status_code == 404
    estate.attach([estate.provider])
    assert browser.check().status_code == 302
    estate.api("DELETE", "/core/applications/app/")
    assert browser.check().status_code == 404


def test_a_session_outlives_membership_but_not_its_validity(estate: Estate) -> None:
    browser = Browser(estate)
    browser.login("alice", "pw-a")
    staff = estate.api("GET", "/core/groups/?name=staff")["results"][0]
    estate.api("POST", f"/core/groups/{staff['pk']}/remove_user/", {"pk": staff["users"][0]})
    estate.now += 8 * 3600 - 1
    assert browser.check().status_code == 200
    estate.now += 1
    assert browser.check().status_code == 302
    start = browser.send(browser.check().headers["Location"])
    assert browser.send(start.headers["Location"]).status_code == 403


def test_an_unguarded_application_is_open_to_everyone(estate: Estate) -> None:
    staff = estate.api("GET", "/core/groups/?name=staff")["results"][0]["pk"]
    estate.api("DELETE", f"/core/groups/{staff}/")
    browser = Browser(estate)
    browser.login("bob", "pw-b")
    assert browser.check().headers["X-Authentik-Username"] == "bob"


def test_codes_and_states_are_good_once_and_for_one_browser(estate: Estate) -> None:
    browser = Browser(estate)
    form = browser.until_form()
    posted = browser.send(form, "POST", {"username": "alice", "password": "pw-a"})
    callback = browser.send(AUTH + posted.headers["Location"]).headers["Location"]
    assert parse_qs(urlsplit(callback).query)["X-authentik-auth-callback"] == ["true"]
    assert Browser(estate).send(callback).status_code == 400
    assert browser.send(callback).status_code == 400  # the other browser used it up


def test_a_callback_works_once(estate: Estate) -> None:
    browser = Browser(estate)
    form = browser.until_form()
    posted = browser.send(form, "POST", {"username": "alice", "password": "pw-a"})
    callback = browser.send(AUTH + posted.headers["Location"]).headers["Location"]
    assert browser.send(callback).status_code == 302
    assert browser.send(callback).status_code == 400


def test_authorize_sends_codes_to_the_provider_only(estate: Estate) -> None:
    client = estate.api("GET", f"/providers/proxy/{estate.provider}/")["client_id"]
    good = f"https://{HOST}/outpost.goauthentik.io/callback?X-authentik-auth-callback=true"
    browser = Browser(estate)
    browser.login("alice", "pw-a")
    for uri, client_id in [(good + "x", client), ("https://evil.test/", client), (good, "none")]:
        query = urlencode({"client_id": client_id, "redirect_uri": uri, "response_type": "code", "state": "s"})
        assert browser.send(f"{AUTH}/application/o/authorize/?{query}").status_code == 400


def test_logging_out_of_authentik_ends_the_session_at_the_application(estate: Estate) -> None:
    browser = Browser(estate)
    browser.login("alice", "pw-a")
    assert "alice" in browser.send(f"{AUTH}/").text
    assert browser.send(f"{AUTH}/flows/-/default/invalidation/").status_code == 200
    assert browser.check().status_code == 302
    assert browser.send(f"{AUTH}/").headers["Location"].startswith("/if/flow/default-authentication-flow/")


def test_sign_out(estate: Estate) -> None:
    browser = Browser(estate)
    browser.login("alice", "pw-a")
    kept = dict(browser.jars[HOST])
    out = browser.send(f"https://{HOST}/outpost.goauthentik.io/sign_out")
    assert out.headers["Location"] == f"{AUTH}/if/session-end/"
    browser.jars[HOST] = kept
    assert browser.check().status_code == 302


def test_a_malformed_cookie_is_nobody(estate: Estate) -> None:
    browser = Browser(estate, {HOST: {"authentik_proxy_deadbeef": "!!"}})
    assert browser.check().status_code == 302


def test_cve_2026_25748() -> None:
    for estate in estates(cve_2026_25748=True):
        answer = Browser(estate, {HOST: {"authentik_proxy_deadbeef": "!!"}}).check()
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.lower().startswith("x-authentik")]
        assert Browser(estate).check().status_code == 302


def test_skipped_paths_pass_without_identity(estate: Estate) -> None:
    estate.patch(skip_path_regex="[broken\n^/public/")
    answer = Browser(estate).check(f"https://{HOST}/public/x")
    assert answer.status_code == 200
    assert "X-Authentik-Username" not in answer.headers
    assert Browser(estate).check(f"https://{HOST}/private?/public/").status_code == 302


def test_a_second_factor_that_nobody_has_refuses(estate: Estate) -> None:
    stage = estate.api("POST", "/stages/authenticator/validate/", {"name": "m", "not_configured_action": "deny"})["pk"]
    flow = estate.api("POST", "/flows/instances/", {"name": "m", "slug": "m", "title": "m",
                                                    "designation": "authorization"})["pk"]  # fmt: skip
    estate.api("POST", "/flows/bindings/", {"target": flow, "stage": stage, "order": 0})
    estate.patch(authorization_flow=flow)
    assert Browser(estate).login("alice", "pw-a").status_code == 403
    alice = estate.api("GET", "/core/users/?username=alice")["results"][0]["pk"]
    estate.api("PATCH", f"/core/users/{alice}/", {"attributes": {"lab/mfa": True}})
    assert Browser(estate).login("alice", "pw-a").status_code == 302


def test_domain_mode_shares_a_session(estate: Estate) -> None:
    estate.api("PATCH", f"/providers/proxy/{estate.provider}/", {
        "mode": "forward_domain", "cookie_domain": "estate.test", "external_host": f"https://{HOST}"})  # fmt: skip
    start = Browser(estate).check("https://wiki.estate.test/a?b=1").headers["Location"]
    assert urlsplit(start).netloc == HOST
    browser = Browser(estate)
    last = browser.login("alice", "pw-a", "https://wiki.estate.test/a?b=1")
    assert last.headers["Location"] == "https://wiki.estate.test/a?b=1"
    assert "Domain=estate.test" in last.headers["Set-Cookie"]
