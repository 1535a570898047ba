"""Calls to minions: whatever becomes of the event of a return, the answer is had, and nobody is waited for in vain."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import hecate_calls
import pytest
from hecate.targets import silence
from salt.exceptions import SaltClientError

Told = Callable[[str, list[Any]], Any]
LOST, DEAD = object(), object()


class Client:
    """As far as calls go like Salt's LocalClient. told: (function, arguments) -> the return, LOST or DEAD.

    LOST: the minion answers, but nobody hears it; DEAD: it never does.
    """

    def __init__(self, told: Told) -> None:
        self.told, self.jids, self.cache = told, itertools.count(1), dict[str, Any]()
        self.events: list[dict[str, Any]] = []
        self.event, self.published = self, list[str]()

    def run_job(self, minion: str, function: str, args: list[Any], **_: Any) -> dict[str, Any]:
        jid, said = str(next(self.jids)), self.told(function, args)
        self.published.append(function)
        if said is not DEAD:
            self.cache[jid] = {minion: {"ret": "lost and found" if said is LOST else said}}
        if said not in (LOST, DEAD):
            data = {"jid": jid, "id": minion, "return": said}
            self.events += [{"data": {**data, "id": "other"}}, {"data": {"minions": []}}, {"data": data}]
        return {"jid": jid}

    def get_event(self, **_: Any) -> dict[str, Any] | None:
        return self.events.pop(0) if self.events else None

    def get_cache_returns(self, jid: str) -> Mapping[str, Any]:
        return self.cache.get(jid, {})  # type: ignore[no-any-return]

    def destroy(self) -> None:
        self.events = []


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Told], tuple[hecate_calls.Minions, Client]]:
    """Patience that has run out at once, so that nothing is waited for."""
    for name in ("PATIENCE", "SIGN", "CACHED"):
        monkeypatch.setattr(hecate_calls, name, 0.0)

    def made(told: Told) -> tuple[hecate_calls.Minions, Client]:
        client = Client(told)
        monkeypatch.setattr(hecate_calls.salt.client, "get_local_client", lambda **_: client)
        return hecate_calls.Minions({}), client

    return made


def test_each_answer_comes_by_its_name(calls: Any) -> None:
    minions, _ = calls(lambda function, args: [function, *args])
    asked = {"a": ("m1", "x.y", (1,)), "b": ("m1", "x.z", ()), "c": ("m2", "x.y", (2, 3))}
    assert minions.call_each(asked) == {"a": ["x.y", 1], "b": ["x.z"], "c": ["x.y", 2, 3]}
    assert minions.call("m1", "x.y", 7) == ["x.y", 7] and minions.call_each({}) == {}


def test_a_return_that_nobody_heard_is_in_the_job_cache(calls: Any) -> None:
    minions, client = calls(lambda function, _: LOST)
    assert minions.call("m1", "x.y") == "lost and found"
    assert client.published == ["x.y"]


def test_a_minion_that_says_nothing_twice_is_not_waited_for(calls: Any) -> None:
    minions, client = calls(lambda function, _: DEAD)
    assert minions.call("m1", "x.y") == silence("m1")
    assert client.published == ["x.y", "saltutil.find_job", "saltutil.find_job"]


def test_a_minion_that_knows_nothing_of_the_job_is_not_waited_for(calls: Any) -> None:
    minions, client = calls(lambda function, _: {} if function == "saltutil.find_job" else DEAD)
    assert minions.call("m1", "x.y") == silence("m1")
    assert client.published == ["x.y", "saltutil.find_job"]


def test_a_minion_that_still_works_is_waited_for(calls: Any) -> None:
    looks = []

    def told(function: str, _: list[Any]) -> Any:
        if function != "saltutil.find_job":
            return DEAD
        looks.append(function)
        if len(looks) == 30:
            client.cache["1"] = {"m1": {"ret": "at last"}}
        return {"pid": 1}

    minions, client = calls(told)
    assert minions.call("m1", "x.y") == "at last"
    assert len(looks) == 30


def test_one_silence_among_signs_of_life_is_forgiven(calls: Any) -> None:
    said = iter([DEAD, {"pid": 1}, DEAD, {"pid": 1}, {}])
    minions, client = calls(lambda function, _: next(said) if function == "saltutil.find_job" else DEAD)
    assert minions.call("m1", "x.y") == silence("m1")
    assert next(said, None) is None


def test_the_dead_do_not_keep_the_living_from_answering(calls: Any) -> None:
    minions, _ = calls(lambda function, args: {} if function == "saltutil.find_job" else DEAD if args else 1)
    asked = {"a": ("m1", "x.y", ("dead",)), "b": ("m2", "x.y", ())}
    assert minions.call_each(asked) == {"a": silence("m1"), "b": 1}


def test_a_master_that_is_not_there_is_an_error_of_ours(calls: Any) -> None:
    def none(*_: Any) -> Any:
        raise SaltClientError("no master")

    minions, _ = calls(none)
    with pytest.raises(hecate_calls.HecateError, match="the master takes no calls: no master"):
        minions.call("m1", "x.y")
