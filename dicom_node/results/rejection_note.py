"""The word to an archive that objects are no longer to be used (IHE Rad TF-1 27, IOCM).

A Key Object Selection whose title is the reason of the rejection. Of the reasons in PS3.16
CID 7031, "Rejected for Quality Reasons" is the one for a result that a newer version replaces:
the archive may go on showing the old one, to whom it decides, because it was made as it should
have been from what was there, and somebody may have read it and acted on it. "Rejected for
Patient Safety Reasons" makes every archive and viewer hide it from everyone, which is for objects
that harm (the wrong patient), and no model can know that. The other reasons are of modalities
(worklist entry) and of retention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_models.types import Code
from dicom_node.errors import UnsuitableInput
from dicom_node.results.equipment import DEMONSTRATION
from dicom_node.results.identity import derived_uid
from dicom_node.results.request import Reference, ResultRequest
from dicom_node.results.selection_document import build_selection
from dicom_node.results.sop_classes import (
    LABEL_MAP_SEGMENTATION,
    PARAMETRIC_MAP,
    SECONDARY_CAPTURE,
    SEGMENTATION,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")

_IMAGES = frozenset({SEGMENTATION, LABEL_MAP_SEGMENTATION, PARAMETRIC_MAP, SECONDARY_CAPTURE})


def build_rejection_note(
    request: ResultRequest, rejected: Sequence[Reference], *, series_number: int
) -> Dataset:
    """Reject ``rejected`` because the result of ``request`` replaces them.

    Parameters
    ----------
    request
        Of the newer version. The UIDs of the note come from it and from what is rejected, because
        destinations may have got the older version in different forms.
    rejected
        At least one object of the older version, as it was sent. Images become IMAGE items,
        reports, presentation states and documents COMPOSITE items; all stand in the evidence,
        grouped by series.

    Raises
    ------
    UnsuitableInput
        ``input.empty``: nothing is rejected; ``input.mixed_studies``: an object is of another
        study than the source (a note rejects what is in its own study only); or the source
        headers cannot carry a result (see ``headers.normalise``).
    """
    sources, _ = request.normalised()
    if not rejected:
        raise UnsuitableInput("a rejection note rejects at least one object", reason="input.empty")
    study_uid = str(sources[0].StudyInstanceUID)
    if any(reference.study_instance_uid != study_uid for reference in rejected):
        raise UnsuitableInput(
            "a rejection note cannot reject objects of another study", reason="input.mixed_studies"
        )
    return build_selection(
        request,
        sources[0],
        [_instance(reference) for reference in sorted(rejected, key=_place)],
        kind="rejection note",
        uids=(_uid(request, "series", rejected), _uid(request, "instance", rejected)),
        title=REJECTED_FOR_QUALITY,
        description=_description(request),
        series_number=series_number,
    )


def _uid(request: ResultRequest, purpose: str, rejected: Sequence[Reference]) -> str:
    objects = sorted(reference.sop_instance_uid for reference in rejected)
    return derived_uid(request.identity.uid(f"rejection note.{purpose}"), objects)


def _place(reference: Reference) -> tuple[str, str]:
    return reference.series_instance_uid, reference.sop_instance_uid


def _instance(reference: Reference) -> Dataset:
    from pydicom.dataset import Dataset

    instance = Dataset()
    instance.SOPClassUID = reference.sop_class_uid
    instance.SOPInstanceUID = reference.sop_instance_uid
    instance.SeriesInstanceUID = reference.series_instance_uid
    instance.StudyInstanceUID = reference.study_instance_uid
    if reference.sop_class_uid in _IMAGES:
        instance.Rows = instance.Columns = 1
    return instance


def _description(request: ResultRequest) -> str:
    algorithm = request.algorithm
    sentence = (
        f"Replaced by a newer version of the analysis by {algorithm.name} {algorithm.version}."
    )
    return f"{DEMONSTRATION}. {sentence}" if algorithm.demonstration else sentence
