"""From the grid of a model to the edges that its network takes, and back.

Every axis is stretched, fitted and padded, or cut and padded, so that the content lies at
``start`` and fills ``content`` samples; index to index it is ``model = offset + scale * network``.
Edges are mapped to edges (a voxel reaches half a step to either side of its index), so nothing
shifts when a grid is stretched. Arrays are ``(slices, rows, columns)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ai_models.array.resample import AxisStep
from ai_models.types import Affine, FloatArray

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class AxisFit:
    """One axis: ``content`` samples from ``start`` on, of ``edge``; ``step`` says of what.

    ``step`` counts from the first sample of the content.
    """

    edge: int
    start: int
    step: AxisStep

    @property
    def content(self) -> slice:
        """Where in the network's input the content lies."""
        return slice(self.start, self.start + self.step.length)

    @property
    def is_shift(self) -> bool:
        """Whether samples are only moved, never mixed."""
        return self.step.scale == 1.0

    @property
    def taken(self) -> slice:
        """Which samples of the model's grid a shifted axis takes."""
        first = round(self.step.offset)
        return slice(first, first + self.step.length)


@dataclass(frozen=True)
class Fitting:
    """How the grid of a model and the input of its network lie to each other."""

    axes: tuple[AxisFit, AxisFit, AxisFit]

    @property
    def shape(self) -> Shape:
        """Edges of the network's input."""
        first, second, third = self.axes
        return (first.edge, second.edge, third.edge)

    @property
    def content(self) -> tuple[slice, slice, slice]:
        """Where in the network's input the volume lies; the rest is padding."""
        first, second, third = self.axes
        return (first.content, second.content, third.content)

    @property
    def to_model(self) -> Affine:
        """4x4, index of the network's input to index of the model's grid."""
        matrix = np.eye(4)
        for axis, fit in enumerate(self.axes):
            matrix[axis, axis] = fit.step.scale
            matrix[axis, 3] = fit.step.offset - fit.step.scale * fit.start
        return matrix


def plan_fitting(shape: Shape, edges: tuple[int | None, int | None, int | None], fit: str
                 ) -> Fitting:
    """Lay the content of ``shape`` into ``edges``; an edge of ``None`` stays as it is.

    ``fit`` is ``stretch`` (every axis for itself), ``pad`` (one factor for all axes, so that the
    longest just fits, the rest centred) or ``crop`` (no scaling; cut or pad about the middle).
    """
    wanted = [
        (length, edge) for length, edge in zip(shape, edges, strict=True) if edge is not None
    ]
    factor = min((edge / length for length, edge in wanted), default=1.0)
    first, second, third = (
        _axis_fit(axis, length, length if edge is None else edge,
                  "crop" if edge is None else fit, factor)
        for axis, (length, edge) in enumerate(zip(shape, edges, strict=True))
    )
    return Fitting((first, second, third))


def _axis_fit(axis: int, length: int, edge: int, fit: str, factor: float) -> AxisFit:
    if fit == "crop":
        content = min(length, edge)
        offset = float((length - content) // 2)
        return AxisFit(edge, (edge - content) // 2, AxisStep(axis, length, content, 1.0, offset))
    content = edge if fit == "stretch" else min(edge, max(1, round(length * factor)))
    scale = length / content
    step = AxisStep(axis, length, content, scale, (scale - 1.0) / 2.0)
    return AxisFit(edge, (edge - content) // 2, step)


def to_network_grid(image: FloatArray, fitting: Fitting, fill: float) -> FloatArray:
    """Bring an image on the model's grid to the network's edges; ``fill`` is for the padding."""
    fitted = np.full(fitting.shape, fill, dtype=np.float32)
    content = image
    for axis, fit in enumerate(fitting.axes):
        if fit.is_shift:
            content = content[(slice(None),) * axis + (fit.taken,)]
        else:
            content = _along(fit.step.reduction(), content, axis)
    fitted[fitting.content] = content
    return fitted


def from_network_grid(
    scores: FloatArray, fitting: Fitting, outside: FloatArray
) -> FloatArray:
    """Bring scores ``(channels, *fitting.shape)`` back to the model's grid.

    Where the network saw nothing of it (cut off), every channel is its ``outside``.
    """
    content = scores[(slice(None), *fitting.content)]
    for axis, fit in enumerate(fitting.axes):
        if not fit.is_shift:
            content = _along(fit.step.interpolation(), content, axis + 1)
    taken = [fit.taken if fit.is_shift else slice(None) for fit in fitting.axes]
    back = np.empty(
        (len(scores), *(fit.step.source_length for fit in fitting.axes)), dtype=np.float32
    )
    back[:] = np.asarray(outside, dtype=np.float32)[:, None, None, None]
    back[(slice(None), *taken)] = content
    return back


def _along(matrix: FloatArray, array: FloatArray, axis: int) -> FloatArray:
    moved = np.tensordot(matrix, array, axes=(1, axis))
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis), dtype=np.float32)
