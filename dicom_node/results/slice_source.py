"""Which image a slice is, which frame of it, which way it faces and how large its pixels are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dicom_node.results.request import ResultRequest

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_LETTERS = (("R", "L"), ("A", "P"), ("F", "H"))
# A direction cosine below this (about 15 degrees) is not worth a letter.
_LEAST = 0.26


def source_of(
    request: ResultRequest, images: Sequence[Dataset], slice_index: int
) -> tuple[Dataset, int | None]:
    """The one of ``images`` (as in the request, or normalised) that shows a slice, and the
    1-based frame of it, ``None`` in a single-frame image."""
    image = images[slice_index] if len(images) > 1 else images[0]
    is_multi_frame = int(image.get("NumberOfFrames") or 1) > 1
    return image, int(request.frame_numbers[slice_index]) if is_multi_frame else None


def frame_item(image: Dataset, frame: int | None, keyword: str) -> Dataset | None:
    """The item of a functional group that holds for one frame (PS3.3 C.7.6.16), if there is one."""
    places = (
        *image.get("PerFrameFunctionalGroupsSequence", [])[(frame or 1) - 1 : frame or 1],
        *image.get("SharedFunctionalGroupsSequence", [])[:1],
    )
    for groups in places:
        items: Sequence[Dataset] = groups.get(keyword) or []
        if items:
            return items[0]
    return None


def patient_orientation(image: Dataset, frame: int | None) -> list[str]:
    """Patient Orientation (PS3.3 C.7.6.1.1.1): where rows and columns of an image lead.

    From its direction cosines, else as the image states it; empty when it says neither.
    """
    place = frame_item(image, frame, "PlaneOrientationSequence") or image
    cosines = place.get("ImageOrientationPatient")
    if cosines:
        row, column = np.asarray(cosines, float).reshape(2, 3)
        return [_letters(row), _letters(column)]
    stated = [str(letters) for letters in image.get("PatientOrientation") or []]
    return stated if len(stated) == 2 else []


def pixel_spacing(image: Dataset, frame: int | None) -> list[Any] | None:
    """Pixel Spacing, (row, column) in mm; ``None`` where the image has none in the patient."""
    place = frame_item(image, frame, "PixelMeasuresSequence") or image
    spacing = place.get("PixelSpacing")
    return list(spacing) if spacing else None


def pixel_aspect_ratio(image: Dataset) -> list[int] | None:
    """Height and width of a pixel as whole numbers (Pixel Aspect Ratio, PS3.3 C.7.6.3.1.7), where
    they differ: as the image states it, else as its detector's pixels are."""
    stated = image.get("PixelAspectRatio")
    at_detector = image.get("ImagerPixelSpacing") or image.get("NominalScannedPixelSpacing")
    if stated and len(stated) == 2:
        height, width = int(stated[0]), int(stated[1])
    elif at_detector and len(at_detector) == 2:
        height, width = (round(float(one) * 10_000) for one in at_detector)
    else:
        return None
    if min(height, width) < 1 or height == width:
        return None
    common = math.gcd(height, width)
    return [height // common, width // common]


def _letters(direction: Any) -> str:
    order = np.argsort(-np.abs(direction), kind="stable")
    return "".join(
        _LETTERS[axis][int(direction[axis] > 0)] for axis in order if abs(direction[axis]) > _LEAST
    )
