"""Part of the body, view and side, whichever way a header says them."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.imaging.anatomy_terms import holds, region_of_term, regions_of, sides_of, views_of


def coded(value: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "as it is called"
    return item


def header(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("term", "region"),
    [("CHEST", "CHEST"), ("THORAX", "CHEST"), ("WRIST", "WRISTJOINT"), ("CSPINE", "CERVICALSPINE"),
     ("LUNG", "LUNG"), ("EXTREMITY", "EXTREMITY"), ("CHESTABDPELVIS", "CHESTABDOMENANDPELVIS"),
     ("MANO", None), ("", None)],
)
def test_terms_of_the_standard_are_known_and_other_words_are_not(
    term: str, region: str | None
) -> None:
    assert region_of_term(term) == region


@pytest.mark.parametrize(
    ("code", "region"),
    [(("816094009", "SCT"), "CHEST"), (("51185008", "SCT"), "CHEST"), (("T-D3000", "SRT"), "CHEST"),
     (("85562004", "SCT"), "HAND"), (("T-D8700", "SRT"), "HAND")],
)
def test_codes_of_any_edition_are_the_region_of_the_term(
    code: tuple[str, str], region: str
) -> None:
    image = header(AnatomicRegionSequence=[coded(*code)])
    assert regions_of(image) == ({region}, False)


def test_terms_and_codes_that_differ_are_both_told() -> None:
    image = header(BodyPartExamined="CHEST", AnatomicRegionSequence=[coded("85562004")])
    assert regions_of(image) == ({"CHEST", "HAND"}, False)
    assert regions_of(header(BodyPartExamined=["CHEST", "HAND"])) == ({"CHEST", "HAND"}, False)
    unknown = header(AnatomicRegionSequence=[coded("1", "99MINE")])
    assert regions_of(unknown) == (set(), True)
    assert regions_of(header()) == (set(), False)


def test_the_frames_of_a_multi_frame_image_say_it_too() -> None:
    anatomy = header(AnatomicRegionSequence=[coded("12738006")], FrameLaterality="R")
    shared = header(FrameAnatomySequence=[anatomy])
    image = header(SharedFunctionalGroupsSequence=[shared])
    assert regions_of(image) == ({"BRAIN"}, False) and sides_of(image) == {"R"}


def test_a_wider_region_may_hold_what_is_wanted() -> None:
    assert holds("EXTREMITY", {"HAND"}) and holds("CHESTANDABDOMEN", {"CHEST"})
    assert holds("ENTIREBODY", {"KNEE"})
    assert not holds("HAND", {"WRISTJOINT"}) and not holds("UPPERLIMB", {"FOOT"})


@pytest.mark.parametrize(
    ("values", "views"),
    [
        ({}, []),
        ({"ViewPosition": "pa"}, [("PA",)]),
        ({"ViewCodeSequence": [coded("272479007")]}, [("PA",)]),
        ({"ViewCodeSequence": [coded("R-10214", "SRT")]}, [("PA",)]),
        ({"ViewCodeSequence": [coded("399348003")]}, [("AP",)]),
        ({"ViewPosition": "AP", "ViewCodeSequence": [coded("399173006")]}, [("AP",), ("LL",)]),
        ({"ViewCodeSequence": [coded("1", "99MINE")]}, [("another view",)]),
    ],
)
def test_a_view_is_said_by_its_position_or_its_code(
    values: dict[str, object], views: list[tuple[str, ...]]
) -> None:
    assert views_of(header(**values)) == views


@pytest.mark.parametrize(
    ("values", "sides"),
    [({}, set()), ({"ImageLaterality": "U"}, set()), ({"ImageLaterality": "L"}, {"L"}),
     ({"Laterality": "R"}, {"R"}), ({"ImageLaterality": "L", "Laterality": "R"}, {"L", "R"})],
)
def test_a_side_is_that_of_the_image_or_of_the_series(
    values: dict[str, object], sides: set[str]
) -> None:
    assert sides_of(header(**values)) == sides
