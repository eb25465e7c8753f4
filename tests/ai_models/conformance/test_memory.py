"""A simulated lack of memory goes down the very ladder that a real one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai_models.card import load_card
from ai_models.conformance.check import Check
from ai_models.conformance.memory import check_memory
from ai_models.conformance.scene import scene_for
from ai_models.predictor import Predictor
from ai_models.trust import Site
from ai_models.types import ModelError
from tests.ai_models.backends.folder_models import write_monai_bundle
from tests.ai_models.tiny_models import threshold_onnx, write_model


def loaded(folder: Path, **changes: Any) -> Predictor:
    write_model(folder, threshold_onnx(0.5), **changes)
    predictor = Predictor(load_card(folder))
    predictor.load()
    return predictor


def looked_at(predictor: Predictor) -> Check:
    source = scene_for(predictor.card, quick=True).reference
    return check_memory(predictor.card, predictor, source)


def test_fewer_windows_at_a_time_change_nothing(tmp_path: Path) -> None:
    found = looked_at(loaded(tmp_path))
    assert found.outcome == "passed"
    assert "one window at a time, the numbers unchanged" in found.sentence


def test_where_nothing_can_be_tried_the_next_input_is_answered(tmp_path: Path) -> None:
    found = looked_at(loaded(tmp_path, runtime__batch=1))
    assert found.outcome == "not applicable"
    assert "nothing can be tried on cpu" in found.sentence


def test_answer_that_does_not_say_so_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = loaded(tmp_path)
    monkeypatch.setattr(type(predictor.backend), "notes", property(lambda self: ()))
    found = looked_at(predictor)
    assert found.outcome == "failed"
    assert "no note says so" in found.sentence


def test_lack_of_memory_that_becomes_another_error_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = loaded(tmp_path)
    whole = predictor.backend.predict

    def predict(image: Any) -> Any:
        try:
            return whole(image)
        except RuntimeError:
            raise ModelError("something went wrong") from None

    monkeypatch.setattr(predictor.backend, "predict", predict)
    monkeypatch.setattr(predictor.backend, "_rungs", predictor.backend._rungs[:1])  # type: ignore[attr-defined]
    found = looked_at(predictor)
    assert found.outcome == "failed"
    assert "became ModelError" in found.sentence


def test_inference_of_its_own_is_not_reached_into(tmp_path: Path) -> None:
    card = load_card(write_monai_bundle(tmp_path))
    predictor = Predictor(card, site=Site(trusted_folders=(tmp_path,)))
    predictor.load()
    assert looked_at(predictor).outcome == "not applicable"
