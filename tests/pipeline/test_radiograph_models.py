"""The models of radiographs, from DICOM files to reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.predictor import Predictor
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.radiograph_files import CHEST, write_radiograph
from ai_models.types import ClassificationPrediction
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.results.equipment import node_equipment
from tests.shared_data import needs_shared, shared

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
REAL = ("data", "labelled", "pneumoniamnist", "pneumoniamnist_trainval.npz")
MODELS = ("pneumonia-dx",)


def analysed(model_id: str, paths: list[Path]) -> Analysis:
    # What it looked at is tried elsewhere, and takes hundreds of answers.
    card = load_card(ZOO / model_id).model_copy(update={"explanation": None})
    predictor = Predictor(card)
    predictor.load()
    try:
        return analyse(paths, card, lambda _card, source: predictor.predict(source), WRITING)
    finally:
        predictor.close()


def scores_of(found: Analysis) -> dict[str, float]:
    assert isinstance(found.prediction, ClassificationPrediction)
    return found.prediction.scores


@pytest.mark.parametrize("model_id", MODELS)
def test_a_model_says_that_it_is_a_demonstration_and_what_its_figures_are_of(
    model_id: str
) -> None:
    card = load_card(ZOO / model_id)
    assert card.demonstration and "NOT FOR CLINICAL USE" in card.intended_use
    assert "not validated" in card.evidence.validated_on
    assert all("interval" in one.measured_on for one in card.evidence.metrics)
    assert (ZOO / model_id / "weights.onnx").stat().st_size < 12_000_000
    for name in ("README.md", "training.json", "evaluation.json"):
        assert (ZOO / model_id / name).exists()


@needs_shared(*REAL)
def test_of_real_radiographs_the_ill_score_higher_however_they_are_stored(tmp_path: Path) -> None:
    with np.load(shared(*REAL)) as content:
        images, labels = content["val_images"] / 255.0, content["val_labels"].ravel()
    scores: dict[int, list[float]] = {0: [], 1: []}
    for kind in (0, 1):
        for number in np.flatnonzero(labels == kind)[:4]:
            header = replace(CHEST, imager_spacing_mm=(12.0, 12.0), magnification=0.0)
            study = PhantomStudy(f"chest-{number}", age_y=4)
            ways: list[dict[str, Any]] = [{}, {"photometric": "MONOCHROME1", "modality": "CR"}]
            both = [
                scores_of(analysed("pneumonia-dx", [write_radiograph(
                    tmp_path / str(number), study, replace(header, **way), images[number],
                    number=place + 1)]))["pneumonia"]
                for place, way in enumerate(ways if number % 4 == 0 else ways[:1])
            ]
            assert max(both) - min(both) < 0.01
            scores[kind].append(both[0])
    assert np.median(scores[1]) > 0.6 > 0.4 > np.median(scores[0])
