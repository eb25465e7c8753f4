"""Each connected part of a label is a finding of its own, where it lies, the largest first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ai_models.array.labels import mask_of, values_in
from ai_models.backends import Answer
from ai_models.prediction.instances import MOST_INSTANCES, separated
from ai_models.prediction.preparing import prepare
from ai_models.types import Code, Label, Volume
from tests.ai_models.marked_phantom import AXIAL, rotation
from tests.ai_models.prediction.cards import answered, card_for

CODE = Code("1", "99TEST", "thing")
NODULE = Label(1, "Nodule", CODE, CODE, (200, 40, 40))
CYST = Label(2, "Cyst", CODE, CODE, (40, 40, 200))


def three_parts() -> np.ndarray:
    label_map = np.zeros((8, 12, 12), dtype=np.uint8)
    label_map[1, 1, 1] = 1
    label_map[3:6, 3:6, 3:6] = 1
    label_map[6, 9:11, 9:11] = 2
    return label_map


def test_parts_are_numbered_by_volume_and_keep_the_codes_of_their_label() -> None:
    label_map, labels, notes = separated(three_parts(), (NODULE, CYST))
    assert [one.name for one in labels] == ["Nodule 1", "Nodule 2", "Cyst 1"]
    assert [int((label_map == one.value).sum()) for one in labels] == [27, 1, 4]
    assert {one.type for one in labels} == {CODE}
    assert len({one.color_rgb for one in labels}) == 3
    assert labels[0].color_rgb == NODULE.color_rgb
    assert notes == ()


def test_labels_of_which_there_is_nothing_stay_and_have_no_voxels() -> None:
    label_map, labels, _ = separated(np.zeros((4, 4, 4), np.uint8), (NODULE, CYST))
    assert [(one.value, one.name) for one in labels] == [(1, "Nodule"), (2, "Cyst")]
    assert not label_map.any()


def test_parts_that_touch_by_a_corner_are_one() -> None:
    label_map = np.zeros((4, 4, 4), np.uint8)
    label_map[0, 0, 0] = label_map[1, 1, 1] = 1
    assert [one.name for one in separated(label_map, (NODULE,))[1]] == ["Nodule 1"]


def test_parts_of_labels_that_share_voxels_keep_them() -> None:
    bits = np.zeros((4, 8, 8), np.uint64)
    bits[1:3, 1:4, 1:4] |= np.uint64(1)
    bits[1:3, 3:6, 3:6] |= np.uint64(2)
    bits[3, 7, 7] |= np.uint64(2)
    label_map, labels, _ = separated(bits, (NODULE, CYST))
    assert [one.name for one in labels] == ["Nodule 1", "Cyst 1", "Cyst 2"]
    assert values_in(label_map) == [1, 2, 3]
    assert (mask_of(label_map, 1) & mask_of(label_map, 2)).sum() == 2
    assert [int(mask_of(label_map, one.value).sum()) for one in labels] == [18, 18, 1]


def test_of_too_many_the_largest_are_told_and_the_rest_is_said() -> None:
    label_map = np.zeros((3, 40, 40), np.uint8)
    label_map[1, ::4, ::4] = 1
    label_map[1, 0, 0:2] = 1
    found, labels, notes = separated(label_map, (NODULE,))
    assert len(labels) == MOST_INSTANCES == 64
    assert int((found == 1).sum()) == 2
    assert notes == (
        "100 separate findings: the largest 64 are told of, 36 smaller ones are not",)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_findings_of_a_model_lie_where_they_are_under_oblique_affines(
    tmp_path: Path, degrees: float
) -> None:
    card = card_for(tmp_path, output__instances=True, input__min_slices=1)
    affine = np.eye(4)
    affine[:3, :3] = rotation(0, degrees) @ rotation(2, degrees) @ AXIAL * [2.0, 1.0, 1.0]
    volume = Volume(np.zeros((20, 40, 40), np.int16), affine)
    prepared = prepare(volume, card)
    truth = np.array([[6, 12, 12], [14, 28, 30]])
    index = np.stack(np.meshgrid(*map(np.arange, prepared.shape), indexing="ij"), axis=-1)
    place = index @ prepared.affine[:3, :3].T + prepared.affine[:3, 3]
    scores = np.zeros(prepared.shape, np.float32)
    for centre, radius in zip(truth, (7.0, 5.0), strict=True):
        middle = affine[:3, :3] @ centre + affine[:3, 3]
        scores[np.linalg.norm(place - middle, axis=-1) < radius] = 1.0
    found = answered(card, prepared, Answer(scores=np.stack([1 - scores, scores])))
    name = card.labels[0].name
    assert [one.name for one in found.labels] == [f"{name} 1", f"{name} 2"]
    for label, centre in zip(found.labels, truth, strict=True):
        middle = np.argwhere(found.label_map == label.value).mean(axis=0)
        assert np.abs((middle - centre) * [2.0, 1.0, 1.0]).max() < 1.0
