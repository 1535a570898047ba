"""Proof of silence: secrets of every kind through good and bad days, then everything that was written is searched.

The last module of the session on purpose: what the others did is searched as well.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
import salt.client
import salt.config
import salt.payload
from contract.authority import Authority
from contract.bind import Bind

from lab import openbao

from .conftest import Estate
from .silence import Arguments, Search, command_lines, files_below, open_to_others
from .test_rollback import change_everything

pytestmark = pytest.mark.lab
HOST = "silent.estate.test"
AWKWARD = "\"\\/+=%&<' ü"
"""What encodings write differently; the beginning and the end of a canary are plain."""
REFERENCE = "vault:hecate/silence#client-secret"
CONTROL = Search({"a reference": REFERENCE})
"""What may be seen is found in each of the places: they are looked into, and the walk came by."""
KINDS = ("hetzner", "authentik", "nomad")
ROTATED = ("robot", "application")
# Each fails, or makes no sense, in its own way.
ECHOES = [("", 403), ("", 200), ("WRITE", 400), ("WRITE", 500)]


def canary() -> str:
    return secrets.token_hex(8) + AWKWARD + secrets.token_hex(8)


@dataclass
class Walk:
    """What was planted, what was done, and what was heard and seen meanwhile."""

    estate: Estate
    bind: Bind
    planted: dict[str, str] = field(default_factory=dict)
    told: dict[str, tuple[int, str]] = field(default_factory=dict)
    arguments: Arguments = field(default_factory=Arguments)

    @property
    def search(self) -> Search:
        return Search({**self.estate.secrets(), **self.planted})

    @property
    def own(self) -> Path:
        """Files with canaries for `file:` references."""
        return self.estate.folder / "secrets"

    @property
    def root(self) -> Path:
        """Of the certificate that comes from Vault."""
        return self.estate.folder.parent / "root.pem"

    def say(self, name: str, *words: str) -> str:
        self.told[name] = self.estate.run(*words, timeout=400)
        return self.told[name][1]


@pytest.fixture(scope="module")
def walk(estate: Estate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    bind = Bind(tmp_path_factory.mktemp("bind"))
    bind.start()
    try:
        made = Walk(estate, bind)
        plant(made)
        with made.arguments:
            go(made)
        yield made
    finally:
        bind.stop()


# Planting


def plant(walk: Walk) -> None:
    authority = Authority("Silence").write(walk.root)
    certificate, key = authority.pair(HOST)
    walk.planted = {
        "private key": key,
        "TSIG key": walk.bind.secret,
        "environment": (walk.own / "environment").read_text(),
        **{name: canary() for name in ("client secret", "robot", "robot's second", "webhook", "file", "sdb")},
    }
    vault = hvac.Client(url=walk.estate.known["openbao"]["url"], token=walk.estate.known["openbao"]["token"])
    stored = {name.replace(" ", "-").replace("'", ""): value for name, value in walk.planted.items()}
    vault.secrets.kv.v2.create_or_update_secret(
        path="hecate/silence", secret={**stored, "certificate": certificate}, mount_point="secret"
    )
    for name, text in {"file": walk.planted["file"], "sdb": json.dumps({"word": walk.planted["sdb"]})}.items():
        owned(walk.own / f"silence-{name}", text)
    approle(walk, vault)
    walk.estate.edit("systems.sls", lambda hecate: systems(hecate, walk))
    walk.estate.edit("routes.sls", routes)
    pillar = walk.estate.pillar / "hecate" / "init.sls"
    drawer = {"driver": "yaml", "files": [str(walk.own / "silence-sdb")]}
    pillar.write_text(pillar.read_text() + f"\ndrawer: {json.dumps(drawer)}\n")
    walk.estate.run("salt", "hecate-authentik", "saltutil.refresh_pillar", "wait=True")  # sdb looks into the kept one


def owned(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def approle(walk: Walk, vault: hvac.Client) -> None:
    """In place of the token that each target has."""
    vault.sys.create_or_update_policy("silence", openbao.ROOMY)
    if "approle/" not in vault.sys.list_auth_methods()["data"]:
        vault.sys.enable_auth_method("approle")
    vault.auth.approle.create_or_update_approle("silence", token_policies=["default", "silence"])
    role = vault.auth.approle.read_role_id("silence")["data"]["role_id"]
    secret = vault.auth.approle.generate_secret_id("silence")["data"]["secret_id"]
    walk.planted["AppRole secret id"] = secret
    owned(walk.own / "silence-role-id", role)
    owned(walk.own / "silence-secret-id", secret)


def systems(hecate: dict[str, Any], walk: Walk) -> None:
    files = {name: f"file:{walk.own}/silence-{name}" for name in ("role-id", "secret-id", "file")}
    hecate["vault"] = {
        "url": hecate["vault"]["url"],
        "approle": {"role_id": files["role-id"], "secret_id": files["secret-id"]},
    }
    here = f"127.0.0.1:{walk.bind.port}"
    hecate["rfc2136"] = {"inside": {"server": here, "key": "hecate", "secret": "vault:hecate/silence#TSIG-key"}}
    hecate["authentik"]["service_accounts"] = {"silent-robot": {"tokens": {"one": "vault:hecate/silence#robot"}}}
    references = {
        "one": REFERENCE,
        "two": "env:HECATE_LAB_SECRET",
        "three": files["file"],
        "four": "sdb:drawer/word",
    }
    hecate["authentik"]["events"] = {"url": f"https://{HOST}/events", "secret": "vault:hecate/silence#webhook"}
    hecate["applications"] = {
        f"silent-{name}": {
            "auth_policy": "builders",
            "oauth2": {"client_secret": reference, "redirect_uris": [f"https://{name}.{HOST}/callback"]},
        }
        for name, reference in references.items()
    }
    hecate["rotation"] = {
        "robot": {
            "kind": "authentik_token",
            "account": "silent-robot",
            "secret": "vault:hecate/silence#robots-second",
            "grace": "0s",
        },
        "application": {"kind": "oauth2_client", "application": "silent-one", "secret": references["one"]},
    }
    hecate["verify"] = {"roots": [str(walk.root)]}


def routes(hecate: dict[str, Any]) -> None:
    tls = {"vault": "vault:hecate/silence#certificate", "vault_key": "vault:hecate/silence#private-key"}
    hecate["routes"][HOST] = {"upstreams": ["192.0.2.20:7001"], "dns": {"A": "203.0.113.10"}, "tls": tls}


# Walking


def go(walk: Walk) -> None:
    estate = walk.estate
    walk.say("deploy", "salt-run", "-l", "trace", "state.orch", "hecate.deploy")
    careless(estate, ["authentik"], {"method": "WRITE", "status": 400, "path": "set_key|oauth2", "times": 2})
    walk.say("failing rotation", "salt-run", "-l", "debug", "hecate.rotate", f"which={','.join(ROTATED)}")
    careless(estate, KINDS)
    walk.say("rotation", "salt-run", "-l", "debug", "hecate.rotate", f"which={','.join(ROTATED)}", "immediate=True")
    remember(walk)
    drift(walk)
    look(walk)
    change_everything(estate)
    for method, status in ECHOES:
        careless(estate, KINDS, {"method": method, "status": status, "times": None})
        walk.say(f"{method} {status}", "salt", "hecate-*", "state.highstate", "--timeout=120")
    careless(estate, KINDS)
    careless(estate, ["hetzner"], {"method": "WRITE", "status": 422, "times": 2})
    walk.say("failing deploy", "salt-run", "-l", "trace", "state.orch", "hecate.deploy")
    careless(estate, KINDS)
    walk.say("rollback", "salt-run", "-l", "debug", "hecate.rollback")


def careless(estate: Estate, systems: Iterable[str], *faults: dict[str, Any]) -> None:
    for system in systems:
        estate.faults(system, *({"kind": "echo", **fault} for fault in faults))


def remember(walk: Walk) -> None:
    """The successors are secrets too."""
    vault = hvac.Client(url=walk.estate.known["openbao"]["url"], token=walk.estate.known["openbao"]["token"])
    found = vault.secrets.kv.v2.read_secret_version(
        path="hecate/silence", mount_point="secret", raise_on_deleted_version=True
    )["data"]["data"]
    known = set(walk.planted.values())
    fresh = {f"rotated {name}": value for name, value in found.items() if len(value) >= 40 and value not in known}
    fresh.pop("rotated certificate", None)
    walk.planted |= fresh


def drift(walk: Walk) -> None:
    """Somebody else gives an application another secret."""
    known = walk.estate.known["authentik"]
    api, bearer = f"{known['url']}/api/v3/providers/oauth2/", {"Authorization": f"Bearer {known['token']}"}
    rows = requests.get(api, headers=bearer, timeout=10).json()["results"]
    walk.planted["drifted"] = canary()
    for row in rows:
        if row["client_id"] == "silent-two":
            changed = {"client_secret": walk.planted["drifted"]}
            requests.patch(f"{api}{row['pk']}/", json=changed, headers=bearer, timeout=10).raise_for_status()


def look(walk: Walk) -> None:
    """Whatever tells something."""
    commands = {
        "plan": ("salt-run", "-l", "trace", "hecate.plan"),
        "plan as data": ("salt-run", "hecate.plan", "form=data", "--out=json"),
        "status": ("salt-run", "-l", "debug", "hecate.status"),
        "rotation status": ("salt-run", "hecate.rotation_status"),
        "history": ("salt-run", "hecate.history", "--out=json"),
        "rights": ("salt-run", "hecate.rights"),
        "test": ("salt", "hecate-*", "state.highstate", "test=True", "-l", "debug"),
        "pillar": ("salt", "hecate-*", "pillar.items", "--out=json"),
        "show": ("salt", "hecate-authentik", "hecate_authentik.list"),
        "drift": ("salt", "hecate-edge-*", "hecate_caddy.drift"),
    }
    with ThreadPoolExecutor(3) as pool:
        answers = pool.map(lambda words: walk.estate.run(*words), commands.values())
        walk.told |= dict(zip(commands, answers, strict=True))


# What was told, written and seen


def test_the_walk_went_where_it_should(walk: Walk) -> None:
    codes = {name: code for name, (code, _) in walk.told.items()}
    assert codes["deploy"] == codes["rotation"] == codes["rollback"] == 0
    assert codes["plan"] == 2 and "silent-two" in walk.told["plan"][1], "the drift is seen"
    assert codes["failing rotation"] != 0 and "(secret)" in walk.told["failing rotation"][1]
    assert codes["failing deploy"] != 0 and "everything is as it was before" in walk.told["failing deploy"][1]
    assert {f"rotated {name}" for name in ("client-secret", "robots-second")} <= set(walk.planted)
    for method, status in ECHOES:
        code, text = walk.told[f"{method} {status}"]
        assert code != 0 and ("(secret)" in text or status == 200)


def test_nothing_that_was_told_has_a_secret_in_it(walk: Walk) -> None:
    assert CONTROL.within(walk.told["deploy"][1].encode()) and CONTROL.within(walk.told["pillar"][1].encode())
    leaks = {name: found for name, (_, text) in walk.told.items() if (found := walk.search.within(text.encode()))}
    assert leaks == {}
    everything = "\n".join(walk.estate.transcript).encode()
    assert len(everything) > 100_000 and walk.search.within(everything) == set()


def test_no_file_has_a_secret_in_it_that_does_not_keep_it(walk: Walk) -> None:
    estate, search = walk.estate, walk.search
    every = [*estate.secrets(), *walk.planted]
    kept = {
        # The lab's own, and the canaries that `file:` and `sdb:` lead to.
        walk.own: every,
        # Consul's token is its own: in its configuration, and in its list of tokens.
        estate.folder / "config" / "consul": ["consul"],
        estate.folder / "data" / "consul": ["consul"],
        # Caddy reads the key from here.
        **{
            estate.folder / "data" / f"salt-{edge}" / "cache" / "hecate" / "certificates": ["private key"]
            for edge in estate.known["edges"]
        },
    }
    found = files_below(estate.folder, estate.pillar)
    assert search.in_files([estate.events, *found], kept) == []
    holding = [path for path in found if search.within(path.read_bytes())]
    assert {path.name for path in holding} >= {"hetzner", "environment", "silence-secret-id"} and len(holding) > 10
    assert open_to_others(holding) == []
    assert {part for path in found for part in path.parts} >= {"jobs", "journal", "log", "pki", "salt-master"}
    shown = "\n".join(CONTROL.in_files(found, {}))
    assert all(f"/{place}/" in shown for place in ("jobs", "log", "journal", "pillar"))
    logs = sum(path.stat().st_size for path in found if path.suffix == ".log")
    assert logs > 1_000_000 and "[TRACE   ]" in (estate.folder / "log" / "salt-master.log").read_text(errors="replace")


def test_no_event_has_a_secret_in_it(walk: Walk) -> None:
    heard = walk.estate.events.read_bytes()
    assert len(heard) > 100_000 and b"hecate.rollback" in heard and b"/ret/hecate-authentik" in heard
    assert CONTROL.within(heard) and walk.search.within(heard) == set()


def test_no_job_s_return_has_a_secret_in_it(walk: Walk) -> None:
    client = salt.client.LocalClient(mopts=salt.config.client_config(f"{walk.estate.known['salt']['config']}/master"))
    folder = walk.estate.folder / "data" / "salt-master" / "cache" / "jobs"
    jobs = sorted({path.read_text() for path in folder.rglob("jid")})
    returned = {jid: client.get_cache_returns(jid) for jid in jobs}
    client.destroy()
    assert sum(len(returns) for returns in returned.values()) > 20
    assert CONTROL.within(json.dumps(list(returned.values()), default=str).encode())
    for returns in returned.values():
        assert walk.search.within(salt.payload.dumps(returns)) == set()
        assert walk.search.within(json.dumps(returns, default=str).encode()) == set()


def test_no_argument_list_has_a_secret_in_it(walk: Walk) -> None:
    seen = walk.arguments.seen | set(command_lines())
    assert any(b"hecate.deploy" in line for line in seen) and any(b"salt-minion" in line for line in seen)
    assert walk.search.within(b"\n".join(seen)) == set()


def test_no_deployment_that_is_kept_has_a_secret_in_it(walk: Walk) -> None:
    if not (consul := walk.estate.known["consul"]):
        pytest.skip("the embedded store is among the files")
    headers = {"X-Consul-Token": consul["token"]}
    rows = requests.get(f"{consul['url']}/v1/kv/hecate?recurse", headers=headers, timeout=10).json()
    texts = [zlib.decompress(b64decode(b64decode(row["Value"]))) for row in rows]
    assert CONTROL.within(b"\n".join(texts))
    assert walk.search.within(b"\n".join(texts)) == set()


def test_the_search_would_find_each_of_them(walk: Walk, tmp_path: Path) -> None:
    for name, value in {**walk.estate.secrets(), **walk.planted}.items():
        leak = tmp_path / "leak"
        leak.write_text(json.dumps({"comment": f"sent {value}"}))
        assert f"{name} in {leak}" in walk.search.in_files([leak], {})
