"""The source images that carry a finding, as a Key Object Selection "Of Interest"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import voxels_by_slice
from ai_models.types import Code, Label, LabelMap
from dicom_node.results.equipment import DEMONSTRATION
from dicom_node.results.headers import normalise
from dicom_node.results.legend import worded
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import segment_numbers
from dicom_node.results.selection_document import build_selection

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

OF_INTEREST = Code("113000", "DCM", "Of Interest")

# A viewer shows the selection as a series of its own, and nobody pages through more.
IMAGE_LIMIT = 50


def build_key_objects(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """Select the source images on which a label occurs.

    All of them where they are at most ``IMAGE_LIMIT``. Of more, the largest section of each label
    and the others evenly spread over those that carry one; the description says how many there
    are. Frames of an enhanced source are named by their numbers.

    Parameters
    ----------
    label_map
        ``(slices, rows, columns)`` on the grid of the source.

    Returns
    -------
    Dataset or None
        ``None`` when no label occurs: there is nothing to select.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    GateRefused
        ``gate.labels``: the map holds a value that no label describes.
    """
    numbers = segment_numbers(label_map, request.labels)
    if not numbers:
        return None
    sources, _ = normalise(request.source_images)
    found = [label for label in request.labels if label.value in numbers]
    areas = _areas(label_map, found)
    chosen = chosen_slices(areas)
    several = len(sources) > 1
    document = build_selection(
        request,
        sources[0],
        [sources[index] for index in chosen] if several else sources[:1],
        kind="key objects",
        uids=(
            request.identity.uid("key objects.series"),
            request.identity.uid("key objects.instance"),
        ),
        title=OF_INTEREST,
        description=_description(request, found, areas, len(chosen)),
        series_number=series_number,
    )
    if int(sources[0].get("NumberOfFrames") or 1) > 1:
        _name_frames(document, [int(request.frame_numbers[index]) for index in chosen])
    return document


def chosen_slices(areas: npt.NDArray[np.intp]) -> list[int]:
    """Indices of the slices to select, ascending, from ``(slices, labels)`` pixel counts."""
    carrying = np.flatnonzero(areas.any(axis=1))
    if len(carrying) <= IMAGE_LIMIT:
        return [int(index) for index in carrying]
    largest = {int(index) for index in areas.argmax(axis=0)}
    spread = carrying[
        np.linspace(0, len(carrying) - 1, IMAGE_LIMIT - len(largest)).round().astype(int)
    ]
    return sorted(largest | {int(index) for index in spread})


def _areas(label_map: LabelMap, labels: Sequence[Label]) -> npt.NDArray[np.intp]:
    areas: npt.NDArray[np.intp] = voxels_by_slice(label_map)[:, [one.value for one in labels]]
    return areas


def _description(
    request: ResultRequest, labels: Sequence[Label], areas: npt.NDArray[np.intp], chosen: int
) -> str:
    carrying = int(areas.any(axis=1).sum())
    counts = (areas > 0).sum(axis=0)
    each = ", ".join(f"{label.name} ({count})" for label, count in zip(labels, counts, strict=True))
    sentence = worded(
        request.language,
        "all selected" if chosen == carrying else "some selected",
        chosen=chosen, carrying=carrying, algorithm=request.algorithm.name, each=each,
    )
    return f"{DEMONSTRATION}. {sentence}" if request.algorithm.demonstration else sentence


def _name_frames(document: Dataset, frame_numbers: list[int]) -> None:
    for item in document.ContentSequence:
        if item.ValueType == "IMAGE":
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = sorted(frame_numbers)
