"""Modality values as people see them: windowed to 8-bit grey, white high.

The VOI transformations of PS3.3 C.11.2 stand here for volumes and radiographs alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.types import Image, Label
from dicom_node.imaging.elements import numbers, sequence, text

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_LUNG_TYPES = frozenset({"39607008"})
_LUNG_PARTS = frozenset({"CHEST", "THORAX", "LUNG"})
_PERCENTILES = (1.0, 99.0)
_SAMPLES = 1 << 20

SUVBW = "SUVbw"


class Window(NamedTuple):
    """Window Center, Window Width and VOI LUT Function, in modality values."""

    center: float
    width: float
    function: str = "LINEAR"


LUNG_WINDOW_HU = Window(-600.0, 1500.0)
SOFT_TISSUE_WINDOW_HU = Window(40.0, 400.0)
# In g/ml: a window that the header states is of activity.
SUV_WINDOW = Window(5.0, 10.0, "LINEAR_EXACT")


def displayed(
    values: npt.NDArray[np.generic],
    unit: str,
    header: Dataset,
    labels_hint: Sequence[Label] | None = None,
) -> Pixels:
    """A volume in 8-bit grey, ``(slices, rows, columns)``, through one window for all slices.

    Parameters
    ----------
    values
        Modality values, ``(slices, rows, columns)``, in ``unit`` (``"HU"``, ``"SUVbw"`` or
        ``"arbitrary"``).
    header
        Of the first source image: its first window is taken, where it has one.
    labels_hint
        What is to be seen. Lungs in Hounsfield units get the lung window whatever the header
        says: a soft tissue window shows them black.

    Without a window CT gets that of lungs or of soft tissue by Body Part Examined, anything else
    the range between its 1st and its 99th percentile.
    """
    window = chosen_window(values, unit, header, labels_hint or ())
    pixels = np.empty(values.shape, np.uint8)
    for plane, target in zip(values, pixels, strict=True):
        seen = windowed(plane.astype(np.float32), window)
        if seen is not None:
            target[...] = _grey(seen)
    inverted = text(header, "PhotometricInterpretation").upper() == "MONOCHROME1"
    return 255 - pixels if inverted else pixels


def displayed_image(image: Image) -> Pixels:
    """A radiograph, which is in displayed values already, as ``(1, rows, columns)``."""
    return _grey(image.array)[None]


def windowed(values: Values, window: Window) -> Values | None:
    """``values`` through a window to [0, 1]; ``None`` where the window is not usable.

    PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID).
    """
    center, width, function = window
    if function == "SIGMOID" and width > 0:
        exponent = np.clip(-4.0 * (values - center) / width, -80, 80)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)))
    if function == "LINEAR_EXACT" and width > 0:
        return np.asarray(np.clip((values - center) / width + 0.5, 0.0, 1.0))
    if function == "LINEAR" and width == 1:
        return np.where(values > center - 0.5, 1.0, 0.0)
    if function == "LINEAR" and width > 1:
        return np.asarray(np.clip((values - (center - 0.5)) / (width - 1.0) + 0.5, 0.0, 1.0))
    return None


def first_window(place: Dataset) -> Window | None:
    """The first window that an image, or a frame's VOI item, states; ``None`` without one."""
    centers, widths = numbers(place, "WindowCenter"), numbers(place, "WindowWidth")
    if not centers or not widths:
        return None
    return Window(centers[0], widths[0], text(place, "VOILUTFunction").upper() or "LINEAR")


def chosen_window(
    values: npt.NDArray[np.generic], unit: str, header: Dataset, labels: Sequence[Label]
) -> Window:
    """The window through which `displayed` shows a volume; parameters as there."""
    if unit == "HU" and any(label.type.value in _LUNG_TYPES for label in labels):
        return LUNG_WINDOW_HU
    if unit == SUVBW:
        return SUV_WINDOW
    stated = first_window(_voi_place(header))
    if stated is not None and windowed(np.zeros(1), stated) is not None:
        return stated
    if unit == "HU":
        is_chest = text(header, "BodyPartExamined").upper() in _LUNG_PARTS
        return LUNG_WINDOW_HU if is_chest else SOFT_TISSUE_WINDOW_HU
    sample = values.reshape(-1)[:: max(1, values.size // _SAMPLES)]
    low, high = (float(v) for v in np.percentile(sample.astype(np.float64), _PERCENTILES))
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


def _voi_place(header: Dataset) -> Dataset:
    """The item of a multi-frame image's functional groups that states a window, else itself."""
    shared = sequence(header, "SharedFunctionalGroupsSequence")
    frames = sequence(header, "PerFrameFunctionalGroupsSequence")
    for groups in (*shared[:1], *frames[:1]):
        for item in sequence(groups, "FrameVOILUTSequence")[:1]:
            return item
    return header


def _grey(seen: Values) -> Pixels:
    return np.asarray(np.rint(np.clip(np.asarray(seen, np.float64), 0.0, 1.0) * 255.0), np.uint8)
