"""The pillar's shape. `parse` is the one door: every problem at once, or an Estate."""

from hecate.model.estate import Estate, json_schema
from hecate.model.parse import parse, parse_access, problems_in

__all__ = ["Estate", "json_schema", "parse", "parse_access", "problems_in"]
