"""A masterless minion whose states and modules are this checkout's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT


class Minion:
    """Salt's own state machine in this process. pillar: what stands under `hecate`."""

    def __init__(self, folder: Path, hecate: dict[str, Any]) -> None:
        import salt.config

        self.states, self.pillar = folder / "states", folder / "pillar"
        for path in (self.states, self.pillar):
            path.mkdir()
        (self.pillar / "top.sls").write_text("base: {'*': [hecate]}")
        self.set_pillar(hecate)
        self.opts = salt.config.minion_config(None)
        self.opts.update(
            id="edge",
            file_client="local",
            root_dir="/",
            cachedir=str(folder / "cache"),
            extension_modules=str(folder / "extmods"),
            states_dirs=[str(ROOT / "_states")],
            module_dirs=[str(ROOT / "_modules")],
            file_roots={"base": [str(self.states)]},
            pillar_roots={"base": [str(self.pillar)]},
            sock_dir=str(folder),
            pki_dir=str(folder / "pki"),
            grains={},
            log_file=str(folder / "log"),
        )

    def set_pillar(self, hecate: dict[str, Any]) -> None:
        (self.pillar / "hecate.sls").write_text(yaml.safe_dump({"hecate": hecate}))

    def call(self, function: str, *words: Any, **named: Any) -> Any:
        import salt.client

        return salt.client.Caller(mopts=dict(self.opts)).cmd(function, *words, **named)

    def run(self, sls: dict[str, Any], *, test: bool = False) -> dict[str, dict[str, Any]]:
        """state.apply of this SLS; a state's return by its id."""
        (self.states / "wanted.sls").write_text(json.dumps(sls))
        answer = self.call("state.sls", "wanted", test=test, concurrent=True)
        assert isinstance(answer, dict), answer
        return {row["__id__"]: row for row in answer.values()}
