"""Headers that contradict the card, or themselves, are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from ai_models.card_entries import InputEntry
from dicom_node.errors import UnsuitableInput
from dicom_node.pipeline.stated_checks import CHECKED, check_acquisition, check_stated
from tests.imaging.test_anatomy_terms import coded, header


def entry(**quality: Any) -> InputEntry:
    return InputEntry.model_validate({
        "kind": "image", "modality": ["DX"], "intensity": {"unit": "displayed"},
        "body_part": ["CHEST"], "views": ["PA", "AP"], "quality": quality,
    })


def chest(**values: object) -> Dataset:
    return header(**{"BodyPartExamined": "CHEST", "ViewPosition": "PA", **values})


def refusal(image: Dataset, card: InputEntry) -> str:
    with pytest.raises(UnsuitableInput) as refused:
        check_stated(image, card)
    return refused.value.reason


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (chest(BodyPartExamined="HAND"), "input.body_part"),
        (chest(AnatomicRegionSequence=[coded("85562004")]), "input.body_part"),
        (chest(BodyPartExamined="", AnatomicRegionSequence=[coded("85562004")]), "input.body_part"),
        (chest(PatientOrientation=["R", "F"]), "input.orientation"),
        (chest(PatientOrientation=["L", "H"]), "input.orientation"),
        (chest(PatientOrientation=["A", "F"]), "input.orientation"),
        (chest(ImageLaterality="L", Laterality="R"), "input.laterality"),
    ],
)
def test_what_contradicts_the_card_or_itself_is_refused(image: Dataset, reason: str) -> None:
    assert refusal(image, entry(orientation=["L", "F"])) == reason


def test_what_a_header_does_not_say_is_taken_and_told() -> None:
    card = entry(orientation=["L", "F"], sides=["L"])
    (note,) = check_stated(chest(BodyPartExamined=""), card)
    assert note.code == CHECKED
    assert "part of the body not compared, the headers name no part" in note.text
    assert "orientation not stated" in note.text and "side not stated" in note.text
    (note,) = check_stated(chest(PatientOrientation=["L", "F"], ImageLaterality="L"), card)
    assert note.text == (
        "passed in the headers: part of the body (CHEST); view (PA); orientation (L F); side (L)"
    )


@pytest.mark.parametrize("stated", ["", "MANO", "CHESTABDOMEN"])
def test_a_card_may_ask_for_a_part_that_is_known_and_no_wider(stated: str) -> None:
    image = chest(BodyPartExamined=stated)
    assert refusal(image, entry(body_part="required")) == "input.body_part_unknown"
    assert check_stated(image, entry())


def test_an_unknown_word_is_never_quoted() -> None:
    # Whatever somebody typed there would end up in logs.
    (note,) = check_stated(chest(BodyPartExamined="MUELLER^ANNA"), entry())
    assert "MUELLER" not in note.text
    with pytest.raises(UnsuitableInput) as refused:
        check_stated(chest(BodyPartExamined="MUELLER^ANNA"), entry(body_part="required"))
    assert "MUELLER" not in str(refused.value)


def test_a_volume_may_show_more_than_the_model_looks_for() -> None:
    card = InputEntry.model_validate({
        "modality": ["CT"], "intensity": {"unit": "HU"}, "body_part": ["CHEST"],
        "quality": {"body_part": "required"},
    })
    (note,) = check_stated(header(BodyPartExamined="CHESTABDPELVIS"), card)
    assert "CHESTABDOMENANDPELVIS" in note.text
    assert refusal(header(BodyPartExamined="HEAD"), card) == "input.body_part"


@pytest.mark.parametrize(
    ("stated", "sides", "required", "reason"),
    [("R", ["L"], False, "input.laterality"), ("B", ["L", "R"], False, "input.laterality"),
     ("U", ["L"], True, "input.laterality_unknown"), ("U", ["L"], False, ""),
     ("R", ["L", "R"], True, ""), ("R", [], False, "")],
)
def test_a_side_is_held_against_what_the_model_takes(
    stated: str, sides: list[str], required: bool, reason: str
) -> None:
    card = entry(sides=sides, side_required=required)
    image = chest(ImageLaterality=stated)
    if reason:
        assert refusal(image, card) == reason
    else:
        assert check_stated(image, card)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"PatientAge": "074Y"}, "older"),
        ({"PatientBirthDate": "19400305", "StudyDate": "20040826"}, "older"),
        ({"PatientAge": "018Y"}, "older"), ({"PatientAge": "003M"}, "younger"),
    ],
)
def test_a_patient_of_another_age_is_refused_and_no_age_is_told(
    values: dict[str, object], told: str
) -> None:
    with pytest.raises(UnsuitableInput) as refused:
        check_stated(chest(**values), entry(age_years=[1, 18]))
    assert refused.value.reason == "input.age" and told in str(refused.value)
    assert "74" not in str(refused.value) and "64" not in str(refused.value)


def test_a_patient_of_a_fitting_or_unknown_age_is_taken() -> None:
    (note,) = check_stated(chest(PatientAge="004Y"), entry(age_years=[0, 18]))
    assert note.text.endswith("; age; view (PA)")
    (note,) = check_stated(chest(PatientAge="000Y"), entry(age_years=[0, 18]))
    assert "age not known" in note.text


def test_an_age_that_the_dates_contradict_is_not_believed() -> None:
    image = chest(PatientAge="004Y", PatientBirthDate="19400305", StudyDate="20040826")
    assert refusal(image, entry(age_years=[0, 18])) == "input.age"


def test_a_card_without_quality_compares_nothing() -> None:
    card = InputEntry.model_validate({
        "kind": "image", "modality": ["DX"], "intensity": {"unit": "displayed"},
        "body_part": ["CHEST"],
    })
    assert check_stated(chest(BodyPartExamined="HAND", PatientOrientation=["R", "F"]), card) == ()


def mr_entry(**quality: Any) -> InputEntry:
    return InputEntry.model_validate({
        "modality": ["MR"], "intensity": {"unit": "arbitrary"}, "quality": quality,
    })


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"ContrastBolusAgent": "GADOVIST"}, ""), ({}, "input.no_contrast_agent"),
     ({"ContrastBolusAgent": "none "}, "input.no_contrast_agent"),
     ({"ContrastBolusAgentSequence": [Dataset()]}, ""),
     ({"ContrastBolusAgent": "GD", "EchoTime": "98"}, "input.echo_time"),
     ({"ContrastBolusAgent": "GD", "EchoTime": "12"}, "")],
)
def test_an_mr_before_contrast_medium_or_of_another_weighting_is_refused(
    values: dict[str, object], reason: str
) -> None:
    card = mr_entry(contrast_agent="required", echo_time_ms=[1, 30])
    # One image of the series is enough.
    images = [header(ContrastBolusAgent="GD", EchoTime="12"), header(**values)]
    if not reason:
        (note,) = check_acquisition(images, card)
        assert note.text == "passed in the headers: contrast agent; echo time"
        return
    with pytest.raises(UnsuitableInput) as refused:
        check_acquisition(images, card)
    assert refused.value.reason == reason


def test_the_echo_of_a_multi_frame_mr_is_read_where_it_is() -> None:
    echo, groups = Dataset(), Dataset()
    echo.EffectiveEchoTime = 98.0
    groups.MREchoSequence = [echo]
    with pytest.raises(UnsuitableInput) as refused:
        check_acquisition(
            [header(PerFrameFunctionalGroupsSequence=[groups])], mr_entry(echo_time_ms=[1, 30]))
    assert refused.value.reason == "input.echo_time"
    assert check_acquisition([header()], mr_entry(echo_time_ms=[1, 30]))
    assert check_acquisition([header()], mr_entry()) == ()
