"""The rrset routes of the Hetzner emulator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from werkzeug.wrappers import Request

from lab.emulators import hetzner_records as records
from lab.emulators.base import Answer, json_body, route
from lab.emulators.hetzner_api import HetznerApi, failed, invalid, with_labels
from lab.emulators.hetzner_zones import Rrset, Zone

RRSETS = "/v1/zones/<zone>/rrsets"
RRSET = "/v1/zones/<zone>/rrsets/<name>/<kind>"
Records = list[dict[str, Any]]


class RrsetRoutes(HetznerApi):
    """List, make, change, delete rrsets."""

    @route("GET", RRSETS)
    def rrsets(self, request: Request, zone: str) -> Answer:
        name, kinds = request.args.get("name"), request.args.getlist("type")
        found = [
            rrset for rrset in self.state.rrsets[self.primary(zone)["id"]].values()
            if (name is None or rrset["name"] == name) and (not kinds or rrset["type"] in kinds)
        ]  # fmt: skip
        return 200, self.page(request, "rrsets", with_labels(request, found))

    @route("POST", RRSETS)
    def create_rrset(self, request: Request, zone: str) -> Answer:
        found, body = self.primary(zone), json_body(request)
        name, kind, values = body["name"], body["type"], body["records"]
        if (name, kind) in self.state.rrsets[found["id"]]:
            raise failed(409, "uniqueness_error", f"an rrset '{name}/{kind}' exists")
        check_ttl(body.get("ttl"))
        check_set(found["name"], name, kind, values, self._beside(found, name))
        made: list[Rrset] = []

        def make() -> None:
            made.append(self.state.put(found, name, kind, values, body.get("ttl"), body.get("labels")))

        action = self.do("create_rrset", found, make, [(name, kind)])
        if not made:  # accepted, and to fail later: it shows what was asked for
            made.append({**body, "id": f"{name}/{kind}", "ttl": body.get("ttl"), "labels": body.get("labels") or {},
                         "protection": {"change": False}, "zone": found["id"]})  # fmt: skip
        return 201, {"rrset": made[0], "action": action}

    @route("GET", RRSET)
    def rrset(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        return 200, {"rrset": self._rrset(self.primary(zone), name, kind)}

    @route("PUT", RRSET)
    def update_rrset(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        """Labels only; they aren't DNS, so there is no action and protection doesn't count."""
        rrset = self._rrset(self.primary(zone), name, kind)
        rrset["labels"] = (json_body(request) or {}).get("labels", rrset["labels"])
        return 200, {"rrset": rrset}

    @route("DELETE", RRSET)
    def delete_rrset(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found = self.primary(zone)
        self._changeable(found, name, kind)
        if kind == "SOA":
            raise invalid("type", "the SOA record cannot be deleted")

        def drop() -> None:
            del self.state.rrsets[found["id"]][name, kind]

        return 201, {"action": self.do("delete_rrset", found, drop, [(name, kind)])}

    @route("POST", RRSET + "/actions/change_ttl")
    def change_rrset_ttl(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found, ttl = self.primary(zone), json_body(request)["ttl"]
        rrset = self._changeable(found, name, kind)
        check_ttl(ttl)
        return 201, {"action": self.do("change_rrset_ttl", found, lambda: rrset.update(ttl=ttl), [(name, kind)])}

    @route("POST", RRSET + "/actions/change_protection")
    def change_rrset_protection(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found, wanted = self.primary(zone), json_body(request)["change"]
        rrset = self._rrset(found, name, kind)

        def change() -> None:
            rrset["protection"] = {"change": wanted}

        return 201, {"action": self.do("change_rrset_protection", found, change, [], moves=False)}

    @route("POST", RRSET + "/actions/set_records")
    def set_records(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found, values = self.primary(zone), json_body(request)["records"]
        rrset = self._changeable(found, name, kind)
        return 201, {"action": self._replace("set_rrset_records", found, rrset, values)}

    @route("POST", RRSET + "/actions/add_records")
    def add_records(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found, body = self.primary(zone), json_body(request)
        check_ttl(body.get("ttl"))
        if (name, kind) not in self.state.rrsets[found["id"]]:
            check_set(found["name"], name, kind, body["records"], self._beside(found, name))

            def make() -> None:
                self.state.put(found, name, kind, body["records"], body.get("ttl"))

            return 201, {"action": self.do("add_rrset_records", found, make, [(name, kind)])}
        rrset = self._changeable(found, name, kind)
        if body.get("ttl") is not None and rrset["ttl"] not in (None, body["ttl"]):
            raise invalid("ttl", "must be the same as the rrset's")
        return 201, {"action": self._replace("add_rrset_records", found, rrset, rrset["records"] + body["records"],
                                             body.get("ttl"))}  # fmt: skip

    @route("POST", RRSET + "/actions/remove_records")
    def remove_records(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found, given = self.primary(zone), json_body(request)["records"]
        rrset = self._changeable(found, name, kind)
        values = {record["value"] for record in given}
        if values - {record["value"] for record in rrset["records"]}:
            raise invalid("records", "a record to remove does not exist")
        left = [record for record in rrset["records"] if record["value"] not in values]
        if left:
            return 201, {"action": self._replace("remove_rrset_records", found, rrset, left)}

        def drop() -> None:
            del self.state.rrsets[found["id"]][name, kind]

        return 201, {"action": self.do("remove_rrset_records", found, drop, [(name, kind)])}

    @route("POST", RRSET + "/actions/update_records")
    def update_records(self, request: Request, zone: str, name: str, kind: str) -> Answer:
        found, given = self.primary(zone), json_body(request)["records"]
        rrset = self._changeable(found, name, kind)
        comments = {record["value"]: record["comment"] for record in given}
        if set(comments) - {record["value"] for record in rrset["records"]}:
            raise invalid("records", "a record to update does not exist")

        def change() -> None:
            for record in rrset["records"]:
                record["comment"] = comments.get(record["value"], record.get("comment", ""))

        return 200, {"action": self.do("update_rrset_records", found, change, [], moves=False)}

    def _replace(self, command: str, zone: Zone, rrset: Rrset, values: Records, ttl: int | None = None) -> Any:
        check_set(zone["name"], rrset["name"], rrset["type"], values, self._beside(zone, rrset["name"]))

        def change() -> None:
            rrset["records"] = values
            rrset["ttl"] = ttl or rrset["ttl"]

        return self.do(command, zone, change, [(rrset["name"], rrset["type"])])

    def _beside(self, zone: Zone, name: str) -> set[str]:
        return {kind for other, kind in self.state.rrsets[zone["id"]] if other == name}

    def _rrset(self, zone: Zone, name: str, kind: str) -> Rrset:
        rrset = self.state.rrsets[zone["id"]].get((name, kind))
        if rrset is None:
            raise failed(404, "not_found", f"rrset '{name}/{kind}' not found")
        return rrset

    def _changeable(self, zone: Zone, name: str, kind: str) -> Rrset:
        rrset = self._rrset(zone, name, kind)
        if rrset["protection"]["change"]:
            raise failed(423, "protected", f"rrset '{name}/{kind}' is protected from changes")
        return rrset


def check_ttl(ttl: int | None) -> None:
    """422 below 60 seconds, also where no API description is at hand to say so."""
    if ttl is not None and ttl < 60:
        raise invalid("ttl", "must be at least 60")


def check_set(zone: str, name: str, kind: str, values: Records, beside: Iterable[str]) -> None:
    """422 for an rrset that Hetzner wouldn't take."""
    wrong = records.name_problem(name, zone)
    if wrong:
        raise invalid("name", wrong)
    if not values:
        raise invalid("records", "must not be empty")
    if len({record["value"] for record in values}) < len(values):
        raise invalid("records", "must only contain distinct record values")
    wrong = records.set_problem(kind, name, beside, len(values))
    if wrong:
        raise invalid("records", wrong)
    for number, record in enumerate(values):
        wrong = records.value_problem(kind, record["value"], zone)
        if wrong:
            raise invalid(f"records[{number}].value", wrong)


def parse(zonefile: str, zone: str) -> tuple[int | None, list[Rrset]]:
    """A zone file's TTL and rrsets, or 422."""
    try:
        return records.parse_zonefile(zonefile, zone)
    except ValueError as error:
        raise invalid("zonefile", str(error)) from error
