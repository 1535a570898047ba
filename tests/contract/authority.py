"""A certificate authority of a test: issues what servers and clients show."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A self-signed root with a key of its own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._root = self._signed(self._name, self._key.public_key(), [], 3650, is_ca=True)

    @property
    def pem(self) -> str:
        return self._root.public_bytes(serialization.Encoding.PEM).decode()

    def write(self, path: Path) -> Authority:
        path.write_text(self.pem)
        return self

    def pair(self, *names: str, days: int = 90) -> tuple[str, str]:
        """Certificate and key as PEM; names and addresses go into the alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        signed = self._signed(subject, key.public_key(), list(names), days)
        return signed.public_bytes(serialization.Encoding.PEM).decode(), key.private_bytes(*form).decode()

    def issue(self, base: Path, *names: str, days: int = 90) -> tuple[Path, Path]:
        """`pair`, written to base.crt and base.key."""
        paths = base.with_suffix(".crt"), base.with_suffix(".key")
        for path, text in zip(paths, self.pair(*names, days=days), strict=True):
            path.write_text(text)
        return paths

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: list[str], days: int, is_ca: bool = False
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=4000 if days < 0 else 1))
            .not_valid_after(now + timedelta(days=days, hours=1))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
