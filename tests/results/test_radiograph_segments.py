"""Segments of a projection image: a Segmentation without a frame of reference, and its reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.array.measurements import measure_image
from ai_models.types import Image, LabelMap
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.results import gate
from dicom_node.results.form_builders import Workbench
from dicom_node.results.gate_report import check_findings
from dicom_node.results.report import build_planar_report, build_volumetric_report
from sr_templates.template import FOLDER
from tests.conformance import validators
from tests.dicom_samples import radiograph
from tests.results import kept_samples, samples


def image(**attributes: object) -> list[Dataset]:
    return samples.headers([radiograph(**{"modality": "DX", **attributes})])


def regions(source: Dataset) -> LabelMap:
    mask: LabelMap = np.zeros((1, int(source.Rows), int(source.Columns)), np.uint8)
    mask[0, 10:30, 8:20] = 1
    mask[0, 12:34, 36:50] = 2
    return mask


def made(headers: list[Dataset], **changes: object) -> kept_samples.Kept:
    """Segmentation and both reports of a radiograph, each past its gate."""
    mask = regions(headers[0])
    shown = Image(np.zeros(mask.shape[1:], np.float32), None)
    measured = measure_image(mask, shown)
    request = samples.request_for(headers, **{"template": "regions", **changes})
    segmentation = samples.segmentation_of(headers, mask)
    volumetric = build_volumetric_report(request, segmentation, mask, measured, series_number=9002)
    planar = build_planar_report(request, mask, series_number=9003)
    assert planar is not None
    gate.check_segmentation(segmentation, headers, [1], mask, samples.LABELS)
    for report in (volumetric, planar):
        gate.check_report(report, headers, [segmentation])
        check_findings(report, headers, [1], mask, measured, segmentation)
    return [
        ("segmentation", segmentation), ("volumetric report", volumetric),
        ("planar report", planar),
    ]


@pytest.mark.parametrize("modality", ["DX", "CR", "MG"])
def test_segments_of_a_radiograph_are_measured_on_the_image(modality: str) -> None:
    for _, report in made(image(modality=modality))[1:]:
        numbers = {
            str(one.ConceptNameCodeSequence[0].CodeValue):
                float(one.MeasuredValueSequence[0].NumericValue)
            for one in samples.items(samples.named(report, "125007")[0]) if one.ValueType == "NUM"
        }
        assert numbers == {
            "42798000": round(20 * 12 * 0.2 * 0.15, 1),
            "103339001": pytest.approx(np.hypot(20 * 0.2, 12 * 0.15), abs=0.05),
            "103340004": pytest.approx(2 * 4.0 * 1.8 / np.hypot(4.0, 1.8), abs=0.05),
        }


def test_the_segmentation_names_its_image_and_lies_in_no_frame_of_reference(
    tmp_path: Path,
) -> None:
    headers = image()
    kept = made(headers)
    segmentation = kept[0][1]
    assert "FrameOfReferenceUID" not in segmentation
    frame = segmentation.PerFrameFunctionalGroupsSequence[0]
    derived = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert derived.ReferencedSOPInstanceUID == headers[0].SOPInstanceUID
    assert "PlanePositionSequence" not in frame
    complaints = []
    for number, (_, dataset) in enumerate(kept):
        path = tmp_path / f"{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        try:
            complaints += validators.dciodvfy(path)
        except validators.ToolMissing as missing:
            pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []


def test_lengths_at_the_detector_are_said_to_be_so() -> None:
    headers = image(PixelSpacing=None, ImagerPixelSpacing=["0.2", "0.15"])
    headers[0].pop("PixelSpacing", None)
    for _, report in made(headers)[1:]:
        notes = [str(one.TextValue) for one in samples.named(report, "121106")]
        assert any("at the detector" in note for note in notes)
    calibrated = made(image())[2][1]
    notes = [str(one.TextValue) for one in samples.named(calibrated, "121106")]
    assert not any("at the detector" in note for note in notes)


def test_an_image_that_does_not_say_how_large_its_pixels_are_is_not_measured() -> None:
    headers = image()
    headers[0].pop("PixelSpacing")
    with pytest.raises(UnsuitableInput) as caught:
        made(headers)
    assert caught.value.reason == "input.no_pixel_spacing"


def test_a_report_that_asks_for_volumes_of_a_projection_is_refused(tmp_path: Path) -> None:
    text = (FOLDER / "regions.yaml").read_text(encoding="utf-8").replace("regions", "mine")
    text = text.replace("measurements: {area_mm2: area,", "measurements: {volume_ml: area,", 1)
    text = text.replace("decimals: 1\n    minimum: 0", "decimals: 1")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(GateRefused) as caught:
        made(image(), template="mine", template_folder=tmp_path)
    assert caught.value.reason == "gate.not_finite"


def test_every_form_that_needs_no_place_in_the_patient_is_built() -> None:
    headers = image()
    images = kept_samples.Images((1, int(headers[0].Rows), int(headers[0].Columns)))
    bench = Workbench(made(headers), kept_samples.source_of(headers, images))
    for wish in (
        ("segmentation", "labelmap"), ("secondary capture", "pictures"),
        ("presentation state", "presentation_state"), ("volumetric report", "text"),
    ):
        assert bench.build(wish)
    with pytest.raises(UnsuitableInput):
        bench.build(("structure set", "structure_set"))
