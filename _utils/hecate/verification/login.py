"""A person without a browser: cookies, redirects, and authentik's login by its flow executor.

https://api.goauthentik.io/reference/flows-executor-get/: each challenge names the stage that wants an answer; the last
one says where to go. What only a browser can do (WebAuthn, captchas, consent in a form of its own) is told as such.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from hecate.verification.probe import NotProbed, ProbeFailed
from hecate.verification.questions import Visit
from hecate.verification.wire import Answer, Connection

FLOW = "/if/flow/"
STEPS = 20  # redirects and challenges of one way in
CSRF = "authentik_csrf"


@dataclass(frozen=True)
class Reach:
    """How names are reached: those that the edge serves at that edge, others where the world finds them.

    own, others: what the edge's certificates, and those of others, are held against. timeout: seconds an exchange.
    """

    visit: Visit
    served: tuple[str, ...]
    own: ssl.SSLContext
    others: ssl.SSLContext
    timeout: int

    def ask(self, url: str, method: str, body: str, headers: Mapping[str, str]) -> Answer:
        parts, visit = urlsplit(url), self.visit
        host, secure = parts.hostname or "", parts.scheme == "https"
        here = self.serves(host)
        if here:
            address, port = visit.address, visit.port if secure == visit.secure else visit.plain
        else:
            address, port = host, parts.port or (443 if secure else 80)
        with Connection(address, port, time.monotonic() + self.timeout) as connection:
            if secure:
                connection.secure(self.own if here else self.others, host)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            return connection.ask(parts.netloc, path, method, body, headers)

    def serves(self, host: str) -> bool:
        return host in self.served or f"*.{host.partition('.')[2]}" in self.served


@dataclass
class Person:
    """Cookies by host; a session begins with `log_in`."""

    reach: Reach
    username: str
    password: str = field(repr=False)
    jar: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    is_known: bool = False

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self._send(url, "GET", "", headers or {})

    def log_in(self, url: str) -> tuple[str, Answer]:
        """From a protected page as far as it goes. Raises ProbeFailed where authentik asked for no login."""
        found = self.walk(url)
        if not self.is_known:
            raise ProbeFailed(f"nobody asked for a login: {found[0].partition('?')[0]} answers {found[1].status}")
        return found

    def walk(self, url: str, headers: Mapping[str, str] | None = None) -> tuple[str, Answer]:
        """Follow redirects, and log in where that is asked for; the last URL and its answer."""
        for _ in range(STEPS):
            if urlsplit(url).path.startswith(FLOW):
                url, denied = self._solved(url)
                if denied:
                    return url, denied
                continue
            answer = self.get(url, headers)
            if answer.status not in (301, 302, 303, 307, 308) or not answer.location:
                return url, answer
            url = urljoin(url, answer.location)
        raise ProbeFailed(f"goes round and round at {url.partition('?')[0]}")

    @staticmethod
    def is_at(url: str, host: str) -> bool:
        parts = urlsplit(url)
        return parts.hostname == host and not parts.path.startswith(("/outpost.goauthentik.io/", FLOW))

    def _solved(self, url: str) -> tuple[str, Answer | None]:
        """Where a flow leads to; or its refusal."""
        parts = urlsplit(url)
        slug = parts.path.removeprefix(FLOW).strip("/")
        executor = urljoin(url, f"/api/v3/flows/executor/{slug}/?query={quote(parts.query, safe='')}")
        answer, answered = self.get(executor), ""
        for _ in range(STEPS):
            if answer.status == 403:
                return url, answer
            challenge = _challenge(answer, slug)
            stage = str(challenge.get("component"))
            if stage == "xak-flow-redirect":
                self.is_known = self.is_known or bool(answered)
                return urljoin(url, str(challenge.get("to") or "/")), None
            if stage == "ak-stage-access-denied":
                if answered and not self.is_known:
                    raise ProbeFailed(f"authentik does not let {self.username} log in")
                return url, Answer(403, answer.headers, answer.body)
            if stage == answered or challenge.get("response_errors"):
                raise ProbeFailed(f"authentik does not take the login of {self.username} (at {stage})")
            answer, answered = self._post(executor, self._reply(stage, challenge)), stage
        raise ProbeFailed(f"authentik's flow {slug} does not come to an end")

    def _reply(self, stage: str, challenge: Mapping[str, Any]) -> dict[str, Any]:
        if stage == "ak-stage-identification":
            both = {"password": self.password} if challenge.get("password_fields") else {}
            return {"component": stage, "uid_field": self.username, **both}
        if stage == "ak-stage-password":
            return {"component": stage, "password": self.password}
        if stage == "ak-stage-user-login":
            return {"component": stage, "remember_me": False}
        if stage == "ak-stage-consent":
            return {"component": stage, "token": challenge.get("token", "")}
        if stage == "ak-stage-authenticator-validate":
            raise NotProbed(f"{self.username} is asked for a second factor, which nobody can give here")
        raise NotProbed(f"the login wants {stage}, which needs a browser")

    def _post(self, url: str, reply: Mapping[str, Any]) -> Answer:
        """A stage that is done redirects to the next."""
        token = self.jar.get(urlsplit(url).netloc, {}).get(CSRF)
        headers = {"Content-Type": "application/json", "Referer": url, **({"X-authentik-CSRF": token} if token else {})}
        answer = self._send(url, "POST", json.dumps(reply), headers)
        return self.get(urljoin(url, answer.location)) if answer.status in (301, 302, 303) else answer

    def _send(self, url: str, method: str, body: str, headers: Mapping[str, str]) -> Answer:
        host = urlsplit(url).netloc
        shared = [jar for domain, jar in self.jar.items() if domain.startswith(".") and f".{host}".endswith(domain)]
        known = {name: value for jar in (*shared, self.jar.get(host, {})) for name, value in jar.items()}
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in known.items())} if known else {}
        answer = self.reach.ask(url, method, body, {"Accept": "text/html,application/json", **cookie, **headers})
        for line in answer.cookies:
            self._keep(host, line)
        return answer

    def _keep(self, host: str, line: str) -> None:
        try:
            found = SimpleCookie(line)
        except CookieError:
            return
        for name, morsel in found.items():
            domain = morsel["domain"].lstrip(".")
            own = f".{domain}" if domain and f".{host}".endswith(f".{domain}") else host
            self.jar.setdefault(own, {})[name] = morsel.value


def _challenge(answer: Answer, slug: str) -> Mapping[str, Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    if answer.status >= 400 or not isinstance(found, Mapping):
        raise ProbeFailed(f"authentik's flow {slug} answers {answer.status}, and no challenge")
    return found
