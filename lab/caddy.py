"""The edges: real Caddy servers, their admin API on a unix socket, and one site on each that isn't Hecate's."""

from __future__ import annotations

import json
import pathlib
import socket as sockets
from typing import Any

from lab.layout import Lab

STRANGER = "lab-stranger"
STRANGER_SAYS = "This site was here before Hecate."


def socket(lab: Lab, edge: str) -> pathlib.Path:
    """The socket of the edge's admin API."""
    return lab.sockets / f"{edge}.sock"


def arguments(lab: Lab, edge: str) -> tuple[str, ...]:
    """Writes the base configuration; an edge that comes back goes on from what it had (``--resume``)."""
    file = lab.config(edge) / "base.json"
    file.write_text(json.dumps(base(lab, edge), indent=1))
    socket(lab, edge).unlink(missing_ok=True)  # A killed Caddy leaves its socket, and the next one can't bind.
    return ("run", "--config", str(file), "--resume")


def base(lab: Lab, edge: str) -> dict[str, Any]:
    """What the machine's owner configured before Hecate came."""
    stranger = {
        "listen": [f"127.0.0.1:{lab.port(f'{edge}-stranger')}"],
        "automatic_https": {"disable": True},
        "routes": [{"handle": [{"handler": "static_response", "body": STRANGER_SAYS}]}],
    }
    return {
        "admin": {"listen": f"unix/{socket(lab, edge)}|0600"},
        # INFO has every call of the admin API: a look at the log tells how often Hecate wrote.
        "logging": {"logs": {"default": {"level": "INFO"}}},
        "storage": {"module": "file_system", "root": str(lab.data(edge))},
        "apps": {
            "http": {
                "http_port": lab.port(f"{edge}-http"),
                "https_port": lab.port(f"{edge}-https"),
                "servers": {STRANGER: stranger},
            },
            # Without this Caddy puts its root certificate into the machine's trust store.
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }


def ready(lab: Lab, edge: str) -> bool:
    """Admin API and stranger answer."""
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as admin:
        admin.settimeout(2)
        admin.connect(str(socket(lab, edge)))
    with sockets.create_connection(("127.0.0.1", lab.port(f"{edge}-stranger")), timeout=2):
        return True
