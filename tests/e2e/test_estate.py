"""The promises of the first slice, in the order in which a newcomer meets them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import psutil
import pytest

from .conftest import EMULATORS, Estate

pytestmark = pytest.mark.lab
PUBLIC = {
    "cloud.estate.test": "192.0.2.20:11000",
    "s3.estate.test": "192.0.2.20:8123",
    "s3api.estate.test": "192.0.2.20:9123",
    "delphi.estate.test": "https://192.0.2.30",
    "estate.test": "192.0.2.20:8009",
}
GUARDED = {"observe.estate.test": "192.0.2.20:8069", "jenkins.estate.test": "192.0.2.20:8059"}
EDGES = ["hecate-edge-1", "hecate-edge-2"]


def test_the_demo_says_what_is_where(estate: Estate) -> None:
    assert "8 routes on 2 edges, 10 DNS records, 3 applications behind authentik" in estate.demo
    for part in ("Try next", "routes.sls", "salt-run hecate.plan", "make demo-down"):
        assert part in estate.demo


@pytest.mark.parametrize("edge", EDGES)
def test_every_public_route_answers_over_tls(estate: Estate, edge: str) -> None:
    for host, dial in PUBLIC.items():
        got = estate.visitor(edge).ask(f"https://{host}/some/path?x=1")
        assert got["upstream"] == dial and got["path"] == "/some/path?x=1"


@pytest.mark.parametrize("edge", EDGES)
def test_plain_http_is_sent_to_https(estate: Estate, edge: str) -> None:
    answer = estate.visitor(edge).get("http://cloud.estate.test/", allow_redirects=False)
    assert answer.status_code == 308 and answer.headers["Location"].startswith("https://cloud.estate.test")


def test_the_name_server_answers_what_was_applied(estate: Estate) -> None:
    for host in [*PUBLIC, *GUARDED, "hera.estate.test"]:
        assert estate.answers(host) == ["203.0.113.10"]
    assert estate.answers("estate.test", "TXT") == ['"v=spf1 -all"']


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("host", GUARDED)
def test_a_member_gets_through_with_an_identity(estate: Estate, edge: str, host: str) -> None:
    visitor = estate.visitor(edge)
    page = visitor.get(f"https://{host}/dashboards")
    assert page.url.startswith("https://hera.estate.test/if/flow/"), "a stranger is sent to login"
    assert visitor.login("alice", estate.password("alice")).status_code == 200
    got = visitor.ask(f"https://{host}/dashboards", headers={"X-Authentik-Username": "admin", "X-Authentik-Foo": "bar"})
    headers = {name.lower(): value for name, value in got["headers"].items()}
    assert got["upstream"] == GUARDED[host]
    assert headers["x-authentik-username"] == "alice" and "platform-team" in headers["x-authentik-groups"]
    assert "x-authentik-foo" not in headers


def test_a_non_member_is_refused(estate: Estate) -> None:
    visitor = estate.visitor()
    visitor.get("https://jenkins.estate.test/")
    assert visitor.login("mallory", estate.password("mallory")).status_code == 403
    assert visitor.get("https://jenkins.estate.test/").status_code == 403


def test_who_is_logged_in_without_a_second_factor_is_refused_where_one_is_wanted(estate: Estate) -> None:
    visitor = estate.visitor()
    visitor.get("https://observe.estate.test/")
    assert visitor.login("bob", estate.password("bob")).status_code == 200
    assert visitor.get("https://jenkins.estate.test/").status_code == 403
    assert visitor.ask("https://observe.estate.test/")["upstream"] == GUARDED["observe.estate.test"]


def test_an_application_that_logs_in_by_itself_lets_in_by_attribute(estate: Estate) -> None:
    opened = {name: estate.may_open("nextcloud", name) for name in ("alice", "bob", "mallory")}
    assert opened == {"alice": True, "bob": True, "mallory": False}


@pytest.mark.parametrize("edge", EDGES)
def test_no_identity_from_outside_reaches_any_upstream(estate: Estate, edge: str) -> None:
    spoofed = {"X-Authentik-Username": "admin", "x-authentik-groups": "admins", "X-AUTHENTIK-UID": "1"}
    for host in PUBLIC:
        got = estate.visitor(edge).ask(f"https://{host}/", headers=spoofed)
        assert not [name for name in got["headers"] if name.lower().startswith("x-authentik")], host
    for host in GUARDED:
        answer = estate.visitor(edge).get(f"https://{host}/", headers=spoofed, allow_redirects=False)
        assert answer.status_code == 302


def test_the_same_deploy_again_writes_nothing(estate: Estate) -> None:
    before, held = estate.writes(), estate.everything()
    code, text = estate.deploy()
    assert code == 0, text
    assert (estate.writes(), estate.everything()) == (before, held), text
    assert estate.plan()[0] == 0


def test_a_highstate_of_any_target_does_its_part_and_no_more(estate: Estate) -> None:
    before = estate.writes()
    code, text = estate.run("salt", "hecate-*", "state.highstate", "--out=json", "--static")
    assert code == 0, text
    returned = json.loads(text[text.index("{") :])
    assert set(returned) == set(estate.known["salt"]["fleet"])
    assert all(state["result"] is True and not state["changes"] for r in returned.values() for state in r.values())
    assert estate.writes() == before


def test_one_upstream_edited_is_one_write_per_edge(estate: Estate) -> None:
    def move(hecate: dict[str, Any]) -> None:
        hecate["routes"]["cloud.estate.test"]["upstreams"] = ["192.0.2.99:11000"]

    estate.edit("routes.sls", move)
    before = estate.writes()
    code, plan = estate.plan()
    assert code == 2
    assert plan.count("~ caddy.route cloud.estate.test") == 2 and plan.count("nothing to do") == 4
    assert estate.writes() == before, "a plan writes nothing"
    test_code, told = estate.run("salt", "hecate-*", "state.highstate", "test=True")
    assert test_code == 0 and "~ caddy.route cloud.estate.test" in told
    assert estate.writes() == before, "test=True writes nothing"
    code, text = estate.deploy()
    assert code == 0, text
    assert estate.writes() == {**before, **{edge: before[edge] + 1 for edge in EDGES}}
    for edge in EDGES:
        assert estate.visitor(edge).ask("https://cloud.estate.test/")["upstream"] == "192.0.2.99:11000"
    estate.restore_pillar()
    assert estate.deploy()[0] == 0


def test_a_wrong_pillar_is_refused_before_any_call(estate: Estate) -> None:
    def spoil(hecate: dict[str, Any]) -> None:
        routes = hecate["routes"]
        routes["observe.estate.test"]["auth_policy"] = "nobody"
        routes["not a domain"] = {"upstreams": ["192.0.2.1:80"]}
        routes["s3.estate.test"]["colour"] = "red"
        routes["s3api.estate.test"]["hosts"] = ["s3.estate.test"]

    estate.edit("routes.sls", spoil)
    before = {system: estate.emulator(system, "counts") for system in EMULATORS}
    paths = [
        "hecate:routes:observe.estate.test:auth_policy",
        "hecate:routes:not a domain",
        "hecate:routes:s3.estate.test:colour",
        "hecate:routes:s3api.estate.test",
    ]
    for words in (["hecate.validate"], ["hecate.plan"], ["state.orch", "hecate.deploy"]):
        code, text = estate.run("salt-run", *words)
        assert code == 1
        assert all(path in text for path in paths), text
    code, text = estate.run("salt", "hecate-*", "state.highstate")
    assert code != 0 and all(path in text for path in paths)
    assert {system: estate.emulator(system, "counts") for system in EMULATORS} == before


def test_hand_written_states_stand_beside_the_pillar(estate: Estate) -> None:
    before = estate.everything()
    route = ["hand.estate.test", "upstreams=['192.0.2.20:8009']"]

    def single(minion: str, function: str, *words: str) -> dict[str, Any]:
        answer = estate.call(minion, "state.single", function, *words)
        return next(iter(answer.values()))  # type: ignore[no-any-return]

    try:
        assert single("hecate-edge-1", "hecate_caddy.route_present", *route, "test=True")["result"] is None
        made = single("hecate-edge-1", "hecate_caddy.route_present", *route)
        assert made["result"] is True and "caddy.route hand.estate.test" in made["changes"]
        assert single("hecate-edge-1", "hecate_caddy.route_present", *route)["changes"] == {}
        assert "hand.estate.test" in estate.call("hecate-edge-1", "hecate_caddy.list")
        rrset = ["name=hand", "zone=estate.test", "type=A", "records=['203.0.113.77']"]
        assert single("hecate-dns", "hecate_hetzner_dns.rrset_present", *rrset)["result"] is True
        assert estate.answers("hand.estate.test") == ["203.0.113.77"]
        groups = ["hand.estate.test", "groups=['platform-team']"]
        assert single("hecate-authentik", "hecate_authentik.application_present", *groups)["result"] is True
        assert "hand-estate-test" in estate.call("hecate-authentik", "hecate_authentik.list")
    finally:
        single("hecate-authentik", "hecate_authentik.application_absent", "hand.estate.test")
        single("hecate-dns", "hecate_hetzner_dns.rrset_absent", "name=hand", "zone=estate.test", "type=A")
        single("hecate-edge-1", "hecate_caddy.route_absent", "hand.estate.test")
    assert estate.everything() == before


def test_looking_at_one_thing_shows_both_sides(estate: Estate) -> None:
    told = estate.call("hecate-dns", "hecate_hetzner_dns.show", "estate.test/cloud/A")
    assert told["wanted"]["records"] == told["held"]["records"] == ["203.0.113.10"]
    assert told["pillar"] == "hecate:routes:cloud.estate.test:dns"


def test_a_job_goes_back_to_an_earlier_version(estate: Estate) -> None:
    def slower(hecate: dict[str, Any]) -> None:
        hecate["workloads"]["heartbeat"]["config"]["args"] = ["99999"]

    estate.edit("workloads.sls", slower)
    assert estate.call("hecate-controller", "hecate_nomad.apply")
    assert estate.jobs()[0][1]["config"]["args"] == ["99999"]
    versions = estate.emulator("nomad", "counts")
    assert versions["writes"]
    told = estate.call("hecate-controller", "hecate_nomad.revert", "heartbeat", "0")
    assert "version 0" in told and estate.jobs()[0][1]["config"]["args"] == ["86400"]
    estate.restore_pillar()
    assert estate.plan()[0] == 0


def test_terraform_s_outputs_are_in_pillar(estate: Estate) -> None:
    pillar = estate.call("hecate-dns", "pillar.items")
    assert pillar["hecate"]["terraform"]["outputs"] == {"edge_address": "203.0.113.10"}


def test_status_and_history_tell_what_happened(estate: Estate) -> None:
    code, text = estate.run("salt-run", "hecate.status")
    assert code == 0 and "free" in text and "DOES NOT ANSWER" not in text
    code, text = estate.run("salt-run", "hecate.history", "--out=json")
    newest = json.loads(text)[0].split()[0]
    code, text = estate.run("salt-run", "hecate.show", newest, "--out=json")
    assert code == 0 and json.loads(text)["pillar"]["authentik"]["token"] == "vault:hecate/authentik#token"


def test_strangers_in_caddy_are_left_alone(estate: Estate) -> None:
    for edge in EDGES:
        stranger = estate.known["edges"][edge]["stranger"]
        assert estate.caddy(edge).config()[0]["apps"]["http"]["servers"][stranger["server"]]


def test_no_emulator_saw_a_call_that_its_api_does_not_know(estate: Estate) -> None:
    for system in EMULATORS:
        assert estate.emulator(system, "violations") == []


def test_caddy_s_admin_api_is_on_no_port(estate: Estate) -> None:
    for edge in EDGES:
        ports = {estate.known["edges"][edge][k] for k in ("http", "https")}
        mine = [str(estate.folder), edge]
        found = [
            p for p in psutil.process_iter(["cmdline"]) if all(m in " ".join(p.info["cmdline"] or ()) for m in mine)
        ]
        pid = next(p for p in found if p.name() == "caddy")
        listening = {c.laddr.port for c in pid.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        stranger = int(estate.known["edges"][edge]["stranger"]["url"].rpartition(":")[2])
        assert listening <= ports | {stranger}


def test_status_of_the_lab_is_all_running(estate: Estate) -> None:
    words = [f"{estate.known['salt']['bin']}/python", "-m", "lab", "status", "--dir", str(estate.folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
