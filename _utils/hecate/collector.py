"""Python's garbage collector, held still while ten thousand routes are worked on."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collections inside: each would walk the whole pillar to find that nothing can go.

    A run makes many objects and drops few; what it drops, reference counts free. May be nested.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
