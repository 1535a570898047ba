"""Two hundred applications behind authentik: what guarding them costs, in calls and seconds.

The peer, in the same run and against the same emulator, is the script that one would write with `requests`: each object
is looked for by name and made if it isn't there, and each application's provider is put on the outpost at once. What
calls cost is in the proportions seen on a real server with a hundred applications (2026.2.2), each a 25th.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

from hecate import model, wiring

from bench import authentik_script
from bench.authentik_api import Api, Body, api
from bench.table import Row

AREA = "authentik"
APPLICATIONS = 200
SCALE = 1 / 25
OUTPOSTS = "/outposts/instances/"
READERS = 4  # lists at a time, as Hecate reads
POLICIES: dict[str, dict[str, Any]] = {
    "staff": {"groups": ["staff"]},
    "builders": {"groups": ["staff", "builders"]},
    "observers": {"groups": ["observers", "staff"], "session_duration": "2h"},
    "sales": {"groups": ["staff"], "attributes": {"department": ["sales", "support"]}},
    "badged": {"attributes": {"badge": "required", "building": 7}},
    "factored": {"groups": ["staff"], "require_mfa": True, "allowed_methods": ["password", "totp"]},
    "keyed": {"groups": ["builders"], "require_mfa": True, "allowed_methods": ["password", "webauthn"]},
    "anyone": {},
}


def measure(repeat: int) -> list[Row]:
    return [*making(max(2, repeat // 2)), *keeping(repeat)]


def making(repeat: int) -> list[Row]:
    """New applications, by Hecate and by the script, each time on a fresh server. The script runs once: it is slow."""
    ours, held = [], set[str]()
    for _ in range(repeat):
        with api(SCALE) as server:
            ours.append(timed(partial(hecates, server, routes(APPLICATIONS))))
            calls = server.calls()
            held = guarded(server)
    with api(SCALE) as server:
        start = time.perf_counter()
        outposts = authentik_script.run(server, routes(APPLICATIONS), POLICIES)
        theirs = time.perf_counter() - start
        its_calls = server.calls()
        if not len(held) == len(guarded(server)) == APPLICATIONS:
            raise RuntimeError(f"Hecate guards {len(held)} applications, the script {len(guarded(server))}")
    what = f"first apply of {APPLICATIONS} applications"
    return [
        Row(AREA, f"{what}: calls / a script's", len(calls) / len(its_calls), "x", 0.25),
        Row(AREA, f"{what}: time / the script's", median(ours) / theirs, "x", 0.5),
        Row(AREA, f"{what}: writes of outposts", written(calls, OUTPOSTS), "", 1),
        Row(AREA, "  Hecate's calls", len(calls), ""),
        Row(AREA, "  the script's calls", len(its_calls), ""),
        Row(AREA, "  Hecate's time, its calls at a 25th of their price", median(ours), "s"),
        Row(AREA, "  the script's time", theirs, "s"),
        Row(AREA, "  of that for the outpost, application by application", outposts, "s"),
    ]


def keeping(repeat: int) -> list[Row]:
    """Nothing to do, and one thing to do, beside two hundred applications that stand."""
    idle, bare, policies = [], [], POLICIES
    with api() as server:
        hecates(server, routes(APPLICATIONS))
        server.calls()
        for _ in range(repeat):
            idle.append(timed(partial(hecates, server, routes(APPLICATIONS))))
            calls = server.calls()
            if any(call["write"] for call in calls):
                raise RuntimeError("a run without changes wrote")
            bare.append(timed(partial(page_through, server, calls)))
            server.calls()
        pages = Counter((call["path"], call["query"]) for call in calls)
        policies = {**POLICIES, "sales": {**POLICIES["sales"], "attributes": {"department": ["sales"]}}}
        hecates(server, routes(APPLICATIONS), policies)
        tightened = server.calls()
        one = timed(partial(hecates, server, routes(APPLICATIONS + 1), policies))
        added = server.calls()
    users = sum(route["auth_policy"] == "sales" for route in routes(APPLICATIONS).values())
    return [
        Row(AREA, f"no change among {APPLICATIONS} applications: paged reads a kind", max(pages.values()), "", 1),
        Row(AREA, "no change: own time, without the same reads by themselves", median(idle) - median(bare), "s", 1),
        Row(AREA, "  its calls", len(calls), ""),
        Row(AREA, "  the same reads by themselves", median(bare), "s"),
        Row(AREA, f"one policy of {users} applications tightened: writes", written(tightened), "", 1),
        Row(AREA, "one application more: writes", written(added), "", 2),
        Row(AREA, "  of outposts", written(added, OUTPOSTS), "", 1),
        Row(AREA, "  of providers that stand as they should", written(added, "/providers/"), "", 0),
        Row(AREA, "  its time", one, "s"),
    ]


def written(calls: list[Body], start: str = "/") -> int:
    return sum(call["write"] and call["path"].startswith(f"/api/v3{start}") for call in calls)


def guarded(server: Api) -> set[str]:
    """Applications with a provider on an outpost."""
    on_it = {pk for outpost in server.send("GET", OUTPOSTS)["results"] for pk in outpost["providers"]}
    found, page = set(), 1
    while page:
        answer = server.send("GET", "/core/applications/", superuser_full_list="true", page=page)
        found |= {row["slug"] for row in answer["results"] if row["provider"] in on_it}
        page = answer["pagination"]["next"]
    return found


def page_through(server: Api, calls: list[Body]) -> None:
    """The reads of a run once more, a list's pages one after another, as many lists at a time as Hecate reads."""
    lists: dict[str, list[str]] = {}
    for call in calls:
        lists.setdefault(call["path"], []).append(f"{server.url}{call['path']}?{call['query']}")
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda urls: [server.session.get(url, timeout=60).json() for url in urls], lists.values()))


def routes(count: int) -> dict[str, Body]:
    names = list(POLICIES)
    return {
        f"a{n:03d}.bench.test": {"upstreams": ["127.0.0.1:1"], "auth_policy": names[n % len(names)]}
        for n in range(count)
    }


def hecates(server: Api, wanted: dict[str, Body], policies: dict[str, Body] = POLICIES) -> None:
    """As a state does it: from pillar to a confirmed apply."""
    reach = {"url": server.url, "token": f"file:{server.folder}/token"}
    pillar = {"authentik": reach, "caddy": {"issuer": "internal"}, "auth_policies": policies, "routes": wanted}
    place = wiring.Place("bench", server.folder / "cache")
    target = wiring.target("authentik", model.parse({"hecate": pillar}), place)
    target.engine.apply(target.wish, f"t{time.time_ns()}")


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
