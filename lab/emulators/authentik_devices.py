"""Second factors as the admin's listing has them: as many as the user's attribute says (``MFA_ATTRIBUTE``).

After the API's description and its source; no recording has this endpoint.
"""

from __future__ import annotations

import uuid

from werkzeug.wrappers import Request

from lab.emulators.authentik_access import MFA_ATTRIBUTE
from lab.emulators.authentik_objects import Objects
from lab.emulators.authentik_server import API, FORBIDDEN
from lab.emulators.authentik_state import Object
from lab.emulators.base import Answer, ApiError, route

TYPES = {"static": "StaticDevice", "totp": "TOTPDevice", "webauthn": "WebAuthnDevice"}
SINCE_2025_2 = ("created", "last_updated", "last_used", "extra_description")
"""Fields that older releases don't show; ``external_id`` is younger still."""
MADE = "2026-01-01T00:00:00Z"


class Devices(Objects):
    """``/authenticators/admin/all/``."""

    @route("GET", f"{API}/authenticators/admin/all/")
    def list_devices(self, request: Request) -> Answer:
        """A list without pages. For superusers; an unknown user has no devices."""
        if not self.superuser:
            raise ApiError(403, FORBIDDEN)
        asked = request.args.get("user", "")
        user = self.state.users.get(int(asked)) if asked.isdigit() else None
        own = user["attributes"].get(MFA_ATTRIBUTE) if user else None
        classes = own if isinstance(own, list) else sorted(TYPES) if own else []
        return 200, [self._device(asked, name) for name in classes]

    def _device(self, user: str, name: str) -> Object:
        app, model = f"authentik_stages_authenticator_{name}", TYPES[name]
        key = uuid.uuid5(uuid.NAMESPACE_URL, f"{user}/{name}")
        shown: Object = {
            "pk": str(key), "name": f"{name} of user {user}", "type": f"{app}.{model}", "confirmed": True,
            "verbose_name": f"{model} device", "verbose_name_plural": f"{model} devices",
            "meta_model_name": f"{app}.{model.lower()}",
            "created": MADE, "last_updated": MADE, "last_used": None, "extra_description": "", "external_id": "",
        }  # fmt: skip
        if self.state.release < (2025, 2):
            return {**{k: v for k, v in shown.items() if k not in SINCE_2025_2}, "pk": key.int % 10**6}
        return shown
