"""What goes wrong on purpose. Each kind knows how to do it to a lab, and how it is put right."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from chaos.machines import DEPLOY, EMULATORS, Machines, faketime, kill_group, signal_all

MESSAGE = "message"
CUTS = ("cut", "lost-answer", "half-body", "status")


@dataclass
class Scene:
    """One deploy under way, and what is broken about it.

    windows: by edge, when its Caddy could not answer, in time.monotonic. dead: services to start again.
    settle: what else puts things right. others: further deploys that were begun, with what they say.
    """

    machines: Machines
    deploy: subprocess.Popen[bytes]
    request: dict[str, object]
    clock: Path
    random: Random
    windows: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    dead: dict[str, float] = field(default_factory=dict)
    settle: list[Callable[[], None]] = field(default_factory=list)
    others: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)
    killed_runner: bool = False
    happened: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def under_way(self) -> bool:
        return self.deploy.poll() is None or self.machines.at_work()

    def inject(self, kind: str, moment: float) -> None:
        """Do it now. What is done to a deploy that is over already did not happen."""
        if kind in TO_THE_DEPLOY and self.deploy.poll() is not None:
            self.told.append(f"{kind} came too late")
            return
        self.told.append(f"{moment:.2f} s: {kind}: {KINDS[kind](self)}")
        if kind != "network cut":  # that has happened once a call has met it
            self.happened.append(kind)

    def mend(self) -> None:
        """Everything works again; nothing is lost of what was written down."""
        for again in self.settle:
            again()
        self.settle.clear()
        names, died = list(self.dead), dict(self.dead)
        if names:
            self.machines.mend(names)
            self.machines.answering()
        for name in names:
            if name in self.machines.known["edges"]:
                self.windows.setdefault(name, []).append((died[name], time.monotonic()))
        self.dead.clear()


def kill_minion(scene: Scene) -> str:
    """With the jobs that it has under way, or, as systemd does for salt-minion, its daemon alone."""
    name = f"minion-{scene.random.choice(scene.machines.known['salt']['edges'] + ['hecate-controller'])}"
    return _killed(scene, name, scene.random.random() < 0.5)


def kill_proxy(scene: Scene) -> str:
    name = scene.random.choice(["proxy-hecate-authentik", "proxy-hecate-dns"])
    return _killed(scene, name, scene.random.random() < 0.5)


def kill_worker(scene: Scene) -> str:
    """Salt's own process manager starts another."""
    worker = scene.random.choice(scene.machines.workers())
    signal_all([worker], signal.SIGKILL)
    return f"a worker of the master (pid {worker.pid})"


def kill_runner(scene: Scene) -> str:
    kill_group(scene.deploy)
    scene.killed_runner = True
    return "the terminal's salt-run"


def kill_caddy(scene: Scene) -> str:
    return _killed(scene, scene.random.choice(sorted(scene.machines.known["edges"])), True)


def kill_consul(scene: Scene) -> str:
    return _killed(scene, "consul", True)


def fill_disk(scene: Scene) -> str:
    """By a limit on the size of files, which needs no right: a write beyond it fails as on a full disk does (EFBIG for
    ENOSPC, both an OSError out of write). Small files still go, so that the minion's own job files don't fail first."""
    name = scene.random.choice([f"minion-{edge}" for edge in scene.machines.known["edges"]] + ["proxy-hecate-dns",
                               "proxy-hecate-authentik", "minion-hecate-controller"])  # fmt: skip
    size = scene.random.choice([256, 1024, 4096])
    scene.machines.limit_files(name, size)
    scene.settle.append(lambda: scene.machines.limit_files(name, None))
    return f"the disk of {name} after {size} bytes a file"


def step_clock(scene: Scene) -> str:
    hours = scene.random.choice(["+2h", "-2h"])
    scene.clock.write_text(hours + "\n")
    return f"the clock of salt-run by {hours}"


def cut_network(scene: Scene) -> str:
    """Calls of a target to its system: before they have an effect, after it, in the middle of the answer."""
    system, kind, times = scene.random.choice(EMULATORS), scene.random.choice(CUTS), scene.random.randint(1, 3)
    write = {"kind": kind, "method": "WRITE", "path": "^/(api|v1)/", "skip": scene.random.randint(0, 3), "times": times}
    call = {**write, "method": "", "skip": scene.random.randint(0, 12)}  # where the edit has nothing to write there
    scene.machines.faults(system, write, call)

    def clear() -> None:
        if any(switch["hit"] for switch in scene.machines.faults(system)):
            scene.happened.append("network cut")

    scene.settle.append(clear)
    return f"{system}: {kind} of {times} writes after {write['skip']}, of {times} calls after {call['skip']}"


def stop_process(scene: Scene) -> str:
    """It is there and says nothing: a network that swallows everything."""
    names = ["consul"] if scene.machines.has_consul else []
    names += [*scene.machines.known["edges"], "minion-hecate-controller", "proxy-hecate-dns"]
    name, seconds = scene.random.choice(names), scene.random.uniform(1, 6)
    members = [member for member in scene.machines.family(name) if member.is_running()]
    began = time.monotonic()
    signal_all(members, signal.SIGSTOP)

    def carry_on() -> None:
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        signal_all(members, signal.SIGCONT)
        if name in scene.machines.known["edges"]:
            scene.windows.setdefault(name, []).append((began, time.monotonic() + 1))

    scene.settle.append(carry_on)
    return f"{name} silent for {seconds:.1f} s"


def deploy_twice(scene: Scene) -> str:
    told = scene.machines.base / f"second-{time.monotonic_ns()}"
    words = [*DEPLOY, f"pillar={json.dumps({**scene.request, 'message': f'{scene.request[MESSAGE]} second'})}"]
    scene.others.append((scene.machines.begin(told, words), told))
    return "a second deploy"


KINDS: dict[str, Callable[[Scene], str]] = {
    "minion killed": kill_minion,
    "proxy killed": kill_proxy,
    "master worker killed": kill_worker,
    "runner killed": kill_runner,
    "caddy killed": kill_caddy,
    "consul killed": kill_consul,
    "disk full": fill_disk,
    "clock step": step_clock,
    "network cut": cut_network,
    "process stopped": stop_process,
    "two deploys": deploy_twice,
}


TO_THE_DEPLOY = {
    "network cut": (0.05, 0.3),
    "clock step": (0.1, 0.6),
    "runner killed": (0.15, 0.8),
    "two deploys": (0.1, 0.8),
}
"""Kinds that need a deploy that runs, and when they come: as parts of how long one takes."""
WHENEVER = (0.1, 0.8)


def dealt(random: Random, kinds: Sequence[str], rounds: int) -> list[list[str]]:
    """Every kind at least once over so many rounds; of those that need a deploy never two in one."""
    rest = [kind for kind in kinds if kind not in TO_THE_DEPLOY]
    deck = [*random.sample(sorted(TO_THE_DEPLOY.keys() & set(kinds)), len(kinds) - len(rest))]
    deck += random.sample(rest, len(rest))
    while len(deck) < rounds:
        deck += random.sample(list(kinds), len(kinds))
    return [deck[number::rounds] for number in range(rounds)]


def timed(random: Random, kinds: Sequence[str], usual: float) -> list[tuple[float, str]]:
    """When each comes, in seconds from the deploy's beginning; what needs the deploy comes before what may end it."""
    first = sorted((random.uniform(*TO_THE_DEPLOY[kind]) * usual, kind) for kind in kinds if kind in TO_THE_DEPLOY)
    latest = first[-1][0] if first else 0.0
    rest = [(max(latest, random.uniform(*WHENEVER) * usual), kind) for kind in kinds if kind not in TO_THE_DEPLOY]
    return [*first, *sorted(rest)]


def missing(machines: Machines) -> dict[str, str]:
    """Kinds that this machine can't do, and why."""
    found = {}
    if not machines.has_consul:
        found["consul killed"] = "; ".join(machines.known["notes"]) or "no Consul in this lab"
    library, why = faketime()
    if not library:
        found["clock step"] = why
    return found


def preloaded(clock: Path) -> dict[str, str]:
    """What a process needs so that its clock can be stepped by what is written to `clock`."""
    library, _ = faketime()
    clock.write_text("+0\n")
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(Path(__file__).with_name("clock")),
    }


def _killed(scene: Scene, name: str, whole: bool) -> str:
    """whole: with everything that it has started; else its daemon alone (the main process and the one it watches)."""
    members = scene.machines.family(name)
    if not whole:
        parents = {members[0].pid}
        members = [member for member in members if member.pid in parents or _parent(member) in parents]
    signal_all(members, signal.SIGKILL)
    scene.dead[name] = time.monotonic()
    return name + ("" if whole else ", its daemon alone")


def _parent(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return process.ppid()
    return 0

