"""The classical lungs agree with the phantom's truth and keep gas, table and sides apart."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.array.lungs_reference import from_canonical, lungs_reference, to_canonical
from ai_models.array.phantom import chest_phantom

SHAPE = (80, 112, 112)
SPACING_MM = (4.0, 3.4, 3.4)


def _dice(found: np.ndarray, truth: np.ndarray) -> float:
    return 2.0 * float((found & truth).sum()) / float(found.sum() + truth.sum())


@pytest.mark.parametrize(
    "variation",
    [
        {},
        {"arms": "down", "enhancement_hu": 300.0, "noise_hu": 30.0},
        {"feet_first": True, "prone": True, "padding_hu": -2000},
        {"centre_mm": (0.0, 12.0, -100.0), "table": False},
    ],
)
def test_classical_lungs_agree_with_the_truth_of_the_phantom(variation: dict[str, object]) -> None:
    phantom = chest_phantom(1, SHAPE, SPACING_MM, **variation)
    found = lungs_reference(phantom.volume_hu, phantom.affine_lps)
    for label in (1, 2):
        assert _dice(found == label, phantom.label_map == label) > 0.95


def test_feet_first_array_gives_the_same_sides() -> None:
    phantom = chest_phantom(4, SHAPE, SPACING_MM)
    affine = phantom.affine_lps.copy()
    affine[:3, 3] += affine[:3, 0] * (SHAPE[0] - 1)
    affine[:3, 0] *= -1
    straight = lungs_reference(phantom.volume_hu, phantom.affine_lps)
    reversed_ = lungs_reference(phantom.volume_hu[::-1], affine)
    assert np.array_equal(straight, reversed_[::-1])


def test_sagittal_array_gives_the_same_lungs() -> None:
    phantom = chest_phantom(4, SHAPE, SPACING_MM)
    sagittal = np.ascontiguousarray(phantom.volume_hu.transpose(2, 0, 1)[:, ::-1])
    affine = phantom.affine_lps[:, [2, 0, 1, 3]].copy()
    affine[:3, 3] += affine[:3, 1] * (SHAPE[0] - 1)
    affine[:3, 1] *= -1
    found = lungs_reference(sagittal, affine)
    straight = lungs_reference(phantom.volume_hu, phantom.affine_lps)
    assert np.array_equal(found[:, ::-1].transpose(1, 2, 0), straight)


def test_gas_in_the_belly_and_foam_of_the_table_are_not_lung() -> None:
    phantom = chest_phantom(1, SHAPE, SPACING_MM, centre_mm=(0.0, 12.0, -60.0))
    found = lungs_reference(phantom.volume_hu, phantom.affine_lps)
    not_lung = (phantom.volume_hu < -930) & (phantom.label_map == 0)
    assert not_lung.sum() > 10_000
    assert (found[not_lung] > 0).mean() < 0.002


def test_air_alone_has_no_lungs() -> None:
    assert not lungs_reference(np.full((6, 20, 20), -1000), np.diag([2.0, 2.0, 2.0, 1.0])).any()


@pytest.mark.parametrize("shape", [(8, 8), (2, 2, 8, 8)])
def test_arrays_without_three_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="axes"):
        lungs_reference(np.zeros(shape), np.eye(4))


def test_singular_affine_is_refused() -> None:
    with pytest.raises(ValueError, match="singular"):
        lungs_reference(np.zeros((4, 4, 4)), np.diag([1.0, 0.0, 1.0, 1.0]))


def test_turning_to_the_canonical_axes_and_back_is_the_identity() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    affine = np.zeros((4, 4))
    affine[0, 1], affine[1, 2], affine[2, 0], affine[3, 3] = -2.0, 1.5, -3.0, 1.0
    turned, turned_affine = to_canonical(array, affine)
    assert np.all(np.diag(turned_affine[[2, 1, 0], :3]) > 0)
    assert np.array_equal(from_canonical(turned, affine), array)
