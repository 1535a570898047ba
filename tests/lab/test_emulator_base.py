"""What all emulators share: every fault kind over real HTTP, the record, the control API, the description check."""

from __future__ import annotations

import http.client
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import yaml
from werkzeug.wrappers import Request

from lab.emulators.base import Answer, ApiError, Emulator, Fault, json_body, route, running, specs
from lab.emulators.description import Description, modernise

PET = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
        "owner": {"nullable": True, "allOf": [{"$ref": "#/components/schemas/Owner"}]},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "kind": {"oneOf": [{"enum": ["cat"]}, {"enum": ["cat", "dog"]}]},
    },
}
ANSWER = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.0.3",
    "paths": {
        "/pets": {
            "get": {
                "parameters": [
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 100}},
                    {"in": "query", "name": "kind", "schema": {"type": "array", "items": {"enum": ["cat", "dog"]}}},
                ],
                "responses": {200: {"content": {"application/json": {"schema": {"type": "array"}}}}},
            },
            "post": {"requestBody": {"required": True, **ANSWER}, "responses": {201: ANSWER}},
        },
        "/pets/{name}": {"get": {"responses": {200: ANSWER}}},
        "/pets/mine": {"get": {"responses": {200: {"description": "nothing"}}}, "delete": {"responses": {}}},
    },
    "components": {
        "schemas": {"Pet": PET, "Owner": {"type": "object", "properties": {"mail": {"type": ["string", "null"]}}}}
    },
}


class Pets(Emulator):
    """As small as an emulator can be."""

    def __init__(self, description: pathlib.Path | None = None) -> None:
        super().__init__("pets", description, "/api")
        self.state = {"pets": {}, "secret": "canary"}

    def public_state(self) -> Any:
        return {"pets": self.state["pets"]}

    @route("GET", "/api/pets")
    def pets(self, request: Request) -> Answer:
        return 200, list(self.state["pets"].values())

    @route("POST", "/api/pets")
    def create(self, request: Request) -> Answer:
        pet = json_body(request)
        self.state["pets"][pet["name"]] = pet
        return 201, pet, {"X-Made": "yes"}

    @route("GET", "/api/pets/<name>")
    def pet(self, request: Request, name: str) -> Answer:
        if name not in self.state["pets"]:
            raise ApiError(404, {"detail": "no such pet"})
        return 200, self.state["pets"][name]


class World:
    """An emulator and a caller."""

    def __init__(self, app: Pets, url: str) -> None:
        self.app, self.url = app, url

    def call(self, method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, self.url + path, json=body, timeout=3)

    def create(self, name: str = "tom") -> requests.Response:
        return self.call("POST", "/api/pets", {"name": name})

    def names(self) -> list[str]:
        return [pet["name"] for pet in self.call("GET", "/api/pets").json()]


@pytest.fixture
def world() -> Iterator[World]:
    app = Pets()
    with running(app) as url:
        yield World(app, url)


@pytest.fixture
def described(tmp_path: pathlib.Path) -> Iterator[World]:
    path = tmp_path / "pets.yml"
    path.write_text(yaml.safe_dump(DOCUMENT))
    app = Pets(path)
    with running(app) as url:
        yield World(app, url)


def test_answers_and_records(world: World) -> None:
    made = world.create()
    assert (made.status_code, made.headers["X-Made"]) == (201, "yes")
    world.call("GET", "/api/pets/none?token=canary&page=2")
    assert world.call("GET", "/_lab/calls").json() == [
        {"method": "POST", "path": "/api/pets", "query": "", "status": 201, "write": True},
        {"method": "GET", "path": "/api/pets/none", "query": "token=***&page=2", "status": 404, "write": False},
    ]
    assert world.call("GET", "/_lab/counts").json() == {"reads": 1, "writes": 1}
    assert world.call("GET", "/_lab/state").json() == {"pets": {"tom": {"name": "tom"}}}
    assert world.call("DELETE", "/_lab/calls").status_code == 204
    assert world.app.calls == []


def test_paths_methods_and_bodies_that_do_not_fit(world: World) -> None:
    assert world.call("GET", "/elsewhere").status_code == 404
    assert world.call("PATCH", "/api/pets").status_code == 405
    assert requests.post(world.url + "/api/pets", data="{", timeout=3).status_code == 400
    assert world.call("GET", "/_lab/nothing").status_code == 404


def test_fault_status_does_not_act(world: World) -> None:
    world.app.set_faults([Fault(method="POST", status=503, body={"detail": "busy"})])
    answer = world.create()
    assert (answer.status_code, answer.json()) == (503, {"detail": "busy"})
    assert world.names() == []
    assert world.create().status_code == 201


def test_fault_delay_acts_late(world: World) -> None:
    world.app.set_faults([Fault(kind="delay", seconds=0.2)])
    begun = time.monotonic()
    assert world.create().status_code == 201
    assert time.monotonic() - begun >= 0.2
    assert world.names() == ["tom"]


def test_fault_cut_does_not_act(world: World) -> None:
    world.app.set_faults([Fault(kind="cut", method="WRITE")])
    with pytest.raises(requests.ConnectionError):
        world.create()
    assert world.names() == []
    assert world.app.calls[0]["status"] == 0


def test_fault_lost_answer_acts(world: World) -> None:
    world.app.set_faults([Fault(kind="lost-answer", method="WRITE")])
    with pytest.raises(requests.ConnectionError):
        world.create()
    assert world.names() == ["tom"]


def test_fault_half_body(world: World) -> None:
    world.create()
    whole = world.call("GET", "/api/pets/tom").content
    world.app.set_faults([Fault(kind="half-body", method="GET")])
    connection = http.client.HTTPConnection(world.url.removeprefix("http://"), timeout=3)
    connection.request("GET", "/api/pets/tom")
    answer = connection.getresponse()
    assert answer.getheader("Content-Length") == str(len(whole))
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial == whole[: len(whole) // 2]


def test_fault_rate_limit(world: World) -> None:
    world.app.set_faults([Fault(kind="rate-limit")])
    assert world.create().status_code == 429
    assert world.names() == []


def test_fault_stale_reads_the_past_and_keeps_the_present(world: World) -> None:
    world.create("old")
    world.app.set_faults([Fault(kind="stale", times=2, path="/pets$")])
    world.create("new")
    assert world.names() == ["old"]
    assert world.call("GET", "/api/pets/new").status_code == 200
    assert world.names() == ["old"]
    assert world.names() == ["old", "new"]


def test_faults_count_skip_and_end(world: World) -> None:
    faults = [{"method": "GET", "path": "/pets$", "skip": 1, "times": 2, "status": 500}, {"path": "x", "times": None}]
    set_ = world.call("PUT", "/_lab/faults", faults).json()
    assert [fault["hit"] for fault in set_] == [0, 0]
    got = [world.call("GET", "/api/pets").status_code for _ in range(4)]
    assert got == [200, 500, 500, 200]
    assert [world.call("GET", "/api/x").status_code for _ in range(3)] == [500] * 3
    assert world.call("DELETE", "/_lab/faults").json() == []
    assert world.call("GET", "/api/x").status_code == 404


@pytest.mark.parametrize("faults", [[{"kind": "nonsense"}], [{"colour": "red"}], {"a": 1}, [{"path": "("}], 3])
def test_faults_that_cannot_be_are_refused(world: World, faults: Any) -> None:
    assert world.call("PUT", "/_lab/faults", faults).status_code == 400
    assert world.names() == []


def test_calls_at_once(world: World) -> None:
    threads = [threading.Thread(target=world.create, args=(str(n),)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.names()) == 30
    assert world.call("GET", "/_lab/counts").json() == {"reads": 1, "writes": 30}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "body: 'name' is a required property"),
        ({"name": 1}, "name: 1 is not of type 'string'"),
        ({"name": "a", "nmae": "b"}, "unknown field nmae"),
        ({"name": "a", "age": 0}, "age: 0 is less than or equal to the minimum of 0"),
        ({"name": "a", "owner": {"mial": "x"}}, "unknown field owner.mial"),
        (None, "a body is required"),
    ],
)
def test_a_wrong_request_is_refused_and_noted(described: World, body: Any, problem: str) -> None:
    answer = described.call("POST", "/api/pets", body)
    assert answer.status_code == 422
    assert answer.json() == {"emulator": "request does not match the API description", "problems": [problem]}
    assert described.call("GET", "/_lab/violations").json() == [
        {"side": "request", "method": "POST", "path": "/api/pets", "problems": [problem]}
    ]
    assert described.names() == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "owner": None},
        {"name": "a", "owner": {"mail": None}, "tags": {"any": "thing"}},
        {"name": "a", "kind": "cat"},
    ],
)
def test_a_right_request_is_not(described: World, body: Any) -> None:
    assert described.call("POST", "/api/pets", body).json() == body
    assert described.app.violations == []


@pytest.mark.parametrize(
    ("query", "problems"),
    [
        ("limit=10&kind=cat&kind=dog", []),
        ("limit=1000", ["query parameter limit: body: 1000 is greater than the maximum of 100"]),
        ("limit=ten", ["query parameter limit: body: 'ten' is not of type 'integer'"]),
        ("limt=10", ["unknown query parameter limt"]),
        ("kind=cow", ["query parameter kind: 0: 'cow' is not one of ['cat', 'dog']"]),
    ],
)
def test_query_parameters_are_checked(described: World, query: str, problems: list[str]) -> None:
    assert described.call("GET", "/api/pets?" + query).json() == ({**_refusal(problems)} if problems else [])


def _refusal(problems: list[str]) -> dict[str, Any]:
    return {"emulator": "request does not match the API description", "problems": problems}


def test_a_wrong_answer_is_given_and_noted(described: World) -> None:
    described.app.state["pets"]["odd"] = {"age": 3}
    assert described.call("GET", "/api/pets/odd").json() == {"age": 3}
    assert described.app.violations[0]["problems"] == ["200: body: 'name' is a required property"]


def test_an_operation_that_the_emulator_lacks_is_no_404(described: World) -> None:
    assert described.call("DELETE", "/api/pets/mine").status_code == 501
    assert described.app.violations[0]["problems"] == ["the API has this operation, the emulator doesn't"]
    assert described.call("PATCH", "/api/pets/mine").status_code == 405
    assert described.call("GET", "/api/strays").status_code == 404


def test_relaxations_are_narrow(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(DOCUMENT))
    relaxed = Description(path, "/api", ((r"^POST /api/pets: unknown field nick$", "known to newer servers"),))
    assert relaxed.check_request("POST", "/api/pets", {}, {"name": "a", "nick": "b"}) == []
    assert relaxed.check_request("POST", "/api/pets", {}, {"name": "a", "neck": "b"}) == ["unknown field neck"]


def test_modernise_knows_both_ways_of_saying_null() -> None:
    assert modernise({"type": "string", "nullable": True}) == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert modernise({"type": ["string", "null"]}) == {"type": ["string", "null"]}


@pytest.mark.parametrize("name", ["authentik-2026.5.6.yml", "hcloud-v1.json", "nomad-v1.yaml"])
def test_descriptions_load_fast(name: str) -> None:
    path = specs(name)
    if path is None:
        pytest.skip("the API descriptions (../shared/specs) are absent")
    Description(path).has("GET", "/")  # fills the cache
    begun = time.monotonic()
    Description(path).has("GET", "/")
    assert time.monotonic() - begun < 1
