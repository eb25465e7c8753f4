"""The Image Library of a report (PS3.16 TID 1600 to 1604), small enough for long series.

What all images share (modality, matrix, spacing, orientation) stands once in the group; an
image's own item adds its position only (TID 1602: descriptors of a group hold for its images).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ai_models.types import Code
from sr_templates import codes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MODALITIES = {
    "CT": Code("CT", "DCM", "Computed Tomography"),
    "MR": Code("MR", "DCM", "Magnetic Resonance"),
    "PT": Code("PT", "DCM", "Positron emission tomography"),
    "NM": Code("NM", "DCM", "Nuclear Medicine"),
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "MG": Code("MG", "DCM", "Mammography"),
    "US": Code("US", "DCM", "Ultrasound"),
}


def image_library(images: Sequence[Dataset]) -> Any:
    """Image Library container that lists ``images``, all of one series."""
    import highdicom as hd

    library = _container(codes.IMAGE_LIBRARY)
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    group.ContentSequence = hd.sr.ContentSequence(
        [*_shared(images[0]), *(_entry(image) for image in images)]
    )
    library.ContentSequence = hd.sr.ContentSequence([group])
    return library


def _container(name: Code) -> Any:
    import highdicom as hd

    return hd.sr.ContainerContentItem(name=codes.concept(name), relationship_type="CONTAINS")


def _entry(image: Dataset) -> Any:
    import highdicom as hd

    item = hd.sr.ImageContentItem(
        name=codes.concept(codes.SOURCE),
        referenced_sop_class_uid=image.SOPClassUID,
        referenced_sop_instance_uid=image.SOPInstanceUID,
        relationship_type="CONTAINS",
    )
    position = image.get("ImagePositionPatient")
    if position:
        names = zip(codes.POSITION, position, strict=True)
        item.ContentSequence = hd.sr.ContentSequence(
            [_number(name, float(value), codes.MILLIMETER) for name, value in names]
        )
    return item


def _shared(image: Dataset) -> list[Any]:
    import highdicom as hd

    items: list[Any] = []
    modality = _MODALITIES.get(str(image.get("Modality", "")))
    if modality is not None:
        items.append(
            hd.sr.CodeContentItem(
                name=codes.concept(codes.MODALITY),
                value=codes.concept(modality),
                relationship_type="HAS ACQ CONTEXT",
            )
        )
    if image.get("FrameOfReferenceUID"):
        items.append(
            hd.sr.UIDRefContentItem(
                name=codes.concept(codes.FRAME_OF_REFERENCE_UID),
                value=image.FrameOfReferenceUID,
                relationship_type="HAS ACQ CONTEXT",
            )
        )
    items.append(_number(codes.ROWS, int(image.Rows), codes.PIXELS))
    items.append(_number(codes.COLUMNS, int(image.Columns), codes.PIXELS))
    return items + _shared_plane(image)


def _shared_plane(image: Dataset) -> list[Any]:
    measures, orientation = _plane(image)
    items = []
    spacing = measures.get("PixelSpacing")
    if spacing:
        items.append(_number(codes.HORIZONTAL_SPACING, float(spacing[1]), codes.MILLIMETER))
        items.append(_number(codes.VERTICAL_SPACING, float(spacing[0]), codes.MILLIMETER))
    if measures.get("SliceThickness"):
        thickness = float(measures.SliceThickness)
        items.append(_number(codes.SLICE_THICKNESS, thickness, codes.MILLIMETER))
    cosines = orientation.get("ImageOrientationPatient")
    if cosines:
        names = zip(codes.ORIENTATION, cosines, strict=True)
        items += [_number(name, float(value), codes.DIRECTION_COSINE) for name, value in names]
    return items


def _plane(image: Dataset) -> tuple[Dataset, Dataset]:
    """Where pixel measures and orientation stand: the image itself, or its shared groups."""
    groups = image.get("SharedFunctionalGroupsSequence")
    if not groups:
        return image, image
    measures = groups[0].get("PixelMeasuresSequence") or [image]
    orientation = groups[0].get("PlaneOrientationSequence") or [image]
    return measures[0], orientation[0]


def _number(name: Code, value: float, unit: Code) -> Any:
    import highdicom as hd

    return hd.sr.NumContentItem(
        name=codes.concept(name),
        value=value,
        unit=codes.concept(unit),
        relationship_type="HAS ACQ CONTEXT",
    )
