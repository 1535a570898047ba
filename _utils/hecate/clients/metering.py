"""A transport for `requests` that counts calls, reads the rate limit's headers, and obeys them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from hecate.budget import Allowance

PAUSES = (1.0, 4.0)  # where a 429 doesn't say until when


class Meter(HTTPAdapter):
    """Mount it on a session; afterwards `spent` and `allowance` tell.

    A 429 was not carried out, so it is sent again, a write too, at most twice: after RateLimit-Reset (seconds
    since 1970, when all calls are back) if that is within `patience` seconds, or when one call is back, since they
    come back evenly. If that is too long as well, the 429 is handed on.
    """

    def __init__(
        self,
        patience: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.patience, self._sleep, self._clock = patience, sleep, clock
        self.spent = 0
        self.allowance: Allowance | None = None

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        waited = 0.0
        for pause in (*PAUSES, None):
            self.spent += 1  # also when no answer comes: it may have counted there
            response = super().send(request, *args, **kwargs)
            self._read(response)
            if response.status_code != 429 or pause is None:
                return response
            wait = self._until_taken() if "RateLimit-Reset" in response.headers else pause
            if waited + wait > self.patience:
                return response
            _ = response.content  # read to its end, so that the connection can be used again
            waited += wait
            self._sleep(wait)
        raise AssertionError("unreachable")

    def _until_taken(self) -> float:
        known = self.allowance
        if known is None:
            return 1.0
        whole = max(0.0, known.reset - self._clock())
        return whole if whole <= self.patience else max(1.0, whole / max(1, known.limit - known.remaining))

    def _read(self, response: requests.Response) -> None:
        """Headers may be absent or odd; then what was known stays."""
        names = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
        try:
            limit, remaining, reset = (int(response.headers[name]) for name in names)
        except (KeyError, ValueError):
            return
        self.allowance = Allowance(limit, remaining, reset)
