"""A delivery counts once, in time, and only if it was signed: whatever else arrives is refused and leaves no trace."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hecate import events
from hecate.errors import HecateError, SecretUnavailable
from hecate.events import Event, Forged, Malformed, Memory, Replayed, Secrets, TooLarge, Untimely, Verifier

from lab.emulators.description import specs

NOW = 1_800_000_000
SECRET = "canary-5f1e9c-" + "0123456789abcdef" * 2
OTHER = "another-" + "fedcba9876543210" * 2


def evaluate(source: str, event: Any) -> Any:
    """As authentik does it: indented line by line into a function whose parameters are what is in scope."""
    names = ("user", "request", "notification")
    text = f"def handler({','.join(names)}):\n{textwrap.indent(source, '    ')}\nresult = handler({','.join(names)})"
    scope: dict[str, Any] = {"user": None, "request": None, "notification": SimpleNamespace(event=event)}
    exec(compile(text, "mapping", "exec"), {}, scope)
    return scope["result"]


def happened(action: str = "login", **more: Any) -> SimpleNamespace:
    """What authentik's model of an event has."""
    made = {
        "pk": uuid.uuid4(),
        "action": action,
        "app": "authentik.events.signals",
        "user": {"pk": 7, "username": "alice", "email": "alice@example.com"},
        "client_ip": "192.0.2.7",
        "created": datetime.datetime(2027, 1, 15, 8, 0, tzinfo=datetime.timezone.utc),
        "context": {},
    }
    return SimpleNamespace(**{**made, **more})


def payload(**more: Any) -> dict[str, Any]:
    made = {
        "id": str(uuid.uuid4()),
        "sent": NOW,
        "action": "login",
        "app": "authentik.events.signals",
        "user": {"pk": 7, "username": "alice"},
        "client_ip": "192.0.2.7",
        "created": "2027-01-15T08:00:00+00:00",
        "context": {},
    }
    return {**made, **more}


def signed(text: str | dict[str, Any], secret: str = SECRET) -> bytes:
    text = text if isinstance(text, str) else json.dumps(text)
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"payload": text, "signature": signature}).encode()


@dataclass
class Vault:
    """Where the secret is looked up."""

    values: Sequence[str] = (SECRET,)
    error: HecateError | None = None
    asked: int = 0

    def __call__(self) -> Sequence[str]:
        self.asked += 1
        if self.error:
            raise self.error
        return self.values


@dataclass
class Side:
    """Salt's side, on a disk of its own."""

    path: Path
    vault: Vault = field(default_factory=Vault)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.verifier = Verifier(Secrets(self.vault, NOW), Memory(self.path))

    def take(self, body: bytes, now: float = NOW) -> Event:
        return self.verifier.verify(body, now)


@pytest.fixture
def side(tmp_path: Path) -> Side:
    return Side(tmp_path / "hecate" / "events" / "4545.seen")


# The mapping


def test_what_the_mapping_makes_is_taken(side: Side) -> None:
    made = happened("login_failed", context={"username": "mallory", "stage": {"app": "authentik_stages_password"}})
    body = json.dumps(evaluate(events.expression(SECRET), made)).encode()
    event = side.verifier.verify(body, json.loads(json.loads(body)["payload"])["sent"])
    assert event.tag == "hecate/authentik/login-failed"
    assert (event.id, event.user, event.client_ip) == (str(made.pk), made.user, "192.0.2.7")
    assert event.context == made.context
    assert event.created == "2027-01-15T08:00:00+00:00"


def test_the_body_may_be_written_anew_on_the_way(side: Side) -> None:
    made = evaluate(events.expression(SECRET), happened(context={"username": "Zoë 漢字 \u2028 \U0001f511 \x00"}))
    sent = json.loads(made["payload"])["sent"]
    rewritten = json.dumps(dict(reversed(made.items())), ensure_ascii=False, indent=3).encode()
    assert side.take(rewritten, sent).context["username"] == "Zoë 漢字 \u2028 \U0001f511 \x00"


@pytest.mark.parametrize(
    "secret",
    ["'" * 40, '"""' * 20, "\\" * 33, "\n    raise\n" * 9, "{event}%s" * 9, "ß\u2028\x85\x0c" * 9, "#" * 32],
    ids=ascii,
)
def test_any_secret_is_quoted_safely(secret: str, side: Side) -> None:
    side.vault.values = (secret,)
    side.restart()
    made = evaluate(events.expression(secret), happened())
    assert side.take(json.dumps(made).encode(), json.loads(made["payload"])["sent"]).name == "login"


def test_the_mapping_takes_what_json_does_not_know(side: Side) -> None:
    context = {"when": datetime.date(2027, 1, 1), "pk": uuid.UUID(int=1), ("a", 1): "gone", "some": {1, 2}}
    made = evaluate(events.expression(SECRET), happened(context=context, client_ip=None, user={}))
    event = side.take(json.dumps(made).encode(), json.loads(made["payload"])["sent"])
    assert event.context["when"] == "2027-01-01"
    assert event.client_ip is None


def test_a_mapping_that_fails_does_not_raise_since_authentik_would_log_its_source(side: Side) -> None:
    made = evaluate(events.expression(SECRET), None)
    assert made == {"error": "AttributeError"}
    with pytest.raises(Malformed):
        side.take(json.dumps(made).encode())


def test_a_short_secret_is_refused_without_being_shown() -> None:
    for use in (events.expression, lambda short: Secrets(lambda: [short], NOW)):
        with pytest.raises(SecretUnavailable) as caught:
            use("hunter2")
        assert "hunter2" not in str(caught.value)


# Names


@pytest.mark.parametrize(
    ("action", "model", "tag"),
    [
        ("model_created", ("authentik_core", "user"), "user-created"),
        ("model_updated", ("authentik_core", "group"), "group-changed"),
        ("model_deleted", ("authentik_policies", "policybinding"), "binding-deleted"),
        ("model_created", ("authentik_stages_email", "emailstage"), "other"),
        ("login_failed", None, "login-failed"),
        ("authorize_application", None, "authorized"),
        ("custom_notification_test", None, "test"),
        ("custom_a/b", None, "other"),
        ("update_available", None, "other"),
    ],
)
def test_the_tag_says_what_happened(side: Side, action: str, model: tuple[str, str] | None, tag: str) -> None:
    context = {"model": {"app": model[0], "model_name": model[1], "pk": 7, "name": "x"}} if model else {}
    event = side.take(signed(payload(action=action, context=context)))
    assert event.tag == f"hecate/authentik/{tag}"
    assert event.data()["model"] == (".".join(model) if model else "")


def test_no_two_names_mean_the_same() -> None:
    assert len(set(events.ACTIONS.values())) == len(events.ACTIONS)


@pytest.mark.parametrize("version", ["2024.2.4", "2025.6.4", "2026.5.6"])
def test_every_name_can_be_asked_for_in_every_version(version: str) -> None:
    path = specs(f"authentik-{version}.yml")
    if path is None:
        pytest.skip("the API descriptions (../shared/specs) are absent")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    schemas = yaml.load(path.read_bytes(), loader)["components"]["schemas"]
    actions, models = ({*schemas[name]["enum"], None} for name in ("EventActions", "ModelEnum"))
    assert not [name for name, (action, _) in events.ACTIONS.items() if action not in actions]
    assert not [name for name, (_, model) in events.ACTIONS.items() if model not in models]


# Forged


def altered(body: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(body), **changes}).encode()


GOOD = signed(payload())
FORGED: dict[str, bytes] = {
    "by another secret": signed(payload(), OTHER),
    "by none": altered(GOOD, signature=""),
    "in capitals": altered(GOOD, signature=json.loads(GOOD)["signature"].upper()),
    "shortened": altered(GOOD, signature=json.loads(GOOD)["signature"][:32]),
    "of another payload": altered(GOOD, payload=json.dumps(payload(user={"username": "akadmin"}))),
    "of a payload with a space more": altered(GOOD, payload=json.loads(GOOD)["payload"] + " "),
    "without a key": altered(GOOD, signature=hashlib.sha256(json.loads(GOOD)["payload"].encode()).hexdigest()),
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED.keys())
def test_a_forged_delivery_is_refused(side: Side, body: bytes) -> None:
    with pytest.raises(Forged):
        side.take(body)
    assert not side.path.exists(), "a forged delivery was remembered"


def test_a_forged_id_does_not_shut_the_real_event_out(side: Side) -> None:
    real = payload()
    with pytest.raises(Forged):
        side.take(signed(real, OTHER))
    assert side.take(signed(real)).id == real["id"]


DOUBLED = GOOD.replace(b"{", b'{"payload": "x", ', 1)
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"payload=x",
    "not UTF-8": b'{"payload": "\xff\xfe", "signature": ""}',
    "cut short": GOOD[:-20],
    "no object": b"[]",
    "authentik's own body": b'{"body": "login", "severity": "notice", "user_email": "a@example.com"}',
    "a key more": altered(GOOD, more=1),
    "a doubled key": DOUBLED,
    "a payload that is no text": altered(GOOD, payload={"id": "x"}),
    "a signature that is no text": altered(GOOD, signature=None),
    "a signature with an umlaut": altered(GOOD, signature="ä" * 64),
    "half a character": b'{"payload": "\\ud800", "signature": ""}',
    "nested deeply": b"[" * 50_000,
    "a huge number": b'{"payload": ' + b"9" * 50_000 + b"}",
    # Signed, and yet not what the mapping writes.
    "signed text": signed("hello"),
    "signed list": signed("[]"),
    "signed and nested deeply": signed(json.dumps(payload())[:-2] + '"a": ' + "[" * 5000 + "]" * 5000 + "}}"),
    "signed and somewhat nested": signed(json.dumps(payload())[:-2] + '"a": ' + "[" * 800 + "]" * 800 + "}}"),
    "signed with a doubled key": signed(json.dumps(payload())[:-1] + ', "sent": 1}'),
    "signed with a key less": signed({k: v for k, v in payload().items() if k != "context"}),
    "signed with a key more": signed(payload(tag="salt/auth")),
    **{
        f"signed with {key} {value!r}": signed(payload(**{key: value}))
        for key, values in {
            "id": ["", "../../x", "x\n99 y", "0B8F7D0A-5C33-4F0E-9D2C-3E1A6B7C8D9E", 7],
            "sent": ["now", True, NOW + 0.5, None, float("nan")],
            "action": [None, 1],
            "user": [None, "alice", []],
            "context": [None, []],
            "client_ip": [1],
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_the_mapping_does_not_make_is_refused(side: Side, body: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        side.take(body)
    assert SECRET not in str(caught.value)
    assert not side.path.exists()


def test_every_cut_of_a_delivery_is_refused(side: Side) -> None:
    for end in range(len(GOOD)):
        with pytest.raises(Malformed):
            side.take(GOOD[:end])


def test_too_large_is_refused_before_it_is_read(side: Side) -> None:
    with pytest.raises(TooLarge):
        side.take(signed(payload(context={"x": "y" * events.LIMIT})))


# Replayed, late, early


def test_a_replayed_delivery_is_refused(side: Side) -> None:
    body = signed(payload())
    side.take(body)
    for later in (0, 1, events.WINDOW):
        with pytest.raises(Replayed):
            side.take(body, NOW + later)


def test_the_same_event_sent_anew_is_refused_too(side: Side) -> None:
    """A rule that tells several users delivers one event once for each of them."""
    first = payload()
    side.take(signed(first))
    with pytest.raises(Replayed):
        side.take(signed({**first, "sent": NOW + 1}), NOW + 1)


@pytest.mark.parametrize("off", [-events.WINDOW, 0, events.WINDOW])
def test_clocks_may_differ_by_the_window(side: Side, off: int) -> None:
    assert side.take(signed(payload(sent=NOW + off)))


@pytest.mark.parametrize("off", [-events.WINDOW - 1, events.WINDOW + 1, -NOW, 10**18, -(10**18), 10**400])
def test_late_and_early_deliveries_are_refused(side: Side, off: int) -> None:
    with pytest.raises(Untimely):
        side.take(signed(payload(sent=NOW + off)))
    assert not side.path.exists()


@pytest.mark.parametrize("ahead", [-events.WINDOW, 0, events.WINDOW])
def test_there_is_no_moment_at_which_a_delivery_is_good_again(side: Side, ahead: int) -> None:
    body = signed(payload(sent=NOW + ahead))
    side.take(body)
    for later in range(0, 3 * events.WINDOW, 7):
        side.take(signed(payload(sent=NOW + later)), NOW + later)  # keeps the memory busy
        with pytest.raises((Replayed, Untimely)):
            side.take(body, NOW + later)


def test_what_could_not_be_passed_on_may_come_again(side: Side) -> None:
    body = signed(payload())
    side.verifier.take_back(side.take(body), NOW)
    side.restart()
    assert side.take(body)
    with pytest.raises(Replayed):
        side.take(body)


# The memory on disk


def test_a_restart_forgets_nothing(side: Side) -> None:
    bodies = [signed(payload()) for _ in range(20)]
    for body in bodies:
        side.take(body)
    side.restart()
    for body in bodies:
        with pytest.raises(Replayed):
            side.take(body)


def test_an_append_cut_off_anywhere_spoils_only_itself(side: Side) -> None:
    first, cut, after = (signed(payload()) for _ in range(3))
    side.take(first)
    before = side.path.read_bytes()
    side.take(cut)
    whole = side.path.read_bytes()
    for end in range(len(before), len(whole)):
        side.path.write_bytes(whole[:end])
        side.restart()
        side.take(after)
        side.restart()
        for seen in (first, after):
            with pytest.raises(Replayed):
                side.take(seen)
        assert side.take(cut), "it was never taken, as far as the disk tells"


def test_a_killed_process_has_remembered_all_that_it_passed_on(side: Side) -> None:
    """kill -9 in the middle of many appends and rewritings; what was printed was taken."""
    child = f"""
import sys
sys.path[:0] = {sys.path!r}
from hecate.events import Memory
from pathlib import Path
import uuid
Memory.SLACK = 3
memory = Memory(Path({str(side.path)!r}))
for number in range(1, 10**6):
    id = str(uuid.UUID(int=number))
    assert memory.add(id, number + 50, number)
    print(number, id, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    told = [process.stdout.readline() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.readlines()
    process.wait(10)
    lines = [line.split() for line in told if line.endswith("\n")]
    last = int(lines[-1][0])
    memory = Memory(side.path)
    assert last >= 199
    assert not [id for number, id in lines if int(number) > last - 50 and memory.add(id, last + 50, last)]


def test_the_file_stays_as_small_as_the_window(side: Side) -> None:
    memory = Memory(side.path)
    for number in range(1, 5 * Memory.SLACK):
        memory.add(str(uuid.UUID(int=number)), number + 10, number)
    assert len(side.path.read_bytes().splitlines()) < 1.2 * Memory.SLACK
    assert stat.S_IMODE(side.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(side.path.parent.stat().st_mode) == 0o700


def test_rubbish_in_the_file_is_passed_over(side: Side) -> None:
    body = signed(payload())
    side.take(body)
    side.path.write_bytes(b"\xff\xfe\n" + os.urandom(100).replace(b"\n", b"") + side.path.read_bytes() + b"\n12 x")
    side.restart()
    with pytest.raises(Replayed):
        side.take(body)


def test_what_cannot_be_remembered_is_not_passed_on(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    body, write = signed(payload()), os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:5]))  # a full disk
    with pytest.raises(HecateError, match="can't be written"):
        side.take(body)
    monkeypatch.undo()
    assert side.take(body)
    side.restart()
    with pytest.raises(Replayed):
        side.take(body)


def test_a_memory_that_cannot_be_read_is_no_empty_one(side: Side) -> None:
    side.path.parent.mkdir(parents=True, exist_ok=True)
    side.path.mkdir()
    with pytest.raises(HecateError, match="can't be read"):
        side.restart()


# Rotation


def test_while_it_is_rotated_both_secrets_count(side: Side) -> None:
    side.vault.values = (OTHER, SECRET)
    side.restart()
    assert side.take(signed(payload(), SECRET)) and side.take(signed(payload(), OTHER))


def test_a_new_secret_counts_without_a_restart_and_ends_the_old_one(side: Side) -> None:
    side.vault.values = (OTHER,)
    later = NOW + Secrets.REST
    assert side.take(signed(payload(), OTHER), later)
    with pytest.raises(Forged):
        side.take(signed(payload(), SECRET), later)


def test_an_old_secret_ends_though_nobody_uses_the_new_one(side: Side) -> None:
    side.vault.values = (OTHER,)
    with pytest.raises(Forged):
        side.take(signed(payload(), SECRET), NOW + Secrets.AGE)


def test_forgeries_do_not_become_a_flood_of_lookups(side: Side) -> None:
    for number in range(100):
        with pytest.raises(Forged):
            side.take(signed(payload(), OTHER), NOW + number / 10)
    assert side.vault.asked == 1
    for number in range(100):
        with pytest.raises(Forged):
            side.take(signed(payload(), OTHER), NOW + Secrets.REST + number / 10)
    assert side.vault.asked == 2


def test_while_the_secret_cannot_be_had_the_known_one_stays(side: Side, caplog: pytest.LogCaptureFixture) -> None:
    side.vault.error = SecretUnavailable("vault:hecate/events#key: sealed")
    assert side.take(signed(payload()), NOW + Secrets.AGE)
    assert "vault:hecate/events#key: sealed" in caplog.text
    with pytest.raises(SecretUnavailable):
        side.restart()


def test_no_secret_is_not_any_secret() -> None:
    with pytest.raises(SecretUnavailable):
        Secrets(lambda: [], NOW)


# What Salt gets to see


def texts(value: Any) -> Iterator[str]:
    """Every text in it, keys included."""
    if isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    else:
        yield str(value)


@pytest.mark.parametrize("secret", [SECRET, "quote'\"\\ß" * 8])
def test_the_secret_is_in_no_event_and_no_log(side: Side, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    """An event about the mapping itself: authentik's enterprise audit tells the source before and after."""
    caplog.set_level(logging.DEBUG)
    side.vault.values = (secret,)
    side.restart()
    source = events.expression(secret)
    context = {
        "model": {"app": "authentik_events", "model_name": "notificationwebhookmapping", "pk": "1", "name": secret},
        "diff": {"expression": {"previous_value": None, "new_value": source}},
        "message": [f"line 3: {secret}", {secret: secret}],
    }
    data = side.take(signed(payload(action="model_updated", context=context), secret)).data()
    told = [*texts(data), caplog.text]
    assert events.MASK in data["context"]["diff"]["expression"]["new_value"]
    spellings = (secret, ascii(secret)[1:-1], json.dumps(secret)[1:-1])
    assert not [text for text in told for spelling in spellings if spelling in text]


def test_keys_that_look_like_secrets_are_left_out(side: Side) -> None:
    context = {
        "password": "a",
        "new_Password": "b",
        "token": {"app": "authentik_core", "model_name": "token", "name": "ci", "key": "c"},
        "http_request": {"path": "/", "args": {"code": "d", "next": "/x", "itoken": "e"}, "headers": {"Cookie": "f"}},
        "list": [{"client_secret": "g", "api-key": "h", "apiKey": "i", "name": "kept"}],
        "authorized_application": {"pk": "1", "name": "wiki"},
        "passing": True,
        "auth_method": "password",
    }
    assert side.take(signed(payload(context=context))).data()["context"] == {
        "token": {"app": "authentik_core", "model_name": "token", "name": "ci"},
        "http_request": {"path": "/", "args": {"next": "/x"}, "headers": {}},
        "list": [{"name": "kept"}],
        "authorized_application": {"pk": "1", "name": "wiki"},
        "passing": True,
        "auth_method": "password",
    }


def test_half_a_character_in_a_name_becomes_a_question_mark(side: Side) -> None:
    text = json.dumps(payload()).replace("alice", "al\\ud800ice")
    assert side.take(signed(text)).user["username"] == "al?ice"


def test_refusals_are_errors_of_hecate_and_tell_no_secret(side: Side) -> None:
    bodies: list[tuple[Callable[[], Any], type[HecateError]]] = [
        (lambda: side.take(FORGED["by another secret"]), Forged),
        (lambda: side.take(signed(payload(sent=1))), Untimely),
    ]
    for call, kind in bodies:
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, HecateError)
        assert not [s for s in (SECRET, OTHER, "alice") if s in str(caught.value)]
