"""The way in, as a person goes it: a real browser, a real Caddy, authentik's pages, an application behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import RealCaddy
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait

from contract.browser import browsing
from contract.edge import Seen, Upstream
from contract.gate import ADMIN, APP, AUTH, HOME, OTHER, PASSWORDS, SIGN_OUT, STRONG, WIKI, Gate, opened
from lab.echo import page


def echo_page(seen: Seen) -> tuple[int, dict[str, str], bytes]:
    """What the lab's upstreams show to a browser."""
    headers = {name: ", ".join(values) for name, values in seen.headers.items()}
    shown = page("the application", {"method": seen.method, "path": seen.path, "headers": headers}, "")
    return 200, {"Content-Type": "text/html; charset=utf-8"}, shown.encode()


@dataclass
class Walk:
    """Somebody at a browser."""

    browser: Chrome
    gate: Gate

    def visit(self, url: str) -> None:
        self.browser.get(url)

    @property
    def host(self) -> str:
        return urlsplit(self.browser.current_url).netloc

    @property
    def heading(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "h1").text

    @property
    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def fill_in(self, name: str, password: str = "") -> None:
        """The form that is shown; what comes next has been loaded when this returns."""
        self.browser.find_element(By.NAME, "username").clear()
        self.browser.find_element(By.NAME, "username").send_keys(name)
        self.browser.find_element(By.NAME, "password").send_keys(password or PASSWORDS[name])
        button = self.browser.find_element(By.TAG_NAME, "button")
        button.click()
        wait = WebDriverWait(self.browser, 20)
        wait.until(staleness_of(button))
        wait.until(lambda browser: browser.execute_script("return document.readyState") == "complete")


@pytest.fixture
def walk(caddy_process: RealCaddy, tmp_path: Path) -> Iterator[Walk]:
    app = Upstream("app", echo_page).start()
    try:
        with opened(caddy_process, tmp_path, app.dial) as gate, browsing(caddy_process, tmp_path) as browser:
            yield Walk(browser, gate)
    finally:
        app.stop()


def test_a_member_logs_in_arrives_logs_out_and_is_refused(walk: Walk) -> None:
    walk.visit(f"https://{APP}/reports?year=2026")
    assert (walk.host, walk.heading) == (AUTH, "Log in")
    walk.fill_in("alice")
    assert walk.browser.current_url == f"https://{APP}/reports?year=2026"
    assert walk.heading == "Hello, alice" and "authentik_proxy" not in walk.text
    walk.visit(f"https://{APP}/again")
    assert (walk.host, walk.heading) == (APP, "Hello, alice")
    walk.visit(f"https://{APP}{SIGN_OUT}")
    assert (walk.host, walk.heading) == (AUTH, "Logged out")
    walk.visit(f"https://{APP}/again")
    assert (walk.host, walk.heading) == (AUTH, "Log in")


def test_who_is_logged_in_at_one_application_needs_no_form_at_another(walk: Walk) -> None:
    walk.visit(f"https://{APP}/")
    walk.fill_in("bob")
    walk.visit(f"https://{OTHER}/x")
    assert (walk.browser.current_url, walk.heading) == (f"https://{OTHER}/x", "Hello, bob")


def test_a_non_member_sees_that_they_are_refused(walk: Walk) -> None:
    walk.visit(f"https://{APP}/")
    walk.fill_in("mallory")
    assert (walk.host, walk.heading) == (AUTH, "Permission denied")
    assert APP in walk.text and "not open to this account" in walk.text
    walk.visit(f"https://{APP}/")
    assert (walk.host, walk.heading) == (AUTH, "Permission denied")


def test_who_is_logged_in_without_a_second_factor_is_refused_where_one_is_wanted(walk: Walk) -> None:
    walk.visit(f"https://{APP}/")
    walk.fill_in("alice")
    assert (walk.host, walk.heading) == (APP, "Hello, alice")
    walk.visit(f"https://{STRONG}/")
    assert (walk.host, walk.heading) == (AUTH, "Permission denied")


def test_who_has_a_second_factor_gets_in_where_one_is_wanted(walk: Walk) -> None:
    walk.visit(f"https://{STRONG}/")
    walk.fill_in("bob")
    assert (walk.host, walk.heading) == (STRONG, "Hello, bob")


def test_one_login_is_good_for_a_whole_domain_but_for_what_has_a_policy_of_its_own(walk: Walk) -> None:
    walk.visit(f"https://{WIKI}/x")
    walk.fill_in("alice")
    assert (walk.browser.current_url, walk.heading) == (f"https://{WIKI}/x", "Hello, alice")
    names = {cookie["name"] for cookie in walk.browser.get_cookies()}
    walk.visit(f"https://{HOME}/")
    assert walk.heading == "Hello, alice"
    assert {cookie["name"] for cookie in walk.browser.get_cookies()} & names, "the same session"
    walk.visit(f"https://{ADMIN}/")
    assert (walk.host, walk.heading) == (AUTH, "Permission denied")


def test_a_wrong_password_shows_the_form_again_and_says_so(walk: Walk) -> None:
    walk.visit(f"https://{APP}/")
    walk.fill_in("alice", "not this one")
    assert (walk.host, walk.heading) == (AUTH, "Log in")
    assert "Invalid username or password" in walk.text
    walk.fill_in("alice")
    assert (walk.host, walk.heading) == (APP, "Hello, alice")


def test_what_is_public_is_shown_to_whoever_comes_and_names_nobody(walk: Walk) -> None:
    walk.visit(f"https://{APP}/public/page")
    assert (walk.host, walk.heading) == (APP, "Hello")
