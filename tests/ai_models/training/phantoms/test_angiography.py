"""Clots lie in arteries, are darker than the blood there, and are known slice by slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ai_models.training.phantoms.angiography import (
    LEVELS,
    LOBAR,
    MAIN,
    SEGMENTAL,
    AngiographyVariation,
    angiography_phantom,
    pulmonary_tree,
    random_angiography,
)
from ai_models.training.phantoms.scanners import SCANNERS

SHAPE, SPACING = (60, 96, 128), (4.0, 2.6, 2.6)
QUIET = replace(SCANNERS[0], noise_hu=0.0, resolution_mm=0.3, slice_thickness_mm=0.5)


def test_a_clot_is_a_filling_defect_of_an_artery() -> None:
    phantom = angiography_phantom(5, SHAPE, SPACING, AngiographyVariation(clots=3), QUIET)
    clots, arteries = phantom.clots > 0, phantom.arteries > 0
    assert clots.any() and not (clots & ~arteries).any()
    open_blood = float(np.median(phantom.volume_hu[arteries & ~clots]))
    assert float(np.median(phantom.volume_hu[clots])) < open_blood - 100.0


def test_without_clots_no_slice_has_one() -> None:
    phantom = angiography_phantom(5, SHAPE, SPACING, AngiographyVariation(clots=0), QUIET)
    assert not phantom.clots.any() and not phantom.slices_with_clot.any()
    assert phantom.arteries.any() and phantom.levels == ()


def test_slices_with_a_clot_are_those_in_which_enough_of_it_is_cut() -> None:
    phantom = angiography_phantom(6, SHAPE, SPACING, AngiographyVariation(clots=2), QUIET)
    area = phantom.clots.sum(axis=(1, 2)) * SPACING[1] * SPACING[2]
    assert phantom.slices_with_clot.tolist() == (area >= 20.0).tolist()


@pytest.mark.parametrize("level", [MAIN, LOBAR, SEGMENTAL])
def test_the_first_clot_lies_in_arteries_of_the_level_asked_for(level: int) -> None:
    variation = AngiographyVariation(clots=1, level=level)
    phantom = angiography_phantom(7, SHAPE, SPACING, variation, QUIET)
    assert phantom.levels == (level,)


def test_the_same_seed_gives_the_same_phantom_and_another_gives_another() -> None:
    first, again, other = (angiography_phantom(seed, SHAPE, SPACING) for seed in (8, 8, 9))
    assert np.array_equal(first.volume_hu, again.volume_hu)
    assert np.array_equal(first.clots, again.clots)
    assert not np.array_equal(first.volume_hu, other.volume_hu)


def test_branches_get_thinner_from_level_to_level() -> None:
    tree = pulmonary_tree(np.random.default_rng(0))
    widest = [max(one.radius_mm for one in tree if one.level == level) for level in range(4)]
    assert widest == sorted(widest, reverse=True) and len(LEVELS) == 4


def test_only_an_embolism_has_clots() -> None:
    rng = np.random.default_rng(1)
    assert random_angiography(rng, embolism=True).clots >= 1
    assert random_angiography(rng, embolism=False).clots == 0


def test_a_grid_on_which_clots_would_not_be_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="288 columns"):
        angiography_phantom(1, (8, 64, 300), SPACING)
