"""authentik's own half of the login: the form, the authorization of an application, the logout."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from werkzeug.wrappers import Request, Response

from lab.emulators import outpost_pages as pages
from lab.emulators.authentik_access import may_open, missing_factor
from lab.emulators.authentik_state import Object, now_text
from lab.emulators.base import Answer, route
from lab.emulators.outpost import Outpost
from lab.emulators.outpost_sessions import Code, Login

COOKIE = "authentik_session"
EXECUTOR_RULE = "/api/v3/flows/executor/<slug>/"
LOGIN = "/if/flow/default-authentication-flow/"
LOGIN_LIVES = 14 * 86400.0
CODE_LIVES = 60.0
CLOUDED = "********************"
"""What an event shows in place of a password."""


def local_path(target: str) -> str:
    """``target`` where it is a path on this server, "/" where it could lead elsewhere."""
    parts = urlsplit(target)
    unsafe = parts.scheme or parts.netloc or "\\" in target or any(ord(letter) < 33 for letter in target)
    return target if target.startswith("/") and not target.startswith("//") and not unsafe else "/"


class LoginPages(Outpost):
    """``/``, ``/if/flow/default-authentication-flow/``, ``/application/o/authorize/``, ``/if/session-end/``;
    and the login for clients without a browser, ``/api/v3/flows/executor/<slug>/``.
    """

    @route("GET", "/")
    @route("GET", "/if/user/")
    def home(self, request: Request) -> Answer:
        """The applications of whoever is logged in."""
        login = self._login(request)
        if login is None:
            return self._to_login(request)
        rows = [row for row in self.state.applications.values() if may_open(self.state, row, login.user)]
        links = [(row["name"], self._launch_url(row)) for row in rows]
        return pages.library(self.state.users[login.user]["username"], links)

    def _launch_url(self, row: Object) -> str:
        provider = self.state.providers.get(row["provider"]) or {}
        link = str(row["meta_launch_url"] or provider.get("external_host", ""))
        return link if link.startswith(("http://", "https://")) else "#"

    @route("GET", LOGIN)
    def login_form(self, request: Request) -> Answer:
        """The form; who is logged in already goes on at once."""
        target = local_path(request.args.get("next", "/"))
        if self._login(request) is not None:
            return self._redirect(target)
        return pages.login(self._form_action(target))

    @route("POST", LOGIN)
    def login(self, request: Request) -> Answer:
        """A new session for the right password; 400 and the form again for a wrong one."""
        target = local_path(request.args.get("next", "/"))
        username, password = request.form.get("username", ""), request.form.get("password", "")
        response = self._redirect(target)
        if not self._enter(request, response, username, password):
            return pages.login(self._form_action(target), username, "Invalid username or password.")
        return response

    def _enter(self, request: Request, response: Response, username: str, password: str) -> bool:
        """Begin a session, whose cookie goes along with the response; false for a wrong password."""
        user = self.state.user_named(username)
        kept = self.state.passwords.get(user["pk"]) if user and user["is_active"] else None
        if user is None or not kept or not secrets.compare_digest(kept.encode(), password.encode()):
            tried = {"username": username, "password": CLOUDED}
            self.record("login_failed", user and user["pk"], tried)
            return False
        self._end(request)
        user["last_login"] = now_text()
        self.record("login", user["pk"], {"auth_method": "password", "auth_method_args": {}})
        key = self.sessions.logins.add(Login(user["pk"]), self.clock() + LOGIN_LIVES)
        self._set_cookie(request, response, key)
        return True

    def _set_cookie(self, request: Request, response: Response, key: str) -> None:
        response.set_cookie(COOKIE, key, path="/", secure=self._is_https(request), httponly=True, samesite="Lax")

    @route("GET", EXECUTOR_RULE)
    def challenge(self, request: Request, slug: str) -> Answer:
        """The login as a client without a browser goes it: the stage that is next, or where to go."""
        query = parse_qs(request.args.get("query", ""))
        if self._login(request) is not None:
            return 200, {"component": "xak-flow-redirect", "to": local_path(query.get("next", ["/"])[0])}
        return 200, self._stage(self.sessions.pending.get(request.cookies.get(COOKIE, "")))

    @route("POST", EXECUTOR_RULE)
    def solve(self, request: Request, slug: str) -> Answer:
        """A stage that is done redirects to the next; a wrong password is asked for again."""
        reply, key = request.get_json(force=True, silent=True) or {}, request.cookies.get(COOKIE, "")
        response, username = self._redirect(request.full_path), self.sessions.pending.get(key)
        if username is None:
            key = secrets.token_urlsafe(32)
            self.sessions.pending[key] = str(reply.get("uid_field", ""))
            self._set_cookie(request, response, key)
            return response
        if not self._enter(request, response, username, str(reply.get("password", ""))):
            errors = {"password": [{"string": "Invalid password", "code": "invalid"}]}
            return 200, {**self._stage(username), "response_errors": errors}
        del self.sessions.pending[key]
        return response

    @staticmethod
    def _stage(username: str | None) -> Object:
        if username is None:
            return {"component": "ak-stage-identification", "user_fields": ["username", "email"],
                    "password_fields": False, "primary_action": "Log in", "show_source_labels": False,
                    "flow_designation": "authentication", "sources": []}  # fmt: skip
        return {"component": "ak-stage-password", "pending_user": username, "pending_user_avatar": ""}

    @route("GET", "/application/o/authorize/")
    def authorize(self, request: Request) -> Answer:
        """A code for an application that the user may open, sent to the provider's own redirect URI only."""
        client, uri = request.args.get("client_id", ""), request.args.get("redirect_uri", "")
        provider = next((p for p in self.state.providers.values() if p["client_id"] == client), None)
        application = self.state.application_of(provider["pk"]) if provider else None
        if provider is None or application is None:
            return pages.message("Bad request", "The client identifier (client_id) is missing or invalid.", 400)
        if uri not in [entry["url"] for entry in provider["redirect_uris"] if entry["matching_mode"] == "strict"]:
            return pages.message("Bad request", "The redirect URI is missing or doesn't match the provider's.", 400)
        if request.args.get("response_type") != "code":
            return pages.message("Bad request", "Only response_type=code is supported.", 400)
        login = self._login(request)
        if login is None:
            return self._to_login(request)
        refusal = self._refusal(application, provider, login.user)
        if refusal:
            return pages.message("Permission denied", refusal, 403)
        made = Code(provider["pk"], uri, login.user, request.cookies.get(COOKIE, ""))
        about = {"name": application["name"], "app": "authentik_core", "model_name": "application",
                 "pk": application["pk"].replace("-", "")}  # fmt: skip
        self.record("authorize_application", login.user, {"authorized_application": about})
        code = self.sessions.codes.add(made, self.clock() + CODE_LIVES)
        query = urlencode({"code": code, "state": request.args.get("state", "")})
        return self._redirect(f"{uri}{'&' if '?' in uri else '?'}{query}")

    def _refusal(self, application: Object, provider: Object, user: int) -> str:
        """Why a user may not open an application; "" when they may."""
        if not may_open(self.state, application, user):
            return f"Request has been denied: {application['name']} is not open to this account."
        flow = self.state.flows[provider["authorization_flow"]]
        if not may_open(self.state, flow, user):
            return f"Request has been denied by a flow of {application['name']}."
        if missing_factor(self.state, flow["pk"], self.state.users[user]):
            return f"{application['name']} asks for a second factor, and none is set up."
        return ""

    @route("GET", "/if/session-end/")
    @route("GET", "/flows/-/default/invalidation/")
    def logout(self, request: Request) -> Answer:
        """End the session here, and those that it opened at applications."""
        self._end(request)
        response = pages.message("Logged out", "You have been logged out.")
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="Lax")
        return response

    # Helpers.

    def _login(self, request: Request) -> Login | None:
        login = self.sessions.logins.get(request.cookies.get(COOKIE, ""), self.clock())
        user = self.state.users.get(login.user) if login else None
        return login if user and user["is_active"] else None

    def _end(self, request: Request) -> None:
        key = request.cookies.get(COOKIE, "")
        login = self.sessions.logins.take(key, self.clock())
        if login is not None:
            self.sessions.proxied.drop(login=key)
            self.record("logout", login.user, {})

    def _is_https(self, request: Request) -> bool:
        return request.headers.get("X-Forwarded-Proto", request.scheme) == "https"

    def _form_action(self, target: str) -> str:
        return f"{LOGIN}?next={quote(target, safe='')}"

    def _to_login(self, request: Request) -> Response:
        asked = request.full_path.rstrip("?")
        return self._redirect(self._form_action(asked))
