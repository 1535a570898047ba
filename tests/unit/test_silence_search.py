"""The search that proves silence finds what is planted, wherever and however; and nothing where nothing is."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import pytest
import salt.payload
import yaml
from e2e.silence import Arguments, Search, files_below, open_to_others

VALUE = "k9Zq" + "\"\\/+=%&<' ü" + "7hT2pXw4"
KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEG\nZm9vYmFyYmF6\n-----END PRIVATE KEY-----\n"
PLANTED: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda v: v.encode(),
    "latin-1": lambda v: v.encode("latin-1"),
    "UTF-16": lambda v: v.encode("utf-16"),
    "UTF-16 of the other order": lambda v: v.encode("utf-16-be"),
    "hex": lambda v: v.encode().hex().encode(),
    "HEX": lambda v: v.encode().hex().upper().encode(),
    "base64": lambda v: base64.b64encode(v.encode()),
    "base64 behind one octet": lambda v: base64.b64encode(b":" + v.encode() + b"?"),
    "base64 behind two octets": lambda v: base64.b64encode(b"u:" + v.encode() + b"??"),
    "Basic authentication": lambda v: base64.b64encode(b"hecate:" + v.encode()),
    "base64 for URLs": lambda v: base64.urlsafe_b64encode(b"u:" + v.encode()),
    "base64 in a URL": lambda v: quote(base64.b64encode(v.encode()), safe="").encode(),
    "a path": lambda v: quote(v).encode(),
    "a form": lambda v: urlencode({"client_secret": v}).encode(),
    "quoted": lambda v: re.sub("%..", lambda m: m[0].lower(), quote(v, safe="")).encode(),
    "plus for a space": lambda v: quote_plus(v).encode(),
    "JSON": lambda v: json.dumps({"token": v}).encode(),
    "JSON without escapes": lambda v: json.dumps({"token": v}, ensure_ascii=False).encode(),
    "JSON in JSON": lambda v: json.dumps(json.dumps({"token": v})).encode(),
    "YAML": lambda v: yaml.safe_dump({"token": v}, allow_unicode=True).encode(),
    "HTML": lambda v: html.escape(v).encode(),
    "a shell": lambda v: shlex.quote(v).encode(),
    "Python": lambda v: repr({"headers": {"Authorization": f"Bearer {v}"}}).encode(),
    "Python's octets": lambda v: repr(v.encode()).encode(),
    "msgpack": lambda v: salt.payload.dumps({"return": {"token": v}}),
    "gzip": lambda v: gzip.compress(f"log {v} log".encode()),
    "gzip of JSON": lambda v: gzip.compress(json.dumps(v).encode()),
    "zlib in base64": lambda v: b'"' + base64.b64encode(zlib.compress(f"{'x ' * 60}{v}".encode() + bytes(range(250)))),
    "zip": lambda v: _zip(v.encode()),
    "its beginning": lambda v: v[:14].encode(),
    "its end": lambda v: v[-12:].encode(),
}


def _zip(data: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tfplan", data * 3)
    return held.getvalue()


@pytest.mark.parametrize("how", PLANTED)
def test_a_secret_is_found_however_it_is_written(how: str) -> None:
    before = b"" if how.startswith("gzip") else b"before "
    search = Search({"canary": VALUE, "other": "0123456789abcdefghij"})
    assert search.within(before + PLANTED[how](VALUE)) == {"canary"}


@pytest.mark.parametrize("how", ["as it is", "JSON", "base64", "gzip", "hex"])
def test_so_is_any_line_of_a_key_that_nobody_may_see(how: str) -> None:
    assert Search({"key": KEY}).within(PLANTED[how](KEY)) == {"key"}
    assert Search({"key": KEY}).within(b"x" + KEY.splitlines()[1].encode()) == {"key"}
    assert not Search({"key": KEY}).within(b"-----BEGIN PRIVATE KEY-----")


def test_nothing_is_found_where_nothing_is() -> None:
    search = Search({"canary": VALUE, "key": KEY})
    innocent = json.dumps({"token": "vault:hecate/authentik#token", "text": "ü\"\\/+=%&<' " * 50}).encode()
    for data in (
        b"",
        innocent,
        gzip.compress(innocent),
        b"\x1f\x8b not gzip",
        b"PK\x03\x04 no zip",
        base64.b64encode(innocent),
    ):
        assert search.within(data) == set()


def test_a_database_gives_it_away(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with sqlite3.connect(path) as held:
        held.execute("create table t (v text)")
        held.execute("insert into t values (?)", (f"x {VALUE}",))
    held.close()
    assert Search({"canary": VALUE}).in_files([path], {}) == [f"canary in {path}"]


def test_files_are_searched_but_for_what_they_may_have(tmp_path: Path) -> None:
    own, other = tmp_path / "secrets" / "own", tmp_path / "log"
    own.parent.mkdir()
    for path in (own, other):
        path.write_text(f"{VALUE} {KEY}")
    own.chmod(0o600)
    other.chmod(0o644)
    search = Search({"canary": VALUE, "key": KEY})
    found = files_below(tmp_path)
    assert found == [other, own]
    assert search.in_files(found, {own.parent: ["canary"]}) == [
        f"canary in {other}",
        f"key in {other}",
        f"key in {own}",
    ]
    assert open_to_others(found) == [str(other)]


def test_the_name_of_a_file_is_searched_too(tmp_path: Path) -> None:
    path = tmp_path / "0123456789abcdefghij"
    path.touch()
    assert Search({"canary": path.name}).in_files([path], {}) == [f"canary in {path}"]


def test_an_argument_list_is_seen_while_it_lasts() -> None:
    with Arguments(0.01) as arguments:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)", VALUE], check=True)
    assert Search({"canary": VALUE}).within(b"\n".join(arguments.seen)) == {"canary"}
