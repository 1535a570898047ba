"""Values that wait for a Terraform output cannot be compiled; they are told together."""

from __future__ import annotations

from collections.abc import Iterable

from hecate.errors import OutputsPending
from hecate.model.fields import OUTPUT


def require_known(values: Iterable[str]) -> None:
    """Raise OutputsPending if any value is still ``terraform:<output>``."""
    waiting = [value for value in values if OUTPUT.fullmatch(value)]
    if waiting:
        raise OutputsPending(waiting)
