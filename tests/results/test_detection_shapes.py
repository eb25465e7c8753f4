"""Shapes that overlap are cut, and none is lost by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_models.array.labels import is_overlapping, mask_of, values_in
from dicom_node.errors import ModelFailed
from dicom_node.results.detection_shapes import Shape, painted

GRID = (2, 6, 8)


def block(
    first: tuple[int, int, int], last: tuple[int, int, int], score: float = 0.9
) -> Shape:
    """All voxels from ``first`` to ``last``, both in it."""
    place = tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))
    size = tuple(high - low + 1 for low, high in zip(first, last, strict=True))
    centre = tuple((low + high) // 2 for low, high in zip(first, last, strict=True))
    return Shape(
        (place[0], place[1], place[2]), np.ones(size, bool), (centre[0], centre[1], centre[2]),
        score,
    )


def on_line(*columns: tuple[int, int]) -> list[Shape]:
    """Blocks of one row, each from a first to a last column."""
    return [block((0, 0, first), (0, 0, last)) for first, last in columns]


def test_a_smaller_shape_lies_whole_over_a_larger_one_whatever_their_scores() -> None:
    large, small = block((0, 0, 0), (1, 4, 4), 0.99), block((0, 2, 2), (0, 3, 3), 0.5)
    for shapes in ([large, small], [small, large]):
        label_map, is_cut = painted(shapes, GRID)
        assert is_cut and label_map.dtype == np.uint8
        counts = np.bincount(label_map.ravel())
        assert counts[1 + shapes.index(small)] == 4
        assert counts[1 + shapes.index(large)] == 50 - 4


def test_shapes_that_lie_apart_are_not_cut() -> None:
    label_map, is_cut = painted(on_line((0, 2), (3, 5)), GRID)
    assert not is_cut
    assert label_map[0, 0].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]


def test_of_two_in_the_same_place_the_likelier_is_seen_and_the_other_keeps_a_voxel() -> None:
    shapes = [block((0, 1, 1), (0, 3, 3), 0.6), block((0, 1, 1), (0, 3, 3), 0.8)]
    label_map, is_cut = painted(shapes, GRID)
    assert is_cut
    assert np.argwhere(label_map == 1).tolist() == [[0, 2, 2]]
    assert (label_map == 2).sum() == 8


def test_one_that_smaller_ones_cover_takes_back_the_voxel_at_its_centre() -> None:
    label_map, _ = painted(on_line((0, 4), (0, 2), (3, 4)), GRID)
    assert label_map[0, 0].tolist() == [2, 2, 1, 3, 3, 0, 0, 0]


def test_who_gives_up_its_last_voxel_gets_another_one_of_its_own() -> None:
    # The second has but what the first and the third hold alone; the third can go to the fourth's.
    shapes = on_line((0, 0), (0, 1), (1, 2), (2, 3))
    shapes.append(block((0, 0, 1), (0, 0, 1)))
    label_map, _ = painted(shapes, GRID)
    assert label_map[0, 0].tolist() == [1, 5, 3, 4, 0, 0, 0, 0] or is_overlapping(label_map)
    shapes = [*on_line((3, 3), (2, 3), (1, 2), (0, 1))]
    label_map, _ = painted(shapes, GRID)
    assert label_map[0, 0].tolist() == [4, 3, 2, 1, 0, 0, 0, 0]


def test_where_there_are_fewer_voxels_than_findings_all_are_whole_and_share_them() -> None:
    shapes = [*on_line((2, 2), (2, 2), (1, 5))]
    label_map, is_cut = painted(shapes, GRID)
    assert is_overlapping(label_map) and not is_cut
    assert [int(mask_of(label_map, value).sum()) for value in (1, 2, 3)] == [1, 1, 5]


def test_of_more_than_64_that_have_no_voxels_of_their_own_none_is_believed() -> None:
    with pytest.raises(ModelFailed, match="more than 64") as caught:
        painted(on_line((2, 2)) * 65, GRID)
    assert caught.value.reason == "model.wrong_output"


@st.composite
def blocks(draw: st.DrawFn) -> Shape:
    first = [draw(st.integers(0, size - 1)) for size in GRID]
    last = [
        draw(st.integers(low, min(low + 2, size - 1)))
        for low, size in zip(first, GRID, strict=True)
    ]
    return block(
        (first[0], first[1], first[2]), (last[0], last[1], last[2]), draw(st.floats(0, 1))
    )


@given(st.lists(blocks(), min_size=1, max_size=12))
def test_every_finding_keeps_a_voxel_and_none_has_one_outside_of_its_shape(
    shapes: list[Shape],
) -> None:
    label_map, is_cut = painted(shapes, GRID)
    whole = [np.zeros(GRID, bool) for _ in shapes]
    for mask, shape in zip(whole, shapes, strict=True):
        mask[shape.place] = shape.marked
    assert values_in(label_map) == list(range(1, len(shapes) + 1))
    drawn = [mask_of(label_map, value) for value in range(1, len(shapes) + 1)]
    for mask, all_of_it in zip(drawn, whole, strict=True):
        assert not (mask & ~all_of_it).any()
    assert ((label_map != 0) == np.logical_or.reduce(whole)).all()
    cut = any((mask != all_of_it).any() for mask, all_of_it in zip(drawn, whole, strict=True))
    assert cut == is_cut
