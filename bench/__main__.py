"""python -m bench [AREA ...]: measure, print the table, and write it to bench/results.json beside the other areas."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from bench import authentik, caddy, deploy, dns, table

AREAS: dict[str, Callable[[int], list[table.Row]]] = {
    "authentik": authentik.measure,
    "caddy": caddy.measure,
    "deploy": deploy.measure,
    "dns": dns.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("areas", nargs="*", help=f"of {', '.join(AREAS)}; all when none is given")
    parser.add_argument("--repeat", type=int, default=5, help="how often each thing is measured; medians count")
    arguments = parser.parse_args()
    unknown = set(arguments.areas) - AREAS.keys()
    if unknown:
        parser.error(f"no such area: {', '.join(sorted(unknown))}; there are: {', '.join(AREAS)}")
    rows = [row for area in arguments.areas or AREAS for row in AREAS[area](arguments.repeat)]
    table.show(rows)
    results = Path(__file__).with_name("results.json")
    measured = {row.area for row in rows}
    known = json.loads(results.read_text(encoding="utf-8")) if results.exists() else []
    told = [row for row in known if row["area"] not in measured] + [row.to_json() for row in rows]
    results.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"written to {results}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
