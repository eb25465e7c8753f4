"""A report with the impression that a writer drafted from it, and the last look at that section."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_models.drafting.impression import Impression, Writer, WriterIdentity, impression
from ai_models.types import Label, LabelMap
from dicom_node.results.draft_evidence import evidence_of
from dicom_node.results.gate_reading import read_back, refused
from dicom_node.results.report_document import language_of
from dicom_node.results.report_findings import Finder
from dicom_node.results.report_numbers import SegmentMeasurement
from dicom_node.results.request import ResultRequest
from dicom_node.results.segmentation import segment_numbers
from sr_templates.impression_section import (
    IMPRESSION,
    IMPRESSIONS,
    TRACKING_UID,
    SectionSentence,
    impression_section,
)
from sr_templates.measurement_groups import Finding
from sr_templates.narrative import Narrator, pieces
from sr_templates.template import load_template

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Segments:
    """What a volumetric report was built from."""

    segmentation: Dataset
    label_map: LabelMap
    measurements: Mapping[int, SegmentMeasurement]


def drafted_impression(
    request: ResultRequest, writer: Writer, segments: Segments | None = None
) -> Impression:
    """The impression on what a report says: of ``segments``, else of the whole image.

    Raises
    ------
    ConfigurationError, UnsuitableInput, GateRefused
        As the report itself.
    """
    template = load_template(request.template, request.template_folder)
    language = language_of(request)
    sources, _ = request.normalised()
    finder = Finder(request, template, language, sources)
    findings: list[Finding] = []
    not_found: Sequence[Label] = ()
    if segments is not None:
        numbers = segment_numbers(segments.label_map, request.labels)
        findings = finder.volumetric(
            segments.segmentation, segments.label_map, numbers, segments.measurements
        )
        not_found = [one for one in request.labels if one.value not in numbers]
    elif request.outputs or request.undetermined:
        findings = finder.image(None)
    else:
        not_found = request.labels
    narrator = Narrator(language, template.sentences)
    try:
        evidence = evidence_of(request, template, narrator, findings, not_found)
    except ValueError as problem:
        # More than a draft is made of, or a name or number that none may have: the report is as
        # it was, and a job is not lost for want of a draft.
        return Impression((), writer.identity, fallback="evidence", why=str(problem))
    return impression(evidence, writer, language)


def with_impression(report: Dataset, made: Impression, request: ResultRequest) -> Dataset:
    """``report`` with the section, as another object; unchanged where nothing was drafted.

    Another draft is another object: all that the section says enters the SOP Instance UID.
    """
    if not made.is_drafted:
        return report
    changed = copy.deepcopy(report)
    sentences = [SectionSentence(one.text, one.groups) for one in made.sentences]
    writer, struck = _told(made.writer), len(made.struck)
    changed.ContentSequence.append(
        impression_section(sentences, writer, struck, language_of(request))
    )
    words = json.dumps([writer, struck, [[one.text, one.groups] for one in made.sentences]])
    digest = hashlib.sha256(words.encode()).hexdigest()
    kind = str(report.SOPInstanceUID)
    changed.SOPInstanceUID = request.identity.uid(f"impression.{kind}.{digest}")
    if "file_meta" in changed.__dict__ and "MediaStorageSOPInstanceUID" in changed.file_meta:
        changed.file_meta.MediaStorageSOPInstanceUID = changed.SOPInstanceUID
    return changed


def check_impression(report: Dataset | bytes | Path, made: Impression) -> None:
    """Refuse a report whose section is more, less or other than what the guard kept.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.text``: the sentences are others, cite a group that is not
        there, or the report poses as final or verified.
    """
    decoded = read_back(report)
    sections = [one for one in decoded.ContentSequence if _code(one) == IMPRESSIONS.value]
    if not made.is_drafted:
        if sections:
            raise refused("text", "there is an impression that nobody drafted")
        return
    if len(sections) != 1:
        raise refused("text", "the report has not one impression")
    told = [one for one in sections[0].ContentSequence if _code(one) == IMPRESSION.value]
    expected = [(piece, list(one.groups)) for one in made.sentences for piece in pieces(one.text)]
    if [(str(one.TextValue), _references(one)) for one in told] != expected:
        raise refused("text", "the impression is not what was kept of the draft")
    groups = set().union(*(
        _tracking_uids(one) for one in decoded.ContentSequence if _code(one) != IMPRESSIONS.value
    ))
    if not {uid for one in told for uid in _references(one)} <= groups:
        raise refused("text", "the impression cites a measurement group that is not there")
    if decoded.get("PreliminaryFlag") != "PRELIMINARY":
        raise refused("text", "a drafted impression poses as final")
    if decoded.get("VerificationFlag") != "UNVERIFIED":
        raise refused("text", "a drafted impression poses as verified")


def _references(item: Dataset) -> list[str]:
    return [
        str(one.UID) for one in item.get("ContentSequence", []) if _code(one) == TRACKING_UID.value
    ]


def _tracking_uids(item: Dataset) -> set[str]:
    """Those of the item itself and of all below it."""
    found = {str(item.UID)} if _code(item) == TRACKING_UID.value else set()
    return found.union(*(_tracking_uids(one) for one in item.get("ContentSequence", [])))


def _code(item: Dataset) -> str:
    names: Sequence[Any] = item.get("ConceptNameCodeSequence", [])
    return str(names[0].CodeValue) if names else ""


def _told(writer: WriterIdentity) -> str:
    parts = [writer.model, f"SHA-256 {writer.sha256[:16]}" if writer.sha256 else ""]
    inside = ", ".join(one for one in parts if one)
    name = f"{writer.name or writer.id} {writer.version}".strip()
    return f"{name} ({inside})" if inside else name


def impression_document(made: Impression) -> dict[str, Any]:
    """An impression with what was struck of it as JSON values, for the provenance of a result."""
    return {
        "writer": asdict(made.writer),
        "sentences": [
            {"text": one.text, "evidence": list(one.evidence), "source": one.source}
            for one in made.sentences
        ],
        "struck": [
            {"text": one.sentence.text, "evidence": list(one.sentence.evidence),
             "reason": one.reason, "why": one.why}
            for one in made.struck
        ],
        "fallback": made.fallback, "why": made.why, "notes": list(made.notes),
        "seconds": round(made.seconds, 3),
    }
