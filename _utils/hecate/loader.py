"""The `salt.loader` entry point: tells Salt where a pip-installed Hecate keeps its adapters."""

from __future__ import annotations

from importlib.util import find_spec

ADAPTERS = {
    "modules": "saltext.hecate.modules",
    "states": "saltext.hecate.states",
    "runners": "saltext.hecate.runners",
    "proxy": "saltext.hecate.proxy",
    "pillar": "saltext.hecate.pillar",
    "engines": "saltext.hecate.engines",
}


def directories() -> dict[str, list[str]]:
    """Loader type -> folders. A function, since a module entry point finds nothing in editable installs."""
    found = {kind: find_spec(package) for kind, package in ADAPTERS.items()}
    return {kind: list(spec.submodule_search_locations or ()) for kind, spec in found.items() if spec}
