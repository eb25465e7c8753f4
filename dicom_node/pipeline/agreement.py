"""How far two versions of a model agree on the same input: numbers without patient data.

Pure: `compare` takes what both answered and gives a document for the ledger, `summarise` many such
documents and gives what a person decides by.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from ai_models.array.labels import is_overlapping, mask_of, voxels_by_label
from ai_models.prediction.instances import of_kinds
from ai_models.types import (
    ClassificationPrediction,
    Detection,
    DetectionPrediction,
    Label,
    LabelMap,
    Prediction,
    RegressionPrediction,
    SegmentationPrediction,
    TextPrediction,
)

THRESHOLD = 0.5
SAME_THING_IOU = 0.1
_CUBE = np.array(
    [[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64
)


def compare(
    live: Prediction, shadow: Prediction,
    kinds: tuple[Sequence[Label], Sequence[Label]] = ((), ()),
) -> dict[str, Any]:
    """How a shadow's answer differs from the live one's, on the same grid.

    ``labels``: Dice and voxels of both, by the name of the label; 1 where neither finds it.
    ``scores``: both, their difference, and whether both are on the same side of `THRESHOLD`.
    ``values``: both and their difference. ``detections``: how many both have, and how many of
    them are the same thing: one label, and boxes that overlap by more than `SAME_THING_IOU`.
    Where each part of a label is a finding of its own, ``kinds`` has the labels of its card
    (live, shadow): the parts are put together by them, for their numbers change with what else
    is found.
    ``text``: how much of the words is the same, 0 to 1. Names that only one of them has are in
    ``only_live`` and ``only_shadow``. What cannot be compared says ``why_not``.
    """
    if isinstance(live, SegmentationPrediction) and isinstance(shadow, SegmentationPrediction):
        return {"task": "segmentation", **_labels(
            _of_kinds(live, kinds[0]), _of_kinds(shadow, kinds[1])
        )}
    if isinstance(live, ClassificationPrediction) and isinstance(shadow, ClassificationPrediction):
        return {"task": "classification", **_scores(live.scores, shadow.scores)}
    if isinstance(live, RegressionPrediction) and isinstance(shadow, RegressionPrediction):
        return {"task": "regression", **_values(live.values, shadow.values)}
    if isinstance(live, DetectionPrediction) and isinstance(shadow, DetectionPrediction):
        return {"task": "detection", "detections": _detections(live, shadow)}
    if isinstance(live, TextPrediction) and isinstance(shadow, TextPrediction):
        return {"task": "text", "text": {"same_words": _same_words(live.text, shadow.text)}}
    return {"why_not": f"{_task(live)} and {_task(shadow)} cannot be compared"}


def summarise(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of many comparisons: mean and worst of each number, by name.

    ``labels``: count, mean and lowest Dice. ``scores`` and ``values``: count, mean and largest
    difference without its sign; of scores also on how many series both are on the same side.
    ``detections``: how many each has, and how many both. ``not_compared``: why, and how often.
    """
    summary: dict[str, Any] = {"count": len(documents)}
    dice = _gathered(documents, "labels", "dice")
    if dice:
        summary["labels"] = {
            name: {"count": len(ones), "mean_dice": fmean(ones), "lowest_dice": min(ones)}
            for name, ones in dice.items()
        }
    for kind in ("scores", "values"):
        differences = _gathered(documents, kind, "difference")
        if differences:
            summary[kind] = {
                name: {
                    "count": len(ones),
                    "mean_difference": fmean(map(abs, ones)),
                    "largest_difference": max(map(abs, ones)),
                }
                for name, ones in differences.items()
            }
    for name, sides in _gathered(documents, "scores", "same_side").items():
        summary["scores"][name]["same_side"] = int(sum(sides))
    boxes = [one["detections"] for one in documents if "detections" in one]
    if boxes:
        summary["detections"] = {
            key: int(sum(one[key] for one in boxes)) for key in ("live", "shadow", "both")
        }
    words = [one["text"]["same_words"] for one in documents if "text" in one]
    if words:
        summary["text"] = {"mean_same_words": fmean(words), "lowest_same_words": min(words)}
    why_not = [str(one["why_not"]) for one in documents if "why_not" in one]
    if why_not:
        summary["not_compared"] = {text: why_not.count(text) for text in sorted(set(why_not))}
    return summary


def _gathered(
    documents: Sequence[Mapping[str, Any]], kind: str, key: str
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for document in documents:
        for name, numbers in document.get(kind, {}).items():
            found.setdefault(name, []).append(numbers[key])
    return found


def _task(prediction: Prediction) -> str:
    return type(prediction).__name__.removesuffix("Prediction").lower()


def _in_one_only(live: Sequence[str], shadow: Sequence[str]) -> dict[str, list[str]]:
    only = {
        "only_live": [name for name in live if name not in shadow],
        "only_shadow": [name for name in shadow if name not in live],
    }
    return {key: names for key, names in only.items() if names}


def _of_kinds(prediction: SegmentationPrediction, kinds: Sequence[Label]) -> SegmentationPrediction:
    """Parts that are findings of their own put together by ``kinds``; as it is without them."""
    if not kinds:
        return prediction
    label_map = of_kinds(prediction.label_map, prediction.labels, kinds)
    return replace(prediction, label_map=label_map, labels=tuple(kinds))


def _labels(live: SegmentationPrediction, shadow: SegmentationPrediction) -> dict[str, Any]:
    if live.label_map.shape != shadow.label_map.shape:
        return {"why_not": "the two versions do not take the same images of the series"}
    values = {label.name: label.value for label in live.labels}
    others = {label.name: label.value for label in shadow.labels}
    pairs = {name: (values[name], others[name]) for name in values if name in others}
    common = _common_voxels(live.label_map, shadow.label_map, list(pairs.values()))
    counts, other_counts = voxels_by_label(live.label_map), voxels_by_label(shadow.label_map)
    labels = {}
    for name, (value, other) in pairs.items():
        total = int(counts[value]) + int(other_counts[other])
        labels[name] = {
            "dice": 2 * common[value, other] / total if total else 1.0,
            "live_voxels": int(counts[value]),
            "shadow_voxels": int(other_counts[other]),
        }
    return {"labels": labels, **_in_one_only(list(values), list(others))}


def _common_voxels(
    live: LabelMap, shadow: LabelMap, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """In how many voxels a label of one map meets one of the other; slice by slice, for memory."""
    found = dict.fromkeys(pairs, 0)
    for plane, other_plane in zip(live, shadow, strict=True):
        if not plane.any() or not other_plane.any():
            continue
        if is_overlapping(plane) or is_overlapping(other_plane):
            for value, other in pairs:
                both = mask_of(plane, value) & mask_of(other_plane, other)
                found[value, other] += int(np.count_nonzero(both))
            continue
        # All pairs in one pass: a hundred labels would be a hundred passes.
        joint = np.bincount(
            plane.astype(np.int32).ravel() * 256 + other_plane.ravel(), minlength=65536
        )
        for value, other in pairs:
            found[value, other] += int(joint[value * 256 + other])
    return found


def _scores(live: Mapping[str, float], shadow: Mapping[str, float]) -> dict[str, Any]:
    scores = {
        name: {
            "live": live[name],
            "shadow": shadow[name],
            "difference": shadow[name] - live[name],
            "same_side": (live[name] >= THRESHOLD) == (shadow[name] >= THRESHOLD),
        }
        for name in live if name in shadow
    }
    return {"scores": scores, **_in_one_only(list(live), list(shadow))}


def _values(live: Mapping[str, float], shadow: Mapping[str, float]) -> dict[str, Any]:
    values = {
        name: {
            "live": live[name], "shadow": shadow[name], "difference": shadow[name] - live[name],
        }
        for name in live if name in shadow
    }
    return {"values": values, **_in_one_only(list(live), list(shadow))}


def _detections(live: DetectionPrediction, shadow: DetectionPrediction) -> dict[str, Any]:
    names = {label.value: label.name for label in live.labels}
    other_names = {label.value: label.name for label in shadow.labels}
    left = list(shadow.detections)
    overlaps: list[float] = []
    for one in live.detections:
        alike = [
            (overlap(one, other), place) for place, other in enumerate(left)
            if names.get(one.label_value) == other_names.get(other.label_value)
        ]
        best, place = max(alike, default=(0.0, -1))
        if best > SAME_THING_IOU:
            overlaps.append(best)
            del left[place]
    return {
        "live": len(live.detections),
        "shadow": len(shadow.detections),
        "both": len(overlaps),
        "mean_iou": fmean(overlaps) if overlaps else None,
    }


def overlap(one: Detection, other: Detection) -> float:
    """Intersection over union of two boxes, 0 to 1.

    The other one counts with the box that encloses it along the edges of the first: the same,
    where both models look along the same axes. A box without extent overlaps nothing.
    """
    size_mm3 = abs(float(np.linalg.det(one.box_lps[:3, :3])))
    if not size_mm3 > 0.0:
        return 0.0
    corners = (np.linalg.inv(one.box_lps) @ other.box_lps @ _CUBE.T)[:3]
    low, high = corners.min(axis=1), corners.max(axis=1)
    extent = float(np.prod(high - low))
    common = float(np.prod(np.clip(np.minimum(high, 1.0) - np.maximum(low, 0.0), 0.0, None)))
    return common / (1.0 + extent - common)


def _same_words(live: str, shadow: str) -> float:
    return difflib.SequenceMatcher(None, live.split(), shadow.split(), autojunk=False).ratio()
