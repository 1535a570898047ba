"""Caddy's admin API (https://caddyserver.com/docs/api).

Only the whole configuration is read and written, under its Etag: one look, one conditional
write. `/load` is never used, since it ignores If-Match and takes an empty body for "wipe all".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hecate.clients.http import JsonApi
from hecate.errors import Faulty, Refused

# Module (or the beginning of its name) -> a Caddyfile that needs it. {name}: the rest of the module's name.
PROBES = {
    "http.handlers.rate_limit": ":1\nroute {{\n rate_limit {{\n zone z {{\n key k\n events 1\n window 1s\n }}\n }}\n}}",
    "http.encoders.": ":1\nencode {name}",
    "dns.providers.": "{{\n acme_dns {name}\n}}",
    "caddy.storage.": "{{\n storage {name}\n}}",
    "http.handlers.": ":1\nroute {{\n {name}\n}}",
}


class CaddyClient:
    """admin: "unix//path/to.sock" or http://127.0.0.1:2019.

    Retry rule: reads as in clients.http; the write is sent once.
    """

    def __init__(self, admin: str, timeout: float = 60.0, sleep: Callable[[float], None] = time.sleep) -> None:
        is_socket = admin.startswith("unix/")
        base = f"http+unix://{quote(admin.removeprefix('unix/'), safe='')}" if is_socket else admin
        # A socket path has no host of its own, and Caddy refuses names that it does not expect.
        self._api = JsonApi("caddy", base, timeout=timeout, headers={"Host": ""} if is_socket else {}, sleep=sleep)

    def config(self) -> tuple[dict[str, Any], str]:
        """The whole configuration and its Etag."""
        answer = self._api.get("/config/")
        if not answer.etag:
            raise Faulty("caddy", "GET /config/ came without an Etag; Caddy 2.5 or newer is needed")
        return answer.data or {}, answer.etag

    def replace(self, config: dict[str, Any], etag: str, data: bytes | None = None, *, force: bool = False) -> None:
        """Put `config` in the place of the one that `etag` names. Raises Stale when it is gone.

        data: the same as JSON, where the caller has it already.
        force: load it even if Caddy believes that it runs already, and read certificate files anew.
        """
        if not config.get("apps"):
            raise ValueError("refusing to send a configuration without apps: Caddy would take it and serve nothing")
        forced = {"Cache-Control": "must-revalidate"} if force else {}
        self._api.send("POST", "/config/", data or config, headers={"If-Match": etag, **forced})

    def upstreams(self) -> list[dict[str, Any]]:
        """[{address, num_requests, fails}] of upstreams in use; fails: of passive checks alone."""
        return list(self._api.get("/reverse_proxy/upstreams").data or [])

    def gauges(self, metric: str, label: str) -> dict[str, float]:
        """Values of one metric by one of its labels (https://caddyserver.com/docs/metrics)."""
        pattern = re.compile(rf'^{metric}\{{[^}}]*\b{label}="([^"]*)"[^}}]*\}} (\S+)$', re.MULTILINE)
        return {found[1]: float(found[2]) for found in pattern.finditer(self._api.text("/metrics"))}

    def lacks(self, module: str) -> bool:
        """Whether this Caddy was built without a module: it is asked to adapt a Caddyfile that needs it.

        No other call tells; adapting leaves what runs alone. Any other complaint means that the module is there.
        """
        for prefix, caddyfile in PROBES.items():
            if module.startswith(prefix):
                text = caddyfile.format(name=module.removeprefix(prefix))
                try:
                    self._adapted(text)
                except Refused as err:
                    return "module not registered" in err.message or "unrecognized directive" in err.message
        return False

    def root_certificate(self, authority: str = "local") -> str:
        """PEM of the internal CA's root."""
        return str(self._api.get(f"/pki/ca/{authority}").data["root_certificate"])

    def adapt(self, caddyfile: str, *, allow_imports: bool = False) -> tuple[dict[str, Any], list[str]]:
        """A Caddyfile as this Caddy would read it, and its warnings; what runs is left alone.

        https://caddyserver.com/docs/api#post-adapt. Caddy reads whatever file an `import` names, as
        its own user, and hands it back: only snippets of the same text may be imported.
        allow_imports: files too; for text that Caddy's administrator wrote. Raises Refused.
        """
        leaks = [] if allow_imports else foreign_imports(caddyfile)
        if leaks:
            listed = "; ".join(f"line {number}: {text}" for number, text in leaks)
            raise Refused(
                "caddy",
                f"the Caddyfile imports what it does not define above: {listed}. Caddy would read these files and "
                "show them. Put the snippets into the text, or say allow_imports=True if all of it can be trusted",
            )
        answer = self._adapted(caddyfile)
        warnings = [f"line {w.get('line', '?')}: {w.get('message', '')}" for w in answer.get("warnings") or []]
        return dict(answer.get("result") or {}), warnings

    def _adapted(self, caddyfile: str) -> dict[str, Any]:
        headers = {"Content-Type": "text/caddyfile"}
        return self._api.send("POST", "/adapt", caddyfile.encode(), headers=headers).data or {}


# How Caddy reads a Caddyfile before it parses it: \r is dropped, {$NAME:default} replaced.
ENVIRONMENT = re.compile(r"\{\$[^}:]*(?::([^}]*))?\}")
IMPORT = re.compile(r"(?:^|(?<=[\s{}\"`]))import(?=[\s\"`]|$)[\"`]?\s*(\S*)")
SNIPPET = re.compile(r"^\((\w[\w-]*)\)\s*\{\s*$")  # a name only: what looks like one in a text must not be a path
BUILT = re.compile(r"(?:^|[{}]\s+)\s*\S*\{args")


def foreign_imports(caddyfile: str) -> list[tuple[int, str]]:
    """Lines that import anything but a snippet defined further up, with their numbers.

    Goes by lines and words, not by Caddy's grammar: better one sentence with the word `import` refused
    too much than one file shown. A directive whose name comes from {args...} could become an import.
    """
    defined: set[str] = set()
    found = []
    for number, raw in enumerate(caddyfile.replace("\r", "").split("\n"), 1):
        line = ENVIRONMENT.sub(lambda match: match[1] or "", raw.lstrip("\ufeff"))
        text = line if any(quote in line for quote in '"`') else re.sub(r"(^|\s)#.*", "", line)
        if text.lstrip().startswith("#"):
            continue
        names = [match[1].strip('"`') for match in IMPORT.finditer(text)]
        if any(name not in defined for name in names) or BUILT.search(text):
            found.append((number, raw.strip()[:120]))
        if snippet := SNIPPET.match(text):
            defined.add(snippet[1])
    return found
