"""Boxes of a detector: in their place, found once, and refused when they are none of the card's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ai_models.backends.protocol import NetworkInput
from ai_models.backends.tiled import TiledBackend
from ai_models.types import ModelError
from tests.ai_models.backends.function_networks import Run, backend_of, image_of, label, two


def found(*boxes: list[float], scores: list[float], labels: list[int]) -> Run:
    return lambda _image: {
        "boxes": torch.tensor(boxes).reshape(len(boxes), -1), "scores": torch.tensor(scores),
        "labels": torch.tensor(labels)}


def detecting(folder: Path, run: Run, **changes: object) -> TiledBackend:
    output = {"labels": [label(1), label(2)], **changes.pop("more", {})}  # type: ignore[dict-item]
    whole = {} if "runtime__roi" in changes else {
        "runtime__roi": None, "input__size": {"edges": [20, 20, 20]}}
    return backend_of(folder, run, task="detection", output=output, **{**whole, **changes})


def test_boxes_come_with_score_and_label_the_best_first(tmp_path: Path) -> None:
    backend = detecting(tmp_path / "m", found(
        [1, 2, 3, 5, 6, 7], [10, 10, 10, 14, 15, 30], [0, 0, 0, 3, 3, 3],
        [1, 2, 3, 5, 6, 8], scores=[0.7, 0.9, 0.4, 0.6], labels=[0, 1, 0, 0]))
    boxes = backend.predict(image_of(1, 20, 20, 20)).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes, [
        [10, 10, 10, 14, 15, 20, 0.9, 2], [1, 2, 3, 5, 6, 7, 0.7, 1]], atol=1e-6)
    assert boxes.dtype == np.float32


def test_centres_and_labels_from_one_are_understood(tmp_path: Path) -> None:
    backend = detecting(
        tmp_path / "m", found([3, 4, 5, 4, 4, 4], scores=[0.7], labels=[1]),
        more={"box_format": "center_size", "first_label": 1})
    boxes = backend.predict(image_of(1, 20, 20, 20)).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes, [[1, 2, 3, 5, 6, 7, 0.7, 1]], atol=1e-6)


def test_nothing_found_is_an_answer(tmp_path: Path) -> None:
    nothing = {"boxes": torch.zeros(0, 6), "scores": torch.zeros(0), "labels": torch.zeros(0)}
    backend = detecting(tmp_path / "m", lambda _image: nothing)
    boxes = backend.predict(image_of(1, 20, 20, 20)).boxes
    assert boxes is not None
    assert boxes.shape == (0, 8)


def test_detector_with_windows_finds_a_thing_once_and_in_its_place(tmp_path: Path) -> None:
    def brightest(image: torch.Tensor) -> dict[str, torch.Tensor]:
        where = (image[0, 0] == 1).nonzero()
        low, high = where.amin(dim=0), where.amax(dim=0) + 1
        return {"boxes": torch.cat([low, high])[None].float(), "scores": torch.tensor([0.8]),
                "labels": torch.tensor([1])}

    def of_window(image: torch.Tensor) -> dict[str, torch.Tensor]:
        if (image == 1).any():
            return brightest(image)
        return {"boxes": torch.zeros(0, 6), "scores": torch.zeros(0), "labels": torch.zeros(0)}

    array = np.zeros((1, 20, 40, 34), dtype=np.float32)
    array[0, 4:7, 13:15, 13:15] = 1
    backend = detecting(tmp_path / "m", of_window, runtime__roi=[16, 16, 16])
    boxes = backend.predict(NetworkInput(array, np.eye(4), (1.0,) * 3)).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes, [[4, 13, 13, 7, 15, 15, 0.8, 2]], atol=1e-6)


def test_box_in_an_image_has_one_slice(tmp_path: Path) -> None:
    backend = detecting(tmp_path / "m", found([1, 2, 5, 6], scores=[0.7], labels=[0]))
    card = backend._card
    flat = card.input.model_copy(update={"kind": "image", "ndim": 2})
    backend._card = card.model_copy(update={"input": flat})
    boxes = backend.predict(image_of(1, 20, 20)).boxes
    assert boxes is not None
    np.testing.assert_allclose(boxes, [[0, 1, 2, 1, 5, 6, 0.7, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (found([1, 2, 3, 5, 6, 7], scores=[0.7], labels=[2]), "model.unknown_label"),
        (found([9, 2, 3, 5, 6, 7], scores=[0.7], labels=[0]), "model.wrong_output"),
        (found([1, 2, 5, 6], scores=[0.7], labels=[0]), "model.wrong_output"),
        (found([1, 2, 3, 5, 6, 7], scores=[0.7, 0.6], labels=[0]), "model.wrong_output"),
        (found([1, 2, 3, 5, 6, 7], scores=[7.0], labels=[0]), "model.wrong_output"),
        (found([1, 2, 3, 5, 6, float("nan")], scores=[0.7], labels=[0]), "model.not_finite"),
        (lambda _image: {"boxes": torch.zeros(0, 6)}, "model.wrong_output"),
        (found(*([float(z), 0.0, 0.0, z + 1.0, 1.0, 1.0] for z in range(20)), scores=[0.9] * 20,
               labels=[0] * 20), "model.too_many_findings"),
    ],
)
def test_what_are_no_boxes_of_the_card_is_an_error(
    tmp_path: Path, run: Run, reason: str
) -> None:
    backend = detecting(tmp_path / "m", run, more={"max_findings": 19})
    with pytest.raises(ModelError) as caught:
        backend.predict(image_of(1, 20, 20, 20))
    assert caught.value.reason == reason


def test_boxes_are_not_averaged(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be averaged") as caught:
        detecting(tmp_path / "m", two, more={"mirror": [0]})
    assert caught.value.reason == "card.invalid"


def test_detector_asks_again_for_less_only_where_less_can_be_asked(tmp_path: Path) -> None:
    asked = []

    def never(image: torch.Tensor) -> dict[str, torch.Tensor]:
        asked.append(tuple(image.shape[2:]))
        raise torch.OutOfMemoryError("CUDA out of memory")

    backend = detecting(
        tmp_path / "m", never, runtime__roi=[64, 64, 64], runtime__batch=8,
        runtime__fallbacks=["batch", "roi"], able=("batch", "roi"))
    with pytest.raises(torch.OutOfMemoryError):
        backend.predict(image_of(1, 20, 20, 20))
    assert asked == [(64, 64, 64), (32, 32, 32)]
