"""The whole lab, once: everything answers, two of them live side by side, and down leaves nothing."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import dns.message
import dns.query
import hvac
import psutil
import pytest
import requests

from lab import client, environment, lifecycle

REPO = pathlib.Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("lab-up")]


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lab", *arguments]
    return subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=180, check=False)


def mentioning(folder: pathlib.Path) -> dict[int, str]:
    """Processes whose arguments or environment name the folder."""
    found = {}
    for process in psutil.process_iter():
        try:
            said = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(folder) in text for text in said):
            found[process.pid] = " ".join(process.cmdline())[:120]
    return found


def listening(ports: list[int]) -> list[int]:
    taken = {one.laddr.port for one in psutil.net_connections("tcp") if one.laddr and one.status == psutil.CONN_LISTEN}
    return sorted(taken & set(ports))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A lab that is up, in a folder whose path is too long for sockets, as a checkout's may be."""
    base = tmp_path_factory.mktemp("lab")
    where = base / ("a-long-name-" * 4) / "lab"
    began = time.monotonic()
    done = lab("up", "--dir", str(where))
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"up in {time.monotonic() - began:.1f} s")
    yield where
    known = environment(where)
    sockets = pathlib.Path(known["edges"]["hecate-edge-1"]["socket"]).parent
    done = lab("down", "--dir", str(where))
    assert done.returncode == 0, done.stdout + done.stderr
    assert not where.exists() and not sockets.exists()
    assert mentioning(base) == {}
    assert listening(list(known["ports"].values())) == []
    assert lab("down", "--dir", str(where)).returncode == 0


@pytest.fixture(scope="module")
def known(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads(lab("env", "--json", "--dir", str(folder)).stdout)


def test_up_again_and_status(folder: pathlib.Path) -> None:
    again = lab("up", "--dir", str(folder))
    assert (again.returncode, "already up" in again.stdout) == (0, True)
    status = lab("status", "--dir", str(folder))
    assert status.returncode == 0, status.stdout
    assert "not running" not in status.stdout


def test_only_loopback_listens(folder: pathlib.Path) -> None:
    mine = set(mentioning(folder))
    open_to_all = [
        one for one in psutil.net_connections("inet")
        if one.pid in mine and one.status == psutil.CONN_LISTEN and one.laddr.ip not in ("127.0.0.1", "::1")
    ]  # fmt: skip
    assert open_to_all == []


def test_shell_variables_lead_to_the_master(folder: pathlib.Path) -> None:
    script = f'eval "$({sys.executable} -m lab env --dir "$1")" && salt --out=json --static "hecate-*" test.ping'
    done = subprocess.run(["sh", "-c", script, "sh", str(folder)], cwd=REPO, capture_output=True, text=True, timeout=60)
    answers = json.loads(done.stdout)
    assert sorted(answers) == sorted(environment(folder)["salt"]["fleet"])
    assert all(answer is True for answer in answers.values())


def test_secrets_are_where_references_lead(known: dict[str, Any]) -> None:
    vault = hvac.Client(url=known["openbao"]["url"], token=known["openbao"]["token"])
    for name in ("authentik", "hetzner", "nomad"):
        found = vault.secrets.kv.v2.read_secret_version(f"hecate/{name}", raise_on_deleted_version=True)
        assert found["data"]["data"]["token"] == known[name]["token"]


def test_each_target_has_a_token_of_its_own_which_is_not_root(known: dict[str, Any]) -> None:
    tokens = known["openbao"]["targets"]
    assert set(tokens) == set(known["salt"]["fleet"]) and len({*tokens.values(), known["openbao"]["token"]}) == 6
    for minion, token in tokens.items():
        vault = hvac.Client(url=known["openbao"]["url"], token=token)
        assert vault.auth.token.lookup_self()["data"]["policies"] == ["default", minion]
        with pytest.raises(hvac.exceptions.Forbidden):
            vault.sys.list_policies()


def test_no_log_and_no_command_line_has_a_secret(folder: pathlib.Path, known: dict[str, Any]) -> None:
    secrets = [known[name]["token"] for name in ("openbao", "authentik", "hetzner", "nomad")]
    secrets += known["openbao"]["targets"].values()
    secrets += [user["password"] for user in known["authentik"]["users"].values()]
    texts = [" ".join(psutil.Process(pid).cmdline()) for pid in mentioning(folder)]
    texts += [log.read_text(errors="replace") for log in (folder / "log").iterdir()]
    assert not [text for text in texts if any(secret in text for secret in secrets)]


def test_emulators_want_their_tokens(known: dict[str, Any]) -> None:
    zones = f"{known['hetzner']['endpoint']}/zones"
    assert requests.get(zones, timeout=5).status_code == 401
    told = requests.get(zones, headers={"Authorization": f"Bearer {known['hetzner']['token']}"}, timeout=5).json()
    assert [zone["name"] for zone in told["zones"]] == ["estate.test"]
    answer = dns.query.udp(dns.message.make_query("estate.test", "SOA"), "127.0.0.1", 5, known["dns"]["port"])
    assert answer.answer
    assert requests.get(f"{known['nomad']['url']}/v1/jobs", timeout=5).status_code == 403
    groups = f"{known['authentik']['url']}/api/v3/core/groups/?name=platform-team"
    bearer = {"Authorization": f"Bearer {known['authentik']['token']}"}
    assert requests.get(groups, headers=bearer, timeout=5).json()["results"][0]["name"] == "platform-team"


def test_consul_is_closed_to_strangers(known: dict[str, Any]) -> None:
    if not known["consul"]:
        pytest.skip("no Consul here: " + "; ".join(known["notes"]))
    url = f"{known['consul']['url']}/v1/kv/hecate/test"
    assert requests.put(url, data=b"1", timeout=5).status_code == 403
    token = {"X-Consul-Token": known["consul"]["token"]}
    assert requests.put(url, data=b"1", headers=token, timeout=5).text.strip() == "true"
    assert requests.delete(url, headers=token, timeout=5).status_code == 200


def test_the_stranger_and_the_admin_api_answer(known: dict[str, Any]) -> None:
    for edge in known["edges"].values():
        assert requests.get(edge["stranger"]["url"], timeout=5).text == edge["stranger"]["says"]
        assert edge["stranger"]["server"] in client.admin(edge["socket"], "GET", "/config/")["apps"]["http"]["servers"]
        assert pathlib.Path(edge["socket"]).stat().st_mode & 0o777 == 0o600


def test_minions_see_a_pillar_that_leads_here(known: dict[str, Any]) -> None:
    environ = {**os.environ, "SALT_CONFIG_DIR": known["salt"]["config"]}
    argv = [f"{known['salt']['bin']}/salt", "--out=json", "--static", "hecate-edge-2", "pillar.get", "hecate"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=True)
    pillar = json.loads(done.stdout)["hecate-edge-2"]
    assert pillar["caddy"]["admin"] == known["edges"]["hecate-edge-2"]["admin"]
    dial = pillar["routes"]["cloud.estate.test"]["upstreams"][0]
    told = requests.get(f"http://{dial if isinstance(dial, str) else dial['dial']}/", timeout=5).json()
    assert told["upstream"] == "192.0.2.20:11000"


@pytest.fixture
def site(known: dict[str, Any]) -> Iterator[str]:
    """A site on edge 1 that leads to an echo and certifies itself by the edge's own CA."""
    edge = known["edges"]["hecate-edge-1"]
    port = requests.get(f"{known['echo']['url']}/port", params={"dial": "site:80"}, timeout=5).json()["port"]
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": f"127.0.0.1:{port}"}]}
    server = {"listen": [f"127.0.0.1:{edge['https']}"], "automatic_https": {"disable_redirects": True},
              "routes": [{"match": [{"host": ["site.test"]}], "handle": [proxy]}]}  # fmt: skip
    policies = [{"issuers": [{"module": "internal"}]}]
    client.admin(edge["socket"], "PUT", "/config/apps/tls", {"automation": {"policies": policies}})
    client.admin(edge["socket"], "PUT", "/config/apps/http/servers/site", server)
    yield "https://site.test"
    client.admin(edge["socket"], "DELETE", "/config/apps/http/servers/site")
    client.admin(edge["socket"], "DELETE", "/config/apps/tls")


def test_a_visitor_reaches_any_name_on_an_edge_and_checks_its_certificate(known: dict[str, Any], site: str) -> None:
    visitor = client.Visitor(known)
    for _ in range(50):  # Caddy signs the certificate in the background.
        try:
            told = visitor.ask(f"{site}/a?b=c", headers={"X-One": "1"})
            break
        except requests.exceptions.SSLError:
            time.sleep(0.1)
    assert (told["upstream"], told["path"], told["headers"]["Host"]) == ("site:80", "/a?b=c", "site.test")
    assert told["headers"]["X-One"] == "1"
    assert "stands in for" in visitor.get(site).text
    with pytest.raises(requests.exceptions.SSLError):
        visitor.get("https://other.test/")
    with pytest.raises(requests.exceptions.SSLError):
        other = client.admin(known["edges"]["hecate-edge-2"]["socket"], "GET", "/pki/ca/local")["root_certificate"]
        client.Visitor(known, root=other).get(site)


def test_a_restarted_edge_goes_on_from_what_it_had(folder: pathlib.Path, known: dict[str, Any]) -> None:
    edge = known["edges"]["hecate-edge-2"]
    state = json.loads((folder / "lab.json").read_text())
    before = client.admin(edge["socket"], "GET", "/config/")
    psutil.Process(state["processes"]["hecate-edge-2"]["pid"]).kill()
    assert lab("status", "--dir", str(folder)).returncode == 1
    lifecycle.restart(folder, "hecate-edge-2", print)
    assert client.admin(edge["socket"], "GET", "/config/") == before
    assert lab("status", "--dir", str(folder)).returncode == 0


def test_a_second_lab_beside_it(folder: pathlib.Path, known: dict[str, Any], tmp_path: pathlib.Path) -> None:
    (tmp_path / "pillar").mkdir()
    (tmp_path / "pillar/top.sls").write_text("base: {'*': [own]}\n")
    own = {"hecate": {"dns": {"zones": {"a.test": {}, "b.test": {}}}, "routes": {"a.test": {"upstreams": ["x:1"]}}}}
    (tmp_path / "pillar/own.sls").write_text(json.dumps(own))
    second = tmp_path / "second"
    done = lab("up", "--dir", str(second), "--pillar", str(tmp_path / "pillar"))
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        other = environment(second)
        assert not set(other["ports"].values()) & set(known["ports"].values())
        bearer = {"Authorization": f"Bearer {other['hetzner']['token']}"}
        zones = requests.get(f"{other['hetzner']['endpoint']}/zones", headers=bearer, timeout=5).json()["zones"]
        assert [zone["name"] for zone in zones] == ["a.test", "b.test"]
    finally:
        assert lab("down", "--dir", str(second)).returncode == 0
    assert mentioning(second) == {}
    assert lab("status", "--dir", str(folder)).returncode == 0
