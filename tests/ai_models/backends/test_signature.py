"""What a network says that it takes is compared with the card, and both are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.backends.signature import check_input_shape, fixed_batch, input_shape
from ai_models.card import Card, load_card
from ai_models.types import ModelError
from tests.ai_models.tiny_models import card_text, card_values

SCORES = {"channels": 2, "scores": [{"name": "effusion", "channel": 1}]}


def card_of(folder: Path, **changes: object) -> Card:
    (folder / "model.yaml").write_text(card_text(card_values(**changes)))
    return load_card(folder)


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, (1, 16, 16, 16)),
    ({"input__ndim": 2, "runtime__roi": [8, 12]}, (1, 8, 12)),
    ({"input__repeat": 3}, (3, 16, 16, 16)),
    ({"runtime": {"backend": "onnx"}, "input__size": {"edges": [8, 10, 12]}}, (1, 8, 10, 12)),
    ({"task": "classification", "output": SCORES, "runtime": {"backend": "onnx"}},
     (1, None, None, None)),
    ({"task": "classification", "output": SCORES, "runtime": {"backend": "onnx"},
      "input": {"kind": "image", "ndim": 2, "modality": ["DX"], "repeat": 3,
                "intensity": {"unit": "displayed"}, "size": {"edges": [224, 224]}}},
     (3, 224, 224)),
])
def test_card_says_what_a_network_gets(
    tmp_path: Path, changes: dict[str, object], expected: tuple[int | None, ...],
) -> None:
    assert input_shape(card_of(tmp_path, **changes)) == expected


@pytest.mark.parametrize("declared", [
    ["batch", 1, 16, 16, 16], [None, 1, 16, 16, 16], [-1, -1, -1, -1, -1], [4, 1, "s", "r", 16],
])
def test_axes_of_any_length_take_every_window(tmp_path: Path, declared: list[object]) -> None:
    assert check_input_shape(card_of(tmp_path), declared)


@pytest.mark.parametrize("declared", [
    ["batch", 3, 16, 16, 16], ["batch", 1, 16, 16], [1, 16, 16, 16], ["b", 1, 16, 16, 8], [],
    ["b", 1, 1, 16, 16, 16],
])
def test_network_for_other_windows_is_refused(tmp_path: Path, declared: list[object]) -> None:
    with pytest.raises(ModelError, match=r"takes \[.*gives windows of \[batch, 1, 16") as caught:
        check_input_shape(card_of(tmp_path), declared)
    assert caught.value.reason == "model.wrong_input"


def test_detector_may_do_without_a_batch(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    assert not check_input_shape(card, [1, "s", "r", "c"], batched=False)
    assert check_input_shape(card, ["batch", 1, "s", "r", "c"], batched=False)


def test_only_a_number_fixes_the_batch() -> None:
    assert fixed_batch([4, 1]) == 4
    assert [fixed_batch(shape) for shape in (["n", 1], [None], [-1], [0], [])] == [None] * 5
