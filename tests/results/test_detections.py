"""What a detector found becomes segments and groups of a report, each its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ai_models.array.labels import is_overlapping, mask_of, values_in
from ai_models.array.marked_boxes import BoxMask
from ai_models.types import Detection, DetectionPrediction, LabelMap
from dicom_node.errors import GateRefused, ModelFailed
from dicom_node.results import gate
from dicom_node.results.detections import findings_of
from dicom_node.results.gate_detections import check_detections
from dicom_node.results.gate_report import check_findings
from dicom_node.results.report import build_negative_report
from tests.results import samples
from tests.results.detected import (
    LARGE,
    MASS,
    NODULE,
    SMALL,
    Reported,
    detection,
    prediction_on,
    reported,
    volume_of,
)


@pytest.fixture(scope="module")
def nodules() -> Reported:
    return reported()


def test_each_finding_is_a_segment_with_its_number_codes_colour_and_tracking(
    nodules: Reported,
) -> None:
    segments = nodules.segmentation.SegmentSequence
    assert [one.SegmentLabel for one in segments] == ["Nodule 1", "Nodule 2", "Nodule 3"]
    assert {one.SegmentedPropertyTypeCodeSequence[0].CodeValue for one in segments} == {"27925004"}
    assert len({tuple(one.RecommendedDisplayCIELabValue) for one in segments}) == 3
    assert len({one.TrackingUID for one in segments}) == 3
    assert nodules.segmentation.SegmentsOverlap == "NO"


def test_findings_that_overlap_are_cut_as_report_and_segments_say_and_measured_whole(
    nodules: Reported,
) -> None:
    volume = volume_of(nodules.headers)
    alone = [
        findings_of(replace(nodules.prediction, detections=(one,)), "ellipsoid", volume)
        for one in nodules.prediction.detections
    ]
    whole = [int((one.label_map != 0).sum()) for one in alone]
    drawn = [int(mask_of(nodules.found.label_map, value).sum()) for value in (1, 2, 3)]
    assert (whole, drawn) == ([157, 13, 1], [157 - 13, 13, 1])
    for value, one in enumerate(alone, start=1):
        assert nodules.found.measurements[value] == one.measurements[1]
    segment = nodules.segmentation.SegmentSequence[0]
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert "drawn=ellipsoids in boxes cut where they overlap" in algorithm.AlgorithmParameters
    comments = [str(one.TextValue) for one in samples.named(nodules.volumetric, "121106")]
    assert any("where they overlap the segments are cut" in one for one in comments)
    areas = [
        str(one.MeasuredValueSequence[0].NumericValue)
        for one in samples.named(nodules.planar, "42798000")
    ]
    planar = reported(detections=nodules.prediction.detections[:1]).planar
    (area,) = samples.named(planar, "42798000")
    assert areas[0] == str(area.MeasuredValueSequence[0].NumericValue)
    assert not alone[0].is_cut and "cut" not in alone[0].note + str(alone[0].parameters)


@pytest.mark.parametrize("mask", ["ellipsoid", "box"])
def test_segmentation_and_both_reports_pass_every_gate(mask: BoxMask) -> None:
    check_all(reported(mask, orientation=samples.OBLIQUE))


def check_all(made: Reported) -> None:
    headers, frames, label_map = made.headers, [1] * len(made.headers), made.found.label_map
    gate.check_segmentation(made.segmentation, headers, frames, label_map, made.found.labels)
    for report in (made.volumetric, made.planar):
        gate.check_report(report, headers, [made.segmentation])
        check_findings(
            report, headers, frames, made.found.outlined(), made.found.measurements,
            made.segmentation,
        )
    check_detections(
        made.volumetric, headers, frames, label_map, made.prediction.detections, made.segmentation
    )


def test_the_centre_of_a_finding_may_lie_in_a_smaller_one() -> None:
    affine = samples.affine_lps(samples.ct())
    centre = (4.0, 18.0, 14.0)
    made = reported(detections=(
        detection(affine, centre, (20.0, 20.0, 20.0), 0.9),
        detection(affine, centre, (14.0, 14.0, 14.0), 0.8),
    ))
    assert made.found.label_map[4, 18, 14] == 2 and (made.found.label_map == 1).any()
    check_all(made)


def test_the_report_gives_probability_volume_and_longest_edge_of_each(nodules: Reported) -> None:
    groups = samples.named(nodules.volumetric, "125007")
    numbers = [
        {
            one.ConceptNameCodeSequence[0].CodeValue:
                str(one.MeasuredValueSequence[0].NumericValue)
            for one in group.ContentSequence if one.ValueType == "NUM"
        }
        for group in groups
    ]
    assert [one["122157"] for one in numbers] == ["0.973", "0.8", "0.5"]
    assert [one["103339001"] for one in numbers] == ["12.0", "5.0", "0.4"]
    measured = nodules.found.measurements
    assert [float(one["118565006"]) for one in numbers] == pytest.approx(
        [measured[value].volume_ml for value in (1, 2, 3)], abs=5e-4
    )


def test_the_reader_is_told_names_with_numbers_what_was_not_found_and_how_it_is_drawn() -> None:
    comments = [
        str(one.TextValue) for one in samples.named(reported(language="de").volumetric, "121106")
    ]
    assert any(one.startswith("Rundherd 3: Wahrscheinlichkeit 0.500") for one in comments)
    assert any(one.startswith("Mass: nicht gefunden") for one in comments)
    assert any("ellipsoids" in one for one in comments)


@pytest.mark.parametrize("mask", ["ellipsoid", "box"])
def test_two_findings_in_one_voxel_share_it_and_pass_every_gate(mask: BoxMask) -> None:
    affine = samples.affine_lps(samples.ct())
    one = detection(affine, (7.0, 30.1, 33.0), SMALL, 0.9)
    made = reported(mask, detections=(one, replace(one, label_value=2, score=0.7)))
    assert is_overlapping(made.found.label_map) and not made.found.is_cut
    assert made.segmentation.SegmentsOverlap == "YES"
    check_all(made)


def test_a_box_smaller_than_a_voxel_marks_the_voxel_at_its_centre(nodules: Reported) -> None:
    assert mask_of(nodules.found.label_map, 3)[7, 30, 33]
    assert nodules.found.measurements[3].voxel_count == 1


def test_no_finding_is_a_negative_report_on_the_classes() -> None:
    headers = samples.headers(samples.ct())
    nothing = DetectionPrediction((), (NODULE, MASS), samples.ALGORITHM)
    found = findings_of(nothing, "ellipsoid", volume_of(headers))
    assert not found.label_map.any()
    assert [label.name for label in found.labels] == ["Nodule", "Mass"]
    assert found.note == ""
    request = samples.request_for(headers, labels=found.labels, template="lung_nodules")
    report = build_negative_report(request, series_number=9002)
    assert any("(Nodule, Mass)" in str(one.TextValue) for one in samples.named(report, "121106"))


def test_a_finding_outside_of_the_images_is_refused() -> None:
    volume = volume_of(samples.ct())
    outside = detection(volume.affine_lps, (-8.0, 5.0, 5.0), LARGE, 0.9)
    with pytest.raises(ModelFailed) as caught:
        findings_of(DetectionPrediction((outside,), (NODULE,), samples.ALGORITHM), "box", volume)
    assert caught.value.reason == "model.wrong_output"


def test_a_finding_of_no_class_is_refused() -> None:
    volume = volume_of(samples.ct())
    strange = detection(volume.affine_lps, (4, 5, 5), LARGE, 0.9, value=7)
    with pytest.raises(ModelFailed, match="class 7"):
        findings_of(DetectionPrediction((strange,), (NODULE,), samples.ALGORITHM), "box", volume)


def test_many_findings_in_one_place_each_have_a_voxel_as_long_as_there_are_any() -> None:
    volume = volume_of(samples.ct())
    one = detection(volume.affine_lps, (4, 18, 14), LARGE, 0.9)
    many = DetectionPrediction((one,) * 65, (NODULE,), samples.ALGORITHM)
    assert values_in(findings_of(many, "box", volume).label_map) == list(range(1, 66))
    tiny = detection(volume.affine_lps, (4, 18, 14), SMALL, 0.9)
    with pytest.raises(ModelFailed, match="more than 64"):
        findings_of(replace(many, detections=(tiny,) * 65), "box", volume)


def test_no_finding_is_lost_between_the_slices_of_the_source() -> None:
    volume = volume_of(samples.ct())
    prediction = prediction_on(volume.affine_lps)
    found = findings_of(prediction, "ellipsoid", volume)

    def every_third(values: LabelMap) -> LabelMap:
        return values[[0, 3, 6, 9]]

    thinned = found.on_slices(every_third)
    assert thinned.label_map.shape[0] == 4 and thinned.is_cut
    assert values_in(every_third(found.label_map)) == [1]
    assert values_in(thinned.label_map) == [1, 2, 3]
    assert mask_of(thinned.label_map, 3)[2, 30, 33]
    assert thinned.measurements == found.measurements
    assert found.on_slices(lambda values: values) is found


def test_the_same_place_keeps_its_tracking_when_something_else_is_found_before_it() -> None:
    headers = samples.headers(samples.ct())
    volume = volume_of(headers)
    prediction = prediction_on(volume.affine_lps)
    identity, series = samples.identity_of(headers), str(headers[0].SeriesInstanceUID)

    def tracking(*detections: Detection) -> list[str]:
        found = findings_of(replace(prediction, detections=detections), "box", volume)
        segmentation = samples.segmentation_of(
            headers, found.label_map, labels=found.labels,
            identity=found.tracked(identity, series),
        )
        return [str(one.TrackingUID) for one in segmentation.SegmentSequence]

    large, inside, small = prediction.detections
    assert tracking(small) == tracking(large, small)[1:]
    assert len(set(tracking(large, inside, small))) == 3
    assert len(set(tracking(large, large))) == 2


@pytest.mark.parametrize("moved", [(0, 6, 0), (0, 0, 9), (3, 0, 0)])
def test_a_segment_that_leaves_its_box_is_refused(
    nodules: Reported, moved: tuple[int, int, int]
) -> None:
    shifted = np.roll(nodules.found.label_map, moved, axis=(0, 1, 2))
    with pytest.raises(GateRefused, match="leaves its box") as caught:
        check_detections(
            nodules.volumetric, nodules.headers, [1] * len(nodules.headers), shifted,
            nodules.prediction.detections, nodules.segmentation,
        )
    assert caught.value.reason == "gate.geometry"


def test_a_finding_whose_centre_nothing_marks_is_refused() -> None:
    affine = samples.affine_lps(samples.ct())
    made = reported(detections=(detection(affine, (4.0, 18.0, 14.0), (20.0, 20.0, 20.0), 0.9),))
    hollow = made.found.label_map.copy()
    hollow[2:7] = 0
    assert hollow.any()
    with pytest.raises(GateRefused, match="centre of finding 1 is in no segment") as caught:
        check_detections(
            made.volumetric, made.headers, [1] * len(made.headers), hollow,
            made.prediction.detections, made.segmentation,
        )
    assert caught.value.reason == "gate.geometry"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda one: (replace(one[0], score=0.9), *one[1:]), "gate.number"),
        (lambda one: (one[2], one[1], one[0]), "gate.geometry"),
        (lambda one: (*one, one[0]), "gate.labels"),
    ],
)
def test_a_report_that_says_another_place_or_probability_is_refused(
    nodules: Reported, changed: object, reason: str
) -> None:
    assert callable(changed)
    with pytest.raises(GateRefused) as caught:
        check_detections(
            nodules.volumetric, nodules.headers, [1] * len(nodules.headers),
            nodules.found.label_map, changed(nodules.prediction.detections), nodules.segmentation,
        )
    assert caught.value.reason == reason
