"""One byte of a copy is changed, and nothing of the original."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai_models.card import load_card
from ai_models.conformance import weights
from ai_models.conformance.weights import check_changed_weights
from ai_models.trust import Site
from ai_models.weights import verify_weights
from tests.ai_models.backends.folder_models import write_nnunet_model
from tests.ai_models.backends.served_models import served_card
from tests.ai_models.tiny_models import threshold_onnx, write_model


def test_changed_file_is_refused_and_the_original_stays(tmp_path: Path) -> None:
    card = load_card(write_model(tmp_path / "model", threshold_onnx(0.5)))
    found = check_changed_weights(card, "cpu", Site(), tmp_path / "scratch")
    assert found.outcome == "passed"
    assert "model.hash_mismatch" in found.sentence
    verify_weights(card)


def test_changed_folder_is_refused(tmp_path: Path) -> None:
    card = load_card(write_nnunet_model(tmp_path / "model"))
    found = check_changed_weights(card, "cpu", Site(), tmp_path / "scratch")
    assert found.outcome == "passed"
    verify_weights(card)


def test_weights_that_nobody_compares_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = load_card(write_model(tmp_path / "model", threshold_onnx(0.5)))
    monkeypatch.setattr(weights, "verify_weights", lambda card: None)
    found = check_changed_weights(card, "cpu", Site(), tmp_path / "scratch")
    assert found.outcome == "failed"
    assert "it was answered" in found.sentence


def test_weights_of_another_host_are_not_copied(tmp_path: Path) -> None:
    served = served_card(tmp_path / "model")
    found = check_changed_weights(served, "cpu", Site(), tmp_path / "scratch")
    assert found.outcome == "not applicable"
