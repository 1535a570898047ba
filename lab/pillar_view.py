"""The user's pillar as Salt renders it, before any daemon runs and without the lab's own additions."""

from __future__ import annotations

import threading
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

    opts = salt.config.master_config(str(salt_config.master(lab) / "master"))
    grains = {"id": MINION, "os": "Linux", "kernel": "Linux"}
    pillar: dict[str, Any] = salt.pillar.Pillar(opts, grains, MINION, "base").compile_pillar(ext=False)
    for error in pillar.get("_errors", []):
        lab.note(f"pillar: {' '.join(str(error).split())}")
    return pillar
