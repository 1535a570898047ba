"""Fifty route edits within a second on a thousand routes, while clients are at work."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from hecate import model, wiring
from hecate.engine import Wish

from bench.edge import Edge
from bench.table import Row

ROUTES, EDITS, SOCKETS = 1000, 50, 10
AREA = "caddy"


@dataclass
class Load:
    """Clients of three kinds, and what went wrong for each."""

    port: int
    done: asyncio.Event = field(default_factory=asyncio.Event)
    asked: dict[str, int] = field(default_factory=lambda: {"HTTP/2": 0, "HTTP/1.1 with retries": 0})
    failed: dict[str, int] = field(default_factory=lambda: {"HTTP/2": 0, "HTTP/1.1 with retries": 0})
    closed: int = 0

    async def requests(self, kind: str, retries: int) -> None:
        """GETs in a row on kept connections; retries: as browsers do when a connection was closed on them."""
        async with httpx.AsyncClient(http2=kind == "HTTP/2", http1=kind != "HTTP/2", verify=False) as client:
            number = 0
            while not self.done.is_set():
                number += 1
                host = f"r{number % ROUTES:04d}.test"
                self.asked[kind] += 1
                for attempt in range(retries + 1):
                    try:
                        answer = await client.get(
                            f"https://127.0.0.1:{self.port}/",
                            headers={"Host": host},
                            extensions={"sni_hostname": "r0000.test"},
                        )
                    except httpx.TransportError:
                        if attempt == retries:
                            self.failed[kind] += 1
                        continue
                    self.failed[kind] += answer.status_code != 200
                    break

    async def websocket(self, number: int) -> None:
        """An open stream that says something ten times a second and wants to hear it back."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host = f"r{number * 97 % ROUTES:04d}.test"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=host)
        head = f"GET /ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if b"101" not in answer.partition(b"\r\n")[0]:
            raise RuntimeError(f"no websocket: {answer!r}")
        while not self.done.is_set():
            writer.write(b"ping")
            try:
                await writer.drain()
                await reader.readexactly(4)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.closed += 1
                return
            await asyncio.sleep(0.1)
        writer.close()


def measure(dial: str) -> list[Row]:
    with Edge(issuer="internal") as edge:
        routes: dict[str, Any] = {f"r{n:04d}.test": {"upstreams": [dial]} for n in range(ROUTES)}
        edge.apply(model.parse(edge.pillar(routes)))
        edge.settle()
        before = edge.calls()["POST"]
        load, failures = asyncio.run(under_load(edge, dial))
        writes = edge.calls()["POST"] - before
    if failures:
        raise RuntimeError(f"edits failed: {failures[:3]}")
    return [
        Row(AREA, f"writes for {EDITS} route edits within a second on {ROUTES:,} routes", writes, "", 2),
        *(
            Row(AREA, f"  failed of {load.asked[kind]} requests, {kind}", load.failed[kind], "", 0)
            for kind in load.asked
        ),
        Row(AREA, f"  websockets closed of {SOCKETS}", load.closed, "", 0),
    ]


async def under_load(edge: Edge, dial: str) -> tuple[Load, list[str]]:
    load = Load(edge.port)
    clients = [asyncio.create_task(load.requests("HTTP/2", 0)) for _ in range(4)]
    clients += [asyncio.create_task(load.requests("HTTP/1.1 with retries", 2)) for _ in range(4)]
    clients += [asyncio.create_task(load.websocket(n)) for n in range(SOCKETS)]
    await asyncio.sleep(1)
    failures = await asyncio.to_thread(edits, edge, dial)
    await asyncio.sleep(1)
    load.done.set()
    await asyncio.gather(*clients)
    return load, failures


def edits(edge: Edge, dial: str) -> list[str]:
    """Fifty, spread over most of a second, as operators and their scripts send them: each on its own."""
    failures: list[str] = []

    def one(number: int) -> None:
        time.sleep(number / EDITS * 0.8)
        route = {f"r{number:04d}.test": {"upstreams": [dial], "headers": {"X-Edit": str(number)}}}
        try:
            target = wiring.target(
                "caddy", model.parse(edge.pillar(route)), wiring.Place("edge", edge.folder / "cache")
            )
            target.engine.apply(Wish(target.desired, partial=True), f"edit-{number}")
        except Exception as err:  # every kind of failure counts
            failures.append(str(err))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(EDITS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures
