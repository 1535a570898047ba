"""Check calls against an API's own OpenAPI description, so that an emulator can't drift from what it stands for.

Relaxed on purpose: ``oneOf`` counts as ``anyOf`` (generated descriptions list alternatives that overlap),
discriminators and formats aren't looked at, and an error status that the description doesn't list is fine. Strict on
purpose: a field or a query parameter that the description doesn't know is a problem, since servers tend to ignore such
typos in silence.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
import re
import tempfile
from typing import Any

import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped,unused-ignore]
from jsonschema.exceptions import ValidationError, best_match  # type: ignore[import-untyped,unused-ignore]
from referencing import Registry
from referencing.jsonschema import DRAFT202012

Json = Any
Schema = dict[str, Any]

DOCUMENT = "urn:api"
CACHE_FORMAT = "1"  # raise it when `modernise` changes


def specs(name: str) -> pathlib.Path | None:
    """The API description ``name`` in $HECATE_SPECS (else ../shared/specs beside the checkout), if it is there."""
    beside = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "specs"
    path = pathlib.Path(os.environ.get("HECATE_SPECS") or beside) / name
    return path if path.is_file() else None


class Description:
    """One OpenAPI document, read on first use.

    path: the document, YAML or JSON
    server_prefix: what precedes the document's paths in a URL path, such as "/api/v3"
    relaxations: (regular expression, why); problems that one of them finds in "METHOD /path: problem" don't count
    """

    def __init__(
        self, path: pathlib.Path, server_prefix: str = "", relaxations: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._path = path
        self._prefix = server_prefix
        self._relaxed = [re.compile(expression) for expression, _ in relaxations]
        self._loaded: _Loaded | None = None
        self._validators: dict[str, Draft202012Validator] = {}

    def has(self, method: str, path: str) -> bool:
        """Whether the description knows the operation."""
        return self._document().find(method, self._inside(path)) is not None

    def check_request(self, method: str, path: str, query: dict[str, list[str]], body: Json) -> list[str]:
        """What is wrong with a request; ``query`` holds every parameter's values. Empty: nothing is."""
        document = self._document()
        where = document.find(method, self._inside(path))
        if where is None:
            return self._counted(method, path, ["no such operation"])
        operation = document.at(where)
        problems = self._query_problems(document, where, query)
        required = document.resolve(operation.get("requestBody", {})).get("required", False)
        pointer = document.body_schema(where)
        if body is None:
            problems += ["a body is required"] if required else []
        elif pointer is None:
            problems += ["a body isn't expected"] if "requestBody" not in operation else []
        else:
            problems += self._schema_problems(pointer, body)
            problems += [f"unknown field {name}" for name in document.unknown_fields({"$ref": pointer}, body)]
        return self._counted(method, path, problems)

    def check_answer(self, method: str, path: str, status: int, body: Json) -> list[str]:
        """What is wrong with an answer. Empty: nothing is."""
        document = self._document()
        where = document.find(method, self._inside(path))
        if where is None:
            return []
        found = document.answer(where, status)
        if found is None:
            return self._counted(method, path, [f"status {status} isn't described"] if status < 400 else [])
        pointer = document.content_schema(found)
        if pointer is None or (body is None and status >= 400):
            return []
        return self._counted(method, path, [f"{status}: {text}" for text in self._schema_problems(pointer, body)])

    def _inside(self, path: str) -> str:
        return path.removeprefix(self._prefix)

    def _document(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = _loaded(self._path, self._path.stat().st_mtime_ns)
        return self._loaded

    def _counted(self, method: str, path: str, problems: list[str]) -> list[str]:
        return [p for p in problems if not any(r.search(f"{method} {path}: {p}") for r in self._relaxed)]

    def _query_problems(self, document: _Loaded, where: str, query: dict[str, list[str]]) -> list[str]:
        known = document.query_parameters(where)
        problems = [f"unknown query parameter {name}" for name in query if name not in known]
        for name, (pointer, parameter) in known.items():
            if name not in query:
                problems += [f"query parameter {name} is required"] if parameter.get("required") else []
                continue
            value = from_query(query[name], document.flat(parameter.get("schema", {})), parameter.get("explode", True))
            problems += [f"query parameter {name}: {p}" for p in self._schema_problems(pointer + "/schema", value)]
        return problems

    def _schema_problems(self, pointer: str, value: Json) -> list[str]:
        if pointer not in self._validators:
            registry = self._document().registry
            self._validators[pointer] = Draft202012Validator({"$ref": DOCUMENT + pointer}, registry=registry)
        return [_say(error) for error in self._validators[pointer].iter_errors(value)]


class _Loaded:
    """A document in memory, and the ways through it; places in it are JSON pointers with a leading "#"."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        self.registry: Registry[Any] = Registry().with_resource(DOCUMENT, DRAFT202012.create_resource(document))
        self._templates = sorted(
            ((template.count("{"), _template(template), template) for template in document["paths"]),
            key=lambda entry: entry[0],
        )

    def at(self, pointer: str) -> Any:
        node: Any = self._document
        for part in pointer.removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        return node

    def resolve(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            node = self.at(node["$ref"].removeprefix(DOCUMENT))
        return node

    def find(self, method: str, path: str) -> str | None:
        """The pointer of the operation; a path without parameters wins over one with."""
        for _, expression, template in self._templates:
            if expression.fullmatch(path) and method.lower() in self._document["paths"][template]:
                return f"#/paths/{_escape(template)}/{method.lower()}"
        return None

    def query_parameters(self, where: str) -> dict[str, tuple[str, Schema]]:
        found: dict[str, tuple[str, Schema]] = {}
        for owner in (where.rpartition("/")[0], where):
            for number, node in enumerate(self.at(owner).get("parameters", [])):
                pointer = node.get("$ref", f"{owner}/parameters/{number}")
                parameter = self.resolve(node)
                if parameter.get("in") == "query":
                    found[parameter["name"]] = (pointer, parameter)
        return found

    def body_schema(self, where: str) -> str | None:
        node = self.at(where).get("requestBody")
        return None if node is None else self.content_schema(node.get("$ref", where + "/requestBody"))

    def answer(self, where: str, status: int) -> str | None:
        answers = self.at(where).get("responses", {})
        for key in (str(status), f"{status // 100}XX", f"{status // 100}xx", "default"):
            if key in answers:
                return str(answers[key].get("$ref", f"{where}/responses/{key}"))
        return None

    def content_schema(self, pointer: str) -> str | None:
        for kind, content in self.at(pointer).get("content", {}).items():
            if "json" in kind and "schema" in content:
                return f"{pointer}/content/{_escape(kind)}/schema"
        return None

    def flat(self, schema: Schema) -> Schema:
        """A schema with its references and its alternatives' properties folded into one (for names, not for values)."""
        schema = self.resolve(schema)
        merged: Schema = {**schema, "properties": dict(schema.get("properties", {}))}
        for part in [p for word in ("allOf", "anyOf", "oneOf") for p in schema.get(word, [])]:
            inner = self.flat(part)
            merged["properties"].update(inner["properties"])
            for word in ("additionalProperties", "items", "type", "patternProperties"):
                if word in inner and (word != "type" or inner[word] != "null"):
                    merged.setdefault(word, inner[word])
        return merged

    def unknown_fields(self, schema: Schema, value: Json, at: str = "") -> list[str]:
        """Fields of ``value``, however deep, that a schema with properties and no additionalProperties doesn't have."""
        flat = self.flat(schema)
        found: list[str] = []
        if isinstance(value, list) and isinstance(flat.get("items"), dict):
            for number, item in enumerate(value):
                found += self.unknown_fields(flat["items"], item, f"{at}[{number}]")
        if isinstance(value, dict):
            further = flat.get("additionalProperties")
            for name, item in value.items():
                here = f"{at}.{name}" if at else name
                if name in flat["properties"]:
                    found += self.unknown_fields(flat["properties"][name], item, here)
                elif isinstance(further, dict):
                    found += self.unknown_fields(further, item, here)
                elif flat["properties"] and not further and "patternProperties" not in flat:
                    found.append(here)
        return found


@functools.lru_cache(maxsize=8)
def _loaded(path: pathlib.Path, changed: int) -> _Loaded:
    """One document, shared by all emulators of a process."""
    return _Loaded(load(path))


def load(path: pathlib.Path) -> Schema:
    """A description as JSON Schema 2020-12 understands it, kept under the temporary folder: YAML takes seconds."""
    data = path.read_bytes()
    key = hashlib.sha256(CACHE_FORMAT.encode() + data).hexdigest()[:32]
    kept = pathlib.Path(tempfile.gettempdir()) / f"hecate-lab-specs-{os.getuid()}" / f"{key}.json"
    try:
        if kept.parent.stat().st_uid == os.getuid():
            found: Schema = json.loads(kept.read_bytes())
            return found
    except (OSError, ValueError):
        pass
    raw = json.loads(data) if path.suffix == ".json" else yaml.load(data, Loader=yaml.CSafeLoader)
    # Through JSON once: YAML gives dates, and numbers as keys of `responses`.
    document: Schema = modernise(json.loads(json.dumps(raw, default=str)))
    _keep(kept, document)
    return document


def _keep(kept: pathlib.Path, document: Schema) -> None:
    """Write the cache whole or not at all: several emulators start at once."""
    try:
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(document, file)
        os.replace(name, kept)
    except OSError:  # a cache is a comfort
        pass


def modernise(node: Json) -> Json:
    """Rewrite OpenAPI 3.0's own words into JSON Schema's: nullable, boolean exclusive bounds; and relax oneOf."""
    if isinstance(node, list):
        return [modernise(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {name: modernise(item) for name, item in node.items()}
    if isinstance(made.get("oneOf"), list) and "anyOf" not in made:
        made["anyOf"] = made.pop("oneOf")
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(made.get(word), bool) and made.pop(word) and bound in made:
            made[word] = made.pop(bound)
    if isinstance(made.get("pattern"), str) and not _compiles(made["pattern"]):
        del made["pattern"]  # ECMA expressions that Python's `re` doesn't know
    if isinstance(made.get("nullable"), bool) and made.pop("nullable"):
        return {"anyOf": [made, {"type": "null"}]}
    return made


def from_query(values: list[str], schema: Schema, explode: bool) -> Json:
    """Read a query parameter's text as the type that its schema names."""
    types = schema.get("type", "string")
    names = types if isinstance(types, list) else [types]
    if "array" in names:
        parts = values if explode else [part for value in values for part in value.split(",")]
        return [from_query([part], schema.get("items", {}), explode) for part in parts]
    text = values[-1]
    if "integer" in names and re.fullmatch(r"-?\d+", text):
        return int(text)
    if "number" in names and re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    if "boolean" in names and text.lower() in ("true", "false"):
        return text.lower() == "true"
    return text


def _say(error: ValidationError) -> str:
    deepest = best_match(error.context) if error.context else None
    told = deepest or error
    place = ".".join(str(part) for part in told.absolute_path)
    return f"{place or 'body'}: {told.message[:300]}"


def _template(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", template)
    return re.compile("".join("[^/]+" if part.startswith("{") else re.escape(part) for part in parts))


def _escape(text: str) -> str:
    return text.replace("~", "~0").replace("/", "~1")


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
