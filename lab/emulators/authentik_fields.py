"""What authentik accepts in a body, and how it refuses: ``{"field": ["why"]}``.

Its serializers ignore fields that they don't know, and don't look at much more than types: a cookie domain that has
nothing to do with the host, or a flow of the wrong kind, is taken.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from lab.emulators.authentik_expressions import compiled
from lab.emulators.authentik_state import NUMBERED, Object, Release, State
from lab.emulators.base import ApiError

REQUIRED: Any = object()
DURATION = re.compile(r"(microseconds|milliseconds|seconds|minutes|hours|days|weeks)=[0-9.,]+")
URI_TYPE_FROM = (2026, 5)
UNLIMITED_SLUG_FROM = (2025, 12)
SLUG = r"[-a-zA-Z0-9_]+"
BAD_SLUG = "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens."
Reader = Callable[[Any, State], Any]


Unique = tuple[str, str | Callable[[State], str]]
"""A field whose values differ, and what a second one is told; the message may depend on the release."""


class Invalid(Exception):
    """A value that its field refuses; ``detail`` is what the answer holds under the field's name."""

    def __init__(self, detail: Any) -> None:
        super().__init__(str(detail))
        self.detail = detail if isinstance(detail, dict) else [detail]


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a body: how it is read, and what it is where a create leaves it out.

    since, until: the first release that has it, and the first that doesn't any more; a field that a release doesn't
        have is ignored in a body and absent in answers
    before: the field as it was before ``since``
    """

    read: Reader
    default: Any = REQUIRED
    nullable: bool = False
    since: Release | None = None
    until: Release | None = None
    before: Field | None = None


def fields_of(fields: Mapping[str, Field], release: Release) -> dict[str, Field]:
    """The fields that a release has, as it has them."""
    found: dict[str, Field] = {}
    for name, field in fields.items():
        known: Field | None = field
        if field.since is not None and release < field.since:
            known = field.before
        if known is not None and (known.until is None or release < known.until):
            found[name] = known
    return found


def text(blank: bool = True, most: int | None = None, pattern: str = "", why: str = "") -> Reader:
    """A string; stripped at both ends, as Django does."""

    def read(value: Any, state: State) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise Invalid("Not a valid string.")
        found = str(value).strip()
        if not found and not blank:
            raise Invalid("This field may not be blank.")
        if most is not None and len(found) > most:
            raise Invalid(f"Ensure this field has no more than {most} characters.")
        if found and pattern and not re.fullmatch(pattern, found):
            raise Invalid(why)
        return found

    return read


def url(blank: bool = True) -> Reader:
    """An absolute URL."""
    return text(blank, pattern=r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#]+\S*", why="Enter a valid URL.")


def boolean(value: Any, state: State) -> Any:
    """true or false, or a word for them."""
    words = {"true": True, "1": True, "false": False, "0": False}
    found = words.get(str(value).lower()) if isinstance(value, bool | str | int) else None
    if found is None:
        raise Invalid("Must be a valid boolean.")
    return found


def integer(value: Any, state: State) -> Any:
    """A whole number, or its text."""
    try:
        return int(str(value))
    except ValueError as error:
        raise Invalid("A valid integer is required.") from error


def number(value: Any, state: State) -> Any:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid("A valid number is required.")
    return value


def slug(value: Any, state: State) -> Any:
    """A part of a URL: at most 50 characters up to 2025.10."""
    most = 50 if state.release < UNLIMITED_SLUG_FROM else None
    return text(False, most, SLUG, BAD_SLUG)(value, state)


def mapping(value: Any, state: State) -> Any:
    """A JSON object, replaced whole."""
    if not isinstance(value, dict):
        raise Invalid("Value must be a dictionary, and not have any duplicate keys.")
    return value


def choice(*choices: str) -> Reader:
    """One of a few words."""

    def read(value: Any, state: State) -> Any:
        if value not in choices:
            raise Invalid(f'"{value}" is not a valid choice.')
        return value

    return read


def duration(value: Any, state: State) -> Any:
    """``hours=8;minutes=1``; "8h" is refused."""
    parts = str(value).split(";")
    if not all(DURATION.fullmatch(part) for part in parts):
        raise Invalid(f"{value} is not in the correct format of 'hours=3;minutes=1'.")
    return value


def seconds_of(text_of_duration: str) -> float:
    """How long ``hours=8;minutes=1`` is."""
    units = {"microseconds": 1e-6, "milliseconds": 1e-3, "seconds": 1, "minutes": 60, "hours": 3600, "days": 86400,
             "weeks": 604800}  # fmt: skip
    pairs = (part.split("=") for part in text_of_duration.split(";"))
    return sum(units[unit] * float(amount.replace(",", ".")) for unit, amount in pairs)


def key_of(table: str) -> Reader:
    """The key of an object that exists."""

    def read(value: Any, state: State) -> Any:
        rows = state.table(table)
        if table in NUMBERED:
            if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
                raise Invalid(f"Incorrect type. Expected pk value, received {type(value).__name__}.")
            found: Any = int(value)
        else:
            try:
                found = str(uuid.UUID(str(value)))
            except ValueError as error:
                raise Invalid(f"“{value}” is not a valid UUID.") from error
        if found not in rows:
            raise Invalid(f'Invalid pk "{value}" - object does not exist.')
        return found

    return read


def any_uuid(value: Any, state: State) -> Any:
    """The key of something that the emulator doesn't keep (roles, sources)."""
    try:
        return str(uuid.UUID(str(value)))
    except ValueError as error:
        raise Invalid(f"“{value}” is not a valid UUID.") from error


def list_of(read_item: Reader, nested: bool = False) -> Reader:
    """A list; ``nested`` ones tell which item is wrong, and call themselves non-field errors."""

    def read(value: Any, state: State) -> Any:
        if not isinstance(value, list):
            why = f'Expected a list of items but got type "{type(value).__name__}".'
            raise Invalid({"non_field_errors": [why]} if nested else why)
        found = []
        for number, item in enumerate(value):
            try:
                found.append(read_item(item, state))
            except Invalid as error:
                raise (Invalid({str(number): error.detail}) if nested else error) from error
        return found

    return read


def redirect_uri(value: Any, state: State) -> Any:
    """One entry of an OAuth2 provider's ``redirect_uris``; it has a type from 2026.5."""
    if not isinstance(value, dict):
        raise Invalid({"non_field_errors": ["Invalid data. Expected a dictionary."]})
    if value.get("matching_mode") not in ("strict", "regex") or "url" not in value:
        raise Invalid({"matching_mode": ["This field is required."]})
    read = {"matching_mode": value["matching_mode"], "url": str(value["url"])}
    if state.release >= URI_TYPE_FROM:
        kind = value.get("redirect_uri_type", "authorization")
        read["redirect_uri_type"] = choice("authorization", "logout")(kind, state)
    return read


def expression(value: Any, state: State) -> Any:
    """A policy's Python: stripped, and refused when it doesn't compile."""
    found = text(blank=False)(value, state)
    try:
        compiled(found)
    except SyntaxError as error:
        raise Invalid(f"Expression Syntax Error: {error.msg} (temp-policy, line {error.lineno})") from error
    return found


def cleaned(fields: Mapping[str, Field], body: Any, state: State, partial: bool) -> Object:
    """The body's known fields, read; with the defaults of the others unless ``partial``. ApiError 400 with all that is
    wrong. A PUT also keeps what it leaves out: it drops nothing."""
    if not isinstance(body, dict):
        why = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise ApiError(400, {"non_field_errors": [why]})
    found: Object = {}
    wrong: Object = {}
    for name, field in fields.items():
        if name not in body:
            if field.default is REQUIRED and not partial:
                wrong[name] = ["This field is required."]
            continue
        value = body[name]
        if value is None:
            if field.nullable:
                found[name] = None
            else:
                wrong[name] = ["This field may not be null."]
            continue
        try:
            found[name] = field.read(value, state)
        except Invalid as error:
            wrong[name] = error.detail
    if wrong:
        raise ApiError(400, wrong)
    return found


def defaults(fields: Mapping[str, Field], state: State) -> Object:
    """What a create fills in; lists and objects are fresh each time. A default may be a function of the state."""
    made: Object = {}
    for name, field in fields.items():
        if field.default is not REQUIRED:
            default = field.default(state) if callable(field.default) else field.default
            made[name] = type(default)(default) if isinstance(default, list | dict) else default
    return made


def unique(state: State, table: str, values: Object, own: Any, *rules: Unique) -> None:
    """ApiError 400 where another row has the same value in a field of ``rules`` (field, message)."""
    wrong = {}
    for name, message in rules:
        value = values.get(name)
        rows = state.table(table).values()
        if value is not None and any(row.get(name) == value and row["pk"] != own for row in rows):
            wrong[name] = [message if isinstance(message, str) else message(state)]
    if wrong:
        raise ApiError(400, wrong)
