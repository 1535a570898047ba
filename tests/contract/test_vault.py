"""References against a real OpenBao: what is read, what is refused and how that is told, and what is never seen."""

from __future__ import annotations

import json
import logging
import os
import secrets as random
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import hecate_salt
import hvac
import pytest
import requests
import salt.config
import yaml
from conftest import ROOT, free_port, tool
from hecate import model, report, wiring
from hecate.errors import SecretUnavailable
from hecate.secrets import Resolver
from salt.exceptions import CommandExecutionError

from contract.conftest import World
from contract.minion import Minion
from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns

CANARY = f"canary-{random.token_hex(8)}"
WRONG = f"canary-{random.token_hex(8)}"
OLD = f"canary-{random.token_hex(8)}"
POLICY = """
path "secret/data/app" { capabilities = ["read"] }
path "kv-1/app" { capabilities = ["read"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
"""


@dataclass
class Bao:
    """An OpenBao of one's own: over TLS, with an audit log, several engines, a namespace, and AppRole."""

    folder: Path
    port: int = field(default_factory=free_port)
    root: str = field(default_factory=lambda: random.token_hex(16))

    def __post_init__(self) -> None:
        (self.folder / "tls").mkdir()
        audit = f'audit "file" "all" {{\n options {{ file_path = "{self.folder}/audit" }}\n}}\n'
        (self.folder / "bao.hcl").write_text(audit)
        command = [tool("bao"), "server", "-dev", "-dev-no-store-token", f"-dev-listen-address=127.0.0.1:{self.port}"]
        command += ["-dev-tls", f"-dev-tls-cert-dir={self.folder}/tls", f"-config={self.folder}/bao.hcl"]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "BAO_DEV_ROOT_TOKEN_ID": self.root}
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> str:
        return str(self.folder / "tls" / "vault-ca.pem")

    @property
    def admin(self) -> hvac.Client:
        return hvac.Client(url=self.url, token=self.root, verify=self.ca, timeout=10)

    def wait(self) -> None:
        until = time.monotonic() + 30
        while True:
            assert self.process.poll() is None and time.monotonic() < until, "OpenBao did not start"
            try:
                if self.admin.sys.is_initialized() and not self.admin.sys.is_sealed():
                    self.admin.secrets.kv.v2.read_configuration()
                    return
            except (OSError, hvac.exceptions.VaultError):
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def token(self, *policies: str, ttl: str = "1h") -> str:
        made = self.admin.auth.token.create(policies=list(policies or ["reader"]), ttl=ttl)
        return str(made["auth"]["client_token"])

    def approle(self) -> tuple[str, str]:
        role = self.admin.auth.approle
        secret = role.generate_secret_id("reader", mount_point="machines")["data"]["secret_id"]
        return str(role.read_role_id("reader", mount_point="machines")["data"]["role_id"]), str(secret)

    def asked(self) -> list[str]:
        """Paths of all requests so far, as the audit log has them."""
        rows = [json.loads(line) for line in (self.folder / "audit").read_text().splitlines()]
        return [row["request"]["path"] for row in rows if row["type"] == "request"]

    def section(self, **more: Any) -> dict[str, Any]:
        return {"url": self.url, "ca": self.ca, "token": "env:BAO", **more}


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    server = Bao(tmp_path_factory.mktemp("bao"))
    try:
        server.wait()
        _furnish(server)
        yield server
    finally:
        server.stop()


def _furnish(server: Bao) -> None:
    admin = server.admin
    kv = admin.secrets.kv.v2
    for value in (OLD, "deleted", "destroyed", CANARY):
        odd = {"number": 5, "yes": True, "map": {"a": CANARY}, "empty": ""}
        kv.create_or_update_secret("app", {"token": value, **odd}, mount_point="secret")
    kv.delete_secret_versions("app", [2])
    kv.destroy_secret_versions("app", [3])
    kv.create_or_update_secret("other", {"token": CANARY})
    admin.sys.enable_secrets_engine("kv", path="kv-1", options={"version": "1"})
    admin.secrets.kv.v1.create_or_update_secret("app", {"token": CANARY}, mount_point="kv-1")
    admin.sys.create_or_update_policy("reader", POLICY)
    admin.sys.enable_auth_method("approle", path="machines")
    admin.auth.approle.create_or_update_approle("reader", token_policies=["reader"], mount_point="machines")
    admin.write_data("sys/namespaces/team")
    team = hvac.Client(url=server.url, token=server.root, verify=server.ca, namespace="team", timeout=10)
    team.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    deadline = time.monotonic() + 20
    while True:  # a fresh engine of version 2 prepares itself first
        try:
            team.secrets.kv.v2.create_or_update_secret("app", {"token": f"{CANARY} of the team"})
            return
        except hvac.exceptions.InvalidRequest:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def resolver(vault: dict[str, Any], keeper: wiring.Keeper | None = None) -> Resolver:
    return wiring.resolver(model.parse({"hecate": {"vault": vault}}), keeper or wiring.Keeper())


@pytest.fixture
def reader(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token with the rights of POLICY, where env:BAO finds it."""
    token = bao.token()
    monkeypatch.setenv("BAO", token)
    return token


def refused(call: Callable[[], object], *hidden: str) -> str:
    """The words of a refusal, in which nothing hidden is; nor is it in anything that hangs on the error."""
    with pytest.raises(SecretUnavailable) as caught:
        call()
    everything = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    for value in (CANARY, OLD, WRONG, *hidden):
        assert value not in everything
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    return str(caught.value)


# What is read


def test_the_newest_version_or_the_one_that_is_named(bao: Bao, reader: str) -> None:
    found = resolver(bao.section())
    assert found.value("vault:app#token") == CANARY
    assert found.value("vault:app#token@1") == OLD
    assert found.value("vault:app#token@4") == CANARY


def test_kv_version_1_has_no_versions(bao: Bao, reader: str) -> None:
    found = resolver(bao.section(kv=1, mount="kv-1"))
    assert found.value("vault:app#token") == CANARY
    assert refused(lambda: found.value("vault:app#token@2"), reader).startswith("vault:app#token@2: KV version 1")


def test_a_namespace_is_another_vault(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO", bao.root)
    assert resolver(bao.section(namespace="team")).value("vault:app#token") == f"{CANARY} of the team"
    told = refused(lambda: resolver(bao.section(namespace="elsewhere")).value("vault:app#token"), bao.root)
    assert "namespace not found" in told


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("vault:app#token@2", "version 2 was deleted at 20"),
        ("vault:app#token@3", "version 3 was destroyed"),
        ("vault:app#token@9", "nothing is stored there (mount secret, KV version 2)"),
        ("vault:app#nothing", "no such key there; it has empty, map, number, token, yes"),
        ("vault:app#number", "not a text; write it as one"),
        ("vault:app#yes", "not a text; write it as one"),
        ("vault:app#map", "not a text; write it as one"),
        ("vault:app#empty", "is empty"),
        ("vault:other#token", 'it needs path "secret/data/other" { capabilities = ["read"] }'),
    ],
)
def test_what_cannot_be_read_is_named(bao: Bao, reader: str, reference: str, part: str) -> None:
    told = refused(lambda: resolver(bao.section()).value(reference), reader)
    assert told.startswith(reference) and part in told


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ({"mount": "elsewhere"}, "no handler for route"),
        ({"mount": "kv-1"}, "nothing is stored there (mount kv-1, KV version 2)"),
        ({"kv": 1}, "nothing is stored there (mount secret, KV version 1)"),
    ],
)
def test_a_wrong_mount_is_named(bao: Bao, monkeypatch: pytest.MonkeyPatch, section: dict[str, Any], part: str) -> None:
    monkeypatch.setenv("BAO", bao.root)
    assert part in refused(lambda: resolver(bao.section(**section)).value("vault:app#token"), bao.root)


@pytest.mark.parametrize("path", ["../sys/mounts", "app/../../kv-1/app", "./app", "app/..", "/app", "app/", "a//b"])
def test_a_reference_leads_nowhere_but_into_its_engine(path: str) -> None:
    with pytest.raises(SecretUnavailable, match="not a secret reference"):
        Resolver(lambda *_: CANARY).value(f"vault:{path}#token")


# Who reads


def test_a_wrong_token_is_told_from_a_missing_right(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = random.token_hex(12)
    monkeypatch.setenv("BAO", wrong)
    told = refused(lambda: resolver(bao.section()).value("vault:app#token"), wrong)
    assert "the token is wrong, expired or revoked" in told and 'path "secret/data/app"' in told


def test_an_expired_token_is_told(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bao.token(ttl="1s")
    monkeypatch.setenv("BAO", token)
    found = resolver(bao.section())
    assert found.value("vault:app#token@1") == OLD
    until = time.monotonic() + 20
    while True:
        try:
            resolver(bao.section()).value("vault:app#token")
        except SecretUnavailable:
            break
        assert time.monotonic() < until, "it does not expire"
        time.sleep(0.1)
    assert "the token is wrong, expired or revoked" in refused(lambda: found.value("vault:app#token"), token)


def test_a_token_with_a_line_break_is_not_quoted(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in (f"one\n{WRONG}", f"ü{WRONG}€"):
        monkeypatch.setenv("BAO", broken)
        assert refused(lambda: resolver(bao.section()).value("vault:app#token")).startswith("vault:app#token: ")


@pytest.mark.parametrize("kind", ["env", "file", "sdb"])
def test_token_and_approle_come_from_the_environment_a_file_or_salt(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    role, secret = bao.approle()
    stored = {"token": bao.token(), "role": role, "secret": secret}

    def put(name: str) -> str:
        if kind == "env":
            monkeypatch.setenv(f"BAO_{name}", stored[name])
            return f"env:BAO_{name}"
        if kind == "sdb":
            return f"sdb:keys/{name}"
        path = tmp_path / name
        path.write_text(stored[name] + "\n")
        path.chmod(0o600)
        return f"file:{path}"

    keeper = wiring.Keeper(sdb=lambda uri: stored[uri.rpartition("/")[2]])
    assert resolver(bao.section(token=put("token")), keeper).value("vault:app#token") == CANARY
    login = {"role_id": put("role"), "secret_id": put("secret"), "mount": "machines"}
    section = {key: value for key, value in bao.section(approle=login).items() if key != "token"}
    assert resolver(section, keeper).value("vault:app#token") == CANARY


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"role_id": "env:WRONG"}, "invalid role or secret ID"),
        ({"secret_id": "env:WRONG"}, "invalid role or secret ID"),
        ({"mount": "elsewhere"}, 'needs path "auth/elsewhere/login" { capabilities = ["update"] }'),
        ({"secret_id": "env:NOT_THERE"}, "env:NOT_THERE: no such environment variable"),
    ],
)
def test_a_wrong_login_by_approle_is_told(
    bao: Bao, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], part: str
) -> None:
    role, secret = bao.approle()
    for name, value in {"ROLE": role, "SECRET": secret, "WRONG": WRONG}.items():
        monkeypatch.setenv(name, value)
    login = {"role_id": "env:ROLE", "secret_id": "env:SECRET", "mount": "machines", **wrong}
    section = {key: value for key, value in bao.section(approle=login).items() if key != "token"}
    told = refused(lambda: resolver(section).value("vault:app#token"), secret)
    assert part in told


HOSTILE = """
import sys
from hecate import model, report, wiring
section = {"url": sys.argv[1], "ca": sys.argv[2], "token": "env:OWN"}
found = wiring.resolver(model.parse({"hecate": {"vault": section}}), wiring.Keeper())
try:
    print(found.value("vault:app#token") == sys.stdin.read())
except Exception as err:
    print(type(err).__name__, err)
"""


def test_nothing_of_whoever_runs_it_is_used(bao: Bao, tmp_path: Path) -> None:
    """Neither token nor address, roots, certificate, password or proxy of their environment and home."""
    (tmp_path / ".vault-token").write_text(bao.root)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login root password wrong\n")
    (tmp_path / ".netrc").chmod(0o600)
    nowhere = f"http://127.0.0.1:{free_port()}"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "_utils"),
        "VAULT_TOKEN": bao.root,
        "BAO_TOKEN": bao.root,
        "VAULT_ADDR": nowhere,
        "VAULT_NAMESPACE": "elsewhere",
        "VAULT_CACERT": "/not/there",
        "VAULT_CLIENT_CERT": "/not/there",
        "VAULT_CLIENT_KEY": "/not/there",
        "REQUESTS_CA_BUNDLE": "/not/there",
        "HTTPS_PROXY": nowhere,
        "ALL_PROXY": nowhere,
    }

    def run(token: str, ca: str) -> str:
        command = [sys.executable, "-c", HOSTILE, bao.url, ca]
        done = subprocess.run(
            command, env={**env, "OWN": token}, input=CANARY, capture_output=True, text=True, timeout=60
        )
        assert CANARY not in done.stdout + done.stderr
        return done.stdout.strip() + done.stderr

    assert run(bao.token(), bao.ca) == "True"
    assert "the token is wrong, expired or revoked" in run("wrong-token", bao.ca)


def test_a_login_is_sent_without_anybodys_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".vault-token").write_text(CANARY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SECRET", OLD)
    login = {"role_id": "env:SECRET", "secret_id": "env:SECRET"}
    for token in (CANARY, ""):
        monkeypatch.setenv("VAULT_TOKEN", token) if token else monkeypatch.delenv("VAULT_TOKEN")
        with answering(b'{"errors": ["no"]}', 400) as page:
            refused(lambda url=page.url: resolver({"url": url, "approle": login}).value("vault:a#b"))  # type: ignore[misc]
        (headers,) = page.headers
        assert "X-Vault-Token" not in headers and CANARY not in str(headers)


# How it is reached


@dataclass
class Page:
    """A server that is no Vault. headers: of the requests that it was sent."""

    url: str
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[Page]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page.headers.append(dict(self.headers))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        page = Page(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield page
        finally:
            server.shutdown()


def test_only_a_server_of_the_given_roots_is_trusted(bao: Bao, reader: str, tmp_path: Path) -> None:
    without = {key: value for key, value in bao.section().items() if key != "ca"}
    assert "see hecate:vault:ca" in refused(lambda: resolver(without).value("vault:app#token"), reader)
    other = tmp_path / "ca.pem"
    other.write_text("no certificate")
    for ca in (str(other), str(tmp_path / "missing.pem")):
        told = refused(lambda ca=ca: resolver(bao.section(ca=ca)).value("vault:app#token"), reader)  # type: ignore[misc]
        assert told.startswith("vault:app#token: ")


def test_a_sealed_server_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Bao(tmp_path)
    try:
        server.wait()
        monkeypatch.setenv("BAO", server.root)
        server.admin.sys.seal()
        told = refused(lambda: resolver(server.section()).value("vault:app#token"), server.root)
        assert "is sealed or on standby (Vault is sealed)" in told
    finally:
        server.stop()
    assert "gave no answer" in refused(lambda: resolver(server.section()).value("vault:app#token"), server.root)


def test_what_is_no_vault_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO", WRONG)
    for body in (b"<html>hello</html>", b"[]", b'{"data": null}'):
        with answering(body) as page:
            section = {"url": page.url, "token": "env:BAO"}
            told = refused(lambda section=section: resolver(section).value("vault:app#token"))  # type: ignore[misc]
        assert "no answer of Vault" in told


# What is left behind


def test_each_reference_is_read_once_in_a_run(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(("ROLE", "SECRET"), bao.approle(), strict=True):
        monkeypatch.setenv(name, value)
    login = {"role_id": "env:ROLE", "secret_id": "env:SECRET", "mount": "machines"}
    section = {key: value for key, value in bao.section(approle=login).items() if key != "token"}
    before = len(bao.asked())
    found = resolver(section)
    for _ in range(3):
        assert (found.value("vault:app#token"), found.value("vault:app#token@1")) == (CANARY, OLD)
    assert bao.asked()[before:] == ["auth/machines/login", "secret/data/app", "secret/data/app"]
    again = len(bao.asked())
    resolver(section)
    assert len(bao.asked()) == again, "nothing is read before it is wanted"
    resolver(section).value("vault:app#token")
    assert bao.asked()[again:] == ["auth/machines/login", "secret/data/app"], "and nothing is kept for the next run"


def test_debug_logging_tells_neither_values_nor_tokens(
    bao: Bao, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    role, secret = bao.approle()
    for name, value in {"ROLE": role, "SECRET": secret, "BAO": bao.token()}.items():
        monkeypatch.setenv(name, value)
    login = {"role_id": "env:ROLE", "secret_id": "env:SECRET", "mount": "machines"}
    by_role = {key: value for key, value in bao.section(approle=login).items() if key != "token"}
    with caplog.at_level(1):
        for section in (by_role, bao.section()):
            found = resolver(section)
            assert found.value("vault:app#token") == CANARY
            for wrong in ("vault:app#map", "vault:app#token@2", "vault:other#token"):
                try:
                    found.value(wrong)
                except SecretUnavailable:
                    logging.getLogger("test").exception("as a careless caller does")
            logging.getLogger("test").debug("%r", found)
    assert "GET /v1/secret/data/app" in caplog.text, "the log is on"
    streams = capfd.readouterr()
    for text in (caplog.text, streams.out, streams.err):
        for hidden in (CANARY, OLD, secret, os.environ["BAO"]):
            assert hidden not in text


def test_what_is_sent_is_not_quoted_when_it_is_refused(bao: Bao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAO", bao.root)
    settings = model.parse({"hecate": {"vault": bao.section()}}).vault
    assert settings
    client = wiring.vault_client(settings, wiring.Keeper())
    sent = {"token": WRONG}
    assert "somebody else wrote it" in refused(lambda: client.write("app", sent, 1))
    with answering(json.dumps({"errors": [f"cannot do that with '{WRONG}'"]}).encode(), 400) as page:
        elsewhere = wiring.vault_client(settings.model_copy(update={"url": page.url}), wiring.Keeper())
        for call in (lambda: elsewhere.write("a", sent, 0), lambda: elsewhere.act("database/config/a", sent)):
            assert "refused it (cannot do that with '(secret)')" in refused(call)
    told = refused(lambda: client.act("sys/mounts/fresh", {"type": "no-such-engine", "token": WRONG}))
    assert "refused it (plugin not found in the catalog: no-such-engine)" in told
    assert "nothing is stored there" in refused(lambda: client.act("database/config/x", sent))


# Through Salt


def _vault_of(bao: Bao) -> dict[str, Any]:
    """As Salt's own vault module takes it, on a minion without master."""
    return {"auth": {"method": "token", "token": bao.token("reader")}, "server": {"url": bao.url, "verify": bao.ca}}


@pytest.fixture
def minion(bao: Bao, tmp_path: Path) -> Minion:
    made = Minion(tmp_path, {})
    made.opts["vault"] = _vault_of(bao)
    return made


def test_with_credentials_that_salt_issues(
    bao: Bao, minion: Minion, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """End to end: the provider of DNS takes the token that Salt's vault module read."""
    token = minion.opts["vault"]["auth"]["token"]
    with running(HetznerDns(CANARY, ("estate.test",))) as url, caplog.at_level(logging.DEBUG):
        hecate = {
            "vault": {"salt": True, "mount": "secret"},
            "hetzner_dns": {"endpoint": f"{url}/v1", "token": "vault:app#token"},
            "dns": {"zones": {"estate.test": {"policy": "sync", "records": {"www": {"A": "192.0.2.1"}}}}},
        }
        minion.set_pillar(hecate)
        assert "dns.rrset estate.test/www/A" in minion.call("hecate_hetzner_dns.apply")
        for wrong, part in (
            ("vault:app#token@4", "reads the newest version alone"),
            ("vault:app#nothing", "(KeyError)"),
            ("vault:app#map", "not a text but a mapping"),
            ("vault:nothing#token", "(VaultPermissionDeniedError)"),
            ("vault:other#token", 'credentials need path "secret/data/other" { capabilities = ["read"] }'),
        ):
            minion.set_pillar({**hecate, "hetzner_dns": {**hecate["hetzner_dns"], "token": wrong}})
            with pytest.raises(CommandExecutionError) as caught:
                minion.call("hecate_hetzner_dns.plan")
            assert str(caught.value).startswith(f"{wrong}: ") and part in str(caught.value)
    assert "LazyLoaded vault.read_secret" in caplog.text, "the log is on"
    assert CANARY not in caplog.text and token not in caplog.text
    assert _files_with(tmp_path, CANARY, token) == []


def _files_with(folder: Path, *values: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if any(value.encode() in path.read_bytes() for value in values)]


def test_without_salts_vault_module_it_says_what_else_there_is() -> None:
    keeper = hecate_salt.keeper({}, {})
    told = refused(lambda: resolver({"salt": True}, keeper).value("vault:app#token"))
    assert told == "vault:app#token: Salt's vault module isn't here; use token or approle in hecate:vault"


def _sdb(bao: Bao, folder: Path) -> dict[str, Any]:
    """Profiles of Salt's own drivers, each with the canary under `token`."""
    (folder / "sdb.yaml").write_text(yaml.safe_dump({"token": CANARY, "map": {"a": OLD}}))
    with sqlite3.connect(folder / "sdb.sqlite") as database:
        database.execute("create table sdb (key text, value blob)")
        import salt.utils.msgpack

        database.execute("insert into sdb values (?, ?)", ("token", salt.utils.msgpack.packb(CANARY)))
    return {
        "environment": {"driver": "env"},
        "files": {"driver": "yaml", "files": [str(folder / "sdb.yaml")]},
        "table": {"driver": "sqlite3", "database": str(folder / "sdb.sqlite"), "table": "sdb", "create_table": False},
        "bao": {"driver": "vault"},
        "broken": {"driver": "sqlite3", "database": str(folder), "table": "sdb"},
        "vault": _vault_of(bao),
    }


SDB = ["sdb:environment/token", "sdb:files/token", "sdb:table/token", "sdb:bao/secret/app/token", "sdb://files/token"]


@pytest.mark.parametrize("where", ["minion", "master"])
def test_any_sdb_driver_of_salt(
    bao: Bao,
    minion: Minion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    monkeypatch.setenv("token", CANARY)
    opts = minion.opts if where == "minion" else salt.config.master_config(None)
    opts = {**opts, **_sdb(bao, tmp_path), "cachedir": str(tmp_path / "cache")}
    with caplog.at_level(logging.DEBUG):
        found = Resolver(read_sdb=hecate_salt.keeper(opts, {}).sdb)
        for reference in SDB:
            assert found.value(reference) == CANARY
        for reference, part in (
            ("sdb:files/map", "not a text but a mapping"),
            ("sdb:files/nothing", "nothing there"),
            ("sdb:bao/secret/app/nothing", "nothing there"),
            ("sdb:unknown/token", "is the sdb profile configured on this target?"),
            ("sdb:broken/token", "the sdb driver failed (OperationalError)"),
            ("sdb:bao/secret/other/token", "the sdb driver failed (CommandExecutionError)"),
        ):
            told = refused(lambda reference=reference: found.value(reference))  # type: ignore[misc]
            assert told.startswith(f"{reference}: ") and part in told
    assert "LazyLoaded" in caplog.text, "the log is on"
    assert CANARY not in caplog.text and OLD not in caplog.text


# Resolved pillar


def _pillar_of(minion: str, folder: Path, *ext_pillar: Any) -> dict[str, Any]:
    """What a Salt master with this ext_pillar renders for a minion."""
    import salt.pillar

    (folder / "base").mkdir(exist_ok=True)
    (folder / "base" / "top.sls").write_text("base: {'*': [app]}")
    (folder / "base" / "app.sls").write_text("app: {name: shop, database: {host: db.test}}")
    opts = salt.config.master_config(None)
    opts.update(
        cachedir=str(folder / "cache"),
        pillar_roots={"base": [str(folder / "base")]},
        extension_modules=str(folder / "extmods"),
        pillar_dirs=[str(ROOT / "_pillar")],
        ext_pillar=list(ext_pillar),
        sock_dir=str(folder),
        pki_dir=str(folder / "pki"),
        log_file=str(folder / "log"),
    )
    compiler = salt.pillar.Pillar(opts, {"id": minion}, minion, "base")
    return dict(compiler.compile_pillar())


def _given(bao: Bao, **more: Any) -> dict[str, Any]:
    minions = {
        "web*": {"app:database:password": "vault:app#token", "app:former": "vault:app#token@1"},
        "db1": {"app:database:password": "vault:app#token@1"},
    }
    return {"hecate_vault": {"vault": bao.section(), "minions": minions, **more}}


def test_values_are_in_the_pillar_of_the_minions_that_are_named(bao: Bao, reader: str, tmp_path: Path) -> None:
    app = {"name": "shop", "database": {"host": "db.test"}}
    assert _pillar_of("web1", tmp_path) == {"app": app}, "off unless it is configured"
    given = _given(bao)
    web = {"host": "db.test", "password": CANARY}
    assert _pillar_of("web1", tmp_path, given) == {"app": {"name": "shop", "former": OLD, "database": web}}
    assert _pillar_of("db1", tmp_path, given)["app"]["database"]["password"] == OLD
    before = len(bao.asked())
    assert _pillar_of("mail1", tmp_path, given) == {"app": app}
    assert _pillar_of("db11", tmp_path, given) == {"app": app}
    assert len(bao.asked()) == before, "nobody asks on behalf of others"
    assert _files_with(tmp_path, CANARY, OLD, reader) == []


def test_the_master_logs_in_by_approle_and_reads_its_own_files(
    bao: Bao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(("role", "secret"), bao.approle(), strict=True):
        path = tmp_path / name
        path.write_text(value)
        path.chmod(0o600)
    login = {"role_id": f"file:{tmp_path}/role", "secret_id": f"file:{tmp_path}/secret", "mount": "machines"}
    vault = {key: value for key, value in bao.section(approle=login).items() if key != "token"}
    monkeypatch.setenv("MASTERS_OWN", CANARY)
    minions = {"*": {"a": "vault:app#token"}, "web1": {"a": "vault:app#token", "b:c": "env:MASTERS_OWN"}}
    found = _pillar_of("web1", tmp_path, _given(bao, vault=vault, minions=minions))
    assert (found["a"], found["b"]) == (CANARY, {"c": CANARY})


def test_a_vault_that_does_not_answer_gives_no_half_pillar(
    bao: Bao, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MASTERS_OWN", CANARY)
    gone = {**bao.section(), "url": f"https://127.0.0.1:{free_port()}"}
    minions = {"*": {"app:first": "env:MASTERS_OWN", "app:second": "vault:app#token"}}
    with caplog.at_level(logging.DEBUG):
        found = _pillar_of("web1", tmp_path, _given(bao, vault=gone, minions=minions))
        (told,) = found["_errors"]
        assert told.startswith("Failed to load ext_pillar hecate_vault: vault:app#token: ") and "no answer" in told
        assert "first" not in found["app"] and "second" not in found["app"]
        minions["*"]["app:second"] = "vault:other#token"
        (told,) = _pillar_of("web1", tmp_path, _given(bao, minions=minions))["_errors"]
        assert 'it needs path "secret/data/other" { capabilities = ["read"] }' in told
    assert "Failed to load ext_pillar" in caplog.text, "the log is on"
    assert CANARY not in caplog.text and reader not in caplog.text


def test_salt_applies_no_state_with_a_pillar_that_lacks_its_secrets(
    bao: Bao, reader: str, minion: Minion, tmp_path: Path
) -> None:
    minion.opts.update(pillar_dirs=[str(ROOT / "_pillar")], ext_pillar=[_given(bao, minions={"edge": KEYS})])
    (minion.states / "app.sls").write_text(f"{tmp_path}/app.conf:\n  file.managed:\n    - contents_pillar: app:first\n")
    head, answer = minion.call("state.sls", "app", concurrent=True)
    assert head == "Pillar failed to render with the following messages:"
    assert "hecate_vault: vault:other#token: the token may not do that" in answer
    assert not (tmp_path / "app.conf").exists()
    minion.opts["ext_pillar"] = [_given(bao, minions={"edge": {"app:first": "vault:app#token"}})]
    (row,) = minion.call("state.sls", "app", concurrent=True).values()
    assert row["result"] is True and (tmp_path / "app.conf").read_text().strip() == CANARY


P = "ext_pillar:hecate_vault"
KEYS = {"app:first": "vault:app#token", "app:second": "vault:other#token"}


@pytest.mark.parametrize(
    ("more", "part"),
    [
        ({"minions": {"*": {"a": CANARY}}}, f"{P}:minions:*:a: a secret is a reference, never a literal"),
        ({"minions": {"*": {"a": f"literal:{CANARY}"}}}, f"{P}:minions:*:a: a secret is a reference"),
        ({"minions": {"*": {"hecate:authentik:token": "env:A"}}}, "Hecate's own pillar takes the reference itself"),
        ({"minions": {"*": {"a b": "env:A"}}}, "not a pillar key"),
        ({"minions": {"*": {"a": {"b": "env:A"}}}}, f"{P}:minions:*:a: not a text"),
        ({"minions": ["a"]}, f"{P}:minions: not a mapping"),
        ({"minions": {"*": {"a": "env:A", "a:b": "env:B"}}}, "one key, one value"),
        ({"minions": {"*": {"a:b": "env:A"}, "web1": {"a": "env:B"}}}, "one key, one value"),
        ({"minions": {"*": {"a": "env:A"}, "web1": {"a": "env:B"}}}, "web1 is given another value by a of another"),
        ({"minion": {}}, f"{P}:minion: no such key"),
        ({"vault": None}, f"{P}:minions:web*:app:database:password = vault:app#token: needs {P}:vault"),
        ({"vault": {"salt": True}}, f"{P}:vault:salt = true: nobody issues credentials to the master"),
        ({"vault": {"url": "https://x.test", "token": CANARY}}, f"{P}:vault:token: a secret is a reference"),
        ({"vault": {"url": "https://x.test"}}, "give one of token, approle and salt: true"),
    ],
)
def test_a_wrong_configuration_is_an_error_of_the_pillar(
    bao: Bao, reader: str, tmp_path: Path, more: dict[str, Any], part: str
) -> None:
    found = _pillar_of("web1", tmp_path, _given(bao, **more))
    (told,) = found["_errors"]
    assert told.startswith("Failed to load ext_pillar hecate_vault: ") and part in told
    assert CANARY not in str(found)


def test_without_minions_it_says_so(bao: Bao, tmp_path: Path) -> None:
    (told,) = _pillar_of("web1", tmp_path, {"hecate_vault": {"vault": bao.section()}})["_errors"]
    assert f"{P}:minions: is required" in told


# Literals, in labs


def test_a_literal_is_nowhere_but_in_the_pillar(authentik_world: World) -> None:
    """Used like any other secret, and in neither plan, journal nor cache, nor in what is raised."""
    world, app = authentik_world, "applications"

    def wish(secret: str) -> dict[str, Any]:
        login = {"client_secret": f"literal:{secret}", "redirect_uris": "https://app.estate.test/back"}
        lab = {"environment": "lab", "literal_secrets": True}
        return {**lab, app: {"app": {"auth_policy": "p", "oauth2": login}}}

    def held() -> list[str]:
        return [secret for secret in (CANARY, OLD) if _knows(world, secret)]

    first = world.target(wish(OLD))
    plan = first.engine.plan(first.wish)
    shown = report.plan_text(plan, "authentik") + str(report.outline(plan)) + repr(report.salt_changes(plan))
    assert "literal:hecate:applications:app:oauth2:client_secret" in shown and OLD not in shown
    first.engine.apply(first.wish, "one")
    assert held() == [OLD]
    first.engine.journal.keep("one")
    again = world.target(wish(CANARY))
    plan = again.engine.plan(again.wish)
    assert [change.id for change in plan.changes] == ["authentik.provider hecate/lab/app"], "another value is a change"
    again.engine.apply(again.wish, "two")
    assert held() == [CANARY]
    assert not again.engine.plan(again.wish)
    assert CANARY not in repr(plan) + repr(again.wish) and CANARY not in report.plan_text(plan, "authentik")
    assert _files_with(world.folder, CANARY, OLD) == []


def _knows(world: World, secret: str) -> bool:
    """Whether authentik holds that secret of the client."""
    found = requests.get(
        f"{world.url}/api/v3/providers/oauth2/", headers={"Authorization": f"Bearer {world.secret}"}, timeout=5
    )
    return secret in found.text
