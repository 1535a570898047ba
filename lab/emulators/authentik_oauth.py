"""The token endpoint of authentik's OAuth2 providers, as far as a client is let in or not; nothing is issued."""

from __future__ import annotations

import secrets

from werkzeug.wrappers import Request

from lab.emulators.authentik_objects import Objects
from lab.emulators.base import Answer, route


class TokenEndpoint(Objects):
    """``/application/o/token/``, from authentik's source alone (providers/oauth2/views/token.py): no answer of a real
    server's was recorded, and authentik's OpenAPI descriptions are without this endpoint.

    In the source that was read (about 2026.2) a confidential client's secret is compared before anything else of these
    two grants is looked at, and every refusal is a 400. 2026.5 has ``grant_types`` for a client: what it says to one
    that is not listed, and whether before the secret, is not known; here each client has all of them.
    """

    @route("POST", "/application/o/token/")
    def oauth2_token(self, request: Request) -> Answer:
        """invalid_client for an unknown client or a wrong secret, invalid_grant for what comes after it."""
        said = request.form
        row = next((r for r in self.state.providers.values() if r.get("client_id") == said.get("client_id")), None)
        if row is None or row["kind"] != "oauth2":
            return 400, {"error": "invalid_client", "error_description": "Client authentication failed"}
        if said.get("grant_type") not in ("authorization_code", "refresh_token"):
            return 400, {"error": "unsupported_grant_type", "error_description": "Not served here"}
        given = said.get("client_secret", "").encode()
        if row["client_type"] == "confidential" and not secrets.compare_digest(row["client_secret"].encode(), given):
            return 400, {"error": "invalid_client", "error_description": "Client authentication failed"}
        return 400, {"error": "invalid_grant", "error_description": "The provided grant is invalid"}
