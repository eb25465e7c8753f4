"""From the grid of a series to the grid of a model, and back.

Two grids stand between the two. The *coarse* grid has the array axes of the source, put in the
order and sense of the model's axes, at the model's spacing: getting there and back is separable
(one small matrix per axis) and done in slabs, so memory stays bounded. Where the source is
oblique or sheared by a gantry tilt, a trilinear step on coarse data leads on to the *model* grid,
which lies along the patient's axes; otherwise both are the same.

Arrays are ``(slices, rows, columns)``, affines index to mm in LPS. Coordinates of one axis are
``source = offset + scale * coarse`` with a negative ``scale`` where the axis is turned round.
Downsampling averages the linear interpolant over a box of ``sqrt(step^2 - 1)`` source samples (no
aliasing, exact for linear fields, and plain linear interpolation where the steps are equal);
upsampling is linear. The border is repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.types import Affine, FloatArray, LabelMap

ALIGNED_WITHIN_DEGREES = 5.0
SLAB_BYTES = 48 * 1024 * 1024
_UNIT = {
    "L": (1.0, 0.0, 0.0), "R": (-1.0, 0.0, 0.0), "P": (0.0, 1.0, 0.0), "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0), "I": (0.0, 0.0, -1.0),
}
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class AxisStep:
    """One axis: ``source = offset + scale * coarse`` for ``coarse`` in ``range(length)``."""

    source_axis: int
    source_length: int
    length: int
    scale: float
    offset: float

    def centres(self) -> npt.NDArray[np.float64]:
        """Source coordinate of every coarse index."""
        return self.offset + self.scale * np.arange(self.length, dtype=np.float64)

    def reduction(self) -> FloatArray:
        """Weights ``(length, source_length)`` that take source samples to coarse ones."""
        width = float(np.sqrt(max(self.scale**2 - 1.0, 0.0)))
        beyond = int(np.ceil(width + abs(self.scale))) + 2
        samples = np.arange(-beyond, self.source_length + beyond)
        distance = self.centres()[:, None] - samples[None, :]
        if width < 1e-3:
            weights = np.maximum(0.0, 1.0 - np.abs(distance))
        else:
            weights = (_hat_sum(distance + width / 2) - _hat_sum(distance - width / 2)) / width
        folded = weights[:, beyond:-beyond].copy()
        folded[:, 0] += weights[:, :beyond].sum(axis=1)
        folded[:, -1] += weights[:, -beyond:].sum(axis=1)
        return folded.astype(np.float32)

    def coarse_coordinates(self) -> npt.NDArray[np.float64]:
        """Coarse coordinate of every source index, kept inside the coarse grid."""
        coordinates = (np.arange(self.source_length, dtype=np.float64) - self.offset) / self.scale
        return np.clip(coordinates, 0.0, self.length - 1.0)

    def interpolation(self) -> FloatArray:
        """Weights ``(source_length, length)`` that take coarse samples to source ones."""
        coordinates = self.coarse_coordinates()
        lower = np.minimum(np.floor(coordinates).astype(int), max(self.length - 2, 0))
        upper = np.minimum(lower + 1, self.length - 1)
        return _expansion(lower, upper, (coordinates - lower).astype(np.float32), self.length)


def _hat_sum(at: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Integral of the hat function (1 at 0, 0 from -1 and 1 on) from minus infinity."""
    inner = np.clip(at, -1.0, 1.0)
    return np.where(inner < 0, (1 + inner) ** 2 / 2, 1 - (1 - inner) ** 2 / 2)


@dataclass(frozen=True)
class Regridding:
    """How one source grid and one model grid lie to each other.

    ``steps`` are in the order of the coarse axes. ``model_to_coarse`` maps model index to coarse
    index (4x4), ``None`` where both grids are the same.
    """

    source_shape: Shape
    steps: tuple[AxisStep, AxisStep, AxisStep]
    coarse_affine_lps: Affine
    model_shape: Shape
    model_affine_lps: Affine
    model_to_coarse: Affine | None
    tilt_degrees: float

    @property
    def coarse_shape(self) -> Shape:
        """Shape of the coarse grid."""
        first, second, third = self.steps
        return (first.length, second.length, third.length)

    @property
    def order(self) -> Shape:
        """Source axis that each coarse axis runs along."""
        first, second, third = self.steps
        return (first.source_axis, second.source_axis, third.source_axis)

    @property
    def is_turn(self) -> bool:
        """Whether coarse samples are the source's own, turned and flipped at most."""
        return all(
            abs(step.scale) == 1.0 and step.length == step.source_length for step in self.steps
        )


def plan_regridding(
    shape: Shape, affine_lps: Affine, axes: tuple[str, str, str],
    spacing_mm: tuple[float, float, float] | None,
) -> Regridding:
    """Lay the coarse and the model grid over a source grid.

    ``axes`` are LPS letters of the directions in which the model's axes grow, ``spacing_mm``
    follows them. All grids share their centre; coarse spacing is exact, so the outermost coarse
    samples may lie up to half a step outside the source. Without ``spacing_mm`` the source is only
    turned round: its samples stay as they are, and where it is oblique the model's axes are too.
    """
    columns = affine_lps[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    cosines = np.array([_UNIT[axis] for axis in axes]) @ (columns / lengths)
    order = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(abs(cosines[axis, order[axis]]) for axis in range(3)),
    )
    steps = []
    to_source = np.zeros((4, 4))
    to_source[3, 3] = 1.0
    for axis, source_axis in enumerate(order):
        length_mm = float(lengths[source_axis])
        step = _axis_step(
            source_axis, shape[source_axis], length_mm,
            spacing_mm[axis] if spacing_mm else length_mm, bool(cosines[axis, source_axis] < 0),
        )
        steps.append(step)
        to_source[source_axis, axis] = step.scale
        to_source[source_axis, 3] = step.offset
    coarse_affine = affine_lps @ to_source
    worst = min(abs(cosines[axis, order[axis]]) for axis in range(3))
    tilt = float(np.degrees(np.arccos(min(1.0, worst))))
    coarse_shape = (steps[0].length, steps[1].length, steps[2].length)
    model_shape, model_affine, to_coarse = coarse_shape, coarse_affine, None
    if spacing_mm is not None and tilt > ALIGNED_WITHIN_DEGREES:
        model_shape, model_affine = _patient_grid(coarse_shape, coarse_affine, axes, spacing_mm)
        to_coarse = np.linalg.inv(coarse_affine) @ model_affine
    return Regridding(
        shape, (steps[0], steps[1], steps[2]), coarse_affine, model_shape, model_affine,
        to_coarse, tilt,
    )


def _axis_step(
    source_axis: int, length: int, source_spacing_mm: float, spacing_mm: float, reverse: bool
) -> AxisStep:
    ratio = spacing_mm / source_spacing_mm
    if abs(ratio - 1.0) < 1e-3:
        ratio = 1.0
    coarse_length = max(1, int(np.ceil(length / ratio - 1e-6)))
    scale = -ratio if reverse else ratio
    offset = (length - 1) / 2.0 - scale * (coarse_length - 1) / 2.0
    return AxisStep(source_axis, length, coarse_length, scale, offset)


def _patient_grid(
    shape: Shape, affine_lps: Affine, axes: tuple[str, str, str],
    spacing_mm: tuple[float, float, float],
) -> tuple[Shape, Affine]:
    directions = np.array([_UNIT[axis] for axis in axes]).T * np.array(spacing_mm)
    corners = np.array(
        [[*corner, 1.0] for corner in itertools.product(*((0, n - 1) for n in shape))]
    )
    along = np.linalg.inv(directions) @ (affine_lps @ corners.T)[:3]
    low, high = along.min(axis=1), along.max(axis=1)
    lengths = np.ceil(high - low - 1e-6).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = directions @ ((low + high - (lengths - 1)) / 2.0)
    return (int(lengths[0]), int(lengths[1]), int(lengths[2])), affine


def to_model_grid(
    array: npt.NDArray[np.generic], plan: Regridding, lowest: float | None = None
) -> FloatArray:
    """Bring a source array ``(slices, rows, columns)`` to the model grid, as float32.

    Values below ``lowest`` (padding outside the field of view) become ``lowest`` first; it also
    fills what lies outside the source.

    Raises
    ------
    ValueError
        A value is not finite.
    """
    coarse = _reduce(array, plan, lowest)
    if not np.isfinite(coarse).all():
        raise ValueError("the volume holds values that are not finite")
    if plan.model_to_coarse is None:
        return coarse
    fill = float(coarse.min()) if lowest is None else lowest
    return _sample(coarse, plan.model_to_coarse, plan.model_shape, fill, "constant")


def _reduce(
    array: npt.NDArray[np.generic], plan: Regridding, lowest: float | None
) -> FloatArray:
    if plan.is_turn:
        turned = _flipped(array.transpose(plan.order), plan).astype(np.float32, order="C")
        return turned if lowest is None else np.maximum(turned, np.float32(lowest), out=turned)
    by_source_axis = sorted(plan.steps, key=lambda step: step.source_axis)
    first, second, third = by_source_axis
    rows, columns = second.reduction(), np.ascontiguousarray(third.reduction().T)
    in_plane = np.empty((array.shape[0], second.length, third.length), dtype=np.float32)
    for slab in _slabs(array.shape[0], array.shape[1] * array.shape[2] * 8):
        block = array[slab].astype(np.float32)
        if lowest is not None:
            np.maximum(block, np.float32(lowest), out=block)
        narrow = _along_last(block, columns).transpose(1, 0, 2)
        in_plane[slab] = _along_first(rows, narrow).transpose(1, 0, 2)
    flat = first.reduction() @ in_plane.reshape(array.shape[0], -1)
    coarse = flat.reshape(first.length, second.length, third.length)
    return np.ascontiguousarray(coarse.transpose(plan.order))


def to_coarse_grid(scores: FloatArray, plan: Regridding, outside: FloatArray) -> FloatArray:
    """Bring scores ``(channels, *model_shape)`` to the coarse grid.

    ``outside`` gives the score of each channel where the model grid does not reach.
    """
    if plan.model_to_coarse is None:
        return scores
    to_model: Affine = np.linalg.inv(plan.model_to_coarse).astype(np.float64)
    return np.stack([
        _sample(channel, to_model, plan.coarse_shape, float(fill), "nearest")
        for channel, fill in zip(scores, outside, strict=True)
    ])


def _sample(
    array: FloatArray, index_map: Affine, shape: Shape, fill: float, mode: str
) -> FloatArray:
    sampled: FloatArray = ndimage.affine_transform(
        array, index_map[:3, :3], offset=index_map[:3, 3], output_shape=shape, order=1,
        mode=mode, cval=fill, prefilter=False, output=np.float32,
    )
    return sampled


def to_source_labels(
    scores: FloatArray, plan: Regridding, thresholds: FloatArray | None = None
) -> LabelMap:
    """Interpolate scores to the source grid and take the best channel of every voxel.

    Parameters
    ----------
    scores
        ``(channels, *coarse_shape)``; channel 0 is the background and wins a tie.
    thresholds
        One for each channel where there is none of the background: channel ``k`` is label
        ``k + 1``, and the best of those wins that are above their own threshold.

    Returns
    -------
    LabelMap
        uint8 on the source grid. Only the box in which a label can win is computed: between
        coarse voxels that are all background, linear interpolation stays background.
    """
    if plan.is_turn:
        return _flipped_back(best_channel(scores, thresholds), plan)
    labels = np.zeros(plan.source_shape, dtype=np.uint8)
    found = best_channel(scores, thresholds) != 0
    if not found.any():
        return labels
    inverse = tuple(int(axis) + 1 for axis in np.argsort(plan.order))
    turned = np.ascontiguousarray(scores.transpose(0, *inverse))
    boxes, lower, upper, fraction = [], [], [], []
    for step in sorted(plan.steps, key=lambda step: step.source_axis):
        others = tuple(axis for axis in range(3) if plan.order[axis] != step.source_axis)
        coordinates = step.coarse_coordinates()
        hit = np.flatnonzero(found.any(axis=others))
        inside = np.flatnonzero((coordinates > hit[0] - 1) & (coordinates < hit[-1] + 1))
        boxes.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
        near = np.minimum(np.floor(coordinates[boxes[-1]]).astype(int), max(step.length - 2, 0))
        lower.append(near)
        upper.append(np.minimum(near + 1, step.length - 1))
        fraction.append((coordinates[boxes[-1]] - near).astype(np.float32))
    rows = _expansion(lower[1], upper[1], fraction[1], turned.shape[2])
    columns = np.ascontiguousarray(
        _expansion(lower[2], upper[2], fraction[2], turned.shape[3]).T
    )
    for slab in _slabs(len(lower[0]), rows.shape[0] * columns.shape[1] * 4 * 3):
        part = fraction[0][slab][:, None, None]
        planes = ((channel[lower[0][slab]], channel[upper[0][slab]]) for channel in turned)
        best = best_channel(
            (
                _along_last(
                    _along_first(rows, (near * (1 - part) + far * part).transpose(1, 0, 2)),
                    columns,
                )
                for near, far in planes
            ),
            thresholds,
        )
        start = boxes[0].start
        labels[start + slab.start : start + slab.stop, boxes[1], boxes[2]] = best.transpose(1, 0, 2)
    return labels


def to_source_scores(channel: FloatArray, plan: Regridding) -> FloatArray:
    """Interpolate the scores of one channel (``coarse_shape``, 0..1) to the source grid."""
    if plan.is_turn:
        return np.clip(np.asarray(_flipped_back(channel, plan), dtype=np.float32), 0.0, 1.0)
    turned = np.ascontiguousarray(channel.transpose([int(axis) for axis in np.argsort(plan.order)]))
    slices, rows, columns = (
        step.interpolation() for step in sorted(plan.steps, key=lambda step: step.source_axis)
    )
    scores = np.empty(plan.source_shape, dtype=np.float32)
    across = np.ascontiguousarray(columns.T)
    for slab in _slabs(plan.source_shape[0], rows.shape[0] * columns.shape[0] * 4 * 3):
        planes = _along_first(slices[slab], turned).transpose(1, 0, 2)
        scores[slab] = _along_last(_along_first(rows, planes), across).transpose(1, 0, 2)
    # Rounding may leave the range that linear interpolation keeps.
    return np.clip(scores, 0.0, 1.0, out=scores)


def _flipped(array: npt.NDArray[Any], plan: Regridding) -> npt.NDArray[Any]:
    """Coarse axes in the order of the plan, turned round where it says so."""
    return np.flip(array, tuple(axis for axis, step in enumerate(plan.steps) if step.scale < 0))


def _flipped_back(coarse: npt.NDArray[Any], plan: Regridding) -> npt.NDArray[Any]:
    back = _flipped(coarse, plan).transpose([int(axis) for axis in np.argsort(plan.order)])
    return np.ascontiguousarray(back)


def _along_first(matrix: FloatArray, array: FloatArray) -> FloatArray:
    """``matrix`` applied along the first of three axes, as one large product."""
    flat = np.ascontiguousarray(array).reshape(array.shape[0], -1)
    return np.asarray(matrix @ flat).reshape(len(matrix), *array.shape[1:])


def _along_last(array: FloatArray, matrix: FloatArray) -> FloatArray:
    """``matrix`` applied along the last of three axes, as one large product."""
    flat = array.reshape(-1, array.shape[-1])
    return np.asarray(flat @ matrix).reshape(*array.shape[:-1], matrix.shape[1])


def _expansion(
    lower: npt.NDArray[np.int_], upper: npt.NDArray[np.int_], fraction: FloatArray, length: int
) -> FloatArray:
    weights = np.zeros((len(lower), length), dtype=np.float32)
    row = np.arange(len(lower))
    np.add.at(weights, (row, lower), 1 - fraction)
    np.add.at(weights, (row, upper), fraction)
    return weights


def best_channel(
    channels: Iterable[FloatArray], thresholds: FloatArray | None = None
) -> LabelMap:
    """Which channel is the best, 0 the background; see `to_source_labels` for ``thresholds``."""
    iterator = iter(channels)
    first = next(iterator)
    label = np.zeros(first.shape, dtype=np.uint8)
    best, labels = first, enumerate(iterator, start=1)
    if thresholds is not None:
        best = np.zeros_like(first)
        labels = enumerate(itertools.chain((first,), iterator), start=1)
    for number, channel in labels:
        better = channel > best
        if thresholds is not None:
            better &= channel > thresholds[number - 1]
        label[better] = number
        best = np.where(better, channel, best)
    return label


def _slabs(length: int, bytes_each: int) -> list[slice]:
    size = max(1, SLAB_BYTES // max(1, bytes_each))
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
