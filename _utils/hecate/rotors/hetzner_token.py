"""The API token of a Hetzner project: made and deleted by a person, in Hetzner's console; its API can do neither."""

from __future__ import annotations

from collections.abc import Callable, Collection

from hecate.clients.hetzner_dns import HetznerDnsClient
from hecate.errors import NotAuthorised


class HetznerToken:
    """supplied: reads the token that the operator put there. zones: that it has to see."""

    both, by_telling = True, False
    by_hand = "delete the old token in Hetzner's console (the project, Security, API tokens), then run this again"

    def __init__(
        self, supplied: Callable[[], str], client: Callable[[str], HetznerDnsClient], zones: Collection[str]
    ) -> None:
        self._supplied, self._client, self._zones = supplied, client, zones

    def fresh(self) -> str:
        return self._supplied()

    def introduce(self, new: str, old: str) -> None:
        """Hetzner knew it before we did."""

    def works(self, value: str) -> bool:
        """Whether it sees the zones. That it may write them isn't known before something is written."""
        try:
            return {*self._zones} <= {zone.name for zone in self._client(value).zones()}
        except NotAuthorised:
            return False

    def retire(self, old: str, new: str) -> None:
        """See by_hand."""
