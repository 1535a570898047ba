"""What a rollback cannot bring back, of the changes in a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hecate.resource import UNKNOWN, Change

# (kind, verbs, what is lost): {} is the object's name.
LOST = (
    ("terraform.configuration", ("delete",), "everything that Terraform destroys, with its data"),
    ("terraform.configuration", ("update",), "what Terraform replaces is made anew by a rollback, without its data"),
    ("nomad.job", ("update", "delete"), "{}: the allocations that run now; a rollback starts new ones"),
    ("authentik.user", ("delete",), "{}: sessions and tokens that this account has beside Hecate's"),
    ("authentik.group", ("delete",), "{}: who is in it; a rollback makes it with the members that pillar names"),
    ("authentik.provider", ("delete",), "{}: its sessions; whoever is logged in has to log in again"),
    ("dns.zone", ("delete",), "{}: the zone itself, with its name servers and all records that others made"),
)


def lasting(changes: Iterable[Change]) -> tuple[str, ...]:
    """One line for each loss; the same loss of many objects is told once."""
    found: dict[str, None] = {}
    for change in changes:
        for kind, verbs, text in LOST:
            if change.kind == kind and change.verb in verbs:
                found[text.format(change.subject.key)] = None
        if change.before and UNKNOWN in change.before.spec.values():
            found[f"{change.subject.key}: its present secret, which Hecate does not know"] = None
    return tuple(found)
