"""An upstream that only moves, where it is found by DNS: no write to Caddy at all."""

from __future__ import annotations

import http.client
import time

from dnslib import QTYPE, RR, SRV, A
from dnslib.server import BaseResolver, DNSLogger, DNSServer
from hecate import model

from bench.edge import Edge, Upstream, free_port
from bench.table import Row


class Moving(BaseResolver):
    """SRV web.test -> 127.0.0.1:port, whatever `port` is now."""

    def __init__(self, port: int) -> None:
        self.port = port

    def resolve(self, request, handler):  # type: ignore[no-untyped-def]
        reply = request.reply()
        if request.q.qtype == QTYPE.SRV:
            reply.add_answer(RR(request.q.qname, QTYPE.SRV, rdata=SRV(0, 0, self.port, "host.web.test"), ttl=0))
        elif request.q.qtype == QTYPE.A:
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("127.0.0.1"), ttl=0))
        return reply


def measure() -> Row:
    with Upstream() as one, Upstream() as other, Edge() as edge:
        names, port = Moving(one.port), free_port()
        server = DNSServer(names, "127.0.0.1", port, logger=DNSLogger("-request,-reply"))
        server.start_thread()
        try:
            discover = {"srv": "web.test", "resolver": f"127.0.0.1:{port}", "refresh": "100ms"}
            edge.apply(model.parse(edge.pillar({"app.test": {"discover": discover}})))
            before = edge.calls()["POST"]
            if ask(edge) != 200:
                raise RuntimeError("the discovered upstream does not answer")
            names.port = other.port
            one.__exit__()
            until = time.monotonic() + 20
            while ask(edge) != 200:
                if time.monotonic() > until:
                    raise RuntimeError("the moved upstream was not found")
                time.sleep(0.1)
            return Row(
                "caddy", "writes to Caddy when a discovered upstream moves", edge.calls()["POST"] - before, "", 0
            )
        finally:
            server.stop()


def ask(edge: Edge) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": "app.test"})
        return connection.getresponse().status
    finally:
        connection.close()
