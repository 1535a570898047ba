"""Calls from the master to the targets' minions: published at once, their returns taken as they come.

Salt's own LocalClient waits out its whole timeout when a return's event is lost, as happens where several of them
listen at the same time. Here one client listens for all, and looks into the job cache as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import salt.client
import salt.exceptions
from hecate.errors import HecateError
from hecate.targets import Crew, Step, silence

PATIENCE = 8.0  # seconds between two looks whether a minion still works on its call
SIGN = 6.0  # seconds in which a minion has to say so
CHANCES = 2  # looks in a row that may stay without an answer
PAUSE = 0.25  # seconds that are waited for an event
CACHED = 1.0  # seconds between two looks into the job cache


@dataclass
class Call:
    """One function on one minion. answer: a list of one, once it is there."""

    minion: str
    function: str
    args: Sequence[Any]
    jid: str = ""
    answer: list[Any] = field(default_factory=list)
    silences: int = 0


class Minions(Crew):
    """opts: the master's. An answer is a function's return; or a text that says why there is none."""

    def __init__(self, opts: Mapping[str, Any]) -> None:
        super().__init__(lambda minion, function, *args: self.call_each({"": (minion, function, args)})[""])
        self._opts = dict(opts)

    def ask_each(self, questions: Mapping[str, tuple[Step, str, Sequence[Any]]]) -> dict[str, Any]:
        return self.call_each({name: (step.minion, fun, args) for name, (step, fun, args) in questions.items()})

    def call_each(self, questions: Mapping[str, tuple[str, str, Sequence[Any]]]) -> dict[str, Any]:
        """name -> (minion, function, arguments), all at once; the answers by the same names."""
        calls = {name: Call(*question) for name, question in questions.items()}
        if calls:
            client = salt.client.get_local_client(mopts=self._opts)
            try:
                self._gather(client, list(calls.values()), CHANCES)
            except salt.exceptions.SaltClientError as err:
                raise HecateError(f"the master takes no calls: {err}") from err
            finally:
                client.destroy()
        return {name: call.answer[0] if call.answer else silence(call.minion) for name, call in calls.items()}

    def _gather(self, client: Any, calls: Sequence[Call], chances: int) -> None:
        """chances: 0 gives each SIGN seconds and asks nobody whether they are still at it."""
        for call in calls:
            published = client.run_job(call.minion, call.function, list(call.args), listen=True, timeout=SIGN)
            call.jid = str(published["jid"]) if published else ""
        waiting = {call.jid: call for call in calls if call.jid}
        until, cached = time.monotonic() + (PATIENCE if chances else SIGN), time.monotonic() + CACHED
        while waiting:
            event = client.event.get_event(wait=PAUSE, tag="salt/job/", full=True, auto_reconnect=True)
            _take(event, waiting)
            now = time.monotonic()
            if now > cached or now > until:
                _look_up(client, waiting)
                cached = now + CACHED
            if waiting and now > until:
                if not chances:
                    return
                self._still_at_it(client, waiting, chances)
                until = time.monotonic() + PATIENCE

    def _still_at_it(self, client: Any, waiting: dict[str, Call], chances: int) -> None:
        """Who says that the job runs is waited for; who says that it doesn't, or nothing at all again, is not."""
        signs = {jid: Call(call.minion, "saltutil.find_job", [jid]) for jid, call in waiting.items()}
        self._gather(client, list(signs.values()), 0)
        _look_up(client, waiting)  # it may have ended meanwhile
        for jid, call in list(waiting.items()):
            said = signs[jid].answer
            call.silences = 0 if said and said[0] else call.silences + (1 if not said else chances)
            if call.silences >= chances:
                del waiting[jid]


def _take(event: Mapping[str, Any] | None, waiting: dict[str, Call]) -> None:
    """A return, if it is one of those that are waited for."""
    data = event.get("data") if event else None
    if isinstance(data, Mapping) and "return" in data:
        call = waiting.get(str(data.get("jid")))
        if call and data.get("id") == call.minion:
            call.answer.append(data["return"])
            del waiting[call.jid]


def _look_up(client: Any, waiting: dict[str, Call]) -> None:
    for jid, call in list(waiting.items()):
        found = client.get_cache_returns(jid).get(call.minion)
        if isinstance(found, Mapping) and "ret" in found:
            call.answer.append(found["ret"])
            del waiting[jid]
