"""What this says of a stack is compared with highdicom's own words in test_segmentation_frames."""

from __future__ import annotations

import pytest

from dicom_node.errors import UnsuitableInput
from tests.results import samples


def test_two_slices_at_one_place_are_unsuitable() -> None:
    datasets = samples.ct()
    datasets[4].ImagePositionPatient = datasets[3].ImagePositionPatient
    with pytest.raises(UnsuitableInput) as refused:
        samples.segmentation_of(datasets, samples.lungs())
    assert refused.value.reason == "input.duplicate_positions"


def test_every_slice_is_named_as_a_source_whether_it_shows_something_or_not() -> None:
    datasets = samples.ct()
    segmentation = samples.segmentation_of(datasets, samples.lungs())
    known = [dataset.SOPInstanceUID for dataset in datasets]
    series = segmentation.ReferencedSeriesSequence[0]
    assert [one.ReferencedSOPInstanceUID for one in segmentation.SourceImageSequence] == known
    assert [one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence] == known
