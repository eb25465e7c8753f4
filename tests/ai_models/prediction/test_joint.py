"""What a network is given of several series: each in its channel, at its place in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.prediction.checking import check_source
from ai_models.prediction.preparing import prepare
from ai_models.predictor import Predictor
from ai_models.types import (
    ClassificationPrediction,
    FloatArray,
    Image,
    JointInput,
    ModelError,
    Volume,
)
from tests.ai_models.marked_phantom import (
    AXIAL,
    CENTRE_MM,
    CORNERS_MM,
    found_markers_mm,
    phantom,
    rotation,
)
from tests.ai_models.prediction.cards import IMAGE, OUTPUTS, card_for
from tests.ai_models.test_predictor_tasks import mean_onnx
from tests.ai_models.tiny_models import write_model

PT: dict[str, Any] = {
    "role": "pt", "modality": ["PT"], "required": False, "absent": -1.0,
    "intensity": {"unit": "SUVbw", "clip": [0, 20], "scale_to": [0, 1]},
}
AGE = {"name": "age", "keyword": "PatientAge", "center": 60.0, "scale": 20.0}
SEX = {"name": "sex", "keyword": "PatientSex", "values": {"F": -1.0, "M": 1.0}}
COMPANION_GRIDS = [
    (AXIAL, (4.0, 4.0, 4.0)),
    (AXIAL * np.array([-1.0, 1.0, -1.0]), (3.0, 2.5, 2.5)),
    (rotation(0, 20) @ rotation(2, 10) @ AXIAL, (3.0, 2.0, 2.0)),
    (AXIAL[:, [1, 2, 0]], (1.0, 1.0, 1.0)),
]


def suv(volume: Volume) -> Volume:
    """The markers as a PET has them: 20 g/ml in air of none."""
    return Volume((volume.array.astype(np.float32) + 1000) / 100, volume.affine_lps.copy(), "SUVbw")


def constant(channel: FloatArray) -> float:
    assert channel.min() == channel.max()
    return float(channel.flat[0])


@pytest.mark.parametrize(("grid", "changes"), [
    (COMPANION_GRIDS[0], {}),
    (COMPANION_GRIDS[1], {"input__size": {"edges": [48, 56, 64], "fit": "stretch"}}),
    (COMPANION_GRIDS[2], {"input__size": {"edges": [64, 64, 80], "fit": "pad"}}),
    (COMPANION_GRIDS[3], {"input__foreground": {"above": -500.0, "margin_mm": 100.0}}),
], ids=["coarse", "turned, stretched", "oblique, padded", "sagittal, foreground"])
def test_a_companion_lies_where_the_reference_lies(
    tmp_path: Path, grid: Any, changes: dict[str, Any]
) -> None:
    card = card_for(tmp_path, input__companions=[PT], **changes)
    source = JointInput(
        phantom(rotation(1, 9) @ AXIAL, (2.5, 1.6, 1.6)), companions={"pt": suv(phantom(*grid))}
    )
    image = prepare(source, card).image
    assert image.affine_lps is not None
    assert image.array.shape[0] == 2
    for channel in image.array:
        found = found_markers_mm(channel > 0.5, image.affine_lps)
        distances = np.linalg.norm(found[:, None] - (CORNERS_MM + CENTRE_MM)[None], axis=-1)
        assert sorted(distances.argmin(axis=1)) == list(range(8))
        assert distances.min(axis=1).max() <= max(image.spacing_mm) / 2 + 0.3


def test_channels_are_reference_companions_presence_and_what_is_known(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, input__companions=[PT], input__presence=True, input__clinical=[AGE, SEX],
    )
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    full = prepare(JointInput(
        volume, companions={"pt": suv(volume)}, clinical={"age": 70.0, "sex": None}
    ), card)
    assert full.image.array.shape[0] == 7
    assert np.allclose(full.image.array[0], full.image.array[1], atol=1e-5)
    assert [constant(one) for one in full.image.array[2:]] == [1.0, 0.5, 1.0, 0.0, 0.0]
    assert full.notes() == ("sex is not known",)
    alone = prepare(volume, card)
    assert [constant(one) for one in alone.image.array[1:]] == [-1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert alone.notes()[0] == "without pt"
    assert np.array_equal(alone.image.array[0], full.image.array[0])


def test_outside_of_a_companion_its_channel_says_that_nothing_is_there(tmp_path: Path) -> None:
    card = card_for(tmp_path, input__companions=[PT])
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    lower = Volume(volume.array[:20], volume.affine_lps)
    prepared = prepare(JointInput(volume, companions={"pt": suv(lower)}), card)
    channel = prepared.image.array[1]
    assert np.allclose(channel[:20], prepared.image.array[0][:20], atol=1e-5)
    assert np.array_equal(channel[20:], np.full_like(channel[20:], -1.0))
    share = round(100 * 20 / len(volume.array))
    assert prepared.notes() == (f"pt shows {share} % of what was looked at",)


def test_a_fine_companion_is_averaged_not_sampled(tmp_path: Path) -> None:
    card = card_for(tmp_path, input__companions=[PT], input__spacing_mm=[4.0, 4.0, 4.0])
    reference = Volume(np.zeros((16, 16, 16), dtype=np.int16), np.diag([4.0, 4.0, 4.0, 1.0]))
    stripes = np.zeros((64, 64, 64), dtype=np.float32)
    stripes[::2] = 20.0
    fine = Volume(stripes, np.eye(4), "SUVbw")
    channel = prepare(JointInput(reference, companions={"pt": fine}), card).image.array[1]
    assert np.abs(channel[2:-2, 2:-2, 2:-2] - 0.5).max() < 0.05


def test_what_is_said_of_the_patient_stays_said_where_a_window_is_larger(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, input__companions=[PT], input__presence=True, input__clinical=[AGE],
        runtime={"backend": "onnx", "roi": [96, 96, 96]},
    )
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    prepared = prepare(
        JointInput(volume, companions={"pt": suv(volume)}, clinical={"age": 80.0}), card
    )
    assert prepared.image.array.shape == (5, 96, 96, 96)
    assert [constant(one) for one in prepared.image.array[2:]] == [1.0, 1.0, 1.0]
    assert prepared.keeps_samples
    padding = np.ones((96, 96, 96), dtype=bool)
    assert prepared.fitting is not None
    padding[prepared.fitting.content] = False
    assert set(prepared.image.array[1][padding]) == {-1.0}


def test_what_is_said_of_the_patient_stands_behind_the_channels_of_an_image(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "regression", input={
            **IMAGE, "repeat": 3, "size": {"edges": [24, 24], "fit": "pad"},
            "clinical": [AGE, SEX], "normalisation": "imagenet",
        },
    )
    picture = np.full((40, 20), 0.5, dtype=np.float32)
    image = Image(picture, None, {"age": 9.0, "sex": -1.0})
    check_source(image, card)
    prepared = prepare(image, card)
    array = prepared.image.array
    assert array.shape == (7, 24, 24)
    # Beside the image, which fills the middle, it is said as well.
    assert [constant(one) for one in array[3:]] == pytest.approx([-2.55, 1.0, -1.0, 1.0])
    assert prepared.notes() == ()
    unknown = prepare(Image(picture, None), card)
    assert [constant(one) for one in unknown.image.array[3:]] == [0.0] * 4
    assert unknown.notes() == ("age is not known", "sex is not known")
    for told, reason in (({"weight": 3.0}, "companion_unknown"), ({"age": np.inf}, "not_finite")):
        with pytest.raises(ModelError) as caught:
            check_source(Image(picture, None, told), card)
        assert caught.value.reason == f"input.{reason}"


def test_phases_share_one_scale_so_that_what_changes_is_seen(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, input__modality=["MR"], input__phases={"min": 2, "max": 4},
        input__normalisation="zscore",
        input__intensity={"unit": "arbitrary", "clip_percentiles": [0, 100], "scale_to": [0, 1]},
    )
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    random = np.random.default_rng(4)
    base = random.random((20, 20, 20), dtype=np.float32)
    phases = tuple(Volume(base * gain, affine, "arbitrary") for gain in (1.0, 3.0, 2.0))
    channels = prepare(JointInput(phases[0], phases, (0.0, 60.0, 120.0)), card).image.array
    assert channels.shape[0] == 3
    assert abs(float(channels.mean())) < 1e-5
    spread = [float(one.std()) for one in channels]
    assert spread[1] == pytest.approx(3 * spread[0], rel=1e-3)
    assert spread[2] == pytest.approx(2 * spread[0], rel=1e-3)


def refusal(source: JointInput | Volume, card: Any) -> str:
    with pytest.raises(ModelError) as told:
        check_source(source, card)
        prepare(source, card)
    return told.value.reason


def test_what_does_not_fit_the_card_is_refused(tmp_path: Path) -> None:
    needed = card_for(tmp_path, input__companions=[{**PT, "required": True}])
    phased = card_for(tmp_path, input__phases={"min": 2, "max": 3})
    alone = card_for(tmp_path)
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    elsewhere = suv(volume)
    elsewhere.affine_lps[2, 3] += 900.0
    broken = suv(volume)
    broken.array[3, 3, 3] = np.nan
    refusals = {
        "input.companion_missing": (volume, needed),
        "input.companion_elsewhere": (JointInput(volume, companions={"pt": elsewhere}), needed),
        "input.companion_unknown": (JointInput(volume, companions={"pt": suv(volume)}), alone),
        "input.wrong_unit": (JointInput(volume, companions={"pt": volume}), needed),
        "input.not_finite": (JointInput(volume, companions={"pt": broken}), needed),
        "input.too_few_phases": (volume, phased),
        "input.too_many_phases": (JointInput(volume, (volume,) * 4), phased),
        "input.bad_phases": (
            JointInput(volume, (volume, phantom(AXIAL, (2.0, 2.0, 1.5)))), phased
        ),
    }
    assert {reason: refusal(*shown) for reason, shown in refusals.items()} == {
        reason: reason for reason in refusals
    }


def test_an_optional_companion_of_another_place_is_left_out_and_said(tmp_path: Path) -> None:
    card = card_for(tmp_path, input__companions=[PT], input__presence=True)
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    elsewhere = suv(volume)
    elsewhere.affine_lps[2, 3] += 900.0
    prepared = prepare(JointInput(volume, companions={"pt": elsewhere}), card)
    assert prepared.notes() == ("without pt: it shows another place",)
    assert np.array_equal(prepared.image.array, prepare(volume, card).image.array)


def test_a_joint_input_is_answered_through_the_one_door(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "m", mean_onnx(3, 5, 3), task="classification",
        output={**OUTPUTS["classification"]}, input__companions=[PT], input__presence=True,
        input__clinical=[AGE], runtime={"backend": "onnx"},
    )
    predictor = Predictor(load_card(folder))
    predictor.load()
    predictor.warm_up()
    volume = phantom(AXIAL, (2.0, 2.0, 2.0))
    answers = [
        predictor.predict(JointInput(volume, companions=given, clinical={"age": age}))
        for given, age in (({"pt": suv(volume)}, 70.0), ({}, 70.0), ({"pt": None}, None))
    ]
    scores = {
        one.scores["effusion"] for one in answers if isinstance(one, ClassificationPrediction)
    }
    assert len(scores) == 3
    assert "without pt" in answers[1].notes
    assert {"without pt", "age is not known"} <= set(answers[2].notes)
