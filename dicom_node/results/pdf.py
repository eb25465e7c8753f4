"""Reports as a document for people: Encapsulated PDF (PS3.3 A.45.1).

It names the patient on every page, as a document that may be printed must, and says so (Burned
In Annotation YES). The text is that of the structured reports it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from dicom_node.results.drawing import Pixels
from dicom_node.results.equipment import DEMONSTRATION, algorithm_equipment, describe
from dicom_node.results.finish import finish, local_time
from dicom_node.results.legend import worded
from dicom_node.results.pdf_pages import PageFrame, pdf_of
from dicom_node.results.report_text import ReportText, report_text
from dicom_node.results.request import ResultRequest

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MOST_PICTURES = 4
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def build_pdf(
    request: ResultRequest,
    reports: Sequence[Dataset],
    pictures: Sequence[Dataset],
    *,
    series_number: int,
) -> Dataset:
    """The document of ``reports`` and of up to four of ``pictures``, evenly chosen.

    Parameters
    ----------
    reports
        Structured reports of this result, at least one: the first one's title is the document's.
    pictures
        Secondary captures of this result, uncompressed.

    Raises
    ------
    UnsuitableInput
        The source headers cannot carry a result (see ``headers.normalise``).
    """
    sources, _ = request.normalised()
    first = sources[0]
    moment = local_time(request.created_at, first)
    chosen = np.linspace(0, len(pictures) - 1, min(_MOST_PICTURES, len(pictures)))
    shown = [pictures[int(index)] for index in chosen.round()]
    content = pdf_of(
        f"{request.algorithm.name} {request.algorithm.version}",
        _frame(request, first, moment),
        _texts(reports),
        [_pixels(picture) for picture in shown],
    )
    document = _construct(request, first, series_number, moment)
    document.copy_patient_and_study_information(first)
    _encapsulate(document, content)
    document.DocumentTitle = describe(f"Report {request.algorithm.name}", request.algorithm)
    document.ConceptNameCodeSequence = [reports[0].ConceptNameCodeSequence[0]]
    document.SourceInstanceSequence = [_reference(one) for one in (*reports, *shown)]
    document.ContributingEquipmentSequence = [algorithm_equipment(request.algorithm)]
    finished = finish(document, first, request.equipment, moment)
    # Of images: the Encapsulated Document Series module has none of them (PS3.3 C.24.1).
    for keyword in ("BodyPartExamined", "Laterality", "PositionReferenceIndicator"):
        finished.pop(keyword, None)
    return finished


def _texts(reports: Sequence[Dataset]) -> list[ReportText]:
    """The reports, each sentence where it is said first."""
    said: set[str] = set()
    texts = []
    for report in reports:
        text = report_text(report)
        new = tuple(sentence for sentence in text.sentences if sentence not in said)
        said.update(new)
        texts.append(replace(text, sentences=new))
    return texts


def _construct(request: ResultRequest, first: Dataset, series_number: int, moment: datetime) -> Any:
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    equipment = request.equipment
    return hd.base.SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=request.identity.uid("pdf.series"),
        series_number=series_number,
        sop_instance_uid=request.identity.uid("pdf.instance"),
        sop_class_uid=_ENCAPSULATED_PDF,
        instance_number=1,
        modality="DOC",
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_versions,
        device_serial_number=equipment.device_serial_number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        accession_number=first.AccessionNumber,
        study_id=first.StudyID,
        study_date=first.StudyDate,
        study_time=first.StudyTime,
        referring_physician_name=first.ReferringPhysicianName,
        series_description=describe(f"PDF {request.algorithm.model_id}", request.algorithm),
        content_date=moment.date(),
        content_time=moment.time(),
        series_date=moment.date(),
        series_time=moment.time(),
        specific_character_set="ISO_IR 192",
    )


def _encapsulate(document: Any, content: bytes) -> None:
    document.AcquisitionDateTime = ""
    document.ConversionType = "WSD"
    document.BurnedInAnnotation = "YES"
    document.VerificationFlag = "UNVERIFIED"
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)


def _frame(request: ResultRequest, first: Dataset, moment: datetime) -> PageFrame:
    language = request.language
    born = _date(str(first.PatientBirthDate or ""))
    patient = [
        _person(first.PatientName),
        f"{worded(language, 'patient')} {first.PatientID}" if first.PatientID else "",
        f"{worded(language, 'born')} {born}" if born else "",
        str(first.PatientSex or ""),
    ]
    study = [
        f"{worded(language, 'study')} {_date(str(first.StudyDate or ''))}".rstrip(),
        str(first.get("StudyDescription") or ""),
        str(first.AccessionNumber or ""),
        f"{request.equipment.model_name} {request.equipment.software_versions}, "
        f"{moment:%Y-%m-%d %H:%M}",
    ]
    return PageFrame(
        header=tuple("  ·  ".join(part for part in one if part) for one in (patient, study)),
        mark=DEMONSTRATION if request.algorithm.demonstration else "",
        remark=_not_verified(language),
        page=worded(language, "page", page="{page}"),
    )


def _not_verified(language: str) -> str:
    """In English too where readers without Asian fonts would see nothing of it."""
    own, english = worded(language, "not verified"), worded("en", "not verified")
    return f"{own} / {english}" if language == "zh" else own


def _person(name: Any) -> str:
    """A person's name as people write it: family, given; other scripts behind it."""
    groups = [group.split("^") for group in str(name or "").split("=")]
    written = [", ".join(part for part in group[:2] if part) for group in groups]
    return " ".join(one for one in written if one)


def _date(value: str) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 else value


def _pixels(picture: Dataset) -> Pixels:
    rows, columns = int(picture.Rows), int(picture.Columns)
    flat = np.frombuffer(picture.PixelData, np.uint8, rows * columns * 3)
    return flat.reshape(rows, columns, 3)


def _reference(instance: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    reference = Dataset()
    reference.ReferencedSOPClassUID = instance.SOPClassUID
    reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return reference
