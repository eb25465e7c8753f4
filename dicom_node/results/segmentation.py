"""What a model found as DICOM Segmentations (PS3.3 A.51 and A.91), on the source grid.

BINARY is the form that every archive and viewer takes and that reports cite: one frame per
segment per slice in which it occurs. The probability map (FRACTIONAL) and the label map (LABELMAP)
are further forms of the same result: their segments have the same codes and tracking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from ai_models.array.labels import exclusive, has_overlap, occupied_slices
from ai_models.types import Algorithm, FloatArray, Label, LabelMap
from dicom_node.errors import GateRefused
from dicom_node.results.equipment import Equipment
from dicom_node.results.headers import Repaired
from dicom_node.results.identity import ResultIdentity
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation_frames import (
    BINARY,
    FRACTIONAL,
    LABELMAP,
    build_frames,
    check_grid,
    is_probable,
    pack_bits,
    pack_numbers,
    pack_probabilities,
)
from dicom_node.results.segmentation_segments import (
    describe_segments,
    numbered,
    segment_numbers,
    tracking_identifier,
    tracking_uid,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LABEL_MAP_OVERLAP = "a label map cannot hold segments that overlap"

__all__ = [
    "LABEL_MAP_OVERLAP",
    "build_label_map_segmentation",
    "build_probability_map",
    "build_segmentation",
    "segment_numbers",
    "tracking_identifier",
    "tracking_uid",
]


def build_segmentation(
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    labels: tuple[Label, ...],
    algorithm: Algorithm,
    identity: ResultIdentity,
    *,
    series_number: int,
    equipment: Equipment,
    created_at: datetime,
    repaired: Repaired | None = None,
) -> Dataset | None:
    """Build the BINARY Segmentation of ``label_map``.

    Parameters
    ----------
    source_images
        Headers of the source in slice order, pixel data not needed; one data set for an
        enhanced multi-frame source.
    frame_numbers
        1-based frame of each slice of ``label_map``; all 1 for single-frame sources.
    label_map
        ``(slices, rows, columns)`` on the grid of the source; one slice for a radiograph. Labels
        that share voxels become segments that overlap.
    created_at
        Becomes content, series and instance creation time (see ``finish.local_time``).
    repaired
        What ``headers.normalise`` makes of ``source_images``, where that is known already.

    Returns
    -------
    Dataset or None
        ``None`` when no label occurs: an empty Segmentation says nothing and breaks viewers.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``), or
        ``input.no_frame_of_reference``: several frames that lie nowhere in the patient.
    GateRefused
        ``gate.labels``: undescribed values; ``gate.shape``: the map is not on the source grid.
    """
    request = ResultRequest(
        source_images, frame_numbers, labels, algorithm, identity, equipment, created_at,
        repaired=repaired,
    )
    occupied = occupied_slices(label_map)
    values = np.flatnonzero(occupied.any(axis=0)).tolist()
    numbers = numbered(values, labels)
    if not numbers:
        return None
    check_grid(label_map.shape, request)
    sources, _ = request.normalised()
    series_uid = str(sources[0].SeriesInstanceUID)
    return build_frames(
        request,
        sources,
        BINARY,
        describe_segments(numbers, labels, algorithm, identity, series_uid),
        occupied[:, values],
        lambda frames: pack_bits(label_map, values, frames),
        series_number=series_number,
        segments_overlap=has_overlap(label_map),
    )


def build_label_map_segmentation(
    request: ResultRequest, label_map: LabelMap, *, series_number: int
) -> Dataset | None:
    """Build the LABELMAP Segmentation: one frame per slice, its pixels are segment numbers.

    Segment numbers, codes and tracking are those of ``build_segmentation``, so what cites one can
    cite the other. MONOCHROME2: viewers read a palette as labels and show wrong ones.

    Parameters, result and errors are those of ``build_segmentation``; and ``gate.overlap`` where
    labels share voxels, of which a pixel has only one number (PS3.3 C.8.20.2).
    """
    if has_overlap(label_map):
        raise GateRefused(LABEL_MAP_OVERLAP, reason="gate.overlap")
    label_map = exclusive(label_map)
    occupied = occupied_slices(label_map)
    numbers = numbered(np.flatnonzero(occupied.any(axis=0)).tolist(), request.labels)
    if not numbers:
        return None
    check_grid(label_map.shape, request)
    sources, _ = request.normalised()
    series_uid = str(sources[0].SeriesInstanceUID)
    return build_frames(
        request,
        sources,
        LABELMAP,
        describe_segments(numbers, request.labels, request.algorithm, request.identity, series_uid),
        np.asarray(occupied.any(axis=1))[:, None],
        lambda frames: pack_numbers(label_map, numbers, frames),
        series_number=series_number,
    )


def build_probability_map(
    request: ResultRequest, probabilities: Mapping[int, FloatArray], *, series_number: int
) -> Dataset | None:
    """Build the FRACTIONAL Segmentation of probabilities, in steps of 1/255.

    Parameters
    ----------
    probabilities
        Label value to float32 0..1, ``(slices, rows, columns)`` on the grid of the source.

    Returns
    -------
    Dataset or None
        Only slices with some value of at least 1/255 have a frame; ``None`` when there is none.
        Segments are numbered from 1 in the order of label values, over the labels that have one.

    Raises
    ------
    UnsuitableInput
        As ``build_segmentation``.
    GateRefused
        ``gate.labels``, ``gate.shape``, ``gate.not_finite``, ``gate.range``.
    """
    for values in probabilities.values():
        check_grid(values.shape, request)
    occupied = np.array([_probable_slices(probabilities[value]) for value in sorted(probabilities)])
    shown = [v for v, slices in zip(sorted(probabilities), occupied, strict=True) if slices.any()]
    numbers = numbered(shown, request.labels)
    if not numbers:
        return None
    sources, _ = request.normalised()
    series_uid = str(sources[0].SeriesInstanceUID)
    maps = [probabilities[value] for value in shown]
    return build_frames(
        request,
        sources,
        FRACTIONAL,
        describe_segments(numbers, request.labels, request.algorithm, request.identity, series_uid),
        occupied[occupied.any(axis=1)].T,
        lambda frames: pack_probabilities(maps, frames),
        series_number=series_number,
    )


def _probable_slices(values: FloatArray) -> list[bool]:
    """Whether each slice has a value large enough to be shown; refuses what is no probability."""
    for plane in values:
        low, high = float(plane.min()), float(plane.max())
        if not np.isfinite((low, high)).all():
            raise GateRefused("a probability is not finite", reason="gate.not_finite")
        if low < 0.0 or high > 1.0:
            raise GateRefused("a probability is not within 0 and 1", reason="gate.range")
    return [is_probable(plane) for plane in values]
