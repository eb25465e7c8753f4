"""Where the pixels lie that a picture or a graphic names, by the geometry of the source itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from tests.results import corner_phantom

Point = npt.NDArray[np.float64]


def plane_of(pose: corner_phantom.Pose, reference: Dataset) -> tuple[Any, Any, Any]:
    """Position, direction cosines and spacing of the image or frame that is referred to."""
    (image,) = (
        one for one in pose.datasets if one.SOPInstanceUID == reference.ReferencedSOPInstanceUID
    )
    if "ReferencedFrameNumber" not in reference:
        return image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing
    frame = image.PerFrameFunctionalGroupsSequence[int(reference.ReferencedFrameNumber) - 1]
    shared = image.SharedFunctionalGroupsSequence[0]
    return (
        frame.PlanePositionSequence[0].ImagePositionPatient,
        shared.PlaneOrientationSequence[0].ImageOrientationPatient,
        shared.PixelMeasuresSequence[0].PixelSpacing,
    )


def to_patient(plane: tuple[Any, Any, Any], place: npt.NDArray[Any]) -> Point:
    """LPS mm of a (row, column) index, whole numbers at pixel centres (PS3.3 C.7.6.2.1.1)."""
    position, cosines, spacing = (np.asarray(one, float) for one in plane)
    along = place[1] * spacing[1] * cosines[:3] + place[0] * spacing[0] * cosines[3:]
    return np.asarray(position + along)
