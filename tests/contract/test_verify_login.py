"""Who gets in, as accounts find out that log in at authentik without a browser; through a real Caddy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import RealCaddy
from hecate import model
from hecate.clients.caddy import CaddyClient
from hecate.verification import Probe, questions, run

from contract.edge import Upstream
from contract.gate import APP, AUTH, OPEN, PASSWORDS, STRONG, Gate, opened


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    made = Upstream().start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def gate(
    caddy_process: RealCaddy, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    with opened(caddy_process, tmp_path_factory.mktemp("gate"), upstream.dial) as made:
        yield made


def seen(gate: Gate, passwords: dict[str, str] | None = None, policy: str = "staff", **asked: Any) -> dict[str, Probe]:
    """What is told of one protected route whose `verify` says this."""
    accounts = {name: f"env:{name}" for name in PASSWORDS}
    route = {"upstreams": [gate.app], "auth_policy": policy, "verify": asked}
    host = STRONG if policy == "strong" else APP
    estate = model.parse(
        {
            "hecate": {
                "caddy": {"admin": gate.caddy.admin, "issuer": "internal"},
                "edges": {"edge": {"https": gate.caddy.https, "http": gate.caddy.http}},
                "authentik": {"url": "http://127.0.0.1:1", "token": "env:NOT_NEEDED"},
                "auth_policies": {
                    "staff": {"groups": ["staff"]},
                    "strong": {"groups": ["staff"], "require_mfa": True, "allowed_methods": ["password", "totp"]},
                },
                "verify": {"accounts": accounts, "attempts": 1},
                "routes": {host: route, AUTH: {"upstreams": [gate.app]}, OPEN: {"upstreams": [gate.app]}},
            }
        }
    )
    known = PASSWORDS if passwords is None else passwords
    task = questions(estate, {"edge": CaddyClient(gate.caddy.admin).root_certificate()}, [host])
    return {row.what: row for row in run(task, lambda reference: known[reference.removeprefix("env:")])}


def test_a_member_gets_in_and_a_stranger_is_kept_out(gate: Gate) -> None:
    found = seen(gate, allowed="alice", refused="mallory", status=200, echo="/echo")
    assert [row for row in found.values() if row.result != "ok"] == []
    assert found["allowed"].told == "alice gets in: 200; spoofed headers do not reach the upstream"
    assert found["refused"].told == "mallory is logged in and kept out (403)"
    assert found["spoofed"].told == "302, sends to login whoever it says it is"


def test_the_wrong_way_round_both_fail(gate: Gate) -> None:
    found = seen(gate, allowed="mallory", refused="alice")
    assert found["allowed"].result == found["refused"].result == "fail"
    assert "mallory does not get in" in found["allowed"].told and "alice GETS IN" in found["refused"].told


def test_a_wrong_password_is_no_refusal(gate: Gate) -> None:
    """Who cannot log in is kept out of everything, and proves nothing."""
    found = seen(gate, passwords={"mallory": "not-hers"}, refused="mallory")["refused"]
    assert found.result == "fail" and "does not take the login of mallory" in found.told
    assert "not-hers" not in found.told


def test_what_a_member_meets_behind_the_login_is_as_promised(gate: Gate) -> None:
    found = seen(gate, allowed="alice", status=204)["allowed"]
    assert found.result == "fail" and "wanted 204" in found.told


def test_without_a_second_factor_nobody_gets_in_where_one_is_wanted(gate: Gate) -> None:
    found = seen(gate, policy="strong", allowed="bob", refused="alice")
    assert (found["allowed"].result, found["refused"].result) == ("ok", "ok")


def test_an_authentik_without_that_path_is_told(gate: Gate) -> None:
    from lab.emulators.base import Fault

    gate.authentik.set_faults([Fault(kind="status", status=500, path="^/api/v3/flows/executor/", times=None)])
    try:
        found = seen(gate, allowed="alice")["allowed"]
    finally:
        gate.authentik.set_faults([])
    assert found.result == "fail" and "answers 500, and no challenge" in found.told
