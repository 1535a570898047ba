"""The least that each target needs: worked out from the pillar, and printed so that it can be pasted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hecate import model, rights
from hecate.backends.authentik_kinds import KINDS, PROVIDERS
from hecate.clients.authentik import ACTS, MODELS
from hecate.errors import HecateError
from hecate.model import Estate
from hecate.model.fields import SecretRef, Section
from hecate.rights import text

from lab.emulators.authentik_rights import needed as wanted_by_the_server

VAULT = {"url": "https://vault.example.com", "token": "file:/etc/hecate/token"}
AUTHENTIK = {"url": "https://auth.example.com", "token": "vault:hecate/authentik#token"}
ROUTE = {"upstreams": ["10.0.0.5:3000"]}


def estate(**sections: Any) -> Estate:
    return model.parse({"hecate": {"vault": VAULT, **sections}})


def rules(holder: str, **sections: Any) -> dict[str, rights.Rule]:
    return {rule.path: rule for rule in rights.of(estate(**sections), holder).vault}


def secrets_in(annotation: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether a secret reference can stand anywhere in a value of this type."""
    (validator,) = get_args(SecretRef)[1:]
    if annotation is validator:
        return True
    if isinstance(annotation, type) and issubclass(annotation, Section) and annotation not in seen:
        fields = annotation.model_fields.values()
        return any(secrets_in(part, (*seen, annotation)) for f in fields for part in (f.annotation, *f.metadata))
    return any(secrets_in(part, seen) for part in (*get_args(annotation), *getattr(annotation, "__metadata__", ())))


def sections_with_secrets() -> Iterator[str]:
    for name, field in Estate.model_fields.items():
        if any(secrets_in(part) for part in (field.annotation, *field.metadata)):
            yield name


@pytest.mark.parametrize("section", sorted(set(sections_with_secrets()) - {"rotation"}))
def test_of_every_section_that_may_hold_a_reference_it_is_known_who_resolves_it(section: str) -> None:
    assert isinstance(rights.resolved_by(f"hecate:{section}:x", estate()), tuple)


def test_the_sections_are_found_by_their_fields() -> None:
    assert {"authentik", "applications", "hetzner_dns", "routes", "store", "vault"} <= set(sections_with_secrets())
    assert "safety" not in set(sections_with_secrets())


def test_a_section_that_nobody_knows_is_told_rather_than_left_out() -> None:
    with pytest.raises(KeyError):
        rights.resolved_by("hecate:something_new:token", estate())


def test_each_target_reads_its_own_references_and_no_others() -> None:
    found = rights.needed(
        estate(
            authentik={**AUTHENTIK, "events": {"url": "https://e.example.com", "secret": "vault:hecate/events#s"}},
            hetzner_dns={"token": "vault:hecate/hetzner#token"},
            nomad={"token": "vault:hecate/nomad#token"},
            store={"consul": {"url": "http://127.0.0.1:8500", "token": "vault:hecate/consul#token"}},
            edges={"edge1": {}, "edge2": {}},
            routes={
                "app.example.com": {**ROUTE, "tls": {"vault": "vault:tls/app#crt", "vault_key": "vault:tls/app#key"}}
            },
        )
    )
    assert {one.holder: [rule.path for rule in one.vault] for one in found} == {
        "hecate-master": ["secret/data/hecate/consul"],
        "hecate-controller": ["secret/data/hecate/nomad"],
        "hecate-authentik": ["secret/data/hecate/authentik", "secret/data/hecate/events"],
        "hecate-dns": ["secret/data/hecate/hetzner"],
        "edge1": ["secret/data/tls/app"],
        "edge2": ["secret/data/tls/app"],
        "hecate-events": ["secret/data/hecate/events"],
    }
    assert all(rule.capabilities == ("read",) for one in found for rule in one.vault)


def test_two_keys_of_one_secret_are_one_rule_that_says_what_wants_it() -> None:
    tls = {"vault": "vault:tls/app#crt@3", "vault_key": "vault:tls/app#key"}
    (rule,) = rules("edge1", edges={"edge1": {}}, routes={"app.example.com": {**ROUTE, "tls": tls}}).values()
    path = "hecate:routes:app.example.com:tls"
    assert rule.path == "secret/data/tls/app" and rule.why == (f"{path}:vault", f"{path}:vault_key")


def test_a_signature_is_asked_for_and_nothing_is_read() -> None:
    routes = {"app.example.com": {**ROUTE, "tls": {"pki": {"mount": "pki/inside", "role": "web"}}}}
    (rule,) = rules("edge1", edges={"edge1": {}}, routes=routes).values()
    assert (rule.path, rule.capabilities) == ("pki/inside/sign/web", ("update",))


@pytest.mark.parametrize(("kv", "path"), [(1, "kv/hecate/authentik"), (2, "kv/data/hecate/authentik")])
def test_the_path_is_that_of_the_engine(kv: int, path: str) -> None:
    assert list(rules("hecate-authentik", authentik=AUTHENTIK, vault={**VAULT, "mount": "kv", "kv": kv})) == [path]


ROTATION: dict[str, Any] = {
    "hecate": {"kind": "authentik_token", "secret": "vault:hecate/authentik#token", "account": "hecate"},
    "dns": {"kind": "hetzner_token", "secret": "vault:hecate/hetzner#token", "next": "vault:desk/hetzner#token"},
    "turn": {"kind": "shared", "secret": "vault:turn#secret", "turn": "127.0.0.1:3478"},
    "web": {
        "kind": "basic_auth",
        "secret": "vault:web#password",
        "user": "alice",
        "hash_file": "/etc/caddy/web",
        "check": "https://web.example.com/",
    },
    "data": {"kind": "database", "role": "app", "root_of": "main", "server": "127.0.0.1:5432"},
}


def test_whoever_rotates_a_secret_may_write_over_it_and_create_none() -> None:
    found = rights.needed(
        estate(
            authentik=AUTHENTIK,
            hetzner_dns={"token": "vault:hecate/hetzner#token"},
            edges={"edge1": {}, "edge2": {}},
            rotation=ROTATION,
        )
    )
    assert {one.holder: {rule.path: rule.capabilities for rule in one.vault} for one in found} == {
        "hecate-master": {},
        "hecate-controller": {
            "secret/data/turn": ("read", "update"),
            "database/rotate-root/main": ("update",),
            "database/rotate-role/app": ("update",),
            "database/static-creds/app": ("read",),
        },
        "hecate-authentik": {"secret/data/hecate/authentik": ("read", "update")},
        "hecate-dns": {"secret/data/hecate/hetzner": ("read", "update"), "secret/data/desk/hetzner": ("read",)},
        "edge1": {"secret/data/web": ("read", "update")},
        "edge2": {"secret/data/web": ("read",)},
    }


def test_hecate_s_own_token_needs_no_superuser_to_be_rotated() -> None:
    mine, other = ROTATION["hecate"], {**ROTATION["hecate"], "secret": "vault:hecate/robot#token", "account": "robot"}
    found = rights.of(estate(authentik=AUTHENTIK, rotation={"mine": mine}), "hecate-authentik")
    more = {name.partition(".")[2] for name in set(found.permissions) - permitted()}
    assert more == {"add_token", "delete_token", "set_token_key", "view_token_key"}
    found = rights.of(estate(authentik=AUTHENTIK, rotation={"mine": mine, "other": other}), "hecate-authentik")
    assert "robot" in found.superuser


def test_what_comes_from_elsewhere_needs_no_policy() -> None:
    found = rights.needed(estate(authentik={**AUTHENTIK, "token": "file:/etc/token"}, edges={"edge1": {}}))
    assert not any(one.vault for one in found)
    assert {one.holder for one in found if one.is_nothing} == {"hecate-master", "edge1"}


def test_a_minion_with_two_parts_has_the_rights_of_both() -> None:
    both = rights.of(
        estate(
            authentik=AUTHENTIK,
            hetzner_dns={"token": "vault:hecate/hetzner#token"},
            targets={"authentik": "proxy", "dns": "proxy"},
        ),
        "proxy",
    )
    assert [rule.path for rule in both.vault] == ["secret/data/hecate/authentik", "secret/data/hecate/hetzner"]
    assert both.permissions and both.hetzner == "Read"


def test_a_token_writes_where_a_zone_has_a_policy() -> None:
    zones = {"zones": {"example.com": {"policy": "upsert-only"}}}
    assert rights.of(estate(hetzner_dns={"token": "env:T"}, dns=zones), "hecate-dns").hetzner == "Read & Write"


def test_the_store_is_one_environment_s() -> None:
    store = {"consul": {"url": "http://127.0.0.1:8500", "prefix": "shared"}}
    assert rights.of(estate(store=store, environment="staging"), "hecate-master").consul == "shared/staging/"


def test_somebody_without_a_part_is_told_who_has_one() -> None:
    with pytest.raises(HecateError, match="hecate-authentik"):
        rights.of(estate(authentik=AUTHENTIK), "elsewhere")


# authentik


def permitted(**sections: Any) -> set[str]:
    return set(rights.of(estate(authentik={**AUTHENTIK, **sections}), "hecate-authentik").permissions)


def test_whoever_wants_nothing_may_look_and_no_more() -> None:
    assert {name.partition(".")[2].partition("_")[0] for name in permitted()} == {"view"}


@pytest.mark.parametrize(
    ("wanted", "writes"),
    [
        ({"brands": {"auth.example.com": {}}}, {"brand"}),
        ({"service_accounts": {"robot": {}}}, {"user"}),
        ({"groups": {"crew": {"attributes": {"a": "b"}}}}, {"group"}),
        ({"groups": {"crew": {"members": ["alice"]}}}, {"group", "user_to_group", "user_from_group"}),
    ],
    ids=lambda value: ", ".join(sorted(value)),
)
def test_what_is_wanted_alone_may_be_written(wanted: dict[str, Any], writes: set[str]) -> None:
    more = {name.partition(".")[2] for name in permitted(**wanted) - permitted()}
    assert {name.partition("_")[2] for name in more} == writes


def test_a_token_for_another_user_takes_a_superuser() -> None:
    accounts = {"robot": {"tokens": {"one": "vault:hecate/robot#token"}}}
    found = rights.of(estate(authentik={**AUTHENTIK, "service_accounts": accounts}), "hecate-authentik")
    assert not found.permissions and "robot" in found.superuser
    assert (
        "a superuser's token" in text.text([found])
        and "superuser" in text.data([found])["hecate-authentik"]["authentik"]
    )


@pytest.mark.parametrize("path", MODELS)
def test_the_client_names_the_right_that_the_server_wants(path: str) -> None:
    app, _, codename = MODELS[path].partition(".")
    assert app.startswith("authentik_")
    assert wanted_by_the_server("GET", path) == [f"view_{codename}"]
    assert wanted_by_the_server("DELETE", f"{path}x/") == [f"delete_{codename}"]


@pytest.mark.parametrize(("act", "right"), ACTS.items())
def test_an_act_has_a_right_of_its_own(act: str, right: str) -> None:
    assert wanted_by_the_server("POST", f"/core/x/y/{act}/") == [right]


def test_every_kind_that_the_backend_writes_is_in_the_client_s_table() -> None:
    assert {kind.path for kind in (*KINDS.values(), *PROVIDERS.values())} <= MODELS.keys()


# As text

WHOLE: dict[str, Any] = {
    "authentik": AUTHENTIK,
    "hetzner_dns": {"token": "vault:hecate/hetzner#token"},
    "nomad": {"token": "vault:hecate/nomad#token"},
    "store": {"consul": {"url": "http://127.0.0.1:8500", "token": "vault:hecate/consul#token"}},
    "edges": {"edge1": {}},
    "routes": {"app.example.com": {**ROUTE, "tls": {"pki": {"role": "web"}}}},
}


def test_what_is_printed_can_be_pasted_into_a_shell() -> None:
    """Each command is a function here, that says what it was given."""
    said = "".join(f'{name}() {{ printf "%s\\n" "$*"; cat; }}\n' for name in ("bao", "consul", "nomad", "curl"))
    script = said + text.text(rights.needed(estate(**WHOLE)))
    done = subprocess.run(
        ["bash", "-eu"],
        input=script,
        capture_output=True,
        text=True,
        env={"AUTHENTIK_URL": "", "ROLE": "r", "AUTHENTIK_TOKEN": "t"},
    )
    assert done.returncode == 0 and not done.stderr
    assert "policy write hecate-authentik -\n" in done.stdout
    assert 'path "secret/data/hecate/authentik" { capabilities = ["read"] }\n' in done.stdout
    assert 'path "pki/sign/web" { capabilities = ["update"] }\n' in done.stdout
    assert "/rbac/permissions/assigned_by_roles/r/assign/" in done.stdout
    assert 'key_prefix "hecate/production/" { policy = "write" }\n' in done.stdout
    assert 'namespace "default" { capabilities = ["list-jobs", "read-job", "submit-job"] }\n' in done.stdout


def test_as_data_it_says_the_same() -> None:
    found = rights.needed(estate(**WHOLE))
    told = json.loads(json.dumps(text.data(found)))
    assert set(told) == {one.holder for one in found}
    assert told["edge1"] == {
        "vault": {"policy": "hecate-edge1", "hcl": text.policy(rights.of(estate(**WHOLE), "edge1").vault)}
    }
    assert told["hecate-authentik"]["authentik"]["role"] == "hecate-authentik"
    assert told["hecate-dns"]["hetzner"] == {"token": "Read"}
