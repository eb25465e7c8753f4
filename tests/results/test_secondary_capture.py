from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset

from ai_models.types import Label, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.drawing import contour_colors, drawable
from dicom_node.results.secondary_capture import (
    build_notice_page,
    build_saliency_captures,
    build_secondary_captures,
    shown_slices,
)
from tests.conformance import validators
from tests.dicom_samples import radiograph
from tests.results import corner_phantom, samples
from tests.results.referenced_plane import Point, plane_of, to_patient

MASK = samples.lungs()
GREY = np.full(MASK.shape, 90, np.uint8)


def pixels_of(capture: Dataset) -> npt.NDArray[np.uint8]:
    rows, columns = capture.Rows, capture.Columns
    flat = np.frombuffer(capture.PixelData, np.uint8, rows * columns * 3)
    return flat.reshape(rows, columns, 3)


def captures(
    datasets: list[Dataset] | None = None, mask: LabelMap = MASK, **changes: Any
) -> list[Dataset]:
    request = samples.request_for(samples.ct() if datasets is None else datasets, **changes)
    return build_secondary_captures(
        request, mask, np.full(mask.shape, 90, np.uint8), series_number=9006
    )


def drawn(capture: Dataset, label: Label) -> npt.NDArray[np.bool_]:
    """Where the colour of a label is, on the rows and columns of the source."""
    picture = pixels_of(capture)[: MASK.shape[1], : MASK.shape[2]]
    return (picture == label.color_rgb).all(axis=2)


def test_there_is_a_picture_of_every_slice_with_a_finding_and_of_no_other() -> None:
    datasets = samples.ct()
    pictures = captures(datasets)
    shown = [str(one.SourceImageSequence[0].ReferencedSOPInstanceUID) for one in pictures]
    assert shown == [str(datasets[index].SOPInstanceUID) for index in range(1, 9)]
    assert [one.InstanceNumber for one in pictures] == list(range(1, 9))
    assert len({one.SOPInstanceUID for one in pictures}) == 8
    assert {one.SeriesNumber for one in pictures} == {9006}


def test_a_contour_is_the_rim_of_its_mask_and_the_rest_of_the_image_stays_grey() -> None:
    picture = captures()[2]
    section = MASK[3] == 1
    assert drawn(picture, samples.RIGHT).sum() == 14 * 22 - 12 * 20 + 2 * (3 + 5)
    assert not drawn(picture, samples.RIGHT)[~section].any()
    untouched = ~drawn(picture, samples.RIGHT) & ~drawn(picture, samples.LEFT)
    source = pixels_of(picture)[: MASK.shape[1], : MASK.shape[2]]
    assert (source[untouched] == 90).all()


def test_a_small_matrix_gets_a_legend_that_can_be_read_and_says_how_it_was_padded() -> None:
    picture = captures()[0]
    below, right = picture.Rows - MASK.shape[1], picture.Columns - MASK.shape[2]
    assert picture.Columns >= 384
    assert f"{below} rows below and {right} columns on the right" in picture.DerivationDescription


def test_an_empty_mask_has_no_pictures() -> None:
    assert captures(mask=np.zeros_like(MASK)) == []


def test_a_long_series_is_thinned_evenly_and_keeps_the_largest_section_of_each_label() -> None:
    mask = np.zeros((200, 6, 6), np.uint8)
    mask[10:190, 1:3, 1:3] = 1
    mask[31, 1:4, 1:3] = 1
    mask[77, 4, 4] = 2
    shown = shown_slices(mask)
    assert len(shown) <= 60
    assert {31, 77, 10, 189} <= set(shown)
    assert max(np.diff(shown)) <= 5
    assert shown == sorted(set(shown))


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    datasets = samples.ct()
    for number in range(2):
        captures(datasets)[0].save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "1.dcm").read_bytes()


def test_a_demonstration_is_marked_in_the_picture_and_in_words() -> None:
    plain = samples.ALGORITHM.__class__(**{**vars(samples.ALGORITHM), "demonstration": False})
    marked, unmarked = captures()[0], captures(algorithm=plain)[0]
    assert "DEMONSTRATION, NOT FOR CLINICAL USE" in marked.SeriesDescription
    assert "DEMONSTRATION, NOT FOR CLINICAL USE" in marked.DerivationDescription
    assert "DEMONSTRATION" not in unmarked.SeriesDescription + unmarked.DerivationDescription
    assert marked.Rows > unmarked.Rows


def test_a_frame_of_an_enhanced_image_is_named_by_its_number() -> None:
    order = [3, 7, 1, 0, 2, 9, 8, 6, 5, 4]
    frames = [order.index(slice_) + 1 for slice_ in range(10)]
    pictures = captures([samples.enhanced(order)], frame_numbers=frames)
    named = [int(one.SourceImageSequence[0].ReferencedFrameNumber) for one in pictures]
    assert named == frames[1:9]
    assert [float(value) for value in pictures[0].PixelSpacing] == [1.0, 1.25]


def test_what_is_burned_in_the_source_is_said_of_the_picture() -> None:
    assert captures()[0].BurnedInAnnotation == "NO"
    assert captures(samples.ct(BurnedInAnnotation="YES"))[0].BurnedInAnnotation == "YES"


def test_a_lossy_source_stays_lossy() -> None:
    lossy = samples.ct(
        LossyImageCompression="01",
        LossyImageCompressionRatio="12",
        LossyImageCompressionMethod="ISO_10918_1",
    )
    picture = captures(lossy)[0]
    assert picture.LossyImageCompression == "01"
    assert picture.LossyImageCompressionRatio == 12


@pytest.mark.parametrize("kind", ["CR", "MG"])
def test_a_radiograph_gives_one_picture(kind: str) -> None:
    image = radiograph(Modality=kind, PatientOrientation=["L", "F"])
    mask = np.zeros((1, image.Rows, image.Columns), np.uint8)
    mask[0, 3:9, 4:12] = 1
    pictures = captures([image], mask)
    assert len(pictures) == 1
    assert list(pictures[0].PatientOrientation) == ["L", "F"]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(GateRefused, match="drawn") as refusal:
        captures(mask=MASK[:, :-1])
    assert refusal.value.reason == "gate.shape"


def test_saliency_is_shown_where_it_is_high_and_leaves_the_rest_grey() -> None:
    saliency = np.zeros(MASK.shape, np.float32)
    saliency[4:7, 10:20, 10:20] = [[[0.6]], [[1.0]], [[0.4]]]
    saliency[0, 0, 0] = np.nan
    request = samples.request_for(samples.ct())
    pictures = build_saliency_captures(request, {"Nodule": saliency}, GREY, series_number=9006)
    assert len(pictures) == 2
    picture = pixels_of(pictures[1])[: MASK.shape[1], : MASK.shape[2]].astype(int)
    warm = np.ptp(picture, axis=2) > 0
    assert warm[10:20, 10:20].all()
    assert warm.sum() == 100


def test_a_notice_is_in_english_where_no_font_has_its_characters() -> None:
    request = samples.request_for(samples.ct(), language="zh")
    chinese = build_notice_page(
        request, ["未分析：切片太少"], series_number=9006, english=["Not analysed: too few slices"]
    )
    english = build_notice_page(request, ["Not analysed: too few slices"], series_number=9006)
    has_font = drawable("未分析：切片太少", "?") != "?"
    assert (pixels_of(chinese).tobytes() == pixels_of(english).tobytes()) is not has_font
    assert "SourceImageSequence" not in chinese


def complaints(path: Path, source: Path) -> list[str]:
    try:
        return validators.unexplained(
            [
                *validators.dciodvfy(path),
                *validators.dcentvfy(source, path),
                *validators.dcmdump(path),
            ]
        )
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("pose", ["axial", "radiograph", "mammogram"])
def test_validators_have_nothing_to_say(pose: str, tmp_path: Path) -> None:
    datasets, mask = samples.ct(SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Zoë"), MASK
    if pose != "axial":
        datasets = [radiograph(Modality="MG" if pose == "mammogram" else "DX")]
        mask = np.zeros((1, datasets[0].Rows, datasets[0].Columns), np.uint8)
        mask[0, 3:9, 4:12] = 1
    request = samples.request_for(datasets)
    grey = np.full(mask.shape, 90, np.uint8)
    objects = [
        captures(datasets, mask)[0],
        build_saliency_captures(
            request, {"Nodule": (mask > 0).astype(np.float32)}, grey, series_number=9006
        )[0],
        build_notice_page(request, ["Nothing was found."], series_number=9006),
    ]
    datasets[0].save_as(tmp_path / "source.dcm", enforce_file_format=True)
    for number, one in enumerate(objects):
        path = tmp_path / f"{number}.dcm"
        one.save_as(path, enforce_file_format=True)
        assert complaints(path, tmp_path / "source.dcm") == []


def found_corners_mm(pose: corner_phantom.Pose, mask: LabelMap) -> dict[int, Point]:
    """Label value to the mean of its contours' pixel centres, by the source that each names."""
    request, grey = corner_phantom.request_for(pose), np.full(mask.shape, 90, np.uint8)
    found: dict[int, Point] = {}
    for picture in build_secondary_captures(request, mask, grey, series_number=9006):
        image = plane_of(pose, picture.SourceImageSequence[0])
        pixels = pixels_of(picture)[: mask.shape[1], : mask.shape[2]]
        for value, color in contour_colors(corner_phantom.LABELS).items():
            places = np.argwhere((pixels == color).all(axis=2))
            if len(places):
                found[value] = to_patient(image, places.mean(axis=0))
    return found


@pytest.mark.parametrize("name", corner_phantom.NAMES)
def test_a_corner_lies_where_it_was_in_every_pose(name: str) -> None:
    pose = corner_phantom.pose(name)
    mask = pose.label_map.copy()
    mask[[index for index in range(len(mask)) if index not in (2, len(mask) - 3)]] = 0
    expected = corner_phantom.centres_mm(pose, mask)
    found = found_corners_mm(pose, mask)
    assert set(found) == set(pose.corners_mm)
    assert all(np.abs(found[value] - expected[value]).max() < 1e-3 for value in expected)


@pytest.mark.parametrize(
    ("attributes", "ratio"),
    [
        ({"PixelSpacing": None, "ImagerPixelSpacing": ["0.3", "0.2"]}, [3, 2]),
        ({"PixelSpacing": None, "ImagerPixelSpacing": None, "PixelAspectRatio": [1, 2]}, [1, 2]),
        ({"PixelSpacing": None, "ImagerPixelSpacing": ["0.2", "0.2"]}, None),
        ({"PixelSpacing": ["0.3", "0.2"]}, None),
    ],
)
def test_a_picture_of_a_radiograph_has_pixels_of_the_same_shape(
    attributes: dict[str, Any], ratio: list[int] | None
) -> None:
    image = radiograph()
    for keyword, value in attributes.items():
        if value is None:
            image.pop(keyword, None)
        else:
            setattr(image, keyword, value)
    salient = np.full((1, image.Rows, image.Columns), 0.5, np.float32)
    (picture,) = build_saliency_captures(
        samples.request_for([image]), {"pneumonia": salient},
        np.full(salient.shape, 90, np.uint8), series_number=9006,
    )
    assert picture.get("PixelAspectRatio") == ratio
    assert picture.get("PixelSpacing") == (image.get("PixelSpacing") or None)
