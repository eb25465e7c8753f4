"""What a segmentation measures: volume, mean and spread of the intensities, centre of mass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ai_models.array.labels import (
    VALUES,
    is_overlapping,
    mask_of,
    place_of,
    values_in,
    voxels_by_label,
)
from ai_models.types import Image, LabelMap, Volume

SLAB_VOXELS = 256 * 1024
# Of more labels on a slice one look at all of them is faster than one at each.
_FEW = 8


@dataclass(frozen=True)
class Measurement:
    """Measures of one label.

    ``mean_hu`` and ``standard_deviation_hu`` (of the population: divided by n) are in the unit of
    the volume, HU for CT. ``centroid_lps_mm`` is the mean of the voxel centres, mm in LPS.
    """

    volume_ml: float
    mean_hu: float
    standard_deviation_hu: float
    centroid_lps_mm: tuple[float, float, float]
    voxel_count: int


def measure(label_map: LabelMap, volume: Volume) -> dict[int, Measurement]:
    """Measure every label that occurs, on the regular grid of ``volume``.

    ``label_map`` has the shape of ``volume.array``, ``(slices, rows, columns)``; labels that share
    voxels are each measured whole. Sums are float64 over slabs of slices, so memory is bounded and
    the result does not depend on it.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if label_map.shape != volume.array.shape:
        raise ValueError(f"label map {label_map.shape} on a volume {volume.array.shape}")
    sums = np.zeros((6, VALUES))
    slices_each = max(1, SLAB_VOXELS // max(1, label_map[0].size)) if len(label_map) else 1
    for start in range(0, len(label_map), slices_each):
        slab = slice(start, start + slices_each)
        sums += _slab_sums(label_map[slab], volume.array[slab], start)
    return {
        value: _measurement(sums[:, value], volume)
        for value in range(1, VALUES)
        if sums[0, value] > 0
    }


def measure_image(label_map: LabelMap, image: Image) -> dict[int, Measurement]:
    """What can be told of every label of a projection image: how many pixels it has.

    ``label_map`` is ``(1, rows, columns)``. A projection has no volumes, its values have no unit
    and its pixels no place in the patient: those numbers are NaN, so that a report that asks for
    them is refused. Areas and lengths are measured on the outlines.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if label_map.shape != (1, *image.array.shape):
        raise ValueError(f"label map {label_map.shape} on an image {image.array.shape}")
    counts = voxels_by_label(label_map)
    unknown = float("nan")
    return {
        int(value): Measurement(
            unknown, unknown, unknown, (unknown, unknown, unknown), int(counts[value])
        )
        for value in np.flatnonzero(counts)
    }


def _slab_sums(
    label_map: LabelMap, array: npt.NDArray[np.generic], first_slice: int
) -> npt.NDArray[np.float64]:
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2 and not is_overlapping(label_map):
        # All sums are whole numbers that float64 holds exactly: their order changes nothing.
        sums = np.zeros((6, VALUES))
        for place, (labels, values) in enumerate(zip(label_map, array, strict=True), first_slice):
            _add_plane(sums, labels, values, place)
        return sums
    return _sums_in_order(label_map, array, first_slice)


def _add_plane(
    sums: npt.NDArray[np.float64], labels: LabelMap, array: npt.NDArray[np.generic], place: int
) -> None:
    """Add one slice of whole numbers to ``sums``, looking no further than to what is marked."""
    top, left, box = place_of(labels)
    found = np.flatnonzero(voxels_by_label(box))
    if len(found) > _FEW:
        sums += _sums_in_order(labels[None], array[None], place)
        return
    rows, columns = box.shape
    values = array[top : top + rows, left : left + columns]
    for value in found:
        mask = box == value
        # Counts of a row or a column, which float32 holds exactly.
        marked = mask.astype(np.float32)
        per_row, per_column = marked.sum(axis=1), marked.sum(axis=0)
        count = float(per_row.sum(dtype=np.float64))
        here = values[mask].astype(np.float64)
        sums[:, value] += (
            count, here.sum(), np.square(here).sum(), place * count,
            per_row @ np.arange(top, top + rows, dtype=np.float64),
            per_column @ np.arange(left, left + columns, dtype=np.float64),
        )


def _sums_in_order(
    label_map: LabelMap, array: npt.NDArray[np.generic], first_slice: int
) -> npt.NDArray[np.float64]:
    flat = np.flatnonzero(label_map)
    labels = np.ascontiguousarray(label_map).ravel()[flat]
    values = np.ascontiguousarray(array).ravel()[flat].astype(np.float64)
    slices, rest = np.divmod(flat, label_map.shape[1] * label_map.shape[2])
    rows, columns = np.divmod(rest, label_map.shape[2])
    weights = (values, values * values, slices + first_slice, rows, columns)
    if not is_overlapping(label_map):
        counts = np.bincount(labels, minlength=VALUES).astype(np.float64)
        return np.stack([
            counts, *(np.bincount(labels, weights=one, minlength=VALUES) for one in weights)
        ])
    sums = np.zeros((1 + len(weights), VALUES))
    for value in values_in(labels):
        here = mask_of(labels, value)
        sums[0, value] = np.count_nonzero(here)
        sums[1:, value] = [weight[here].sum(dtype=np.float64) for weight in weights]
    return sums


def _measurement(sums: npt.NDArray[np.float64], volume: Volume) -> Measurement:
    count = float(sums[0])
    mean, square, *index = (sums[1:] / count).tolist()
    x, y, z, _ = (volume.affine_lps @ np.array([*index, 1.0])).tolist()
    return Measurement(
        volume_ml=count * volume.voxel_volume_ml,
        mean_hu=mean,
        standard_deviation_hu=float(np.sqrt(max(0.0, square - mean * mean))),
        centroid_lps_mm=(x, y, z),
        voxel_count=int(count),
    )
