"""Where the outlines of a planar report lie in the patient, over every way that a grid can lie.

Read here from the encoded report, and placed by the image that it names, with pydicom and numpy.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.results.report import build_planar_report
from tests.results import corner_phantom
from tests.results.corner_phantom import Pose
from tests.results.samples import named

Points = npt.NDArray[np.float64]


def _outlines(report: Dataset) -> list[tuple[str, int, Points]]:
    """(SOP Instance UID, frame, points (n, 2) as column, row) of each group, in order."""
    buffer = io.BytesIO()
    report.save_as(buffer, enforce_file_format=True)
    found = []
    for region in named(pydicom.dcmread(io.BytesIO(buffer.getvalue())), "111030"):
        (image,) = region.ContentSequence
        reference = image.ReferencedSOPSequence[0]
        points = np.asarray(region.GraphicData, float).reshape(-1, 2)
        frame = int(reference.get("ReferencedFrameNumber", 1))
        found.append((str(reference.ReferencedSOPInstanceUID), frame, points))
    return found


def _centroid(points: Points) -> Points:
    """Of the area inside a closed polygon."""
    here, there = points[:-1], points[1:]
    cross = here[:, 0] * there[:, 1] - there[:, 0] * here[:, 1]
    centroid: Points = ((here + there) * cross[:, None]).sum(axis=0) / (3 * cross.sum())
    return centroid


def _slice_of(pose: Pose, uid: str, frame: int) -> int:
    uids = [str(dataset.SOPInstanceUID) for dataset in pose.datasets]
    if len(uids) > 1:
        return uids.index(uid)
    assert uid == uids[0]
    return list(pose.frame_numbers).index(frame)


@pytest.mark.parametrize("name", corner_phantom.NAMES)
def test_every_outline_lies_on_the_corner_that_it_is_of(name: str) -> None:
    pose = corner_phantom.pose(name)
    report = build_planar_report(
        corner_phantom.request_for(pose), pose.label_map, series_number=9003
    )
    assert report is not None
    outlines = _outlines(report)
    assert len(outlines) == len(corner_phantom.LABELS)
    for label, (uid, frame, points) in zip(corner_phantom.LABELS, outlines, strict=True):
        number = _slice_of(pose, uid, frame)
        section = np.zeros_like(pose.label_map)
        section[number] = pose.label_map[number]
        # The corner of the first pixel is 0, 0, its centre 0.5, 0.5 (PS3.3 C.18.6.1.2).
        column, row = _centroid(points) - 0.5
        found_mm = pose.positions_mm[number] + row * pose.steps_mm[1] + column * pose.steps_mm[2]
        expected_mm = corner_phantom.centres_mm(pose, section)[label.value]
        to_index = np.linalg.inv(pose.steps_mm.T)
        assert np.abs(to_index @ (found_mm - expected_mm)).max() < 0.01
        assert np.abs(to_index @ (found_mm - pose.corners_mm[label.value]))[1:].max() < 0.5
