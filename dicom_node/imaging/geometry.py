"""From image planes to one ordered stack on a grid, or a coded reason why not.

The numbers are the defaults of :class:`VolumeLimits`; lengths in mm, frame LPS (PS3.3
C.7.6.2.1.1).

================================ ========================= ==================================
what                             accepted                  otherwise
================================ ========================= ==================================
slices                           >= ``min_slices``         ``input.too_few_slices``
orientation, per component       within 1e-3 of the mean   ``input.mixed_orientation``
direction cosines                unit and orthogonal, 5e-3 ``input.orientation_invalid``
pixel spacing                    within 1e-3 of the median ``input.mixed_pixel_spacing``
position off the regular line    <= 0.1, <= 0.2 spacings   resampled along the slice axis
position beside the line         <= 0.1                    ``input.irregular_positions``
spacing with a hole              gap <= 1.5 of the median  ``input.missing_slices``
distance of neighbours           <= ``max_slice_gap_mm``   ``input.slice_gap``
lean of the stack (gantry tilt)  <= 40 degrees             ``input.irregular_positions``
================================ ========================= ==================================

A lean is kept exactly as a shear of the affine, unless it stays below 0.1 mm over the whole
stack: then it is rounding and the slice axis is the normal. A gap that the differing slice
thicknesses explain (blocks of thin and thick slices) is not a hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_node.imaging.planes import FloatVector, InputNote, Plane, decline

_UNIT_TOLERANCE = 5e-3
_MAX_LEAN_DEGREES = 40.0
_HOLE = 1.5
_EXPLAINED = 1.1


@dataclass(frozen=True)
class VolumeLimits:
    """What a series may look like and still be loaded; lengths in mm.

    Attributes
    ----------
    min_slices
        Fewest slices after localizers and copies are set aside.
    max_slice_gap_mm
        Largest distance between the centres of neighbouring slices.
    max_missing_slices
        Slices that may be absent inside the stack and are then interpolated.
    resample_irregular
        Whether irregular spacing is resampled; otherwise ``input.irregular_spacing``.
    orientation_tolerance
        Largest deviation of a direction cosine from the mean of the series.
    position_tolerance_mm
        Largest distance of a slice from its place on the regular line.
    pixel_spacing_tolerance_mm
        Largest deviation of a pixel spacing from the median of the series.
    max_voxels
        Largest volume, so that a damaged header cannot ask for all memory.
    """

    min_slices: int = 1
    max_slice_gap_mm: float = 10.0
    max_missing_slices: int = 0
    resample_irregular: bool = True
    orientation_tolerance: float = 1e-3
    position_tolerance_mm: float = 0.1
    pixel_spacing_tolerance_mm: float = 1e-3
    max_voxels: int = 1 << 31


@dataclass(frozen=True)
class StackGeometry:
    """An ordered stack and the regular grid that stands for it.

    Attributes
    ----------
    planes
        Kept planes in slice order, along the normal (row direction x column direction).
    shape
        Regular grid: (slices, rows, columns).
    affine_lps
        Regular grid: index (slice, row, column) to mm.
    slice_coordinates
        ``(len(planes),)``: where each plane lies on the slice axis of the regular grid.
    source_affine_lps
        The same as ``affine_lps`` where the planes are the grid, else ``None``.
    notes
        What was set aside or mended.
    """

    planes: tuple[Plane, ...]
    shape: tuple[int, int, int]
    affine_lps: npt.NDArray[np.float64]
    slice_coordinates: FloatVector
    source_affine_lps: npt.NDArray[np.float64] | None
    notes: tuple[InputNote, ...]


@dataclass(frozen=True)
class _Axis:
    """The slice axis: coordinates of the planes, number of grid slices, mm between them."""

    coordinates: FloatVector
    slices: int
    first_mm: float
    step_mm: float
    notes: tuple[InputNote, ...] = ()


def mean_orientation(planes: Sequence[Plane]) -> tuple[FloatVector, FloatVector, FloatVector]:
    """Row direction, column direction and normal: mean of the planes, made orthonormal."""
    cosines = np.array([plane.orientation for plane in planes], float)
    lengths = np.linalg.norm(cosines.reshape(-1, 2, 3), axis=2)
    dots = np.einsum("ij,ij->i", cosines[:, :3], cosines[:, 3:])
    if np.abs(lengths - 1).max() > _UNIT_TOLERANCE or np.abs(dots).max() > _UNIT_TOLERANCE:
        raise decline("orientation_invalid", "direction cosines are not orthogonal unit vectors")
    mean = cosines.mean(axis=0)
    row = mean[:3] / np.linalg.norm(mean[:3])
    normal = np.cross(row, mean[3:])
    normal /= np.linalg.norm(normal)
    return row, np.cross(normal, row), normal


def fit_stack(
    planes: Sequence[Plane], limits: VolumeLimits, notes: Sequence[InputNote] = ()
) -> StackGeometry:
    """Order planes of one orientation, size and phase and fit the grid.

    Raises
    ------
    UnsuitableInput
        With the reasons of the module's table.
    """
    if len(planes) < max(1, limits.min_slices):
        raise decline(
            "too_few_slices", f"{len(planes)} slices, at least {limits.min_slices} are needed"
        )
    row, column, normal = mean_orientation(planes)
    spacing_mm = _pixel_spacing(planes, limits)
    positions = np.array([plane.position_mm for plane in planes], float)
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(planes[int(index)] for index in order)
    positions = positions[order]
    heights = positions @ normal
    axis = _slice_axis(ordered, heights, limits)
    lean, origin, lean_notes = _lean(positions, heights, normal, limits)
    affine = np.eye(4)
    affine[:3, 0] = lean * axis.step_mm
    affine[:3, 1] = column * spacing_mm[0]
    affine[:3, 2] = row * spacing_mm[1]
    affine[:3, 3] = origin + lean * axis.first_mm
    first = ordered[0]
    shape = (axis.slices, first.rows, first.columns)
    if axis.slices * first.rows * first.columns > limits.max_voxels:
        raise decline("too_large", f"{shape} voxels are more than the limit")
    regular = len(ordered) == axis.slices and not axis.notes
    return StackGeometry(
        planes=ordered,
        shape=shape,
        affine_lps=affine,
        slice_coordinates=axis.coordinates,
        source_affine_lps=affine.copy() if regular else None,
        notes=(*notes, *axis.notes, *lean_notes),
    )


def _pixel_spacing(planes: Sequence[Plane], limits: VolumeLimits) -> FloatVector:
    spacings = np.array([plane.pixel_spacing_mm for plane in planes], float)
    median: FloatVector = np.median(spacings, axis=0)
    if np.abs(spacings - median).max() > limits.pixel_spacing_tolerance_mm:
        raise decline("mixed_pixel_spacing", "the images differ in pixel spacing")
    return median


def _lean(
    positions: FloatVector, heights: FloatVector, normal: FloatVector, limits: VolumeLimits
) -> tuple[FloatVector, FloatVector, tuple[InputNote, ...]]:
    """Slice direction per mm of height, the point of the line at height 0, and notes."""
    mean_position, mean_height = positions.mean(axis=0), heights.mean()
    from_mean = heights - mean_height
    spread = float(from_mean @ from_mean)
    direction = normal
    notes: tuple[InputNote, ...] = ()
    if spread > 0:
        fitted = (from_mean @ (positions - mean_position)) / spread
        drift_mm = float(np.linalg.norm(fitted - normal)) * float(np.ptp(heights))
        if drift_mm > limits.position_tolerance_mm:
            degrees = float(np.degrees(np.arctan(np.linalg.norm(fitted - normal))))
            if degrees > _MAX_LEAN_DEGREES:
                raise decline("irregular_positions", f"the stack leans by {degrees:.0f} degrees")
            direction = fitted
            notes = (InputNote("input.gantry_tilt", f"the stack leans by {degrees:.2f} degrees"),)
    line = mean_position + np.outer(from_mean, direction)
    beside_mm = float(np.linalg.norm(positions - line, axis=1).max())
    if beside_mm > limits.position_tolerance_mm:
        raise decline("irregular_positions", f"a slice lies {beside_mm:.2f} mm beside the line")
    return direction, mean_position - direction * mean_height, notes


def _slice_axis(planes: Sequence[Plane], heights: FloatVector, limits: VolumeLimits) -> _Axis:
    if len(planes) == 1:
        step_mm = planes[0].slice_spacing_mm or planes[0].slice_thickness_mm
        if step_mm is None:
            raise decline("no_slice_spacing", "a single slice without thickness or spacing")
        return _Axis(np.zeros(1), 1, float(heights[0]), step_mm)
    gaps = np.diff(heights)
    typical_mm = float(np.percentile(gaps, 50, method="lower"))
    holes = (gaps > _HOLE * typical_mm) & ~_explained(planes, gaps)
    missing = int(np.sum(np.rint(gaps[holes] / typical_mm) - 1))
    if missing > limits.max_missing_slices:
        raise decline(
            "missing_slices",
            f"{missing} slices of {typical_mm:.3g} mm are missing inside the stack",
        )
    if gaps.max() > limits.max_slice_gap_mm * (1 + 1e-3):
        raise decline("slice_gap", f"neighbouring slices are {gaps.max():.3g} mm apart")
    return _lattice(heights, gaps, typical_mm, missing, limits) or _resampled(
        heights, gaps, typical_mm, limits
    )


def _explained(planes: Sequence[Plane], gaps: FloatVector) -> npt.NDArray[np.bool_]:
    """Gaps that are no wider than the slices beside them, where thicknesses differ."""
    thickness = np.array([plane.slice_thickness_mm or 0.0 for plane in planes])
    if np.ptp(thickness) < 0.05 * thickness.max():
        return np.zeros(len(gaps), bool)
    explained: npt.NDArray[np.bool_] = gaps <= _EXPLAINED * np.maximum(
        thickness[:-1], thickness[1:]
    )
    return explained


def _lattice(
    heights: FloatVector,
    gaps: FloatVector,
    typical_mm: float,
    missing: int,
    limits: VolumeLimits,
) -> _Axis | None:
    """The axis on which every plane has a whole-numbered place, if there is one."""
    steps = np.maximum(1, np.rint(gaps / typical_mm))
    places = np.concatenate(([0.0], np.cumsum(steps)))
    step_mm, first_mm = np.polyfit(places, heights, 1)
    worst_mm = float(np.abs(first_mm + step_mm * places - heights).max())
    if worst_mm > min(limits.position_tolerance_mm, 0.2 * typical_mm):
        return None
    notes: tuple[InputNote, ...] = ()
    if steps.max() > 1:
        if not missing:
            return None
        text = f"{missing} missing slices are interpolated"
        notes = (InputNote("input.missing_slices_interpolated", text),)
    return _Axis(places, int(places[-1]) + 1, float(first_mm), float(step_mm), notes)


def _resampled(
    heights: FloatVector, gaps: FloatVector, typical_mm: float, limits: VolumeLimits
) -> _Axis:
    """A regular axis over irregular planes; as fine as the finer part where they vary much."""
    if not limits.resample_irregular:
        raise decline(
            "irregular_spacing",
            f"slice distances vary from {gaps.min():.3g} to {gaps.max():.3g} mm",
        )
    wanted_mm = typical_mm
    if gaps.max() > 1.8 * gaps.min():
        wanted_mm = max(float(np.percentile(gaps, 10)), 0.5 * typical_mm)
    length_mm = float(heights[-1] - heights[0])
    slices = round(length_mm / wanted_mm) + 1
    step_mm = length_mm / (slices - 1)
    text = (
        f"slice distances from {gaps.min():.3g} to {gaps.max():.3g} mm resampled to {step_mm:.3g}"
    )
    return _Axis(
        (heights - heights[0]) / step_mm,
        slices,
        float(heights[0]),
        step_mm,
        (InputNote("input.irregular_spacing_resampled", text),),
    )


def resample_slices(
    values: npt.NDArray[np.generic], coordinates: FloatVector, slices: int
) -> npt.NDArray[np.generic]:
    """Linear interpolation along the slice axis; keeps the type (int16 is rounded)."""
    out = np.empty((slices, *values.shape[1:]), values.dtype)
    for target in range(slices):
        place = min(max(float(target), float(coordinates[0])), float(coordinates[-1]))
        above = int(np.clip(np.searchsorted(coordinates, place), 1, len(coordinates) - 1))
        below = above - 1
        span = float(coordinates[above] - coordinates[below])
        weight = (place - float(coordinates[below])) / span
        mixed = (1 - weight) * values[below].astype(np.float32) + weight * values[above]
        out[target] = np.rint(mixed) if values.dtype.kind == "i" else mixed
    return out
