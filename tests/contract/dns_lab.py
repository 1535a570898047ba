"""Hetzner's emulator with its name server, and Hecate on top of it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hecate import model, wiring

from lab.emulators.base import Fault, running
from lab.emulators.hetzner import HetznerDns, dns_running

ZONE = "estate.test"


class DnsLab:
    """One zone, one name server, and a folder for Hecate's own files."""

    def __init__(self, emulator: HetznerDns, url: str, port: int, folder: Path, token: str) -> None:
        self.emulator, self.url, self.folder, self.token = emulator, url, folder, token
        self.nameserver = f"127.0.0.1:{port}"
        self.headers = {"Authorization": f"Bearer {token}"}
        self.naps: list[float] = []

    def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        time.sleep(min(seconds, 0.01))

    def pillar(self, records: dict[str, Any], **hecate: Any) -> dict[str, Any]:
        zone = {"policy": "sync", "ttl": 300, "records": records, **hecate.pop("zone", {})}
        dns = {"zones": {ZONE: zone}, **hecate.pop("dns", {})}
        access = {"endpoint": f"{self.url}/v1", "token": "env:HETZNER_TOKEN"}
        safety = {"deletes": 100, "percent": 100}
        verify = {"nameserver": self.nameserver}
        return {"hetzner_dns": access, "dns": dns, "safety": safety, "verify": verify, **hecate}

    def target(self, records: dict[str, Any], **hecate: Any) -> wiring.Target:
        estate = model.parse({"hecate": self.pillar(records, **hecate)})
        return wiring.target("hetzner_dns", estate, self.place)

    @property
    def place(self) -> wiring.Place:
        return wiring.Place("dns", self.folder, sleep=self.nap)

    def stranger(self, name: str, kind: str, *values: str, **more: Any) -> None:
        body = {"name": name, "type": kind, "records": [{"value": value} for value in values], **more}
        answer = requests.post(f"{self.url}/v1/zones/{ZONE}/rrsets", json=body, headers=self.headers, timeout=5)
        answer.raise_for_status()

    def held(self) -> dict[str, Any]:
        """What the API has, but for the SOA."""
        sets = self.emulator.state.rrsets[self.emulator.state.find_zone(ZONE)["id"]]  # type: ignore[index]
        keep = ("records", "ttl", "labels")
        return {
            f"{name}/{kind}": {**{k: row[k] for k in keep}, "records": sorted(r["value"] for r in row["records"])}
            for (name, kind), row in sets.items()
            if kind != "SOA"
        }

    def faults(self, *faults: Fault) -> None:
        self.emulator.set_faults(faults)

    def calls(self) -> list[str]:
        return [f"{call['method']} {call['path'].removeprefix('/v1')}" for call in self.emulator.calls]


@contextlib.contextmanager
def dns_lab(folder: Path, monkeypatch: pytest.MonkeyPatch, **emulator: Any) -> Iterator[DnsLab]:
    token = secrets.token_hex(20)
    monkeypatch.setenv("HETZNER_TOKEN", token)
    app = HetznerDns(token, (ZONE,), **{"action_seconds": 0.01, **emulator})
    with running(app) as url, dns_running(app.resolver()) as port:
        yield DnsLab(app, url, port, folder, token)
        assert app.violations == []


def addresses(count: int) -> dict[str, Any]:
    return {f"h{n}": {"A": f"192.0.2.{n + 1}"} for n in range(count)}
