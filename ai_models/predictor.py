"""From a volume to a label map on its very grid: the one place that owns geometry.

    volume -> model grid -> intensities -> foreground -> windows -> scores -> clean -> volume's grid

Every step is exact about where a voxel lies in the patient (LPS); the network behind it sees one
orientation, one spacing and one range of values, whatever the scanner sent. On the CPU two runs
give the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ai_models.array.intensity import Box, foreground_box, scale_intensity
from ai_models.array.postprocess import clean_labels
from ai_models.array.resample import (
    Regridding,
    plan_regridding,
    to_coarse_grid,
    to_model_grid,
    to_source_labels,
    to_source_scores,
)
from ai_models.backends import Backend, NetworkInput, open_backend
from ai_models.card import Card, SegmentationCard
from ai_models.trust import Site
from ai_models.types import (
    Algorithm,
    FloatArray,
    Image,
    LabelMap,
    ModelError,
    ModelInput,
    SegmentationPrediction,
    Volume,
)

PADDING_HU = -1024.0
# A header that is wrong about its spacing must not ask for all memory: 1 GiB for each copy.
LARGEST_GRID_VOXELS = 1 << 28
_SPACING_MM = (1e-3, 1e3)


class Predictor:
    """One model on one device, kept warm between volumes.

    Parameters
    ----------
    card
        The model.
    device
        ``cpu`` or ``cuda:<number>``.
    """

    def __init__(self, card: Card, device: str = "cpu", site: Site | None = None) -> None:
        if not isinstance(card, SegmentationCard):
            raise ModelError(f"{card.task} is not served yet", reason="model.task")
        self.card = card
        self.device = device
        self._backend: Backend = open_backend(card, device, site)

    def load(self) -> None:
        """Verify and load the weights. ModelError with a reason of ``model.*``."""
        self._backend.load()

    def warm_up(self) -> None:
        """Run one empty window."""
        self._backend.warm_up()

    def close(self) -> None:
        """Let go of the network."""
        self._backend.close()

    def predict(self, volume: ModelInput) -> SegmentationPrediction:
        """Segment a volume.

        Returns
        -------
        SegmentationPrediction
            ``label_map`` uint8 of the volume's shape; ``probabilities`` on the same grid, as the
            network gave them (before any cleaning), where the card asks for them; seconds of
            prepare, infer, restore and postprocess.

        Raises
        ------
        ModelError
            ``input.*``: the card does not allow this volume; ``model.*``: the network failed or
            answered off its card.
        """
        if isinstance(volume, Image):
            raise ModelError("a volume is expected", reason="input.not_a_volume")
        check_volume(volume, self.card)
        seconds: dict[str, float] = {}
        with _timed(seconds, "prepare"):
            plan, image, box = self._prepare(volume)
        with _timed(seconds, "infer"):
            scores = self._infer(image, box, plan)
        with _timed(seconds, "restore"):
            scores = to_coarse_grid(scores, plan, self._background_scores())
            probabilities = self._probabilities(scores, plan)
            scores = _clean_scores(scores, plan, self.card)
            label_map = to_source_labels(scores, plan)
        with _timed(seconds, "postprocess"):
            label_map = self._postprocess(label_map, volume)
        return SegmentationPrediction(
            label_map, self.card.labels, self._algorithm(), seconds, self._notes(plan),
            probabilities,
        )

    def _prepare(self, volume: Volume) -> tuple[Regridding, FloatArray, Box]:
        entry = self.card.input
        shape = (volume.array.shape[0], volume.array.shape[1], volume.array.shape[2])
        spacing_mm = entry.spacing_mm or (1.0, 1.0, 1.0)
        plan = plan_regridding(shape, volume.affine_lps, entry.axes, spacing_mm)
        _check_size(shape, plan)
        lowest = PADDING_HU if volume.unit == "HU" else None
        try:
            image = to_model_grid(volume.array, plan, lowest)
        except ValueError as error:
            raise ModelError(str(error), reason="input.not_finite") from error
        box: Box = (slice(None), slice(None), slice(None))
        if entry.foreground is not None:
            box = foreground_box(
                image, entry.foreground.above, entry.foreground.margin_mm, spacing_mm
            )
        return plan, scale_intensity(
            image, entry.intensity.clip or (0.0, 1.0), entry.intensity.scale_to or (0.0, 1.0)
        ), box

    def _infer(self, image: FloatArray, box: Box, plan: Regridding) -> FloatArray:
        softmax = self.card.output.activation == "softmax"
        first = 0 if softmax else 1
        background = self._background_scores()
        scores = np.empty((len(background), *image.shape), dtype=np.float32)
        scores[:] = background[:, None, None, None]
        intensity = self.card.input.intensity
        answer = self._backend.predict(
            NetworkInput(
                image[box][None], plan.model_affine_lps, self.card.input.spacing_mm or (),
                (intensity.scale_to or (0.0, 1.0))[0],
            )
        )
        scores[(slice(first, None), *box)] = answer.scores
        return scores

    def _probabilities(self, scores: FloatArray, plan: Regridding) -> dict[int, FloatArray]:
        if not self.card.output.probabilities:
            return {}
        return {
            label.value: to_source_scores(scores[label.value], plan) for label in self.card.labels
        }

    def _background_scores(self) -> FloatArray:
        scores = np.zeros(len(self.card.output.labels) + 1, dtype=np.float32)
        scores[0] = 1.0 if self.card.output.activation == "softmax" else 0.5
        return scores

    def _postprocess(self, label_map: LabelMap, volume: Volume) -> LabelMap:
        entry = self.card.output.postprocessing
        if entry.largest_component or entry.min_volume_ml > 0:
            label_map = clean_labels(
                label_map, volume.voxel_volume_ml,
                largest_component=entry.largest_component, min_volume_ml=entry.min_volume_ml,
            )
        highest = int(label_map.max(initial=0))
        if highest > len(self.card.output.labels):
            raise ModelError(
                f"label {highest} is not on the card", reason="model.unknown_label"
            )
        return label_map

    def _algorithm(self) -> Algorithm:
        runtime, entry = self.card.runtime, self.card.input
        return self.card.algorithm(
            spacing_mm=" ".join(f"{step:g}" for step in entry.spacing_mm or ()),
            roi=" ".join(str(edge) for edge in runtime.roi or ()),
            overlap=f"{runtime.overlap:g}",
            precision=runtime.precision,
        )

    def _notes(self, plan: Regridding) -> tuple[str, ...]:
        notes = self._backend.notes
        if plan.model_to_coarse is not None:
            notes = (*notes, f"turned by {plan.tilt_degrees:.1f} degrees to the patient's axes")
        return notes


def check_volume(volume: Volume, card: Card) -> None:
    """Refuse a volume that the card does not allow: ModelError with reason ``input.*``."""
    array, affine, entry = volume.array, volume.affine_lps, card.input
    if array.ndim != entry.ndim or 0 in array.shape:
        raise ModelError(f"a volume of shape {array.shape}", reason="input.not_a_volume")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or volume.voxel_volume_ml < 1e-9:
        raise ModelError("the affine of the volume is not usable", reason="input.bad_geometry")
    if not all(_SPACING_MM[0] <= step <= _SPACING_MM[1] for step in volume.spacing_mm):
        raise ModelError("no scanner has this spacing", reason="input.bad_geometry")
    if volume.unit != entry.intensity.unit:
        raise ModelError(
            f"{card.id} takes {entry.intensity.unit}, the volume is in {volume.unit}",
            reason="input.wrong_unit",
        )
    if array.shape[0] < entry.min_slices:
        raise ModelError(
            f"{array.shape[0]} slices, {card.id} needs {entry.min_slices}",
            reason="input.too_few_slices",
        )
    gap = volume.spacing_mm[0]
    if entry.max_slice_gap_mm is not None and gap > entry.max_slice_gap_mm + 1e-3:
        raise ModelError(
            f"slices {gap:.2f} mm apart, {card.id} allows {entry.max_slice_gap_mm:g} mm",
            reason="input.slices_too_far_apart",
        )


def _check_size(shape: tuple[int, int, int], plan: Regridding) -> None:
    """Refuse what would not fit into memory on the way to the model's grid."""
    in_plane = [shape[0], *(step.length for step in plan.steps if step.source_axis != 0)]
    largest = max(math.prod(grid) for grid in (in_plane, plan.coarse_shape, plan.model_shape))
    if largest > LARGEST_GRID_VOXELS:
        raise ModelError(
            f"the volume takes {largest} voxels at the model's spacing, {LARGEST_GRID_VOXELS} "
            "are allowed", reason="input.too_large",
        )


def _clean_scores(scores: FloatArray, plan: Regridding, card: SegmentationCard) -> FloatArray:
    entry = card.output.postprocessing
    if not (entry.fill_holes or entry.largest_component or entry.min_volume_ml > 0):
        return scores
    before = np.argmax(scores, axis=0).astype(np.uint8)
    voxel_ml = float(abs(np.linalg.det(plan.coarse_affine_lps[:3, :3]))) / 1000.0
    after = clean_labels(
        before, voxel_ml, fill_holes=entry.fill_holes,
        largest_component=entry.largest_component, min_volume_ml=entry.min_volume_ml,
    )
    changed = before != after
    for value, channel in enumerate(scores):
        channel[changed] = after[changed] == value
    return scores


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
