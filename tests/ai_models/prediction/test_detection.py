"""A box lies in the patient where the network saw it, whatever was cut and stretched before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from ai_models.backends import Answer
from ai_models.prediction.checking import check_source
from ai_models.prediction.preparing import prepare
from ai_models.types import Image, ModelError, Volume
from tests.ai_models.marked_phantom import CENTRE_MM, CORNERS_MM
from tests.ai_models.prediction.cards import answered, card_for
from tests.ai_models.prediction.test_preparing import SIZES, volumes

AFFINE = np.eye(4)[[2, 1, 0, 3]] * [2.0, 1.0, 1.0, 1.0]
VOLUME = Volume(np.zeros((10, 20, 30), np.int16), AFFINE)
PLAIN: dict[str, Any] = {"input__spacing_mm": None}


def boxes_of(bright: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(bright > 0.5, structure=np.ones((3, 3, 3)))
    return np.array([
        [*(side.start for side in box), *(side.stop for side in box), 0.9 - 0.01 * number, 1]
        for number, box in enumerate(ndimage.find_objects(parts))
    ], dtype=np.float32)


def box(*corners: float, score: float = 0.9, value: int = 1) -> list[float]:
    return [*corners, score, value]


@pytest.mark.parametrize("changes", SIZES[:5] + SIZES[7:], ids=range(len(SIZES) - 2))
def test_boxes_surround_the_markers_in_the_patient(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    card = card_for(tmp_path, "detection", **changes)
    for volume in volumes():
        prepared = prepare(volume, card)
        found = answered(
            card, prepared, Answer(boxes=boxes_of(prepared.image.array[0]))
        ).detections
        centres = np.array([one.center_lps_mm for one in found])
        distances = np.linalg.norm(centres[:, None] - (CORNERS_MM + CENTRE_MM)[None], axis=-1)
        assert sorted(distances.argmin(axis=1)) == list(range(8))
        half = max(*volume.spacing_mm, *prepared.image.spacing_mm) / 2
        # A box may be a voxel too long on one side, of every axis.
        assert distances.min(axis=1).max() <= half * np.sqrt(3)
        assert np.abs(np.array([one.size_mm for one in found]) - 14.0).max() <= 5 * half


def test_edges_count_from_the_outer_side_of_the_first_voxel(tmp_path: Path) -> None:
    card = card_for(tmp_path, "detection", **PLAIN)
    (found,) = answered(
        card, VOLUME, Answer(boxes=np.array([box(0, 0, 0, 1, 1, 1)], np.float32))
    ).detections
    assert found.center_lps_mm == pytest.approx((0.0, 0.0, 0.0))
    assert found.size_mm == pytest.approx((2.0, 1.0, 1.0))
    assert np.allclose(found.box_lps @ [0, 0, 0, 1], [-0.5, -0.5, -1.0, 1])


def test_the_highest_score_comes_first_and_low_ones_not_at_all(tmp_path: Path) -> None:
    card = card_for(tmp_path, "detection", **PLAIN)
    boxes = np.array([
        box(0, 0, 0, 2, 2, 2, score=0.4), box(4, 4, 4, 6, 6, 6, score=0.8, value=2),
        box(8, 8, 8, 9, 9, 9, score=0.29), box(0, 10, 10, 2, 12, 12, score=0.6),
    ], np.float32)
    prediction = answered(card, VOLUME, Answer(boxes=boxes))
    assert [round(one.score, 2) for one in prediction.detections] == [0.8, 0.6, 0.4]
    assert [one.label_value for one in prediction.detections] == [2, 1, 1]
    assert [label.value for label in prediction.labels] == [1, 2]


def test_of_boxes_that_overlap_the_better_one_stays(tmp_path: Path) -> None:
    card = card_for(tmp_path, "detection", **PLAIN)
    boxes = np.array([
        box(0, 0, 0, 4, 4, 4, score=0.5), box(0, 0, 1, 4, 4, 5, score=0.7),
        box(0, 0, 4.8, 4, 4, 9, score=0.4),
    ], np.float32)
    found = answered(card, VOLUME, Answer(boxes=boxes)).detections
    assert [round(one.score, 2) for one in found] == [0.7, 0.4]


def test_nothing_found_is_an_answer(tmp_path: Path) -> None:
    card = card_for(tmp_path, "detection", **PLAIN)
    assert answered(card, VOLUME, Answer(boxes=np.zeros((0, 8), np.float32))).detections == ()


def test_boxes_end_where_the_images_end(tmp_path: Path) -> None:
    card = card_for(
        tmp_path, "detection", **PLAIN, input__size={"edges": [20, 20, 30], "fit": "crop"},
    )
    boxes = np.array([box(0, 0, 0, 8, 2, 2), box(0, 5, 5, 4, 9, 9, score=0.5)], np.float32)
    prediction = answered(card, VOLUME, Answer(boxes=boxes))
    (found,) = prediction.detections
    assert found.size_mm == pytest.approx((6.0, 2.0, 2.0))
    assert np.allclose(found.box_lps @ [0, 0, 0, 1], [-0.5, -0.5, -1.0, 1])
    assert prediction.notes[-1] == "boxes beyond the images, left out: 1"


@pytest.mark.parametrize(
    ("boxes", "reason"),
    [
        (None, "model.wrong_output"),
        (np.zeros((2, 6), np.float32), "model.wrong_output"),
        (np.array([box(4, 0, 0, 2, 2, 2)], np.float32), "model.wrong_output"),
        (np.array([box(0, 0, 0, 2, 2, 2, score=1.5)], np.float32), "model.wrong_output"),
        (np.array([box(0, 0, 0, 2, 2, 2, value=3)], np.float32), "model.unknown_label"),
        (np.array([box(0, 0, 0, 2, 2, np.nan)], np.float32), "model.not_finite"),
        (np.array([box(0, 2 * n, 0, 1, 2 * n + 1, 1) for n in range(9)], np.float32),
         "model.too_many_findings"),
    ],
)
def test_answer_off_the_card_is_an_error(
    tmp_path: Path, boxes: np.ndarray | None, reason: str
) -> None:
    with pytest.raises(ModelError) as caught:
        answered(card_for(tmp_path, "detection", **PLAIN), VOLUME, Answer(boxes=boxes))
    assert caught.value.reason == reason


def test_a_radiograph_has_no_boxes_in_the_patient(tmp_path: Path) -> None:
    card = card_for(tmp_path, "detection")
    card = card.model_copy(update={
        "input": card.input.model_copy(update={"kind": "image"}),
    })
    with pytest.raises(ModelError) as caught:
        check_source(Image(np.zeros((4, 4), np.float32), None), card)
    assert caught.value.reason == "input.not_a_volume"
