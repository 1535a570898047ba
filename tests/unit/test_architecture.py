"""Who may import whom, as data; the code is checked against it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = ROOT / "_utils" / "hecate"
ADAPTERS = ["_modules", "_states", "_runners", "_proxy", "_pillar", "_engines", "_beacons", "_output"]
TYPES = {"resource", "errors", "model", "rdata"}

# room -> the rooms of hecate that it may import
MAY: dict[str, set[str]] = {
    "errors": set(),
    "resource": set(),
    "rdata": set(),
    "loader": set(),
    "collector": set(),
    "files": set(),
    "queue": {"errors"},
    "secrets": {"errors"},
    "rotation": {"errors"},
    "rotors": {"errors", "clients", "rotation", "rotors", "secrets"},
    "rotating": {"*"},
    "rotations": {"errors", "model", "rotating", "rotation"},
    "model": {"errors", "events", "model", "rdata", "rotation", "secrets"},
    "compile": {*TYPES, "compile", "events"},
    "importing": {"errors", "model", "importing"},
    "budget": {"errors"},
    "zonefile": {"errors"},
    "zones": {"resource", "errors", "plan", "budget", "zonefile", "backends", "engine", "rdata", "files"},
    "plan": {*TYPES, "budget"},
    "journal": {*TYPES, "files"},
    "report": {*TYPES, "plan", "lasting"},
    "lasting": {"resource"},
    "estate_plan": set(),
    "estate_text": {"errors", "estate_plan"},
    "narrowing": {*TYPES, "engine", "plan"},
    "selection": {"errors", "narrowing"},
    "planning": {"errors", "model", "estate_plan", "order", "request", "selection", "store", "targets"},
    "verification": {*TYPES, "order", "targets", "verification"},
    "certificates": {"model"},
    "drift": {"plan", "resource"},
    "drifting": {"*"},
    "adopting": {"*"},
    "adopted": {"errors"},
    "drifts": {"adopted", "drift", "errors", "model", "order", "store", "targets", "transactions"},
    "watching": {"errors", "files"},
    "access": {*TYPES, "backends", "compile"},
    "events": {"errors", "files"},
    "webhook": {"errors", "events"},
    "store": {"errors", "files", "secrets", "store"},
    "clients": {"errors", "clients", "budget", "secrets"},
    "backends": {"resource", "errors", "rdata", "backends", "clients", "budget", "zonefile", "files"},
    "engine": {*TYPES, "plan", "journal", "backends", "collector", "queue"},
    "targets": {"model"},
    "order": {"returning"},
    "returning": {"errors", "secrets"},
    "history": {"errors", "files", "store"},
    "request": {"errors"},
    "progress": set(),
    "orchestrated": {"errors"},
    "transactions": {"errors", "model", "store", "targets"},
    "rights": {"resource", "errors", "model", "secrets", "compile", "backends", "clients", "rotating", "rights"},
    "wiring": {"*"},
    "__init__": set(),
}
GLUE: dict[str, set[str]] = {
    "hecate_progress": {"hecate.progress"},
    "hecate_calls": {"hecate.errors", "hecate.targets"},
    "hecate_salt": {
        "hecate.wiring",
        "hecate.verification",
        "hecate.importing",
        "hecate.order",
        "hecate.targets",
        "hecate.progress",
        "hecate.events",
        "hecate.webhook",
        "hecate.engine",
        "hecate.report",
        "hecate.rotating",
        "hecate.drifting",
        "hecate.adopting",
        "hecate.errors",
        "hecate.resource",
        "hecate.model",
        "hecate",
    },
    "hecate_states": {
        "hecate",
        "hecate.engine",
        "hecate.errors",
        "hecate.model",
        "hecate.order",
        "hecate.plan",
        "hecate.progress",
        "hecate.report",
        "hecate.resource",
        "hecate.rotating",
        "hecate.wiring",
    },
    "hecate_deploy": {
        "hecate",
        "hecate.errors",
        "hecate.estate_text",
        "hecate.history",
        "hecate.model",
        "hecate.orchestrated",
        "hecate.order",
        "hecate.progress",
        "hecate.request",
        "hecate.store.deployments",
        "hecate.targets",
        "hecate.verification",
    },
    "hecate_estate": {
        "hecate.wiring",
        "hecate.errors",
        "hecate.model",
        "hecate.rights",
        "hecate.rotations",
        "hecate.drifts",
        "hecate.estate_plan",
        "hecate.estate_text",
        "hecate.planning",
        "hecate.store.deployments",
        "hecate.store.audit",
        "hecate.history",
        "hecate.returning",
        "hecate.order",
        "hecate.request",
        "hecate.targets",
        "hecate.transactions",
        "hecate.verification",
        "hecate.verification.crew",
        "hecate.verification.scope",
        "hecate",
    },
}
STRANGERS = {"salt", *GLUE}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "hecate" else {node.module}
            )
            found |= names
    return found


FILES = sorted(DOMAIN.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(DOMAIN)))
def test_each_room_imports_only_what_it_may(path: Path) -> None:
    room = path.relative_to(DOMAIN).parts[0].removesuffix(".py")
    allowed = MAY[room]
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top not in STRANGERS, f"{path.name} imports {name}: the domain does not know Salt"
        if top == "hecate" and "*" not in allowed:
            assert rest.split(".")[0] in allowed, f"{room} may not import {name}"


def test_a_backend_knows_only_its_own_client() -> None:
    for path in (DOMAIN / "backends").glob("[a-z]*.py"):
        clients = {n.rpartition(".")[2] for n in imports(path) if n.startswith("hecate.clients.")}
        assert all(path.stem.startswith(client) for client in clients), f"{path.name} imports {clients}"


def test_the_engine_knows_no_concrete_backend() -> None:
    assert not [n for n in imports(DOMAIN / "engine.py") if n.startswith("hecate.backends.")]


@pytest.mark.parametrize("folder", ADAPTERS)
def test_adapters_know_only_the_glue(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        assert imports(path) <= {"hecate_salt", "hecate_states", "hecate_estate", "hecate_deploy"}, path


@pytest.mark.parametrize("name", GLUE)
def test_the_glue_reaches_no_client_and_no_backend(name: str) -> None:
    found = {n for n in imports(ROOT / "_utils" / f"{name}.py") if n.startswith("hecate.")}
    assert found <= GLUE[name]


def test_no_module_global_is_written_by_an_adapter() -> None:
    """Deltaproxy shares module globals between its sub-proxies."""
    for folder in ADAPTERS:
        for path in (ROOT / folder).glob("*.py"):
            assert "global " not in path.read_text(), path
