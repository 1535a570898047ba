"""The Terraform section -> one resource: the configuration that should be in effect."""

from __future__ import annotations

from hecate.model.estate import Estate
from hecate.resource import Resource

KEY = "main"


def compile_terraform(estate: Estate, source_digest: str) -> list[Resource]:
    """source_digest: fingerprint of the folder's files, which only the controller can read."""
    if estate.terraform is None:
        return []
    spec = {"source": source_digest, "variables": dict(estate.terraform.variables)}
    return [Resource("terraform.configuration", KEY, spec, origin="hecate:terraform")]
