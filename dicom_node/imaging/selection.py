"""Which planes of a series form its stack, and what is set aside with a note.

In this order: objects without pixels, localizers, planes without geometry, another orientation,
another matrix, phases, copies. Only a small minority (at most a tenth, or three planes) that
cannot belong to the stack is set aside; anything else is declined, so that no slice of the
patient is dropped in silence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from dicom_node.imaging.geometry import VolumeLimits, mean_orientation
from dicom_node.imaging.planes import PHASE_KEYWORDS, InputNote, Plane, decline

SamePixels = Callable[[Plane, Plane], bool]
_OTHER_PLANE_COSINE = float(np.cos(np.radians(10)))
_SAME_PLACE_MM = 0.02


def select_stack(
    planes: Sequence[Plane], limits: VolumeLimits, same_pixels: SamePixels | None = None
) -> tuple[list[Plane], list[InputNote]]:
    """Planes of one orientation, matrix, frame of reference and phase, each position once.

    ``same_pixels`` compares two planes at one position; without it they are taken for copies
    (and noted), as a check without pixels cannot know.

    Raises
    ------
    UnsuitableInput
        ``input.localizer_only``, ``input.no_geometry``, ``input.mixed_orientation``,
        ``input.mixed_size``, ``input.mixed_frame_of_reference``,
        ``input.mixed_positions``, ``input.duplicate_positions``.
    """
    notes: list[InputNote] = []
    kept = _without_localizers(_distinct(planes, notes), notes)
    kept = _with_geometry(kept, notes)
    kept = _one_orientation(kept, limits, notes)
    kept = _one_size(kept, notes)
    if len({plane.frame_of_reference_uid for plane in kept}) > 1:
        raise decline("mixed_frame_of_reference", "the images name several frames of reference")
    if not kept[0].frame_of_reference_uid:
        notes.append(InputNote("input.no_frame_of_reference", "no Frame of Reference UID"))
    return _one_per_position(kept, limits, notes, same_pixels), notes


def _distinct(planes: Sequence[Plane], notes: list[InputNote]) -> list[Plane]:
    """Each SOP instance and frame once; the same file twice is no second slice."""
    seen: dict[tuple[str, int], Plane] = {}
    for plane in planes:
        key = (plane.sop_instance_uid or str(plane.index), plane.frame_number)
        seen.setdefault(key, plane)
    if len(seen) < len(planes):
        text = f"{len(planes) - len(seen)} repeated instances set aside"
        notes.append(InputNote("input.repeated_instances", text))
    return list(seen.values())


def _without_localizers(planes: list[Plane], notes: list[InputNote]) -> list[Plane]:
    kept = [plane for plane in planes if not plane.is_localizer]
    if planes and not kept:
        raise decline("localizer_only", "the series holds localizers only")
    if len(kept) < len(planes):
        text = f"{len(planes) - len(kept)} localizers set aside"
        notes.append(InputNote("input.localizer_dropped", text))
    return kept


def _with_geometry(planes: list[Plane], notes: list[InputNote]) -> list[Plane]:
    """Planes with geometry; those without only where their matrix is another one too."""
    kept = [plane for plane in planes if plane.has_geometry]
    sizes = {(plane.rows, plane.columns) for plane in kept}
    lost = [plane for plane in planes if not plane.has_geometry]
    if not kept or any((plane.rows, plane.columns) in sizes for plane in lost):
        raise decline(
            "no_geometry", f"{len(lost)} images lack position, orientation or pixel spacing"
        )
    if lost:
        _require_minority(lost, planes, "no_geometry", "images without position")
        text = f"{len(lost)} images without position set aside"
        notes.append(InputNote("input.unplaced_dropped", text))
    return kept


def _require_minority(
    lost: Sequence[Plane], planes: Sequence[Plane], reason: str, what: str
) -> None:
    few = max(len(planes) // 10, min(3, (len(planes) - 1) // 4))
    if len(lost) > few:
        raise decline(reason, f"{len(lost)} of {len(planes)} are {what}")


def _one_orientation(
    planes: list[Plane], limits: VolumeLimits, notes: list[InputNote]
) -> list[Plane]:
    """The planes of the commonest orientation, all within the tolerance of their mean."""
    cosines = np.array([plane.orientation for plane in planes], float)
    if float(np.ptp(cosines, axis=0).max()) <= limits.orientation_tolerance:
        return planes
    common = np.array(Counter(plane.orientation for plane in planes).most_common(1)[0][0])
    normals = np.cross(cosines[:, :3], cosines[:, 3:])
    normal = np.cross(common[:3], common[3:])
    turned = np.abs(normals @ normal) < _OTHER_PLANE_COSINE
    kept = [plane for plane, other in zip(planes, turned, strict=True) if not other]
    lost = [plane for plane, other in zip(planes, turned, strict=True) if other]
    if lost:
        _require_minority(lost, planes, "mixed_orientation", "planes of another orientation")
        text = f"{len(lost)} images of another orientation set aside"
        notes.append(InputNote("input.other_orientation_dropped", text))
    near = np.array([plane.orientation for plane in kept], float)
    worst = float(np.abs(near - near.mean(axis=0)).max())
    if worst > limits.orientation_tolerance:
        raise decline("mixed_orientation", f"direction cosines differ by {worst:.2g}")
    return kept


def _one_size(planes: list[Plane], notes: list[InputNote]) -> list[Plane]:
    """The planes of the commonest matrix; others only if they cannot continue the stack."""
    sizes = Counter((plane.rows, plane.columns) for plane in planes)
    size = sizes.most_common(1)[0][0]
    if len(sizes) == 1:
        return planes
    kept = [plane for plane in planes if (plane.rows, plane.columns) == size]
    lost = [plane for plane in planes if (plane.rows, plane.columns) != size]
    _require_minority(lost, planes, "mixed_size", "images of another matrix size")
    _, _, normal = mean_orientation(kept)
    heights = np.sort([float(np.dot(plane.position_mm, normal)) for plane in kept])
    gap_mm = float(np.median(np.diff(heights))) if len(heights) > 1 else 0.0
    for plane in lost:
        nearest_mm = float(np.abs(heights - np.dot(plane.position_mm, normal)).min())
        if 0.5 * gap_mm < nearest_mm < 1.5 * gap_mm:
            raise decline("mixed_size", "a slice of the stack has another matrix size")
    text = f"{len(lost)} images of another matrix size set aside"
    notes.append(InputNote("input.other_size_dropped", text))
    return kept


def _one_per_position(
    planes: list[Plane],
    limits: VolumeLimits,
    notes: list[InputNote],
    same_pixels: SamePixels | None,
) -> list[Plane]:
    groups = by_position(planes)
    if len(groups) == len(planes):
        return planes
    for group in groups:
        places = np.array([plane.position_mm for plane in group])
        if float(np.ptp(places, axis=0).max()) > limits.position_tolerance_mm:
            raise decline("mixed_positions", "images of one height lie beside each other")
    phase = _first_phase(groups, notes)
    if phase is not None:
        return phase
    kept = []
    for group in groups:
        first = group[0]
        if same_pixels and not all(same_pixels(first, other) for other in group[1:]):
            raise decline(
                "duplicate_positions", "several different images lie at the same position"
            )
        kept.append(first)
    code = "input.copies_dropped" if same_pixels else "input.copies_unchecked"
    notes.append(InputNote(code, f"{len(planes) - len(kept)} copies of slices set aside"))
    return kept


def by_position(planes: list[Plane]) -> list[list[Plane]]:
    """Planes gathered by their place along and across the normal."""
    _, _, normal = mean_orientation(planes)
    positions = np.array([plane.position_mm for plane in planes])
    order = np.argsort(positions @ normal, kind="stable")
    groups: list[list[Plane]] = []
    last = None
    for index in order:
        here = positions[index]
        if last is not None and float(np.dot(here - last, normal)) <= _SAME_PLACE_MM:
            groups[-1].append(planes[int(index)])
            continue
        groups.append([planes[int(index)]])
        last = here
    for group in groups:
        group.sort(key=lambda plane: (plane.index, plane.frame_number))
    return groups


def _first_phase(groups: list[list[Plane]], notes: list[InputNote]) -> list[Plane] | None:
    """The first of several complete stacks, if one attribute tells them apart."""
    count = len(groups[0])
    if any(len(group) != count for group in groups):
        return None
    for keyword in PHASE_KEYWORDS:
        phases: dict[str, list[Plane]] = defaultdict(list)
        for group in groups:
            for plane in group:
                phases[plane.phases.get(keyword, "")].append(plane)
        complete = len(phases) == count and all(
            len({plane.phases.get(keyword, "") for plane in group}) == count for group in groups
        )
        if complete and "" not in phases:
            first = min(phases, key=_phase_order)
            text = f"{count} phases told apart by {keyword}; the first is used"
            notes.append(InputNote("input.first_phase_used", text))
            return phases[first]
    return None


def _phase_order(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
