"""What all of the Hetzner emulator's routes share: its errors, its token, its budget, its pages, its actions."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

from werkzeug.wrappers import Request, Response

from lab.emulators import hetzner_records as records
from lab.emulators.base import Answer, ApiError, Emulator, specs
from lab.emulators.hetzner_dns import Published, Zones
from lab.emulators.hetzner_zones import Key, State, Zone

DEFAULT_LIMIT = 3600


def failed(status: int, code: str, message: str, details: Any = None) -> ApiError:
    """An error in Hetzner's shape."""
    return ApiError(status, {"error": {"code": code, "message": message, "details": details}})


def invalid(field: str, message: str) -> ApiError:
    """422 that names the field."""
    fields = [{"name": field, "messages": [message]}]
    return failed(422, "invalid_input", f"invalid input in field '{field}': {message}", {"fields": fields})


class HetznerApi(Emulator):
    """The ground that the routes stand on.

    zones: those that are there from the start
    rate_limit: requests an hour, refilled evenly
    action_seconds: how long an action takes
    read_only: whether the token is one for reading
    """

    fault_kinds = frozenset({"action-error", "action-hang"})
    state: State

    def __init__(
        self,
        token: str,
        zones: tuple[str, ...] = (),
        *,
        rate_limit: int = DEFAULT_LIMIT,
        action_seconds: float = 0.05,
        clock: Callable[[], float] = time.time,
        description: pathlib.Path | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__("hetzner", description or specs("hcloud-v1.json"), "/v1")
        self.tokens, self.read_only = {token}, read_only  # a person makes and deletes them
        self.clock = clock
        self.action_seconds = action_seconds
        self.rate_limit = rate_limit
        self.rate_remaining = float(rate_limit)
        self._refilled = clock()
        self.state = State()
        for name in zones:
            zone = self.state.add_zone(name, 3600, {}, clock())
            self.state.moved(zone, clock())
            self.state.begin("create_zone", zone, None, clock(), 0)
        self.state.settle(clock())

    # The system's own shapes.

    def check_access(self, request: Request) -> None:
        """The token, then the budget; and whatever was to end until now has ended."""
        if request.headers.get("Authorization") not in {f"Bearer {token}" for token in self.tokens}:
            raise failed(401, "unauthorized", "unable to authenticate")
        if self.read_only and request.method not in ("GET", "HEAD"):
            raise failed(403, "token_readonly", "the token is only allowed to perform GET requests")
        now = self.clock()
        gained = (now - self._refilled) * self.rate_limit / 3600
        self.rate_remaining = min(self.rate_limit, self.rate_remaining + gained)
        self._refilled = now
        if self.rate_remaining < 1:
            raise ApiError(*self._limited())
        self.rate_remaining -= 1
        self.state.settle(now)

    def rate_limited(self) -> Answer:
        """429 ``rate_limit_exceeded``."""
        status, body = self._limited()
        return status, body, {"RateLimit-Remaining": "0"}

    def _limited(self) -> tuple[int, Any]:
        message = f"limit of {self.rate_limit} requests per hour reached"
        return 429, {"error": {"code": "rate_limit_exceeded", "message": message, "details": None}}

    def finish(self, request: Request, response: Response) -> Response:
        """Every answer tells the budget; Reset is when it will be whole again, in seconds since 1970."""
        missing = self.rate_limit - self.rate_remaining
        whole = self.clock() + missing * 3600 / max(self.rate_limit, 1)
        response.headers.setdefault("RateLimit-Limit", str(self.rate_limit))
        response.headers.setdefault("RateLimit-Remaining", str(int(self.rate_remaining)))
        response.headers.setdefault("RateLimit-Reset", str(math.ceil(whole)))
        return response

    def not_found(self, request: Request) -> Answer:
        return 404, {"error": {"code": "not_found", "message": "path not found", "details": None}}

    def not_allowed(self, request: Request) -> Answer:
        return 405, {"error": {"code": "method_not_allowed", "message": "method not allowed", "details": None}}

    def bad_json(self, message: str) -> Answer:
        return 400, {"error": {"code": "json_error", "message": message, "details": None}}

    def bad_request(self, problems: list[str]) -> Answer:
        """Hetzner's own 422 beside the emulator's: the real API checks its schema too."""
        answer = super().bad_request(problems)
        assert isinstance(answer, tuple)
        fields = [{"name": problem.partition(":")[0], "messages": [problem]} for problem in problems]
        error = {"code": "invalid_input", "message": "; ".join(problems), "details": {"fields": fields}}
        return 422, {"error": error, **answer[1]}

    def public_state(self) -> Any:
        sets = {zone["name"]: list(self.state.rrsets[number].values()) for number, zone in self.state.zones.items()}
        return {"zones": list(self.state.zones.values()), "rrsets": sets, "actions": list(self.state.actions.values()),
                "published": self.state.published}  # fmt: skip

    def resolver(self) -> Zones:
        """What the DNS server asks; it waits for the lock, and sees what has been published."""

        def read(look: Callable[[Published], None]) -> None:
            with self.lock:
                self.state.settle(self.clock())
                look(self.state.published)

        return Zones(read)

    # What routes are written with.

    def do(
        self, command: str, zone: Zone, change: Callable[[], None], keys: list[Key] | None = None, moves: bool = True
    ) -> dict[str, Any]:
        """Accept a write: change the state now and end its action later, unless a fault has it otherwise."""
        now = self.clock()
        kind = self.fault.kind if self.fault else ""
        if kind not in self.fault_kinds:
            change()
            if moves and zone["id"] in self.state.zones:
                self.state.moved(zone, now)
        seconds = None if kind == "action-hang" else self.action_seconds
        return self.state.begin(command, zone, keys, now, seconds, fails=kind == "action-error")

    def find(self, id_or_name: str) -> Zone:
        """A zone, or 404."""
        zone = self.state.find_zone(id_or_name)
        if zone is None:
            raise failed(404, "not_found", f"zone with ID or name '{id_or_name}' not found")
        return zone

    def primary(self, id_or_name: str) -> Zone:
        """A zone whose records are written here, or 404, or 422."""
        zone = self.find(id_or_name)
        if zone["mode"] != "primary":
            raise failed(422, "incorrect_zone_mode", "this operation is not supported for this zone's mode")
        return zone

    def page(self, request: Request, key: str, found: list[dict[str, Any]]) -> dict[str, Any]:
        """One page of a list, in the order asked for, with the numbers that lead on."""
        page, size = request.args.get("page", 1, int), request.args.get("per_page", 25, int)
        if page < 1:
            raise invalid("page", "must be at least 1")
        if not 1 <= size <= 100:
            raise invalid("per_page", "must be between 1 and 100")
        for order in reversed(request.args.getlist("sort")):
            field, _, way = order.partition(":")
            found = sorted(found, key=lambda item: str(item.get(field, "")).zfill(20), reverse=way == "desc")
        last = max(1, math.ceil(len(found) / size))
        pagination = {
            "page": page, "per_page": size, "previous_page": page - 1 if page > 1 else None,
            "next_page": page + 1 if page < last else None, "last_page": last, "total_entries": len(found),
        }  # fmt: skip
        return {key: found[(page - 1) * size : page * size], "meta": {"pagination": pagination}}


def with_labels(request: Request, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the call's label_selector selects."""
    selector = request.args.get("label_selector", "")
    return [item for item in found if records.selected(item["labels"], selector)]
