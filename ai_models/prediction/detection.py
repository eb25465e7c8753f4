"""From boxes on the network's grid to boxes in the patient."""

from __future__ import annotations

import numpy as np

from ai_models.array.boxes import best_of_overlapping
from ai_models.backends import Answer
from ai_models.card import DetectionCard
from ai_models.prediction.checking import WRONG, checked_scores
from ai_models.prediction.preparing import Prepared
from ai_models.prediction.search import Searched, box_is_within
from ai_models.types import (
    Affine,
    Algorithm,
    Detection,
    DetectionPrediction,
    FloatArray,
    ModelError,
)


def detection(
    card: DetectionCard, prepared: Prepared, answer: Answer, algorithm: Algorithm,
    seconds: dict[str, float], notes: tuple[str, ...],
) -> DetectionPrediction:
    """Boxes in the patient (LPS mm), the best first, as many as the card allows.

    A box is cut to where the network's input shows the volume; one that lies wholly in the padding
    is left out, and a note says so.

    Raises
    ------
    ModelError
        ``model.wrong_output``: not ``(n, 8)``, turned corners, a score outside 0..1;
        ``model.too_many_findings``; ``model.unknown_label``; ``model.not_finite``.
    """
    entry = card.output
    boxes = checked_scores(answer.boxes, "boxes")
    if boxes.ndim != 2 or boxes.shape[1] != 8:
        raise ModelError(f"boxes of shape {boxes.shape}, (n, 8) expected", reason=WRONG)
    if (boxes[:, 3:6] < boxes[:, :3]).any():
        raise ModelError("a box ends before it begins", reason=WRONG)
    if boxes.size and not (boxes[:, 6].min() >= 0 and boxes[:, 6].max() <= 1):
        raise ModelError("the score of a box is not between 0 and 1", reason=WRONG)
    known = {label.value for label in entry.labels}
    for value in np.unique(boxes[:, 7]):
        if float(value) not in known:
            raise ModelError(f"label {value:g} is not on the card", reason="model.unknown_label")
    boxes = boxes[boxes[:, 6] >= entry.min_score]
    boxes, beyond = _cut(boxes, prepared)
    if beyond:
        notes = (*notes, f"boxes beyond the images, left out: {beyond}")
    if prepared.searched is not None:
        boxes, elsewhere = _searched(boxes, prepared.searched, prepared.affine)
        if elsewhere:
            notes = (*notes, f"marked outside of what was searched, left out: {elsewhere}")
    kept = best_of_overlapping(
        boxes[:, :6], boxes[:, 6], entry.max_overlap, entry.max_findings
    )
    found = tuple(
        Detection(int(box[7]), float(box[6]), _in_patient(box, prepared.affine))
        for box in boxes[kept]
    )
    return DetectionPrediction(found, card.labels, algorithm, seconds, notes)


def _searched(boxes: FloatArray, where: Searched, affine: Affine) -> tuple[FloatArray, int]:
    near = np.array([box_is_within(_in_patient(box, affine), where) for box in boxes], dtype=bool)
    return boxes[near], int((~near).sum())


def _cut(boxes: FloatArray, prepared: Prepared) -> tuple[FloatArray, int]:
    low, high = np.zeros(3), np.array(prepared.shape, dtype=np.float64)
    if prepared.fitting is not None:
        content = prepared.fitting.content
        low = np.array([side.start for side in content], dtype=np.float64)
        high = np.array([side.stop for side in content], dtype=np.float64)
    cut = boxes.copy()
    cut[:, :3] = np.clip(boxes[:, :3], low, high)
    cut[:, 3:6] = np.clip(boxes[:, 3:6], low, high)
    inside = (cut[:, 3:6] > cut[:, :3]).all(axis=1)
    return cut[inside], int((~inside).sum())


def _in_patient(box: FloatArray, affine: Affine) -> Affine:
    """The unit cube to the box in LPS. Edge 0 is half a voxel before the centre of voxel 0."""
    to_index = np.eye(4)
    to_index[:3, :3] = np.diag(box[3:6] - box[:3])
    to_index[:3, 3] = box[:3] - 0.5
    placed: Affine = affine @ to_index
    return placed
