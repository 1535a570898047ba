"""A real Chromium without a window, which finds every host of the internet at one port of this machine."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, RealCaddy
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=900,700",
)  # fmt: skip


def _programs() -> tuple[str, str]:
    """Chromium, and the driver of the same release."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] and found[1]:
        return found[0], found[1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hecate"
    chromium, driver = cache / "usr" / "bin" / "chromium", cache / "usr" / "bin" / "chromedriver"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / ".chromium.lock", "w") as lock:  # it is large: the second of two workers waits for the first
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not chromium.exists():
            done = subprocess.run([str(ROOT / "tools" / "fetch-chromium"), str(cache)], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"for want of a tool: {done.stderr.strip()[-200:]}")
    return str(chromium), str(driver)


@contextmanager
def browsing(caddy: RealCaddy, folder: Path) -> Iterator[Chrome]:
    """A browser with an empty profile that trusts what this Caddy's own CA has signed, and nothing else new."""
    chromium, driver = _programs()
    options = ChromeOptions()
    options.binary_location = chromium
    rules = f"--host-resolver-rules=MAP * 127.0.0.1:{caddy.https}"
    trust = f"--ignore-certificate-errors-spki-list={_signer(caddy)}"
    for argument in (*QUIET, rules, trust, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    # With the driver's path given, nothing looks for one to download.
    chrome = Chrome(options, Service(driver, env=env, log_output=str(folder / "driver.log")))
    try:
        chrome.set_page_load_timeout(30)
        yield chrome
    finally:
        chrome.quit()


def _signer(caddy: RealCaddy) -> str:
    """The key that signs what Caddy shows, as Chromium wants to be told of it."""
    shown = caddy.folder / "storage" / "pki" / "authorities" / "local" / "intermediate.crt"
    key = x509.load_pem_x509_certificate(shown.read_bytes()).public_key()
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return base64.b64encode(digest).decode()
