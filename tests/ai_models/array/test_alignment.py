"""Two examinations of one chest laid over each other: a place of the one is found in the other."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from ai_models.array.alignment import align
from ai_models.array.phantom import chest_phantom
from ai_models.types import Volume

POINTS = ((60.0, 0.0, 0.0), (-60.0, 20.0, -40.0), (50.0, -30.0, 40.0))


def moved(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> (
    npt.NDArray[np.float64]
):
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = shift_mm
    return motion


@cache
def present() -> Volume:
    chest = chest_phantom(3, (44, 90, 90), (7.0, 4.2, 4.2))
    return Volume(chest.volume_hu, chest.affine_lps)


def seen_before(motion: npt.NDArray[np.float64], seed: int = 3) -> Volume:
    """The chest on another table: other slices, noise and field of view."""
    chest = chest_phantom(
        seed, (50, 100, 100), (6.0, 3.6, 3.6), noise_hu=25.0, centre_mm=(4.0, 10.0, -15.0)
    )
    return Volume(chest.volume_hu, motion @ chest.affine_lps)


def test_a_place_of_the_earlier_examination_is_found_in_the_present_one_always_the_same() -> None:
    motion = moved((4.0, -3.0, 6.0), (15.0, -12.0, 80.0))
    earlier = seen_before(motion)
    found = align(present(), earlier)
    assert found.is_trusted and found.overlap > 0.8
    for point in POINTS:
        x, y, z = (motion @ np.array([*point, 1.0]))[:3]
        assert np.linalg.norm(np.array(found.place((x, y, z))) - point) < 2.5
    # To the last bit: results are named after their input.
    assert np.array_equal(found.to_present_lps, align(present(), earlier).to_present_lps)


def test_another_part_of_a_body_is_not_trusted() -> None:
    random = np.random.default_rng(2).normal(-400, 400, present().array.shape)
    found = align(present(), Volume(random.astype(np.int16), present().affine_lps))
    assert not found.is_trusted


def test_what_is_empty_or_in_another_unit_is_refused() -> None:
    empty = Volume(np.full((40, 64, 64), -1000, np.int16), present().affine_lps)
    with pytest.raises(ValueError, match="too small"):
        align(present(), empty)
    with pytest.raises(ValueError, match="arbitrary cannot be laid over HU"):
        align(present(), Volume(present().array, present().affine_lps, "arbitrary"))
