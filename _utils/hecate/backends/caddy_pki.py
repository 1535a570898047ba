"""Certificates that Vault's PKI engine signs for a route, with keys that are made on the edge and never leave it.

API: https://developer.hashicorp.com/vault/api-docs/secret/pki#sign-certificate. Needs `cryptography`, which Salt
brings along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hecate.errors import SecretUnavailable

Act = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""A write to Vault: path and values -> data. Raises SecretUnavailable."""
KEYS = {"ec256": 256, "ec384": 384, "rsa2048": 2048, "rsa4096": 4096}
RENEWAL = 2 / 3  # of its life after which a certificate gets a successor


@dataclass(frozen=True)
class Order:
    """What is asked for. path: mount/sign/role. ttl: seconds; 0: the role's own. key: one of KEYS."""

    path: str
    hosts: tuple[str, ...]
    key: str
    ttl: int = 0

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Order | None:
        """A route's, if its certificate is signed by Vault."""
        files = (spec.get("tls") or {}).get("files") or {}
        if "pki" not in files:
            return None
        return cls(files["pki"], tuple(spec["hosts"]), files["pki_key"], int(files["pki_ttl"]))


def signed(order: Order, act: Act) -> tuple[str, str]:
    """(certificate with the authorities below the root, private key), both as PEM. Vault sees a request alone."""
    from cryptography.hazmat.primitives import hashes, serialization

    key = _fresh_key(order.key)
    request = _request(order.hosts).sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    wanted = {"csr": request, "common_name": order.hosts[0], "alt_names": ",".join(order.hosts)}
    answer = act(order.path, {**wanted, "ttl": f"{order.ttl}s"} if order.ttl else wanted)
    chain = _chain(order.path, answer)
    missing = [host for host in order.hosts if host not in _names(chain[0])]
    if missing:
        raise SecretUnavailable(f"vault:{order.path} left out {', '.join(missing)}; see what the role allows")
    if chain[0].public_key() != key.public_key():
        raise SecretUnavailable(f"vault:{order.path} signed another key than the one that was asked for")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    texts = [each.public_bytes(serialization.Encoding.PEM).decode() for each in chain]
    return "".join(texts), key.private_bytes(*form).decode()


def is_fresh(certificate: Path, hosts: Sequence[str], now: datetime | None = None) -> bool:
    """Whether a certificate names these hosts and has not spent two thirds of its life."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return False
    begins, ends = lifetime(found)
    now = now or datetime.now(timezone.utc)
    return begins <= now < begins + (ends - begins) * RENEWAL and set(hosts) <= _names(found)


def lifetime(certificate: Any) -> tuple[datetime, datetime]:
    """From when and until when it is good; cryptography before 42 knows the moments without their time zone alone."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    begins, ends = certificate.not_valid_before, certificate.not_valid_after
    return begins.replace(tzinfo=timezone.utc), ends.replace(tzinfo=timezone.utc)


def _fresh_key(kind: str) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, KEYS[kind])
    return ec.generate_private_key({256: ec.SECP256R1(), 384: ec.SECP384R1()}[KEYS[kind]])


def _request(hosts: Sequence[str]) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    short = [host for host in hosts if len(host) <= 64][:1]  # what a common name may have
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host) for host in short])
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)


def _chain(path: str, answer: Mapping[str, Any]) -> list[Any]:
    """The certificate and whoever signed it, without a root: clients have that, or none."""
    from cryptography import x509

    above = answer.get("ca_chain") or [answer.get("issuing_ca") or ""]
    try:
        leaf, *others = (
            x509.load_pem_x509_certificate(text.encode()) for text in [answer["certificate"], *above] if text
        )
    except (KeyError, ValueError) as err:
        raise SecretUnavailable(f"vault:{path} gave no certificate in PEM form") from err
    return [leaf, *(each for each in others if each.issuer != each.subject)]


def _names(certificate: Any) -> set[str]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(found.get_values_for_type(x509.DNSName))
