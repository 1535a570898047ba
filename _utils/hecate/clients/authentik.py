"""authentik's REST API v3 (https://api.goauthentik.io/).

Quirks answered here: the server shows its own crashes as 405 without JSON; filters that it does
not know return everything; a wrong token is 403, never 401; a list may change between two of its pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import requests

from hecate.clients.http import JsonApi
from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound, Refused

PAGE = 100
LOOKS = 3  # at a list that changes while it is read
FORM = "application/x-www-form-urlencoded"
VERBS = {"GET": "view", "POST": "add", "PUT": "add", "PATCH": "change", "DELETE": "delete"}
# What the server calls its rights for: https://docs.goauthentik.io/users-sources/access-control/permissions/
MODELS = {
    "/core/groups/": "authentik_core.group",
    "/core/users/": "authentik_core.user",
    "/core/tokens/": "authentik_core.token",
    "/core/brands/": "authentik_brands.brand",
    "/core/applications/": "authentik_core.application",
    "/providers/all/": "authentik_core.provider",
    "/providers/proxy/": "authentik_providers_proxy.proxyprovider",
    "/providers/oauth2/": "authentik_providers_oauth2.oauth2provider",
    "/providers/saml/": "authentik_providers_saml.samlprovider",
    "/policies/bindings/": "authentik_policies.policybinding",
    "/policies/expression/": "authentik_policies_expression.expressionpolicy",
    "/policies/event_matcher/": "authentik_policies_event_matcher.eventmatcherpolicy",
    "/flows/instances/": "authentik_flows.flow",
    "/flows/bindings/": "authentik_flows.flowstagebinding",
    "/stages/authenticator/validate/": "authentik_stages_authenticator_validate.authenticatorvalidatestage",
    "/outposts/instances/": "authentik_outposts.outpost",
    "/propertymappings/scope/": "authentik_providers_oauth2.scopemapping",
    "/propertymappings/provider/scope/": "authentik_providers_oauth2.scopemapping",
    "/propertymappings/saml/": "authentik_providers_saml.samlpropertymapping",
    "/propertymappings/provider/saml/": "authentik_providers_saml.samlpropertymapping",
    "/propertymappings/notification/": "authentik_events.notificationwebhookmapping",
    "/events/transports/": "authentik_events.notificationtransport",
    "/events/rules/": "authentik_events.notificationrule",
    "/events/events/": "authentik_events.event",
    "/crypto/certificatekeypairs/": "authentik_crypto.certificatekeypair",
}
# What ends a path, and has a right of its own.
MEMBERSHIP = {"add_user": "add_user_to_group", "remove_user": "remove_user_from_group"}
ACTS = {**MEMBERSHIP, "set_key": "set_token_key", "view_key": "view_token_key"}
TOGETHER = "/core/transactional/applications/"


class Crashed(Faulty):
    """The server failed on a write (an empty 405): whether it took effect, only looking again tells."""


class _Api(JsonApi):
    def failure(self, response: requests.Response, where: str) -> ApiFailure:
        if response.status_code == 405 and "json" not in response.headers.get("Content-Type", ""):
            return Crashed(self.system, f"{where}: the server failed (it shows crashes as an empty 405)", code=405)
        found = super().failure(response, where)
        if isinstance(found, NotAuthorised):
            return NotAuthorised(
                self.system, f"{found.message}\n{_right(where)}", code=found.code, request_id=found.request_id
            )
        return found


LACKS = "the token is wrong or expired, or its user lacks"


def _right(where: str) -> str:
    """The right that a refused call wants, or what else may be wrong."""
    method, _, path = where.partition(" ")
    if right := ACTS.get(path.rstrip("/").rpartition("/")[2]):
        return f"{LACKS} the right {right}"
    for start, model in MODELS.items():
        if path.startswith(start):
            return f"{LACKS} the right {VERBS[method]}_{model.partition('.')[2]}"
    return f"{LACKS} a right"


class AuthentikClient:
    """url: base of the server. token: an API token's key; goes into one header and nowhere else.

    Retry rule: reads as in clients.http; writes are sent once, and the caller looks again before it sends one anew.
    """

    def __init__(
        self,
        url: str,
        token: str,
        timeout: float = 60.0,
        mask: Callable[[str], str] = str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self._made = (f"{url}/api/v3", timeout, mask, sleep)
        self._api = self._with(token)

    def _with(self, token: str) -> _Api:
        base, timeout, mask, sleep = self._made
        headers = {"Authorization": f"Bearer {token}"}
        return _Api("authentik", base, headers=headers, timeout=timeout, mask=mask, sleep=sleep)

    def version(self) -> str:
        return str(self._api.get("/admin/version/").data["version_current"])

    def newest_change(self) -> str:
        """Key and time of the newest event of an object made, changed or deleted; "" where there is none.

        One small page. `action` finds what contains it; what else comes is passed over.
        """
        path = "/events/events/"
        answer = self._api.get(path, {"action": "model_", "ordering": "-created", "page_size": 20})
        try:
            rows = [row for row in answer.data["results"] if str(row["action"]).startswith("model_")]
            return f"{rows[0]['created']} {rows[0]['pk']}" if rows else ""
        except (KeyError, TypeError) as err:
            raise Faulty("authentik", f"GET {path}: a page without events") from err

    def owner_of(self, key: str) -> str:
        """Username of the user whose API token has this key; "" for a key that is nobody's."""
        try:
            return str(self._with(key).get("/core/users/me/").data["user"]["username"])
        except NotAuthorised:
            return ""

    def takes_secret(self, client_id: str, secret: str) -> bool:
        """Whether an OAuth2 client is let in with this secret: it asks for a refresh without anything to refresh.

        RFC 6749, 5.2: invalid_client for a wrong secret, invalid_grant once that is right. Nothing is issued.
        """
        _, timeout, mask, sleep = self._made
        form = {"grant_type": "refresh_token", "client_id": client_id, "client_secret": secret}
        api = JsonApi("authentik", self.url, timeout=timeout, mask=mask, sleep=sleep)
        try:
            api.send("POST", "/application/o/token/", urlencode(form).encode(), headers={"Content-Type": FORM})
        except Refused as err:
            said = err.body.get("error") if isinstance(err.body, dict) else None
            if said in ("invalid_client", "invalid_grant"):
                return bool(said == "invalid_grant")
            raise
        raise Faulty("authentik", "POST /application/o/token/: a refresh without a refresh token was granted")

    def all(self, path: str, **filters: Any) -> list[dict[str, Any]]:
        """Every object under `path`, page by page. The caller re-checks what filters promised.

        Raises Faulty when the list never holds still long enough to be read whole.
        """
        return self.seen(path, **filters)[0]

    def seen(self, path: str, hidden: bool = False, **filters: Any) -> tuple[list[dict[str, Any]], bool]:
        """As `all`, and whether these are all that there are. hidden: the server may keep some to itself."""
        for _ in range(LOOKS):
            found, counts = self._pages(path, filters)
            if counts == {len(found)}:
                return found, True
            if hidden:
                return found, False
        said = " or ".join(map(str, sorted(counts)))
        raise Faulty("authentik", f"GET {path}: {said} objects are said to be there, and {len(found)} were shown")

    def _pages(self, path: str, filters: Mapping[str, Any]) -> tuple[list[dict[str, Any]], set[int]]:
        """The objects, and how many there are: by each page, since what goes meanwhile moves others off the next."""
        found: dict[Any, dict[str, Any]] = {}
        page, counts = 1, set()
        while page:
            answer = self._api.get(
                path, {**filters, "page": page, "page_size": PAGE, "ordering": filters.get("ordering", "pk")}
            )
            try:
                found.update({row.get("pk", row.get("brand_uuid")): row for row in answer.data["results"]})
                counts.add(int(answer.data["pagination"]["count"]))
                page = int(answer.data["pagination"]["next"])
            except (KeyError, TypeError, AttributeError) as err:
                raise Faulty("authentik", f"GET {path}: a page without results or pagination") from err
        return list(found.values()), counts

    def get(self, path: str) -> dict[str, Any]:
        return dict(self._api.get(path).data)

    def used_by(self, path: str, key: Any) -> list[dict[str, Any]]:
        """What hangs from an object: [{app, model_name, pk, name, action}], action "cascade" for what goes with it."""
        return list(self._api.get(f"{path}{quote(str(key))}/used_by/").data)

    def may_open(self, slug: str, user: int) -> bool:
        """The server's own word: whether a user may open an application. For superusers; others hear of themselves."""
        found = self._api.get(f"/core/applications/{quote(slug)}/check_access/", {"for_user": user}).data
        return bool(found["passing"])

    def devices(self, user: int) -> list[dict[str, Any]]:
        """Second factors of a user, of all kinds: [{type, name, confirmed}]. For superusers."""
        return list(self._api.get("/authenticators/admin/all/", {"user": user}).data)

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._api.send("POST", path, body).data)

    def create_together(self, body: Mapping[str, Any]) -> None:
        """Provider, application and bindings, all or none. Raises Faulty when the server says that it did nothing."""
        try:
            answer = self._api.send("PUT", TOGETHER, body).data
        except NotAuthorised as err:
            made = [body["provider_model"], MODELS["/core/applications/"]]
            made += [MODELS["/policies/bindings/"]] if body.get("policy_bindings") else []
            rights = ", ".join(f"add_{model.partition('.')[2]}" for model in made)
            why = f"PUT {TOGETHER}: {LACKS} one of the rights {rights}"
            raise NotAuthorised("authentik", why, code=err.code, request_id=err.request_id) from err
        if not answer.get("applied"):
            why = "; ".join(map(str, answer.get("logs") or ())) or "another call came in between"
            raise Faulty("authentik", f"PUT {TOGETHER}: nothing was made ({why})")

    def patch(self, path: str, key: Any, body: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._api.send("PATCH", f"{path}{quote(str(key))}/", body).data)

    def act(self, path: str, body: Mapping[str, Any]) -> None:
        """A POST that makes nothing."""
        self._api.send("POST", path, body)

    def delete(self, path: str, key: Any) -> None:
        """What is gone already is as good as deleted."""
        try:
            self._api.send("DELETE", f"{path}{quote(str(key))}/")
        except NotFound:
            pass
