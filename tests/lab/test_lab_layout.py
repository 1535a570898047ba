"""The lab's folder, its ports, its secrets, the configurations that it writes."""

from __future__ import annotations

import json
import pathlib
import socket
from collections.abc import Iterator

import pytest

from lab import caddy, consul, credentials, emulated, environ, openbao, salt_config
from lab.layout import Lab, LabError, exclusively
from lab.ports import Reservations, bound
from lab.services import table


@pytest.fixture
def lab(tmp_path: pathlib.Path) -> Iterator[Lab]:
    """A lab with everything chosen and nothing started."""
    made = Lab.create(tmp_path / "lab", tmp_path)
    credentials.create(made.folder / "secrets")
    names = [port for service in table("/usr/bin/consul").values() for port in service.ports]
    made.update(ports={name: 20000 + n for n, name in enumerate(names)}, consul="/usr/bin/consul")
    yield made
    made.remove()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LabError, match="not empty"):
        Lab.create(tmp_path, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_record_survives(lab: Lab) -> None:
    lab.put("processes", "x", {"pid": 1, "created": 2.0})
    again = Lab.load(lab.folder)
    assert again and again.record == lab.record
    assert lab.folder.stat().st_mode & 0o777 == 0o700
    assert Lab.load(lab.folder / "nothing") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 999}'])
def test_a_record_that_cannot_be_read_is_not_taken_for_no_lab(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError):
        Lab.load(tmp_path)


def test_long_paths_keep_their_sockets_elsewhere(tmp_path: pathlib.Path) -> None:
    lab = Lab.create(tmp_path / ("long" * 20), tmp_path)
    assert lab.sockets.parent == pathlib.Path("/tmp") and lab.sockets.stat().st_mode & 0o777 == 0o700
    for sock in (caddy.socket(lab, "hecate-edge-1"), lab.sockets / "hecate-controller" / ("minion_event_" + "x" * 20)):
        assert len(str(sock)) < 100
    lab.remove()
    assert not lab.sockets.exists() and not lab.folder.exists()


def test_two_commands_do_not_work_on_one_lab(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "lab"
    with exclusively(folder), pytest.raises(LabError, match="another lab command"), exclusively(folder):
        raise AssertionError("both got in")
    assert not folder.exists()


def test_ports_are_held_until_released() -> None:
    reservations = Reservations()
    port = reservations.hold("one")
    with socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", port))
    reservations.release("one")
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
    again = reservations.hold("one")
    reservations.hold("one")
    reservations.release_all()
    assert again


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    tcp, udp = bound()
    with tcp, udp:
        assert tcp.getsockname()[1] == udp.getsockname()[1] < first


def test_secrets_are_their_owners(lab: Lab) -> None:
    for name in credentials.TOKENS:
        file = lab.folder / "secrets" / name
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(credentials.read(lab.folder / "secrets", name)) >= 32


def test_no_secret_in_arguments_or_in_the_record(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.services.program", lambda name: f"/bin/{name}")
    monkeypatch.setattr("lab.pillar_view.of", lambda lab: {"hecate": {}})
    values = [credentials.read(lab.folder / "secrets", name) for name in credentials.TOKENS]
    shown = [lab.folder.joinpath("lab.json").read_text()]
    shown += [" ".join(service.command(lab).argv) for service in table("/usr/bin/consul").values()]
    assert not [value for value in values if any(value in text for text in shown)]
    for file in lab.folder.rglob("*"):
        if file.is_file() and any(value in file.read_text() for value in values):
            assert file.stat().st_mode & 0o777 == 0o600, file


def test_everything_listens_on_loopback(lab: Lab) -> None:
    base = caddy.base(lab, "hecate-edge-1")
    assert base["admin"]["listen"] == f"unix/{lab.sockets}/hecate-edge-1.sock|0600"
    assert base["apps"]["http"]["servers"][caddy.STRANGER]["listen"][0].startswith("127.0.0.1:")
    assert base["apps"]["pki"]["certificate_authorities"]["local"]["install_trust"] is False
    settings = consul.configuration(lab)
    assert settings["bind_addr"] == settings["client_addr"] == "127.0.0.1"
    assert f"-dev-listen-address=127.0.0.1:{lab.port('openbao')}" in openbao.arguments(lab)
    master = json.loads((salt_config.master(lab) / "master").read_text())
    assert master["interface"] == "127.0.0.1"


def test_salt_daemons_share_no_folder(lab: Lab) -> None:
    files = [salt_config.master(lab) / "master"]
    files += [salt_config.minion(lab, name) / "minion" for name in salt_config.MINIONS]
    files += [salt_config.proxy(lab, name) / "proxy" for name in salt_config.PROXIES]
    settings = [json.loads(file.read_text()) for file in files]
    for key in ("pki_dir", "cachedir", "sock_dir", "pidfile", "extension_modules", "log_file"):
        assert len({one[key] for one in settings}) == len(settings), key
    order = [next(iter(one)) for one in settings[0]["ext_pillar"]]
    assert order == ["hecate_lab", "hecate"]


@pytest.mark.parametrize(
    ("hecate", "expected"),
    [
        ({}, "https://hera.estate.test"),
        ({"authentik": {"url": "https://a.test"}, "routes": {"a.test": {}}}, "https://a.test"),
        (
            {
                "authentik": {"url": "http://10.0.0.2:9000", "outpost": "10.0.0.2:9000"},
                "routes": {"b.test": {"upstreams": ["10.0.0.2:9000"]}},
            },
            "https://b.test",
        ),
        ({"authentik": {"url": "https://a.test"}}, "https://a.test"),
        ({"authentik": "text"}, "https://hera.estate.test"),
    ],
)
def test_where_browsers_reach_authentik(hecate: dict[str, object], expected: str) -> None:
    assert emulated.public_url(hecate) == expected


def test_every_secret_that_a_pillar_refers_to_is_found() -> None:
    pillar = {
        "applications": {"a": {"oauth2": {"client_secret": "vault:apps/a#client_secret"}}},
        "list": [{"x": "vault:b#y"}, "vault:b#y and more", "env:HOME", 3],
    }
    assert list(openbao.referred(pillar)) == [("apps/a", "client_secret"), ("b", "y")]
    assert list(openbao.referred(None)) == []


def test_consul_can_be_left_out(tmp_path: pathlib.Path) -> None:
    path, why = consul.find({"LAB_NO_CONSUL": "1", "PATH": ""})
    assert path is None and "embedded store" in why
    (tmp_path / "consul").write_text("#!/bin/sh\n")
    (tmp_path / "consul").chmod(0o755)
    assert consul.find({"PATH": str(tmp_path)}) == (str(tmp_path / "consul"), "")
    assert "consul" not in table(None)


def test_env_is_for_a_lab_that_is_up(lab: Lab) -> None:
    with pytest.raises(LabError, match="no lab is up"):
        environ.environment(lab.folder)
    lab.update(state="up")
    document = environ.environment(lab.folder)
    json.dumps(document)
    assert document["edges"]["hecate-edge-1"]["https"] == lab.port("hecate-edge-1-https")
    users = document["authentik"]["users"]
    assert list(users) == list(credentials.PEOPLE) == list(emulated.PEOPLE)
    assert users["alice"]["groups"] == users["bob"]["groups"] == ["platform-team"] and not users["mallory"]["groups"]
    text = environ.as_shell(document)
    assert f"export SALT_CONFIG_DIR={lab.folder}/config/salt-master" in text
    assert text.splitlines()[-1].startswith("export PATH=")
    assert "HECATE_LAB_SERVICE" not in text  # `down` would take the user's shell for one of its own.
