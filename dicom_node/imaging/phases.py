"""Images that show the same place at several times: the phases in order, on one grid.

They are one series, or several of one examination, each with one phase or more.

Phases are told apart and put in order by Temporal Position Identifier (or Temporal Position Index
of an enhanced object; PS3.3 C.7.6.17.1), else by the time of acquisition, else by Trigger Time.
With a time each visit of a position is a moment of its own, so the first visits of all positions
are the first phase, whatever the order in which slices were acquired. What cannot be told apart so
that every position is in every phase once is refused: a phase in another's place would be a wrong
curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from dicom_node.imaging.planes import InputNote, Plane, decline, planes_of
from dicom_node.imaging.reading import read_header
from dicom_node.imaging.selection import by_position
from dicom_node.imaging.times import moment
from dicom_node.imaging.volume import LoadedVolume, VolumeLimits, load_volume

_IDENTIFIERS = ("TemporalPositionIdentifier", "TemporalPositionIndex")
_HALF_A_DAY_S = 43_200.0
# Clocks tick in steps: what differs by less was written by two of them.
_SAME_MOMENT_S = 0.001
Key = tuple[str, int]


@dataclass(frozen=True)
class LoadedPhases:
    """Volumes in order of time, and seconds of each since the first, empty where not stated."""

    volumes: tuple[LoadedVolume, ...]
    times_s: tuple[float, ...]
    note: InputNote


@dataclass(frozen=True)
class _Order:
    """Planes of each phase in order, by what they were told apart, and when they were."""

    phases: tuple[tuple[Plane, ...], ...]
    by: str
    times_s: tuple[float, ...]


def load_phases(
    paths: Sequence[Path], limits: VolumeLimits, fewest: int, most: int,
    further: Sequence[Sequence[Path]] = (),
) -> LoadedPhases:
    """Read a series, and ``further`` ones, as phases, ``fewest`` to ``most`` of them.

    No phase lies in two series.

    Raises
    ------
    UnsuitableInput
        ``input.phases_unordered``: they cannot be told apart or put in order;
        ``input.too_few_phases``, ``input.too_many_phases``; and as `load_volume` for each.
    NotUnderstood, StorageFailed, WorkerLost
        As `load_volume`.
    """
    series_of = [number for number, each in enumerate((paths, *further)) for _ in each]
    paths = [path for each in (paths, *further) for path in each]
    planes = [
        plane
        for index, path in enumerate(paths)
        for plane in planes_of(read_header(path).dataset, index)
        if plane.has_geometry and not plane.is_localizer
    ]
    if not planes:
        raise decline("no_geometry", "no image says where it lies")
    order = ordered(planes)
    count = len(order.phases)
    if count < fewest:
        raise decline("too_few_phases", f"{count} phases, the model needs {fewest}")
    if count > most:
        raise decline("too_many_phases", f"{count} phases, the model allows {most}")
    if any(len({series_of[plane.index] for plane in phase}) > 1 for phase in order.phases):
        raise decline("phases_unordered", "the series were not acquired one after the other")
    volumes = tuple(_load(paths, phase, limits) for phase in order.phases)
    _check_one_grid(volumes)
    said = f"{count} phases in the order of {order.by}"
    said += f", from {1 + len(further)} series" if further else ""
    return LoadedPhases(volumes, order.times_s, InputNote("input.phases", said))


def ordered(planes: Sequence[Plane]) -> _Order:
    """Planes of one series as phases in order of time.

    Raises
    ------
    UnsuitableInput
        ``input.phases_unordered``.
    """
    groups = by_position(list(planes))
    count = len(groups[0])
    if any(len(group) != count for group in groups):
        raise decline(
            "phases_unordered", "some positions were acquired more often than others"
        )
    if count == 1:
        return _Order((tuple(group[0] for group in groups),), "acquisition", ())
    stamps = {plane_key(plane): _stamps(plane) for plane in planes}
    for keyword in _IDENTIFIERS:
        found = _by_identifier(groups, keyword)
        if found is not None:
            times, by = _times(found, stamps)
            if times and min(np.diff(times)) < -_SAME_MOMENT_S:
                raise decline(
                    "phases_unordered", f"{keyword} and {by} put the phases in another order"
                )
            return _Order(found, keyword, times)
    for by in ("AcquisitionDateTime", "AcquisitionTime", "TriggerTime"):
        seen = _by_time(groups, {key: told[by] for key, told in stamps.items() if by in told})
        if seen is not None:
            times, _ = _times(seen, {
                key: {by: told[by]} for key, told in stamps.items() if by in told
            })
            if times and min(np.diff(times)) > _SAME_MOMENT_S:
                return _Order(seen, by, times)
    raise decline(
        "phases_unordered",
        f"{count} images at every position, and neither Temporal Position, Acquisition Time nor "
        "Trigger Time put them in order",
    )


def plane_key(plane: Plane) -> Key:
    """What one plane of a series is known by."""
    return plane.sop_instance_uid or str(plane.index), plane.frame_number


def _by_identifier(
    groups: Sequence[Sequence[Plane]], keyword: str
) -> tuple[tuple[Plane, ...], ...] | None:
    """Phases by a number that every plane states, each once at every position."""
    phases: dict[float, list[Plane]] = {}
    for group in groups:
        for plane in group:
            value = _number(plane.phases.get(keyword, ""))
            if value is None:
                return None
            phases.setdefault(value, []).append(plane)
    if len(phases) != len(groups[0]):
        return None
    for group in groups:
        if len({_number(plane.phases[keyword]) for plane in group}) != len(group):
            return None
    return tuple(tuple(phases[value]) for value in sorted(phases))


def _by_time(
    groups: Sequence[Sequence[Plane]], at: Mapping[Key, float]
) -> tuple[tuple[Plane, ...], ...] | None:
    """Phases by when each position was visited; ``None`` where two visits are of one time."""
    visits = []
    for group in groups:
        if any(plane_key(plane) not in at for plane in group):
            return None
        inorder = sorted(group, key=lambda plane: at[plane_key(plane)])
        steps = np.diff([at[plane_key(plane)] for plane in inorder])
        if min(steps) <= _SAME_MOMENT_S:
            return None
        visits.append(inorder)
    return tuple(tuple(visit[number] for visit in visits) for number in range(len(groups[0])))


def _times(
    phases: Sequence[Sequence[Plane]], stamps: Mapping[Key, Mapping[str, float]]
) -> tuple[tuple[float, ...], str]:
    """Seconds of each phase's first plane since that of the first phase, and by what."""
    for by in ("AcquisitionDateTime", "AcquisitionTime", "TemporalPositionTimeOffset",
               "TriggerTime"):
        starts = [
            min((stamps[plane_key(plane)].get(by, np.nan) for plane in phase), default=np.nan)
            for phase in phases
        ]
        if not np.isfinite(starts).all() or max(starts) == min(starts):
            continue
        if by == "AcquisitionTime" and max(starts) - min(starts) > _HALF_A_DAY_S:
            # Past midnight a time without its date says nothing of an order.
            continue
        return tuple(float(start - starts[0]) for start in starts), by
    return (), ""


def _stamps(plane: Plane) -> dict[str, float]:
    """Seconds, by what states them; only differences mean anything."""
    told: dict[str, float] = {}
    stated = plane.phases
    day, time = stated.get("AcquisitionDate", ""), stated.get("AcquisitionTime", "")
    dated = moment(stated.get("AcquisitionDateTime", "")) or moment(day + time)
    clock = moment("19700101" + time)
    since = datetime(1970, 1, 1)  # noqa: DTZ001 - only differences count
    if dated is not None:
        told["AcquisitionDateTime"] = (dated - since).total_seconds()
    if clock is not None:
        told["AcquisitionTime"] = (clock - since).total_seconds()
    trigger_ms = _number(stated.get("TriggerTime", ""))
    if trigger_ms is not None:
        told["TriggerTime"] = trigger_ms / 1000.0
    offset_s = _number(stated.get("TemporalPositionTimeOffset", ""))
    if offset_s is not None:
        told["TemporalPositionTimeOffset"] = offset_s
    return told


def _load(paths: Sequence[Path], phase: Sequence[Plane], limits: VolumeLimits) -> LoadedVolume:
    keys = {plane_key(plane) for plane in phase}
    members = [paths[index] for index in sorted({plane.index for plane in phase})]
    return load_volume(members, limits, only=lambda plane: plane_key(plane) in keys)


def _check_one_grid(volumes: Sequence[LoadedVolume]) -> None:
    first = volumes[0].volume
    for other in volumes[1:]:
        same = other.volume.array.shape == first.array.shape and np.allclose(
            other.volume.affine_lps, first.affine_lps, rtol=0, atol=0.02
        )
        if not same:
            raise decline("phases_unordered", "the phases are not on one grid")


def _number(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if np.isfinite(found) else None
