"""From an input to what the network takes, and the exact way back to the grid of the input.

    source -> model grid -> foreground -> intensities, channels -> edges of the network

A radiograph goes the same way as a volume of one slice; its axes have no place in the patient.
Companions of a series are laid on the network's grid at once (`ai_models.prediction.joint`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ai_models.array.fitting import Fitting, from_network_grid, plan_fitting, to_network_grid
from ai_models.array.intensity import Box, foreground_box
from ai_models.array.resample import (
    Regridding,
    Shape,
    plan_regridding,
    to_coarse_grid,
    to_model_grid,
)
from ai_models.backends import NetworkInput
from ai_models.card import Card, ClassificationCard
from ai_models.card_entries import InputEntry
from ai_models.prediction.intensities import (
    LARGEST_GRID_VOXELS,
    lowest_of,
    normalised,
    scaled,
)
from ai_models.prediction.joint import Further, clinical_channels, further_channels, joined
from ai_models.prediction.search import Searched
from ai_models.types import Affine, FloatArray, Image, ModelError, ModelInput


@dataclass(frozen=True)
class Prepared:
    """An input on the network's grid, and how that grid lies to the source's.

    Attributes
    ----------
    image
        What the back-end gets.
    plan
        Source grid to model grid.
    box
        Part of the model grid that is looked at.
    fitting
        That part to the edges of the network; ``None`` where it is taken as it is.
    source_affine, affine
        Index to mm of the source and of the network's input, three axes each. Of a radiograph
        they tell only where these grids lie to each other.
    further_notes
        Of the companions: which is missing, and which shows a part only.
    absent
        Roles of the companions that are missing or show another place.
    searched
        Where findings may lie, if not everywhere.
    """

    image: NetworkInput
    plan: Regridding
    box: Box
    fitting: Fitting | None
    source_affine: Affine
    affine: Affine
    is_flat: bool
    further_notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    searched: Searched | None = None

    @property
    def shape(self) -> Shape:
        """Of the network's input: slices (one of an image), rows, columns."""
        rows, columns = self.image.array.shape[-2:]
        return (1 if self.is_flat else self.image.array.shape[1], rows, columns)

    @property
    def keeps_samples(self) -> bool:
        """Whether the network's samples are the source's, turned, cut or padded at most."""
        return (
            self.plan.model_to_coarse is None
            and all(abs(step.scale) == 1.0 for step in self.plan.steps)
            and (self.fitting is None or all(fit.is_shift for fit in self.fitting.axes))
        )

    def is_sliced(self, card: Card) -> bool:
        """Whether the network answers each slice of a volume for itself."""
        per_slice = getattr(card.output, "per", "image") == "slice"
        return not self.is_flat and (card.input.ndim == 2 or per_slice)

    def to_coarse(self, scores: FloatArray, outside: FloatArray) -> FloatArray:
        """Bring scores ``(channels, *shape)`` to the plan's coarse grid.

        ``outside`` gives the score of every channel where the network did not look.
        """
        if self.fitting is not None:
            scores = from_network_grid(scores, self.fitting, outside)
        if scores.shape[1:] != self.plan.model_shape:
            whole = np.empty((len(scores), *self.plan.model_shape), dtype=np.float32)
            whole[:] = np.asarray(outside, dtype=np.float32)[:, None, None, None]
            whole[(slice(None), *self.box)] = scores
            scores = whole
        return to_coarse_grid(scores, self.plan, outside)

    def notes(self) -> tuple[str, ...]:
        """What was done to the input that its reader should know."""
        notes = self.further_notes
        if self.searched is not None:
            notes = (self.searched.note, *notes)
        if self.plan.model_to_coarse is None:
            return notes
        turned = f"turned by {self.plan.tilt_degrees:.1f} degrees to the patient's axes"
        return (turned, *notes)


def prepare(
    source: ModelInput, card: Card, window: tuple[slice, slice] | None = None
) -> Prepared:
    """Bring an input to what the card's network takes.

    ``window`` has the rows and columns of an image that are looked at, where not all of them are.

    Raises
    ------
    ModelError
        ``input.too_large``, ``input.not_finite``, ``input.spacing_unknown``,
        ``input.no_foreground``, ``input.companion_missing``, ``input.companion_elsewhere``.
    """
    entry, is_flat = card.input, isinstance(source, Image)
    array = source.array[None] if is_flat else source.array
    shape = (array.shape[0], array.shape[1], array.shape[2])
    plan, source_affine = _plan(source, shape, entry)
    _check_size(shape, plan)
    lowest = lowest_of(entry.intensity)
    joint = joined(source)
    moments = [one.array for one in joint.phases] if joint is not None else []
    try:
        images = [to_model_grid(one, plan, lowest) for one in moments or [array]]
    except ValueError as error:
        raise ModelError(str(error), reason="input.not_finite") from error
    box = _box(images[0], plan, source, card)
    if window is not None:
        box = _box_of(window, plan, source_affine)
    fitting = _fitting(images[0][box].shape, card)
    if fitting is not None and math.prod(fitting.shape) > LARGEST_GRID_VOXELS:
        raise ModelError(f"the card asks for {fitting.shape} voxels", reason="input.too_large")
    own, background = _channels(images, box, fitting, card, lowest)
    affine = plan.model_affine_lps @ _shift([float(side.start or 0) for side in box])
    if fitting is not None:
        affine = affine @ fitting.to_model
    further = _further(source, card, own, affine, fitting)
    channels = np.stack([*own, *further.channels])
    steps = tuple(float(step) for step in np.linalg.norm(affine[:3, :3], axis=0))
    if isinstance(source, Image):
        known = steps[1:] if source.pixel_spacing_mm else ()
        taken = NetworkInput(channels[:, 0], None, known, background)
    else:
        taken = NetworkInput(channels, affine, steps, background)
    return Prepared(
        taken, plan, box, fitting, source_affine, affine, is_flat, further.notes, further.absent
    )


def _further(
    source: ModelInput, card: Card, own: list[FloatArray], affine: Affine,
    fitting: Fitting | None,
) -> Further:
    joint = joined(source)
    slices, rows, columns = own[0].shape
    if isinstance(source, Image):
        return clinical_channels(source.clinical, card.input, (slices, rows, columns))
    if joint is None or not card.input.is_joint:
        return Further()
    content = (slice(None),) * 3 if fitting is None else fitting.content
    return further_channels(joint, card, (slices, rows, columns), affine, content, len(own))


def _plan(source: ModelInput, shape: Shape, entry: InputEntry) -> tuple[Regridding, Affine]:
    if not isinstance(source, Image):
        return (
            plan_regridding(shape, source.affine_lps, entry.axes, entry.spacing_mm),
            source.affine_lps,
        )
    row, column = source.pixel_spacing_mm or (1.0, 1.0)
    affine: Affine = np.diag([1.0, row, column, 1.0])
    wanted = (1.0, entry.spacing_mm[1], entry.spacing_mm[2]) if entry.spacing_mm else None
    if wanted is None and row != column and entry.size is not None and entry.size.fit == "pad":
        # What keeps its proportions keeps those of the patient, not those of the pixels.
        wanted = (1.0, min(row, column), min(row, column))
    # Directions under which the axes stay as they are.
    return plan_regridding(shape, affine, ("L", "P", "S"), wanted), affine


def _shift(start: list[float]) -> Affine:
    matrix = np.eye(4)
    matrix[:3, 3] = start
    return matrix


def _check_size(shape: Shape, plan: Regridding) -> None:
    """Refuse what would not fit into memory on the way to the model's grid."""
    in_plane = [shape[0], *(step.length for step in plan.steps if step.source_axis != 0)]
    largest = max(math.prod(grid) for grid in (in_plane, plan.coarse_shape, plan.model_shape))
    if largest > LARGEST_GRID_VOXELS:
        raise ModelError(
            f"the volume takes {largest} voxels at the model's spacing, {LARGEST_GRID_VOXELS} "
            "are allowed", reason="input.too_large",
        )


def _box(image: FloatArray, plan: Regridding, source: ModelInput, card: Card) -> Box:
    foreground = card.input.foreground
    whole = (slice(None), slice(None), slice(None))
    if foreground is None:
        return whole
    if isinstance(source, Image) and source.pixel_spacing_mm is None and foreground.margin_mm > 0:
        raise ModelError(
            f"{card.id} needs to know how large a pixel is", reason="input.spacing_unknown"
        )
    first, second, third = np.linalg.norm(plan.model_affine_lps[:3, :3], axis=0)
    box, voxels = foreground_box(
        image, foreground.above, foreground.margin_mm,
        (float(first), float(second), float(third)),
    )
    least_ml = foreground.min_volume_ml
    voxel_ml = float(abs(np.linalg.det(plan.model_affine_lps[:3, :3]))) / 1000.0
    if not isinstance(source, Image) and voxels * voxel_ml < least_ml - 1e-6:
        raise ModelError(
            f"what lies above {foreground.above:g} has {voxels * voxel_ml:.3g} ml, {card.id} needs "
            f"{least_ml:g} ml", reason="input.no_foreground",
        )
    # A score of a series is made of all its slices, whatever they show.
    is_sequence = isinstance(card, ClassificationCard) and card.output.per == "sequence"
    by_slice = is_sequence or (card.input.ndim == 2 and card.task != "segmentation")
    return (slice(None), box[1], box[2]) if by_slice else box


def _box_of(window: tuple[slice, slice], plan: Regridding, source_affine: Affine) -> Box:
    """Rows and columns of an image on the model's grid: all of every pixel that is looked at."""
    to_model = np.linalg.inv(plan.model_affine_lps) @ source_affine
    sides = []
    for axis, side in enumerate(window, start=1):
        edges = np.array([side.start, side.stop]) - 0.5
        low, high = to_model[axis, axis] * edges + to_model[axis, 3] + 0.5
        length = plan.model_shape[axis]
        first = min(max(math.floor(low + 1e-6), 0), length - 1)
        sides.append(slice(first, min(max(math.ceil(high - 1e-6), first + 1), length)))
    return slice(None), sides[0], sides[1]


def _fitting(shape: tuple[int, ...], card: Card) -> Fitting | None:
    entry, here = card.input, (shape[0], shape[1], shape[2])
    if entry.size is not None:
        edges = entry.size.edges
        whole = (edges[0], edges[1], edges[2]) if len(edges) == 3 else (None, edges[0], edges[1])
        return plan_fitting(here, whole, entry.size.fit)
    roi = card.runtime.roi
    if roi is None or not entry.is_joint:
        return None
    # A window that reaches beyond the input is padded with one value for all channels: of these
    # each has its own, so that what is said of the patient stays said everywhere.
    least = (1,) * (3 - len(roi)) + tuple(roi)
    grown = tuple(max(edge, window) for edge, window in zip(here, least, strict=True))
    return None if grown == here else plan_fitting(here, (grown[0], grown[1], grown[2]), "crop")


def _channels(
    images: list[FloatArray], box: Box, fitting: Fitting | None, card: Card, lowest: float | None
) -> tuple[list[FloatArray], float]:
    """The channels of the reference, and what they are where the volume ends (of the first one).

    ``images`` are its phases, one of a series that shows one moment.
    """
    entry = card.input
    windows = [channel.intensity for channel in entry.channels] or [entry.intensity]
    black = 0.0 if entry.intensity.unit == "displayed" else min(float(one.min()) for one in images)
    outside = black if lowest is None else lowest
    channels: list[FloatArray] = []
    fills: list[float] = []
    for intensity in windows:
        shown = [scaled(image, intensity, outside, of=images) for image in images]
        together = [values for values, _ in shown]
        for values, beyond in shown:
            for _ in range(entry.repeat):
                here, fill = normalised(values, beyond, entry, len(channels), of=together)
                here = here[box]
                if fitting is not None:
                    here = to_network_grid(here, fitting, fill)
                channels.append(here)
                fills.append(fill)
    return channels, fills[0]
