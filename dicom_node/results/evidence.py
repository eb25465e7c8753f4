"""The instances that a report was made from and that it supersedes (PS3.3 C.17.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.results.request import Reference
from sr_templates.encoded import item_of, text_element

_SOP_CLASS, _SOP_INSTANCE = 0x00081150, 0x00081155


def references_to(instances: Sequence[Dataset]) -> list[Reference]:
    """What is needed to refer to each of ``instances``, which must have their UIDs."""
    return [
        Reference(
            str(instance.SOPClassUID),
            str(instance.SOPInstanceUID),
            str(instance.SeriesInstanceUID),
            str(instance.StudyInstanceUID),
        )
        for instance in instances
    ]


def set_evidence(
    report: Dataset, evidence: Sequence[Reference], predecessors: Sequence[Reference] = (),
    pertinent: Sequence[Reference] = (),
) -> None:
    """List ``evidence``, and ``predecessors`` as the documents that ``report`` supersedes.

    ``pertinent`` are instances of other studies that it was compared with.

    Replaces what highdicom collected, which is complete only for what the tree refers to.
    """
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        report.pop(keyword, None)
    if evidence:
        report.CurrentRequestedProcedureEvidenceSequence = _by_study(evidence)
    if pertinent:
        report.PertinentOtherEvidenceSequence = _by_study(pertinent)
    if predecessors:
        report.PredecessorDocumentsSequence = _by_study(predecessors)


def _by_study(references: Sequence[Reference]) -> list[Dataset]:
    """References in the macro of PS3.3 table C.17-3, each instance once, in the order given."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for reference in references:
        series = studies.setdefault(reference.study_instance_uid, {})
        instances = series.setdefault(reference.series_instance_uid, {})
        instances.setdefault(reference.sop_instance_uid, reference.sop_class_uid)
    return [_study(uid, series) for uid, series in studies.items()]


def _study(study_instance_uid: str, series: dict[str, dict[str, str]]) -> Dataset:
    study = Dataset()
    study.ReferencedSeriesSequence = [_series(uid, one) for uid, one in series.items()]
    study.StudyInstanceUID = study_instance_uid
    return study


def _series(series_instance_uid: str, instances: dict[str, str]) -> Dataset:
    series = Dataset()
    series.ReferencedSOPSequence = [
        _instance(sop_class_uid, sop_instance_uid)
        for sop_instance_uid, sop_class_uid in instances.items()
    ]
    series.SeriesInstanceUID = series_instance_uid
    return series


def _instance(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    # There is one for every slice, and its UIDs were checked with its header.
    return item_of(
        text_element(_SOP_CLASS, "UI", sop_class_uid),
        text_element(_SOP_INSTANCE, "UI", sop_instance_uid),
    )
