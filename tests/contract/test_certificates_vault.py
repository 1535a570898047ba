"""Certificates that OpenBao's PKI engine signs: asked for, served, renewed, lost, undone; by a real Caddy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from hecate import model, wiring
from hecate.backends.caddy_pki import is_fresh
from hecate.clients.caddy import CaddyClient
from hecate.errors import ApplyFailed, InvalidPillar, SecretUnavailable
from salt.exceptions import CommandExecutionError

from contract.authority import Authority
from contract.edge import EdgeUnderTest
from contract.minion import Minion
from contract.openbao import OpenBao, openbao
from contract.test_caddy_tls import INTERNAL, differs, held, settled, shake

__all__ = ["openbao"]
PRIVATE = "PRIVATE KEY"
POLICY = 'path "issuing/sign/web" { capabilities = ["update"] }'


@dataclass
class Signing:
    """A root in OpenBao, an authority below it, its role `web`; and an estate whose one route asks that role.

    The estate's token may ask for signatures and do nothing else.
    """

    edge: EdgeUnderTest
    bao: hvac.Client
    url: str
    root: str
    pki: dict[str, Any] = field(default_factory=lambda: {"mount": "issuing", "role": "web"})
    hosts: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return self.edge.folder / "hecate" / "certificates"

    @property
    def wish(self) -> dict[str, Any]:
        route = {"upstreams": ["127.0.0.1:9"], "hosts": list(self.hosts), "tls": {"pki": self.pki}}
        return {
            "caddy": INTERNAL,
            "vault": {"url": self.url, "token": "env:SIGNING_TOKEN"},
            "routes": {"app.test": route},
        }

    def role(self, **settings: Any) -> None:
        usual = {"allowed_domains": "test", "allow_subdomains": True, "key_type": "any", "ttl": "1h"}
        self.bao.write_data("issuing/roles/web", data={**usual, **settings})

    def spent(self) -> None:
        """What is signed from now on is past two thirds of its life at once."""
        self.role(ttl="10m", not_before_duration="5h")

    def signatures(self) -> int:
        """How many certificates that authority has signed."""
        answer = self.bao.list("issuing/certs")
        return len(answer["data"]["keys"]) if answer else 0

    def shown(self, sni: str = "app.test") -> bytes:
        """Served, and good for a client that knows the root alone."""
        return shake(self.edge, sni, trust=self.root).certificate.public_bytes(Encoding.DER)


@pytest.fixture(scope="session")
def authority(openbao: OpenBao) -> tuple[hvac.Client, str]:
    """OpenBao with a root and an authority below it, and the root as PEM."""
    bao = hvac.Client(url=openbao.url, token=openbao.token, timeout=10)
    for mount in ("root", "issuing"):
        bao.sys.enable_secrets_engine("pki", path=mount, config={"max_lease_ttl": "87600h"})
    root = bao.write_data("root/root/generate/internal", data={"common_name": "root of the tests", "ttl": "8760h"})
    made = bao.write_data("issuing/intermediate/generate/internal", data={"common_name": "issuing"})["data"]
    signed = bao.write_data("root/root/sign-intermediate", data={"csr": made["csr"], "ttl": "4000h"})["data"]
    chain = f"{signed['certificate']}\n{signed['issuing_ca']}"
    bao.write_data("issuing/intermediate/set-signed", data={"certificate": chain})
    bao.sys.create_or_update_policy("signing", POLICY)
    return bao, str(root["data"]["certificate"])


@pytest.fixture
def signing(
    edge: EdgeUnderTest, openbao: OpenBao, authority: tuple[hvac.Client, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Signing]:
    bao, root = authority
    token = bao.auth.token.create(policies=["signing"], no_default_policy=True)["auth"]["client_token"]
    monkeypatch.setenv("SIGNING_TOKEN", token)
    found = Signing(edge, bao, openbao.url, root)
    found.role()
    yield found
    bao.auth.token.revoke(token)


def keys_in(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in folder.rglob("*.key"))


def test_a_certificate_is_signed_when_it_is_applied_and_its_key_is_in_one_file_alone(signing: Signing) -> None:
    edge, before = signing.edge, signing.signatures()
    target = edge.target(**signing.wish)
    plan = target.engine.plan(target.wish)
    assert plan and plan.digest == target.engine.plan(target.wish).digest
    assert signing.signatures() == before and not signing.folder.exists(), "planning signs and writes nothing"
    outcome = target.engine.apply(target.wish, "first")
    signing.shown()
    assert signing.signatures() == before + 1
    assert not differs(edge, **signing.wish)
    (key,) = keys_in(signing.folder)
    secret = key.splitlines()[1]
    told = [str(plan), str(outcome), json.dumps(held(edge)), json.dumps([r.to_json() for r in target.desired])]
    assert not any(secret in text or PRIVATE in text for text in told)
    having = [path for path in edge.folder.rglob("*") if path.is_file() and secret in path.read_text()]
    assert [path.suffix for path in having] == [".key"] and having[0].parent == signing.folder
    assert signing.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in signing.folder.iterdir()} == {0o600}


def test_what_is_served_has_the_authority_below_the_root_and_not_the_root_with_it(signing: Signing) -> None:
    signing.edge.apply(**signing.wish)
    (file,) = signing.folder.glob("*.crt")
    chain = x509.load_pem_x509_certificates(file.read_bytes())
    assert len(chain) == 2 and chain[0].issuer == chain[1].subject and chain[1].subject != chain[1].issuer


def test_the_certificate_names_every_host_of_its_route_and_another_host_asks_for_another(signing: Signing) -> None:
    signing.hosts = ("www.test", "*.deep.test")
    settled(signing.edge, **signing.wish)
    first = signing.shown()
    assert first == signing.shown("www.test") == signing.shown("any.deep.test")
    signing.hosts = (*signing.hosts, "more.test")
    settled(signing.edge, **signing.wish)
    assert signing.shown("more.test") == signing.shown() != first
    assert len(set(keys_in(signing.folder))) == 2


@pytest.mark.parametrize("kind", ["ec256", "ec384", "rsa2048", "rsa4096"])
def test_the_key_is_of_the_kind_that_pillar_wants_and_the_life_as_long(signing: Signing, kind: str) -> None:
    signing.pki |= {"key": kind, "ttl": "20m"}
    settled(signing.edge, **signing.wish)
    found = x509.load_der_x509_certificate(signing.shown())
    key: Any = found.public_key()
    assert f"{'rsa' if isinstance(key, RSAPublicKey) else 'ec'}{key.key_size}" == kind
    left = found.not_valid_after_utc - datetime.now(timezone.utc)
    assert timedelta(minutes=10) < left <= timedelta(minutes=20)


def test_a_certificate_past_two_thirds_of_its_life_is_replaced_and_undoing_leads_back(signing: Signing) -> None:
    edge = signing.edge
    signing.spent()
    edge.apply(**signing.wish)
    old = signing.shown()
    signing.role()
    target = edge.target(**signing.wish)
    assert [change.id for change in target.engine.plan(target.wish).changes] == ["caddy.route app.test"]
    target.engine.apply(target.wish, "renewal")
    signed = signing.signatures()
    assert signing.shown() != old and not differs(edge, **signing.wish)
    assert len(set(keys_in(signing.folder))) == 2, "each certificate has a key of its own"
    edge.target(**signing.wish).engine.undo("renewal")
    assert signing.shown() == old
    settled(edge, **signing.wish)
    assert signing.shown() != old and signing.signatures() == signed, "the one that was signed already is taken again"


def test_undoing_says_so_where_the_files_from_before_are_gone(signing: Signing) -> None:
    edge = signing.edge
    edge.apply(**signing.wish)
    old = [Path(loaded(edge)[0][kind]) for kind in ("certificate", "key")]
    target = edge.target(**signing.wish)
    target.engine.apply(wiring.renewal(target, ["app.test"]), "renewal")
    new = signing.shown()
    for path in old:
        path.unlink()
    with pytest.raises(SecretUnavailable, match="nobody has them but this edge; apply once more"):
        edge.target(**signing.wish).engine.undo("renewal")
    assert signing.shown() == new


def test_a_run_that_fails_after_the_signature_uses_it_the_next_time(
    signing: Signing, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = signing.edge
    with monkeypatch.context() as patched:
        patched.setattr(CaddyClient, "replace", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("cut off")))
        with pytest.raises(ApplyFailed, match="cut off"):
            edge.apply(**signing.wish)
    signed = signing.signatures()
    settled(edge, **signing.wish)
    assert signing.shown() and signing.signatures() == signed


@pytest.mark.parametrize("how", ["no key", "no certificate", "rubbish", "another key", "another pair"])
def test_files_that_were_lost_spoilt_or_exchanged_are_replaced_by_new_ones(signing: Signing, how: str) -> None:
    edge, client = signing.edge, CaddyClient(signing.edge.caddy.admin)
    settled(edge, **signing.wish)
    certificate, key = (Path(loaded(edge)[0][kind]) for kind in ("certificate", "key"))
    mallory = Authority("mallory").pair("app.test")
    seen = {key.read_text(), mallory[1]}
    if how.startswith("no "):
        (key if how == "no key" else certificate).unlink()
    if how == "rubbish":
        certificate.write_text(how)
    if how.startswith("another"):
        key.write_text(mallory[1])
    if how == "another pair":
        certificate.write_text(mallory[0])
        client.replace(*client.config(), force=True)
        assert shake(edge, "app.test").issuer == "CN=mallory"
    assert differs(edge, **signing.wish)
    settled(edge, **signing.wish)
    assert signing.shown() and Path(loaded(edge)[0]["key"]).read_text() not in seen, "a key of unknown fate is not kept"


def loaded(edge: EdgeUnderTest) -> list[dict[str, str]]:
    return list(held(edge)["apps"]["tls"]["certificates"]["load_files"])


def test_a_refusal_names_what_is_missing_and_leaves_the_certificate_in_use(signing: Signing) -> None:
    edge = signing.edge
    settled(edge, **signing.wish)
    old, files = signing.shown(), sorted(signing.folder.iterdir())

    def fails(match: str, **more: Any) -> None:
        with pytest.raises(ApplyFailed, match=match) as failed:
            edge.apply(**{**signing.wish, **more})
        assert failed.value.undone and PRIVATE not in str(failed.value)
        assert signing.shown() == old and sorted(signing.folder.iterdir()) == files

    signing.hosts = ("app.example.com",)
    fails("app.example.com not allowed by this role")
    signing.hosts = ("www.test",)
    signing.role(key_type="rsa")
    fails("role requires keys of type rsa")
    signing.role(use_csr_sans=False, use_csr_common_name=False)
    settled(edge, **signing.wish)
    old, files = signing.shown(), sorted(signing.folder.iterdir())
    signing.hosts = ("www.test", "third.test")
    signing.pki["role"] = "other"
    fails(r'needs path "issuing/sign/other" \{ capabilities = \["update"\] \}')


def test_renewing_touches_what_is_due_and_nothing_else_of_the_pillar(signing: Signing, tmp_path: Path) -> None:
    edge = signing.edge
    other = {"upstreams": ["127.0.0.1:9"], "tls": {"pki": dict(signing.pki)}}
    wish = {**signing.wish, "routes": {**signing.wish["routes"], "other.test": other}}
    settled(edge, **wish)
    old, fresh = signing.shown(), signing.shown("other.test")
    drifted = {**wish["routes"]["app.test"], "upstreams": ["127.0.0.1:10"]}
    (tmp_path / "minion").mkdir()
    pillar = edge.pillar(**{**wish, "routes": {"other.test": other, "app.test": drifted}})["hecate"]
    minion = Minion(tmp_path / "minion", pillar | {"certificates": {"folder": str(signing.folder)}})
    assert not minion.call("hecate_caddy.renew")["changes"]
    before, signed = held(edge), signing.signatures()
    planned = minion.call("hecate_caddy.renew", anew=["app.test"], test=True)
    assert "app.test" in planned["plan"] and not planned["changes"] and held(edge) == before
    assert signing.signatures() == signed
    done = minion.call("hecate_caddy.renew", anew="app.test")
    assert list(done["changes"]) == ["caddy.route app.test"] and PRIVATE not in json.dumps(done)
    assert signing.shown() != old and signing.shown("other.test") == fresh
    assert '"127.0.0.1:10"' not in json.dumps(held(edge)), "what waits in pillar is not this function's to apply"
    assert not minion.call("hecate_caddy.renew")["changes"]
    with pytest.raises(CommandExecutionError, match="strange.test: no route with a certificate that Vault signs"):
        minion.call("hecate_caddy.renew", anew=["strange.test"])


def test_renewing_by_schedule_replaces_what_is_due(signing: Signing, tmp_path: Path) -> None:
    edge = signing.edge
    signing.spent()
    edge.apply(**signing.wish)
    due = signing.shown()
    signing.role()
    (tmp_path / "minion").mkdir()
    pillar = edge.pillar(**signing.wish)["hecate"] | {"certificates": {"folder": str(signing.folder)}}
    minion = Minion(tmp_path / "minion", pillar)
    assert list(minion.call("hecate_caddy.renew")["changes"]) == ["caddy.route app.test"]
    assert signing.shown() != due and not minion.call("hecate_caddy.renew")["changes"]
    told = [p for p in (tmp_path / "minion").rglob("*") if p.is_file() and PRIVATE in p.read_text(errors="replace")]
    assert not told


def test_a_newer_certificate_in_the_kv_engine_is_renewed_as_well(
    edge: EdgeUnderTest, openbao: OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAO_TOKEN", openbao.token)
    ca = Authority("kept")

    def put() -> None:
        certificate, key = ca.pair("app.test")
        openbao.put("tls/renewed", certificate=certificate, key=key)

    put()
    tls = {"vault": "vault:tls/renewed#certificate", "vault_key": "vault:tls/renewed#key"}
    wish = {
        "caddy": INTERNAL,
        "vault": {"url": openbao.url, "token": "env:BAO_TOKEN"},
        "routes": {"app.test": {"upstreams": ["127.0.0.1:9"], "tls": tls}},
    }
    edge.apply(**wish)
    old = shake(edge, "app.test", trust=ca.pem).certificate
    (tmp_path / "minion").mkdir()
    folder = str(edge.folder / "hecate" / "certificates")
    minion = Minion(tmp_path / "minion", edge.pillar(**wish)["hecate"] | {"certificates": {"folder": folder}})
    assert not minion.call("hecate_caddy.renew")["changes"]
    put()
    assert list(minion.call("hecate_caddy.renew")["changes"]) == ["caddy.route app.test"]
    assert shake(edge, "app.test", trust=ca.pem).certificate != old


def test_a_certificate_is_due_after_two_thirds_of_its_life(tmp_path: Path) -> None:
    crt, _ = Authority("files").issue(tmp_path / "app", "app.test", days=89)
    found = x509.load_pem_x509_certificate(crt.read_bytes())
    begins, life = found.not_valid_before_utc, found.not_valid_after_utc - found.not_valid_before_utc
    second = timedelta(seconds=1)
    assert is_fresh(crt, ["app.test"], begins) and is_fresh(crt, ["app.test"], begins + life * 2 / 3 - second)
    assert not is_fresh(crt, ["app.test"], begins + life * 2 / 3 + second)
    assert not is_fresh(crt, ["app.test"], begins - second)
    assert not is_fresh(crt, ["app.test", "www.test"], begins) and not is_fresh(tmp_path / "none", [], begins)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vault": None}, "needs the section hecate:vault"),
        ({"vault": {"salt": True}}, "Salt's vault module reads alone"),
        ({"pki": {"role": "web", "mount": "/pki"}}, "mount"),
        ({"pki": {"role": "web/../x"}}, "role"),
        ({"pki": {"role": "web", "key": "dsa"}}, "key"),
        ({"pki": {"role": "web", "ttl": "soon"}}, "ttl"),
        ({"more": {"issuer": "internal"}}, "give one"),
        ({"more": {"vault": "vault:a#b", "vault_key": "vault:a#c"}}, "give one"),
    ],
)
def test_what_can_not_be_signed_is_refused_with_the_pillar(change: dict[str, Any], why: str) -> None:
    vault = change.get("vault", {"url": "http://127.0.0.1:1", "token": "env:X"})
    tls = {"pki": change.get("pki", {"role": "web"}), **change.get("more", {})}
    pillar = {"routes": {"app.test": {"upstreams": ["127.0.0.1:9"], "tls": tls}}}
    with pytest.raises(InvalidPillar, match=why):
        model.parse({"hecate": {**pillar, **({"vault": vault} if vault else {})}})
