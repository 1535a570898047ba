"""Three people edit three systems by hand: it is noticed, told, healed; one who will not stop is left to people."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from .conftest import Estate

pytestmark = pytest.mark.lab
HEALING = {"default": "heal", "breaker": {"heals": 2, "within": "1h"}}
WATCHED = {"hecate-edge-1": "caddy", "hecate-dns": "hetzner_dns", "hecate-authentik": "authentik"}


@pytest.fixture(scope="module")
def healing(estate: Estate) -> Iterator[Estate]:
    """The example, deployed, with drift healed and watched every second."""
    estate.edit("systems.sls", lambda hecate: hecate.update(drift=HEALING))
    top = estate.pillar / "hecate" / "init.sls"
    top.write_text(top.read_text() + "\nbeacons:\n  hecate_drift:\n    - interval: 1\n")
    code, text = estate.deploy()
    assert code == 0, text[-3000:]
    estate.run("salt", "hecate-*", "saltutil.refresh_pillar", "wait=True")
    time.sleep(3)  # the first looks only remember
    yield estate
    estate.restore_pillar()
    estate.run("salt", "hecate-*", "saltutil.refresh_pillar", "wait=True")


def edit_edge(estate: Estate) -> None:
    """What an unknown host gets."""
    client = estate.caddy("hecate-edge-1")
    config, etag = client.config()
    fresh = copy.deepcopy(config)
    text = json.dumps(config["apps"]["http"]["servers"]["hecate"])
    assert "No such host here." in text
    fresh["apps"]["http"]["servers"]["hecate"] = json.loads(text.replace("No such host here.", "Elsewhere."))
    client.replace(fresh, etag)


def edit_dns(estate: Estate) -> None:
    zone = f"{estate.known['hetzner']['endpoint']}/zones/estate.test/rrsets/www/CNAME/actions/set_records"
    bearer = {"Authorization": f"Bearer {estate.known['hetzner']['token']}"}
    body = {"records": [{"value": "elsewhere.estate.test."}]}
    requests.post(zone, json=body, headers=bearer, timeout=10).raise_for_status()


def edit_authentik(estate: Estate) -> None:
    known = estate.known["authentik"]
    api, bearer = f"{known['url']}/api/v3/core/applications/nextcloud/", {"Authorization": f"Bearer {known['token']}"}
    changed = {"name": "Somebody's cloud"}
    requests.patch(api, json=changed, headers=bearer, timeout=10).raise_for_status()


def drift(estate: Estate, *words: str) -> tuple[int, Any]:
    code, text = estate.run("salt-run", "hecate.drift", *words, "--out=json")
    answer = json.loads(text[text.index("{") :])
    return code, answer.get("drift", answer.get("error"))


def beacons(estate: Estate) -> set[str]:
    lines = estate.events.read_text(errors="replace").splitlines()
    return {line.split("\t")[0] for line in lines if "/hecate_drift/" in line}


def test_what_three_people_did_is_noticed_told_and_healed(healing: Estate) -> None:
    estate = healing
    assert drift(estate)[0] == 0
    assert beacons(estate) == set(), "a deploy is not drift"
    before = estate.everything()
    edit_edge(estate)
    edit_dns(estate)
    edit_authentik(estate)
    until = time.monotonic() + 20
    wanted = {f"salt/beacon/{minion}/hecate_drift/{system}" for minion, system in WATCHED.items()}
    while beacons(estate) != wanted and time.monotonic() < until:
        time.sleep(0.3)
    assert beacons(estate) == wanted
    code, found = drift(estate, "form=data")
    assert code == 2 and found["errors"] == {}
    rows = {name: {(row["id"].split(" ")[0], row["who"]) for row in rows} for name, rows in found["targets"].items()}
    assert rows == {
        **{name: set() for name in found["targets"]},
        "hecate-edge-1": {("caddy.server", "changed by hand")},
        "hetzner_dns": {("dns.rrset", "changed by hand")},
        "authentik": {("authentik.application", "changed by hand")},
    }
    code, text = drift(estate, "act=True")
    assert code == 0, text
    assert estate.everything() == before
    history = estate.run("salt-run", "hecate.history", "count=1")[1]
    assert "healing drift: " in history and "done" in history
    assert estate.plan()[0] == 0


def test_a_second_operator_who_does_not_stop_trips_the_breaker(healing: Estate) -> None:
    """The first heal of the edge was the test before this one's; and pillar has an edit that nobody deployed."""
    estate = healing
    estate.edit("systems.sls", lambda hecate: hecate.update(drift=HEALING))  # each test begins with the example
    estate.edit("routes.sls", lambda hecate: hecate["routes"]["s3.estate.test"].update(max_body="5GB"))
    before = estate.everything()
    edit_edge(estate)
    code, text = drift(estate, "act=True", "systems=caddy")
    assert code == 2 and "healed, as deploy" in text and "only pillar" in text, text
    assert estate.everything() == before, "the edit of pillar is still not deployed"
    edit_edge(estate)
    moved = estate.everything()
    code, text = drift(estate, "act=True", "systems=caddy")
    assert code == 2 and "NOT healed: caddy was healed 2 times" in text, text
    assert estate.everything() == moved
    assert "hecate/drift/production/breaker" in estate.events.read_text(errors="replace")
    assert drift(estate, "reset=caddy") == (0, "caddy: healed again from now on")
    code, text = drift(estate, "heal=caddy")
    assert code == 2 and "healed, as deploy" in text, text
    assert estate.everything() == before
    code, text = estate.deploy()
    assert code == 0, text[-3000:]
    assert estate.plan()[0] == 0 and drift(estate)[0] == 0
    estate.restore_pillar()
    assert estate.deploy()[0] == 0
