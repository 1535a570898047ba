"""Zones and rrsets of the Hetzner Cloud API, through Hetzner's own client `hcloud`.

API: https://docs.hetzner.cloud/reference/cloud#zones. What is added to hcloud here: a timeout for
every call, typed errors, and a stricter retry rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import requests
from hcloud import APIException, Client
from hcloud.actions import ActionException, BoundAction
from hcloud.zones import BoundZone, BoundZoneRRSet, ZoneRecord

from hecate.errors import ApiFailure, Faulty, NotAuthorised, NotFound, RateLimited, Refused, Unreachable

KINDS: dict[Any, type[ApiFailure]] = {
    "unauthorized": NotAuthorised,
    "forbidden": NotAuthorised,
    "token_readonly": NotAuthorised,
    "not_found": NotFound,
    "rate_limit_exceeded": RateLimited,
}
PAUSES = (1.0, 4.0)
T = TypeVar("T")


class HetznerDnsClient:
    """token: API token of the project that holds the zones. endpoint: base URL with /v1.

    Retry rule: hcloud would repeat timed-out and conflicting writes; that is switched off. Reads
    are repeated twice here when there was no answer, a 5xx or a rate limit. Writes are sent once.
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
    ) -> None:
        self._client = Client(
            token,
            endpoint,
            application_name="hecate",
            timeout=timeout,
            poll_interval=0.2,
            poll_max_retries=int(action_deadline / 0.2),
        )
        self._client._client._retry_max_retries = 0  # hcloud has no public switch for it
        self._mask, self._sleep = mask, sleep

    def zones(self) -> list[BoundZone]:
        return self._read(self._client.zones.get_all)

    def rrsets(self, zone: BoundZone) -> list[BoundZoneRRSet]:
        return self._read(lambda: self._client.zones.get_rrset_all(zone))

    def create(self, zone: BoundZone, name: str, kind: str, spec: dict[str, Any]) -> list[BoundAction]:
        with self._typed():
            answer = self._client.zones.create_rrset(
                zone,
                name=name,
                type=kind,  # type: ignore[arg-type]
                ttl=spec["ttl"],
                labels=dict(spec["labels"]),
                records=_records(spec["records"]),
            )
        return [answer.action]

    def set_records(self, rrset: BoundZoneRRSet, records: Sequence[str]) -> list[BoundAction]:
        with self._typed():
            return [self._client.zones.set_rrset_records(rrset, _records(records))]

    def set_ttl(self, rrset: BoundZoneRRSet, ttl: int | None) -> list[BoundAction]:
        with self._typed():
            return [self._client.zones.change_rrset_ttl(rrset, ttl)]

    def set_labels(self, rrset: BoundZoneRRSet, labels: dict[str, str]) -> None:
        with self._typed():
            self._client.zones.update_rrset(rrset, labels=labels)

    def delete(self, rrset: BoundZoneRRSet) -> list[BoundAction]:
        with self._typed():
            return [self._client.zones.delete_rrset(rrset).action]

    def wait(self, actions: Sequence[BoundAction]) -> None:
        """Until all are done. Raises Faulty for one that failed or does not end."""
        for action in actions:
            with self._typed():
                action.wait_until_finished()

    def _read(self, call: Callable[[], T]) -> T:
        for pause in (*PAUSES, None):
            try:
                with self._typed():
                    return call()
            except ApiFailure as err:
                if not err.retryable or pause is None:
                    raise
                self._sleep(pause)
        raise AssertionError("unreachable")

    @contextmanager
    def _typed(self) -> Iterator[None]:
        """hcloud's and requests' exceptions as Hecate's."""
        try:
            yield
        except APIException as err:
            fallback: type[ApiFailure] = Faulty if isinstance(err.code, int) and err.code >= 500 else Refused
            kind = KINDS.get(err.code, fallback)
            details = f" {err.details}" if err.details and fallback is Refused else ""
            message = self._mask(f"{err.message}{details}")
            raise kind("hetzner_dns", message, code=err.code, request_id=err.correlation_id or "") from err
        except ActionException as err:
            raise Faulty("hetzner_dns", self._mask(f"an accepted change was not carried out: {err}")) from err
        except requests.RequestException as err:
            raise Unreachable("hetzner_dns", f"no answer ({type(err).__name__})") from err
        except (KeyError, TypeError, ValueError) as err:
            raise Faulty("hetzner_dns", f"an answer that makes no sense ({type(err).__name__})") from err


def _records(values: Sequence[str]) -> list[ZoneRecord]:
    return [ZoneRecord(value=value) for value in values]
