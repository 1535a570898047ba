"""A lab's life: up, status, restart of one service, down."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from lab import consul, credentials, processes, salt_config
from lab.layout import Lab, LabError, exclusively
from lab.ports import Reservations
from lab.processes import Identity
from lab.services import table
from lab.starting import Starter

Say = Callable[[str], None]
GRACE = 2.0
"""Seconds between asking and killing. Salt's minions sit out a SIGTERM, and nothing here outlives the lab's folder."""


@dataclasses.dataclass(frozen=True)
class State:
    """One line of ``status``."""

    service: str
    running: bool
    pid: int | None
    address: str


def up(folder: pathlib.Path, pillar: pathlib.Path, say: Say) -> Lab:
    """Start a lab in ``folder`` on the pillar in ``pillar``; one that is up already stays as it is.

    Raises LabError; whatever had been started is then stopped, and the folder is gone.
    """
    if not (pillar / "top.sls").is_file():
        raise LabError(f"{pillar} is no pillar folder: it has no top.sls")
    with exclusively(folder):
        lab = Lab.load(folder)
        if lab:
            if lab.record["state"] == "up" and all(state.running for state in states(lab)):
                say(f"already up in {folder} (python -m lab down stops it)")
                return lab
            say("clearing away what is left of an earlier lab")
            _end(lab)
        with _stoppable():
            return _start(folder, pillar, say)


def _start(folder: pathlib.Path, pillar: pathlib.Path, say: Say) -> Lab:
    began = time.monotonic()
    lab = Lab.create(folder, pillar)
    reservations = Reservations()
    try:
        credentials.create(folder / "secrets")
        path, why = consul.find()
        lab.update(consul=path, edges=list(salt_config.EDGES))
        if why:
            lab.note(why)
        services = table(path)
        for name in (port for service in services.values() for port in service.ports):
            lab.put("ports", name, reservations.hold(name))
        starter = Starter(lab, reservations, say)
        starter.start_all(services)
        daemons = {name.partition("-")[2]: name for name in services if name.startswith(("minion-", "proxy-"))}
        salt_config.await_fleet(lab, lambda missing: starter.check_all([daemons[name] for name in missing]))
    except BaseException:
        _end(lab)
        raise
    finally:
        reservations.release_all()
    lab.update(state="up")
    say(f"up in {time.monotonic() - began:.1f} s")
    return lab


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that a stopped ``up`` leaves nothing running."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    except ValueError:  # Not the main thread: signals are its business then.
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def down(folder: pathlib.Path, say: Say) -> None:
    """Stop every process of the lab in ``folder`` and remove the folder; nothing to do when there is none."""
    if not folder.exists():
        say(f"no lab in {folder}")
        return
    with exclusively(folder):
        lab = Lab.load(folder)
        if lab:
            _end(lab)
            say(f"down; {folder} is gone")
        else:
            say(f"no lab in {folder}")


def _end(lab: Lab) -> None:
    left = processes.stop(_identities(lab).values(), _mark(lab), GRACE)
    if left:
        raise LabError(f"processes that would not end: {', '.join(map(str, left))}; {lab.folder} is kept")
    lab.remove()


def states(lab: Lab) -> list[State]:
    """Every service that should run, and whether it does."""
    known = _identities(lab)
    found = []
    for name, service in table(lab.record.get("consul")).items():
        identity = known.get(name)
        running = identity is not None and processes.alive(identity)
        address = service.where(lab) if set(service.ports) <= set(lab.record["ports"]) else ""
        found.append(State(name, running, identity.pid if identity and running else None, address))
    return found


def restart(folder: pathlib.Path, name: str, say: Say) -> None:
    """Stop one service, if it runs, and start it where it was: same ports, same data."""
    with exclusively(folder):
        lab = Lab.load(folder)
        if not lab or lab.record["state"] != "up":
            raise LabError(f"no lab is up in {folder}")
        services = table(lab.record.get("consul"))
        if name not in services:
            raise LabError(f"no service {name}; there are: {', '.join(services)}")
        identity = _identities(lab).get(name)
        left = processes.stop([identity] if identity else [], f"{lab.record['id']}:{name}", GRACE)
        if left:
            raise LabError(f"{name} would not end: {', '.join(map(str, left))}")
        is_salt = name.startswith(("salt-", "minion-", "proxy-"))
        if is_salt:
            salt_config.forget_pid(lab, name)
        starter = Starter(lab, Reservations(), say)
        starter.start(services[name])
        if is_salt:
            salt_config.await_fleet(lab, lambda missing: starter.check(name))


def _identities(lab: Lab) -> dict[str, Identity]:
    return {name: Identity(one["pid"], one["created"]) for name, one in lab.record["processes"].items()}


def _mark(lab: Lab) -> str:
    return f"{lab.record['id']}:"
