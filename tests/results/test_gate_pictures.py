from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom_node.errors import GateRefused
from dicom_node.results.gate_pictures import (
    check_captures,
    check_notice_page,
    check_presentation_state,
    check_secondary_captures,
)
from dicom_node.results.presentation_state import build_presentation_state
from dicom_node.results.secondary_capture import (
    build_notice_page,
    build_saliency_captures,
    build_secondary_captures,
)
from tests.results import samples

SOURCE = samples.ct()
MASK = samples.lungs()
GREY = np.full(MASK.shape, 90, np.uint8)
FRAMES = [1] * len(MASK)
REQUEST = samples.request_for(SOURCE)
MIRRORS = {
    "left and right": np.s_[:, :, ::-1],
    "front and back": np.s_[:, ::-1],
    "head and feet": np.s_[::-1],
}


@functools.cache
def right_captures() -> list[Dataset]:
    return build_secondary_captures(REQUEST, MASK, GREY, series_number=9006)


def captures(mask: np.ndarray | None = None) -> list[Dataset]:
    if mask is None:
        return copy.deepcopy(right_captures())
    return build_secondary_captures(REQUEST, mask, GREY, series_number=9006)


def check(objects: list[Dataset], mask: np.ndarray = MASK) -> None:
    check_secondary_captures(objects, SOURCE, FRAMES, mask, samples.LABELS)


def state(mask: np.ndarray = MASK) -> Dataset:
    built = build_presentation_state(REQUEST, mask, series_number=9008)
    assert built is not None
    return built


def check_state(built: Dataset, mask: np.ndarray = MASK) -> None:
    check_presentation_state(built, SOURCE, FRAMES, mask, samples.LABELS)


def reason(check: Callable[[], object]) -> str:
    with pytest.raises(GateRefused) as refusal:
        check()
    return refusal.value.reason


def shifted() -> np.ndarray:
    return np.roll(MASK, 1, axis=2)


def exchanged() -> np.ndarray:
    return np.array([0, 2, 1], np.uint8)[MASK]


def test_pictures_of_the_mask_pass() -> None:
    check(captures())
    check_captures(captures(), SOURCE, FRAMES)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_pictures_of_a_mirrored_mask_are_refused(mirror: str) -> None:
    assert reason(lambda: check(captures(MASK[MIRRORS[mirror]]))) == "gate.contour"


@pytest.mark.parametrize("wrong", [shifted, exchanged])
def test_shifted_or_exchanged_contours_are_refused(wrong: Callable[[], np.ndarray]) -> None:
    assert reason(lambda: check(captures(wrong()))) == "gate.contour"


def test_a_picture_that_names_another_slice_is_refused() -> None:
    objects = captures()
    first, last = objects[0].SourceImageSequence[0], objects[-1].SourceImageSequence[0]
    first.ReferencedSOPInstanceUID = last.ReferencedSOPInstanceUID
    assert reason(lambda: check(objects)) == "gate.contour"
    first.ReferencedSOPInstanceUID = "1.2.3"
    assert reason(lambda: check(objects)) == "gate.reference"


def test_a_missing_largest_section_is_refused() -> None:
    objects = captures()[:1]
    assert reason(lambda: check(objects)) == "gate.labels"


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("PatientID", "SOMEBODY", "gate.reference"),
        ("StudyInstanceUID", "1.2.3", "gate.reference"),
        pytest.param(
            "SeriesInstanceUID", str(SOURCE[0].SeriesInstanceUID), "gate.reference",
            id="that of the source",
        ),
        ("ImageType", ["ORIGINAL", "PRIMARY"], "gate.reference"),
        ("InstanceNumber", 7, "gate.reference"),
        ("Rows", 12, "gate.shape"),
    ],
)
def test_a_picture_with_a_wrong_header_is_refused(
    keyword: str, value: object, expected: str
) -> None:
    objects = captures()
    for one in objects:
        setattr(one, keyword, value)
    assert reason(lambda: check(objects)) == expected


def test_saliency_is_checked_by_what_it_refers_to() -> None:
    saliency = {"Nodule": (MASK > 0).astype(np.float32)}
    objects = build_saliency_captures(REQUEST, saliency, GREY, series_number=9006)
    assert check_captures(objects, SOURCE, FRAMES) == list(range(1, 9))
    other = samples.ct(PatientID="OTHER")
    assert reason(lambda: check_captures(objects, other, FRAMES)) == "gate.reference"


def test_a_page_of_text_poses_as_no_image() -> None:
    page = build_notice_page(REQUEST, ["Nothing was found."], series_number=9006)
    check_notice_page(page, SOURCE)
    assert reason(lambda: check_notice_page(captures()[0], SOURCE)) == "gate.reference"


def test_a_presentation_state_of_the_mask_passes() -> None:
    check_state(state())


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_presentation_state_of_a_mirrored_mask_is_refused(mirror: str) -> None:
    assert reason(lambda: check_state(state(MASK[MIRRORS[mirror]]))) == "gate.contour"


@pytest.mark.parametrize("wrong", [shifted, exchanged])
def test_shifted_or_exchanged_outlines_are_refused(wrong: Callable[[], np.ndarray]) -> None:
    assert reason(lambda: check_state(state(wrong()))) == "gate.contour"


def outlined(built: Dataset) -> list[Dataset]:
    return [one for one in built.GraphicAnnotationSequence if "GraphicObjectSequence" in one]


def on_another_slice(built: Dataset) -> None:
    first, *_, last = outlined(built)
    first.ReferencedImageSequence = copy.deepcopy(last.ReferencedImageSequence)


def without_a_hole(built: Dataset) -> None:
    annotation = next(one for one in outlined(built) if len(one.GraphicObjectSequence) == 2)
    del annotation.GraphicObjectSequence[1]


def not_closed(built: Dataset) -> None:
    graphic = outlined(built)[0].GraphicObjectSequence[0]
    graphic.GraphicData = graphic.GraphicData[:4]


def off_the_image(built: Dataset) -> None:
    graphic = outlined(built)[0].GraphicObjectSequence[0]
    graphic.GraphicData = [value + 40 for value in graphic.GraphicData]


def half_a_pixel_off(built: Dataset) -> None:
    for annotation in outlined(built):
        for graphic in annotation.GraphicObjectSequence:
            graphic.GraphicData = [value + 0.5 for value in graphic.GraphicData]


@pytest.mark.parametrize(
    "spoil", [on_another_slice, without_a_hole, not_closed, off_the_image, half_a_pixel_off]
)
def test_outlines_that_are_not_those_of_the_mask_are_refused(
    spoil: Callable[[Dataset], None],
) -> None:
    built = state()
    spoil(built)
    assert reason(lambda: check_state(built)) == "gate.contour"


def test_outlines_in_a_layer_of_no_label_are_refused() -> None:
    built = state()
    built.GraphicLayerSequence[0].GraphicLayerDescription = "Liver"
    assert reason(lambda: check_state(built)) == "gate.labels"


def test_an_image_that_is_not_listed_is_refused() -> None:
    built = state()
    del built.ReferencedSeriesSequence[0].ReferencedImageSequence[2]
    assert reason(lambda: check_state(built)) == "gate.reference"
