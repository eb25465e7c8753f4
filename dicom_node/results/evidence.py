"""The evidence of a report: every instance that it was made from (PS3.3 C.17.2)."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset


def set_evidence(report: Dataset, sources: Sequence[Dataset], segmentation: Dataset | None) -> None:
    """List every input and the Segmentation as evidence (PS3.3 C.17.2)."""
    study = Dataset()
    study.StudyInstanceUID = sources[0].StudyInstanceUID
    study.ReferencedSeriesSequence = [_series_evidence(sources)]
    if segmentation is not None:
        study.ReferencedSeriesSequence.append(_series_evidence([segmentation]))
    report.CurrentRequestedProcedureEvidenceSequence = [study]
    report.pop("PertinentOtherEvidenceSequence", None)


def _series_evidence(instances: Sequence[Dataset]) -> Dataset:
    series = Dataset()
    series.ReferencedSOPSequence = []
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        series.ReferencedSOPSequence.append(reference)
    series.SeriesInstanceUID = instances[0].SeriesInstanceUID
    return series
