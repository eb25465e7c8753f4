"""Every task through the one door, by a card and a file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.backends import Answer, NetworkInput
from ai_models.card import load_card
from ai_models.predictor import Predictor
from ai_models.types import (
    ClassificationPrediction,
    Image,
    ModelError,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from tests.ai_models.marked_phantom import AXIAL, phantom
from tests.ai_models.prediction.cards import IMAGE, OUTPUTS
from tests.ai_models.tiny_models import card_text, card_values, write_model

SLICES = {"input__ndim": 2, "input__size": {"edges": [16, 16], "fit": "stretch"},
          "input__spacing_mm": None}


def mean_onnx(axes: int, channels: int, outputs: int, gain: float = 1.0) -> bytes:
    """ONNX bytes: every output is ``gain`` times the mean of the input, and its own number."""
    from onnx import TensorProto, helper, numpy_helper

    edges: list[int | str] = [f"edge{axis}" for axis in range(axes)]
    weights = np.full((channels, outputs), gain / channels, dtype=np.float32)
    shifts = np.arange(outputs, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "shifts"], ["logits"]),
        ],
        "mean",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *edges])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(shifts, "shifts")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def predictor_of(folder: Path, weights: bytes, **changes: Any) -> Predictor:
    base = {"runtime": {"backend": "onnx", "batch": 4}}
    predictor = Predictor(load_card(write_model(folder, weights, **{**base, **changes})))
    predictor.load()
    predictor.warm_up()
    return predictor


def stepped() -> Volume:
    """Slices of one value each, rising from -1000 by 200 HU."""
    values = np.arange(-1000, 1001, 200, dtype=np.int16)
    affine = np.eye(4)
    affine[:3, :3] = AXIAL
    return Volume(np.broadcast_to(values[:, None, None], (11, 12, 12)).copy(), affine)


def sigmoid(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-value))


def test_classification_of_a_series_slice_by_slice(tmp_path: Path) -> None:
    predictor = predictor_of(
        tmp_path / "m", mean_onnx(2, 1, 3), task="classification",
        output={**OUTPUTS["classification"], "per": "slice", "aggregate": "mean"}, **SLICES,
    )
    prediction = predictor.predict(stepped())
    assert isinstance(prediction, ClassificationPrediction)
    expected = sigmoid(np.arange(11) / 10 + 2)
    assert prediction.by_slice["nodule"] == pytest.approx(expected, abs=1e-5)
    assert prediction.scores["nodule"] == pytest.approx(expected.mean(), abs=1e-5)
    assert set(prediction.seconds_by_stage) == {"prepare", "infer"}


def test_classification_of_a_whole_series(tmp_path: Path) -> None:
    predictor = predictor_of(
        tmp_path / "m", mean_onnx(3, 1, 3), task="classification",
        output=OUTPUTS["classification"], input__spacing_mm=None,
    )
    prediction = predictor.predict(stepped())
    assert isinstance(prediction, ClassificationPrediction)
    assert prediction.scores == pytest.approx(
        {"nodule": sigmoid(np.array(2.5)), "effusion": sigmoid(np.array(0.5))}, abs=1e-5
    )
    assert prediction.by_slice == {}


def test_regression_of_a_radiograph_in_colour(tmp_path: Path) -> None:
    predictor = predictor_of(
        tmp_path / "m", mean_onnx(2, 3, 2), task="regression", output=OUTPUTS["regression"],
        input={**IMAGE, "repeat": 3, "size": {"edges": [24, 24], "fit": "stretch"}},
    )
    prediction = predictor.predict(Image(np.full((30, 50), 0.25, np.float32), (0.1, 0.1)))
    assert isinstance(prediction, RegressionPrediction)
    assert prediction.values == pytest.approx({"age": 1.25 * 10 + 100})


def test_another_kind_of_input_is_refused_before_anything_runs(tmp_path: Path) -> None:
    predictor = predictor_of(
        tmp_path / "m", mean_onnx(3, 1, 2), task="regression", output=OUTPUTS["regression"],
    )
    with pytest.raises(ModelError) as caught:
        predictor.predict(Image(np.zeros((4, 4), np.float32), None))
    assert caught.value.reason == "input.not_a_volume"


class Scripted:
    """A back-end that answers what it was told to."""

    notes = ("cpu", "half precision")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[NetworkInput] = []

    def predict(self, image: NetworkInput) -> Answer:
        self.seen.append(image)
        return self.answer


def scripted(folder: Path, answer: Answer, **changes: Any) -> tuple[Predictor, Scripted]:
    folder.mkdir(parents=True)
    (folder / "weights.onnx").write_bytes(b"")
    (folder / "model.yaml").write_text(card_text(card_values(**changes)))
    predictor = Predictor(load_card(folder))
    backend = Scripted(answer)
    predictor._backend = backend  # type: ignore[assignment]
    return predictor, backend


def test_what_changed_the_numbers_is_part_of_who_computed_them(tmp_path: Path) -> None:
    member = {"path": "fold1.onnx", "sha256": "1" * 64}
    answer = Answer(parameters={"fall_back": "half"})
    predictor, _ = scripted(
        tmp_path / "m", answer, output__mirror=[0, 2], weights__ensemble=[member],
        input__spacing_mm=None, input__size={"edges": [16, 16, 16]}, runtime={"backend": "onnx"},
    )
    assert predictor._algorithm(answer).parameters == {
        "precision": "fp32", "mirror": "0 2", "ensemble": "2", "fall_back": "half",
    }


def test_each_note_is_told_once(tmp_path: Path) -> None:
    predictor, backend = scripted(
        tmp_path / "m", Answer(text="Nothing new.", notes=("half precision", "asked twice")),
        task="text", output=OUTPUTS["text"], weights={
            "licence": "none", "source": "test", "sha256": "0" * 64},
        runtime={"backend": "openai", "endpoint": {"name": "here", "model": "tiny"}},
    )
    prediction = predictor.predict(phantom(AXIAL, (8.0, 8.0, 8.0)))
    assert isinstance(prediction, TextPrediction)
    assert prediction.notes == ("cpu", "half precision", "asked twice")
    assert backend.seen[0].array.ndim == 4


def test_the_back_end_is_told_the_affine_of_its_own_array(tmp_path: Path) -> None:
    volume = phantom(AXIAL, (4.0, 4.0, 4.0))
    predictor, backend = scripted(
        tmp_path / "m", Answer(label_map=np.zeros((31, 31, 31), np.uint8)),
        input__spacing_mm=None, input__axes=["I", "A", "R"],
    )
    prediction = predictor.predict(volume)
    assert isinstance(prediction, SegmentationPrediction)
    (image,) = backend.seen
    assert image.affine_lps is not None
    last = np.array([*(np.array(volume.array.shape) - 1), 1.0])
    assert np.allclose(image.affine_lps @ [0, 0, 0, 1], volume.affine_lps @ last)
