"""What is decided about authentik before anybody is asked: policies as code, names, versions, references, batches."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hecate import model
from hecate.backends.authentik import AuthentikBackend
from hecate.backends.authentik_sealed import Sealed
from hecate.backends.authentik_versions import CHANGES, dialect, numbers, warnings
from hecate.compile.authentik import compile_authentik, duration, expression
from hecate.errors import InvalidPillar, SecretUnavailable
from hecate.model.guards import slug_of
from hecate.model.identity import AuthPolicy
from hecate.resource import UNKNOWN, Change, Resource
from hypothesis import given
from hypothesis import strategies as st

ACCESS = {"url": "https://auth.test", "token": "env:T"}


def estate(**hecate: Any) -> model.Estate:
    return model.parse({"hecate": {"authentik": ACCESS, **hecate}})


def policy(**said: Any) -> AuthPolicy:
    return AuthPolicy.model_construct(**{**AuthPolicy().model_dump(), **said})


def decided(source: str, attributes: dict[str, Any], groups: tuple[str, ...] = ()) -> Any:
    """What the expression says, run as the server runs it: as the body of a function."""
    tree = ast.parse("def policy(request, ak_is_group_member):\n    pass")
    tree.body[0].body = ast.parse(source).body  # type: ignore[attr-defined]
    names: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(tree), "policy", "exec"), names)
    request = SimpleNamespace(user=SimpleNamespace(attributes=attributes))
    return names["policy"](request, lambda user, name: name in groups)


# Policies as code


@given(name=st.text(min_size=1), wanted=st.text(min_size=1), have=st.text())
def test_no_text_is_taken_for_code(name: str, wanted: str, have: str) -> None:
    source = expression(policy(groups=(name,), attributes={name: wanted}))
    right = bool(have) if wanted == "required" else have == wanted
    assert decided(source, {name: have}, (name,)) is right
    assert decided(source, {name: wanted}, ()) is False
    assert decided(source, {}, (name,)) is False


def test_one_wrong_attribute_is_enough_to_be_refused() -> None:
    source = expression(policy(attributes={"dept": ("x", "y"), "id": "required", "cleared": True, "level": 3}))
    right = {"dept": "y", "id": "7", "cleared": True, "level": 3}
    assert decided(source, right) is True
    for name in right:
        assert decided(source, {**right, name: "other" if name != "id" else ""}) is False
        assert decided(source, {other: value for other, value in right.items() if other != name}) is False


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ({"groups": ["staff') or True or ('"]}, "hecate:auth_policies:p:groups"),
        ({"groups": ["a\nreturn True"]}, "hecate:auth_policies:p:groups"),
        ({"attributes": {"x') or ('": "y"}}, "hecate:auth_policies:p:attributes"),
        ({"attributes": {"x": "a\nb"}}, "hecate:auth_policies:p:attributes"),
        ({"attributes": {"x": "{http.request.header.X}"}}, "hecate:auth_policies:p:attributes"),
    ],
)
def test_what_is_no_name_and_no_line_is_refused_before_that(said: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPillar) as caught:
        estate(auth_policies={"p": said})
    assert all(problem.path.startswith(path) for problem in caught.value.problems)


def test_whatever_is_restricted_is_bound_to_what_says_no() -> None:
    policies = {"g": {"groups": ["staff"]}, "a": {"attributes": {"x": "y"}}, "open": {}}
    routes = {f"{name}.estate.test": {"upstreams": ["127.0.0.1:1"], "auth_policy": name} for name in policies}
    found = {
        r.key for r in compile_authentik(estate(auth_policies=policies, routes=routes)) if r.kind.endswith("binding")
    }
    assert found == {
        "g-estate-test/group/staff",
        "g-estate-test/policy/hecate/production/closed",
        "a-estate-test/policy/hecate/production/policy/a",
        "a-estate-test/policy/hecate/production/closed",
    }


# Names


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]{1,40}){1,4}", fullmatch=True))
def test_a_slug_fits_the_oldest_server(host: str) -> None:
    assert 0 < len(slug_of(host)) <= 50
    assert set(slug_of(host)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_two_long_names_that_begin_alike_have_two_slugs() -> None:
    long = "a" * 60
    assert slug_of(f"{long}.one.test") != slug_of(f"{long}.two.test")


def test_durations_are_written_out() -> None:
    assert [duration(text) for text in ("90s", "5m", "8h", "2d")] == ["seconds=90", "minutes=5", "hours=8", "days=2"]


# Versions


def test_the_table_of_versions_is_in_order_and_each_line_changes_something() -> None:
    assert list(CHANGES) == sorted(CHANGES, key=lambda row: row[0])
    for since, change in CHANGES:
        before = dialect(f"{since[0]}.{since[1] - 1}.9") if since[1] > 1 else dialect(f"{since[0] - 1}.12.9")
        after = dialect(f"{since[0]}.{since[1]}.0")
        assert {name: getattr(after, name) for name in change} == change
        assert any(getattr(before, name) != value for name, value in change.items())


@pytest.mark.parametrize(
    ("text", "found"),
    [("2025.10.4", (2025, 10, 4)), ("2026.2", (2026, 2, 0)), ("2026.5.0-rc2", (2026, 5, 0)), ("", (0, 0, 0))],
)
def test_a_version_is_three_numbers(text: str, found: tuple[int, int, int]) -> None:
    assert numbers(text) == found


def test_a_version_that_is_too_old_or_too_new_is_told() -> None:
    assert any("older than 2024.2" in line for line in warnings("2023.10.7"))
    assert any("newer than 2026.5" in line for line in warnings("2030.1.0"))
    assert warnings("2026.5.6") == []


# References


class Vault:
    def __init__(self, **values: str) -> None:
        self.values = values

    def __call__(self, reference: str) -> str:
        if reference not in self.values:
            raise SecretUnavailable(reference, "not there")
        return self.values[reference]


def test_what_is_there_is_the_wanted_reference_the_remembered_one_or_unknown(tmp_path: Path) -> None:
    vault = Vault(old="1", new="2")
    sealed = Sealed(vault, tmp_path / "references")
    sealed.learn("x", "{secret:old}")
    again = Sealed(vault, tmp_path / "references")
    assert again.of("x", "{secret:new}", lambda text: text == "2") == "{secret:new}"
    assert again.of("x", "{secret:new}", lambda text: text == "1") == "{secret:old}"
    assert again.of("x", "{secret:new}", lambda text: text == "3") == UNKNOWN
    assert again.of("x", None, lambda text: text == "1") == "{secret:old}"
    assert again.of("y", None, lambda text: text == "1") == UNKNOWN
    vault.values.pop("old")
    assert again.of("x", None, lambda text: text == "1") == UNKNOWN, "its reference leads nowhere any more"


@pytest.mark.parametrize("torn", ["", "{", "[1]"])
def test_a_file_of_references_that_was_lost_costs_rollbacks_only(tmp_path: Path, torn: str) -> None:
    (tmp_path / "references").write_text(torn)
    sealed = Sealed(Vault(old="1"), tmp_path / "references")
    assert sealed.of("x", None, lambda text: text == "1") == UNKNOWN
    sealed.learn("x", "{secret:old}")
    assert sealed.of("x", None, lambda text: text == "1") == "{secret:old}"


# Batches


def backend() -> AuthentikBackend:
    return AuthentikBackend(None, None, {""}, None)  # type: ignore[arg-type]


def made(kind: str, key: str, *needs: str, **spec: Any) -> Resource:
    return Resource(f"authentik.{kind}", key, spec, needs)


P, APP = "authentik.provider p", "authentik.application a"
PROVIDER = made("provider", "p", authorization_flow="f")
APPLICATION = made("application", "a", P, provider="p", policy_engine_mode="any")
STAFF, OPS = (made("binding", f"a/group/{name}", P, APP) for name in ("staff", "ops"))
ATTACHED = made("attachment", "/p", P, APP)


def batches(*changes: Change) -> list[list[str]]:
    return [[f"{c.verb} {c.kind.removeprefix('authentik.')}" for c in batch] for batch in backend().batches(changes)]


def test_an_application_comes_whole_and_the_outpost_hears_of_it_last() -> None:
    born = [Change(None, resource) for resource in (PROVIDER, APPLICATION, STAFF, ATTACHED)]
    assert batches(*born) == [["create provider", "create application", "create binding"], ["create attachment"]]


def test_the_outpost_hears_first_of_an_application_that_goes_and_its_bindings_go_with_it() -> None:
    gone = [Change(resource, None) for resource in (ATTACHED, STAFF, OPS, APPLICATION, PROVIDER)]
    assert batches(*gone) == [
        ["delete attachment"],
        ["delete binding", "delete binding", "delete application"],
        ["delete provider"],
    ]


def test_who_may_enter_no_more_is_out_before_anything_is_attached() -> None:
    assert batches(Change(None, OPS), Change(None, ATTACHED), Change(STAFF, None)) == [
        ["create binding"],
        ["delete binding"],
        ["create attachment"],
    ]


@pytest.mark.parametrize(
    "turn",
    [
        Change(PROVIDER, PROVIDER.with_spec({"authorization_flow": "mfa"})),
        Change(APPLICATION.with_spec({**APPLICATION.spec, "policy_engine_mode": "all"}), APPLICATION),
        Change(APPLICATION.with_spec({**APPLICATION.spec, "provider": "old"}), APPLICATION),
    ],
)
def test_an_application_that_is_entered_in_another_way_changes_in_one_batch(turn: Change) -> None:
    found = batches(turn, Change(None, OPS), Change(STAFF, None))
    assert [sorted(batch) for batch in found] == [
        sorted(["create binding", "delete binding", f"update {turn.kind[10:]}"])
    ]


def test_a_change_of_looks_alone_is_no_turn() -> None:
    looks = Change(APPLICATION.with_spec({**APPLICATION.spec, "group": "old"}), APPLICATION)
    assert batches(looks, Change(None, OPS), Change(STAFF, None)) == [
        ["update application"],
        ["create binding"],
        ["delete binding"],
    ]
