"""One lab on disk: its folder, its record (lab.json), and where everything else in it lies."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

REPO = pathlib.Path(__file__).resolve().parent.parent
RECORD = "lab.json"
VERSION = 1
SOCKET_ROOM = 60
"""Bytes that a socket's folder may take of the 107 that its whole path may have: Salt's own file names are long."""


class LabError(Exception):
    """What the user should read instead of a traceback."""


class Lab:
    """The record of one lab. Every change is on disk before the method returns, so a killed ``up`` can be undone."""

    def __init__(self, folder: pathlib.Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: pathlib.Path, pillar: pathlib.Path) -> Lab:
        """A new lab in ``folder``, which must be absent or empty: a lab's folder is removed whole later."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LabError(f"{folder} is not empty and is not a lab's folder; name another with --dir")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        record = {
            "version": VERSION,
            "id": secrets.token_hex(8),
            "state": "starting",
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "folder": str(folder),
            "pillar": str(pillar),
            "sockets": str(folder / "run"),
            "ports": {},
            "processes": {},
            "notes": [],
        }
        lab = cls(folder, record)
        lab.save()
        lab._make_folders()
        return lab

    @classmethod
    def load(cls, folder: pathlib.Path) -> Lab | None:
        """The lab in ``folder``, or None when there is none."""
        try:
            text = (folder / RECORD).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            record = json.loads(text)
            if record["version"] != VERSION:
                raise LabError(f"{folder / RECORD} was written by another version of the lab")
        except (ValueError, KeyError, TypeError) as err:
            raise LabError(f"{folder / RECORD} is not a lab's record ({err}); remove the folder by hand") from err
        return cls(folder, record)

    def _make_folders(self) -> None:
        for name in ("secrets", "config", "log", "home", "tmp", "data", "run"):
            (self.folder / name).mkdir(mode=0o700)
        if len(os.fsencode(self.folder / "run")) > SOCKET_ROOM:
            self.update(sockets=tempfile.mkdtemp(prefix="hecate-lab-", dir="/tmp"))

    def update(self, **values: Any) -> None:
        """Set top-level values of the record."""
        with self._lock:
            self.record.update(values)
            self._write()

    def put(self, table: str, name: str, value: Any) -> None:
        """Set one entry of a table of the record."""
        with self._lock:
            self.record[table][name] = value
            self._write()

    def note(self, text: str) -> None:
        """Keep a sentence that ``up``, ``status`` and ``env --json`` show."""
        with self._lock:
            self.record["notes"].append(text)
            self._write()

    def save(self) -> None:
        """Write the record."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        draft = self.folder / f"{RECORD}.new"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.record, file, indent=1)
        draft.replace(self.folder / RECORD)

    def port(self, name: str) -> int:
        """The port chosen under ``name``."""
        return int(self.record["ports"][name])

    def url(self, name: str) -> str:
        """The plain HTTP URL of the port chosen under ``name``."""
        return f"http://127.0.0.1:{self.port(name)}"

    @property
    def pillar(self) -> pathlib.Path:
        """The user's pillar folder."""
        return pathlib.Path(self.record["pillar"])

    @property
    def sockets(self) -> pathlib.Path:
        """Where unix sockets go; outside the lab's folder when its path is too long for them."""
        return pathlib.Path(self.record["sockets"])

    def log(self, service: str) -> pathlib.Path:
        """What the service printed."""
        return self.folder / "log" / f"{service}.log"

    def config(self, service: str) -> pathlib.Path:
        """The service's configuration folder, made when asked for."""
        return self._folder("config", service)

    def data(self, service: str) -> pathlib.Path:
        """The service's data folder, made when asked for."""
        return self._folder("data", service)

    def home(self, service: str) -> pathlib.Path:
        """The service's HOME, made when asked for: nothing of the user's own is read or written."""
        return self._folder("home", service)

    def _folder(self, kind: str, service: str) -> pathlib.Path:
        folder = self.folder / kind / service
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def remove(self) -> None:
        """Remove the lab's folder, and the folder of its sockets."""
        if self.sockets.parent != self.folder:
            shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def exclusively(folder: pathlib.Path) -> Iterator[None]:
    """Hold ``folder`` against other lab commands; an absent folder is made, and removed again when left empty."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"another lab command is at work in {folder}; wait for it to end") from None
        if not folder.exists() or os.fstat(handle).st_ino != folder.stat().st_ino:
            raise LabError(f"{folder} was just removed by another lab command; try again")
        yield
    finally:
        os.close(handle)
        with contextlib.suppress(OSError):
            folder.rmdir()
