"""What the card's quality gate must refuse: nothing at all, and noise.

What is shown has as many pixels as the card asks for, or the gate would refuse it for its size.
The rest of the suite asks the network behind the gate: what is drawn is like nothing that a model
of patients learned from.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ai_models.card import Card
from ai_models.conformance.check import Check, Predict, failed, not_applicable, passed
from ai_models.conformance.scene import Scene
from ai_models.conformance.scene_joint import changed
from ai_models.types import Image, ModelError, ModelInput, Volume

QUALITY = "quality gate"


def check_quality(card: Card, predict: Predict, scene: Scene) -> Check:
    """Of a card with ``input.quality``: an empty input is refused, and noise where it is learned.

    ``predict`` answers by the card as it is.
    """
    quality = card.input.quality
    if quality is None:
        return not_applicable(QUALITY, "the card has no input.quality")
    shown: dict[str, ModelInput] = {"an empty input": scene.empty()}
    if quality.likeness is not None:
        shown["noise"] = _noise(scene.reference)
    told = []
    for what, source in shown.items():
        try:
            predict(_large_enough(source, quality.min_edge_pixels))
        except ModelError as error:
            if not error.reason.startswith("input."):
                return failed(QUALITY, f"{what}: {error.reason}: {error}")
            told.append(f"{what} ({error.reason})")
        else:
            return failed(QUALITY, f"{what} was answered")
    return passed(QUALITY, f"refused: {', '.join(told)}")


def _large_enough(source: ModelInput, edge_pixels: int) -> ModelInput:
    """The same place in smaller pixels, where a slice has fewer rows or columns than that."""
    times = -(-edge_pixels // min(source.array.shape[-2:]))
    if times <= 1:
        return source

    def finer(array: np.ndarray) -> np.ndarray:
        return array.repeat(times, axis=-2).repeat(times, axis=-1)

    if isinstance(source, Image):
        row, column = source.pixel_spacing_mm or (1.0, 1.0)
        spacing = (row / times, column / times)
        return replace(source, array=np.asarray(finer(source.array), dtype=np.float32),
                       pixel_spacing_mm=spacing if source.pixel_spacing_mm else None)

    def of(volume: Volume) -> Volume:
        affine = volume.affine_lps.copy()
        affine[:3, 1:3] /= times
        # The edge of the first pixel stays where it was, its middle comes nearer to it.
        affine[:3, 3] -= affine[:3, 1:3].sum(axis=1) * (times - 1) / 2
        return replace(volume, array=finer(volume.array), affine_lps=affine)

    return changed(source, of)


def _noise(source: ModelInput) -> ModelInput:
    rng = np.random.default_rng(20)
    if isinstance(source, Image):
        return replace(source, array=rng.random(source.array.shape, dtype=np.float32))

    def of(volume: Volume) -> Volume:
        values = np.asarray(rng.integers(0, 1000, volume.array.shape), dtype=np.int16)
        return Volume(values, volume.affine_lps, volume.unit)

    return changed(source, of)
