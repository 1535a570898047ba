"""Events, and the rules by which they are sent to somebody: by webhook, from a thread of its own.

A rule needs a policy that matches (bound to it) and a group to notify: each member gets a delivery of its own, unless
the transport has ``send_once``; an empty group gets none.
"""

from __future__ import annotations

import datetime
import json
import types
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from werkzeug.wrappers import Request, Response

from lab.emulators import authentik_render as render
from lab.emulators.authentik_access import ANONYMOUS, decide
from lab.emulators.authentik_expressions import ExpressionFailed, Person, people, run
from lab.emulators.authentik_fields import Field, boolean, choice, key_of, list_of, text, url
from lab.emulators.authentik_kinds import READ, Kind
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_state import Object, State, now_text
from lab.emulators.base import to_response

SPLIT = (2025, 4)
"""The release from which body and headers of a webhook have a mapping each."""
DESTINATION = (2025, 8)
MODES = {"local": "authentik inbuilt notifications", "webhook": "Generic Webhook",
         "webhook_slack": "Slack Webhook (Slack/Discord)", "email": "Email"}  # fmt: skip
TIMEOUT = 10.0
KEPT = 10_000


def transport(state: State, row: Object) -> Object:
    """A transport."""
    return {**row, "mode_verbose": MODES[row["mode"]]}


def rule(state: State, row: Object) -> Object:
    """A rule with its group."""
    name = "destination_group" if state.release >= DESTINATION else "group"
    group = state.groups.get(row[name])
    return {**row, f"{name}_obj": render.group(state, group) if group else None}


def event(state: State, row: Object) -> Object:
    """An event."""
    return dict(row)


_MAPPING = key_of("mappings")
TRANSPORT = Kind("transports", "NotificationTransport", {
    "name": Field(text(blank=False)), "mode": Field(choice(*MODES), "local"), "webhook_url": Field(url(), ""),
    "webhook_ca": Field(key_of("certificates"), None, nullable=True, since=(2026, 5)),
    "webhook_mapping": Field(_MAPPING, None, nullable=True, until=SPLIT),
    "webhook_mapping_body": Field(_MAPPING, None, nullable=True, since=SPLIT),
    "webhook_mapping_headers": Field(_MAPPING, None, nullable=True, since=SPLIT),
    "email_subject_prefix": Field(text(), "authentik Notification: ", since=(2025, 8)),
    "email_template": Field(text(), "email/event_notification.html", since=(2025, 8)),
    "send_once": Field(boolean, False),
}, transport, (("name", "This field must be unique."),), path="/events/transports/")  # fmt: skip
RULE = Kind("rules", "NotificationRule", {
    "name": Field(text(blank=False)), "transports": Field(list_of(key_of("transports")), []),
    "severity": Field(choice("notice", "warning", "alert"), "notice"),
    "group": Field(key_of("groups"), None, nullable=True, until=DESTINATION),
    "destination_group": Field(key_of("groups"), None, nullable=True, since=DESTINATION),
    "destination_event_user": Field(boolean, False, since=DESTINATION),
}, rule, (("name", "This field must be unique."),), path="/events/rules/")  # fmt: skip
EVENT = Kind("events", "Event", {}, event, path="/events/events/", verbs=READ - {"used_by"})


class Events(Objects):
    """``/events/events/``, ``/events/transports/``, ``/events/rules/``."""

    kinds: ClassVar[tuple[Kind, ...]] = (EVENT, TRANSPORT, RULE)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """As ``AuthentikServer``; ``deliveries`` notes what was sent: (URL, status), 0 where nobody answered."""
        super().__init__(*arguments, **named)
        self.deliveries: list[tuple[str, int]] = []
        self._new: list[str] = []
        self._sender = ThreadPoolExecutor(1, "authentik-webhooks")

    def close(self) -> None:
        """Stop sending; what is under way is waited for."""
        self._sender.shutdown(wait=True, cancel_futures=True)

    # What happened.

    def record(self, action: str, user: Any, context: Object, app: str = "authentik.events.signals") -> Object:
        """Keep an event; it is sent once the call that caused it is answered, and not at all if that is rolled back."""
        who = self.state.users.get(user)
        shown = {name: (who or ANONYMOUS)[name] for name in ("pk", "username", "email")}
        request = self.asking
        made: Object = {
            "pk": str(uuid.uuid4()), "action": action, "app": app, "client_ip": request and request.remote_addr,
            "user": shown if who else {**shown, "is_anonymous": True},
            "context": {**context, **({"http_request": _asked(request)} if request else {})},
            "created": now_text(), "expires": now_text(365 * 86400.0), "brand": {},
        }  # fmt: skip
        self.state.events[made["pk"]] = made
        if len(self.state.events) > KEPT:
            del self.state.events[next(iter(self.state.events))]
        self._new.append(made["pk"])
        return made

    def finish(self, request: Request, response: Response) -> Response:
        """Send what the call made happen."""
        response = super().finish(request, response)
        self._announce()
        self.asking = None
        return response

    def _announce(self) -> None:
        new, self._new = self._new, []
        for pk in new:
            if pk in self.state.events:
                for found in list(self.state.rules.values()):
                    self._follow(found, self.state.events[pk])

    def _follow(self, rule: Object, event: Object) -> None:
        """One rule's part: its policies, any of which will do, then a delivery a transport and member."""
        seen = types.SimpleNamespace(**event)
        seen.created = datetime.datetime.fromisoformat(event["created"].replace("Z", "+00:00"))
        seen.event_uuid = seen.pk = uuid.UUID(event["pk"])
        if not decide(self.state, rule, ANONYMOUS, {"event": seen}, empty=False).passing:
            return
        for key in rule["transports"]:
            way = self.state.transports[key]
            people = self._destined(rule, event)[: 1 if way["send_once"] else None]
            for user in people if way["mode"].startswith("webhook") else ():
                self._deliver(way, rule, seen, user)

    def _destined(self, rule: Object, event: Object) -> list[Object]:
        group = self.state.groups.get(rule.get("destination_group") or rule.get("group"))
        keys = list(group["users"]) if group else []
        if rule.get("destination_event_user") and event["user"]["pk"] in self.state.users:
            keys.append(event["user"]["pk"])
        return [self.state.users[key] for key in keys]

    def _deliver(self, way: Object, rule: Object, event: Any, user: Object) -> None:
        summary = f"{event.action}: {json.dumps(event.context, default=str)}"
        notification = types.SimpleNamespace(
            event=event, severity=rule["severity"], body=summary, user=Person(self.state, user), created=event.created,
        )  # fmt: skip
        body: Any = {"body": summary, "severity": rule["severity"], "user_email": user["email"],
                     "user_username": user["username"], "event_user_email": event.user.get("email"),
                     "event_user_username": event.user.get("username")}  # fmt: skip
        headers: Any = {}
        try:
            for name in ("webhook_mapping", "webhook_mapping_body"):
                if way.get(name):
                    body = self._mapped(way[name], notification)
            if way.get("webhook_mapping_headers"):
                headers = self._mapped(way["webhook_mapping_headers"], notification)
        except ExpressionFailed as error:
            self.record("property_mapping_exception", None, {"message": str(error)}, "authentik.core.models")
            self._new.clear()  # a failing mapping doesn't notify about itself
            return
        data = json.dumps(body, default=_plain).encode()
        self._sender.submit(self._post, way["webhook_url"], data, {str(k): str(v) for k, v in dict(headers).items()})

    def _mapped(self, key: str, notification: Any) -> Any:
        names = {"notification": notification, "request": types.SimpleNamespace(user=notification.user, context={}),
                 "user": notification.user, **people(self.state)}  # fmt: skip
        return run(self.state.mappings[key]["expression"], names)

    def _post(self, target: str, data: bytes, headers: dict[str, str]) -> None:
        request = urllib.request.Request(target, data, {"Content-Type": "application/json", **headers}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                status = answer.status
        except OSError as error:
            status = getattr(error, "code", 0)
        self.deliveries.append((target, status))

    # The control API.

    def _control(self, request: Request) -> Response:
        """``POST /_lab/events`` {action, app, user (username), context}: let something happen; GET: what was sent."""
        if request.path != "/_lab/events":
            return super()._control(request)
        if request.method == "GET":
            return to_response((200, [{"url": target, "status": status} for target, status in self.deliveries]))
        wanted = json.loads(request.get_data() or "{}")
        with self.lock:
            user = self.state.user_named(wanted.get("user", ""))
            made = self.record(wanted["action"], user and user["pk"], wanted.get("context", {}),
                               wanted.get("app", "authentik.events.signals"))  # fmt: skip
            self._announce()
            return to_response((201, event(self.state, made)))


def _asked(request: Request) -> Object:
    return {"path": request.path, "method": request.method, "args": {}, "user_agent": request.user_agent.string,
            "request_id": request.environ.setdefault("lab.request_id", uuid.uuid4().hex)}  # fmt: skip


def _plain(value: Any) -> Any:
    """As the server makes values fit for JSON: keys as hex digits, times as ISO text."""
    if isinstance(value, uuid.UUID):
        return value.hex
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value)
