"""Terraform as a backend: one configuration with its variables, and a way back to the former one.

Below `workdir`: terraform.tfstate (unless the configuration names a backend of its own),
sources/<digest>/ with every configuration that was ever applied, and applied.json, which says
which one is in effect. Planning happens in a scratch copy and leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hecate.backends import at_once
from hecate.clients.terraform import TerraformClient
from hecate.errors import Faulty, Refused
from hecate.resource import Change, Resource, Snapshot

OWN_BACKEND = re.compile(r'^\s*(backend\s+"|cloud\s*\{)', re.MULTILINE)
DRIFTED = "drifted"


@dataclass
class Planned:
    """A plan file and the configuration that it was made of; the folder goes with the object."""

    want: Resource
    folder: tempfile.TemporaryDirectory[str]

    @property
    def path(self) -> Path:
        return Path(self.folder.name)

    @property
    def plan_file(self) -> Path:
        return self.path / "hecate.tfplan"


class TerraformBackend:
    """source: folder with the configuration that pillar asks for. workdir: see above, mode 0700."""

    system = "terraform"
    atomic = True
    brief = False

    def __init__(self, client: TerraformClient, source: Path | None, workdir: Path) -> None:
        self._client, self._source, self._workdir = client, source, workdir

    def observe(self, scope: Sequence[Resource]) -> Snapshot:
        """Ask Terraform itself whether the wanted configuration is in effect."""
        applied = self._applied()
        if not scope:
            return Snapshot({applied.id: applied} if applied else {})
        want = scope[0]
        planned = self._plan(want)
        changes = self._client.plan(planned.path, planned.plan_file, want.spec["variables"])
        bare = {k: v for k, v in want.spec.items() if k != DRIFTED}
        have = applied
        if applied and applied.spec == bare:
            have = applied.with_spec({**bare, DRIFTED: True} if changes else want.spec)
        return Snapshot({have.id: have} if have else {}, raw=planned)

    def normalise(self, want: Resource, have: Resource | None) -> Resource:
        return want

    def batches(self, changes: Sequence[Change]) -> Iterator[list[Change]]:
        return at_once(changes)

    def apply(self, changes: Sequence[Change], snapshot: Snapshot) -> None:
        """Apply the very plan file that `snapshot` was made with."""
        for change in changes:
            if change.after is None:
                self._destroy(change.subject)
                continue
            planned: Planned | None = snapshot.raw
            if planned is None or planned.want.spec != change.after.spec:
                raise Faulty("terraform", "the saved plan is not the one to be applied; plan again")
            self._prepare_workdir()
            self._keep_source(change.after.spec["source"])
            # Said before it is so: an apply that breaks off half-way has made things that an undo must find.
            # observe() does not take it on trust; it asks Terraform whether anything is still to be done.
            self._record(change.after)
            self._client.apply(planned.path, planned.plan_file)

    def outputs(self) -> dict[str, Any]:
        """Outputs of the configuration in effect; empty when there is none."""
        applied = self._applied()
        if applied is None:
            return {}
        planned = self._plan(applied)  # held on to: its folder goes with it
        return self._client.outputs(planned.path)

    def check(self, want: Resource) -> None:
        """Initialise the wanted configuration in a scratch folder."""
        self._plan(want)

    def _plan(self, want: Resource) -> Planned:
        """A scratch copy of the wanted sources, initialised against the real state."""
        planned = Planned(want, tempfile.TemporaryDirectory(prefix="hecate-terraform-"))
        shutil.copytree(self._sources(want.spec["source"]), planned.path, dirs_exist_ok=True, ignore=_left_out)
        if not any(OWN_BACKEND.search(p.read_text(encoding="utf-8")) for p in planned.path.glob("*.tf")):
            state = {"terraform": {"backend": {"local": {"path": str(self._workdir / "terraform.tfstate")}}}}
            (planned.path / "hecate_override.tf.json").write_text(json.dumps(state), encoding="utf-8")
        self._client.init(planned.path)
        return planned

    def _sources(self, digest: str) -> Path:
        if self._source and source_digest(self._source) == digest:
            return self._source
        kept = self._workdir / "sources" / digest
        if not kept.is_dir():
            raise Refused("terraform", f"the configuration {digest} is neither at {self._source} nor kept in {kept}")
        return kept

    def _destroy(self, former: Resource) -> None:
        planned = self._plan(self._applied() or former)
        self._client.plan(planned.path, planned.plan_file, planned.want.spec["variables"], destroy=True)
        self._client.apply(planned.path, planned.plan_file)
        (self._workdir / "applied.json").unlink(missing_ok=True)

    def _applied(self) -> Resource | None:
        path = self._workdir / "applied.json"
        return Resource.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def _prepare_workdir(self) -> None:
        self._workdir.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _keep_source(self, digest: str) -> None:
        kept = self._workdir / "sources" / digest
        if not kept.is_dir():
            shutil.copytree(
                self._sources(digest), kept.with_name(digest + ".new"), dirs_exist_ok=True, ignore=_left_out
            )
            kept.with_name(digest + ".new").rename(kept)

    def _record(self, applied: Resource) -> None:
        fresh = self._workdir / "applied.json.new"
        spec = {k: v for k, v in applied.spec.items() if k != DRIFTED}
        fresh.write_text(json.dumps(applied.with_spec(spec).to_json()), encoding="utf-8")
        fresh.replace(self._workdir / "applied.json")


def source_digest(folder: Path) -> str:
    """Fingerprint of all files that make up a configuration."""
    if not folder.is_dir():
        raise Refused("terraform", f"{folder} is not a folder on this minion; see hecate:terraform:source")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not _is_left_out(p.relative_to(folder).parts))
    whole = hashlib.sha256()
    for path in files:
        whole.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()[:16]


def _is_left_out(parts: Sequence[str]) -> bool:
    return any(p == ".terraform" or p.endswith((".tfstate", ".tfstate.backup", ".tfplan")) for p in parts)


def _left_out(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if _is_left_out([name])}
