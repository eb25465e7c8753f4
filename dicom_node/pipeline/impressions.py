"""The impression of a result: drafted by a writer, put into its report, looked at once more."""

from __future__ import annotations

import traceback
from pathlib import Path

from ai_models.drafting.impression import Impression, Writer
from dicom_node.errors import NodeError, WorkerLost
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


def takes_a_draft(objects: Objects) -> bool:
    """Whether a report on what was found is among ``objects``: not of a text."""
    return any(kind in _REPORTS for kind, _ in objects)


def with_impressions(
    objects: Objects, findings: Findings, request: ResultRequest, writer: Writer
) -> tuple[Objects, Impression]:
    """``objects`` with the impression in the report on what was found, and that impression.

    Whatever goes wrong with a draft, the report as it was is good, and stands: the impression says
    why (``gate.text``: the drafted report, read back, does not say what was kept of the draft).

    Raises
    ------
    WorkerLost
        ``worker.stopping``: the node is, and the job is done again.
    """
    try:
        return _drafted(objects, findings, request, writer)
    except WorkerLost:
        raise
    except NodeError as problem:
        return objects, _not_drafted(writer, problem.reason, str(problem))
    # A boundary: what a writer, or its words, provoke must not cost the report.
    except Exception as problem:  # noqa: BLE001
        place = traceback.extract_tb(problem.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        name = type(problem).__name__
        return objects, _not_drafted(writer, f"unexpected.{name}", f"{name} at {where}")


def _not_drafted(writer: Writer, reason: str, why: str) -> Impression:
    return Impression((), writer.identity, fallback=reason, why=why)


def _drafted(
    objects: Objects, findings: Findings, request: ResultRequest, writer: Writer
) -> tuple[Objects, Impression]:
    kind = next(one for one in (kind for kind, _ in objects) if one in _REPORTS)
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
