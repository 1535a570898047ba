"""Services start as soon as they can; one that fails stops the rest and says why; a lost port is exchanged."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Iterator

import pytest

from lab import processes
from lab.layout import Lab
from lab.ports import Reservations
from lab.services import Command, Service, answers
from lab.starting import ServiceFailed, Starter

WEB = (
    "import http.server, sys; http.server.HTTPServer.allow_reuse_address = False; "
    "http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind='127.0.0.1')"
)


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> Iterator[Lab]:
    made = Lab.create(tmp_path / "lab", tmp_path)
    yield made
    assert processes.stop([], f"{made.record['id']}:", grace=1) == []
    made.remove()


def web(name: str, needs: tuple[str, ...] = ()) -> Service:
    return Service(
        name, (name,), lambda lab: Command((sys.executable, "-c", WEB, str(lab.port(name)))),
        lambda lab: answers(f"{lab.url(name)}/"), needs=needs,
    )  # fmt: skip


def broken(name: str) -> Service:
    script = "print('reading the tea leaves', flush=True); raise SystemExit('they say no')"
    return Service(name, (), lambda lab: Command((sys.executable, "-c", script)), lambda lab: False)


def starter(lab: Lab, *services: Service) -> tuple[Starter, Reservations, list[str]]:
    reservations = Reservations()
    for port in (port for service in services for port in service.ports):
        lab.put("ports", port, reservations.hold(port))
    said: list[str] = []
    return Starter(lab, reservations, said.append), reservations, said


def test_needs_come_first(lab: Lab) -> None:
    services = {"second": web("second", ("first",)), "first": web("first")}
    start, _, said = starter(lab, *services.values())
    start.start_all(services)
    assert [line.split()[0] for line in said] == ["first", "second"]
    assert set(lab.record["processes"]) == {"first", "second"}


def test_a_failure_ends_the_waiting_and_shows_the_log(lab: Lab) -> None:
    never = Service("never", (), lambda lab: Command(("/bin/sleep", "600")), lambda lab: False)
    services = {"never": never, "broken": broken("broken"), "after": web("after", ("broken",))}
    start, _, _ = starter(lab, *services.values())
    began = time.monotonic()
    with pytest.raises(ServiceFailed, match="broken ended with exit code 1(.|\n)*tea leaves(.|\n)*they say no"):
        start.start_all(services)
    assert time.monotonic() - began < 10
    assert "after" not in lab.record["processes"]


def test_a_port_that_somebody_took_is_exchanged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    service = web("web")
    start, reservations, _ = starter(lab, service)
    taken = lab.port("web")
    release = reservations.release
    thief: list[Reservations] = []

    def steal(name: str) -> None:
        """Somebody is quicker than the service, the first time."""
        if thief:
            release(name)
        else:
            thief.append(reservations)

    monkeypatch.setattr(reservations, "release", steal)
    start.start(service)
    assert lab.port("web") != taken
    assert answers(f"{lab.url('web')}/", 200)
