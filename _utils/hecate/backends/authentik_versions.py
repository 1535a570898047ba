"""What differs between authentik's versions, in one table, and which versions let in whom they should not.

https://docs.goauthentik.io/releases/ and the API descriptions of 2024.2, 2025.6 and 2026.5. A newer version than
these is taken for the newest known one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

Release = tuple[int, int]
OLDEST: Release = (2024, 2)
NEWEST: Release = (2026, 5)


@dataclass(frozen=True)
class Dialect:
    """How one version wants to be spoken to; the defaults are the oldest one's.

    invalidation_flow: providers have one. redirect_uris: a list of mappings; before, a text of lines.
    guarded_creation: the transactional endpoint takes bindings too. scope_mappings, saml_mappings: where these are
    listed. webhook_mapping: a transport's field for the mapping of the body. rule_group: a rule's field for whom it
    tells. saml_issuer: a SAML provider's field for the server's entity id.
    """

    invalidation_flow: bool = False
    redirect_uris: bool = False
    guarded_creation: bool = False
    scope_mappings: str = "/propertymappings/scope/"
    saml_mappings: str = "/propertymappings/saml/"
    webhook_mapping: str = "webhook_mapping"
    rule_group: str = "group"
    saml_issuer: str = "issuer"


CHANGES: tuple[tuple[Release, dict[str, Any]], ...] = (
    (
        (2024, 10),
        {"scope_mappings": "/propertymappings/provider/scope/", "saml_mappings": "/propertymappings/provider/saml/"},
    ),
    ((2024, 12), {"invalidation_flow": True, "redirect_uris": True, "guarded_creation": True}),
    ((2025, 4), {"webhook_mapping": "webhook_mapping_body"}),
    ((2025, 8), {"rule_group": "destination_group"}),
    ((2026, 5), {"saml_issuer": "issuer_override"}),
)

# Forward auth let in whom it should not: first version that was wrong, first that is right again, what, and its number.
HOLES = (
    ((0, 0, 0), (2025, 10, 4), "a malformed proxy cookie is let through", "CVE-2026-25748"),
    ((2025, 12, 0), (2025, 12, 4), "a malformed proxy cookie is let through", "CVE-2026-25748"),
)


def numbers(version: str) -> tuple[int, int, int]:
    """ "2025.10.4-rc1" -> (2025, 10, 4); what isn't a number counts as 0."""
    found = [int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3]]
    year, month, patch = (*found, 0, 0, 0)[:3]
    return year, month, patch


def dialect(version: str) -> Dialect:
    found = Dialect()
    for since, change in CHANGES:
        if numbers(version)[:2] >= since:
            found = replace(found, **change)
    return found


def warnings(version: str) -> list[str]:
    """What a person should know of a version before trusting it: none for a known and sound one."""
    release = numbers(version)
    found = []
    if release[:2] > NEWEST:
        found.append(f"authentik {version} is newer than {_shown(NEWEST)}, the newest version that Hecate knows")
    if release[:2] < OLDEST:
        found.append(f"authentik {version} is older than {_shown(OLDEST)}, the oldest version that Hecate knows")
    for since, until, what, number in HOLES:
        if since <= release < until:
            mended = ".".join(map(str, until))
            found.append(
                f"authentik {version}: {what} ({number}); update to {mended} or later. Caddy refuses such requests: "
                "they name no user"
            )
    return found


def _shown(release: Release) -> str:
    return ".".join(map(str, release))
