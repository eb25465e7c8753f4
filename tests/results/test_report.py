from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import ConfigurationError, GateRefused
from dicom_node.results.declined import build_not_analysed_report
from dicom_node.results.report import (
    build_negative_report,
    build_planar_report,
    build_volumetric_report,
)
from dicom_node.results.report_numbers import pooled, thinned
from dicom_node.results.request import Reference
from tests.results import samples
from tests.results.samples import items, named

GROUP = "125007"


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def volumetric(datasets: list[Dataset], **changes: object) -> Dataset:
    mask = samples.lungs()
    return build_volumetric_report(
        samples.request_for(datasets, **changes),
        samples.segmentation_of(datasets, mask),
        mask,
        samples.MEASUREMENTS,
        series_number=9101,
    )


def planar(datasets: list[Dataset]) -> Dataset:
    report = build_planar_report(samples.request_for(datasets), samples.lungs(), series_number=9102)
    assert report is not None
    return report


def texts(report: Dataset) -> list[str]:
    return [item.TextValue for item in named(report, "121106")]


def numbers(group: Dataset) -> list[tuple[str, float, str]]:
    return [
        (
            item.ConceptNameCodeSequence[0].CodeMeaning,
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in items(group)
        if item.ValueType == "NUM"
    ]


def test_a_report_is_an_unverified_complete_tid_1500() -> None:
    report = volumetric(samples.ct())
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.CompletionFlag == "COMPLETE"
    assert report.PreliminaryFlag == "PRELIMINARY"
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert volumetric(samples.ct(), is_final=True).PreliminaryFlag == "FINAL"


def test_each_lung_and_both_together_are_measured() -> None:
    groups = named(volumetric(samples.ct()), GROUP)
    assert [numbers(group) for group in groups[:2]] == [
        [
            ("Volume", 2400.2, "ml"),
            ("Attenuation Coefficient", -812.5, "[hnsf'U]"),
            ("Attenuation Coefficient", 120.5, "[hnsf'U]"),
        ],
        [
            ("Volume", 2100.5, "ml"),
            ("Attenuation Coefficient", -820.0, "[hnsf'U]"),
            ("Attenuation Coefficient", 110.0, "[hnsf'U]"),
        ],
    ]
    together = numbers(groups[2])
    assert together[0] == ("Volume", 4500.8, "ml")
    assert [item.ContentTemplateSequence[0].TemplateIdentifier for item in groups] == ["1411"] * 3


def test_pooled_numbers_are_those_of_all_voxels_at_once() -> None:
    rng = np.random.default_rng(5)
    parts = [rng.normal(-800, 100, 500), rng.normal(-700, 50, 300)]
    measured = [samples.Measured(len(p) / 10, p.mean(), p.std(), len(p)) for p in parts]
    everything = np.concatenate(parts)
    assert pooled(measured) == {
        "volume_ml": pytest.approx(80.0),
        "mean_hu": pytest.approx(everything.mean()),
        "standard_deviation_hu": pytest.approx(everything.std()),
    }


def test_groups_refer_to_segments_without_frames_and_share_their_tracking() -> None:
    datasets = samples.ct()
    segmentation = samples.segmentation_of(datasets, samples.lungs())
    report = volumetric(datasets)
    references = [item.ReferencedSOPSequence[0] for item in named(report, "121191")]
    assert [r.ReferencedSegmentNumber for r in references] == [1, 2, [1, 2]]
    assert not any("ReferencedFrameNumber" in r for r in references)
    assert {r.ReferencedSOPInstanceUID for r in references} == {segmentation.SOPInstanceUID}
    tracked = [item.UID for item in named(report, "112040")]
    assert tracked[:2] == [item.TrackingUID for item in segmentation.SegmentSequence]
    identifiers = [item.TextValue for item in named(report, "112039")]
    assert identifiers[:2] == [item.TrackingID for item in segmentation.SegmentSequence]


def test_the_algorithm_stands_in_the_group_and_never_in_a_measurement() -> None:
    for report in (volumetric(samples.ct()), planar(samples.ct())):
        for group in named(report, GROUP):
            children = [item.ConceptNameCodeSequence[0].CodeValue for item in group.ContentSequence]
            assert "111001" in children
        for number in (item for item in items(report) if item.ValueType == "NUM"):
            assert not named(number, "111001")


def test_every_input_and_the_segmentation_are_evidence_and_in_the_library() -> None:
    datasets = samples.ct()
    report = volumetric(datasets)
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    listed = [
        [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]
        for series in study.ReferencedSeriesSequence
    ]
    assert listed[0] == [dataset.SOPInstanceUID for dataset in datasets]
    assert len(listed[1]) == 1
    library = named(report, "260753009")
    assert [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in library] == listed[0]


def test_the_observer_is_the_installation_and_the_same_in_every_report() -> None:
    first, second = volumetric(samples.ct()), planar(samples.ct())
    uids = {named(report, "121012")[0].UID for report in (first, second)}
    assert uids == {samples.EQUIPMENT.device_uid}


def test_the_reader_is_told_what_it_is_what_was_found_and_what_was_done() -> None:
    said = texts(volumetric(samples.ct()))
    assert said[0] == "DEMONSTRATION, NOT FOR CLINICAL USE."
    assert said[1] == (
        "Computed by Lungs in CT (demonstration) version 1.0.0 without review by a person."
    )
    assert said[2].startswith("Right lung: 2400.2 ml, mean -812.5 HU")
    assert said[-1] == "Technical note: gantry tilt of 12 degrees corrected."


def test_a_repair_of_the_headers_is_told() -> None:
    assert any(
        "AccessionNumber" in text for text in texts(planar(samples.ct(AccessionNumber=None)))
    )


def test_a_lung_that_was_not_found_is_named_and_there_is_no_total() -> None:
    datasets, mask = samples.ct(), samples.lungs()
    mask[mask == 1] = 0
    report = build_volumetric_report(
        samples.request_for(datasets),
        samples.segmentation_of(datasets, mask),
        mask,
        samples.MEASUREMENTS,
        series_number=9101,
    )
    assert len(named(report, GROUP)) == 1
    assert any(text.startswith("Right lung: not found") for text in texts(report))


def test_a_planar_group_outlines_the_largest_section_on_its_image() -> None:
    datasets = samples.ct()
    report = planar(datasets)
    mask = samples.lungs()
    regions = named(report, "111030")
    assert [region.GraphicType for region in regions] == ["POLYLINE"] * 2
    for region, value in zip(regions, (1, 2), strict=True):
        points = np.asarray(region.GraphicData).reshape(-1, 2)
        assert points[0].tolist() == points[-1].tolist()
        image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        plane = [dataset.SOPInstanceUID for dataset in datasets].index(image)
        counts = (mask == value).sum(axis=(1, 2))
        assert counts[plane] == counts.max()
        rows, columns = np.nonzero(mask[plane] == value)
        assert points[:, 0].min() == columns.min()
        assert points[:, 0].max() == columns.max() + 1
        assert points[:, 1].min() == rows.min()
        assert points[:, 1].max() == rows.max() + 1
    area = numbers(named(report, GROUP)[0])[0]
    assert area == ("Area", 22 * 14 * 1.0 * 1.25, "mm2")


def test_a_planar_report_on_an_enhanced_image_names_the_frame() -> None:
    source = samples.enhanced([3, 1, 0, 2, 9, 8, 7, 6, 5, 4])
    frame_numbers = [[3, 1, 0, 2, 9, 8, 7, 6, 5, 4].index(plane) + 1 for plane in range(10)]
    request = samples.request_for([source], frame_numbers=frame_numbers)
    mask = samples.lungs()
    report = build_planar_report(request, mask, series_number=9102)
    assert report is not None
    reference = named(report, "111030")[0].ContentSequence[0].ReferencedSOPSequence[0]
    largest = int((mask == 1).sum(axis=(1, 2)).argmax())
    assert reference.ReferencedFrameNumber == frame_numbers[largest]


def test_volumetric_and_planar_are_two_series_and_never_mixed() -> None:
    datasets = samples.ct()
    first, second = volumetric(datasets), planar(datasets)
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert named(first, "111030") == []
    assert named(second, "121191") == []


def test_nothing_found_is_said_and_has_no_group() -> None:
    datasets = samples.ct()
    report = build_negative_report(samples.request_for(datasets), series_number=9103)
    assert named(report, GROUP) == []
    answer = named(report, "111017")[0].ConceptCodeSequence[0]
    assert answer.CodeValue == "111241"
    assert any(
        "found nothing" in text and "Right lung, Left lung" in text for text in texts(report)
    )
    empty = np.zeros(samples.SHAPE, np.uint8)
    assert build_planar_report(samples.request_for(datasets), empty, series_number=1) is None


def test_a_report_without_a_demonstration_model_does_not_say_demonstration() -> None:
    datasets = samples.ct()
    algorithm = replace(samples.ALGORITHM, demonstration=False, name="Lungs in CT")
    report = volumetric(datasets, algorithm=algorithm)
    assert "DEMONSTRATION" not in str(report)


def test_the_same_input_gives_the_same_bytes() -> None:
    datasets = samples.ct()
    assert encoded(volumetric(datasets)) == encoded(volumetric(datasets))
    assert encoded(planar(datasets)) == encoded(planar(datasets))


@pytest.mark.parametrize(
    "changes", [{"model_version": "1.0.1"}, {"effective_configuration": {"overlap": 0.5}}]
)
def test_another_model_or_setting_makes_another_report(changes: dict[str, object]) -> None:
    datasets = samples.ct()
    other = volumetric(datasets, identity=samples.identity_of(datasets, **changes))
    assert other.SOPInstanceUID != volumetric(datasets).SOPInstanceUID


def test_a_template_that_does_not_exist_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="no report template"):
        volumetric(samples.ct(), template="kidneys")
    with pytest.raises(ConfigurationError, match="no report template"):
        volumetric(samples.ct(), template="../lungs")


def test_a_modality_that_the_template_does_not_know_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="no procedure"):
        volumetric(samples.ct(Modality="MR"))


def test_a_language_that_there_is_not_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigurationError, match="en, de, fr, zh"):
        volumetric(samples.ct(), language="es")


def test_the_reader_is_told_in_the_language_asked_for() -> None:
    said = texts(volumetric(samples.ct(), language="de"))
    assert said[2].startswith("Rechte Lunge: 2400.2 ml, Mittelwert -812.5 HU")
    assert said[-2] == "Nach anderem als dem hier Genannten wurde nicht gesucht."
    assert said[-1].startswith("Technischer Hinweis: ")


@pytest.mark.parametrize(
    ("value", "reason"),
    [(math.nan, "gate.not_finite"), (math.inf, "gate.not_finite"), (-1.0, "gate.out_of_range")],
)
def test_a_number_that_cannot_be_is_never_written(value: float, reason: str) -> None:
    datasets, mask = samples.ct(), samples.lungs()
    measurements = {**samples.MEASUREMENTS, 1: samples.Measured(value, -800.0, 10.0, 1000)}
    with pytest.raises(GateRefused) as refused:
        build_volumetric_report(
            samples.request_for(datasets),
            samples.segmentation_of(datasets, mask),
            mask,
            measurements,
            series_number=9101,
        )
    assert refused.value.reason == reason


def test_what_it_supersedes_stands_in_the_predecessor_documents() -> None:
    old = [
        Reference("1.2.840.10008.5.1.4.1.1.88.34", f"1.2.{number}", "1.3.1", "1.4.1")
        for number in (1, 2)
    ]
    report = volumetric(samples.ct(), predecessors=tuple(old))
    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == ("1.4.1", "1.3.1")
    assert [i.ReferencedSOPInstanceUID for i in series.ReferencedSOPSequence] == ["1.2.1", "1.2.2"]
    assert "PredecessorDocumentsSequence" not in volumetric(samples.ct())


def test_a_report_on_a_part_of_the_input_says_so() -> None:
    report = volumetric(samples.ct(), is_complete=False)
    assert report.CompletionFlag == "PARTIAL"
    assert texts(report)[2].startswith("Incomplete: a part of the images was left out.")


LATIN_1 = "Buc^Jérôme"
JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ("ISO_IR 100", LATIN_1),
        (["", "ISO 2022 IR 100"], LATIN_1),
        ("ISO_IR 192", LATIN_1),
        (["", "ISO 2022 IR 87"], JAPANESE),
        ("ISO_IR 192", JAPANESE),
    ],
)
def test_a_name_survives_in_the_character_set_that_the_source_wrote_it_in(
    declared: str | list[str], name: str
) -> None:
    source = samples.ct(SpecificCharacterSet=declared, PatientName=name, StudyDescription=name[-6:])
    received = [pydicom.dcmread(io.BytesIO(encoded(dataset))) for dataset in source]
    request = samples.request_for(received, labels=(), language="zh")
    for report in (
        build_negative_report(request, series_number=9002),
        build_not_analysed_report(request, "model.failed", "", series_number=9002),
    ):
        read = pydicom.dcmread(io.BytesIO(encoded(report)))
        assert read.SpecificCharacterSet == "ISO_IR 192"
        assert str(read.PatientName) == name
        assert any("算法" in text for text in texts(read))


def test_a_nodule_is_measured_across_its_largest_section_and_told_how_fast_it_grows() -> None:
    @dataclass(frozen=True)
    class Nodule(samples.Measured):
        volume_doubling_time_d: float | None = None
        solid_fraction: float | None = None

    datasets = samples.ct()
    mask = np.zeros(samples.SHAPE, np.uint8)
    mask[4, 10:18, 20:24] = 1
    nodule = replace(samples.RIGHT, name="Nodule 1")
    request = samples.request_for(datasets, template="lung_nodules", labels=(nodule,))
    segmentation = samples.segmentation_of(datasets, mask, labels=(nodule,))
    said = {}
    for days, solid in ((None, None), (412.4, 0.5)):
        measured = Nodule(0.256, 30.0, 10.0, 32, days, solid)
        report = build_volumetric_report(
            request, segmentation, mask, {1: measured}, series_number=9002
        )
        said[days] = [(name, value) for name, value, _ in numbers(named(report, GROUP)[0])]
        assert len(named(report, "112027")) == (solid is not None)
    # 8 rows of 1.0 mm and 4 columns of 1.25 mm: the diagonals are as long, and as wide across.
    assert said[None] == [
        ("Long axis", 9.4),
        ("Short axis", 8.5),
        ("Volume", 0.256),
        ("Attenuation Coefficient", 30.0),
    ]
    assert said[412.4][4:] == [
        ("Volume doubling time", 412.0),
        ("Fraction of volume that is solid", 0.5),
    ]
    assert named(report, "112027")[0].ConceptCodeSequence[0].CodeMeaning == "Part-solid"


def test_an_outline_too_long_for_one_element_is_thinned_and_stays_closed() -> None:
    points = np.random.default_rng(1).random((20001, 2))
    points[-1] = points[0]
    kept = thinned(points)
    assert len(kept) <= 8001
    assert kept[0].tolist() == kept[-1].tolist()
