"""Every error that Hecate raises on purpose.

HecateError
├── InvalidPillar          the pillar is wrong; carries every Problem at once
├── OutputsPending         values wait for Terraform outputs that are not there yet
├── UnsafePlan             the plan needs a word of consent; names the overrides
├── PlanMoved              what would be done is not what was planned; nothing was written
├── Conflict               an object with that name exists and is not Hecate's
├── NotConverged           applied, planned again, and something still differs
├── NotPropagated          written, but name servers still answer otherwise; says which, and what
├── OverBudget             the API's rate limit would stop the run half-way; nothing was written
├── ApplyFailed            an apply broke off; says whether everything was undone
├── TransactionOpen        another transaction has not been closed on this target
├── JournalDamaged         the undo journal cannot be read; nothing is touched
├── LockHeld               somebody else deploys this environment
├── LockLost               the lock went to somebody else, or ran out, while the deploy was under way
├── Fenced                 a target belongs to a newer deploy, and takes nothing from this one; says whose
├── SecretUnavailable      a secret reference cannot be resolved (never shows the value)
└── ApiFailure           a system's API said no or nothing
    ├── Unreachable        no connection, or no answer in time
    ├── Refused            the system understood and refused (4xx)
    │   ├── NotAuthorised  401 or 403
    │   ├── NotFound       a real 404
    │   └── Stale          412: somebody else wrote in between
    ├── RateLimited        429
    └── Faulty             5xx, or an answer that makes no sense
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class HecateError(Exception):
    """Base of everything that Hecate raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the pillar.

    path: where, colon-separated as Salt writes pillar paths (``hecate:routes:app.example.com``).
    value: what is there, shortened; secrets are never put here.
    why: what is wrong with it, and what would be right.
    """

    path: str
    value: str
    why: str

    def __str__(self) -> str:
        shown = f" = {self.value}" if self.value else ""
        return f"{self.path}{shown}: {self.why}"


class InvalidPillar(HecateError):
    """The pillar is refused before anything is read or written; holds all problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem" + ("s" if len(self.problems) != 1 else "")
        super().__init__("\n".join([f"the pillar has {count}:", *(f"  {p}" for p in self.problems)]))


class OutputsPending(HecateError):
    """Values in the pillar wait for outputs that Terraform has not made yet."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = tuple(sorted(set(values)))
        super().__init__(f"waits for {', '.join(self.values)}; hecate.deploy runs Terraform first")


class UnsafePlan(HecateError):
    """The plan does something that wants explicit consent. `reasons` name the overrides."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join(["the plan was stopped before anything was written:", *(f"  {r}" for r in reasons)]))


class PlanMoved(HecateError):
    """What a deploy would do is not what the saved plan says. `moved` tells it line by line."""

    def __init__(self, moved: Sequence[str], head: str = "this is not what was planned") -> None:
        self.moved = tuple(moved)
        super().__init__("\n".join([f"{head}:", *(f"  {line}" for line in self.moved)]))


class Conflict(HecateError):
    """Objects that the pillar wants exist already and are not marked as Hecate's."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)
        listed = "\n".join(f"  {name}" for name in self.ids)
        super().__init__(
            "these exist and are not Hecate's; to take them over, list them under hecate:adopt in pillar, "
            f"or remove them by hand:\n{listed}"
        )


class NotConverged(HecateError):
    """The system still differs from the pillar after an apply that reported success."""


class NotPropagated(HecateError):
    """Name servers did not answer as planned in time. late: server, question, what it answered."""

    def __init__(self, late: Sequence[tuple[str, str, str]], waited: float) -> None:
        self.late = tuple(late)
        shown = [f"  {server} answers {question} with {answer}" for server, question, answer in self.late[:20]]
        more = [f"  and {len(self.late) - 20} more"] if len(self.late) > 20 else []
        head = f"after {waited:.0f} s these name servers do not answer as planned:"
        super().__init__("\n".join([head, *shown, *more]))


class OverBudget(HecateError):
    """A run needs more API calls than are left, and would be stopped half-way. wait: seconds until they were there."""

    def __init__(self, system: str, needed: int, remaining: int, wait: float, advice: str) -> None:
        self.system, self.needed, self.remaining, self.wait = system, needed, remaining, wait
        super().__init__(f"{system}: this takes about {needed} API calls and {remaining} are left: {advice}")


class ApplyFailed(HecateError):
    """An apply broke off. `undone` tells whether the target is as it was before."""

    def __init__(self, cause: BaseException, transaction: str, undone: bool, remains: str = "") -> None:
        self.cause, self.transaction, self.undone, self.remains = cause, transaction, undone, remains
        fate = "everything was put back" if undone else f"NOT everything could be put back: {remains}"
        super().__init__(f"{cause}\n{fate} (journal {transaction})")


class TransactionOpen(HecateError):
    """Another transaction is still open on this target."""


class JournalDamaged(HecateError):
    """The undo journal of a target cannot be read; nothing was touched."""


class LockHeld(HecateError):
    """Somebody else deploys this environment."""


class LockLost(HecateError):
    """The deploy's lock ran out or was taken while it was under way."""


class Fenced(HecateError):
    """A target is taken by a newer deploy, or was released from this one. The message says who took over."""


class SecretUnavailable(HecateError):
    """A secret reference cannot be resolved. The message names the reference, never a value."""


class ApiFailure(HecateError):
    """A call to a system's API did not end well.

    system: which one ("caddy", "authentik", ...). code: its own code or the HTTP status.
    request_id: what its operator can search the logs for. retryable: safe to try again later.
    """

    retryable = False

    def __init__(
        self, system: str, message: str, *, code: str | int = "", request_id: str = "", body: Any = None
    ) -> None:
        self.system, self.message, self.code, self.request_id, self.body = system, message, code, request_id, body
        tail = "".join([f" (code {code})" if code != "" else "", f" (request {request_id})" if request_id else ""])
        super().__init__(f"{system}: {message}{tail}")


class Unreachable(ApiFailure):
    """No connection, or no answer in time: it is not known whether the call took effect."""

    retryable = True


class Refused(ApiFailure):
    """The system understood the call and refused it."""


class NotAuthorised(Refused):
    """The token is missing, wrong, or lacks a right."""


class NotFound(Refused):
    """A real 404 for one object. Never raised for anything less certain."""


class Stale(Refused):
    """The object changed since it was read (412)."""

    retryable = True


class RateLimited(ApiFailure):
    """Too many requests; try again after the limit resets."""

    retryable = True


class Faulty(ApiFailure):
    """The system failed (5xx), or answered what makes no sense."""

    retryable = True
