"""An authentik server: its REST API, its login pages and its embedded outpost on one port, as authentik has them.

It answers as the recorded servers 2025.10 and 2026.2 do, with their quirks; each quirk is in the docstring of the
endpoint or the kind that has it. Older and newer versions have the fields that their descriptions have. Not here:
LDAP, RADIUS and SCIM providers, SAML and OAuth2 themselves (only their objects), roles, blueprints, sources, stages
other than the second factor's, tasks, websockets, the tokens and accounts of outposts, real second factors.

    python -m lab.emulators.authentik --port 9000 --token-file token --public-url https://auth.example.test
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from lab.emulators.authentik_applications import Applications
from lab.emulators.authentik_devices import Devices
from lab.emulators.authentik_directory import Directory
from lab.emulators.authentik_events import Events
from lab.emulators.authentik_flows import Flows
from lab.emulators.authentik_mappings import Mappings
from lab.emulators.authentik_oauth import TokenEndpoint
from lab.emulators.authentik_outposts import Outposts
from lab.emulators.authentik_policies import Policies
from lab.emulators.authentik_providers import Providers
from lab.emulators.authentik_server import SERVER_ERROR
from lab.emulators.authentik_users import Users
from lab.emulators.base import serve_forever, specs
from lab.emulators.outpost_login import LoginPages

__all__ = ["SERVER_ERROR", "Authentik", "described_by", "main"]


class Authentik(
    Directory,
    Users,
    Devices,
    Applications,
    Policies,
    Flows,
    Providers,
    Outposts,
    Mappings,
    Events,
    TokenEndpoint,
    LoginPages,
):
    """The whole server.

    token: the API token that is accepted; made up where it is empty (``self.token``)
    version: what the server says it is, and which fields and paths it has; any from 2024.2 on, known or not
    public_url: where browsers reach it, such as https://auth.example.test
    seed: {"users": [{username, name, email, password, groups, attributes, rights}], "groups": [name]}
    description: the API's OpenAPI description to check calls against; None checks nothing
    superuser: whether the token's owner is akadmin, or a service account of lesser rights
    outpost: the outpost whose providers are served: the embedded one, or one of one's own by name
    cve_2026_25748: answer a malformed proxy cookie with 200 and no identity headers, as servers before 2025.10.4 did
    clock: seconds since the epoch; sessions end by it
    rights: what the token's owner may do where it is no superuser: "view_group", "add_application" and so on
    prices: milliseconds a call, such as {"POST /providers/proxy/": 282, "PATCH /providers/proxy/*/": 50}
    outpost_price: milliseconds that saving a provider or an outpost costs for every provider in that outpost
    sleep: how prices are paid
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """See the class."""
        super().__init__(*arguments, **named)
        self.furnish()


def described_by(version: str) -> pathlib.Path | None:
    """The API description nearest to a version, where the folder with the descriptions is there."""
    year, month, *_ = (int(part) for part in version.split(".")[:2])
    nearest = "2024.2.4" if (year, month) < (2025, 2) else "2025.6.4" if (year, month) < (2025, 12) else "2026.5.6"
    return specs(f"authentik-{nearest}.yml")


def main(arguments: list[str] | None = None) -> None:
    """Serve until stopped."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m lab.emulators.authentik", description=about)
    parser.add_argument("--port", type=int, required=True, help="loopback port; 0 takes a free one")
    parser.add_argument("--token-file", type=pathlib.Path, required=True, help="file that holds the API token")
    parser.add_argument("--public-url", default="", help="where browsers reach the server")
    parser.add_argument("--seed", type=pathlib.Path, help="JSON file with users and groups")
    parser.add_argument("--version", default="2025.10.4", help="the version to be (default %(default)s)")
    parser.add_argument("--outpost", default="", help="name of the outpost to serve instead of the embedded one")
    parser.add_argument("--pidfile", type=pathlib.Path, help="written once the server listens")
    parser.add_argument("--cve-2026-25748", action="store_true", help="let malformed proxy cookies through")
    parser.add_argument("--prices", type=json.loads, default={}, help='JSON: {"POST /core/groups/": milliseconds}')
    parser.add_argument("--outpost-price", type=float, default=0.0, help="ms a provider, when its outpost is saved")
    options = parser.parse_args(arguments)
    token = options.token_file.read_text().strip()
    if not token:
        parser.error(f"{options.token_file} holds no token")
    seed = json.loads(options.seed.read_text()) if options.seed else {}
    further = {"outpost": options.outpost} if options.outpost else {}
    app = Authentik(token, options.version, options.public_url, seed, described_by(options.version),
                    cve_2026_25748=options.cve_2026_25748, prices=options.prices,
                    outpost_price=options.outpost_price, **further)  # fmt: skip
    serve_forever(app, options.port, options.pidfile)


if __name__ == "__main__":
    main()
