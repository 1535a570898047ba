"""The `salt.loader` entry point: tells Salt where a pip-installed Hecate keeps its adapters."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ADAPTERS = {
    "modules": "saltext.hecate.modules",
    "states": "saltext.hecate.states",
    "runners": "saltext.hecate.runners",
    "proxy": "saltext.hecate.proxy",
    "pillar": "saltext.hecate.pillar",
    "engines": "saltext.hecate.engines",
    "beacons": "saltext.hecate.beacons",
    "output": "saltext.hecate.output",
}


DAEMONS = ("salt-minion", "salt-proxy", "salt-master", "salt-api")


def directories() -> dict[str, list[str]]:
    """Loader type -> folders. A function, since a module entry point finds nothing in editable installs."""
    _warm()
    found = {kind: find_spec(package) for kind, package in ADAPTERS.items()}
    return {kind: list(spec.submodule_search_locations or ()) for kind, spec in found.items() if spec}


def _warm() -> None:
    """A daemon imports Hecate once: each of its jobs is a fork, which would take half a second for it anew."""
    if Path(sys.argv[0]).name in DAEMONS:
        with suppress(ImportError):  # the adapter says what is missing, when it is asked for
            import_module("hecate_states")  # and with it hecate_salt
