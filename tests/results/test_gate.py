from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.errors import GateRefused
from dicom_node.results.gate import check_report
from dicom_node.results.report import build_planar_report, build_volumetric_report
from tests.results import samples


@pytest.fixture(scope="module")
def datasets() -> list[Dataset]:
    return samples.ct()


def test_a_report_passes_with_what_it_was_made_from(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    segmentation = samples.segmentation_of(datasets, mask)
    request = samples.request_for(datasets)
    volumetric = build_volumetric_report(
        request, segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    planar = build_planar_report(request, mask, series_number=9102)
    assert planar is not None
    check_report(volumetric, datasets, [segmentation])
    check_report(planar, datasets)


def test_a_report_without_its_segmentation_is_refused(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    segmentation = samples.segmentation_of(datasets, mask)
    report = build_volumetric_report(
        samples.request_for(datasets), segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    other = copy.deepcopy(segmentation)
    other.SOPInstanceUID = generate_uid()
    with pytest.raises(GateRefused, match="was not made from"):
        check_report(report, datasets, [other])


def test_a_report_on_a_segment_that_does_not_exist_is_refused(datasets: list[Dataset]) -> None:
    mask = samples.lungs()
    segmentation = samples.segmentation_of(datasets, mask)
    report = build_volumetric_report(
        samples.request_for(datasets), segmentation, mask, samples.MEASUREMENTS, series_number=9101
    )
    fewer = copy.deepcopy(segmentation)
    del fewer.SegmentSequence[1]
    with pytest.raises(GateRefused, match="segment that does not exist"):
        check_report(report, datasets, [fewer])


def test_a_report_on_other_images_is_refused(datasets: list[Dataset]) -> None:
    request = samples.request_for(datasets)
    report = build_planar_report(replace(request), samples.lungs(), series_number=9102)
    assert report is not None
    with pytest.raises(GateRefused) as refused:
        check_report(report, datasets[3:])
    assert refused.value.reason == "gate.reference"
