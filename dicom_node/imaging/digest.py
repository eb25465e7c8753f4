"""What an image is, whatever it was wrapped in: the digest that result UIDs are derived from.

SHA-256 over the decoded stored values (little endian) and over geometry and modality LUT as
numbers, so that the digest is the same in every lossless transfer syntax, byte order and
spelling of a decimal string.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.decode import PixelFormat, Stored
from dicom_node.imaging.elements import numbers, sequence, text
from dicom_node.imaging.modality import Rescale, rescale_of
from dicom_node.imaging.planes import Plane, planes_of


@dataclass(frozen=True)
class Understood:
    """What one image of one frame is, as it goes into a volume; ``plane.index`` means nothing."""

    form: PixelFormat
    plane: Plane
    rescale: Rescale
    digest: str


def understand(header: Dataset, form: PixelFormat, frame: Stored) -> Understood | None:
    """What a volume needs to know of an image and its only frame, (rows, columns).

    ``None`` where it cannot be a part of one: who loads it finds out why.
    """
    try:
        planes, rescale = planes_of(header, 0), rescale_of(header)
    except UnsuitableInput:
        return None
    # A table may hold anything; it is rare enough to be left to the job.
    if len(planes) != 1 or rescale.lut is not None:
        return None
    return Understood(form, planes[0], rescale, image_digest(form, planes, [rescale], [frame]))


def image_digest(
    form: PixelFormat,
    planes: Iterable[Plane],
    rescales: Iterable[Rescale],
    pixels: Iterable[Stored],
    *,
    extra: Dataset | None = None,
    keywords: Iterable[str] = (),
) -> str:
    """Hex SHA-256 of one SOP instance; ``keywords`` of ``extra`` (VOI of a radiograph) count."""
    digest = hashlib.sha256()
    head = [f"{form.rows}x{form.columns} {form.bits_stored} {'s' if form.signed else 'u'}"]
    for plane in planes:
        groups = (plane.position_mm, plane.orientation, plane.pixel_spacing_mm)
        head.append("|".join(",".join(repr(value) for value in group) for group in groups))
    for rescale in rescales:
        head.append(f"{rescale.slope!r},{rescale.intercept!r},{rescale.type}")
        if rescale.lut is not None:
            head.append(_table(rescale.lut))
    if extra is not None:
        head.extend(
            f"{keyword}={numbers(extra, keyword) or text(extra, keyword)}" for keyword in keywords
        )
    digest.update("\n".join(head).encode())
    for frame in pixels:
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def _table(dataset: Dataset) -> str:
    items = sequence(dataset, "ModalityLUTSequence")
    return "".join(f"{item.get('LUTDescriptor')}{item.get('LUTData')}" for item in items)
