"""The numbers and points that a report is given, in the form in which it carries them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from dicom_node.errors import UnsuitableInput
from dicom_node.results.contours import Section

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Points = npt.NDArray[np.float64]
SECTION_NUMBERS = frozenset({"area_mm2", "long_axis_mm", "short_axis_mm"})
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
    """(row, column) spacing of an image, enhanced or not; of a radiograph at least at its detector.

    Raises
    ------
    UnsuitableInput
        ``input.no_pixel_spacing``: nothing says how large a pixel is.
    """
    measures = source
    if "PixelSpacing" not in source and "SharedFunctionalGroupsSequence" in source:
        measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    spacing = measures.get("PixelSpacing") or source.get("ImagerPixelSpacing")
    if not spacing:
        raise UnsuitableInput(
            "the image does not say how large its pixels are, and lengths are to be reported",
            reason="input.no_pixel_spacing",
        )
    return float(spacing[0]), float(spacing[1])


def is_at_detector(source: Dataset) -> bool:
    """Whether lengths on an image are those at the detector, magnified (PS3.3 10.7.1.3)."""
    return "SharedFunctionalGroupsSequence" not in source and not source.get("PixelSpacing")


def thinned(points: Points) -> Points:
    """``points`` within what one FL element can hold (64 KB), still closed."""
    step = -(-len(points) // _POINT_LIMIT)
    if step == 1:
        return points
    kept = points[:-1:step]
    return np.concatenate([kept, kept[:1]])


def numbers_of(measurement: SegmentMeasurement, names: Iterable[str]) -> dict[str, float]:
    """The numbers of one label: those attributes of ``measurement`` that ``names`` names.

    One that ``measurement`` does not have, or has as ``None``, was not measured.
    """
    found = {name: getattr(measurement, name, None) for name in names}
    return {name: float(value) for name, value in found.items() if value is not None}


def ml_text(volume_ml: float) -> str:
    """A volume as a person reads it: to a tenth of a millilitre, a small one to three digits."""
    if volume_ml == 0 or abs(volume_ml) >= 10:
        return f"{volume_ml:.1f}"
    return f"{volume_ml:.{min(6, 2 - math.floor(math.log10(abs(volume_ml))))}f}"


def section_numbers(section: Section, pixel_spacing_mm: tuple[float, float]) -> dict[str, float]:
    """The numbers of a label's largest section; ``pixel_spacing_mm`` is (row, column)."""
    return {
        "area_mm2": section.area_mm2,
        "long_axis_mm": section.long_axis_mm,
        "short_axis_mm": _width_mm(section, pixel_spacing_mm),
    }


def _width_mm(section: Section, pixel_spacing_mm: tuple[float, float]) -> float:
    """Extent of the outline across its long axis."""
    points = np.unique(section.points[:, ::-1] * np.asarray(pixel_spacing_mm), axis=0)
    start, end = _ends_of_long_axis(points, section.long_axis_mm)
    row, column = (end - start) / np.linalg.norm(end - start)
    across = points @ np.asarray([-column, row])
    return float(across.max() - across.min())


def _ends_of_long_axis(points: Points, long_axis_mm: float) -> tuple[Points, Points]:
    """Two of ``points`` that are ``long_axis_mm`` apart."""
    for point in points:
        distances = np.linalg.norm(points - point, axis=1)
        farthest = int(distances.argmax())
        if distances[farthest] >= long_axis_mm - 1e-6:
            return point, points[farthest]
    raise ValueError("the long axis is not one of this outline")


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
