"""The embedded outpost: forward auth for Caddy, and its half of the login.

    browser -> proxy -> /outpost.goauthentik.io/auth/caddy      no session: 302 to .../start?rd=<URL>
    browser -> proxy -> /outpost.goauthentik.io/start           302 to authentik's /application/o/authorize/
    browser -> authentik (``outpost_login``)                    302 to .../callback?code&state
    browser -> proxy -> /outpost.goauthentik.io/callback        cookie, 302 to <URL>

Who may open the application is asked once, when authentik hands out the code; the session then holds for the provider's
``access_token_validity``, with the groups of that moment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from lab.emulators import outpost_pages as pages
from lab.emulators.authentik_fields import seconds_of
from lab.emulators.authentik_server import AuthentikServer
from lab.emulators.authentik_state import EMBEDDED, Object
from lab.emulators.base import Answer, route
from lab.emulators.outpost_sessions import ProxySession, Sessions, Start

PREFIX = "/outpost.goauthentik.io"
WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{43}")
START_LIVES = 600.0


def host_of(authority: str) -> str:
    """A host without its port, lower case; "" for what is none."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").lower()
    except ValueError:  # brackets around something that isn't an address
        return ""


def cookie_suffix(provider: Object) -> str:
    """Eight hex digits that tell one provider's cookie from another's."""
    return hashlib.sha256(provider["client_id"].encode()).hexdigest()[:8]


def header_text(value: str) -> str:
    """A header value: UTF-8 as WSGI wants it, on one line."""
    return " ".join(value.splitlines()).encode().decode("latin-1")


class Outpost(AuthentikServer):
    """``/outpost.goauthentik.io/``: ping, auth/caddy, start, callback, sign_out."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As ``AuthentikServer``."""
        super().__init__(*arguments, **named)
        self.sessions = Sessions()

    # Which application a request is about.

    def served(self) -> Object | None:
        """The outpost that answers here: by its ``managed`` mark, or by name for one of one's own."""
        field = "managed" if self.served_outpost == EMBEDDED else "name"
        return next((o for o in self.state.outposts.values() if o[field] == self.served_outpost), None)

    def provider_for(self, request: Request) -> Object | None:
        """The attached provider of the host that was asked, if an application uses it. The port doesn't count."""
        host = host_of(request.headers.get("X-Forwarded-Host") or request.host)
        outpost = self.served()
        rows = [self.state.providers[pk] for pk in outpost["providers"]] if outpost else []
        rows = [row for row in rows if self.state.application_of(row["pk"])]
        for row in rows:
            if host_of(urlsplit(row["external_host"]).netloc) == host:
                return row
        return next((row for row in rows if self._in_domain(row, host)), None)

    @staticmethod
    def _in_domain(provider: Object, host: str) -> bool:
        domain = str(provider["cookie_domain"]).lstrip(".").lower()
        return provider["mode"] == "forward_domain" and bool(domain) and (host == domain or host.endswith(f".{domain}"))

    def _belongs(self, provider: Object, target: str) -> bool:
        """Whether a URL is on the provider's host (or in its domain): nowhere else is a browser sent back to."""
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or "\\" in target:
            return False
        host = host_of(parts.netloc)
        return host == host_of(urlsplit(provider["external_host"]).netloc) or self._in_domain(provider, host)

    # Endpoints.

    @route("GET", f"{PREFIX}/ping")
    def ping(self, request: Request) -> Answer:
        """Whether the outpost is up."""
        return 204, None

    @route("GET", f"{PREFIX}/auth/caddy")
    def auth_caddy(self, request: Request) -> Answer:
        """200 with who it is, 302 to the login, or 404 for a host that no attached application has."""
        provider = self.provider_for(request)
        if provider is None:
            return pages.message("Not found", "No application for this host on this outpost.", 404)
        session = self._session(request, provider)
        if session is not None:
            return Response("", status=200, headers=[*session.claims, *self._meta(provider)])
        if self._skipped(request, provider) or (self.cve_2026_25748 and self._malformed(request)):
            return Response("", status=200)
        query = urlencode({"rd": self._original(request)}, quote_via=quote)
        scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
        host = request.headers.get("X-Forwarded-Host") or request.host
        if provider["mode"] == "forward_domain":
            host = urlsplit(provider["external_host"]).netloc
        return self._redirect(f"{scheme}://{host}{PREFIX}/start?{query}")

    @route("GET", f"{PREFIX}/start")
    def start(self, request: Request) -> Answer:
        """Begin a login: a state that only this browser can end, then authentik."""
        provider = self.provider_for(request)
        if provider is None:
            return pages.message("Not found", "No application for this host on this outpost.", 404)
        target = request.args.get("rd", "")
        if not self._belongs(provider, target):
            target = provider["external_host"]
        name = f"authentik_state_{cookie_suffix(provider)}"
        known = request.cookies.get(name, "")
        browser = known if WELL_FORMED.fullmatch(known) else secrets.token_urlsafe(32)
        state = self.sessions.starts.add(Start(provider["pk"], target, browser), self.clock() + START_LIVES)
        query = {"client_id": provider["client_id"], "redirect_uri": provider["redirect_uris"][0]["url"],
                 "response_type": "code", "scope": "openid email profile ak_proxy", "state": state}  # fmt: skip
        response = self._redirect(f"{self.browser_url(request)}/application/o/authorize/?{urlencode(query)}")
        response.set_cookie(name, browser, max_age=int(START_LIVES), path=PREFIX, secure=True, httponly=True,
                            samesite="Lax")  # fmt: skip
        return response

    @route("GET", f"{PREFIX}/callback")
    def callback(self, request: Request) -> Answer:
        """End a login: a state of this browser and a code of this provider, each good once."""
        now = self.clock()
        provider = self.provider_for(request)
        if provider is None:
            return pages.message("Not found", "No application for this host on this outpost.", 404)
        begun = self.sessions.starts.take(request.args.get("state", ""), now)
        browser = request.cookies.get(f"authentik_state_{cookie_suffix(provider)}", "")
        code = self.sessions.codes.take(request.args.get("code", ""), now)
        if begun is None or not secrets.compare_digest(begun.browser.encode(), browser.encode()):
            return pages.message("Login failed", "This login has expired or was begun elsewhere.", 400)
        uri = provider["redirect_uris"][0]["url"]
        wanted = (begun.provider, provider["pk"], uri)
        if code is None or (code.provider, code.provider, code.redirect_uri) != wanted:
            return pages.message("Login failed", "The authorization code isn't valid.", 400)
        lives = seconds_of(provider["access_token_validity"])
        claims = self._claims(provider, code.user, now + lives)
        key = self.sessions.proxied.add(ProxySession(provider["pk"], code.user, code.login, claims), now + lives)
        response = self._redirect(begun.target)
        domain = provider["cookie_domain"] or None if provider["mode"] == "forward_domain" else None
        response.set_cookie(f"authentik_proxy_{cookie_suffix(provider)}", key, max_age=int(lives), path="/",
                            domain=domain, secure=True, httponly=True, samesite="Lax")  # fmt: skip
        return response

    @route("GET", f"{PREFIX}/sign_out")
    def sign_out(self, request: Request) -> Answer:
        """End this user's sessions at the application, then those at authentik."""
        provider = self.provider_for(request)
        response = self._redirect(f"{self.browser_url(request)}/if/session-end/")
        if provider is not None:
            session = self._session(request, provider)
            if session is not None:
                self.sessions.proxied.drop(provider=provider["pk"], user=session.user)
            domain = provider["cookie_domain"] or None if provider["mode"] == "forward_domain" else None
            name = f"authentik_proxy_{cookie_suffix(provider)}"
            response.delete_cookie(name, path="/", domain=domain, secure=True, httponly=True, samesite="Lax")
        return response

    # Helpers.

    def browser_url(self, request: Request) -> str:
        """Where browsers reach authentik: ``public_url``, the outpost's own setting, or the host that was asked."""
        config = (self.served() or {"config": {}})["config"]
        url = self.public_url or config.get("authentik_host_browser") or config.get("authentik_host")
        return str(url or request.host_url).rstrip("/")

    def _session(self, request: Request, provider: Object) -> ProxySession | None:
        key = request.cookies.get(f"authentik_proxy_{cookie_suffix(provider)}", "")
        session = self.sessions.proxied.get(key, self.clock())
        return session if session is not None and session.provider == provider["pk"] else None

    def _malformed(self, request: Request) -> bool:
        found = [value for name, value in request.cookies.items() if name.startswith("authentik_proxy_")]
        return any(not WELL_FORMED.fullmatch(value) for value in found)

    def _original(self, request: Request) -> str:
        scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
        host = request.headers.get("X-Forwarded-Host") or request.host
        uri = request.headers.get("X-Forwarded-Uri", "/")
        return f"{scheme}://{host}{uri if uri.startswith('/') else '/'}"

    def _skipped(self, request: Request, provider: Object) -> bool:
        """Whether ``skip_path_regex`` lets the path (in domain mode: the whole URL) through, without saying who it is.

        One expression a line; broken ones are passed over.
        """
        original = self._original(request)
        subject = original if provider["mode"] == "forward_domain" else urlsplit(original).path
        for line in filter(None, str(provider["skip_path_regex"]).split("\n")):
            try:
                if re.search(line, subject):
                    return True
            except re.error:
                continue
        return False

    def _claims(self, provider: Object, user: int, until: float) -> tuple[tuple[str, str], ...]:
        row = self.state.users[user]
        groups = [group["name"] for group in self.state.groups.values() if user in group["users"]]
        token = {"iss": "authentik", "sub": row["uid"], "aud": provider["client_id"], "exp": int(until),
                 "preferred_username": row["username"], "email": row["email"], "name": row["name"],
                 "groups": groups, "jti": secrets.token_hex(8)}  # fmt: skip
        headers = {"Username": row["username"], "Groups": "|".join(groups), "Entitlements": "", "Email": row["email"],
                   "Name": row["name"], "Uid": row["uid"], "Jwt": unsigned(token)}  # fmt: skip
        return tuple((f"X-Authentik-{name}", header_text(value)) for name, value in headers.items())

    def _meta(self, provider: Object) -> list[tuple[str, str]]:
        slug = (self.state.application_of(provider["pk"]) or {"slug": ""})["slug"]
        outpost = (self.served() or {"name": ""})["name"]
        meta = {"Jwks": f"{self.public_url}/application/o/{slug}/jwks/", "Outpost": outpost,
                "Provider": provider["name"], "App": slug,
                "Version": f"goauthentik.io/outpost/{self.state.version}"}  # fmt: skip
        return [(f"X-Authentik-Meta-{name}", header_text(str(value))) for name, value in meta.items()]

    def _redirect(self, target: str) -> Response:
        response = redirect(target, 302)
        response.autocorrect_location_header = False
        response.headers["Cache-Control"] = "no-store"
        return response


def unsigned(claims: Object) -> str:
    """A JWT that nobody signed (alg none): the right shape, no proof."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
             for part in ({"alg": "none", "typ": "JWT"}, claims)]  # fmt: skip
    return ".".join([*parts, ""])
