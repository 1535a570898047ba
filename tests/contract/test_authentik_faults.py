"""authentik and the network at their worst: after each fault the next run converges, and strangers are as before."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hecate import wiring
from hecate.errors import (
    ApiFailure,
    ApplyFailed,
    Conflict,
    Faulty,
    NotAuthorised,
    NotFound,
    RateLimited,
    Refused,
    Unreachable,
)

from contract.authentik_lab import AuthentikLab, Line, Pillar, authentik_lab, oauth2, route
from lab.emulators.authentik_rights import MODELS
from lab.emulators.authentik_state import new_group
from lab.emulators.base import Fault

A, B = "a.estate.test", "b.estate.test"
ESTATE: Pillar = {
    "auth_policies": {"p": {"groups": ["staff", "crew"]}, "m": {"groups": ["staff"], "require_mfa": True}},
    "routes": {A: route("p"), B: route("m")},
    "applications": {"graf": oauth2("p")},
    "authentik": {
        "groups": {"crew": {"members": ["alice", "ci"]}},
        "service_accounts": {"ci": {"tokens": {"one": "env:SECRET_B"}}},
    },
}
LATER: Pillar = {
    "auth_policies": {
        "p": {"groups": ["crew"], "attributes": {"dept": "x"}},
        "m": {"groups": ["staff"], "session_duration": "1h"},
    },
    "routes": {A: route("p"), B: route("m"), "c.estate.test": route("p")},
    "authentik": {"groups": {"crew": {"members": ["bob"]}}},
}
SMALL: Pillar = {"auth_policies": {"p": {"groups": ["staff", "crew"]}}, "routes": {A: route("p")}}
ALLOW = ("deletes", "secret:graf", "secret:hecate-production-ci-one")


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthentikLab]:
    with authentik_lab(tmp_path, monkeypatch, **getattr(request, "param", {})) as made:
        made.stranger("theirs")
        made.bind("theirs", group=made.row("groups", "ops")["pk"])
        yield made


def theirs(lab: AuthentikLab) -> list[Any]:
    """What was there before Hecate came, and is none of its business."""
    rows = [lab.row("applications", "theirs"), lab.row("providers", "by hand theirs"), lab.row("groups", "ops")]
    return [*rows, lab.bindings("theirs"), "by hand theirs" in lab.outpost()]


def nothing_twice(lab: AuthentikLab) -> None:
    ends = [(row["target"], row["group"], row["policy"], row["user"]) for row in lab.rows("bindings")]
    assert len(ends) == len(set(ends))
    for table in ("groups", "applications", "providers", "policies", "outposts", "users", "tokens"):
        names = [row.get("slug") or row.get("name") or row.get("identifier") for row in lab.rows(table)]
        assert len(names) == len(set(names)), table


def refused(lab: AuthentikLab, target: wiring.Target, name: str = "t1") -> ApplyFailed:
    """Of an apply that fails and puts everything back."""
    strangers = theirs(lab)
    with pytest.raises(ApplyFailed) as caught:
        target.engine.apply(target.wish, name)
    lab.faults()
    assert caught.value.undone, caught.value
    assert theirs(lab) == strangers
    return caught.value


# Any fault at any write


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="rate-limit", method="WRITE"), RateLimited),
        (Fault(kind="status", status=500, method="WRITE"), Faulty),
        (Fault(kind="cut", method="WRITE"), Unreachable),
        (Fault(kind="lost-answer", method="WRITE"), Unreachable),
        (Fault(kind="half-body", method="WRITE"), Unreachable),
        (Fault(kind="server-error", method="WRITE", times=2), ApiFailure),
    ],
    ids=lambda one: one.kind + (f"-{one.status}" if one.kind == "status" else "") if isinstance(one, Fault) else "",
)
def test_a_fault_at_any_write_is_put_back_and_the_next_run_converges(
    lab: AuthentikLab, fault: Fault, error: type[Exception]
) -> None:
    strangers, count = theirs(lab), 0
    for step, skip in enumerate(itertools.count(0, 7)):
        pillar = (ESTATE, LATER)[step % 2]
        target = Line(lab.emulator).onto(lab.target(pillar, ALLOW))
        lab.faults(Fault(**{**vars(fault), "skip": skip}))
        before = lab.everything()
        try:
            target.engine.apply(target.wish, f"t{step}")
        except ApplyFailed as err:
            count += 1
            assert isinstance(err.__cause__, error), err
            assert err.undone, err
            assert names(lab.everything()) == names(before)
        hit = lab.emulator.faults.as_list()[0]["hit"]
        lab.faults()
        target.engine.apply(target.wish, f"again{step}")
        assert target.engine.plan(target.wish).changes == ()
        assert theirs(lab) == strangers
        nothing_twice(lab)
        if not hit:
            break
    assert count >= 2


def names(everything: dict[str, Any]) -> dict[str, list[str]]:
    """What there is, by name: what was deleted and made again has another key."""
    return {
        table: sorted(str(row.get("slug") or row.get("name") or row.get("identifier") or "") for row in rows)
        for table, rows in everything.items()
        if table != "tokens" and isinstance(rows, list)
    }


@pytest.mark.parametrize("kind", ["rate-limit", "status", "cut", "half-body"])
def test_a_read_that_fails_once_is_repeated(lab: AuthentikLab, kind: str) -> None:
    lab.faults(Fault(kind=kind, status=503, method="GET", path="/core/groups/", times=1))
    lab.apply(SMALL, "t1")
    assert lab.naps, "after a pause"


@pytest.mark.parametrize("kind", ["rate-limit", "status", "cut", "half-body"])
def test_a_read_that_fails_for_good_writes_nothing(lab: AuthentikLab, kind: str) -> None:
    target = lab.target(SMALL)
    before = lab.everything()
    lab.faults(Fault(kind=kind, status=500, method="GET", path="/policies/bindings/", times=None))
    with pytest.raises(ApiFailure):
        target.engine.apply(target.wish, "t1")
    assert lab.everything() == before


# What the server says, in the pillar's words


def test_what_the_server_finds_wrong_is_told_by_the_pillar_path(lab: AuthentikLab) -> None:
    body = {"app": {"meta_launch_url": ["Enter a valid URL."]}, "non_field_errors": ["Not today."]}
    lab.faults(Fault(method="PUT", status=400, body=body, times=None))
    err = refused(lab, lab.target(SMALL))
    assert isinstance(err.__cause__, Refused)
    assert "hecate:routes:a.estate.test: app.meta_launch_url: Enter a valid URL.; Not today." in str(err)


def test_a_field_error_of_a_policy_names_the_policy(lab: AuthentikLab) -> None:
    wrong = {"expression": ["Bad syntax"]}
    lab.faults(Fault(method="POST", path="/policies/expression/", status=400, body=wrong, skip=1))
    pillar = {**SMALL, "auth_policies": {"p": {"attributes": {"dept": "x"}}}}
    assert "expression: Bad syntax" in str(err := refused(lab, lab.target(pillar)))
    assert "hecate:auth_policies:p" in str(err)


def without(*missing: str) -> list[str]:
    every = [f"{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in MODELS.values()]
    return [right for right in every if right not in missing]


@pytest.mark.parametrize("missing", ["add_group", "add_application", "view_brand"])
def test_a_refusal_names_the_right_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    with authentik_lab(tmp_path, monkeypatch, superuser=False, rights=without(missing)) as lab:
        target = lab.target(SMALL)
        with pytest.raises((ApplyFailed, NotAuthorised), match=f"lacks .*{missing}") as caught:
            target.engine.apply(target.wish, "t1")
        assert not lab.rows("applications")
        assert lab.token not in str(caught.value)
        lab.emulator.state.rights[lab.emulator.owner] = frozenset(without())
        lab.apply(SMALL, "t2")


def test_a_wrong_token_is_told_as_one(lab: AuthentikLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHENTIK_TOKEN", "not-the-token")
    target = lab.target(SMALL)
    with pytest.raises(NotAuthorised, match="the token is wrong or expired") as caught:
        target.engine.apply(target.wish, "t1")
    assert "not-the-token" not in str(caught.value)


# Somebody else, between our look and our write


def meanwhile(lab: AuthentikLab, call: str, act: Callable[[], object]) -> Callable[[requests.PreparedRequest], None]:
    """Acts once, just before the first call that looks like this."""
    first = itertools.count()

    def bend(request: requests.PreparedRequest) -> None:
        if re.search(call, f"{request.method} {request.path_url}") and not next(first):
            act()

    return bend


def test_a_slug_that_somebody_else_took_meanwhile_stays_theirs(lab: AuthentikLab) -> None:
    made: list[Any] = []
    bend = meanwhile(lab, "PUT", lambda: made.append(lab.stranger("a-estate-test")))
    err = refused(lab, Line(lab.emulator, bend=bend).onto(lab.target(SMALL)))
    assert "hecate:routes:a.estate.test: app.slug: " in str(err)
    assert lab.row("applications", "a-estate-test")["pk"] == made[0]["pk"]
    with pytest.raises(Conflict, match="authentik.application a-estate-test"):
        lab.apply(SMALL, "t2")
    taken = lab.apply({**SMALL, "adopt": ["authentik.application a-estate-test"]}, "t3")
    assert taken.engine.plan(taken.wish).changes == ()
    assert lab.row("applications", "a-estate-test")["pk"] == made[0]["pk"]


def test_a_group_that_somebody_else_made_meanwhile_serves_the_next_run(lab: AuthentikLab) -> None:
    body = {"name": "crew", "attributes": {"by": "hand"}}
    bend = meanwhile(lab, "POST .*/core/groups/", lambda: lab.api("POST", "/core/groups/", body))
    refused(lab, Line(lab.emulator, bend=bend).onto(lab.target(SMALL)))
    lab.apply(SMALL, "t2")
    assert [row["attributes"] for row in lab.rows("groups") if row["name"] == "crew"] == [{"by": "hand"}]


@pytest.mark.parametrize(
    ("call", "path"),
    [
        ("PATCH .*/core/applications/a-", "/core/applications/a-estate-test/"),
        ("PATCH .*/providers/proxy/", "/providers/proxy/{}/"),
        ("POST .*/policies/bindings/", "/core/applications/a-estate-test/"),
    ],
)
def test_what_was_deleted_meanwhile_is_made_again_by_the_next_run(lab: AuthentikLab, call: str, path: str) -> None:
    lab.apply({**SMALL, "authentik": {"outposts": {"eu": {"address": "127.0.0.1:1"}}}}, "t1")
    pk = lab.row("providers", "hecate/production/a.estate.test")["pk"]
    changed = {
        **SMALL,
        "auth_policies": {"p": {"groups": ["staff", "ops"], "session_duration": "1h", "domain": None}},
    }
    lab.api("PATCH", "/core/applications/a-estate-test/", {"meta_description": "by hand"})
    bend = meanwhile(lab, call, lambda: lab.api("DELETE", path.format(pk)))
    target = Line(lab.emulator, bend=bend).onto(lab.target(changed))
    with pytest.raises(ApplyFailed) as caught:
        target.engine.apply(target.wish, "t2")
    assert isinstance(caught.value.__cause__, NotFound | Refused), caught.value
    lab.apply(changed, "t3")
    assert lab.enters(A, "bob") and not lab.enters(A, "mallory")
    nothing_twice(lab)


def test_what_is_gone_already_is_as_good_as_deleted(lab: AuthentikLab) -> None:
    lab.apply(SMALL, "t1")
    bend = meanwhile(
        lab, "DELETE .*/core/applications/", lambda: lab.api("DELETE", "/core/applications/a-estate-test/")
    )
    target = Line(lab.emulator, bend=bend).onto(lab.target({**SMALL, "routes": {}}))
    target.engine.apply(target.wish, "t2")
    assert target.engine.plan(target.wish).changes == ()


def test_a_transaction_that_says_it_did_nothing_is_believed(lab: AuthentikLab) -> None:
    """200, and `applied: false`: what a parallel loser gets."""

    def bend(request: requests.PreparedRequest) -> None:
        if request.method == "PUT":
            request.method = "OPTIONS"

    def spoil(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method == "OPTIONS":
            answer.status_code, answer._content = 200, b'{"applied": false, "logs": ["lost"]}'

    err = refused(lab, Line(lab.emulator, bend=bend, spoil=spoil).onto(lab.target(SMALL)))
    assert "nothing was made (lost)" in str(err)
    lab.apply(SMALL, "t2")
    nothing_twice(lab)


# Time


@pytest.mark.parametrize(("call", "comes"), [("POST /core/groups/", True), ("PUT /core/transactional", False)])
def test_a_write_that_acts_after_its_caller_gave_up_is_found_by_the_next_run(
    lab: AuthentikLab, call: str, comes: bool
) -> None:
    """The undo looks before the server gets to it: there is nothing to put back yet. What comes too late for its
    guards, which were put back, the server refuses.
    """
    target = lab.target(SMALL)
    client: Any = target.backend.client  # type: ignore[attr-defined]
    client._api.timeout = 0.25
    method, path = call.split()
    lab.faults(Fault(kind="delay", method=method, path=path, seconds=0.7))
    err = refused(lab, target)
    assert isinstance(err.__cause__, Unreachable)
    assert not [call for call in lab.calls() if call.startswith(f"{method} {path}")], "not yet"
    pause = threading.Event()
    while not [call for call in lab.calls() if call.startswith(f"{method} {path}")]:
        pause.wait(0.02)
    assert ("crew" in lab.names("groups")) == comes
    assert not lab.enters(A, "mallory")
    lab.apply(SMALL, "t2")
    nothing_twice(lab)


def test_a_write_whose_answer_comes_too_late_is_put_back(lab: AuthentikLab) -> None:
    def spoil(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method == "PUT":
            raise requests.ReadTimeout

    refused(lab, Line(lab.emulator, spoil=spoil).onto(lab.target(SMALL)))
    assert not lab.names("applications") - {"theirs"}
    lab.apply(SMALL, "t2")


# Lists that lie


@pytest.mark.parametrize("table", ["/core/groups/", "/policies/bindings/", "/core/applications/", "/providers/proxy/"])
def test_half_a_list_is_not_taken_for_the_whole(lab: AuthentikLab, table: str) -> None:
    """Fewer rows than the page itself says: what is missing would be made again, or its guard forgotten."""
    lab.apply(ESTATE, "t1")
    before = lab.everything()

    def spoil(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method == "GET" and f"/api/v3{table}?" in request.path_url:
            page = json.loads(answer.content)
            page["results"] = page["results"][: len(page["results"]) // 2]
            answer._content = json.dumps(page).encode()

    target = Line(lab.emulator, spoil=spoil).onto(lab.target(ESTATE))
    if table == "/core/applications/":
        assert target.engine.plan(target.wish).changes == (), "asked for by name"
        return
    with pytest.raises(Faulty, match=table):
        target.engine.apply(target.wish, "t2")
    assert lab.everything() == before


def many_groups(lab: AuthentikLab, count: int = 120) -> list[str]:
    """Keys, in the order of the listing."""
    for number in range(count):
        lab.emulator.state.add("groups", new_group(f"filler {number:03}"))
    return sorted(str(row["pk"]) for row in lab.rows("groups"))


@pytest.mark.parametrize("change", ["goes", "comes"])
def test_a_list_that_changes_between_two_pages_is_read_again(lab: AuthentikLab, change: str) -> None:
    """A row that goes from the first page moves another one off the second, unseen."""
    lab.apply(SMALL, "t1")
    keys = many_groups(lab)
    first = next(key for key in keys if lab.emulator.state.groups[key]["name"].startswith("filler"))
    act = {
        "goes": lambda: lab.api("DELETE", f"/core/groups/{first}/"),
        "comes": lambda: lab.api("POST", "/core/groups/", {"name": "late"}),
    }
    bend = meanwhile(lab, r"GET .*/core/groups/.*page=2", act[change])
    lab.forget_calls()
    target = Line(lab.emulator, bend=bend).onto(lab.target(SMALL))
    seen = target.backend.observe(target.wish.resources).raw.rows["group"]
    assert {row["pk"] for row in seen.values()} == {row["pk"] for row in lab.rows("groups")}
    assert target.engine.plan(target.wish).changes == ()


def test_a_list_that_never_holds_still_is_given_up(lab: AuthentikLab) -> None:
    many_groups(lab)
    count = itertools.count()

    def bend(request: requests.PreparedRequest) -> None:
        if "/core/groups/?" in request.path_url and "page=2" in request.path_url:
            lab.api("POST", "/core/groups/", {"name": f"late {next(count)}"})

    target = Line(lab.emulator, bend=bend).onto(lab.target(SMALL))
    with pytest.raises(Faulty, match="/core/groups/"):
        target.engine.apply(target.wish, "t1")


def test_reads_that_lag_behind_are_told_and_the_next_run_converges(lab: AuthentikLab) -> None:
    """A replica that doesn't know of our writes: what was written can't be confirmed."""
    strangers = theirs(lab)
    target = lab.target(ESTATE)
    lab.faults(Fault(kind="stale", method="GET", times=None))
    with pytest.raises(ApplyFailed):
        target.engine.apply(target.wish, "t1")
    lab.faults()
    for door in (A, B, "graf"):
        assert not lab.enters(door, "mallory")
    lab.apply(ESTATE, "t2")
    nothing_twice(lab)
    assert theirs(lab) == strangers
