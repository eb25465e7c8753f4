"""Drawn wrists: bones that lack mineral are thinner, and how a picture is exposed does not tell."""

from __future__ import annotations

import numpy as np

from ai_models.training.phantoms.bones import XRAY_UNITS
from ai_models.training.phantoms.wrists import (
    LIMIT,
    WristVariation,
    random_wrist,
    wrist_radiograph,
)


def shell(deviation: float, unit: int = 0) -> float:
    """How much whiter the radius is than the flesh beside it."""
    picture = wrist_radiograph(4, WristVariation(deviation), XRAY_UNITS[unit])
    return float(picture[125:150, 62:80].max(axis=1).mean() - picture[125:150, 88:96].mean())


def test_a_bone_that_lacks_mineral_takes_less_away() -> None:
    found = [shell(one) for one in (1.0, -1.0, -3.0)]
    assert found[0] > found[1] > found[2]


def test_the_truth_is_what_was_drawn() -> None:
    rng = np.random.default_rng(0)
    low = [random_wrist(rng, low=True) for _ in range(50)]
    dense = [random_wrist(rng, low=False) for _ in range(50)]
    assert all(one.is_low and one.deviation < LIMIT for one in low)
    assert not any(one.is_low for one in dense)


def test_brightness_alone_tells_little() -> None:
    rng = np.random.default_rng(1)
    means = {
        low: [
            float(wrist_radiograph(i, random_wrist(rng, low=low), XRAY_UNITS[i % 3]).mean())
            for i in range(9)
        ]
        for low in (True, False)
    }
    # Units differ more than bones do.
    assert min(means[False]) < max(means[True])
    assert np.ptp(means[True]) > abs(np.mean(means[True]) - np.mean(means[False]))
