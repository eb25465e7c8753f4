"""A series becomes what a card asks for: a stack, or one projection image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai_models.card_entries import InputEntry
from ai_models.types import Image, Volume
from dicom_node.errors import UnsuitableInput
from dicom_node.pipeline.loading import load_input
from tests.dicom_samples import ct_series, radiograph, with_attributes, write_instance, write_series

STACK: dict[str, Any] = {
    "modality": ["CT"], "spacing_mm": [2, 2, 2], "intensity": {"unit": "HU", "clip": [0, 1]},
}
RADIOGRAPH: dict[str, Any] = {
    "kind": "image", "ndim": 2, "modality": ["DX"], "intensity": {"unit": "displayed"},
}


def stack(**changes: Any) -> InputEntry:
    return InputEntry.model_validate({**STACK, **changes})


def projection(**changes: Any) -> InputEntry:
    return InputEntry.model_validate({**RADIOGRAPH, **changes})


def views(folder: Path, *positions: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for number, position in enumerate(positions):
        dataset = radiograph()
        dataset.SOPInstanceUID = f"1.2.3.4.{number + 1}"
        dataset.Modality, dataset.ViewPosition = "DX", position
        paths.append(write_instance(dataset, folder / f"{number}.dcm"))
    return paths


def test_a_stack_becomes_a_volume_that_can_be_shown(tmp_path: Path) -> None:
    loaded = load_input(write_series(ct_series((12, 32, 40)), tmp_path), stack())
    assert isinstance(loaded.model_input, Volume)
    assert loaded.display(()).shape == (12, 32, 40)
    assert len(loaded.source_images) == len(loaded.content_digests) == 12


def test_a_radiograph_becomes_an_image_of_one_slice(tmp_path: Path) -> None:
    path, = views(tmp_path, "PA")
    loaded = load_input([path], projection())
    assert isinstance(loaded.model_input, Image)
    assert loaded.display(()).shape == (1, *loaded.model_input.array.shape)
    assert loaded.frame_numbers == (1,) and len(loaded.content_digests) == 1


def test_of_two_views_the_one_of_the_card_is_taken_and_the_other_is_named(tmp_path: Path) -> None:
    loaded = load_input(views(tmp_path, "LL", "PA"), projection(views=["PA", "AP"]))
    assert loaded.source_images[0].ViewPosition == "PA"
    assert [note.text for note in loaded.notes if note.code == "input.other_views"] == [
        "without 1 of 2 images: their view is not PA, AP"
    ]


@pytest.mark.parametrize(
    ("positions", "entry", "reason"),
    [
        (("PA", "PA"), projection(), "input.several_images"),
        (("PA", "AP"), projection(views=["PA", "AP"]), "input.several_images"),
        (("LL",), projection(views=["PA"]), "input.no_such_view"),
        (("PA",), projection(modality=["CR"]), "input.modality"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    tmp_path: Path, positions: tuple[str, ...], entry: InputEntry, reason: str
) -> None:
    with pytest.raises(UnsuitableInput) as refused:
        load_input(views(tmp_path, *positions), entry)
    assert refused.value.reason == reason


def test_slices_thicker_than_the_card_allows_are_refused(tmp_path: Path) -> None:
    paths = write_series(with_attributes(ct_series((12, 32, 40)), SliceThickness="7.5"), tmp_path)
    assert load_input(paths, stack(max_slice_thickness_mm=7.5)).model_input is not None
    with pytest.raises(UnsuitableInput, match=r"7\.5 mm thick, the model allows 5 mm"):
        load_input(paths, stack(max_slice_thickness_mm=5))


def test_another_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableInput) as refused:
        load_input(write_series(ct_series((12, 32, 40)), tmp_path), stack(modality=["MR"]))
    assert refused.value.reason == "input.modality"


def test_without_a_card_the_modality_tells_what_it_is(tmp_path: Path) -> None:
    path, = views(tmp_path / "image", "PA")
    assert isinstance(load_input([path]).model_input, Image)
    paths = write_series(ct_series((12, 32, 40)), tmp_path / "stack")
    assert isinstance(load_input(paths).model_input, Volume)
