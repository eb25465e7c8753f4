from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sr_templates.measurement_report import (
    Finding,
    Observer,
    PlanarRegion,
    ReportContent,
    SegmentReference,
    build_content,
)
from sr_templates.template import TemplateError, load_template
from tests.results import samples
from tests.results.samples import named

TEMPLATE = load_template("lungs")
SEGMENT = SegmentReference("1.2.840.10008.5.1.4.1.1.66.4", "1.2.3", (1,), "1.2.4")
REGION = PlanarRegion(
    np.array([[0.0, 0], [4, 0], [4, 4], [0, 0]]), "1.2.840.10008.5.1.4.1.1.2", "1.2.5"
)
NUMBERS = {"volume_ml": 1.0, "mean_hu": -800.0, "standard_deviation_hu": 5.0}
FINDING = Finding(
    "Right lung",
    samples.STRUCTURE,
    samples.LUNG,
    samples.RIGHT.laterality,
    "lungs-ct Right lung",
    "1.2.6",
    NUMBERS,
    SEGMENT,
)
CONTENT = ReportContent(
    TEMPLATE,
    TEMPLATE.volumetric,
    (FINDING,),
    samples.ALGORITHM,
    Observer("1.2.7", "NODE", "Maker", "DICOM Node", "1"),
    "CT",
    ("A comment.",),
)


def test_kinds_of_groups_are_never_mixed() -> None:
    mixed = replace(CONTENT, findings=(FINDING, replace(FINDING, where=REGION)))
    with pytest.raises(ValueError, match="must not mix"):
        build_content(mixed, samples.ct()[0])


def test_a_measurement_that_is_missing_is_not_left_out_silently() -> None:
    with pytest.raises(KeyError):
        build_content(
            replace(CONTENT, findings=(replace(FINDING, measurements={}),)), samples.ct()[0]
        )


def test_a_modality_without_a_procedure_is_refused() -> None:
    with pytest.raises(TemplateError, match="modality MR"):
        build_content(replace(CONTENT, modality="MR"), samples.ct()[0])


def test_the_tree_has_language_observer_procedure_library_measurements_and_comments() -> None:
    tree = build_content(CONTENT, samples.ct()[0])
    assert [item.ConceptNameCodeSequence[0].CodeValue for item in tree.ContentSequence] == [
        "121049",
        "121005",
        "121012",
        "121013",
        "121014",
        "121015",
        "121016",
        "121058",
        "111028",
        "126010",
        "C0034375",
    ]
    assert named(tree, "121106")[0].TextValue == "A comment."


def test_a_region_on_one_frame_names_it() -> None:
    finding = replace(
        FINDING, where=replace(REGION, frame_number=3, sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1")
    )
    tree = build_content(replace(CONTENT, findings=(finding,)), samples.ct()[0])
    reference = named(tree, "111030")[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == 3
