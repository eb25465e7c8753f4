"""The Image Library of a report (PS3.16 TID 1600 to 1604), small enough for long series.

What all images share (modality, matrix, spacing, orientation) stands once in the group and holds
for its images (TID 1601 and 1602). An image's position is left to the image itself: repeating it
made nine tenths of a report on a long series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from ai_models.types import Code
from sr_templates import codes
from sr_templates.encoded import item_of, sequence_element, text_element

_CONTENT = 0x0040A730
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
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


def image_library(
    first: Dataset, *, images_agree: bool = True, further: Sequence[Dataset] = ()
) -> Any:
    """Image Library container for a series like ``first``, without its images' own items.

    Where the images do not agree, only the modality of ``first`` is told. ``further`` are the first
    images of other series: each has a group of its own.
    """
    import highdicom as hd

    library = _container(codes.IMAGE_LIBRARY)
    groups = []
    for image in (first, *further):
        group = _container(codes.IMAGE_LIBRARY_GROUP)
        shared = [*_modality(image), *(_shared(image) if images_agree else [])]
        if shared:
            group.ContentSequence = hd.sr.ContentSequence(shared)
        groups.append(group)
    library.ContentSequence = hd.sr.ContentSequence(groups)
    return library


def add_images(
    report: Dataset, images: Sequence[Dataset], further: Sequence[Sequence[Dataset]] = ()
) -> None:
    """Add an item for each of ``images`` to the library of a finished ``report``.

    They are encoded already and come last, because checking and copying each as a content item
    of the tree costs more than everything else in a report on a long series. ``further`` are the
    images of other series, in the order of their groups.
    """
    library = next(
        item
        for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.IMAGE_LIBRARY.value
    )
    for group, members in zip(library.ContentSequence, (images, *further), strict=True):
        items = [*group.get("ContentSequence", []), *_entries(members)]
        if items:
            group[_CONTENT] = DataElement(_CONTENT, "SQ", DicomSequence(items))


def _entries(images: Sequence[Dataset]) -> list[Dataset]:
    """What is said of each image; all but its UIDs is the same, and stands in the same elements."""
    name = b"".join(
        text_element(tag, vr, text).encoded
        for tag, vr, text in (
            (0x00080100, "SH", codes.SOURCE.value), (0x00080102, "SH", codes.SOURCE.scheme),
            (0x00080104, "LO", codes.SOURCE.meaning),
        )
    )
    same = (
        text_element(0x0040A010, "CS", "CONTAINS"), text_element(0x0040A040, "CS", "IMAGE"),
        sequence_element(0x0040A043, name),
    )
    return [item_of(sequence_element(0x00081199, _reference(image)), *same) for image in images]


def _reference(image: Dataset) -> bytes:
    sop_class, instance = str(image[_SOP_CLASS].value), str(image[_SOP_INSTANCE].value)
    return (
        text_element(0x00081150, "UI", sop_class).encoded
        + text_element(0x00081155, "UI", instance).encoded
    )


def _container(name: Code) -> Any:
    import highdicom as hd

    return hd.sr.ContainerContentItem(name=codes.concept(name), relationship_type="CONTAINS")


def _modality(image: Dataset) -> list[Any]:
    import highdicom as hd

    modality = _MODALITIES.get(str(image.get("Modality", "")))
    if modality is None:
        return []
    return [
        hd.sr.CodeContentItem(
            name=codes.concept(codes.MODALITY),
            value=codes.concept(modality),
            relationship_type="HAS ACQ CONTEXT",
        )
    ]


def _shared(image: Dataset) -> list[Any]:
    import highdicom as hd

    items: list[Any] = []
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
