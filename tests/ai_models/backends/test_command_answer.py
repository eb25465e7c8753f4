"""What a program leaves is compared with the card and with the grid of its input."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ai_models.backends.command_answer import read_answer
from ai_models.backends.command_files import write_input
from ai_models.backends.protocol import Answer, NetworkInput
from ai_models.card import Card, load_card
from ai_models.types import ModelError
from tests.ai_models.backends.command_models import write_command
from tests.ai_models.backends.test_command import AFFINE, radiograph, volume
from tests.ai_models.tiny_models import card_values

RAS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
TWO_LABELS = [
    *card_values()["output"]["labels"],
    {**card_values()["output"]["labels"][0], "value": 2, "name": "B", "color_rgb": [0, 0, 255]},
]
SCORES = {"nodule": 0.25, "effusion": 0.75}
BOX = {"corners": [[0, 1, 2], [3, 4, 5.5]], "score": 0.9, "label": 1}


def card(tmp_path: Path, **changes: object) -> Card:
    return load_card(write_command(tmp_path / "model", Path("python"), "", **changes))


def save(folder: Path, name: str, values: Any, affine: Any = RAS) -> None:
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / name)


def read(folder: Path, made: Card, image: NetworkInput | None = None) -> Answer:
    return read_answer(folder, image or volume(), made)


def refusal(folder: Path, made: Card, image: NetworkInput | None = None) -> tuple[str, str]:
    with pytest.raises(ModelError) as refused:
        read(folder, made, image)
    return refused.value.reason, str(refused.value)


def labels(value: float = 1) -> Any:
    array = np.zeros((4, 5, 6), dtype=np.float32)
    array[2, 3, 4] = value
    return array


def test_labels_as_decimals_and_with_a_fourth_axis_are_read(tmp_path: Path) -> None:
    save(tmp_path, "labels.nii.gz", labels()[..., None])
    label_map = read(tmp_path, card(tmp_path)).label_map
    assert label_map is not None
    assert label_map.dtype == np.uint8
    assert list(np.argwhere(label_map)[0]) == [2, 3, 4]


@pytest.mark.parametrize("value", [2, 0.5, -1, 300, np.nan])
def test_a_label_that_is_not_on_the_card_is_refused(tmp_path: Path, value: float) -> None:
    save(tmp_path, "labels.nii.gz", labels(value))
    assert refusal(tmp_path, card(tmp_path))[0] == "model.unknown_label"


def test_an_ignored_label_becomes_background(tmp_path: Path) -> None:
    save(tmp_path, "labels.nii.gz", labels(2))
    label_map = read(tmp_path, card(tmp_path, output__ignored=[2])).label_map
    assert label_map is not None
    assert not label_map.any()


@pytest.mark.parametrize("values, affine", [
    (np.zeros((4, 5, 7)), RAS),
    (np.zeros((6, 5, 4)), RAS),
    (np.zeros((4, 5, 6, 2)), RAS),
    (np.zeros((4, 5, 6)), AFFINE),
    (np.zeros((4, 5, 6)), np.eye(4)),
    (np.zeros((4, 5, 6)), RAS @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.1], [0, 0, 0, 1]]),
])
def test_another_grid_is_refused(tmp_path: Path, values: Any, affine: Any) -> None:
    save(tmp_path, "labels.nii.gz", values.astype(np.uint8), affine)
    assert refusal(tmp_path, card(tmp_path))[0] == "model.wrong_geometry"


def test_a_hair_of_displacement_by_rounding_is_allowed(tmp_path: Path) -> None:
    save(tmp_path, "labels.nii.gz", labels(), RAS * (1 + 1e-5))
    assert read(tmp_path, card(tmp_path)).label_map is not None


@pytest.mark.parametrize("content", [
    b"", b"not a NIfTI file at all", gzip.compress(b"x" * 400),
], ids=["empty", "text", "compressed text"])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.nii.gz").write_bytes(content)
    assert refusal(tmp_path, card(tmp_path))[0] == "model.wrong_output"


def test_a_truncated_answer_is_refused(tmp_path: Path) -> None:
    save(tmp_path, "labels.nii.gz", np.random.default_rng(1).random((4, 5, 6)))
    whole = (tmp_path / "labels.nii.gz").read_bytes()
    (tmp_path / "labels.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path, card(tmp_path))[0] == "model.wrong_output"


def test_colours_are_no_labels(tmp_path: Path) -> None:
    colour = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(tmp_path, "labels.nii.gz", colour)
    assert refusal(tmp_path, card(tmp_path))[0] == "model.wrong_output"


def test_nothing_written_is_told(tmp_path: Path) -> None:
    told = refusal(tmp_path, card(tmp_path))
    assert told == ("model.no_output", "the program wrote no labels.nii.gz")


def test_a_pipe_or_a_link_in_place_of_a_file_is_not_opened(tmp_path: Path) -> None:
    made = card(tmp_path)
    os.mkfifo(tmp_path / "labels.nii.gz")
    assert refusal(tmp_path, made)[0] == "model.no_output"
    (tmp_path / "labels.nii.gz").unlink()
    save(tmp_path, "elsewhere.nii.gz", labels())
    (tmp_path / "labels.nii.gz").symlink_to("elsewhere.nii.gz")
    assert refusal(tmp_path, made)[0] == "model.no_output"


def test_probabilities_come_with_their_background_first(tmp_path: Path) -> None:
    save(tmp_path, "probabilities-1.nii.gz", labels(0.25))
    save(tmp_path, "probabilities-2.nii.gz", labels(0.5))
    scores = read(tmp_path, card(tmp_path, output__labels=TWO_LABELS)).scores
    assert scores is not None
    assert scores.dtype == np.float32
    assert list(scores[:, 2, 3, 4]) == [0.25, 0.25, 0.5]
    assert list(scores[:, 0, 0, 0]) == [1, 0, 0]


def test_overlapping_labels_need_probabilities_and_no_background(tmp_path: Path) -> None:
    made = card(
        tmp_path, output__labels=TWO_LABELS, output__activation="sigmoid", output__overlapping=True
    )
    save(tmp_path, "labels.nii.gz", labels())
    save(tmp_path, "probabilities-1.nii.gz", labels(0.9))
    assert refusal(tmp_path, made) == (
        "model.no_output", "the program wrote no probabilities-2.nii.gz"
    )
    save(tmp_path, "probabilities-2.nii.gz", labels(0.8))
    scores = read(tmp_path, made).scores
    assert scores is not None
    np.testing.assert_allclose(scores[:, 2, 3, 4], [0.9, 0.8])


@pytest.mark.parametrize("value, code", [
    (1.5, "model.wrong_output"), (-0.5, "model.wrong_output"), (np.nan, "model.not_finite"),
])
def test_what_is_no_probability_is_refused(tmp_path: Path, value: float, code: str) -> None:
    save(tmp_path, "probabilities-1.nii.gz", labels(value))
    assert refusal(tmp_path, card(tmp_path))[0] == code


def test_probabilities_of_a_label_that_is_not_on_the_card_are_refused(tmp_path: Path) -> None:
    save(tmp_path, "probabilities-7.nii.gz", labels(0.5))
    assert refusal(tmp_path, card(tmp_path))[0] == "model.unknown_label"


def test_an_image_is_one_slice_in_files_and_none_in_arrays(tmp_path: Path) -> None:
    made = card(tmp_path)
    write_input(tmp_path, radiograph(), made)
    picture = nibabel.load(tmp_path / "image-0.nii.gz")
    assert picture.shape == (1, 5, 6)
    save(tmp_path, "labels.nii.gz", labels()[2:3], picture.affine)
    label_map = read(tmp_path, made, radiograph()).label_map
    assert label_map is not None
    assert label_map.shape == (5, 6)
    assert label_map[3, 4] == 1


def test_scores_go_to_the_channels_of_the_card(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(SCORES))
    scores = read(tmp_path, card(tmp_path, task="classification")).scores
    assert scores is not None
    assert list(scores) == [0.25, 0, 0.75]


def test_scores_slice_by_slice_are_as_many_as_slices(tmp_path: Path) -> None:
    made = card(
        tmp_path, task="classification", output__per="slice", input__ndim=2,
        output__channels=3, output__scores=[{"name": "nodule", "channel": 1}],
        output__activation="none",
    )
    (tmp_path / "scores.json").write_text(json.dumps({"nodule": [0, 0.5, 1, 0.25]}))
    scores = read(tmp_path, made).scores
    assert scores is not None
    assert scores.shape == (4, 3)
    assert list(scores[:, 1]) == [0, 0.5, 1, 0.25]
    (tmp_path / "scores.json").write_text(json.dumps({"nodule": [0, 0.5, 1]}))
    assert refusal(tmp_path, made)[0] == "model.wrong_output"


@pytest.mark.parametrize("document, code", [
    ({"nodule": 0.5}, "model.no_output"),
    ({**SCORES, "fracture": 0.5}, "model.unknown_label"),
    ({**SCORES, "nodule": 1.5}, "model.wrong_output"),
    ({**SCORES, "nodule": "0.5"}, "model.wrong_output"),
    ({**SCORES, "nodule": True}, "model.wrong_output"),
    ({**SCORES, "nodule": None}, "model.wrong_output"),
    ({**SCORES, "nodule": float("nan")}, "model.wrong_output"),
    ([0.5, 0.5], "model.wrong_output"),
])
def test_wrong_scores_are_refused(tmp_path: Path, document: Any, code: str) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(document))
    assert refusal(tmp_path, card(tmp_path, task="classification"))[0] == code


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 200_000, b" " * (17 << 20)])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "scores.json").write_bytes(content)
    assert refusal(tmp_path, card(tmp_path, task="classification"))[0] == "model.wrong_output"


def test_values_are_read_as_they_are(tmp_path: Path) -> None:
    made = card(tmp_path, task="regression")
    (tmp_path / "values.json").write_text('{"bone_age": 123.5}')
    scores = read(tmp_path, made).scores
    assert scores is not None
    assert list(scores) == [123.5]
    (tmp_path / "values.json").write_text('{"bone_age": 1e300}')
    assert refusal(tmp_path, made)[0] == "model.not_finite"


def test_boxes_are_read_with_score_and_label(tmp_path: Path) -> None:
    made = card(tmp_path, task="detection")
    (tmp_path / "boxes.json").write_text(json.dumps([BOX]))
    boxes = read(tmp_path, made).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes, [[0, 1, 2, 3, 4, 5.5, 0.9, 1]])
    (tmp_path / "boxes.json").write_text("[]")
    boxes = read(tmp_path, made).boxes
    assert boxes is not None
    assert boxes.shape == (0, 8)


def test_boxes_of_an_image_are_one_slice_thick(tmp_path: Path) -> None:
    flat = {**BOX, "corners": [[1, 2], [4, 5.5]]}
    (tmp_path / "boxes.json").write_text(json.dumps([flat]))
    boxes = read(tmp_path, card(tmp_path, task="detection"), radiograph()).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes, [[0, 1, 2, 1, 4, 5.5, 0.9, 1]])


@pytest.mark.parametrize("change, code", [
    ({"label": 2}, "model.unknown_label"),
    ({"label": [1]}, "model.unknown_label"),
    ({"score": 1.5}, "model.wrong_output"),
    ({"score": "high"}, "model.wrong_output"),
    ({"corners": [[3, 4, 5], [0, 1, 2]]}, "model.wrong_output"),
    ({"corners": [[0, 1], [3, 4]]}, "model.wrong_output"),
    ({"corners": [[0, 1, 2]]}, "model.wrong_output"),
    ({"colour": "red"}, "model.wrong_output"),
])
def test_wrong_boxes_are_refused(tmp_path: Path, change: dict[str, Any], code: str) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps([{**BOX, **change}]))
    assert refusal(tmp_path, card(tmp_path, task="detection"))[0] == code


def test_text_is_cleaned_and_never_empty(tmp_path: Path) -> None:
    made = card(tmp_path, task="text")
    (tmp_path / "text.txt").write_text(" No \x1b[1mnodule\x00.\r\n")
    assert read(tmp_path, made).text == "No [1mnodule."
    (tmp_path / "text.txt").write_text(" \n")
    assert refusal(tmp_path, made)[0] == "model.no_output"
    (tmp_path / "text.txt").write_text("x" * (300 << 10))
    assert refusal(tmp_path, made)[0] == "model.wrong_output"


def test_the_prompt_of_the_card_is_told(tmp_path: Path) -> None:
    write_input(tmp_path, volume(), card(tmp_path, task="text"))
    told = json.loads((tmp_path / "input.json").read_text())
    assert (told["task"], told["prompt"], told["max_tokens"]) == ("text", "Describe it.", 64)
