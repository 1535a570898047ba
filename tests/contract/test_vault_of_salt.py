"""`hecate:vault:salt: true` for real: a Salt master with peer_run issues credentials to a minion and to a proxy."""

from __future__ import annotations

import getpass
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import pytest
import salt.client
import salt.config
from conftest import free_port, tool
from hecate.rights.text import policy_name
from salt.exceptions import SaltClientError

from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns
from lab.processes import identify, spawn, stop

from .openbao import OpenBao, openbao
from .test_rotation import canary

__all__ = ["openbao"]
pytestmark = pytest.mark.salt

MINION, PROXY, STRANGER = "hecate-issued", "hecate-issued-proxy", "hecate-issued-stranger"
PATH = "issued/hetzner"
ZONE = "estate.test"
RECORD = "dns.rrset estate.test/www/A"
PEER_RUN = {"hecate-.*": ["vault.get_config", "vault.generate_new_token"]}
ISSUER = 'path "auth/token/create/salt_minion" { capabilities = ["create", "update"] }'


@dataclass
class Salt:
    """A master with Salt's own `vault` configuration, and targets that know of Vault only what pillar says."""

    folder: Path
    hecate: dict[str, Any]
    vault: dict[str, Any]
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    running: list[Any] = field(default_factory=list)

    def start(self) -> None:
        pillar = self.folder / "pillar"
        pillar.mkdir()
        (pillar / "top.sls").write_text(json.dumps({"base": {"*": ["estate"], PROXY: ["proxy"]}}))
        (pillar / "proxy.sls").write_text(json.dumps({"proxy": {"proxytype": "hecate_hetzner_dns"}}))
        (pillar / "estate.sls").write_text(json.dumps({"hecate": self.hecate}))
        publish, ret = self.ports
        self._daemon(
            "salt-master",
            "master",
            publish_port=publish,
            ret_port=ret,
            auto_accept=True,
            worker_threads=3,
            pillar_roots={"base": [str(pillar)]},
            vault=self.vault,
            peer_run=PEER_RUN,
        )
        of_master = {
            "master": "127.0.0.1",
            "master_port": ret,
            "acceptance_wait_time": 1,
            "autoload_dynamic_modules": False,
        }
        for name in (MINION, STRANGER):
            self._daemon("salt-minion", "minion", name, id=name, **of_master)
        self._daemon("salt-proxy", "proxy", PROXY, "--proxyid", PROXY, id=PROXY, **of_master)
        missing, until = {MINION, PROXY, STRANGER}, time.monotonic() + 90
        while missing:
            assert time.monotonic() < until, f"no answer from {missing}: {self.logs()[-3000:]}"
            with suppress(SaltClientError):  # the master listens before it answers
                answers = self.client.cmd(sorted(missing), "test.ping", tgt_type="list", timeout=2)
                missing -= {name for name, answer in answers.items() if answer is True}
            time.sleep(0.2)

    def _daemon(self, program: str, file: str, name: str = "master", *words: str, **settings: Any) -> None:
        base = self.folder / name
        (base / "sock").mkdir(parents=True)
        own = {key: str(base / key) for key in ("pki_dir", "cachedir", "pidfile", "extension_modules", "log_file")}
        quiet = {"enable_fqdns_grains": False, "enable_gpu_grains": False, "log_level_logfile": "quiet"}
        common = {"user": getpass.getuser(), "interface": "127.0.0.1", "root_dir": "/", "sock_dir": str(base / "sock")}
        (base / file).write_text(json.dumps({**common, **own, **quiet, **settings}))
        env = {"PATH": os.environ["PATH"], "HOME": str(base), "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore"}
        argv = [tool(program), "-l", "debug", "-c", str(base), *words]
        self.running.append(spawn(argv, {**env, "HECATE_MARK": str(self.folder)}, base, base / "output"))

    @property
    def client(self) -> Any:
        return salt.client.get_local_client(str(self.folder / "master" / "master"))

    def call(self, minion: str, function: str, *words: Any) -> tuple[int, str]:
        """Exit code, and the return as text."""
        found = self.client.cmd(minion, function, list(words), full_return=True, timeout=30)[minion]
        return int(found["retcode"]), str(found["ret"])

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("*/output"))

    def stop(self) -> None:
        stop([known for one in self.running if (known := identify(one.pid))], str(self.folder))


@pytest.fixture(scope="module")
def token() -> str:
    """Hetzner's."""
    return canary()


@pytest.fixture(scope="module")
def issuing(openbao: OpenBao, token: str) -> Iterator[Salt]:
    admin = hvac.Client(url=openbao.url, token=openbao.token, timeout=10)
    openbao.put(PATH, token=token)
    for target in (MINION, PROXY):
        rule = f'path "secret/data/{PATH}" {{ capabilities = ["read"] }}'
        admin.sys.create_or_update_policy(policy_name(target), rule)
    admin.sys.create_or_update_policy("salt-master", ISSUER)
    admin.write_data("auth/token/roles/salt_minion", data={"allowed_policies_glob": ["hecate-*"], "orphan": True})
    master = admin.auth.token.create(policies=["salt-master"], ttl="1h")["auth"]["client_token"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hecate-")))
        url = stack.enter_context(running(HetznerDns(token, (ZONE,))))
        made = Salt(
            folder,
            {
                "vault": {"salt": True, "mount": "secret"},
                "hetzner_dns": {"endpoint": f"{url}/v1", "token": f"vault:{PATH}#token"},
                "dns": {"zones": {ZONE: {"policy": "sync", "records": {"www": {"A": "192.0.2.1"}}}}},
            },
            {
                "auth": {"method": "token", "token": master},
                "issue": {"token": {"role_name": "salt_minion"}},
                "policies": {"assign": ["{minion}"]},
                "server": {"url": openbao.url},
            },
        )
        stack.callback(made.stop)
        made.start()
        yield made


def test_a_minion_and_a_proxy_read_with_what_the_master_issues_to_them(issuing: Salt) -> None:
    code, text = issuing.call(PROXY, "hecate_hetzner_dns.apply")
    assert code == 0 and RECORD in text
    code, text = issuing.call(MINION, "hecate_hetzner_dns.plan")
    assert code == 0 and "nothing to do" in text
    for file in (issuing.folder / MINION / "minion", issuing.folder / PROXY / "proxy"):
        assert "vault" not in json.loads(file.read_text()), "they have no credentials of their own"


def test_who_is_given_no_policy_is_refused_and_told_the_line(issuing: Salt) -> None:
    code, text = issuing.call(STRANGER, "hecate_hetzner_dns.plan")
    assert code != 0 and f'path "secret/data/{PATH}" {{ capabilities = ["read"] }}' in text
    assert "VaultPermissionDeniedError" in text


def test_neither_the_value_nor_the_master_s_token_is_kept_by_anybody(issuing: Salt, token: str) -> None:
    for target in (MINION, PROXY):
        assert issuing.call(target, "hecate_hetzner_dns.plan")[0] == 0
    assert "Vault server connection configuration from remote" in issuing.logs(), "the log is on"
    master = issuing.vault["auth"]["token"]
    files = [path for path in issuing.folder.rglob("*") if path.is_file()]
    assert [path for path in files if token.encode() in path.read_bytes()] == []
    assert [path for path in files if master.encode() in path.read_bytes()] == [issuing.folder / "master" / "master"]
