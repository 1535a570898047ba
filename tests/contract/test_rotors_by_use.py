"""Secrets that others keep get successors: Caddy's basic_auth, coturn's shared secret, PostgreSQL through OpenBao.

All real; a secret counts as good when the system lets somebody in with it.
"""

from __future__ import annotations

import base64
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hvac
import pytest
from hecate import model
from hecate.backends.caddy import CaddyBackend
from hecate.backends.caddy_passwords import placed
from hecate.clients import turn
from hecate.clients.caddy import CaddyClient
from hecate.clients.door import opens
from hecate.clients.vault import Place, VaultClient, by_token
from hecate.errors import ApplyFailed, HecateError, Refused, SecretUnavailable, Unreachable
from hecate.rotation import NotVerified, Step, rotate
from hecate.rotations import Rotations
from hecate.rotors.basic_auth import BasicAuthPassword, hashed, wanted
from hecate.rotors.database import Account, Engine, postgres_login
from hecate.rotors.shared import SharedSecret
from hecate.rotors.shelf import VaultShelf, Veil
from hecate.secrets import Stored

from contract.coturn import Coturn
from contract.edge import EdgeUnderTest
from contract.minion import Minion
from contract.openbao import OpenBao, openbao
from contract.postgres import Postgres, postgres

__all__ = ["openbao", "postgres"]


@pytest.fixture
def vault(openbao: OpenBao) -> VaultClient:
    return VaultClient(openbao.url, by_token(lambda: openbao.token), Place("secret", 2))


def shelf(vault: VaultClient, reference: str) -> VaultShelf:
    return VaultShelf(vault, Stored.of(reference), Veil())


# Caddy's basic_auth


class Door:
    """A route behind a password, its hash in a file that Caddy reads, the password in OpenBao."""

    def __init__(self, edge: EdgeUnderTest, openbao: OpenBao, vault: VaultClient) -> None:
        self.edge, self.vault, self.path = edge, vault, f"web/{secrets.token_hex(4)}"
        self.file = edge.folder / "hashes" / "alice"
        self.first, self.other = secrets.token_urlsafe(9), secrets.token_urlsafe(9)
        openbao.put(self.path, password=self.first, note="kept")
        self.take()
        accounts = {"alice": f"file:{self.file}", "bob": hashed(self.other, cost=4)}
        login = {"login": {"type": "basic_auth", "config": {"accounts": accounts}}}
        route = {"upstreams": [edge.upstream().dial], "middleware": ["login"]}
        edge.apply(middleware=login, routes={"app.test": route})

    def take(self, password: str = "") -> None:
        """What the edge does; without password what another edge does when it is told."""
        password = password or wanted(self.vault.values(self.path)[0], "password")
        if placed(self.file, lambda was: hashed(password, was, cost=4)):
            backend = self.edge.target(routes={}).backend
            assert isinstance(backend, CaddyBackend)
            backend.reload()

    def opens(self, password: str, user: str = "alice") -> bool:
        said = base64.b64encode(f"{user}:{password}".encode()).decode()
        try:
            status = self.edge.ask(Authorization=f"Basic {said}").status
        except ConnectionResetError:  # in the moment of a reload, see hecate.clients.door
            status = self.edge.ask(Authorization=f"Basic {said}").status
        assert status in (200, 401)
        return status == 200

    def stored(self) -> dict[str, str]:
        return self.vault.values(self.path)[0]

    def rotate(self, rotor: BasicAuthPassword) -> None:
        rotate(shelf(self.vault, f"vault:{self.path}#password"), rotor, time.time(), 0)


@pytest.fixture
def door(edge: EdgeUnderTest, openbao: OpenBao, vault: VaultClient) -> Door:
    return Door(edge, openbao, vault)


def test_a_password_gets_a_successor_that_opens_and_the_one_before_does_not(door: Door) -> None:
    assert door.opens(door.first) and door.opens(door.other, "bob") and not door.opens("wrong")
    door.rotate(BasicAuthPassword(door.take, door.opens))
    new = door.stored()["password"]
    assert new != door.first and door.opens(new) and not door.opens(door.first)
    assert door.opens(door.other, "bob") and door.stored()["note"] == "kept"
    assert door.stored().keys() == {"password", "password.rotated", "note"}
    assert door.file.stat().st_mode & 0o777 == 0o600
    held = [door.edge.caddy.log(), str(CaddyClient(door.edge.caddy.admin).config()), door.file.read_text()]
    for path in door.edge.folder.rglob("*"):
        held += [path.read_text(errors="replace")] if path.is_file() else []
    assert not any(password in text for password in (new, door.first) for text in held)


def test_a_password_that_does_not_open_is_withdrawn_and_the_one_before_opens(door: Door) -> None:
    with pytest.raises(NotVerified, match="the one before was put back"):
        door.rotate(BasicAuthPassword(door.take, lambda password: password == door.first and door.opens(password)))
    assert door.opens(door.first) and door.stored() == {"password": door.first, "note": "kept"}


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_rotation_of_a_password_that_was_cut_off_is_finished_by_the_next_run(door: Door, cut: int) -> None:
    calls = 0

    def cutting(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == cut:
                raise KeyboardInterrupt
            done = step(*words)
            calls += 1
            if calls == cut:
                raise KeyboardInterrupt
            return done

        return call

    with pytest.raises(KeyboardInterrupt):
        door.rotate(BasicAuthPassword(cutting(door.take), cutting(door.opens)))
    stored = door.stored()
    assert any(door.opens(stored[key]) for key in ("password", "password.next"))
    door.rotate(BasicAuthPassword(door.take, door.opens))
    assert door.opens(door.stored()["password"]) and not door.opens(door.first)
    assert "password.next" not in door.stored()


def test_an_edge_that_has_the_hash_already_is_left_alone(door: Door) -> None:
    before = door.file.read_text()
    door.take()
    assert door.file.read_text() == before
    door.file.write_text("no hash at all")
    door.take()
    assert door.opens(door.first)


def test_without_its_hash_caddy_refuses_the_route_and_with_it_lets_in(edge: EdgeUnderTest, tmp_path: Path) -> None:
    file, login = tmp_path / "hashes" / "alice", "Basic " + base64.b64encode(b"alice:one").decode()
    config = {"accounts": {"alice": f"file:{file}"}}
    wish = {
        "middleware": {"login": {"type": "basic_auth", "config": config}},
        "routes": {"app.test": {"upstreams": [edge.upstream().dial], "middleware": ["login"]}},
    }
    with pytest.raises(ApplyFailed) as failed:
        edge.apply(**wish)
    assert failed.value.undone
    placed(file, lambda was: hashed("one", was, cost=4))
    edge.apply(**wish)
    assert edge.ask(Authorization=login).status == 200


def test_the_edge_asks_itself_with_and_without_a_password(door: Door) -> None:
    address, url = ("127.0.0.1", door.edge.caddy.https), "http://app.test/"
    assert opens(address, url, "alice", door.first, tls=False)
    assert not opens(address, url, "alice", "wrong", tls=False)
    door.edge.apply(routes={"app.test": {"upstreams": [door.edge.upstream().dial]}})
    with pytest.raises(HecateError, match="wants no password"):
        opens(address, url, "alice", door.first, tls=False)


def test_a_connection_that_ends_without_an_answer_is_tried_once_more_and_not_twice() -> None:
    def serve(*answers: bytes) -> None:
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

    refused, good = b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        threading.Thread(target=serve, args=(b"", refused, b"", good, b"", b""), daemon=True).start()
        assert opens(address, "http://app.test/", "alice", "secret", tls=False)
        with pytest.raises(HecateError, match="the edge gave no answer"):
            opens(address, "http://app.test/", "alice", "secret", tls=False)


def test_an_edge_that_is_told_takes_the_successor_if_there_is_one() -> None:
    assert wanted({"password": "one", "password.next": "two"}, "password") == "two"
    assert wanted({"password": "one", "password.previous": "two"}, "password") == "one"
    with pytest.raises(SecretUnavailable):
        wanted({"other": "one"}, "password")


def test_caddy_takes_one_password_for_a_name(edge: EdgeUnderTest) -> None:
    """Why there is no grace for these."""
    config = {"accounts": {"alice": hashed("one", cost=4)}}
    edge.apply(
        middleware={"login": {"type": "basic_auth", "config": config}},
        routes={"app.test": {"upstreams": ["127.0.0.1:9"], "middleware": ["login"]}},
    )
    client = CaddyClient(edge.caddy.admin)
    running, etag = client.config()
    double = _doubled(running)
    assert double != running
    with pytest.raises(HecateError, match="username is not"):
        client.replace(double, etag)


def _doubled(value: Any) -> Any:
    """With every list of accounts twice as long."""
    if isinstance(value, dict):
        found = {key: _doubled(inner) for key, inner in value.items()}
        return {**found, "accounts": found["accounts"] * 2} if "accounts" in found else found
    return [_doubled(item) for item in value] if isinstance(value, list) else value


# coturn


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[Coturn]:
    server = Coturn(tmp_path)
    yield server
    server.stop()


class Calls:
    """A client that makes credentials with the secret of this moment, without pause, as long as it is open."""

    def __init__(self, coturn: Coturn, secret: Callable[[], str]) -> None:
        self._coturn, self._secret = coturn, secret
        self.accepted, self.refused, self.rounds, self._over = 0, 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Calls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def settle(self) -> None:
        """What a grace is for: whoever has read a secret uses it up, and reads it anew."""
        until, enough = time.monotonic() + 30, self.rounds + 2
        while self.rounds < enough:
            assert time.monotonic() < until, "the client got stuck"
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                if turn.accepts(*self._coturn.address, self._secret()):
                    self.accepted += 1
                else:
                    self.refused += 1
            except Unreachable:
                pass  # it is being restarted
            self.rounds += 1


def test_whoever_uses_the_secret_of_this_moment_is_never_refused_by_coturn(
    coturn: Coturn, openbao: OpenBao, vault: VaultClient
) -> None:
    path, first = f"turn/{secrets.token_hex(4)}", secrets.token_hex(16)
    openbao.put(path, secret=first)

    def good(secret: str) -> bool:
        return turn.accepts(*coturn.address, secret)

    def tell() -> None:
        """What the consumers' state does: every value of these three keys, as it is now."""
        values = vault.values(path)[0]
        coturn.serve([values[key] for key in ("secret", "secret.next", "secret.previous") if key in values])

    tell()
    assert good(first) and not good("wrong")
    rotor, kept = SharedSecret(good), shelf(vault, f"vault:{path}#secret")
    now = time.time()
    with Calls(coturn, lambda: vault.read(path, "secret")) as calls:
        assert carried(kept, rotor, now, 3600, tell).again == 3600
        new = vault.read(path, "secret")
        assert new != first and good(new) and good(first), "both are good while the grace lasts"
        calls.settle()
        assert carried(kept, rotor, now + 3601, 3600, tell, begin=False).again is None
        assert good(new) and not good(first)
        calls.settle()
    assert calls.accepted and not calls.refused
    assert vault.values(path)[0].keys() == {"secret", "secret.rotated"}


def carried(
    kept: VaultShelf, rotor: SharedSecret, now: float, grace: float, tell: Callable[[], None], *, begin: bool = True
) -> Step:
    """A rotation as the master's runner carries it."""
    told = False
    while True:
        step = rotate(kept, rotor, now, grace, begin=begin, tells=True, told=told)
        if step.tell or step.promoted:
            tell()
        if not step.tell:
            return step
        begin, told = begin and not step.begun, True


def test_a_shared_secret_that_no_consumer_took_is_withdrawn(
    coturn: Coturn, openbao: OpenBao, vault: VaultClient
) -> None:
    path, first = f"turn/{secrets.token_hex(4)}", secrets.token_hex(16)
    openbao.put(path, secret=first)
    coturn.serve([first])
    rotor = SharedSecret(lambda secret: turn.accepts(*coturn.address, secret))
    with pytest.raises(NotVerified, match="withdrawn"):
        carried(shelf(vault, f"vault:{path}#secret"), rotor, time.time(), 3600, lambda: None)
    assert vault.values(path)[0] == {"secret": first} and turn.accepts(*coturn.address, first)


def test_a_turn_server_that_does_not_answer_says_neither_yes_nor_no(coturn: Coturn) -> None:
    with pytest.raises(Unreachable):
        turn.accepts(*coturn.address, "any")
    coturn.serve(["one"])
    assert turn.accepts(*coturn.address, "one", Coturn.realm)
    with pytest.raises(Refused, match="another reason than the credentials"):
        turn.accepts(*coturn.address, "one", "elsewhere.test")


# PostgreSQL through OpenBao's database engine

RIGHTS = """
path "{mount}/rotate-role/app" {{ capabilities = ["update"] }}
path "{mount}/static-creds/app" {{ capabilities = ["read"] }}
path "{mount}/rotate-root/main" {{ capabilities = ["update"] }}
"""


class Managed:
    """A database whose account `app` OpenBao keeps. engine: with just the rights that rotating needs."""

    def __init__(self, openbao: OpenBao, postgres: Postgres, first: str) -> None:
        self.mount, self.user = f"db-{secrets.token_hex(4)}", f"app_{secrets.token_hex(4)}"
        self.own, self.own_password = f"vault_{secrets.token_hex(4)}", secrets.token_hex(12)
        self.opens = postgres_login("127.0.0.1", postgres.port, "postgres")
        postgres.execute(f"CREATE ROLE {self.user} LOGIN PASSWORD '{first}'")
        postgres.execute(f"CREATE ROLE {self.own} LOGIN SUPERUSER PASSWORD '{self.own_password}'")
        bao = hvac.Client(url=openbao.url, token=openbao.token, timeout=10)
        bao.sys.enable_secrets_engine("database", path=self.mount)
        where = f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{postgres.port}/postgres?sslmode=disable"
        connection = {"plugin_name": "postgresql-database-plugin", "allowed_roles": "app", "connection_url": where}
        bao.write_data(
            f"{self.mount}/config/main",
            data={**connection, "username": self.own, "password": self.own_password},
        )
        bao.write_data(
            f"{self.mount}/static-roles/app",
            data={"db_name": "main", "username": self.user, "rotation_period": "24h"},
        )
        bao.sys.create_or_update_policy(self.mount, RIGHTS.format(mount=self.mount))
        self.bao, self.url = bao, openbao.url
        self.account = Account(self.mount, "app")

    def engine(self, policy: str = "") -> Engine:
        token = self.bao.auth.token.create(policies=[policy or self.mount])["auth"]["client_token"]
        client = VaultClient(self.url, by_token(lambda: token), Place())
        return Engine(client.act, client.look)

    def password(self) -> str:
        return str(self.bao.read(self.account.asked)["data"]["password"])


@pytest.fixture
def managed(openbao: OpenBao, postgres: Postgres) -> Managed:
    return Managed(openbao, postgres, secrets.token_hex(12))


def test_a_database_password_is_made_anew_by_the_engine_and_the_database_takes_it(managed: Managed) -> None:
    before = managed.password()
    assert managed.opens(managed.user, before)
    engine = managed.engine()
    was = engine.made(managed.account)
    assert engine.rotated(managed.account, managed.opens)
    now = managed.password()
    assert was <= engine.made(managed.account) <= time.time()
    assert now != before and managed.opens(managed.user, now) and not managed.opens(managed.user, before)


def test_the_engines_own_password_is_changed_and_it_still_does_its_work(managed: Managed) -> None:
    assert managed.opens(managed.own, managed.own_password)
    before = managed.password()
    managed.engine().rotated(managed.account, managed.opens, "main")
    assert not managed.opens(managed.own, managed.own_password), "nobody but the engine knows it now"
    assert not managed.opens(managed.user, before) and managed.opens(managed.user, managed.password())


def test_a_password_that_the_database_refuses_is_told_and_not_shown(managed: Managed) -> None:
    with pytest.raises(HecateError, match="the database refuses what the engine made") as told:
        managed.engine().rotated(managed.account, lambda user, password: managed.opens(user, f"{password}x"))
    assert managed.password() not in str(told.value)


def test_an_engine_that_did_nothing_is_not_believed(managed: Managed) -> None:
    idle = Engine(lambda _path: {}, managed.engine().look)
    with pytest.raises(HecateError, match="told to rotate, and still as of"):
        idle.rotated(managed.account, managed.opens)


def test_a_right_that_is_missing_is_named(managed: Managed) -> None:
    with pytest.raises(SecretUnavailable, match=rf'needs path "{managed.mount}/static-creds/app".*read'):
        managed.engine("default").rotated(managed.account, managed.opens)
    before = managed.password()
    name = f"{managed.mount}-reads"
    managed.bao.sys.create_or_update_policy(name, RIGHTS.format(mount=managed.mount).splitlines()[2])
    with pytest.raises(SecretUnavailable, match=rf'needs path "{managed.mount}/rotate-role/app".*update'):
        managed.engine(name).rotated(managed.account, managed.opens)
    assert managed.password() == before and managed.opens(managed.user, before)


def test_a_database_that_does_not_answer_says_neither_yes_nor_no(managed: Managed) -> None:
    with pytest.raises(HecateError, match="could not be tried"):
        postgres_login("127.0.0.1", 1, "postgres")(managed.user, "any")
    with pytest.raises(HecateError, match="could not be tried"):
        postgres_login("127.0.0.1", _port(managed), "no_such_database")(managed.user, managed.password())


def _port(managed: Managed) -> int:
    found = managed.bao.read(f"{managed.mount}/config/main")["data"]["connection_details"]["connection_url"]
    return int(str(found).rpartition(":")[2].partition("/")[0])


# As pillar says it, through Salt


class Estate:
    """A minion that is edge and controller at once, and what it was told. consumers: run for `state.apply`."""

    def __init__(self, folder: Path, pillar: dict[str, Any], consumers: Callable[[], None]) -> None:
        self.minion, self.consumers, self.heard = Minion(folder, pillar), consumers, list[str]()
        self.rotations = Rotations(model.parse({"hecate": pillar}), self.call)

    def call(self, _minion: str, function: str, *words: Any) -> Any:
        if function == "state.apply":
            self.consumers()
            return {"it": {"result": True}}
        answer = self.minion.call(function, *words)
        self.heard.append(str(answer))
        return answer

    def rotate(self, **more: Any) -> str:
        told = self.rotations.run(self.rotations.names(None), **{"immediate": False, "only_due": False, **more})
        self.heard.append(told)
        return told


def test_all_three_kinds_are_rotated_from_pillar_and_no_value_is_heard(
    door: Door,
    coturn: Coturn,
    managed: Managed,
    openbao: OpenBao,
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BAO_TOKEN", openbao.token)
    path, first = f"turn/{secrets.token_hex(4)}", secrets.token_hex(16)
    openbao.put(path, secret=first)

    def consumers() -> None:
        values = door.vault.values(path)[0]
        coturn.serve([values[key] for key in ("secret", "secret.next", "secret.previous") if key in values])

    consumers()
    was = managed.password()
    rotation = {
        "door": {
            "kind": "basic_auth",
            "secret": f"vault:{door.path}#password",
            "user": "alice",
            "hash_file": str(door.file),
            "check": "http://app.test/",
            "every": "30d",
        },
        "turn": {
            "kind": "shared",
            "secret": f"vault:{path}#secret",
            "turn": "{}:{}".format(*coturn.address),
            "grace": "0s",
            "apply": {"minions": ["turn"], "state": "coturn"},
        },
        "app": {
            "kind": "database",
            "mount": managed.mount,
            "role": "app",
            "root_of": "main",
            "server": f"127.0.0.1:{postgres.port}",
            "every": "30d",
        },
    }
    (tmp_path / "minion").mkdir()
    vault = {"url": openbao.url, "token": "env:BAO_TOKEN"}
    pillar = door.edge.pillar(vault=vault, rotation=rotation)["hecate"]
    estate = Estate(tmp_path / "minion", pillar, consumers)
    rows = {row["name"]: row for row in estate.rotations.status()}
    assert rows["door"]["overdue"] and not rows["app"]["overdue"] and rows["turn"]["due"] is None
    told = estate.rotate()
    assert "the database takes the one that the engine made" in told and "FAILED" not in told
    new = {"door": door.stored()["password"], "turn": door.vault.read(path, "secret"), "app": managed.password()}
    assert door.opens(new["door"]) and not door.opens(door.first)
    assert turn.accepts(*coturn.address, new["turn"]) and not turn.accepts(*coturn.address, first)
    assert managed.opens(managed.user, new["app"]) and not managed.opens(managed.user, was)
    rows = {row["name"]: row for row in estate.rotations.status()}
    assert {row["phase"] for row in rows.values()} == {"settled"} and not any(row["overdue"] for row in rows.values())
    assert estate.rotate(only_due=True).count("nothing to do") == 3
    told_of_hashes = estate.minion.run({"p": {"hecate_caddy.passwords": []}})["p"]
    assert told_of_hashes["result"] is True and not told_of_hashes["changes"]
    openbao.put(door.path, password=door.first)
    wanting = estate.minion.run({"p": {"hecate_caddy.passwords": []}}, test=True)["p"]
    assert wanting["result"] is None and list(wanting["changes"]) == ["door"] and not door.opens(door.first)
    done = estate.minion.run({"p": {"hecate_caddy.passwords": []}})["p"]
    assert done["result"] is True and list(done["changes"]) == ["door"] and door.opens(door.first)
    held = [*estate.heard, str(rows), str(told_of_hashes), str(wanting), str(done)]
    held += [path.read_text(errors="replace") for path in (tmp_path / "minion").rglob("*") if path.is_file()]
    values = [*new.values(), door.first, first, was, door.file.read_text()]
    assert not any(value in text for value in values for text in held)
