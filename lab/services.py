"""What the lab runs: one table of services, each with its ports, its command and its probe."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

from lab import caddy, consul, credentials, emulated, openbao, salt_config
from lab.layout import REPO, Lab, LabError


@dataclasses.dataclass(frozen=True)
class Command:
    """What to run.

    environment: on top of the minimal one that every service gets
    chatty: its standard output is not for the log (its errors are)
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    chatty: bool = False


@dataclasses.dataclass(frozen=True)
class Service:
    """One process of the lab.

    ports: names of the ports it listens on; the first is its address
    command: writes its configuration and says what to run; called anew after a port was lost
    ready: whether it serves; connection errors count as "not yet"
    seed: what to put into it once it serves
    needs: services that must serve before this one starts
    """

    name: str
    ports: tuple[str, ...]
    command: Callable[[Lab], Command]
    ready: Callable[[Lab], bool]
    seed: Callable[[Lab], None] | None = None
    needs: tuple[str, ...] = ()
    address: Callable[[Lab], str] | None = None

    def where(self, lab: Lab) -> str:
        """Its address, for people."""
        if self.address:
            return self.address(lab)
        return f"127.0.0.1:{lab.port(self.ports[0])}" if self.ports else ""


def program(name: str) -> str:
    """The path of a program: beside this Python first, since that is where the lab's packages put theirs."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise LabError(
            f"{name} is neither beside {sys.executable} nor on PATH; install the extra: pip install -e '.[lab]'"
        )
    return found


def answers(url: str, *statuses: int) -> bool:
    """Whether a GET answers with one of these statuses (any, when none is named)."""
    status = requests.get(url, timeout=2, verify=False).status_code
    return status in statuses if statuses else True


def _module(*arguments: str) -> Command:
    """A module of the lab itself, which is no installed package. Salt's daemons must not see the checkout this way."""
    return Command((sys.executable, "-m", *arguments), {"PYTHONPATH": str(REPO)})


def _openbao() -> Service:
    return Service(
        "openbao", ("openbao",),
        lambda lab: Command((program("bao"), *openbao.arguments(lab)), openbao.environment(lab), chatty=True),
        lambda lab: answers(f"{lab.url('openbao')}/v1/sys/health", 200), openbao.seed,
    )  # fmt: skip


def _consul(path: str) -> Service:
    return Service(
        "consul", ("consul", "consul-server", "consul-serf"),
        lambda lab: Command((path, *consul.arguments(lab))), consul.ready,
    )  # fmt: skip


def _echo() -> Service:
    """It also keeps the edges' public ports from others until the first deploy makes Caddy listen on them."""
    kept = tuple(f"{edge}-{kind}" for edge in salt_config.EDGES for kind in ("https", "http"))
    return Service(
        "echo", ("echo", *kept),
        lambda lab: _module(
            "lab.echo", "--port", str(lab.port("echo")), "--dir", str(lab.data("echo")),
            "--keep", *(str(lab.port(name)) for name in kept),
        ),
        lambda lab: answers(f"{lab.url('echo')}/dials", 200),
    )  # fmt: skip


def _emulator(name: str, arguments: Callable[[Lab], tuple[str, ...]], *ports: str) -> Service:
    return Service(
        name, (name, *ports),
        lambda lab: _module(f"lab.emulators.{name}", "--port", str(lab.port(name)), *arguments(lab)),
        lambda lab: answers(f"{lab.url(name)}/_lab/counts", 200),
    )  # fmt: skip


def _edge(name: str) -> Service:
    return Service(
        name, (f"{name}-stranger",),
        lambda lab: Command((program("caddy"), *caddy.arguments(lab, name))),
        lambda lab: caddy.ready(lab, name), needs=("echo",), address=lambda lab: f"unix/{caddy.socket(lab, name)}",
    )  # fmt: skip


def _daemon(lab: Lab, name: str, folder: Path, *further: str) -> Command:
    """With a secret in the environment, for references such as ``env:HECATE_LAB_SECRET``."""
    secret = {"HECATE_LAB_SECRET": credentials.read(lab.folder / "secrets", "environment")}
    return Command((program(name), *salt_config.LOUD, "-c", str(folder), *further), secret)


def _master() -> Service:
    return Service(
        "salt-master", ("salt-ret", "salt-publish"),
        lambda lab: _daemon(lab, "salt-master", salt_config.master(lab)), salt_config.master_ready,
    )  # fmt: skip


def _minion(name: str) -> Service:
    return Service(
        f"minion-{name}", (), lambda lab: _daemon(lab, "salt-minion", salt_config.minion(lab, name)),
        lambda lab: True, needs=("salt-master", "echo"), address=lambda lab: name,
    )  # fmt: skip


def _proxy(name: str) -> Service:
    return Service(
        f"proxy-{name}", (),
        lambda lab: _daemon(lab, "salt-proxy", salt_config.proxy(lab, name), "--proxyid", name),
        lambda lab: True, needs=("salt-master", "echo"), address=lambda lab: name,
    )  # fmt: skip


def table(consul_path: str | None) -> dict[str, Service]:
    """Every service of a lab by name, in the order in which people read them."""
    services = [
        _openbao(),
        *([_consul(consul_path)] if consul_path else []),
        _echo(),
        _emulator("hetzner", emulated.hetzner, "dns"),
        _emulator("authentik", emulated.authentik),
        _emulator("nomad", emulated.nomad),
        *(_edge(name) for name in salt_config.EDGES),
        _master(),
        *(_minion(name) for name in salt_config.MINIONS),
        *(_proxy(name) for name in salt_config.PROXIES),
    ]
    return {service.name: service for service in services}
