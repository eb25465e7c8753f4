"""Label maps of both kinds are read alike."""

from __future__ import annotations

import numpy as np
import pytest

from ai_models.array import labels
from ai_models.types import LabelMap

SHAPE = (3, 4, 5)


def exclusive_map() -> LabelMap:
    label_map: LabelMap = np.zeros(SHAPE, np.uint8)
    label_map[0, 1:3, 1:4] = 1
    label_map[2, 2, 2] = 64
    return label_map


def overlapping_map(*, shared: bool = True) -> LabelMap:
    one = exclusive_map()
    masks = {1: one == 1, 64: one == 64}
    if shared:
        masks[2] = np.zeros(SHAPE, bool)
        masks[2][0, 2, 1:5] = True
    return labels.overlapping(masks, SHAPE)


def test_both_kinds_tell_the_same_of_labels_that_share_nothing() -> None:
    one, several = exclusive_map(), overlapping_map(shared=False)
    assert labels.is_overlapping(several)
    assert not labels.is_overlapping(one)
    assert labels.values_in(one) == labels.values_in(several) == [1, 64]
    for value in (1, 2, 64):
        np.testing.assert_array_equal(labels.mask_of(one, value), labels.mask_of(several, value))
    for read in (labels.voxels_by_label, labels.voxels_by_slice, labels.occupied_slices):
        np.testing.assert_array_equal(read(one), read(several))
    np.testing.assert_array_equal(labels.exclusive(several), one)
    assert labels.exclusive(several).dtype == np.uint8


def test_labels_that_share_voxels_are_each_counted_whole() -> None:
    several = overlapping_map()
    assert labels.has_overlap(several)
    assert labels.voxels_by_label(several)[[0, 1, 2, 64]].tolist() == [0, 6, 4, 1]
    assert labels.voxels_by_slice(several)[:, 2].tolist() == [4, 0, 0]
    assert labels.occupied_slices(several)[:, [1, 2, 64]].tolist() == [
        [True, True, False], [False, False, False], [False, False, True],
    ]
    with pytest.raises(ValueError, match="several labels"):
        labels.exclusive(several)


def test_labels_that_may_overlap_and_do_not_are_said_not_to() -> None:
    assert not labels.has_overlap(overlapping_map(shared=False))
    assert not labels.has_overlap(exclusive_map())


@pytest.mark.parametrize("numbers", [{1: 1, 2: 2, 64: 64}, {1: 2, 2: 1, 64: 3}, {64: 1}])
def test_values_take_other_numbers_and_what_has_none_is_left_out(numbers: dict[int, int]) -> None:
    for label_map in (exclusive_map(), overlapping_map()):
        moved = labels.renumbered(label_map, numbers)
        assert moved.dtype == label_map.dtype
        present = set(labels.values_in(label_map)) & set(numbers)
        assert set(labels.values_in(moved)) == {numbers[value] for value in present}
        for value in present:
            np.testing.assert_array_equal(
                labels.mask_of(moved, numbers[value]), labels.mask_of(label_map, value)
            )


@pytest.mark.parametrize("value", [0, 65, 255])
def test_a_label_without_a_bit_holds_nowhere_and_cannot_be_put(value: int) -> None:
    assert not labels.mask_of(overlapping_map(), value).any()
    with pytest.raises(ValueError, match="from 1 to 64"):
        labels.overlapping({value: np.ones(SHAPE, bool)}, SHAPE)


def test_an_empty_map_has_no_labels() -> None:
    for kind in (np.uint8, np.uint64):
        empty: LabelMap = np.zeros(SHAPE, kind)
        assert labels.values_in(empty) == []
        assert not labels.voxels_by_label(empty).any()
        assert not labels.occupied_slices(empty).any()
