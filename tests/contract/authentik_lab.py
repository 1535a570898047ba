"""The emulated authentik, Hecate on top of it, and who gets in there meanwhile."""

from __future__ import annotations

import contextlib
import copy
import io
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests
from hecate import model, wiring
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from lab.emulators.authentik import Authentik
from lab.emulators.authentik_access import may_open, missing_factor
from lab.emulators.base import Fault, running

Row = dict[str, Any]
Pillar = dict[str, Any]
SECRETS = {f"SECRET_{n}": f"canary-{n}-{secrets.token_hex(16)}" for n in ("A", "B", "C")}
SEED: Row = {
    "groups": ["staff"],
    "users": [
        {"username": "mallory", "name": "Nobody's member"},
        {"username": "alice", "name": "Alice", "groups": ["staff"]},
        {"username": "bob", "name": "Bob", "groups": ["ops"]},
        {"username": "carol", "name": "Carol", "groups": ["staff"], "attributes": {"dept": "x", "lab/mfa": True}},
        {"username": "dave", "name": "Dave", "groups": ["staff", "ops"], "attributes": {"lab/mfa": ["totp"]}},
    ],
}
AUTHORIZATION, INVALIDATION = "default-provider-authorization-implicit-consent", "default-provider-invalidation-flow"


class AuthentikLab:
    """One server, and a folder for Hecate's own files."""

    def __init__(self, emulator: Authentik, url: str, folder: Path) -> None:
        self.emulator, self.url, self.folder = emulator, url, folder
        self.token = emulator.token
        self.naps: list[float] = []

    def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        time.sleep(min(seconds, 0.01))

    # Hecate's side

    def pillar(self, **hecate: Any) -> Pillar:
        """policies, routes and so on; `authentik` is added to the access."""
        access = {"url": self.url, "token": "env:AUTHENTIK_TOKEN", **hecate.pop("authentik", {})}
        safety = {"deletes": 100, "percent": 100}
        return {"authentik": access, "caddy": {"issuer": "internal"}, "safety": safety, **hecate}

    def target(self, pillar: Pillar, allow: tuple[str, ...] = ()) -> wiring.Target:
        """pillar: as for `pillar`."""
        estate = model.parse({"hecate": self.pillar(**pillar)})
        return wiring.target("authentik", estate, wiring.Place("idp", self.folder, allow=allow, sleep=self.nap))

    def apply(self, pillar: Pillar, name: str = "t", allow: tuple[str, ...] = ()) -> wiring.Target:
        """Apply, and see that nothing is left to do."""
        target = self.target(pillar, allow)
        target.engine.apply(target.wish, name)
        assert target.engine.plan(target.wish).changes == ()
        return target

    # The server's side, as somebody else uses it

    def api(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        answer = requests.request(
            method,
            f"{self.url}/api/v3{path}",
            json=body,
            params=params,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=10,
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def rows(self, table: str) -> list[Row]:
        return list(self.emulator.state.table(table).values())

    def row(self, table: str, name: str) -> Row:
        """By whatever names it."""
        for row in self.rows(table):
            if name in (row.get("slug"), row.get("name"), row.get("username"), row.get("identifier")):
                return row
        raise AssertionError(f"no {name} among {table}")

    def names(self, table: str) -> set[str]:
        return {str(row.get("slug") or row.get("name") or row.get("username")) for row in self.rows(table)}

    def flow(self, slug: str) -> str:
        return str(self.row("flows", slug)["pk"])

    def stranger(self, slug: str, *, host: str = "", mode: str = "any", **application: Any) -> Row:
        """An application with a proxy provider on the embedded outpost, as a person would have made it."""
        flows = {"authorization_flow": self.flow(AUTHORIZATION)}
        if self.emulator.state.release >= (2024, 12):
            flows["invalidation_flow"] = self.flow(INVALIDATION)
        where = {"mode": "forward_single", "external_host": f"https://{host or slug + '.test'}"}
        provider = self.api("POST", "/providers/proxy/", {"name": f"by hand {slug}", **flows, **where})["pk"]
        wanted = {"name": slug, "slug": slug, "provider": provider, "policy_engine_mode": mode, **application}
        made = dict(self.api("POST", "/core/applications/", wanted))
        self.attach(provider)
        return made

    def attach(self, *providers: int) -> None:
        outpost = self.embedded
        wanted = sorted({*outpost["providers"], *providers})
        self.api("PATCH", f"/outposts/instances/{outpost['pk']}/", {"type": "proxy", "providers": wanted})

    @property
    def embedded(self) -> Row:
        return next(row for row in self.rows("outposts") if row["managed"])

    def outpost(self, name: str = "") -> set[str]:
        """Names of the providers on an outpost; "" is the embedded one."""
        row = self.row("outposts", name) if name else self.embedded
        return {self.emulator.state.providers[pk]["name"] for pk in row["providers"]}

    def bind(self, slug: str, order: int = 0, **what: Any) -> Row:
        target = self.row("applications", slug)["pk"]
        return dict(self.api("POST", "/policies/bindings/", {"target": target, "order": order, **what}))

    def policy(self, name: str, expression: str) -> str:
        return str(self.api("POST", "/policies/expression/", {"name": name, "expression": expression})["pk"])

    def bindings(self, slug: str) -> set[str]:
        """What an application is bound to: "group staff", "policy hecate/..."."""
        state, target = self.emulator.state, self.row("applications", slug)["pk"]
        found = set()
        for row in self.rows("bindings"):
            if row["target"] == target:
                kind = next(kind for kind in ("group", "policy", "user") if row[kind])
                table = {"group": state.groups, "policy": state.policies, "user": state.users}[kind]
                bound = table[row[kind]]
                found.add(f"{kind} {bound.get('name') or bound['username']}")
        return found

    def members(self, group: str) -> set[str]:
        return {self.emulator.state.users[pk]["username"] for pk in self.row("groups", group)["users"]}

    def enters(self, door: str, username: str) -> bool:
        """See `enters`."""
        return enters(self.emulator.state, door, username)

    # What was asked

    def faults(self, *faults: Fault) -> None:
        self.emulator.set_faults(faults)

    def forget_calls(self) -> None:
        self.emulator.calls.clear()

    def calls(self, method: str = "") -> list[str]:
        """ "METHOD /path?query"; method "WRITE": whatever isn't a read."""
        return [
            f"{call['method']} {call['path'].removeprefix('/api/v3')}" + (f"?{call['query']}" if call["query"] else "")
            for call in self.emulator.calls
            if call["path"].startswith("/api/v3")
            and (method in ("", call["method"]) or (method == "WRITE" and call["write"]))
        ]

    def everything(self) -> Row:
        """The server's own view; a binding that was removed and made again has a new key, which nobody uses."""
        shown = copy.deepcopy(self.emulator.public_state())
        for row in shown["bindings"]:
            del row["pk"]
        return {name: sorted(rows, key=repr) for name, rows in shown.items() if isinstance(rows, list)}


@contextlib.contextmanager
def authentik_lab(folder: Path, monkeypatch: pytest.MonkeyPatch, **emulator: Any) -> Iterator[AuthentikLab]:
    """emulator: as Authentik takes it. What it has to say against our requests, or its own answers, fails the test."""
    token = secrets.token_hex(20)
    monkeypatch.setenv("AUTHENTIK_TOKEN", token)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    app = Authentik(token, **{"seed": SEED, **emulator})
    with running(app) as url:
        yield AuthentikLab(app, url, folder)
        assert app.violations == []


def route(policy: str, **more: Any) -> Row:
    return {"upstreams": ["127.0.0.1:1"], "auth_policy": policy, **more}


def oauth2(policy: str, **more: Any) -> Row:
    said = {"client_secret": "env:SECRET_A", "redirect_uris": ["https://graf.estate.test/cb"], **more}
    return {"auth_policy": policy, "oauth2": said}


WHOLE: Pillar = {
    "auth_policies": {
        "p": {"groups": ["staff", "crew"]},
        "m": {"groups": ["staff"], "require_mfa": True},
        "eu": {"groups": ["staff"], "attributes": {"dept": "x"}, "outpost": "eu"},
    },
    "routes": {
        "a.estate.test": route("p"),
        "b.estate.test": route("m"),
        "c.estate.test": route("eu"),
    },
    "applications": {"graf": oauth2("p"), "wiki": {"auth_policy": "p", "saml": {"acs_url": "https://w.test/acs"}}},
    "authentik": {
        "groups": {"crew": {"members": ["alice", "ci"]}},
        "service_accounts": {"ci": {"tokens": {"one": "env:SECRET_B"}}},
        "brands": {"login.estate.test": {"title": "Estate"}},
        "outposts": {"eu": {"address": "127.0.0.1:9001"}},
        "events": {"url": "https://hooks.estate.test/x", "secret": "env:SECRET_C"},
    },
}
"""Some of everything."""


def enters(state: Any, door: str, username: str) -> bool:
    """Whether a user would get in through a door now: a host, or the slug of an application that logs in by itself.

    Through a host whenever an application of its name, or of its domain, has a provider that is on an outpost.
    """
    user = state.user_named(username)
    attached = {pk for outpost in state.outposts.values() for pk in outpost["providers"]}
    for application in state.applications.values():
        provider = state.providers.get(application["provider"])
        if provider is None or not _leads(door, application, provider, attached):
            continue
        refused = missing_factor(state, provider["authorization_flow"], user)
        if may_open(state, application, user["pk"]) and not refused:
            return True
    return False


def _leads(door: str, application: Row, provider: Row, attached: set[Any]) -> bool:
    if provider["kind"] != "proxy":
        return bool(application["slug"] == door)
    if provider["pk"] not in attached:
        return False
    domain = provider["cookie_domain"] if provider["mode"] == "forward_domain" else ""
    host = urlsplit(provider["external_host"]).hostname
    return door == host or bool(domain and (door == domain or door.endswith(f".{domain}")))


class Killed(BaseException):
    """The process ended here: nothing catches it, nothing is put back."""


class Line(BaseAdapter):
    """A client's line to the emulator, without a network in between; `written` is told of each write's end.

    kill: how many writes still pass; the next one is never sent, and Killed is raised. None: all pass.
    bend: may change a request before it is sent. spoil: may change an answer before it is seen.
    """

    def __init__(
        self,
        app: Authentik,
        written: Callable[[str], None] = lambda call: None,
        kill: int | None = None,
        *,
        bend: Callable[[requests.PreparedRequest], None] = lambda request: None,
        spoil: Callable[[requests.PreparedRequest, requests.Response], None] = lambda request, answer: None,
    ) -> None:
        super().__init__()
        self.app, self.written, self.kill, self._bend, self._spoil = app, written, kill, bend, spoil

    def onto(self, target: wiring.Target) -> wiring.Target:
        """Have a target's client use this line."""
        client: Any = target.backend.client  # type: ignore[attr-defined]
        client._api._session.mount("http://", self)
        return target

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:  # type: ignore[override]
        is_write = request.method != "GET"
        if is_write and self.kill is not None:
            if not self.kill:
                raise Killed
            self.kill -= 1
        self._bend(request)
        try:
            answer = self._asked(request)
            self._spoil(request, answer)
        except ConnectionAbortedError as err:
            raise requests.ConnectionError(err) from err
        finally:
            if is_write:
                self.written(f"{request.method} {request.path_url}")
        return answer

    def _asked(self, request: requests.PreparedRequest) -> requests.Response:
        body = request.body.encode() if isinstance(request.body, str) else bytes(request.body or b"")  # type: ignore[arg-type]
        path, _, query = request.path_url.partition("?")
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": unquote(path),
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_AUTHORIZATION": request.headers["Authorization"],
            "HTTP_HOST": "authentik.test",
            "SERVER_NAME": "authentik.test",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
        }
        answer = requests.Response()

        def start(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
            answer.status_code = int(status.split()[0])
            answer.headers = CaseInsensitiveDict(headers)
            return lambda data: None

        answer._content = b"".join(self.app(environ, start))  # type: ignore[arg-type]
        answer.url = str(request.url)
        return answer

    def close(self) -> None:
        """Nothing is held open."""
