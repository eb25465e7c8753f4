"""What models say of a phantom, in numbers, and what of a model that does not say it any more."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.conformance.scene import scene_for
from ai_models.predictor import Predictor
from ai_models.trust import Site
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
from dicom_node.errors import WorkerLost
from dicom_node.events import Events
from dicom_node.node_selftest import (
    LONGEST_S,
    measure,
    models_to_test,
    selftest_care,
    values_of,
)
from dicom_node.operations.selftest import PutOff, SelftestBook
from dicom_node.pipeline.inference import InferencePool
from dicom_node.records import Priority
from tests.ai_models.tiny_models import threshold_onnx, write_model
from tests.intake.test_acceptor import until
from tests.pipeline.odd_models import Stuck, write_torchscript

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


class Waited(Pool):
    """A job waits for the device for as long as the model is computed."""

    def others_wait(self, longer_than_s: float) -> bool:
        return True

    def predict(self, card: Card, source: ModelInput, **asked: Any) -> Prediction:
        self.asked = asked
        assert asked["cancelled"]()
        raise WorkerLost("the worker was killed", reason="worker.cancelled")


def test_it_makes_way_as_soon_as_a_job_waits_and_a_stop_is_still_a_stop(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", threshold_onnx(0.5)))
    pool = cast(InferencePool, Waited())
    with pytest.raises(PutOff):
        measure(card, pool, 60.0)
    with pytest.raises(WorkerLost) as stopped:
        measure(card, pool, 60.0, lambda: True)
    assert not isinstance(stopped.value, PutOff)


def test_a_model_that_never_ends_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.node_selftest._WAITED_FOR_S", 0.2)
    bright = load_card(write_model(tmp_path / "bright", threshold_onnx(0.5)))
    stuck = write_torchscript(tmp_path / "stuck", Stuck())
    pool = InferencePool(["cpu"], Site(), tmp_path / "scratch", Events())
    outcome: list[Exception] = []

    def test_it() -> None:
        try:
            measure(stuck, pool, 600.0)
        except WorkerLost as error:
            outcome.append(error)

    testing = threading.Thread(target=test_it)
    testing.start()
    assert until(lambda: bool(pool.pids))
    too_late = time.monotonic() + 120
    found = pool.predict(
        bright, scene_for(bright, quick=True).reference, deadline_s=100.0,
        cancelled=lambda: time.monotonic() > too_late, priority=Priority.STAT,
    )
    testing.join(30)
    pool.close()
    assert isinstance(found, SegmentationPrediction)
    assert [type(one) for one in outcome] == [PutOff]


def test_every_night_a_model_has_a_time_of_its_own(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "m", threshold_onnx(0.5)))
    assert card.runtime.deadline_s > LONGEST_S
    pool = Pool()
    config = Config.model_validate(
        {"node": {"data_dir": str(tmp_path)}, "selftest": {"at": "02:30", "models": ["m"]}}
    )
    premises = SimpleNamespace(
        config=config, roles={"work"}, pool=lambda: pool, events=Events(),
        catalog=SimpleNamespace(get=lambda _: card),
    )
    care = selftest_care(cast(Any, premises))
    assert care is not None
    care._measure("m", lambda: False)
    assert pool.asked["deadline_s"] == LONGEST_S


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
