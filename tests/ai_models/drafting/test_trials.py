"""The guard catches what is made false of true sentences, and keeps the true ones."""

from __future__ import annotations

import pytest

from ai_models.drafting.trials.__main__ import table
from ai_models.drafting.trials.measuring import measured


def test_seeded_contradictions_of_every_kind_are_caught() -> None:
    figures = measured(range(7_000, 7_024), most_per_kind=6)
    assert sum(figures.false.values()) >= 500
    assert len(figures.false) >= 20
    assert figures.true >= 500
    assert figures.caught_share >= 0.99, figures.missed
    assert figures.false_strike_share <= 0.02, figures.struck


def test_same_seeds_give_the_same_figures() -> None:
    one, two = (measured([7_003], most_per_kind=2) for _ in range(2))
    assert one == two
    assert "| all |" in table(one)


@pytest.mark.long
def test_contradictions_of_three_hundred_scenes_are_caught() -> None:
    figures = measured(range(20_000, 20_300))
    assert figures.caught_share >= 0.99, figures.missed[:20]
    assert figures.false_strike_share <= 0.02, figures.struck[:20]
