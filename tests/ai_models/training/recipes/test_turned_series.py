"""A turned series shows the same patient: everything stays at its place in mm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ai_models.training.recipes.turned_series import lying_turned, on_turned_grid, turned
from ai_models.types import Image, JointInput, Volume

TURN = np.asarray(Rotation.from_rotvec(np.radians(20.0) * np.array([0.8, 0.6, 0.0])).as_matrix())
AFFINE = np.array([[0.0, 0, 2, -40], [0, 2, 0, -30], [3, 0, 0, -45], [0, 0, 0, 1]])


def marked() -> tuple[Volume, np.ndarray]:
    """A warm ball off the middle, and its mask."""
    array = np.full((30, 30, 40), -1000, dtype=np.int16)
    index = np.indices(array.shape).reshape(3, -1)
    places = AFFINE[:3, :3] @ index + AFFINE[:3, 3:]
    inside = np.linalg.norm(places - np.array([[8.0], [-5.0], [6.0]]), axis=0) < 12.0
    mask = inside.reshape(array.shape).astype(np.uint8)
    array[mask > 0] = 50
    return Volume(array, AFFINE), mask


def middle_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray((affine[:3, :3] @ np.argwhere(mask).T + affine[:3, 3:]).mean(axis=1))


def test_on_a_turned_grid_image_and_mask_stay_where_they_are_in_the_patient() -> None:
    volume, mask = marked()
    shown, there = on_turned_grid(volume, mask, TURN)
    assert isinstance(shown, Volume) and there is not None
    assert shown.array.shape == volume.array.shape and shown.array.dtype == np.int16
    assert np.degrees(np.arccos(shown.affine_lps[2, 0] / 3.0)) > 15.0
    for found in (there, np.asarray(shown.array, dtype=np.int64) > -400):
        assert np.linalg.norm(
            middle_mm(found, shown.affine_lps) - middle_mm(mask, AFFINE)
        ) < 0.5
    # Beyond the old grid there is nothing.
    assert shown.array.min() == -1000


def test_a_patient_lies_turned_with_all_that_is_shown_of_him_and_no_sample_is_changed() -> None:
    volume, mask = marked()
    pet = Volume(volume.array.astype(np.float32), AFFINE @ np.diag([2.0, 2, 2, 1]), "SUVbw")
    joint = JointInput(volume, phases=(volume, volume), companions={"pt": pet, "t2": None})
    shown = lying_turned(joint, TURN)
    assert isinstance(shown, JointInput) and shown.companions["t2"] is None
    turned_pet = shown.companions["pt"]
    assert turned_pet is not None and turned_pet.unit == "SUVbw"
    assert np.array_equal(shown.reference.array, volume.array)
    motion = shown.reference.affine_lps @ np.linalg.inv(AFFINE)
    assert np.allclose(turned_pet.affine_lps, motion @ pet.affine_lps)
    assert np.allclose(shown.phases[1].affine_lps, shown.reference.affine_lps)
    assert np.allclose(np.linalg.det(motion[:3, :3]), 1.0)
    assert not np.allclose(middle_mm(mask, shown.reference.affine_lps), middle_mm(mask, AFFINE))


def test_the_same_random_numbers_turn_alike_and_an_image_cannot_be_turned() -> None:
    volume, mask = marked()
    first, second = (turned(volume, mask, np.random.default_rng(4)) for _ in range(2))
    assert isinstance(first[0], Volume) and isinstance(second[0], Volume)
    assert np.array_equal(first[0].array, second[0].array)
    assert np.array_equal(first[0].affine_lps, second[0].affine_lps)
    with pytest.raises(TypeError):
        turned(Image(np.zeros((4, 4), np.float32), None), None, np.random.default_rng(1))
