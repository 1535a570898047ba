"""The Hetzner emulator, as Hetzner's own client and a resolver see it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import hcloud
import pytest
import requests
from hcloud import APIException
from hcloud.actions import ActionFailedException, ActionTimeoutException
from hcloud.zones import BoundZone, ZoneRecord

from lab.emulators.base import Fault, running, specs
from lab.emulators.hetzner import HetznerDns, dns_running

TOKEN = "canary-hetzner-token"
ZONE = "estate.test"


class World:
    """One emulator with its name server, and the official client on it."""

    def __init__(self, app: HetznerDns, url: str, dns_port: int) -> None:
        self.app, self.url, self.dns_port = app, url, dns_port
        self.client = hcloud.Client(token=TOKEN, api_endpoint=url + "/v1", poll_interval=0.01, poll_max_retries=20)

    @property
    def zone(self) -> BoundZone:
        return self.client.zones.get(ZONE)

    def make(self, name: str, kind: str, *values: str, ttl: int | None = None) -> None:
        records = [ZoneRecord(value=value) for value in values]
        self.zone.create_rrset(name=name, type=kind, ttl=ttl, records=records).action.wait_until_finished()

    def ask(self, name: str, kind: str = "A", tcp: bool = False) -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        send = dns.query.tcp if tcp else dns.query.udp
        return send(query, "127.0.0.1", port=self.dns_port, timeout=2)

    def serial(self) -> int:
        return int(self.ask(ZONE, "SOA").answer[0][0].serial)


@contextlib.contextmanager
def a_world(**options: float) -> Iterator[World]:
    app = HetznerDns(TOKEN, (ZONE,), action_seconds=0.03, **options)  # type: ignore[arg-type]
    with running(app) as url, dns_running(app.resolver()) as dns_port:
        yield World(app, url, dns_port)


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made
        assert made.app.violations == []


def values(world: World, name: str, kind: str) -> list[str]:
    return sorted(record.value for record in world.zone.get_rrset(name, kind).records or [])


def answers(message: dns.message.Message) -> list[str]:
    return sorted(item.to_text() for rrset in message.answer for item in rrset)


def test_zone_has_soa_and_ns_from_the_start(world: World) -> None:
    assert {(r.name, r.type) for r in world.zone.get_rrset_all()} == {("@", "SOA"), ("@", "NS")}
    assert len(answers(world.ask(ZONE, "NS"))) == 3


def test_rrset_life_through_the_official_client(world: World) -> None:
    world.make("app", "A", "203.0.113.10", ttl=300)
    rrset = world.zone.get_rrset("app", "A")
    assert (rrset.ttl, rrset.labels, rrset.protection) == (300, {}, {"change": False})
    world.zone.set_rrset_records(rrset, [ZoneRecord("203.0.113.11", comment="new")]).wait_until_finished()
    world.zone.add_rrset_records(rrset, [ZoneRecord("203.0.113.12")]).wait_until_finished()
    assert values(world, "app", "A") == ["203.0.113.11", "203.0.113.12"]
    world.zone.update_rrset_records(rrset, [ZoneRecord("203.0.113.12", comment="c")]).wait_until_finished()
    world.zone.change_rrset_ttl(rrset, None).wait_until_finished()
    assert world.zone.update_rrset(rrset, labels={"owner": "hecate"}).labels == {"owner": "hecate"}
    assert world.zone.get_rrset("app", "A").ttl is None
    world.zone.remove_rrset_records(rrset, [ZoneRecord("203.0.113.11")]).wait_until_finished()
    assert values(world, "app", "A") == ["203.0.113.12"]
    world.zone.delete_rrset(rrset).action.wait_until_finished()
    with pytest.raises(APIException) as caught:
        world.zone.get_rrset("app", "A")
    assert caught.value.code == "not_found"


def test_add_makes_and_remove_of_the_last_deletes(world: World) -> None:
    call = {"headers": {"Authorization": f"Bearer {TOKEN}"}, "json": {"records": [{"value": '"v=spf1 -all"'}]}}
    base = f"{world.url}/v1/zones/{ZONE}/rrsets/@/TXT"
    assert requests.post(base + "/actions/add_records", timeout=2, **call).status_code == 201
    assert values(world, "@", "TXT") == ['"v=spf1 -all"']
    assert requests.post(base + "/actions/remove_records", timeout=2, **call).status_code == 201
    assert requests.get(base, timeout=2, headers=call["headers"]).status_code == 404


def test_pages_and_label_selector(world: World) -> None:
    zone = world.app.find(ZONE)
    for number in range(60):
        world.app.state.put(zone, f"h{number}", "A", [{"value": "192.0.2.1"}], labels={"n": str(number)})
    assert len(world.zone.get_rrset_all()) == 62
    assert [r.name for r in world.zone.get_rrset_all(label_selector="n in (3,4),n!=4")] == ["h3"]
    assert {r.name for r in world.zone.get_rrset_all(label_selector="!n")} == {"@"}
    assert [r.name for r in world.zone.get_rrset_all(name="h7", type=["A"])] == ["h7"]
    page = world.zone.get_rrset_list(page=2, per_page=25)
    assert (len(page.rrsets), page.meta.pagination.next_page, page.meta.pagination.total_entries) == (25, 3, 62)
    with pytest.raises(APIException) as caught:
        world.zone.get_rrset_list(per_page=101)
    assert caught.value.code == "invalid_input"


def test_zones_are_made_listed_and_deleted(world: World) -> None:
    made = world.client.zones.create(name="second.test", mode="primary", labels={"a": "b"})
    made.action.wait_until_finished()
    assert [z.name for z in world.client.zones.get_all(label_selector="a=b")] == ["second.test"]
    assert world.ask("second.test", "SOA").rcode() == dns.rcode.NOERROR
    with pytest.raises(APIException) as caught:
        world.client.zones.create(name="second.test", mode="primary")
    assert caught.value.code == "uniqueness_error"
    made.zone.change_protection(delete=True).wait_until_finished()
    with pytest.raises(APIException) as caught:
        made.zone.delete()
    assert caught.value.code == "protected"
    made.zone.change_protection(delete=False).wait_until_finished()
    made.zone.delete().action.wait_until_finished()
    assert world.ask("second.test", "SOA").rcode() == dns.rcode.REFUSED


def test_zonefile_goes_out_and_comes_in(world: World) -> None:
    world.make("app", "A", "203.0.113.10")
    before = world.zone.export_zonefile().zonefile
    world.make("other", "A", "203.0.113.11")
    world.zone.import_zonefile(before).wait_until_finished()
    assert values(world, "app", "A") == ["203.0.113.10"]
    assert answers(world.ask(f"app.{ZONE}")) == ["203.0.113.10"]
    assert world.ask(f"other.{ZONE}").rcode() == dns.rcode.NXDOMAIN
    with pytest.raises(APIException) as caught:
        world.zone.import_zonefile("app IN A 203.0.113.10\n")
    assert caught.value.code == "invalid_input"


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("a", "A", "203.0.113.300"),
        ("a", "A", "2001:db8::1"),
        ("a", "AAAA", "203.0.113.1"),
        ("a", "TXT", "not quoted"),
        ("a", "TXT", '"' + "x" * 256 + '"'),
        ("a", "MX", "mail"),
        ("@", "CNAME", "other.test."),
        ("UPPER", "A", "203.0.113.1"),
        ("a.estate.test", "A", "203.0.113.1"),
        ("a b", "A", "203.0.113.1"),
    ],
)
def test_what_hetzner_refuses(world: World, name: str, kind: str, value: str) -> None:
    before = world.serial()
    with pytest.raises(APIException) as caught:
        world.make(name, kind, value)
    assert caught.value.code == "invalid_input"
    assert world.serial() == before


def test_cname_stands_alone(world: World) -> None:
    world.make("a", "A", "203.0.113.1")
    with pytest.raises(APIException, match="coexist"):
        world.make("a", "CNAME", "b")
    world.make("c", "CNAME", "a")
    with pytest.raises(APIException, match="CNAME"):
        world.make("c", "TXT", '"x"')


def test_existing_rrset_and_soa_and_protection(world: World) -> None:
    world.make("a", "A", "203.0.113.1")
    with pytest.raises(APIException) as caught:
        world.make("a", "A", "203.0.113.2")
    assert caught.value.code == "uniqueness_error"
    with pytest.raises(APIException, match="SOA"):
        world.zone.delete_rrset(world.zone.get_rrset("@", "SOA"))
    rrset = world.zone.get_rrset("a", "A")
    world.zone.change_rrset_protection(rrset, change=True).wait_until_finished()
    for attempt in (
        lambda: world.zone.set_rrset_records(rrset, [ZoneRecord("203.0.113.2")]),
        lambda: world.zone.delete_rrset(rrset),
        lambda: world.zone.change_rrset_ttl(rrset, 300),
    ):
        with pytest.raises(APIException) as caught:
            attempt()
        assert caught.value.code == "protected"
    assert values(world, "a", "A") == ["203.0.113.1"]


def test_ttl_below_60_is_refused_in_hetzners_shape() -> None:
    with a_world() as world, pytest.raises(APIException) as caught:
        world.make("a", "A", "203.0.113.1", ttl=30)
    assert caught.value.code == "invalid_input"


def test_wrong_token_is_refused_and_never_shown(world: World) -> None:
    other = hcloud.Client(token="wrong", api_endpoint=world.url + "/v1")
    with pytest.raises(APIException) as caught:
        other.zones.get_all()
    assert caught.value.code == "unauthorized"
    world.zone  # noqa: B018
    shown = "".join(requests.get(world.url + "/_lab/" + what, timeout=2).text for what in ("calls", "state"))
    assert TOKEN not in shown and "published" in shown


def test_action_runs_before_it_succeeds_and_dns_follows_it(world: World) -> None:
    world.app.action_seconds = 0.2
    action = world.zone.create_rrset(name="a", type="A", records=[ZoneRecord("203.0.113.1")]).action
    assert action.status == "running"
    assert world.client.actions.get_by_id(action.id).status == "running"
    assert world.ask(f"a.{ZONE}").rcode() == dns.rcode.NXDOMAIN
    action.wait_until_finished()
    assert answers(world.ask(f"a.{ZONE}")) == ["203.0.113.1"]
    found = requests.get(f"{world.url}/v1/actions?id={action.id}", timeout=2,
                         headers={"Authorization": f"Bearer {TOKEN}"}).json()["actions"]  # fmt: skip
    assert [a["status"] for a in found] == ["success"]


def test_action_error_changes_nothing(world: World) -> None:
    world.app.set_faults([Fault(kind="action-error")])
    before = world.serial()
    with pytest.raises(ActionFailedException):
        world.make("a", "A", "203.0.113.1")
    assert world.serial() == before
    assert world.zone.get_rrset_all(name="a") == []


def test_action_that_hangs(world: World) -> None:
    world.app.set_faults([Fault(method="POST", kind="action-hang")])
    with pytest.raises(ActionTimeoutException):
        world.make("a", "A", "203.0.113.1")


def test_rate_limit_and_its_headers() -> None:
    with a_world(rate_limit=3) as world:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        got = [requests.get(world.url + "/v1/zones", headers=headers, timeout=2) for _ in range(4)]
        assert [g.status_code for g in got] == [200, 200, 200, 429]
        assert [g.headers["RateLimit-Remaining"] for g in got] == ["2", "1", "0", "0"]
        assert got[0].headers["RateLimit-Limit"] == "3"
        assert int(got[3].headers["RateLimit-Reset"]) > time.time()
        assert got[3].json()["error"]["code"] == "rate_limit_exceeded"


def test_dns_answers_with_authority(world: World) -> None:
    before = world.serial()
    world.make("app", "A", "203.0.113.10", "203.0.113.11", ttl=120)
    world.make("app", "AAAA", "2001:db8::10")
    world.make("www", "CNAME", "app")
    world.make("out", "CNAME", "elsewhere.example.")
    world.make("dangling", "CNAME", f"nothing.{ZONE}.")
    world.make("deep.under", "TXT", '"one" "two"')
    world.make("@", "MX", "10 mail.elsewhere.example.")
    world.make("*.wild", "A", "203.0.113.99")
    assert world.serial() > before
    for tcp in (False, True):
        got = world.ask(f"APP.{ZONE}", tcp=tcp)
        assert got.flags & dns.flags.AA and got.answer[0].ttl == 120
        assert answers(got) == ["203.0.113.10", "203.0.113.11"]
    assert answers(world.ask(f"app.{ZONE}", "AAAA")) == ["2001:db8::10"]
    assert answers(world.ask(f"www.{ZONE}")) == ["203.0.113.10", "203.0.113.11", f"app.{ZONE}."]
    assert answers(world.ask(f"out.{ZONE}")) == ["elsewhere.example."]
    assert world.ask(f"dangling.{ZONE}").rcode() == dns.rcode.NXDOMAIN
    assert answers(world.ask(f"deep.under.{ZONE}", "TXT")) == ['"one" "two"']
    assert answers(world.ask(ZONE, "MX")) == ["10 mail.elsewhere.example."]
    assert answers(world.ask(f"any.wild.{ZONE}")) == ["203.0.113.99"]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        (f"none.{ZONE}", "A", dns.rcode.NXDOMAIN),
        (f"app.{ZONE}", "MX", dns.rcode.NOERROR),
        (f"under.{ZONE}", "A", dns.rcode.NOERROR),  # exists only through what is below it
    ],
)
def test_absent_name_and_absent_type(world: World, name: str, kind: str, code: int) -> None:
    world.make("app", "A", "203.0.113.10")
    world.make("deep.under", "TXT", '"x"')
    got = world.ask(name, kind)
    assert (got.rcode(), got.answer) == (code, [])
    assert got.authority[0].rdtype == dns.rdatatype.SOA


def test_a_strangers_name_is_refused(world: World) -> None:
    got = world.ask("example.com")
    assert got.rcode() == dns.rcode.REFUSED and not got.flags & dns.flags.AA


@pytest.mark.skipif(specs("hcloud-v1.json") is None, reason="the API descriptions (../shared/specs) are absent")
def test_a_wrong_request_is_caught_by_the_description() -> None:
    with a_world() as world:
        answer = requests.post(
            f"{world.url}/v1/zones/{ZONE}/rrsets", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=2,
            json={"name": "a", "type": "A", "records": [{"value": "203.0.113.1", "coment": "typo"}]},
        )  # fmt: skip
        assert answer.status_code == 422
        assert answer.json()["problems"] == ["unknown field records[0].coment"]
        assert world.app.violations[0]["side"] == "request"
        assert world.zone.get_rrset_all(name="a") == []


def test_as_a_process(tmp_path: pathlib.Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    pidfile = tmp_path / "pid"
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(2):
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))
            ports.append(str(taken.getsockname()[1]))
    process = subprocess.Popen(
        [sys.executable, "-m", "lab.emulators.hetzner", "--port", ports[0], "--dns-port", ports[1],
         "--zone", ZONE, "--token-file", str(token), "--pidfile", str(pidfile)],
        stdout=subprocess.PIPE, text=True, cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    assert "hetzner emulator on" in process.stdout.readline()
    client = hcloud.Client(token=TOKEN, api_endpoint=f"http://127.0.0.1:{ports[0]}/v1")
    assert [zone.name for zone in client.zones.get_all()] == [ZONE]
    assert int(pidfile.read_text()) == process.pid
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(5) == 0
    assert not pidfile.exists()
