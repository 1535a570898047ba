"""Caddy's ten surprises, and that none of them reaches an operator."""

from __future__ import annotations

import json
import multiprocessing
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import RealCaddy
from hecate import model, wiring
from hecate.clients.caddy import CaddyClient
from hecate.engine import Wish
from hecate.errors import ApplyFailed, InvalidPillar

from contract.edge import MINION, EdgeUnderTest

DIAL = "127.0.0.1:1"
Config = dict[str, Any]


def config_of(caddy: RealCaddy) -> Config:
    return CaddyClient(caddy.admin).config()[0]


def posts(caddy: RealCaddy) -> int:
    return caddy.log().count('"method":"POST"')


def add_one(pillar: dict[str, Any], folder: str, host: str, start: Any) -> None:
    """What one of many processes does: have one route beside whatever is there."""
    estate = model.parse({"hecate": {**pillar["hecate"], "routes": {host: {"upstreams": [DIAL]}}}})
    target = wiring.target("caddy", estate, wiring.Place(MINION, Path(folder)))
    start.wait()
    target.engine.apply(Wish(target.desired, partial=True), f"one-{host.partition('.')[0]}")


def all_at_once(edge: EdgeUnderTest, hosts: list[str]) -> list[int | None]:
    """Exit codes of processes that each add one route at the same moment."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(len(hosts))
    args = [(edge.pillar(), str(edge.folder), host, start) for host in hosts]
    workers = [context.Process(target=add_one, args=each) for each in args]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


def test_1_a_burst_of_changes_reloads_twice_at_most(edge: EdgeUnderTest) -> None:
    edge.route(upstreams=[DIAL])
    before = posts(edge.caddy)
    hosts = [f"burst{n}.test" for n in range(20)]
    assert all_at_once(edge, hosts) == [0] * len(hosts)
    held = edge.target().backend.routes()
    assert posts(edge.caddy) - before <= 2 and set(hosts) <= held.keys() and "app.test" in held


def test_3_writers_at_once_take_turns_and_nobody_is_reset(edge: EdgeUnderTest) -> None:
    hosts = [f"w{n}.test" for n in range(8)]
    assert all_at_once(edge, hosts) == [0] * len(hosts)
    assert edge.target().backend.routes().keys() == set(hosts)
    assert not list((edge.folder / "hecate" / "journal" / "caddy" / "queue").glob("*.wish"))


def test_3_what_a_dead_process_wished_is_dropped(edge: EdgeUnderTest) -> None:
    target = edge.target(routes={"dead.test": {"upstreams": [DIAL]}})
    ticket = target.engine.queue.put(Wish(target.desired, partial=True).to_json(), "terms")
    held = json.loads(ticket.path.read_text())
    ticket.path.write_text(json.dumps({**held, "started": "another time"}))
    assert target.engine.queue.waiting("terms") == [] and not ticket.path.exists()


def test_4_nothing_empty_is_ever_sent(edge: EdgeUnderTest) -> None:
    client = CaddyClient(edge.caddy.admin)
    for empty in ({}, {"apps": {}}, {"apps": None}):
        with pytest.raises(ValueError, match="without apps"):
            client.replace(empty, client.config()[1])
    edge.route(upstreams=[DIAL])
    edge.apply(routes={})
    assert config_of(edge.caddy) == edge.caddy.base()


@contextmanager
def cutting(caddy: RealCaddy, folder: Path) -> Iterator[tuple[str, list[bool]]]:
    """An admin socket that hands everything on, but while `cut` says so drops the answers to POSTs."""
    path, cut = folder / "cut.sock", [False]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve(inner: socket.socket) -> None:
        with inner, socket.socket(socket.AF_UNIX) as outer:
            outer.connect(str(caddy.socket))
            head = b""
            while b"\r\n\r\n" not in head:
                head += inner.recv(65536)
            headers, _, body = head.partition(b"\r\n\r\n")
            wanted = [int(h.split(b":")[1]) for h in headers.lower().split(b"\r\n") if h.startswith(b"content-length")]
            while wanted and len(body) < wanted[0]:
                body += inner.recv(65536)
            # One request a connection: what is tested is the lost answer, not keep-alive.
            outer.sendall(headers + b"\r\nConnection: close\r\n\r\n" + body)
            answer = b""
            while chunk := outer.recv(65536):
                answer += chunk
            if not (cut[0] and head.startswith(b"POST")):
                inner.sendall(answer)
            else:
                cut[0] = False

    def accept() -> None:
        while True:
            try:
                inner, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(inner,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"unix/{path}", cut
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_5_after_a_lost_answer_what_ran_before_is_loaded_again(edge: EdgeUnderTest, tmp_path: Path) -> None:
    upstream = edge.upstream()
    with cutting(edge.caddy, tmp_path) as (admin, cut):
        caddy = {"admin": admin}
        edge.apply(caddy=caddy, routes={"app.test": {"upstreams": [upstream.dial]}})
        before, writes = config_of(edge.caddy), posts(edge.caddy)
        cut[0] = True
        with pytest.raises(ApplyFailed) as caught:
            edge.apply(caddy=caddy, routes={"app.test": {"upstreams": [DIAL]}, "new.test": {"upstreams": [DIAL]}})
    assert caught.value.undone and "no answer" in str(caught.value)
    assert config_of(edge.caddy) == before and posts(edge.caddy) == writes + 2
    assert edge.ask().status == 200 and edge.ask("new.test").status == 404


def test_5_a_configuration_that_panics_cannot_be_written_in_pillar(edge: EdgeUnderTest) -> None:
    """Matchers with expressions are Hecate's own; the pillar has no place for one."""
    with pytest.raises(InvalidPillar):
        edge.route(upstreams=[DIAL], paths={"/a": {"when": {"expression": {"expr": "true"}}}})


def test_6_a_write_between_look_and_write_is_kept(edge: EdgeUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = CaddyClient(edge.caddy.admin)
    asked = CaddyClient.config

    def looked_then_overtaken(client: CaddyClient) -> tuple[Config, str]:
        seen = asked(client)
        if client is not stranger and "Late" not in str(seen[0]):
            theirs, etag = asked(stranger)
            theirs["apps"]["http"]["servers"]["lab-stranger"]["routes"][0]["handle"][0]["body"] = "Late"
            stranger.replace(theirs, etag)
        return seen

    monkeypatch.setattr(CaddyClient, "config", looked_then_overtaken)
    edge.route(upstreams=[DIAL])
    after = asked(stranger)[0]["apps"]["http"]["servers"]
    assert after["lab-stranger"]["routes"][0]["handle"][0]["body"] == "Late" and "hecate" in after


def test_7_no_change_is_no_write_and_so_no_reset_of_health_or_metrics(edge: EdgeUnderTest) -> None:
    edge.route(upstreams=[DIAL], health_check={"path": "/healthz"})
    before = posts(edge.caddy)
    assert not edge.route(upstreams=[DIAL], health_check={"path": "/healthz"}).plan
    assert posts(edge.caddy) == before


def test_8_what_caddy_does_not_check_is_checked_before_anything_is_sent(edge: EdgeUnderTest) -> None:
    before = posts(edge.caddy)
    with pytest.raises(InvalidPillar) as caught:
        edge.route(upstreams=["no port"], tls={"min_version": "1.4"})
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"hecate:routes:app.test:upstreams:0:dial", "hecate:routes:app.test:tls:min_version"}
    assert posts(edge.caddy) == before


def test_10_a_host_that_nobody_named_is_404_and_not_an_empty_200(edge: EdgeUnderTest) -> None:
    edge.route(upstreams=[DIAL])
    answer = edge.ask("nobody.test")
    assert answer.status == 404 and answer.body


# What Caddy refuses because of what is, or is not, on the edge: told by route and pillar path


REFUSED = {
    "a CA that is not there": {"upstreams": ["https://127.0.0.1:1"], "upstream_tls": {"ca": "/nowhere/ca.pem"}},
    "a certificate that is not there": {
        "upstreams": [DIAL],
        "tls": {"certificate": "/nowhere/c.pem", "key": "/nowhere/k.pem"},
    },
    "a client CA that is not there": {"upstreams": [DIAL], "tls": {"client_auth": {"ca": "/nowhere/ca.pem"}}},
    "a path's CA": {
        "upstreams": [DIAL],
        "paths": {"/x/*": {"upstreams": ["https://127.0.0.1:1"], "upstream_tls": {"ca": "/nowhere/ca.pem"}}},
    },
    "a log that cannot be opened": {"upstreams": [DIAL], "access_log": {"file": "/proc/nowhere/access.log"}},
}


@pytest.mark.parametrize("route", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("beside", [1, 120], ids=["few", "in buckets"])
def test_a_refusal_names_the_route_and_the_old_configuration_goes_on(
    edge: EdgeUnderTest, route: dict[str, Any], beside: int
) -> None:
    upstream = edge.upstream()
    good = {f"g{n}.test": {"upstreams": [upstream.dial], "max_body": f"{n + 1}MB"} for n in range(beside)}
    edge.apply(caddy={"issuer": "internal"}, routes=good)
    before = config_of(edge.caddy)
    with pytest.raises(ApplyFailed) as caught:
        edge.apply(caddy={"issuer": "internal"}, routes={**good, "bad.test": route})
    told = str(caught.value)
    assert "because of hecate:routes:bad.test:" in told and "/nowhere" in told and caught.value.undone
    assert config_of(edge.caddy) == before


# A file that a starting Caddy reads


def test_what_was_applied_is_on_disk_and_a_caddy_started_from_it_serves_it(edge: EdgeUnderTest, tmp_path: Path) -> None:
    upstream = edge.upstream()
    edge.route(upstreams=[upstream.dial])
    kept = edge.folder / "hecate" / "caddy.json"
    assert json.loads(kept.read_text()) == config_of(edge.caddy) and kept.stat().st_mode & 0o777 == 0o600
    edge.caddy.stop()
    edge.caddy.socket.unlink(missing_ok=True)
    (edge.caddy.folder / "base.json").write_text(kept.read_text())
    base, edge.caddy.base = edge.caddy.base, lambda: json.loads(kept.read_text())  # type: ignore[method-assign]
    try:
        edge.caddy.start()
    finally:
        edge.caddy.base = base  # type: ignore[method-assign]
    assert edge.ask().status == 200


@pytest.mark.parametrize("damage", ["missing", "unreadable", "differs"])
def test_a_file_that_is_not_what_runs_is_told_and_mended(edge: EdgeUnderTest, damage: str) -> None:
    wish = {"routes": {"app.test": {"upstreams": [DIAL]}}}
    edge.apply(**wish)
    kept = edge.folder / "hecate" / "caddy.json"
    if damage == "missing":
        kept.unlink()
    else:
        kept.write_text("{" if damage == "unreadable" else "{}")
    target, before = edge.target(**wish), posts(edge.caddy)
    assert target.backend.disk() == damage
    assert [c.id for c in target.engine.plan(target.wish).changes] == [f"caddy.saved {kept}"]
    edge.apply(**wish)
    assert target.backend.disk() == "same" and posts(edge.caddy) == before


# Modules


def test_what_this_caddy_was_built_without_is_refused_by_name(edge: EdgeUnderTest) -> None:
    limit = {"limit": {"type": "rate_limit", "config": {"requests_per_minute": 60}}}
    brotli = {"small": {"type": "encode", "config": {"encodings": ["gzip", "br"]}}}
    before = config_of(edge.caddy)
    with pytest.raises(InvalidPillar) as caught:
        edge.apply(
            routes={
                "app.test": {"upstreams": [DIAL], "middleware": ["limit", "small"]},
                "b.test": {"upstreams": [DIAL]},
            },
            middleware={**limit, **brotli},
            certificates={"storage": {"type": "vault", "path": "secret/hecate"}},
        )
    told = {problem.value: problem.path for problem in caught.value.problems}
    assert told == {
        "http.handlers.rate_limit": "hecate:routes:app.test",
        "http.encoders.br": "hecate:routes:app.test",
        "caddy.storage.vault": "hecate:caddy",
    }
    assert config_of(edge.caddy) == before


def test_a_module_that_is_there_is_not_missed(edge: EdgeUnderTest) -> None:
    client = CaddyClient(edge.caddy.admin)
    present = ["http.encoders.gzip", "http.handlers.encode", "caddy.storage.file_system"]
    absent = ["http.encoders.br", "http.handlers.rate_limit", "dns.providers.hetzner", "caddy.storage.redis"]
    assert [m for m in present + absent if client.lacks(m)] == absent
