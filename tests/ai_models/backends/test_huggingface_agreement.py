"""A folder and a card that say different things about one network are not believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai_models.backends.huggingface_agreement import check_preprocessing, compare_names, word
from ai_models.card import Card, load_card
from ai_models.types import ModelError
from tests.ai_models.backends.hf_models import BONE_AGE, IMAGE, SCORES, SLICES, write_card
from tests.ai_models.tiny_models import card_values

PROCESSOR: dict[str, Any] = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
TO_ONE = {"unit": "displayed", "clip": [0, 1], "scale_to": [-1, 1]}


def card(tmp_path: Path, **changes: Any) -> Card:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    is_image = changes.get("input", IMAGE).get("kind") == "image"
    return load_card(write_card(tmp_path, **{
        "task": "classification", "input": IMAGE,
        "output": {**SCORES, "per": "image" if is_image else "slice"}, **changes,
    }))


@pytest.mark.parametrize("entry, processor", [
    (IMAGE, PROCESSOR),
    (IMAGE, {}),
    ({**IMAGE, "normalisation": "none"}, {**PROCESSOR, "do_normalize": False}),
    ({**IMAGE, "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}}, {**PROCESSOR, **HALVES}),
    ({**IMAGE, "normalisation": {"mean": [0.5], "std": [0.5]}, "repeat": 1},
     {**PROCESSOR, "image_mean": 0.5, "image_std": 0.5}),
    ({**IMAGE, "intensity": TO_ONE, "normalisation": "none"}, {**PROCESSOR, **HALVES}),
    ({**IMAGE, "intensity": {"unit": "displayed", "scale_to": [0, 255]}, "normalisation": "none"},
     {**PROCESSOR, "do_rescale": False, "do_normalize": False}),
    (IMAGE, {**PROCESSOR, "size": 32}),
    (IMAGE, {**PROCESSOR, "size": {"shortest_edge": 36}, "do_center_crop": True,
             "crop_size": {"height": 32, "width": 32}}),
    (IMAGE, {**PROCESSOR, "size": {"shortest_edge": 36}}),
    ({**IMAGE, "size": None}, {**PROCESSOR, "do_resize": False}),
])
def test_the_same_in_other_words_is_the_same(
    tmp_path: Path, entry: dict[str, Any], processor: dict[str, Any]
) -> None:
    check_preprocessing(card(tmp_path, input=entry), processor)


@pytest.mark.parametrize("entry, processor, said", [
    (IMAGE, {**PROCESSOR, "size": {"height": 224, "width": 224}},
     "gives the network 224 x 224 pixels, the card 32 x 32"),
    ({**IMAGE, "size": None}, PROCESSOR, "32 x 32 pixels, the card no size"),
    (IMAGE, {**PROCESSOR, **HALVES}, "channel 0 to -1 and 1, the card to -2.118 and 2.249"),
    ({**IMAGE, "normalisation": "none"}, PROCESSOR, "-2.118 and 2.249, the card to 0 and 1"),
    (IMAGE, {**PROCESSOR, "do_rescale": False}, "the card to -2.118 and 2.249"),
    ({**IMAGE, "normalisation": "zscore"}, PROCESSOR, "depend on the input"),
    ({**SLICES, "size": {"edges": [32, 32]}, "intensity": {"unit": "HU"}}, PROCESSOR,
     "depend on the input"),
    ({**IMAGE, "repeat": 1, "normalisation": "none"}, PROCESSOR, "3 channels, the card gives 1"),
    (IMAGE, {**PROCESSOR, "image_std": [0, 1, 1]}, "image_mean and image_std"),
    (IMAGE, {**PROCESSOR, "image_std": None}, "image_mean and image_std"),
    ({**SLICES, "size": {"edges": [32, 32]}, "intensity": {"unit": "HU", "clip": [-1000, 1000]}},
     PROCESSOR, "the card to"),
])
def test_a_difference_is_refused_with_both_sides(
    tmp_path: Path, entry: dict[str, Any], processor: dict[str, Any], said: str
) -> None:
    with pytest.raises(ModelError) as refused:
        check_preprocessing(card(tmp_path, input=entry), processor)
    assert refused.value.reason == "model.preprocessing_differs"
    assert said in str(refused.value)


@pytest.mark.parametrize("names", [
    {},
    {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"},
    {"0": "Nodule", "1": "Fracture", "2": "EFFUSION"},
])
def test_names_that_agree_or_say_nothing_are_taken(tmp_path: Path, names: dict[Any, str]) -> None:
    assert compare_names(card(tmp_path), names) == ()


@pytest.mark.parametrize("names", [
    {0: "Effusion", 1: "Other", 2: "Nodule"},
    {0: "Other", 1: "Nodule", 2: "Pleural effusion"},
    {0: "Effusion", 1: "Other", 2: "Something"},
])
def test_names_in_another_order_are_refused(tmp_path: Path, names: dict[int, str]) -> None:
    with pytest.raises(ModelError, match="in another order") as refused:
        compare_names(card(tmp_path), names)
    assert refused.value.reason == "model.labels_differ"


def test_another_word_is_told(tmp_path: Path) -> None:
    notes = compare_names(card(tmp_path), {0: "Lung Nodule", 1: "Other", 2: "Effusion"})
    assert notes == ("channel 0 is 'nodule' on the card and 'lung_nodule' in the folder",)


def test_labels_of_a_segmentation_are_compared_by_channel(tmp_path: Path) -> None:
    first = card_values()["output"]["labels"][0]
    labels = [
        {**first, "name": "Right lung"},
        {**first, "name": "Left lung", "value": 2, "color_rgb": [0, 0, 255]},
    ]
    made = card(tmp_path, task="segmentation", input=SLICES, output={"labels": labels})
    assert compare_names(made, {0: "background", 1: "right-lung", 2: "left-lung"}) == ()
    with pytest.raises(ModelError, match="in another order"):
        compare_names(made, {0: "background", 1: "left lung", 2: "right lung"})


def test_numbers_have_names_too(tmp_path: Path) -> None:
    made = card(tmp_path, task="regression", output=BONE_AGE)
    assert compare_names(made, {0: "Bone age"}) == ()


def test_words_are_written_one_way() -> None:
    assert word(" Lung-Opacity (left)") == "lung_opacity_left"
