"""The report that images were not analysed, and why: silence would be read as normal.

It is possible precisely when the input is bad: nothing is taken from the images but who the
patient is, which study it is, and their UIDs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dicom_node.errors import UnsuitableInput
from dicom_node.results.evidence import references_to
from dicom_node.results.header_values import is_writable_uid
from dicom_node.results.headers import normalise
from dicom_node.results.identity import derived_uid
from dicom_node.results.report_document import (
    DocumentSource,
    build_document,
    language_of,
    observer_of,
)
from dicom_node.results.request import ResultRequest
from sr_templates.declined import load_declined
from sr_templates.measurement_report import ReportContent
from sr_templates.narrative import Narrator
from sr_templates.sentences import Sentences

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_OWN_UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_GEOMETRY = (
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def build_not_analysed_report(
    request: ResultRequest, reason: str, detail: str, *, series_number: int
) -> Dataset:
    """The explicit answer that the model was not run on these images, or failed on them.

    Parameters
    ----------
    request
        ``labels`` may be empty and ``source_images`` of any number, order, series and geometry:
        all that have UIDs become evidence, and none but the first with a study needs anything
        else. ``template`` is not used.
    reason
        The node's reason code, such as ``input.too_few_slices``: ``declined.yaml`` says as which
        code of PS3.16 CID 9300 it is written.
    detail
        The technical message, free of patient data.

    Raises
    ------
    UnsuitableInput
        ``input.empty``, or ``input.invalid_uid`` where no image says which study it is of.
    ConfigurationError
        There are no sentences in ``request.language``.
    """
    template, language = load_declined(), language_of(request)
    first, notes = _first(request.source_images)
    modality = str(first.get("Modality") or "")
    why = template.reason_of(reason)
    algorithm = request.algorithm
    narrator = Narrator(language, Sentences())
    content = ReportContent(
        title=template.title,
        language=language,
        procedure=template.procedure_reported.get(modality, template.procedure_unknown),
        algorithm=algorithm,
        observer=observer_of(request.equipment),
        answers=(
            (template.answer.concept, template.answer.value),
            (template.reason_concept, why.value),
        ),
        comments=(
            *narrator.demonstration(algorithm),
            *template.sentences(reason, detail, algorithm.name, algorithm.version, language),
            *narrator.closing((), (*request.input_notes, *notes)),
        ),
    )
    named = [image for image in request.source_images if _has_uids(image)]
    image_classes = {image.SOPClassUID for image in named if "Rows" in image}
    source = DocumentSource(
        first=first,
        images=[image for image in named if image.SOPClassUID in image_classes],
        evidence=references_to(named),
        images_agree=False,
    )
    return build_document(
        request,
        content,
        source,
        "not analysed",
        series_number=series_number,
        told_apart_by=f".{reason}.{detail}",
    )


def _first(source_images: Sequence[Dataset]) -> tuple[Dataset, tuple[str, ...]]:
    """Patient and study of the first image that says which study it is of, repaired."""
    if not source_images:
        raise UnsuitableInput("a result needs at least one source image", reason="input.empty")
    for image in source_images:
        if is_writable_uid(str(image.get("StudyInstanceUID") or "")):
            copies, notes = normalise([_without_geometry(image)], is_uid=is_writable_uid)
            return copies[0], notes
    raise UnsuitableInput(
        "StudyInstanceUID is absent or not a UID (PS3.5 9.1)", reason="input.invalid_uid"
    )


def _without_geometry(image: Dataset) -> Dataset:
    """``image`` with nothing that could be refused; UIDs that it lacks stand for nothing."""
    from pydicom.dataset import Dataset

    bare = Dataset()
    for tag, element in image.items():
        bare[tag] = element
    if hasattr(image, "file_meta"):
        bare.file_meta = image.file_meta
    for keyword in _GEOMETRY:
        if keyword in bare:
            delattr(bare, keyword)
    stand_ins = {"SOPClassUID": _SECONDARY_CAPTURE}
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        if not is_writable_uid(str(image.get(keyword) or "")):
            study_uid = str(image.StudyInstanceUID)
            stand_ins[keyword] = derived_uid("unknown", keyword, study_uid)
    # Patient and study stand in every kind of image alike; what a private one is, nobody knows.
    for keyword, uid in stand_ins.items():
        # Assigning to an attribute would change its element in place, and so the source.
        bare.pop(keyword, None)
        setattr(bare, keyword, uid)
    return bare


def _has_uids(image: Dataset) -> bool:
    return all(is_writable_uid(str(image.get(keyword) or "")) for keyword in _OWN_UIDS)
