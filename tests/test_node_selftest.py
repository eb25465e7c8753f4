"""What models say of a phantom, in numbers, and what of a model that does not say it any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.predictor import Predictor
from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    Code,
    Image,
    ModelInput,
    Prediction,
    SegmentationPrediction,
    TextPrediction,
    Volume,
)
from dicom_node.config import Config
from dicom_node.node_selftest import measure, models_to_test, values_of
from dicom_node.operations.selftest import SelftestBook
from dicom_node.pipeline.inference import InferencePool
from dicom_node.records import Priority
from tests.ai_models.tiny_models import threshold_onnx, write_model

ROOT = Path(__file__).parents[1]
ALGORITHM = Algorithm("m", "M", "1", "tests", "0" * 64, Code("1", "DCM", "AI"), True)


class Pool:
    """Predicts in this process, and remembers how urgent it was."""

    def __init__(self, kind: str = "a processor") -> None:
        self.asked: dict[str, Any] = {}
        self._kind = kind

    def kinds(self) -> str:
        return self._kind

    def predict(self, card: Card, source: ModelInput, **asked: Any) -> Prediction:
        self.asked = asked
        predictor = Predictor(card, "cpu")
        predictor.load()
        return predictor.predict(source)


def measured(folder: Path, pool: Pool | None = None) -> Any:
    return measure(load_card(folder), cast(InferencePool, pool or Pool()), 60.0)


def test_the_shipped_model_finds_the_lungs_that_the_phantom_has() -> None:
    found = measured(ROOT / "ai_models/zoo/lungs-ct")
    assert found.wrong == ""
    assert set(found.values) == {"Right lung ml", "Left lung ml"}
    assert all(1000 < value < 4000 for value in found.values.values())


def test_it_waits_behind_everything_else(tmp_path: Path) -> None:
    pool = Pool()
    measured(write_model(tmp_path / "m", threshold_onnx(0.5)), pool)
    assert pool.asked["priority"] is Priority.BACKGROUND


def test_weights_that_say_something_else_under_the_same_name_are_found_out(tmp_path: Path) -> None:
    book = SelftestBook(tmp_path / "selftest")
    first = measured(write_model(tmp_path / "m", threshold_onnx(0.5)))
    assert book.judge(first).is_first
    # As a changed library would: the card and its version are the same, and the answer is not.
    other = measured(write_model(tmp_path / "n", threshold_onnx(0.35)))
    changed = book.judge(type(first)(first.model_id, first.version, first.device, other.values))
    assert changed.problem.startswith("Bright ")


def test_a_lung_model_that_finds_other_lungs_than_there_are_is_told(tmp_path: Path) -> None:
    edges = (64, 64, 64)
    folder = write_model(
        tmp_path / "m", threshold_onnx(0.5, roi=edges), id="lungs-ct", runtime__roi=list(edges)
    )
    assert "Dice" in measured(folder).wrong


def test_each_kind_of_answer_has_its_numbers() -> None:
    volume = Volume(np.zeros((2, 3, 4), dtype=np.int16), np.diag([10.0, 10.0, 10.0, 1.0]))
    card = load_card(ROOT / "ai_models/zoo/lungs-ct")
    labels = np.zeros((2, 3, 4), dtype=np.uint8)
    labels[0] = 1
    segmented = SegmentationPrediction(labels, tuple(card.labels), ALGORITHM)
    assert values_of(segmented, volume) == {"Right lung ml": 12.0, "Left lung ml": 0.0}
    image = Image(np.zeros((3, 4), dtype=np.float32), None)
    assert values_of(segmented, image)["Right lung pixels"] == 12.0
    scored = ClassificationPrediction({"ill": 0.25}, ALGORITHM)
    assert values_of(scored, image) == {"score ill": 0.25}
    assert values_of(TextPrediction("a sentence", ALGORITHM), image) == {"has a text": 1.0}


@pytest.mark.parametrize(("named", "expected"), [([], ["a", "b"]), (["c"], ["c"])])
def test_the_models_of_the_rules_are_tested_unless_others_are_named(
    named: list[str], expected: list[str]
) -> None:
    rules = [
        {"name": str(number), "when": {"Modality": "CT"}, "model": model, "send_to": ["sender"]}
        for number, model in enumerate("aba")
    ]
    config = Config.model_validate({"rules": rules, "selftest": {"models": named}})
    assert models_to_test(config) == expected
