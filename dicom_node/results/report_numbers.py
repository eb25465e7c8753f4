"""The numbers and points that a report is given, in the form in which it carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_POINT_LIMIT = 8000


class SegmentMeasurement(Protocol):
    """What is measured of one label: as ``ai_models.array.measurements`` returns it.

    ``standard_deviation_hu`` is that of the population (no Bessel correction).
    """

    @property
    def volume_ml(self) -> float:
        """Volume in millilitres."""

    @property
    def mean_hu(self) -> float:
        """Mean attenuation."""

    @property
    def standard_deviation_hu(self) -> float:
        """Standard deviation of the attenuation, of the population."""

    @property
    def voxel_count(self) -> int:
        """Number of voxels that were measured."""


def pixel_spacing_mm(source: Dataset) -> tuple[float, float]:
    """(row, column) spacing of an image, enhanced or not."""
    measures = source
    if "PixelSpacing" not in source:
        measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return float(measures.PixelSpacing[0]), float(measures.PixelSpacing[1])


def thinned(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``points`` within what one FL element can hold (64 KB), still closed."""
    step = -(-len(points) // _POINT_LIMIT)
    if step == 1:
        return points
    kept = points[:-1:step]
    return np.concatenate([kept, kept[:1]])


def numbers_of(measurement: SegmentMeasurement) -> dict[str, float]:
    """The numbers of one label, by the names that templates use."""
    return {
        "volume_ml": measurement.volume_ml,
        "mean_hu": measurement.mean_hu,
        "standard_deviation_hu": measurement.standard_deviation_hu,
    }


def pooled(measurements: Sequence[SegmentMeasurement]) -> dict[str, float]:
    """The numbers of several labels taken together: mean and deviation over all their voxels."""
    counts = np.asarray([m.voxel_count for m in measurements], float)
    means = np.asarray([m.mean_hu for m in measurements])
    deviations = np.asarray([m.standard_deviation_hu for m in measurements])
    mean = float((counts * means).sum() / counts.sum())
    variance = float((counts * (deviations**2 + (means - mean) ** 2)).sum() / counts.sum())
    return {
        "volume_ml": float(sum(m.volume_ml for m in measurements)),
        "mean_hu": mean,
        "standard_deviation_hu": variance**0.5,
    }
