"""References are resolved late, and their values never told."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import threading
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hecate import model, wiring
from hecate.errors import HecateError, InvalidPillar, SecretUnavailable
from hecate.model import Estate, problems_in, storable
from hecate.model.fields import SecretRef, Section
from hecate.model.references import references
from hecate.secrets import MASK, Resolver, is_reference, masked
from hecate.store.deployments import RUNNING, Deployment
from hecate.targets import Crew
from hecate_deploy import Conductor
from hypothesis import given
from hypothesis import strategies as st

CANARY = "canary-5f1e9c"
LAB = {"environment": "lab", "literal_secrets": True}


def test_each_kind_of_reference(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY + "\n")
    path.chmod(0o600)
    resolver = Resolver(
        lambda where, key, version: f"{where}/{key}/{version}", {"TOKEN": CANARY}, lambda uri: f"<{uri}>"
    )
    assert resolver.value("env:TOKEN") == CANARY
    assert resolver.value(f"file:{path}") == CANARY
    assert resolver.value("vault:hecate/x#token@3") == "hecate/x/token/3"
    assert resolver.value("sdb:profile/key") == resolver.value("sdb://profile/key") == "<sdb://profile/key>"


@pytest.mark.parametrize(
    "text",
    [
        *("hunter2", "vault:x", "env:", "file:relative", "VAULT:a#b", "vault:a#b c", "vault:a#b@0", "vault:#b"),
        *("vault:../a#b", "vault:a/..#b", "vault:a/./b#c", "vault:/a#b", "literal:", "sdb:profile", "env:A\n"),
    ],
)
def test_a_literal_is_no_reference(text: str) -> None:
    assert not is_reference(text)
    with pytest.raises(SecretUnavailable) as caught:
        Resolver().value(text)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["vault:..a/b..c/.d#e", "vault:a.b/c-d_e#f.g@12", "sdb:p.q/a/b?c=d", "literal:a\nb"])
def test_odd_but_good_references(text: str) -> None:
    assert is_reference(text)


def test_each_is_read_once_and_only_when_it_is_wanted() -> None:
    asked: list[str] = []

    def read(path: str, key: str, version: int | None) -> str:
        asked.append(f"{path}#{key}@{version}")
        return CANARY

    resolver = Resolver(read)
    assert asked == []
    for _ in range(3):
        assert resolver.value("vault:a#b") == resolver.value("vault:a#b@2") == CANARY
    assert asked == ["a#b@None", "a#b@2"]


# What is refused


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o620, 0o666, 0o610])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    path.chmod(mode)
    with pytest.raises(SecretUnavailable, match="chmod 0600"):
        Resolver().value(f"file:{path}")


def test_a_file_of_the_groups_is_good(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    path.chmod(0o640)
    assert Resolver().value(f"file:{path}") == CANARY


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    """Without waiting for a pipe's other end, and without quoting what was read."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(0o700)
    (tmp_path / "binary").write_bytes(CANARY.encode() + b"\xff")
    (tmp_path / "binary").chmod(0o600)
    told = []
    for name in ("pipe", "folder", "binary"):
        with pytest.raises(SecretUnavailable, match=f"file:{tmp_path}/{name}: ") as caught:
            Resolver().value(f"file:{tmp_path}/{name}")
        told.append(str(caught.value).rpartition(": ")[2])
        assert not isinstance(caught.value.__context__, UnicodeDecodeError), "it has the octets in it"
    assert told == ["not a file", "Is a directory", "not a text; its octets are no UTF-8"]


@pytest.mark.parametrize("reference", ["env:NOT_THERE", "file:/not/there", "vault:a#b", "sdb:a/b"])
def test_what_is_missing_is_named(reference: str) -> None:
    with pytest.raises(SecretUnavailable, match=reference):
        Resolver(environ={}).value(reference)


def test_an_empty_secret_is_no_secret() -> None:
    with pytest.raises(SecretUnavailable, match="env:TOKEN is empty"):
        Resolver(environ={"TOKEN": ""}).value("env:TOKEN")


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"a": CANARY}, "a mapping"), ([CANARY], "a list"), (5, "a number"), (True, "true or false"), (b"x", "a bytes")],
)
@pytest.mark.parametrize("reference", ["vault:a#b", "sdb:a/b"])
def test_what_is_no_text_is_refused(reference: str, value: object, kind: str) -> None:
    with pytest.raises(SecretUnavailable) as caught:
        Resolver(lambda *_: value, {}, lambda _: value).value(reference)
    assert str(caught.value) == f"{reference}: not a text but {kind}; name one value of it"


def test_a_driver_of_sdb_that_fails_is_not_quoted() -> None:
    def read(uri: str) -> str:
        raise RuntimeError(f"I read {CANARY}")

    with pytest.raises(SecretUnavailable, match=r"sdb:a/b: the sdb driver failed \(RuntimeError\)") as caught:
        Resolver(read_sdb=read).value("sdb:a/b")
    assert caught.value.__cause__ is None and caught.value.__context__ is None


@pytest.mark.parametrize("answer", [None, "sdb://a/b"])
def test_a_profile_of_sdb_that_is_not_there_is_told(answer: str | None) -> None:
    with pytest.raises(SecretUnavailable, match="is the sdb profile configured on this target"):
        Resolver(read_sdb=lambda _: answer).value("sdb:a/b")


# The mask


def mask(text: str, *values: str) -> str:
    resolver = Resolver(environ={f"V{index}": value for index, value in enumerate(values)})
    for index in range(len(values)):
        resolver.value(f"env:V{index}")
    return resolver.mask(text)


ODD = "p\"ä/ö\\<&>+ '=?%é"
PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEHBG0w\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("value", [CANARY, ODD, PEM, "five5"])
def test_a_value_is_masked_in_every_spelling_of_a_request(value: str) -> None:
    go = json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")[1:-1]
    spellings = [
        value,
        json.dumps(value),
        json.dumps({"a": value}, ensure_ascii=False),
        go,
        repr({"a": value}),
        html.escape(value),
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        re.sub("%..", lambda octet: octet[0].lower(), quote(value, safe="")),
    ]
    for spelling in spellings:
        text = mask(f"before {spelling} after", value)
        assert MASK in text and text.startswith("before ") and text.endswith(" after")
        assert value not in text and json.dumps(value)[1:-1] not in text


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("value", [CANARY, ODD, "five5", "+/" * 9 + "ÿþ"])
@pytest.mark.parametrize("user", ["", "a:", "ab:", "abc:", "someone@example.com:", '{"password":"'])
@pytest.mark.parametrize("behind", ["", "x", "xy", '"}'])
def test_base64_is_masked_whatever_stands_before_and_behind(encode: Any, value: str, user: str, behind: str) -> None:
    """Basic authentication encodes user:password in one; all of it goes."""
    text = encode(f"{user}{value}{behind}".encode()).decode()
    assert mask(f"Authorization: Basic {text} ", value) == f"Authorization: Basic {MASK} "
    assert mask(f"?auth={quote(text, safe='')} ", value).endswith(f"{MASK} ")


def test_a_line_of_a_key_is_a_secret_by_itself() -> None:
    assert "MIGHAgEAMBMGByqGSM49" not in mask("line 2: MIGHAgEAMBMGByqGSM49", PEM)
    assert mask("-----BEGIN PRIVATE KEY-----", PEM) == "-----BEGIN PRIVATE KEY-----", "that line is in every key"


def test_a_short_value_is_masked_where_it_stands_alone() -> None:
    assert mask("pin=42, code 4242, port 8042, (42)", "42") == f"pin={MASK}, code 4242, port 8042, ({MASK})"
    assert mask("a secret", "s") == "a secret"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_values_that_overlap_nothing_is_left(order: tuple[int, int]) -> None:
    inside = ["hunter2-longer", "hunter2"]
    assert mask("a hunter2-longer b hunter2 c", *[inside[i] for i in order]) == f"a {MASK} b {MASK} c"
    crossing = ["abcdefgh", "efghijkl"]
    assert mask("<abcdefghijkl>", *[crossing[i] for i in order]) == f"<{MASK}>"


def test_a_value_like_the_mask_does_no_harm() -> None:
    assert mask("secret (secret)", "secret") == f"{MASK} ({MASK})"


def test_what_was_not_resolved_is_not_masked() -> None:
    assert Resolver(environ={"TOKEN": CANARY}).mask(CANARY) == CANARY


@given(st.text(min_size=5), st.text(), st.text())
def test_no_text_has_the_value_in_it_after_masking(value: str, before: str, behind: str) -> None:
    assert value not in masked(before + value + behind, [value]).replace(MASK, "\0")


def test_resolvers_in_threads_know_only_their_own() -> None:
    """A deltaproxy has several targets in one process, each with a resolver of its own."""
    seen: dict[int, str] = {}

    def run(number: int) -> None:
        resolver = Resolver(environ={"TOKEN": f"{CANARY}-{number}"})
        resolver.value("env:TOKEN")
        seen[number] = resolver.mask(f"{CANARY}-0x {CANARY}-1x")

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {0: f"{MASK}x {CANARY}-1x", 1: f"{CANARY}-0x {MASK}x"}


# Where a secret may stand in pillar


SECRET = typing.get_args(SecretRef)[1]
TAGS = ("type", "kind")  # fields that say which of several sections it is


def secret_places(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of every SecretRef of the model; * for any name, # for any item, ?tag=value for a section of that kind."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        if SECRET in args[1:]:
            yield path
        else:
            yield from secret_places(args[0], path)
    elif origin in (typing.Union, types.UnionType):
        for arg in args:
            yield from secret_places(arg, path)
    elif origin is dict:
        yield from secret_places(args[1], (*path, "*"))
    elif origin in (tuple, list):
        yield from secret_places(args[0], (*path, "#"))
    elif isinstance(kind, type) and issubclass(kind, Section):
        hints = typing.get_type_hints(kind, include_extras=True)
        tags = [f"?{name}={typing.get_args(hint)[0]}" for name, hint in hints.items() if name in TAGS and is_tag(hint)]
        for name in kind.model_fields:
            yield from secret_places(hints[name], (*path, *tags, name))


def is_tag(hint: Any) -> bool:
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    return typing.get_origin(inner) is typing.Literal and len(typing.get_args(inner)) == 1


PLACES = sorted(set(secret_places(Estate)))


def holding(path: tuple[str, ...], value: Any, name: str) -> Any:
    """A pillar with that value at that place and nothing else in it. name: of whatever has a name on the way."""
    if not path:
        return value
    inner = holding(path[1:], value, name)
    if path[0].startswith("?"):
        tag, _, kind = path[0][1:].partition("=")
        return {tag: kind, **inner}
    return [inner] if path[0] == "#" else {name if path[0] == "*" else path[0]: inner}


def test_the_places_are_found() -> None:
    """Every one that is known by name, so that the table below is no empty one."""
    known = {
        ("authentik", "token"),
        ("hetzner_dns", "token"),
        ("rfc2136", "*", "secret"),
        ("nomad", "token"),
        ("vault", "token"),
        ("vault", "approle", "role_id"),
        ("vault", "approle", "secret_id"),
        ("store", "consul", "token"),
        ("applications", "*", "oauth2", "client_secret"),
        ("routes", "*", "tls", "vault"),
        ("routes", "*", "tls", "vault_key"),
    }
    assert known <= set(PLACES)


@pytest.mark.parametrize("literal", [CANARY, f"literal:{CANARY}", f"vault:{CANARY}", f"env:{CANARY}", "literal:"])
@pytest.mark.parametrize("place", PLACES, ids=":".join)
def test_a_literal_where_a_secret_is_expected_is_refused(place: tuple[str, ...], literal: str) -> None:
    name = "a.test" if place[0] == "routes" else "a"
    problems = problems_in({"hecate": holding(place, literal, name)})
    parts = [{"*": name, "#": "0"}.get(part, part) for part in place if not part.startswith("?")]
    path = ":".join(["hecate", *parts])
    if not literal.startswith("literal:") or literal == "literal:":
        assert [p for p in problems if p.path == path and "a secret is a reference" in p.why and not p.value], problems
    assert CANARY not in str(InvalidPillar(problems)) + repr(problems)


def complete(literal: str) -> dict[str, Any]:
    """A pillar with a literal in each place that may have one, right but for that."""
    url = {"url": "https://x.test"}
    return {
        "authentik": {
            **url,
            "token": literal,
            "service_accounts": {"robot": {"tokens": {"api": literal}}},
            "events": {**url, "secret": literal},
        },
        "auth_policies": {"staff": {"groups": ["staff"]}},
        "applications": {
            "app": {
                "auth_policy": "staff",
                "oauth2": {"client_secret": literal, "redirect_uris": "https://a.test/b"},
            }
        },
        "hetzner_dns": {"token": literal},
        "nomad": {"token": literal},
        "rfc2136": {"inside": {"server": "127.0.0.1:53", "key": "k", "secret": literal}},
        "vault": {**url, "approle": {"role_id": literal, "secret_id": literal}},
        "store": {"consul": {**url, "token": literal}},
    }


def test_a_literal_wants_the_word_for_it_and_is_not_for_production() -> None:
    pillar = complete(f"literal:{CANARY}")
    problems = problems_in({"hecate": pillar})
    assert len(problems) == 10 and all("never a literal" in p.why and not p.value for p in problems)
    production = problems_in({"hecate": {**pillar, "literal_secrets": True}})
    assert [p.path for p in production] == ["hecate:literal_secrets"]
    assert CANARY not in str(problems) + str(production)
    assert problems_in({"hecate": {**pillar, **LAB}}) == []


def test_a_literal_is_known_by_its_place_alone() -> None:
    estate = model.parse({"hecate": {**complete(f"literal:{CANARY}"), **LAB}})
    places = dict(references(estate))
    assert len(places) == 10 and all(reference == f"literal:{path}" for path, reference in places.items())
    resolver = wiring.resolver(estate, wiring.Keeper())
    assert {resolver.value(reference) for reference in places.values()} == {CANARY}
    shown = repr(estate) + str(estate) + estate.model_dump_json() + repr(estate.model_copy())
    assert CANARY not in shown
    assert resolver.mask(f"a {CANARY}") == f"a {MASK}"


def test_a_literal_at_a_wrong_place_is_not_shown_either() -> None:
    wrong = {"authentik": {"url": f"literal:{CANARY}", "token": "env:A"}, "environment": f"literal:{CANARY}"}
    problems = problems_in({"hecate": wrong})
    assert {p.path for p in problems} == {"hecate:authentik:url", "hecate:environment"}
    assert CANARY not in str(InvalidPillar(problems)) + repr(problems)


def test_a_literal_of_another_pillar_is_not_to_be_had() -> None:
    """Neither by the text itself nor by a place that has none any more."""
    estate = model.parse({"hecate": {"hetzner_dns": {"token": "env:TOKEN"}, **LAB}})
    for reference in (f"literal:{CANARY}", "literal:hecate:hetzner_dns:token"):
        with pytest.raises(SecretUnavailable) as caught:
            wiring.resolver(estate, wiring.Keeper()).value(reference)
        assert CANARY not in str(caught.value)


def test_history_keeps_no_literal_and_says_so_on_the_way_back() -> None:
    pillar = {**complete(f"literal:{CANARY}"), **LAB, "notifications": {"slack": {"url": f"https://x.test/{CANARY}"}}}
    pillar["adopt"] = [f"literal:{CANARY}"]
    kept = storable({"hecate": pillar})
    assert CANARY not in json.dumps(kept)
    assert kept["authentik"]["url"] == "https://x.test" and kept["literal_secrets"] is True
    problems = problems_in({"hecate": kept})
    assert len(problems) == 10 and all("none is kept with a deployment" in p.why for p in problems)
    references_alone = complete("env:TOKEN")
    assert storable({"hecate": references_alone}) == references_alone, "everything else is kept as it is"


def test_a_deploy_stores_its_pillar_without_literals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning, and when it is recorded."""
    webhook = {"slack": {"webhook_url": f"https://hooks.test/{CANARY}", "channel": "#ops"}}
    pillar = {**LAB, "hetzner_dns": {"token": f"literal:{CANARY}"}, "targets": {"dns": "d"}, "notifications": webhook}
    master = Conductor({"id": "master", "cachedir": str(tmp_path), "user": "root"}, {})
    master._rendered = {"hecate": pillar}
    assert problems_in(master._rendered) == []

    def stored() -> bytes:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(b"literal_secrets" in path.read_bytes() for path in files)
        return b"".join(path.read_bytes() for path in files)

    answers = {"hecate.join": list[str](), "hecate.commit": {"count": 0, "ids": []}}
    monkeypatch.setattr(Conductor, "_crew", Crew(lambda _, function, *__: answers[function]))
    master.begin("20260101-000000-00000000")
    assert CANARY.encode() not in stored()
    master.record("20260101-000000-00000000")
    assert CANARY.encode() not in stored()
    assert CANARY not in repr(master.show("20260101-000000-00000000"))


def test_no_secret_gets_a_successor_over_a_deploy_that_was_cut_off_unless_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[bool] = []

    class Rotations:
        def names(self, which: Any) -> list[str]:
            return ["token"]

        def run(self, names: Any, *, immediate: bool, only_due: bool) -> str:
            run.append(immediate)
            if len(run) > 1:
                raise HecateError("token: the API said no\nand more")
            return "token: a successor"

    master = Conductor({"id": "master", "cachedir": str(tmp_path), "user": "root"}, {})
    master._rendered = {"hecate": LAB}
    monkeypatch.setattr(Conductor, "_rotations", Rotations())
    master._deployments.save(Deployment("t1", RUNNING, "alice", 1.0))
    with pytest.raises(HecateError, match="deploy t1 was cut off.*hecate.resume.*immediate=True"):
        master.rotate("token", immediate=False, only_due=False)
    assert run == [] and master._deployments.holder() is None
    assert master.rotate("token", immediate=True, only_due=False) == "token: a successor"
    with pytest.raises(HecateError, match="said no"):
        master.rotate("token", immediate=True, only_due=False)
    assert [entry.what for entry in master._audit.entries()][-4:] == [
        "rotation begun",
        "rotation done",
        "rotation begun",
        "rotation failed",
    ]
    assert master._deployments.holder() is None
