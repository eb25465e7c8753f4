"""Scores and labels of every layout become the right label map, where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ai_models.array.labels import mask_of
from ai_models.backends import Answer
from ai_models.prediction import segmentation as module
from ai_models.prediction.preparing import prepare
from ai_models.types import Image, ModelError, Volume
from tests.ai_models.marked_phantom import (
    AXIAL,
    CENTRE_MM,
    CORNERS_MM,
    found_markers_mm,
    phantom,
    rotation,
)
from tests.ai_models.prediction.cards import IMAGE, answered, card_for, labels
from tests.ai_models.prediction.test_preparing import SIZES, volumes

PLAIN = {"input__spacing_mm": None, "input__min_slices": 1}
VOLUME = Volume(np.zeros((2, 3, 4), np.int16), np.eye(4)[[2, 1, 0, 3]])


def voxels(*channels: float) -> np.ndarray:
    """Scores of which every voxel of `VOLUME` has these."""
    scores = np.empty((len(channels), 2, 3, 4), dtype=np.float32)
    scores[:] = np.array(channels, dtype=np.float32).reshape(-1, 1, 1, 1)
    return scores


def assert_markers_stay(label_map: np.ndarray, volume: Volume, tolerance_mm: float) -> None:
    assert label_map.shape == volume.array.shape
    found = found_markers_mm(label_map, volume.affine_lps)
    distances = np.linalg.norm(found[:, None] - (CORNERS_MM + CENTRE_MM)[None], axis=-1)
    assert sorted(distances.argmin(axis=1)) == list(range(8))
    assert distances.min(axis=1).max() <= tolerance_mm


@pytest.mark.parametrize("kind", ["scores", "labels"])
@pytest.mark.parametrize("changes", SIZES[:6] + SIZES[7:], ids=range(len(SIZES) - 1))
def test_markers_stay_whatever_the_network_takes(
    tmp_path: Path, changes: dict[str, Any], kind: str
) -> None:
    card = card_for(tmp_path, **changes)
    for volume in volumes():
        prepared = prepare(volume, card)
        bright = prepared.image.array[0]
        answer = (
            Answer(scores=np.stack([1 - bright, bright])) if kind == "scores"
            else Answer(label_map=(bright > 0.5).astype(np.uint8))
        )
        found = answered(card, prepared, answer).label_map
        coarsest = max(*volume.spacing_mm, *prepared.image.spacing_mm)
        assert_markers_stay(found, volume, coarsest / 2)


def test_labels_on_the_series_own_samples_come_back_unchanged(tmp_path: Path) -> None:
    volume = phantom(AXIAL * [1, -1, -1], (3.0, 1.0, 2.0))
    card = card_for(
        tmp_path, **PLAIN, output__labels=labels(3, 7), output__ignored=[1, 2, 4, 5, 6],
    )
    expected = np.where(volume.array > 500, 7, np.where(volume.array > -500, 3, 0))
    prepared = prepare(volume, card)
    as_seen = prepare(Volume(expected.astype(np.int16), volume.affine_lps), card).plan
    label_map = np.flip(expected, [a for a, step in enumerate(as_seen.steps) if step.scale < 0])
    found = answered(card, prepared, Answer(label_map=label_map.astype(np.uint8))).label_map
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_labels_too_large_to_be_scores_come_back_by_the_nearest_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_STACK", 1000)
    volume = phantom(rotation(0, 20) @ AXIAL, (2.0, 1.5, 1.5))
    card = card_for(tmp_path)
    prepared = prepare(volume, card)
    label_map = (prepared.image.array[0] > 0.5).astype(np.uint8)
    found = answered(card, prepared, Answer(label_map=label_map)).label_map
    assert_markers_stay(found, volume, 1.0)


def test_ignored_channels_count_as_background(tmp_path: Path) -> None:
    card = card_for(tmp_path, **PLAIN, output__labels=labels(1, 3), output__ignored=[2])
    for scores, expected in (
        ((0.1, 0.2, 0.4, 0.3), 0), ((0.1, 0.2, 0.3, 0.4), 3), ((0.1, 0.6, 0.2, 0.1), 1),
        ((0.4, 0.3, 0.2, 0.1), 0),
    ):
        found = answered(card, VOLUME, Answer(scores=voxels(*scores))).label_map
        assert (found == expected).all()


def test_ignored_channel_of_a_sigmoid_output_hides_what_is_less_sure(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, **PLAIN, output__labels=labels(1, 3), output__ignored=[1],
        output__activation="sigmoid",
    )
    for scores, expected in (
        ((0.6, 0.9, 0.2), 0), ((0.6, 0.4, 0.2), 1), ((0.6, 0.7, 0.8), 3), ((0.1, 0.1, 0.2), 0),
    ):
        found = answered(card, VOLUME, Answer(scores=voxels(*scores))).label_map
        assert (found == expected).all()


def test_of_sigmoid_labels_above_their_own_threshold_the_best_wins(tmp_path: Path) -> None:
    entries = [labels(1, threshold=0.3)[0], labels(2, threshold=0.6)[0]]
    card = card_for(
        tmp_path, **PLAIN, output__labels=entries, output__activation="sigmoid",
    )
    for scores, expected in (
        ((0.4, 0.5), 1), ((0.4, 0.7), 2), ((0.2, 0.5), 0), ((0.8, 0.7), 1), ((0.3, 0.6), 0),
    ):
        found = answered(card, VOLUME, Answer(scores=voxels(*scores))).label_map
        assert (found == expected).all()


def test_overlapping_labels_share_voxels(tmp_path: Path) -> None:
    entries = [labels(1, threshold=0.3)[0], *labels(2, 3)]
    card = card_for(
        tmp_path, **PLAIN, output__labels=entries, output__activation="sigmoid",
        output__overlapping=True, output__probabilities=True,
    )
    prediction = answered(card, VOLUME, Answer(scores=voxels(0.4, 0.9, 0.2)))
    assert prediction.label_map.dtype == np.uint64
    assert (prediction.label_map == 0b011).all()
    assert {value: float(one.max()) for value, one in prediction.probabilities.items()} == (
        pytest.approx({1: 0.4, 2: 0.9, 3: 0.2})
    )


def test_overlapping_labels_are_cleaned_each_for_itself(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, **PLAIN, output__labels=labels(1, 2), output__activation="sigmoid",
        output__overlapping=True,
        output__postprocessing={"fill_holes": True, "largest_component": True},
    )
    scores = np.zeros((2, 9, 9, 9), dtype=np.float32)
    scores[0, 1:6, 1:6, 1:6] = 0.9
    scores[0, 3, 3, 3] = 0.0
    scores[0, 8, 8, 8] = 0.9
    scores[1, 4:9, 4:9, 4:9] = 0.9
    volume = Volume(np.zeros((9, 9, 9), np.int16), VOLUME.affine_lps)
    found = answered(card, volume, Answer(scores=scores)).label_map
    assert mask_of(found, 1).sum() == 125
    assert mask_of(found, 2).sum() == 125
    assert found[5, 5, 5] == 0b11


def test_overlapping_labels_of_a_back_end_stay_overlapping(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, output__labels=labels(1, 2), output__activation="sigmoid",
        output__overlapping=True,
    )
    volume = phantom(AXIAL, (3.0, 1.5, 1.5))
    prepared = prepare(volume, card)
    bright = prepared.image.array[0] > 0.5
    label_map = bright * np.uint64(1) + np.ones_like(bright) * np.uint64(2)
    found = answered(card, prepared, Answer(label_map=label_map.astype(np.uint64))).label_map
    assert_markers_stay(mask_of(found, 1), volume, 1.5)
    assert mask_of(found, 2).all()


def test_probabilities_that_the_network_answers_itself_are_taken_in_both_layouts(
    tmp_path: Path,
) -> None:
    card = card_for(
        tmp_path, **PLAIN, output__labels=labels(1, 2), output__activation="none",
    )
    found = answered(card, VOLUME, Answer(scores=voxels(0.1, 0.2, 0.7))).label_map
    assert (found == 2).all()
    found = answered(card, VOLUME, Answer(scores=voxels(0.6, 0.2))).label_map
    assert (found == 1).all()


def test_a_radiograph_gives_a_label_map_of_one_slice(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, input={**IMAGE, "size": {"edges": [32, 32], "fit": "pad"}},
        output__postprocessing={"fill_holes": True, "largest_component": True},
    )
    array = np.zeros((50, 80), dtype=np.float32)
    array[10:30, 20:60] = 1.0
    array[18:22, 38:42] = 0.0
    array[45:47, 2:5] = 1.0
    image = Image(array, None)
    prepared = prepare(image, card)
    bright = np.clip(prepared.image.array[0], 0, 1)
    for answer in (
        Answer(scores=np.stack([1 - bright, bright])),
        Answer(label_map=(bright > 0.5).astype(np.uint8)),
        Answer(label_map=(bright > 0.5).astype(np.uint8)[None]),
    ):
        found = answered(card, prepared, answer).label_map
        assert found.shape == (1, 50, 80)
        where = np.argwhere(found[0])
        assert np.abs(where.mean(axis=0) - [19.5, 39.5]).max() < 1.0
        assert abs(len(where) - 800) < 120
        assert found[0, 20, 40] == 1
        assert found[0, 46, 3] == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(), "model.wrong_output"),
        (Answer(scores=voxels(0.1, 0.2)), "model.wrong_output"),
        (Answer(scores=voxels(0.1, 0.2, 0.3, 0.4)), "model.wrong_output"),
        (Answer(scores=voxels(0.1, 0.2, 0.7)[:, :1]), "model.wrong_output"),
        (Answer(scores=voxels(0.1, 0.2, 7.0)), "model.wrong_output"),
        (Answer(scores=voxels(0.1, 0.2, np.nan)), "model.not_finite"),
        (Answer(label_map=np.zeros((2, 3, 5), np.uint8)), "model.wrong_output"),
        (Answer(label_map=np.zeros((2, 3, 4), np.int64)), "model.wrong_output"),  # type: ignore[arg-type]
        (Answer(label_map=np.zeros((2, 3, 4), np.uint64)), "model.wrong_output"),
        (Answer(label_map=np.full((2, 3, 4), 3, np.uint8)), "model.unknown_label"),
    ],
)
def test_answer_off_the_card_is_an_error(tmp_path: Path, answer: Answer, reason: str) -> None:
    card = card_for(tmp_path, **PLAIN, output__labels=labels(1, 2))
    with pytest.raises(ModelError) as caught:
        answered(card, VOLUME, answer)
    assert caught.value.reason == reason


def test_the_back_ends_own_arrays_are_left_as_they_are(tmp_path: Path) -> None:
    card = card_for(tmp_path, **PLAIN, output__postprocessing={"min_volume_ml": 1.0})
    scores = voxels(0.1, 0.9)
    scores.flags.writeable = False
    assert not answered(card, VOLUME, Answer(scores=scores)).label_map.any()
