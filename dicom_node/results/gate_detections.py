"""The last look at a report on detections: is each finding where, and as likely, as was found?

What holds for every report on segments is checked by ``gate_report.check_findings``. Here the
prediction itself is compared: its boxes in the patient with the mask, by the geometry of the
headers alone, and its scores with the numbers of the report. Shapes that overlap are cut, so that
the centre of a finding may lie in another one; but a segment never leaves its own box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ai_models.array.labels import mask_of, occupied_slices
from ai_models.types import Detection, LabelMap
from dicom_node.results.explicit_decoding import Part, items_of
from dicom_node.results.gate_geometry import Grid, Vector, source_grid
from dicom_node.results.gate_reading import Given, read_back, refused

Occupied = npt.NDArray[np.bool_]

_GROUP, _TRACKING_UID, _PROBABILITY = "125007", "112040", "122157"


def check_detections(
    report: Given,
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
        ``gate.geometry``: a segment leaves the box of its finding by more than a voxel, or the
        centre of a finding is in no segment; ``gate.number``: a probability is not the score of
        its finding.
    """
    grid = source_grid(source_images, frame_numbers)
    if grid is None:
        raise refused("geometry", "boxes in the patient on images that lie nowhere")
    described = segmentation.SegmentSequence
    segments = {int(one.SegmentNumber): str(one.TrackingUID) for one in described}
    said = _probabilities(read_back(report))
    occupied = occupied_slices(label_map)
    for number, one in enumerate(detections, start=1):
        uid = segments.get(number, "")
        if uid not in said:
            raise refused("labels", f"finding {number} has no segment or no measurement group")
        _check_place(number, one, label_map, occupied, grid)
        for text in said[uid]:
            decimals = len(text.partition(".")[2])
            if not abs(float(text) - one.score) <= 0.5 * 10.0**-decimals + 1e-6:
                raise refused("number", f"the probability of finding {number} is another")


def _check_place(
    number: int, one: Detection, label_map: LabelMap, occupied: Occupied, grid: Grid
) -> None:
    """Refuse a segment that is somewhere else than its finding.

    All is meant to within one voxel: slices of a source that is not evenly spaced need not pass
    through the box at all.
    """
    normal = np.cross(*grid.directions)
    step_mm = float(np.abs(np.diff(grid.positions_mm @ normal)).max(initial=0.0))
    reach_mm = float(np.linalg.norm([*grid.spacing_mm, step_mm]))
    axes = np.stack([*grid.directions[::-1], normal])
    half_mm = 0.5 * np.abs(axes @ one.box_lps[:3, :3]).sum(axis=1)
    nearest_mm = np.inf
    for index in np.flatnonzero(occupied[:, number]):
        away_mm = _from_centre(mask_of(label_map[index], number), int(index), one, grid, axes)
        if (np.abs(away_mm) > half_mm + reach_mm).any():
            raise refused("geometry", f"the segment of finding {number} leaves its box")
        nearest_mm = min(nearest_mm, float(np.linalg.norm(away_mm, axis=1).min()))
    if nearest_mm == np.inf:
        raise refused("geometry", f"finding {number} is not drawn")
    if nearest_mm <= reach_mm:
        return
    # A smaller finding, or a likelier one in the same place, is drawn over its centre.
    for index in np.flatnonzero(occupied.any(axis=1)):
        away_mm = _from_centre(label_map[index] != 0, int(index), one, grid, axes)
        if (np.linalg.norm(away_mm, axis=1) <= reach_mm).any():
            return
    raise refused("geometry", f"the centre of finding {number} is in no segment")


def _from_centre(
    mask: npt.NDArray[np.bool_], index: int, one: Detection, grid: Grid, axes: Vector
) -> Vector:
    """From the centre of a finding to the pixels of ``mask`` on slice ``index``: ``(n, 3)`` mm
    along the columns and the rows of the images and across them."""
    across = axes @ (grid.positions_mm[index] - np.asarray(one.center_lps_mm))
    pixels = np.argwhere(mask) * grid.spacing_mm
    away_mm: Vector = np.column_stack([pixels, np.zeros(len(pixels))]) + across
    return away_mm


def _probabilities(report: Dataset) -> dict[str, list[str]]:
    """Tracking UID of each group to the probabilities in it, as they are written."""
    found: dict[str, list[str]] = {}
    for section in items_of(report, "ContentSequence"):
        for group in items_of(section, "ContentSequence"):
            if _name(group) != _GROUP:
                continue
            items = items_of(group, "ContentSequence")
            uid = next((str(one.UID) for one in items if _name(one) == _TRACKING_UID), "")
            found.setdefault(uid, []).extend(
                str(one.MeasuredValueSequence[0].NumericValue)
                for one in items if _name(one) == _PROBABILITY and one.ValueType == "NUM"
            )
    return found


def _name(item: Part) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
