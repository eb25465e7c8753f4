from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.training.segmentation_objects import labels_of, read_segments
from ai_models.training.settings import TrainingError
from dicom_node.imaging.volume import load_volume
from tests.dicom_samples import ct_series, write_series
from tests.results.samples import LABELS, SHAPE, headers, segmentation_of


def written(folder: Path, mask: Any, **geometry: Any) -> tuple[Any, Path]:
    """A series as the node loads it, and the node's own Segmentation of it."""
    datasets = ct_series(SHAPE, **geometry)
    volume = load_volume(write_series(datasets, folder / "ct")).volume
    segmentation = segmentation_of(headers(datasets), mask)
    path = folder / "seg.dcm"
    segmentation.save_as(path, enforce_file_format=True)
    return volume, path


def a_mask(seed: int = 0) -> Any:
    """Blocks that are nowhere symmetric, and slices without any."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:6, 5:20, 7:30] = 1
    mask[4:7, 18:30, 33:44] = 2
    mask[rng.random(SHAPE) > 0.98] = 0
    return mask


@pytest.mark.parametrize("geometry", [
    {},
    {"orientation": (0, 1, 0, 0, 0, -1)},
    {"orientation": (0.96, 0.28, 0, -0.28, 0.96, 0), "spacing_mm": (3.0, 0.9, 0.6)},
])
def test_a_segmentation_of_the_node_comes_back_voxel_by_voxel(
    tmp_path: Path, geometry: dict[str, Any]
) -> None:
    mask = a_mask()
    volume, path = written(tmp_path, mask, **geometry)
    found = labels_of([path], LABELS, volume.array.shape, volume.affine_lps)
    # The node orders slices along the normal, the data sets above are in that order already.
    assert np.array_equal(found, mask)


def test_segments_are_found_by_name_and_else_by_their_code(tmp_path: Path) -> None:
    volume, path = written(tmp_path, a_mask())
    assert [one.number for one in read_segments(path)] == [1, 2]
    from dataclasses import replace

    renamed = tuple(replace(one, name=f"other {one.value}") for one in LABELS)
    found = labels_of([path], renamed, volume.array.shape, volume.affine_lps)
    assert np.array_equal(found, a_mask())


def test_an_object_without_any_of_the_labels_is_no_empty_truth(tmp_path: Path) -> None:
    from dataclasses import replace

    from ai_models.types import Code

    volume, path = written(tmp_path, a_mask())
    heart = replace(LABELS[0], name="Heart", type=Code("80891009", "SCT", "Heart"))
    with pytest.raises(TrainingError, match="none of its segments is Heart"):
        labels_of([path], [heart], volume.array.shape, volume.affine_lps)


def test_labels_may_share_voxels_where_the_card_says_so(tmp_path: Path) -> None:
    volume, path = written(tmp_path, a_mask())
    found = labels_of([path], LABELS, volume.array.shape, volume.affine_lps, overlap=True)
    assert found.dtype == np.uint64
    assert np.array_equal((found & 2) > 0, a_mask() == 2)


def test_a_grid_that_ends_inside_keeps_what_lies_in_it(tmp_path: Path) -> None:
    mask = a_mask()
    volume, path = written(tmp_path, mask)
    found = labels_of([path], LABELS, (5, *SHAPE[1:]), volume.affine_lps)
    assert np.array_equal(found, mask[:5])
