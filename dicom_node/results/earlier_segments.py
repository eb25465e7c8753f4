"""How the findings of an earlier examination were tracked, by its own Segmentation.

A model that is run again on the earlier images finds what it found then; the Tracking UIDs under
which that was reported are in the Segmentation that went to the archive. Each finding takes that
of the segment with which it shares most voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

from ai_models.array.labels import mask_of
from ai_models.types import Label, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results import gate
from dicom_node.results.gate_reading import read_back
from dicom_node.results.segmentation_segments import kind_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# What an object from outside may do to its reader, beside what the gate has a word for.
_UNREADABLE = (
    AttributeError, ValueError, KeyError, TypeError, IndexError, NotImplementedError, OSError,
)


def tracked_before(
    segmentations: Sequence[Path],
    model_id: str,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap | None,
    labels: Sequence[Label],
) -> dict[int, str]:
    """Tracking UIDs of findings on ``source_images``, by label value, as far as they are known.

    ``label_map`` is ``(slices, rows, columns)`` on those images. Of several Segmentations by the
    model the latest that can be read counts; what is of other images, of another patient or by
    another model is passed over.
    """
    if label_map is None or not labels:
        return {}
    for dataset in _latest_first(segmentations, model_id, source_images):
        try:
            shown = gate.read_label_map(dataset, source_images, frame_numbers)
            return _shared(dataset, shown, label_map, labels)
        except (GateRefused, *_UNREADABLE):
            continue
    return {}


def _latest_first(
    paths: Sequence[Path], model_id: str, source_images: Sequence[Dataset]
) -> list[Dataset]:
    found = []
    for path in paths:
        try:
            dataset = read_back(path)
            names = [str(one.TrackingID) for one in dataset.SegmentSequence]
            is_ours = all(name.startswith(f"{model_id} ") for name in names)
            is_same = dataset.get("PatientID") == source_images[0].get("PatientID")
            when = f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
        except (GateRefused, *_UNREADABLE):
            continue
        if is_ours and is_same and dataset.Modality == "SEG":
            found.append((when, str(dataset.SOPInstanceUID), dataset))
    return [dataset for _, _, dataset in sorted(found, key=lambda one: one[:2], reverse=True)]


def _shared(
    dataset: Dataset, shown: LabelMap, label_map: LabelMap, labels: Sequence[Label]
) -> dict[int, str]:
    segments = list(dataset.SegmentSequence)
    here = [label for label in labels if mask_of(label_map, label.value).any()]
    voxels = np.zeros((len(here), len(segments)))
    for row, label in enumerate(here):
        mask = mask_of(label_map, label.value)
        for column, segment in enumerate(segments):
            if _kind(segment) == kind_of(label):
                voxels[row, column] = np.count_nonzero(
                    mask & mask_of(shown, int(segment.SegmentNumber))
                )
    pairs = zip(*linear_sum_assignment(voxels, maximize=True), strict=True)
    return {
        here[row].value: str(segments[column].TrackingUID)
        for row, column in pairs
        if voxels[row, column] > 0
    }


def _kind(segment: Dataset) -> str:
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
    side = str(modifiers[0].CodeValue) if modifiers else ""
    return f"{kind.CodingSchemeDesignator}:{kind.CodeValue}:{side}"
