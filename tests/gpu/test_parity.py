"""Every back-end answers on the GPU as on the processor, in each precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.backends.protocol import Answer
from ai_models.card import Card, load_card
from ai_models.conformance.repeating import in_full_precision
from ai_models.conformance.scene import scene_for
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import ModelInput, Prediction, SegmentationPrediction
from tests.acceptance import every_backend
from tests.ai_models.backends.command_models import BRIGHT, make_environment, write_command
from tests.ai_models.backends.folder_models import write_monai_bundle
from tests.gpu.device import DEVICE, ON_GPU, dice, needs_device, packages_of_the_tests
from tests.gpu.lungs import FORMS, chest, differing, write_lungs

pytestmark = [
    pytest.mark.gpu, needs_device,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning"),
]
# Of a probability: float32 sums in another order, then 8 or 11 bits in every layer.
SCORES = {"fp32": 2e-3, "bf16": 0.5, "fp16": 0.05}
DICE = {"fp32": 0.9999, "bf16": 0.99, "fp16": 0.998}


def predicted(card: Card, device: str, source: ModelInput) -> Prediction:
    predictor = Predictor(card, device, Site(trusted_folders=(card.folder,)))
    predictor.load()
    predictor.warm_up()
    try:
        return predictor.predict(source)
    finally:
        predictor.close()


def answered(card: Card, device: str, source: ModelInput) -> Answer:
    predictor = Predictor(card, device, Site(trusted_folders=(card.folder,)))
    predictor.load()
    try:
        return predictor.backend.predict(prepare(source, card).image)
    finally:
        predictor.close()


@pytest.fixture(scope="module")
def by_processor(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Any]:
    card = write_lungs(tmp_path_factory.mktemp("lungs") / "m")
    found = predicted(card, "cpu", chest())
    assert isinstance(found, SegmentationPrediction) and (found.label_map > 0).mean() > 0.05
    return answered(card, "cpu", chest()), found.label_map


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("form", FORMS)
def test_trained_network_marks_the_same_lungs(
    tmp_path: Path, by_processor: tuple[Answer, Any], form: str, precision: str
) -> None:
    card = write_lungs(tmp_path / "m", form, precision=precision)
    there = answered(card, DEVICE, chest())
    here, labels = by_processor
    assert there.scores is not None and here.scores is not None
    found = predicted(card, DEVICE, chest())
    assert isinstance(found, SegmentationPrediction)
    agreed = dice(found.label_map, labels)
    print(f"PARITY {form} {precision}: scores differ by {differing(there.scores, here.scores)}, "
          f"Dice {agreed:.6f}; {'; '.join(found.notes)}")
    np.testing.assert_allclose(there.scores, here.scores, atol=SCORES[precision], rtol=0)
    assert agreed >= DICE[precision]
    if ON_GPU:
        assert any(f"{DEVICE}, {precision}" in note for note in found.notes)
        assert found.algorithm.parameters["precision"] == precision


@pytest.mark.parametrize(
    "changes", [{"channels_last": True, "precision": "bf16"}, {"batch": 4}],
    ids=["channels last", "several windows at once"],
)
def test_layout_and_batch_mark_the_same_lungs(
    tmp_path: Path, by_processor: tuple[Answer, Any], changes: dict[str, Any]
) -> None:
    found = predicted(write_lungs(tmp_path / "m", **changes), DEVICE, chest())
    assert isinstance(found, SegmentationPrediction)
    assert dice(found.label_map, by_processor[1]) >= 0.99


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_of_the_trained_network_are_the_same_to_the_last_bit(
    tmp_path: Path, precision: str
) -> None:
    card = write_lungs(tmp_path / "m", precision=precision, batch=2)
    first, second = (answered(card, DEVICE, chest()).scores for _ in range(2))
    assert first is not None and second is not None
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_monai_bundle_answers_as_on_the_processor(tmp_path: Path, precision: str) -> None:
    folder = write_monai_bundle(tmp_path / "m", runtime__precision=precision)
    card = load_card(folder)
    full = in_full_precision(card) or card
    source = scene_for(card, quick=True).reference
    here, there = predicted(full, "cpu", source), predicted(card, DEVICE, source)
    assert isinstance(here, SegmentationPrediction) and isinstance(there, SegmentationPrediction)
    print(f"PARITY monai_bundle {precision}: Dice {dice(there.label_map, here.label_map):.6f}; "
          f"{'; '.join(there.notes)}")
    assert here.label_map.any()
    assert dice(there.label_map, here.label_map) >= 0.99
    if ON_GPU:
        assert any(DEVICE in note for note in there.notes)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    "make", [every_backend.hf_segmentation, every_backend.hf_classification,
             every_backend.hf_regression], ids=lambda make: make.__name__,
)
def test_hugging_face_folder_answers_as_on_the_processor(
    tmp_path: Path, make: Callable[[Path, ExitStack], Path], precision: str
) -> None:
    card = load_card(make(tmp_path / "m", ExitStack()))
    text = card.content.decode() + "\n"
    card = load_card(
        card.folder, text.replace("backend: huggingface", f"backend: huggingface\n  precision: "
                                  f"{precision}").encode())
    assert card.runtime.precision == precision
    source = scene_for(card, quick=True).reference
    full = in_full_precision(card) or card
    here, there = answered(full, "cpu", source), answered(card, DEVICE, source)
    assert here.scores is not None and there.scores is not None
    print(f"PARITY {make.__name__} {precision}: scores differ by "
          f"{differing(there.scores, here.scores)}; {'; '.join(there.notes)}")
    atol = {"fp32": 2e-3, "bf16": 0.1, "fp16": 0.02}[precision]
    np.testing.assert_allclose(there.scores, here.scores, atol=atol, rtol=atol)


def test_language_model_says_the_same(tmp_path: Path) -> None:
    card = load_card(every_backend.hf_text(tmp_path / "m", ExitStack()))
    source = scene_for(card, quick=True).reference
    assert answered(card, DEVICE, source).text == answered(card, "cpu", source).text


def test_a_program_sees_its_one_device_and_computes_there(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    python = make_environment(environment)
    packages_of_the_tests(environment)
    looks = """
import torch
seen = os.environ["CUDA_VISIBLE_DEVICES"]
if device == "cpu":
    assert seen == "" and not torch.cuda.is_available(), seen
else:
    assert device == "cuda:0" and seen == "0" and torch.cuda.device_count() == 1, seen
    assert float(torch.ones(3, device=device).sum()) == 3.0
"""
    card = load_card(write_command(tmp_path / "m", python, looks + BRIGHT))
    source = scene_for(card, quick=True).reference
    here, there = predicted(card, "cpu", source), predicted(card, DEVICE, source)
    assert isinstance(here, SegmentationPrediction) and isinstance(there, SegmentationPrediction)
    np.testing.assert_array_equal(there.label_map, here.label_map)
    assert here.label_map.any() and any(DEVICE in note for note in there.notes)
