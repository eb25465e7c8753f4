"""Each connected part of a label as a finding of its own: nodules, lesions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ai_models.array.finding_labels import numbered_label
from ai_models.array.labels import is_overlapping, mask_of, overlapping, values_in
from ai_models.types import Label, LabelMap

MOST_INSTANCES = 64
# Parts that touch by an edge or a corner only are one: a thin bridge may lie across the grid.
_TOUCHING = ndimage.generate_binary_structure(3, 3)


@dataclass(frozen=True)
class _Part:
    """A connected part: of which label, where, and how many voxels."""

    kind: Label
    place: tuple[slice, slice, slice]
    mask: npt.NDArray[np.bool_]
    voxels: int
    first: tuple[int, ...]


def separated(
    label_map: LabelMap, labels: Sequence[Label]
) -> tuple[LabelMap, tuple[Label, ...], tuple[str, ...]]:
    """The map with one label for each connected part, its labels, and what is to be said of it.

    Parts hang together through faces, edges and corners. They are numbered within their label by
    volume, the largest first; of the same volume by place. Behind them come the labels of which
    there is nothing, which have no voxels. Of more than `MOST_INSTANCES` parts the largest are
    kept, and the note says how many there were.
    """
    by_value = {label.value: label for label in labels}
    parts = [
        part for value in values_in(label_map)
        for part in _parts(mask_of(label_map, value), by_value[value])
    ]
    notes: tuple[str, ...] = ()
    found = len(parts)
    parts.sort(key=lambda part: (-part.voxels, part.kind.value, part.first))
    if found > MOST_INSTANCES:
        parts = parts[:MOST_INSTANCES]
        notes = (
            f"{found} separate findings: the largest {MOST_INSTANCES} are told of, "
            f"{found - MOST_INSTANCES} smaller ones are not",
        )
    parts.sort(key=lambda part: part.kind.value)
    named, counts = [], dict.fromkeys(by_value, 0)
    for value, part in enumerate(parts, start=1):
        counts[part.kind.value] += 1
        named.append(numbered_label(part.kind, value, counts[part.kind.value]))
    absent = [label for label in labels if not counts[label.value]]
    named += [replace(one, value=value) for value, one in enumerate(absent, start=len(named) + 1)]
    return _drawn(parts, label_map), tuple(named), notes


def _parts(mask: npt.NDArray[np.bool_], kind: Label) -> list[_Part]:
    numbered, _ = ndimage.label(mask, structure=_TOUCHING)
    parts = []
    for number, place in enumerate(ndimage.find_objects(numbered), start=1):
        own = numbered[place] == number
        corner = [side.start for side in place]
        first = np.unravel_index(int(own.argmax()), own.shape)
        where = tuple(int(start + step) for start, step in zip(corner, first, strict=True))
        parts.append(_Part(kind, place, own, int(np.count_nonzero(own)), where))
    return parts


def _drawn(parts: Sequence[_Part], label_map: LabelMap) -> LabelMap:
    if not is_overlapping(label_map):
        drawn = np.zeros(label_map.shape, dtype=np.uint8)
        for value, part in enumerate(parts, start=1):
            drawn[part.place][part.mask] = value
        return drawn
    bits = overlapping({}, label_map.shape)
    for value, part in enumerate(parts, start=1):
        bits[part.place][part.mask] |= np.uint64(1 << (value - 1))
    return bits


def of_kinds(
    label_map: LabelMap, labels: Sequence[Label], kinds: Sequence[Label]
) -> LabelMap:
    """The map by the labels of the card again: what `separated` told apart, put together.

    ``labels`` are those of the prediction, ``kinds`` those of the card.
    """
    by_value = {
        label.value: kind.value for label in labels for kind in kinds
        if label.name == kind.name or label.name in _names_of(kind, len(labels))
    }
    if all(own == value for own, value in by_value.items()):
        return label_map
    if is_overlapping(label_map):
        masks = {
            kind.value: np.logical_or.reduce([
                mask_of(label_map, own) for own, value in by_value.items() if value == kind.value
            ]) for kind in kinds if kind.value in by_value.values()
        }
        return overlapping(masks, label_map.shape)
    table = np.zeros(256, dtype=np.uint8)
    table[list(by_value)] = list(by_value.values())
    return table[label_map]


def _names_of(kind: Label, count: int) -> frozenset[str]:
    return frozenset(
        numbered_label(kind, 1, number).name for number in range(1, count + 1)
    )
