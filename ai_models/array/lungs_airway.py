"""Trachea and main bronchi of a CT by controlled region growing, for the classical lungs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]

SMALLEST_DISC_MM2 = 50.0
LARGEST_DISC_MM2 = 900.0
TALLEST_GAP_MM = 10.0
LARGEST_AIRWAY_ML = 120.0
LEAK_RATIO = 1.6
LEAK_ML = 8.0


def airway_mask(
    volume_hu: FloatArray, inside_air: BoolArray, spacing_mm: npt.NDArray[np.float64]
) -> BoolArray:
    """Trachea and main bronchi, without their wall.

    Parameters
    ----------
    volume_hu
        ``(slices, rows, columns)``, axes towards superior, posterior and left.
    inside_air
        Air inside the body, same shape: lungs, airways and gas.
    spacing_mm
        Length of one step along (slice, row, column).

    Returns
    -------
    BoolArray
        Same shape; all False where no stack of round discs is seen.
    """
    smooth = ndimage.gaussian_filter(volume_hu, (0.0, 0.5, 0.5))
    seeds = _stacked_discs(_round_discs(smooth, inside_air, spacing_mm), spacing_mm)
    if not seeds.any():
        return seeds
    return _grow_until_leak(smooth, inside_air, seeds, float(np.prod(spacing_mm)) / 1000.0)


def _round_discs(
    smooth: FloatArray, inside_air: BoolArray, spacing_mm: npt.NDArray[np.float64]
) -> BoolArray:
    """Gas-filled discs of tracheal size and shape in the middle half of the body, per slice."""
    discs = np.zeros(inside_air.shape, dtype=bool)
    pixel_mm2 = float(spacing_mm[1] * spacing_mm[2])
    for index, plane in enumerate(inside_air):
        body = np.flatnonzero((smooth[index] > -300.0).any(axis=0))
        if body.size == 0:
            continue
        width = body[-1] - body[0]
        low, high = body[0] + 0.25 * width, body[-1] - 0.25 * width
        components, _ = ndimage.label(plane)
        for number, box in enumerate(ndimage.find_objects(components), start=1):
            part = components[box] == number
            height_mm = part.shape[0] * spacing_mm[1]
            width_mm = part.shape[1] * spacing_mm[2]
            area = float(part.sum()) * pixel_mm2
            centre = (box[1].start + box[1].stop) / 2.0
            if (
                SMALLEST_DISC_MM2 <= area <= LARGEST_DISC_MM2
                and low <= centre <= high
                and area > 0.55 * height_mm * width_mm
                and 0.4 < height_mm / width_mm < 2.5
                and smooth[index][box][part].min() < -880.0
            ):
                discs[index][box] |= part
    return discs


def _stacked_discs(discs: BoolArray, spacing_mm: npt.NDArray[np.float64]) -> BoolArray:
    """Discs that lie on each other over TALLEST_GAP_MM or the whole of a thinner stack."""
    components, count = ndimage.label(discs)
    needed = min(discs.shape[0], int(np.ceil(TALLEST_GAP_MM / spacing_mm[0])))
    keep = np.zeros(count + 1, dtype=bool)
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        keep[index] = box[0].stop - box[0].start >= needed
    return np.asarray(keep[components])


def _grow_until_leak(
    smooth: FloatArray, inside_air: BoolArray, seeds: BoolArray, voxel_ml: float
) -> BoolArray:
    grown = seeds
    for threshold in range(-980, -840, 10):
        passable = (inside_air & (smooth < threshold)) | seeds
        wider = ndimage.binary_propagation(seeds, mask=passable)
        before, after = grown.sum() * voxel_ml, wider.sum() * voxel_ml
        leaks = after > LEAK_RATIO * before and after - before > LEAK_ML
        if after > LARGEST_AIRWAY_ML or leaks:
            break
        grown = wider
    return grown
