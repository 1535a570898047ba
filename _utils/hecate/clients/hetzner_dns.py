"""Zones and rrsets of the Hetzner Cloud API, through Hetzner's own client `hcloud`.

API: https://docs.hetzner.cloud/reference/cloud#zones. What is added to hcloud here: a timeout for
every call, typed errors, and a stricter retry rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import requests
from hcloud import APIException, Client
from hcloud.actions import BoundAction
from hcloud.core.domain import Meta
from hcloud.zones import BoundZone, BoundZoneRRSet, ZoneRecord, ZoneRRSet

from hecate.budget import clock_text
from hecate.clients.metering import Meter
from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound, RateLimited, Refused, Unreachable

KINDS: dict[Any, type[ApiFailure]] = {
    "unauthorized": NotAuthorised,
    "forbidden": NotAuthorised,
    "token_readonly": NotAuthorised,
    "not_found": NotFound,
    "rate_limit_exceeded": RateLimited,
}
WANTED = "the token has to be of the project that has the zones, with Read & Write (Read, where only looked at)"
PAUSES = (1.0, 4.0)
READINGS = 3
TOGETHER, ROUNDS = 50, 2  # actions asked about in one call, and how often usually
T = TypeVar("T")
P = ParamSpec("P")


def typed(
    call: Callable[Concatenate[HetznerDnsClient, P], T],
) -> Callable[Concatenate[HetznerDnsClient, P], T]:
    """A call whose errors are Hecate's."""

    @wraps(call)
    def told(self: HetznerDnsClient, /, *args: P.args, **named: P.kwargs) -> T:
        return self._told(lambda: call(self, *args, **named))

    return told


class HetznerDnsClient:
    """token: API token of the project that holds the zones. endpoint: base URL with /v1.

    Retry rule: hcloud would repeat timed-out and conflicting writes; that is switched off. Reads
    are repeated twice here when there was no answer or a 5xx. Writes are sent once. A rate limit
    (429) is waited for, where it ends within `patience` seconds, and the call sent again, a write too:
    it was not carried out. Lists of several pages are read again when they changed meanwhile.
    """

    def __init__(
        self,
        token: str,
        endpoint: str,
        *,
        timeout: float = 30.0,
        action_deadline: float = 120.0,
        mask: Callable[[str], str] = str,
        sleep: Callable[[float], None] = time.sleep,
        patience: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = Client(token, endpoint, application_name="hecate", timeout=timeout)
        self._client._client._retry_max_retries = 0  # hcloud has no public switch for it
        self._mask, self._sleep, self._deadline = mask, sleep, action_deadline
        self.meter = Meter(patience, sleep, clock)
        for scheme in ("https://", "http://"):
            self._client._client._session.mount(scheme, self.meter)  # hcloud has no public way to its session

    def zones(self) -> list[BoundZone]:
        return self._read(lambda: self._whole(lambda page: self._client.zones.get_list(page=page, per_page=50)))

    def rrsets(self, zone: BoundZone) -> list[BoundZoneRRSet]:
        def page(number: int) -> tuple[list[BoundZoneRRSet], Meta]:
            return self._client.zones.get_rrset_list(zone, page=number, per_page=100)

        return self._read(lambda: self._whole(page))

    def zonefile(self, zone: BoundZone) -> str:
        """As the service writes it, one call."""
        return self._read(lambda: str(self._client.zones.export_zonefile(zone).zonefile))

    @typed
    def create(self, zone: BoundZone, name: str, kind: str, spec: dict[str, Any]) -> list[BoundAction]:
        answer = self._client.zones.create_rrset(
            zone,
            name=name,
            type=kind,  # type: ignore[arg-type]
            ttl=spec["ttl"],
            labels=dict(spec["labels"]),
            records=_records(spec["records"], spec.get("comments", {})),
        )
        return [answer.action]

    @typed
    def set_records(
        self, rrset: BoundZoneRRSet, records: Sequence[str], comments: Mapping[str, str]
    ) -> list[BoundAction]:
        """comments: by value; a value without one keeps none."""
        return [self._client.zones.set_rrset_records(rrset, _records(records, comments))]

    @typed
    def set_protection(self, zone: BoundZone, name: str, kind: str, change: bool) -> list[BoundAction]:
        """change: whether the set is protected from changes."""
        return [self._client.zones.change_rrset_protection(_set(zone, name, kind), change=change)]

    @typed
    def create_zone(self, name: str, labels: dict[str, str]) -> tuple[BoundZone, list[BoundAction]]:
        answer = self._client.zones.create(name=name, mode="primary", labels=labels)
        return answer.zone, [answer.action]

    @typed
    def delete_zone(self, zone: BoundZone) -> list[BoundAction]:
        return [self._client.zones.delete(zone).action]

    @typed
    def set_zone_ttl(self, zone: BoundZone, ttl: int) -> list[BoundAction]:
        return [self._client.zones.change_ttl(zone, ttl)]

    @typed
    def set_zone_labels(self, zone: BoundZone, labels: dict[str, str]) -> None:
        self._client.zones.update(zone, labels=labels)

    @typed
    def add_records(
        self, zone: BoundZone, name: str, kind: str, records: Mapping[str, str], ttl: int | None
    ) -> list[BoundAction]:
        """records: value -> comment. Makes the set where there is none. The set may be unknown to hcloud so far."""
        wanted = [ZoneRecord(value=value, comment=comment) for value, comment in records.items()]
        return [self._client.zones.add_rrset_records(_set(zone, name, kind), wanted, ttl)]

    @typed
    def remove_records(self, zone: BoundZone, name: str, kind: str, records: Sequence[str]) -> list[BoundAction]:
        """Deletes the set where none is left."""
        return [self._client.zones.remove_rrset_records(_set(zone, name, kind), _records(records))]

    @typed
    def set_comments(self, zone: BoundZone, name: str, kind: str, comments: Mapping[str, str]) -> list[BoundAction]:
        """comments: by value, of records that are there."""
        wanted = [ZoneRecord(value=value, comment=comment) for value, comment in comments.items()]
        return [self._client.zones.update_rrset_records(_set(zone, name, kind), wanted)]

    @typed
    def set_ttl(self, rrset: BoundZoneRRSet, ttl: int | None) -> list[BoundAction]:
        return [self._client.zones.change_rrset_ttl(rrset, ttl)]

    @typed
    def set_labels(self, rrset: BoundZoneRRSet, labels: dict[str, str]) -> None:
        self._client.zones.update_rrset(rrset, labels=labels)

    @typed
    def delete(self, rrset: BoundZoneRRSet) -> list[BoundAction]:
        return [self._client.zones.delete_rrset(rrset).action]

    def wait(self, actions: Sequence[BoundAction]) -> None:
        """Until all are done; many are asked about in one call. Raises Faulty for one that failed or does not end."""
        pending = {action.id: action for action in actions}
        waited, pause = 0.0, 0.1
        while pending:
            asked = list(pending)
            for start in range(0, len(asked), TOGETHER):
                for row in self._actions(asked[start : start + TOGETHER]):
                    if row["status"] == "error":
                        why = self._mask(str((row.get("error") or {}).get("message", "no reason given")))
                        raise Faulty("hetzner_dns", f"an accepted change was not carried out: {row['command']}: {why}")
                    if row["status"] == "success":
                        pending.pop(row["id"], None)
            if pending and waited >= self._deadline:
                stuck = ", ".join(sorted({str(action.command) for action in pending.values()}))
                text = f"{len(pending)} accepted changes ({stuck}) were not carried out in {self._deadline:.0f} s"
                raise Faulty("hetzner_dns", text)
            if pending:
                self._sleep(pause)
                waited, pause = waited + pause, min(1.0, 1.5 * pause)

    def polls(self, actions: int) -> int:
        """About how many calls it takes to wait for so many."""
        return ROUNDS * -(-actions // TOGETHER)

    def _actions(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        def ask() -> list[dict[str, Any]]:
            answer = self._client.request("GET", "/actions", params={"id": list(numbers)})
            return [{key: row.get(key) for key in ("id", "command", "status", "error")} for row in answer["actions"]]

        return self._read(ask)

    def _read(self, call: Callable[[], T]) -> T:
        for pause in (*PAUSES, None):
            try:
                return self._told(call)
            except ApiFailure as err:
                if not err.retryable or pause is None or isinstance(err, RateLimited):  # that was waited for
                    raise
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _whole(self, page: Callable[[int], tuple[list[T], Meta]]) -> list[T]:
        """All pages of one state of the list. Raises Faulty for one that never holds still; never a half."""
        for _ in range(READINGS):
            found: dict[Any, T] = {}
            totals: set[int] = set()
            number: int | None = 1
            while number:
                rows, meta = page(number)
                if meta is None or meta.pagination is None or meta.pagination.total_entries is None:
                    raise Faulty("hetzner_dns", "a list that doesn't say how long it is")
                found.update((row.id, row) for row in rows)  # type: ignore[attr-defined]
                totals.add(meta.pagination.total_entries)
                number = meta.pagination.next_page
            if totals == {len(found)}:
                return list(found.values())
        raise Faulty("hetzner_dns", f"a list that changed while it was read, {READINGS} times; try again")

    def _limited(self, message: str) -> str:
        """With the time from which on calls are taken again."""
        until = self.meter.allowance
        return f"{message}; try again after {clock_text(until.reset)}" if until else message

    def _told(self, call: Callable[[], T]) -> T:
        """hcloud's and requests' exceptions as Hecate's, without those: they hold the request, and so the token."""
        failed: ApiFailure
        try:
            return call()
        except APIException as err:
            fallback: type[ApiFailure] = Faulty if isinstance(err.code, int) and err.code >= 500 else Refused
            kind = KINDS.get(err.code, fallback)
            details = f" {err.details}" if err.details and fallback is Refused else ""
            message = self._mask(f"{err.message}{details}")
            message = self._limited(message) if kind is RateLimited else message
            message = f"{message}; {WANTED}" if kind is NotAuthorised else message
            code = err.code if isinstance(err.code, int) else self._mask(str(err.code))
            failed = kind("hetzner_dns", message, code=code, request_id=self._mask(err.correlation_id or ""))
        except requests.RequestException as err:
            failed = Unreachable("hetzner_dns", f"no answer ({type(err).__name__})")
        except (KeyError, TypeError, ValueError) as err:
            failed = Faulty("hetzner_dns", f"an answer that makes no sense ({type(err).__name__})")
        raise failed


def _set(zone: BoundZone, name: str, kind: str) -> ZoneRRSet:
    return ZoneRRSet(zone=zone, name=name, type=kind)  # type: ignore[arg-type]


def _records(values: Sequence[str], comments: Mapping[str, str] | None = None) -> list[ZoneRecord]:
    return [ZoneRecord(value=value, comment=(comments or {}).get(value)) for value in values]
