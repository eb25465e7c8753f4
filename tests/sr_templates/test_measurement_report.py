from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sr_templates.measurement_groups import Finding, PlanarRegion, SegmentReference, WholeImage
from sr_templates.measurement_report import Observer, ReportContent, build_content
from sr_templates.numbers import Measured
from sr_templates.template import load_template
from tests.results import samples
from tests.results.samples import named

TEMPLATE = load_template("lungs")
SEGMENT = SegmentReference("1.2.840.10008.5.1.4.1.1.66.4", "1.2.3", (1,), "1.2.4")
REGION = PlanarRegion(
    np.array([[0.0, 0], [4, 0], [4, 4], [0, 0]]), "1.2.840.10008.5.1.4.1.1.2", "1.2.5"
)
FINDING = Finding(
    name="Right lung",
    category=samples.STRUCTURE,
    type=samples.LUNG,
    site=samples.LUNG,
    laterality=samples.RIGHT.laterality,
    tracking_identifier="lungs-ct Right lung",
    tracking_uid="1.2.6",
    measured=(Measured(TEMPLATE.quantities["volume"], 1.5),),
    evaluated=(),
    where=SEGMENT,
)
CONTENT = ReportContent(
    title=TEMPLATE.title,
    language="en",
    procedure=TEMPLATE.procedure_reported["CT"],
    algorithm=samples.ALGORITHM,
    observer=Observer("1.2.7", "NODE", "Maker", "DICOM Node", "1"),
    findings=(FINDING,),
    comments=("A comment.",),
)


@pytest.mark.parametrize("where", [REGION, WholeImage()])
def test_kinds_of_groups_are_never_mixed(where: PlanarRegion | WholeImage) -> None:
    mixed = replace(CONTENT, findings=(FINDING, replace(FINDING, where=where)))
    with pytest.raises(ValueError, match="must not mix"):
        build_content(mixed, samples.ct()[0])


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


@pytest.mark.parametrize(("language", "meaning"), [("de", "German"), ("zh", "Chinese")])
def test_the_language_is_coded_by_its_tag(language: str, meaning: str) -> None:
    tree = build_content(replace(CONTENT, language=language), samples.ct()[0])
    code = named(tree, "121049")[0].ConceptCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == (language, "RFC5646")
    assert code.CodeMeaning == meaning


def test_a_region_on_one_frame_names_it() -> None:
    finding = replace(
        FINDING, where=replace(REGION, frame_number=3, sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1")
    )
    tree = build_content(replace(CONTENT, findings=(finding,)), samples.ct()[0])
    reference = named(tree, "111030")[0].ContentSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedFrameNumber == 3


def test_a_whole_image_names_its_only_source_and_what_explains_it() -> None:
    where = WholeImage(
        ("1.2.840.10008.5.1.4.1.1.1", "1.2.5"), ("1.2.840.10008.5.1.4.1.1.30", "1.2.8")
    )
    tree = build_content(
        replace(CONTENT, findings=(replace(FINDING, where=where),)), samples.ct()[0]
    )
    for code, uid in (("121112", "1.2.5"), ("130401", "1.2.8")):
        (item,) = named(tree, code)
        assert item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uid
    assert named(tree, "125007")[0].ContentTemplateSequence[0].TemplateIdentifier == "1501"
