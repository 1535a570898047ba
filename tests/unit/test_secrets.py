"""References are resolved late, and their values never told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hecate.errors import SecretUnavailable
from hecate.secrets import Resolver, is_reference

CANARY = "canary-5f1e9c"


def test_each_kind_of_reference(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY + "\n")
    path.chmod(0o600)
    resolver = Resolver(lambda where, key, version: f"{where}/{key}/{version}", {"TOKEN": CANARY})
    assert resolver.value("env:TOKEN") == CANARY
    assert resolver.value(f"file:{path}") == CANARY
    assert resolver.value("vault:hecate/x#token@3") == "hecate/x/token/3"


@pytest.mark.parametrize("text", ["hunter2", "vault:x", "env:", "file:relative", "VAULT:a#b", "vault:a#b c"])
def test_a_literal_is_no_reference(text: str) -> None:
    assert not is_reference(text)
    with pytest.raises(SecretUnavailable) as caught:
        Resolver().value(text)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    path.chmod(0o644)
    with pytest.raises(SecretUnavailable, match="chmod 0600"):
        Resolver().value(f"file:{path}")


@pytest.mark.parametrize("reference", ["env:NOT_THERE", "file:/not/there", "vault:a#b"])
def test_what_is_missing_is_named(reference: str) -> None:
    with pytest.raises(SecretUnavailable, match=reference):
        Resolver(environ={}).value(reference)


def test_an_empty_secret_is_no_secret() -> None:
    with pytest.raises(SecretUnavailable, match="empty"):
        Resolver(environ={"TOKEN": ""}).value("env:TOKEN")


def test_values_are_masked_in_whatever_quotes_them() -> None:
    resolver = Resolver(environ={"TOKEN": CANARY})
    resolver.value("env:TOKEN")
    assert CANARY not in resolver.mask(f"Authorization: Bearer {CANARY}")
