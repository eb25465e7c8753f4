"""What is found outside of the lungs is no finding, and the result says what was searched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ai_models.array.phantom import ChestPhantom, chest_phantom
from ai_models.backends import Answer
from ai_models.card import load_card
from ai_models.card_input import Search
from ai_models.prediction.preparing import prepare
from ai_models.prediction.search import Searched, parts_within, searched
from ai_models.predictor import Predictor
from ai_models.types import CardError, ModelError, SegmentationPrediction, Volume
from tests.ai_models.prediction.cards import answered, card_for
from tests.ai_models.tiny_models import threshold_onnx, write_model

SPACING = (5.0, 5.0, 5.0)
BRIGHT_HU = 2500


@pytest.fixture(scope="module")
def chest() -> ChestPhantom:
    return chest_phantom(3, (48, 60, 78), SPACING, nodules=0)


def cube(chest: ChestPhantom, where: np.ndarray) -> np.ndarray:
    """A mask of 3 x 3 x 3 voxels about the middle one of ``where``."""
    middle = np.argwhere(where)[np.count_nonzero(where) // 2]
    mask = np.zeros(where.shape, dtype=bool)
    mask[tuple(slice(at - 1, at + 2) for at in middle)] = True
    return mask


def test_a_part_counts_in_the_lungs_and_near_them_and_nowhere_else() -> None:
    lungs = np.zeros((20, 30, 40), dtype=bool)
    lungs[5:15, 5:15, 5:15] = True
    where = Searched(lungs, np.diag([2.0, 1.0, 1.0, 1.0]), 5.0, "")
    marked = np.zeros(lungs.shape, dtype=np.uint8)
    marked[8:10, 8:10, 8:10] = 1
    marked[8:10, 8:10, 19:22] = 1  # 5 mm from the last voxel of the lungs
    marked[8:10, 8:10, 28:30] = 1  # 14 mm
    marked[17, 8:10, 8:10] = 2  # 6 mm: slices lie 2 mm apart
    marked[16, 20:25, 8:10] = 2
    kept, dropped = parts_within(marked, where)
    assert dropped == 3
    assert kept[8, 8, 8] == kept[8, 8, 19] == kept[8, 8, 21] == 1
    assert not kept[8, 8, 28] and not (kept == 2).any()
    assert marked[8, 8, 28] == 1


def test_labels_that_share_voxels_are_searched_each_for_itself() -> None:
    lungs = np.zeros((10, 10, 20), dtype=bool)
    lungs[:, :, :5] = True
    marked = np.zeros(lungs.shape, dtype=np.uint64)
    marked[5, 5, 2] = 0b11
    marked[5, 5, 15] = 0b10
    kept, dropped = parts_within(marked, Searched(lungs, np.eye(4), 2.0, ""))
    assert dropped == 1
    assert kept[5, 5, 2] == 0b11 and kept[5, 5, 15] == 0


def test_a_model_reports_what_lies_in_the_lungs_only_and_says_so(
    tmp_path: Path, chest: ChestPhantom
) -> None:
    hu = chest.volume_hu.copy()
    inside = cube(chest, (chest.label_map == 1) & (hu < -700))
    outside = np.zeros_like(inside)
    outside[22:25, 3:6, 3:6] = True
    hu[inside | outside] = BRIGHT_HU
    changes = {
        "input__intensity": {"unit": "HU", "clip": [-1000, 3000], "scale_to": [0, 1]},
        "input__spacing_mm": list(SPACING), "input__search": {"min_volume_ml": 500.0},
    }
    folder = write_model(
        tmp_path / "bright", threshold_onnx(0.75, roi=(48, 64, 80)), runtime__roi=[48, 64, 80],
        **changes
    )
    predictor = Predictor(load_card(folder))
    predictor.load()
    found = predictor.predict(Volume(hu, chest.affine_lps))
    assert isinstance(found, SegmentationPrediction)
    assert found.label_map[inside].any() and not found.label_map[outside].any()
    assert any(note.startswith("Searched: the lungs") for note in found.notes)
    assert "marked outside of what was searched, left out: 1" in found.notes
    with pytest.raises(ModelError) as caught:
        predictor.predict(Volume(hu[:3], chest.affine_lps))
    predictor.close()
    assert caught.value.reason == "input.nothing_to_search"


def test_a_box_outside_of_the_lungs_is_left_out(tmp_path: Path, chest: ChestPhantom) -> None:
    card = card_for(tmp_path, "detection", input__spacing_mm=None)
    volume = Volume(chest.volume_hu, chest.affine_lps)
    prepared = prepare(volume, card)
    where = searched(volume, Search())
    inside = np.argwhere(chest.label_map == 2)[400]
    boxes = np.array([
        [*(at - 1 for at in inside), *(at + 2 for at in inside), 0.9, 1],
        [22, 3, 3, 26, 7, 7, 0.8, 1],
    ], dtype=np.float32)
    # The network's axes are those of the phantom.
    assert np.allclose(prepared.affine, chest.affine_lps)
    found = answered(card, replace(prepared, searched=where), Answer(boxes=boxes))
    assert [one.score for one in found.detections] == [pytest.approx(0.9)]
    assert found.notes == ("marked outside of what was searched, left out: 1",)
    assert len(answered(card, prepared, Answer(boxes=boxes)).detections) == 2


def test_a_picture_or_a_model_without_places_has_no_lungs_to_search(tmp_path: Path) -> None:
    for changes in (
        {"task": "segmentation", "input__intensity": {"unit": "arbitrary"}},
        {"task": "classification"},
    ):
        with pytest.raises(CardError, match=r"input\.search"):
            card_for(tmp_path, input__search={}, **changes)
