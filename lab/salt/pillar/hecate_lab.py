"""
The lab's own pillar: whatever the user's pillar says, its systems are the ones on this machine.

.. code-block:: yaml

    ext_pillar:
      - hecate_lab: {lab: /path/to/lab.json}
      - hecate: {}

What the pillar leaves out stays out, and what is malformed stays as it was written, so that
validation speaks of the user's own words.

Salt merges the answer into the pillar: mappings by key, lists by replacement
(``pillar_merge_lists: False``). What a merge can't take away (edges that the lab doesn't have, a
Consul that doesn't run) is taken out of the given pillar in place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from hecate.model.fields import Dial
from pydantic import TypeAdapter, ValidationError

DIAL: TypeAdapter[str] = TypeAdapter(Dial)
TIMEOUT = 10
PROXY_TYPES = {"hecate-authentik": "hecate_authentik", "hecate-dns": "hecate_hetzner_dns"}


def ext_pillar(minion_id: str, pillar: dict[str, Any], lab: str | None = None) -> dict[str, Any]:
    """
    Overrides under ``hecate`` for this minion, when the pillar has such a mapping, and what makes
    a proxy minion one: the user's proxies may go by other names than the lab's.
    """
    found: dict[str, Any] = {}
    if minion_id in PROXY_TYPES:
        found["proxy"] = {"proxytype": PROXY_TYPES[minion_id]}
    hecate = pillar.get("hecate")
    if lab and isinstance(hecate, dict):
        with open(lab) as file:
            record = json.load(file)
        take_out(hecate, record)
        found["hecate"] = overrides(minion_id, hecate, record)
    return found


def take_out(hecate: dict[str, Any], record: Mapping[str, Any]) -> None:
    """
    Remove, in place, what no merge could.
    """
    hecate.pop("edges", None)
    store = hecate.get("store")
    if isinstance(store, dict) and not record.get("consul"):
        store.pop("consul", None)


def overrides(minion_id: str, hecate: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """
    The systems of this lab, in the pillar's own words.
    """
    port = record["ports"]
    edges = record["edges"]
    secrets = f"{record['folder']}/secrets"
    found: dict[str, Any] = {
        "edges": {
            name: {
                "address": "127.0.0.1",
                "bind": "127.0.0.1",
                "http": port[f"{name}-http"],
                "https": port[f"{name}-https"],
            }
            for name in edges
        },
        "targets": {
            "controller": "hecate-controller",
            "authentik": "hecate-authentik",
            "dns": "hecate-dns",
            "caddy": list(edges),
        },
        "vault": {"url": url(port["openbao"]), "mount": "secret"},
        "verify": {"nameserver": f"127.0.0.1:{port['dns']}"},
    }
    vault = hecate.get("vault")
    if not (isinstance(vault, Mapping) and "approle" in vault):
        found["vault"]["token"] = f"file:{secrets}/openbao-{minion_id}"
    if record.get("consul"):
        found["store"] = {"consul": {"url": url(port["consul"]), "token": f"file:{secrets}/consul"}}
    if minion_id in edges:
        found["caddy"] = {"admin": f"unix/{record['sockets']}/{minion_id}.sock", **own_authority(hecate.get("caddy"))}
    systems = {
        "authentik": {
            "url": url(port["authentik"]),
            "token": "vault:hecate/authentik#token",
            "outpost": f"127.0.0.1:{port['authentik']}",
        },
        "hetzner_dns": {"endpoint": url(port["hetzner"]) + "/v1", "token": "vault:hecate/hetzner#token"},
        "nomad": {"url": url(port["nomad"]), "token": "vault:hecate/nomad#token"},
        "terraform": {"workdir": f"{record['folder']}/terraform"},
    }
    found.update((name, section) for name, section in systems.items() if isinstance(hecate.get(name), dict))
    known = stand_ins(hecate, record)
    found.update((name, rewritten(hecate[name], known)) for name in ("routes", "upstreams") if hecate.get(name))
    return found


def own_authority(caddy: Any) -> dict[str, str]:
    """
    Certificates come from Caddy itself: a public authority would be asked for names that nobody owns.
    """
    issuer = caddy.get("issuer") if isinstance(caddy, Mapping) else None
    return {} if issuer in ("internal", "none") else {"issuer": "internal"}


def url(port: int) -> str:
    """
    Of a server of the lab.
    """
    return f"http://127.0.0.1:{port}"


def stand_ins(hecate: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """
    What answers for each dial that the routes name: ``{dial: "127.0.0.1:port"}``.
    """
    everywhere = [hecate.get("routes"), hecate.get("upstreams")]
    dials = sorted({dial for dial in every_dial(everywhere) if well_formed(dial)})
    known: dict[str, str] = {}
    section = hecate.get("authentik")
    if isinstance(section, dict):
        emulator = f"127.0.0.1:{record['ports']['authentik']}"
        own = (section.get("outpost"), urlsplit(str(section.get("url", ""))).netloc, emulator)
        known = {str(dial): emulator for dial in own}
    wanted = [dial for dial in dials if dial not in known]
    if wanted:
        answer = requests.post(url(record["ports"]["echo"]) + "/ports", json={"dials": wanted}, timeout=TIMEOUT)
        answer.raise_for_status()
        for dial, port in answer.json()["ports"].items():
            scheme = "https://" if dial.startswith("https://") else ""  # the echo speaks HTTP/1.1, on TCP
            known[dial] = f"{scheme}127.0.0.1:{port}"
    return known


def well_formed(dial: str) -> bool:
    """
    Whether Hecate's own model takes it.
    """
    try:
        DIAL.validate_python(dial)
    except ValidationError:
        return False
    return True


def every_dial(node: Any) -> Iterator[str]:
    """
    Every dial of every ``upstreams`` below, however deep.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "upstreams" and isinstance(value, list):
                yield from (dial for dial in map(dial_of, value) if isinstance(dial, str))
            else:
                yield from every_dial(value)
    elif isinstance(node, list):
        for value in node:
            yield from every_dial(value)


def dial_of(upstream: Any) -> Any:
    """
    An upstream is its dial, or a mapping that has one.
    """
    return upstream.get("dial") if isinstance(upstream, Mapping) else upstream


def rewritten(node: Any, known: Mapping[str, str]) -> Any:
    """
    A copy with the dials exchanged; whole, since a merge replaces lists whole.
    """
    if isinstance(node, Mapping):
        return {
            key: [exchanged(upstream, known) for upstream in value]
            if key == "upstreams" and isinstance(value, list)
            else {**value, "issuer": "internal"}
            if key == "tls" and isinstance(value, Mapping) and value.get("issuer")
            else rewritten(value, known)
            for key, value in node.items()
        }
    return [rewritten(value, known) for value in node] if isinstance(node, list) else node


def exchanged(upstream: Any, known: Mapping[str, str]) -> Any:
    """
    One upstream with its dial exchanged; as it was when nothing stands in for it.
    """
    dial = dial_of(upstream)
    if not isinstance(dial, str) or dial not in known:
        return upstream
    return {**upstream, "dial": known[dial]} if isinstance(upstream, Mapping) else known[dial]
