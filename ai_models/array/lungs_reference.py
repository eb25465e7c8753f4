"""Classical lungs of a CT, without learning: the reference that the lung network is held to.

Method (thresholds in HU, after Hu, Hoffman and Reinhardt, IEEE TMI 20(6), 2001, with changes)
------------------------------------------------------------------------------------------------
1. Axes are brought to (inferior to superior, anterior to posterior, right to left) by the affine
   and the volume to a working grid of at least 1.5 mm; values below -1024 become -1024.
2. *Air* is everything below -400. What is below -940 after smoothing and is reached from a lateral
   border is the *outside*, with its rim and what hangs on it (blankets); a lung cut by a small
   field of view is denser and stays. Air that the largest tissue does not bound, in front and
   behind, is foam or mattress of the table.
3. *Airway*: round gas-filled discs near the middle, stacked over 10 mm or more, seed a region
   that grows below a rising threshold until it leaks into the lung; its wall (2 mm) goes with it.
4. *Gut gas*: a component whose eroded inside has a median below -950 is gas, not lung; a small one
   already when 60 HU below the largest lung. Less than 5 ml is dropped (in stacks thinner than
   15 mm: less than 600 mm2 in every slice).
5. *Sides*: every component goes to its side of the spine. One that spans both is eroded until it
   parts, and the parts grow back, nearest first.
6. Every side is closed by 6 mm (vessels, nodules) and its holes are filled, in space and in every
   axial slice; then the boundary is set on the original grid at -400 HU.

What it cannot do: dense disease at the pleura (effusion, consolidation) is left out; the hilum is
cut where the closing ends; a large loop of gas mixed with stool may pass for lung.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.lungs_airway import airway_mask

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.uint8]
Affine = npt.NDArray[np.float64]
T = TypeVar("T", bound=np.generic)

RIGHT_LUNG = 1
LEFT_LUNG = 2
AIR_BELOW_HU = -400.0
OUTSIDE_BELOW_HU = -940.0
TISSUE_ABOVE_HU = -300.0
GAS_BELOW_HU = -950.0
PADDING_HU = -1024.0
WORKING_SPACING_MM = 1.5
SMALLEST_LUNG_ML = 5.0
SMALLEST_LUNG_AREA_MM2 = 600.0
THIN_STACK_MM = 15.0
CLOSING_MM = 6.0
OUTSIDE_RIM_STEPS = 3
SMALL_PART = 0.05
SHELTERED = 0.3
GAS_BELOW_LUNG_HU = 60.0
_IN_PLANE = ndimage.generate_binary_structure(2, 1)[None]


def canonical_axes(affine_lps: Affine) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Array axes that run closest to superior, posterior and left, and whether each is reversed.

    Oblique grids are taken by their nearest axes. Raises ValueError for a singular affine.
    """
    directions = np.asarray(affine_lps, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(directions, axis=0)
    if not np.all(np.isfinite(directions)) or abs(np.linalg.det(directions)) < 1e-9:
        raise ValueError("affine_lps is singular or not finite")
    cosines = np.abs(directions / lengths)
    best, order = -1.0, (0, 1, 2)
    for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        score = float(cosines[2, a] + cosines[1, b] + cosines[0, c])
        if score > best + 1e-9:
            best, order = score, (a, b, c)
    reversed_ = tuple(bool(directions[2 - i, axis] < 0) for i, axis in enumerate(order))
    return order, (reversed_[0], reversed_[1], reversed_[2])


def to_canonical(array: npt.NDArray[T], affine_lps: Affine) -> tuple[npt.NDArray[T], Affine]:
    """View with axes ``(slices, rows, columns)`` to superior, posterior, left, and its affine."""
    order, reversed_ = canonical_axes(affine_lps)
    affine = np.asarray(affine_lps, dtype=np.float64)[:, [*order, 3]].copy()
    turned = array.transpose(order)
    for axis, flip in enumerate(reversed_):
        if flip:
            turned = np.flip(turned, axis)
            affine[:3, 3] += affine[:3, axis] * (turned.shape[axis] - 1)
            affine[:3, axis] *= -1
    return turned, affine


def from_canonical(array: npt.NDArray[T], affine_lps: Affine) -> npt.NDArray[T]:
    """Undo :func:`to_canonical`; ``affine_lps`` is the one of the original grid."""
    order, reversed_ = canonical_axes(affine_lps)
    for axis, flip in enumerate(reversed_):
        if flip:
            array = np.flip(array, axis)
    return np.ascontiguousarray(array.transpose(np.argsort(order)))


def lungs_reference(volume_hu: npt.NDArray[np.generic], affine_lps: Affine) -> LabelMap:
    """Right lung (1) and left lung (2) of a CT by the classical method of this module.

    Parameters
    ----------
    volume_hu
        ``(slices, rows, columns)`` in HU; any padding value at or below -1024.
    affine_lps
        4x4, index (slice, row, column) to mm in LPS; slices may run either way.

    Returns
    -------
    LabelMap
        uint8 on the same grid: 1 the patient's right lung, 2 the left, 0 elsewhere.

    Raises
    ------
    ValueError
        The volume is not three-dimensional or the affine is singular.
    """
    if volume_hu.ndim != 3:
        raise ValueError(f"volume_hu has {volume_hu.ndim} axes, 3 expected")
    canonical, affine = to_canonical(volume_hu, affine_lps)
    native = np.maximum(canonical.astype(np.float32), np.float32(PADDING_HU))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    factors = np.maximum(1, np.floor(WORKING_SPACING_MM / spacing + 0.5)).astype(int)
    working = _block_mean(native, factors)
    working_spacing = spacing * factors
    coarse = _lungs_on_working_grid(working, working_spacing)
    fine = _boundary_on_native_grid(native, coarse, factors)
    return from_canonical(fine, affine_lps)


def _block_mean(volume: FloatArray, factors: npt.NDArray[np.int_]) -> FloatArray:
    """Mean over blocks; the last block of an axis repeats the border."""
    pad = [(0, int(-n % f)) for n, f in zip(volume.shape, factors, strict=True)]
    padded = np.pad(volume, pad, mode="edge")
    for axis, factor in enumerate(factors):
        if factor > 1:
            shape = list(padded.shape)
            shape[axis : axis + 1] = [shape[axis] // int(factor), int(factor)]
            padded = padded.reshape(shape).mean(axis=axis + 1, dtype=np.float32)
    return padded


def _lungs_on_working_grid(volume: FloatArray, spacing: npt.NDArray[np.float64]) -> LabelMap:
    air = volume < AIR_BELOW_HU
    inside = air & ~_outside_air(volume, air)
    airway = airway_mask(volume, inside, spacing)
    candidates = inside & ~_dilate(airway, 2.0, spacing)
    candidates = _beside_the_body(volume, candidates, spacing)
    lungs = _without_gut_gas(volume, candidates, spacing)
    labels = np.zeros(volume.shape, dtype=np.uint8)
    if not lungs.any():
        return labels
    sides = _split_sides(lungs, _midline_column(volume, lungs), spacing)
    for label in (RIGHT_LUNG, LEFT_LUNG):
        closed = _close_and_fill(sides == label, spacing) & ~airway
        labels[closed & (labels == 0) & ((sides == 0) | (sides == label))] = label
    return labels


def _outside_air(volume: FloatArray, air: BoolArray) -> BoolArray:
    """Thin air reached from a lateral border, and what hugs it within OUTSIDE_RIM_STEPS."""
    smooth = ndimage.gaussian_filter(volume, (0.0, 1.0, 1.0))
    thin = ndimage.binary_erosion(smooth < OUTSIDE_BELOW_HU, _IN_PLANE, border_value=1)
    border = np.zeros_like(air)
    border[:, [0, -1], :] = True
    border[:, :, [0, -1]] = True
    core = ndimage.binary_propagation(border & thin, mask=thin)
    if not core.any():
        return np.asarray(core)
    outside: BoolArray = ndimage.binary_dilation(
        core, _IN_PLANE, iterations=OUTSIDE_RIM_STEPS, mask=air
    )
    components, count = ndimage.label(air & ~outside)
    size = np.bincount(components.ravel(), minlength=count + 1)
    touching = np.bincount(
        components[ndimage.binary_dilation(outside, _IN_PLANE) & ~outside], minlength=count + 1
    )
    loose = touching > 0.1 * size
    loose[0] = False
    return np.asarray(outside | loose[components])


def _beside_the_body(
    volume: FloatArray, candidates: BoolArray, spacing: npt.NDArray[np.float64]
) -> BoolArray:
    """Candidates with the body before, behind and around them: foam and mattress are left out."""
    reach = max(1, round(3.0 / float(spacing[1])))
    tissue = ndimage.binary_opening(volume > TISSUE_ABOVE_HU, _IN_PLANE, iterations=reach)
    parts, count = ndimage.label(tissue)
    if count == 0:
        return np.zeros_like(candidates)
    body = parts == int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    body = ndimage.binary_dilation(body, _IN_PLANE, iterations=reach)
    components, count = ndimage.label(candidates)
    around = ndimage.grey_dilation(components, footprint=_IN_PLANE) * (components == 0)
    wall = np.bincount(around.ravel(), minlength=count + 1)
    shared = np.bincount(around[body], minlength=count + 1)
    keep = shared > 0.15 * wall
    keep[0] = False
    size = np.maximum(np.bincount(components.ravel(), minlength=count + 1), 1)
    before = np.maximum.accumulate(body, axis=1)
    after = np.maximum.accumulate(body[:, ::-1], axis=1)[:, ::-1]
    for sheltered in (before, after):
        keep &= np.bincount(components[sheltered], minlength=count + 1) > SHELTERED * size
    return np.asarray(keep[components])


def _without_gut_gas(
    volume: FloatArray, candidates: BoolArray, spacing: npt.NDArray[np.float64]
) -> BoolArray:
    components, count = ndimage.label(candidates)
    median = np.full(count + 1, np.nan)
    size = np.zeros(count + 1)
    thin_stack = volume.shape[0] * spacing[0] < THIN_STACK_MM
    core = ndimage.binary_erosion(candidates, _IN_PLANE, iterations=2, border_value=1)
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        part = components[box] == index
        if thin_stack:
            area = part.sum(axis=(1, 2)).max() * spacing[1] * spacing[2]
            enough = area >= SMALLEST_LUNG_AREA_MM2
        else:
            enough = part.sum() * float(np.prod(spacing)) / 1000.0 >= SMALLEST_LUNG_ML
        inner = part & core[box]
        if enough and inner.any():
            median[index] = float(np.median(volume[box][inner]))
            size[index] = part.sum()
    keep = median > GAS_BELOW_HU
    if keep.any():
        main = int(np.argmax(np.where(keep, size, 0.0)))
        keep &= (size > SMALL_PART * size[main]) | (median > median[main] - GAS_BELOW_LUNG_HU)
    return np.asarray(keep[components])


def _midline_column(volume: FloatArray, lungs: BoolArray) -> float:
    """Column of the spine: median of bone in the posterior half of the lungs' rows."""
    rows = np.flatnonzero(lungs.any(axis=(0, 2)))
    middle = int(rows[0] + rows[-1]) // 2
    slices = lungs.any(axis=(1, 2))
    bone = volume[slices, middle : int(rows[-1]) + 1] > 180.0
    columns = np.flatnonzero(lungs.any(axis=(0, 1)))
    histogram = bone.sum(axis=(0, 1)).astype(np.float64)
    histogram[: columns[0]] = 0.0
    histogram[columns[-1] + 1 :] = 0.0
    if histogram.sum() < 20:
        return float(columns[0] + columns[-1]) / 2.0
    smooth = ndimage.gaussian_filter1d(histogram, max(2.0, volume.shape[2] / 30.0))
    inner = np.zeros_like(smooth)
    quarter = (columns[-1] - columns[0]) // 5
    inner[columns[0] + quarter : columns[-1] - quarter + 1] = 1.0
    return float(np.argmax(smooth * inner))


def _split_sides(lungs: BoolArray, midline: float, spacing: npt.NDArray[np.float64]) -> LabelMap:
    sides = np.zeros(lungs.shape, dtype=np.uint8)
    components, _ = ndimage.label(lungs)
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        part = components[box] == index
        local_midline = midline - box[2].start
        columns = np.arange(part.shape[2])
        profile = part.sum(axis=(0, 1))
        share_left = float(profile[columns > local_midline].sum()) / float(profile.sum())
        if 0.1 < share_left < 0.9:
            sides[box][part] = _part_joined(part, local_midline, spacing)[part]
        else:
            sides[box][part] = LEFT_LUNG if share_left >= 0.5 else RIGHT_LUNG
    return sides


def _part_joined(part: BoolArray, midline: float, spacing: npt.NDArray[np.float64]) -> LabelMap:
    """Sides of one component that holds both lungs: erode until it parts, then grow back."""
    depth = ndimage.distance_transform_edt(np.pad(part, ((0, 0), (1, 1), (1, 1))), spacing)
    depth = depth[:, 1:-1, 1:-1]
    half = np.broadcast_to(
        np.where(np.arange(part.shape[2]) > midline, LEFT_LUNG, RIGHT_LUNG), part.shape
    ).astype(np.uint8)
    for radius in (1.5, 3.0, 4.5, 6.0, 9.0, 12.0):
        cores, count = ndimage.label(depth > radius)
        if count < 2:
            continue
        size = np.bincount(cores.ravel(), minlength=count + 1).astype(np.float64)
        left = np.bincount(cores[half == LEFT_LUNG], minlength=count + 1) / np.maximum(size, 1)
        mixed = (left > 0.15) & (left < 0.85) & (size > 0.05 * size[1:].sum())
        if mixed[1:].any():
            continue
        marker = np.where(left >= 0.5, LEFT_LUNG, RIGHT_LUNG).astype(np.uint8)
        marker[0] = 0
        seeds = marker[cores]
        nearest = ndimage.distance_transform_edt(
            seeds == 0, spacing, return_distances=False, return_indices=True
        )
        grown: LabelMap = seeds[tuple(nearest)]
        return grown
    return half


def _dilate(mask: BoolArray, radius_mm: float, spacing: npt.NDArray[np.float64]) -> BoolArray:
    if not mask.any():
        return mask
    near: BoolArray = ndimage.distance_transform_edt(~mask, spacing) <= radius_mm
    return near


def _close_and_fill(mask: BoolArray, spacing: npt.NDArray[np.float64]) -> BoolArray:
    """Closing by CLOSING_MM, which borders do not erode, then holes in space and per slice."""
    if not mask.any():
        return mask
    reach = np.ceil(CLOSING_MM / spacing).astype(int) + 1
    box = tuple(
        slice(max(0, s.start - int(r)), s.stop + int(r))
        for s, r in zip(ndimage.find_objects(mask.astype(np.uint8))[0], reach, strict=True)
    )
    local = mask[box]
    grown = _dilate(local, CLOSING_MM, spacing)
    closed = local | (ndimage.distance_transform_edt(grown, spacing) > CLOSING_MM)
    closed = ndimage.binary_fill_holes(closed)
    for plane in closed:
        plane |= ndimage.binary_fill_holes(plane)
    result = np.zeros_like(mask)
    result[box] = closed
    return result


def _boundary_on_native_grid(
    native: FloatArray, coarse: LabelMap, factors: npt.NDArray[np.int_]
) -> LabelMap:
    """Coarse labels on the native grid: inside kept whole, the rim decided by the threshold."""
    labels = coarse
    for axis, factor in enumerate(factors):
        if factor > 1:
            labels = np.repeat(labels, int(factor), axis=axis)
    rows, columns = native.shape[1:]
    labels = labels[: native.shape[0], :rows, :columns]
    if np.all(factors == 1):
        return np.ascontiguousarray(labels)
    rim = ndimage.maximum_filter(coarse, 3) * (coarse == 0)
    for axis, factor in enumerate(factors):
        rim = np.repeat(rim, int(factor), axis=axis)
    rim = rim[: native.shape[0], :rows, :columns]
    inner = coarse > 0
    core = ndimage.binary_erosion(inner, border_value=1)
    for axis, factor in enumerate(factors):
        core = np.repeat(core, int(factor), axis=axis)
    core = core[: native.shape[0], :rows, :columns]
    air = native < AIR_BELOW_HU
    kept = np.where(core | air, labels, 0)
    smoothed = np.where((kept == 0) & air, rim, kept).astype(np.uint8)
    return np.ascontiguousarray(smoothed)
