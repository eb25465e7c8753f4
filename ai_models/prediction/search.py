"""A search in one part of the body: what the network marks elsewhere is no finding.

The part is found by a rule without learning, on the grid of the input, so that the result can say
what was looked at. The rule may miss a part of it that disease has filled; so a finding counts as
soon as it comes near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.labels import is_overlapping, mask_of, overlapping, values_in
from ai_models.array.lungs_reference import LEFT_LUNG, RIGHT_LUNG, lungs_reference
from ai_models.card_input import Search
from ai_models.types import Affine, LabelMap, ModelError, Volume

BoolArray = npt.NDArray[np.bool_]
_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class Searched:
    """Where findings may lie.

    Attributes
    ----------
    mask
        ``(slices, rows, columns)``, on the grid of the input.
    affine_lps
        Index to mm of that grid.
    margin_mm
        A finding that comes as near counts.
    note
        What was looked at, for the reader of the result.
    """

    mask: BoolArray
    affine_lps: Affine
    margin_mm: float
    note: str

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """Of the grid, along each of its axes."""
        return np.asarray(np.linalg.norm(self.affine_lps[:3, :3], axis=0))


def searched(volume: Volume, entry: Search) -> Searched:
    """The part of ``volume``, a CT in HU, that ``entry`` names.

    Raises
    ------
    ModelError
        ``input.nothing_to_search``: the volume shows less of it than the card asks for.
    """
    lungs = lungs_reference(volume.array, volume.affine_lps)
    voxel_ml = float(abs(np.linalg.det(volume.affine_lps[:3, :3]))) / 1000.0
    right, left = (
        np.count_nonzero(lungs == side) * voxel_ml for side in (RIGHT_LUNG, LEFT_LUNG)
    )
    if right + left < entry.min_volume_ml:
        raise ModelError(
            f"{right + left:.0f} ml of lungs are outlined, {entry.min_volume_ml:g} ml are needed "
            "to search them", reason="input.nothing_to_search",
        )
    note = (
        f"Searched: the lungs, as a rule without learning outlines them (right {right:.0f} ml, "
        f"left {left:.0f} ml), and what reaches within {entry.margin_mm:g} mm of them. Nothing was "
        "looked for elsewhere."
    )
    return Searched(lungs > 0, volume.affine_lps, entry.margin_mm, note)


def parts_within(label_map: LabelMap, where: Searched) -> tuple[LabelMap, int]:
    """``label_map`` without the connected parts of each label that do not come near, and how many
    these are. Parts hang together through faces, edges and corners."""
    if not is_overlapping(label_map):
        kept, dropped = label_map.copy(), 0
        for value in values_in(label_map):
            away, count = _parts_away(label_map == value, where)
            kept[away] = 0
            dropped += count
        return kept, dropped
    masks, dropped = {}, 0
    for value in values_in(label_map):
        mask = mask_of(label_map, value)
        away, count = _parts_away(mask, where)
        masks[value] = mask & ~away
        dropped += count
    return overlapping(masks, where.mask.shape), dropped


def _parts_away(mask: BoolArray, where: Searched) -> tuple[BoolArray, int]:
    away = np.zeros(mask.shape, dtype=np.bool_)
    parts, _ = ndimage.label(mask, _TOUCHING)
    count = 0
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        part = parts[place] == number
        if not _is_near(part, place, where):
            away[place] |= part
            count += 1
    return away, count


def _is_near(part: BoolArray, place: tuple[slice, ...], where: Searched) -> bool:
    """Whether a voxel of ``part``, which lies at ``place``, is within the margin."""
    steps = where.spacing_mm
    reach = np.ceil(where.margin_mm / steps).astype(int)
    wider = tuple(
        slice(max(side.start - more, 0), side.stop + more)
        for side, more in zip(place, reach.tolist(), strict=True)
    )
    around = where.mask[wider]
    if not around.any():
        return False
    distance = ndimage.distance_transform_edt(~around, steps)
    inner = tuple(
        slice(side.start - wide.start, side.stop - wide.start)
        for side, wide in zip(place, wider, strict=True)
    )
    return bool((distance[inner][part] <= where.margin_mm).any())


def box_is_within(to_patient: Affine, where: Searched) -> bool:
    """Whether a box comes near; ``to_patient`` maps the unit cube to it, in LPS mm.

    The box is widened by the margin, to whole voxels of the grid.
    """
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 3)
    placed = corners @ to_patient[:3, :3].T + to_patient[:3, 3]
    to_index = np.linalg.inv(where.affine_lps)
    index = placed @ to_index[:3, :3].T + to_index[:3, 3]
    reach = where.margin_mm / where.spacing_mm
    low = np.maximum(np.floor(index.min(axis=0) - reach + 0.5), 0).astype(int)
    high = np.maximum(np.ceil(index.max(axis=0) + reach + 0.5), 0).astype(int)
    place = tuple(slice(first, end) for first, end in zip(low, high, strict=True))
    return bool(where.mask[place].any())
