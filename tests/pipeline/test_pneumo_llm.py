"""The shipped PneumoLLM, from a DX file to the report: a demonstration of the way, not of skill."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.prediction.quality import without_quality
from ai_models.predictor import Predictor
from ai_models.training.phantoms.bones import XRAY_UNITS
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.pneumoconiosis import (
    SPACING_MM,
    ChestVariation,
    chest_radiograph,
)
from ai_models.training.phantoms.radiograph_files import CHEST, write_radiograph
from ai_models.trust import Site, why_refused
from ai_models.types import ClassificationPrediction, ModelError
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.results.equipment import node_equipment

MODEL = ZOO / "pneumoconiosis-dx"
WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
HEADER = replace(CHEST, imager_spacing_mm=(SPACING_MM, SPACING_MM), magnification=0.0)


@cache
def loaded(gated: bool = True) -> Predictor:
    card = load_card(MODEL)
    predictor = Predictor(card if gated else without_quality(card))
    predictor.load()
    return predictor


def analysed(
    folder: Path, picture: Any, gated: bool = True, **header: Any
) -> tuple[float, str, Analysis]:
    """The score, the words of the report, and all of it."""
    path = write_radiograph(
        folder, PhantomStudy("dust", age_y=55), replace(HEADER, **header), picture)
    predictor = loaded(gated)
    found = analyse(
        [path], predictor.card, lambda _card, source: predictor.predict(source), WRITING)
    assert isinstance(found.prediction, ClassificationPrediction)
    report = next(data for kind, data in found.objects if kind.endswith("report"))
    words = " ".join(
        str(one.value) for one in report.iterall() if one.keyword == "TextValue")
    return found.prediction.scores["pneumoconiosis"], words, found


def test_it_is_a_demonstration_of_a_known_size_with_figures_that_were_measured() -> None:
    card = load_card(MODEL)
    assert card.demonstration and "NOT FOR CLINICAL USE" in card.intended_use
    assert "not validated" in card.evidence.validated_on
    assert any(one.name == "AUC of pneumoconiosis" for one in card.evidence.metrics)
    assert all("interval" in one.measured_on for one in card.evidence.metrics)
    assert sum(one.stat().st_size for one in MODEL.rglob("*") if one.is_file()) < 12_000_000
    for name in ("README.md", "training.json", "evaluation.json"):
        assert (MODEL / name).exists()
    assert why_refused(card, Site(use="clinical")) is not None


def test_a_chest_full_of_dust_scores_higher_however_it_is_stored(tmp_path: Path) -> None:
    scores = {}
    for category in (0, 3):
        picture = chest_radiograph(91_001, ChestVariation(category), XRAY_UNITS[0]).displayed
        one, words, _ = analysed(tmp_path / f"{category}", picture)
        other, _, _ = analysed(
            tmp_path / f"{category}-1", picture, photometric="MONOCHROME1", modality="CR")
        assert abs(one - other) < 0.01
        assert "rectangle about what Lungs in chest radiographs" in words
        scores[category] = one
    assert scores[3] > 0.6 > 0.5 > scores[0]


def test_where_one_lung_is_white_the_whole_image_is_looked_at_and_the_report_says_so(
    tmp_path: Path
) -> None:
    picture = chest_radiograph(91_001, ChestVariation(0), XRAY_UNITS[0]).displayed
    left = picture[:, picture.shape[1] // 2 :]
    left[:] = np.maximum(left, 0.8)
    with pytest.raises(ModelError) as refused:
        analysed(tmp_path, picture)
    assert refused.value.reason == "input.unlike"
    # Behind the gate, which declines it, the crop does what it did.
    _, words, _ = analysed(tmp_path, picture, gated=False)
    assert "the whole image was looked at, which this model is not made for" in words


@pytest.mark.long
def test_a_chest_that_lies_on_its_side_is_cropped_to_what_is_found(tmp_path: Path) -> None:
    picture = chest_radiograph(91_005, ChestVariation(2), XRAY_UNITS[1]).displayed
    for turns in range(4):
        score, words, _ = analysed(
            tmp_path / str(turns), np.rot90(picture, turns).copy(), gated=False)
        assert 0.0 <= score <= 1.0
        assert "rectangle" in words or "whole image" in words
