"""What Salt shows of the adapters: every function tells what it does, how it is called, what it may."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("_modules", "_states", "_runners", "_proxy", "_pillar", "_engines", "_beacons", "_output")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("hecate*.py"))]
EXPOSED = [
    pytest.param(path, node, id=f"{path.parent.name}/{path.stem}.{node.name}")
    for path in FILES
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]
TOLD = {
    "_modules": ("CLI Example:", "Required access:"),
    "_runners": ("CLI Example:", "Required access:"),
    "_states": ("Required access:",),
    "_engines": ("Required access:",),
}


@pytest.mark.parametrize(("path", "function"), EXPOSED)
def test_every_exposed_function_is_documented(path: Path, function: ast.FunctionDef) -> None:
    text = ast.get_docstring(function) or ""
    assert text.strip(), "no docstring"
    for part in TOLD.get(path.parent.name, ()):
        assert part in text, f"its docstring has no {part}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in ("_modules", "_runners")], ids=str)
def test_every_example_calls_its_own_module(path: Path) -> None:
    """Deploy steps are called by the orchestrations, so their example may be one of those."""
    for function in ast.parse(path.read_text()).body:
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
            example = (ast.get_docstring(function) or "").partition("CLI Example:")[2]
            calls = (f" {path.stem}.{function.name.rstrip('_')}", " state.orch hecate.")
            assert any(call in example for call in calls), function.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_salt_is_shown_nothing_but_functions_of_the_module(path: Path) -> None:
    """A name imported into an adapter would become a Salt function."""
    assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
