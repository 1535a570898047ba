"""Ten thousand routes on one Caddy: what applying, holding and serving them costs.

Peers, in the same run: a bare write of the very JSON that Hecate renders, and the flat route table
that a Caddyfile of the same behaviour adapts to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from hecate import model

from bench import burst, discovery
from bench.edge import Config, Edge, Routes, Upstream, adapted
from bench.table import Row

MANY = 10_000
AREA = "caddy"


def measure(repeat: int) -> list[Row]:
    with Upstream() as upstream:
        rows = [
            *applying(repeat, "plain", plain(upstream.dial)),
            *applying(max(2, repeat // 2), "every tenth balanced and checked", mixed(upstream.dial), reach=None),
            *shapes(repeat, upstream.dial),
            Row(AREA, "peak memory of a minion with 10,000 routes, above an idle one", minion_memory(), "MB", 400),
            *burst.measure(upstream.dial),
            discovery.measure(),
        ]
    return rows


def plain(dial: str) -> Routes:
    """Hosts without a feature of their own; the first and the last are served for real."""
    routes = {name(n): {"upstreams": [f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:8080"]} for n in range(MANY)}
    return {**routes, name(0): {"upstreams": [dial]}, name(MANY - 1): {"upstreams": [dial]}}


def featured(dial: str) -> Routes:
    """Plain routes of a dozen kinds: each with some middleware, none with a pool of its own."""
    kinds: list[dict[str, Any]] = [
        {"middleware": [*middleware], **more}
        for middleware in (["compression"], ["security-headers"], ["compression", "security-headers"])
        for more in ({}, {"max_body": "10MB"}, {"headers": {"X-Team": "a"}}, {"denied_ips": ["192.0.2.0/24"]})
    ]
    return {host: {**route, **kinds[n % len(kinds)]} for n, (host, route) in enumerate(plain(dial).items())}


def mixed(dial: str) -> Routes:
    """Every tenth route has two upstreams and an active health check: a proxy of its own."""
    checked = {"health_check": {"path": "/health", "interval": "1h"}}
    return {
        host: {"upstreams": [*route["upstreams"], "10.255.0.1:8080"], **checked} if n % 10 == 5 else route
        for n, (host, route) in enumerate(plain(dial).items())
    }


def name(number: int) -> str:
    return f"h{number:05d}.example.test"


def applying(repeat: int, what: str, routes: Routes, reach: float | None = 1.25) -> list[Row]:
    """First apply, no change, and one change, each beside the bare call."""
    first, bare_first, idle, one, bare_one, bare_flat = [], [], [], [], [], []
    with Edge() as edge:
        estate = model.parse(edge.pillar(routes))
        moved = {name(MANY // 2): {"upstreams": ["10.254.0.1:8080"]}}
        changed = model.parse(edge.pillar({**routes, **moved}))
        for _ in range(repeat):
            edge.reset()
            first.append(timed(lambda: edge.apply(estate)))
            rendered = edge.client.config()[0]
            edge.reset()
            bare_first.append(edge.bare_write(rendered))
            edge.settle()
            if reach:
                edge.reset()
                bare_flat.append(edge.bare_write(flat_table(edge, routes)))
                edge.reset()
            edge.apply(estate)
            calls = edge.calls()
            idle.append(timed(lambda: edge.apply(estate)))
            after = edge.calls()
            if (after["GET"] - calls["GET"], after["POST"] - calls["POST"]) != (1, 0):
                raise RuntimeError(f"an apply without changes made other calls than one GET: {calls} -> {after}")
            one.append(timed(lambda: edge.apply(changed)))
            if edge.calls()["POST"] != after["POST"] + 1:
                raise RuntimeError("one changed route was not one write")
            edge.settle()
            etag = edge.client.config()[1]
            bare_one.append(edge.bare_write(rendered, etag))
            edge.settle()
    limit = 0.5 if reach else None
    beside = f"first apply of 10,000 routes ({what}) / a bare write of the flat table"
    return [
        *([Row(AREA, beside, median(first) / median(bare_flat), "x")] if bare_flat else []),
        Row(
            AREA,
            f"first apply of 10,000 routes ({what}) / a bare write",
            median(first) / median(bare_first),
            "x",
            reach,
        ),
        Row(AREA, f"  its bare write ({what})", median(bare_first), "s"),
        Row(AREA, f"  Hecate's own part ({what})", median(first) - median(bare_first), "s"),
        Row(AREA, f"apply without changes ({what}): one GET, no write", median(idle), "s", limit),
        Row(AREA, f"one route of 10,000 changed ({what}) / a bare write", median(one) / median(bare_one), "x", reach),
        Row(AREA, f"  Hecate's own part ({what})", median(one) - median(bare_one), "s"),
    ]


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def shapes(repeat: int, dial: str) -> list[Row]:
    """Caddy's own cost: Hecate's layout beside the flat table, plain and with features."""
    used = {
        what: loaded(repeat, routes(dial), lines)
        for what, routes, lines in (("plain", plain, ()), ("featured", featured, FEATURES))
    }
    rows = []
    for what, (ours, flat) in used.items():
        reach = {"plain": 0.1, "featured": 1 / 3}[what]
        label = {"plain": "hosts without features", "featured": "plain routes of 12 kinds"}[what]
        rows += [
            Row(AREA, f"Caddy's CPU for loading 10,000 {label} / flat", ours["cpu"] / flat["cpu"], "x", reach),
            Row(AREA, "  of the flat table", flat["cpu"], "s"),
            Row(AREA, f"Caddy's resident memory with 10,000 {label} / flat", ours["rss"] / flat["rss"], "x", 0.4),
            Row(AREA, "  of the flat table", flat["rss"], "MB"),
            Row(AREA, f"CPU a request, last of 10,000 {label} / flat", ours["last"] / flat["last"], "x", 0.25),
            Row(AREA, "  above the first host's", (ours["last"] - ours["first"]) / 1000, "ms", 0.3),
        ]
    return rows


ALSO = "stream_close_delay 8h\n transport http {\n dial_timeout 3s\n }\n"
FEATURES = (
    "encode zstd gzip",
    "header >X-Frame-Options DENY",
    "encode zstd gzip\n header >X-Frame-Options DENY",
)


def pair(edge: Edge, routes: Routes, features: tuple[str, ...]) -> tuple[Config, Config]:
    """The same routes as Hecate lays them, and as a Caddyfile does."""
    edge.reset()
    edge.apply(model.parse(edge.pillar(routes)))
    ours = edge.client.config()[0]
    return ours, flat_table(edge, routes, features)


def flat_table(edge: Edge, routes: Routes, features: tuple[str, ...] = ()) -> Config:
    """What a Caddyfile of the same behaviour adapts to."""
    sites = []
    for n, (host, route) in enumerate(routes.items()):
        feature = features[n % 12 // 4] if features else ""
        proxy = f"reverse_proxy {route['upstreams'][0]} {{\n {ALSO} }}"
        own = f"{feature}\n request_header -X-Authentik-*\n {proxy}"
        sites.append(f"http://{host}:{edge.port} {{\n {own}\n}}\n")
    servers = adapted("".join(sites))["apps"]["http"]["servers"]
    flat = edge.base()
    flat["apps"]["http"]["servers"] = {"flat": {**next(iter(servers.values())), "automatic_https": {"disable": True}}}
    flat["apps"]["http"]["servers"]["flat"]["listen"] = [f"127.0.0.1:{edge.port}"]
    return flat


def loaded(repeat: int, routes: Routes, features: tuple[str, ...]) -> tuple[dict[str, float], dict[str, float]]:
    """CPU, memory and CPU a request, of Hecate's layout and of the flat one."""
    with Edge() as edge:
        both = pair(edge, routes, features)
    found = []
    for config in both:
        with Edge() as edge:
            own = {**config, "admin": edge.base()["admin"], "storage": edge.base()["storage"]}
            own = json.loads(json.dumps(own))
            server = next(s for n, s in own["apps"]["http"]["servers"].items() if n in ("hecate", "flat"))
            server["listen"] = [f"127.0.0.1:{edge.port}"]
            used = []
            for n in range(repeat):
                server["idle_timeout"] = f"{200 + n}s"  # something must differ, or Caddy does nothing
                edge.settle()
                before = edge.cpu()
                edge.bare_write(own)
                edge.settle()
                used.append(edge.cpu() - before)
            hosts = {"first": name(0), "last": name(MANY - 1)}
            per_request = {k: median(edge.request_cpu(host) for _ in range(3)) for k, host in hosts.items()}
            found.append({"cpu": median(used), "rss": edge.resident(), **per_request})
    return found[0], found[1]


PEAK = """
import sys
sys.path.insert(0, {utils!r}); sys.path.insert(0, {root!r})
import salt.minion, salt.state, hecate_salt
from hecate import model, wiring
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
idle = peak()
from bench.edge import Edge
from bench.caddy import plain
with Edge() as edge:
    pillar = edge.pillar(plain("127.0.0.1:1"))
    edge.apply(model.parse(pillar))
    edge.apply(model.parse(pillar))
print((peak() - idle) / 1000)
"""


def minion_memory() -> float:
    """MB that a process with Salt's minion loaded grows by, at its highest, over two applies from raw pillar."""
    root = Path(__file__).resolve().parents[1]
    code = PEAK.format(utils=str(root / "_utils"), root=str(root))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    return float(answer.stdout.split()[-1])
