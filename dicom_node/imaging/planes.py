"""The image planes of a series: one per slice of a classic object, one per enhanced frame.

A plane carries what the geometry checks need, read once; positions and directions are LPS
millimetres (PS3.3 C.7.6.2.1.1), pixel spacing is (row, column).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.errors import UnsuitableInput
from dicom_node.imaging.elements import number, numbers, sequence, text, unsigned

FloatVector = npt.NDArray[np.float64]

PHASE_KEYWORDS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "AcquisitionNumber",
    "AcquisitionDateTime",
    "AcquisitionTime",
)
# What says when a phase was, beside what tells phases apart.
TIME_KEYWORDS = ("AcquisitionDate", "TriggerTime", "TemporalPositionTimeOffset")
# Of UL and FD, whose bytes are no text.
_BINARY = frozenset({"TemporalPositionIndex", "TemporalPositionTimeOffset"})
NOT_SOURCE_IMAGES = frozenset(
    (
        "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
        "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
        "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
    )
)


@dataclass(frozen=True)
class InputNote:
    """Something accepted that a reader of the result should know: stable code and a sentence."""

    code: str
    text: str


@dataclass(frozen=True)
class Plane:
    """One slice candidate.

    ``index`` is the position of its data set in the list that was given, ``frame_number`` its
    frame there (from 1). ``phases`` are the values that tell phases apart, by keyword.
    """

    index: int
    frame_number: int
    sop_instance_uid: str
    rows: int
    columns: int
    position_mm: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    pixel_spacing_mm: tuple[float, ...] = ()
    slice_thickness_mm: float | None = None
    slice_spacing_mm: float | None = None
    image_type: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""
    phases: dict[str, str] = field(default_factory=dict)

    @property
    def has_geometry(self) -> bool:
        """Whether position, orientation and pixel spacing are all there and usable."""
        return (
            len(self.position_mm) == 3
            and len(self.orientation) == 6
            and len(self.pixel_spacing_mm) == 2
            and min(self.pixel_spacing_mm) > 0
        )

    @property
    def is_localizer(self) -> bool:
        """Whether Image Type says LOCALIZER (PS3.3 C.8.2.1.1.1, C.8.3.1.1.1)."""
        return "LOCALIZER" in self.image_type


def decline(reason: str, message: str) -> UnsuitableInput:
    """The error for a series that must not be processed; ``reason`` without ``input.``."""
    return UnsuitableInput(message, reason=f"input.{reason}")


def planes_of(dataset: Dataset, index: int) -> list[Plane]:
    """Every plane of one data set.

    Raises
    ------
    UnsuitableInput
        ``input.multi_frame_without_geometry``: several frames without functional groups.
    """
    frames = number(dataset, "NumberOfFrames") or 1
    if "PerFrameFunctionalGroupsSequence" in dataset:
        return _enhanced_planes(dataset, index)
    if frames > 1:
        raise decline(
            "multi_frame_without_geometry",
            f"an object of {int(frames)} frames says nowhere where they lie",
        )
    return [_plane(dataset, index, 1, [dataset])]


def _plane(dataset: Dataset, index: int, frame_number: int, places: list[Dataset]) -> Plane:
    """Build a plane; each attribute is taken from the first place that has it."""

    def first(keyword: str) -> tuple[float, ...]:
        return next((found for place in places if (found := numbers(place, keyword))), ())

    def first_text(keyword: str) -> str:
        return next((found for place in places if (found := text(place, keyword))), "")

    def stated(keyword: str) -> str:
        if keyword not in _BINARY:
            return first_text(keyword)
        return next((f"{value:.17g}" for value in first(keyword)), "")

    thickness = first("SliceThickness")
    spacing = first("SpacingBetweenSlices")
    image_type = first_text("FrameType") or first_text("ImageType")
    return Plane(
        index=index,
        frame_number=frame_number,
        sop_instance_uid=text(dataset, "SOPInstanceUID"),
        rows=unsigned(dataset, "Rows"),
        columns=unsigned(dataset, "Columns"),
        position_mm=first("ImagePositionPatient"),
        orientation=first("ImageOrientationPatient"),
        pixel_spacing_mm=first("PixelSpacing"),
        slice_thickness_mm=thickness[0] if thickness and thickness[0] > 0 else None,
        slice_spacing_mm=abs(spacing[0]) if spacing and spacing[0] else None,
        image_type=tuple(part.strip().upper() for part in image_type.split("\\")),
        frame_of_reference_uid=first_text("FrameOfReferenceUID"),
        phases={
            key: value for key in (*PHASE_KEYWORDS, *TIME_KEYWORDS) if (value := stated(key))
        },
    )


_GROUPS = (
    "PixelMeasuresSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "FrameContentSequence",
    "TemporalPositionSequence",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "PETFrameTypeSequence",
)


def _enhanced_planes(dataset: Dataset, index: int) -> list[Plane]:
    """Planes of an enhanced or legacy-converted object (PS3.3 C.7.6.16)."""
    shared = sequence(dataset, "SharedFunctionalGroupsSequence")
    frames = sequence(dataset, "PerFrameFunctionalGroupsSequence")
    expected = int(number(dataset, "NumberOfFrames") or 0)
    if len(frames) != expected:
        raise decline(
            "frame_count",
            f"{expected} frames are announced, {len(frames)} are described",
        )
    common = _macro_items(shared[0]) if shared else []
    return [
        _plane(dataset, index, number_, [*_macro_items(frame), *common, dataset])
        for number_, frame in enumerate(frames, start=1)
    ]


def _macro_items(groups: Dataset) -> list[Dataset]:
    found: list[Any] = [sequence(groups, keyword)[:1] for keyword in _GROUPS]
    return [item for items in found for item in items]
