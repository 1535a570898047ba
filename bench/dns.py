"""Ten thousand rrsets behind Hetzner's Cloud API: what planning and applying them costs, in calls and seconds.

Peers, in the same run and against the same emulator: octoDNS with octodns-hetzner's hcloud backend for new records, and
a bare paging of the zones, with `requests` alone, for runs that change nothing. Neither asks name servers
afterwards, so Hecate is told not to either.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import hcloud
import requests
from hecate import model, wiring

from bench.edge import free_port
from bench.table import Row

AREA = "dns"
ZONES = [f"z{n}.bench.test" for n in range(10)]
PAGE = 100  # rows a page, as Hecate asks for
NEW, MANY = 100, 1000  # rrsets a zone: of those made anew, and of those that lie there
OURS = {"managed-by": "hecate", "hecate-environment": "production"}
Wanted = dict[str, dict[str, str]]  # zone -> name -> address


@dataclass
class Api:
    """An emulator in a process of its own."""

    url: str
    token: str
    folder: Path

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def counts(self) -> tuple[int, int]:
        """Reads and writes since the last look."""
        found = requests.get(f"{self.url}/_lab/counts", timeout=10).json()
        requests.delete(f"{self.url}/_lab/calls", timeout=10).raise_for_status()
        return int(found["reads"]), int(found["writes"])

    def make_zones(self, held: Wanted) -> None:
        """Each zone with what lies in it as Hecate's, in one call."""
        for zone, names in held.items():
            rows = [
                {"name": name, "type": "A", "ttl": 300, "labels": OURS, "records": [{"value": address}]}
                for name, address in names.items()
            ]
            body = {"name": zone, "mode": "primary", "ttl": 300, "rrsets": rows}
            requests.post(f"{self.url}/v1/zones", json=body, headers=self.headers, timeout=60).raise_for_status()
        while any(zone["status"] != "ok" for zone in self._page("/zones", "zones")):
            time.sleep(0.05)
        self.counts()

    def page_through(self) -> None:
        for zone in self._page("/zones", "zones"):
            self._page(f"/zones/{zone['id']}/rrsets", "rrsets")

    def _page(self, path: str, what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page: int | None = 1
        with requests.Session() as session:
            session.headers.update(self.headers)
            while page:
                answer = session.get(f"{self.url}/v1{path}", params={"page": page, "per_page": PAGE}, timeout=30).json()
                found += answer[what]
                page = answer["meta"]["pagination"]["next_page"]
        return found


@contextmanager
def api() -> Iterator[Api]:
    with tempfile.TemporaryDirectory(prefix="hecate-bench-") as folder:
        token, port = secrets.token_hex(32), free_port()
        (Path(folder) / "token").write_text(token)
        options = ["--rate-limit", "100000000", "--token-file", f"{folder}/token", "--dns-port", str(free_port())]
        command = [sys.executable, "-m", "lab.emulators.hetzner", "--port", str(port), *options]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            found = Api(f"http://127.0.0.1:{port}", token, Path(folder))
            until = time.monotonic() + 20
            while True:
                try:
                    found.counts()
                    break
                except requests.ConnectionError:
                    if process.poll() is not None or time.monotonic() > until:
                        raise
                    time.sleep(0.05)
            yield found
        finally:
            process.terminate()
            process.wait(20)


def measure(repeat: int) -> list[Row]:
    return [*making(max(2, repeat // 2)), *keeping(repeat)]


def making(repeat: int) -> list[Row]:
    """New rrsets in ten zones, by Hecate and by octoDNS, each time in fresh zones."""
    wanted = addresses(NEW)
    times: dict[str, list[float]] = {"Hecate": [], "octoDNS": []}
    calls: dict[str, int] = {}
    for _ in range(repeat):
        for who, run in (("Hecate", hecates), ("octoDNS", octodns)):
            with api() as server:
                server.make_zones({zone: {} for zone in ZONES})
                times[who].append(timed(partial(run, server, wanted)))
                calls[who] = sum(server.counts())
                lying = sum(row["record_count"] for row in server._page("/zones", "zones"))
                if lying < NEW * len(ZONES):
                    raise RuntimeError(f"{who} left {lying} records")
    ours, theirs = (median(times[who]) for who in ("Hecate", "octoDNS"))
    what = "plan and apply of 1,000 new rrsets in 10 zones"
    return [
        Row(AREA, f"{what}: calls / octoDNS's", calls["Hecate"] / calls["octoDNS"], "x", 1),
        Row(AREA, f"{what}: time / octoDNS's", ours / theirs, "x", 0.5),
        Row(AREA, "  Hecate's calls", calls["Hecate"], ""),
        Row(AREA, "  octoDNS's calls", calls["octoDNS"], ""),
        Row(AREA, "  Hecate's time", ours, "s"),
        Row(AREA, "  octoDNS's time", theirs, "s"),
    ]


def keeping(repeat: int) -> list[Row]:
    """Nothing to do, and one thing to do, beside ten thousand that lie there."""
    wanted = addresses(MANY)
    idle, bare, one = [], [], []
    with api() as server:
        server.make_zones(wanted)
        server.page_through()
        pages = sum(server.counts())
        for number in range(repeat):
            bare.append(timed(server.page_through))
            server.counts()
            idle.append(timed(partial(hecates, server, wanted)))
            reads, writes = server.counts()
            if writes:
                raise RuntimeError(f"a run without changes wrote {writes} times")
            wanted = {**wanted, ZONES[5]: {**wanted[ZONES[5]], "h500": f"192.0.2.{number + 1}"}}
            one.append(timed(partial(hecates, server, wanted)))
            changed = server.counts()
    return [
        Row(AREA, "no change among 10,000 rrsets: calls / a bare paging's", reads / pages, "x", 1),
        Row(
            AREA, "no change among 10,000 rrsets: own time, without a bare paging", median(idle) - median(bare), "s", 1
        ),
        Row(AREA, "  its bare paging", median(bare), "s"),
        Row(AREA, "one change among 10,000 rrsets: writes", changed[1], "", 2),
        Row(AREA, "  its reads / a bare paging's", changed[0] / pages, "x"),
        Row(AREA, "  its time", median(one), "s"),
    ]


def addresses(count: int) -> Wanted:
    return {zone: {f"h{n}": f"10.{place}.{n >> 8}.{n & 255}" for n in range(count)} for place, zone in enumerate(ZONES)}


def hecates(server: Api, wanted: Wanted) -> None:
    """As a state does it: from pillar to a confirmed apply."""
    zones = {zone: {"records": {name: {"A": to} for name, to in names.items()}} for zone, names in wanted.items()}
    reach = {"endpoint": f"{server.url}/v1", "token": f"file:{server.folder}/token"}
    pillar = {"hetzner_dns": reach, "dns": {"policy": "sync", "default_ttl": 300, "zones": zones, **QUIET}}
    (server.folder / "token").chmod(0o600)
    place = wiring.Place("bench", server.folder / "cache", allow=("updates", "deletes"))
    target = wiring.target("hetzner_dns", model.parse({"hecate": pillar}), place)
    target.engine.apply(target.wish, f"t{time.time_ns()}")


QUIET: dict[str, Any] = {"propagation": {"timeout": "0s"}}


def octodns(server: Api, wanted: Wanted) -> None:
    """Its provider alone, without its configuration files: plan each zone, then apply the plan."""
    from octodns.record import Record  # type: ignore[import-untyped,unused-ignore]
    from octodns.zone import Zone  # type: ignore[import-untyped,unused-ignore]
    from octodns_hetzner import HetznerProvider  # type: ignore[import-untyped,unused-ignore]

    provider = HetznerProvider("hetzner", server.token, backend="hcloud")
    client = hcloud.Client(server.token, f"{server.url}/v1")  # it has no switch for another address
    provider._client._hcloud, provider._client._zones = client, client.zones
    for zone, names in wanted.items():
        desired = Zone(f"{zone}.", [])
        for name, to in names.items():
            desired.add_record(Record.new(desired, name, {"type": "A", "ttl": 300, "values": [to]}))
        plan = provider.plan(desired)
        if plan is None or len(plan.changes) != len(names):
            raise RuntimeError(f"octoDNS plans {plan and len(plan.changes)} changes in {zone}")
        provider.apply(plan)


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
