"""One CR, DX or MG image as it is displayed: [0, 1], white high.

Modality LUT (PS3.3 C.11.1), then VOI: the first window (LINEAR, LINEAR_EXACT or SIGMOID,
C.11.2.1.2 and C.11.2.1.3), else the first VOI LUT (C.11.2.1.1), else the full range with a
note; then MONOCHROME1 is inverted. Padding is black.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForProcessing,
)

from ai_models.types import Image
from dicom_node.imaging.decode import PixelFormat, Stored, pixel_format, read_frames
from dicom_node.imaging.digest import image_digest
from dicom_node.imaging.display import first_window, windowed
from dicom_node.imaging.elements import number, numbers, sequence, text
from dicom_node.imaging.modality import rescale_of, rescaled
from dicom_node.imaging.planes import NOT_SOURCE_IMAGES, InputNote, decline
from dicom_node.imaging.reading import read_header

Values = npt.NDArray[np.float64]
_VOI = ("WindowCenter", "WindowWidth", "VOILUTFunction", "PhotometricInterpretation")
_MAX_PIXELS = 1 << 28
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}
_FOR_PROCESSING = frozenset({
    DigitalXRayImageStorageForProcessing, DigitalMammographyXRayImageStorageForProcessing,
    DigitalIntraOralXRayImageStorageForProcessing,
})


@dataclass(frozen=True)
class LoadedRadiograph:
    """A projection image with what results need of its source.

    ``image.array`` is (rows, columns) float32; ``source_image`` the header without pixel data;
    ``content_digests`` maps its SOP Instance UID to a digest that no lossless transfer syntax
    changes.
    """

    image: Image
    source_image: Dataset
    content_digests: dict[str, str]
    notes: tuple[InputNote, ...] = ()


def load_radiograph(path: Path) -> LoadedRadiograph:
    """Read one projection image and apply its display pipeline.

    Raises
    ------
    NotUnderstood
        The file is not a DICOM data set.
    UnsuitableInput
        ``input.color``, ``input.multi_frame``, ``input.no_pixel_data``, ``input.pixel_format``,
        ``input.undecodable``, ``input.rescale_invalid``, ``input.not_an_image``,
        ``input.too_large``, ``input.for_processing``, ``input.spacing_unknown``.
    """
    header = read_header(path)
    dataset = header.dataset
    if text(dataset, "SOPClassUID") in NOT_SOURCE_IMAGES:
        raise decline("not_an_image", "segmentations, maps and doses are no source images")
    _check_intent(dataset)
    form = pixel_format(header)
    if form.frames != 1:
        raise decline("multi_frame", f"{form.frames} frames where one image is expected")
    if form.rows * form.columns > _MAX_PIXELS:
        raise decline("too_large", f"{form.rows} x {form.columns} pixels are more than the limit")
    stored = np.empty((1, form.rows, form.columns), form.dtype)
    read_frames(header, form, stored)
    rescale = rescale_of(dataset)
    padding = _padding(stored[0], form)
    values = rescaled(stored[0], rescale)
    displayed, notes = _apply_voi(values, dataset, ~padding)
    notes += _shape_notes(dataset)
    if text(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1":
        displayed = 1.0 - displayed
    displayed[padding] = 0.0
    spacing_mm, spacing_notes = _pixel_spacing(dataset)
    digest = image_digest(form, (), (rescale,), stored, extra=dataset, keywords=_VOI)
    return LoadedRadiograph(
        Image(displayed.astype(np.float32), spacing_mm),
        dataset,
        {text(dataset, "SOPInstanceUID"): digest},
        (*notes, *spacing_notes),
    )


def _check_intent(dataset: Dataset) -> None:
    """What a detector measured is no picture yet (PS3.3 C.8.11.1.1.1): often the logarithm is not
    taken, and black is white."""
    intent = text(dataset, "PresentationIntentType").upper()
    if intent == "FOR PROCESSING" or text(dataset, "SOPClassUID") in _FOR_PROCESSING:
        raise decline("for_processing", "the image is for processing, not for presentation")


def _shape_notes(dataset: Dataset) -> list[InputNote]:
    """Presentation LUT Shape says the same as Photometric Interpretation (PS3.3 C.8.11.3.1.2);
    where it does not, viewers differ in what they show."""
    shape = text(dataset, "PresentationLUTShape").upper()
    stated = text(dataset, "PhotometricInterpretation").upper()
    if _SHAPES.get(stated, shape) == shape or not shape:
        return []
    return [InputNote(
        "input.presentation_contradicts",
        f"black and white are those of {stated}, which the Presentation LUT Shape contradicts",
    )]


def _padding(stored: Stored, form: PixelFormat) -> npt.NDArray[np.bool_]:
    if form.padding is None:
        return np.zeros(stored.shape, bool)
    cells = np.asarray(stored, np.int64)
    return (cells >= form.padding[0]) & (cells <= form.padding[1])


def _apply_voi(
    values: Values, dataset: Dataset, inside: npt.NDArray[np.bool_]
) -> tuple[Values, list[InputNote]]:
    """Values of interest to [0, 1], before any inversion."""
    stated = first_window(dataset)
    seen = None if stated is None else windowed(values, stated)
    if seen is not None:
        return np.asarray(seen, np.float64), []
    for item in sequence(dataset, "VOILUTSequence")[:1]:
        looked_up = _look_up(values, item)
        if looked_up is not None:
            return looked_up, []
    shown = values[inside]
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 0.0)
    note = InputNote("input.voi_full_range", "no usable window or VOI LUT: full range shown")
    return np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0), [note]


def _look_up(values: Values, item: Dataset) -> Values | None:
    """PS3.3 C.11.2.1.1: entries beyond either end take the end's value."""
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3 or "LUTData" not in item:
        return None
    entries, first, bits = int(descriptor[0]) or 1 << 16, int(descriptor[1]), int(descriptor[2])
    data = item["LUTData"].value
    if isinstance(data, bytes):
        narrow = bits <= 8 and len(data) < 2 * entries
        table = np.frombuffer(data, "u1" if narrow else "<u2")
    else:
        table = np.asarray(data, np.int64).reshape(-1) & 0xFFFF
    if not 1 <= bits <= 16 or len(table) < entries:
        return None
    if first >= 1 << 15 and float(values.min()) < 0:
        first -= 1 << 16
    places = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    return np.clip(np.asarray(table[places], np.float64) / ((1 << bits) - 1), 0.0, 1.0)


def _pixel_spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, list[InputNote]]:
    """Pixel Spacing, else that at the detector (PS3.3 10.7.1.3)."""
    spacing = numbers(dataset, "PixelSpacing")
    if len(spacing) == 2 and min(spacing) > 0:
        return (spacing[0], spacing[1]), []
    spacing = numbers(dataset, "ImagerPixelSpacing")
    if len(spacing) == 2 and min(spacing) > 0:
        magnification = number(dataset, "EstimatedRadiographicMagnificationFactor")
        text_ = "pixel spacing is that at the detector" + (
            f", magnified {magnification:g} times" if magnification else ""
        )
        return (spacing[0], spacing[1]), [InputNote("input.detector_spacing", text_)]
    aspect = numbers(dataset, "PixelAspectRatio")
    if len(aspect) == 2 and aspect[0] != aspect[1]:
        raise decline("spacing_unknown", "pixels are not square, and how large they are is unknown")
    return None, []
