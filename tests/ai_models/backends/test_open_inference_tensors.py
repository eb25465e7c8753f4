"""A tensor of another host is what it says in shape, type and length, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.backends.open_inference_tensors import (
    Declared,
    declared_of,
    largest_answer_bytes,
    tensor_of_bytes,
    tensor_of_numbers,
)
from ai_models.types import ModelError
from tests.ai_models.backends.test_signature import SCORES, card_of
from tests.ai_models.tiny_models import LUNG, STRUCTURE

LABEL = {
    "value": 1, "name": "Bright", "category": STRUCTURE, "type": LUNG, "color_rgb": [255, 0, 0],
}


@pytest.mark.parametrize(("datatype", "kind"), [
    ("FP16", np.float16), ("FP32", np.float32), ("FP64", np.float64), ("INT64", np.int64),
    ("UINT8", np.uint8), ("BOOL", np.bool_),
])
def test_bytes_and_numbers_are_the_same_tensor(datatype: str, kind: Any) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]], dtype=kind)
    declared = Declared("x", datatype, (2, 3))
    for found in (
        tensor_of_bytes(declared, array.tobytes(), "the host"),
        tensor_of_numbers(declared, array.tolist(), "the host"),
        tensor_of_numbers(declared, array.ravel().tolist(), "the host"),
    ):
        assert found.dtype == kind
        assert np.array_equal(found, array)


def test_tensor_of_nothing_is_a_tensor() -> None:
    declared = Declared("boxes", "FP32", (0, 6))
    assert tensor_of_bytes(declared, b"", "the host").shape == (0, 6)
    assert tensor_of_numbers(declared, [], "the host").shape == (0, 6)


@pytest.mark.parametrize("numbers", [
    [1.0], [1, 2, 3], [[1, 2], [3]], "12", ["1", "2"], [None, 1], {"a": 1}, None, 5, [10**400, 1],
])
def test_numbers_that_are_no_such_tensor_are_refused(numbers: object) -> None:
    with pytest.raises(ModelError, match="the host gives x") as caught:
        tensor_of_numbers(Declared("x", "FP32", (2,)), numbers, "the host")
    assert caught.value.reason == "model.wrong_output"


@pytest.mark.parametrize("numbers", [[1.0, float("nan")], [1e300, 0.0], [float("inf"), 0.0]])
def test_numbers_that_are_not_finite_are_refused(numbers: list[float]) -> None:
    with pytest.raises(ModelError, match="NaN or infinity in x") as caught:
        tensor_of_numbers(Declared("x", "FP32", (2,)), numbers, "the host")
    assert caught.value.reason == "model.not_finite"


@pytest.mark.parametrize(("datatype", "shape", "content"), [
    ("FP32", (2,), b"1234"), ("FP32", (-1,), b""), ("BYTES", (1,), b"1234"), ("FP8", (1,), b"1"),
    ("FP32", (0, 1 << 62), b""), ("FP32", (1,) * 9, b"1234"), ("FP32", (1 << 20, 1 << 20), b""),
])
def test_bytes_that_are_no_such_tensor_are_refused(
    datatype: str, shape: tuple[int, ...], content: bytes,
) -> None:
    with pytest.raises(ModelError, match="the host gives x") as caught:
        tensor_of_bytes(Declared("x", datatype, shape), content, "the host")
    assert caught.value.reason == "model.wrong_output"


@pytest.mark.parametrize("shape", ["12", None, 3, [1.5], [True], ["1"], [[1]]])
def test_shape_that_is_none_is_refused(shape: object) -> None:
    with pytest.raises(ModelError, match="no shape"):
        declared_of("x", "FP32", shape, "the host")


def test_answer_may_be_as_long_as_the_card_makes_it_and_no_longer(tmp_path: Path) -> None:
    more = 1 << 20
    assert largest_answer_bytes(card_of(tmp_path)) == 2 * 2 * 16**3 * 32 + more
    classes = card_of(tmp_path, task="classification", output=SCORES, runtime={"backend": "onnx"})
    assert largest_answer_bytes(classes) == 2 * 32 + more
    boxes = card_of(
        tmp_path, task="detection", output={"labels": [LABEL]}, runtime={"backend": "onnx"},
        input__size={"edges": [8, 8, 8]})
    assert largest_answer_bytes(boxes) == 64 << 20
