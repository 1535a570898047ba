"""Throw-away Salt installations: an interpreter, what is importable in it, and a configuration of its own.

This folder is no package and has no conftest.py: as tests/salt it would stand in for Salt itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import tool

MINION, CONTROLLER = "hecate-edge-1", "hecate-controller"
WRONG_HOST = "not a host"
PILLAR = {
    "hecate": {
        "targets": {"controller": CONTROLLER, "caddy": [MINION]},
        "edges": {MINION: {"address": "192.0.2.1"}},
        "caddy": {"admin": "unix//run/hecate-test/admin.sock", "issuer": "internal"},
        "routes": {WRONG_HOST: {"upstreams": ["192.0.2.20:8080"]}},
    }
}

# What Salt's own loaders find, and in which files. Runs in the throw-away interpreter.
PROBE = """
import inspect, json, sys
import salt.config, salt.loader
config = sys.argv[1]
minion = salt.config.minion_config(config + "/minion")
minion["grains"] = salt.loader.grains(minion)
master = salt.config.master_config(config + "/master")
utils = salt.loader.utils(minion)
modules = salt.loader.minion_mods(minion, utils=utils)
loaders = {
    "modules": modules,
    "states": salt.loader.states(minion, modules, utils, None),
    "proxy": salt.loader.proxy(minion, modules, utils=utils),
    "runners": salt.loader.runner(master),
    "pillar": salt.loader.pillars(master, modules),
    "engines": salt.loader.engines(master, modules, {}, utils),
    "beacons": salt.loader.beacons(minion, modules),
    "output": salt.loader.outputters(master),
}
found = {}
for kind, loader in loaders.items():
    names = [name for name in loader if name.startswith("hecate")]
    found[kind] = {n.partition(".")[0]: inspect.getsourcefile(inspect.unwrap(loader[n])) for n in names}
try:
    import hecate
    domain = hecate.__file__
except ImportError:
    domain = ""
print(json.dumps({"found": found, "domain": domain}))
"""


def session_packages(folder: Path) -> Path:
    """This session's Salt and dependencies, without its own install of Hecate: neither code nor entry point."""
    folder.mkdir()
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for item in Path(source).iterdir():
            ours = item.name.startswith(("saltext_hecate", "__editable__", "hecate", "saltext"))
            if not ours and item.suffix != ".pth" and item.name != "__pycache__":
                (folder / item.name).symlink_to(item)
    return folder


@dataclass(frozen=True)
class Install:
    """folder: holds everything of it. python: its interpreter."""

    folder: Path
    python: Path

    @property
    def site(self) -> Path:
        return next(self.folder.glob("venv/lib/python*/site-packages"))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command of this interpreter, knowing nothing of the session's environment."""
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore"}
        return subprocess.run(
            [str(self.python), *words], env=env, cwd=self.folder, capture_output=True, text=True, timeout=120
        )

    def salt(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Salt's own program, as an operator types it; masterless."""
        local = ["--local"] if program == "salt-call" else []
        return self.run(tool(program), "-c", str(self.folder), *local, *words)

    def data(self, program: str, *words: str) -> Any:
        """The answer of a Salt program, whatever its exit code."""
        done = self.salt(program, *words, "--out=json")
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            raise AssertionError(done.stdout + done.stderr) from None
        return answer["local"] if program == "salt-call" else answer

    def loaded(self) -> dict[str, Any]:
        """{"found": {loader type: {module: file}}, "domain": file of the package hecate, or ""}."""
        done = self.run("-c", PROBE, str(self.folder))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))


def install(folder: Path, *paths: Path, file_roots: Sequence[Path] = (), pip: bool = False) -> Install:
    """paths: folders that the new interpreter imports from, besides its own site-packages."""
    folder.mkdir()
    words = [sys.executable, "-m", "venv", *([] if pip else ["--without-pip"]), str(folder / "venv")]
    subprocess.run(words, check=True, timeout=120)
    made = Install(folder, folder / "venv" / "bin" / "python")
    (made.site / "session.pth").write_text("".join(f"{path}\n" for path in paths))
    pillar = folder / "pillar"
    pillar.mkdir()
    (pillar / "top.sls").write_text("base: {'*': [estate]}\n")
    (pillar / "estate.sls").write_text(yaml.safe_dump(PILLAR))
    roots = {"file_roots": {"base": [str(root) for root in file_roots]}, "pillar_roots": {"base": [str(pillar)]}}
    for role in ("minion", "master"):
        root = folder / f"{role}-root"
        own = {"root_dir": str(root), "log_file": str(root / "log"), "cachedir": str(root / "cache")}
        more = {"pki_dir": str(root / "pki"), "sock_dir": str(root / "sock"), "id": MINION, "file_client": "local"}
        quiet = {"enable_fqdns_grains": False, "enable_gpu_grains": False, "interface": "127.0.0.1"}
        (root / "cache" / "proc").mkdir(parents=True)
        (folder / role).write_text(yaml.safe_dump({**roots, **own, **more, **quiet}))
    return made
