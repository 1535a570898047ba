"""TLS at the edge: who issues, who gets in, and what is left when it is undone. Real handshakes, real Caddy."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from hecate import model, wiring
from hecate.backends import caddy_layout as layout
from hecate.certificates import certificates
from hecate.clients.caddy import CaddyClient
from hecate.compile.caddy import compile_caddy
from hecate.errors import ApplyFailed, Conflict, HecateError, SecretUnavailable
from hecate.model.caddy import Edge

from contract.authority import Authority
from contract.edge import MINION, EdgeUnderTest, Seen
from contract.openbao import OpenBao, openbao
from contract.pebble import Pebble, pebble

__all__ = ["openbao", "pebble"]  # fixtures
INTERNAL = {"issuer": "internal"}
TLS12 = ssl.TLSVersion.TLSv1_2


@dataclass
class Shaken:
    """One handshake and one answer. status: 0 where no answer came."""

    certificate: x509.Certificate
    version: str
    status: int

    @property
    def names(self) -> list[str]:
        found = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return sorted(found.get_values_for_type(x509.DNSName))

    @property
    def issuer(self) -> str:
        return self.certificate.issuer.rfc4514_string()


def shake(edge: EdgeUnderTest, sni: str, host: str = "", **more: Any) -> Shaken:
    """Handshake as `sni`, then GET / of `host`, else the same. more: see `context`."""
    with connected(edge, context(**more), sni) as tls:
        der, version = tls.getpeercert(binary_form=True), tls.version()
        assert der and version
        tls.sendall(request(host or sni))
        answer = http.client.HTTPResponse(tls)
        answer.begin()
        return Shaken(x509.load_der_x509_certificate(der), version, answer.status)


@contextmanager
def connected(
    edge: EdgeUnderTest, client: ssl.SSLContext, sni: str, session: ssl.SSLSession | None = None
) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", edge.caddy.https), 10) as plain,
        client.wrap_socket(plain, server_hostname=sni, session=session) as tls,
    ):
        yield tls


def request(host: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def context(
    trust: str = "", shown: tuple[Path, Path] | None = None, most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """A client. trust: PEM of the root that it verifies by, else by none. shown: its own certificate and key."""
    found = ssl.create_default_context(cadata=trust or None)
    if not trust:
        found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    if shown:
        found.load_cert_chain(*shown)
    found.maximum_version = most
    return found


def refused(edge: EdgeUnderTest, sni: str, **more: Any) -> bool:
    """Whether Caddy breaks the handshake off. With TLS 1.3 the client learns of it when it reads."""
    try:
        shake(edge, sni, **more)
    except ssl.SSLError as err:
        assert "ALERT" in str(err), err
        return True
    return False


def shake_issued(edge: EdgeUnderTest, sni: str, **more: Any) -> Shaken:
    """`shake`, once there is a certificate: Caddy gets them after the configuration runs."""
    until = time.monotonic() + 20
    while True:
        try:
            return shake(edge, sni, **more)
        except ssl.SSLError as err:
            assert "ALERT" in str(err) and time.monotonic() < until, (err, log(edge)[-4000:])
            time.sleep(0.05)


def log(edge: EdgeUnderTest) -> str:
    return (edge.caddy.folder / "caddy.log").read_text()


def held(edge: EdgeUnderTest) -> Any:
    """Caddy's whole configuration."""
    return CaddyClient(edge.caddy.admin).config()[0]


def settled(edge: EdgeUnderTest, **wish: Any) -> None:
    """Apply; whoever looks afterwards finds nothing left to do."""
    edge.apply(**wish)
    assert not differs(edge, **wish)


def removed(edge: EdgeUnderTest, *hosts: str) -> None:
    """Everything of Hecate's is taken out of Caddy again."""
    place = wiring.Place(MINION, edge.folder, allow=("deletes", *(f"route:{host}" for host in hosts)))
    target = wiring.target("caddy", model.parse(edge.pillar()), place)
    target.engine.apply(target.wish, "removal")


def differs(edge: EdgeUnderTest, **wish: Any) -> Any:
    """What an apply would change now, as whoever comes new sees it."""
    target = edge.target(**wish)
    return target.engine.plan(target.wish)


def test_an_acme_authority_issues_after_either_proof_and_for_every_name_of_a_route(
    edge: EdgeUnderTest, pebble: Pebble, tmp_path: Path
) -> None:
    app, before = edge.upstream(), held(edge)
    odd, key = Authority("files").issue(tmp_path / "odd", "else.test")
    ours = {"directory": pebble.directory, "ca": str(pebble.ca), "email": "ops@example.org"}
    by = {"by-http": {**ours, "challenges": ["http"]}, "by-alpn": {**ours, "challenges": ["tls-alpn"]}}
    yes = edge.upstream("ask", lambda _: (200, {}, b""))
    wish: dict[str, Any] = {
        "caddy": {"issuer": "acme"},
        "certificates": {
            "providers": by,
            "default": "by-http",
            "on_demand": {"ask": f"http://{yes.dial}/"},
            "dns_challenge": {"provider": "hetzner"},  # which this Caddy hasn't, and nothing here needs
        },
        "routes": {
            "http.acme.test": {"upstreams": [app.dial]},
            "alpn.acme.test": {"upstreams": [app.dial], "hosts": ["www.acme.test"], "tls": {"issuer": "by-alpn"}},
            "*.demand.test": {"upstreams": [app.dial], "tls": {"on_demand": True, "issuer": "by-alpn"}},
            "odd.acme.test": {"upstreams": [app.dial], "tls": {"certificate": str(odd), "key": str(key)}},
        },
    }
    settled(edge, **wish)
    for host in ("http.acme.test", "alpn.acme.test", "www.acme.test", "new.demand.test"):
        seen = shake_issued(edge, host, trust=pebble.root)
        assert (seen.status, seen.names) == (200, [host])
    asked = pebble.log.read_text()
    assert "http://http.acme.test" in asked, "proven over HTTP"
    assert "http://alpn.acme.test" not in asked and "http://www.acme.test" not in asked, "proven in the handshake"
    assert shake(edge, "odd.acme.test").names == ["else.test"]
    assert '"identifier":"www.acme.test"' in log(edge) and '"identifier":"odd.acme.test"' not in log(edge)
    removed(edge, *wish["routes"])
    assert held(edge) == before


def test_each_host_has_the_certificate_that_its_own_route_names(edge: EdgeUnderTest, tmp_path: Path) -> None:
    """Among wildcards too: Caddy by itself would serve a wildcard's certificate for every name below it."""
    up, ca = [edge.upstream().dial], Authority("files")
    files = {name: ca.issue(tmp_path / name, *hosts) for name, hosts in FILES.items()}

    def own(name: str) -> dict[str, str]:
        return {"certificate": str(files[name][0]), "key": str(files[name][1])}

    routes = {
        "*.f.test": {"upstreams": up, "tls": own("wild")},
        "internal.f.test": {"upstreams": up},
        "file.f.test": {"upstreams": up, "tls": own("one")},
        "*.i.test": {"upstreams": up, "hosts": ["alias.f.test"]},
        "file.i.test": {"upstreams": up, "hosts": ["other.i.test"], "tls": own("two")},
    }
    wish = {"caddy": INTERNAL, "routes": routes}
    settled(edge, **wish)
    expected = {
        "any.f.test": (["*.f.test"], "files"),
        "internal.f.test": (["internal.f.test"], "Caddy"),
        "file.f.test": (["file.f.test"], "files"),
        "alias.f.test": (["alias.f.test"], "Caddy"),
        "any.i.test": (["*.i.test"], "Caddy"),
        "file.i.test": (["file.i.test", "other.i.test"], "files"),
        "other.i.test": (["file.i.test", "other.i.test"], "files"),
    }
    for host, (names, issuer) in expected.items():
        settle(lambda host=host, names=names: shake_issued(edge, host).names == names)  # type: ignore[misc]
        seen = shake(edge, host)
        assert (seen.names, seen.status) == (names, 200) and issuer in seen.issuer, (host, seen)
    root = edge.target(**wish).backend.root_certificate()  # type: ignore[attr-defined]
    assert shake(edge, "any.i.test", trust=root).status == 200


FILES = {"wild": ["*.f.test"], "one": ["file.f.test"], "two": ["file.i.test", "other.i.test"]}


def settle(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_versions_and_client_certificates_are_a_matter_of_each_host(edge: EdgeUnderTest, tmp_path: Path) -> None:
    up, ca, other = [edge.upstream().dial], Authority("clients").write(tmp_path / "clients.pem"), Authority("another")
    right, wrong = ca.issue(tmp_path / "right", "alice"), other.issue(tmp_path / "wrong", "alice")
    asks = {"ca": str(tmp_path / "clients.pem")}
    routes = {
        "old.test.test": {"upstreams": up},
        "new.test.test": {"upstreams": up, "hosts": ["alias.test.test"], "tls": {"min_version": "1.3"}},
        "*.m.test": {"upstreams": up, "tls": {"client_auth": asks}},
        "m.test.test": {"upstreams": up, "hosts": ["z.open.test"], "tls": {"client_auth": asks, "min_version": "1.3"}},
        "maybe.test.test": {"upstreams": up, "tls": {"client_auth": {**asks, "mode": "verify_if_given"}}},
        "open.m.test": {"upstreams": up},
        "*.open.test": {"upstreams": up, "tls": {"min_version": "1.3"}},
    }
    settled(edge, caddy=INTERNAL, routes=routes)
    for host in ("old.test.test", "open.m.test", "maybe.test.test"):
        assert shake_issued(edge, host, most=TLS12).version == "TLSv1.2", host
    for host in ("new.test.test", "alias.test.test", "m.test.test", "a.open.test"):
        assert refused(edge, host, most=TLS12, shown=right), host
    for host in ("new.test.test", "alias.test.test", "a.open.test"):
        assert shake_issued(edge, host).version == "TLSv1.3"
    for host in ("any.m.test", "m.test.test", "z.open.test"):
        assert refused(edge, host), f"{host} let somebody without a certificate in"
        assert refused(edge, host, shown=wrong), f"{host} took the certificate of another authority"
        assert shake(edge, host, shown=right).status == 200
    assert shake(edge, "maybe.test.test", shown=right).status == 200
    assert refused(edge, "maybe.test.test", shown=wrong)


def test_no_other_names_handshake_and_no_resumed_one_opens_a_host_that_wants_certificates(
    edge: EdgeUnderTest, tmp_path: Path
) -> None:
    app = edge.upstream()
    Authority("clients").write(tmp_path / "ca.pem")
    closed = {"upstreams": [app.dial], "tls": {"client_auth": {"ca": str(tmp_path / "ca.pem")}}}
    edge.apply(caddy=INTERNAL, routes={"open.test.test": {"upstreams": [app.dial]}, "closed.test.test": closed})
    assert shake_issued(edge, "open.test.test").status == 200
    for host in ("closed.test.test", "CLOSED.test.test", f"closed.test.test:{edge.caddy.https}"):
        assert shake(edge, "open.test.test", host).status == 421
    trusting = context()
    with connected(edge, trusting, "open.test.test") as tls:
        tls.sendall(request("open.test.test"))
        while tls.recv(4096):
            pass
        ticket = tls.session
    assert ticket and ticket.has_ticket
    with connected(edge, trusting, "open.test.test", ticket) as tls:
        assert tls.session_reused
    seen = len(app.seen)
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        connected(edge, trusting, "closed.test.test", ticket) as tls,
    ):
        tls.sendall(request("closed.test.test"))
        tls.recv(4096)
    assert len(app.seen) == seen


def test_a_minimum_for_all_holds_where_a_route_says_nothing_else(edge: EdgeUnderTest, tmp_path: Path) -> None:
    up, (crt, key) = [edge.upstream().dial], Authority("files").issue(tmp_path / "file", "file.test.test")
    routes = {
        "new.test.test": {"upstreams": up},
        "old.test.test": {"upstreams": up, "tls": {"min_version": "1.2"}},
        "file.test.test": {"upstreams": up, "tls": {"certificate": str(crt), "key": str(key)}},
    }
    settled(edge, caddy={**INTERNAL, "min_tls": "1.3"}, routes=routes)
    assert shake_issued(edge, "old.test.test", most=TLS12).version == "TLSv1.2"
    for host in ("new.test.test", "file.test.test"):
        assert shake_issued(edge, host).version == "TLSv1.3"
        assert refused(edge, host, most=TLS12), host


def test_on_demand_there_are_certificates_for_the_names_that_the_endpoint_allows(edge: EdgeUnderTest) -> None:
    app = edge.upstream()
    asked: list[str] = []

    def allow(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        asked.extend(parse_qs(urlsplit(seen.path).query)["domain"])
        return (200 if asked[-1].startswith("good") else 404), {}, b""

    wish = {
        "caddy": INTERNAL,
        "certificates": {"on_demand": {"ask": f"http://{edge.upstream('ask', allow).dial}/may"}},
        "routes": {
            "*.demand.test": {"upstreams": [app.dial], "tls": {"on_demand": True}},
            "always.demand.test": {"upstreams": [app.dial]},
        },
    }
    settled(edge, **wish)
    seen = shake(edge, "good.demand.test")
    assert (seen.status, seen.names) == (200, ["good.demand.test"])
    assert refused(edge, "bad.demand.test")
    assert shake_issued(edge, "always.demand.test").names == ["always.demand.test"]
    assert set(asked) == {"good.demand.test", "bad.demand.test"}


def test_what_many_routes_have_in_common_takes_in_nobody_elses_host(edge: EdgeUnderTest, tmp_path: Path) -> None:
    """For each of them alone it would cost Caddy seconds a reload."""
    client, up = CaddyClient(edge.caddy.admin), [edge.upstream().dial]
    crt, key = Authority("files").issue(tmp_path / "file", "file.many.test")
    routes: dict[str, Any] = {f"h{n}.many.test": {"upstreams": up} for n in range(60)}
    routes |= {
        "file.many.test": {"upstreams": up, "tls": {"certificate": str(crt), "key": str(key)}},
        "min.many.test": {"upstreams": up, "tls": {"min_version": "1.3"}},
        "*.many.test": {"upstreams": up},
        "dead.test.test": {"upstreams": up, "tls": {"issuer": "dead"}},
        "*.demand.test": {"upstreams": up, "tls": {"on_demand": True}},
        "h.demand.test": {"upstreams": up},
    }
    dead = {"directory": "https://127.0.0.1:1/dir"}
    certificates = {"providers": {"dead": dead}, "on_demand": {"ask": "http://127.0.0.1:1/"}}
    wish: dict[str, Any] = {"caddy": INTERNAL, "certificates": certificates, "routes": routes}
    settled(edge, **wish)
    assert without_names(edge)
    for host in ("h59.many.test", "min.many.test", "h.demand.test"):
        assert "Caddy" in shake_issued(edge, host).issuer
    assert shake(edge, "file.many.test").issuer == "CN=files"
    assert refused(edge, "dead.test.test"), "its own authority doesn't answer, and no other was asked"

    config, etag = client.config()
    server = {"listen": ["127.0.0.1:0"], "automatic_https": {"disable": True}, "routes": [{"match": [HOST]}]}
    config["apps"]["http"]["servers"]["theirs"] = server
    client.replace(config, etag)
    assert differs(edge, **wish), "somebody else has a host now"
    settled(edge, **wish)
    assert not without_names(edge)

    config, etag = client.config()
    config["apps"]["tls"]["automation"]["policies"].append({"issuers": [{"module": "acme", "ca": dead["directory"]}]})
    del config["apps"]["http"]["servers"]["theirs"]
    client.replace(config, etag)
    routes["after.test.test"] = {"upstreams": up}
    settled(edge, **wish)
    assert without_names(edge) == [{"issuers": [{"module": "acme", "ca": dead["directory"]}]}]
    assert "Caddy" in shake_issued(edge, "after.test.test").issuer, "theirs for the rest doesn't hold for ours"


def test_what_is_said_without_names_is_read_back_for_just_the_routes_that_it_is_meant_for() -> None:
    """Not against Caddy, which would ask a public authority for the one that has no issuer of its own."""
    up = ["127.0.0.1:1"]
    routes: dict[str, Any] = {f"h{n}.test.test": {"upstreams": up, "tls": INTERNAL} for n in range(60)}
    routes["public.test.test"] = {"upstreams": up}
    routes["file.test.test"] = {"upstreams": up, "tls": {"certificate": "/etc/a.crt", "key": "/etc/a.key"}}
    wanted = compile_caddy(model.parse({"hecate": {"routes": routes}}), Edge(), ())
    specs = {resource.key: resource.spec for resource in wanted if resource.kind == "caddy.route"}
    config = layout.render({"apps": {"http": {}}}, "hecate", wanted[0].spec, specs)
    policies = config["apps"]["tls"]["automation"]["policies"]
    assert [policy.get("subjects") for policy in policies] == [["public.test.test"], None]
    assert layout.read(config, "hecate").routes == specs


HOST = {"host": ["theirs.many.test"]}


def without_names(edge: EdgeUnderTest) -> list[Any]:
    return [p for p in held(edge)["apps"]["tls"]["automation"]["policies"] if "subjects" not in p]


def test_a_caddy_without_the_dns_module_keeps_what_it_has_and_the_answer_names_the_module(
    edge: EdgeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = edge.upstream()
    before = {"caddy": INTERNAL, "routes": {"app.test": {"upstreams": [app.dial]}}}
    edge.apply(**before)
    monkeypatch.setenv("HETZNER_TOKEN", "canary")
    dns = {"dns_challenge": {"provider": "hetzner", "token": "env:HETZNER_TOKEN", "propagation_timeout": "2m"}}
    wish = {"caddy": {"issuer": "acme"}, "certificates": dns, "routes": {"*.app.test": {"upstreams": [app.dial]}}}
    with pytest.raises(HecateError, match=r"dns\.providers\.hetzner"):
        edge.apply(**wish)
    wanted = str(compile_caddy(model.parse(edge.pillar(**wish)), Edge(), ()))
    assert "{env.HETZNER_TOKEN}" in wanted and "canary" not in wanted, "Caddy reads the token, and Hecate never does"
    assert shake_issued(edge, "app.test").status == 200
    assert not differs(edge, **before)


def test_a_file_that_was_renewed_is_a_change_and_is_read_anew(edge: EdgeUnderTest, tmp_path: Path) -> None:
    ca, up = Authority("files"), [edge.upstream().dial]
    crt, key = ca.issue(tmp_path / "own", "own.test.test")
    tls = {"certificate": str(crt), "key": str(key)}
    wish = {"caddy": INTERNAL, "routes": {"own.test.test": {"upstreams": up, "tls": tls}}}
    settled(edge, **wish)
    old = shake(edge, "own.test.test").certificate
    ca.issue(tmp_path / "own", "own.test.test")
    plan = differs(edge, **wish)
    assert [change.id for change in plan.changes] == ["caddy.route own.test.test"]
    settled(edge, **wish)
    assert shake(edge, "own.test.test").certificate != old


def test_strangers_certificates_and_policies_are_left_alone(edge: EdgeUnderTest, tmp_path: Path) -> None:
    client, ca = CaddyClient(edge.caddy.admin), Authority("files")
    theirs, ours = ca.issue(tmp_path / "theirs", "app.test", "theirs.test"), ca.issue(tmp_path / "ours", "app.test")
    config, etag = client.config()
    config["apps"]["tls"] = {
        "automation": {
            "policies": [{"subjects": ["stranger.test"], "issuers": [{"module": "internal"}]}],
            "on_demand": {"permission": {"module": "http", "endpoint": "http://127.0.0.1:1/theirs"}},
        },
        "certificates": {
            "load_files": [{"certificate": str(theirs[0]), "key": str(theirs[1]), "tags": ["theirs"]}],
            "automate": ["stranger.test"],
        },
    }
    client.replace(config, etag)
    before, up = held(edge), [edge.upstream().dial]
    tls = {"certificate": str(ours[0]), "key": str(ours[1])}
    routes = {
        "app.test": {"upstreams": up, "tls": tls},
        "*.wide.test": {"upstreams": up, "tls": tls},
        "own.wide.test": {"upstreams": up},
    }
    settled(edge, caddy=INTERNAL, routes=routes)
    now = held(edge)["apps"]["tls"]
    assert shake(edge, "app.test").names == ["app.test"], "the route's own, though theirs names the host too"
    for path in (("automation", "policies"), ("certificates", "load_files"), ("certificates", "automate")):
        was = before["apps"]["tls"][path[0]][path[1]]
        assert all(item in now[path[0]][path[1]] for item in was) and len(now[path[0]][path[1]]) > len(was)
    demand = {"on_demand": {"ask": "http://127.0.0.1:1/ours"}}
    with pytest.raises(ApplyFailed) as failed:
        edge.apply(caddy=INTERNAL, certificates=demand, routes=routes)
    assert isinstance(failed.value.cause, Conflict) and "on_demand" in str(failed.value)
    removed(edge, *routes)
    assert held(edge) == before


@dataclass
class FromVault:
    """An estate whose one route has its certificate in OpenBao."""

    edge: EdgeUnderTest
    vault: OpenBao
    ca: Authority
    key: str = ""

    @property
    def folder(self) -> Path:
        return self.edge.folder / "hecate" / "certificates"

    @property
    def wish(self) -> dict[str, Any]:
        tls = {"vault": "vault:tls/app#certificate", "vault_key": "vault:tls/app#key"}
        return {
            "caddy": INTERNAL,
            "vault": {"url": self.vault.url, "token": "env:BAO_TOKEN", "mount": "secret"},
            "routes": {"app.test": {"upstreams": [self.edge.upstream().dial], "tls": tls}},
        }

    def renew(self, days: int = 90) -> None:
        certificate, self.key = self.ca.pair("app.test", days=days)
        self.vault.put("tls/app", certificate=certificate + self.ca.pem, key=self.key)


@pytest.fixture
def from_vault(edge: EdgeUnderTest, openbao: OpenBao, monkeypatch: pytest.MonkeyPatch) -> FromVault:
    monkeypatch.setenv("BAO_TOKEN", openbao.token)
    found = FromVault(edge, openbao, Authority("vault"))
    found.renew()
    return found


def test_a_certificate_from_vault_is_served_and_its_key_is_in_one_file_alone(from_vault: FromVault) -> None:
    edge, wish = from_vault.edge, from_vault.wish
    target = edge.target(**wish)
    planned = str(target.engine.plan(target.wish))
    assert not from_vault.folder.exists(), "planning writes nothing"
    outcome = target.engine.apply(target.wish, "first")
    assert not differs(edge, **wish)
    assert shake(edge, "app.test", trust=from_vault.ca.pem).status == 200
    secret = from_vault.key.splitlines()[1]
    told = [planned, str(outcome), json.dumps(held(edge)), json.dumps([r.to_json() for r in target.desired])]
    assert not any(secret in text for text in told)
    having = [path for path in edge.folder.rglob("*") if path.is_file() and secret in path.read_text()]
    assert [path.parent for path in having] == [from_vault.folder]
    assert from_vault.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in from_vault.folder.iterdir()} == {0o600}


def test_a_renewed_certificate_is_a_change_and_undoing_leads_back_to_the_old_one(from_vault: FromVault) -> None:
    edge, wish = from_vault.edge, from_vault.wish
    edge.apply(**wish)
    old = shake(edge, "app.test").certificate
    from_vault.renew()
    target = edge.target(**wish)
    assert [change.id for change in target.engine.plan(target.wish).changes] == ["caddy.route app.test"]
    target.engine.apply(target.wish, "renewal")
    assert not differs(edge, **wish)
    assert shake(edge, "app.test", trust=from_vault.ca.pem).certificate != old
    edge.target(**wish).engine.undo("renewal")
    assert shake(edge, "app.test", trust=from_vault.ca.pem).certificate == old


def test_files_that_were_lost_or_changed_are_written_again(from_vault: FromVault) -> None:
    edge, wish = from_vault.edge, from_vault.wish
    edge.apply(**wish)
    (key,) = from_vault.folder.glob("*.key")
    (certificate,) = from_vault.folder.glob("*.crt")
    for spoil in (
        key.unlink,
        lambda: certificate.write_text("rubbish"),
        lambda: key.write_text(from_vault.ca.pair("x")[1]),
    ):
        spoil()
        assert differs(edge, **wish)
        edge.apply(**wish)
        assert not differs(edge, **wish)
        assert key.read_text() == from_vault.key and shake(edge, "app.test", trust=from_vault.ca.pem).status == 200


def test_what_somebody_put_in_the_place_of_the_files_is_no_longer_served(from_vault: FromVault) -> None:
    edge, wish, client = from_vault.edge, from_vault.wish, CaddyClient(from_vault.edge.caddy.admin)
    edge.apply(**wish)
    for path, text in zip(sorted(from_vault.folder.iterdir()), Authority("mallory").pair("app.test"), strict=True):
        path.write_text(text)
    client.replace(*client.config(), force=True)
    assert shake(edge, "app.test").issuer == "CN=mallory"
    settled(edge, **wish)
    assert shake(edge, "app.test").issuer == "CN=vault"


def test_what_is_no_pair_is_refused_and_the_old_certificate_stays(from_vault: FromVault) -> None:
    edge, wish = from_vault.edge, from_vault.wish
    edge.apply(**wish)
    old = shake(edge, "app.test").certificate
    stranger, files = Authority("vault").pair("app.test"), sorted(from_vault.folder.iterdir())
    from_vault.vault.put("tls/app", certificate=stranger[0], key=from_vault.key)
    with pytest.raises(ApplyFailed, match="no pair") as failed:
        edge.apply(**wish)
    assert failed.value.undone and from_vault.key.splitlines()[1] not in str(failed.value)
    from_vault.vault.put("tls/app", certificate=from_vault.key, key=stranger[0])
    with pytest.raises(SecretUnavailable, match="vault:tls/app#certificate holds no certificate"):
        edge.apply(**wish)
    assert sorted(from_vault.folder.iterdir()) == files, "nothing half done is left"
    assert shake(edge, "app.test").certificate == old


def test_the_files_go_where_and_to_whom_the_pillar_says(from_vault: FromVault) -> None:
    edge, wish = from_vault.edge, from_vault.wish
    folder = edge.folder / "elsewhere" / "certificates"
    own = pwd.getpwuid(os.getuid()).pw_name
    with pytest.raises(ApplyFailed, match="hecate:certificates:owner"):
        edge.apply(**wish, certificates={"folder": str(folder), "owner": "no-such-user"})
    edge.apply(**wish, certificates={"folder": str(folder), "owner": own})
    assert {path.suffix for path in folder.iterdir()} == {".crt", ".key"} and not from_vault.folder.exists()
    assert {path.owner() for path in (folder, *folder.iterdir())} == {own}
    assert shake(edge, "app.test", trust=from_vault.ca.pem).status == 200


def test_files_long_out_of_use_go_and_a_strangers_stay(from_vault: FromVault) -> None:
    edge, wish = from_vault.edge, from_vault.wish
    edge.apply(**wish)
    first = set(from_vault.folder.iterdir())
    strange = from_vault.folder / "strange.key"
    strange.touch()
    for file in (strange, *first):
        os.utime(file, (0, 0))
    from_vault.renew()
    edge.apply(**wish)
    assert first < set(from_vault.folder.iterdir()), "what has just been replaced is kept for an undo"
    for file in first:
        os.utime(file, (0, 0))
    from_vault.renew()
    edge.apply(**wish)
    left = set(from_vault.folder.iterdir())
    assert not first & left and strange in left and len(left) == 5


def test_the_inventory_tells_of_every_host_what_it_shows_and_how_long(edge: EdgeUnderTest, tmp_path: Path) -> None:
    ca, up = Authority("files"), [edge.upstream().dial]
    Authority("clients").write(tmp_path / "clients.pem")

    def file(name: str, *hosts: str, days: int = 90) -> dict[str, Any]:
        crt, key = ca.issue(tmp_path / name, *hosts, days=days)
        return {"upstreams": up, "tls": {"certificate": str(crt), "key": str(key)}}

    mutual = file("mutual", "mutual.test.test")
    mutual["tls"]["client_auth"] = {"ca": str(tmp_path / "clients.pem")}
    wish: dict[str, Any] = {
        "caddy": INTERNAL,
        "certificates": {"warn_days": 30, "on_demand": {"ask": "http://127.0.0.1:1/never"}},
        "routes": {
            "good.test.test": file("good", "good.test.test", "more.test.test"),
            "soon.test.test": file("soon", "soon.test.test", days=29),
            "over.test.test": file("over", "over.test.test", days=-2),
            "*.wild.test": {**file("wild", "*.wild.test"), "hosts": ["wild.test.test"]},
            "mutual.test.test": mutual,
            "*.demand.test": {"upstreams": up, "tls": {"on_demand": True}},
        },
    }
    target = edge.target(**wish)
    target.engine.apply(target.wish, "one")
    estate, now = target.estate, datetime.now(timezone.utc)
    shown = certificates(estate, estate.edges[MINION], timeout=10, at_once=3)
    assert set(shown) == {*wish["routes"], "wild.test.test"}
    good = shown["good.test.test"]
    assert (good.names, good.days_left, good.warn) == (("good.test.test", "more.test.test"), 90, False)
    assert abs(datetime.fromisoformat(good.not_after) - now - timedelta(days=90)) < timedelta(hours=2)
    assert good.issuer == "CN=files" and not good.error
    assert (shown["soon.test.test"].days_left, shown["soon.test.test"].warn) == (29, True)
    assert shown["over.test.test"].warn and (shown["over.test.test"].days_left or 0) < 0
    assert shown["*.wild.test"].names == ("*.wild.test",) and not shown["*.wild.test"].warn
    assert shown["mutual.test.test"].names == ("mutual.test.test",)
    assert "on demand" in shown["*.demand.test"].error and not shown["*.demand.test"].warn
    bad = shown["wild.test.test"]
    assert (bad.warn, bad.error) == (True, "doesn't name wild.test.test"), "and nobody is asked for one that would"
    assert all(json.dumps(one.to_json()) for one in shown.values())


def test_an_edge_that_does_not_answer_is_told_for_each_host(edge: EdgeUnderTest) -> None:
    routes = {"a.test.test": {"upstreams": ["127.0.0.1:1"]}, "b.test.test": {"upstreams": ["127.0.0.1:1"]}}
    estate = edge.target(caddy=INTERNAL, routes=routes).estate
    shown = certificates(estate, estate.edges[MINION])  # nothing was applied: nobody listens
    assert [(one.warn, "refused" in one.error.lower()) for one in shown.values()] == [(True, True)] * 2
    with socket.create_server(("127.0.0.1", edge.caddy.https)):  # and here nobody speaks
        shown = certificates(estate, estate.edges[MINION], timeout=0.05)
    assert {one.error for one in shown.values()} == {"no answer in time"}
    plain = edge.target(caddy={"issuer": "none"}, routes=routes).estate
    assert certificates(plain, plain.edges[MINION]) == {}
