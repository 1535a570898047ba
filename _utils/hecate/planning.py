"""Plans of the whole estate: made from what every target tells, saved, and held to when they are deployed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from hecate import model
from hecate.errors import HecateError, PlanMoved
from hecate.estate_plan import NOTHING, EstatePlan, TargetPlan, moved
from hecate.order import Order, packed, unpacked
from hecate.request import Request
from hecate.selection import KINDS, Selection, merged, resolve
from hecate.store.deployments import DONE, Deployments
from hecate.store.plans import Plans
from hecate.targets import Crew, Part, Step, parts_of

SHOWN = 30  # pillar paths that a refusal names
DEEP = 4  # so many keys of a path are told
Words = Mapping[str, Sequence[str]]


def words_of(request: Request) -> dict[str, tuple[str, ...]]:
    """The selectors of a request."""
    found = {kind: getattr(request, kind) for kind in (*KINDS, "exclude")}
    return {kind: words for kind, words in found.items() if words}


def fingerprint(wanted: Mapping[str, Any]) -> str:
    """Of what stands under `hecate`, as a record may keep it."""
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Planning:
    """pillar: with the key `hecate`, as it is wanted now. steps: all targets that it has. user: who asks.

    protected: hosts that authentik is to guard.
    """

    pillar: Mapping[str, Any]
    steps: Sequence[Step]
    crew: Crew
    deployments: Deployments
    plans: Plans
    user: str
    protected: Sequence[str] = ()

    def selection(self, words: Words) -> Selection:
        managed = tuple(dict.fromkeys(step.system for step in self.steps))
        return resolve(words, self._wanted, self._last() if words else {}, managed)

    def make(self, words: Words, **said: Any) -> EstatePlan:
        """What a deploy of this selection would do now. Writes nothing. Raises HecateError for who doesn't answer.

        said: what else each target's order says.

        Edges publish what authentik guards; they are told what it will guard by the time that it is their turn: asked
        beside it as if that were all that it should, and once more where it is not.
        """
        selection = self.selection(words)
        steps = [step for step in self.steps if selection.takes(step.system)]
        edges = [step for step in steps if step.system == "caddy"]
        first = [step for step in steps if step.system == "authentik" and edges]
        others = [step for step in steps if step not in (*edges, *first)]
        ahead = {"guards": tuple(self.protected)} if first else {}
        with ThreadPoolExecutor(1) as beside:
            meanwhile = beside.submit(self._ask, [*first, *others], selection, said)
            answers = self._ask(edges, selection, {**said, **ahead})
            answers |= meanwhile.result()
        guards = next((answers[s.name]["guards"] for s in first if isinstance(answers[s.name], Mapping)), None)
        if guards is not None and {*guards} != {*self.protected}:
            answers |= self._ask(edges, selection, {**said, "guards": tuple(guards)})
        errors = [f"{s.name}: {answers[s.name]}" for s in steps if not isinstance(answers[s.name], Mapping)]
        if errors:
            raise HecateError("\n".join(errors))
        targets = tuple(TargetPlan.of(s.name, s.system, s.minion, answers[s.name]["plan"]) for s in steps)
        environment = str(self._wanted.get("environment") or model.Estate().environment)
        mark = fingerprint(model.storable(self.pillar))
        return EstatePlan(environment, targets, dict(selection.words), mark, time.time(), self.user)

    def _ask(self, steps: Sequence[Step], selection: Selection, said: Mapping[str, Any]) -> dict[str, Any]:
        orders = {step.name: self._order(step, selection, **said).to_json() for step in steps}
        return self.crew.ask_each({step.name: (step, f"{step.module}.plan", (orders[step.name],)) for step in steps})

    def save(self, plan: EstatePlan) -> None:
        """With the pillar that it was made for, so that a refusal can tell what has changed in it."""
        self.plans.save(plan.digest, {"plan": plan.to_json(), "pillar": packed(model.storable(self.pillar))})

    def saved(self, digest: str) -> EstatePlan:
        return EstatePlan.from_json(self.plans.get(digest)["plan"])

    def listed(self) -> list[EstatePlan]:
        """Newest first."""
        return [EstatePlan.from_json(row["plan"]) for row in self.plans.listed()]

    # In a deploy

    def ahead(self, request: Request, record: str) -> EstatePlan | None:
        """What a deploy would do now, or the plan that it was given; None where that can't be told before it begins.

        record: packed pillar of the deployment that is to be returned to.
        """
        if (plan := self._asked_for(request)) is not None:
            return plan
        said = {"allow": request.allow, **({"pillar": record} if record else {})}
        try:
            return self.make(words_of(request), **said)
        except HecateError:
            return None  # the target's own step says why

    def parts(self, request: Request, transaction: str, ahead: EstatePlan | None) -> list[tuple[Part, Order]]:
        """What each target is told, in the order of a deploy. Raises HecateError for a request that can't be met.

        ahead: targets that have nothing to do there have no part.
        """
        plan = self._asked_for(request)
        selection = self.selection(plan.selection if plan else words_of(request))
        found = []
        for part in parts_of([step for step in self.steps if selection.takes(step.system)]):
            if ahead is not None and not ahead.concerns(part.step.name, part.name != part.step.name):
                continue
            target = plan.target(part.step.name) if plan else None
            is_late = part.name != part.step.name
            digest = target.digest_of(part.hold, is_late) if target else NOTHING if plan else ""
            given = {"transaction": transaction, "step": part.name, "allow": request.allow, "digest": digest}
            held = {"hold": part.hold} if part.hold else {}
            found.append((part, self._order(part.step, selection, **given, **held)))
        return found

    def check(self, request: Request) -> str:
        """Raises PlanMoved unless the saved plan is what a deploy would do now. Writes nothing."""
        plan = self._asked_for(request)
        if plan is None:
            return "no plan was named"
        self._refuse_other_pillar(plan)
        differs = moved(plan, self.make(plan.selection))
        if differs:
            raise PlanMoved(differs, f"the estate is not as it was when {plan.digest} was planned; nothing was written")
        return f"everything is as it was when {plan.digest} was planned"

    def recorded(self, request: Request) -> dict[str, Any]:
        """The pillar that is true once this request is deployed, with what it left out as it was."""
        selection = self.selection(self._words(request))
        return {**self.pillar, "hecate": merged(selection, self._wanted, self._last())}

    def note(self, request: Request) -> dict[str, list[str]]:
        """The selectors that a deploy was about, for its record; empty for all."""
        return {kind: list(words) for kind, words in self._words(request).items()}

    def _words(self, request: Request) -> Words:
        """The selectors of the plan that was asked for, else the request's own."""
        plan = self._asked_for(request)
        return plan.selection if plan else words_of(request)

    def _asked_for(self, request: Request) -> EstatePlan | None:
        if not request.plan:
            return None
        besides = [*words_of(request), *(["to"] if request.to else [])]
        if besides:
            raise HecateError(f"plan={request.plan} says what is deployed; {', '.join(besides)} cannot be given beside")
        plan = self.saved(request.plan)
        if plan.pending:
            why = f"parts of it wait for {', '.join(plan.pending)}"
            first = "deploy systems=terraform first, then plan the rest"
            raise HecateError(f"the plan {plan.digest} says not all: {why}; {first}")
        return plan

    def _refuse_other_pillar(self, plan: EstatePlan) -> None:
        now = model.storable(self.pillar)
        if plan.pillar == fingerprint(now):
            return
        then = unpacked(self.plans.get(plan.digest)["pillar"])
        paths = list(dict.fromkeys(_paths("hecate", then, now)))
        more = [f"and {len(paths) - SHOWN} more"] if len(paths) > SHOWN else []
        paths = [*paths[:SHOWN], *more]
        raise PlanMoved(paths, f"pillar has changed since {plan.digest} was made; nothing was written")

    def _order(self, target: Step, selection: Selection, **given: Any) -> Order:
        """What every order of this selection says to that target."""
        edges_left_out = any(s.system == "caddy" for s in self.steps) and not selection.takes("caddy")
        holds = {"hold": "guards"} if target.system == "authentik" and edges_left_out else {}
        hosts = {"hosts": selection.hosts} if selection.hosts is not None else {}
        return Order(**{**holds, **hosts, **given})

    @property
    def _wanted(self) -> Mapping[str, Any]:
        return self.pillar.get("hecate") or {}

    def _last(self) -> Mapping[str, Any]:
        """What stood under `hecate` at the last good deploy."""
        return next((d.pillar for d in self.deployments.newest() if d.status == DONE), {})


def _paths(path: str, old: Any, new: Any) -> Iterator[str]:
    """Where two pillars differ."""
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and path.count(":") < DEEP:
        for key in sorted({*old, *new}, key=str):
            yield from _paths(f"{path}:{key}", old.get(key), new.get(key))
    else:
        yield path
