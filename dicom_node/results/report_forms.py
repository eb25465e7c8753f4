"""A report in another form, for destinations that do not take it as it is kept.

The forms are Comprehensive, Enhanced and Basic Text SR (PS3.3 A.35.1 to A.35.3), and reports that
cite the LABELMAP Segmentation in place of the BINARY one or no Segmentation at all. Each says what
the kept report says, at the same time and just as unverified, and is an object of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator

import pydicom
from pydicom.dataset import Dataset

from ai_models.types import Code
from dicom_node.errors import GateRefused
from dicom_node.results.identity import derived_uid
from dicom_node.results.report_text import finding_text, value_text
from dicom_node.results.request import Reference
from dicom_node.results.sop_classes import (
    BASIC_TEXT_SR,
    LABEL_MAP_SEGMENTATION,
    PARAMETRIC_MAP,
    SEGMENTATION,
)

_MEASUREMENT_GROUP = "125007"
_IMAGING_MEASUREMENTS = "126010"
_IMAGE_LIBRARY = "111028"
_REFERENCED_SEGMENT = "121191"
_SOURCE_SERIES = "121232"
_TRACKING_IDENTIFIER = "112039"
_FINDING = Code("121071", "DCM", "Finding")
_SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
_NOT_SHOWN_BY_TEXT = frozenset({SEGMENTATION, LABEL_MAP_SEGMENTATION, PARAMETRIC_MAP})

# PS3.3 table A.35.1-2: what may stand below an item of Basic Text SR, by relationship.
_TEXT_TYPES = frozenset(
    {"TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE", "IMAGE",
     "WAVEFORM"}
)  # fmt: skip
_TEXT_RELATIONSHIPS = {
    "CONTAINS": frozenset({"CONTAINER"}),
    "HAS OBS CONTEXT": frozenset({"CONTAINER"}),
    "HAS ACQ CONTEXT": frozenset({"CONTAINER", "IMAGE", "COMPOSITE", "WAVEFORM"}),
    "HAS PROPERTIES": frozenset({"TEXT"}),
    "INFERRED FROM": frozenset({"TEXT"}),
}


def as_class(report: Dataset, sop_class_uid: str) -> Dataset:
    """``report`` as Comprehensive or Enhanced SR: the same content tree in another document.

    Raises
    ------
    GateRefused
        ``gate.form``: the tree holds what these documents must not hold, coordinates in the
        patient (SCOORD3D) or references to other items of the tree.
    """
    document = plain(report)
    for item in items(document):
        if item.get("ValueType") == "SCOORD3D" or "ReferencedContentItemIdentifier" in item:
            raise GateRefused(
                "the report holds coordinates in the patient or references within itself",
                reason="gate.form",
            )
    document.SOPClassUID = sop_class_uid
    return document


def as_text(report: Dataset) -> Dataset:
    """``report`` as Basic Text SR: every measurement group becomes a sentence.

    Sentences, codes and the images that regions were drawn on stay; the Image Library and what
    only programs read (coordinates, segments, algorithm identification) does not. The inputs are
    still listed as evidence.
    """
    document = plain(report)
    document.SOPClassUID = BASIC_TEXT_SR
    document.pop("ContentTemplateSequence", None)
    kept = [one for item in document.ContentSequence for one in _as_text(item, "CONTAINER")]
    # Sentences come first: they begin with whether the report may be used at all.
    document.ContentSequence = sorted(kept, key=lambda one: is_named(one, _IMAGING_MEASUREMENTS))
    _keep_evidence(document, lambda one: one.ReferencedSOPClassUID not in _NOT_SHOWN_BY_TEXT)
    return document


def citing(report: Dataset, old: Reference, new: Reference) -> Dataset:
    """``report`` with every reference to ``old`` turned to ``new``; segment numbers stay.

    ``new`` is in the same study as ``old`` and alone in its series.
    """
    document = plain(report)
    for item in items(document):
        for reference in item.get("ReferencedSOPSequence", []):
            if reference.ReferencedSOPInstanceUID == old.sop_instance_uid:
                reference.ReferencedSOPClassUID = new.sop_class_uid
                reference.ReferencedSOPInstanceUID = new.sop_instance_uid
    for series in _evidence_series(document):
        for reference in series.ReferencedSOPSequence:
            if reference.ReferencedSOPInstanceUID == old.sop_instance_uid:
                reference.ReferencedSOPClassUID = new.sop_class_uid
                reference.ReferencedSOPInstanceUID = new.sop_instance_uid
                series.SeriesInstanceUID = new.series_instance_uid
    return document


def without(report: Dataset, sop_instance_uids: Collection[str]) -> Dataset:
    """``report`` without its references to objects that are not sent with it.

    A group on a segment (PS3.16 TID 1411) whose segment goes becomes a group on the whole series
    (TID 1501) with the same numbers.
    """
    document = plain(report)
    _drop_references(document, frozenset(sop_instance_uids))
    _keep_evidence(document, lambda one: one.ReferencedSOPInstanceUID not in sop_instance_uids)
    return document


def identified(report: Dataset, kept: Dataset, form: str) -> Dataset:
    """``report``, made from ``kept``, as an object of its own in a series of its own."""
    document = plain(report)
    document.SOPInstanceUID = derived_uid("form", str(kept.SOPInstanceUID), form)
    document.SeriesInstanceUID = derived_uid("form.series", str(kept.SeriesInstanceUID), form)
    return plain(document)


def plain(dataset: Dataset) -> Dataset:
    """A copy of ``dataset`` as it is read from its file, whoever built it."""
    buffer = io.BytesIO()
    copied = Dataset(dataset)
    copied.file_meta = pydicom.dataset.FileMetaDataset()
    copied.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(buffer, copied, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def items(item: Dataset) -> Iterator[Dataset]:
    """Every content item below ``item``, depth first."""
    for child in item.get("ContentSequence", []):
        yield child
        yield from items(child)


def is_named(item: Dataset, code_value: str) -> bool:
    """Whether the concept name of a content item has this code value."""
    names = item.get("ConceptNameCodeSequence")
    return bool(names) and names[0].CodeValue == code_value


def in_words(group: Dataset) -> str:
    """The numbers and codes of a measurement group as one English sentence.

    It begins with the tracking identifier, by which a reader tells two alike findings apart.
    """
    tracking = [
        value_text(item) for item in group.ContentSequence if is_named(item, _TRACKING_IDENTIFIER)
    ]
    finding = finding_text(group)
    subject = f"{tracking[0]} ({finding.title})" if tracking else finding.title
    parts = [f"{name} {value}" for name, value in finding.rows]
    return f"{subject}: {'; '.join(parts)}" if parts else subject


def _drop_references(item: Dataset, uids: frozenset[str]) -> None:
    children = item.get("ContentSequence")
    if not children:
        return
    kept = [child for child in children if not _refers_to(child, uids)]
    if len(kept) < len(children) and any(
        is_named(child, _REFERENCED_SEGMENT) for child in children
    ):
        kept = [child for child in kept if not is_named(child, _SOURCE_SERIES)]
        item.ContentTemplateSequence[0].TemplateIdentifier = "1501"
    item.ContentSequence = kept
    if not kept:
        del item.ContentSequence
    for child in kept:
        _drop_references(child, uids)


def _refers_to(item: Dataset, uids: frozenset[str]) -> bool:
    references = item.get("ReferencedSOPSequence", [])
    return any(one.ReferencedSOPInstanceUID in uids for one in references)


def _evidence_series(document: Dataset) -> Iterator[Dataset]:
    for study in document.get("CurrentRequestedProcedureEvidenceSequence", []):
        yield from study.ReferencedSeriesSequence


def _keep_evidence(document: Dataset, is_kept: Callable[[Dataset], bool]) -> None:
    for study in document.get("CurrentRequestedProcedureEvidenceSequence", []):
        for series in study.ReferencedSeriesSequence:
            series.ReferencedSOPSequence = [
                one for one in series.ReferencedSOPSequence if is_kept(one)
            ]
        study.ReferencedSeriesSequence = [
            series for series in study.ReferencedSeriesSequence if series.ReferencedSOPSequence
        ]


def _as_text(item: Dataset, parent: str) -> list[Dataset]:
    """What stands for ``item`` in a Basic Text SR below an item of value type ``parent``."""
    relationship, value_type = str(item.RelationshipType), str(item.ValueType)
    if is_named(item, _IMAGE_LIBRARY):
        return []
    if is_named(item, _MEASUREMENT_GROUP):
        return [_sentence(item)]
    if not _is_allowed(relationship, parent, value_type):
        return []
    if value_type == "NUM":
        return [_text(relationship, item.ConceptNameCodeSequence[0], value_text(item))]
    if value_type == "IMAGE" and _shows_no_source(item):
        return []
    kept = [one for child in item.get("ContentSequence", []) for one in _as_text(child, value_type)]
    if value_type == "CONTAINER" and not kept:
        return []
    item.pop("ContentTemplateSequence", None)
    item.pop("ContentSequence", None)
    if kept:
        item.ContentSequence = kept
    return [item]


def _is_allowed(relationship: str, parent: str, value_type: str) -> bool:
    if relationship == "HAS CONCEPT MOD":
        return value_type in ("TEXT", "CODE")
    if value_type == "CONTAINER":
        return relationship == "CONTAINS"
    allowed = parent in _TEXT_RELATIONSHIPS.get(relationship, frozenset())
    return allowed and value_type in {*_TEXT_TYPES, "NUM"}


def _shows_no_source(item: Dataset) -> bool:
    return str(item.ReferencedSOPSequence[0].ReferencedSOPClassUID) in _NOT_SHOWN_BY_TEXT


def _sentence(group: Dataset) -> Dataset:
    """A measurement group in words, and the images that its regions were drawn on."""
    sentence = _text("CONTAINS", _coded(_FINDING), in_words(group))
    images = [
        _image(item)
        for item in items(group)
        if item.ValueType == "IMAGE" and not _shows_no_source(item)
    ]
    if images:
        sentence.ContentSequence = images
    return sentence


def _image(item: Dataset) -> Dataset:
    image = Dataset()
    image.RelationshipType = "INFERRED FROM"
    image.ValueType = "IMAGE"
    image.ConceptNameCodeSequence = [_coded(_SOURCE_OF_MEASUREMENT)]
    image.ReferencedSOPSequence = item.ReferencedSOPSequence
    return image


def _text(relationship: str, name: Dataset, value: str) -> Dataset:
    text = Dataset()
    text.RelationshipType = relationship
    text.ValueType = "TEXT"
    text.ConceptNameCodeSequence = [name]
    text.TextValue = value
    return text


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item
