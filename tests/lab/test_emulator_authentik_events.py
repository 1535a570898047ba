"""Events of the emulated authentik, and their way out: rule, matcher, transport, mapping, webhook."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from authentik_calls import Client, Json, client, described

LOGIN = "/if/flow/default-authentication-flow/"
Received = tuple[dict[str, str], Any]


@dataclasses.dataclass
class Hook:
    """A server that keeps what it is sent."""

    url: str
    inbox: queue.Queue[Received]

    def next(self) -> Received:
        return self.inbox.get(timeout=10)

    def quiet(self, ak: Client) -> bool:
        """Whether nothing came, once all that is under way has been sent."""
        ak.app._sender.submit(lambda: None).result(timeout=10)
        return self.inbox.empty()


@pytest.fixture
def hook() -> Iterator[Hook]:
    inbox: queue.Queue[Received] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inbox.put((dict(self.headers), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield Hook(f"http://127.0.0.1:{server.server_port}/", inbox)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["2024.2.4", "2025.6.4", "2026.5.6"])
def ak(request: pytest.FixtureRequest) -> Iterator[Client]:
    for found in client(version=request.param, description=described(request.param)):
        yield found
        assert found.app.violations == []


def notify(ak: Client, hook: Hook, expression: str = "", send_once: bool = True, **matcher: Any) -> Json:
    """A rule that tells the staff of what the matcher matches; returns the transport."""
    release = ak.app.state.release
    way: Json = {"name": "w", "mode": "webhook", "webhook_url": hook.url, "send_once": send_once}
    if expression:
        mapping = ak("POST", "/propertymappings/notification/", {"name": "m", "expression": expression}, 201)
        way["webhook_mapping" if release < (2025, 4) else "webhook_mapping_body"] = mapping["pk"]
    made = ak("POST", "/events/transports/", way, 201)
    group = "group" if release < (2025, 8) else "destination_group"
    rule = ak("POST", "/events/rules/", {"name": "r", "transports": [made["pk"]], group: ak.group()["pk"]}, 201)
    policy = ak("POST", "/policies/event_matcher/", {"name": "matcher", **matcher}, 201)
    ak.bind(rule["pk"], policy=policy["pk"])
    return dict(made)


def fail_to_log_in(ak: Client, username: str) -> None:
    answer = requests.post(f"{ak.url}{LOGIN}", data={"username": username, "password": "wrong-pw"}, timeout=10)
    assert answer.status_code == 400


def test_logins_and_changes_are_events_and_are_found_by_filters(ak: Client) -> None:
    fail_to_log_in(ak, "bob")
    fail_to_log_in(ak, "nobody-at-all")
    requests.post(f"{ak.url}{LOGIN}", data={"username": "bob", "password": "pw-b"}, timeout=10, allow_redirects=False)
    group = ak("POST", "/core/groups/", {"name": "new"}, 201)["pk"]
    ak("PATCH", f"/core/groups/{group}/", {"name": "newer"})
    answer = ak.raw("DELETE", f"/core/groups/{group}/")
    rows = ak("GET", "/events/events/", ordering="-created", page_size=100)["results"]
    assert [row["action"] for row in rows] == [
        "model_deleted", "model_updated", "model_created", "login", "login_failed", "login_failed",
    ]  # fmt: skip
    about = {"app": "authentik_core", "model_name": "group", "pk": group.replace("-", ""), "name": "newer"}
    assert rows[0]["context"]["model"] == about
    assert rows[0]["context"]["http_request"]["request_id"] == answer.headers["X-authentik-Id"]
    assert ak("GET", "/events/events/", username="bob")["pagination"]["count"] == 2
    assert ak("GET", "/events/events/", action="login_failed", username="bob")["pagination"]["count"] == 1
    assert ak("GET", "/events/events/", context_model_pk=group)["pagination"]["count"] == 3
    assert "wrong-pw" not in json.dumps(rows)


def test_a_deletion_tells_of_what_went_along(ak: Client) -> None:
    group = ak.group()["pk"]
    ak.bind(ak.application()["pk"], group=group)
    ak("DELETE", f"/core/groups/{group}/", status=204)
    gone = ak("GET", "/events/events/", action="model_deleted")["results"]
    assert {row["context"]["model"]["name"] for row in gone} == {"staff", "Binding from app #0 to Group staff"}


def test_a_matching_event_arrives_with_the_default_body(ak: Client, hook: Hook) -> None:
    notify(ak, hook, action="login_failed")
    fail_to_log_in(ak, "bob")
    _, body = hook.next()
    assert (body["user_username"], body["event_user_username"], body["severity"]) == ("alice", "bob", "notice")
    assert "wrong-pw" not in json.dumps(body)
    assert hook.quiet(ak)


SIGNED = """
import hashlib, hmac, json, time
event = notification.event
payload = json.dumps({"id": str(event.pk), "sent": int(time.time()), "action": event.action, "user": event.user,
                      "created": event.created.isoformat(), "model": event.context.get("model")})
return {"payload": payload, "signature": hmac.new(b"k", payload.encode(), hashlib.sha256).hexdigest()}
"""


def test_a_mapping_makes_the_body(ak: Client, hook: Hook) -> None:
    notify(ak, hook, SIGNED, action="model_created", model="authentik_core.user")
    ak("POST", "/core/groups/", {"name": "another model"}, 201)
    made = ak("POST", "/core/users/", {"username": "carol", "name": "Carol"}, 201)
    _, body = hook.next()
    assert hmac.new(b"k", body["payload"].encode(), hashlib.sha256).hexdigest() == body["signature"]
    payload = json.loads(body["payload"])
    assert payload["model"] == {"app": "authentik_core", "model_name": "user", "pk": made["pk"], "name": "carol"}
    assert payload["user"]["username"] == "akadmin"
    assert payload["id"] == ak("GET", "/events/events/", action="model_created", context_model_name="user")[
        "results"
    ][0]["pk"]  # fmt: skip
    assert hook.quiet(ak)


def test_headers_have_a_mapping_of_their_own(hook: Hook) -> None:
    for ak in client(version="2026.5.6"):
        made = notify(ak, hook, action="login_failed")
        body = {"name": "h", "expression": "return {'X-Count': 1}"}
        mapping = ak("POST", "/propertymappings/notification/", body, 201)["pk"]
        ak("PATCH", f"/events/transports/{made['pk']}/", {"webhook_mapping_headers": mapping})
        fail_to_log_in(ak, "bob")
        assert hook.next()[0]["X-Count"] == "1"


@pytest.mark.parametrize("matcher", [{"action": "login"}, {"action": "login_failed", "app": "authentik.events"}])
def test_what_does_not_match_stays_and_with_app_set_nothing_matches(ak: Client, hook: Hook, matcher: Json) -> None:
    notify(ak, hook, **matcher)
    fail_to_log_in(ak, "bob")
    assert hook.quiet(ak)


def test_every_member_of_the_group_gets_a_delivery_unless_it_is_sent_once(ak: Client, hook: Hook) -> None:
    way = notify(ak, hook, send_once=False, action="login_failed")
    ak("POST", f"/core/groups/{ak.group()['pk']}/add_user/", {"pk": ak.user("bob")}, 204)
    fail_to_log_in(ak, "bob")
    assert {hook.next()[1]["user_username"] for _ in range(2)} == {"alice", "bob"}
    assert hook.quiet(ak)
    ak("PATCH", f"/events/transports/{way['pk']}/", {"send_once": True})
    fail_to_log_in(ak, "bob")
    assert hook.next()
    assert hook.quiet(ak)


def test_a_rule_whose_group_is_empty_tells_nobody(ak: Client, hook: Hook) -> None:
    notify(ak, hook, action="login_failed")
    ak("PATCH", f"/core/groups/{ak.group()['pk']}/", {"users": []})
    fail_to_log_in(ak, "bob")
    assert hook.quiet(ak)


def test_a_mapping_that_raises_sends_nothing_and_leaves_an_event(ak: Client, hook: Hook) -> None:
    notify(ak, hook, "return notification.nothing", action="login_failed")
    fail_to_log_in(ak, "bob")
    assert hook.quiet(ak)
    assert ak("GET", "/events/events/", action="property_mapping_exception")["pagination"]["count"] == 1


def test_a_transaction_that_fails_made_nothing_happen(hook: Hook) -> None:
    for ak in client(version="2026.5.6"):
        notify(ak, hook, action="model_created", model="authentik_core.application")
        body: Json = {
            "app": {"name": "t", "slug": "t"}, "provider_model": "authentik_providers_proxy.proxyprovider",
            "provider": ak.proxy_body("t"), "policy_bindings": [{"order": 0}],
        }  # fmt: skip
        before = ak("GET", "/events/events/")["pagination"]["count"]
        ak("PUT", "/core/transactional/applications/", body, 400)
        assert hook.quiet(ak)
        assert ak("GET", "/events/events/")["pagination"]["count"] == before
        ak("PUT", "/core/transactional/applications/", {**body, "policy_bindings": []})
        assert hook.next()[1]["event_user_username"] == "akadmin"


def test_the_lab_can_let_something_happen(ak: Client, hook: Hook) -> None:
    notify(ak, hook, action="suspicious_request")
    told = {"action": "suspicious_request", "user": "bob", "context": {"message": "odd"}}
    made = requests.post(f"{ak.url}/_lab/events", json=told, timeout=10)
    assert made.status_code == 201
    assert hook.next()[1]["event_user_username"] == "bob"
    assert hook.quiet(ak)
    sent = requests.get(f"{ak.url}/_lab/events", timeout=10).json()
    assert sent == [{"url": hook.url, "status": 204}]


def test_a_mapping_s_text_is_not_in_the_lab_s_state(ak: Client, hook: Hook) -> None:
    notify(ak, hook, "return {'key': 'canary-in-a-mapping'}", action="login_failed")
    assert "canary-in-a-mapping" not in requests.get(f"{ak.url}/_lab/state", timeout=10).text
