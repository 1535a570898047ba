"""Who probes what from where: each edge from another machine than itself, where there is one."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hecate.errors import HecateError
from hecate.model.estate import Estate
from hecate.order import unpacked
from hecate.targets import Crew, Step
from hecate.verification import scope
from hecate.verification.probe import FAIL, OK, SKIP, WARN, Probe
from hecate.verification.questions import Task, questions
from hecate.verification.report import Report

MASTER = "the master"
AT_ONCE = 8  # probers that are asked at the same time
BATCH = 500  # visits of one call: its answer has to fit an event


@dataclass(frozen=True)
class Verification:
    """steps: the targets that pillar has. here: what this very machine is asked; it raises nothing.

    is_here: whether an address is this machine's own. acting: the steps that can have changed something; None: all.
    """

    estate: Estate
    crew: Crew
    steps: Sequence[Step]
    here: Callable[[Task], list[Probe]]
    is_here: Callable[[str], bool]
    acting: Collection[str] | None = None

    def verify(self, transaction: str = "", routes: Collection[str] = ()) -> Report:
        """After a deploy its share; of some routes these; else everything. Raises HecateError for unknown routes."""
        found, roots = self._looked_into(transaction, routes)
        task = questions(self.estate, roots, found.routes)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = [pool.submit(self._records, task), *(pool.submit(self._edge, task, e) for e in self.estate.edges)]
            rows = [row for part in parts for row in part.result()]
        if task.visits and self.estate.authentik:
            rows += self._by_word(task)
        return Report((*rows, *self._skipped(found)), found.told)

    # What is to be asked

    def _looked_into(self, transaction: str, routes: Collection[str]) -> tuple[scope.Scope, dict[str, str]]:
        """Which routes, and the roots of the edges' own authorities: asked for at once."""
        asked: dict[str, tuple[Step, str, Sequence[Any]]] = {}
        if "internal" in (self.estate.caddy.issuer, *(route.tls.issuer for route in self.estate.routes.values())):
            asked |= {f"root {s.minion}": (s, f"{s.module}.root_certificate", ()) for s in self._edges}
        if transaction and not routes and self.estate.verify.sample != "all":
            asked |= {f"changed {s.name}": (s, "hecate.changed", (s.system, transaction)) for s in self._acting}
        told = self.crew.ask_each(asked)
        # No root: what that edge shows is trusted by nobody, and told as such.
        given = "".join(Path(file).read_text(encoding="utf-8") for file in self._files())
        own = {edge: str(told.get(f"root {edge}") or "") for edge in self.estate.edges}
        roots = {edge: given + (pem if "BEGIN CERTIFICATE" in pem else "") for edge, pem in own.items()}
        if routes:
            return scope.chosen(self.estate, routes), roots
        changes = {s.name: told.get(f"changed {s.name}") for s in self._acting}
        silent = [name for name, ids in changes.items() if not isinstance(ids, list)]
        if not transaction or silent:
            why = f"{', '.join(silent)} cannot tell what was changed" if transaction else ""
            return scope.everything(why if self.estate.verify.sample != "all" else ""), roots
        ids = (str(one) for found in changes.values() for one in found or ())
        return scope.of_deploy(self.estate, transaction, ids), roots

    def _files(self) -> tuple[str, ...]:
        for file in self.estate.verify.roots:
            if not Path(file).is_file():
                raise HecateError(f"hecate:verify:roots: there is no {file} on the master")
        return self.estate.verify.roots

    @property
    def _acting(self) -> list[Step]:
        return [step for step in self.steps if self.acting is None or step.name in self.acting]

    @property
    def _edges(self) -> list[Step]:
        return [step for step in self.steps if step.system == "caddy"]

    def _skipped(self, found: scope.Scope) -> Iterator[Probe]:
        for host, route in self.estate.routes.items():
            if route.verify.skip and (found.routes is None or host in found.routes):
                yield Probe("route", host, "", SKIP, route.verify.skip)

    # By whom

    def probers(self, edge: str) -> list[str]:
        """Who may probe an edge, the best first; "" is this machine, and last comes the edge itself."""
        edges = [step.minion for step in self._edges]
        turn = edges.index(edge) + 1 if edge in edges else 0
        others = [minion for minion in (*edges[turn:], *edges[:turn]) if minion != edge]
        named = [minion for minion in self.estate.verify.probers if minion != edge]
        return [*dict.fromkeys([*named, *others]), "", *([edge] if edge in edges else [])]

    def _edge(self, task: Task, edge: str) -> list[Probe]:
        visits = [visit for visit in task.visits if visit.edge == edge]
        doors = tuple(door for door in task.doors if door.edge == edge)
        starts = range(0, max(len(visits), 1), BATCH)
        # Of all roots and accounts a prober gets what its part needs.
        manner = replace(task.manner, roots={edge: task.manner.roots.get(edge, "")})
        parts = (Task(manner, tuple(visits[n : n + BATCH]), (), () if n else doors) for n in starts)
        silent: list[str] = []
        return [row for part in parts for row in self._asked(part, edge, silent)]

    def _asked(self, task: Task, edge: str, silent: list[str]) -> Iterator[Probe]:
        """silent: probers that did not answer; they are told once, and not asked again."""
        for prober in self.probers(edge):
            if prober in silent:
                continue
            rows, why = self._ask(prober, task)
            if rows is not None:
                yield from rows
                if prober == edge or (not prober and self.is_here(self.estate.edges[edge].address)):
                    told = "probed from its own machine: there is no other; hecate:verify:from names one"
                    yield Probe("prober", edge, edge, OK, told, prober or MASTER)
                return
            silent.append(prober)
            yield Probe("prober", prober or MASTER, edge, WARN, f"{why}; the next one was asked")
        yield Probe("prober", edge, edge, FAIL, f"nobody could probe it: {', '.join(p or MASTER for p in silent)}")

    def _ask(self, prober: str, task: Task) -> tuple[list[Probe] | None, str]:
        """Rows, or why there are none. Half an answer is none."""
        if not prober:
            return [replace(row, by=MASTER) for row in self.here(task)], ""
        answer = self.crew.ask(Step(prober, prober, "verify"), "hecate.verify", task.pack())
        try:
            rows = [replace(Probe.from_json(row), by=prober) for row in unpacked(answer["rows"])["rows"]]
        except (TypeError, KeyError, ValueError, AttributeError, zlib.error) as err:
            return None, str(answer) if isinstance(answer, str) else f"its answer makes no sense ({type(err).__name__})"
        if len({(row.host, row.at) for row in rows if row.what == "tcp"}) != len(task.visits):
            return None, f"it answered for {len(rows)} questions, and not for all"
        return rows, ""

    def _records(self, task: Task) -> list[Probe]:
        """At name servers, which are elsewhere anyway: from one machine."""
        rows: list[Probe] = []
        if not task.records:
            return rows
        bare = replace(task.manner, roots={}, served=(), accounts={})
        for prober in (*self.estate.verify.probers, ""):
            for start in range(0, len(task.records), BATCH):
                part = Task(bare, (), task.records[start : start + BATCH])
                found, why = self._ask(prober, part)
                if found is None or len(found) != len(part.records):
                    rows = [Probe("prober", prober, "dns", WARN, f"{why or 'half an answer'}; the next one was asked")]
                    break
                rows += found
            else:
                return rows
        return rows

    # By authentik's own word

    def _by_word(self, task: Task) -> list[Probe]:
        """Of accounts without a password: what the server says of them, which no visit could show."""
        accounts = self.estate.verify.accounts
        wanted = [
            (visit.name, kind, name)
            for visit in {visit.name: visit for visit in task.visits}.values()
            for kind, name in (("allowed", visit.allowed), ("refused", visit.refused))
            if name and not accounts[name].password
        ]
        steps = [step for step in self.steps if step.system == "authentik"]
        if not wanted or not steps:
            return []
        step, rows = steps[0], []
        for host, kind, name in wanted:
            told = self.crew.ask(step, f"{step.module}.access", accounts[name].username or name, host)
            rows.append(_word(host, kind, name, told))
        return rows


def _word(host: str, kind: str, name: str, told: Any) -> Probe:
    """What hecate_authentik.access says of one user and one host, as an answer."""
    if not isinstance(told, Mapping) or not {"may", "may not"} <= told.keys():
        return Probe(kind, host, "authentik", FAIL, f"authentik cannot tell of {name}: {told}")
    may = isinstance(told["may"], Mapping)
    good = may == (kind == "allowed")
    seen = f"by authentik's own word {name} {'may' if may else 'may not'} pass (nobody logged in)"
    return Probe(kind, host, "authentik", OK if good else FAIL, seen)


def is_here(address: str) -> bool:
    """Whether an address is one of this machine's: only those can be bound."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address.strip("[]"), 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
        return True
    except OSError:
        return False
