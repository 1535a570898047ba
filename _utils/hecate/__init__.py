"""Hecate's domain: pillar in, one transaction across proxy, identity, DNS and infrastructure out.

Plain Python; never imports Salt. The rooms and who may import whom are in docs/architecture.md.
"""

__version__ = "0.1.0"
