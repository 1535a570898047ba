"""Certificates and TLS settings of a route -> what Caddy's tls app and connection policies hold.

https://caddyserver.com/docs/json/apps/tls/automation/policies/ and
https://caddyserver.com/docs/json/apps/http/servers/tls_connection_policies/

A certificate from Vault is here but its two references, or what to ask of which role; where it lies on the edge, and
which it is, backends/caddy_certificates.py fills in.
"""

from __future__ import annotations

from typing import Any

from hecate.compile.caddy_text import read_by_caddy
from hecate.model.caddy import Caddy
from hecate.model.certificates import Certificates, Provider
from hecate.model.estate import Estate
from hecate.model.fields import seconds
from hecate.model.routes import Route, Tls

Spec = dict[str, Any]
LEAST = "1.2"  # Caddy's own minimum


def compile_tls(estate: Estate, host: str, route: Route) -> Spec:
    """{automation, files, connection}, each only where it isn't what the server does by itself."""
    found: Spec = {}
    if estate.caddy.issuer == "none":
        return found
    if files := _files(route.tls):
        found["files"] = files
    elif automation := _automation(estate, host, route):
        found["automation"] = automation
    if connection := _connection(estate.caddy, route.tls):
        found["connection"] = connection
    return found


def server_connection(caddy: Caddy) -> Spec:
    """The connection policy of every name that no route has peculiarities for."""
    wanted = caddy.min_tls and caddy.min_tls != LEAST and caddy.issuer != "none"
    return {"protocol_min": f"tls{caddy.min_tls}"} if wanted else {}


def _files(tls: Tls) -> Spec:
    if tls.vault:
        return {"vault": tls.vault, "vault_key": tls.vault_key}
    if tls.pki:
        ttl = int(seconds(tls.pki.ttl)) if tls.pki.ttl else 0
        return {"pki": f"{tls.pki.mount}/sign/{tls.pki.role}", "pki_key": tls.pki.key, "pki_ttl": str(ttl)}
    return {"certificate": tls.certificate, "key": tls.key} if tls.certificate else {}


def _automation(estate: Estate, host: str, route: Route) -> Spec:
    """One automation policy without its subjects; empty: what Caddy does by itself."""
    issuer = route.tls.issuer or estate.caddy.issuer
    on_demand = {"on_demand": True} if route.tls.on_demand else {}
    if issuer == "internal":
        return {"issuers": [{"module": "internal"}], **on_demand}
    certificates = estate.certificates
    provider = certificates.provider_of(issuer)
    # At the first handshake the whole name is known, and each gets a certificate of its own.
    wildcard = any(name.startswith("*.") for name in (host, *route.hosts)) and not route.tls.on_demand
    dns = wildcard or (provider is not None and "dns" in provider.challenges)
    if provider is None and not dns:
        return on_demand
    return {"issuers": [_acme(provider or Provider(), certificates, dns=dns)], **on_demand}


def _acme(provider: Provider, certificates: Certificates, *, dns: bool) -> Spec:
    issuer: Spec = {"module": "acme", "ca": provider.directory}
    if provider.email:
        issuer["email"] = provider.email
    if provider.ca:
        issuer["trusted_roots_pem_files"] = [provider.ca]
    challenges: Spec = {name: {"disabled": True} for name in ("http", "tls-alpn") if name not in provider.challenges}
    if dns and certificates.dns_challenge:
        challenges["dns"] = _dns(certificates)
    if challenges:
        issuer["challenges"] = challenges
    return issuer


def _dns(certificates: Certificates) -> Spec:
    way = certificates.dns_challenge
    assert way, "checked by the caller"
    provider: Spec = {"name": way.provider}
    if way.token:
        provider[way.token_field] = read_by_caddy(way.token)
    timeout = {"propagation_timeout": way.propagation_timeout} if way.propagation_timeout else {}
    return {"provider": provider, **timeout}


def _connection(caddy: Caddy, tls: Tls) -> Spec:
    """A whole connection policy without its match; empty: the server's own."""
    usual = caddy.min_tls or LEAST
    least = tls.min_version or usual
    if least == usual and not tls.client_auth:
        return {}
    found: Spec = {"protocol_min": f"tls{least}"}
    if tls.client_auth:
        ca = {"provider": "file", "pem_files": [tls.client_auth.ca]}
        found["client_authentication"] = {"mode": tls.client_auth.mode, "ca": ca}
    return found
