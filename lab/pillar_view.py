"""The user's pillar as Salt renders it, before any daemon runs and without the lab's own additions."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from lab.layout import Lab

MINION = "hecate-dns"
_rendered: dict[str, dict[str, Any]] = {}
_lock = threading.Lock()


def of(lab: Lab) -> dict[str, Any]:
    """The pillar of one of Hecate's targets, each of which sees the whole estate; rendered once a process.

    Errors become a note of the lab, not a failure: to mend a pillar that doesn't render is what a sandbox is for.
    """
    with _lock:
        if lab.record["id"] not in _rendered:
            _rendered[lab.record["id"]] = _render(lab)
        return _rendered[lab.record["id"]]


def _render(lab: Lab) -> dict[str, Any]:
    # Salt takes a second to import and configures logging as it does: only ``up`` pays for it.
    import salt.config
    import salt.pillar

    from lab import salt_config

    with _overheard() as said:
        opts = salt.config.master_config(str(salt_config.master(lab) / "master"))
        grains = {"id": MINION, "os": "Linux", "kernel": "Linux"}
        pillar: dict[str, Any] = salt.pillar.Pillar(opts, grains, MINION, "base").compile_pillar(ext=False)
    # "see master log", says the error itself; what the log has is worth more than where it is.
    reasons = [message for message in said if message.startswith("Rendering SLS")]
    for problem in reasons or pillar.get("_errors", []):
        lab.note(f"pillar: {' '.join(str(problem).split())}")
    if "hecate" not in pillar:
        lab.note(f"pillar: {MINION} sees no key hecate; top.sls must give it to 'hecate-*'")
    return pillar


@contextlib.contextmanager
def _overheard() -> Iterator[list[str]]:
    """What Salt logs as critical, instead of a wall of tracebacks on the terminal."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    salts, listener = logging.getLogger("salt"), Listener(logging.CRITICAL)
    salts.addHandler(listener)
    salts.propagate = False
    try:
        yield said
    finally:
        salts.propagate = True
        salts.removeHandler(listener)
