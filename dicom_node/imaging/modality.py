"""Modality LUT and padding: from stored values to Hounsfield units (PS3.3 C.11.1, C.7.5.1.1.2).

Padding of CT becomes -1024 HU; that of other modalities, unless it is 0, becomes the smallest
other value of the volume. A CT padding value between -1000 and 4000 HU may also be tissue, so
such a value is left alone and noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from dicom_node.imaging.decode import PixelFormat, Stored
from dicom_node.imaging.elements import number, sequence, text
from dicom_node.imaging.planes import InputNote, decline

CT_PADDING_HU = -1024
_TISSUE_HU = (-1000.0, 4000.0)
_HU_TYPES = frozenset(("", "HU", "US", "HU_MOD"))
Mask = npt.NDArray[np.bool_]
_INT16 = np.iinfo(np.int16)
_MOST_RESCALE = 1e15
_CLASS_MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
}


@dataclass(frozen=True)
class Rescale:
    """Modality LUT of one slice: stored * slope + intercept, or a table (``lut``)."""

    slope: float = 1.0
    intercept: float = 0.0
    type: str = ""
    stated: bool = False
    lut: Dataset | None = None


def rescale_of(dataset: Dataset, frame_number: int = 1) -> Rescale:
    """The modality LUT of a classic object or of one frame of an enhanced one.

    Raises
    ------
    UnsuitableInput
        ``input.rescale_invalid``: a slope of zero, or one that is there and cannot be read.
    """
    place = dataset
    if "PerFrameFunctionalGroupsSequence" in dataset:
        place = _transformation(dataset, frame_number) or dataset
    if sequence(place, "ModalityLUTSequence"):
        return Rescale(type=text(place, "ModalityLUTType"), stated=True, lut=dataset)
    slope, intercept = number(place, "RescaleSlope"), number(place, "RescaleIntercept")
    for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        # What cannot be read is not the same as what is not there: that is 1 and 0.
        if (value is None and text(place, keyword)) or abs(value or 0.0) > _MOST_RESCALE:
            raise decline("rescale_invalid", f"{keyword} is no number that can be")
    if slope == 0:
        raise decline("rescale_invalid", "Rescale Slope is zero")
    stated = slope is not None and intercept is not None
    return Rescale(
        1.0 if slope is None else slope,
        0.0 if intercept is None else intercept,
        text(place, "RescaleType").upper(),
        stated,
    )


def _transformation(dataset: Dataset, frame_number: int) -> Dataset | None:
    frames = sequence(dataset, "PerFrameFunctionalGroupsSequence")
    shared = sequence(dataset, "SharedFunctionalGroupsSequence")
    for groups in (*frames[frame_number - 1 : frame_number], *shared[:1]):
        items = sequence(groups, "PixelValueTransformationSequence")
        if items:
            return items[0]
    return None


def modality_of(dataset: Dataset) -> str:
    """Modality, or what the SOP class says where it is absent."""
    return text(dataset, "Modality") or _CLASS_MODALITIES.get(text(dataset, "SOPClassUID"), "")


def unit_of(
    modality: str, rescales: Sequence[Rescale], *, original: bool
) -> tuple[str, list[InputNote]]:
    """``"HU"`` or ``"arbitrary"``, and what to note about it.

    An unspecified type (US) counts as Hounsfield only for ``original`` images: derived CT with
    it are perfusion and other maps.
    """
    if modality != "CT":
        return "arbitrary", []
    types = sorted({rescale.type for rescale in rescales})
    if not all(rescale.stated for rescale in rescales):
        text_ = "CT without Rescale Slope and Intercept: stored values are taken for HU"
        return "HU", [InputNote("input.no_rescale", text_)]
    if not set(types) <= _HU_TYPES or ("US" in types and not original):
        text_ = f"the values are {', '.join(types)}, not Hounsfield units"
        return "arbitrary", [InputNote("input.not_hounsfield", text_)]
    if "US" in types:
        return "HU", [InputNote("input.rescale_type_unspecified", "Rescale Type is US")]
    return "HU", []


def rescaled(stored: Stored, rescale: Rescale) -> npt.NDArray[np.float64]:
    """Stored values of one image through its modality LUT.

    Raises
    ------
    UnsuitableInput
        ``input.rescale_invalid``: the Modality LUT Sequence makes no sense.
    """
    if rescale.lut is None:
        return stored.astype(np.float64) * rescale.slope + rescale.intercept
    try:
        return np.asarray(apply_modality_lut(stored, rescale.lut), np.float64)
    # A table from outside may lie about its size or type; pydicom then raises what it meets.
    except Exception as error:
        raise decline("rescale_invalid", "the Modality LUT Sequence is unusable") from error


def to_modality_values(
    stored: Stored,
    forms: Sequence[PixelFormat],
    rescales: Sequence[Rescale],
    unit: str,
) -> tuple[npt.NDArray[np.generic], list[InputNote]]:
    """Apply the modality LUT to (slices, rows, columns); may reuse the memory of ``stored``.

    Returns int16 where that is exact, else float32, and notes.
    """
    masks, notes = _padding_masks(stored, forms, rescales, unit)
    for place, mask in masks.items():
        np.copyto(stored[place], 0, where=mask, casting="unsafe")
    values = _integers(stored, forms, rescales)
    if values is None:
        values = _floats(stored, rescales)
    if masks:
        fill = CT_PADDING_HU if unit == "HU" else _smallest_other(values, masks)
        for place, mask in masks.items():
            np.copyto(values[place], fill, where=mask, casting="unsafe")
    return values, notes


def _padding_masks(
    stored: Stored, forms: Sequence[PixelFormat], rescales: Sequence[Rescale], unit: str
) -> tuple[dict[int, Mask], list[InputNote]]:
    """Where the padding lies, for each slice that has any."""
    masks: dict[int, Mask] = {}
    notes: list[InputNote] = []
    for index, (form, rescale) in enumerate(zip(forms, rescales, strict=True)):
        padding = form.padding
        if padding is None or rescale.lut is not None or (unit != "HU" and padding == (0, 0)):
            continue
        low, high = (end * rescale.slope + rescale.intercept for end in padding)
        if low <= _TISSUE_HU[1] and high >= _TISSUE_HU[0] and unit == "HU":
            text_ = "Pixel Padding Value lies among tissue values and is left alone"
            notes = [InputNote("input.padding_in_range", text_)]
            continue
        cells = stored[index].view(form.dtype)
        found = cells == padding[0]
        if padding[1] != padding[0]:
            found = (cells >= padding[0]) & (cells <= padding[1])
        if found.any():
            masks[index] = found
    return masks, notes


def _smallest_other(values: npt.NDArray[np.generic], masks: dict[int, Mask]) -> float:
    lowest = [
        float(np.min(slice_, where=~masks[place], initial=np.inf))
        if place in masks
        else float(np.min(slice_))
        for place, slice_ in enumerate(values.astype(np.float32))
    ]
    smallest = min(lowest)
    return smallest if np.isfinite(smallest) else 0.0


def _integers(
    stored: Stored, forms: Sequence[PixelFormat], rescales: Sequence[Rescale]
) -> npt.NDArray[np.generic] | None:
    """int16 values, in place where the cells allow it; ``None`` where that is not exact."""
    exact = all(
        rescale.lut is None and rescale.slope == 1 and float(rescale.intercept).is_integer()
        for rescale in rescales
    )
    if not exact or stored.size == 0:
        return None
    ranges = [form.stored_range for form in forms]
    lowest, highest = min(low for low, _ in ranges), max(high for _, high in ranges)
    intercepts = [int(rescale.intercept) for rescale in rescales]
    if not _fits(lowest, highest, intercepts):
        lowest, highest = int(np.min(stored)), int(np.max(stored))
        if not _fits(lowest, highest, intercepts):
            return None
    values = stored.view("<i2") if stored.dtype.itemsize == 2 else stored.astype("<i2")
    for slice_, intercept in zip(values, intercepts, strict=True):
        if intercept:
            slice_ += np.int16(intercept)
    return values


def _fits(lowest: int, highest: int, intercepts: Sequence[int]) -> bool:
    inside = lowest >= _INT16.min and highest <= _INT16.max
    return (
        inside
        and lowest + min(intercepts) >= _INT16.min
        and highest + max(intercepts) <= _INT16.max
        and min(intercepts) >= _INT16.min
        and max(intercepts) <= _INT16.max
    )


def _floats(stored: Stored, rescales: Sequence[Rescale]) -> npt.NDArray[np.float32]:
    values = np.empty(stored.shape, np.float32)
    for place, slice_, rescale in zip(values, stored, rescales, strict=True):
        place[...] = rescaled(slice_, rescale)
    return values
