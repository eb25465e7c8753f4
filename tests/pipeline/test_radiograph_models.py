"""The models of radiographs and of MR of the head, from DICOM files to reports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from ai_models.card import load_card
from ai_models.catalog import ZOO
from ai_models.predictor import Predictor
from ai_models.training.phantoms.bones import XRAY_UNITS
from ai_models.training.phantoms.brain import (
    HEAD_SCANNERS,
    KINDS,
    BrainVariation,
    brain_phantom,
    write_brain,
)
from ai_models.training.phantoms.dicom_files import PhantomStudy
from ai_models.training.phantoms.hands import HandVariation, hand_radiograph
from ai_models.training.phantoms.radiograph_files import CHEST, HAND, WRIST, write_radiograph
from ai_models.training.phantoms.wrists import WristVariation, wrist_radiograph
from ai_models.types import ClassificationPrediction, RegressionPrediction
from dicom_node.pipeline.analysis import Analysis, Writing, analyse
from dicom_node.results.equipment import node_equipment
from tests.shared_data import needs_shared, shared

WRITING = Writing(node_equipment("DICOMNODE", "1"), datetime(2026, 1, 5, 8, 0, tzinfo=UTC))
REAL = ("data", "labelled", "pneumoniamnist", "pneumoniamnist_trainval.npz")
MODELS = ("pneumonia-dx", "brain-tumour-mr", "bone-age-dx", "wrist-osteopenia-dx")


@cache
def loaded(model_id: str) -> Predictor:
    # What it looked at is tried elsewhere, and takes hundreds of answers.
    card = load_card(ZOO / model_id).model_copy(update={"explanation": None})
    predictor = Predictor(card)
    predictor.load()
    return predictor


def analysed(model_id: str, paths: list[Path]) -> Analysis:
    predictor = loaded(model_id)
    return analyse(
        paths, predictor.card, lambda _card, source: predictor.predict(source), WRITING)


def scores_of(found: Analysis) -> dict[str, float]:
    assert isinstance(found.prediction, ClassificationPrediction)
    return found.prediction.scores


def report_of(found: Analysis) -> Dataset:
    return next(data for kind, data in found.objects if kind.endswith("report"))


def said(found: Analysis) -> str:
    return " ".join(
        str(one.value) for one in report_of(found).iterall() if one.keyword == "TextValue")


def codes(found: Analysis) -> set[str]:
    return {str(one.value) for one in report_of(found).iterall() if one.keyword == "CodeValue"}


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


def head(folder: Path, kind: str) -> list[Path]:
    scanner = HEAD_SCANNERS[0]
    phantom = brain_phantom(90_301, BrainVariation(kind, radius_mm=16.0), scanner)
    return write_brain(folder, PhantomStudy(f"head-{kind}"), phantom, scanner)


@pytest.mark.long
def test_the_slice_that_shows_a_tumour_answers_for_the_series(tmp_path: Path) -> None:
    for kind in KINDS:
        paths = head(tmp_path / kind, kind)
        found = analysed("brain-tumour-mr", paths)
        scores = scores_of(found)
        assert max(scores, key=lambda name: scores[name]) == kind
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-3)
        assert isinstance(found.prediction, ClassificationPrediction)
        assert len(found.prediction.by_slice["none"]) == len(paths)
        assert ("111241" in codes(found)) == (kind == "none")


def hand(folder: Path, months: float, sex: str) -> Path:
    # Collimated as what was learned from: a small hand on a whole plate is declined.
    variation = HandVariation(months, sex, margins_mm=(15.0, 10.0, 15.0, 15.0))
    picture = hand_radiograph(90_400, variation, XRAY_UNITS[0])
    header = replace(HAND, imager_spacing_mm=(1.0, 1.0), magnification=0.0)
    study = PhantomStudy(f"hand-{months:.0f}{sex}", sex=sex, age_y=round(months / 12))
    return write_radiograph(folder, study, header, picture)


def test_bone_age_follows_the_growth_of_the_hand_and_the_sex(tmp_path: Path) -> None:
    ages = {}
    for months in (48.0, 100.0, 160.0):
        found = analysed("bone-age-dx", [hand(tmp_path / f"{months}", months, "M")])
        assert isinstance(found.prediction, RegressionPrediction)
        ages[months] = found.prediction.values["bone_age_months"]
        assert abs(ages[months] - months) < 20.0
    # The very same hand of a girl is that of a younger one.
    path = hand(tmp_path / "girl", 100.0 * 0.86, "F")
    found = analysed("bone-age-dx", [path])
    assert isinstance(found.prediction, RegressionPrediction)
    assert found.prediction.values["bone_age_months"] < ages[100.0] - 4.0


def test_a_wrist_that_lacks_mineral_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    header = replace(WRIST, imager_spacing_mm=(0.75, 0.75), magnification=0.0)
    scores = {}
    for deviation in (0.8, -3.0):
        picture = wrist_radiograph(90_500, WristVariation(deviation), XRAY_UNITS[0])
        path = write_radiograph(
            tmp_path / f"{deviation}", PhantomStudy(f"wrist{deviation}", age_y=60), header, picture)
        found = analysed("wrist-osteopenia-dx", [path])
        scores[deviation] = scores_of(found)["osteopenia"]
        assert "DEMONSTRATION" in said(found).upper()
        assert ("111241" in codes(found)) == (scores[deviation] < 0.3)
    assert scores[-3.0] > 0.7 > 0.3 > scores[0.8]
