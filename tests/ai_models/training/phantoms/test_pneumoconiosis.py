"""Drawn chests: profusion is what was drawn, outlines are of the lungs, and sides are right."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.training.phantoms.bones import XRAY_UNITS
from ai_models.training.phantoms.pneumoconiosis import (
    CATEGORIES,
    LEFT_LUNG,
    RIGHT_LUNG,
    ChestVariation,
    chest_radiograph,
    random_chest,
)


def grain(category: int) -> float:
    """How much finer than the rest of a chest what lies in its lungs is."""
    from scipy import ndimage

    chest = chest_radiograph(5, ChestVariation(category), XRAY_UNITS[1])
    fine = chest.displayed - ndimage.gaussian_filter(chest.displayed, 3.0)
    return float(fine[chest.lungs > 0].std())


def test_more_profusion_is_more_grain() -> None:
    found = [grain(one) for one in CATEGORIES]
    assert found == sorted(found)
    assert found[3] > 1.5 * found[0]


def test_the_truth_is_what_was_drawn() -> None:
    assert [ChestVariation(one).is_sick for one in CATEGORIES] == [False, True, True, True]
    rng = np.random.default_rng(0)
    assert {random_chest(rng, 2).kind for _ in range(30)} == {"q", "r"}


@pytest.mark.parametrize("number", range(4))
def test_outlines_are_of_dark_lungs_on_their_sides(number: int) -> None:
    chest = chest_radiograph(
        number, random_chest(np.random.default_rng(number), number), XRAY_UNITS[number % 3]
    )
    assert chest.displayed.shape == chest.lungs.shape
    assert chest.displayed.min() >= 0.0 and chest.displayed.max() <= 1.0
    columns = {value: np.nonzero(chest.lungs == value)[1] for value in (RIGHT_LUNG, LEFT_LUNG)}
    # Patient Orientation L\F: the patient's right is at the left of the picture.
    assert columns[RIGHT_LUNG].max() < columns[LEFT_LUNG].min()
    # The heart takes of the left lung.
    assert 0 < len(columns[LEFT_LUNG]) < len(columns[RIGHT_LUNG])
    middle = chest.lungs.shape[1] // 2
    spine = chest.displayed[100:200, middle - 25 : middle + 25].max(axis=1).mean()
    assert chest.displayed[chest.lungs > 0].mean() < 0.8 * spine


def test_the_same_seed_gives_the_same_chest() -> None:
    one, two = (chest_radiograph(3, ChestVariation(2), XRAY_UNITS[0]) for _ in range(2))
    assert np.array_equal(one.displayed, two.displayed)
    other = chest_radiograph(4, ChestVariation(2), XRAY_UNITS[0])
    assert not np.array_equal(one.displayed, other.displayed)
