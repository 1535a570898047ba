"""python -m chaos --seed N --rounds N | --minutes M: break a lab at random, look, count; bench/chaos.json has it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

from chaos import engines
from chaos.rounds import Campaign
from chaos.tally import Tally

RESULTS = Path(__file__).resolve().parents[1] / "bench" / "chaos.json"
STEPS = 300


def say(line: str) -> None:
    print(line, flush=True)


def labs(seed: int, rounds: int, until: float) -> Tally:
    """rounds: so many; 0 for as many as there is time for (until: of time.monotonic)."""
    with Campaign(seed, say) as campaign:
        if rounds:
            for number, kinds in enumerate(campaign.dealt(rounds), 1):
                campaign.round(number, kinds, last=number == rounds)
            return campaign.tally
        number, random = 0, Random(f"{seed} hands")
        while time.monotonic() < until:
            number += 1
            kinds = random.sample(campaign.kinds, random.choice([1, 1, 2, 3]))
            campaign.round(number, kinds, last=time.monotonic() + 60 > until)
        return campaign.tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="where all that is random comes from")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--rounds", type=int, default=0, help="so many rounds on the lab")
    length.add_argument("--minutes", type=float, default=10, help="as many rounds as there is time for")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps on the engines, before the lab")
    parser.add_argument("--write", action="store_true", help=f"the result goes to {RESULTS}")
    asked = parser.parse_args()
    tally, until = Tally(asked.seed), time.monotonic() + asked.minutes * 60
    if asked.steps:
        tally.add(engines.campaign(asked.seed, asked.steps, say))
    tally.add(labs(asked.seed, asked.rounds, until))
    say(str(tally))
    if asked.write:
        tally.write(RESULTS)
        say(f"written to {RESULTS}")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
