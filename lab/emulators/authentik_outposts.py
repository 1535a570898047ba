"""The outposts that providers are attached to."""

from __future__ import annotations

from typing import Any, ClassVar

from lab.emulators import authentik_render as render
from lab.emulators.authentik_defaults import OUTPOST_CONFIG
from lab.emulators.authentik_fields import Field, any_uuid, choice, key_of, list_of, mapping, text
from lab.emulators.authentik_kinds import Kind, Write
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import server_error
from lab.emulators.authentik_state import EMBEDDED, Object, State
from lab.emulators.base import ApiError

UNIQUE = "This field must be unique."


def provider_list(value: Any, state: State) -> Any:
    """An outpost's providers: a set, kept in the order of their keys."""
    return sorted(set(list_of(key_of("providers"))(value, state)))


def prepare_outpost(server: Objects, write: Write, values: Object) -> Object:
    """``providers`` is replaced whole, and If-Match is ignored; a PATCH of it without ``type`` crashes.

    Only the embedded outpost may have none; a proxy outpost takes only proxy providers.
    """
    if "providers" in values:
        if "type" not in values:
            raise server_error(write.request)
        managed = write.row["managed"] if write.row else values.get("managed")
        if not values["providers"] and managed != EMBEDDED:
            raise ApiError(400, {"providers": ["This list may not be empty."]})
        _check_kinds(server.state, values["providers"], values["type"])
    return values if write.row else {**values, "config": {**OUTPOST_CONFIG, **values["config"]}}


def _check_kinds(state: State, providers: list[int], kind: str) -> None:
    wrong = [state.providers[pk]["name"] for pk in providers if state.providers[pk]["kind"] != kind]
    if wrong:
        names = ", ".join(wrong)
        raise ApiError(400, {"providers": [f"Outpost type {kind} can't be used with provider {names}."]})


OUTPOST = Kind("outposts", "Outpost", {
    "name": Field(text(blank=False)), "type": Field(choice("proxy", "ldap", "radius", "rac")),
    "providers": Field(provider_list), "service_connection": Field(any_uuid, None, nullable=True),
    "config": Field(mapping), "managed": Field(text(), None, nullable=True),
}, render.outpost, (("name", UNIQUE), ("managed", UNIQUE)), path="/outposts/instances/",
    prepare=prepare_outpost)  # fmt: skip


class Outposts(Objects):
    """``/outposts/instances/``: filters ``managed__iexact`` and ``name__iexact``; ``name`` is ignored.

    The embedded one can be deleted too.
    """

    kinds: ClassVar[tuple[Kind, ...]] = (OUTPOST,)
