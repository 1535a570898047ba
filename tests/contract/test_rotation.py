"""Rotations against a real OpenBao and the stand-ins of authentik and Hetzner: who uses a secret is never refused."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hecate_salt
import hvac
import pytest
import requests
from conftest import switch_faults
from hecate import model, rotating, rotations, wiring
from hecate.errors import ApiFailure, HecateError, SecretUnavailable
from hecate.rotation import NotVerified

from lab.emulators.authentik import Authentik
from lab.emulators.base import running
from lab.emulators.hetzner import HetznerDns

from .minion import Minion
from .openbao import OpenBao, openbao

__all__ = ["openbao"]
ZONE = "estate.test"
Pillar = dict[str, Any]


@dataclass
class Vault:
    """One test's own path in OpenBao."""

    bao: OpenBao
    path: str

    @property
    def client(self) -> Any:
        return hvac.Client(url=self.bao.url, token=self.bao.token, timeout=10).secrets.kv.v2

    def keep_all(self) -> None:
        """KV keeps ten versions unless it is told."""
        self.client.update_metadata(path=self.path, max_versions=200, mount_point="secret")

    def put(self, **values: str) -> None:
        self.bao.put(self.path, **values)

    def all(self) -> dict[str, str]:
        found = self.client.read_secret_version(path=self.path, mount_point="secret", raise_on_deleted_version=True)
        return dict(found["data"]["data"])

    def ref(self, key: str) -> str:
        return f"vault:{self.path}#{key}"

    def ever(self) -> set[str]:
        """Every value that any version held, but for times."""
        newest = self.client.read_secret_metadata(path=self.path, mount_point="secret")["data"]["current_version"]
        found: set[str] = set()
        for version in range(1, newest + 1):
            held = self.client.read_secret_version(
                path=self.path, version=version, mount_point="secret", raise_on_deleted_version=True
            )["data"]["data"]
            found |= {value for key, value in held.items() if not key.endswith(".rotated")}
        return found


@dataclass
class World:
    """The systems, the pillar, and this process as every minion. clock: moved by tests alone."""

    vault: Vault
    authentik: Authentik
    url: str
    root: str
    hetzner: HetznerDns
    pillar: Pillar
    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def estate(self) -> model.Estate:
        return model.parse({"hecate": self.pillar})

    def place(self) -> wiring.Place:
        return wiring.Place("target", self.folder, sleep=lambda _: None)

    def run(self, name: str, *, begin: bool = True, immediate: bool = False, later: float = 0.0) -> Any:
        """One rotation, as far as it goes; later: seconds that the clock has moved on."""
        made = rotating.course(self.estate, self.place(), name)
        assert isinstance(made, rotating.Stocktaking)
        now = made.clock() + later
        return replace(made, clock=lambda: now).run(begin=begin, immediate=immediate, told=False)

    def call(self, minion: str, function: str, *words: Any) -> Any:
        """As a master calls a minion: an error is a text."""
        site = hecate_salt.Site({"id": minion, "cachedir": str(self.folder)}, {}, {"hecate": self.pillar})
        try:
            if function == "hecate.rotate":
                name, immediate, begin, told = words
                answer = hecate_salt.rotated(site, name, begin=begin, immediate=immediate, told=told)
            else:
                answer = hecate_salt.rotation_status(site, *words)
        except HecateError as err:
            answer = f"ERROR: {err}"
        self.said.append(json.dumps(answer))
        return answer

    def master(self, call: Callable[..., Any] | None = None) -> rotations.Rotations:
        return rotations.Rotations(self.estate, call or self.call)

    def api(self, method: str, path: str, key: str = "", body: Any = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {key or self.root}"}
        return requests.request(method, f"{self.url}/api/v3{path}", headers=headers, json=body, timeout=10)

    def opens(self, key: str) -> bool:
        return self.api("GET", "/core/users/me/", key).status_code == 200

    def tokens(self, account: str) -> list[str]:
        rows = self.api("GET", f"/core/tokens/?user__username={account}&page_size=100").json()["results"]
        return sorted(row["identifier"] for row in rows if row["user_obj"]["username"] == account)

    def make_token(self, identifier: str, account: str, key: str) -> None:
        user = next(
            row["pk"] for row in self.api("GET", "/core/users/?page_size=100").json()["results"]
            if row["username"] == account
        )  # fmt: skip
        wanted = {"identifier": identifier, "intent": "api", "user": user, "expiring": False}
        self.api("POST", "/core/tokens/", body=wanted).raise_for_status()
        self.api("POST", f"/core/tokens/{identifier}/set_key/", body={"key": key}).raise_for_status()

    def use_secret(self, client: str, value: str) -> str:
        form = {"grant_type": "refresh_token", "client_id": client, "client_secret": value}
        return str(requests.post(f"{self.url}/application/o/token/", data=form, timeout=10).json()["error"])


def canary() -> str:
    return secrets.token_urlsafe(30)


@pytest.fixture
def world(openbao: OpenBao, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("BAO", openbao.token)
    vault, root, hetzner_token = Vault(openbao, f"rotation/{uuid.uuid4().hex}"), canary(), canary()
    own, app, client = canary(), canary(), canary()
    vault.put(own=own, app=app, client=client, hetzner=hetzner_token, supplied=canary(), stranger="as it was")
    vault.keep_all()
    authentik = Authentik(token=root, seed={"users": [{"username": "robot"}, {"username": "alice"}]})
    hetzner = HetznerDns(hetzner_token, (ZONE,))
    with running(authentik) as url, running(hetzner) as zones:
        pillar: Pillar = {
            "environment": "lab",
            "vault": {"url": openbao.url, "token": "env:BAO"},
            "authentik": {"url": url, "token": vault.ref("own")},
            "hetzner_dns": {"endpoint": f"{zones}/v1", "token": vault.ref("hetzner")},
            "dns": {"zones": {ZONE: {"policy": "sync"}}},
            "auth_policies": {"all": {"provider": "authentik"}},
            "applications": {
                "wiki": {
                    "auth_policy": "all",
                    "oauth2": {"client_secret": vault.ref("client"), "redirect_uris": "https://wiki.estate.test/cb"},
                }
            },
            "rotation": {
                "own": {"kind": "authentik_token", "secret": vault.ref("own"), "account": "akadmin", "every": "30d"},
                "app": {"kind": "authentik_token", "secret": vault.ref("app"), "account": "robot"},
                "wiki": {"kind": "oauth2_client", "secret": vault.ref("client"), "application": "wiki"},
                "dns": {"kind": "hetzner_token", "secret": vault.ref("hetzner"), "next": vault.ref("supplied")},
            },
        }
        made = World(vault, authentik, url, root, hetzner, pillar, tmp_path)
        made.make_token("by-hand", "akadmin", own)
        made.make_token("robots", "robot", app)
        target = wiring.target("authentik", made.estate, made.place())
        target.engine.apply(target.wish, "t0")
        target.engine.journal.keep("t0")
        yield made


# authentik's tokens


@pytest.mark.parametrize(("name", "key", "account"), [("own", "own", "akadmin"), ("app", "app", "robot")])
def test_a_token_gets_a_successor_and_the_one_before_goes_after_the_grace(
    world: World, name: str, key: str, account: str
) -> None:
    before = world.vault.all()[key]
    others = [token for token in world.tokens(account) if token not in ("by-hand", "robots")]
    assert world.run(name).again == 3600
    after = world.vault.all()
    assert (
        after[key] != before and after[f"{key}.previous"] == before and world.opens(after[key]) and world.opens(before)
    )
    world.run(name, later=3601)
    assert not world.opens(before) and world.opens(after[key])
    mine = [token for token in world.tokens(account) if token not in others]
    assert len(mine) == 1 and mine[0].startswith(f"hecate-lab-{name}-")
    left = world.vault.all()
    assert {k for k in left if k.startswith(key)} == {key, f"{key}.rotated"} and left["stranger"] == "as it was"


def test_after_hecates_own_token_was_rotated_the_next_deploy_has_nothing_to_do(world: World) -> None:
    world.run("own", immediate=True)
    target = wiring.target("authentik", world.estate, world.place())
    assert target.engine.plan(target.wish).changes == ()


def test_the_token_belongs_to_the_account_and_does_not_expire(world: World) -> None:
    world.run("app")
    rows = world.api("GET", "/core/tokens/?page_size=100").json()["results"]
    found = next(row for row in rows if row["identifier"].startswith("hecate-lab-app-"))
    assert found["user_obj"]["username"] == "robot" and found["expiring"] is False and found["intent"] == "api"


def test_an_emergency_leaves_one_token_that_nobody_knew(world: World) -> None:
    world.run("app")
    known = world.vault.ever()
    world.run("app", immediate=True)
    held = world.vault.all()["app"]
    assert held not in known and world.opens(held) and len(world.tokens("robot")) == 1
    assert not any(world.opens(key) for key in known - {world.vault.all()["own"]})


def test_the_first_token_of_an_account_is_made(world: World) -> None:
    world.pillar["rotation"]["first"] = {
        "kind": "authentik_token",
        "secret": world.vault.ref("new"),
        "account": "robot",
    }
    assert world.run("first").done[-1] == "consumers read the successor from now on"
    assert world.opens(world.vault.all()["new"]) and "new.previous" not in world.vault.all()


@pytest.mark.parametrize("account", ["nobody", "alice"])
def test_a_token_of_another_account_than_pillar_says_is_left_alone(world: World, account: str) -> None:
    world.pillar["rotation"]["app"]["account"] = account
    before = world.tokens("robot")
    with pytest.raises(HecateError, match=account):
        world.run("app")
    assert world.tokens("robot") == before and world.opens(world.vault.all()["app"])


def test_who_is_no_superuser_makes_no_token_for_another(world: World) -> None:
    world.pillar["authentik"]["token"] = world.vault.ref("app")  # robot's
    world.authentik.state.rights[
        next(u["pk"] for u in world.authentik.state.users.values() if u["username"] == "robot")
    ] = frozenset({"view_user", "add_token", "view_token", "delete_token", "set_token_key"})
    world.pillar["rotation"]["other"] = {"kind": "authentik_token", "secret": world.vault.ref("x"), "account": "alice"}
    with pytest.raises(HecateError, match="not a superuser"):
        world.run("other")
    assert world.tokens("robot") == ["robots"] and not world.tokens("alice")


@pytest.mark.parametrize("write", range(3), ids=["the token", "its key", "the deletion"])
@pytest.mark.parametrize("kind", ["server-error", "cut", "lost-answer"])
@pytest.mark.parametrize("name", ["app", "own"])
def test_a_rotation_that_authentik_cut_off_is_finished_by_the_next(
    world: World, name: str, kind: str, write: int
) -> None:
    before, account = world.vault.all()[name], {"app": "robot", "own": "akadmin"}[name]
    others = len(world.tokens(account)) - 1
    switch_faults(world.url, {"kind": kind, "method": "WRITE", "skip": write, "times": 1})
    with pytest.raises(ApiFailure):
        world.run(name, immediate=True)
    assert world.opens(world.vault.all()[name])
    switch_faults(world.url)
    world.run(name, begin=False, immediate=True)
    after = world.vault.all()
    assert not world.opens(before) and world.opens(after[name]) and len(world.tokens(account)) == others + 1
    assert {key for key in after if key.startswith(name)} == {name, f"{name}.rotated"}


def test_who_uses_the_secret_without_pause_is_never_refused(world: World) -> None:
    """Reads the reference anew each time and calls; beside it one that keeps what it has read for half the grace."""
    refused: list[str] = []
    uses = {"anew": 0, "kept": 0}
    over = threading.Event()

    def use(how: str, value: Callable[[], str]) -> None:
        while not over.is_set():
            answer = requests.get(
                f"{world.url}/api/v3/core/users/me/", headers={"Authorization": f"Bearer {value()}"}, timeout=10
            )
            uses[how] += 1
            if answer.status_code != 200:
                refused.append(f"{how}: {answer.status_code}")

    kept = world.vault.all()["app"]
    watchers = [
        threading.Thread(target=use, args=("anew", lambda: world.vault.all()["app"])),
        threading.Thread(target=use, args=("kept", lambda: kept)),
    ]
    for thread in watchers:
        thread.start()
    try:
        for turn in range(4):
            seen = dict(uses)
            world.run("app", later=turn * 10_000.0)
            until = {how: seen[how] + 3 for how in uses}
            while any(uses[how] < until[how] for how in uses):
                assert all(thread.is_alive() for thread in watchers)
            kept = world.vault.all()["app"]  # within the grace, as told
            seen = dict(uses)
            while uses["kept"] < seen["kept"] + 2:
                assert watchers[1].is_alive()
            world.run("app", later=turn * 10_000.0 + 5_000)
    finally:
        over.set()
        for thread in watchers:
            thread.join(30)
    assert refused == [] and len(world.vault.ever()) >= 9, "four successors were made"


def test_two_runs_at_once_leave_one_successor(world: World) -> None:
    first, second = (rotating.course(world.estate, world.place(), "app") for _ in range(2))
    assert isinstance(first, rotating.Stocktaking) and isinstance(second, rotating.Stocktaking)
    fresh = second.rotor.fresh
    met: list[Any] = []

    def while_the_other_runs() -> str:
        met.append(first.run(begin=True, immediate=False, told=False))
        return fresh()

    second.rotor.fresh = while_the_other_runs  # type: ignore[method-assign]
    with pytest.raises(SecretUnavailable, match="somebody else wrote it in between"):
        second.run(begin=True, immediate=False, told=False)
    assert met[0].promoted and world.opens(world.vault.all()["app"]) and len(world.tokens("robot")) == 2


# OAuth2 clients


def test_a_client_secret_is_replaced_and_tried_at_the_token_endpoint(world: World) -> None:
    before = world.vault.all()["client"]
    assert world.use_secret("wiki", before) == "invalid_grant"
    step = world.run("wiki")
    after = world.vault.all()["client"]
    assert step.promoted and step.again is None and after != before
    assert world.use_secret("wiki", after) == "invalid_grant" and world.use_secret("wiki", before) == "invalid_client"
    target = wiring.target("authentik", world.estate, world.place())
    assert target.engine.plan(target.wish).changes == ()


def test_cut_off_between_authentik_and_vault_the_successor_stands_beside_the_secret(world: World) -> None:
    course = rotating.course(world.estate, world.place(), "wiki")
    assert isinstance(course, rotating.Stocktaking)

    real, asked = course.rotor.works, list[str]()

    def once_and_then_no_answer(value: str) -> bool:
        asked.append(value)
        if len(asked) > 1:
            raise ApiFailure("authentik", "no answer")
        return real(value)

    course.rotor.works = once_and_then_no_answer  # type: ignore[method-assign]
    with pytest.raises(ApiFailure):
        course.run(begin=True, immediate=False, told=False)
    held = world.vault.all()
    assert world.use_secret("wiki", held["client.next"]) == "invalid_grant"
    world.run("wiki", begin=False)
    assert world.vault.all()["client"] == held["client.next"] and "client.next" not in world.vault.all()


# Hetzner's token, which a person makes and deletes


def test_a_token_that_the_operator_supplied_is_tried_before_use_and_the_old_one_waits_for_him(world: World) -> None:
    before, supplied = world.vault.all()["hetzner"], world.vault.all()["supplied"]
    world.hetzner.tokens.add(supplied)
    assert world.run("dns").promoted and world.vault.all()["hetzner"] == supplied
    step = world.run("dns", later=3601)
    assert "delete the old token" in step.by_hand and world.vault.all()["hetzner.retiring"] == before
    world.hetzner.tokens.discard(before)
    assert not world.run("dns", later=3602).by_hand
    assert {k for k in world.vault.all() if k.startswith("hetzner")} == {"hetzner", "hetzner.rotated"}


def test_a_token_that_is_not_good_is_never_put_in_use(world: World) -> None:
    before = world.vault.all()
    with pytest.raises(NotVerified):
        world.run("dns")
    assert world.vault.all() == before


def test_a_token_of_another_project_is_never_put_in_use(world: World) -> None:
    world.hetzner.tokens.add(world.vault.all()["supplied"])
    world.pillar["dns"]["zones"]["elsewhere.test"] = {"policy": "sync"}
    with pytest.raises(NotVerified):
        world.run("dns")
    assert "hetzner.next" not in world.vault.all()


def test_the_same_token_supplied_again_is_refused(world: World) -> None:
    world.vault.put(**{**world.vault.all(), "supplied": world.vault.all()["hetzner"]})
    with pytest.raises(HecateError, match="in use already"):
        world.run("dns")


def test_an_emergency_is_not_done_while_the_old_one_is_accepted(world: World) -> None:
    world.hetzner.tokens.add(world.vault.all()["supplied"])
    with pytest.raises(HecateError, match="TO BE DONE BY HAND: delete the old token"):
        world.master().run(["dns"], immediate=True, only_due=False)


# As the master does it


def test_the_master_goes_to_the_target_that_reaches_the_system(world: World) -> None:
    listed = {row["name"]: row["minion"] for row in world.master().targets(None)}
    assert listed == {
        "own": "hecate-authentik", "app": "hecate-authentik", "wiki": "hecate-authentik", "dns": "hecate-dns"
    }  # fmt: skip
    with pytest.raises(HecateError, match="no other under hecate:rotation; there are: app, dns, own, wiki"):
        world.master().targets("other")


def test_what_is_due_is_done_and_the_rest_is_left(world: World) -> None:
    told = world.master().run(["own", "app"], immediate=False, only_due=True)
    assert "own: a successor is stored" in told and "app: nothing to do; done when asked for" in told
    assert "app.rotated" not in world.vault.all()
    told = world.master().run(["own"], immediate=False, only_due=True)
    assert "own: nothing to do; the old one is good for" in told


def test_one_that_fails_keeps_no_other_from_being_done(world: World) -> None:
    with pytest.raises(HecateError) as failed:
        world.master().run(["dns", "wiki"], immediate=False, only_due=False)
    assert "dns: FAILED" in str(failed.value) and "not done: dns" in str(failed.value)
    assert "client.rotated" in world.vault.all()


def test_the_status_is_a_table_with_what_is_overdue(world: World) -> None:
    world.run("app")
    rows = world.master().status()
    text = rotations.table(rows)
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "settled" in lines["own"] and "OVERDUE" in lines["own"]
    assert "grace" in lines["app"] and "left" in lines["app"] and "when asked for" in lines["app"]
    world.vault.put(stranger="all else is gone")
    assert {row["phase"] for row in world.master().status()} == {"missing"}


def test_a_target_that_cannot_tell_is_in_the_table_too(world: World) -> None:
    def call(minion: str, function: str, *words: Any) -> Any:
        return f"{minion} does not answer" if minion == "hecate-dns" else world.call(minion, function, *words)

    rows = {row["name"]: row for row in world.master(call).status()}
    assert rows["dns"]["why"] == "dns: hecate-dns does not answer" and "why" not in rows["app"]
    assert "hecate-dns does not answer" in rotations.table(list(rows.values()))


@pytest.mark.parametrize("immediate", [False, True])
def test_consumers_are_told_before_the_one_before_is_refused(world: World, immediate: bool) -> None:
    world.pillar["rotation"]["app"] |= {"grace": "0s", "apply": {"minions": ["web"], "state": "web.config"}}
    told: list[bool] = []

    def call(minion: str, function: str, *words: Any) -> Any:
        if function == "state.apply":
            held = world.vault.all()
            told.append(world.opens(held["app"]) and world.opens(held.get("app.previous", held["app"])))
            return {"file_|-config_|-config_|-managed": {"result": True}}
        return world.call(minion, function, *words)

    before = world.vault.all()["app"]
    world.master(call).run(["app"], immediate=immediate, only_due=False)
    assert told == [True] and not world.opens(before) and world.opens(world.vault.all()["app"])


STATE = "x_|-config_|-y_|-z"


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ({STATE: {"result": False, "__id__": "config"}}, "web: web.config: config failed"),
        ({STATE: {"result": None, "__id__": "config"}}, "web: web.config: config was not applied"),
        ({STATE: {"result": True}, "other": {"__id__": "config"}}, "web: web.config: config failed"),
        ({STATE: ["The following requisites were not found"]}, f"web: web.config: {STATE} failed"),
        ({}, "web: nothing is in web.config"),
        (["Rendering SLS 'base:web.config' failed: canary"], "web could not apply web.config"),
        ("web does not answer; is its minion running?", "web could not apply web.config"),
        (None, "web could not apply web.config"),
        (True, "web could not apply web.config"),
    ],
)
def test_while_a_consumer_cannot_be_told_the_one_before_stays_good(world: World, answer: Any, part: str) -> None:
    world.pillar["rotation"]["app"] |= {"grace": "0s", "apply": {"minions": ["web"], "state": "web.config"}}
    before = world.vault.all()["app"]

    def call(minion: str, function: str, *words: Any) -> Any:
        return answer if function == "state.apply" else world.call(minion, function, *words)

    for _ in range(2):
        with pytest.raises(HecateError) as caught:
            world.master(call).run(["app"], immediate=False, only_due=False)
        assert part in str(caught.value) and "canary" not in str(caught.value)
        assert world.opens(before) and world.opens(world.vault.all()["app"])


def test_no_value_is_in_what_is_told_or_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    for name, faults in (
        ("app", [{"kind": "server-error", "method": "POST", "path": "/set_key/$", "times": 1}]),
        ("app", []), ("wiki", []), ("dns", []), ("own", []),
    ):  # fmt: skip
        switch_faults(world.url, *faults)
        try:
            texts.append(world.master().run([name], immediate=True, only_due=False))
        except HecateError as err:
            texts.append(str(err))
    texts += [json.dumps(world.master().status()), *world.said, caplog.text, *map(str, caplog.records)]
    values = world.vault.ever() | {world.root, world.vault.bao.token}
    assert len(values) > 8
    spoken = "\n".join(texts)
    assert not [value for value in values - {"as it was"} if value in spoken]


def test_an_execution_function_on_a_minion_does_it(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "minion"
    folder.mkdir()
    minion = Minion(folder, world.pillar)
    before = world.vault.all()["app"]
    answer = minion.call("hecate.rotate", "app", immediate=True)
    assert answer["promoted"] and not world.opens(before) and world.opens(world.vault.all()["app"])
    assert minion.call("hecate.rotation", "app")["phase"] == "settled"
    assert world.vault.all()["app"] not in json.dumps(answer)
