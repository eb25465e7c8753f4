"""Where a point of an earlier examination lies in the present one: a rigid registration.

Both volumes are averaged to a coarse grid, and a rotation and a shift are sought that make their
values go together best (ITK's correlation metric, so that another scale of intensities does not
matter). What breathing changes is not followed: within the chest a place is met to about a
centimetre, and less well near the diaphragm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.resample import plan_regridding, to_model_grid
from ai_models.types import Affine, FloatArray, Volume

GRID_MM = 5.0
LEAST_LIKENESS = 0.6
LEAST_OVERLAP = 0.2
_AXES = ("S", "P", "L")
_AIR_HU, _BONE_HU, _BODY_HU = -1000.0, 300.0, -500.0
_SMALLEST_EDGE = 8
_FLATTEST = 1e-3
_STEPS_COARSE, _STEPS_FINE = 60, 80


@dataclass(frozen=True)
class Alignment:
    """How one examination lies in another.

    Attributes
    ----------
    to_present_lps
        4x4, mm in LPS of the earlier examination to mm in LPS of the present one.
    likeness
        Correlation of the values of both where they overlap, -1 to 1.
    overlap
        Part of the present examination's body (of its volume, where it has no HU) that the
        earlier one shows, 0 to 1.
    """

    to_present_lps: Affine
    likeness: float
    overlap: float

    @property
    def is_trusted(self) -> bool:
        """Whether both show the same part of the same body, as far as values can tell."""
        return self.likeness >= LEAST_LIKENESS and self.overlap >= LEAST_OVERLAP

    def place(self, point_lps_mm: tuple[float, float, float]) -> tuple[float, float, float]:
        """A point of the earlier examination in the present one, mm in LPS."""
        x, y, z, _ = (self.to_present_lps @ np.array([*point_lps_mm, 1.0])).tolist()
        return (x, y, z)


def align(present: Volume, earlier: Volume) -> Alignment:
    """Lay ``earlier`` over ``present``; the same volumes give the same answer.

    Raises
    ------
    ValueError
        A volume is too small, is the same all over, or holds values that are not finite; or the
        two are in different units.
    """
    if present.unit != earlier.unit:
        raise ValueError(f"{earlier.unit} cannot be laid over {present.unit}")
    fixed, moving = _coarse(present), _coarse(earlier)
    best = min(
        (_registered(fixed, moving, start, coarse=True) for start in _starts(fixed, moving)),
        key=lambda found: found[0],
    )
    _, transform = _registered(fixed, moving, best[1], coarse=False)
    to_earlier = _matrix(transform)
    likeness, overlap = _agreement(fixed, moving, to_earlier)
    to_present: Affine = np.linalg.inv(to_earlier).astype(np.float64)
    return Alignment(to_present, likeness, overlap)


@dataclass(frozen=True)
class _Coarse:
    """Values on a grid of 5 mm, ``(slices, rows, columns)``.

    ``inside`` is what the source covers, ``counts`` what of it is the patient.
    """

    values: FloatArray
    inside: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.bool_]
    affine_lps: Affine

    def point(self, index: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """mm in LPS of a place on the grid."""
        place: npt.NDArray[np.float64] = self.affine_lps[:3, :3] @ index + self.affine_lps[:3, 3]
        return place


def _coarse(volume: Volume) -> _Coarse:
    is_ct = volume.unit == "HU"
    slices, rows, columns = volume.array.shape
    plan = plan_regridding(
        (slices, rows, columns), volume.affine_lps, _AXES, (GRID_MM, GRID_MM, GRID_MM)
    )
    values = to_model_grid(volume.array, plan, _AIR_HU if is_ct else None)
    if is_ct:
        np.clip(values, _AIR_HU, _BONE_HU, out=values)
    if min(values.shape) < _SMALLEST_EDGE or float(values.std()) < _FLATTEST:
        raise ValueError("the volume is too small to be laid over another, or empty")
    # What lies outside of the source was filled, and would pass for air.
    inside = to_model_grid(np.ones(volume.array.shape, np.uint8), plan, 0.0) > 0.99
    body = _body(values) if is_ct else inside
    return _Coarse(values, inside, body & inside, plan.model_affine_lps)


def _body(values_hu: FloatArray) -> npt.NDArray[np.bool_]:
    """The patient without table and air, lungs included; everything where there is none."""
    solid = ndimage.binary_opening(values_hu > _BODY_HU, iterations=1)
    parts, count = ndimage.label(solid)
    if not count:
        return np.ones(values_hu.shape, bool)
    largest = parts == 1 + int(np.bincount(parts.ravel())[1:].argmax())
    return np.stack([ndimage.binary_fill_holes(one) for one in largest])


def _starts(fixed: _Coarse, moving: _Coarse) -> Iterable[Any]:
    """Places to start from: as the scanner counts, middle on middle, and weight on weight."""
    itk = _itk()
    middles = [one.point((np.array(one.values.shape) - 1) / 2) for one in (fixed, moving)]
    weights = [one.point(np.array(ndimage.center_of_mass(one.counts))) for one in (fixed, moving)]
    for shift in (np.zeros(3), middles[1] - middles[0], weights[1] - weights[0]):
        start = itk.Euler3DTransform()
        start.SetCenter(middles[0].tolist())
        start.SetTranslation(shift.tolist())
        yield start


def _registered(
    fixed: _Coarse, moving: _Coarse, start: Any, *, coarse: bool
) -> tuple[float, Any]:
    """Metric (the lower, the better) and transform from the present to the earlier examination."""
    itk = _itk()
    method = itk.ImageRegistrationMethod()
    # More threads add up in another order, and the same input would give other objects.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(_image(fixed.counts.astype(np.uint8), fixed.affine_lps))
    inside = _image(moving.inside.astype(np.uint8), moving.affine_lps)
    method.SetMetricMovingMask(inside)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0 if coarse else 1.0, minStep=0.05 if coarse else 0.005,
        numberOfIterations=_STEPS_COARSE if coarse else _STEPS_FINE,
        relaxationFactor=0.6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4] if coarse else [2, 1])
    method.SetSmoothingSigmasPerLevel([1.5] if coarse else [0.5, 0])
    found = itk.Euler3DTransform(start)
    method.SetInitialTransform(found, inPlace=True)
    try:
        method.Execute(
            _image(fixed.values, fixed.affine_lps), _image(moving.values, moving.affine_lps)
        )
    except RuntimeError:
        # ITK's word for two volumes that do not meet.
        return float("inf"), start
    return float(method.GetMetricValue()), found


def _agreement(fixed: _Coarse, moving: _Coarse, to_earlier: Affine) -> tuple[float, float]:
    """Likeness and overlap of `Alignment`."""
    index_map = np.linalg.inv(moving.affine_lps) @ to_earlier @ fixed.affine_lps
    seen = ndimage.affine_transform(
        np.where(moving.inside, moving.values, np.nan), index_map[:3, :3],
        offset=index_map[:3, 3], output_shape=fixed.values.shape, order=1, mode="constant",
        cval=np.nan, prefilter=False,
    )
    both = fixed.counts & np.isfinite(seen)
    here, there = fixed.values[both].astype(np.float64), seen[both].astype(np.float64)
    if here.size < _SMALLEST_EDGE**3 or not here.std() or not there.std():
        return 0.0, 0.0
    return float(np.corrcoef(here, there)[0, 1]), float(both.sum() / fixed.counts.sum())


def _image(values: npt.NDArray[Any], affine_lps: Affine) -> Any:
    """ITK's axes are (column, row, slice)."""
    itk = _itk()
    columns = affine_lps[:3, :3][:, ::-1]
    spacing = np.linalg.norm(columns, axis=0)
    image = itk.GetImageFromArray(values)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(affine_lps[:3, 3].tolist())
    return image


def _matrix(transform: Any) -> Affine:
    """A transform of points as a 4x4 matrix."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis in range(3):
        unit = [0.0, 0.0, 0.0]
        unit[axis] = 1.0
        matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - origin
    matrix[:3, 3] = origin
    return matrix


def _itk() -> Any:
    """Loaded where it is needed: it is large, and has no types."""
    import SimpleITK

    return SimpleITK
