"""The client secret of an OAuth2 application in authentik, which takes one at a time.

Follows https://api.goauthentik.io/ (providers/oauth2). A PATCH puts the new one in the old one's place at once.
"""

from __future__ import annotations

import secrets

from hecate.clients.authentik import AuthentikClient
from hecate.errors import HecateError

LENGTH = 64  # octets of randomness: 86 characters that need no escaping in a URL or a form
PROVIDERS = "/providers/oauth2/"


class OAuth2Client:
    """slug: of the application in authentik."""

    both, by_hand, by_telling = False, "", False

    def __init__(self, client: AuthentikClient, slug: str) -> None:
        self._client, self._slug = client, slug

    def fresh(self) -> str:
        return secrets.token_urlsafe(LENGTH)

    def introduce(self, new: str, old: str) -> None:
        if not new:
            raise HecateError("an empty client secret would be accepted; nothing was written")
        if not self.works(new):
            self._client.patch(PROVIDERS, self._provider(), {"client_secret": new})

    def works(self, value: str) -> bool:
        row = self._client.get(f"{PROVIDERS}{self._provider()}/")
        return self._client.takes_secret(str(row["client_id"]), value)

    def retire(self, old: str, new: str) -> None:
        """There was one place, and the new one has it."""

    def _provider(self) -> int:
        found = self._client.get(f"/core/applications/{self._slug}/")["provider"]
        if found is None:
            raise HecateError(f"the application {self._slug} has no provider in authentik; deploy it first")
        return int(found)
