"""What highdicom settles for every slice of a stack, from what it authored for the first one.

highdicom asks of each source image again whether it has one frame, which takes most of the time
for a stack of hundreds. What it says of the first slice holds for all of them but for these:
which image a frame comes from, where it lies, its place in the order of the slices, and what all
positions together say about a volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dicom_node.errors import UnsuitableInput
from sr_templates.encoded import item_of, text_element

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SOP_CLASS_UID, _SOP_INSTANCE_UID = 0x00081150, 0x00081155
_IMAGE_POSITION, _DIMENSION_INDEX_VALUES = 0x00200032, 0x00209157


def lay_over_stack(
    skeleton: Any, sources: Sequence[Dataset], shown: Sequence[int], *, of_one_segment: bool
) -> Iterator[tuple[int, Dataset]]:
    """Describe the whole stack in ``skeleton``, authored for the first slice.

    Parameters
    ----------
    sources
        The slices, normalised.
    shown
        The slices that have frames, rising.
    of_one_segment
        Whether frames differ by nothing but their place.

    Yields
    ------
    tuple of int and Dataset
        Each shown slice with its functional groups, in the order of the dimension index: one
        data set, changed from slice to slice.

    Raises
    ------
    UnsuitableInput
        ``input.duplicate_positions``.
    """
    from pydicom.valuerep import DS

    positions = [
        [DS(value, auto_format=True) for value in source.ImagePositionPatient] for source in sources
    ]
    positions_mm = np.asarray(positions, float)
    _name_sources(skeleton, sources)
    _describe_volume(skeleton, sources[0], positions_mm, shown, of_one_segment=of_one_segment)
    group = skeleton.PerFrameFunctionalGroupsSequence[0]
    origin = group.DerivationImageSequence[0].SourceImageSequence[0]
    content, plane = group.FrameContentSequence[0], group.PlanePositionSequence[0]
    has_segment = content[_DIMENSION_INDEX_VALUES].VM > 1
    visible = set(shown)
    in_order = [index for index in _along_normal(skeleton, positions_mm) if index in visible]
    for place, index in enumerate(in_order, start=1):
        origin[_SOP_CLASS_UID].value = sources[index].SOPClassUID
        origin[_SOP_INSTANCE_UID].value = sources[index].SOPInstanceUID
        plane[_IMAGE_POSITION].value = positions[index]
        content[_DIMENSION_INDEX_VALUES].value = [1, place] if has_segment else place
        yield index, group


def _name_sources(skeleton: Any, sources: Sequence[Dataset]) -> None:
    references = [
        item_of(
            text_element(_SOP_CLASS_UID, "UI", source.SOPClassUID),
            text_element(_SOP_INSTANCE_UID, "UI", source.SOPInstanceUID),
        )
        for source in sources
    ]
    skeleton.SourceImageSequence = references
    skeleton.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references


def _describe_volume(
    skeleton: Any,
    first: Dataset,
    positions_mm: npt.NDArray[np.float64],
    shown: Sequence[int],
    *,
    of_one_segment: bool,
) -> None:
    """Spacing Between Slices of the stack, and whether the frames are one regular volume."""
    from highdicom.spatial import get_volume_positions
    from pydicom.valuerep import format_number_as_ds

    cosines = _cosines(skeleton)
    measures = skeleton.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" not in first:
        measures.pop("SpacingBetweenSlices", None)
        spacing_mm, _ = get_volume_positions(positions_mm.tolist(), cosines)
        if spacing_mm is not None:
            measures.SpacingBetweenSlices = format_number_as_ds(spacing_mm)
    if of_one_segment and len(shown) > 1:
        spacing_mm, _ = get_volume_positions(
            positions_mm[list(shown)].tolist(), cosines, sort=False
        )
        if spacing_mm is not None and spacing_mm > 0.0:
            skeleton.DimensionOrganizationType = "3D"


def _along_normal(skeleton: Any, positions_mm: npt.NDArray[np.float64]) -> list[int]:
    from highdicom.spatial import VOLUME_INDEX_CONVENTION, get_normal_vector

    normal = get_normal_vector(_cosines(skeleton), index_convention=VOLUME_INDEX_CONVENTION)
    _, order = np.unique(positions_mm @ normal, return_index=True)
    if len(order) != len(positions_mm):
        raise UnsuitableInput(
            "two slices lie at the same place", reason="input.duplicate_positions"
        )
    indices: list[int] = order.tolist()
    return indices


def _cosines(skeleton: Any) -> Any:
    orientation = skeleton.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    return orientation.ImageOrientationPatient
