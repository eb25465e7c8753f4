from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.types import LabelMap
from dicom_node.errors import GateRefused, UnsuitableInput
from dicom_node.results.gate_pictures import check_presentation_state
from dicom_node.results.presentation_state import build_presentation_state
from tests.conformance import validators
from tests.dicom_samples import radiograph
from tests.results import corner_phantom, samples
from tests.results.referenced_plane import Point, plane_of, to_patient

MASK = samples.lungs()


def state_of(datasets: list[Dataset], mask: LabelMap = MASK, **changes: Any) -> Dataset:
    request = samples.request_for(datasets, **changes)
    state = build_presentation_state(request, mask, series_number=9008)
    assert state is not None
    return state


def outlines_of(state: Dataset) -> list[tuple[Dataset, str, list[np.ndarray]]]:
    """Reference, layer and (n, 2) (column, row) points of every annotation with graphics."""
    return [
        (
            one.ReferencedImageSequence[0],
            one.GraphicLayer,
            [np.reshape(g.GraphicData, (-1, 2)) for g in one.GraphicObjectSequence],
        )
        for one in state.GraphicAnnotationSequence
        if "GraphicObjectSequence" in one
    ]


def texts_of(state: Dataset) -> list[str]:
    return [
        text.UnformattedTextValue
        for one in state.GraphicAnnotationSequence
        for text in one.get("TextObjectSequence", [])
    ]


def test_the_outlines_of_every_slice_enclose_its_mask_with_its_holes() -> None:
    datasets = samples.ct()
    state = state_of(datasets)
    check_presentation_state(state, datasets, [1] * 10, MASK, samples.LABELS)
    with_hole = [loops for _, layer, loops in outlines_of(state) if len(loops) == 2]
    assert len(with_hole) == 2
    assert with_hole[0][1].tolist() == [[7, 15], [10, 15], [10, 20], [7, 20], [7, 15]]


def test_each_label_has_a_layer_in_its_colour_and_is_named_once() -> None:
    state = state_of(samples.ct())
    layers = {layer.GraphicLayer: layer for layer in state.GraphicLayerSequence}
    assert list(layers) == ["L1 RIGHT LUNG", "L2 LEFT LUNG", "NOTICE"]
    assert "GraphicLayerRecommendedDisplayCIELabValue" in layers["L1 RIGHT LUNG"]
    assert texts_of(state)[:2] == ["Right lung", "Left lung"]


def test_every_image_says_that_nobody_verified_the_demonstration() -> None:
    state = state_of(samples.ct())
    notice = state.GraphicAnnotationSequence[-1]
    assert len(notice.ReferencedImageSequence) == 8
    assert texts_of(state)[-1].startswith("DEMONSTRATION, NOT FOR CLINICAL USE. AI result, not ver")


def test_an_empty_mask_has_no_presentation_state() -> None:
    request = samples.request_for(samples.ct())
    assert build_presentation_state(request, np.zeros_like(MASK), series_number=9008) is None


def test_an_outline_too_long_for_its_element_goes_on_in_the_next_one() -> None:
    image = radiograph(np.zeros((120, 300), np.uint16))
    mask = np.zeros((1, 120, 300), np.uint8)
    mask[0, :, 0] = mask[0, ::4, :] = mask[0, 1::4, ::2] = 1
    state = state_of([image], mask)
    lengths = [len(loop) for _, _, loops in outlines_of(state) for loop in loops]
    assert max(lengths) == 8191
    check_presentation_state(state, [image], [1], mask, samples.LABELS)


def test_a_colour_image_has_no_grayscale_presentation() -> None:
    datasets = samples.ct(SamplesPerPixel=3)
    with pytest.raises(UnsuitableInput) as refusal:
        state_of(datasets)
    assert refusal.value.reason == "input.color"


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(GateRefused) as refusal:
        state_of(samples.ct(), MASK[:, :-1])
    assert refusal.value.reason == "gate.shape"


def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    datasets = samples.ct()
    for number in range(2):
        state_of(datasets).save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    assert (tmp_path / "0.dcm").read_bytes() == (tmp_path / "1.dcm").read_bytes()


@pytest.mark.parametrize("source", ["axial", "enhanced", "radiograph"])
def test_validators_have_nothing_to_say(source: str, tmp_path: Path) -> None:
    datasets, mask, frames = samples.ct(WindowCenter="-600", WindowWidth="1500"), MASK, [1] * 10
    if source == "enhanced":
        datasets, frames = [samples.enhanced()], list(range(1, 11))
        datasets[0].BodyPartExamined = "CHEST"
    if source == "radiograph":
        datasets, mask, frames = [radiograph()], MASK[3:4], [1]
        datasets[0].Rows, datasets[0].Columns = mask.shape[1:]
    state = state_of(datasets, mask, frame_numbers=frames)
    state.save_as(tmp_path / "state.dcm", enforce_file_format=True)
    datasets[0].save_as(tmp_path / "source.dcm", enforce_file_format=True)
    try:
        complaints = [
            *validators.dciodvfy(tmp_path / "state.dcm"),
            *validators.dcentvfy(tmp_path / "source.dcm", tmp_path / "state.dcm"),
            *validators.dcmdump(tmp_path / "state.dcm"),
        ]
    except validators.ToolMissing as missing:
        pytest.skip(str(missing))
    assert validators.unexplained(complaints) == []


def found_corners_mm(pose: corner_phantom.Pose) -> dict[int, Point]:
    """Label value to the mean over its slices of the centres that its outlines enclose."""
    state = build_presentation_state(
        corner_phantom.request_for(pose), pose.label_map, series_number=9008
    )
    assert state is not None
    centres: dict[int, list[Point]] = {}
    for reference, layer, loops in outlines_of(state):
        assert len(loops) == 1
        column, row = loops[0][:-1].mean(axis=0)
        value = int(layer.split()[0].removeprefix("L"))
        place = np.array([row - 0.5, column - 0.5])
        centres.setdefault(value, []).append(to_patient(plane_of(pose, reference), place))
    return {value: np.mean(points, axis=0) for value, points in centres.items()}


@pytest.mark.parametrize("name", corner_phantom.NAMES)
def test_a_corner_lies_where_it_was_in_every_pose(name: str) -> None:
    pose = corner_phantom.pose(name)
    assert corner_phantom.voxels_off(pose, found_corners_mm(pose)) < 1e-3
