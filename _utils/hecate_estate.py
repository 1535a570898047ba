"""The estate as a master sees it: what the runner `hecate` does, over the targets' own functions.

Targets do the work and keep their own undo journals. The master keeps the lock, the order, and
the history; it can be killed at any point, and the next deploy or rollback carries on from there.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hecate_salt
import salt.client
import salt.pillar
from hecate import model, rights, wiring
from hecate.errors import HecateError
from hecate.rights import text as shown_rights
from hecate.rotations import Rotations
from hecate.rotations import table as rotation_table
from hecate.store.deployments import COMMITTING, DONE, FAILED, RUNNING, UNDONE, Deployment, Deployments
from hecate.verify import table, verify

CONTROLLER = "hecate-controller"
RECORDS = ("hetzner_dns", "rfc2136")  # systems whose deletions wait until the routes are gone
WAIT = 20  # seconds between two looks whether a target still works on its call


def outcome(call: Callable[[], Any]) -> tuple[int, Any]:
    """Exit code and answer of a runner function; an error is its text, without a traceback."""
    try:
        return 0, call()
    except HecateError as err:
        return 1, str(err)


@dataclass(frozen=True)
class Step:
    """One target of a deploy: what it is called, which minion does it, and for which system."""

    name: str
    minion: str
    system: str

    def part(self, hold: str = "", name: str = "") -> dict[str, str]:
        """Its part in a deploy; hold: "deletions" leaves what is to go for a later part of the same target."""
        return {"name": name or self.name, "minion": self.minion, "system": self.system, "hold": hold}

    @property
    def module(self) -> str:
        return f"hecate_{self.system}"


class Master:
    """opts: the master's. pillar: what the command line gave in ``pillar=``, if anything."""

    def __init__(self, opts: Mapping[str, Any], extra: Mapping[str, Any]) -> None:
        self._opts, self._extra = dict(opts), dict(extra or {})
        self._controller = str(opts.get("hecate_minion", CONTROLLER))
        self._rendered: dict[str, Any] | None = None

    # Looking

    @property
    def pillar(self) -> dict[str, Any]:
        """The controller's pillar, rendered anew once a call. Raises what its SLS says is wrong."""
        if self._rendered is None:
            compiler = salt.pillar.get_pillar(
                self._opts, {"id": self._controller}, self._controller, self._opts.get("saltenv") or "base"
            )
            rendered = compiler.compile_pillar()
            if rendered.get("_errors"):
                raise HecateError("the pillar does not render:\n" + "\n".join(map(str, rendered["_errors"])))
            self._rendered = rendered
        return self._rendered

    def validated(self) -> str:
        """That it is good, and what of it has no effect. Raises InvalidPillar with every problem."""
        notices = model.parse(self.pillar).notices()
        return "\n".join(["the pillar is good", *(f"  note: {text}" for text in notices)])

    def plan(self, form: str) -> tuple[Any, int]:
        """The plans, and 0 for nothing to do or 2 for changes."""
        self.validated()
        answers = {step.name: self._call(step, f"{step.module}.plan") for step in self._steps()}
        errors = [f"{name}: {answer}" for name, answer in answers.items() if not isinstance(answer, Mapping)]
        if errors:
            raise HecateError("\n".join(errors))
        plans = {name: answer["plan"] for name, answer in answers.items()}
        code = 2 if any(plan["changes"] or plan.get("pending") for plan in plans.values()) else 0
        if form == "data":
            return plans, code
        return "\n".join(f"{name}\n  " + answer["text"].replace("\n", "\n  ") for name, answer in answers.items()), code

    def status(self) -> dict[str, Any]:
        deployments, last = self._deployments, self._deployments.history(1)
        return {
            "lock": str(deployments.holder() or "free"),
            "last deploy": _line(last[0]) if last else "none",
            "targets": {step.name: self._condition(step) for step in self._steps()},
        }

    def _condition(self, step: Step) -> str:
        """Whether a target answers, and what it has open."""
        answer = self._call(step, "hecate.transactions", step.system)
        if not isinstance(answer, list):
            return f"DOES NOT ANSWER: {answer}"
        return f"{step.minion} answers" + (f", has open: {', '.join(answer)}" if answer else "")

    def verify(self) -> str:
        """Raises HecateError with the whole table when a probe fails."""
        estate = model.parse(self.pillar)
        edges = [s for s in self._steps() if s.system == "caddy"]
        roots: dict[str, str] = {}
        if "internal" in (estate.caddy.issuer, *(route.tls.issuer for route in estate.routes.values())):
            roots = {s.minion: str(self._call(s, f"{s.module}.root_certificate")) for s in edges}
        probes = verify(estate, roots)
        if not all(probe.good for probe in probes):
            raise HecateError(table(probes))
        return table(probes)

    def history(self, count: int) -> list[str]:
        return [_line(d) for d in self._deployments.history(count)] or ["nothing has been deployed yet"]

    def show(self, deployment: str) -> dict[str, Any]:
        found = self._deployments.get(deployment)
        return {**found.summary(), "pillar": dict(found.pillar)}

    def rights(self, holder: str | None, form: str) -> Any:
        """The least that a target needs, or all of them; asks no system. Raises InvalidPillar."""
        estate = model.parse(self.pillar)
        found = (rights.of(estate, holder),) if holder else rights.needed(estate)
        return shown_rights.data(found) if form == "json" else shown_rights.text(found)

    # Secrets that get successors

    def rotate(self, which: str | Sequence[str] | None, *, immediate: bool, only_due: bool) -> str:
        """Under the deploy's own lock: a deploy that reads a secret while it changes would put the old one back."""
        found, deployments = self._rotations, self._deployments
        listed = found.names(which)
        transaction = f"{hecate_salt.new_transaction()}-rotation"
        deployments.acquire(transaction, _user(self._opts))
        try:
            return found.run(listed, immediate=immediate, only_due=only_due)
        finally:
            deployments.release(transaction)

    def rotation_status(self, form: str) -> tuple[Any, int]:
        """The table or its rows, and 1 where a target could not tell."""
        rows = self._rotations.status()
        return rows if form == "data" else rotation_table(rows), int(any("why" in row for row in rows))

    def rotations(self, which: str | Sequence[str] | None) -> list[dict[str, str]]:
        return self._rotations.targets(which)

    @property
    def _rotations(self) -> Rotations:
        return Rotations(model.parse(self.pillar), self._called)

    # The steps of a deploy

    def steps(self, allow: Sequence[str] = ()) -> dict[str, Any]:
        """Rendered before preflight, so a wrong pillar must not break it: preflight then tells."""
        try:
            listed = self._steps()
        except HecateError:
            listed = []
        return {
            "transaction": hecate_salt.new_transaction(),
            "allow": [allow] if isinstance(allow, str) else list(allow),
            "targets": _parts(listed),
        }

    def preflight(self) -> str:
        self.validated()
        minions = sorted({s.minion for s in self._steps()})
        alive = self._client.cmd(minions, "test.ping", tgt_type="list", timeout=15)
        silent = [m for m in minions if not alive.get(m)]
        if silent:
            raise HecateError(f"these targets do not answer: {', '.join(silent)}; are their minions running?")
        return "\n".join([f"pillar is good; {len(minions)} minions answer", *self._warnings()])

    def _warnings(self) -> list[str]:
        """What is known against the versions that are out there: told, and no reason to stop."""
        found = []
        for step in self._steps():
            if step.system == "authentik":
                answer = self._call(step, f"{step.module}.warnings")
                told = answer if isinstance(answer, list) else [f"its version could not be asked: {answer}"]
                found += [f"  warning: {step.name}: {text}" for text in told]
        return found

    def begin(self, transaction: str) -> str:
        deployments = self._deployments
        deployments.acquire(transaction, _user(self._opts))
        lines = [self._finish(left) for left in [deployments.unfinished()] if left and left.id != transaction]
        targets = tuple(asdict(step) for step in self._steps())
        deployments.save(
            Deployment(
                transaction,
                RUNNING,
                _user(self._opts),
                time.time(),
                message=str(self._extra.get("message", "")),
                targets=targets,
                pillar=model.storable(self.pillar),
            )
        )
        return "\n".join([*lines, f"deploy {transaction} has begun"])

    def outputs(self, transaction: str) -> str:
        for step in self._steps():
            if step.system == "terraform":
                found = self._call(step, f"{step.module}.outputs")
                if not isinstance(found, Mapping):
                    raise HecateError(f"Terraform's outputs: {found}")
                deployments = self._deployments
                former = {"former outputs": deployments.outputs()}
                deployments.update(transaction, steps={**deployments.get(transaction).steps, **former})
                deployments.save_outputs(found)
                return "outputs in pillar: " + (", ".join(sorted(found)) or "none")
        return "no Terraform in pillar"

    def record(self, transaction: str) -> str:
        """First the decision, then its effects: whoever finds COMMITTING carries on committing."""
        deployments = self._deployments
        deployments.update(transaction, status=COMMITTING, pillar=model.storable(self.pillar))
        self._commit(transaction)
        return f"deploy {transaction} is done"

    def rollback(self, transaction: str | None, reason: str) -> str:
        deployments = self._deployments
        standing = [d.id for d in deployments.history(1000) if d.status != UNDONE]
        if transaction is None and not standing:
            return "nothing is deployed that could be undone"
        transaction = transaction or standing[0]
        if transaction not in standing:
            deployments.release(transaction)
            return f"deploy {transaction} had not begun, or is undone already; nothing to undo"
        if standing[0] != transaction:
            raise HecateError(f"{standing[0]} was deployed after {transaction}; roll that back first")
        deployments.acquire(transaction, _user(self._opts))
        lines = self._undo(deployments.get(transaction), reason)
        deployments.release(transaction)
        return "\n".join(lines)

    def unlock(self, reason: str) -> str:
        holder = self._deployments.holder()
        if holder is None:
            return "the lock is free"
        self._deployments.release(holder.transaction)
        known = [d for d in self._deployments.history(50) if d.id == holder.transaction]
        for deployment in known:
            note = f"unlocked by {_user(self._opts)}: {reason}"
            self._deployments.update(deployment.id, message=f"{deployment.message}; {note}".lstrip("; "))
        return f"taken from {holder}"

    # Below the surface

    @property
    def _client(self) -> Any:
        return salt.client.get_local_client(mopts=self._opts)

    @property
    def _deployments(self) -> Deployments:
        keeper = hecate_salt.keeper(self._opts, {})
        return wiring.deployments(model.parse_access(self.pillar), Path(self._opts["cachedir"]), keeper)

    def _steps(self) -> list[Step]:
        """Targets in the order of a deploy; only systems that pillar mentions."""
        raw = self.pillar.get("hecate") or {}
        targets = model.parse({"hecate": {"targets": raw.get("targets") or {}}}).targets
        edges = targets.caddy or tuple(raw.get("edges") or ())
        single = {
            "terraform": targets.controller,
            "nomad": targets.controller,
            "authentik": targets.authentik,
            "hetzner_dns": targets.dns,
            "rfc2136": targets.dns if _dynamic(raw) else "",
        }
        listed = [Step(system, minion, system) for system, minion in single.items() if minion and raw.get(system)]
        return listed + [Step(edge, edge, "caddy") for edge in edges]

    def _called(self, minion: str, function: str, *args: Any) -> Any:
        return self._call(Step(minion, minion, ""), function, *args)

    def _call(self, step: Step, function: str, *args: Any) -> Any:
        """One function on one target: its return, or an error text."""
        answer = self._client.cmd(step.minion, function, list(args), timeout=WAIT, full_return=True)
        found = answer.get(step.minion)
        if not isinstance(found, Mapping):
            return f"{step.minion} does not answer; is its minion running?"
        return found["ret"]

    def _finish(self, left: Deployment) -> str:
        """An earlier deploy whose master died: decided ones are carried through, others undone."""
        if left.status == COMMITTING:
            self._commit(left.id)
            return f"deploy {left.id} had succeeded when it was cut off; it was completed"
        return "\n".join(self._undo(left, "its deploy was cut off"))

    def _commit(self, transaction: str) -> None:
        for step in self._still_managed(self._deployments.get(transaction)):
            answer = self._call(step, "hecate.commit", step.system, transaction)
            if answer is not True:
                raise HecateError(f"{step.name}: its journal could not be closed: {answer}; run the deploy again")
        self._deployments.update(transaction, status=DONE, ended=time.time())
        self._deployments.release(transaction)

    def _undo(self, deployment: Deployment, reason: str) -> list[str]:
        """Every target in reverse order; one that fails does not keep the others from being undone."""
        lines = [f"rolling back deploy {deployment.id} ({reason})"]
        answers = {s.name: self._undone(s, deployment.id) for s in reversed(self._still_managed(deployment))}
        failed = [name for name, answer in answers.items() if not isinstance(answer, list)]
        for name, answer in answers.items():
            what = f"FAILED: {answer}" if name in failed else ", ".join(answer) or "nothing to put back"
            lines.append(f"  {name}: {what}")
        lost = [target["name"] for target in deployment.targets if target["name"] not in answers]
        lines += [f"  {name}: no longer in pillar; left as it is" for name in lost]
        if "former outputs" in deployment.steps:
            self._deployments.save_outputs(deployment.steps["former outputs"])
        status, steps = FAILED if failed else UNDONE, {**deployment.steps, **answers}
        self._deployments.update(deployment.id, status=status, ended=time.time(), error=reason, steps=steps)
        if failed:
            again = f"salt-run hecate.rollback {deployment.id}"
            raise HecateError("\n".join([*lines, f"NOT undone: {', '.join(failed)}; mend and run: {again}"]))
        return [*lines, "everything is as it was before" if not lost else f"all is undone but {', '.join(lost)}"]

    def _undone(self, step: Step, transaction: str) -> Any:
        """The ids that were put back, or why not."""
        return self._call(step, "hecate.rollback", step.system, transaction)

    def _still_managed(self, deployment: Deployment) -> list[Step]:
        """The deployment's targets that pillar still has: taking one out is how a dead one is given up."""
        present = self._steps()
        return [step for step in _targets(deployment) if step in present]


def _targets(deployment: Deployment) -> list[Step]:
    """The targets as they were when it began, in their order."""
    return [Step(**target) for target in deployment.targets]


def _dynamic(raw: Mapping[str, Any]) -> bool:
    """Whether a zone of this (unchecked) pillar is served by one of hecate:rfc2136."""
    found = raw.get("dns")
    dns = found if isinstance(found, Mapping) else {}
    zones = dns.get("zones") or {}
    rows = [(zones[name] if isinstance(zones, Mapping) else None) for name in zones]
    used = [(row.get("provider") if isinstance(row, Mapping) else None) or dns.get("provider") for row in rows]
    return any(name in used for name in raw.get("rfc2136") or ())


def _parts(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Targets in the order of a deploy. A record is there before its route, and goes after it.

    Both parts of a DNS target are one transaction in one journal. A rollback puts it back where its first
    part stands: after the edges, so new records outlive their routes there too.
    """
    edges = any(step.system == "caddy" for step in steps)
    late = [step for step in steps if edges and step.system in RECORDS]
    first = [step.part("deletions" if step in late else "") for step in steps]
    return first + [step.part(name=f"{step.name} deletions") for step in late]


def _line(deployment: Deployment) -> str:
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(deployment.started))
    took = f", {deployment.ended - deployment.started:.0f} s" if deployment.ended else ""
    why = "; ".join(part for part in (deployment.message, deployment.error) if part)
    return f"{deployment.id}  {started}  {deployment.user}  {deployment.status}{took}" + (f"  ({why})" if why else "")


def _user(opts: Mapping[str, Any]) -> str:
    return str(opts.get("user") or getpass.getuser())
