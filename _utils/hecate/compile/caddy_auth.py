"""Forward auth (https://caddyserver.com/docs/caddyfile/directives/forward_auth): who may pass.

There is no such handler in Caddy's JSON; the directive expands to a reverse_proxy that asks, and so
does this. Written out, it is on us to delete what a client sent before anything is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hecate.model.estate import Estate
from hecate.model.identity import AuthPolicy

Handler = dict[str, Any]
OUTPOST_PATH = "/outpost.goauthentik.io"
PERSON = ("Username", "Groups", "Entitlements", "Email", "Name", "Uid", "Jwt")
IDENTITY = (*PERSON, "Meta-Jwks", "Meta-Outpost", "Meta-Provider", "Meta-App", "Meta-Version")


@dataclass(frozen=True)
class Gate:
    """Whom to ask, and what its answer says. Fields as of model.identity.ForwardAuth.

    also: further headers of its answer, and what they must be for anybody to pass.
    """

    address: str
    uri: str
    passage: tuple[str, ...]
    user_header: str
    headers: tuple[str, ...]
    cookies: tuple[str, ...] = ()
    sign_in: str | None = None
    timeout: str = "10s"
    also: Mapping[str, str] = field(default_factory=dict)


def gate(estate: Estate, policy: AuthPolicy) -> Gate | None:
    """The gate of a policy; None where nobody is asked."""
    if policy.provider == "none":
        return None
    if policy.provider != "authentik":
        own = estate.forward_auth[policy.provider]
        return Gate(**{name: getattr(own, name) for name in Gate.__dataclass_fields__ if name != "also"})
    assert estate.authentik, "checked by the model"
    # An application that went missing at the outpost must not be answered for by another that covers its domain.
    asked = f"*.{policy.domain.name}" if policy.domain else "{http.request.host}"
    outposts = estate.authentik.outposts
    return Gate(
        outposts[policy.outpost].address if policy.outpost else estate.authentik.outpost,
        f"{OUTPOST_PATH}/auth/caddy",
        (f"{OUTPOST_PATH}/*",),
        "X-Authentik-Username",
        tuple(f"X-Authentik-{name}" for name in IDENTITY),
        ("authentik_proxy_",),
        also={"X-Authentik-Meta-Provider": f"hecate/{estate.environment}/{asked}"},
    )


def strip_identity(estate: Estate) -> Handler:
    """Delete every header that says who somebody is: on public routes too, whoever sent it."""
    others = {name for own in estate.forward_auth.values() for name in (own.user_header, *own.headers)}
    return {"handler": "headers", "request": {"delete": ["X-Authentik-*", *sorted(others)]}}


def closed() -> Handler:
    """In place of a protected service whose protection is not known to be there."""
    body = "This service is protected, and its protection is not confirmed yet.\n"
    headers = {"Retry-After": ["30"], "Cache-Control": ["no-store"]}
    return {"handler": "static_response", "status_code": 503, "headers": headers, "body": body}


def passage(ask: Gate) -> list[Handler]:
    """The provider's own pages (start, callback, sign-out) come before any check."""
    if not ask.passage:
        return []
    transport = {"protocol": "http", "dial_timeout": "3s", "response_header_timeout": ask.timeout}
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": ask.address}], "transport": transport}
    return [{"match": [{"path": list(ask.passage)}], "handle": [proxy], "terminal": True}]


def check(ask: Gate) -> Handler:
    """Ask; only a 2xx that names a user goes on (CVE-2026-25748: 200 without identity), and that is about this host."""
    named = {name.lower(): name for name in (ask.user_header, *ask.headers)}
    copies = []
    for header in named.values():
        value = f"{{http.reverse_proxy.header.{header}}}"
        copy = {"handler": "headers", "request": {"set": {header: [value]}}}
        copies.append({"match": [{"not": [{"vars": {value: [""]}}]}], "handle": [copy]})
    # What the client lists there would be taken off again on the way to the upstream, as being for one hop only.
    listed = {"search_regexp": f"(?i){'|'.join(_quoted(name) for name in named)}", "replace": ""}
    copies.append({"handle": [{"handler": "headers", "request": {"replace": {"Connection": [listed]}}}]})
    nobody = {"handler": "static_response", "status_code": 403, "body": "The sign-in service named no user.\n"}
    user = f"{{http.reverse_proxy.header.{ask.user_header}}}"
    wrong: list[Handler] = [{"vars": {user: [""]}}]
    wrong += [
        {"not": [{"vars": {f"{{http.reverse_proxy.header.{name}}}": [value]}}]} for name, value in ask.also.items()
    ]
    passed = {
        "match": {"status_code": [2]},
        "routes": [{"match": wrong, "handle": [nobody], "terminal": True}, *copies],
    }
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": ask.address}],
        # With the question mark the client's own query is left out: a provider may read settings from it.
        "rewrite": {"method": "GET", "uri": ask.uri if "?" in ask.uri else f"{ask.uri}?"},
        "headers": {
            "request": {
                "set": {"X-Forwarded-Method": ["{http.request.method}"], "X-Forwarded-Uri": ["{http.request.uri}"]},
                "delete": ["Connection", "Upgrade"],  # the question is no websocket, whatever the request may become
            }
        },
        "transport": {"protocol": "http", "dial_timeout": "3s", "response_header_timeout": ask.timeout},
        "handle_response": [passed, *_signed_in_elsewhere(ask)],
    }


def hide_cookies(ask: Gate) -> list[Handler]:
    """The session at the gate is not the upstream's: whoever has its cookie is the user, everywhere."""
    if not ask.cookies:
        return []
    names = "|".join(_quoted(prefix) for prefix in ask.cookies)
    gone = {"search_regexp": f"(^|;\\s*)(?:{names})[^=;]*=[^;]*", "replace": ""}
    start = {"search_regexp": "^;\\s*", "replace": ""}
    return [{"handle": [{"handler": "headers", "request": {"replace": {"Cookie": [gone, start]}}}]}]


def _quoted(prefix: str) -> str:
    return "".join(c if c.isalnum() or c in "_-" else f"\\{c}" for c in prefix)


def _signed_in_elsewhere(ask: Gate) -> list[Handler]:
    if not ask.sign_in:
        return []
    away = {"handler": "static_response", "status_code": 302, "headers": {"Location": [ask.sign_in]}}
    return [{"match": {"status_code": [401]}, "routes": [{"handle": [away]}]}]
