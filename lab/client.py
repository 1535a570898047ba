"""A visitor from outside: asks an edge for any public name, over TLS, as a browser would.

visitor = Visitor(lab.environment(), edge="hecate-edge-1")
page = visitor.get("https://observe.estate.test/")        # ends on the sign-in page, over redirects between hosts
page = visitor.login("alice", password)                   # and back on Grafana, with a session
"""

from __future__ import annotations

import html.parser
import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

TIMEOUT = 15.0


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self.path)


def admin(path: str, method: str, where: str, body: Any = None) -> Any:
    """The answer of a Caddy's admin API on the unix socket ``path``; None when it is empty."""
    connection = _Unix(path)
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, where, payload, {"Content-Type": "application/json"} if payload else {})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise OSError(f"{method} {where} on {path}: {answer.status} {said.decode(errors='replace')}")
        return json.loads(said) if said.strip() else None
    finally:
        connection.close()


class _Edge(HTTPAdapter):
    """Every name leads to one edge; SNI, Host and the certificate's check keep the name that was asked for."""

    def __init__(self, edge: Mapping[str, Any], root: str) -> None:
        self.edge = edge
        self.context = ssl.create_default_context(cadata=root)
        super().__init__()

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        scheme, host = urlsplit(request.url or "")[0], urlsplit(request.url or "").hostname
        tls = {"ssl_context": self.context, "server_hostname": host, "assert_hostname": host}
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(
            self.edge["address"], self.edge[scheme], scheme=scheme, pool_kwargs=tls if scheme == "https" else {}
        )
        return pool

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Name the host on the wire only: left in the request, a redirect to another host would take it along, and
        with it the cookies of the page before."""
        sent = request.copy()
        sent.headers["Host"] = urlsplit(request.url or "").netloc
        answer = super().send(sent, *args, **kwargs)
        answer.request = request
        return answer

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context verifies; requests' own bundle would only get in the way."""


class Visitor(requests.Session):
    """A browser with its cookies, whose every request goes to one edge of the lab.

    environment: what ``lab.environment()`` returns
    root: PEM of the CA to trust; by default the edge's own, asked from its admin API
    """

    def __init__(self, environment: Mapping[str, Any], edge: str = "hecate-edge-1", root: str = "") -> None:
        super().__init__()
        self.trust_env = False
        found = environment["edges"][edge]
        adapter = _Edge(found, root or admin(found["socket"], "GET", "/pki/ca/local")["root_certificate"])
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self.headers.update({"User-Agent": "lab-visitor", "Accept": "text/html,application/json;q=0.9,*/*;q=0.8"})
        self.page: requests.Response | None = None

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """As requests does, with a timeout always; the answer becomes the current page."""
        kwargs.setdefault("timeout", TIMEOUT)
        self.page = super().request(method, url, *args, **kwargs)
        return self.page

    def ask(self, url: str, **kwargs: Any) -> Any:
        """What the echoing upstream received, as data; raises unless the answer is 200."""
        answer = self.get(url, headers={"Accept": "application/json", **kwargs.pop("headers", {})}, **kwargs)
        answer.raise_for_status()
        return answer.json()

    def login(self, username: str, password: str) -> requests.Response:
        """Fill in the form of the current page, send it, and follow where it leads."""
        form = _Form()
        form.feed(self.page.text if self.page is not None else "")
        if self.page is None or "password" not in form.fields:
            raise AssertionError(f"no login form on {self.page.url if self.page is not None else 'no page'}")
        data = {**form.fields, "username": username, "password": password}
        return self.post(urljoin(self.page.url, form.action), data=data)


class _Form(html.parser.HTMLParser):
    """The action and the fields of a page's form."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = found.get("action", "")
        elif tag == "input" and "name" in found:
            self.fields[found["name"]] = found.get("value", "")
