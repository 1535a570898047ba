"""python -m bench [AREA ...]: measure, print the table, and write bench/results.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from bench import caddy, dns, table

AREAS: dict[str, Callable[[int], list[table.Row]]] = {"caddy": caddy.measure, "dns": dns.measure}


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
    results.write_text(json.dumps([row.to_json() for row in rows], indent=1) + "\n", encoding="utf-8")
    print(f"written to {results}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
