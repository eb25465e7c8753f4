"""What a foreign program left in its output folder, read and compared with the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ai_models.backends.command_files import (
    grid_of,
    names_of,
    read_json,
    read_labels,
    read_probabilities,
    read_text,
)
from ai_models.backends.openai import clean_text
from ai_models.backends.protocol import Answer, NetworkInput
from ai_models.card import (
    Card,
    ClassificationCard,
    DetectionCard,
    RegressionCard,
    SegmentationCard,
)
from ai_models.types import FloatArray, ModelError

MOST_BOXES = 10_000


def read_answer(folder: Path, image: NetworkInput, card: Card) -> Answer:
    """The answer, as the card's task asks for it.

    Raises
    ------
    ModelError
        ``model.no_output``: a file is not there; ``model.unknown_label``: a label or a name is not
        on the card; ``model.wrong_geometry``: another grid than the input's; ``model.not_finite``
        or ``model.wrong_output``: whatever else is not as the contract says.
    """
    if isinstance(card, SegmentationCard):
        return _segmentation(folder, image, card)
    if isinstance(card, ClassificationCard):
        scores = _named_numbers(folder / "scores.json", image, card)
        if scores.min() < 0 or scores.max() > 1:
            raise ModelError("scores.json: a probability is 0 to 1", reason=_WRONG)
        return Answer(scores=scores)
    if isinstance(card, RegressionCard):
        return Answer(scores=_named_numbers(folder / "values.json", image, card))
    if isinstance(card, DetectionCard):
        return Answer(boxes=_boxes(folder / "boxes.json", image, card))
    text = clean_text(read_text(folder / "text.txt"))
    if not text:
        raise ModelError("text.txt is empty", reason="model.no_output")
    return Answer(text=text)


def _segmentation(folder: Path, image: NetworkInput, card: SegmentationCard) -> Answer:
    output = card.output
    values = {label.value for label in card.labels}
    if output.overlapping or output.probabilities or any(folder.glob("probabilities-*")):
        return Answer(scores=_probabilities(folder, image, card))
    label_map = read_labels(folder / "labels.nii.gz", image)
    for value in np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)):
        if value in output.ignored:
            label_map[label_map == value] = 0
        elif value and value not in values:
            raise ModelError(
                f"label {value} of labels.nii.gz is not on the card", reason=_UNKNOWN_LABEL
            )
    return Answer(label_map=label_map.reshape(image.array.shape[1:]))


def _probabilities(folder: Path, image: NetworkInput, card: SegmentationCard) -> FloatArray:
    """``(channels, ...)``: channel 0 is what the labels leave, but for sigmoid outputs."""
    output = card.output
    first = 0 if output.activation == "sigmoid" else 1
    values = sorted(label.value for label in card.labels)
    known = {f"probabilities-{value}.nii.gz" for value in values}
    for path in folder.glob("probabilities-*"):
        if path.name not in known:
            raise ModelError(f"{path.name}: no such label on the card", reason=_UNKNOWN_LABEL)
    count = 1 + max(values[-1] - 1 + first, *output.ignored, 0)
    scores = np.zeros((count, *grid_of(image)), dtype=np.float32)
    for value in values:
        path = folder / f"probabilities-{value}.nii.gz"
        scores[value - 1 + first] = read_probabilities(path, image)
    if first:
        scores[0] = np.clip(1.0 - scores[1:].sum(axis=0), 0.0, 1.0)
    return scores.reshape(count, *image.array.shape[1:])


def _named_numbers(
    path: Path, image: NetworkInput, card: ClassificationCard | RegressionCard
) -> FloatArray:
    """``(channels,)``, or ``(slices, channels)`` where the card wants numbers slice by slice."""
    document = read_json(path)
    names = names_of(card)
    if not isinstance(document, dict):
        raise ModelError(f"{path.name}: names and numbers expected", reason=_WRONG)
    for name in document:
        if name not in names:
            raise ModelError(f"{path.name}: {name!r} is not on the card", reason=_UNKNOWN_LABEL)
    by_slice = isinstance(card, ClassificationCard) and card.output.per in ("slice", "sequence")
    slices = grid_of(image)[0] if by_slice else 1
    entries = card.output.scores if isinstance(card, ClassificationCard) else card.output.quantities
    numbers = np.zeros((slices, card.output.channels), dtype=np.float32)
    for entry in entries:
        if entry.name not in document:
            raise ModelError(f"{path.name} does not have {entry.name}", reason="model.no_output")
        given = document[entry.name]
        numbers[:, entry.channel] = _numbers(given if by_slice else [given], slices, path.name)
    return numbers if by_slice else numbers[0]


def _boxes(path: Path, image: NetworkInput, card: DetectionCard) -> FloatArray:
    document = read_json(path)
    if not isinstance(document, list) or len(document) > MOST_BOXES:
        raise ModelError(f"{path.name}: a list of {MOST_BOXES} boxes at most", reason=_WRONG)
    boxes = np.zeros((len(document), 8), dtype=np.float32)
    values = {label.value for label in card.labels}
    axes = image.array.ndim - 1
    for box, entry in zip(boxes, document, strict=True):
        if not isinstance(entry, dict) or set(entry) != {"corners", "score", "label"}:
            raise ModelError(f"{path.name}: corners, score and label of each box", reason=_WRONG)
        corners = entry["corners"]
        if not isinstance(corners, list) or len(corners) != 2:
            raise ModelError(f"{path.name}: a box has two corners", reason=_WRONG)
        box[3 - axes : 3], box[6 - axes : 6] = (
            _numbers(corner, axes, path.name) for corner in corners
        )
        if axes == 2:
            box[3] = 1.0
        box[6:7] = _numbers([entry["score"]], 1, path.name)
        # Compared with each, for what is no number may have no hash; True is equal to 1.
        if isinstance(entry["label"], bool) or not any(entry["label"] == one for one in values):
            raise ModelError(
                f"{path.name}: label {entry['label']!r} is not on the card", reason=_UNKNOWN_LABEL
            )
        box[7] = entry["label"]
    if (boxes[:, 3:6] < boxes[:, :3]).any() or (boxes[:, 6] < 0).any() or (boxes[:, 6] > 1).any():
        raise ModelError(
            f"{path.name}: the first corner is the lower one, a score is 0 to 1", reason=_WRONG
        )
    return boxes


def _numbers(given: Any, count: int, name: str) -> FloatArray:
    if not isinstance(given, list) or len(given) != count or any(
        isinstance(number, bool) or not isinstance(number, int | float) for number in given
    ):
        raise ModelError(f"{name}: {count} numbers expected, not {given!r:.80}", reason=_WRONG)
    numbers = np.array(given, dtype=np.float64)
    if not (np.abs(numbers) < np.finfo(np.float32).max).all():
        raise ModelError(f"{name}: a number is beyond all measure", reason="model.not_finite")
    return numbers.astype(np.float32)


_WRONG = "model.wrong_output"
_UNKNOWN_LABEL = "model.unknown_label"
