"""A few rounds with a fixed seed on a lab of its own: every kind of fault, and nothing is lost."""

from __future__ import annotations

import pytest

from chaos.rounds import Campaign

SEED, ROUNDS = 3, 4

pytestmark = pytest.mark.lab


def test_whatever_goes_wrong_the_estate_is_as_it_was_or_as_it_should_be() -> None:
    said: list[str] = []
    with Campaign(SEED, said.append) as campaign:
        for number, kinds in enumerate(campaign.dealt(ROUNDS), 1):
            campaign.round(number, kinds, last=number == ROUNDS)
    tally = campaign.tally
    assert not tally.violations, "\n".join(said)
    assert tally.runs == ROUNDS and tally.requests > 100
    missing = [kind for kind in campaign.kinds if not tally.by_fault[kind]]
    assert not missing, f"{missing} did not happen:\n" + "\n".join(said)
