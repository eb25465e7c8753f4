"""What the suite draws for a card that takes several series, and what it finds wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card import Card
from ai_models.conformance import companions, geometry, inputs
from ai_models.conformance.check import Predict
from ai_models.conformance.presentations import flips, oblique
from ai_models.conformance.scene import Scene, affine_of, scene_for
from ai_models.prediction.checking import check_source
from ai_models.prediction.preparing import prepare
from ai_models.types import (
    ClassificationPrediction,
    JointInput,
    ModelInput,
    Prediction,
    Volume,
)
from tests.ai_models.prediction.cards import card_for
from tests.ai_models.prediction.test_joint import AGE, PT, SEX

T2: dict[str, Any] = {
    "role": "t2", "modality": ["MR"], "intensity": {"unit": "arbitrary", "clip": [0, 1000],
                                                    "scale_to": [0, 1]},
}


def joint_card(folder: Path, **changes: Any) -> Card:
    return card_for(folder, "classification", **{
        "input__companions": [PT, T2], "input__presence": True, "input__clinical": [AGE, SEX],
        **changes,
    })


def asked(card: Card, prepared_of: Any = prepare) -> Predict:
    """A model that looks at each channel where the first one is bright."""

    def predict(source: ModelInput) -> Prediction:
        check_source(source, card)
        prepared = prepared_of(source, card)
        array = prepared.image.array
        # Where things are counts: along an axis that the patient has, and beside each other.
        bright = np.clip(array[0], 0, 1) * np.linspace(0, 1, array.shape[1])[:, None, None]
        means = [float((one * bright).sum() / max(bright.sum(), 1e-6)) for one in array[:3]]
        score = float(np.clip(np.mean(means), 0.0, 1.0))
        return ClassificationPrediction({"nodule": score}, card.algorithm(), notes=prepared.notes())

    return predict


def scene_of(card: Card) -> tuple[Scene, JointInput]:
    scene = scene_for(card, quick=True)
    assert isinstance(scene.reference, JointInput)
    return scene, scene.reference


def test_everything_that_a_card_takes_is_drawn_at_one_place(tmp_path: Path) -> None:
    card = joint_card(tmp_path)
    scene, source = scene_of(card)
    assert source.companions.keys() == {"pt", "t2"} and source.clinical == {"age": 70, "sex": -1}
    uptake = source.companions["pt"]
    assert uptake is not None and (uptake.unit, uptake.array.dtype) == ("SUVbw", np.float32)
    assert not np.allclose(affine_of(source), uptake.affine_lps)
    channels = prepare(source, card).image.array
    inner = channels[:3, 4:-4, 4:-4, 4:-4].reshape(3, -1)
    assert np.corrcoef(inner).min() > 0.9
    assert "pt, t2, age, sex" in scene.what


def test_phases_are_drawn_and_turned_with_their_series(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, input__modality=["MR"], input__phases={"min": 3, "max": 5},
        input__intensity={"unit": "arbitrary", "clip": [0, 2000], "scale_to": [0, 1]},
    )
    scene, source = scene_of(card)
    assert len(source.phases) == 3 and source.times_s == (0.0, 60.0, 120.0)
    for shown in (*(one.source for one in flips(source, quick=True)), oblique(scene).source):
        assert isinstance(shown, JointInput)
        check_source(shown, card)
        assert shown.phases[0] is shown.reference or np.array_equal(
            shown.phases[0].array, shown.reference.array
        )
        means = [float(np.mean(one.array)) for one in shown.phases]
        assert means[1] > means[2] > means[0]


@pytest.mark.parametrize("unit", ["HU", "SUVbw", "arbitrary"])
def test_a_series_of_each_unit_is_drawn(tmp_path: Path, unit: str) -> None:
    modality = {"HU": "CT", "SUVbw": "PT", "arbitrary": "MR"}[unit]
    card = card_for(tmp_path, input__modality=[modality], input__intensity={"unit": unit})
    source = scene_for(card, quick=True).reference
    assert isinstance(source, Volume) and source.unit == unit
    check_source(source, card)


def test_a_model_that_keeps_to_the_patient_passes(tmp_path: Path) -> None:
    card = joint_card(tmp_path)
    predict = asked(card)
    scene, source = scene_of(card)
    reference = predict(source)
    checks = [
        geometry.check_flips(card, predict, scene, reference, quick=True),
        geometry.check_axes(card, predict, scene, reference),
        geometry.check_oblique(card, predict, scene, reference, quick=True),
        inputs.check_empty(card, predict, scene),
        inputs.check_not_finite(card, predict, scene),
        inputs.check_unit(card, predict, scene),
        inputs.check_kind(card, predict, scene),
        companions.check_turned_companions(card, predict, scene, reference),
        companions.check_missing_companions(card, predict, scene),
        companions.check_unknown_patient(card, predict, scene),
    ]
    assert [one for one in checks if one.outcome == "failed"] == []
    assert checks[-2].sentence.startswith("pt: answered without it")
    assert "t2: refused with input.companion_missing" in checks[-2].sentence


def test_a_model_that_takes_a_companion_as_it_lies_in_its_file_is_found_out(
    tmp_path: Path,
) -> None:
    card = joint_card(tmp_path)
    scene, source = scene_of(card)

    def careless(shown: ModelInput, card: Card) -> Any:
        """Every companion is taken for one on the grid that it was first seen on."""
        assert isinstance(shown, JointInput)
        placed = {
            role: None if one is None else replace(
                one, affine_lps=affine_of(source.companions[role] or one)
            )
            for role, one in shown.companions.items()
        }
        return prepare(replace(shown, companions=placed), card)

    predict = asked(card, careless)
    found = companions.check_turned_companions(card, predict, scene, predict(source))
    assert found.outcome == "failed"


def test_a_model_that_is_silent_on_what_is_missing_is_found_out(tmp_path: Path) -> None:
    card = joint_card(tmp_path)
    scene, _ = scene_of(card)
    told = asked(card)

    def silent(source: ModelInput) -> Prediction:
        return replace(told(source), notes=())

    assert companions.check_missing_companions(card, silent, scene).outcome == "failed"
    assert companions.check_unknown_patient(card, silent, scene).outcome == "failed"
