"""Volumes, intensities and centres against what the voxels say one by one."""

from __future__ import annotations

import numpy as np
import pytest

import ai_models.array.measurements as measurements
from ai_models.array.measurements import measure
from ai_models.types import Volume


def random_case() -> tuple[np.ndarray, Volume]:
    random = np.random.default_rng(6)
    affine = np.eye(4)
    affine[:3, :3] = [[0.1, 0.0, 0.8], [0.9, 0.7, 0.0], [3.0, 0.1, 0.05]]
    affine[:3, 3] = [-100.0, -200.0, 50.0]
    array = random.integers(-1000, 1000, (11, 13, 17)).astype(np.int16)
    return random.integers(0, 4, array.shape).astype(np.uint8), Volume(array, affine)


@pytest.mark.parametrize("slab_voxels", [1, 500, 10**7])
def test_measures_agree_with_the_voxels_one_by_one(
    slab_voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "SLAB_VOXELS", slab_voxels)
    labels, volume = random_case()
    found = measure(labels, volume)
    assert sorted(found) == [1, 2, 3]
    for value, one in found.items():
        index = np.argwhere(labels == value)
        values = volume.array[labels == value]
        assert one.voxel_count == len(index)
        assert one.volume_ml == pytest.approx(
            len(index) * abs(np.linalg.det(volume.affine_lps[:3, :3])) / 1000)
        assert one.mean_hu == pytest.approx(values.mean())
        assert one.standard_deviation_hu == pytest.approx(values.std())
        points = index @ volume.affine_lps[:3, :3].T + volume.affine_lps[:3, 3]
        assert one.centroid_lps_mm == pytest.approx(tuple(points.mean(axis=0)))


@pytest.mark.parametrize("labels_each", [3, 40])
def test_whole_numbers_and_the_same_as_floats_measure_alike(labels_each: int) -> None:
    random = np.random.default_rng(7)
    labels = random.integers(0, labels_each, (6, 23, 19)).astype(np.uint8)
    labels[:, :4], labels[2] = 0, 0
    array = random.integers(-32768, 32767, labels.shape).astype(np.int16)
    assert measure(labels, Volume(array, np.eye(4))) == measure(
        labels, Volume(array.astype(np.float32), np.eye(4))
    )


def test_sheared_voxel_has_the_volume_of_its_determinant() -> None:
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    affine[1, 0] = 3.0
    one = measure(np.ones((2, 2, 2), np.uint8), Volume(np.zeros((2, 2, 2), np.int16), affine))[1]
    assert one.volume_ml == pytest.approx(0.04)


def test_label_that_does_not_occur_is_absent() -> None:
    assert measure(np.zeros((2, 3, 4), np.uint8), Volume(np.zeros((2, 3, 4)), np.eye(4))) == {}


def test_label_map_of_another_grid_is_an_error() -> None:
    with pytest.raises(ValueError, match="label map"):
        measure(np.zeros((2, 3, 4), np.uint8), Volume(np.zeros((2, 3, 5)), np.eye(4)))
