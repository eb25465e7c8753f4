"""A card that takes several series is refused where they cannot go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai_models.card import load_card
from ai_models.types import CardError
from tests.ai_models.prediction.test_joint import AGE, PT, SEX
from tests.ai_models.tiny_models import write_model

IMAGE: dict[str, Any] = {
    "input__kind": "image", "input__modality": ["DX"], "input__ndim": 2,
    "input__intensity": {"unit": "displayed"}, "runtime__roi": [16, 16],
    "input__spacing_mm": None,
}
PHASES: dict[str, Any] = {"input__phases": {"min": 2, "max": 4}}
MEANS = {"mean": [0.0, 1.0], "std": [1.0, 1.0]}
SCORES: dict[str, Any] = {
    "task": "classification", "runtime": {"backend": "onnx"}, "report": "pulmonary_embolism",
    "output": {"channels": 1, "activation": "sigmoid", "scores": [{"name": "pe", "channel": 0}]},
}


def without(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in changes.items() if value is not None}


def needing(*roles: str) -> dict[str, Any]:
    score = {"name": "pe", "channel": 0, "needs": list(roles)}
    return {"channels": 1, "activation": "sigmoid", "scores": [score]}


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "companions of an image": (
        "input.companions", {**without(**IMAGE), "input__companions": [PT]},
    ),
    "an image that is nothing but told": (
        "input.presence", {**without(**IMAGE), "input__clinical": [SEX], "input__presence": True},
    ),
    "a word of an image": (
        "input.clinical[0].values", {
            **without(**IMAGE), "input__clinical": [{"name": "sex", "keyword": "PatientSex"}]},
    ),
    "phases without room": (
        "input.phases.max", {"input__phases": {"min": 5, "max": 3}},
    ),
    "windows of phases": (
        "input.repeat", {**PHASES, "input__repeat": 3},
    ),
    "means of phases": (
        "input.normalisation", {**PHASES, "input__normalisation": MEANS},
    ),
    "a role twice": (
        "input.companions[1].role", {"input__companions": [PT, PT]},
    ),
    "the role of the series": (
        "input.companions[0].role", {"input__role": "pt", "input__companions": [PT]},
    ),
    "an earlier examination": (
        "input.companions[0].role", {"input__companions": [{**PT, "role": "prior"}]},
    ),
    "another word for PET": (
        "input.companions[0].modality[0]", {"input__companions": [{**PT, "modality": ["PET"]}]},
    ),
    "uptake of MR": (
        "input.companions[0].intensity.unit", {"input__companions": [{**PT, "modality": ["MR"]}]},
    ),
    "an image as companion": (
        "input.companions[0].intensity.unit",
        {"input__companions": [{**PT, "intensity": {"unit": "displayed"}}]},
    ),
    "bounds in the wrong order": (
        "input.companions[0].intensity.clip",
        {"input__companions": [{**PT, "intensity": {"unit": "SUVbw", "clip": [20, 0]}}]},
    ),
    "presence of what is always there": (
        "input.presence",
        {"input__presence": True, "input__companions": [{**PT, "required": True}]},
    ),
    "words without numbers": (
        "input.clinical[0].values", {"input__clinical": [{**SEX, "values": {}}]},
    ),
    "numbers for a number": (
        "input.clinical[0].values", {"input__clinical": [{**AGE, "values": {"F": 1.0}}]},
    ),
    "words that DICOM does not write": (
        "input.clinical[0].values.f", {"input__clinical": [{**SEX, "values": {"f": 1.0}}]},
    ),
    "one name for two": (
        "input.clinical[1].name", {"input__clinical": [AGE, {**SEX, "name": "age"}]},
    ),
    "uptake of a CT": (
        "input.intensity.unit", {"input__intensity": {"unit": "SUVbw"}},
    ),
    "a score that needs what there is not": (
        "output.scores[0].needs[0]", {**SCORES, "output": needing("pt")},
    ),
    "a score that needs another role": (
        "output.scores[0].needs[0]",
        {**SCORES, "output": needing("ct"), "input__companions": [PT]},
    ),
    "a score that needs what is required anyhow": (
        "output.scores[0].needs[0]",
        {**SCORES, "output": needing("pt"), "input__companions": [{**PT, "required": True}]},
    ),
    "a score that needs it twice": (
        "output.scores[0].needs[1]",
        {**SCORES, "output": needing("pt", "pt"), "input__companions": [PT]},
    ),
    "what is said of the patient covered": (
        "explanation.method",
        {**SCORES, "input__clinical": [AGE], "explanation": {"method": "occlusion"}},
    ),
}


@pytest.mark.parametrize(("key_path", "changes"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_go_together_is_refused(
    tmp_path: Path, key_path: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(CardError) as told:
        load_card(write_model(tmp_path / "m", b"weights", **changes))
    assert told.value.key_path == key_path
    assert told.value.line is not None


def test_channels_are_counted_as_the_network_gets_them(tmp_path: Path) -> None:
    card = load_card(write_model(
        tmp_path / "m", b"weights", input__companions=[PT, {**PT, "role": "t2", "required": True}],
        input__presence=True, input__clinical=[AGE, SEX], input__normalisation={
            "mean": [0.0, 1.0, 2.0], "std": [1.0, 1.0, 1.0],
        },
    ))
    assert card.input.channel_counts == (8, 8)
    assert card.input.constant_channels == 5
    phased = load_card(write_model(tmp_path / "p", b"weights", **PHASES))
    assert phased.input.channel_counts == (2, 4)
    assert phased.input.channel_names(3) == ["image 1", "image 2", "image 3"]
    assert card.input.channel_names(8) == [
        "image", "pt", "t2", "pt is there", "age", "age is known", "sex", "sex is known",
    ]
    assert load_card(write_model(tmp_path / "q", b"weights")).input.channel_names(1) == []
