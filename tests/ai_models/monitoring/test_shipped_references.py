"""The shipped models know how their inputs look: one like those of training is not told of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_models.card import Card, load_card
from ai_models.catalog import ZOO
from ai_models.monitoring.input_features import features_of_input
from ai_models.monitoring.reference import Reference, read_rows, reference_of
from ai_models.prediction.preparing import prepare
from ai_models.training.recipes import reference_features
from ai_models.training.recipes.reference_features import DRAWN, REFERENCE, with_reference
from ai_models.types import JointInput, ModelInput, Volume
from tests.ai_models.tiny_models import threshold_onnx, write_model

# `dicom-node shift` compares a scanner with a reference of so many inputs, or more.
AT_LEAST = 20
WATCHED = [one for one in sorted(DRAWN) if (ZOO / one / REFERENCE).exists()]


def reference(card: Card) -> Reference:
    assert card.monitor is not None
    rows = read_rows(card.folder / REFERENCE, card.monitor.sha256 or "")
    assert len(rows) >= AT_LEAST
    return reference_of(rows)


def ratio(card: Card, known: Reference, source: ModelInput) -> float:
    return known.ratio(features_of_input(prepare(source, card).image.array, card.input))


def noisier(source: ModelInput) -> ModelInput:
    if isinstance(source, JointInput):
        changed = noisier(source.reference)
        assert isinstance(changed, Volume)
        phases = tuple(one for each in source.phases if isinstance(one := noisier(each), Volume))
        return replace(source, reference=changed, phases=phases)
    assert isinstance(source, Volume)
    values = source.array.astype(np.float32)
    grain = np.random.default_rng(0).normal(0, 1.2 * float(values.std()), values.shape)
    return replace(source, array=(values + grain).astype(source.array.dtype))


@pytest.mark.parametrize("model_id", [
    pytest.param(one, marks=[pytest.mark.long] if one.startswith("nodules") else [])
    for one in WATCHED
])
def test_an_input_like_those_of_training_is_in_range_and_noise_is_not(model_id: str) -> None:
    card = load_card(ZOO / model_id)
    assert card.monitor is not None
    known, source = reference(card), DRAWN[model_id](1001)
    assert ratio(card, known, source) <= card.monitor.out_of_range
    assert ratio(card, known, noisier(source)) > card.monitor.out_of_range


def test_a_card_is_given_its_reference_and_everything_else_of_it_stays() -> None:
    text = "id: a\nmonitor:\n  layer: down.3\n  sha256: \"00\"\nreport: lungs\n"
    assert with_reference(text, "11") == (
        'id: a\nmonitor:\n  reference: reference.npy\n  sha256: "11"\n  layer: down.3\n'
        "report: lungs\n"
    )
    assert with_reference("id: a\n", "11") == (
        'id: a\nmonitor:\n  reference: reference.npy\n  sha256: "11"\n'
    )


def test_one_command_writes_reference_and_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(seed: int) -> Volume:
        noise = np.random.default_rng(seed).normal(0, 50, (8, 16, 16))
        return Volume(noise.astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])

    monkeypatch.setattr(reference_features, "DRAWN", {"bright": drawn})
    folder = write_model(tmp_path / "bright", threshold_onnx(0.5))
    assert reference_features.main([str(folder), "--count", "6"]) == 0
    card = load_card(folder)
    assert card.monitor is not None
    assert len(read_rows(folder / REFERENCE, card.monitor.sha256 or "")) == 6
