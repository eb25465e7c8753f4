"""What the card's quality gate must refuse: nothing at all, and noise.

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
            predict(source)
        except ModelError as error:
            if not error.reason.startswith("input."):
                return failed(QUALITY, f"{what}: {error.reason}: {error}")
            told.append(f"{what} ({error.reason})")
        else:
            return failed(QUALITY, f"{what} was answered")
    return passed(QUALITY, f"refused: {', '.join(told)}")


def _noise(source: ModelInput) -> ModelInput:
    rng = np.random.default_rng(20)
    if isinstance(source, Image):
        return replace(source, array=rng.random(source.array.shape, dtype=np.float32))

    def of(volume: Volume) -> Volume:
        values = np.asarray(rng.integers(0, 1000, volume.array.shape), dtype=np.int16)
        return Volume(values, volume.affine_lps, volume.unit)

    return changed(source, of)
