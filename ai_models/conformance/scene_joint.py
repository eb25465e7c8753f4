"""What is drawn beside a series for a card that takes several: companions, phases, the patient.

A companion shows the same thing as the series, on a grid of its own and in its own unit; phases
show it growing brighter and fading. Nothing of it is like a real patient's: what counts is that
everything is at one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ai_models.card_input import ClinicalEntry, InputEntry
from ai_models.types import Affine, JointInput, ModelInput, Volume

Shape = tuple[int, int, int]
Draw = Callable[[Shape, Affine], Volume]

_STEP_MM = 4.0
# Lowest and highest value that is drawn.
_VALUES = {"HU": (-1000.0, 1000.0), "SUVbw": (0.0, 12.0), "arbitrary": (0.0, 1000.0)}
_BETWEEN_PHASES_S = 60.0
_GAINS = (1.0, 1.6, 1.45, 1.3)


def joint_of(reference: Volume, entry: InputEntry, draw: Draw) -> JointInput:
    """The series with everything that the card takes beside it, drawn."""
    count = entry.phase_counts[0]
    phases = in_phases(reference, count) if count > 1 else ()
    seen = draw(*_grid_over(reference))
    return JointInput(
        reference,
        phases,
        tuple(_BETWEEN_PHASES_S * number for number in range(len(phases))),
        {one.role: _as_seen(seen, one.intensity.unit) for one in entry.companions},
        told_of(entry),
    )


def told_of(entry: InputEntry) -> dict[str, float | None]:
    """What headers could say of the patient, of everything that the card asks."""
    return {one.name: _told(one) for one in entry.clinical}


def in_phases(volume: Volume, count: int) -> tuple[Volume, ...]:
    """The same thing growing brighter and fading; the first as it is."""
    low = float(volume.array.min())
    phases = [volume]
    for number in range(1, count):
        gain = _GAINS[min(number, len(_GAINS) - 1)]
        values = low + gain * (volume.array.astype(np.float32) - low)
        if volume.array.dtype.kind in "iu":
            values = np.rint(values).astype(volume.array.dtype)
        phases.append(replace(volume, array=values))
    return tuple(phases)


def changed(source: ModelInput, change: Callable[[Volume], Volume]) -> ModelInput:
    """The series on another grid, in all its phases; companions stay as they are.

    Their place follows from their own affine, whatever the grid of the series is.
    """
    if isinstance(source, JointInput):
        return replace(
            source, reference=change(source.reference), phases=tuple(map(change, source.phases))
        )
    return change(source) if isinstance(source, Volume) else source


def with_reference(source: JointInput, reference: Volume) -> JointInput:
    """Another reference, which is the first of the phases."""
    return replace(
        source, reference=reference,
        phases=(reference, *source.phases[1:]) if source.phases else (),
    )


def emptied(source: JointInput, empty: Callable[[Volume], Volume]) -> JointInput:
    """Nothing in any of the series."""
    return replace(
        source, reference=empty(source.reference), phases=tuple(map(empty, source.phases)),
        companions={
            role: None if volume is None else empty(volume)
            for role, volume in source.companions.items()
        },
    )


def _grid_over(volume: Volume) -> tuple[Shape, Affine]:
    """Coarse, axial, about the same middle, a step wider on every side."""
    shape = np.array(volume.array.shape)
    corners = np.array([[0.0, 0.0, 0.0], shape - 1.0])
    grid = np.array(np.meshgrid(*corners.T)).reshape(3, -1)
    places = volume.affine_lps[:3, :3] @ grid + volume.affine_lps[:3, 3:]
    low, high = places.min(axis=1) - _STEP_MM, places.max(axis=1) + _STEP_MM
    edges = np.ceil((high - low) / _STEP_MM).astype(int) + 1
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = _STEP_MM
    affine[:3, 3], affine[3, 3] = low, 1.0
    return (int(edges[2]), int(edges[1]), int(edges[0])), affine


def _as_seen(volume: Volume, unit: str) -> Volume:
    low, high = float(volume.array.min()), float(volume.array.max())
    share = (volume.array.astype(np.float32) - low) / max(high - low, 1e-6)
    first, last = _VALUES[unit]
    return Volume(first + (last - first) * share, volume.affine_lps, unit)


def _told(entry: ClinicalEntry) -> float:
    if entry.values:
        return next(iter(entry.values.values()))
    value = max(entry.center + 0.5 * entry.scale, 1.0)
    # A header states whole years.
    return float(min(round(value), 120)) if entry.keyword == "PatientAge" else value
