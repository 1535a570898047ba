"""Hetzner's Cloud API, the part about DNS: zones, rrsets and their actions; with name servers that answer from it.

    python -m lab.emulators.hetzner --port 8080 --dns-port 5353 --zone estate.test --token-file token

Quirks kept: writes answer with an action that is "running" and ends a moment later; ``set_records`` needs at least one
record and an rrset that exists; ``add_records`` makes the rrset, ``remove_records`` of its last record deletes it;
``update_records`` changes comments only and answers 200 where its sisters answer 201; an existing rrset is 409
``uniqueness_error``, a protected one 423 ``protected``; labels aren't under ``protection.change``.

Fault kinds of its own: "action-error" accepts a write, changes nothing, and ends its action in an error; "action-hang"
accepts it, changes nothing, and never ends it.
"""

from __future__ import annotations

import argparse
import copy
import pathlib
from typing import Any

from werkzeug.wrappers import Request

from lab.emulators import hetzner_records as records
from lab.emulators.base import Answer, json_body, route, serve_forever
from lab.emulators.hetzner_api import DEFAULT_LIMIT, failed, invalid, with_labels
from lab.emulators.hetzner_dns import dns_running
from lab.emulators.hetzner_rrsets import RrsetRoutes, check_set, check_ttl, parse

__all__ = ["HetznerDns", "dns_running", "main"]


class HetznerDns(RrsetRoutes):
    """The whole API: ``HetznerDns(token, ("estate.test",))``; see HetznerApi for its parameters."""

    # Actions.

    @route("GET", "/v1/actions")
    def actions(self, request: Request) -> Answer:
        numbers = request.args.getlist("id", type=int)
        if not numbers:
            raise invalid("id", "is required")
        return 200, {"actions": [self.state.actions[n] for n in numbers if n in self.state.actions]}

    @route("GET", "/v1/zones/actions")
    def zones_actions(self, request: Request) -> Answer:
        numbers = set(request.args.getlist("id", type=int))
        found = [a for a in self.state.actions.values() if not numbers or a["id"] in numbers]
        return 200, self.page(request, "actions", self._with_status(request, found))

    @route("GET", "/v1/zones/<zone>/actions")
    def zone_actions(self, request: Request, zone: str) -> Answer:
        number = self.find(zone)["id"]
        found = [a for a in self.state.actions.values() if a["resources"][0]["id"] == number]
        return 200, self.page(request, "actions", self._with_status(request, found))

    @route("GET", "/v1/actions/<int:number>")
    @route("GET", "/v1/zones/actions/<int:number>")
    @route("GET", "/v1/zones/<zone>/actions/<int:number>")
    def action(self, request: Request, number: int, zone: str = "") -> Answer:
        if number not in self.state.actions:
            raise failed(404, "not_found", f"action with ID '{number}' not found")
        return 200, {"action": self.state.actions[number]}

    def _with_status(self, request: Request, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        wanted = request.args.getlist("status")
        return [action for action in found if not wanted or action["status"] in wanted]

    # Zones.

    @route("GET", "/v1/zones")
    def zones(self, request: Request) -> Answer:
        name, mode = request.args.get("name"), request.args.get("mode")
        found = [
            zone for zone in self.state.zones.values()
            if (name is None or zone["name"] == name) and (mode is None or zone["mode"] == mode)
        ]  # fmt: skip
        return 200, self.page(request, "zones", with_labels(request, found))

    @route("POST", "/v1/zones")
    def create_zone(self, request: Request) -> Answer:
        body = json_body(request)
        name = body["name"].lower()
        if body["mode"] == "secondary" and not body.get("primary_nameservers"):
            raise invalid("primary_nameservers", "is required in secondary mode")
        if self.state.find_zone(name):
            raise failed(409, "uniqueness_error", f"zone name '{name}' is already used")
        given = body.get("rrsets", [])
        for rrset in given:
            check_set(name, rrset["name"], rrset["type"], rrset["records"], set())
        ttl, imported = parse(body["zonefile"], name) if "zonefile" in body else (None, [])
        zone = self.state.add_zone(name, body.get("ttl") or ttl or 3600, body.get("labels", {}), self.clock())
        if body["mode"] == "secondary":  # whose records it would copy; here it stays as empty as it was made
            zone.update(mode="secondary", primary_nameservers=body["primary_nameservers"])

        def fill() -> None:
            for rrset in [*imported, *given]:
                self.state.put(zone, rrset["name"], rrset["type"], rrset["records"],
                               rrset.get("ttl"), rrset.get("labels"))  # fmt: skip

        action = self.do("create_zone", zone, fill)
        shown = copy.deepcopy(zone)
        if self.fault and self.fault.kind in self.fault_kinds:
            del self.state.zones[zone["id"]], self.state.rrsets[zone["id"]]
        return 201, {"zone": shown, "action": action}

    @route("GET", "/v1/zones/<zone>")
    def zone(self, request: Request, zone: str) -> Answer:
        return 200, {"zone": self.find(zone)}

    @route("PUT", "/v1/zones/<zone>")
    def update_zone(self, request: Request, zone: str) -> Answer:
        found = self.find(zone)
        found["labels"] = (json_body(request) or {}).get("labels", found["labels"])
        return 200, {"zone": found}

    @route("DELETE", "/v1/zones/<zone>")
    def delete_zone(self, request: Request, zone: str) -> Answer:
        found = self.find(zone)
        if found["protection"]["delete"]:
            raise failed(423, "protected", "zone deletion is protected")

        def drop() -> None:
            del self.state.zones[found["id"]], self.state.rrsets[found["id"]]

        return 201, {"action": self.do("delete_zone", found, drop)}

    @route("GET", "/v1/zones/<zone>/zonefile")
    def zonefile(self, request: Request, zone: str) -> Answer:
        found = self.primary(zone)
        text = records.export(found["name"], found["ttl"], self.state.rrsets[found["id"]].values())
        return 200, {"zonefile": text}

    @route("POST", "/v1/zones/<zone>/actions/import_zonefile")
    def import_zonefile(self, request: Request, zone: str) -> Answer:
        found = self.primary(zone)
        sets = self.state.rrsets[found["id"]]
        if any(rrset["protection"]["change"] for rrset in sets.values()):
            raise failed(423, "protected", "the zone has rrsets that are change protected")
        ttl, imported = parse(json_body(request)["zonefile"], found["name"])

        def replace() -> None:
            soa = sets["@", "SOA"]
            sets.clear()
            for rrset in imported:
                self.state.put(found, rrset["name"], rrset["type"], rrset["records"], rrset["ttl"])
            sets["@", "SOA"] = soa
            found["ttl"] = ttl or found["ttl"]

        return 201, {"action": self.do("import_zonefile", found, replace)}

    @route("POST", "/v1/zones/<zone>/actions/change_ttl")
    def change_zone_ttl(self, request: Request, zone: str) -> Answer:
        found, ttl = self.primary(zone), json_body(request)["ttl"]
        check_ttl(ttl)
        return 201, {"action": self.do("change_zone_ttl", found, lambda: found.update(ttl=ttl))}

    @route("POST", "/v1/zones/<zone>/actions/change_protection")
    def change_zone_protection(self, request: Request, zone: str) -> Answer:
        found, wanted = self.find(zone), json_body(request) or {}
        change = lambda: found["protection"].update(wanted)  # noqa: E731
        return 201, {"action": self.do("change_zone_protection", found, change, [], moves=False)}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.emulators.hetzner", description="Hetzner DNS, emulated.")
    parser.add_argument("--port", type=int, required=True, help="of the API, on 127.0.0.1")
    parser.add_argument("--dns-port", type=int, required=True, help="of the name server, UDP and TCP, on 127.0.0.1")
    parser.add_argument("--zone", action="append", default=[], help="a zone that is there from the start; repeatable")
    parser.add_argument("--token-file", type=pathlib.Path, required=True, help="holds the token that the API wants")
    parser.add_argument("--rate-limit", type=int, default=DEFAULT_LIMIT, help="requests an hour (default %(default)s)")
    parser.add_argument("--action-seconds", type=float, default=0.05, help="how long an action takes")
    parser.add_argument("--pidfile", type=pathlib.Path)
    given = parser.parse_args(arguments)
    token = given.token_file.read_text().strip()
    app = HetznerDns(token, tuple(given.zone), rate_limit=given.rate_limit, action_seconds=given.action_seconds)
    with dns_running(app.resolver(), given.dns_port):
        serve_forever(app, given.port, given.pidfile)


if __name__ == "__main__":
    main()
