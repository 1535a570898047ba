"""Drift of the whole estate, as the master sees it: told, healed or adopted, as pillar says.

    look ──► rows of each target ──► report: told
                                 ──► heal:   breaker? ─► lock ─► looked again there ─► put back ─► verified ─► history
                                 ──► adopt:  proved there by compiling ─► whole pillar checked ─► file

Healing never deploys: what is put back is what the last deployment wanted, of objects that pillar
has not changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from hecate import model
from hecate.adopted import AdoptedFile
from hecate.drift import HEALABLE, MOVED, Drift, merged, text
from hecate.errors import HecateError
from hecate.model.drift import Drift as Settings
from hecate.order import packed
from hecate.store.breaker import Breaker
from hecate.store.deployments import DONE, Deployment, Deployments
from hecate.targets import Crew, Step
from hecate.transactions import Transactions

RECENT = 50  # deployments among which the last one of a target is looked for
NAMED = 5  # objects that a message names


@dataclass(frozen=True)
class Look:
    """rows: by name of the target. errors: of those that could not be looked at. base: the deployment compared with."""

    rows: Mapping[str, tuple[Drift, ...]]
    errors: Mapping[str, str] = field(default_factory=dict)
    base: Mapping[str, Deployment | None] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """0 no drift, 2 drift, 1 where somebody could not be asked: that is not "no drift"."""
        return 1 if self.errors else 2 if any(self.rows.values()) else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "targets": {name: [row.to_json() for row in rows] for name, rows in self.rows.items()},
            "errors": dict(self.errors),
            "base": {name: found.id if found else None for name, found in self.base.items()},
        }

    def text(self) -> str:
        known = sorted({found.id for found in self.base.values() if found})
        head = f"compared with pillar, and with what was deployed last ({', '.join(known) or 'nothing yet'})"
        trees = [text(name, rows) for name, rows in self.rows.items()]
        return "\n".join([head, *trees, *(f"{name}: CANNOT BE LOOKED AT: {why}" for name, why in self.errors.items())])


@dataclass(frozen=True)
class Drifts:
    """pillar: the whole, as rendered now. transactions: over the targets given. prove: verifies an estate from outside.

    fire: puts an event on the bus, by what it is about. new: makes ids of transactions.
    """

    pillar: Mapping[str, Any]
    steps: Sequence[Step]
    crew: Crew
    deployments: Deployments
    transactions: Callable[[Sequence[Step]], Transactions]
    breaker: Breaker
    prove: Callable[[Mapping[str, Any]], object]
    fire: Callable[[str, Mapping[str, Any]], object]
    new: Callable[[], str]
    pillar_roots: Sequence[str] = ()

    @property
    def settings(self) -> Settings:
        return model.parse_access(self.pillar).drift

    def look(self, systems: Sequence[str] = ()) -> Look:
        """systems: only these; empty: all. Raises HecateError for one that pillar doesn't have."""
        steps = self._of(systems)
        bases = self._bases(steps)
        sent = {name: packed(found.pillar) if found else "" for name, found in bases.items()}
        answers = self.crew.ask_each({s.name: (s, "hecate.drift", (s.system, sent[s.name])) for s in steps})
        good = {name: answer for name, answer in answers.items() if isinstance(answer, list)}
        errors = {name: str(answer) for name, answer in answers.items() if name not in good}
        return Look({name: tuple(map(Drift.from_json, rows)) for name, rows in good.items()}, errors, bases)

    def act(self, found: Look) -> list[str]:
        """What pillar says about each system; what was done, or why not."""
        names = {step.name: step.system for step in self.steps}
        drifted = sorted({names[name] for name, rows in found.rows.items() if any(row.who in MOVED for row in rows)})
        if drifted:
            told = {name: [[row.who, row.id] for row in rows[:NAMED]] for name, rows in found.rows.items() if rows}
            self.fire("found", {"systems": drifted, "targets": told})
        lines = []
        for action, do in (("heal", self.heal), ("adopt", self.adopt)):
            chosen = [system for system in drifted if self.settings.action(system) == action]
            if chosen:
                lines += do(found, chosen)
        return lines

    # Healing

    def heal(self, found: Look, systems: Sequence[str]) -> list[str]:
        """One transaction over the targets that the same deployment was the last of.

        Raises HecateError when it failed and was undone.
        """
        lines, allowed = [], []
        for system in systems:
            if why := self.breaker.open(system):
                lines.append(f"NOT healed: {why}")
                if self.breaker.announce(system):
                    self.fire("breaker", {"system": system, "why": why})
            else:
                allowed.append(system)
        wanted = {step: self._healable(found, step) for step in self.steps if step.system in allowed}
        wanted = {step: ids for step, ids in wanted.items() if ids}
        if not wanted:
            return [*lines, "nothing was changed by hand alone"] if allowed else lines
        for alike in _by_base(found, wanted):
            lines += self._healed(found, alike)
        return lines

    def _healable(self, found: Look, step: Step) -> list[str]:
        return [row.id for row in found.rows.get(step.name, ()) if row.who in HEALABLE]

    def _healed(self, found: Look, wanted: Mapping[Step, Sequence[str]]) -> list[str]:
        """The lock first, then once more whether it is still that deployment that is to be restored."""
        steps, transaction = list(wanted), self.new()
        deploy = self.transactions(steps)
        base = next((b.pillar for s in steps if (b := found.base.get(s.name))), self.pillar.get("hecate") or {})
        ids = [name for listed in wanted.values() for name in listed]
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        try:
            deploy.begin(transaction, {"hecate": base}, f"healing drift: {', '.join(ids[:NAMED])}{more}")
            if any(_id(now) != _id(found.base.get(name)) for name, now in self._bases(steps).items()):
                raise HecateError("somebody deployed meanwhile; look again")
            for system in dict.fromkeys(step.system for step in steps):
                self.breaker.count(system, [name for step in steps if step.system == system for name in wanted[step]])
            lines = [f"{step.name}: {self._put_back(step, found, transaction, wanted[step])}" for step in steps]
            self.prove({"hecate": base})
            deploy.record(transaction, {"hecate": base})
        except Exception as err:
            undone = deploy.rollback(transaction, str(err).split("\n")[0])
            raise HecateError(f"the healing failed: {err}\n{undone}") from err
        self.fire("healed", {"transaction": transaction, "targets": {s.name: list(wanted[s])[:NAMED] for s in steps}})
        return [f"healed, as deploy {transaction}:", *lines]

    def _put_back(self, step: Step, found: Look, transaction: str, ids: Sequence[str]) -> str:
        base = found.base.get(step.name)
        sent = packed(base.pillar) if base else ""
        answer = self.crew.ask(step, "hecate.heal", step.system, sent, transaction, list(ids))
        if not isinstance(answer, list):
            raise HecateError(f"{step.name}: {answer}")
        return ", ".join(answer) or "somebody else had put it back"

    # Adopting

    def adopt(self, found: Look, systems: Sequence[str]) -> list[str]:
        """Into pillar's own file, or as text to paste. Writes to no system."""
        parts, lines = self._said(found, systems)
        overlay: dict[str, Any] = {}
        for part in parts.values():
            overlay = merged(overlay, part)
        if not overlay:
            return lines or ["nothing to adopt"]
        if problems := model.problems_in({"hecate": merged(self.pillar.get("hecate") or {}, overlay)}):
            return [*lines, "NOT adopted: pillar would not take it:", *(f"  {problem}" for problem in problems)]
        lines += [f"adopted: {name}" for name in parts]
        named = self.settings.adopt_file
        if named is None:
            shown = yaml.safe_dump({"hecate": overlay}, sort_keys=False, allow_unicode=True)
            return [*lines, "to paste into pillar (hecate:drift:adopt_file would keep it by itself):", shown]
        transaction = self.new()
        self.deployments.acquire(transaction, "hecate.drift")
        try:
            file = AdoptedFile(named, self.pillar_roots)
            file.write(merged(file.read(), overlay))
        finally:
            self.deployments.release(transaction)
        self.fire("adopted", {"file": named, "ids": list(parts)[:NAMED]})
        return [*lines, f"written to {named}; pillar has to include it last"]

    def _said(self, found: Look, systems: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """id -> its share of pillar, where all targets of a system say the same; and why not, of the others."""
        parts: dict[str, Any] = {}
        lines: list[str] = []
        for system in systems:
            steps = [step for step in self.steps if step.system == system]
            answers: dict[str, Any] = {}
            for step in steps:
                base = found.base.get(step.name)
                answers[step.name] = self.crew.ask(
                    step, "hecate.adoptable", system, packed(base.pillar) if base else ""
                )
                if not isinstance(answers[step.name], Mapping):
                    raise HecateError(f"{step.name}: {answers[step.name]}")
            for name in sorted({name for answer in answers.values() for name in answer["parts"]}):
                said = [answer["parts"].get(name) for answer in answers.values()]
                if all(one == said[0] for one in said):
                    parts[name] = said[0]
                else:
                    lines.append(f"NOT adopted: {name}: {', '.join(answers)} do not all have it alike")
            for target, answer in answers.items():
                lines += [f"NOT adopted: {target}: {name}: {why}" for name, why in answer["left"].items()]
        return parts, lines

    # Below

    def _of(self, systems: Sequence[str]) -> list[Step]:
        known = {step.system for step in self.steps}
        if unknown := sorted(set(systems) - known):
            raise HecateError(f"{', '.join(unknown)}: not in pillar; there are: {', '.join(sorted(known))}")
        return [step for step in self.steps if not systems or step.system in systems]

    def _bases(self, steps: Sequence[Step]) -> dict[str, Deployment | None]:
        """The newest good deployment that each target was part of."""
        done = [found for found in self.deployments.history(RECENT) if found.status == DONE]
        return {s.name: next((d for d in done if any(t["name"] == s.name for t in d.targets)), None) for s in steps}


def _by_base(found: Look, wanted: Mapping[Step, Sequence[str]]) -> list[dict[Step, Sequence[str]]]:
    """A deployment holds one pillar, so what goes back to different ones takes one each."""
    groups: dict[str, dict[Step, Sequence[str]]] = {}
    for step, ids in wanted.items():
        groups.setdefault(_id(found.base.get(step.name)), {})[step] = ids
    return list(groups.values())


def _id(found: Deployment | None) -> str:
    return found.id if found else ""


def told(found: Look, left: Look, did: Sequence[str], form: str) -> Any:
    if form == "data":
        return {**found.to_json(), **({"done": list(did), "left": left.to_json()["targets"]} if did else {})}
    return "\n".join([found.text(), *did, *(["", "now:", left.text()] if did else [])])
