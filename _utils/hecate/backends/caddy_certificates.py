"""Certificates from Vault, as files on the edge. Not as text in the configuration: GET /config shows that to anybody.

From its KV engine: a spec has the two references, two paths and the fingerprint; contents pass from Vault into the
files alone. A path carries a digest of what is in it, so a renewed certificate gets files of its
own, and undoing leads back to files that are still there.

From its PKI engine: nobody knows a certificate's fingerprint before it is signed, and planning signs nothing. So a
wish names the place of the next one, made from what lies in the folder, and takes the fingerprint of what is there
once it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hecate.backends.caddy_pki import Act, Order, is_fresh, signed
from hecate.errors import SecretUnavailable
from hecate.resource import Resource

Spec = Mapping[str, Any]
LEAF = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
OURS = re.compile(r".+-[0-9a-f]{12}\.(crt|key)")
LOST = "the files are gone or changed"
KEPT = 30 * 86400  # seconds that a file stays after its last use, for an undo


class CertificateFiles:
    """folder: made with mode 0700, the files in it have 0600. fetch: PEM behind a reference.

    owner: user whom the files belong to, where Caddy doesn't run as the minion's. act: see caddy_pki.
    """

    def __init__(
        self, folder: Path, fetch: Callable[[str], str], owner: str | None = None, act: Act | None = None
    ) -> None:
        self._folder, self._fetch, self._owner, self._act = folder, fetch, owner, act

    def located(self, want: Resource, *, anew: bool = False) -> Resource:
        """`want` with where its certificate lies and which one it is; the key is not read for that.

        anew: what Vault signs is to be signed again, however good it still is.
        """
        if order := Order.of(want.spec):
            said = {key: value for key, value in want.spec["tls"]["files"].items() if key != "sha256"}
            return _with_files(want, {**said, **self._place_of(order, anew)})
        files = vault_files(want.spec)
        if not files:
            return self._named(want)
        pem = self._fetch(files["vault"])
        digest = hashlib.sha256(f"{pem}{files['vault']}{files['vault_key']}".encode()).hexdigest()[:12]
        name = re.sub(r"[^\w-]+", "-", files["vault"].partition(":")[2])
        paths = {
            kind: str(self._folder / f"{name}-{digest}.{end}") for kind, end in (("certificate", "crt"), ("key", "key"))
        }
        return _with_files(want, {**files, **paths, "sha256": fingerprint(pem, files["vault"])})

    def _named(self, want: Resource) -> Resource:
        """`want` with the fingerprint of somebody else's file: when that is renewed, Caddy has to read it anew."""
        files = (want.spec.get("tls") or {}).get("files")
        try:
            pem = Path(files["certificate"]).read_text(encoding="utf-8") if files else ""
        except (OSError, ValueError):
            return want  # Caddy tells what is wrong with it, as the user that has to read it
        return _with_files(want, {**files, "sha256": fingerprint(pem, files["certificate"])}) if files else want

    def checked(self, have: Resource) -> Resource:
        """`have`, saying so if the files that it names are no longer what they were."""
        files = vault_files(have.spec)
        return have if not files or self._holds(files) else _with_files(have, {**files, "sha256": LOST})

    def recognised(self, want: Resource, have: Resource | None) -> Resource:
        """`want`, with the fingerprint of the certificate that Vault has signed for it since."""
        files, theirs = ((spec.get("tls") or {}).get("files") or {} for spec in (want.spec, have.spec if have else {}))
        if "pki" not in files or "sha256" in files or theirs.get("certificate") != files["certificate"]:
            return want
        return want if theirs.get("sha256", LOST) == LOST else _with_files(want, {**files, "sha256": theirs["sha256"]})

    def issued(self, want: Resource, have: Resource | None) -> Resource:
        """`want` with a certificate that Vault has signed for it, as files; what needs none is left as it is.

        One that lies in its place already is taken, unless something was wrong with it.
        """
        order, files = Order.of(want.spec), (want.spec.get("tls") or {}).get("files") or {}
        if not order or "sha256" in files:
            return want
        theirs = ((have.spec.get("tls") or {}).get("files") or {}) if have else {}
        spoilt = theirs.get("sha256") == LOST and theirs.get("certificate") == files["certificate"]
        certificate, key = Path(files["certificate"]), Path(files["key"])
        if spoilt or not _is_pair(certificate, key) or not is_fresh(certificate, order.hosts):
            if self._act is None:
                raise SecretUnavailable(f"vault:{order.path}: needs hecate:vault with a url, and a token or approle")
            self._lay([certificate, key], signed(order, self._act), f"vault:{order.path}")
        return _with_files(want, {**files, "sha256": fingerprint(certificate.read_text(encoding="utf-8"), order.path)})

    def write(self, specs: Iterable[Spec]) -> bool:
        """The files of these specs, each pair wholly or not at all; whether any had to be written."""
        missing = [files for files in map(vault_files, specs) if files and not self._holds(files)]
        for files in missing:
            self._write(files)
        return bool(missing)

    def tidy(self, before: Iterable[Spec], after: Iterable[Spec]) -> None:
        """Remove what has not been used for long; what has just fallen out of use is kept from now on."""
        used, was = (
            {f[kind] for f in map(vault_files, specs) if f for kind in ("certificate", "key")}
            for specs in (after, before)
        )
        if not used and not was:
            return
        now = time.time()
        for path in self._folder.glob("*"):
            if str(path) in used or not OURS.fullmatch(path.name):
                continue
            if str(path) in was:
                os.utime(path, (now, now))
            elif path.stat().st_mtime < now - KEPT:
                path.unlink()

    def _place_of(self, order: Order, anew: bool) -> Spec:
        """Where the newest certificate for that order lies if it is fresh, else where the next one will.

        They are numbered. An older one is never taken again: its key may be why there is a newer one.
        """
        said = hashlib.sha256(f"{order.path}{order.hosts}{order.key}{order.ttl}".encode()).hexdigest()[:8]
        name = re.sub(r"[^\w-]+", "-", f"{order.hosts[0].replace('*', 'any')}-{said}")
        there = sorted(path for path in self._folder.glob(f"{name}-*.crt") if OURS.fullmatch(path.name))
        if there and not anew and is_fresh(there[-1], order.hosts) and _is_pair(there[-1], _key_of(there[-1])):
            return _both(there[-1])
        number = int(there[-1].stem.rpartition("-")[2], 16) + 1 if there else 1
        return _both(self._folder / f"{name}-{number:012x}.crt")

    def _holds(self, files: Spec) -> bool:
        """Whether the pair lies there, belongs together, and is the one that the spec means."""
        try:
            pem = Path(files["certificate"]).read_text(encoding="utf-8")
            _require_pair(Path(files["certificate"]), Path(files["key"]))
            return fingerprint(pem, "") == files.get("sha256")
        except (OSError, ValueError, SecretUnavailable):
            return False

    def _write(self, files: Spec) -> None:
        if files.get("sha256") == LOST:
            return  # that is how it was found, and undoing leads back to it
        paths = [Path(files["certificate"]), Path(files["key"])]
        if "pki" in files:
            raise SecretUnavailable(
                f"{paths[0]} and its key are gone, and nobody has them but this edge; apply once more for new ones"
            )
        if any(path.parent != self._folder for path in paths):
            raise SecretUnavailable(f"{files['vault']} belongs into {self._folder}, not into {paths[0].parent}")
        texts = [self._fetch(files["vault"]), self._fetch(files["vault_key"])]
        if fingerprint(texts[0], files["vault"]) != files["sha256"]:
            raise SecretUnavailable(
                f"{files['vault']} holds another certificate than the one to write; apply once more"
            )
        self._lay(paths, texts, f"{files['vault']} and {files['vault_key']}")

    def _lay(self, paths: Sequence[Path], texts: Sequence[str], source: str) -> None:
        """Certificate and key into their places, both or neither."""
        if not self._folder.exists():
            self._folder.mkdir(mode=0o700, parents=True)
            self._give(self._folder)
        fresh = [path.with_name(f".{path.name}.new") for path in paths]
        try:
            for path, text in zip(fresh, texts, strict=True):
                _write_private(path, text)
                self._give(path)
            try:
                _require_pair(*fresh)
            except (OSError, ValueError) as err:
                raise SecretUnavailable(f"{source} are no pair; write chain and key as PEM") from err
            for path, new in zip(reversed(paths), reversed(fresh), strict=True):
                new.replace(path)
        finally:
            for path in fresh:
                path.unlink(missing_ok=True)

    def _give(self, path: Path) -> None:
        if self._owner:
            try:
                shutil.chown(path, self._owner)
            except (LookupError, OSError) as err:
                raise SecretUnavailable(
                    f"{path} can't be given to {self._owner} (hecate:certificates:owner): {err}"
                ) from err


def vault_files(spec: Spec) -> Spec | None:
    """What a route's spec says of a certificate from Vault, if it has one."""
    files: Spec = (spec.get("tls") or {}).get("files") or {}
    return files if "vault" in files or "pki" in files else None


def fingerprint(pem: str, reference: str) -> str:
    """SHA-256 of the first certificate, as `openssl x509 -fingerprint -sha256` shows it, without colons."""
    first = LEAF.search(pem)
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[0])).hexdigest()  # type: ignore[index]
    except (TypeError, ValueError) as err:
        raise SecretUnavailable(f"{reference} holds no certificate in PEM form") from err


def _both(certificate: Path) -> dict[str, str]:
    return {"certificate": str(certificate), "key": str(_key_of(certificate))}


def _key_of(certificate: Path) -> Path:
    return certificate.with_suffix(".key")


def _is_pair(certificate: Path, key: Path) -> bool:
    try:
        _require_pair(certificate, key)
    except (OSError, ValueError):
        return False
    return True


def _require_pair(certificate: Path, key: Path) -> None:
    """Raises OSError or ValueError unless that is the certificate's key, in the clear."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")


def _write_private(path: Path, text: str) -> None:
    with open(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
    ) as out:
        os.fchmod(out.fileno(), 0o600)
        out.write(text if text.endswith("\n") else f"{text}\n")
        out.flush()
        os.fsync(out.fileno())


def _with_files(resource: Resource, files: Spec) -> Resource:
    return resource.with_spec({**resource.spec, "tls": {**resource.spec["tls"], "files": files}})
