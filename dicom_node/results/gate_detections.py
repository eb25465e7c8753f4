"""The last look at a report on detections: is each finding where, and as likely, as was found?

What holds for every report on segments is checked by ``gate_report.check_findings``. Here the
prediction itself is compared: its boxes in the patient with the mask, by the geometry of the
headers alone, and its scores with the numbers of the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ai_models.array.labels import BoolArray, mask_of
from ai_models.types import Detection, LabelMap
from dicom_node.results.gate_geometry import Grid, source_grid
from dicom_node.results.gate_reading import read_back, refused

_GROUP, _TRACKING_UID, _PROBABILITY = "125007", "112040", "122157"


def check_detections(
    report: Dataset | bytes | Path,
    source_images: Sequence[Dataset],
    frame_numbers: Sequence[int],
    label_map: LabelMap,
    detections: Sequence[Detection],
    segmentation: Dataset,
) -> None:
    """Refuse a report on detections that gives one another place or probability.

    Parameters
    ----------
    report
        Volumetric, on a segmentation that has passed ``check_segmentation`` with ``label_map``.
    label_map
        ``(slices, rows, columns)`` on the source slices; the label of ``detections[i]`` is
        ``i + 1``.

    Raises
    ------
    GateRefused
        ``gate.unreadable``; ``gate.labels``: a finding has no segment or no group;
        ``gate.geometry``: the centre of a finding is not in its segment; ``gate.number``: a
        probability is not the score of its finding.
    """
    grid = source_grid(source_images, frame_numbers)
    if grid is None:
        raise refused("geometry", "boxes in the patient on images that lie nowhere")
    described = segmentation.SegmentSequence
    segments = {int(one.SegmentNumber): str(one.TrackingUID) for one in described}
    said = _probabilities(read_back(report))
    for number, one in enumerate(detections, start=1):
        uid = segments.get(number, "")
        if uid not in said:
            raise refused("labels", f"finding {number} has no segment or no measurement group")
        if not _is_inside(mask_of(label_map, number), grid, one):
            raise refused("geometry", f"the centre of finding {number} is not in its segment")
        for text in said[uid]:
            decimals = len(text.partition(".")[2])
            if not abs(float(text) - one.score) <= 0.5 * 10.0**-decimals + 1e-6:
                raise refused("number", f"the probability of finding {number} is another")


def _is_inside(mask: BoolArray, grid: Grid, one: Detection) -> bool:
    """Whether a voxel of the mask lies within one voxel of the centre of a finding.

    Slices of a source that is not evenly spaced need not pass through the centre itself.
    """
    offsets = np.asarray(one.center_lps_mm) - grid.positions_mm
    normal = np.cross(*grid.directions)
    across_mm = offsets @ normal
    step_mm = float(np.abs(np.diff(grid.positions_mm @ normal)).max(initial=0.0))
    reach_mm = float(np.linalg.norm([*grid.spacing_mm, step_mm]))
    for index in np.flatnonzero(np.abs(across_mm) <= reach_mm):
        rows, columns = np.nonzero(mask[index])
        along_column_mm, along_row_mm = grid.directions[::-1] @ offsets[index]
        away_mm = np.linalg.norm(
            [rows * grid.spacing_mm[0] - along_column_mm,
             columns * grid.spacing_mm[1] - along_row_mm,
             np.full(len(rows), across_mm[index])], axis=0,
        )
        if (away_mm <= reach_mm).any():
            return True
    return False


def _probabilities(report: Dataset) -> dict[str, list[str]]:
    """Tracking UID of each group to the probabilities in it, as they are written."""
    found: dict[str, list[str]] = {}
    for section in report.get("ContentSequence", []):
        for group in section.get("ContentSequence", []):
            if _name(group) != _GROUP:
                continue
            items = group.ContentSequence
            uid = next((str(one.UID) for one in items if _name(one) == _TRACKING_UID), "")
            found.setdefault(uid, []).extend(
                str(one.MeasuredValueSequence[0].NumericValue)
                for one in items if _name(one) == _PROBABILITY and one.ValueType == "NUM"
            )
    return found


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
