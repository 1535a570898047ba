"""The pillar's shape. `parse` is the one door: every problem at once, or an Estate."""

from hecate.model.estate import Estate, json_schema
from hecate.model.literals import storable
from hecate.model.parse import bare_zones, parse, parse_access, problems_in
from hecate.model.resolved import nested, resolved

__all__ = [
    "Estate",
    "bare_zones",
    "json_schema",
    "nested",
    "parse",
    "parse_access",
    "problems_in",
    "resolved",
    "storable",
]
