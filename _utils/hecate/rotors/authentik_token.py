"""An API token of authentik: two tokens of one user are valid together.

Follows https://api.goauthentik.io/ (core/tokens). The key is made here, so that it is stored before authentik knows it;
the token's identifier is told from the key, so that a run that was cut off finds its own again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from hecate.clients.authentik import AuthentikClient
from hecate.errors import HecateError, NotFound

LENGTH = 45  # octets of randomness: 60 characters, as authentik's own
TOKENS, USERS = "/core/tokens/", "/core/users/"


class AuthentikToken:
    """client: with the token that Hecate itself uses. with_key: the same, with another one.

    own: whether that is the token to be rotated. name: of the rotation; part of the identifiers. account: whose token.
    """

    both, by_hand, by_telling = True, "", False

    def __init__(
        self,
        client: AuthentikClient,
        with_key: Callable[[str], AuthentikClient],
        *,
        own: bool,
        name: str,
        account: str,
    ) -> None:
        self._client, self._with_key, self._own = client, with_key, own
        self._name, self._account = name, account

    def fresh(self) -> str:
        return secrets.token_urlsafe(LENGTH)

    def introduce(self, new: str, old: str) -> None:
        if old and self._client.owner_of(old) not in ("", self._account):
            raise HecateError(f"the token in use belongs to another account than {self._account}; mend the pillar")
        identifier, user = self._identifier(new), self._user()
        held = self._held(identifier)
        if held is None:
            about = f"Made by Hecate for hecate:rotation:{self._name}"
            wanted = {"identifier": identifier, "intent": "api", "user": user, "expiring": False, "description": about}
            held = self._client.create(TOKENS, wanted)
        if held["user"] != user:  # who isn't a superuser makes tokens for itself alone, whatever it asks for
            self._client.delete(TOKENS, identifier)
            raise HecateError(f"authentik makes no token for {self._account} with the token in use: not a superuser's")
        if held["expiring"]:  # who isn't a superuser doesn't choose; such a token ends after half an hour
            self._client.delete(TOKENS, identifier)
            ends = "goauthentik.io/user/token-expires: false"
            raise HecateError(f"authentik lets every token of {self._account} end; give the account {ends}")
        self._client.act(f"{TOKENS}{identifier}/set_key/", {"key": new})

    def works(self, value: str) -> bool:
        return bool(value) and self._client.owner_of(value) == self._account

    def retire(self, old: str, new: str) -> None:
        client = self._with_key(new) if self._own else self._client
        for identifier in self._identifiers(client, old):
            client.delete(TOKENS, identifier)

    def _identifiers(self, client: AuthentikClient, key: str) -> list[str]:
        """Of the tokens with this key: one of Hecate's own is known by name, another has to be looked into."""
        mine = self._identifier(key)
        found = client.all(TOKENS, user__username=self._account, intent="api", ordering="identifier")
        theirs = [row["identifier"] for row in found if row["user_obj"]["username"] == self._account]
        if mine in theirs:
            return [mine]
        return [name for name in theirs if client.get(f"{TOKENS}{name}/view_key/")["key"] == key]

    def _identifier(self, key: str) -> str:
        return f"hecate-{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def _held(self, identifier: str) -> dict[str, Any] | None:
        try:
            return self._client.get(f"{TOKENS}{identifier}/")
        except NotFound:
            return None

    def _user(self) -> int:
        for row in self._client.all(USERS, username=self._account):
            if row["username"] == self._account:
                return int(row["pk"])
        raise HecateError(f"authentik has no user {self._account}")
