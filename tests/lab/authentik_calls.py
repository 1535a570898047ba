"""A caller of the emulated authentik's API, with the shortcuts that its tests share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from lab.emulators.authentik import Authentik, described_by
from lab.emulators.base import running

TOKEN = "canary-token-4711"
SEED = {
    "users": [
        {"username": "alice", "name": "Alice Ä", "email": "alice@estate.test", "password": "pw-a", "groups": ["staff"]},
        {"username": "bob", "name": "Bob", "email": "bob@estate.test", "password": "pw-b"},
    ]
}
Json = dict[str, Any]


@dataclasses.dataclass
class Client:
    """A caller of the API with a token."""

    url: str
    app: Authentik
    token: str = TOKEN

    def __call__(self, method: str, path: str, json: Any = None, status: int | None = None, **params: Any) -> Any:
        answer = self.raw(method, path, json, **params)
        if status is None:
            assert answer.ok, answer.text
        else:
            assert answer.status_code == status, answer.text
        return answer.json() if answer.content and "json" in answer.headers["Content-Type"] else None

    def raw(self, method: str, path: str, json: Any = None, **params: Any) -> requests.Response:
        head = {"Authorization": f"Bearer {self.token}"}
        return requests.request(
            method,
            f"{self.url}/api/v3{path}",
            json=json,
            params=params,
            headers=head,
            timeout=10,
            allow_redirects=False,
        )

    def as_(self, token: str) -> Client:
        """Another caller of the same server."""
        return Client(self.url, self.app, token)

    def user(self, username: str) -> int:
        return int(self("GET", "/core/users/", username=username)["results"][0]["pk"])

    def policy(self, expression: str, name: str = "p") -> str:
        return str(self("POST", "/policies/expression/", {"name": name, "expression": expression}, 201)["pk"])

    def passes(self, username: str, slug: str = "app") -> bool:
        path = f"/core/applications/{slug}/check_access/"
        return bool(self("GET", path, for_user=self.user(username))["passing"])

    def flow(self, slug: str) -> str:
        return str(self("GET", "/flows/instances/", slug=slug)["results"][0]["pk"])

    def proxy_body(self, name: str, host: str = "https://app.estate.test") -> Json:
        flow = self.flow("default-provider-authorization-implicit-consent")
        body = {"name": name, "authorization_flow": flow, "external_host": host, "mode": "forward_single"}
        if self.app.state.release >= (2024, 12):
            body["invalidation_flow"] = self.flow("default-provider-invalidation-flow")
        return body

    def provider(self, name: str = "app", host: str = "https://app.estate.test") -> Json:
        return dict(self("POST", "/providers/proxy/", self.proxy_body(name, host), 201))

    def application(self, slug: str = "app", provider: int | None = None) -> Json:
        return dict(self("POST", "/core/applications/", {"name": slug, "slug": slug, "provider": provider}, 201))

    def group(self, name: str = "staff") -> Json:
        return dict(self("GET", "/core/groups/", name=name)["results"][0])

    def bind(self, target: Any, status: int = 201, **what: Any) -> Json:
        return dict(self("POST", "/policies/bindings/", {"target": target, "order": 0, **what}, status))

    def embedded(self) -> Json:
        return dict(
            self("GET", "/outposts/instances/", managed__iexact="goauthentik.io/outposts/embedded")["results"][0]
        )

    def attach(self, *providers: int) -> Json:
        body = {"type": "proxy", "providers": list(providers)}
        return dict(self("PATCH", f"/outposts/instances/{self.embedded()['pk']}/", body))


def described(version: str) -> Any:
    """The description of a version; skips where it is absent."""
    found = described_by(version)
    if found is None:
        pytest.skip("the folder ../shared/specs with the API descriptions is absent")
    return found


def client(**options: Any) -> Iterator[Client]:
    app = Authentik(TOKEN, seed=SEED, **options)
    with running(app) as url:
        yield Client(url, app)
