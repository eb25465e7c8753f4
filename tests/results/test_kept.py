from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.types import Code
from dicom_node.results import gate
from dicom_node.results.kept import (
    Kept,
    codes_in_words_of,
    quantities_of,
    request_from,
    saliency_of,
    sentences_of,
)
from dicom_node.results.report import build_volumetric_report
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.segmentation import build_label_map_segmentation
from tests.results import kept_samples, samples


def request_of(kept: Kept, datasets: list[Dataset]) -> ResultRequest:
    return request_from(kept, datasets, [1] * len(datasets), samples.EQUIPMENT)


def test_what_is_kept_tells_who_made_it_from_what_and_when(tmp_path: Path) -> None:
    datasets = samples.ct()
    earlier = Reference("1.2.840.10008.5.1.4.1.1.88.34", "2.25.7", "2.25.8", "2.25.9")
    kept = kept_samples.lungs(datasets, predecessors=(earlier,), is_final=True, language="de")
    read = request_of(kept_samples.from_files(kept, tmp_path), datasets)
    assert read.algorithm == samples.ALGORITHM
    assert read.labels == samples.LABELS
    assert read.created_at == samples.CREATED_AT
    assert read.predecessors == (earlier,)
    assert (read.language, read.is_final, read.is_complete) == ("de", True, True)


def test_the_time_of_making_keeps_its_fraction() -> None:
    moment = datetime(2026, 11, 22, 14, 30, 15, 123456)  # noqa: DTZ001 - a wall clock
    datasets = samples.ct()
    kept = kept_samples.negative(datasets, created_at=moment)
    assert request_of(kept, datasets).created_at == moment


@pytest.mark.parametrize("kind", ["negative", "not_analysed"])
def test_a_report_without_findings_still_tells_its_model(kind: str) -> None:
    datasets = samples.ct()
    kept = getattr(kept_samples, kind)(datasets)
    read = request_of(kept, datasets)
    assert read.algorithm == replace(samples.ALGORITHM, parameters={})
    assert read.labels == ()


def test_a_region_and_a_long_name_of_a_label_survive() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    region = Code("51185008", "SCT", "Thorax")
    right = replace(samples.RIGHT, name=f"Right lung {'x' * 80}", anatomic_region=region)
    segmentation = samples.segmentation_of(datasets, mask, labels=(right, samples.LEFT))
    kept = [("segmentation", segmentation), *kept_samples.negative(datasets)]
    assert request_of(kept, datasets).labels == (right, samples.LEFT)


def test_a_finding_keeps_its_tracking_when_its_number_is_not_its_value() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    mask[mask == 1] = 0
    kept = kept_samples.lungs(datasets, mask)
    segmentation = kept[0][1]
    request = request_of(kept, datasets)
    label_map = gate.read_label_map(segmentation, datasets, [1] * len(datasets))
    assert [label.value for label in request.labels] == [1]
    built = build_label_map_segmentation(request, label_map, series_number=9001)
    assert built is not None
    lung = built.SegmentSequence[-1]
    assert lung.TrackingUID == segmentation.SegmentSequence[0].TrackingUID
    assert lung.TrackingID == segmentation.SegmentSequence[0].TrackingID
    assert np.array_equal(label_map == 1, mask == 2)


def test_forms_have_uids_of_their_own_that_follow_from_what_is_kept() -> None:
    datasets = samples.ct()
    lungs = request_of(kept_samples.lungs(datasets), datasets).identity
    again = request_of(kept_samples.lungs(datasets), datasets).identity
    other = request_of(kept_samples.negative(datasets), datasets).identity
    assert lungs.uid("pdf.instance") == again.uid("pdf.instance") != other.uid("pdf.instance")
    assert lungs.uid("segmentation.instance") != samples.identity_of(datasets).uid(
        "segmentation.instance"
    )


def test_sentences_are_told_once() -> None:
    sentences = sentences_of(kept_samples.lungs(samples.ct()))
    assert sentences[0] == "DEMONSTRATION, NOT FOR CLINICAL USE."
    assert len(set(sentences)) == len(sentences)
    assert sum("2400.2 ml" in one for one in sentences) == 1
    assert sum("long axis" in one for one in sentences) == 2


def test_codes_and_numbers_are_told_in_english_whatever_the_language() -> None:
    datasets = samples.ct()
    told = codes_in_words_of(kept_samples.lungs(datasets, language="zh"))
    assert told[0].startswith("lungs-ct Right lung (Lung, Right): Volume 2400.2 ml")
    assert codes_in_words_of(kept_samples.negative(datasets, language="zh")) == [
        "CAD Processing and Findings Summary: All algorithms succeeded; without findings"
    ]
    declined = codes_in_words_of(kept_samples.not_analysed(datasets))
    assert declined[0].endswith("No algorithms succeeded; without findings")


def test_a_segment_has_the_number_that_was_measured_of_it_alone() -> None:
    quantities = quantities_of(kept_samples.lungs(samples.ct()))
    assert quantities == {1: "2400.2 ml", 2: "2100.5 ml"}


def test_saliency_lies_where_it_was_computed(tmp_path: Path) -> None:
    datasets = samples.ct()
    kept = kept_samples.from_files(kept_samples.embolism(datasets), tmp_path)
    found = saliency_of(kept, datasets, [1] * len(datasets))
    values = found["pulmonary_embolism"]
    assert values.shape == samples.SHAPE
    assert values[3, 10, 24] == np.float32(0.9)
    assert not values[6:].any()


def test_weights_that_nobody_checked_are_told_so_and_stay_unknown() -> None:
    unchecked = replace(samples.ALGORITHM, weights_sha256="")
    headers = samples.headers(samples.ct())
    segmentation = samples.segmentation_of(headers, samples.lungs(), algorithm=unchecked)
    report = build_volumetric_report(
        samples.request_for(headers, algorithm=unchecked), segmentation, samples.lungs(),
        samples.MEASUREMENTS, series_number=9002,
    )
    described = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    said = "weights_sha256=not checked by this node"
    assert said in described.AlgorithmParameters
    assert said in [str(one.TextValue) for one in samples.named(report, "111002")]
    kept = [("segmentation", segmentation), ("volumetric report", report)]
    assert request_of(kept, headers).algorithm.weights_sha256 == ""
