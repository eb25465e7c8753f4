"""PET and CT of a phantom show one lesion at one place, with the uptake that was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ai_models.training.phantoms.pet import (
    PET_SCANNERS,
    PetCtVariation,
    petct_phantom,
    random_petct,
)

SHAPE, SPACING = (60, 80, 100), (4.5, 4.0, 4.0)
SHARP = replace(PET_SCANNERS[0], fwhm_mm=3.0, noise=0.0)
LARGE = PetCtVariation(radius_mm=20.0, lobulated=False, lesion_suv=9.0)


def place_of(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    return (affine @ np.array([*index, 1.0]))[:3]


def test_the_hottest_place_of_the_pet_is_the_lesion_of_the_ct() -> None:
    phantom = petct_phantom(3, SHAPE, SPACING, LARGE, pet_scanner=SHARP)
    hottest = np.array(np.unravel_index(int(phantom.suv.argmax()), phantom.suv.shape))
    middle = np.argwhere(phantom.lesion).mean(axis=0)
    apart = place_of(phantom.pet_affine_lps, hottest) - place_of(phantom.ct_affine_lps, middle)
    assert np.linalg.norm(apart) < 20.0
    assert float(phantom.suv.max()) == pytest.approx(9.0, rel=0.1)


def test_both_grids_have_the_same_middle() -> None:
    phantom = petct_phantom(3, SHAPE, SPACING, LARGE)
    middles = [
        place_of(affine, (np.array(array.shape) - 1) / 2.0)
        for affine, array in (
            (phantom.ct_affine_lps, phantom.volume_hu), (phantom.pet_affine_lps, phantom.suv)
        )
    ]
    assert np.allclose(middles[0], middles[1], atol=0.01)


def test_a_blur_takes_uptake_from_a_small_lesion() -> None:
    small = replace(LARGE, radius_mm=6.0)
    seen = [
        float(petct_phantom(3, SHAPE, SPACING, small, pet_scanner=replace(SHARP, fwhm_mm=f))
              .suv.max())
        for f in (3.0, 9.0)
    ]
    assert seen[1] < seen[0] < 9.5


def test_without_a_lesion_the_mask_is_empty() -> None:
    phantom = petct_phantom(4, SHAPE, SPACING, PetCtVariation(lesion=False, malignant=False))
    assert not phantom.lesion.any()


def test_malignant_lesions_take_up_more_and_their_patients_smoke_more() -> None:
    rng = np.random.default_rng(0)
    drawn = {
        kind: [random_petct(rng, malignant=kind) for _ in range(300)] for kind in (True, False)
    }
    uptake = {kind: np.median([one.lesion_suv for one in some]) for kind, some in drawn.items()}
    smoke = {kind: np.mean([bool(one.patient.smokes) for one in some])
             for kind, some in drawn.items()}
    assert uptake[True] > 2 * uptake[False] and smoke[True] > smoke[False]
    assert any(one.patient.smokes is None for one in drawn[True])
    assert all(one.lesion for one in drawn[True]) and not all(one.lesion for one in drawn[False])
