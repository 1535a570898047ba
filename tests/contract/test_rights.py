"""With exactly the rights that `hecate.rights` prints everything works, and with one less it fails and says which."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
from conftest import RealCaddy
from hecate import model, rights, wiring
from hecate import rotating as rotation
from hecate.errors import HecateError, NotAuthorised
from hecate.rights.text import consul_rules, policy
from hecate.store.deployments import RUNNING, Deployment

from contract.authority import Authority
from contract.openbao import OpenBao, openbao
from contract.test_stores import TOKEN, consul
from lab.emulators.authentik import Authentik
from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns
from lab.emulators.nomad import Nomad

__all__ = ["consul", "openbao"]  # fixtures
Pillar = dict[str, Any]
NOWHERE = "http://127.0.0.1:1"
CONSENT = ("deletes", "updates")
SYSTEMS = {"hecate-controller": "nomad", "hecate-authentik": "authentik", "hecate-dns": "hetzner_dns", "edge": "caddy"}


def place(folder: Path, minion: str = "edge") -> wiring.Place:
    return wiring.Place(minion, folder, guards=lambda: ("in.rights.test",), allow=CONSENT, sleep=lambda seconds: None)


def course(system: str, pillar: Pillar, at: wiring.Place) -> None:
    """What a deploy and its rollback do on one target."""
    made = wiring.target(system, model.parse({"hecate": pillar}), at)
    assert made.engine.plan(made.wish).changes
    made.engine.apply(made.wish, "t1")
    assert not made.engine.plan(made.wish).changes
    wiring.access(system, model.parse_access({"hecate": pillar}), at).engine.undo("t1")
    assert made.engine.plan(made.wish).changes


# authentik: a role


def identity(url: str = NOWHERE, **more: Any) -> Pillar:
    """Something of every kind that a role is enough for."""
    policies: Pillar = {
        "staff": {"groups": ["staff"]},
        "near": {"groups": ["staff", "crew"], "attributes": {"country": "DE"}, "require_mfa": True},
        "inside": {"groups": ["staff"], "outpost": "inside"},
    }
    dial = {"upstreams": ["127.0.0.1:1"]}
    return {
        "environment": "lab",
        "authentik": {
            "url": url,
            "token": "env:AUTHENTIK_TOKEN",
            "outposts": {"inside": {"address": "127.0.0.1:9100"}},
            "groups": {"crew": {"members": ["alice", "robot"], "attributes": {"floor": 3}}},
            "service_accounts": {"robot": {"name": "Robot"}},
            "brands": {"hera.rights.test": {"title": "Hera"}},
            "events": {"url": "https://events.rights.test/", "secret": "env:SIGNING"},
            **more,
        },
        "auth_policies": policies,
        "routes": {
            "a.rights.test": {**dial, "auth_policy": "near"},
            "b.rights.test": {**dial, "auth_policy": "inside"},
        },
        "applications": {
            "chat": {
                "auth_policy": "staff",
                "oauth2": {"client_secret": "env:SIGNING", "redirect_uris": "https://chat.rights.test/back"},
            },
            "wiki": {"auth_policy": "staff", "saml": {"acs_url": "https://wiki.rights.test/acs"}},
        },
    }


# By the emulator's table, a field in which somebody meddles, and how.
MEDDLED: dict[str, tuple[str, Any]] = {
    "policies": ("expression", "return True"),
    "providers": ("authentication_flow", None),
    "applications": ("meta_description", "meddled"),
    "bindings": ("order", 77),
    "flows": ("title", "meddled"),
    "stages": ("not_configured_action", "skip"),
    "flow_bindings": ("order", 77),
    "brands": ("branding_title", "meddled"),
    "mappings": ("expression", "return {}"),
    "transports": ("webhook_url", "https://meddled.test/"),
    "rules": ("severity", "alert"),
    "groups": ("attributes", None),
    "users": ("name", "meddled"),
}


@dataclass
class Identity:
    """An emulated authentik whose token's user is no superuser, and what was on it before Hecate came."""

    server: Authentik
    pillar: Pillar
    folder: Path
    strangers: dict[str, set[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.strangers = {table: set(self.server.state.table(table)) for table in MEDDLED}

    def meddle(self) -> None:
        """In every object that was made, and in who is a member."""
        state = self.server.state
        for table, (name, value) in MEDDLED.items():
            made = [row for key, row in state.table(table).items() if key not in self.strangers[table]]
            for row in made:
                if table == "policies" and row["kind"] == "event_matcher":
                    row["action"] = "logout"
                elif table == "providers":
                    row.update(access_token_validity="days=9", acs_url="https://meddled.test/", client_type="public")
                elif table == "groups":
                    row["attributes"] = {**row["attributes"], "floor": 9}
                    row["users"] = [next(pk for pk, user in state.users.items() if user["username"] == "akadmin")]
                else:
                    row[name] = value
        for outpost in state.outposts.values():
            if outpost["managed"]:  # others refuse to have none
                outpost["providers"] = []

    def through(self) -> None:
        """Made, meddled with, mended, and undone."""
        at = place(self.folder)
        made = wiring.target("authentik", model.parse({"hecate": self.pillar}), at)
        made.engine.apply(made.wish, "t1")
        self.meddle()
        made.engine.apply(made.wish, "t2")
        assert not made.engine.plan(made.wish).changes
        for transaction in ("t2", "t1"):
            wiring.access("authentik", model.parse_access({"hecate": self.pillar}), at).engine.undo(transaction)


@pytest.fixture
def with_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sequence[str]], Identity]]:
    token = secrets.token_hex(20)
    monkeypatch.setenv("AUTHENTIK_TOKEN", token)
    monkeypatch.setenv("SIGNING", secrets.token_hex(20))
    seed = {"groups": ["staff"], "users": [{"username": "alice", "name": "Alice", "password": "pw", "groups": []}]}
    server = Authentik(token=token, superuser=False, rights=(), seed=seed)
    with running(server) as url:

        def granted(permissions: Sequence[str]) -> Identity:
            server.state.rights[server.owner] = frozenset(codename(p) for p in permissions)
            return Identity(server, identity(url), tmp_path)

        yield granted


def codename(permission: str) -> str:
    return permission.partition(".")[2]


PERMISSIONS = rights.of(model.parse({"hecate": identity()}), "hecate-authentik").permissions


def test_a_role_of_exactly_these_permissions_is_enough(with_rights: Callable[[Sequence[str]], Identity]) -> None:
    world = with_rights(PERMISSIONS)
    before = {table: set(keys) for table, keys in world.strangers.items()}
    world.through()
    assert {table: set(world.server.state.table(table)) for table in MEDDLED} == before
    assert not [call for call in world.server.calls if call["status"] == 403]


@pytest.mark.parametrize("missing", PERMISSIONS, ids=codename)
def test_a_permission_less_fails_and_is_named(missing: str, with_rights: Callable[[Sequence[str]], Identity]) -> None:
    world = with_rights([permission for permission in PERMISSIONS if permission != missing])
    with pytest.raises(HecateError) as caught:
        world.through()
    assert re.search(rf"lacks .*\b{codename(missing)}\b", str(caught.value))


def test_tokens_of_others_are_a_superuser_s_to_make() -> None:
    accounts = {"robot": {"tokens": {"one": "env:SIGNING"}}}
    found = rights.of(model.parse({"hecate": identity(service_accounts=accounts)}), "hecate-authentik")
    assert "robot" in found.superuser and not found.permissions


# Vault: a policy for each target


def estate(folder: Path = Path("/nowhere"), **urls: str) -> Pillar:
    """All that the targets resolve comes from Vault. urls: vault, authentik, hetzner, nomad, admin, https"""
    guarded = {"upstreams": ["127.0.0.1:1"], "auth_policy": "staff", "tls": {"issuer": "internal"}}
    stored = {"vault": "vault:rights/tls#certificate", "vault_key": "vault:rights/tls-key#key"}
    role = {"role_id": "env:ROLE_ID", "secret_id": "env:SECRET_ID", "mount": "hecate-rights"}
    signing = "vault:rights/events#secret"
    return {
        "environment": "lab",
        "vault": {"url": urls.get("vault", NOWHERE), "approle": role},
        "caddy": {"admin": urls.get("admin", "unix//run/caddy.sock"), "issuer": "internal"},
        "certificates": {"folder": str(folder / "certificates")},
        "edges": {"edge": {"https": int(urls.get("https", 443)), "bind": "127.0.0.1"}},
        "authentik": {
            "url": urls.get("authentik", NOWHERE),
            "token": "vault:rights/authentik#token",
            "events": {"url": "https://events.rights.test/", "secret": signing},
        },
        "hetzner_dns": {
            "endpoint": f"{urls.get('hetzner', NOWHERE)}/v1",
            "token": "vault:rights/hetzner#token",
        },
        "dns": {"zones": {"rights.test": {"policy": "sync", "records": {"@": {"TXT": "v=spf1 -all"}}}}},
        "nomad": {
            "url": urls.get("nomad", NOWHERE),
            "token": "vault:rights/nomad#token",
            "deadline": 20,
            "min_healthy": 0.1,
        },
        "workloads": {"one": {"driver": "raw_exec", "config": {"command": "/bin/sleep", "args": ["600"]}}},
        "store": {"consul": {"url": NOWHERE, "token": "vault:rights/consul#token"}},
        "auth_policies": {"staff": {"groups": ["staff"]}},
        "applications": {
            "chat": {
                "auth_policy": "staff",
                "oauth2": {"client_secret": "vault:rights/chat#secret", "redirect_uris": "https://chat.rights.test/"},
            }
        },
        "routes": {
            "in.rights.test": {**guarded, "dns": {"A": "192.0.2.1"}},
            "app.rights.test": {"upstreams": ["127.0.0.1:1"], "tls": stored},
            "pki.rights.test": {"upstreams": ["127.0.0.1:1"], "tls": {"pki": {"mount": "rights-pki", "role": "web"}}},
        },
    }


@dataclass
class Systems:
    """Real OpenBao and Caddy, the rest emulated: each knows its token, and OpenBao a role for each target."""

    bao: OpenBao
    pillar: Pillar
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    emulators: dict[str, Any]

    def login(self, rules: Sequence[rights.Rule]) -> None:
        """As a machine with just these rules, and not even Vault's default policy."""
        client = hvac.Client(url=self.bao.url, token=self.bao.token, timeout=10)
        name = f"rights-{secrets.token_hex(4)}"
        client.sys.create_or_update_policy(name, policy(rules) or "# nothing")
        role = client.auth.approle
        options = {"token_policies": [name], "token_no_default_policy": True}
        role.create_or_update_approle(name, mount_point="hecate-rights", **options)
        ids = role.read_role_id(name, mount_point="hecate-rights")["data"]["role_id"]
        secret = role.generate_secret_id(name, mount_point="hecate-rights")["data"]["secret_id"]
        self.monkeypatch.setenv("ROLE_ID", ids)
        self.monkeypatch.setenv("SECRET_ID", secret)

    def deploy(self, holder: str) -> None:
        course(SYSTEMS[holder], self.pillar, place(self.folder, holder))


@pytest.fixture(scope="session")
def prepared(openbao: OpenBao) -> OpenBao:
    """With a way in for machines, and an authority that signs for the edges."""
    client = hvac.Client(url=openbao.url, token=openbao.token, timeout=10)
    client.sys.enable_auth_method("approle", path="hecate-rights")
    client.sys.enable_secrets_engine("pki", path="rights-pki")
    client.secrets.pki.generate_root("internal", "rights", mount_point="rights-pki")
    allowed = {"allowed_domains": ["rights.test"], "allow_subdomains": True, "key_type": "any", "max_ttl": "24h"}
    client.secrets.pki.create_or_update_role("web", allowed, mount_point="rights-pki")
    return openbao


@pytest.fixture
def systems(prepared: OpenBao, caddy: RealCaddy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systems]:
    tokens = {name: secrets.token_hex(20) for name in ("authentik", "hetzner", "nomad")}
    for name, token in tokens.items():
        prepared.put(f"rights/{name}", token=token)
    for name in ("events", "chat"):
        prepared.put(f"rights/{name}", secret=secrets.token_hex(20))
    certificate, key = Authority("rights").pair("app.rights.test")
    prepared.put("rights/tls", certificate=certificate)
    prepared.put("rights/tls-key", key=key)
    authentik = Authentik(token=tokens["authentik"], seed={"groups": ["staff"]})
    hetzner = HetznerDns(tokens["hetzner"], ("rights.test",))
    nomad = Nomad(folder=tmp_path / "nomad", token=tokens["nomad"])
    try:
        with running(authentik) as identity_url, running(hetzner) as dns_url, running(nomad) as nomad_url:
            pillar = estate(
                tmp_path,
                vault=prepared.url,
                admin=caddy.admin,
                https=str(caddy.https),
                authentik=identity_url,
                hetzner=dns_url,
                nomad=nomad_url,
            )
            emulators = {"authentik": authentik, "hetzner": hetzner, "nomad": nomad}
            yield Systems(prepared, pillar, tmp_path, monkeypatch, emulators)
    finally:
        nomad.close()


NEEDED = {found.holder: found for found in rights.needed(model.parse({"hecate": estate()}))}
RULES = [(holder, rule) for holder in SYSTEMS for rule in NEEDED[holder].vault]


@pytest.mark.parametrize("holder", SYSTEMS)
def test_each_target_does_its_part_of_a_deploy_with_its_own_policy_alone(holder: str, systems: Systems) -> None:
    systems.login(NEEDED[holder].vault)
    systems.deploy(holder)


@pytest.mark.parametrize(("holder", "missing"), RULES, ids=[f"{holder} {rule.path}" for holder, rule in RULES])
def test_a_rule_less_fails_and_is_named(holder: str, missing: rights.Rule, systems: Systems) -> None:
    systems.login([rule for rule in NEEDED[holder].vault if rule != missing])
    with pytest.raises(HecateError) as caught:
        systems.deploy(holder)
    assert policy([replace(missing, why=())]).rpartition("\n")[2] in str(caught.value)


def test_no_target_reads_what_is_another_s(systems: Systems) -> None:
    """The policies of two targets have nothing in common, so a stolen one opens one system."""
    paths = [{rule.path for rule in found.vault} for found in NEEDED.values() if found.holder != rights.ENGINE]
    assert sum(map(len, paths)) == len(set().union(*paths))
    systems.login(NEEDED["edge"].vault)
    with pytest.raises(HecateError, match="rights/hetzner"):
        systems.deploy("hecate-dns")


# Rotation, of Hecate's own token by its own user


OWN = {"kind": "authentik_token", "secret": "vault:rights/own#token", "account": "hecate"}


def rotating(url: str = NOWHERE, vault: str = NOWHERE) -> Pillar:
    role = {"role_id": "env:ROLE_ID", "secret_id": "env:SECRET_ID", "mount": "hecate-rights"}
    return {
        "vault": {"url": vault, "approle": role},
        "authentik": {"url": url, "token": "vault:rights/own#token"},
        "rotation": {"own": OWN},
    }


ROTATES = rights.of(model.parse({"hecate": rotating()}), "hecate-authentik")
TO_ROTATE = [
    name for name in ROTATES.permissions if name.endswith(("token", "token_key")) or name.endswith("view_user")
]


def rotate(systems: Systems, permissions: Sequence[str], rules: Sequence[rights.Rule], *, ends: bool = False) -> None:
    """The token in use was made by hand, so it has to be looked for by its key. ends: what the account's tokens do."""
    key = secrets.token_hex(20)
    server = Authentik(superuser=False, rights=[codename(name) for name in permissions])
    server.state.users[server.owner]["attributes"]["goauthentik.io/user/token-expires"] = ends
    row = {"managed": None, "identifier": "by-hand", "intent": "api", "user": server.owner, "description": ""}
    server.state.add("tokens", {**row, "expires": None, "expiring": False, "key": key})
    systems.bao.put("rights/own", token=key)
    systems.login(rules)
    with running(server) as url:
        parsed = model.parse({"hecate": rotating(url, systems.bao.url)})
        course_of = rotation.course(parsed, place(systems.folder, "hecate-authentik"), "own")
        course_of.run(begin=True, immediate=True, told=True)
    others = [row for row in server.state.tokens.values() if row["key"] not in (key, server.token)]
    assert [row["expiring"] for row in others] == [False]
    assert key not in {row["key"] for row in server.state.tokens.values()}


def test_its_own_token_is_rotated_with_exactly_these_rights(systems: Systems) -> None:
    rotate(systems, ROTATES.permissions, ROTATES.vault)


def test_a_successor_that_would_end_by_itself_is_refused(systems: Systems) -> None:
    with pytest.raises(HecateError, match="token-expires: false"):
        rotate(systems, ROTATES.permissions, ROTATES.vault, ends=True)


@pytest.mark.parametrize("missing", TO_ROTATE, ids=codename)
def test_a_permission_less_and_the_rotation_fails_and_names_it(missing: str, systems: Systems) -> None:
    with pytest.raises(HecateError) as caught:
        rotate(systems, [name for name in ROTATES.permissions if name != missing], ROTATES.vault)
    assert re.search(rf"lacks .*\b{codename(missing)}\b", str(caught.value))


@pytest.mark.parametrize("missing", ["read", "update"])
def test_a_capability_less_and_the_rotation_fails_and_names_it(missing: str, systems: Systems) -> None:
    (rule,) = ROTATES.vault
    left = tuple(name for name in rule.capabilities if name != missing)
    with pytest.raises(HecateError) as caught:
        rotate(systems, ROTATES.permissions, [replace(rule, capabilities=left)])
    assert rule.path in str(caught.value) and f'"{missing}"' in str(caught.value)


# The others


def test_a_token_that_may_only_read_is_told_to_be_one(systems: Systems) -> None:
    assert NEEDED["hecate-dns"].hetzner == "Read & Write"
    systems.login(NEEDED["hecate-dns"].vault)
    systems.emulators["hetzner"].read_only = True
    with pytest.raises(HecateError, match="Read & Write"):
        systems.deploy("hecate-dns")


@pytest.mark.parametrize("missing", NEEDED["hecate-controller"].nomad)
def test_a_capability_less_in_nomad_fails_and_is_named(missing: str, systems: Systems) -> None:
    systems.login(NEEDED["hecate-controller"].vault)
    systems.emulators["nomad"].capabilities = set(NEEDED["hecate-controller"].nomad) - {missing}
    with pytest.raises(HecateError, match=missing):
        systems.deploy("hecate-controller")


def acl_token(url: str, rules: str) -> str:
    """A new token of a real Consul with one policy."""
    headers, name = {"X-Consul-Token": TOKEN}, f"rights-{secrets.token_hex(4)}"
    made = {"Name": name, "Rules": rules}
    requests.put(f"{url}/v1/acl/policy", json=made, headers=headers, timeout=10).raise_for_status()
    answer = requests.put(f"{url}/v1/acl/token", json={"Policies": [{"Name": name}]}, headers=headers, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["SecretID"])


@pytest.mark.parametrize("granted", ["all", "read alone", "no sessions", "none"])
def test_the_master_s_policy_in_consul_is_enough_for_lock_history_and_outputs(
    granted: str, consul: str, prepared: OpenBao, systems: Systems, tmp_path: Path
) -> None:
    rules = consul_rules(NEEDED[rights.MASTER].consul)
    given = {
        "all": rules,
        "read alone": rules.replace('"write"', '"read"'),
        "none": 'key_prefix "else" {policy="write"}',
        "no sessions": rules.partition("\n")[0],
    }
    prepared.put("rights/consul", token=acl_token(consul, given[granted]))
    systems.login(NEEDED[rights.MASTER].vault)
    systems.pillar["store"]["consul"]["url"] = consul
    deployments = wiring.deployments(model.parse({"hecate": systems.pillar}), tmp_path, wiring.Keeper())
    if granted != "all":
        with pytest.raises(NotAuthorised) as caught:
            deployments.acquire("20260101-000000-aaaaaaaa", "alice")
        assert any(rule in str(caught.value) for rule in rules.splitlines())
        return
    deployments.acquire("20260101-000000-aaaaaaaa", "alice")
    deployments.save(Deployment("20260101-000000-aaaaaaaa", RUNNING, "alice", 1.0))
    deployments.save_outputs({"edge_address": "192.0.2.1"})
    assert deployments.outputs() and deployments.unfinished() and deployments.history(1)
    deployments.release("20260101-000000-aaaaaaaa")


def test_the_master_fails_without_its_rule_in_vault_and_names_it(systems: Systems, tmp_path: Path) -> None:
    (rule,) = NEEDED[rights.MASTER].vault
    systems.login([])
    with pytest.raises(HecateError, match=rule.path):
        wiring.deployments(model.parse({"hecate": systems.pillar}), tmp_path, wiring.Keeper())
