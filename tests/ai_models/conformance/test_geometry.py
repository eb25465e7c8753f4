"""A model that answers the array and not the patient is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ai_models.conformance.check import Check
from ai_models.conformance.geometry import check_axes, check_flips, check_oblique, check_spacing
from ai_models.conformance.scene import scene_for
from ai_models.prediction.checking import check_source
from ai_models.types import ModelInput, Prediction, Volume
from tests.ai_models.conformance.models import (
    bright,
    card_of,
    labelled,
    refusing,
    scored,
    text,
)
from tests.ai_models.conformance.test_scene import IMAGE

Model = Callable[[ModelInput], Prediction]


def looked_at(folder: Path, model: Model) -> dict[str, Check]:
    card = card_of(folder)
    scene = scene_for(card, quick=True)
    reference = model(scene.reference)
    found = [
        check_flips(card, model, scene, reference, quick=False),
        check_axes(card, model, scene, reference),
        check_oblique(card, model, scene, reference),
        check_spacing(card, model, scene, reference),
    ]
    return {one.name: one for one in found}


def outcomes(found: dict[str, Check]) -> dict[str, str]:
    return {name: one.outcome for name, one in found.items()}


def test_answer_of_the_patient_passes(tmp_path: Path) -> None:
    found = looked_at(tmp_path, bright(card_of(tmp_path)))
    assert set(outcomes(found).values()) == {"passed"}
    assert found["flips"].sentence == "in 7 of 7 ways, at worst Dice 1.0000"


def test_answer_of_the_array_fails(tmp_path: Path) -> None:
    card = card_of(tmp_path)

    def first_half(source: ModelInput) -> Prediction:
        label_map = source.array > 100
        label_map[len(label_map) // 3 :] = False
        return labelled(card, label_map)

    found = looked_at(tmp_path, first_half)
    assert found["flips"].outcome == found["axes"].outcome == "failed"
    assert "turned along slices, the answer is another: Dice" in found["flips"].sentence


def test_answer_that_lags_a_voxel_behind_fails(tmp_path: Path) -> None:
    card = card_of(tmp_path)

    def shifted(source: ModelInput) -> Prediction:
        return labelled(card, np.roll(source.array > 100, 1, axis=2))

    assert looked_at(tmp_path, shifted)["flips"].outcome == "failed"


def test_answer_that_forgets_the_spacing_fails(tmp_path: Path) -> None:
    card = card_of(tmp_path)

    def ball(source: ModelInput) -> Prediction:
        """20 voxels about the middle, however large they are."""
        middle = (np.array(source.array.shape) - 1) / 2
        index = np.stack(np.indices(source.array.shape), axis=-1)
        return labelled(card, np.linalg.norm(index - middle, axis=-1) < 9)

    found = looked_at(tmp_path, ball)
    assert found["flips"].outcome == "passed"
    assert found["spacing"].outcome == "failed"
    assert "at 3.50 x 2.00 x 1.60 mm" in found["spacing"].sentence


@pytest.mark.parametrize(("share", "full", "quick"), [
    (0.6, "failed", "not applicable"), (0.3, "failed", "failed"), (0.9, "passed", "passed"),
])
def test_small_drawing_fails_no_answer_that_the_full_one_may_pass(
    tmp_path: Path, share: float, full: str, quick: str
) -> None:
    card = card_of(tmp_path)
    scene = scene_for(card, quick=True)

    def partly(source: ModelInput) -> Prediction:
        """All of it where it lies straight, a share of its voxels where it is sampled otherwise."""
        marked = source.array > 100
        if not np.array_equal(source.affine_lps, scene.reference.affine_lps):
            marked &= np.random.default_rng(1).random(marked.shape) < share
        return labelled(card, marked)

    reference = partly(scene.reference)
    for check in (check_oblique, check_spacing):
        assert check(card, partly, scene, reference).outcome == full
        found = check(card, partly, scene, reference, quick=True)
        assert found.outcome == quick
        assert ("without --quick" in found.sentence) == (quick == "not applicable")


def test_what_is_far_off_on_the_small_drawing_is_decided_on_the_large_one(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    scene = scene_for(card, quick=True)
    least = scene_for(card, quick=False).reference.array.size // 4

    def coarse(source: ModelInput) -> Prediction:
        """Lost only where there are few voxels, and those lie oblique."""
        marked = source.array > 100
        is_turned = not np.array_equal(source.affine_lps, scene.reference.affine_lps)
        if is_turned and source.array.size < least:
            marked &= np.random.default_rng(1).random(marked.shape) < 0.2
        return labelled(card, marked)

    found = check_oblique(card, coarse, scene, coarse(scene.reference), quick=True)
    assert found.outcome == "passed" and found.sentence.endswith("(on a larger drawing)")


def test_nothing_marked_proves_nothing(tmp_path: Path) -> None:
    card = card_of(tmp_path)

    def nothing(source: ModelInput) -> Prediction:
        return labelled(card, np.zeros(source.array.shape))

    found = looked_at(tmp_path, nothing)
    assert set(outcomes(found).values()) == {"not applicable"}
    assert "--on PATH" in found["axes"].sentence


def test_model_that_raises_fails_with_its_reason(tmp_path: Path) -> None:
    card = card_of(tmp_path)
    scene = scene_for(card, quick=True)
    reference = bright(card)(scene.reference)
    found = check_axes(card, refusing("model.failed"), scene, reference)
    assert found.outcome == "failed"
    assert found.sentence == "model.failed: it will not"


@pytest.mark.parametrize(("steady", "outcome"), [(True, "passed"), (False, "failed")])
def test_scores_hold_however_it_lies(tmp_path: Path, steady: bool, outcome: str) -> None:
    card = card_of(tmp_path, task="classification", output={
        "activation": "sigmoid", "channels": 1, "scores": [{"name": "bright", "channel": 0}]})

    def score(source: ModelInput) -> Prediction:
        assert isinstance(source, Volume)
        seen = source.array if steady else source.array[: len(source.array) // 3]
        litres = (seen > 100).sum() * source.voxel_volume_ml / 1000
        return scored(card, bright=float(litres * 2))

    scene = scene_for(card, quick=True)
    found = check_flips(card, score, scene, score(scene.reference), quick=True)
    assert found.outcome == outcome


def test_oblique_network_is_told_why_it_may_fail(tmp_path: Path) -> None:
    card = card_of(tmp_path, input__spacing_mm=None)
    scene = scene_for(card, quick=True)

    def along_rows(source: ModelInput) -> Prediction:
        label_map = np.zeros(source.array.shape, dtype=bool)
        label_map[:, -label_map.shape[1] // 4 :, -label_map.shape[2] // 3 :] = True
        return labelled(card, label_map)

    found = check_oblique(card, along_rows, scene, along_rows(scene.reference))
    assert found.outcome == "failed"
    assert "without input.spacing_mm" in found.sentence


def test_what_the_card_calls_too_oblique_must_be_refused_and_the_rest_hold(
    tmp_path: Path,
) -> None:
    card = card_of(tmp_path, input__max_tilt_deg=10)
    scene = scene_for(card, quick=True)

    def declining(source: ModelInput) -> Prediction:
        check_source(source, card)
        return bright(card)(source)

    def straight_only(source: ModelInput) -> Prediction:
        """Declines as the card says, and loses what lies but a little oblique."""
        assert isinstance(source, Volume)
        answer = declining(source)
        return labelled(card, source.array > 9999) if source.tilt_deg > 1 else answer

    reference = bright(card)(scene.reference)
    found = check_oblique(card, declining, scene, reference)
    assert found.outcome == "passed"
    assert found.sentence.startswith(
        "oblique by 17 degrees the card declines it, and it was refused with input.tilted; "
        "oblique by 10 degrees: Dice"
    )
    found = check_oblique(card, bright(card), scene, reference)
    assert found.outcome == "failed"
    assert found.sentence == (
        "oblique by 17 degrees, input.tilted expected, and it was answered"
    )
    found = check_oblique(card, straight_only, scene, reference)
    assert found.outcome == "failed"
    assert "oblique by 10 degrees, the answer is another" in found.sentence


def test_image_has_no_directions(tmp_path: Path) -> None:
    card = card_of(tmp_path, input=IMAGE)

    def white(source: ModelInput) -> Prediction:
        return labelled(card, source.array[None] > 0.5)

    scene = scene_for(card, quick=True)
    reference = white(scene.reference)
    assert check_flips(card, white, scene, reference, quick=True).outcome == "not applicable"
    assert check_spacing(card, white, scene, reference).outcome == "not applicable"
    sized = card_of(tmp_path, input={**IMAGE, "size": {"edges": [64, 64], "fit": "stretch"}})
    assert check_spacing(sized, white, scene, reference).outcome == "passed"


def test_text_of_other_pictures_may_be_another(tmp_path: Path) -> None:
    card = card_of(tmp_path, task="text", output={"prompt": "Say."})
    scene = scene_for(card, quick=True)
    said = text(card, "Nothing.")
    found = check_oblique(card, lambda source: said, scene, said)
    assert found.outcome == "not applicable"
    assert check_flips(card, lambda source: said, scene, said, quick=True).outcome == "passed"
