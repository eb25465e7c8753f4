"""What must not be answered is refused before the network runs, each for its own reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ai_models.card import load_card
from ai_models.card_entries import Likeness, Quality
from ai_models.catalog import ZOO
from ai_models.monitoring.exposure import Exposure
from ai_models.monitoring.likeness import Distances
from ai_models.prediction.quality import (
    check_exposure,
    check_likeness,
    check_pixels,
    check_slices,
    exposed_field,
    without_quality,
)
from ai_models.predictor import Predictor
from ai_models.training.memory_network import measured_card
from ai_models.training.phantoms.bones import random_unit
from ai_models.training.phantoms.hands import hand_radiograph, random_hand
from ai_models.types import FloatArray, Image, ModelError
from tests.shared_data import needs_shared, shared

REAL = ("data", "labelled", "pneumoniamnist", "pneumoniamnist_trainval.npz")
QUALITY = Quality.model_validate({
    "min_edge_pixels": 24, "min_grey_levels": 24, "min_contrast": 0.05, "max_clipped": 0.4,
    "min_field": 0.3,
})
LIKENESS = Likeness.model_validate({
    "reference": "quality.npy", "sha256": "0" * 64, "limit": 2.0, "inverted": 1.0, "turned": 1.0,
    "mirrored": 1.2,
})


def ramp(rows: int = 64, columns: int = 64) -> FloatArray:
    down, across = np.mgrid[0:1:rows * 1j, 0:1:columns * 1j]
    return np.asarray(0.1 + 0.4 * down + 0.4 * across, dtype=np.float32)


def collimated(share: float) -> FloatArray:
    shown = np.zeros((100, 100), dtype=np.float32)
    rows = int(100 * share)
    shown[:rows] = np.random.default_rng(0).uniform(0.2, 0.8, (rows, 100))
    return shown


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((64, 64), np.float32), "input.blank"),
        (np.ones((64, 64), np.float32), "input.blank"),
        (0.5 + 0.01 * ramp(), "input.blank"),
        (ramp(16, 64), "input.too_few_pixels"),
        (np.rint(ramp() * 5) / 5, "input.too_few_grey_levels"),
        (np.clip((ramp() - 0.5) * 5 + 0.5, 0, 1), "input.clipped"),
        (collimated(0.2), "input.collimated"),
    ],
)
def test_a_picture_that_shows_too_little_is_refused(array: FloatArray, reason: str) -> None:
    with pytest.raises(ModelError) as refused:
        check_pixels(array, QUALITY, is_displayed=True)
    assert refused.value.reason == reason


@pytest.mark.parametrize("array", [ramp(), collimated(0.5), np.clip(ramp() * 1.2, 0, 1)])
def test_a_picture_that_shows_enough_passes(array: FloatArray) -> None:
    assert "clipping" in check_pixels(array, QUALITY, is_displayed=True)


def test_a_large_picture_is_looked_at_in_part_and_judged_alike() -> None:
    assert "clipping" in check_pixels(ramp(2000, 2400), QUALITY, is_displayed=True)
    with pytest.raises(ModelError, match="nothing is to be seen"):
        check_pixels(np.zeros((2000, 2400), np.float32), QUALITY, is_displayed=True)


def test_a_letter_on_the_border_does_not_make_it_part_of_the_field() -> None:
    shown = collimated(0.5)
    shown[80:84, 10:13] = 1.0
    assert exposed_field(shown).share == pytest.approx(0.5)


def test_a_volume_of_one_value_is_refused_whatever_its_unit() -> None:
    with pytest.raises(ModelError) as refused:
        check_pixels(np.full((4, 32, 32), 7, np.int16), QUALITY, is_displayed=False)
    assert refused.value.reason == "input.blank"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Distances(2.1, 3.0, 3.0, 3.0), "input.unlike"),
        (Distances(1.9, 1.1, 3.0, 3.0), "input.inverted"),
        (Distances(2.5, 1.1, 3.0, 3.0), "input.inverted"),
        (Distances(1.9, 1.8, 1.1, 1.2), "input.turned"),
        (Distances(1.5, 3.0, 3.0, 1.2), "input.mirrored"),
    ],
)
def test_the_surest_reason_is_told(found: Distances, reason: str) -> None:
    with pytest.raises(ModelError) as refused:
        check_likeness(found, LIKENESS)
    assert refused.value.reason == reason


def test_what_would_be_unlike_either_way_is_not_called_turned() -> None:
    with pytest.raises(ModelError) as refused:
        check_likeness(Distances(4.0, 2.5, 2.5, 2.5), LIKENESS)
    assert refused.value.reason == "input.unlike"


def test_only_what_is_looked_at_is_told_as_passed() -> None:
    nearer = Distances(1.0, 0.5, 0.5, 0.5)
    bare = LIKENESS.model_copy(update={"inverted": None, "turned": None, "mirrored": None})
    said = check_likeness(nearer, bare)
    assert "turned" not in said and "distance 1.00 of at most 2.00" in said
    assert "not inverted or turned" in check_likeness(Distances(1.0, 2, 2, 1), LIKENESS)


def refusal(predictor: Predictor, array: Any) -> str:
    try:
        predictor.predict(Image(np.asarray(array, dtype=np.float32), (12.0, 12.0)))
    except ModelError as error:
        return error.reason
    return ""


@pytest.fixture(scope="module")
def chest_model() -> Predictor:
    card = load_card(ZOO / "pneumonia-dx").model_copy(update={"explanation": None})
    predictor = Predictor(card)
    predictor.load()
    return predictor


def test_the_chest_model_no_longer_calls_black_pneumonia(chest_model: Predictor) -> None:
    black = np.zeros((256, 256))
    assert refusal(chest_model, black) == "input.blank"
    bare = Predictor(without_quality(load_card(ZOO / "pneumonia-dx")).model_copy(
        update={"explanation": None}))
    bare.load()
    # The network behind the gate has not changed its mind.
    answer: Any = bare.predict(Image(black.astype(np.float32), (1.0, 1.0)))
    assert answer.scores["pneumonia"] > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_the_chest_model_refuses_hands_in_any_exposure(chest_model: Predictor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    hand = hand_radiograph(seed, random_hand(rng), random_unit(rng), 1.0)
    for shown in (hand, 1.0 - hand, hand[::-1], 0.3 + 0.4 * hand):
        assert refusal(chest_model, shown).startswith("input.")


@needs_shared(*REAL)
def test_real_chests_pass_and_are_refused_upside_down_turned_and_inverted(
    chest_model: Predictor
) -> None:
    with np.load(shared(*REAL)) as content:
        chests = content["val_images"][:40] / 255.0
    assert [refusal(chest_model, one) for one in chests] == [""] * len(chests)
    for one in chests[:12]:
        assert refusal(chest_model, 1.0 - one) == "input.inverted"
        assert refusal(chest_model, np.rot90(one, 2)) == "input.turned"
        assert refusal(chest_model, np.rot90(one)) == "input.turned"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Exposure(0.1, 0.2, 0.5), "input.exposure"), (Exposure(0.9, 0.2, 0.5), "input.exposure"),
        (Exposure(0.5, 0.01, 0.5), "input.exposure"), (Exposure(0.5, 0.4, 0.5), "input.exposure"),
        (Exposure(0.5, 0.2, 0.1), "input.sharpness"), (Exposure(0.5, 0.2, 2.0), "input.sharpness"),
        (Exposure(float("nan"), 0.2, 0.5), "input.exposure"), (None, "input.exposure"),
        (Exposure(0.5, 0.2, 0.5), ""),
    ],
)
def test_what_is_darker_flatter_or_noisier_than_usual_is_refused(
    found: Exposure | None, reason: str
) -> None:
    usual = LIKENESS.model_copy(update={
        "brightness": (0.3, 0.8), "contrast": (0.05, 0.25), "sharpness": (0.2, 0.9)})
    assert check_exposure(found, LIKENESS) == ()
    if not reason:
        assert "brightness and contrast and sharpness" in check_exposure(found, usual)[0]
        return
    with pytest.raises(ModelError) as refused:
        check_exposure(found, usual)
    assert refused.value.reason == reason


def test_a_distance_that_is_no_number_is_not_allowed() -> None:
    with pytest.raises(ModelError) as refused:
        check_likeness(Distances(float("nan"), 3.0, 3.0, 3.0), LIKENESS)
    assert refused.value.reason == "input.unlike"


@pytest.mark.parametrize(
    ("shown", "reason"),
    [([1] * 12, ""), ([0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0], ""),
     ([1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1], "input.blank_slices"),
     ([0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0], "input.too_short"), ([0] * 12, "input.blank")],
)
def test_what_slices_do_not_show_is_not_called_normal(shown: list[int], reason: str) -> None:
    grey = np.random.default_rng(0).integers(0, 1000, (32, 32))
    stack = np.stack([grey * one for one in shown]).astype(np.int16)
    quality = Quality.model_validate({"min_extent_mm": 50.0})
    if not reason:
        said = check_slices(stack, 5.0, quality)
        assert f"slices over {5 * sum(shown)} mm" in said
        assert ("at the ends show nothing" in said) == (0 in shown)
        return
    with pytest.raises(ModelError) as refused:
        check_slices(stack, 5.0, quality)
    assert refused.value.reason == reason


@needs_shared(*REAL)
def test_chests_in_a_window_that_nobody_learned_from_are_not_answered(
    chest_model: Predictor
) -> None:
    # Contrast times three had a third of the ill called normal; too little had all called ill.
    with np.load(shared(*REAL)) as content:
        chests = content["val_images"][:12] / 255.0
    for factor, fixed in ((0.12, 0.5), (0.2, 0.0), (4.0, 0.5)):
        changed = np.clip(fixed + factor * (chests - fixed), 0, 1)
        told = [refusal(chest_model, one) for one in changed]
        assert set(told) <= {"input.exposure", "input.blank", "input.clipped", "input.unlike"}


@needs_shared(*REAL)
def test_the_report_is_told_what_passed_and_what_was_not_looked_at(chest_model: Predictor) -> None:
    with np.load(shared(*REAL)) as content:
        chest = content["val_images"][0] / np.float32(255.0)
    answer: Any = chest_model.predict(Image(chest.astype(np.float32), None))
    (note,) = [one for one in answer.notes if "passed before the model was run" in one]
    assert "not inverted or turned or mirrored" in note and "letters in the picture" in note


def test_a_model_whose_reference_was_changed_is_not_loaded(chest_model: Predictor) -> None:
    card = chest_model.card
    quality = card.input.quality
    assert quality is not None and quality.likeness is not None
    wrong = quality.model_copy(update={
        "likeness": quality.likeness.model_copy(update={"sha256": "1" * 64})})
    entry = card.input.model_copy(update={"quality": wrong})
    with pytest.raises(ModelError) as refused:
        Predictor(card.model_copy(update={"input": entry})).load()
    assert refused.value.reason == "model.hash_mismatch"


def test_figures_of_training_are_of_all_cases(chest_model: Predictor) -> None:
    assert measured_card(chest_model.card).input.quality is None


def test_a_card_without_a_gate_refuses_nothing_and_says_nothing(chest_model: Predictor) -> None:
    bare = without_quality(chest_model.card)
    assert bare.input.quality is None and without_quality(bare) is bare
