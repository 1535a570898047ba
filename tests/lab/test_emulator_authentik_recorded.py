"""What real authentik servers answered, asked again of the emulator: the same statuses, fields and error messages."""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Any

import pytest
import requests

from lab.emulators.authentik import Authentik
from lab.emulators.base import running

BESIDE = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "recordings"
FOLDER = pathlib.Path(os.environ.get("HECATE_RECORDINGS") or BESIDE)
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FREE = frozenset({"attributes", "autocomplete", "error_reporting", "capabilities", "log_messages"})
"""Fields whose content is the installation's own."""
ZERO = "00000000-0000-0000-0000-000000000000"


def exchanges(version: str) -> list[dict[str, Any]]:
    path = FOLDER / f"authentik-{version}.json"
    if not path.is_file():
        pytest.skip(f"no recordings at {FOLDER}")
    found: list[dict[str, Any]] = json.loads(path.read_text())["exchanges"]
    return found


class Replay:
    """Recorded keys translated to the emulator's, as they show up in answers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, str] = {}

    def translate(self, value: Any) -> Any:
        text = UUID.sub(lambda found: self.keys.get(found[0], found[0]), json.dumps(value))
        return json.loads(text)

    def learn(self, recorded: Any, given: Any) -> None:
        if isinstance(recorded, dict) and isinstance(given, dict):
            for name in recorded.keys() & given.keys():
                self.learn(recorded[name], given[name])
        elif isinstance(recorded, list) and isinstance(given, list):
            for one, other in zip(recorded, given, strict=False):
                self.learn(one, other)
        elif (
            isinstance(recorded, str) and isinstance(given, str) and UUID.fullmatch(recorded) and UUID.fullmatch(given)
        ):
            self.keys.setdefault(recorded, given)

    def send(self, request: dict[str, Any]) -> requests.Response:
        headers = {"Authorization": "Bearer t"} if request["authorized"] else {}
        return requests.request(
            request["method"], self.url + self.translate(request["path"]), params=self.translate(request["params"]),
            json=self.translate(request["json"]), headers=headers, timeout=10, allow_redirects=False,
        )  # fmt: skip


def differences(recorded: Any, given: Any, at: str = "") -> list[str]:
    """Where field names or kinds of value differ."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        found = [f"{at}.{name}: only in one" for name in sorted(recorded.keys() ^ given.keys())]
        for name in recorded.keys() & given.keys() - FREE:
            found += differences(recorded[name], given[name], f"{at}.{name}")
        return found
    if isinstance(recorded, list) and isinstance(given, list):
        found = [] if len(recorded) == len(given) or "results" in at else [f"{at}: {len(recorded)}, not {len(given)}"]
        for one, other in zip(recorded, given, strict=False):
            found += differences(one, other, f"{at}[]")
        return found
    return [] if type(recorded) is type(given) else [f"{at}: {recorded!r}, not {given!r}"]


@pytest.mark.parametrize("version", ["2025.10.4", "2026.2.2"])
def test_the_emulator_answers_as_the_recorded_server(version: str) -> None:
    found: list[str] = []
    with running(Authentik("t", version)) as url:
        replay = Replay(url)
        for exchange in exchanges(version):
            name, recorded = exchange["name"], exchange["response"]
            answer = replay.send(exchange["request"])
            if answer.status_code != recorded["status"]:
                found.append(f"{name}: {recorded['status']}, not {answer.status_code}: {answer.text[:200]}")
                continue
            kind, given_kind = recorded["content_type"].split(";")[0], answer.headers.get("Content-Type", "")
            if recorded["body"] != "" and kind != given_kind.split(";")[0]:
                found.append(f"{name}: {kind}, not {given_kind}")
            body = answer.json() if "json" in given_kind else answer.text
            if kind == "application/json":
                replay.learn(recorded["body"], body)
                found += [f"{name}{difference}" for difference in differences(recorded["body"], body)]
                if recorded["status"] >= 400 and replay.translate(recorded["body"]) != body:
                    found.append(f"{name}: {recorded['body']}, not {body}")
            elif recorded["body"] == "" and body:
                found.append(f"{name}: a body: {body[:80]}")
    assert found == []
