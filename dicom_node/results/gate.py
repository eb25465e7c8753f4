"""The last look at a result before it may leave: read it back, compare it with what was computed.

Every object is decoded here from its encoded bytes, without the library that wrote it. A
Segmentation is laid over the mask in the patient, by its own plane positions and segment numbers;
the source geometry is taken from the headers as they were received. Any difference refuses the
result. The checks of each kind of image stand in ``gate_<kind>``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.results.explicit_decoding import Part, items_of
from dicom_node.results.gate_reading import Given, check_identity, read_back, refused
from dicom_node.results.gate_segmentation import (
    check_label_map,
    check_probability_map,
    check_segmentation,
    read_label_map,
)

__all__ = [
    "check_label_map",
    "check_probability_map",
    "check_report",
    "check_segmentation",
    "read_label_map",
]

_COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


def check_report(
    report: Given,
    source_images: Sequence[Dataset],
    segmentations: Sequence[Dataset] = (),
) -> None:
    """Refuse a report that refers to something it was not made from.

    Every referenced instance must be an input or one of ``segmentations`` (among which a map or
    picture that explains the result has no segments) and stand in the evidence, a referenced
    segment must exist, and patient and study must be the source's.

    Raises
    ------
    GateRefused
        ``gate.unreadable`` or ``gate.reference``.
    """
    decoded = read_back(report)
    if (
        decoded.SOPClassUID != _COMPREHENSIVE_3D_SR
        or decoded.get("VerificationFlag") != "UNVERIFIED"
    ):
        raise refused("reference", "the report is not an unverified Comprehensive 3D SR")
    check_identity(decoded, source_images)
    segments = {str(image.SOPInstanceUID): set[int]() for image in source_images}
    for segmentation in segmentations:
        segments_of = segmentation.get("SegmentSequence", [])
        numbers = {int(item.SegmentNumber) for item in segments_of}
        segments[str(segmentation.SOPInstanceUID)] = numbers
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for study in items_of(decoded, "CurrentRequestedProcedureEvidenceSequence")
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    for reference in _references(decoded):
        uid = str(reference.ReferencedSOPInstanceUID)
        if uid not in segments or uid not in evidence:
            raise refused("reference", "the report refers to an instance it was not made from")
        if not set(_as_list(reference.get("ReferencedSegmentNumber"))) <= segments[uid]:
            raise refused("reference", "the report refers to a segment that does not exist")


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(value)] if isinstance(value, (int, str)) else [int(part) for part in value]


def _references(item: Part) -> list[Part]:
    found = list(items_of(item, "ReferencedSOPSequence"))
    for child in items_of(item, "ContentSequence"):
        found += _references(child)
    return found
