"""Visitors who ask for every route on every edge, all the time, and never come twice on one connection.

A connection that ends without a single byte of an answer is tried again, once, as every browser does (RFC 9110,
9.2.2): Caddy was seen to do that to a request that came in the very moment of a reload. Whatever else is not as usual
is a failure at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from lab.client import Visitor

PAUSE = 0.03  # seconds between two requests: two processors have more to do
NO_ANSWER = "RemoteDisconnected"
Window = tuple[float, float]


@dataclass(frozen=True)
class Answer:
    """What a request of one host at one edge came to: a status, or an error's name. Times are of time.monotonic."""

    edge: str
    host: str
    began: float
    ended: float
    got: str


class Prober:
    """Between `start` and `stop` it asks; a host's first answer is what every later one has to be."""

    def __init__(self, known: Mapping[str, Any], hosts: Collection[str]) -> None:
        self._known, self._hosts = known, sorted(hosts)
        self._visitors = {edge: Visitor(known, edge) for edge in known["edges"]}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_all, args=(edge,)) for edge in known["edges"]]
        self.usual: dict[tuple[str, str], str] = {}
        self.odd: list[Answer] = []
        self.asked = self.again = 0

    def start(self) -> None:
        for edge in self._known["edges"]:
            for host in self._hosts:
                self.usual[edge, host] = self._ask(edge, host).got
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def failures(self, excused: Mapping[str, list[Window]]) -> list[Answer]:
        """Answers that were not as usual; excused: by edge, when its Caddy was dead or stopped."""
        return [answer for answer in self.odd if not _during(answer, excused.get(answer.edge, []))]

    def _ask_all(self, edge: str) -> None:
        while not self._over.is_set():
            for host in self._hosts:
                answer = self._ask(edge, host)
                self.asked += 1
                if answer.got != self.usual[edge, host]:
                    self.odd.append(answer)
                if self._over.wait(PAUSE):
                    return

    def _ask(self, edge: str, host: str) -> Answer:
        began, got = time.monotonic(), self._got(edge, host)
        if NO_ANSWER in got:
            self.again += 1
            got = self._got(edge, host)
        return Answer(edge, host, began, time.monotonic(), got)

    def _got(self, edge: str, host: str) -> str:
        try:
            headers = {"Connection": "close"}
            answer = self._visitors[edge].get(f"https://{host}/", allow_redirects=False, headers=headers)
            return str(answer.status_code)
        except requests.RequestException as err:
            return f"{type(err).__name__}: {err}"[:300]


def _during(answer: Answer, windows: list[Window]) -> bool:
    return any(answer.began <= until and answer.ended >= since for since, until in windows)
