"""The ten pitfalls of authentik's API: each answered, and what would happen if it weren't is what is looked at.

The fourth, that without bindings everybody may enter, has a file of its own: test_authentik_guards.py.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hecate import model
from hecate.compile.authentik import mark
from hecate.errors import ApplyFailed, Faulty, InvalidPillar, Refused, UnsafePlan
from hecate.model.authentik import Authentik as Section

from contract.authentik_lab import SECRETS, WHOLE, AuthentikLab, Line, Pillar, authentik_lab, route
from lab.emulators.authentik_rights import MODELS
from lab.emulators.base import Fault

A, B = "a.estate.test", "b.estate.test"
EVERY_RIGHT = [f"{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in MODELS.values()]
NOTHING: Pillar = {"auth_policies": WHOLE["auth_policies"], "authentik": {"outposts": WHOLE["authentik"]["outposts"]}}


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AuthentikLab]:
    with authentik_lab(tmp_path, monkeypatch, **getattr(request, "param", {})) as made:
        yield made


def doubled(lab: AuthentikLab) -> list[Any]:
    """Bindings that bind the same twice."""
    seen: set[Any] = set()
    ends = [(row["target"], row["group"], row["policy"], row["user"]) for row in lab.rows("bindings")]
    return [end for end in ends if end in seen or seen.add(end)]  # type: ignore[func-returns-value]


# 1. Anything but GET that fails on the server shows as an empty 405


def crash(_: requests.PreparedRequest, answer: requests.Response) -> None:
    answer.status_code, answer._content = 405, b""
    answer.headers["Content-Type"] = "text/html; charset=utf-8"


@pytest.mark.parametrize("lab", [{"version": "2024.2.4"}, {"version": "2026.5.6"}], indirect=True)
@pytest.mark.parametrize("acted", [False, True], ids=["before it acted", "after it acted"])
def test_a_crash_at_any_one_of_the_writes_is_looked_into_and_made_good(
    lab: AuthentikLab, tmp_path: Path, acted: bool
) -> None:
    """Every third write crashes once; the next call looks whether it took effect."""
    count = itertools.count()

    def spoil(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method != "GET" and next(count) % 3 == 1:
            crash(request, answer)

    def bend(request: requests.PreparedRequest) -> None:
        if request.method != "GET" and next(count) % 3 == 1:
            request.method = "OPTIONS"  # the server would do nothing, and the answer is spoilt

    def spoilt(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method == "OPTIONS":
            crash(request, answer)

    for name, pillar in (("t1", WHOLE), ("t2", NOTHING), ("t3", WHOLE)):
        line = Line(lab.emulator, spoil=spoil) if acted else Line(lab.emulator, bend=bend, spoil=spoilt)
        target = line.onto(lab.target(pillar, ("deletes", "secret:graf", "secret:hecate-production-ci-one")))
        target.engine.apply(target.wish, name)
        assert target.engine.plan(target.wish).changes == ()
    assert next(count) > 60
    assert doubled(lab) == []
    assert lab.members("crew") == {"alice", "ci"}


def test_a_405_that_says_so_in_json_is_no_crash(lab: AuthentikLab) -> None:
    def spoil(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method == "PUT":
            answer.status_code, answer._content = 405, b'{"detail": "Method \\"PUT\\" not allowed."}'

    target = Line(lab.emulator, spoil=spoil).onto(lab.target(WHOLE))
    with pytest.raises(ApplyFailed) as caught:
        target.engine.apply(target.wish, "t1")
    assert isinstance(caught.value.__cause__, Refused)
    assert caught.value.undone
    assert sum(call.startswith("PUT") for call in lab.calls()) == 1, "not asked again"


# 2. The list of applications shows what the caller may open, and ignores filters


@pytest.mark.parametrize("lab", [{"superuser": False, "rights": EVERY_RIGHT}], indirect=True)
def test_applications_that_the_listing_hides_are_seen_all_the_same(lab: AuthentikLab) -> None:
    """The token's owner is in none of the groups."""
    pillar: Pillar = {"auth_policies": {"p": {"groups": ["staff"]}}, "routes": {A: route("p")}}
    lab.apply(pillar, "t1")
    listed = lab.api("GET", "/core/applications/", superuser_full_list="true")["results"]
    assert listed == [], "it is really hidden"
    target = lab.target(pillar)
    assert target.engine.plan(target.wish).changes == ()
    gone = lab.target({**pillar, "routes": {}})
    gone.engine.apply(gone.wish, "t2")
    assert lab.rows("applications") == []


def test_a_superusers_own_cached_listing_is_not_what_is_looked_at(lab: AuthentikLab) -> None:
    lab.apply({**WHOLE, "routes": {}}, "t1")
    assert lab.api("GET", "/core/applications/")["results"] == [], "akadmin may open none of them, and that is kept"
    lab.apply(WHOLE, "t2")
    assert len(lab.rows("applications")) == 5


# 3. Filters that it doesn't know it ignores


def test_filters_that_are_ignored_mislead_nobody(lab: AuthentikLab) -> None:
    """A server that lets everything through, whatever was asked for, and crashes now and then so that it is asked."""
    count = itertools.count()
    for name in ("zeta", "alpha"):
        lab.stranger(name)
        lab.policy(f"{name} by hand", "return True")

    def bend(request: requests.PreparedRequest) -> None:
        path, _, query = request.path_url.partition("?")
        kept = [part for part in query.split("&") if part.split("=")[0] in ("page", "page_size", "ordering")]
        request.url = f"{lab.url}{path}" + (f"?{'&'.join(kept)}" if kept else "")

    def spoil(request: requests.PreparedRequest, answer: requests.Response) -> None:
        if request.method == "POST" and next(count) % 2:
            crash(request, answer)

    alice = lab.row("users", "alice")["pk"]
    lab.api("PATCH", f"/core/users/{alice}/", {"attributes": {"managed-by": mark("production")}})
    before = [row for row in lab.rows("users") if row["username"] != "ci"]
    target = Line(lab.emulator, bend=bend, spoil=spoil).onto(lab.target(WHOLE))
    target.engine.apply(target.wish, "t1")
    assert target.engine.plan(target.wish).changes == ()
    assert [row for row in lab.rows("users") if row["username"] != "ci"] == before, "alice is no service account"
    assert lab.members("crew") == {"alice", "ci"}, "the members are those that were meant"
    assert doubled(lab) == []


# 4. Without bindings everybody may enter (see also test_authentik_guards.py)


def test_a_group_that_guards_somebody_elses_application_stays(lab: AuthentikLab) -> None:
    pillar: Pillar = {"auth_policies": {"p": {"groups": ["crew"]}}, "routes": {A: route("p")}}
    lab.apply(pillar, "t1")
    lab.stranger("theirs")
    lab.bind("theirs", group=lab.row("groups", "crew")["pk"])
    lab.apply({**pillar, "routes": {}}, "t2")
    assert lab.bindings("theirs") == {"group crew"}


def test_a_policy_that_somebody_else_took_for_theirs_is_not_deleted(lab: AuthentikLab) -> None:
    pillar: Pillar = {"auth_policies": {"p": {"groups": ["staff"]}}, "routes": {A: route("p")}}
    lab.apply(pillar, "t1")
    lab.stranger("theirs")
    lab.bind("theirs", policy=lab.row("policies", "hecate/production/closed")["pk"])
    gone = lab.target({**pillar, "routes": {}})
    with pytest.raises(ApplyFailed, match="closed is still in use.*theirs") as caught:
        gone.engine.apply(gone.wish, "t2")
    assert caught.value.undone
    assert lab.bindings("theirs") == {"policy hecate/production/closed"}
    assert not lab.enters("theirs.test", "mallory")


def test_a_flow_that_somebody_elses_provider_uses_is_not_deleted(lab: AuthentikLab) -> None:
    """It would take that provider along, and every other."""
    pillar: Pillar = {
        "auth_policies": {"m": {"groups": ["staff"], "require_mfa": True}},
        "routes": {A: route("m")},
    }
    lab.apply(pillar, "t1")
    made = lab.stranger("theirs")
    flow = lab.flow("hecate-production-m-mfa")
    body = {"authorization_flow": flow, "mode": "forward_single", "external_host": "https://theirs.test"}
    lab.api("PATCH", f"/providers/proxy/{made['provider']}/", body)
    gone = lab.target({**pillar, "routes": {}})
    with pytest.raises(ApplyFailed, match="flow hecate-production-m-mfa is still in use.*by hand theirs"):
        gone.engine.apply(gone.wish, "t2")
    assert made["provider"] in lab.emulator.state.providers


# 5. A token changed without saying whose becomes the caller's


def test_a_token_that_is_changed_stays_its_owners(lab: AuthentikLab) -> None:
    pillar: Pillar = {"authentik": {"service_accounts": {"ci": {"tokens": {"one": "env:SECRET_B"}}}}}
    lab.apply(pillar, "t1")
    name, ci = "hecate-production-ci-one", lab.row("users", "ci")["pk"]
    lab.api("PATCH", f"/core/tokens/{name}/", {"user": ci, "expiring": True})
    lab.apply(pillar, "t2")
    assert (lab.row("tokens", name)["user"], lab.row("tokens", name)["expiring"]) == (ci, False)


# 6. and 8. Saving a provider costs by the size of its outpost; an outpost's list is replaced whole


def writes(lab: AuthentikLab, path: str) -> list[str]:
    return [call for call in lab.calls("WRITE") if path in call]


def test_outposts_are_written_once_and_last_and_providers_only_for_a_difference(lab: AuthentikLab) -> None:
    hosts = {f"h{n}.estate.test": route("p") for n in range(6)}
    pillar: Pillar = {"auth_policies": {"p": {"groups": ["staff"]}}, "routes": hosts}
    lab.apply(pillar, "t1")
    assert [call.split()[0] for call in writes(lab, "/outposts/")] == ["PATCH"]
    assert writes(lab, "/outposts/") == lab.calls("WRITE")[-1:], "after everything that guards them"
    lab.forget_calls()
    lab.apply({**pillar, "auth_policies": {"p": {"groups": ["staff", "crew"]}}}, "t2")
    assert writes(lab, "/providers/") + writes(lab, "/outposts/") == [], "groups are none of theirs"
    lab.forget_calls()
    lab.apply({**pillar, "routes": {**hosts, "h6.estate.test": route("p")}}, "t3")
    assert (len(writes(lab, "/outposts/")), writes(lab, "/providers/")) == (1, [])
    lab.forget_calls()
    fewer = {host: said for host, said in hosts.items() if host not in ("h1.estate.test", "h2.estate.test")}
    lab.apply({**pillar, "routes": fewer}, "t4")
    assert len(writes(lab, "/outposts/")) == 1
    assert [call.split()[0] for call in writes(lab, "/providers/")] == ["DELETE"] * 3


def test_a_save_of_a_large_outpost_is_waited_for(lab: AuthentikLab) -> None:
    """8.4 s with a hundred providers, on a busy machine."""
    settings = Section.model_validate({"url": lab.url, "token": "env:AUTHENTIK_TOKEN"})
    client: Any = lab.target({}).backend.client  # type: ignore[attr-defined]
    assert settings.timeout >= 60
    assert client._api.timeout == settings.timeout


# 7. Each write of a binding may take seconds


def test_a_new_application_comes_with_its_bindings_in_one_call(lab: AuthentikLab) -> None:
    lab.apply(WHOLE, "t1")
    assert [call for call in writes(lab, "/policies/bindings/") if call.startswith("POST")] == [
        "POST /policies/bindings/"  # of the event rule
    ] * 3
    assert len(writes(lab, "/core/transactional/applications/")) == 5


# 8. Outposts lose updates


def test_what_others_attached_in_the_meantime_stays(lab: AuthentikLab) -> None:
    """Between our look and our write."""
    pillar: Pillar = {"auth_policies": {"p": {"groups": ["staff"]}}, "routes": {A: route("p")}}

    def written(call: str) -> None:
        if "transactional" in call:
            lab.stranger("late")

    target = Line(lab.emulator, written).onto(lab.target(pillar))
    target.engine.apply(target.wish, "t1")
    assert lab.outpost() == {"by hand late", "hecate/production/a.estate.test"}


def test_an_update_that_an_outpost_lost_is_noticed(lab: AuthentikLab) -> None:
    """Somebody else's write, made from what they read before ours, comes after it."""
    pillar: Pillar = {"auth_policies": {"p": {"groups": ["staff"]}}, "routes": {A: route("p")}}
    theirs = lab.stranger("theirs")["provider"]
    lost = itertools.count()

    def written(call: str) -> None:
        if "/outposts/" in call and not next(lost):
            body = {"type": "proxy", "providers": [theirs]}
            lab.api("PATCH", f"/outposts/instances/{lab.embedded['pk']}/", body)

    target = Line(lab.emulator, written).onto(lab.target(pillar))
    with pytest.raises(ApplyFailed, match="the outpost lost the update") as caught:
        target.engine.apply(target.wish, "t1")
    assert caught.value.undone and isinstance(caught.value.__cause__, Faulty)
    assert lab.outpost() == {"by hand theirs"}
    lab.apply(pillar, "t2")
    assert lab.outpost() == {"by hand theirs", "hecate/production/a.estate.test"}


# 9. The token is an administrator's, and policies are code


def test_the_token_and_the_secrets_are_in_nothing_that_is_shown_or_kept(
    lab: AuthentikLab, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    target = lab.target(WHOLE)
    shown = [str(target.engine.plan(target.wish)), repr(target.engine.plan(target.wish).changes)]
    shown.append(str(target.engine.apply(target.wish, "t1", shared=True)))
    wrong = lab.target({**WHOLE, "routes": {**WHOLE["routes"], "d.estate.test": route("p")}})
    lab.faults(Fault(kind="server-error", method="WRITE", times=None))
    with pytest.raises(ApplyFailed) as caught:
        wrong.engine.apply(wrong.wish, "t1", shared=True)
    shown += [str(caught.value), repr(caught.value.__cause__), caplog.text]
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("t1" in text for text in kept) and any("env:SECRET_A" in text for text in kept)
    for text in (*shown, *kept):
        assert not [name for name, value in {**SECRETS, "token": lab.token}.items() if value in text]


def test_a_token_that_stands_in_the_pillar_itself_is_refused(lab: AuthentikLab) -> None:
    with pytest.raises(InvalidPillar, match="hecate:authentik:token") as caught:
        model.parse({"hecate": {"authentik": {"url": lab.url, "token": lab.token}}})
    assert lab.token not in str(caught.value)


# 10. /admin/system/ shows the caller's token


def test_what_would_show_the_token_is_never_asked_for(lab: AuthentikLab) -> None:
    target = lab.apply(WHOLE, "t1")
    target.backend.warnings()  # type: ignore[attr-defined]
    target.engine.undo("t1")
    asked = {call.partition("?")[0] for call in lab.calls()}
    assert "GET /admin/version/" in asked
    assert not [call for call in asked if "/admin/system/" in call or "/view_key/" in call]


def test_much_at_once_still_wants_a_word(lab: AuthentikLab) -> None:
    careful = {"safety": {"deletes": 3, "percent": 100}}
    lab.apply({**WHOLE, **careful}, "t1")
    gone = lab.target({**NOTHING, **careful})
    with pytest.raises(UnsafePlan, match="allow=deletes"):
        gone.engine.apply(gone.wish, "t2")
    assert len(lab.rows("applications")) == 5
