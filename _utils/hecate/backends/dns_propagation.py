"""Whether name servers answer as planned, and until when caches may not.

A server that answers otherwise is waited for. One that was looked up and never answers is told of, and no more:
a firewall around this minion must not undo what the world already sees. One that the pillar names has to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from hecate.errors import NotPropagated, Unreachable
from hecate.resource import Change
from hecate.zonefile import canonical

RRSET = "dns.rrset"
WORKERS = 8
SILENT = 2  # questions in a row without an answer, after which a server is left alone for this round


class Answer(Protocol):
    """As of clients.nameserver."""

    @property
    def values(self) -> Sequence[str]: ...
    @property
    def ttl(self) -> int | None: ...
    @property
    def rcode(self) -> str: ...
    @property
    def referral(self) -> bool: ...


Ask = Callable[[str, str, str], Answer]  # server, name, type


@dataclass(frozen=True)
class Server:
    """address: host:port. given: the pillar names it, so it has to answer."""

    address: str
    name: str = ""
    given: bool = False

    def __str__(self) -> str:
        return f"{self.name.rstrip('.')} ({self.address})" if self.name else self.address


@dataclass(frozen=True)
class Question:
    """What one set should look like from outside. values: empty when it is gone.

    whole: the set holds just these; else at least these. ttl: None when it may be any.
    """

    zone: str
    name: str
    kind: str
    values: frozenset[str]
    ttl: int | None = None
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.name.rstrip('.')} {self.kind}"

    def met(self, answer: Answer) -> bool:
        if answer.rcode not in ("NOERROR", "NXDOMAIN"):
            return False
        if answer.referral:  # hidden below a delegation: nothing of it can be seen from outside
            return True
        seen = {canonical(self.zone, self.kind, value) for value in answer.values}
        fits = seen == self.values if self.whole else seen >= self.values
        return fits and (not seen or self.ttl in (None, answer.ttl))


def questions(changes: Iterable[Change], held: Iterable[str]) -> Iterator[Question]:
    """One for each change that can be seen from outside. held: keys (zone/name/type) of all sets.

    What a wildcard covers is not gone when its own set is; and others may keep the values of a shared set.
    """
    keys = set(held)
    for change in changes:
        if change.kind != RRSET:
            continue
        zone, name, kind = change.subject.key.split("/")
        spec = change.after.spec if change.after else {}
        if change.after is None and (change.subject.spec.get("shared") or _covered(zone, name, kind, keys)):
            continue
        values = frozenset(canonical(zone, kind, value) for value in spec.get("records", ()))
        whole = not spec.get("shared")
        ttl = spec.get("ttl") if whole else None
        yield Question(zone, f"{zone}." if name == "@" else f"{name}.{zone}.", kind, values, ttl, whole)


def _covered(zone: str, name: str, kind: str, keys: set[str]) -> bool:
    labels = name.split(".")
    above = [".".join(["*", *labels[depth:]]) for depth in range(1, len(labels) + 1)]
    return any(f"{zone}/{star}/{type_}" in keys for star in above for type_ in (kind, "CNAME"))


def wait(
    asked: Sequence[Question],
    servers: Mapping[str, Sequence[Server]],
    ask: Ask,
    timeout: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Ask the servers of each zone until all answer as planned; notes on those that never answered.

    Raises NotPropagated after `timeout` seconds, with who still answers what.
    """
    pending: dict[Server, list[Question]] = {}
    for question in asked:
        for server in servers.get(question.zone, ()):
            pending.setdefault(server, []).append(question)
    started, pause, rounds = clock(), 0.05, 0
    heard: set[Server] = set()
    late: dict[tuple[Server, Question], str] = {}
    while pending:
        with ThreadPoolExecutor(WORKERS) as pool:
            found = dict(zip(pending, pool.map(lambda item: _round(ask, *item), pending.items()), strict=True))
        rounds += 1
        heard |= {server for server, (has_answered, _) in found.items() if has_answered}
        late = {(server, question): told for server, (_, rest) in found.items() for question, told in rest}
        pending = {server: [question for question, _ in rest] for server, (_, rest) in found.items() if rest}
        unheard = all(server not in heard and not server.given for server in pending)
        if not pending or (unheard and rounds >= SILENT):
            break
        if clock() - started >= timeout:
            break
        sleep(pause)
        pause = min(1.0, 1.6 * pause)
    wrong = [
        (str(server), str(question), told)
        for (server, question), told in late.items()
        if server in heard or server.given
    ]
    if wrong:
        raise NotPropagated(wrong, clock() - started)
    return [f"{server} did not answer, so it was not seen whether the change has arrived there" for server in pending]


def _round(ask: Ask, server: Server, asked: Sequence[Question]) -> tuple[bool, list[tuple[Question, str]]]:
    """Whether the server answered at all, and what is not yet as planned, with what it said instead."""
    rest: list[tuple[Question, str]] = []
    answered, silent = False, 0
    for question in asked:
        if silent >= SILENT:
            rest.append((question, "nothing"))
            continue
        try:
            answer = ask(server.address, question.name, question.kind)
        except Unreachable:
            silent += 1
            rest.append((question, "nothing"))
            continue
        answered, silent = True, 0
        if not question.met(answer):
            rest.append((question, _told(answer)))
    return answered, rest


def _told(answer: Answer) -> str:
    if answer.rcode != "NOERROR" or not answer.values:
        return answer.rcode if answer.rcode != "NOERROR" else "no such record"
    return f"{', '.join(answer.values)} (ttl {answer.ttl})"


def longest_cached(changes: Iterable[Change], zone_ttl: Callable[[str], int | None]) -> tuple[int, str] | None:
    """For how long (seconds) caches may still answer what was there, and the set of which that is true; or None."""
    found = [
        (change.before.spec.get("ttl") or zone_ttl(change.before.key.split("/")[0]) or 0, change.before.key)
        for change in changes
        if change.kind == RRSET
        and change.before is not None
        and (change.after is None or change.before.spec["records"] != change.after.spec["records"])
    ]
    return max(found, default=None)
