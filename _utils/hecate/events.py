"""authentik's events as deliveries that can be trusted: who signed them, when, and that they come once.

authentik does not sign its webhooks. A webhook mapping is a Python expression that makes the body, so the one that
Hecate keeps there (`expression`) writes the event as a JSON text and signs that text. It travels inside the body as a
text, which re-encoding on the way does not change. `Verifier` is the other end.

Refusal                a delivery that is not passed on
├── TooLarge           more bytes than any event has
├── Malformed          not what `expression` makes
├── Forged             not signed with a secret known here
├── Untimely           signed, but sent too long ago, or in the future
└── Replayed           this event has been here already
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hecate.errors import HecateError, SecretUnavailable
from hecate.files import write_whole

log = logging.getLogger(__name__)

LIMIT = 128 * 1024  # bytes of a body; authentik's largest events hold a traceback
WINDOW = 300  # seconds
TAG = "hecate/authentik"
MASK = "(secret)"

MODELS = {
    "user": "authentik_core.user",
    "group": "authentik_core.group",
    "application": "authentik_core.application",
    "token": "authentik_core.token",
    "policy": "authentik_policies_expression.expressionpolicy",
    "binding": "authentik_policies.policybinding",
}
VERBS = {"created": "model_created", "changed": "model_updated", "deleted": "model_deleted"}
ACTIONS: dict[str, tuple[str, str | None]] = {
    **{f"{thing}-{verb}": (action, model) for thing, model in MODELS.items() for verb, action in VERBS.items()},
    "login": ("login", None),
    "login-failed": ("login_failed", None),
    "logout": ("logout", None),
    "authorized": ("authorize_application", None),
    "password-set": ("password_set", None),
    "user-written": ("user_write", None),
    "invitation-used": ("invitation_used", None),
    "source-linked": ("source_linked", None),
    "secret-viewed": ("secret_view", None),
    "secret-rotated": ("secret_rotate", None),
    "impersonation-started": ("impersonation_started", None),
    "impersonation-ended": ("impersonation_ended", None),
    "suspicious-request": ("suspicious_request", None),
    "policy-exception": ("policy_exception", None),
    "mapping-exception": ("property_mapping_exception", None),
    "configuration-error": ("configuration_error", None),
}
"""What can be asked for: name -> action and model of authentik's event matcher (model None: of any)."""

OTHER, TEST = "other", "test"
TEST_ACTION = "custom_notification_test"  # what authentik's button "test" on a transport makes
_NAMES = {wanted: name for name, wanted in ACTIONS.items()}


class Refusal(HecateError):
    """A delivery that is not passed on. The message never quotes it."""


class TooLarge(Refusal):
    """More bytes than any event has."""


class Malformed(Refusal):
    """Not what the mapping makes."""


class Forged(Refusal):
    """Not signed with a secret known here."""


class Untimely(Refusal):
    """Signed, but sent too long ago or in the future: an old delivery, or clocks that differ."""


class Replayed(Refusal):
    """This event has been here already."""


# authentik's side

_EXPRESSION = """\
import hashlib, hmac, json, time
try:
    event = notification.event
    payload = json.dumps(
        {{
            "id": str(event.pk),
            "sent": int(time.time()),
            "action": str(event.action),
            "app": str(event.app),
            "user": event.user or {{}},
            "client_ip": event.client_ip,
            "created": event.created.isoformat(),
            "context": event.context or {{}},
        }},
        default=str,
        skipkeys=True,
    )
    signature = hmac.new({secret}.encode(), payload.encode(), hashlib.sha256).hexdigest()
    return {{"payload": payload, "signature": signature}}
except Exception as err:
    return {{"error": type(err).__name__}}
"""


def expression(secret: str) -> str:
    """Source of the webhook mapping: the body of a function that is given `notification`.

    It raises nothing: authentik writes the source of a mapping that raises into its event log, secret and all.
    Raises SecretUnavailable for a secret that is too short.
    """
    # ascii(): on one line whatever the secret holds, since authentik indents the source line by line.
    return _EXPRESSION.format(secret=ascii(_checked(secret)))


def _checked(secret: str) -> str:
    if len(secret) < 32:
        raise SecretUnavailable("the secret of the event webhook is shorter than 32 characters; openssl rand -hex 32")
    return secret


# Salt's side


@dataclass(frozen=True)
class Event:
    """One event of authentik, without secrets.

    id: authentik's own. sent: of the delivery, Unix time. action, app, user, client_ip, created, context: as in
    authentik's event log.
    """

    id: str
    sent: int
    action: str
    app: str
    user: Mapping[str, Any]
    client_ip: str | None
    created: str
    context: Mapping[str, Any]

    @property
    def model(self) -> str:
        """What kind of object it is about, as `authentik_core.user`; empty for events about none."""
        model = self.context.get("model")
        return f"{model.get('app')}.{model.get('model_name')}" if isinstance(model, Mapping) else ""

    @property
    def name(self) -> str:
        """As in ACTIONS; `test` for authentik's test button; `other` for what has no name there."""
        if self.action == TEST_ACTION:
            return TEST
        return _NAMES.get((self.action, self.model)) or _NAMES.get((self.action, None)) or OTHER

    @property
    def tag(self) -> str:
        return f"{TAG}/{self.name}"

    def data(self) -> dict[str, Any]:
        """What Salt's event carries."""
        return {**asdict(self), "name": self.name, "model": self.model}


class Secrets:
    """The values that a delivery may be signed with.

    resolve: looks them up; several while one is rotated. They are looked up again when they are AGE seconds old, so
    that a value that was replaced ends, and when a signature fits none of them, so that its successor begins; that
    at most every REST seconds, since anybody may send what fits none. While they can't be had, those known stay.
    """

    AGE, REST = 60.0, 10.0

    def __init__(self, resolve: Callable[[], Sequence[str]], now: float) -> None:
        """Raises SecretUnavailable or an ApiFailure if they can't be had."""
        self._resolve, self._lock = resolve, threading.Lock()
        self._values, self._asked = self._look_up(), now

    def known(self, now: float, age: float = AGE) -> tuple[str, ...]:
        """The values, looked up no more than `age` seconds ago."""
        with self._lock:
            if abs(now - self._asked) >= age:
                self._asked = now
                try:
                    self._values = self._look_up()
                except HecateError as err:
                    log.warning("the secret of the event webhook can't be looked up again: %s", err)
            return self._values

    def sign(self, payload: bytes, signature: bytes, now: float) -> bool:
        """Whether one of the secrets makes this signature of this payload."""
        return any(self._made_by(self.known(now, age), payload, signature) for age in (self.AGE, self.REST))

    @staticmethod
    def _made_by(values: Iterable[str], payload: bytes, signature: bytes) -> bool:
        made = (hmac.new(value.encode(), payload, hashlib.sha256).hexdigest().encode() for value in values)
        return any(hmac.compare_digest(one, signature) for one in made)

    def _look_up(self) -> tuple[str, ...]:
        values = tuple(_checked(value) for value in self._resolve())
        if not values:
            raise SecretUnavailable("the event webhook has no secret")
        return values


class Memory:
    """Ids of events that were here, on disk, each until a time after which it could not be taken again anyway.

    One line an event, on disk before the event is passed on. A line begins with its newline: so what a killed
    append leaves is a line by itself, too short to be one, and does not spoil the next.
    """

    LINE = re.compile(rb"(\d{1,12}) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
    SLACK = 1000  # lines more than the file would need, before it is written anew

    def __init__(self, path: Path) -> None:
        """path: its folder is made. Raises HecateError when it can't be read."""
        self._path, self._lock = path, threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        except OSError as err:
            raise HecateError(f"the memory of events at {path} can't be read: {err.strerror}") from err
        found = (self.LINE.fullmatch(line) for line in lines)
        self._until = {match[2].decode(): int(match[1]) for match in found if match}
        self._lines, self._full = len(lines), self.SLACK

    def add(self, id: str, until: int, now: float) -> bool:
        """Remember; False if it is remembered already. Returns once it is on disk, else raises HecateError."""
        with self._lock:
            if self._until.get(id, 0) >= int(now):
                return False
            self._write(id, until, now)
            return True

    def drop(self, id: str, now: float) -> None:
        """Take it back: what was to be done about the event could not be done."""
        with self._lock:
            self._write(id, 0, now)

    def _write(self, id: str, until: int, now: float) -> None:
        try:
            if self._lines < self._full:
                self._append(_line(id, until))
            else:
                self._rewrite({**self._until, id: until}, now)
        except OSError as err:
            raise HecateError(f"the memory of events at {self._path} can't be written: {err.strerror}") from err
        self._until[id] = until
        self._lines += 1

    def _rewrite(self, until: Mapping[str, int], now: float) -> None:
        live = {id: end for id, end in until.items() if end >= int(now)}
        write_whole(self._path, b"".join(_line(id, end) for id, end in live.items()))
        self._until, self._lines, self._full = live, len(live), 2 * len(live) + self.SLACK

    def _append(self, line: bytes) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(0, "only a part of a line was written")
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(id: str, until: int) -> bytes:
    return f"\n{until} {id}".encode()


class Verifier:
    """Takes a delivery once, if it was signed with one of the secrets and sent within `window` seconds of now."""

    def __init__(self, secrets: Secrets, memory: Memory, window: int = WINDOW) -> None:
        self._secrets, self._memory, self._window = secrets, memory, window

    def verify(self, body: bytes, now: float) -> Event:
        """The event in `body`, remembered from now on. now: Unix time.

        Raises a Refusal; HecateError when the event can't be remembered, and so must not be passed on.
        """
        if len(body) > LIMIT:
            raise TooLarge(f"more than {LIMIT} bytes")
        payload, signature = _enclosed(body)
        if not self._secrets.sign(payload, signature, now):
            raise Forged("not signed with a secret known here")
        try:
            event = _event(cleaned(_parsed(payload), self._secrets.known(now)))
        except RecursionError:
            raise Malformed("nested too deeply") from None
        if abs(int(now) - event.sent) > self._window:
            raise Untimely(f"not sent within {self._window} s of now; if it was, the clocks differ")
        if not self._memory.add(event.id, event.sent + self._window, now):
            raise Replayed("this event has been here already")
        return event

    def take_back(self, event: Event, now: float) -> None:
        """Let the event be delivered again: it could not be passed on."""
        self._memory.drop(event.id, now)


def _enclosed(body: bytes) -> tuple[bytes, bytes]:
    """Payload and signature. Nothing in them is known to be true yet."""
    outer = _parsed(body)
    if set(outer) != {"payload", "signature"}:
        raise Malformed("not an object of payload and signature; does the transport use Hecate's mapping?")
    try:
        return outer["payload"].encode("ascii"), outer["signature"].encode("ascii")
    except (AttributeError, UnicodeError):
        raise Malformed("payload and signature are not ASCII texts") from None


def _parsed(text: bytes) -> dict[str, Any]:
    """A JSON object whose keys are there once: of two readers of a doubled key, each may see another value."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Malformed("not JSON, or with a doubled key") from None
    if not isinstance(found, dict):
        raise Malformed("not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "sent": (int,),
    "action": (str,),
    "app": (str,),
    "user": (dict,),
    "client_ip": (str, type(None)),
    "created": (str,),
    "context": (dict,),
}


def _event(payload: Mapping[str, Any]) -> Event:
    if set(payload) != set(_TYPES):
        raise Malformed("the payload has other keys than Hecate's mapping writes; is the mapping of this version?")
    wrong = [key for key, types in _TYPES.items() if type(payload[key]) not in types]
    if wrong:
        raise Malformed(f"of a wrong type: {', '.join(wrong)}")
    if not _ID.fullmatch(payload["id"]):
        raise Malformed("the id is not that of an event")
    return Event(**payload)


# What no event carries

_SECRETIVE = re.compile(
    r"pass(?!ing)|secret|token|cookie|authorization$|credential|signature|private|api[-_]?key|(^|[-_])key$|^code$", re.I
)


def cleaned(value: Any, secrets: Sequence[str]) -> Any:
    """`value` without what looks like a secret by its key, and without the webhook's own.

    authentik masks most of it itself, by key; but its events about a mapping may hold the mapping's source.
    Under such a key an object stays, since authentik names there whose secret it is about.
    """
    if isinstance(value, dict):
        return {
            _plain(key, secrets): cleaned(item, secrets)
            for key, item in value.items()
            if isinstance(item, dict) or not _SECRETIVE.search(key)
        }
    if isinstance(value, list):
        return [cleaned(item, secrets) for item in value]
    return _plain(value, secrets) if isinstance(value, str) else value


def _plain(text: str, secrets: Sequence[str]) -> str:
    """Without the secrets in any of their spellings, and without halves of characters, which Salt can't send."""
    for secret in secrets:
        for spelling in (secret, ascii(secret)[1:-1], json.dumps(secret)[1:-1]):
            text = text.replace(spelling, MASK)
    return text.encode("utf-8", "replace").decode()
