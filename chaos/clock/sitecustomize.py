"""On the path of a process whose clock is stepped: how it sleeps.

CPython sleeps until a moment of the monotonic clock. libfaketime 0.9.10 refuses that (EINVAL) where it was told to
leave the monotonic clock alone, which no step of a real clock moves either. It has no part in select.
"""

import select
import time
from typing import SupportsFloat


def sleep(seconds: SupportsFloat) -> None:
    select.select([], [], [], float(seconds))


time.sleep = sleep  # type: ignore[assignment]
