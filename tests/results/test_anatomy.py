from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.results.anatomy import frame_anatomy
from tests.results import samples


def source(**attributes: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("attributes", "code", "laterality"),
    [
        ({"BodyPartExamined": "CHEST"}, "816094009", "U"),
        ({"BodyPartExamined": "THORAX"}, "816094009", "U"),
        ({"BodyPartExamined": "KNEE", "Laterality": "L"}, "72696002", "L"),
        ({"BodyPartExamined": "BREAST", "ImageLaterality": "R"}, "76752008", "R"),
        ({"BodyPartExamined": "PLASTER"}, "38266002", "U"),
        ({}, "38266002", "U"),
    ],
)
def test_the_part_of_the_body_is_coded(
    attributes: dict[str, str], code: str, laterality: str
) -> None:
    anatomy = frame_anatomy(source(**attributes))
    region = anatomy.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.CodingSchemeDesignator) == (code, "SCT")
    assert anatomy.FrameLaterality == laterality


def test_a_region_that_the_source_codes_is_taken_over() -> None:
    dataset = source(BodyPartExamined="CHEST")
    heart = source(CodeValue="80891009", CodingSchemeDesignator="SCT", CodeMeaning="Heart")
    dataset.AnatomicRegionSequence = [heart]
    assert frame_anatomy(dataset).AnatomicRegionSequence[0].CodeMeaning == "Heart"


def test_an_enhanced_source_gives_its_own_frame_anatomy() -> None:
    dataset = samples.enhanced()
    own = frame_anatomy(source(BodyPartExamined="HEAD"))
    own.FrameLaterality = "B"
    dataset.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [own]
    assert frame_anatomy(dataset) == own
