"""How far two versions agree: each number checked on answers whose difference is known."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ai_models.array.labels import overlapping
from ai_models.prediction.instances import separated
from ai_models.types import (
    Algorithm,
    ClassificationPrediction,
    Code,
    Detection,
    DetectionPrediction,
    Label,
    LabelMap,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
)
from dicom_node.pipeline.agreement import compare, overlap, summarise

CODE = Code("1", "SCT", "thing")
ALGORITHM = Algorithm("m", "M", "1", "tests", "0" * 64, CODE, True)


def label(value: int, name: str) -> Label:
    return Label(value, name, CODE, CODE, (1, 2, 3))


def segmentation(label_map: LabelMap, *names: str, first: int = 1) -> SegmentationPrediction:
    labels = tuple(label(value, name) for value, name in enumerate(names, start=first))
    return SegmentationPrediction(label_map, labels, ALGORITHM)


def detections(*boxes: tuple[int, float, float], names: tuple[str, ...] = ("nodule",)) -> Any:
    """Boxes as (label, place along x, edge in mm)."""
    found = []
    for value, at, edge in boxes:
        box = np.diag([edge, edge, edge, 1.0])
        box[0, 3] = at
        found.append(Detection(value, 0.9, box))
    labels = tuple(label(value, name) for value, name in enumerate(names, start=1))
    return DetectionPrediction(tuple(found), labels, ALGORITHM)


def test_findings_are_compared_by_what_they_are_and_not_by_their_numbers() -> None:
    kinds = (label(1, "Nodule"),)
    live = np.zeros((4, 12, 12), np.uint8)
    live[1, 1:4, 1:4], live[2, 8:10, 8:10] = 1, 1
    shadow = live.copy()
    shadow[1, 3] = 0
    shadow[2, 7:11, 7:11] = 1
    answers = []
    for one in (live, shadow):
        label_map, labels, _ = separated(one, kinds)
        answers.append(SegmentationPrediction(label_map, labels, ALGORITHM))
    assert answers[0].label_map[1, 1, 1] == 1 and answers[1].label_map[1, 1, 1] == 2
    found = compare(*answers, kinds=(kinds, kinds))
    assert found["labels"] == {
        "Nodule": {"dice": 2 * 10 / (13 + 22), "live_voxels": 13, "shadow_voxels": 22}
    }
    assert "only_live" not in found and "only_shadow" not in found


def test_dice_is_of_each_label_by_its_name_whatever_its_value() -> None:
    live = np.zeros((2, 4, 4), np.uint8)
    live[0, :2] = 1
    live[1, :, :1] = 2
    shadow = np.zeros((2, 4, 4), np.uint8)
    shadow[0, 1:3] = 4
    shadow[1, :, :1] = 5
    found = compare(
        segmentation(live, "a", "b", "none", "old"),
        segmentation(shadow, "none", "a", "b", "new", first=3),
    )
    assert found == {
        "task": "segmentation",
        "labels": {
            "a": {"dice": 0.5, "live_voxels": 8, "shadow_voxels": 8},
            "b": {"dice": 1.0, "live_voxels": 4, "shadow_voxels": 4},
            "none": {"dice": 1.0, "live_voxels": 0, "shadow_voxels": 0},
        },
        "only_live": ["old"],
        "only_shadow": ["new"],
    }


def test_labels_that_share_voxels_are_compared_with_labels_that_do_not() -> None:
    plain = np.zeros((1, 4, 4), np.uint8)
    plain[0, :2] = 1
    plain[0, 2:] = 2
    masks = {1: plain[0] == 1, 2: np.ones((4, 4), bool)}
    shared = overlapping({value: mask[None] for value, mask in masks.items()}, plain.shape)
    labels = compare(segmentation(plain, "a", "b"), segmentation(shared, "a", "b"))["labels"]
    assert labels["a"]["dice"] == 1.0
    assert labels["b"]["dice"] == pytest.approx(2 * 8 / 24)


def test_maps_of_different_images_are_not_compared() -> None:
    one = segmentation(np.zeros((1, 4, 4), np.uint8), "a")
    other = segmentation(np.zeros((2, 4, 4), np.uint8), "a")
    assert "same images" in compare(one, other)["why_not"]


def test_scores_differ_and_may_be_on_different_sides() -> None:
    live = ClassificationPrediction({"same": 0.5, "other": 0.45, "gone": 0.1}, ALGORITHM)
    shadow = ClassificationPrediction({"same": 0.75, "other": 0.5, "new": 0.1}, ALGORITHM)
    found = compare(live, shadow)
    assert found["scores"]["same"] == {
        "live": 0.5, "shadow": 0.75, "difference": 0.25, "same_side": True
    }
    assert found["scores"]["other"]["same_side"] is False
    assert (found["only_live"], found["only_shadow"]) == (["gone"], ["new"])


def test_values_differ_with_their_sign() -> None:
    live = RegressionPrediction({"age": 100.0}, ALGORITHM)
    shadow = RegressionPrediction({"age": 90.0}, ALGORITHM)
    assert compare(live, shadow)["values"]["age"]["difference"] == -10.0


def test_detections_are_the_same_when_label_and_place_are() -> None:
    live = detections((1, 0, 10), (1, 100, 10), (2, 200, 10), names=("nodule", "cyst"))
    shadow = detections((1, 5, 10), (1, 109, 10), (1, 200, 10), names=("nodule", "cyst"))
    assert compare(live, shadow)["detections"] == {
        "live": 3, "shadow": 3, "both": 1, "mean_iou": pytest.approx(1 / 3)
    }


def test_one_thing_is_not_matched_twice() -> None:
    found = compare(detections((1, 0, 10), (1, 1, 10)), detections((1, 0, 10)))["detections"]
    assert (found["both"], found["mean_iou"]) == (1, 1.0)


@pytest.mark.parametrize("turned", [False, True])
def test_overlap_of_boxes_does_not_depend_on_the_order_of_their_axes(turned: bool) -> None:
    one = np.diag([10.0, 20.0, 30.0, 1.0])
    other = one.copy()
    other[1, 3] = 10.0
    if turned:
        other = other[:, [2, 0, 1, 3]]
    found = overlap(Detection(1, 0.5, one), Detection(1, 0.5, other))
    assert found == pytest.approx(1 / 3)


def test_a_box_without_extent_overlaps_nothing() -> None:
    flat = Detection(1, 0.5, np.diag([10.0, 0.0, 10.0, 1.0]))
    assert overlap(flat, flat) == 0.0


def test_texts_are_compared_by_their_words_and_never_kept() -> None:
    live, shadow = TextPrediction("no rib fracture", ALGORITHM), TextPrediction("no", ALGORITHM)
    found = compare(live, shadow)
    assert found["text"]["same_words"] == 0.5
    assert "fracture" not in json.dumps(found)


def test_answers_of_different_tasks_are_not_compared() -> None:
    found = compare(TextPrediction("", ALGORITHM), RegressionPrediction({}, ALGORITHM))
    assert found == {"why_not": "text and regression cannot be compared"}


def test_many_comparisons_are_summed_up_by_name() -> None:
    def mask(rows: int) -> Prediction:
        label_map = np.zeros((1, 4, 4), np.uint8)
        label_map[0, :rows] = 1
        return segmentation(label_map, "a")

    documents = [compare(mask(2), mask(2)), compare(mask(2), mask(1)), {"why_not": "no"}]
    documents += [
        compare(ClassificationPrediction({"s": 0.1}, ALGORITHM),
                ClassificationPrediction({"s": score}, ALGORITHM))
        for score in (0.2, 0.9)
    ]
    documents += [compare(detections((1, 0, 10)), detections((1, 0, 10), (1, 90, 10)))]
    documents += [compare(TextPrediction("a b", ALGORITHM), TextPrediction("a b", ALGORITHM))]
    summary = summarise(json.loads(json.dumps(documents)))
    assert summary == {
        "count": 7,
        "labels": {"a": {
            "count": 2, "mean_dice": pytest.approx(5 / 6), "lowest_dice": pytest.approx(2 / 3),
        }},
        "scores": {"s": {
            "count": 2, "mean_difference": pytest.approx(0.45),
            "largest_difference": pytest.approx(0.8), "same_side": 1,
        }},
        "detections": {"live": 1, "shadow": 2, "both": 1},
        "text": {"mean_same_words": 1.0, "lowest_same_words": 1.0},
        "not_compared": {"no": 1},
    }


def test_of_no_comparisons_nothing_is_said() -> None:
    assert summarise([]) == {"count": 0}
