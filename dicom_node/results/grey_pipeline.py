"""How a presentation state turns stored values into grey: as the referenced images say themselves.

A presentation state defines the whole way and overrides the images' own (PS3.4 N.2), so what it
leaves out is lost: Modality LUT (PS3.3 C.11.1), Softcopy VOI LUT (C.11.8) and Presentation LUT
(C.11.6) are written here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dicom_node.results.equipment import long_string
from dicom_node.results.slice_source import frame_item

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Rescale:
    """Stored value times ``slope`` plus ``intercept``."""

    slope: float
    intercept: float
    type: str


@dataclass(frozen=True)
class Window:
    """The first window of an image, in modality values."""

    center: float
    width: float
    function: str

    def of_stored_values(self, rescale: Rescale) -> Window:
        """The window that shows stored values as this one shows rescaled ones.

        A LINEAR window begins at center - 0.5 - (width - 1) / 2 (PS3.3 C.11.2.1.2.1).
        """
        half, one = (0.5, 1.0) if self.function == "LINEAR" else (0.0, 0.0)
        center = (self.center - half - rescale.intercept) / rescale.slope + half
        return Window(center, (self.width - one) / rescale.slope + one, self.function)


def write_grey_pipeline(
    state: Dataset, images: Sequence[tuple[Dataset, int | None]], references: Sequence[Dataset]
) -> None:
    """Set the three LUT modules of ``state``.

    Parameters
    ----------
    images
        The shown images as they were received, each with its 1-based frame (``None`` in a
        single-frame image).
    references
        For each of them, an item of Referenced Image Sequence.

    One Modality LUT holds for all images of a presentation state. Where their rescales differ (as
    in PET) it is left out, and the windows are given in stored values, image by image.
    """
    rescales = [_rescale(*image) for image in images]
    windows = [_window(*image) for image in images]
    if len(set(rescales)) > 1:
        windows = [
            window.of_stored_values(rescale) if window and rescale else window
            for window, rescale in zip(windows, rescales, strict=True)
        ]
    else:
        _write_modality_lut(state, rescales[0], images[0][0])
    _write_voi(state, windows, references, images[0][0])
    inverse = str(images[0][0].get("PhotometricInterpretation", "")) == "MONOCHROME1"
    state.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"


def _write_modality_lut(state: Any, rescale: Rescale | None, image: Dataset) -> None:
    if rescale is not None:
        state.RescaleSlope = _decimal(rescale.slope)
        state.RescaleIntercept = _decimal(rescale.intercept)
        state.RescaleType = rescale.type
    elif "ModalityLUTSequence" in image:
        state.ModalityLUTSequence = copy.deepcopy(image.ModalityLUTSequence)


def _write_voi(
    state: Any,
    windows: Sequence[Window | None],
    references: Sequence[Dataset],
    image: Dataset,
) -> None:
    from pydicom.dataset import Dataset

    shown: dict[Window, list[Dataset]] = {}
    for window, reference in zip(windows, references, strict=True):
        if window is not None:
            shown.setdefault(window, []).append(reference)
    items = []
    for window, images in shown.items():
        item = Dataset()
        item.WindowCenter, item.WindowWidth = _decimal(window.center), _decimal(window.width)
        item.VOILUTFunction = window.function
        if len(images) < len(references):
            item.ReferencedImageSequence = images
        items.append(item)
    if not items and len(references) == 1 and image.get("VOILUTSequence"):
        item = Dataset()
        item.VOILUTSequence = copy.deepcopy(image.VOILUTSequence[:1])
        items.append(item)
    if items:
        state.SoftcopyVOILUTSequence = items


def _rescale(image: Dataset, frame: int | None) -> Rescale | None:
    place = frame_item(image, frame, "PixelValueTransformationSequence") or image
    slope, intercept = _first(place, "RescaleSlope"), _first(place, "RescaleIntercept")
    if not slope or intercept is None:
        return None
    return Rescale(slope, intercept, long_string(str(place.get("RescaleType") or "US")))


def _window(image: Dataset, frame: int | None) -> Window | None:
    place = frame_item(image, frame, "FrameVOILUTSequence") or image
    center, width = _first(place, "WindowCenter"), _first(place, "WindowWidth")
    function = str(place.get("VOILUTFunction") or "LINEAR")
    least = 1.0 if function == "LINEAR" else 1e-9
    return (
        None
        if center is None or width is None or width < least
        else Window(center, width, function)
    )


def _first(place: Dataset, keyword: str) -> float | None:
    """The first value as a number; malformed ones of the sender count as absent."""
    try:
        value = place.get(keyword)
        number = float(value if isinstance(value, (str, float, int)) else value[0])
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return number if math.isfinite(number) else None


def _decimal(value: float) -> Any:
    from pydicom.valuerep import DS

    return DS(value, auto_format=True)
