"""The phantom is a chest: sides, repeatability, partial scans, lying positions."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.array.phantom import LEFT_LUNG, RIGHT_LUNG, ChestPhantom, chest_phantom

SHAPE = (48, 80, 80)
SPACING_MM = (6.0, 5.0, 5.0)


def _mean_position_lps(phantom: ChestPhantom, label: int) -> np.ndarray:
    indices = np.argwhere(phantom.label_map == label)
    homogeneous = np.concatenate([indices, np.ones((len(indices), 1))], axis=1)
    return (homogeneous @ phantom.affine_lps.T)[:, :3].mean(axis=0)


@pytest.mark.parametrize("feet_first", [False, True])
@pytest.mark.parametrize("prone", [False, True])
def test_right_lung_lies_on_the_patients_right_however_the_patient_lies(
    feet_first: bool, prone: bool
) -> None:
    phantom = chest_phantom(3, SHAPE, SPACING_MM, feet_first=feet_first, prone=prone)
    assert _mean_position_lps(phantom, RIGHT_LUNG)[0] < -20.0
    assert _mean_position_lps(phantom, LEFT_LUNG)[0] > 20.0


def test_same_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    first, again = chest_phantom(5, SHAPE, SPACING_MM), chest_phantom(5, SHAPE, SPACING_MM)
    other = chest_phantom(6, SHAPE, SPACING_MM)
    assert np.array_equal(first.volume_hu, again.volume_hu)
    assert np.array_equal(first.label_map, again.label_map)
    assert not np.array_equal(first.label_map, other.label_map)


def test_default_chest_has_two_lungs_of_adult_volume() -> None:
    phantom = chest_phantom(1)
    voxel_ml = float(abs(np.linalg.det(phantom.affine_lps[:3, :3]))) / 1000.0
    for label in (RIGHT_LUNG, LEFT_LUNG):
        assert 800.0 < float((phantom.label_map == label).sum()) * voxel_ml < 4000.0
    lungs = phantom.volume_hu[phantom.label_map > 0]
    assert -900.0 < float(np.median(lungs)) < -750.0


def test_feet_first_reverses_the_slices_and_nothing_else() -> None:
    head = chest_phantom(4, SHAPE, SPACING_MM)
    feet = chest_phantom(4, SHAPE, SPACING_MM, feet_first=True)
    assert np.array_equal(head.volume_hu, feet.volume_hu[::-1])
    last = head.affine_lps @ np.array([SHAPE[0] - 1, 0, 0, 1])
    assert np.allclose(feet.affine_lps @ np.array([0, 0, 0, 1]), last)


def test_abdomen_below_the_lungs_has_gas_but_no_lung() -> None:
    phantom = chest_phantom(
        8, (20, 80, 80), SPACING_MM, centre_mm=(0.0, 12.0, -260.0), table=False, padding_hu=None
    )
    assert not phantom.label_map.any()
    assert (phantom.volume_hu[:, 30:50, 30:50] > -200).any()


def test_padding_fills_the_corners_and_holds_no_lung() -> None:
    phantom = chest_phantom(2, SHAPE, SPACING_MM, padding_hu=-2000)
    assert (phantom.volume_hu[:, 0, 0] == -2000).all()
    assert not phantom.label_map[phantom.volume_hu == -2000].any()


def test_grid_of_more_than_288_columns_is_drawn_in_full() -> None:
    phantom = chest_phantom(2, (2, 320, 320), (5.0, 1.2, 1.2))
    assert phantom.volume_hu.shape == phantom.label_map.shape == (2, 320, 320)
    assert set(np.unique(phantom.label_map)) == {0, RIGHT_LUNG, LEFT_LUNG}


def test_single_slice_can_be_drawn() -> None:
    assert chest_phantom(2, (1, 80, 80), SPACING_MM).label_map.any()


@pytest.mark.parametrize(("shape", "variation"), [((0, 8, 8), {}), ((4, 8, 8), {"heads": 2})])
def test_impossible_requests_are_refused(
    shape: tuple[int, int, int], variation: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"positive|unknown variation: heads"):
        chest_phantom(1, shape, SPACING_MM, **variation)
