"""The impression of a result: drafted by a writer, put into its report, looked at once more."""

from __future__ import annotations

from ai_models.drafting.impression import Impression, Writer
from dicom_node.pipeline.description import Findings, Objects
from dicom_node.results import gate
from dicom_node.results.report_impression import (
    Segments,
    check_impression,
    drafted_impression,
    with_impression,
)
from dicom_node.results.request import ResultRequest

_REPORTS = ("volumetric report", "image report", "negative report")


def with_impressions(
    objects: Objects, findings: Findings, request: ResultRequest, writer: Writer | None
) -> tuple[Objects, Impression | None]:
    """``objects`` with the impression in the report on what was found, and that impression.

    Without a writer, and of the text of a language model, there is none.

    Raises
    ------
    GateRefused
        The report, read back, does not say what was kept of the draft.
    """
    kinds = [kind for kind, _ in objects]
    kind = next((one for one in _REPORTS if one in kinds), None)
    if writer is None or kind is None:
        return objects, None
    by_kind = dict(objects)
    segments = None
    if kind == "volumetric report" and findings.label_map is not None:
        detected = findings.detected
        outlined = findings.label_map if detected is None else detected.outlined()
        segments = Segments(by_kind["segmentation"], outlined, findings.measurements)
    made = drafted_impression(request, writer, segments)
    changed = with_impression(by_kind[kind], made, request)
    gate.check_report(
        changed, request.all_images, [one for name, one in objects if name not in _REPORTS]
    )
    check_impression(changed, made)
    return tuple((name, changed if name == kind else one) for name, one in objects), made
