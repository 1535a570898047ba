"""The estate as a master sees it: what the runner `hecate` tells of it, over the targets' own functions."""

from __future__ import annotations

import os
import pprint
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import hecate_calls
import hecate_salt
import salt.pillar
import salt.runner
import salt.utils.user
from hecate import estate_text, history, model, rights, wiring
from hecate.drifts import Drifts
from hecate.drifts import told as drift_told
from hecate.errors import HecateError
from hecate.estate_plan import EstatePlan
from hecate.order import Order, packed
from hecate.planning import Planning, words_of
from hecate.request import Request, listed
from hecate.returning import returned
from hecate.rights import text as shown_rights
from hecate.rotations import Rotations
from hecate.rotations import table as rotation_table
from hecate.store.audit import Audit
from hecate.store.deployments import Deployments
from hecate.targets import Crew, Step, steps_of
from hecate.transactions import Actor, Transactions
from hecate.verification import Report, Verification, run
from hecate.verification.crew import is_here
from hecate.verification.scope import named

CONTROLLER = "hecate-controller"
RENDERED: dict[str, dict[str, Any]] = {}
"""By transaction: pillar as the deploys that this process conducts go by it."""
PARSED: list[tuple[Any, model.Estate]] = []
"""The last pillar that was checked, and what it says: a thousand routes take a third of a second."""


def outcome(call: Callable[[], Any]) -> tuple[int, Any]:
    """Exit code and answer of a runner function; an error is its text, without a traceback."""
    try:
        return 0, call()
    except HecateError as err:
        return 1, str(err)


def words(given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Lists as a command line gives them, also with commas between; without those that are empty."""
    return {name: listed(value) for name, value in given.items() if value}


class Master:
    """opts: the master's. extra: what the command line gave in ``pillar=``. user, jid: as Salt tells a runner."""

    def __init__(self, opts: Mapping[str, Any], extra: Mapping[str, Any], user: str = "", jid: str = "") -> None:
        self._actor = Actor(_user(opts, user), socket.gethostname(), jid)
        self._opts, self._extra = dict(opts), dict(extra or {})
        self._controller = str(opts.get("hecate_minion", CONTROLLER))
        self._rendered: dict[str, Any] | None = None
        self._deploy = ""

    # Looking

    @property
    def pillar(self) -> dict[str, Any]:
        """What is wanted: pillar as it is now, or as the deployment had it that is to be returned to."""
        return self._wanted if self._returning else self._today

    @cached_property
    def _wanted(self) -> dict[str, Any]:
        return Order(pillar=packed(self._returning)).wanted(self._today)

    @cached_property
    def _returning(self) -> dict[str, Any]:
        """The pillar of the deployment to return to; empty for none. Raises HecateError for one that can't be."""
        name = str(self._extra.get("to") or "")
        if not name:
            return {}
        record = dict(self._deployments.get(name).pillar)
        returned(record, self._today.get("hecate") or {}, name)
        return record

    @property
    def _today(self) -> dict[str, Any]:
        """The controller's pillar, rendered once a call, and once a deploy. Raises what its SLS says is wrong."""
        if self._rendered is None and self._deploy in RENDERED:
            self._rendered = RENDERED[self._deploy]
        if self._rendered is None:
            compiler = salt.pillar.get_pillar(
                self._opts, {"id": self._controller}, self._controller, self._opts.get("saltenv") or "base"
            )
            rendered = compiler.compile_pillar()
            if rendered.get("_errors"):
                raise HecateError("the pillar does not render:\n" + "\n".join(map(str, rendered["_errors"])))
            self._rendered = rendered
            if self._deploy:
                RENDERED[self._deploy] = rendered
        return self._rendered

    @property
    def _estate(self) -> model.Estate:
        """What is wanted, checked. Raises InvalidPillar with every problem."""
        wanted = self.pillar
        if not PARSED or PARSED[0][0] is not wanted:
            PARSED[:] = [(wanted, model.parse(wanted))]
        return PARSED[0][1]

    def validated(self) -> str:
        """That it is good, and what of it has no effect. Raises InvalidPillar with every problem."""
        notices = self._estate.notices()
        return "\n".join(["the pillar is good", *(f"  note: {text}" for text in notices)])

    # Plans

    def plan(self, form: str, save: bool) -> tuple[Any, int]:
        """The plan for what was asked, and 0 for nothing to do or 2 for changes."""
        self.validated()
        planning = self._planning
        found = planning.make(words_of(self._request))
        if save and found:
            planning.save(found)
        return estate_text.formed(found, form), 2 if found else 0

    def plans(self) -> list[str]:
        """Those that are kept, newest first."""
        return [
            f"{plan.digest}  {history.moment(plan.made)}  {plan.user}  "
            f"{estate_text.headline(plan)}"
            for plan in self._planning.listed()
        ] or ["no plan is kept"]

    def show_plan(self, digest: str, form: str) -> Any:
        return estate_text.formed(self._planning.saved(digest), form)

    def status(self) -> dict[str, Any]:
        deployments, last = self._deployments, self._deployments.history(1)
        holder, left = deployments.holder(), deployments.unfinished()
        cut_off = "the next deploy puts that to rights first, or: salt-run hecate.resume"
        return {
            "lock": str(holder or "free"),
            "last deploy": history.line(last[0]) if last else "none",
            **({"interrupted": f"deploy {left.id} has no end; {cut_off}"} if left and not holder else {}),
            "targets": {step.name: self._condition(step) for step in self._steps()},
        }

    def _condition(self, step: Step) -> str:
        """Whether a target answers, and what it has open."""
        answer = self._crew.ask(step, "hecate.transactions", step.system)
        if not isinstance(answer, list):
            return f"DOES NOT ANSWER: {answer}"
        return f"{step.minion} answers" + (f", has open: {', '.join(answer)}" if answer else "")

    def _verified(self, transaction: str, routes: Sequence[str], acting: set[str] | None = None) -> Report:
        """acting: the targets that may have changed something; None for all."""
        estate = self._estate
        if transaction and self._planning.note(self._request):
            # A part of pillar was deployed: what else it says is not true yet.
            estate = model.parse(self._planning.recorded(self._request))
        secrets = wiring.resolver(estate, hecate_salt.keeper(self._opts, {}))
        asked = Verification(estate, self._crew, self._steps(), lambda task: run(task, secrets.value), is_here, acting)
        return asked.verify(transaction, named(routes))

    def show(self, deployment: str) -> dict[str, Any]:
        found = self._deployments.get(deployment)
        return {**found.summary(), "pillar": dict(found.pillar)}

    def rights(self, holder: str | None, form: str) -> Any:
        """The least that a target needs, or all of them; asks no system. Raises InvalidPillar."""
        estate = self._estate
        found = (rights.of(estate, holder),) if holder else rights.needed(estate)
        return shown_rights.data(found) if form == "json" else shown_rights.text(found)

    # Secrets that get successors

    def rotation_status(self, form: str) -> tuple[Any, int]:
        """The table or its rows, and 1 where a target could not tell."""
        rows = self._rotations.status()
        return rows if form == "data" else rotation_table(rows), int(any("why" in row for row in rows))

    def rotations(self, which: str | Sequence[str] | None) -> list[dict[str, str]]:
        return self._rotations.targets(which)

    @property
    def _rotations(self) -> Rotations:
        return Rotations(self._estate, self._crew.call)

    # Drift

    def drift(
        self,
        form: str,
        systems: Sequence[str] = (),
        *,
        act: bool = False,
        heal: Sequence[str] = (),
        adopt: Sequence[str] = (),
        reset: Sequence[str] = (),
    ) -> tuple[Any, int]:
        """What was found, or done; and 0 for no drift, 2 for drift, 1 where a target could not be looked at."""
        self.validated()
        if form not in ("text", "data"):
            raise HecateError(f"form is one of text, data, not {form!r}")
        drifts, named = self._drifts, [*systems, *heal, *adopt]
        did = [f"{s}: {'healed again from now on' if drifts.breaker.reset(s) else 'nothing to reset'}" for s in reset]
        if reset and not (act or heal or adopt):
            return "\n".join(did), 0
        found = drifts.look(named)
        did += drifts.act(found) if act else []
        did += [*(drifts.heal(found, heal) if heal else []), *(drifts.adopt(found, adopt) if adopt else [])]
        self._rendered = None if did else self._rendered
        left = self._drifts.look(named) if did else found
        return drift_told(found, left, did, form), left.code

    @property
    def _drifts(self) -> Drifts:
        access, cache = model.parse_access(self.pillar), Path(self._opts["cachedir"])
        return Drifts(
            self.pillar,
            self._steps(),
            self._crew,
            self._deployments,
            lambda steps: self._transactions.of(steps),
            wiring.breaker(access, cache, hecate_salt.keeper(self._opts, {})),
            self._proved,
            lambda about, data: hecate_salt.on_own_bus(self._opts)(
                f"hecate/drift/{access.environment}/{about}", dict(data)
            ),
            hecate_salt.new_transaction,
            self._opts["pillar_roots"].get(self._opts.get("saltenv") or "base", []),
        )

    def _proved(self, pillar: Mapping[str, Any]) -> object:
        """That an earlier deployment's pillar is what visitors see. Raises HecateError with the whole table."""
        other = Master(self._opts, {})
        other._rendered = {**self.pillar, **pillar}
        found = other._verified("", ())
        if not found.good:
            raise HecateError(found.text())
        return found

    # History

    def history(self, count: int, form: str, file: str | None) -> Any:
        """Newest first. form: text, data or jsonl; file: where JSON lines go, mode 0600."""
        found = self._deployments.history(count)
        if form == "text" and not file:
            return [history.line(d) for d in found] or ["nothing has been deployed yet"]
        return history.exported([history.row(d) for d in found], form, file)

    def audited(self, form: str, file: str | None, against: str | None) -> Any:
        """What the chain says of itself. Raises HecateError with all that is wrong with it."""
        audit = self._audit
        entries = audit.entries()
        if form != "text" or file:
            return history.exported(history.entries(entries), form, file)
        problems = audit.problems(list(self._deployments.newest()), history.read(against) if against else [])
        if problems:
            raise HecateError("\n".join(["the history is NOT as it was written:", *(f"  {text}" for text in problems)]))
        last = f"; the last is {history.entry_line(entries[-1])}, hash {entries[-1].hash}" if entries else ""
        return f"the history is whole: {len(entries)} entries{last}"

    # Below the surface

    @property
    def _deployments(self) -> Deployments:
        keeper = hecate_salt.keeper(self._opts, {})
        return wiring.deployments(model.parse_access(self._today), Path(self._opts["cachedir"]), keeper)

    @property
    def _audit(self) -> Audit:
        keeper, cache = hecate_salt.keeper(self._opts, {}), Path(self._opts["cachedir"])
        return wiring.audit(model.parse_access(self._today), cache, keeper, self._actor.user, self._actor.host)

    @property
    def _request(self) -> Request:
        """What the command line asked. Raises HecateError for words that nobody knows."""
        return Request.of(self._extra)

    @property
    def _planning(self) -> Planning:
        kept = wiring.plans(
            model.parse_access(self.pillar), Path(self._opts["cachedir"]), hecate_salt.keeper(self._opts, {})
        )
        protected = sorted(host for guard in self._estate.guards.all for host in guard.hosts)
        return Planning(self.pillar, self._steps(), self._crew, self._deployments, kept, self._actor.user, protected)

    @property
    def _patience(self) -> float:
        """Seconds that a deploy waits for the lock."""
        return float(self._extra.get("wait") or model.parse_access(self._today).transactions.wait)

    @property
    def _transactions(self) -> Transactions:
        wait, kept = self._patience, model.parse_access(self._today).history
        here = (self._deployments, self._crew, self._steps(), self._actor, self._audit)
        return Transactions(*here, wait, kept.keep, kept.days)

    def _steps(self) -> list[Step]:
        return steps_of(self.pillar.get("hecate") or {})

    @property
    def _crew(self) -> Crew:
        return hecate_calls.Minions(self._opts)


def shown(data: Any, opts: Mapping[str, Any]) -> str:
    """What the outputter prints of a runner's answer; colours as Salt's options and NO_COLOR say."""
    told = data.get("plan", data.get("error")) if isinstance(data, Mapping) else data
    if isinstance(told, Mapping) and "targets" in told:
        colour = bool(opts.get("color")) and not os.environ.get("NO_COLOR")
        return estate_text.text(EstatePlan.from_json(told), colour=colour)
    return told if isinstance(told, str) else pprint.pformat(data)


def _user(opts: Mapping[str, Any], told: str) -> str:
    """Who asks: as Salt tells a runner, and through sudo the person behind it."""
    sudo = os.environ.get("SUDO_USER")
    known = told if told not in ("", "UNKNOWN") else salt.utils.user.get_specific_user()
    return f"sudo_{sudo}" if sudo and known in (opts.get("user"), "root") else known
