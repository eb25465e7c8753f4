"""Parts of a label keep their Tracking UID by their place, whatever number they are given."""

from __future__ import annotations

import numpy as np

from ai_models.array.measurements import measure
from ai_models.prediction.instances import separated
from ai_models.types import Code, Label, Volume
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.segmentation_segments import tracking_uid
from dicom_node.results.tracked_parts import tracked_parts

SERIES = "1.2.3"
NODULE = Label(1, "Nodule", Code("a", "99T", "b"), Code("c", "99T", "d"), (1, 2, 3))


def uids_by_size(sizes: tuple[int, int]) -> dict[int, str]:
    """Of two balls at two places, one of each size: Tracking UID by the column it lies at."""
    label_map = np.zeros((12, 12, 40), np.uint8)
    for column, size in zip((4, 28), sizes, strict=True):
        label_map[2 : 2 + size, 2 : 2 + size, column : column + size] = 1
    affine = np.eye(4)[[2, 1, 0, 3]]
    parts, labels, _ = separated(label_map, (NODULE,))
    measured = measure(parts, Volume(np.zeros(parts.shape, np.int16), affine))
    identity = tracked_parts(
        ResultIdentity({"1.2.3.4": "0" * 64}, "m", "1", "1" * 64, {}), labels, measured, SERIES)
    return {
        int(np.argwhere(parts == label.value)[:, 2].min()): tracking_uid(identity, SERIES, label)
        for label in labels
    }


def test_the_largest_keeps_its_uid_when_another_becomes_the_largest() -> None:
    before, after = uids_by_size((5, 4)), uids_by_size((4, 5))
    assert before == after
    assert len(set(before.values())) == 2


def test_labels_without_voxels_have_the_uid_of_always() -> None:
    identity = ResultIdentity({"1.2.3.4": "0" * 64}, "m", "1", "1" * 64, {})
    assert tracking_uid(tracked_parts(identity, (NODULE,), {}, SERIES), SERIES, NODULE) == (
        tracking_uid(identity, SERIES, NODULE))
