"""The gate for Key Object Selections: what is selected, or rejected, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from ai_models.array.labels import values_in
from ai_models.types import LabelMap
from dicom_node.results.gate_reading import check_identity, read_back, refused
from dicom_node.results.request import Reference
from dicom_node.results.sop_classes import KEY_OBJECTS

_OF_INTEREST = "113000"
# Reason for Removal from Operational Use (PS3.16 CID 7031), as far as IHE IOCM knows them.
_REJECTIONS = frozenset({"113001", "113037", "113038", "113039"})


def check_key_objects(
    document: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
) -> None:
    """Refuse a selection of images that carry no finding, or that leaves a finding out.

    Every selected image (or frame) must show a label, and every label of ``label_map``
    ``(slices, rows, columns)`` must be shown by a selected one.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, ``gate.reference`` or ``gate.labels``.
    """
    decoded = _document(document, source_images, frozenset({_OF_INTEREST}))
    slices = _slices(source_images, frame_numbers)
    selected = []
    for item in _items(decoded):
        reference = item.ReferencedSOPSequence[0]
        uid = str(reference.ReferencedSOPInstanceUID)
        for frame in _frame_numbers(reference):
            if (uid, frame) not in slices:
                raise refused("reference", "an image is selected that is not of the source")
            selected.append(slices[uid, frame])
    present = [set(values_in(label_map[index])) for index in selected]
    if not all(present) or set().union(*present) != set(values_in(label_map)):
        raise refused("labels", "the selected images are not those with the findings")


def check_selected(
    document: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    images: Sequence[tuple[str, Sequence[int]]],
) -> None:
    """Refuse a selection of anything but ``images``, (SOP Instance UID, frames), of the source.

    Raises
    ------
    GateRefused
        ``gate.unreadable`` or ``gate.reference``.
    """
    decoded = _document(document, source_images, frozenset({_OF_INTEREST}))
    slices = _slices(source_images, frame_numbers)
    selected = [
        (str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID), frame)
        for item in _items(decoded)
        for frame in _frame_numbers(item.ReferencedSOPSequence[0])
    ]
    expected = [(uid, frame) for uid, frames in images for frame in (frames or (1,))]
    if sorted(selected) != sorted(expected) or not set(selected) <= slices.keys():
        raise refused("reference", "the selected images are not those that the answer rests on")


def check_rejection_note(
    note: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    rejected: Sequence[Reference],
) -> None:
    """Refuse a note that rejects anything but ``rejected``, or a part of it only.

    Raises
    ------
    GateRefused
        ``gate.unreadable``, or ``gate.reference``; also when ``rejected`` holds a source image,
        which no node may reject.
    """
    decoded = _document(note, source_images, _REJECTIONS)
    listed = {
        Reference(
            str(instance.ReferencedSOPClassUID),
            str(instance.ReferencedSOPInstanceUID),
            str(series.SeriesInstanceUID),
            str(study.StudyInstanceUID),
        )
        for study in decoded.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    if listed != set(rejected):
        raise refused("reference", "the note does not reject what it should")
    if {reference.series_instance_uid for reference in listed} & {
        str(image.SeriesInstanceUID) for image in source_images
    }:
        raise refused("reference", "the note rejects images that the node did not make")


def _document(
    document: Dataset | bytes | Path, source_images: Sequence[Dataset], titles: frozenset[str]
) -> Dataset:
    decoded = read_back(document)
    title = decoded.get("ConceptNameCodeSequence", [Dataset()])[0].get("CodeValue")
    if decoded.SOPClassUID != KEY_OBJECTS or title not in titles:
        raise refused("reference", "the document is not the selection that it should be")
    check_identity(decoded, source_images)
    referred = [str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in _items(decoded)]
    evidence = [
        str(instance.ReferencedSOPInstanceUID)
        for study in decoded.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
    if sorted(referred) != sorted(evidence):
        raise refused("reference", "the evidence does not list what is selected")
    return decoded


def _items(decoded: Dataset) -> list[Dataset]:
    return [item for item in decoded.ContentSequence if "ReferencedSOPSequence" in item]


def _slices(
    source_images: Sequence[Dataset], frame_numbers: Sequence[int]
) -> dict[tuple[str, int], int]:
    """UID and frame number of an image to its slice."""
    several = len(source_images) > 1
    return {
        (str((source_images[index] if several else source_images[0]).SOPInstanceUID), number): index
        for index, number in enumerate(frame_numbers)
    }


def _frame_numbers(reference: Dataset) -> list[int]:
    numbers = reference.get("ReferencedFrameNumber")
    if numbers is None:
        return [1]
    return (
        [int(numbers)] if isinstance(numbers, (int, str)) else [int(number) for number in numbers]
    )
