"""The whole platform on one machine, on loopback: real servers where they run, emulators where they don't."""

from __future__ import annotations

from lab.environ import environment

__all__ = ["environment"]
